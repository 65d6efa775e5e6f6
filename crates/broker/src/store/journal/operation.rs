//! What the journal's entries say.
//!
//! ```text
//!   kind  payload (integers LE)
//!   1     records of messages, one behind the other                              batch
//!   2     u64 queue, u64 position of a batch, { u32 place, u32 count, u64 ordinal }...   enqueue
//!   3     u64 queue, { u64 first ordinal, u64 last ordinal }...                  gone
//!   4     u64 queue                                                              queue gone
//!   5     u32 octets of the key, key, value                                      put
//!   6     key                                                                    remove
//!   7     u64 position below which all is on stable storage                      mark
//!   8     u64 queue, { u64 ordinal, u32 count, u32 zero }...                     returned
//! ```
//!
//! Queues are numbers that are never used twice, ordinals the places of messages in their queues,
//! keys and values definitions, which only the engine reads. Invariant: every operation may be
//! carried out again behind what followed it, and nothing changes.

use super::{
    super::{ranges::Range, returns::Return},
    entry::{Head, Position},
};

/// A queue as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueNumber(pub u64);

/// Messages of a batch that went into a queue: neighbours in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which record of the batch is the first.
    pub place: u32,
    /// How many there are.
    pub count: u32,
    /// The place of the first one in the queue.
    pub ordinal: u64,
}

impl Run {
    /// Adds a message to runs, the next one of the queue.
    pub fn collect(runs: &mut Vec<Self>, place: u32, ordinal: u64) {
        match runs.last_mut() {
            Some(run) if run.place + run.count == place && run.ordinal + u64::from(run.count) == ordinal => {
                run.count += 1;
            }
            _ => runs.push(Self { place, count: 1, ordinal }),
        }
    }
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Messages, which queues are told to have by what follows.
    Batch {
        /// Records one behind the other.
        records: &'a [u8],
    },
    /// A queue took messages of a batch.
    Enqueue {
        /// Which queue.
        queue: QueueNumber,
        /// Where the batch stands.
        batch: Position,
        /// Which messages.
        runs: List<'a, Run>,
    },
    /// Messages left a queue for good.
    Gone {
        /// Which queue.
        queue: QueueNumber,
        /// Their ordinals.
        ranges: List<'a, Range>,
    },
    /// A queue is deleted with all that is in it.
    QueueGone {
        /// Which queue.
        queue: QueueNumber,
    },
    /// A definition is there, in place of one of that key.
    Put {
        /// What tells it from others.
        key: &'a [u8],
        /// What it says.
        value: &'a [u8],
    },
    /// A definition is gone.
    Remove {
        /// What tells it from others.
        key: &'a [u8],
    },
    /// All before that position was on stable storage when this was written.
    Mark {
        /// The position.
        synced: Position,
    },
    /// Messages came back to a queue that counts how often.
    Returned {
        /// Which queue.
        queue: QueueNumber,
        /// Which messages, and how often.
        returns: List<'a, Return>,
    },
}

pub(super) const BATCH: u8 = 1;
const ENQUEUE: u8 = 2;
const GONE: u8 = 3;
const QUEUE_GONE: u8 = 4;
const PUT: u8 = 5;
const REMOVE: u8 = 6;
const MARK: u8 = 7;
const RETURNED: u8 = 8;

impl<'a> Operation<'a> {
    /// What an entry of that kind and payload says; `None` when that makes no sense, which a newer
    /// version or a bug may have written.
    #[must_use]
    pub fn read(kind: u8, payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let operation = match kind {
            BATCH => return Some(Self::Batch { records: payload }),
            ENQUEUE => Self::Enqueue {
                queue: QueueNumber(take_u64(&mut rest)?),
                batch: Position(take_u64(&mut rest)?),
                runs: List::read(&mut rest)?,
            },
            GONE => Self::Gone { queue: QueueNumber(take_u64(&mut rest)?), ranges: List::read(&mut rest)? },
            QUEUE_GONE => Self::QueueGone { queue: QueueNumber(take_u64(&mut rest)?) },
            PUT => {
                let octets = u32::from_le_bytes(*take::<4>(&mut rest)?) as usize;
                let (key, value) = rest.split_at_checked(octets)?;
                return Some(Self::Put { key, value });
            }
            REMOVE => return Some(Self::Remove { key: payload }),
            MARK => Self::Mark { synced: Position(take_u64(&mut rest)?) },
            RETURNED => {
                Self::Returned { queue: QueueNumber(take_u64(&mut rest)?), returns: List::read(&mut rest)? }
            }
            _ => return None,
        };
        rest.is_empty().then_some(operation)
    }

    /// Calls `write` with the head of the entry that says this, and with the parts of its payload.
    pub fn as_entry<R>(&self, write: impl FnOnce(Head, &[&[u8]]) -> R) -> R {
        match *self {
            Self::Batch { records } => with(BATCH, &[records], write),
            Self::Enqueue { queue, batch, runs } => {
                with(ENQUEUE, &[&queue.0.to_le_bytes(), &batch.0.to_le_bytes(), runs.octets], write)
            }
            Self::Gone { queue, ranges } => with(GONE, &[&queue.0.to_le_bytes(), ranges.octets], write),
            Self::QueueGone { queue } => with(QUEUE_GONE, &[&queue.0.to_le_bytes()], write),
            Self::Put { key, value } => {
                let octets = u32::try_from(key.len()).expect("keys are short");
                with(PUT, &[&octets.to_le_bytes(), key, value], write)
            }
            Self::Remove { key } => with(REMOVE, &[key], write),
            Self::Mark { synced } => with(MARK, &[&synced.0.to_le_bytes()], write),
            Self::Returned { queue, returns } => {
                with(RETURNED, &[&queue.0.to_le_bytes(), returns.octets], write)
            }
        }
    }
}

fn with<R>(kind: u8, parts: &[&[u8]], write: impl FnOnce(Head, &[&[u8]]) -> R) -> R {
    write(Head::new(kind, parts), parts)
}

/// Things of one size as they stand in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'a, T> {
    octets: &'a [u8],
    of: std::marker::PhantomData<T>,
}

/// What a list may be of: integers in 16 octets.
pub trait Listed: Copy {
    /// As it stands in a payload.
    fn to_octets(self) -> [u8; LISTED_OCTETS];
    /// `None` when it makes no sense.
    fn from_octets(octets: [u8; LISTED_OCTETS]) -> Option<Self>;
}

const LISTED_OCTETS: usize = 16;

impl<'a, T: Listed> List<'a, T> {
    /// Writes the things to `buffer`, which is emptied before.
    pub fn write(things: &[T], buffer: &'a mut Vec<u8>) -> Self {
        buffer.clear();
        things.iter().for_each(|thing| buffer.extend_from_slice(&thing.to_octets()));
        Self { octets: buffer, of: std::marker::PhantomData }
    }

    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let octets = std::mem::take(rest);
        let list = Self { octets, of: std::marker::PhantomData };
        let (things, left) = octets.as_chunks();
        let make_sense = left.is_empty() && things.iter().all(|thing| T::from_octets(*thing).is_some());
        make_sense.then_some(list)
    }

    /// The things in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + 'a {
        self.octets.as_chunks().0.iter().filter_map(|thing| T::from_octets(*thing))
    }
}

impl Listed for Run {
    fn to_octets(self) -> [u8; LISTED_OCTETS] {
        let mut octets = [0; LISTED_OCTETS];
        octets[..4].copy_from_slice(&self.place.to_le_bytes());
        octets[4..8].copy_from_slice(&self.count.to_le_bytes());
        octets[8..].copy_from_slice(&self.ordinal.to_le_bytes());
        octets
    }

    fn from_octets(octets: [u8; LISTED_OCTETS]) -> Option<Self> {
        let mut rest = &octets[..];
        let place = u32::from_le_bytes(*take(&mut rest)?);
        let count = u32::from_le_bytes(*take(&mut rest)?);
        let ordinal = take_u64(&mut rest)?;
        let is_bounded = place.checked_add(count).is_some() && ordinal.checked_add(count.into()).is_some();
        (count > 0 && is_bounded).then_some(Self { place, count, ordinal })
    }
}

impl Listed for Range {
    fn to_octets(self) -> [u8; LISTED_OCTETS] {
        let mut octets = [0; LISTED_OCTETS];
        octets[..8].copy_from_slice(&self.first.to_le_bytes());
        octets[8..].copy_from_slice(&self.last.to_le_bytes());
        octets
    }

    fn from_octets(octets: [u8; LISTED_OCTETS]) -> Option<Self> {
        let mut rest = &octets[..];
        let range = Self { first: take_u64(&mut rest)?, last: take_u64(&mut rest)? };
        (range.first <= range.last).then_some(range)
    }
}

impl Listed for Return {
    fn to_octets(self) -> [u8; LISTED_OCTETS] {
        let mut octets = [0; LISTED_OCTETS];
        octets[..8].copy_from_slice(&self.ordinal.to_le_bytes());
        octets[8..12].copy_from_slice(&self.count.to_le_bytes());
        octets
    }

    fn from_octets(octets: [u8; LISTED_OCTETS]) -> Option<Self> {
        let mut rest = &octets[..];
        let ordinal = take_u64(&mut rest)?;
        let count = u32::from_le_bytes(*take(&mut rest)?);
        (count > 0 && rest == [0; 4]).then_some(Self { ordinal, count })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(|octets| u64::from_le_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operation: &Operation<'_>) {
        let (kind, payload) = operation.as_entry(|head, parts| (head.kind, parts.concat()));
        assert_eq!(Operation::read(kind, &payload).as_ref(), Some(operation));
        if !matches!(kind, BATCH | PUT | REMOVE) {
            assert_eq!(Operation::read(kind, &payload[..payload.len() - 1]), None);
        }
    }

    #[test]
    fn operations_come_back_as_they_were() {
        let (mut runs, mut ranges) = (Vec::new(), Vec::new());
        let queue = QueueNumber(u64::MAX);
        check(&Operation::Batch { records: b"records" });
        let run = Run { place: 1, count: 2, ordinal: 3 };
        let runs = List::write(&[run, Run { place: 9, count: 1, ordinal: 1 << 60 }], &mut runs);
        check(&Operation::Enqueue { queue, batch: Position(77), runs });
        let ranges = List::write(&[Range { first: 1, last: 1 }, Range { first: 5, last: 9 }], &mut ranges);
        check(&Operation::Gone { queue, ranges });
        check(&Operation::QueueGone { queue });
        check(&Operation::Put { key: b"key", value: b"" });
        check(&Operation::Remove { key: b"key" });
        check(&Operation::Mark { synced: Position(8) });
        let mut returns = Vec::new();
        let some = [Return { ordinal: u64::MAX, count: 1 }, Return { ordinal: 0, count: u32::MAX }];
        check(&Operation::Returned { queue, returns: List::write(&some, &mut returns) });
    }

    #[test]
    fn what_makes_no_sense_is_no_operation() {
        assert_eq!(Operation::read(0, b""), None);
        assert_eq!(Operation::read(PUT, &[200, 0, 0, 0, 1]), None, "the key is longer than the payload");
        let mut buffer = Vec::new();
        let backwards = List::write(&[Range { first: 2, last: 1 }], &mut buffer);
        let gone = Operation::Gone { queue: QueueNumber(1), ranges: backwards };
        let (kind, payload) = gone.as_entry(|head, parts| (head.kind, parts.concat()));
        assert_eq!(Operation::read(kind, &payload), None);
        let mut buffer = Vec::new();
        let never = List::write(&[Return { ordinal: 2, count: 0 }], &mut buffer);
        let returned = Operation::Returned { queue: QueueNumber(1), returns: never };
        let (kind, payload) = returned.as_entry(|head, parts| (head.kind, parts.concat()));
        assert_eq!(Operation::read(kind, &payload), None, "it did not come back");
    }

    #[test]
    fn neighbours_in_both_are_one_run() {
        let mut runs = Vec::new();
        for (place, ordinal) in [(0, 10), (1, 11), (3, 12), (4, 13), (5, 99)] {
            Run::collect(&mut runs, place, ordinal);
        }
        let run = |place, count, ordinal| Run { place, count, ordinal };
        assert_eq!(runs, [run(0, 2, 10), run(3, 2, 12), run(5, 1, 99)]);
    }
}
