//! Whether a numbered stream was received as exactly as the two programs claim.
//!
//! Judges numbers; knows nothing of processes. Invariant: whatever is received or missing is either sent
//! once and received once, or covered by a claim: `emit` said that it sent it again, `receive` that it has a gap.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};

/// Numbers, as `1-3, 7` says them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers(Vec<RangeInclusive<u64>>);

impl Numbers {
    /// Reads `1-3, 7`; none if it is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        text.split(", ").map(range).collect::<Option<Vec<_>>>().map(Self)
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Adds a range; one that is empty, as a gap is in which nothing was missed, adds nothing.
    pub(crate) fn push(&mut self, range: RangeInclusive<u64>) {
        self.0.extend(Some(range).filter(|range| !range.is_empty()));
    }

    /// How many numbers there are, if none is in two ranges.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|range| (range.end() + 1).saturating_sub(*range.start())).sum()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|range| range.contains(&number))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let shown: Vec<String> =
            self.0.iter().map(|range| format!("{}-{}", range.start(), range.end())).collect();
        f.write_str(&shown.join(", "))
    }
}

/// What the two programs claim about a stream with the numbers 1 to `sent`.
pub(crate) struct Claims {
    pub(crate) sent: u64,
    pub(crate) sent_again: Numbers,
    pub(crate) gaps: Numbers,
}

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) repeated: u64,
    pub(crate) missing: u64,
}

impl Claims {
    /// An error about the first number that the claims do not cover.
    pub(crate) fn check(&self, received: &[u64]) -> Result<Tally> {
        let mut seen = BTreeSet::new();
        let mut repeated = 0;
        for &number in received {
            ensure!((1..=self.sent).contains(&number), "{number} was received but never sent");
            let is_new = seen.insert(number);
            let in_order = seen.last() == Some(&number);
            ensure!(!is_new || in_order, "{number} was received after {:?}", seen.last());
            ensure!(is_new || self.sent_again.contains(number), "{number} was received twice but sent once");
            repeated += u64::from(!is_new);
        }
        let missing: Vec<u64> = (1..=self.sent).filter(|number| !seen.contains(number)).collect();
        let unannounced = missing.iter().find(|number| !self.gaps.contains(**number));
        ensure!(
            unannounced.is_none(),
            "{} is missing and in no announced gap ({})",
            unannounced.unwrap_or(&0),
            self.gaps
        );
        Ok(Tally { repeated, missing: missing.len() as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(sent: u64, sent_again: &str, gaps: &str) -> Claims {
        let read =
            |text: &str| if text.is_empty() { Numbers::default() } else { Numbers::parse(text).unwrap() };
        Claims { sent, sent_again: read(sent_again), gaps: read(gaps) }
    }

    #[track_caller]
    fn check(claims: &Claims, received: &[u64], expected: Result<(u64, u64), &str>) {
        match (claims.check(received), expected) {
            (Ok(tally), Ok((repeated, missing))) => assert_eq!(tally, Tally { repeated, missing }),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn what_was_sent_once_is_received_once() {
        check(&claims(3, "", ""), &[1, 2, 3], Ok((0, 0)));
        check(&claims(3, "", ""), &[1, 2, 3, 4], Err("4 was received but never sent"));
        check(&claims(3, "", ""), &[0, 1, 2, 3], Err("0 was received but never sent"));
        check(&claims(3, "", ""), &[1, 3], Err("2 is missing"));
        check(&claims(3, "", ""), &[1, 2], Err("3 is missing"));
        check(&claims(3, "", ""), &[1, 2, 2, 3], Err("2 was received twice"));
        check(&claims(3, "", ""), &[2, 1, 3], Err("1 was received after"));
    }

    #[test]
    fn what_was_sent_again_may_repeat_and_nothing_else() {
        check(&claims(5, "2-3, 5", ""), &[1, 2, 3, 2, 3, 4, 5], Ok((2, 0)));
        check(&claims(5, "2-3, 5", ""), &[1, 2, 3, 4, 5, 4], Err("4 was received twice"));
    }

    #[test]
    fn what_is_missing_lies_in_an_announced_gap() {
        check(&claims(6, "", "3-5"), &[1, 2, 6], Ok((0, 3)));
        check(&claims(6, "", "3-5"), &[1, 2, 4, 6], Ok((0, 2)));
        check(&claims(6, "", "3-4"), &[1, 2, 6], Err("5 is missing"));
    }

    #[test]
    fn ranges_are_read() {
        let numbers = Numbers::parse("1-3, 7").unwrap();
        assert!([1, 3, 7].into_iter().all(|number| numbers.contains(number)));
        assert!([0, 4, 6, 8].into_iter().all(|number| !numbers.contains(number)));
        assert_eq!(numbers.count(), 4);
        assert_eq!(Numbers::parse("1-x"), None);
    }

    #[test]
    fn an_empty_gap_adds_nothing() {
        let mut numbers = Numbers::default();
        numbers.push(RangeInclusive::new(5, 4));
        assert_eq!(numbers.to_string(), "none");
        numbers.push(5..=6);
        assert_eq!(numbers.to_string(), "5-6");
    }
}
