//! Whose turn it is among a queue's consumers.
//!
//! Consumers of the highest priority take turns; others come when none of those can take more.
//! Invariant: turns stand in the order of their priorities, the highest first.

use std::collections::VecDeque;

use super::ConsumerSlot;

#[derive(Debug, Clone, Copy)]
struct Turn {
    slot: ConsumerSlot,
    priority: i64,
}

/// Consumers in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Round {
    turns: VecDeque<Turn>,
}

impl Round {
    /// Adds a consumer behind those of its priority.
    pub(super) fn push(&mut self, slot: ConsumerSlot, priority: i64) {
        self.insert(Turn { slot, priority });
    }

    fn insert(&mut self, turn: Turn) {
        let at = self.turns.partition_point(|other| other.priority >= turn.priority);
        self.turns.insert(at, turn);
    }

    pub(super) fn front(&self) -> Option<ConsumerSlot> {
        self.turns.front().map(|turn| turn.slot)
    }

    /// Whether nobody else has the priority of the first one.
    pub(super) fn front_is_alone(&self) -> bool {
        match (self.turns.front(), self.turns.get(1)) {
            (Some(first), Some(second)) => first.priority > second.priority,
            _ => true,
        }
    }

    pub(super) fn pop_front(&mut self) {
        self.turns.pop_front();
    }

    /// The first one had its turn.
    pub(super) fn rotate(&mut self) {
        let (Some(first), Some(last)) = (self.turns.front(), self.turns.back()) else { return };
        if first.priority == last.priority {
            self.turns.rotate_left(1);
        } else if let Some(turn) = self.turns.pop_front() {
            self.insert(turn);
        }
    }

    pub(super) fn remove(&mut self, slot: ConsumerSlot) {
        self.turns.retain(|turn| turn.slot != slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_priority_takes_turns() {
        let mut round = Round::default();
        for (slot, priority) in [(0, 0), (1, 5), (2, 5), (3, -1)] {
            round.push(slot, priority);
        }
        let mut order = Vec::new();
        for _ in 0..3 {
            order.extend(round.front());
            assert!(!round.front_is_alone());
            round.rotate();
        }
        assert_eq!(order, [1, 2, 1]);
        round.remove(1);
        assert_eq!(round.front(), Some(2));
        assert!(round.front_is_alone());
        round.pop_front();
        assert_eq!(round.front(), Some(0));
    }
}
