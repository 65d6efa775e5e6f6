//! Messages at rest: the log they are appended to once, whatever the number of their queues.
//!
//! Knows octets and references; never what an exchange, a queue or a consumer is.

pub mod log;
pub mod record;

pub use log::{Chunk, LastChunk, LogBatch, MessageLog, OpenChunk};
pub use record::Record;
