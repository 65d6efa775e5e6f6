//! The time without a queue, between the loss of a connection and the first message after it.
//!
//! Only words and edges; noticing the loss and counting what was missed is done elsewhere.
//! Invariant: a gap is announced twice, when it opens and when its far edge is known.

use std::{fmt, time::SystemTime};

use crate::cli::stamp::Stamp;

/// One message, as it is named in an announcement: its place in our output, and its stamp if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) message: u64,
    pub(crate) stamp: Option<Stamp>,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message, self.stamp) {
            (0, _) => f.write_str("no message yet"),
            (message, None) => write!(f, "message {message}"),
            (message, Some(stamp)) => write!(f, "message {message} ({stamp})"),
        }
    }
}

/// A gap whose far edge is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    since: SystemTime,
    after: Edge,
    /// When the new queue was bound: from then on nothing is missed.
    until: Option<SystemTime>,
}

impl Gap {
    pub(crate) fn open(since: SystemTime, after: Edge) -> Self {
        Self { since, after, until: None }
    }

    /// Called again where that queue was lost too before a message came: the gap went on.
    pub(crate) fn queue_bound(&mut self, at: SystemTime) {
        self.until = Some(at);
    }

    pub(crate) fn announce_opening(&self, why: &str) -> String {
        format!(" [!] gap opened at {} after {}: {why}", clock(self.since), self.after)
    }

    /// What is said when its far edge is known. `missed` counts the numbers that were jumped over there.
    pub(crate) fn announce_closing(&self, before: Edge, missed: u64) -> String {
        let (since, until) = (clock(self.since), self.until.map_or_else(|| "now".to_owned(), clock));
        format!(
            " [!] gap closed: nothing received from {since} to {until}, after {} and before {before}; \
             {missed} numbered lines missed there",
            self.after
        )
    }

    /// Other sources are heard of again after the gap is closed, and only then it is known what it cost.
    pub(crate) fn announce_more(&self, before: Edge, missed: u64) -> String {
        format!(
            " [!] {missed} numbered lines more were missed in the gap of {}, before {before}",
            clock(self.since)
        )
    }
}

fn clock(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn both_edges_are_named() {
        let stamp = |number| Stamp::parse(&format!("leveret/5-000000ff/{number}"));
        let mut gap = Gap::open(at(1), Edge { message: 17, stamp: stamp(17) });
        gap.queue_bound(at(3));
        assert_eq!(
            gap.announce_opening("the broker went away"),
            " [!] gap opened at 1970-01-01T00:00:01.000Z after message 17 (leveret/5-000000ff/17): \
             the broker went away"
        );
        assert_eq!(
            gap.announce_closing(Edge { message: 18, stamp: stamp(21) }, 3),
            " [!] gap closed: nothing received from 1970-01-01T00:00:01.000Z to 1970-01-01T00:00:03.000Z, after \
             message 17 (leveret/5-000000ff/17) and before message 18 (leveret/5-000000ff/21); \
             3 numbered lines missed there"
        );
    }

    #[test]
    fn a_message_without_a_stamp_is_named_by_its_place() {
        assert_eq!(Edge { message: 4, stamp: None }.to_string(), "message 4");
        assert_eq!(Edge { message: 0, stamp: None }.to_string(), "no message yet");
    }
}
