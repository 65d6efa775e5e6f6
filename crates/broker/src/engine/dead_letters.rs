//! Dead letters: messages that left a queue unconsumed are published anew, to the queue's
//! dead-letter exchange.
//!
//! Whoever's step made them does it, as a list of work outside all locks. Invariant: a dead letter
//! is given back to the log after what takes its place is there.

use std::{collections::VecDeque, sync::Arc};

use leveret_wire::{Properties, PublishRoute, ShortStr, Table};

use super::{
    Engine,
    batch::{Batch, Left, Message, PERSISTENT, Republication, Republished},
    queue_cell::{QueueCell, Scratch},
    routes::{QueueRoute, route_from},
};
use crate::{
    Now,
    model::{
        death::{self, Death},
        queue::Dead,
    },
    planted::{self, Bug},
};

/// A message that left a queue.
pub(super) struct DeadLetter {
    pub(super) queue: Arc<QueueCell>,
    pub(super) dead: Dead,
}

/// Above this many dead letters, what follows from a few of them is done before the others.
///
/// Queues that are each other's dead-letter exchange by way of a fanout make one message as many as
/// there are ways through all of them. In the order in which they came, the last of those would all
/// wait at once, the factorial of the queues; from the deepest on, it is no more than
/// a batch and what follows from one, for each level.
const LETTERS_IN_ORDER_MAX: usize = 4096;
/// Dead letters that there is room for when there are none.
const LETTERS_KEPT_ROOM_MAX: usize = 256;

/// Dead letters on their way into queues.
#[derive(Default)]
pub(super) struct Undertaker {
    republication: Republication,
    /// By how many dead letters led to each, in the order in which they came.
    levels: Vec<VecDeque<DeadLetter>>,
    letters: usize,
    /// The level that the batch is of.
    level: usize,
}

impl Undertaker {
    /// Whether any of its work is left.
    pub(super) const fn is_busy(&self) -> bool {
        self.letters > 0 || self.republication.is_busy()
    }

    /// Publishes the dead letters of `scratch`, and those that follow from that, as far as the
    /// budget of appends goes; true when some may be left.
    pub(super) fn work(&mut self, engine: &Engine, scratch: &mut Scratch, now: Now, budget: usize) -> bool {
        // Behind those that came before.
        self.take_in(scratch, self.last_level());
        let mut republication = std::mem::take(&mut self.republication);
        republication.work(engine, scratch, budget, |scratch, batch, messages| {
            self.take_in(scratch, self.level + 1);
            if messages == 0 {
                self.level = self.next_level()?;
            }
            let letter = self.levels[self.level].pop_front()?;
            self.letters -= 1;
            letter.publish(engine, batch, now);
            if planted::is(Bug::DeadLetterTwice) {
                letter.publish(engine, batch, now);
            }
            let left = letter.dead.position.map(|position| Left::Queue(letter.queue, position));
            Some(Republished { location: letter.dead.location, left })
        });
        self.republication = republication;
        self.take_in(scratch, self.level + 1);
        if self.letters == 0 {
            self.levels.truncate(1);
            self.levels.iter_mut().for_each(|level| level.shrink_to(LETTERS_KEPT_ROOM_MAX));
        }
        self.is_busy()
    }

    /// Takes over what steps buried.
    fn take_in(&mut self, scratch: &mut Scratch, level: usize) {
        if scratch.dead_letters.is_empty() {
            return;
        }
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, VecDeque::new);
        }
        self.letters += scratch.dead_letters.len();
        self.levels[level].append(&mut scratch.dead_letters);
    }

    fn last_level(&self) -> usize {
        self.levels.iter().rposition(|level| !level.is_empty()).unwrap_or(0)
    }

    /// Which level is next: those that came first, as long as they are not too many.
    fn next_level(&self) -> Option<usize> {
        match self.letters {
            0 => None,
            1..=LETTERS_IN_ORDER_MAX => self.levels.iter().position(|level| !level.is_empty()),
            _ => Some(self.last_level()),
        }
    }
}

impl DeadLetter {
    /// Puts what takes the letter's place into the batch, if any queue wants it.
    fn publish(&self, engine: &Engine, batch: &mut Batch, now: Now) {
        let Some(target) = &self.queue.declaration.parsed.dead_letter else { return };
        let Some(vhost) = self.queue.vhost.upgrade() else { return };
        let chunk = engine.log.chunk(self.dead.location);
        let record = chunk.record(self.dead.location);
        let Ok(properties) = Properties::decode(record.property_octets()) else { return };
        let from = PublishRoute::from_octets(record.route).expect("records hold routes");
        let headers = death::headers(
            &properties,
            Death {
                reason: self.dead.reason,
                queue: &self.queue.name,
                exchange: from.exchange(),
                routing_key: from.routing_key(),
                time_seconds: now.wall_millis / 1000,
                is_rekeyed: target.routing_key.is_some(),
            },
        );
        let key = target.routing_key.as_deref().unwrap_or(from.routing_key().as_bytes());
        let key = ShortStr::new(key).expect("a routing key is a short string");
        let properties = Properties { headers: Some(headers.as_table()), expiration: None, ..properties };
        let random = || engine.random_number();
        let routed = route_from(&vhost, &target.exchange, key.as_bytes(), &properties, &random);
        let Some(route) = routed else { return };
        let route = without_cycles(route, headers.as_table());
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        let mut octets = Vec::new();
        let message = Message {
            route: PublishRoute::write(ShortStr::truncated(&target.exchange), key, &mut octets),
            property_octets: &property_octets,
            body: record.body(),
            arrived_millis: now.monotonic_millis,
            expires: false,
            is_persistent: properties.delivery_mode == Some(PERSISTENT),
        };
        let octets_left = 0;
        batch.append(engine, &message, &Arc::new(route), octets_left);
    }
}

/// The route without queues that the message came through before, if nobody refused it on the way.
fn without_cycles(mut route: QueueRoute, headers: Table<'_>) -> QueueRoute {
    route.queues.retain(|queue| {
        let is_cycle = death::is_cycle(headers, &queue.name) && !planted::is(Bug::CycleForgotten);
        if is_cycle {
            tracing::warn!(
                queue = &*queue.name,
                "a message that went round through dead-letter exchanges is dropped"
            );
        }
        !is_cycle
    });
    route
}

impl Scratch {
    /// Notes what a step on that queue buried.
    pub(super) fn note_dead(&mut self, queue: &Arc<QueueCell>) {
        if planted::is(Bug::DeadLetterLost) && self.effects.dead.len() > 1 {
            self.effects.dropped.extend(self.effects.dead.pop().map(|dead| dead.location));
        }
        let letters = self.effects.dead.drain(..).map(|dead| DeadLetter { queue: Arc::clone(queue), dead });
        self.dead_letters.extend(letters);
    }
}
