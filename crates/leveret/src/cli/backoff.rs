//! How long to wait before the next try: longer each time, never longer than a bound, never in step
//! with everybody else.
//!
//! Takes its randomness as an argument and never sleeps.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The waits between the tries of one outage.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait: between a half of the present step and all of it, as `random` falls.
    pub(crate) fn next_wait(&mut self, random: u32) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        step / 2 + (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_there() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> = (0..8).map(|_| backoff.next_wait(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn chance_takes_at_most_a_half_away() {
        assert_eq!(Backoff::new().next_wait(0), FIRST / 2);
        let middle = Backoff::new().next_wait(u32::MAX / 2);
        assert!(middle > FIRST / 2 && middle < FIRST);
    }
}
