//! A queue of the model: messages by position.
//!
//! A message waits here until it is heard to go out, so messages that the broker has already
//! handed to a consumer's connection wait here too. A message may be *unsure*: it may be gone,
//! because which messages a full queue dropped can depend on how far the broker was ahead.
//! Invariant: every message is here once, at one position.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{ConnectionKey, ConsumerKey, Name, Shared, graves::Source, hidden::window_share, terms::Terms};

/// Where a message stands in its queue.
pub(super) type Position = u64;

/// The bits of a position behind those of the priority, of which the highest comes first.
const PRIORITY_SHIFT: u32 = 56;

/// Messages that are told of one by one.
const TOLD_MAX: usize = 24;

/// What happens to what does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
    /// Refused, and a dead letter.
    RejectPublishDlx,
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
    /// The turn in which it came, if nobody had it since.
    pub(super) came: u64,
    /// Where it stands among other publishers' messages is open.
    pub(super) unordered: bool,
    /// Its time is over, and a step that nobody heard of may have taken it out.
    pub(super) limbo: bool,
    /// The changes to what is bound to what until it came there.
    pub(super) limbo_changes: u64,
    /// When it came, from and to, by the monotonic clock.
    pub(super) arrived_millis: (u64, u64),
    /// How long it may be ready.
    pub(super) life_millis: Option<u64>,
    /// How often it came back, where that counts and is known.
    pub(super) returns: Option<u64>,
    /// Where it died, with what else, if it is a dead letter.
    pub(super) source: Option<Source>,
    /// The doubts that there were in the queue when it came.
    pub(super) doubts: u64,
}

impl Waiting {
    pub(super) fn octets(&self) -> u64 {
        self.message.body.len() as u64
    }

    /// Whether it may be gone, for whatever reason.
    pub(super) const fn is_open(&self) -> bool {
        self.unsure || self.limbo
    }

    /// Whether its time may be over.
    pub(super) fn may_be_over(&self, now_millis: u64) -> bool {
        self.life_millis.is_some_and(|life| self.arrived_millis.0 + life <= now_millis)
    }

    /// Whether its time is surely over.
    pub(super) fn is_over(&self, now_millis: u64) -> bool {
        self.life_millis.is_some_and(|life| self.arrived_millis.1.saturating_add(life) <= now_millis)
    }
}

/// How a message comes to a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) turn: u64,
    pub(super) unsure: bool,
    pub(super) arrived_millis: (u64, u64),
    pub(super) source: Option<Source>,
    /// Nobody knows when exactly.
    pub(super) unordered: bool,
}

/// The consumer that is given messages where there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Active {
    #[default]
    Nobody,
    Known(ConsumerKey),
    /// The one before goes in slices, so it may be any.
    Open,
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
    pub(super) terms: Terms,
    /// Who is given messages, where that is one consumer at a time.
    pub(super) active: Active,
    /// When somebody used it last, by the monotonic clock; none where that is open.
    pub(super) used_millis: Option<u64>,
    pub(super) consumers: BTreeSet<ConsumerKey>,
    /// Deleted; what its consumers were handed before may still come.
    pub(super) dead: bool,
    /// Its connection is going, and it with it, or it has gone.
    pub(super) doomed: bool,
    /// Which of the waiting messages were handed out is open.
    pub(super) scrambled: bool,
    /// Where the last dead letter came from.
    pub(super) last_source: Option<Source>,
    /// When it was last asked what follows if one of its open letters comes, and after how many
    /// changes to what is bound.
    pub(super) looked_at: Option<(u64, u64)>,
    /// The last dead letters that were published together and are in no certain order.
    pub(super) mixed_generation: Option<u64>,
    /// Messages that are there if another one died, and the changes to what is bound until they came.
    pub(super) open_letters: BTreeMap<Name, u64>,
    /// Publishers whose batches may not be here yet.
    pub(super) expecting: BTreeSet<ConnectionKey>,
    /// The most that one of its messages took of a window.
    pub(super) window_share_max: u64,
    waiting: BTreeMap<Position, Waiting>,
    positions: BTreeMap<Name, Position>,
    open: u64,
    mortal: u64,
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
        self.all() - self.open
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

    /// Whether the order of messages is open.
    pub(super) const fn is_unordered(&self) -> bool {
        self.unordered > 0
    }

    /// Whether any message has an end.
    pub(super) const fn has_mortals(&self) -> bool {
        self.mortal > 0
    }

    /// Puts a new message at the end of those of its priority.
    pub(super) fn append(&mut self, message: Shared, arrival: Arrival) {
        self.window_share_max = self.window_share_max.max(window_share(&message));
        let priority = u64::from(self.terms.priority_max.saturating_sub(message.priority()));
        let position = priority << PRIORITY_SHIFT | self.next_position;
        self.next_position += 1;
        let life_millis = self.terms.life_millis(&message);
        let waiting = Waiting {
            message,
            redelivered: Some(false),
            unsure: arrival.unsure,
            since: arrival.turn,
            fresh: true,
            came: arrival.turn,
            unordered: arrival.unordered,
            limbo: false,
            limbo_changes: 0,
            arrived_millis: arrival.arrived_millis,
            life_millis,
            returns: Some(0),
            source: arrival.source,
            doubts: self.doubts,
        };
        self.insert(position, waiting);
    }

    /// The messages of each priority in order, the highest first.
    pub(super) fn bands(&self) -> Vec<Vec<&Waiting>> {
        let mut bands: Vec<(u64, Vec<&Waiting>)> = Vec::new();
        for (position, waiting) in &self.waiting {
            let band = position >> PRIORITY_SHIFT;
            match bands.last_mut() {
                Some((last, messages)) if *last == band => messages.push(waiting),
                _ => bands.push((band, vec![waiting])),
            }
        }
        bands.into_iter().map(|(_, messages)| messages).collect()
    }

    /// Puts a message where it stood.
    pub(super) fn insert(&mut self, position: Position, waiting: Waiting) {
        self.open += u64::from(waiting.is_open());
        self.unordered += u64::from(waiting.unordered);
        self.mortal += u64::from(waiting.life_millis.is_some());
        let before = self.positions.insert(waiting.message.name(), position);
        assert!(before.is_none(), "a message is in a queue once");
        self.waiting.insert(position, waiting);
    }

    pub(super) fn find(&self, message: Name) -> Option<(Position, &Waiting)> {
        let position = *self.positions.get(&message)?;
        self.waiting.get(&position).map(|waiting| (position, waiting))
    }

    pub(super) fn take(&mut self, message: Name) -> Option<(Position, Waiting)> {
        let position = self.positions.remove(&message)?;
        let waiting = self.waiting.remove(&position).expect("positions are those of messages");
        self.open -= u64::from(waiting.is_open());
        self.unordered -= u64::from(waiting.unordered);
        self.mortal -= u64::from(waiting.life_millis.is_some());
        Some((position, waiting))
    }

    /// Takes so many messages out behind the first `skip`.
    pub(super) fn remove(&mut self, skip: u64, count: u64) -> Vec<Waiting> {
        let range = |n| usize::try_from(n).unwrap_or(usize::MAX);
        let doomed: Vec<Name> =
            self.waiting.values().skip(range(skip)).take(range(count)).map(|w| w.message.name()).collect();
        doomed.into_iter().filter_map(|message| self.take(message)).map(|(_, waiting)| waiting).collect()
    }

    /// The first so many may be gone.
    pub(super) fn doubt_first(&mut self, count: u64) {
        self.doubts += 1;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        for waiting in self.waiting.values_mut().take(count) {
            self.open += u64::from(!waiting.is_open());
            waiting.unsure = true;
        }
    }

    /// The message's time is over, and it may be gone.
    pub(super) fn put_into_limbo(&mut self, message: Name, changes: u64) {
        let waiting = self.positions.get(&message).and_then(|position| self.waiting.get_mut(position));
        let Some(waiting) = waiting.filter(|waiting| !waiting.limbo) else { return };
        self.open += u64::from(!waiting.unsure);
        (waiting.limbo, waiting.limbo_changes) = (true, changes);
    }

    /// Messages that came with others of their kind: which of them was first is open.
    pub(super) fn doubt_order_of(&mut self, which: impl Fn(&Waiting) -> bool) {
        for waiting in self.waiting.values_mut().filter(|waiting| which(waiting) && !waiting.unordered) {
            waiting.unordered = true;
            self.unordered += 1;
        }
    }

    pub(super) const fn doubts(&self) -> u64 {
        self.doubts
    }

    pub(super) fn doubt_all(&mut self) {
        self.doubt_first(u64::MAX);
    }

    /// The message is there after all.
    pub(super) fn trust(&mut self, message: Name) {
        let waiting = self.positions.get(&message).and_then(|position| self.waiting.get_mut(position));
        if let Some(waiting) = waiting.filter(|waiting| waiting.unsure) {
            waiting.unsure = false;
            self.open -= u64::from(!waiting.limbo);
        }
    }

    /// The message came back in one of the last turns.
    pub(super) fn came_back(&mut self, message: Name, turn: u64) {
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

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
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

/// What waits, for people.
impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for waiting in self.waiting.values().take(TOLD_MAX) {
            write!(f, " {}", waiting.message)?;
            if waiting.is_open() {
                f.write_str("?")?;
            }
        }
        let more = self.waiting.len().saturating_sub(TOLD_MAX);
        if more > 0 { write!(f, " and {more} more ]") } else { f.write_str(" ]") }
    }
}
