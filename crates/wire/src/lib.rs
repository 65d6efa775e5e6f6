//! AMQP 0-9-1 on the wire: frames, methods, field tables, content headers and reply codes, with
//! RabbitMQ's extensions.
//!
//! ```text
//!   0      1         3             7                  size+7 size+8
//!   +------+---------+-------------+  +------------+  +-----------+
//!   | type | channel |     size    |  |  payload   |  | frame-end |
//!   +------+---------+-------------+  +------------+  +-----------+
//!    octet    short       long         size octets        0xCE
//! ```
//!
//! Everything is decoded as slices borrowed from the caller's buffer and encoded into a buffer
//! that the caller owns. There is no I/O, no clock and no queue here, and what is decoded
//! allocates nothing, whatever sizes the peer announces.

#![forbid(unsafe_code)]

mod array;
mod error;
mod frame;
pub mod method;
mod properties;
mod publish;
mod reader;
mod reply;
mod short_str;
mod table;
mod value;
mod writer;

pub use array::{Array, ArrayBuf};
pub use error::{DecodeError, FrameError};
pub use frame::{
    FRAME_END, FRAME_HEADER_OCTETS, FRAME_MIN_OCTETS, FRAME_OVERHEAD_OCTETS, Frame, FrameKind,
    ProtocolHeader, decode_frame, decode_protocol_header, write_body_frames, write_frame, write_heartbeat,
};
pub use method::Method;
pub use properties::{ContentHeader, Properties, PropertyFlags};
pub use publish::{PublishFields, PublishRoute};
pub use reply::{ReplyCode, Scope, truncate_reply_text};
pub use short_str::ShortStr;
pub use table::{Table, TableBuf};
pub use value::{TABLE_DEPTH_MAX, Value};
