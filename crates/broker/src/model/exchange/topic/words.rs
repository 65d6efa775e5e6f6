//! The words of binding keys, each with a number, so that the trie compares numbers.
//!
//! A word of a routing key is looked up once, however many nodes then ask for it, and one that no
//! binding key has needs no asking. Invariant: a word is here as long as something uses it.

use std::collections::HashMap;

use slab::Slab;
use smallvec::SmallVec;

/// Words up to so many octets lie in the map itself; more fit into no less room.
const INLINE_OCTETS_MAX: usize = 23;

/// A word of a binding key; free again once nothing uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WordId(u32);

/// Words in use.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Never iterated, so its seed decides nothing.
    ids: HashMap<SmallVec<[u8; INLINE_OCTETS_MAX]>, WordId>,
    /// By id, how often the word is used.
    uses: Slab<u32>,
}

impl Words {
    /// The word's number, if anything uses it.
    pub(super) fn find(&self, word: &[u8]) -> Option<WordId> {
        self.ids.get(word).copied()
    }

    /// The word's number, for one more that uses it.
    pub(super) fn take(&mut self, word: &[u8]) -> WordId {
        if let Some(id) = self.find(word) {
            self.uses[id.0 as usize] += 1;
            return id;
        }
        let id = WordId(u32::try_from(self.uses.insert(1)).expect("memory ends long before 2^32 words"));
        self.ids.insert(SmallVec::from_slice(word), id);
        id
    }

    /// One less uses the word.
    pub(super) fn give_back(&mut self, word: &[u8]) {
        let id = self.find(word).expect("it was taken before");
        let uses = &mut self.uses[id.0 as usize];
        *uses -= 1;
        if *uses == 0 {
            self.uses.remove(id.0 as usize);
            self.ids.remove(word);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.ids.len(), self.uses.len());
        self.ids.len()
    }
}
