//! A chunk: records that lie one behind the other, and where each begins.
//!
//! Invariant: a chunk that somebody may read does not change.

use std::sync::Arc;

use super::{memory::ChunkMemory, record::Record};
use crate::Location;

/// Octets that a chunk costs beside its messages: slot, allocations.
const CHUNK_OVERHEAD_OCTETS: usize = 192;
/// Octets that a message costs beside its record: number, offset, count.
const MESSAGE_OVERHEAD_OCTETS: usize = 12;

/// Records that arrived together, or that are left of those.
#[derive(Debug)]
pub struct Chunk {
    pub(super) octets: Vec<u8>,
    /// Number and offset of each message, in the order of the numbers.
    pub(super) places: Vec<(u32, u32)>,
    pub(super) memory: Arc<ChunkMemory>,
}

impl Chunk {
    pub(super) fn new(octets: Vec<u8>, places: Vec<(u32, u32)>, memory: &Arc<ChunkMemory>) -> Self {
        let chunk = Self { octets, places, memory: Arc::clone(memory) };
        memory.count(chunk.cost_octets());
        chunk
    }

    /// The record at that location, which must be in this chunk.
    ///
    /// # Panics
    /// When it is not, which only our own bug could cause.
    #[must_use]
    #[inline]
    pub fn record(&self, location: Location) -> Record<'_> {
        let at = self.find(location.number()).expect("a referenced message is in its chunk");
        Record::at(&self.octets, self.places[at].1 as usize)
    }

    /// The record at that location as it stands, to be copied.
    ///
    /// # Panics
    /// When it is not in this chunk, which only our own bug could cause.
    #[must_use]
    pub fn raw(&self, location: Location) -> &[u8] {
        let at = self.find(location.number()).expect("a referenced message is in its chunk");
        Record::raw(&self.octets, self.places[at].1 as usize)
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

    /// The place of a number: its own, unless messages before it are gone.
    #[inline]
    pub(super) fn find(&self, number: usize) -> Option<usize> {
        match self.places.get(number) {
            Some(place) if place.0 as usize == number => Some(number),
            _ => self.places.binary_search_by_key(&number, |place| place.0 as usize).ok(),
        }
    }

    pub(super) fn cost_octets(&self) -> u64 {
        let index = self.places.capacity() * MESSAGE_OVERHEAD_OCTETS;
        (self.octets.capacity() + index + CHUNK_OVERHEAD_OCTETS) as u64
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.memory.discount(self.cost_octets());
        self.memory.keep(std::mem::take(&mut self.octets));
    }
}
