//! What a queue was told about its messages: limits, lives, order.

/// What happens to a message that does not fit (`x-overflow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest ready messages leave the queue.
    #[default]
    DropHead,
    /// The new message is refused, and a publisher that asked for confirms gets a nack.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    pub(super) const fn rejects(self) -> bool {
        matches!(self, Self::RejectPublish | Self::RejectPublishDlx)
    }
}

/// How a queue treats its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueSettings {
    /// `x-max-length`, in ready messages.
    pub messages_max: Option<u64>,
    /// `x-max-length-bytes`, in octets of the ready bodies.
    pub octets_max: Option<u64>,
    /// `x-overflow`.
    pub overflow: Overflow,
    /// `x-message-ttl`: how long a message may be ready.
    pub message_ttl_millis: Option<u64>,
    /// `x-expires`: how long the queue may be unused.
    pub expires_millis: Option<u64>,
    /// `x-max-priority`.
    pub priority_max: u8,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// How often a message may come back before it leaves the queue; `None` does not count.
    pub returns_max: Option<u32>,
    /// Whether how often a message came back is counted, as quorum queues do.
    pub counts_returns: bool,
    /// Whether what a consumer returns goes behind all other messages: in RabbitMQ's quorum queues
    /// that were given no limit of returns.
    pub returns_last: bool,
    /// Whether messages that leave the queue unconsumed go anywhere.
    pub dead_letters: bool,
    /// Whether it is told what enters and what leaves the queue, because that is to last.
    pub is_durable: bool,
}

impl QueueSettings {
    pub(super) const fn is_limited(&self) -> bool {
        self.messages_max.is_some() || self.octets_max.is_some()
    }
}
