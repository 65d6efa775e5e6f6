//! How long to wait before the next try: longer each time, never longer than a bound, never in step
//! with everybody else.
//!
//! Takes its randomness as an argument and never sleeps.

use std::time::Duration;

/// The waits between the tries of one outage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Who waits to send has all the time: its lines are kept.
    pub(crate) const SENDER: Self =
        Self { next: Duration::from_millis(100), longest: Duration::from_secs(5) };

    /// Who waits to receive misses lines from the moment that the first sender is back.
    pub(crate) const RECEIVER: Self =
        Self { next: Duration::from_millis(25), longest: Duration::from_secs(1) };

    /// The next wait: between a half of the present step and all of it, as `random` falls.
    pub(crate) fn next_wait(&mut self, random: u32) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        step / 2 + (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_there() {
        let waits = |mut backoff: Backoff| -> Vec<u128> {
            (0..8).map(|_| backoff.next_wait(u32::MAX).as_millis()).collect()
        };
        assert_eq!(waits(Backoff::SENDER), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(waits(Backoff::RECEIVER), [25, 50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn chance_takes_at_most_a_half_away() {
        let first_wait = |random| Backoff { ..Backoff::SENDER }.next_wait(random).as_millis();
        assert_eq!(first_wait(0), 50);
        assert!((60..90).contains(&first_wait(u32::MAX / 2)));
    }
}
