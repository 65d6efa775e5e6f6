//! Messages that wait for their time at exchanges of type `x-delayed-message`.
//!
//! Each is a reference in the log and an entry here; the housekeeper takes up those that are due and
//! publishes them anew. Invariant: a waiting message is given back to the log after what takes its
//! place is there.

use std::sync::Arc;

use leveret_wire::{Properties, PublishRoute, Table};
use parking_lot::Mutex;

use super::{
    Engine,
    batch::{Batch, Message, PERSISTENT, Republication, Republished},
    queue_cell::Scratch,
    routes::route_from,
};
use crate::{
    Location, Now,
    model::exchange::{DelayQueue, DelayedAt, delay_millis, waited},
};

struct Waiting {
    location: Location,
    at: Arc<DelayedAt>,
}

/// All messages that wait. A leaf lock: whoever holds it asks for no other.
#[derive(Default)]
pub(super) struct Delays {
    waiting: Mutex<DelayQueue<Waiting>>,
}

impl Delays {
    /// Takes over a reference to a message; true when none is due earlier, and the housekeeper is to
    /// be woken.
    pub(super) fn hold(&self, due_millis: u64, location: Location, at: Arc<DelayedAt>) -> bool {
        self.waiting.lock().push(due_millis, Waiting { location, at })
    }

    pub(super) fn next_millis(&self) -> Option<u64> {
        self.waiting.lock().next_due_millis()
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
            let due = engine.delays.waiting.lock().pop_due(now.monotonic_millis)?;
            due.publish(engine, batch, now);
            Some(Republished { location: due.location, left: None })
        })
    }
}

impl Waiting {
    /// Puts the message into the batch, if any queue wants it.
    fn publish(&self, engine: &Engine, batch: &mut Batch, now: Now) {
        let Some(vhost) = engine.vhost(&self.at.vhost) else { return };
        let chunk = engine.log.chunk(self.location);
        let record = chunk.record(self.location);
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
