//! What was received, missed and repeated, and what is said about it.
//!
//! Takes the time as an argument and writes nothing. Invariant: a line that was missed is announced once,
//! by the gap it fell into or by a count of its own.

use std::time::{Duration, Instant, SystemTime};

use super::{
    gap::{Edge, Gap},
    tracker::{Seen, Tracker},
};
use crate::cli::sizes::QueueBytes;

/// A screen that falls behind misses lines all the time; so often it is said.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Tally {
    tracker: Tracker,
    buffer: QueueBytes,
    messages: u64,
    unnumbered: u64,
    missed: u64,
    repeated: u64,
    last: Edge,
    /// When our first queue was bound.
    joined: Option<SystemTime>,
    open_gap: Option<Gap>,
    last_gap: Option<Gap>,
    unannounced: Option<Missed>,
    announced_at: Option<Instant>,
}

/// Lines that are missing, and between which messages.
#[derive(Debug)]
struct Missed {
    lines: u64,
    after: Edge,
    before: Edge,
}

impl Tally {
    pub(crate) fn new(buffer: QueueBytes) -> Self {
        Self {
            tracker: Tracker::default(),
            buffer,
            messages: 0,
            unnumbered: 0,
            missed: 0,
            repeated: 0,
            last: Edge { message: 0, stamp: None },
            joined: None,
            open_gap: None,
            last_gap: None,
            unannounced: None,
            announced_at: None,
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// A queue of ours is bound.
    pub(crate) fn bound(&mut self, at: SystemTime) {
        self.joined.get_or_insert(at);
        if let Some(gap) = &mut self.open_gap {
            gap.queue_bound(at);
        }
    }

    /// Our queue is gone. Says so.
    pub(crate) fn lost(&mut self, at: SystemTime, reason: &str) -> String {
        self.tracker.gap();
        let last = self.last;
        self.open_gap.get_or_insert_with(|| Gap::open(at, last)).announce_opening(reason)
    }

    /// Takes note of the next message; gives what is to be said at once.
    pub(crate) fn take(&mut self, edge: Edge, now: Instant) -> Option<String> {
        self.messages += 1;
        let (missed, across_gap) = self.observe(edge);
        let said = match self.open_gap.take() {
            Some(gap) => {
                let line = gap.announce_closing(edge, missed);
                self.last_gap = Some(gap);
                Some(line)
            }
            None if missed == 0 => None,
            None => match self.last_gap.as_ref().filter(|_| across_gap) {
                Some(gap) => Some(gap.announce_more(edge, missed)),
                None => self.note_missed(missed, edge, now),
            },
        };
        self.last = edge;
        said
    }

    fn observe(&mut self, edge: Edge) -> (u64, bool) {
        let Some(stamp) = edge.stamp else {
            self.unnumbered += 1;
            return (0, false);
        };
        let from_first = self.joined.is_some_and(|joined| stamp.source.began_after(joined));
        match self.tracker.observe(stamp, from_first) {
            Seen::InOrder => (0, false),
            Seen::AfterHole { missed, across_gap } => {
                self.missed += missed;
                (missed, across_gap)
            }
            Seen::Late => {
                self.missed -= 1;
                (0, false)
            }
            Seen::Repeat => {
                self.repeated += 1;
                (0, false)
            }
        }
    }

    fn note_missed(&mut self, lines: u64, before: Edge, now: Instant) -> Option<String> {
        let after = self.last;
        let missed = self.unannounced.get_or_insert(Missed { lines: 0, after, before });
        missed.lines += lines;
        missed.before = before;
        self.announce(now)
    }

    /// When there is something to be said, if nothing else happens.
    pub(crate) fn announces_at(&self) -> Option<Instant> {
        let due = self.announced_at.map(|at| at + ANNOUNCE_EVERY);
        self.unannounced.as_ref().and(due)
    }

    /// Says what was missed, not more often than is good.
    pub(crate) fn announce(&mut self, now: Instant) -> Option<String> {
        if self.announces_at().is_some_and(|at| now < at) {
            return None;
        }
        let missed = self.unannounced.take()?;
        self.announced_at = Some(now);
        Some(self.missed_line(&missed))
    }

    fn missed_line(&self, missed: &Missed) -> String {
        let Missed { lines, after, before } = missed;
        let buffer = self.buffer;
        format!(
            " [!] {lines} numbered lines missed after {after} and before {before}: \
             they left our queue unread (--buffer {buffer}) or never reached it"
        )
    }

    /// The last words.
    pub(crate) fn summary(&mut self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.unannounced.take().map(|missed| self.missed_line(&missed)).into_iter().collect();
        let Self { messages, missed, repeated, unnumbered, .. } = self;
        let mut line = format!(
            "leveret receive: {messages} messages, {missed} numbered lines missed, {repeated} repeated"
        );
        if *unnumbered > 0 {
            line.push_str(&format!(
                "; {unnumbered} without a number, of which none can be known to be missing"
            ));
        }
        lines.push(line);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::stamp::{Source, Stamp};

    struct Feed {
        tally: Tally,
        now: Instant,
    }

    impl Feed {
        fn new() -> Self {
            let mut tally = Tally::new("64MiB".parse().expect("a size"));
            tally.bound(SystemTime::UNIX_EPOCH);
            Self { tally, now: Instant::now() }
        }

        fn take(&mut self, number: Option<u64>) -> Option<String> {
            let source = Source::new(SystemTime::UNIX_EPOCH + Duration::from_secs(9), 1);
            let stamp = number.map(|number| Stamp { source, number });
            self.tally.take(Edge { message: self.tally.messages() + 1, stamp }, self.now)
        }
    }

    #[test]
    fn missed_lines_are_said_at_once_and_then_at_most_once_a_second() {
        let mut feed = Feed::new();
        assert_eq!(feed.take(Some(1)), None);
        assert!(feed.take(Some(5)).expect("said").contains(" 3 numbered lines missed after message 1 "));
        assert_eq!(feed.take(Some(7)), None, "too soon");
        assert_eq!(feed.take(Some(9)), None, "too soon");
        assert_eq!(feed.tally.announces_at(), Some(feed.now + ANNOUNCE_EVERY));
        let line = feed.tally.announce(feed.now + ANNOUNCE_EVERY).expect("it is time");
        assert!(
            line.contains(" 2 numbered lines missed after message 2 ") && line.contains(" before message 4 ")
        );
        assert_eq!(feed.tally.announces_at(), None);
        assert!(feed.tally.summary()[0].contains("4 messages, 5 numbered lines missed, 0 repeated"));
    }

    #[test]
    fn a_gap_names_both_edges_and_takes_the_hole_with_it() {
        let mut feed = Feed::new();
        feed.take(Some(1));
        let opened = feed.tally.lost(SystemTime::UNIX_EPOCH, "gone");
        assert!(opened.contains("after message 1 (") && opened.ends_with("gone"));
        feed.tally.bound(SystemTime::UNIX_EPOCH);
        feed.tally.lost(SystemTime::UNIX_EPOCH, "gone again");
        feed.tally.bound(SystemTime::UNIX_EPOCH);
        let closed = feed.take(Some(4)).expect("said");
        assert!(closed.contains("after message 1 (") && closed.contains("before message 2 ("), "{closed}");
        assert!(closed.ends_with("2 numbered lines missed there"));
        assert!(feed.take(Some(6)).expect("said").contains(" 1 numbered lines missed after message 2"));
    }

    #[test]
    fn late_and_repeated_lines_are_counted_apart() {
        let mut feed = Feed::new();
        for number in [1, 4, 2, 2, 1] {
            feed.take(Some(number));
        }
        feed.take(None);
        let last = feed.tally.summary().pop().expect("always");
        assert!(
            last.contains("6 messages, 1 numbered lines missed, 2 repeated; 1 without a number"),
            "{last}"
        );
    }
}
