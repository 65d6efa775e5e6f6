//! What became of each line that was read.
//!
//! Invariant: read = confirmed + returned + dropped + not confirmed + what is still on its way.

use std::fmt;

/// The end of one line's way, as the broker told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Confirmed,
    /// No queue wanted it, and `--mandatory` asked to be told.
    Returned,
    /// The broker said that it did not take it.
    Refused,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) read: u64,
    pub(crate) confirmed: u64,
    pub(crate) returned: u64,
    pub(crate) dropped: u64,
    pub(crate) not_confirmed: u64,
    /// Counted apart: a line may be sent again several times and has one end all the same.
    pub(crate) sent_again: u64,
}

impl Account {
    pub(crate) fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Confirmed => self.confirmed += 1,
            Outcome::Returned => self.returned += 1,
            Outcome::Refused => self.not_confirmed += 1,
        }
    }

    /// Closes the account: what is still on its way will not be heard of.
    pub(crate) fn close(&mut self, on_the_way: usize) {
        self.not_confirmed += on_the_way as u64;
        let ends = self.confirmed + self.returned + self.dropped + self.not_confirmed;
        assert_eq!(self.read, ends, "every line that was read has one end");
    }

    /// Whether every line that was read has arrived.
    pub(crate) fn is_clean(&self) -> bool {
        self.read == self.confirmed
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, confirmed, returned, dropped, not_confirmed, sent_again } = self;
        write!(f, "read {read}, confirmed {confirmed}, returned {returned}, dropped {dropped}, ")?;
        write!(f, "not confirmed {not_confirmed}; sent again {sent_again}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_closes_when_every_line_has_an_end() {
        let mut account = Account { read: 6, dropped: 1, ..Account::default() };
        for outcome in [Outcome::Confirmed, Outcome::Returned, Outcome::Refused] {
            account.settle(outcome);
        }
        account.close(2);
        assert_eq!(
            account.to_string(),
            "read 6, confirmed 1, returned 1, dropped 1, not confirmed 3; sent again 0"
        );
        assert!(!account.is_clean());
    }

    #[test]
    #[should_panic(expected = "every line that was read has one end")]
    fn a_line_without_an_end_is_a_bug() {
        Account { read: 2, confirmed: 1, ..Account::default() }.close(0);
    }
}
