//! The journal: the history of everything durable, in the order in which it happened.
//!
//! Whoever does something durable appends it here, in memory, and learns a position; a thread of
//! the driver's writes it (`writer`), and what waits goes on when all up to that position is on
//! stable storage. One sync serves all that came meanwhile. Invariant: `synced` never passes an
//! octet that a power cut could take away.

pub mod entry;
pub mod operation;
pub mod reader;
pub mod segment;
pub mod writer;

use std::{collections::BTreeSet, sync::atomic::Ordering};

pub use self::{
    entry::Position,
    operation::{List, Operation, QueueNumber, Run},
    writer::JournalWriter,
};
use crate::sync::{AtomicU64, Mutex};

/// What is appended and not yet taken to be written.
#[derive(Debug, Default)]
struct Tail {
    octets: Vec<u8>,
    /// Where the first of them stands.
    start: Position,
    /// Batches whose queues are not all told yet to have their messages.
    open_batches: BTreeSet<Position>,
}

impl Tail {
    fn append(&mut self, operation: &Operation<'_>) -> Appended {
        let is_first = self.octets.is_empty();
        operation.as_entry(|head, parts| {
            let start = self.start.plus(self.octets.len());
            head.write(start, parts, &mut self.octets);
            Appended { start, end: self.start.plus(self.octets.len()), is_first }
        })
    }
}

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its first octet.
    pub start: Position,
    /// Behind its last one: it is durable when the journal is synced up to here.
    pub end: Position,
    /// Whether nothing waited to be written before it.
    pub is_first: bool,
}

/// The part of the journal that threads share.
#[derive(Debug, Default)]
pub struct Journal {
    tail: Mutex<Tail>,
    synced: AtomicU64,
}

impl Journal {
    /// A journal whose next octet stands at that position; all before it is on stable storage.
    #[must_use]
    pub fn starting_at(position: Position) -> Self {
        let tail = Tail { start: position, ..Tail::default() };
        Self { tail: Mutex::new(tail), synced: AtomicU64::new(position.0) }
    }

    /// Appends an operation.
    pub fn append(&self, operation: &Operation<'_>) -> Appended {
        self.tail.lock().append(operation)
    }

    /// Appends messages. Until [`Journal::close_batch`] what stands here stays, because queues may be
    /// told to have messages of it.
    pub fn append_batch(&self, records: &[u8]) -> Appended {
        let operation = Operation::Batch { records };
        let mut tail = self.tail.lock();
        let appended = tail.append(&operation);
        tail.open_batches.insert(appended.start);
        appended
    }

    /// All queues of the batch that begins there are told.
    pub fn close_batch(&self, start: Position) {
        self.tail.lock().open_batches.remove(&start);
    }

    /// Up to where entries may name a batch that stands before `end`, if that is settled: when no
    /// such batch is open any more, what is appended from then on names none.
    #[must_use]
    pub fn named_until(&self, end: Position) -> Option<Position> {
        let tail = self.tail.lock();
        let is_open = tail.open_batches.first().is_some_and(|batch| *batch < end);
        (!is_open).then(|| tail.start.plus(tail.octets.len()))
    }

    /// Octets that are not on stable storage.
    #[must_use]
    pub fn unsynced_octets(&self) -> u64 {
        self.end().behind(self.synced())
    }

    /// Up to where the journal is on stable storage.
    #[must_use]
    pub fn synced(&self) -> Position {
        Position(self.synced.load(Ordering::Acquire))
    }

    /// Behind the last octet that was appended.
    #[must_use]
    pub fn end(&self) -> Position {
        let tail = self.tail.lock();
        tail.start.plus(tail.octets.len())
    }

    /// Takes what is appended, with a mark behind it, in exchange for an empty buffer.
    fn take(&self, octets: &mut Vec<u8>) -> Position {
        debug_assert!(octets.is_empty(), "the buffer is handed over empty");
        let mut tail = self.tail.lock();
        if !tail.octets.is_empty() {
            tail.append(&Operation::Mark { synced: self.synced() });
        }
        let start = tail.start;
        std::mem::swap(&mut tail.octets, octets);
        tail.start = start.plus(octets.len());
        start
    }

    fn set_synced(&self, position: Position) {
        self.synced.store(position.0, Ordering::Release);
    }
}
