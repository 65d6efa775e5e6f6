//! The nodes below a node by the word that leads to them.
//!
//! Most nodes have one or two, which lie in the node itself and cost a walk no further look into
//! memory. Invariant: a word leads to one node.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::{NodeId, words::WordId};

/// Up to so many are compared one by one.
const FEW_MAX: usize = 8;
/// Of which so many lie in the node.
const INLINE_MAX: usize = 2;

/// Nodes by word.
#[derive(Debug)]
pub(super) enum Children {
    Few(SmallVec<[(WordId, NodeId); INLINE_MAX]>),
    /// Never iterated, so its seed decides nothing. In a box, because few nodes have it and all
    /// would be as large.
    #[allow(clippy::box_collection, reason = "what it is for is the size of the variant")]
    Many(Box<HashMap<WordId, NodeId>>),
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Children {
    pub(super) fn find(&self, word: WordId) -> Option<NodeId> {
        match self {
            Self::Few(few) => few.iter().find(|(of, _)| *of == word).map(|(_, child)| *child),
            Self::Many(many) => many.get(&word).copied(),
        }
    }

    /// Adds a word that is not there.
    pub(super) fn insert(&mut self, word: WordId, child: NodeId) {
        match self {
            Self::Few(few) if few.len() < FEW_MAX => few.push((word, child)),
            Self::Few(few) => {
                let mut many: HashMap<_, _> = few.drain(..).collect();
                many.insert(word, child);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => drop(many.insert(word, child)),
        }
    }

    pub(super) fn remove(&mut self, word: WordId) {
        match self {
            Self::Few(few) => few.retain(|(of, _)| *of != word),
            Self::Many(many) => drop(many.remove(&word)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }
}
