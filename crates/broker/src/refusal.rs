//! Why something that a client asked for is not done: one variant a reason, the reply code and
//! RabbitMQ's text for each in one place.
//!
//! Whether the channel or the connection closes follows from the code, see
//! [`leveret_wire::ReplyCode::scope`].

use leveret_wire::ReplyCode;
use thiserror::Error;

/// A request refused. The text is RabbitMQ's, without the code's name before it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum Refusal {
    #[error("no queue '{queue}' in vhost '{vhost}'")]
    NoQueue { queue: String, vhost: String },
    #[error("no exchange '{exchange}' in vhost '{vhost}'")]
    NoExchange { exchange: String, vhost: String },
    #[error("no previously declared queue")]
    NoPreviousQueue,
    #[error(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
         declared on another connection or the exclusive property value does not match that of the original \
         declaration."
    )]
    LockedQueue { queue: String, vhost: String },
    #[error(
        "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not supported \
         by quorum queues with single active consumer"
    )]
    SingleActiveGet { queue: String, vhost: String },
    #[error("{kind} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName { kind: &'static str, name: String },
    #[error("access to {object} '{name}' in vhost '{vhost}' refused for user '{user}'")]
    AccessRefused { object: &'static str, name: String, vhost: String, user: String },
    #[error("access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'")]
    TopicRefused { key: String, exchange: String, vhost: String, user: String },
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached")]
    TooManyQueues { queue: String, vhost: String, limit: u64 },
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    #[error("deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed")]
    SystemExchange { exchange: String, vhost: String },
    #[error("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'")]
    InternalExchange { exchange: String, vhost: String },
    #[error("{0}")]
    UnknownExchangeType(String),
    #[error("inequivalent arg '{argument}' for {object} '{name}' in vhost '{vhost}': {difference}")]
    Inequivalent { argument: String, object: &'static str, name: String, vhost: String, difference: String },
    #[error("invalid arg '{argument}' for {object} '{name}' in vhost '{vhost}': {reason}")]
    InvalidArgument { argument: String, object: &'static str, name: String, vhost: String, reason: String },
    #[error("invalid type '{type_name}' for arg '{argument}' in {object} '{name}' in vhost '{vhost}'")]
    ArgumentType {
        argument: String,
        type_name: &'static str,
        object: &'static str,
        name: String,
        vhost: String,
    },
    #[error("invalid arg '{argument}' for queue '{queue}' in vhost '{vhost}' of queue type {queue_type}")]
    ArgumentOfOtherType { argument: &'static str, queue: String, vhost: String, queue_type: &'static str },
    #[error("Exceeded max value for {argument}")]
    ArgumentTooLarge { argument: &'static str },
    #[error("invalid property '{property}' for queue '{queue}' in vhost '{vhost}'")]
    InvalidProperty { property: &'static str, queue: String, vhost: String },
    #[error("Cannot declare a server-named queue for type {queue_type}")]
    ServerNamed { queue_type: &'static str },
    #[error("consumer prefetch count is not set for 'queue '{queue}' in vhost '{vhost}''")]
    NoPrefetch { queue: String, vhost: String },
    #[error("{0}")]
    InvalidHeadersMatch(String),
    #[error("{0}")]
    InvalidBinding(String),
    #[error("{0}")]
    InvalidExchangeArgument(String),
    #[error("{object} '{name}' in vhost '{vhost}' in use")]
    InUse { object: &'static str, name: String, vhost: String },
    #[error("queue '{queue}' in vhost '{vhost}' not empty")]
    NotEmpty { queue: String, vhost: String },
    #[error("queue '{queue}' in vhost '{vhost}' in exclusive use")]
    ExclusiveUse { queue: String, vhost: String },
    #[error("attempt to reuse consumer tag '{0}'")]
    ConsumerTagReused(String),
    #[error(
        "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_millis} ms. This \
         timeout value can be configured, see consumers doc guide to learn more"
    )]
    AckTimeout { channel: u16, timeout_millis: u64 },
    #[error("{0}")]
    ReplyConsumer(&'static str),
    #[error("unknown delivery tag {0}")]
    UnknownDeliveryTag(u64),
    #[error("cannot switch from tx to confirm mode")]
    ConfirmOnTransaction,
    #[error("cannot switch from confirm to tx mode")]
    TransactionOnConfirm,
    #[error("partial tx completion")]
    PartialTransaction,
    #[error("channel is not transactional")]
    NotTransactional,
    #[error("message size {octets} is larger than configured max size {octets_max}")]
    MessageTooLarge { octets: u64, octets_max: u64 },
    #[error("user_id property set to '{claimed}' but authenticated user was '{user}'")]
    WrongUserId { claimed: String, user: String },
    #[error("invalid expiration '{expiration}': {reason}")]
    InvalidExpiration { expiration: String, reason: String },
    #[error("invalid message: {0}")]
    InvalidMessage(String),
    #[error("{0}")]
    NotImplemented(String),
    #[error("vhost {0} not found")]
    NoVhost(String),
    #[error("access to vhost '{vhost}' refused for user '{user}'")]
    VhostRefused { vhost: String, user: String },
    #[error("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached")]
    TooManyVhostConnections { vhost: String, user: String, limit: u64 },
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    TooManyUserConnections { user: String, limit: u64 },
    #[error(
        "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
    )]
    TooManyUserChannels { user: String, limit: u64 },
    #[error(
        "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
    )]
    LoginRefused { mechanism: String },
    #[error("number of channels opened ({open}) has reached the negotiated channel_max ({channel_max})")]
    TooManyChannels { open: usize, channel_max: u16 },
    #[error("expected 'channel.open'")]
    ChannelNotOpen,
    #[error("second 'channel.open' seen")]
    ChannelOpenedTwice,
    #[error("unexpected method in connection state running")]
    UnexpectedMethod,
    #[error("unimplemented method")]
    UnimplementedMethod,
    #[error("{0}")]
    UnexpectedFrame(String),
    #[error("{0}")]
    FrameError(String),
    #[error("")]
    BrokenContent,
    #[error("contents and transactions under way hold {held} octets while memory is low")]
    OutOfMemory { held: u64 },
    #[error("{0}")]
    ConnectionForced(String),
}

impl Refusal {
    /// A name or another short string that is not UTF-8.
    #[must_use]
    pub fn malformed_text() -> Self {
        Self::FrameError("Malformed UTF-8 in shortstr".to_owned())
    }

    /// The reply code.
    #[must_use]
    pub const fn code(&self) -> ReplyCode {
        match self {
            Self::NoQueue { .. } | Self::NoExchange { .. } | Self::NoPreviousQueue => ReplyCode::NotFound,
            Self::LockedQueue { .. } | Self::SingleActiveGet { .. } => ReplyCode::ResourceLocked,
            Self::ReservedName { .. }
            | Self::AccessRefused { .. }
            | Self::TopicRefused { .. }
            | Self::DefaultExchange
            | Self::SystemExchange { .. }
            | Self::InternalExchange { .. }
            | Self::ExclusiveUse { .. }
            | Self::LoginRefused { .. } => ReplyCode::AccessRefused,
            Self::UnknownExchangeType(_) | Self::UnimplementedMethod => ReplyCode::CommandInvalid,
            Self::Inequivalent { .. }
            | Self::InvalidArgument { .. }
            | Self::ArgumentType { .. }
            | Self::ArgumentOfOtherType { .. }
            | Self::ArgumentTooLarge { .. }
            | Self::InvalidProperty { .. }
            | Self::TooManyQueues { .. }
            | Self::ServerNamed { .. }
            | Self::ReplyConsumer(_)
            | Self::AckTimeout { .. }
            | Self::NoPrefetch { .. }
            | Self::InvalidHeadersMatch(_)
            | Self::InvalidBinding(_)
            | Self::InvalidExchangeArgument(_)
            | Self::InUse { .. }
            | Self::NotEmpty { .. }
            | Self::UnknownDeliveryTag(_)
            | Self::ConfirmOnTransaction
            | Self::TransactionOnConfirm
            | Self::NotTransactional
            | Self::PartialTransaction
            | Self::MessageTooLarge { .. }
            | Self::WrongUserId { .. }
            | Self::InvalidMessage(_)
            | Self::InvalidExpiration { .. } => ReplyCode::PreconditionFailed,
            Self::ConsumerTagReused(_)
            | Self::NoVhost(_)
            | Self::VhostRefused { .. }
            | Self::TooManyVhostConnections { .. }
            | Self::TooManyUserConnections { .. }
            | Self::TooManyUserChannels { .. }
            | Self::TooManyChannels { .. } => ReplyCode::NotAllowed,
            Self::NotImplemented(_) => ReplyCode::NotImplemented,
            Self::ChannelNotOpen | Self::ChannelOpenedTwice | Self::UnexpectedMethod => {
                ReplyCode::ChannelError
            }
            Self::UnexpectedFrame(_) => ReplyCode::UnexpectedFrame,
            Self::FrameError(_) => ReplyCode::FrameError,
            Self::BrokenContent => ReplyCode::InternalError,
            Self::OutOfMemory { .. } => ReplyCode::ResourceError,
            Self::ConnectionForced(_) => ReplyCode::ConnectionForced,
        }
    }

    /// The reply text as it goes out, at most 255 octets.
    #[must_use]
    pub fn reply_text(&self) -> String {
        match self {
            Self::BrokenContent => self.code().name().to_owned(),
            _ => self.code().reply_text(&self.to_string()),
        }
    }
}
