//! The clocks: the one place that asks the operating system what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret_broker::Now;

/// Reads both clocks; the monotonic one counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic_millis: millis(self.start.elapsed()), wall_millis: millis(wall) }
    }

    /// When the monotonic clock will show that.
    pub(crate) fn instant(self, monotonic_millis: u64) -> tokio::time::Instant {
        (self.start + Duration::from_millis(monotonic_millis)).into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
