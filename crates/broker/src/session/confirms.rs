//! Which publishes of a channel are confirmed.
//!
//! Invariant: `multiple` reaches only up to below the lowest publish that is not settled, and a
//! nack is never inside one.

use std::collections::VecDeque;

use crate::planted::{self, Bug};

/// What is sent for a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the methods")]
pub enum Confirm {
    /// The broker has taken every publish up to this one.
    Ack { delivery_tag: u64, multiple: bool },
    /// The broker has not taken this one.
    Nack { delivery_tag: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Taken,
    Refused,
}

/// The publishes of a channel since `confirm.select`, numbered from 1.
#[derive(Debug)]
pub struct Confirms {
    /// The lowest publish that is not settled.
    lowest_open: u64,
    /// States from there on.
    states: VecDeque<State>,
    /// Up to here acks were sent.
    acked: u64,
    pending: Vec<Confirm>,
}

impl Default for Confirms {
    fn default() -> Self {
        Self { lowest_open: 1, states: VecDeque::new(), acked: 0, pending: Vec::new() }
    }
}

impl Confirms {
    /// Numbers one more publish.
    #[inline]
    pub fn publish(&mut self) -> u64 {
        self.states.push_back(State::Open);
        self.lowest_open + self.states.len() as u64 - 1
    }

    /// The publish is taken, or refused.
    ///
    /// # Panics
    /// When it was settled before, which only our own bug could cause.
    pub fn settle(&mut self, delivery_tag: u64, taken: bool) {
        let at = delivery_tag.checked_sub(self.lowest_open).and_then(|at| usize::try_from(at).ok());
        let state = at.and_then(|at| self.states.get_mut(at)).expect("a publish is settled once");
        assert_eq!(*state, State::Open, "a publish is settled once");
        *state = if taken { State::Taken } else { State::Refused };
    }

    /// What can be sent now.
    pub fn drain(&mut self) -> impl Iterator<Item = Confirm> {
        while let Some(state) = self.states.front().copied().filter(|state| *state != State::Open) {
            if state == State::Refused && !planted::is(Bug::ConfirmOverHole) {
                self.ack_pending();
                self.pending.push(Confirm::Nack { delivery_tag: self.lowest_open });
                self.acked = self.lowest_open;
            }
            self.states.pop_front();
            self.lowest_open += 1;
        }
        self.ack_pending();
        self.pending.drain(..)
    }

    fn ack_pending(&mut self) {
        let last = self.lowest_open - 1;
        if last > self.acked {
            self.pending.push(Confirm::Ack { delivery_tag: last, multiple: last - self.acked > 1 });
            self.acked = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivery_tag: u64, multiple: bool) -> Confirm {
        Confirm::Ack { delivery_tag, multiple }
    }

    fn check(settled: &[(u64, bool)], wanted: &[Confirm]) {
        let mut confirms = Confirms::default();
        for tag in 1..=5 {
            assert_eq!(confirms.publish(), tag);
        }
        for (tag, taken) in settled {
            confirms.settle(*tag, *taken);
        }
        assert_eq!(confirms.drain().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn acks_reach_to_the_lowest_open_publish() {
        check(&[(1, true)], &[ack(1, false)]);
        check(&[(1, true), (2, true), (4, true)], &[ack(2, true)]);
        check(&[(2, true), (3, true)], &[]);
    }

    #[test]
    fn a_nack_stands_alone() {
        let nack = |delivery_tag| Confirm::Nack { delivery_tag };
        check(&[(1, true), (2, false), (3, true), (4, true)], &[ack(1, false), nack(2), ack(4, true)]);
        check(&[(1, false), (2, false)], &[nack(1), nack(2)]);
    }

    #[test]
    fn numbers_go_on_after_a_drain() {
        let mut confirms = Confirms::default();
        confirms.publish();
        confirms.settle(1, true);
        assert_eq!(confirms.drain().count(), 1);
        assert_eq!(confirms.publish(), 2);
        confirms.settle(2, true);
        assert_eq!(confirms.drain().collect::<Vec<_>>(), [ack(2, false)]);
    }
}
