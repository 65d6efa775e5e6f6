//! Messages that came back, and where they stand among those that never left.
//!
//! In most queues each goes back to where it stood. A queue that counts returns lines them up in the
//! order in which they came back, as RabbitMQ's quorum queues do (`rabbit_fifo`).
//! Invariant: what is due stands before everything of its band that never left.

use std::collections::{BTreeMap, VecDeque};

use super::ready::Position;
use crate::Location;

/// How a message comes back to a queue that counts returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comeback {
    /// It was handed over and never sent: it has not left.
    Unsent,
    /// It goes behind what came back before it.
    BehindReturned,
    /// It goes behind all that is there.
    BehindAll,
}

/// Messages that came back.
#[derive(Debug)]
pub(super) enum Returned {
    /// Each where it stood.
    InPlace(BTreeMap<Position, Location>),
    /// As they came back.
    InTurn(Box<Turns>),
}

/// Messages of a queue that counts returns, in three lines; the first goes out first.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Before all that never left.
    first: VecDeque<(Position, Location)>,
    /// What was handed over for the first time and never sent, where it stood.
    unsent: BTreeMap<Position, Location>,
    /// Each with the index of the message that it goes before.
    last: VecDeque<(u64, Position, Location)>,
    /// How often messages came back before the broker was started, by their indexes. To this broker
    /// they never left.
    before_start: BTreeMap<u64, u32>,
}

impl Returned {
    pub(super) fn new(counts_returns: bool) -> Self {
        if counts_returns { Self::InTurn(Box::default()) } else { Self::InPlace(BTreeMap::new()) }
    }

    /// Whether none came back, now or before the broker was started.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::InPlace(places) => places.is_empty(),
            Self::InTurn(turns) => turns.len() == 0 && turns.before_start.is_empty(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::InPlace(places) => places.len(),
            Self::InTurn(turns) => turns.len(),
        }
    }

    /// Where they stand.
    pub(super) fn positions(&self) -> Vec<Position> {
        match self {
            Self::InPlace(places) => places.keys().copied().collect(),
            Self::InTurn(turns) => {
                let first = turns.first.iter().map(|(position, _)| *position);
                let last = turns.last.iter().map(|(_, position, _)| *position);
                first.chain(turns.unsent.keys().copied()).chain(last).collect()
            }
        }
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> VecDeque<Location> {
        match self {
            Self::InPlace(places) => std::mem::take(places).into_values().collect(),
            Self::InTurn(turns) => {
                let Turns { first, unsent, last, .. } = std::mem::take(&mut **turns);
                let first = first.into_iter().map(|(_, location)| location);
                let last = last.into_iter().map(|(_, _, location)| location);
                first.chain(unsent.into_values()).chain(last).collect()
            }
        }
    }
}

impl Turns {
    fn len(&self) -> usize {
        self.first.len() + self.unsent.len() + self.last.len()
    }

    /// Puts a message back. `end` is the index that the next new message will have. Of several that
    /// were never sent the last one is put back first.
    pub(super) fn put_back(&mut self, position: Position, location: Location, how: Comeback, end: u64) {
        match how {
            Comeback::Unsent if position.returns() == 0 => {
                let before = self.unsent.insert(position, location);
                assert!(before.is_none(), "a position belongs to one message");
            }
            Comeback::Unsent => self.first.push_front((position, location)),
            Comeback::BehindReturned => self.first.push_back((position, location)),
            Comeback::BehindAll => self.last.push_back((end, position, location)),
        }
    }

    /// The message of that index came back so often before the broker was started, if not more often.
    pub(super) fn came_back_before(&mut self, index: u64, count: u32) {
        let known = self.before_start.entry(index).or_default();
        *known = count.max(*known);
    }

    /// A message leaves that never left before, to this broker: with what is known of it from before
    /// the start. Such messages leave in the order of their indexes.
    pub(super) fn recall(&mut self, location: Location, position: Position) -> (Location, Position) {
        let counts_returns = true;
        let index = position.ordinal(counts_returns);
        // Those before it were lost.
        while let Some(first) = self.before_start.first_entry().filter(|first| *first.key() < index) {
            first.remove();
        }
        match self.before_start.remove(&index) {
            Some(count) => (location.as_redelivered(), position.returned_often(count)),
            None => (location, position),
        }
    }

    /// The first one, if it goes before the new message with the index `head`.
    pub(super) fn first(&self, head: u64) -> Option<(Position, Location)> {
        let unsent = || self.unsent.first_key_value().map(|(position, location)| (*position, *location));
        let last = || self.last.front().filter(|(before, ..)| *before <= head);
        let first = self.first.front().copied().or_else(unsent);
        first.or_else(|| last().map(|(_, position, location)| (*position, *location)))
    }

    /// Takes what [`Turns::first`] tells.
    pub(super) fn pop(&mut self, head: u64) -> Option<(Position, Location)> {
        if let Some(first) = self.first.pop_front().or_else(|| self.unsent.pop_first()) {
            return Some(first);
        }
        self.last.front().filter(|(before, ..)| *before <= head)?;
        self.last.pop_front().map(|(_, position, location)| (position, location))
    }
}
