//! A queue of the model: messages by position.
//!
//! A message waits here until it is heard to go out, so messages that the broker has already
//! handed to a consumer's connection wait here too. A message may be *unsure*: it may be gone,
//! because which messages a full queue dropped can depend on how far the broker was ahead.
//! Invariant: every message is here once, at one position.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConnectionKey, ConsumerKey, Shared, hidden::window_share};

/// Where a message stands in its queue.
pub(super) type Position = u64;

/// What happens to what does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
}

/// How much may be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    pub(super) messages_max: Option<u64>,
    pub(super) octets_max: Option<u64>,
    pub(super) overflow: Overflow,
}

impl Limits {
    pub(super) const fn is_none(&self) -> bool {
        self.messages_max.is_none() && self.octets_max.is_none()
    }
}

/// A message that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) message: Shared,
    /// What the flag has to be; none where it depends on what nobody heard.
    pub(super) redelivered: Option<bool>,
    /// It may be gone.
    pub(super) unsure: bool,
    /// The turn in which it last became ready.
    pub(super) since: u64,
    /// It never was anywhere else.
    pub(super) fresh: bool,
    /// Where it stands among other publishers' messages is open.
    pub(super) unordered: bool,
}

impl Waiting {
    pub(super) fn octets(&self) -> u64 {
        self.message.body.len() as u64
    }
}

/// A queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) name: String,
    /// The only connection that may use it.
    pub(super) owner: Option<ConnectionKey>,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) limits: Limits,
    pub(super) consumers: BTreeSet<ConsumerKey>,
    /// Deleted; what its consumers were handed before may still come.
    pub(super) dead: bool,
    /// Its connection is going, and it with it, or it has gone.
    pub(super) doomed: bool,
    /// Which of the waiting messages were handed out is open.
    pub(super) scrambled: bool,
    /// Publishers whose batches may not be here yet.
    pub(super) expecting: BTreeSet<ConnectionKey>,
    /// The most that one of its messages took of a window.
    pub(super) window_share_max: u64,
    waiting: BTreeMap<Position, Waiting>,
    positions: BTreeMap<u64, Position>,
    unsure: u64,
    unordered: u64,
    /// How often something cast doubt on what is here.
    doubts: u64,
    next_position: Position,
}

impl Queue {
    /// Messages that wait, unsure ones among them.
    pub(super) fn all(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Messages that surely wait.
    pub(super) fn sure(&self) -> u64 {
        self.all() - self.unsure
    }

    pub(super) fn octets(&self) -> u64 {
        self.waiting.values().map(Waiting::octets).sum()
    }

    /// Octets behind the first so many messages.
    pub(super) fn octets_behind(&self, messages: u64) -> u64 {
        let skip = usize::try_from(messages).unwrap_or(usize::MAX);
        self.waiting.values().skip(skip).map(Waiting::octets).sum()
    }

    /// Whether what was handed out are the first messages.
    pub(super) const fn hands_out_in_order(&self) -> bool {
        !self.scrambled && self.unordered == 0
    }

    /// Where the messages that came in that turn stand is open. True if there are any.
    pub(super) fn doubt_order(&mut self, turn: u64) -> bool {
        let mut came = 0;
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.fresh && waiting.since == turn) {
            came += u64::from(!waiting.unordered);
            waiting.unordered = true;
        }
        self.unordered += came;
        came > 0
    }

    /// Puts a new message at the end.
    pub(super) fn append(&mut self, message: Shared, unsure: bool, turn: u64) {
        self.window_share_max = self.window_share_max.max(window_share(&message));
        let position = self.next_position;
        self.next_position += 1;
        let waiting =
            Waiting { message, redelivered: Some(false), unsure, since: turn, fresh: true, unordered: false };
        self.insert(position, waiting);
    }

    /// Puts a message where it stood.
    pub(super) fn insert(&mut self, position: Position, waiting: Waiting) {
        self.unsure += u64::from(waiting.unsure);
        self.unordered += u64::from(waiting.unordered);
        let before = self.positions.insert(waiting.message.id, position);
        assert!(before.is_none(), "a message is in a queue once");
        self.waiting.insert(position, waiting);
    }

    pub(super) fn find(&self, message: u64) -> Option<(Position, &Waiting)> {
        let position = *self.positions.get(&message)?;
        self.waiting.get(&position).map(|waiting| (position, waiting))
    }

    pub(super) fn take(&mut self, message: u64) -> Option<(Position, Waiting)> {
        let position = self.positions.remove(&message)?;
        let waiting = self.waiting.remove(&position).expect("positions are those of messages");
        self.unsure -= u64::from(waiting.unsure);
        self.unordered -= u64::from(waiting.unordered);
        Some((position, waiting))
    }

    /// Takes so many messages out behind the first `skip`, and returns how many there were.
    pub(super) fn remove(&mut self, skip: u64, count: u64) -> u64 {
        let range = |n| usize::try_from(n).unwrap_or(usize::MAX);
        let doomed: Vec<u64> =
            self.waiting.values().skip(range(skip)).take(range(count)).map(|w| w.message.id).collect();
        for message in &doomed {
            self.take(*message);
        }
        doomed.len() as u64
    }

    /// The first so many may be gone.
    pub(super) fn doubt_first(&mut self, count: u64) {
        self.doubts += 1;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for waiting in self.waiting.values_mut().take(count) {
            self.unsure += u64::from(!waiting.unsure);
            waiting.unsure = true;
        }
    }

    pub(super) const fn doubts(&self) -> u64 {
        self.doubts
    }

    pub(super) fn doubt_all(&mut self) {
        self.doubt_first(u64::MAX);
    }

    /// The message is there after all.
    pub(super) fn trust(&mut self, message: u64) {
        let waiting = self.positions.get(&message).and_then(|position| self.waiting.get_mut(position));
        if let Some(waiting) = waiting.filter(|waiting| waiting.unsure) {
            waiting.unsure = false;
            self.unsure -= 1;
        }
    }

    /// The message came back in one of the last turns.
    pub(super) fn came_back(&mut self, message: u64, turn: u64) {
        let waiting = self.positions.get(&message).and_then(|position| self.waiting.get_mut(position));
        if let Some(waiting) = waiting {
            waiting.since = turn;
        }
    }

    /// Any of the waiting messages may have been handed out and come back just now.
    pub(super) fn stir(&mut self, turn: u64) {
        self.scrambled = true;
        for waiting in self.waiting.values_mut() {
            waiting.since = turn;
            waiting.fresh = false;
        }
    }

    pub(super) fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.waiting.values_mut()
    }

    /// Whether no message stands before a position.
    pub(super) fn is_first(&self, position: Position) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| *first >= position)
    }

    /// Messages that stand before a position.
    pub(super) fn before(&self, position: Position) -> impl Iterator<Item = &Waiting> {
        self.waiting.range(..position).map(|(_, waiting)| waiting)
    }
}
