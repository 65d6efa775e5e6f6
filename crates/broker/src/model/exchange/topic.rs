//! Topic routing: which destinations want a message with this key.
//!
//! Keys are words between dots; in a binding key `*` is exactly one word and `#` zero or more.
//! The patterns form a trie of words. A message walks it with the set of nodes that its key may
//! have reached, so that it costs by the depth of its key and not by the number of bindings, and
//! a pattern of many `#` cannot make it walk a path twice.
//! Invariant: a node without destinations has children, but for the root.

use std::collections::HashMap;

use slab::Slab;
use smallvec::SmallVec;

use crate::model::{binding::Destination, destinations::DestinationSet, found::Found};

type NodeId = usize;
/// The nodes that the words so far may have led to; mostly one or two.
type Reached = SmallVec<[NodeId; 16]>;

/// The trie of binding keys.
#[derive(Debug)]
pub struct TopicTable {
    nodes: Slab<Node>,
    root: NodeId,
}

#[derive(Debug, Default)]
struct Node {
    /// Never iterated, so its seed decides nothing.
    words: HashMap<Box<[u8]>, NodeId>,
    one_word: Option<NodeId>,
    any_words: Option<NodeId>,
    /// Whether this node is its parent's `any_words`, and so takes every further word.
    takes_any_words: bool,
    destinations: DestinationSet,
}

impl Node {
    fn is_bare(&self) -> bool {
        self.destinations.is_empty()
            && self.words.is_empty()
            && self.one_word.is_none()
            && self.any_words.is_none()
    }

    fn child(&self, word: &[u8]) -> Option<NodeId> {
        match word {
            b"*" => self.one_word,
            b"#" => self.any_words,
            _ => self.words.get(word).copied(),
        }
    }
}

impl Default for TopicTable {
    fn default() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::default());
        Self { nodes, root }
    }
}

impl TopicTable {
    /// Adds a binding.
    pub fn insert(&mut self, binding_key: &[u8], destination: Destination) {
        let mut at = self.root;
        for word in words(binding_key) {
            at = match self.nodes[at].child(word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at].destinations.insert(destination);
    }

    fn add_child(&mut self, parent: NodeId, word: &[u8]) -> NodeId {
        let child = self.nodes.insert(Node { takes_any_words: word == b"#", ..Node::default() });
        let parent = &mut self.nodes[parent];
        match word {
            b"*" => parent.one_word = Some(child),
            b"#" => parent.any_words = Some(child),
            _ => drop(parent.words.insert(word.into(), child)),
        }
        child
    }

    /// Removes a binding that was added, and the nodes that only it needed.
    pub fn remove(&mut self, binding_key: &[u8], destination: Destination) {
        let mut path = vec![(self.root, &b""[..])];
        for word in words(binding_key) {
            let (at, _) = path[path.len() - 1];
            let Some(child) = self.nodes[at].child(word) else { return };
            path.push((child, word));
        }
        self.nodes[path[path.len() - 1].0].destinations.remove(destination);
        while let [.., (parent, _), (node, word)] = path[..] {
            if !self.nodes[node].is_bare() {
                return;
            }
            self.remove_child(parent, word, node);
            path.pop();
        }
    }

    fn remove_child(&mut self, parent: NodeId, word: &[u8], node: NodeId) {
        self.nodes.remove(node);
        let parent = &mut self.nodes[parent];
        match word {
            b"*" => parent.one_word = None,
            b"#" => parent.any_words = None,
            _ => drop(parent.words.remove(word)),
        }
    }

    /// Adds the destinations of a message with that key to `found`.
    pub fn route(&self, routing_key: &[u8], found: &mut Found) {
        let mut reached = Reached::new();
        self.reach(self.root, &mut reached);
        for word in words(routing_key) {
            let mut next = Reached::new();
            for &at in &reached {
                let node = &self.nodes[at];
                if node.takes_any_words {
                    self.reach(at, &mut next);
                }
                for child in [node.words.get(word).copied(), node.one_word].into_iter().flatten() {
                    self.reach(child, &mut next);
                }
            }
            reached = next;
        }
        for at in reached {
            self.nodes[at].destinations.collect_into(found);
        }
    }

    /// Adds a node and, since `#` may stand for no word at all, the `#` below it.
    fn reach(&self, node: NodeId, reached: &mut Reached) {
        let mut at = Some(node);
        while let Some(node) = at {
            // Every other node has one way to it.
            if self.nodes[node].takes_any_words && reached.contains(&node) {
                return;
            }
            reached.push(node);
            at = self.nodes[node].any_words;
        }
    }

    #[cfg(test)]
    fn node_count(&self) -> usize {
        self.nodes.len()
    }
}

/// The words of a key: none for the empty one, else one more than there are dots.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = (!key.is_empty()).then_some(key);
    std::iter::from_fn(move || {
        let key = rest?;
        let dot = key.iter().position(|&octet| octet == b'.');
        rest = dot.map(|at| &key[at + 1..]);
        Some(&key[..dot.unwrap_or(key.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topology::QueueId;

    const QUEUE: Destination = Destination::Queue(QueueId(1));

    fn routes(table: &TopicTable, key: &str) -> bool {
        let mut found = Found::default();
        table.route(key.as_bytes(), &mut found);
        !found.is_empty()
    }

    fn check(pattern: &str, wanted: &[&str], unwanted: &[&str]) {
        let mut table = TopicTable::default();
        table.insert(pattern.as_bytes(), QUEUE);
        for key in wanted {
            assert!(routes(&table, key), "{pattern:?} takes {key:?}");
        }
        for key in unwanted {
            assert!(!routes(&table, key), "{pattern:?} leaves {key:?}");
        }
        table.remove(pattern.as_bytes(), QUEUE);
        assert_eq!(table.node_count(), 1, "{pattern:?} left nodes behind");
    }

    #[test]
    fn star_takes_exactly_one_word() {
        check("kern.*", &["kern.info", "kern."], &["kern", "kern.info.disk"]);
        check("*", &["kern"], &["", "kern.info"]);
        check("*.*", &[".", "a.b"], &["", "a", "a.b.c"]);
        check("*.orange.*", &["quick.orange.rabbit"], &["orange", "quick.orange.male.rabbit"]);
    }

    #[test]
    fn hash_takes_any_words() {
        check("#", &["", "a", "a.b", "..."], &[]);
        check("lazy.#", &["lazy", "lazy.a", "lazy.a.b.c"], &["", "quick.lazy"]);
        check("#.end", &["end", "a.end", "a.b.end", "end.end"], &["", "end.a"]);
        check("a.#.b", &["a.b", "a.x.b", "a.b.b"], &["a", "b", "a.b.c"]);
        check("#.*", &["a", "a.b"], &[""]);
        check("*.#", &["a", "a.b", "."], &[""]);
        check("#.#", &["", "a", "a.b.c"], &[]);
        check("#.a.#.b.#", &["a.b", "x.a.y.b.z", "a.a.b.b"], &["b.a", "a", ""]);
    }

    #[test]
    fn words_are_compared_whole() {
        check("", &[""], &["a", "."]);
        check("a", &["a"], &["", "ab", "a."]);
        check("a.b", &["a.b"], &["a", "a.b.", ".a.b", "a.*", "a.#"]);
    }

    #[test]
    fn a_destination_is_found_once_however_many_patterns_match() {
        let mut table = TopicTable::default();
        for pattern in ["#", "a.#", "*.b", "a.b"] {
            table.insert(pattern.as_bytes(), QUEUE);
        }
        let mut found = Found::default();
        table.route(b"a.b", &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn many_hashes_cost_no_more_than_their_nodes() {
        let mut table = TopicTable::default();
        table.insert("#.a.".repeat(60).trim_end_matches('.').as_bytes(), QUEUE);
        let key = "a.".repeat(120);
        assert!(routes(&table, key.trim_end_matches('.')), "this would not end if paths were walked twice");
    }
}
