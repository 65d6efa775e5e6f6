//! The clocks: the one place that asks the operating system what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leveret_broker::Now;

/// Reads both clocks. The monotonic one begins with what the wall clock shows, so that what is kept with a
/// time still has its age after a restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_millis: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), start_millis: wall_millis() }
    }

    pub(crate) fn now(self) -> Now {
        let monotonic_millis = self.start_millis + millis(self.start.elapsed());
        Now { monotonic_millis, wall_millis: wall_millis() }
    }

    /// How long it is until the monotonic clock shows that.
    pub(crate) fn until(self, monotonic_millis: u64) -> Duration {
        self.since_start(monotonic_millis).saturating_sub(self.start.elapsed())
    }

    /// When the monotonic clock will show that.
    pub(crate) fn instant(self, monotonic_millis: u64) -> tokio::time::Instant {
        (self.start + self.since_start(monotonic_millis)).into()
    }

    fn since_start(self, monotonic_millis: u64) -> Duration {
        Duration::from_millis(monotonic_millis.saturating_sub(self.start_millis))
    }
}

fn wall_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
