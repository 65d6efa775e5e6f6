//! How often each thing happened, so that a run can be seen to have tried what it is to try.

use std::fmt;

use crate::model::Reason;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Something that happens in a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $name),* }

        impl Event {
            /// Every event.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What it is called in a report.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

counts! {
    /// A client sent a message.
    Publish = "publishes",
    /// A message went to a queue; once for each queue.
    Routed = "routed to a queue",
    /// A message went to no queue.
    Unrouted = "unrouted",
    /// A mandatory message came back.
    Return = "returns",
    /// A message was refused by a full queue.
    RefusedPublish = "refused publishes",
    /// A message was dropped from the head of a full queue.
    DroppedHead = "dropped from the head",
    /// A publish was confirmed.
    Confirm = "confirms",
    /// A publish was refused by `basic.nack`.
    Nack = "nacks",
    /// A message was delivered to a consumer.
    Delivery = "deliveries",
    /// A delivery with the redelivered flag.
    Redelivery = "redeliveries",
    /// A message was fetched.
    Get = "gets",
    /// A queue that was asked had nothing ready.
    GetEmpty = "gets of nothing",
    /// A delivery was acknowledged.
    Ack = "acknowledgements",
    /// A delivery went back to its queue.
    Requeue = "requeues",
    /// A consumer was started.
    Consume = "consumers started",
    /// A consumer was cancelled by its client.
    Cancel = "consumers cancelled",
    /// A client was told that its consumer's queue is gone.
    CancelNotified = "cancels notified",
    /// A consumer lost its queue and its client had not asked to be told.
    CancelUnnotified = "cancels not notified",
    /// A queue was purged.
    Purge = "purges",
    /// A queue was deleted by a client.
    QueueDelete = "queues deleted",
    /// An exclusive queue went with its connection.
    ExclusiveCleanUp = "exclusive queues cleaned up",
    /// A queue went with its last consumer.
    QueueAutoDelete = "queues auto-deleted",
    /// An exchange went with its last binding.
    ExchangeAutoDelete = "exchanges auto-deleted",
    /// A channel was closed by its client.
    ChannelClose = "channels closed",
    /// A channel was closed for an error.
    ChannelError = "channels closed by error",
    /// A connection was closed by its client.
    ConnectionClose = "connections closed",
    /// A connection was closed for an error.
    ConnectionError = "connections closed by error",
    /// A connection was closed because the broker stops.
    ConnectionForced = "connections forced to close",
    /// A peer that did not keep to the handshake was dropped.
    HandshakeDrop = "dropped in the handshake",
    /// A socket was cut.
    Disconnect = "disconnects",
    /// A socket was cut inside a frame.
    DisconnectInMidFrame = "disconnects in mid-frame",
    /// A connection went because nothing was heard of it.
    HeartbeatDeath = "heartbeat deaths",
    /// A heartbeat of the broker's.
    Heartbeat = "heartbeats",
    /// The memory alarm was raised.
    Alarm = "memory alarms",
    /// A publisher was told that it is blocked.
    Blocked = "blocked",
    /// A publisher was told that it is unblocked.
    Unblocked = "unblocked",
    /// A connection was closed because it held too much while memory was low.
    OutOfMemory = "closed for holding too much",
    /// A transaction was committed.
    TxCommit = "tx commits",
    /// A transaction was rolled back.
    TxRollback = "tx rollbacks",
    /// A turn that left work for another one.
    SlicedTurn = "turns with more to do",
    /// A publisher that outran its consumers was read later.
    PausedRead = "paused reads",
    /// A peer did not read, and its output was full.
    FullOutput = "full outputs",
    /// A message's time was over.
    Expired = "expired",
    /// A dead letter of a message that a consumer refused.
    DeadLetterRejected = "dead letters: rejected",
    /// A dead letter of a message whose time was over.
    DeadLetterExpired = "dead letters: expired",
    /// A dead letter of a message that did not fit.
    DeadLetterMaxLength = "dead letters: maxlen",
    /// A dead letter of a message that came back too often.
    DeadLetterDeliveryLimit = "dead letters: delivery limit",
    /// A dead letter did not go to a queue that it came through.
    Cycle = "dead-letter cycles ended",
    /// A delivery said how often it had come back.
    CountedDelivery = "deliveries with a count",
    /// A queue went that nobody used.
    QueueExpired = "queues expired",
    /// Another consumer became the active one.
    Succession = "successions",
    /// The housekeeper had a turn.
    HouseTurn = "turns of the housekeeper",
    /// A turn of the housekeeper that came later than it was asked for.
    LateHouseTurn = "late turns of the housekeeper",
    /// Messages were sent round the consumers that come first.
    RoundOfSome = "rounds of the first consumers",
    /// Messages were sent round all consumers of a queue.
    Round = "rounds of consumers",
    /// All went quiet and everything was compared.
    Quiet = "quiet moments compared",
}

impl Event {
    /// A dead letter, by why the message died.
    pub(crate) const fn dead_letter(reason: Reason) -> Self {
        match reason {
            Reason::Rejected => Self::DeadLetterRejected,
            Reason::Expired => Self::DeadLetterExpired,
            Reason::MaxLength => Self::DeadLetterMaxLength,
            Reason::DeliveryLimit => Self::DeadLetterDeliveryLimit,
        }
    }
}

/// How often each event happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts([u64; Event::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Event::ALL.len()])
    }
}

impl Counts {
    /// It happened once more.
    pub const fn note(&mut self, event: Event) {
        self.0[event as usize] += 1;
    }

    /// How often it happened.
    #[must_use]
    pub const fn of(&self, event: Event) -> u64 {
        self.0[event as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    /// Events that never happened.
    pub fn missing(&self) -> impl Iterator<Item = Event> {
        Event::ALL.iter().copied().filter(|event| self.of(*event) == 0)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in Event::ALL {
            writeln!(f, "{:>10}  {}", self.of(*event), event.text())?;
        }
        Ok(())
    }
}
