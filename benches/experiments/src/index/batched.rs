//! Variant C: one exact-sized immutable chunk for each read batch, with a table of its messages.
//!
//! A location is the chunk's slot and the message's number in it, so that survivors can be moved into a
//! smaller chunk under the same slot while nobody's location changes. Invariant: a chunk's table is
//! sorted by number.

use std::collections::VecDeque;

use super::{QUEUES, Store};

/// A chunk of which less than this share lives is made smaller.
const LIVE_SHARE_MIN: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Location {
    slot: u32,
    number: u32,
}

/// Where the messages of a chunk end: all of them, or the survivors with their numbers.
enum Table {
    Dense(Box<[u32]>),
    Sparse(Box<[(u32, u32)]>),
}

impl Table {
    fn octets(&self) -> usize {
        match self {
            Self::Dense(ends) => size_of_val(&ends[..]),
            Self::Sparse(ends) => size_of_val(&ends[..]),
        }
    }
}

struct Chunk {
    octets: Box<[u8]>,
    table: Table,
    /// References to the whole chunk, not to a message.
    live: u32,
}

impl Chunk {
    fn body(&self, number: u32) -> &[u8] {
        let (start, end) = match &self.table {
            Table::Dense(ends) => (start(number as usize, |before| ends[before]), ends[number as usize]),
            Table::Sparse(ends) => {
                let found = ends.binary_search_by_key(&number, |&(number, _)| number);
                let at = found.expect("a location's message survives in its chunk");
                (start(at, |before| ends[before].1), ends[at].1)
            }
        };
        &self.octets[start as usize..end as usize]
    }

    fn messages(&self) -> usize {
        match &self.table {
            Table::Dense(ends) => ends.len(),
            Table::Sparse(ends) => ends.len(),
        }
    }

    /// The same chunk with only the messages of these numbers, which ascend.
    fn with_only(&self, numbers: &[Location]) -> Self {
        let mut octets = Vec::new();
        let mut ends = Vec::with_capacity(numbers.len());
        for location in numbers {
            octets.extend_from_slice(self.body(location.number));
            ends.push((location.number, octets.len() as u32));
        }
        Self { octets: octets.into(), table: Table::Sparse(ends.into()), live: self.live }
    }
}

fn start(at: usize, end_of: impl Fn(usize) -> u32) -> u32 {
    at.checked_sub(1).map_or(0, end_of)
}

/// Queues of locations and the chunks of their batches.
pub(super) struct Batched {
    queues: Vec<VecDeque<Location>>,
    slots: Vec<Option<Box<Chunk>>>,
    batch_messages: usize,
    octets: Vec<u8>,
    ends: Vec<u32>,
}

impl Batched {
    pub(super) fn new(batch_messages: usize) -> Self {
        let queues = vec![VecDeque::new(); QUEUES];
        Self { queues, slots: Vec::new(), batch_messages, octets: Vec::new(), ends: Vec::new() }
    }

    fn chunk(&self, location: Location) -> &Chunk {
        self.slots[location.slot as usize].as_ref().expect("a location keeps its chunk")
    }
}

impl Store for Batched {
    fn publish(&mut self, queue: usize, body: &[u8]) {
        let location = Location { slot: self.slots.len() as u32, number: self.ends.len() as u32 };
        self.queues[queue].push_back(location);
        self.octets.extend_from_slice(body);
        self.ends.push(self.octets.len() as u32);
        if self.ends.len() == self.batch_messages {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (octets, ends) = (self.octets.as_slice().into(), self.ends.as_slice().into());
        let chunk = Chunk { octets, table: Table::Dense(ends), live: self.ends.len() as u32 };
        self.slots.push(Some(Box::new(chunk)));
        self.octets.clear();
        self.ends.clear();
    }

    fn octets(&self) -> usize {
        let index: usize = self.queues.iter().map(|queue| queue.capacity() * size_of::<Location>()).sum();
        let slots = self.slots.capacity() * size_of::<Option<Box<Chunk>>>();
        let chunks = self.slots.iter().flatten();
        index
            + slots
            + chunks
                .map(|chunk| size_of::<Chunk>() + chunk.octets.len() + chunk.table.octets())
                .sum::<usize>()
    }

    fn chunks(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn visit(&self, queue: usize, see: &mut dyn FnMut(usize, &[u8])) {
        for &location in &self.queues[queue] {
            see(location.slot as usize, self.chunk(location).body(location.number));
        }
    }

    fn consume(&mut self, survives: &mut dyn FnMut() -> bool) {
        for queue in &mut self.queues {
            queue.retain(|location| {
                let survived = survives();
                let slot = &mut self.slots[location.slot as usize];
                let chunk = slot.as_mut().expect("a location keeps its chunk");
                chunk.live -= u32::from(!survived);
                if chunk.live == 0 {
                    *slot = None;
                }
                survived
            });
            queue.shrink_to_fit();
        }
    }

    /// Counts are kept for a chunk, so the queues are asked which messages survive.
    fn move_survivors(&mut self) -> usize {
        let sparse = |location: &Location| {
            let chunk = self.chunk(*location);
            (chunk.live as usize) * LIVE_SHARE_MIN < chunk.messages()
        };
        let mut survivors: Vec<Location> = self.queues.iter().flatten().copied().filter(sparse).collect();
        survivors.sort_unstable();
        for run in survivors.chunk_by(|a, b| a.slot == b.slot) {
            let smaller = self.chunk(run[0]).with_only(run);
            self.slots[run[0].slot as usize] = Some(Box::new(smaller));
        }
        survivors.len()
    }
}
