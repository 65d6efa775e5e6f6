//! Exchanges and bindings of the model: two plain lists.

use std::collections::{BTreeMap, BTreeSet};

use leveret_wire::{ReplyCode, Table, TableBuf, Value, method::exchange};

use super::{
    ChannelKey, Destinations, Model, QueueKey,
    routing::{Kind, MATCHES},
    turn::Turn,
    verdict::{Outcome, Verdict},
};
use crate::{Checked, counts::Event};

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Queue(QueueKey),
    Exchange(String),
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) source: String,
    pub(super) destination: Destination,
    pub(super) key: Vec<u8>,
    pub(super) arguments: TableBuf,
}

impl Binding {
    pub(super) fn new(source: &str, destination: Destination, key: Vec<u8>, arguments: Table<'_>) -> Self {
        Self { source: source.to_owned(), destination, key, arguments: TableBuf::sorted(arguments) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exchange {
    kind: Kind,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    alternate: Option<Vec<u8>>,
}

impl Exchange {
    fn declared(kind: Kind, declare: &exchange::Declare<'_>) -> Self {
        let alternate = match declare.arguments.find("alternate-exchange") {
            Some(Value::LongStr(name)) => Some(name.to_vec()),
            _ => None,
        };
        Self {
            kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            alternate,
        }
    }
}

/// All exchanges and bindings.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    declared: BTreeMap<String, Exchange>,
    bindings: Vec<Binding>,
}

const PREDECLARED: [(&str, Kind); 6] = [
    ("", Kind::Direct),
    ("amq.direct", Kind::Direct),
    ("amq.fanout", Kind::Fanout),
    ("amq.headers", Kind::Headers),
    ("amq.match", Kind::Headers),
    ("amq.topic", Kind::Topic),
];

impl Exchanges {
    fn kind(&self, name: &str) -> Option<Kind> {
        let predeclared = PREDECLARED.iter().find(|(other, _)| *other == name).map(|(_, kind)| *kind);
        predeclared.or_else(|| self.declared.get(name).map(|exchange| exchange.kind))
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.kind(name).is_some()
    }

    pub(super) fn is_internal(&self, name: &str) -> bool {
        self.declared.get(name).is_some_and(|exchange| exchange.internal)
    }

    fn is_bound(&self, source: &str) -> bool {
        self.bindings.iter().any(|binding| binding.source == source)
    }

    pub(super) fn declared_names(&self) -> impl Iterator<Item = &str> {
        self.declared.keys().map(String::as_str)
    }

    /// The queues that a message goes to. Each exchange is passed once.
    pub(super) fn route<'m>(&'m self, from: &'m str, keys: &[Vec<u8>], headers: Table<'_>) -> Destinations {
        let mut queues = BTreeSet::new();
        let mut passed = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(source) = next.pop() {
            let Some(kind) = self.kind(source) else { continue };
            let wants = |binding: &Binding, key: &[u8]| {
                kind.wants(&binding.key, binding.arguments.as_table(), key, headers)
            };
            let wanting: Vec<_> = self
                .bindings
                .iter()
                .filter(|binding| binding.source == source && keys.iter().any(|key| wants(binding, key)))
                .collect();
            if let Some(alternate) = self.alternate(source).filter(|_| wanting.is_empty())
                && passed.insert(alternate)
            {
                next.push(alternate);
            }
            for binding in wanting {
                match &binding.destination {
                    Destination::Queue(queue) => drop(queues.insert(*queue)),
                    Destination::Exchange(exchange) if passed.insert(exchange) => next.push(exchange),
                    Destination::Exchange(_) => {}
                }
            }
        }
        queues
    }

    fn alternate(&self, name: &str) -> Option<&str> {
        let alternate = self.declared.get(name)?.alternate.as_deref()?;
        std::str::from_utf8(alternate).ok()
    }

    fn bind(&mut self, binding: Binding) {
        if !self.bindings.contains(&binding) {
            self.bindings.push(binding);
        }
    }

    /// Removes bindings and the auto-delete exchanges that had no other; returns how many
    /// exchanges that were.
    pub(super) fn unbind(&mut self, which: impl Fn(&Binding) -> bool) -> u64 {
        let (gone, kept) = std::mem::take(&mut self.bindings).into_iter().partition(|binding| which(binding));
        self.bindings = kept;
        let gone: Vec<Binding> = gone;
        let sources: BTreeSet<String> = gone.into_iter().map(|binding| binding.source).collect();
        let mut deleted = 0;
        for source in sources {
            let abandoned = self.declared.get(&source).is_some_and(|exchange| exchange.auto_delete);
            if abandoned && !self.is_bound(&source) {
                deleted += 1 + self.remove(&source);
            }
        }
        deleted
    }

    fn remove(&mut self, name: &str) -> u64 {
        self.declared.remove(name);
        let leads_there = Destination::Exchange(name.to_owned());
        self.bindings.retain(|binding| binding.source != name);
        self.unbind(|binding| binding.destination == leads_there)
    }
}

/// Names that only the broker gives.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("amq.")
}

pub(super) fn text(name: leveret_wire::ShortStr<'_>) -> &str {
    name.to_str().expect("clients send names that are text")
}

impl Model {
    pub(super) fn declare_exchange(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        declare: exchange::Declare<'_>,
    ) -> Checked {
        let name = text(declare.exchange);
        let verdict = match Kind::named(declare.kind.as_bytes()) {
            _ if declare.passive => Verdict::unless(&[
                (name.is_empty(), ReplyCode::AccessRefused),
                (!self.exchanges.exists(name), ReplyCode::NotFound),
            ]),
            None => Verdict::refused(ReplyCode::CommandInvalid),
            Some(kind) => self.judge_declare(name, kind, &declare),
        };
        let answer = (!declare.nowait).then_some((40, 11));
        if let Outcome::Refused = self.outcome(turn, key.1, (40, 10), answer, verdict)? {
            return Ok(());
        }
        let new = !declare.passive && !self.exchanges.exists(name);
        if let Some(kind) = Kind::named(declare.kind.as_bytes()).filter(|_| new) {
            self.topology_changes += 1;
            self.exchanges.declared.insert(name.to_owned(), Exchange::declared(kind, &declare));
        }
        Ok(())
    }

    fn judge_declare(&self, name: &str, kind: Kind, declare: &exchange::Declare<'_>) -> Verdict {
        let asked = Exchange::declared(kind, declare);
        let predeclared = PREDECLARED.iter().find(|(other, _)| *other == name);
        let current = match predeclared {
            Some((_, kind)) => Some(Exchange {
                kind: *kind,
                durable: true,
                auto_delete: false,
                internal: false,
                alternate: None,
            }),
            None => self.exchanges.declared.get(name).cloned(),
        };
        Verdict::unless(&[
            (name.is_empty(), ReplyCode::AccessRefused),
            (current.is_none() && is_reserved(name), ReplyCode::AccessRefused),
            (
                !name.is_empty() && current.is_some_and(|current| current != asked),
                ReplyCode::PreconditionFailed,
            ),
        ])
    }

    pub(super) fn delete_exchange(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        delete: exchange::Delete<'_>,
    ) -> Checked {
        let name = text(delete.exchange);
        let verdict = Verdict::unless(&[
            (name.is_empty() || is_reserved(name), ReplyCode::AccessRefused),
            (delete.if_unused && self.exchanges.is_bound(name), ReplyCode::PreconditionFailed),
        ]);
        let answer = (!delete.nowait).then_some((40, 21));
        if let Outcome::Refused = self.outcome(turn, key.1, (40, 20), answer, verdict)? {
            return Ok(());
        }
        self.topology_changes += 1;
        let others = self.exchanges.remove(name);
        self.note_deleted_exchanges(others);
        Ok(())
    }

    pub(super) fn bind_exchange(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        bind: exchange::Bind<'_>,
    ) -> Checked {
        let (source, destination) = (text(bind.source), text(bind.destination));
        let verdict = Verdict::unless(&[
            (source.is_empty() || destination.is_empty(), ReplyCode::AccessRefused),
            (!self.exchanges.exists(source) || !self.exchanges.exists(destination), ReplyCode::NotFound),
            (!self.may_bind(source, bind.arguments), ReplyCode::PreconditionFailed),
        ]);
        let answer = (!bind.nowait).then_some((40, 31));
        if let Outcome::Refused = self.outcome(turn, key.1, (40, 30), answer, verdict)? {
            return Ok(());
        }
        let destination = Destination::Exchange(destination.to_owned());
        let key = bind.routing_key.as_bytes().to_vec();
        self.add_binding(Binding::new(source, destination, key, bind.arguments));
        Ok(())
    }

    pub(super) fn unbind_exchange(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        unbind: exchange::Unbind<'_>,
    ) -> Checked {
        let (source, destination) = (text(unbind.source), text(unbind.destination));
        let default = source.is_empty() || destination.is_empty();
        let verdict = Verdict::unless(&[(default, ReplyCode::AccessRefused)]);
        let answer = (!unbind.nowait).then_some((40, 51));
        if let Outcome::Refused = self.outcome(turn, key.1, (40, 40), answer, verdict)? {
            return Ok(());
        }
        let destination = Destination::Exchange(destination.to_owned());
        let key = unbind.routing_key.as_bytes().to_vec();
        self.remove_binding(&Binding::new(source, destination, key, unbind.arguments));
        Ok(())
    }

    /// Whether the arguments of a binding make sense to that exchange.
    pub(super) fn may_bind(&self, source: &str, arguments: Table<'_>) -> bool {
        let known = match arguments.find("x-match") {
            None => true,
            Some(Value::LongStr(how)) => MATCHES.contains(&how),
            Some(_) => false,
        };
        known || self.exchanges.kind(source) != Some(Kind::Headers)
    }

    pub(super) fn is_there(&self, binding: &Binding) -> bool {
        self.exchanges.bindings.contains(binding)
    }

    pub(super) fn add_binding(&mut self, binding: Binding) {
        self.topology_changes += 1;
        self.exchanges.bind(binding);
    }

    pub(super) fn remove_binding(&mut self, unwanted: &Binding) {
        self.topology_changes += 1;
        let deleted = self.exchanges.unbind(|binding| binding == unwanted);
        self.note_deleted_exchanges(deleted);
    }

    pub(super) fn remove_bindings_to(&mut self, queue: QueueKey) {
        let deleted = self.exchanges.unbind(|binding| binding.destination == Destination::Queue(queue));
        self.note_deleted_exchanges(deleted);
    }

    fn note_deleted_exchanges(&mut self, count: u64) {
        for _ in 0..count {
            self.counts.note(Event::ExchangeAutoDelete);
        }
    }
}
