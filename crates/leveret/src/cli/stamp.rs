//! The stamp that `emit` puts on each message and `receive` counts by.
//!
//! A stamp is the property `message_id`: `leveret/SOURCE/NUMBER`. SOURCE is one run of `emit` (when it
//! began, in milliseconds, and a random number); NUMBER counts its lines from 1. A line keeps its number
//! when it is sent again. Invariant: all lines of one source go to one exchange with one routing key and
//! the same headers, so whoever is bound for one of them is bound for all.

use std::{fmt, time::SystemTime};

/// Marks the one message whose line ended with the input and not with a line feed.
pub(crate) const NO_NEWLINE: &str = "x-leveret-no-newline";

const PREFIX: &str = "leveret/";

/// One run of `emit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    began_ms: u64,
    random: u32,
}

impl Source {
    pub(crate) fn new(began: SystemTime, random: u32) -> Self {
        Self { began_ms: unix_ms(began), random }
    }

    /// Whether this run began after `time`, by the clock of the machine it ran on.
    pub(crate) fn began_after(self, time: SystemTime) -> bool {
        self.began_ms > unix_ms(time)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.began_ms, self.random)
    }
}

/// The name of one line: where it came from and which one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) source: Source,
    pub(crate) number: u64,
}

impl Stamp {
    /// Reads a message's id; `None` where another publisher has put an id of its own.
    pub(crate) fn parse(message_id: &str) -> Option<Self> {
        let (source, number) = message_id.strip_prefix(PREFIX)?.split_once('/')?;
        let (began_ms, random) = source.split_once('-')?;
        let source =
            Source { began_ms: began_ms.parse().ok()?, random: u32::from_str_radix(random, 16).ok()? };
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Self { source, number })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.source, self.number)
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stamp_survives_the_way_through_a_message_id() {
        let source = Source::new(SystemTime::UNIX_EPOCH + Duration::from_millis(1_758_001_234_567), 0xab);
        let stamp = Stamp { source, number: 42 };
        assert_eq!(stamp.to_string(), "leveret/1758001234567-000000ab/42");
        assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
    }

    #[test]
    fn ids_of_others_are_not_stamps() {
        for id in [
            "",
            "42",
            "leveret/",
            "leveret/1-a/0",
            "leveret/1-a/x",
            "leveret/x-a/1",
            "leveret/1-z/1",
            "1-a/1",
        ] {
            assert_eq!(Stamp::parse(id), None, "{id}");
        }
    }

    #[test]
    fn a_run_knows_whether_it_began_later() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert!(Source::new(now + Duration::from_millis(1), 0).began_after(now));
        assert!(!Source::new(now, 0).began_after(now));
    }
}
