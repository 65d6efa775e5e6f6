//! What `emit` and `receive` say about a stream, read and held against each other and against the numbers.
//!
//! Knows the words of the two programs; not how the stream came about.
//! Invariant: an account whose words are not understood is an error, never taken for zeros.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};

use super::process::Process;
use super::sequence::{Claims, Numbers, Tally};

/// How `receive` begins the announcement of a gap whose far edge is known.
pub(crate) const CLOSED: &str = " [!] gap closed";

/// The last line of `emit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    read: u64,
    confirmed: u64,
    returned: u64,
    dropped: u64,
    not_confirmed: u64,
    sent_again: u64,
}

impl Account {
    /// The account of an `emit` that has ended.
    pub(crate) fn of(emit: &Process) -> Result<Self> {
        let lines = emit.stderr.all();
        let account = lines.iter().find_map(|line| line.strip_prefix("leveret emit: "));
        let account = account.with_context(|| format!("emit told no account{}", emit.last_words()))?;
        Self::parse(account).with_context(|| format!("the account {account:?} is not understood"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (ends, sent_again) = text.split_once("; sent again ")?;
        let mut ends = ends.split(", ");
        let mut next = |what: &str| ends.next()?.strip_prefix(what)?.strip_prefix(' ')?.parse().ok();
        Some(Self {
            read: next("read")?,
            confirmed: next("confirmed")?,
            returned: next("returned")?,
            dropped: next("dropped")?,
            not_confirmed: next("not confirmed")?,
            sent_again: sent_again.parse().ok()?,
        })
    }

    /// An error unless every one of the `sent` lines has one end.
    fn must_balance(self, sent: u64) -> Result<()> {
        let ends = self.confirmed + self.returned + self.dropped + self.not_confirmed;
        ensure!(self.read == sent && ends == sent, "{sent} lines went into emit: {self:?}");
        Ok(())
    }

    /// An error unless each of the `sent` lines was sent once and confirmed.
    pub(crate) fn must_be_all_confirmed(self, sent: u64) -> Result<()> {
        let expected =
            Self { read: sent, confirmed: sent, returned: 0, dropped: 0, not_confirmed: 0, sent_again: 0 };
        ensure!(self == expected, "emit has {self:?}, not {expected:?}");
        Ok(())
    }
}

/// The numbers of the lines that `emit` says it sends again.
fn sent_again_by(emit: &Process) -> Result<Numbers> {
    let mut all = Numbers::default();
    for line in emit.stderr.all().iter().filter(|line| line.contains("sending")) {
        let numbers = sent_again_in(line).with_context(|| format!("{line:?} is not understood"))?;
        all.extend(numbers);
    }
    Ok(all)
}

/// `... sending 3 lines again: 4-5, 7`
fn sent_again_in(line: &str) -> Option<Numbers> {
    let (_, said) = line.split_once("; sending ")?;
    let (count, numbers) = said.split_once(" lines again: ")?;
    let numbers = Numbers::parse(numbers)?;
    (numbers.count() == count.parse::<u64>().ok()?).then_some(numbers)
}

/// The gaps that `receive` announced with both edges: the numbers between the last line before and the
/// first one after. A gap without its far edge is an error.
pub(crate) fn gaps_of(receive: &Process) -> Result<Vec<RangeInclusive<u64>>> {
    gaps_in(&receive.stderr.all())
}

fn gaps_in(lines: &[String]) -> Result<Vec<RangeInclusive<u64>>> {
    let last = |words| lines.iter().rposition(|line| line.starts_with(words));
    // A gap that goes on, because the next connection is lost too, is announced once more when that happens.
    ensure!(last(" [!] gap opened") <= last(CLOSED), "a gap has no far edge");
    let closed = lines.iter().filter(|line| line.starts_with(CLOSED));
    closed.map(|line| gap_in(line).with_context(|| format!("{line:?} is not understood"))).collect()
}

/// `... after message 17 (leveret/SOURCE/17) and before message 18 (leveret/SOURCE/21); ...`
fn gap_in(line: &str) -> Option<RangeInclusive<u64>> {
    let (_, edges) = line.split_once(", after ")?;
    let (after, rest) = edges.split_once(" and before ")?;
    let (before, _) = rest.split_once(';')?;
    let after = if after == "no message yet" { 0 } else { number_in(after)? };
    Some(after + 1..=number_in(before)?.checked_sub(1)?)
}

/// The number in `message PLACE (leveret/SOURCE/NUMBER)`.
fn number_in(edge: &str) -> Option<u64> {
    edge.strip_suffix(')')?.rsplit_once('/')?.1.parse().ok()
}

/// The last line of `receive`.
fn tally_of(receive: &Process) -> Result<Tally> {
    let lines = receive.stderr.all();
    let told = lines.iter().find_map(|line| line.strip_prefix("leveret receive: "));
    let told = told.with_context(|| format!("receive told no account{}", receive.last_words()))?;
    tally_in(told).with_context(|| format!("the account {told:?} is not understood"))
}

/// `9 messages, 3 numbered lines missed, 2 repeated`
fn tally_in(text: &str) -> Option<Tally> {
    let (_, counts) = text.split_once(" messages, ")?;
    let (missing, rest) = counts.split_once(" numbered lines missed, ")?;
    let repeated = rest.strip_suffix(" repeated")?;
    Some(Tally { missing: missing.parse().ok()?, repeated: repeated.parse().ok()? })
}

/// An error unless a numbered stream of `sent` lines came as exactly as the two programs say.
pub(crate) fn must_be_exact(emit: &Process, sent: u64, receive: &Process, received: &[u64]) -> Result<()> {
    let account = Account::of(emit)?;
    account.must_balance(sent)?;
    let mut claims = Claims { sent, sent_again: sent_again_by(emit)?, gaps: Numbers::default() };
    gaps_of(receive)?.into_iter().for_each(|gap| claims.gaps.push(gap));
    let tally = claims.check(received).with_context(|| receive.name().to_owned())?;
    let told = tally_of(receive)?;
    ensure!(told == tally, "{} tells of {told:?}, not {tally:?}", receive.name());
    println!(
        "       {}: {} of {sent} lines, {} repeated, {} missing (gaps: {}); emit sent {} again",
        receive.name(),
        received.len(),
        tally.repeated,
        tally.missing,
        claims.gaps,
        account.sent_again
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read() {
        let account =
            Account::parse("read 6, confirmed 1, returned 1, dropped 1, not confirmed 3; sent again 2");
        let expected =
            Account { read: 6, confirmed: 1, returned: 1, dropped: 1, not_confirmed: 3, sent_again: 2 };
        assert_eq!(account, Some(expected));
        assert!(expected.must_balance(6).is_ok());
        assert!(expected.must_balance(7).is_err());
        assert!(expected.must_be_all_confirmed(6).is_err());
        assert_eq!(Account::parse("read 6, confirmed 6"), None);
        assert_eq!(Account::parse("read 6, returned 1, confirmed 1; sent again 2"), None);
    }

    #[test]
    fn an_account_that_loses_a_line_does_not_balance() {
        let account =
            Account::parse("read 6, confirmed 5, returned 0, dropped 0, not confirmed 0; sent again 0");
        assert!(account.unwrap().must_balance(6).is_err());
    }

    #[test]
    fn lines_sent_again_are_read() {
        let line = " [*] connected to amqp://h; sending 3 lines again: 4-5, 7";
        assert_eq!(sent_again_in(line), Numbers::parse("4-5, 7"));
        assert_eq!(
            sent_again_in(" [*] connected; sending 4 lines again: 4-5, 7"),
            None,
            "the count is wrong"
        );
    }

    #[test]
    fn gaps_are_read() {
        let line = " [!] gap closed: nothing received from 1 to 3, after message 17 (leveret/5-ff/17) \
                    and before message 18 (leveret/5-ff/21); 3 numbered lines missed there";
        assert_eq!(gap_in(line), Some(18..=20));
        let at_the_start = " [!] gap closed: nothing received from 1 to 3, after no message yet \
                            and before message 1 (leveret/5-ff/4); 3 numbered lines missed there";
        assert_eq!(gap_in(at_the_start), Some(1..=3));
        assert_eq!(gap_in(" [!] gap closed: after message 17 and before message 18"), None);
    }

    #[test]
    fn every_gap_needs_its_far_edge() {
        let opened = " [!] gap opened at 1 after message 1 (leveret/5-ff/1): gone".to_owned();
        let closed = " [!] gap closed: nothing received from 1 to 3, after message 1 (leveret/5-ff/1) and before \
                      message 2 (leveret/5-ff/4); 2 numbered lines missed there";
        let closed = closed.to_owned();
        assert_eq!(gaps_in(&[]).unwrap(), []);
        assert_eq!(gaps_in(&[opened.clone(), opened.clone(), closed.clone()]).unwrap(), [2..=3]);
        assert!(gaps_in(&[opened.clone(), closed, opened]).is_err());
    }

    #[test]
    fn the_receivers_account_is_read() {
        let expected = Tally { missing: 3, repeated: 2 };
        assert_eq!(tally_in("9 messages, 3 numbered lines missed, 2 repeated"), Some(expected));
        assert_eq!(tally_in("9 messages, 3 numbered lines missed, 2 repeated; 1 without a number"), None);
    }
}
