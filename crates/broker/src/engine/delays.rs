//! Messages that wait for their time at exchanges of type `x-delayed-message`.
//!
//! Each is a reference in the log and an entry here; the housekeeper takes up those that are due and
//! publishes them anew. Those that wait at a durable exchange are in a line of the store as well,
//! persistent or not. Invariant: a waiting message is given back to the log after what takes its place is there.

use std::{collections::BTreeMap, sync::Arc};

use leveret_wire::{Properties, PublishRoute, Table};
use parking_lot::Mutex;

use super::{
    Engine,
    batch::{Batch, Left, Message, PERSISTENT, Republication, Republished},
    definition_entry::{DefinitionEntry, DelaysEntry},
    kept_line::KeptLine,
    queue_cell::Scratch,
    routes::route_from,
    vhost::Vhost,
};
use crate::{
    Location, Now, Ordinal,
    model::exchange::{DelayQueue, DelayedAt, ExchangeKind, delay_millis, waited},
    planted::{self, Bug},
    store::{journal::QueueNumber, snapshot::QueueState},
};

/// A message that waits.
pub(super) struct Waiting {
    pub(super) location: Location,
    pub(super) at: Arc<DelayedAt>,
    /// Where it stands in the store, if it lasts.
    pub(super) kept: Option<(Arc<KeptLine>, Ordinal)>,
}

/// All messages that wait. A leaf lock: whoever holds it asks for no other.
#[derive(Default)]
pub(super) struct Delays {
    waiting: Mutex<DelayQueue<Waiting>>,
    /// Lines of the store by their numbers, and those by virtual host and exchange.
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    by_number: BTreeMap<u64, Arc<KeptLine>>,
    numbers: BTreeMap<(Box<str>, Box<str>), u64>,
}

impl Delays {
    /// Takes over a reference to a message; true when none is due earlier, and the housekeeper is to
    /// be woken.
    pub(super) fn hold(&self, due_millis: u64, waiting: Waiting) -> bool {
        self.waiting.lock().push(due_millis, waiting) && !planted::is(Bug::DelayNotTold)
    }

    /// The line of that number.
    pub(super) fn line(&self, number: u64) -> Option<Arc<KeptLine>> {
        self.lines.lock().by_number.get(&number).cloned()
    }

    fn add_line(&self, vhost: &str, exchange: &str, line: KeptLine) {
        let mut lines = self.lines.lock();
        lines.numbers.insert((vhost.into(), exchange.into()), line.number.0);
        lines.by_number.insert(line.number.0, Arc::new(line));
    }

    pub(super) fn next_millis(&self) -> Option<u64> {
        self.waiting.lock().next_due_millis()
    }

    /// Nothing waits in that line, and nothing will.
    pub(super) fn remove_line(&self, vhost: &str, exchange: &str) {
        let mut lines = self.lines.lock();
        if let Some(number) = lines.numbers.remove(&(vhost.into(), exchange.into())) {
            lines.by_number.remove(&number);
        }
    }
}

impl Engine {
    /// The number of the line in which messages last that wait at a durable exchange of that name,
    /// made if there is none yet. It stays when the exchange is deleted, as what waits does. `None`
    /// without a store.
    pub(super) fn delay_line(&self, vhost: &str, exchange: &str) -> Option<u64> {
        let durability = self.durability.as_ref()?;
        let known = self.delays.lines.lock().numbers.get(&(vhost.into(), exchange.into())).copied();
        if known.is_some() {
            return known;
        }
        let number = self.next_id();
        self.add_delay_line(vhost, exchange, KeptLine::new(QueueNumber(number), QueueState::default(), 0));
        let entry = DefinitionEntry::Delays(DelaysEntry { vhost, exchange, number });
        durability.put(entry.key(), entry.value());
        Some(number)
    }

    /// A line is there.
    pub(super) fn add_delay_line(&self, vhost: &str, exchange: &str, line: KeptLine) {
        if let Some(durability) = &self.durability {
            durability.add_queue(line.number, &line.durable);
        }
        self.delays.add_line(vhost, exchange, line);
    }

    /// A message waits again that the store had in a line.
    pub(super) fn wait_again(&self, at: &Arc<DelayedAt>, ordinal: Ordinal, location: Location) {
        let chunk = self.log.chunk(location);
        let record = chunk.record(location);
        let headers = Properties::decode(record.property_octets()).unwrap_or_default().headers;
        let millis = headers.and_then(delay_millis).unwrap_or_default();
        let line = at.line.and_then(|number| self.delays.line(number));
        let kept = line.map(|line| (line, ordinal));
        self.delays.hold(record.arrived_millis + millis, Waiting { location, at: Arc::clone(at), kept });
    }
}

/// Messages on their way on from where they waited.
#[derive(Default)]
pub(super) struct Resumption {
    republication: Republication,
}

impl Resumption {
    /// Publishes what is due, as far as the budget of appends goes; true when some may be left.
    pub(super) fn work(&mut self, engine: &Engine, scratch: &mut Scratch, now: Now, budget: usize) -> bool {
        self.republication.work(engine, scratch, budget, |_, batch, _| {
            let early_millis = if planted::is(Bug::DelayedTooEarly) { 5 } else { 0 };
            let due = engine.delays.waiting.lock().pop_due(now.monotonic_millis + early_millis)?;
            if planted::is(Bug::DelayGoneFirst)
                && let (Some((line, ordinal)), Some(durability)) = (&due.kept, &engine.durability)
            {
                line.left(durability, *ordinal);
            }
            due.publish(engine, batch, now);
            let left = due.kept.map(|(line, ordinal)| Left::Line(line, ordinal));
            Some(Republished { location: due.location, left })
        })
    }
}

impl Waiting {
    /// Whether the exchange is one where messages wait.
    fn is_delayed_there(&self, vhost: &Vhost) -> bool {
        let topology = vhost.topology.read();
        let found = topology.exchange(&self.at.exchange);
        found.is_some_and(|(_, exchange)| exchange.declaration.kind == ExchangeKind::Delayed)
    }

    /// Puts the message into the batch, if any queue wants it.
    fn publish(&self, engine: &Engine, batch: &mut Batch, now: Now) {
        let Some(vhost) = engine.vhost(&self.at.vhost) else { return };
        let chunk = engine.log.chunk(self.location);
        let record = chunk.record(self.location);
        if planted::is(Bug::DelayedLostWithType) && !self.is_delayed_there(&vhost) {
            return;
        }
        let Ok(properties) = Properties::decode(record.property_octets()) else { return };
        let before = properties.headers.unwrap_or(Table::EMPTY);
        let headers = waited(before, delay_millis(before).unwrap_or_default());
        let properties = Properties { headers: Some(headers.as_table()), ..properties };
        let from = PublishRoute::from_octets(record.route).expect("records hold routes");
        let random = || engine.random_number();
        let key = from.routing_key();
        let Some(route) = route_from(&vhost, &self.at.exchange, key.as_bytes(), &properties, &random) else {
            return;
        };
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        let message = Message {
            route: from,
            property_octets: &property_octets,
            body: record.body(),
            arrived_millis: now.monotonic_millis,
            expires: properties.expiration.is_some(),
            is_persistent: properties.delivery_mode == Some(PERSISTENT),
        };
        let octets_left = 0;
        batch.append(engine, &message, &Arc::new(route), octets_left);
    }
}
