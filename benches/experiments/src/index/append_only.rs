//! Variant A: locations of 8 octets into append-only chunks of 64 KiB.
//!
//! A location is the chunk and the offset in it, so that moving a message means to find and change the
//! location. Invariant: a queue's locations ascend, since messages are appended in their order.

use std::collections::VecDeque;

use super::{QUEUES, Store};

const CHUNK_OCTETS: usize = 64 << 10;
const LENGTH_OCTETS: usize = 4;
/// A chunk of which less than this share lives has its survivors moved out.
const LIVE_SHARE_MIN: usize = 8;

#[derive(Clone, Copy)]
struct Location(u64);

impl Location {
    fn new(chunk: usize, offset: usize) -> Self {
        Self((chunk as u64) << 32 | offset as u64)
    }

    fn chunk(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn offset(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

struct Chunk {
    octets: Vec<u8>,
    live: usize,
    live_octets: usize,
}

/// All chunks ever opened; those without a live message are gone.
#[derive(Default)]
struct Chunks {
    slots: Vec<Option<Box<Chunk>>>,
}

impl Chunks {
    fn append(&mut self, body: &[u8]) -> Location {
        let record_octets = LENGTH_OCTETS + body.len();
        let fits = |chunk: &Chunk| chunk.octets.len() + record_octets <= CHUNK_OCTETS;
        if !self.slots.last().and_then(Option::as_deref).is_some_and(fits) {
            let octets = Vec::with_capacity(CHUNK_OCTETS);
            self.slots.push(Some(Box::new(Chunk { octets, live: 0, live_octets: 0 })));
        }
        let last = self.slots.len() - 1;
        let chunk = self.slots[last].as_mut().expect("the last chunk was opened above");
        let location = Location::new(last, chunk.octets.len());
        chunk.octets.extend_from_slice(&(body.len() as u32).to_le_bytes());
        chunk.octets.extend_from_slice(body);
        chunk.live += 1;
        chunk.live_octets += record_octets;
        location
    }

    fn chunk(&self, location: Location) -> &Chunk {
        self.slots[location.chunk()].as_ref().expect("a location keeps its chunk")
    }

    fn body(&self, location: Location) -> &[u8] {
        let (length, rest) = self.chunk(location).octets[location.offset()..].split_at(LENGTH_OCTETS);
        &rest[..u32::from_le_bytes(length.try_into().expect("split at four octets")) as usize]
    }

    fn release(&mut self, location: Location) {
        let record_octets = LENGTH_OCTETS + self.body(location).len();
        let slot = &mut self.slots[location.chunk()];
        let chunk = slot.as_mut().expect("a location keeps its chunk");
        chunk.live -= 1;
        chunk.live_octets -= record_octets;
        if chunk.live == 0 {
            *slot = None;
        }
    }

    fn move_to(&mut self, location: Location, target: &mut Self, scratch: &mut Vec<u8>) -> Location {
        scratch.clear();
        scratch.extend_from_slice(self.body(location));
        self.release(location);
        target.append(scratch)
    }

    /// Takes over the chunks of `other`, and answers by how much their numbers grow.
    fn adopt(&mut self, other: Self) -> usize {
        let base = self.slots.len();
        self.slots.extend(other.slots);
        base
    }
}

/// Queues of locations and their chunks.
pub(super) struct AppendOnly {
    queues: Vec<VecDeque<Location>>,
    chunks: Chunks,
}

impl AppendOnly {
    pub(super) fn new() -> Self {
        Self { queues: vec![VecDeque::new(); QUEUES], chunks: Chunks::default() }
    }

    /// Rewrites every segment of the log with its messages in the order of their queues.
    pub(super) fn group_by_queue(&mut self, segment_octets: usize) {
        let in_segment = segment_octets / CHUNK_OCTETS;
        let old = self.chunks.slots.len();
        let mut cursors = vec![0; self.queues.len()];
        for start in (0..old).step_by(in_segment) {
            self.group_segment((start + in_segment).min(old), &mut cursors);
        }
    }

    /// Rewrites what lies before chunk `end` and was not rewritten yet.
    fn group_segment(&mut self, end: usize, cursors: &mut [usize]) {
        let (mut scratch, mut target) = (Vec::new(), Chunks::default());
        let firsts = cursors.to_vec();
        for (queue, cursor) in self.queues.iter_mut().zip(cursors.iter_mut()) {
            while let Some(location) = queue.get_mut(*cursor).filter(|location| location.chunk() < end) {
                *location = self.chunks.move_to(*location, &mut target, &mut scratch);
                *cursor += 1;
            }
        }
        let base = self.chunks.adopt(target);
        for ((queue, first), cursor) in self.queues.iter_mut().zip(firsts).zip(cursors) {
            for location in queue.range_mut(first..*cursor) {
                *location = Location::new(location.chunk() + base, location.offset());
            }
        }
    }
}

impl Store for AppendOnly {
    fn publish(&mut self, queue: usize, body: &[u8]) {
        self.queues[queue].push_back(self.chunks.append(body));
    }

    fn octets(&self) -> usize {
        let index: usize = self.queues.iter().map(|queue| queue.capacity() * size_of::<Location>()).sum();
        let slots = self.chunks.slots.capacity() * size_of::<Option<Box<Chunk>>>();
        index + slots + self.chunks() * (CHUNK_OCTETS + size_of::<Chunk>())
    }

    fn chunks(&self) -> usize {
        self.chunks.slots.iter().flatten().count()
    }

    fn visit(&self, queue: usize, see: &mut dyn FnMut(usize, &[u8])) {
        for &location in &self.queues[queue] {
            see(location.chunk(), self.chunks.body(location));
        }
    }

    fn consume(&mut self, survives: &mut dyn FnMut() -> bool) {
        for queue in &mut self.queues {
            queue.retain(|&location| {
                let survived = survives();
                if !survived {
                    self.chunks.release(location);
                }
                survived
            });
            queue.shrink_to_fit();
        }
    }

    fn move_survivors(&mut self) -> usize {
        let (mut scratch, mut target, mut moved) = (Vec::new(), Chunks::default(), 0);
        let base = self.chunks.slots.len();
        for location in self.queues.iter_mut().flatten() {
            let chunk = self.chunks.chunk(*location);
            if chunk.live_octets * LIVE_SHARE_MIN < chunk.octets.len() {
                let new = self.chunks.move_to(*location, &mut target, &mut scratch);
                *location = Location::new(new.chunk() + base, new.offset());
                moved += 1;
            }
        }
        self.chunks.adopt(target);
        moved
    }
}
