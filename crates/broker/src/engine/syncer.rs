//! The syncer: brings the journal to the disk, and wakes those who wait for that.
//!
//! Driven by a thread that may wait for the disk. One sync serves all that was appended before it
//! began. Invariant: nobody is woken for what is not synced.

use std::{io, sync::Arc};

use super::{Engine, durability::Durability};
use crate::store::journal::JournalWriter;

pub use super::durability::SyncBell;

/// Writes and syncs the journal of an engine.
pub struct Syncer {
    durability: Arc<Durability>,
    writer: JournalWriter,
}

impl Syncer {
    /// The syncer of an engine that keeps something, which tells it by `bell`. There is to be one.
    #[must_use]
    pub fn new(engine: &Engine, bell: Box<dyn SyncBell>) -> Option<Self> {
        let durability = Arc::clone(engine.durability.as_ref()?);
        durability.set_bell(bell);
        let writer = JournalWriter::new(Arc::clone(&durability.disk), engine.first_segment);
        Some(Self { durability, writer })
    }

    /// Begins a further segment of the journal after so many octets.
    #[must_use]
    pub fn with_segments_of(self, octets: u64) -> Self {
        Self { writer: self.writer.with_segments_of(octets), ..self }
    }

    /// Writes and syncs what was appended. True when somebody waits for more, who would not ring.
    /// May wait for the disk.
    ///
    /// # Errors
    /// What the disk says. Nothing is lost: call again, after a while.
    pub fn advance(&mut self) -> io::Result<bool> {
        let written = self.writer.write(&self.durability.journal, |segment| self.durability.closed(segment));
        let more = self.durability.wake_synced();
        written.map(|()| more)
    }

    /// Writes and syncs what is left, and ends the segment, when the engine stops.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(&mut self) -> io::Result<()> {
        self.advance()?;
        self.writer.close_segment(|segment| self.durability.closed(segment));
        Ok(())
    }
}

impl std::fmt::Debug for Syncer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncer").finish_non_exhaustive()
    }
}
