//! What a message carries so that it can be timed and missed: sixteen octets at the front of its body.
//!
//! ```text
//!   0            4              6            10                   16
//!   +------------+--------------+------------+--------------------+
//!   |    run     |   producer   |  sequence  |     sent after     |
//!   +------------+--------------+------------+--------------------+
//!     random        from 0        from 0,      tenths of a
//!                                 wraps        microsecond
//! ```
//!
//! Times are since the start of the run that published, so that only its own process can tell how long
//! a message took. Invariant: what is written here is read back as it was.

use std::time::{Duration, Instant};

/// Octets of a stamp; a smaller body carries none.
pub(super) const STAMP_OCTETS: usize = 16;
const SEQUENCE_AT: usize = 6;
const NANOS_EACH: u64 = 100;

/// A time since the run began, in tenths of a microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(pub(super) u64);

impl Ticks {
    pub(super) fn of(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) / NANOS_EACH)
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0) * NANOS_EACH)
    }
}

/// The clock of a run; copies of it tell the same time on every thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Ticks {
        Ticks::of(self.0.elapsed())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) run: u32,
    pub(super) producer: u16,
    pub(super) sequence: u32,
    pub(super) sent: Ticks,
}

impl Stamp {
    /// Reads the front of a body; `None` where it is too short to carry a stamp.
    #[inline]
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let [r0, r1, r2, r3, p0, p1, s0, s1, s2, s3, t0, t1, t2, t3, t4, t5] =
            *body.first_chunk::<STAMP_OCTETS>()?;
        Some(Self {
            run: u32::from_be_bytes([r0, r1, r2, r3]),
            producer: u16::from_be_bytes([p0, p1]),
            sequence: u32::from_be_bytes([s0, s1, s2, s3]),
            sent: Ticks(u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5])),
        })
    }

    /// Writes all of it to the front of `body`.
    pub(super) fn write(self, body: &mut [u8]) {
        body[..4].copy_from_slice(&self.run.to_be_bytes());
        body[4..SEQUENCE_AT].copy_from_slice(&self.producer.to_be_bytes());
        Self::rewrite(body, self.sequence, self.sent);
    }

    /// Writes what differs from one message to the next.
    #[inline]
    pub(super) fn rewrite(body: &mut [u8], sequence: u32, sent: Ticks) {
        let [_, _, time @ ..] = sent.0.to_be_bytes();
        body[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&sequence.to_be_bytes());
        body[SEQUENCE_AT + 4..STAMP_OCTETS].copy_from_slice(&time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp =
            Stamp { run: 0xdead_beef, producer: 513, sequence: u32::MAX - 1, sent: Ticks((1 << 48) - 2) };
        let mut body = [7; 20];
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(body[STAMP_OCTETS..], [7; 4]);
        Stamp::rewrite(&mut body, 3, Ticks(9));
        assert_eq!(Stamp::read(&body), Some(Stamp { sequence: 3, sent: Ticks(9), ..stamp }));
    }

    #[test]
    fn a_short_body_carries_none() {
        assert_eq!(Stamp::read(&[0; STAMP_OCTETS - 1]), None);
    }
}
