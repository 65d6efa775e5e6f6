//! The message log: chunks of records, a reference count for each chunk.
//!
//! A read batch is appended as one chunk that never changes afterwards, so readers need no lock
//! beyond finding it. Invariant: a chunk's count is the number of locations that queues,
//! deliveries and transactions hold into it; at zero the chunk is gone and its slot is free.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;
use slab::Slab;

use crate::{Location, store::Record};

/// Octets that a chunk costs beside its records: slot, counts, allocation.
const CHUNK_OVERHEAD_OCTETS: u64 = 96;
/// Octets that a reference costs: its place in a queue or among the unacknowledged.
const REFERENCE_OCTETS: u64 = 16;
/// A chunk with fewer than one in this many of its references left counts as sparse.
const SPARSE_DIVISOR: u64 = 4;

/// Records that arrived together.
#[derive(Debug)]
pub struct Chunk {
    octets: Vec<u8>,
    references: AtomicU64,
    references_at_first: u64,
}

impl Chunk {
    /// The record at that location, which must be in this chunk.
    #[must_use]
    #[inline]
    pub fn record(&self, location: Location) -> Record<'_> {
        Record::at(&self.octets, location.offset())
    }

    /// The octets between two offsets.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> &[u8] {
        &self.octets[start..end]
    }

    /// Where in the chunk `part`, a slice of it, begins.
    #[must_use]
    pub fn offset_of(&self, part: &[u8]) -> usize {
        part.as_ptr() as usize - self.octets.as_ptr() as usize
    }

    /// Whether so little of it is alive that it is worth moving out.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.references.load(Ordering::Relaxed) * SPARSE_DIVISOR < self.references_at_first
    }

    fn cost_octets(&self) -> u64 {
        self.octets.capacity() as u64 + CHUNK_OVERHEAD_OCTETS
    }
}

/// Messages of one read batch before they are a chunk. Its allocation is the chunk's.
#[derive(Debug, Default)]
pub struct LogBatch {
    octets: Vec<u8>,
    slot: Option<usize>,
}

/// All messages of a broker.
#[derive(Debug, Default)]
pub struct MessageLog {
    chunks: RwLock<Slab<Option<Arc<Chunk>>>>,
    octets: AtomicU64,
    sparse_octets: AtomicU64,
}

impl MessageLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets that messages and references cost now.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Octets of chunks that few references still hold.
    #[must_use]
    pub fn sparse_octets(&self) -> u64 {
        self.sparse_octets.load(Ordering::Relaxed)
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.chunks.read().len()
    }

    /// Appends a message to the batch; `octets_hint` is how much more the batch may hold, which
    /// is what the reader has left of its input.
    #[inline]
    pub fn append(
        &self,
        batch: &mut LogBatch,
        octets_hint: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Location {
        let slot = match batch.slot {
            Some(slot) => slot,
            None => {
                batch.octets.reserve_exact(octets_hint.min(Location::CHUNK_OCTETS_MAX));
                *batch.slot.insert(self.chunks.write().insert(None))
            }
        };
        let offset = batch.octets.len();
        write(&mut batch.octets);
        Location::new(slot, offset)
    }

    /// Makes the batch a chunk that is read by its locations, `references` of which were handed
    /// out. The batch is empty afterwards.
    pub fn seal(&self, batch: &mut LogBatch, references: u64) {
        let Some(slot) = batch.slot.take() else { return };
        let mut octets = std::mem::take(&mut batch.octets);
        if references == 0 {
            self.chunks.write().remove(slot);
            return;
        }
        if octets.capacity() - octets.len() > octets.len() / 4 {
            octets.shrink_to_fit();
        }
        let chunk = Chunk { octets, references: references.into(), references_at_first: references };
        self.octets.fetch_add(chunk.cost_octets() + references * REFERENCE_OCTETS, Ordering::Relaxed);
        self.chunks.write()[slot] = Some(Arc::new(chunk));
    }

    /// Octets in the batch so far.
    #[must_use]
    pub fn batch_octets(batch: &LogBatch) -> usize {
        batch.octets.len()
    }

    /// The chunk that holds the location.
    ///
    /// # Panics
    /// When nobody holds a reference into it any more, which only our own bug could cause.
    #[must_use]
    pub fn chunk(&self, location: Location) -> Arc<Chunk> {
        let chunks = self.chunks.read();
        let chunk = chunks.get(location.chunk()).and_then(Option::as_ref);
        chunk.expect("a referenced chunk is in the log").clone()
    }

    /// Gives references back. Neighbours in one chunk cost one step on its count.
    pub fn release(&self, locations: impl IntoIterator<Item = Location>) {
        let mut run: Option<(usize, u64)> = None;
        for location in locations {
            match &mut run {
                Some((slot, count)) if *slot == location.chunk() => *count += 1,
                _ => {
                    if let Some((slot, count)) = run.replace((location.chunk(), 1)) {
                        self.release_run(slot, count);
                    }
                }
            }
        }
        if let Some((slot, count)) = run {
            self.release_run(slot, count);
        }
    }

    fn release_run(&self, slot: usize, count: u64) {
        let chunk = self.chunk(Location::new(slot, 0));
        let before = chunk.references.fetch_sub(count, Ordering::AcqRel);
        assert!(before >= count, "more references given back than were taken");
        let after = before - count;
        let mut octets = count * REFERENCE_OCTETS;
        let sparse_below = chunk.references_at_first.div_ceil(SPARSE_DIVISOR);
        let (was_sparse, is_sparse) = (before < sparse_below, after < sparse_below);
        if !was_sparse && is_sparse && after > 0 {
            self.sparse_octets.fetch_add(chunk.cost_octets(), Ordering::Relaxed);
        }
        if after == 0 {
            octets += chunk.cost_octets();
            if was_sparse {
                self.sparse_octets.fetch_sub(chunk.cost_octets(), Ordering::Relaxed);
            }
            self.chunks.write().remove(slot);
        }
        self.octets.fetch_sub(octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(log: &MessageLog, batch: &mut LogBatch, body: &[u8]) -> Location {
        log.append(batch, 100, |chunk| Record::append(chunk, "x".into(), "k".into(), &[0, 0], body))
    }

    #[test]
    fn a_chunk_lives_as_long_as_its_references() {
        let log = MessageLog::new();
        let mut batch = LogBatch::default();
        let locations: Vec<_> = (0..8).map(|n| append(&log, &mut batch, &[n; 40])).collect();
        log.seal(&mut batch, 8);
        assert_eq!(log.chunk(locations[3]).record(locations[3]).body(), [3; 40]);
        log.release(locations[..7].iter().copied());
        assert!(log.sparse_octets() > 0, "one of eight is left");
        assert_eq!(log.chunk_count(), 1);
        log.release([locations[7]]);
        assert_eq!((log.chunk_count(), log.octets(), log.sparse_octets()), (0, 0, 0));
    }

    #[test]
    fn what_nobody_wants_leaves_nothing_behind() {
        let log = MessageLog::new();
        let mut batch = LogBatch::default();
        append(&log, &mut batch, b"dropped");
        log.seal(&mut batch, 0);
        assert_eq!((log.chunk_count(), log.octets()), (0, 0));
    }

    #[test]
    fn interleaved_chunks_are_counted_apart() {
        let log = MessageLog::new();
        let mut locations = Vec::new();
        for _ in 0..2 {
            let mut batch = LogBatch::default();
            locations.extend((0..2).map(|_| append(&log, &mut batch, b"m")));
            log.seal(&mut batch, 2);
        }
        log.release([locations[0], locations[2], locations[1]]);
        assert_eq!(log.chunk_count(), 1);
        log.release([locations[3]]);
        assert_eq!(log.octets(), 0);
    }
}
