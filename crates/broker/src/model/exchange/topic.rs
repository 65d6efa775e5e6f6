//! Topic routing: which destinations want a message with this key.
//!
//! Keys are words between dots; in a binding key `*` is exactly one word and `#` zero or more.
//! The patterns form a trie of words. A message walks it with the set of nodes that its key may
//! have reached, so that it costs by the depth of its key and not by the number of bindings, and
//! a pattern of many `#` cannot make it walk a path twice. With a million bindings it is looks
//! into memory that cost, so a node is small and has its children at hand (`benches/micro`).
//! Invariant: a node without destinations has children, but for the root.

mod children;
mod words;

use std::num::NonZeroU32;

use slab::Slab;
use smallvec::SmallVec;

use self::{
    children::Children,
    words::{WordId, Words},
};
use crate::model::{binding::Destination, destinations::DestinationSet, found::Found};

/// A place in a slab, counted from one, so that none takes no room of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(NonZeroU32);

type NodeId = Place;

/// The nodes that the words so far may have led to; mostly one or two.
type Reached = SmallVec<[NodeId; 16]>;

const ROOT: NodeId = Place(NonZeroU32::MIN);

impl Place {
    fn of(key: usize) -> Self {
        let place = u32::try_from(key + 1).ok().and_then(NonZeroU32::new);
        Self(place.expect("memory ends long before there are 2^32 of them"))
    }

    const fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What leads from a node to the one below it.
#[derive(Debug, Clone, Copy)]
enum Step<'k> {
    Word(&'k [u8]),
    OneWord,
    AnyWords,
}

impl<'k> Step<'k> {
    fn of(word: &'k [u8]) -> Self {
        match word {
            b"*" => Self::OneWord,
            b"#" => Self::AnyWords,
            word => Self::Word(word),
        }
    }
}

/// The trie of binding keys.
#[derive(Debug)]
pub struct TopicTable {
    nodes: Slab<Node>,
    words: Words,
    /// Apart from the nodes, of which a walk passes many and asks few for their destinations.
    destinations: Slab<DestinationSet>,
}

#[derive(Debug, Default)]
struct Node {
    children: Children,
    one_word: Option<NodeId>,
    any_words: Option<NodeId>,
    /// Whether this node is its parent's `any_words`, and so takes every further word.
    takes_any_words: bool,
    /// None where there would be none.
    destinations: Option<Place>,
}

impl Node {
    fn is_bare(&self) -> bool {
        self.destinations.is_none()
            && self.children.is_empty()
            && self.one_word.is_none()
            && self.any_words.is_none()
    }
}

impl Default for TopicTable {
    fn default() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::default());
        assert_eq!(Place::of(root), ROOT, "the first place is the root's");
        Self { nodes, words: Words::default(), destinations: Slab::new() }
    }
}

impl TopicTable {
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.key()]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.key()]
    }

    /// Adds a binding.
    pub fn insert(&mut self, binding_key: &[u8], destination: Destination) {
        let mut at = ROOT;
        for step in words(binding_key).map(Step::of) {
            at = self.child(at, step).unwrap_or_else(|| self.add_child(at, step));
        }
        let place = match self.node(at).destinations {
            Some(place) => place,
            None => {
                let place = Place::of(self.destinations.insert(DestinationSet::default()));
                self.node_mut(at).destinations = Some(place);
                place
            }
        };
        self.destinations[place.key()].insert(destination);
    }

    fn child(&self, parent: NodeId, step: Step<'_>) -> Option<NodeId> {
        let parent = self.node(parent);
        match step {
            Step::Word(word) => parent.children.find(self.words.find(word)?),
            Step::OneWord => parent.one_word,
            Step::AnyWords => parent.any_words,
        }
    }

    fn add_child(&mut self, parent: NodeId, step: Step<'_>) -> NodeId {
        let takes_any_words = matches!(step, Step::AnyWords);
        let child = Place::of(self.nodes.insert(Node { takes_any_words, ..Node::default() }));
        match step {
            Step::Word(word) => {
                let word = self.words.take(word);
                self.node_mut(parent).children.insert(word, child);
            }
            Step::OneWord => self.node_mut(parent).one_word = Some(child),
            Step::AnyWords => self.node_mut(parent).any_words = Some(child),
        }
        child
    }

    /// Removes a binding that was added, and the nodes that only it needed.
    pub fn remove(&mut self, binding_key: &[u8], destination: Destination) {
        let mut path = Vec::new();
        let mut at = ROOT;
        for step in words(binding_key).map(Step::of) {
            path.push((at, step));
            let Some(child) = self.child(at, step) else { return };
            at = child;
        }
        self.remove_destination(at, destination);
        while let Some((parent, step)) = path.pop().filter(|_| self.node(at).is_bare()) {
            self.remove_child(parent, step, at);
            at = parent;
        }
    }

    fn remove_destination(&mut self, at: NodeId, destination: Destination) {
        let Some(place) = self.node(at).destinations else { return };
        let set = &mut self.destinations[place.key()];
        set.remove(destination);
        if set.is_empty() {
            self.destinations.remove(place.key());
            self.node_mut(at).destinations = None;
        }
    }

    fn remove_child(&mut self, parent: NodeId, step: Step<'_>, child: NodeId) {
        self.nodes.remove(child.key());
        match step {
            Step::Word(word) => {
                let id = self.words.find(word).expect("the child's parent uses it");
                self.node_mut(parent).children.remove(id);
                self.words.give_back(word);
            }
            Step::OneWord => self.node_mut(parent).one_word = None,
            Step::AnyWords => self.node_mut(parent).any_words = None,
        }
    }

    /// Adds the destinations of a message with that key to `found`.
    pub fn route(&self, routing_key: &[u8], found: &mut Found) {
        let mut reached = Reached::new();
        self.reach(ROOT, &mut reached);
        for word in words(routing_key) {
            reached = self.walk(&reached, self.words.find(word));
        }
        for place in reached.into_iter().filter_map(|at| self.node(at).destinations) {
            self.destinations[place.key()].collect_into(found);
        }
    }

    /// The nodes that one more word leads to.
    fn walk(&self, reached: &Reached, word: Option<WordId>) -> Reached {
        let mut next = Reached::new();
        for &at in reached {
            let node = self.node(at);
            if node.takes_any_words {
                self.reach(at, &mut next);
            }
            let by_word = word.and_then(|word| node.children.find(word));
            for child in [by_word, node.one_word].into_iter().flatten() {
                self.reach(child, &mut next);
            }
        }
        next
    }

    /// Adds a node and, since `#` may stand for no word at all, the `#` below it.
    fn reach(&self, node: NodeId, reached: &mut Reached) {
        let mut at = Some(node);
        while let Some(id) = at {
            let node = self.node(id);
            // Every other node has one way to it.
            if node.takes_any_words && reached.contains(&id) {
                return;
            }
            reached.push(id);
            at = node.any_words;
        }
    }

    /// Nodes, words, and nodes with destinations.
    #[cfg(test)]
    fn sizes(&self) -> [usize; 3] {
        [self.nodes.len(), self.words.len(), self.destinations.len()]
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
        assert_eq!(table.sizes(), [1, 0, 0], "{pattern:?} left nodes or words behind");
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

    #[test]
    fn many_children_come_and_go() {
        let mut table = TopicTable::default();
        let key = |n: usize| format!("{}.a word that is longer than what lies in line {n}.c", n % 7);
        for n in 0..100 {
            table.insert(key(n).as_bytes(), QUEUE);
        }
        for n in 0..100 {
            assert!(routes(&table, &key(n)) && !routes(&table, &format!("{}.c", key(n))));
            table.remove(key(n).as_bytes(), QUEUE);
            assert!(!routes(&table, &key(n)), "{n} is gone");
        }
        assert_eq!(table.sizes(), [1, 0, 0]);
    }

    #[test]
    fn a_node_is_smaller_than_a_line_of_the_cache() {
        assert!(size_of::<Node>() <= 48, "{}", size_of::<Node>());
    }
}
