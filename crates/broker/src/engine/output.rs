//! What a connection has to say, until its socket takes it.
//!
//! One buffer of octets, with references into chunks between them for bodies that are cheaper to
//! point at than to copy. Invariant: the parts come out in the order they were put in.

use std::{collections::VecDeque, sync::Arc};

use crate::store::Chunk;

/// Above this many octets unsent, nothing more is put in on behalf of consumers.
pub(super) const OUTPUT_OCTETS_MAX: usize = 128 * 1024;
/// Above this many octets of its own, the peer is not read from: they are answers to what it
/// asked for, since deliveries end before.
const FLOOD_OCTETS_MAX: usize = 1024 * 1024;
/// Octets already sent that may stand before unsent ones.
const SENT_OCTETS_MAX: usize = 64 * 1024;
/// Capacity that an empty buffer may keep.
const IDLE_OCTETS_MAX: usize = 4 * 1024;

/// Octets of a chunk, to be sent where they are.
struct Reference {
    /// How many octets of the buffer go before it.
    at: usize,
    chunk: Arc<Chunk>,
    start: usize,
    end: usize,
}

/// Octets to send, in order.
#[derive(Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Octets of the buffer that are sent.
    sent: usize,
    references: VecDeque<Reference>,
    reference_octets: usize,
}

impl Output {
    /// Octets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.sent + self.reference_octets
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so much waits that more has to wait elsewhere.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= OUTPUT_OCTETS_MAX
    }

    /// Whether so much waits that the peer must read before it may ask for more. What is referred
    /// to lies in the log and does not count here.
    pub(super) const fn is_flooded(&self) -> bool {
        self.buffer.len() - self.sent >= FLOOD_OCTETS_MAX
    }

    /// Makes sure that an output may become full without growing, by a larger buffer of the
    /// caller's.
    pub(super) fn make_room(&mut self, larger: impl FnOnce() -> Vec<u8>) {
        if self.buffer.capacity() < OUTPUT_OCTETS_MAX {
            let mut larger = larger();
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }

    /// The buffer of an output that is empty, when it is too large to be kept by one that waits.
    pub(super) fn spare_buffer(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.buffer.capacity() > IDLE_OCTETS_MAX)
            .then(|| std::mem::take(&mut self.buffer))
    }

    /// Where frames are appended.
    pub(super) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends octets of a chunk without copying them.
    pub(super) fn push_chunk(&mut self, chunk: &Arc<Chunk>, start: usize, end: usize) {
        self.reference_octets += end - start;
        let at = self.buffer.len();
        self.references.push_back(Reference { at, chunk: Arc::clone(chunk), start, end });
    }

    /// The unsent parts in order, for a vectored write.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = self.sent;
        let mut references = self.references.iter();
        let mut pending: Option<&Reference> = None;
        let mut done = false;
        std::iter::from_fn(move || {
            loop {
                if let Some(reference) = pending.take() {
                    return Some(reference.chunk.slice(reference.start, reference.end));
                }
                if done {
                    return None;
                }
                let until = match references.next() {
                    Some(reference) => {
                        pending = Some(reference);
                        reference.at
                    }
                    None => {
                        done = true;
                        self.buffer.len()
                    }
                };
                let part = &self.buffer[from..until];
                from = until;
                if !part.is_empty() {
                    return Some(part);
                }
            }
        })
    }

    /// The first `octets` of the parts are sent.
    ///
    /// # Panics
    /// When that is more than there are.
    pub fn consume(&mut self, mut octets: usize) {
        while octets > 0 {
            let until = self.references.front().map_or(self.buffer.len(), |reference| reference.at);
            let step = octets.min(until - self.sent);
            self.sent += step;
            octets -= step;
            if octets == 0 {
                break;
            }
            let reference = self.references.front_mut().expect("no more is sent than there was");
            let step = octets.min(reference.end - reference.start);
            reference.start += step;
            octets -= step;
            self.reference_octets -= step;
            if reference.start == reference.end {
                self.references.pop_front();
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.is_empty() {
            self.sent = 0;
            self.buffer.clear();
            self.references.shrink_to(64);
        } else if self.sent > SENT_OCTETS_MAX && self.sent * 2 >= self.buffer.len() {
            self.buffer.drain(..self.sent);
            for reference in &mut self.references {
                reference.at -= self.sent;
            }
            self.sent = 0;
        }
    }

    /// Drops what waits, when the socket is gone.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("octets", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LogBatch, MessageLog, OpenChunk};

    fn chunk(octets: &[u8]) -> Arc<Chunk> {
        let log = MessageLog::default();
        let mut batch = LogBatch::default();
        batch.append(1, Vec::new, |chunk| chunk.extend_from_slice(octets));
        let location = log.append(&mut batch, &mut OpenChunk::default());
        log.chunk(location)
    }

    fn filled() -> Output {
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"ab");
        output.push_chunk(&chunk(b"0123"), 1, 3);
        output.push_chunk(&chunk(b"xyz"), 0, 3);
        output.buffer().extend_from_slice(b"cd");
        output
    }

    fn rest(output: &Output) -> Vec<u8> {
        output.parts().collect::<Vec<_>>().concat()
    }

    #[test]
    fn parts_come_in_order_however_they_are_sent() {
        let whole = rest(&filled());
        assert_eq!(whole, b"ab12xyzcd");
        for first in 0..=whole.len() {
            for second in 0..=whole.len() - first {
                let mut output = filled();
                output.consume(first);
                output.consume(second);
                assert_eq!(rest(&output), whole[first + second..], "{first} then {second}");
                assert_eq!(output.len(), whole.len() - first - second);
            }
        }
    }

    #[test]
    fn what_is_sent_does_not_pile_up() {
        let mut output = Output::default();
        for _ in 0..100 {
            output.buffer().extend_from_slice(&[7; 10_000]);
            output.consume(9_999);
        }
        assert!(output.buffer.len() < SENT_OCTETS_MAX + 20_000);
        assert_eq!(output.len(), 100);
    }
}
