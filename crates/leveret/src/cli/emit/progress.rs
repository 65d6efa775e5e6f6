//! The progress line: how many lines were confirmed, and how fast over the last moments.
//!
//! Takes the time as an argument; showing the line is `status`'s.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::account::Account;

/// How often the line is drawn anew.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// The rate is that of the last `SAMPLES_MAX` intervals.
const SAMPLES_MAX: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    samples: VecDeque<(Instant, u64)>,
}

impl Progress {
    pub(crate) fn line(&mut self, account: &Account, on_the_way: usize, now: Instant) -> String {
        let rate = self.rate(account.confirmed, now);
        format!("{} lines confirmed, {rate:.0} a second, {on_the_way} on their way", account.confirmed)
    }

    fn rate(&mut self, confirmed: u64, now: Instant) -> f64 {
        self.samples.push_back((now, confirmed));
        if self.samples.len() > SAMPLES_MAX + 1 {
            self.samples.pop_front();
        }
        let (since, before) = self.samples.front().copied().unwrap_or((now, confirmed));
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 { (confirmed - before) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_moments() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.rate(0, start), 0.0);
        for tick in 1..=100 {
            progress.rate(50 * u64::from(tick), start + INTERVAL * tick);
        }
        assert_eq!(
            progress.rate(5000, start + INTERVAL * 101).round(),
            225.0,
            "nine ticks of 50 and one of none"
        );
    }
}
