//! The committed lists: what passes on RabbitMQ, and what of it is excluded and why.
//!
//! Knows names of tests; not how they are run.
//! Invariant: an exclusion has a reason and stands for a test on the list, and there are at most two in a hundred.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::Against;
use super::report::{Outcomes, Verdict};

const EXCLUSIONS_PERCENT_MAX: usize = 2;

pub(super) struct Lists {
    passes: BTreeSet<String>,
    /// The reason for each test that leveret need not pass.
    excluded: BTreeMap<String, String>,
}

impl Lists {
    /// Reads the lists of `suite` in `folder`.
    pub(super) fn read(folder: &Path, suite: &str) -> Result<Self> {
        let list = folder.join(format!("{suite}.txt"));
        let passes = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let excluded = folder.join(format!("{suite}.excluded.txt"));
        let excluded = if excluded.exists() { fs::read_to_string(&excluded)? } else { String::new() };
        Self::parse(&passes, &excluded)
    }

    fn parse(passes: &str, excluded: &str) -> Result<Self> {
        let passes: BTreeSet<String> = entries(passes).map(str::to_owned).collect();
        let excluded = entries(excluded).map(parse_exclusion).collect::<Result<BTreeMap<_, _>>>()?;
        if let Some(stale) = excluded.keys().find(|name| !passes.contains(*name)) {
            bail!("excluded is what is not on the list: {stale}");
        }
        let (count, of) = (excluded.len(), passes.len());
        ensure!(
            count * 100 <= of * EXCLUSIONS_PERCENT_MAX,
            "{count} of {of} tests are excluded, which is too many"
        );
        Ok(Self { passes, excluded })
    }

    /// What passed becomes the list of `suite`.
    pub(super) fn write(folder: &Path, suite: &str, outcomes: &Outcomes) -> Result<()> {
        let passed: Vec<&str> = names(outcomes, Verdict::Passed).collect();
        let mut text =
            String::from("# What passes on RabbitMQ. Written by `cargo xtask interop --write-lists`.\n");
        passed.iter().for_each(|name| writeln!(text, "{name}").expect("a string takes everything"));
        println!("       {} passed, {} did not:", passed.len(), outcomes.len() - passed.len());
        names(outcomes, Verdict::Failed).for_each(|name| println!("         failed  {name}"));
        names(outcomes, Verdict::Skipped).for_each(|name| println!("         skipped {name}"));
        let list = folder.join(format!("{suite}.txt"));
        fs::write(&list, text).with_context(|| format!("cannot write {}", list.display()))
    }

    /// What is on the list must have passed; what is excluded counts for RabbitMQ alone.
    pub(super) fn check(&self, outcomes: &Outcomes, against: Against) -> Result<()> {
        let counts = |name: &&String| against == Against::RabbitMq || !self.excluded.contains_key(*name);
        let wanted: Vec<&String> = self.passes.iter().filter(counts).collect();
        let missed: Vec<String> = wanted.iter().filter_map(|name| missed(name, outcomes)).collect();
        println!("       {} of {} pass that must", wanted.len() - missed.len(), wanted.len());
        ensure!(missed.is_empty(), "{} tests did not pass:{}", missed.len(), missed.concat());
        Ok(())
    }
}

/// What to say of a test that did not pass.
fn missed(name: &str, outcomes: &Outcomes) -> Option<String> {
    let how = match outcomes.get(name) {
        Some(Verdict::Passed) => return None,
        Some(Verdict::Failed) => "failed ",
        Some(Verdict::Skipped) => "skipped",
        None => "not run",
    };
    Some(format!("\n         {how} {name}"))
}

fn names(outcomes: &Outcomes, wanted: Verdict) -> impl Iterator<Item = &str> {
    outcomes.iter().filter(move |(_, verdict)| **verdict == wanted).map(|(name, _)| name.as_str())
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// `NAME -- REASON`
fn parse_exclusion(line: &str) -> Result<(String, String)> {
    let parts = line.split_once(" -- ").map(|(name, reason)| (name.trim(), reason.trim()));
    let (name, reason) = parts.with_context(|| format!("an exclusion has no reason: {line}"))?;
    Ok((name.to_owned(), reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(passed: &[&str], failed: &[&str]) -> Outcomes {
        let with = |verdict| move |name: &&str| ((*name).to_owned(), verdict);
        passed.iter().map(with(Verdict::Passed)).chain(failed.iter().map(with(Verdict::Failed))).collect()
    }

    fn hundred() -> String {
        (0..100).map(|number| format!("test {number}\n")).collect()
    }

    #[test]
    fn what_failed_and_what_did_not_run_is_named() {
        let lists = Lists::parse("# a remark\na\nb\nc\n", "").unwrap();
        let error =
            lists.check(&outcomes(&["a", "new"], &["b", "other"]), Against::Leveret).unwrap_err().to_string();
        assert!(error.starts_with("2 tests did not pass"), "{error}");
        assert!(error.contains("failed  b") && error.contains("not run c"), "{error}");
        assert!(lists.check(&outcomes(&["a", "b", "c"], &["other"]), Against::Leveret).is_ok());
    }

    #[test]
    fn an_exclusion_is_for_leveret_alone() {
        let lists = Lists::parse(&hundred(), "test 7 -- it calls rabbitmqctl\n").unwrap();
        let mut outcomes: Outcomes =
            entries(&hundred()).map(|name| (name.to_owned(), Verdict::Passed)).collect();
        outcomes.insert("test 7".to_owned(), Verdict::Failed);
        assert!(lists.check(&outcomes, Against::Leveret).is_ok());
        assert!(lists.check(&outcomes, Against::RabbitMq).is_err());
    }

    #[test]
    fn an_exclusion_needs_a_reason_a_test_and_room() {
        assert!(Lists::parse(&hundred(), "test 7\n").is_err());
        assert!(Lists::parse(&hundred(), "test 100 -- gone\n").is_err());
        assert!(Lists::parse(&hundred(), "test 1 -- a\ntest 2 -- b\n").is_ok());
        assert!(Lists::parse(&hundred(), "test 1 -- a\ntest 2 -- b\ntest 3 -- c\n").is_err());
    }
}
