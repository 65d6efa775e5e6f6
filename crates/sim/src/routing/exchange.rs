//! An exchange of the model: its bindings as they were made, and which of them a message goes by.
//!
//! Invariant: what the rules leave to a hash or to chance is left open here.

use std::{collections::VecDeque, rc::Rc};

use super::message::Message;

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    Queue(String),
    Exchange(String),
}

/// How an exchange routes, of itself or once messages have waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
    Random,
    Ring,
    Modulus,
    Recent,
}

impl Kind {
    pub(super) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::Random,
        Self::Ring,
        Self::Modulus,
        Self::Recent,
    ];
    pub(super) const CERTAIN: [Self; 5] =
        [Self::Direct, Self::Fanout, Self::Topic, Self::Headers, Self::Recent];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::Random => "x-random",
            Self::Ring => "x-consistent-hash",
            Self::Modulus => "x-modulus-hash",
            Self::Recent => "x-recent-history",
        }
    }

    /// Whether each message goes by one binding.
    pub(super) const fn chooses(self) -> bool {
        matches!(self, Self::Random | Self::Ring | Self::Modulus)
    }
}

/// What a consistent hash goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HashOn {
    Key,
    Header,
    MessageId,
}

/// How an exchange is declared.
#[derive(Debug, Clone)]
pub(super) struct Declaration {
    pub(super) kind: Kind,
    /// Whether messages may wait there first.
    pub(super) delays: bool,
    pub(super) alternate: Option<String>,
    pub(super) hash_on: HashOn,
    /// How many messages are remembered, if it is told.
    pub(super) length: Option<usize>,
}

/// How many messages are remembered where it is not told.
const LENGTH_DEFAULT: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) source: String,
    pub(super) destination: Destination,
    pub(super) key: String,
    /// What a headers exchange compares.
    pub(super) number: Option<i32>,
}

/// A message on its way or in a place, as it was sent or once it has waited.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) message: Rc<Message>,
    pub(super) has_waited: bool,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) declaration: Declaration,
    pub(super) bindings: Vec<Binding>,
    /// Who shares what a consistent hash gives, and with what weight.
    ring: Vec<(Destination, u64)>,
    pub(super) remembered: VecDeque<Copy>,
}

impl Exchange {
    pub(super) const fn new(declaration: Declaration) -> Self {
        Self { declaration, bindings: Vec::new(), ring: Vec::new(), remembered: VecDeque::new() }
    }

    /// False when the binding is there.
    pub(super) fn bind(&mut self, binding: &Binding) -> bool {
        if self.bindings.contains(binding) {
            return false;
        }
        self.bindings.push(binding.clone());
        // A destination shares by its first binding alone.
        if self.ring.iter().all(|(found, _)| *found != binding.destination) {
            self.ring.push((binding.destination.clone(), binding.key.parse().unwrap_or(0)));
        }
        true
    }

    /// False when it is not there. A destination leaves a ring with any of its bindings.
    pub(super) fn unbind(&mut self, binding: &Binding) -> bool {
        let Some(at) = self.bindings.iter().position(|found| found == binding) else { return false };
        self.bindings.remove(at);
        self.ring.retain(|(found, _)| *found != binding.destination);
        true
    }

    /// Who shares messages that go one way each, and with what weight.
    pub(super) fn shares(&self) -> Vec<(Destination, u64)> {
        match self.declaration.kind {
            Kind::Ring => self.ring.clone(),
            Kind::Random | Kind::Modulus => {
                let mut shares: Vec<(Destination, u64)> = Vec::new();
                for Binding { destination, .. } in &self.bindings {
                    match shares.iter_mut().find(|(found, _)| found == destination) {
                        Some((_, weight)) => *weight += 1,
                        None => shares.push((destination.clone(), 1)),
                    }
                }
                shares
            }
            _ => Vec::new(),
        }
    }

    /// The destinations that a message goes to, each once, where the kind leaves nothing open.
    pub(super) fn wanted(&self, message: &Message) -> Vec<Destination> {
        let mut wanted: Vec<Destination> = Vec::new();
        for binding in self.bindings.iter().filter(|binding| self.wants(binding, message)) {
            if !wanted.contains(&binding.destination) {
                wanted.push(binding.destination.clone());
            }
        }
        wanted
    }

    pub(super) fn wants(&self, binding: &Binding, message: &Message) -> bool {
        let keys = message.keys();
        match self.declaration.kind {
            Kind::Direct => keys.contains(&&*binding.key),
            Kind::Topic => keys.iter().any(|key| matches_pattern(&binding.key, key)),
            Kind::Headers => binding.number == message.number(),
            // An empty key wants everything, any other is a pattern.
            Kind::Recent => {
                binding.key.is_empty() || keys.iter().any(|key| matches_pattern(&binding.key, key))
            }
            Kind::Fanout => true,
            Kind::Random | Kind::Ring | Kind::Modulus => false,
        }
    }

    /// What is hashed of a message; `None` where chance decides.
    pub(super) fn hashed(&self, message: &Message) -> Option<String> {
        match (self.declaration.kind, self.declaration.hash_on) {
            (Kind::Modulus, _) => Some(message.keys().join("\n")),
            (Kind::Ring, HashOn::Key) => Some(message.key.clone()),
            (Kind::Ring, HashOn::Header) => Some(format!("{:?}", message.number())),
            (Kind::Ring, HashOn::MessageId) => Some(format!("{:?}", message.message_id)),
            _ => None,
        }
    }

    /// Remembers a message, if the exchange does such a thing.
    pub(super) fn remember(&mut self, copy: &Copy) {
        if self.declaration.kind == Kind::Recent && copy.message.is_remembered() {
            self.remembered.push_back(copy.clone());
            if self.remembered.len() > self.declaration.length.unwrap_or(LENGTH_DEFAULT) {
                self.remembered.pop_front();
            }
        }
    }
}

/// Words between dots; `*` is one of them, `#` any number.
fn matches_pattern(pattern: &str, key: &str) -> bool {
    fn matches(pattern: &[&str], words: &[&str]) -> bool {
        match pattern.split_first() {
            None => words.is_empty(),
            Some((&"#", rest)) => (0..=words.len()).any(|skipped| matches(rest, &words[skipped..])),
            Some((word, rest)) => {
                let Some((first, others)) = words.split_first() else { return false };
                (*word == "*" || word == first) && matches(rest, others)
            }
        }
    }
    matches(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>())
}
