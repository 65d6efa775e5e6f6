//! Which publishes of a channel are confirmed.
//!
//! Invariant: `multiple` reaches only up to below the lowest publish that is not settled, a nack is
//! never inside one of acks, and an ack never inside one of nacks.

use std::collections::VecDeque;

use crate::planted::{self, Bug};

/// What is sent for a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the methods")]
pub enum Confirm {
    /// The broker has taken every publish up to this one.
    Ack { delivery_tag: u64, multiple: bool },
    /// The broker has not taken this one, or none from the last one told up to this.
    Nack { delivery_tag: u64, multiple: bool },
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
                self.nack(self.lowest_open);
            }
            self.states.pop_front();
            self.lowest_open += 1;
        }
        self.ack_pending();
        self.pending.drain(..)
    }

    /// As RabbitMQ has it, a nack covers those before it, unless acks go out with it.
    fn nack(&mut self, tag: u64) {
        self.acked = tag;
        match self.pending.last_mut() {
            Some(Confirm::Nack { delivery_tag, multiple: true }) => *delivery_tag = tag,
            last => {
                let multiple = last.is_none();
                self.pending.push(Confirm::Nack { delivery_tag: tag, multiple });
            }
        }
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
    fn a_nack_covers_others_before_it_and_never_an_ack() {
        let nack = |delivery_tag, multiple| Confirm::Nack { delivery_tag, multiple };
        let mixed = [(1, true), (2, false), (3, true), (4, true)];
        check(&mixed, &[ack(1, false), nack(2, false), ack(4, true)]);
        check(&[(1, false)], &[nack(1, true)]);
        check(&[(1, false), (2, false), (3, true)], &[nack(2, true), ack(3, false)]);
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
