//! What `docs/compatibility.md` promises: each row says how it stands with a feature, and names a test.
//!
//! A test is named by the end of its file's path, as far as it takes for one file alone to have it, and its
//! function: `protocol/lives.rs::an_unused_queue_goes`.
//! Invariant: a test that is not there, or that is left out of runs by `#[ignore]`, shows nothing.

use anyhow::{Result, anyhow};
use proc_macro2::{Group, TokenStream, TokenTree};

use super::{Breach, Source};

const PAGE: &str = "docs/compatibility.md";
/// How it may stand with a feature.
const STATES: &[&str] = &["works", "differs", "not yet", "will not"];
/// Lines of a table before its first row: names and dashes.
const HEAD_LINES: usize = 2;

/// All that is wrong with the page.
pub(super) fn breaches_of(sources: &[Source]) -> Vec<Breach> {
    let breach = |(line, rule)| Breach { path: PAGE.to_owned(), line, rule };
    let Some(page) = sources.iter().find(|source| source.path == PAGE) else {
        return vec![breach((1, "the page is not there".to_owned()))];
    };
    let tests = named_tests(&page.text).filter_map(|(line, name)| Some((line, missing(name, sources)?)));
    let rows = rows(&page.text).flat_map(|(line, row)| faults_of(row).into_iter().map(move |it| (line, it)));
    tests.chain(rows).map(breach).collect()
}

/// The tests that the page names, with the numbers of their lines.
fn named_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate();
    numbered.flat_map(|(index, line)| tests_in(line).map(move |name| (index + 1, name)))
}

fn tests_in(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|code| code.contains(".rs::"))
}

/// The rows of the page's tables, with the numbers of their lines.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let within_table = text.lines().scan(0, |lines, line| {
        *lines = if line.starts_with('|') { *lines + 1 } else { 0 };
        Some((*lines > HEAD_LINES, line))
    });
    within_table.enumerate().filter(|(_, (is_row, _))| *is_row).map(|(index, (_, row))| (index + 1, row))
}

fn faults_of(row: &str) -> Vec<String> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let mut faults = Vec::new();
    if !cells.get(1).is_some_and(|state| STATES.contains(state)) {
        faults.push(format!("the second column says one of: {}", STATES.join(", ")));
    }
    if cells.last().is_none_or(|cell| tests_in(cell).next().is_none()) {
        faults.push("the row names no test".to_owned());
    }
    faults
}

/// Why nothing is shown by a test of that name; none if it is there.
fn missing(name: &str, sources: &[Source]) -> Option<String> {
    let (file, function) = name.split_once("::").expect("it was found by its colons");
    let is_meant =
        |path: &str| path.strip_suffix(file).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
    let files: Vec<&Source> = sources.iter().filter(|source| is_meant(&source.path)).collect();
    match files[..] {
        [] => Some(format!("{name}: there is no such file")),
        [file] => match tests_of(&file.text) {
            Ok(tests) if tests.iter().any(|test| test == function) => None,
            Ok(_) => Some(format!("{name}: {} has no such test", file.path)),
            Err(error) => Some(format!("{name}: {error}")),
        },
        _ => Some(format!("{name}: {} files have a path that ends so", files.len())),
    }
}

/// The tests that a Rust file has, within modules and macros too.
fn tests_of(text: &str) -> Result<Vec<String>> {
    let tokens: TokenStream = text.parse().map_err(|error| anyhow!("not Rust: {error}"))?;
    let mut tests = Vec::new();
    collect_tests(tokens, &mut tests);
    Ok(tests)
}

fn collect_tests(tokens: TokenStream, tests: &mut Vec<String>) {
    let mut attributes: Vec<String> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match (&token, tokens.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group))) if hash.as_char() == '#' => {
                attributes.push(attribute_name(group));
                tokens.next();
            }
            (TokenTree::Ident(word), Some(TokenTree::Ident(name))) if word == "fn" => {
                let has = |attribute: &str| attributes.iter().any(|name| name == attribute);
                if has("test") && !has("ignore") {
                    tests.push(name.to_string());
                }
                attributes.clear();
            }
            (TokenTree::Group(group), _) => {
                attributes.clear();
                collect_tests(group.stream(), tests);
            }
            _ => {}
        }
    }
}

/// The last name of an attribute's path: `test` of `#[tokio::test(flavor = "current_thread")]`.
fn attribute_name(attribute: &Group) -> String {
    let path = attribute.stream().into_iter().take_while(|token| match token {
        TokenTree::Ident(_) => true,
        TokenTree::Punct(mark) => mark.as_char() == ':',
        _ => false,
    });
    path.filter(|token| matches!(token, TokenTree::Ident(_)))
        .last()
        .map(|name| name.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "//! It.\n#[test]\nfn one() {}\nfn no_test() {}\n#[test]\n#[ignore]\nfn left_out() {}\n\
        #[cfg(test)]\nmod tests {\n  fn inner_helper() {}\n  /// Said.\n  #[tokio::test(flavor = \"x\")]\n  async fn \
        inner() {}\n}\n#[cfg(test)]\nfn only_built_for_tests() {}\nproperties! { #[test] fn generated() {} }\n";

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    /// What is wrong with a page of one table with that row, beside two files of tests.
    fn faults(row: &str) -> Vec<String> {
        let page = format!("# Title\n\n| feature | state | how | test |\n|---|---|---|---|\n{row}\n");
        let sources = [
            source(PAGE, &page),
            source("crates/a/tests/lives.rs", TESTS),
            source("crates/a/src/queue.rs", TESTS),
            source("crates/b/src/queue.rs", TESTS),
        ];
        let breaches = breaches_of(&sources);
        assert!(breaches.iter().all(|breach| breach.path == PAGE && breach.line == 5));
        breaches.into_iter().map(|breach| breach.rule).collect()
    }

    fn check_test(name: &str, wanted: &[&str]) {
        assert_eq!(faults(&format!("| a | works | | `{name}` |")), wanted, "{name}");
    }

    #[test]
    fn a_test_that_is_named_is_there() {
        for name in ["one", "inner", "generated"] {
            check_test(&format!("tests/lives.rs::{name}"), &[]);
            check_test(&format!("crates/a/src/queue.rs::{name}"), &[]);
        }
        for name in ["no_test", "left_out", "inner_helper", "only_built_for_tests", "gone"] {
            let wanted = format!("lives.rs::{name}: crates/a/tests/lives.rs has no such test");
            check_test(&format!("lives.rs::{name}"), &[&wanted]);
        }
        check_test("ives.rs::one", &["ives.rs::one: there is no such file"]);
        check_test("queue.rs::one", &["queue.rs::one: 2 files have a path that ends so"]);
    }

    #[test]
    fn each_row_says_how_it_stands_and_names_a_test() {
        let states = "the second column says one of: works, differs, not yet, will not";
        assert_eq!(faults("| a | should work | | `lives.rs::one` |"), [states]);
        assert_eq!(faults("| a | works | `lives.rs::one` | |"), ["the row names no test"]);
        assert_eq!(faults("| a | will not | so | `lives.rs::one`, `lives.rs::inner` |"), [""; 0]);
        assert_eq!(faults("and no table").len(), 0);
    }

    #[test]
    fn a_page_that_is_gone_is_told() {
        assert_eq!(breaches_of(&[]).len(), 1);
    }
}
