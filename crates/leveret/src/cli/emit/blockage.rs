//! That the broker has said it takes no messages now, and when this is worth a word.
//!
//! Takes the time as an argument. Invariant: the end of a blockage is said if its beginning was.

use std::time::{Duration, Instant};

/// A broker at its watermark blocks and unblocks many times a second, which is nobody's concern.
const SAID_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Blockage {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    reason: String,
    said: bool,
}

impl Blockage {
    pub(crate) fn is_on(&self) -> bool {
        self.current.is_some()
    }

    pub(crate) fn begin(&mut self, reason: String, now: Instant) {
        self.current = Some(Current { since: now, reason, said: false });
    }

    /// Says so, if anything was said before.
    pub(crate) fn end(&mut self) -> Option<&'static str> {
        self.current.take().filter(|blockage| blockage.said).map(|_| " [*] the broker takes messages again")
    }

    /// When there is something to be said, if it lasts so long.
    pub(crate) fn said_at(&self) -> Option<Instant> {
        self.current.as_ref().filter(|blockage| !blockage.said).map(|blockage| blockage.since + SAID_AFTER)
    }

    pub(crate) fn say(&mut self, now: Instant) -> Option<String> {
        self.said_at().filter(|at| *at <= now)?;
        let blockage = self.current.as_mut()?;
        blockage.said = true;
        Some(format!(" [!] the broker takes no messages now ({})", blockage.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_blockage_is_not_spoken_of() {
        let now = Instant::now();
        let mut blockage = Blockage::default();
        blockage.begin("low on memory".to_owned(), now);
        assert_eq!(blockage.say(now), None);
        assert_eq!(blockage.end(), None);
        assert_eq!(blockage.said_at(), None);
    }

    #[test]
    fn a_long_one_is_said_once_and_so_is_its_end() {
        let now = Instant::now();
        let mut blockage = Blockage::default();
        blockage.begin("low on memory".to_owned(), now);
        let at = blockage.said_at().expect("a time");
        assert_eq!(
            blockage.say(at).as_deref(),
            Some(" [!] the broker takes no messages now (low on memory)")
        );
        assert_eq!(blockage.say(at + SAID_AFTER), None);
        assert!(blockage.is_on() && blockage.end().is_some() && !blockage.is_on());
    }
}
