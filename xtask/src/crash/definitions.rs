//! Which queues, exchanges and bindings must be there after a restart, and which must not.
//!
//! Knows names and what the broker said of them. Invariant: a thing is open only between a request and its
//! answer, or when a restart came between them.

use std::collections::BTreeMap;

use super::ledger::Order;

/// Queues that messages flow through all the time, and how each orders what comes back to it.
pub(super) const STEADY: [(&str, Order); 4] = [
    ("crash.steady-0", Order::Kept),
    ("crash.steady-1", Order::Kept),
    ("crash.steady-2", Order::Kept),
    ("crash.quorum", Order::KeptButForRequeues),
];
pub(super) const QUORUM: &str = "crash.quorum";
/// An exchange that all classic steady queues are bound to.
pub(super) const FANOUT: &str = "crash.fanout";
/// An exchange that changing queues are bound to, each by its own name.
pub(super) const DIRECT: &str = "crash.direct";
const CHANGING_QUEUES: usize = 6;
const CHANGING_EXCHANGES: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Queue(String),
    Exchange(String),
    /// Of the queue of that name to [`DIRECT`].
    Binding(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    There,
    Absent,
    /// Nobody said.
    Open,
}

#[derive(Debug)]
pub(super) struct Definitions(BTreeMap<Thing, Standing>);

impl Definitions {
    /// Nothing is there yet of all that will be.
    pub(super) fn new() -> Self {
        let steady = STEADY.iter().map(|(name, _)| Thing::Queue((*name).to_owned()));
        let exchanges = [FANOUT, DIRECT].map(|name| Thing::Exchange(name.to_owned()));
        let changing = changing_queues().flat_map(|name| [Thing::Queue(name.clone()), Thing::Binding(name)]);
        let all = steady.chain(exchanges).chain(changing);
        let all = all.chain(changing_exchanges().map(Thing::Exchange));
        Self(all.map(|thing| (thing, Standing::Absent)).collect())
    }

    pub(super) fn all(&self) -> Vec<Thing> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn standing(&self, thing: &Thing) -> Standing {
        self.0.get(thing).copied().unwrap_or(Standing::Absent)
    }

    /// Before a request that changes it is sent.
    pub(super) fn asked(&mut self, thing: &Thing) {
        self.set(thing, Standing::Open);
    }

    /// The broker's answer came.
    pub(super) fn done(&mut self, thing: &Thing, is_there: bool) {
        self.set(thing, if is_there { Standing::There } else { Standing::Absent });
    }

    fn set(&mut self, thing: &Thing, standing: Standing) {
        // A queue takes its bindings along.
        if let Thing::Queue(name) = thing
            && standing != Standing::There
            && let Some(binding) = self.0.get_mut(&Thing::Binding(name.clone()))
            && *binding != Standing::Absent
        {
            *binding = standing;
        }
        self.0.insert(thing.clone(), standing);
    }

    /// How it is after a restart; what is wrong with that.
    pub(super) fn found(&mut self, thing: &Thing, is_there: bool) -> Option<String> {
        let wrong = match (self.standing(thing), is_there) {
            (Standing::There, false) => {
                Some(format!("{thing:?} is lost, and the broker had said it was there"))
            }
            (Standing::Absent, true) => Some(format!("{thing:?} rose again, or nobody had asked for it")),
            _ => None,
        };
        self.done(thing, is_there);
        wrong
    }
}

pub(super) fn changing_queues() -> impl Iterator<Item = String> {
    (0..CHANGING_QUEUES).map(|number| format!("crash.queue-{number}"))
}

pub(super) fn changing_exchanges() -> impl Iterator<Item = String> {
    (0..CHANGING_EXCHANGES).map(|number| format!("crash.exchange-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Thing {
        Thing::Queue("crash.queue-0".to_owned())
    }

    fn binding() -> Thing {
        Thing::Binding("crash.queue-0".to_owned())
    }

    #[test]
    fn what_was_answered_must_be_so_after_a_restart() {
        for was_there in [true, false] {
            for is_there in [true, false] {
                let mut definitions = Definitions::new();
                definitions.asked(&queue());
                definitions.done(&queue(), was_there);
                let wrong = definitions.found(&queue(), is_there);
                assert_eq!(wrong.is_some(), was_there != is_there, "{was_there} {is_there}");
            }
        }
    }

    #[test]
    fn what_was_not_answered_is_as_it_is_found_and_stays_so() {
        for is_there in [true, false] {
            let mut definitions = Definitions::new();
            definitions.asked(&queue());
            assert_eq!(definitions.found(&queue(), is_there), None);
            assert!(definitions.found(&queue(), !is_there).is_some());
        }
    }

    #[test]
    fn a_queue_takes_its_binding_along() {
        let mut definitions = Definitions::new();
        definitions.done(&queue(), true);
        definitions.done(&binding(), true);
        definitions.asked(&queue());
        assert_eq!(definitions.standing(&binding()), Standing::Open);
        definitions.done(&queue(), false);
        assert_eq!(definitions.standing(&binding()), Standing::Absent);
        assert!(definitions.found(&binding(), true).is_some());
    }
}
