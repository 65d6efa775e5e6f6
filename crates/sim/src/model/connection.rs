//! What the model keeps with a connection and a channel.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use super::{
    ChannelKey, ConsumerKey, Destinations, QueueKey, Shared,
    graves::Letter,
    queue::{Position, Waiting},
    teardown::Going,
    turn::Deferred,
};

/// What a client says it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// It wants to be told why a login failed.
    pub authentication_failure_close: bool,
    /// It is told when its consumer's queue is gone.
    pub consumer_cancel_notify: bool,
    /// It is told when it is blocked.
    pub connection_blocked: bool,
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first eight octets are awaited.
    Header,
    /// Credentials are awaited.
    StartOk,
    /// Limits are awaited.
    TuneOk,
    /// The name of a virtual host is awaited.
    Open,
    /// Channels may be opened.
    Running,
    /// The broker closed it and awaits a confirmation until then.
    Closing {
        /// By the monotonic clock.
        until_millis: u64,
    },
    /// It is kept in silence until then.
    Silent {
        /// By the monotonic clock.
        until_millis: u64,
    },
    /// Nothing more is taken; what was said may still go out.
    Ended,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) capabilities: Capabilities,
    pub(super) frame_octets_max: u32,
    pub(super) channel_max: u16,
    pub(super) heartbeat_seconds: u16,
    pub(super) since_millis: u64,
    pub(super) heard_millis: u64,
    pub(super) said_millis: u64,
    pub(super) blocked: bool,
    /// It may be closed for the contents and transactions under way that it holds.
    pub(super) holds_too_much: bool,
    /// An answer that may come in a later turn.
    pub(super) deferred: Option<Deferred>,
    /// What it had is taken down in the turns to come.
    pub(super) going: bool,
    /// The part of that which was begun.
    pub(super) in_slices: Going,
    /// The last turn after which nothing was left in its inbox.
    pub(super) drained_turn: u64,
    /// When that was.
    pub(super) drained_millis: u64,
    /// What its work buried and it has to publish anew in its next turn.
    pub(super) letters: Vec<Letter>,
    /// Mandatory messages that have to come back, by channel.
    pub(super) returns: VecDeque<(u16, Shared)>,
}

impl Connection {
    pub(super) fn new(now_millis: u64) -> Self {
        Self {
            phase: Phase::Header,
            capabilities: Capabilities {
                authentication_failure_close: false,
                consumer_cancel_notify: false,
                connection_blocked: false,
            },
            frame_octets_max: 131_072,
            channel_max: 0,
            heartbeat_seconds: 0,
            since_millis: now_millis,
            heard_millis: now_millis,
            said_millis: now_millis,
            blocked: false,
            holds_too_much: false,
            deferred: None,
            going: false,
            in_slices: Going::default(),
            drained_turn: 0,
            drained_millis: 0,
            letters: Vec::new(),
            returns: VecDeque::new(),
        }
    }
}

/// Who was given a delivery, or several of them: what comes back from one comes back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Taker {
    channel: ChannelKey,
    /// None for one that fetches.
    consumer: Option<ConsumerKey>,
}

/// A delivery that is not acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) channel: ChannelKey,
    pub(super) queue: QueueKey,
    pub(super) position: Position,
    /// As it waited.
    pub(super) waiting: Waiting,
    /// None for one that was fetched.
    pub(super) consumer: Option<ConsumerKey>,
    /// Whether it surely counts in the channel's shared limit.
    pub(super) counts_in_limit: bool,
}

impl Held {
    pub(super) const fn taker(&self) -> Taker {
        Taker { channel: self.channel, consumer: self.consumer }
    }
}

/// A publish that awaits its confirm.
#[derive(Debug, Clone)]
pub(super) struct Unconfirmed {
    pub(super) message: Shared,
    /// What it has to be, where that is known.
    pub(super) taken: Option<bool>,
    /// Queues that may have refused it.
    pub(super) unsure: Vec<MayHave>,
}

/// A queue that may have taken a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct MayHave {
    pub(super) queue: QueueKey,
    /// The doubts that there were about its messages then.
    pub(super) doubts: u64,
}

/// What is held back by a transaction.
#[derive(Debug, Clone)]
pub(super) struct HeldPublish {
    pub(super) message: Shared,
    pub(super) mandatory: bool,
    /// Where it went when it was published.
    pub(super) destinations: Destinations,
}

/// Acknowledgements of a transaction: the deliveries that they name, and what is said of them.
#[derive(Debug, Clone)]
pub(super) struct HeldSettle {
    pub(super) tags: Vec<u64>,
    pub(super) outcome: super::settle::Outcome,
}

/// How publishes and acknowledgements are answered.
#[derive(Debug, Default)]
pub(super) enum Mode {
    #[default]
    Plain,
    Confirm {
        last: u64,
        open: BTreeMap<u64, Unconfirmed>,
    },
    Transaction {
        publishes: Vec<HeldPublish>,
        settles: Vec<HeldSettle>,
    },
}

/// `basic.qos` for the whole channel.
#[derive(Debug, Default)]
pub(super) struct SharedLimit {
    /// None is no limit.
    pub(super) current: Option<u64>,
    /// The highest limit that deliveries under way may have been handed out by.
    pub(super) ceiling: Option<u64>,
    /// Whether there ever was one.
    pub(super) was_set: bool,
    /// Deliveries that surely count in it.
    pub(super) held: u64,
    /// Places that fetched messages took when it was set, which come back when it is lifted.
    pub(super) lost: u64,
    /// The turn since which it is surely used up.
    pub(super) full_since: Option<u64>,
}

impl SharedLimit {
    /// Deliveries or the limit changed.
    pub(super) fn look(&mut self, turn: u64) {
        let is_full = self.ceiling.is_some_and(|ceiling| self.held >= ceiling);
        self.full_since = if is_full { self.full_since.or(Some(turn)) } else { None };
    }
}

/// A publish whose content is under way.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) exchange: Vec<u8>,
    pub(super) routing_key: Vec<u8>,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) property_octets: Option<Vec<u8>>,
    pub(super) body_octets: u64,
    pub(super) body: Vec<u8>,
}

/// Octets at most that a message under way costs beside its body and properties.
const HELD_OCTETS_MAX: usize = 256;

/// A channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// The broker closed it and ignores what comes until the client confirms.
    pub(super) closing: bool,
    pub(super) mode: Mode,
    pub(super) consumers: BTreeMap<Vec<u8>, ConsumerKey>,
    pub(super) unacked: BTreeMap<u64, Held>,
    pub(super) last_tag: u64,
    pub(super) last_queue: Option<String>,
    pub(super) prefetch: u16,
    pub(super) shared_limit: SharedLimit,
    pub(super) begun: Option<Begun>,
}

impl Channel {
    /// Deliveries that a transaction has settled, when it is committed.
    pub(super) fn is_held_back(&self, tag: u64) -> bool {
        match &self.mode {
            Mode::Transaction { settles, .. } => settles.iter().any(|settle| settle.tags.contains(&tag)),
            _ => false,
        }
    }

    /// Octets at most that contents and transactions under way cost the broker.
    pub(super) fn octets_under_way_max(&self) -> u64 {
        // A body that grows may have twice the room that it needs.
        let begun = self.begun.as_ref().map_or(0, |begun| 2 * begun.body.len() + HELD_OCTETS_MAX);
        let held = |held: &HeldPublish| {
            held.message.body.len()
                + held.message.property_octets.len()
                + held.message.hidden_octets
                + HELD_OCTETS_MAX
        };
        let transacted = match &self.mode {
            Mode::Transaction { publishes, .. } => publishes.iter().map(held).sum(),
            _ => 0,
        };
        (begun + transacted) as u64
    }

    /// Messages that are held for this channel outside of queues.
    pub(super) fn messages_held(&self) -> usize {
        let transacted = match &self.mode {
            Mode::Transaction { publishes, .. } => publishes.len(),
            _ => 0,
        };
        self.unacked.len() + transacted + usize::from(self.begun.is_some())
    }
}

/// Where a message goes, and what came of it there.
#[derive(Debug, Default)]
pub(super) struct Landing {
    pub(super) queues: Destinations,
    pub(super) refused: bool,
    pub(super) unsure: Vec<MayHave>,
}

impl Landing {
    pub(super) fn unconfirmed(&self, message: &Shared) -> Unconfirmed {
        let taken = match (self.refused, self.unsure.is_empty()) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        };
        Unconfirmed { message: Rc::clone(message), taken, unsure: self.unsure.clone() }
    }
}
