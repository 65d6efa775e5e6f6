//! What can be wrong with octets from a peer. Which reply code follows is for the session to say.

use thiserror::Error;

/// A frame whose envelope is wrong; the stream cannot be followed beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The type octet is none of method, header, body and heartbeat.
    #[error("unknown frame type {kind}")]
    UnknownKind {
        /// The type octet.
        kind: u8,
    },
    /// The payload is larger than the negotiated maximum.
    #[error("frame of type {kind} announces a payload of {size} octets, the maximum is {size_max}")]
    TooLarge {
        /// The type octet.
        kind: u8,
        /// Octets of payload announced.
        size: u32,
        /// Octets of payload allowed.
        size_max: u32,
    },
    /// The octet behind the payload is not 0xCE.
    #[error("frame of type {kind} ends with octet {end}")]
    BadEnd {
        /// The type octet.
        kind: u8,
        /// The octet found in place of 0xCE.
        end: u8,
    },
}

/// A payload that does not hold what its frame promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The payload ends before its last field, or a length inside it points beyond its end.
    #[error("the payload ends inside a field")]
    Truncated,
    /// Octets are left behind the last field.
    #[error("{0} octets are left behind the last field")]
    TrailingOctets(usize),
    /// No such class and method.
    #[error("unknown method {class_id}/{method_id}")]
    UnknownMethod {
        /// The class id.
        class_id: u16,
        /// The method id.
        method_id: u16,
    },
    /// A field value of a type that RabbitMQ does not know either.
    #[error("unknown field type {0}")]
    UnknownFieldType(u8),
    /// Tables and arrays nested deeper than [`crate::TABLE_DEPTH_MAX`].
    #[error("tables are nested too deep")]
    TooDeep,
    /// A content header whose weight, which nothing uses, is not 0.
    #[error("the content header has the weight {0}")]
    ContentWeight(u16),
    /// A short string of a method that is not UTF-8.
    #[error("a short string is not UTF-8")]
    MalformedUtf8,
}
