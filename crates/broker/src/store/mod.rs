//! Messages at rest: the log they are appended to once, whatever the number of their queues, and the
//! pages that those of long queues are put on.
//!
//! Knows octets and references; never what an exchange, a queue or a consumer is.

mod chunk;
pub mod disk;
#[cfg(test)]
pub(crate) mod disk_tests;
pub mod journal;
pub mod kept;
pub mod log;
mod memory;
pub mod page;
pub mod pages;
pub mod ranges;
pub mod record;
pub mod recovery;
pub mod retire;
pub mod returns;
pub mod snapshot;

pub use chunk::Chunk;
pub use disk::{Disk, DiskFile};
pub use log::{LastChunk, LogBatch, MessageLog, OpenChunk};
pub use page::{PageDamage, PageEntry, PageWriter, Written};
pub use pages::{PageFiles, SpillWriter};
pub use record::Record;
