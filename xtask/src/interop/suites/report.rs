//! What test tools report, as one list of tests and how each went.
//!
//! Knows the forms of reports; not where they come from.
//! Invariant: a test that failed in any part, its set-up and its end included, has failed.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// How each test went, by name.
pub(super) type Outcomes = BTreeMap<String, Verdict>;

/// The log that pytest's plugin `reportlog` writes: a JSON object a line, one for each part of a test.
pub(super) fn of_pytest(log: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for report in json_lines(log.lines()).filter(|report| report["$report_type"] == "TestReport") {
        let Some(name) = report["nodeid"].as_str() else { continue };
        let failed_before = outcomes.get(name) == Some(&Verdict::Failed);
        let verdict = match (report["outcome"].as_str(), report["when"].as_str()) {
            // The attempts before the last one do not count.
            (Some("rerun"), _) => {
                outcomes.remove(name);
                continue;
            }
            (Some("failed"), _) => Verdict::Failed,
            (Some("skipped"), _) if !failed_before => Verdict::Skipped,
            (Some("passed"), Some("call")) => Verdict::Passed,
            _ => continue,
        };
        outcomes.insert(name.to_owned(), verdict);
    }
    outcomes
}

/// What `go test -json` prints: a JSON object an event. A test with parts of its own is listed beside them.
pub(super) fn of_go(lines: &[String]) -> Outcomes {
    let events = json_lines(lines.iter().map(String::as_str));
    let ends = events.filter_map(|event| {
        let verdict = match event["Action"].as_str()? {
            "pass" => Verdict::Passed,
            "fail" => Verdict::Failed,
            "skip" => Verdict::Skipped,
            _ => return None,
        };
        Some((event["Test"].as_str()?.to_owned(), verdict))
    });
    ends.collect()
}

/// What our reporter for Node's test runner prints: `{"name", "verdict"}` a line.
pub(super) fn of_node(lines: &[String]) -> Outcomes {
    let tests = json_lines(lines.iter().map(String::as_str)).filter_map(|test| {
        let verdict = match test["verdict"].as_str()? {
            "passed" => Verdict::Passed,
            "skipped" => Verdict::Skipped,
            _ => Verdict::Failed,
        };
        Some((test["name"].as_str()?.to_owned(), verdict))
    });
    let mut outcomes = Outcomes::new();
    for (name, verdict) in tests {
        // Nothing keeps two tests of a file from having one name: all of them must pass.
        let known = outcomes.entry(name).or_insert(verdict);
        if *known == Verdict::Passed {
            *known = verdict;
        }
    }
    outcomes
}

/// What a test binary of Rust's prints, with `binary` before each test's name.
pub(super) fn of_libtest(binary: &str, lines: &[String]) -> Outcomes {
    let tests = lines.iter().filter_map(|line| {
        let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        let verdict = match verdict {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed,
            skipped if skipped.starts_with("ignored") => Verdict::Skipped,
            _ => return None,
        };
        Some((format!("{binary}::{name}"), verdict))
    });
    tests.collect()
}

fn json_lines<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Value> {
    lines.filter_map(|line| serde_json::from_str(line).ok())
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Failed, Passed, Skipped};
    use super::*;

    fn check(outcomes: &Outcomes, expected: &[(&str, Verdict)]) {
        let found: Vec<(&str, Verdict)> =
            outcomes.iter().map(|(name, verdict)| (name.as_str(), *verdict)).collect();
        assert_eq!(found, expected);
    }

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_test_of_pytest_fails_with_any_part_of_it_and_counts_by_its_last_attempt() {
        let parts = [
            ("good", "setup", "passed"),
            ("good", "call", "passed"),
            ("good", "teardown", "passed"),
            ("bad end", "call", "passed"),
            ("bad end", "teardown", "failed"),
            ("bad start", "setup", "failed"),
            ("second try", "call", "rerun"),
            ("second try", "teardown", "passed"),
            ("second try", "call", "passed"),
            ("not here", "setup", "skipped"),
        ];
        let report = |(name, when, outcome): &(&str, &str, &str)| {
            format!(
                r#"{{"nodeid":"{name}","when":"{when}","outcome":"{outcome}","$report_type":"TestReport"}}"#
            )
        };
        let log = parts.iter().map(report).collect::<Vec<_>>().join("\n") + "\n{\"a line that is cut";
        let expected = [
            ("bad end", Failed),
            ("bad start", Failed),
            ("good", Passed),
            ("not here", Skipped),
            ("second try", Passed),
        ];
        check(&of_pytest(&log), &expected);
    }

    #[test]
    fn a_test_of_go_is_known_by_its_last_event() {
        let printed = r#"{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"--- PASS"}
{"Action":"pass","Test":"TestA"}
{"Action":"fail","Test":"TestB"}
{"Action":"skip","Test":"TestC"}
{"Action":"run","Test":"TestThatHangs"}
{"Action":"fail"}"#;
        check(&of_go(&lines(printed)), &[("TestA", Passed), ("TestB", Failed), ("TestC", Skipped)]);
    }

    #[test]
    fn tests_of_node_with_one_name_must_all_pass() {
        let printed = r#"{"name":"a","verdict":"passed"}
{"name":"a","verdict":"failed"}
{"name":"b","verdict":"skipped"}
something that a test printed"#;
        check(&of_node(&lines(printed)), &[("a", Failed), ("b", Skipped)]);
    }

    #[test]
    fn tests_of_a_rust_binary_have_its_name_before_theirs() {
        let printed =
            "running 3 tests\ntest one ... ok\ntest deep::two ... FAILED\ntest three ... ignored, slow\n";
        let expected = [("b::deep::two", Failed), ("b::one", Passed), ("b::three", Skipped)];
        check(&of_libtest("b", &lines(printed)), &expected);
    }
}
