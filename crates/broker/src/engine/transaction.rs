//! Transactions: publishes and acknowledgements held back until a commit.
//!
//! Checks are made when a method comes, as RabbitMQ makes them: a missing exchange and a bad
//! acknowledgement are told at once, an unroutable mandatory message at commit. Where a message
//! goes is found when it comes as well, so that what is bound or deleted before the commit changes
//! nothing but for queues that are gone. Invariant: what is held counts as memory only of this
//! connection, and goes with the channel.

use std::{collections::BTreeSet, sync::Arc};

use leveret_wire::{PublishRoute, method::tx};

use super::{connection::Connection, routes::QueueRoute, sources::Delivery};
use crate::{
    Refusal,
    planted::{self, Bug},
    session::{ChannelMode, Publish},
};

/// A publish that is held back.
struct HeldPublish {
    onward: Arc<QueueRoute>,
    route: Box<[u8]>,
    mandatory: bool,
    property_octets: Box<[u8]>,
    body: Box<[u8]>,
}

/// What a consumer says of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// `basic.ack`.
    Acknowledged,
    /// `basic.nack` or `basic.reject` without requeue.
    Discarded,
    /// `basic.nack` or `basic.reject` with requeue.
    Requeued,
}

impl Outcome {
    pub(super) const fn refused(requeue: bool) -> Self {
        if requeue { Self::Requeued } else { Self::Discarded }
    }
}

/// Deliveries whose acknowledgement is held back, as it named them when it came.
#[derive(Debug)]
struct HeldSettle {
    tags: Vec<u64>,
    outcome: Outcome,
}

/// What a transactional channel holds back.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<HeldPublish>,
    settles: Vec<HeldSettle>,
    /// Deliveries that the held acknowledgements name.
    settled_tags: BTreeSet<u64>,
    octets: u64,
}

/// Octets that a held publish costs beside what it carries.
const HELD_PUBLISH_OVERHEAD_OCTETS: usize = 128;

impl Transaction {
    /// Octets that are held back.
    pub(super) const fn octets(&self) -> u64 {
        self.octets
    }

    /// Holds a publish back and returns how many octets that costs.
    pub(super) fn hold_publish(&mut self, publish: &Publish<'_>, onward: &Arc<QueueRoute>) -> u64 {
        let octets = (publish.route.as_bytes().len()
            + publish.body.len()
            + publish.property_octets.len()
            + HELD_PUBLISH_OVERHEAD_OCTETS) as u64;
        self.octets += octets;
        self.publishes.push(HeldPublish {
            onward: Arc::clone(onward),
            route: publish.route.as_bytes().into(),
            mandatory: publish.mandatory,
            property_octets: publish.property_octets.into(),
            body: publish.body.into(),
        });
        octets
    }
}

impl std::fmt::Debug for HeldPublish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldPublish").field("body_octets", &self.body.len()).finish_non_exhaustive()
    }
}

impl HeldPublish {
    fn as_publish(&self, channel: u16) -> Publish<'_> {
        Publish {
            channel,
            route: PublishRoute::from_octets(&self.route).expect("it was a route when it came"),
            mandatory: self.mandatory,
            immediate: false,
            property_octets: &self.property_octets,
            body: &self.body,
        }
    }
}

impl Connection {
    /// An acknowledgement or refusal: carried out, or held back by a transaction.
    pub(super) fn settle(
        &mut self,
        channel: u16,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let open = self.channel(channel);
        if matches!(open.mode, ChannelMode::Transaction) {
            let mut tags = open.unacked.tags(tag, multiple)?;
            let held = &mut open.data.transaction;
            if held.settled_tags.contains(&tag) {
                return Err(Refusal::UnknownDeliveryTag(tag));
            }
            tags.retain(|tag| held.settled_tags.insert(*tag));
            if !tags.is_empty() {
                held.settles.push(HeldSettle { tags, outcome });
            }
            return Ok(());
        }
        match outcome {
            Outcome::Acknowledged => self.acknowledge(channel, tag, multiple),
            Outcome::Discarded => self.discard(channel, tag, multiple),
            Outcome::Requeued => self.reject_to_queue(channel, tag, multiple),
        }
    }

    pub(super) fn commit(&mut self, channel: u16) -> Result<(), Refusal> {
        let held = self.take_transaction(channel)?;
        self.flush_publishes_whole();
        self.publishes.has_refused = false;
        self.lasts_at = None;
        for publish in &held.publishes {
            self.publish_committed(&publish.as_publish(channel), &publish.onward);
            if self.publishes.is_due() {
                self.flush_publishes_whole();
            }
        }
        for settle in &held.settles {
            self.settle_held(channel, settle);
        }
        self.flush_settles();
        self.flush_publishes_whole();
        if self.publishes.has_refused {
            return Err(Refusal::PartialTransaction);
        }
        let lasts_at = self.lasts_at.take();
        self.say_when_synced(lasts_at, channel, tx::CommitOk {});
        Ok(())
    }

    fn settle_held(&mut self, channel: u16, held: &HeldSettle) {
        let unacked = &mut self.channel(channel).unacked;
        let take = |tag: &u64| unacked.take(*tag).expect("what a transaction settles stays unacknowledged");
        let taken: Vec<_> = held.tags.iter().map(take).collect();
        match held.outcome {
            Outcome::Acknowledged => self.free(channel, taken),
            Outcome::Discarded => self.discard_taken(channel, taken),
            Outcome::Requeued => {
                self.flush_settles();
                self.requeue(channel, &taken);
            }
        }
    }

    /// Takes all deliveries but those that a transaction settles when it is committed.
    pub(super) fn take_recoverable(&mut self, channel: u16) -> Vec<Delivery> {
        let open = self.channel(channel);
        let tags = open.unacked.tags(0, true).expect("tag 0 names all there are");
        let settled = &open.data.transaction.settled_tags;
        let recoverable = tags.iter().filter(|tag| !settled.contains(tag));
        recoverable.map(|tag| open.unacked.take(*tag).expect("it was just listed")).collect()
    }

    /// A commit is answered when all of it is done, so it is the one thing without slices.
    pub(super) fn flush_publishes_whole(&mut self) {
        self.flush_publishes();
        while self.publishes.is_flushing() {
            self.flush_publishes();
        }
    }

    pub(super) fn roll_back(&mut self, channel: u16) -> Result<(), Refusal> {
        let held = self.take_transaction(channel)?;
        if planted::is(Bug::RollbackKeepsPublishes) {
            for publish in &held.publishes {
                self.publish_committed(&publish.as_publish(channel), &publish.onward);
            }
        }
        self.say(channel, tx::RollbackOk {});
        Ok(())
    }

    fn take_transaction(&mut self, channel: u16) -> Result<Transaction, Refusal> {
        let open = self.channel(channel);
        match open.mode {
            ChannelMode::Transaction => {
                let held = std::mem::take(&mut open.data.transaction);
                self.transaction_octets -= held.octets;
                Ok(held)
            }
            _ => Err(Refusal::NotTransactional),
        }
    }
}
