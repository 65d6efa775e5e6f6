//! Variant B: every message is an allocation of its own, and queues hold pointers with counts.
//!
//! Invariant: nothing is shared between messages, so that no message pins another.

use std::{collections::VecDeque, sync::Arc};

use super::{QUEUES, Store};

/// Octets of the two counts in front of the value that an `Arc` points to.
const COUNTS_OCTETS: usize = 2 * size_of::<usize>();

/// Queues of counted pointers.
pub(super) struct Boxed {
    queues: Vec<VecDeque<Arc<[u8]>>>,
}

impl Boxed {
    pub(super) fn new() -> Self {
        Self { queues: vec![VecDeque::new(); QUEUES] }
    }
}

impl Store for Boxed {
    fn publish(&mut self, queue: usize, body: &[u8]) {
        self.queues[queue].push_back(body.into());
    }

    fn octets(&self) -> usize {
        let index: usize = self.queues.iter().map(|queue| queue.capacity() * size_of::<Arc<[u8]>>()).sum();
        index + self.queues.iter().flatten().map(|message| COUNTS_OCTETS + message.len()).sum::<usize>()
    }

    fn chunks(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    fn visit(&self, queue: usize, see: &mut dyn FnMut(usize, &[u8])) {
        for message in &self.queues[queue] {
            see(message.as_ptr().addr(), message);
        }
    }

    fn consume(&mut self, survives: &mut dyn FnMut() -> bool) {
        for queue in &mut self.queues {
            queue.retain(|_| survives());
            queue.shrink_to_fit();
        }
    }

    /// Nothing is pinned, so nothing moves.
    fn move_survivors(&mut self) -> usize {
        0
    }
}
