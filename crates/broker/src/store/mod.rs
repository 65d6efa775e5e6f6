//! Messages at rest: the log they are appended to once, whatever the number of their queues.
//!
//! Knows octets and references; never what an exchange, a queue or a consumer is.

mod chunk;
pub mod log;
mod memory;
pub mod record;

pub use chunk::Chunk;
pub use log::{LastChunk, LogBatch, MessageLog, OpenChunk};
pub use record::Record;
