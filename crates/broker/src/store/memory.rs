//! What the chunks of a log share: the count of their octets, and buffers of those that are gone,
//! which outputs take as well.
//!
//! A chunk is counted until its last reader lets go of it, which may be long after the log did: an
//! output that nobody reads holds it. A buffer that is used again is still in the cache and costs
//! neither the allocator nor the system's pages (`docs/performance.md` has the figures). Invariant: buffers are kept up to a bound.

use parking_lot::Mutex;

use crate::OctetCount;

/// Octets of each buffer that is kept: a read of the largest size becomes a chunk a little larger.
const BUFFER_OCTETS: usize = 144 * 1024;
/// Buffers kept at most.
const BUFFERS_MAX: usize = 16;
/// A batch that may come to hold fewer octets takes a buffer of its own size.
const BATCH_OCTETS_MIN: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct ChunkMemory {
    /// The engine's count, which has more in it than chunks.
    octets: OctetCount,
    /// The one that was used last is taken first.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl ChunkMemory {
    pub(super) fn new(octets: OctetCount) -> Self {
        Self { octets, ..Self::default() }
    }

    pub(super) fn count(&self, octets: u64) {
        self.octets.grow(octets);
    }

    pub(super) fn discount(&self, octets: u64) {
        self.octets.shrink(octets);
    }

    /// An empty buffer for a batch that may come to hold that many octets.
    pub(super) fn buffer(&self, octets_hint: usize) -> Vec<u8> {
        if !(BATCH_OCTETS_MIN..=BUFFER_OCTETS).contains(&octets_hint) {
            return Vec::with_capacity(octets_hint);
        }
        let kept = self.buffers.lock().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_OCTETS))
    }

    /// Keeps the buffer for a later batch, if it is of that kind.
    pub(super) fn keep(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() != BUFFER_OCTETS {
            return;
        }
        buffer.clear();
        let mut buffers = self.buffers.lock();
        if buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }

    /// Lets go of the buffers that are kept.
    pub(super) fn let_go(&self) {
        *self.buffers.lock() = Vec::new();
    }

    /// The octets in an allocation that is not much larger than they are.
    pub(super) fn fitted(&self, mut octets: Vec<u8>) -> Vec<u8> {
        if octets.capacity() - octets.len() <= octets.len() / 4 {
            return octets;
        }
        if octets.capacity() == BUFFER_OCTETS {
            let fitted = octets.clone();
            self.keep(octets);
            return fitted;
        }
        octets.shrink_to_fit();
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_up_to_a_bound() {
        let memory = ChunkMemory::default();
        let buffers: Vec<_> = (0..BUFFERS_MAX + 5).map(|_| memory.buffer(100_000)).collect();
        let last = buffers[BUFFERS_MAX - 1].as_ptr();
        buffers.into_iter().for_each(|buffer| memory.keep(buffer));
        assert_eq!(memory.buffers.lock().len(), BUFFERS_MAX);
        let again = memory.buffer(100_000);
        assert_eq!(again.as_ptr(), last, "the one that came last is the warmest");
        memory.let_go();
        assert_eq!(memory.buffers.lock().len(), 0);
    }

    #[test]
    fn small_and_very_large_batches_take_what_they_need() {
        let memory = ChunkMemory::default();
        memory.keep(Vec::with_capacity(BUFFER_OCTETS));
        for octets in [0, 100, BATCH_OCTETS_MIN - 1, BUFFER_OCTETS + 1, 1_000_000] {
            assert_eq!(memory.buffer(octets).capacity(), octets);
        }
    }

    #[test]
    fn a_buffer_that_is_mostly_empty_is_not_held() {
        let memory = ChunkMemory::default();
        let mut octets = memory.buffer(100_000);
        octets.extend_from_slice(b"few");
        assert_eq!(memory.fitted(octets).capacity(), 3);
        assert_eq!(memory.buffers.lock().len(), 1);
    }
}
