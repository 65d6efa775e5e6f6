//! What a script does, one step at a time, as it is kept in a file.
//!
//! Knows what can be asked of a broker; not how it is sent, nor what is to be answered.
//! Invariant: a script says the same to every broker, so nothing in it depends on an answer but by
//! way of a mark that stands for one.

use serde::{Deserialize, Serialize};

use super::field::Fields;

/// A whole script: its connections, and what is done on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) connections: Vec<Setup>,
    pub(super) steps: Vec<Step>,
}

/// How a connection is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) frame_max: u32,
    /// Whether the client announces that it understands `basic.cancel` from the server.
    pub(super) cancel_notify: bool,
}

/// One thing that is done on one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) connection: usize,
    pub(super) channel: u16,
    pub(super) operation: Operation,
}

/// Which delivery is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tag {
    /// That number.
    Number(u64),
    /// One of those that the channel holds unacknowledged, counted round from the oldest.
    Unacked(usize),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) properties: Vec<Property>,
    /// The body is this text, repeated until it has so many octets.
    pub(super) body: String,
    pub(super) body_octets: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Property {
    ContentType(String),
    ContentEncoding(String),
    Headers(Fields),
    DeliveryMode(u8),
    Priority(u8),
    CorrelationId(String),
    ReplyTo(String),
    Expiration(String),
    MessageId(String),
    Timestamp(u64),
    Kind(String),
    UserId(String),
    AppId(String),
    ClusterId(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Operation {
    DeclareExchange {
        exchange: String,
        kind: String,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        nowait: bool,
        arguments: Fields,
    },
    DeleteExchange {
        exchange: String,
        if_unused: bool,
        nowait: bool,
    },
    BindExchange {
        destination: String,
        source: String,
        routing_key: String,
        nowait: bool,
        arguments: Fields,
    },
    UnbindExchange {
        destination: String,
        source: String,
        routing_key: String,
        nowait: bool,
        arguments: Fields,
    },
    DeclareQueue {
        queue: String,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        nowait: bool,
        arguments: Fields,
    },
    BindQueue {
        queue: String,
        exchange: String,
        routing_key: String,
        nowait: bool,
        arguments: Fields,
    },
    UnbindQueue {
        queue: String,
        exchange: String,
        routing_key: String,
        arguments: Fields,
    },
    PurgeQueue {
        queue: String,
        nowait: bool,
    },
    DeleteQueue {
        queue: String,
        if_unused: bool,
        if_empty: bool,
        nowait: bool,
    },
    Publish(Message),
    Get {
        queue: String,
        no_ack: bool,
    },
    Consume {
        queue: String,
        consumer_tag: String,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        nowait: bool,
        arguments: Fields,
    },
    Cancel {
        consumer_tag: String,
        nowait: bool,
    },
    Qos {
        prefetch_octets: u32,
        prefetch_count: u16,
        global: bool,
    },
    Ack {
        tag: Tag,
        multiple: bool,
    },
    Nack {
        tag: Tag,
        multiple: bool,
        requeue: bool,
    },
    Reject {
        tag: Tag,
        requeue: bool,
    },
    Recover {
        requeue: bool,
    },
    RecoverAsync {
        requeue: bool,
    },
    ConfirmSelect {
        nowait: bool,
    },
    TxSelect,
    TxCommit,
    TxRollback,
    Flow {
        active: bool,
    },
    AccessRequest,
    OpenChannel,
    CloseChannel,
    CloseConnection,
    /// The socket is closed without a word.
    Vanish,
    UpdateSecret,
    /// Time passes.
    Wait {
        milliseconds: u64,
    },
    /// Octets of a method frame's payload, in hexadecimal digits.
    RawMethod {
        payload: String,
    },
    /// A frame of any type, with any octet at its end.
    RawFrame {
        kind: u8,
        payload: String,
        end: u8,
    },
    /// The start of a publish, and a header frame of these octets.
    RawHeader {
        payload: String,
    },
    /// A publish that announces so many octets and sends those.
    ShortBody {
        announced: u64,
        pieces: Vec<usize>,
    },
    /// A connection of its own that logs in like that, and then goes.
    LogIn(LogIn),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LogIn {
    pub(super) header: String,
    pub(super) mechanism: String,
    pub(super) response: String,
    pub(super) failure_close: bool,
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) virtual_host: String,
    /// Channels that are opened then.
    pub(super) channels: Vec<u16>,
}

impl Operation {
    /// The name by which it is counted.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::DeclareExchange { passive: false, .. } => "exchange.declare",
            Self::DeclareExchange { passive: true, .. } => "exchange.declare passive",
            Self::DeleteExchange { .. } => "exchange.delete",
            Self::BindExchange { .. } => "exchange.bind",
            Self::UnbindExchange { .. } => "exchange.unbind",
            Self::DeclareQueue { passive: false, .. } => "queue.declare",
            Self::DeclareQueue { passive: true, .. } => "queue.declare passive",
            Self::BindQueue { .. } => "queue.bind",
            Self::UnbindQueue { .. } => "queue.unbind",
            Self::PurgeQueue { .. } => "queue.purge",
            Self::DeleteQueue { .. } => "queue.delete",
            Self::Publish(_) => "basic.publish",
            Self::Get { .. } => "basic.get",
            Self::Consume { .. } => "basic.consume",
            Self::Cancel { .. } => "basic.cancel",
            Self::Qos { .. } => "basic.qos",
            Self::Ack { .. } => "basic.ack",
            Self::Nack { .. } => "basic.nack",
            Self::Reject { .. } => "basic.reject",
            Self::Recover { .. } => "basic.recover",
            Self::RecoverAsync { .. } => "basic.recover-async",
            Self::ConfirmSelect { .. } => "confirm.select",
            Self::TxSelect => "tx.select",
            Self::TxCommit => "tx.commit",
            Self::TxRollback => "tx.rollback",
            Self::Flow { .. } => "channel.flow",
            Self::AccessRequest => "access.request",
            Self::OpenChannel => "channel.open",
            Self::CloseChannel => "channel.close",
            Self::CloseConnection => "connection.close",
            Self::Vanish => "socket closed",
            Self::UpdateSecret => "connection.update-secret",
            Self::Wait { .. } => "time passes",
            Self::RawMethod { .. } => "broken method",
            Self::RawFrame { .. } => "broken frame",
            Self::RawHeader { .. } => "broken header",
            Self::ShortBody { .. } => "broken body",
            Self::LogIn(_) => "log in",
        }
    }
}
