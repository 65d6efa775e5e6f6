//! Settling deliveries: acknowledged, refused, or put back.
//!
//! Acknowledgements of a read batch are counted for each source and brought to its queue in one
//! step. Invariant: a delivery leaves its channel's map exactly once, and its reference goes
//! with it, back to the log or to its queue.

use std::sync::Arc;

use indexmap::IndexMap;

use super::{
    connection::Connection,
    dead_letters::DeadLetter,
    queue_cell::QueueCell,
    sources::{Delivery, SourceId},
};
use crate::{
    Location, Refusal,
    model::{
        queue::{ConsumerSlot, Dead, DeathReason, Position},
        queue_arguments::QueueType,
    },
    planted::{self, Bug},
    session::UnknownDeliveryTag,
};

/// Acknowledgements of a read batch that their queues do not know of yet.
#[derive(Default)]
pub(super) struct SettleBatch {
    /// How many of each source, in the order in which they came.
    counts: IndexMap<SourceId, Settled>,
    /// Channels whose shared prefetch has room again.
    credited: Vec<u16>,
    freed: Vec<Location>,
    taken: Vec<Delivery>,
}

/// Why deliveries go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Returning {
    /// Their consumer said so.
    ByConsumer,
    /// Their channel is gone.
    ByEnd,
}

/// Deliveries of one source.
#[derive(Default)]
struct Settled {
    count: u32,
    /// Where those stood that left a durable queue with that.
    left: Vec<Position>,
}

impl SettleBatch {
    fn count(&mut self, source: SourceId, left: Option<Position>) {
        let settled = match self.counts.last_mut() {
            Some((last, settled)) if *last == source => settled,
            _ => self.counts.entry(source).or_default(),
        };
        settled.count += 1;
        settled.left.extend(left);
    }
}

impl From<UnknownDeliveryTag> for Refusal {
    fn from(unknown: UnknownDeliveryTag) -> Self {
        Self::UnknownDeliveryTag(unknown.0)
    }
}

impl Connection {
    /// `basic.ack`.
    pub(super) fn acknowledge(&mut self, channel: u16, tag: u64, multiple: bool) -> Result<(), Refusal> {
        let taken = self.take_unacked(channel, tag, multiple)?;
        self.free(channel, taken);
        Ok(())
    }

    /// `basic.nack` and `basic.reject` without requeue.
    pub(super) fn discard(&mut self, channel: u16, tag: u64, multiple: bool) -> Result<(), Refusal> {
        let taken = self.take_unacked(channel, tag, multiple)?;
        self.refuse_to_refuse(channel, &taken)?;
        self.discard_taken(channel, taken);
        Ok(())
    }

    /// Deliveries that a consumer refused go to where their queues' dead letters go.
    pub(super) fn discard_taken(&mut self, channel: u16, mut taken: Vec<Delivery>) {
        for delivery in taken.drain(..) {
            let queue = &self.sources.of(delivery.source).queue;
            let mut left = queue.durable.as_ref().map(|_| delivery.position);
            // What a queue that is gone handed out goes nowhere.
            if queue.declaration.parsed.dead_letter.is_some() && queue.is_alive() {
                let Delivery { location, position, .. } = delivery;
                let dead = Dead { location, reason: DeathReason::Rejected, position: Some(position) };
                self.scratch.dead_letters.push_back(DeadLetter { queue: Arc::clone(queue), dead });
                // It leaves once what takes its place is there.
                left = None;
            } else {
                self.settles.freed.push(delivery.location);
            }
            self.settles.count(delivery.source, left);
            self.give_back_credit(channel, &delivery);
        }
        self.settles.taken = taken;
    }

    /// Deliveries are settled for good.
    pub(super) fn free(&mut self, channel: u16, mut taken: Vec<Delivery>) {
        for delivery in taken.drain(..) {
            self.settles.freed.push(delivery.location);
            let left = self.lasting_position(&delivery);
            self.settles.count(delivery.source, left);
            self.give_back_credit(channel, &delivery);
        }
        self.settles.taken = taken;
    }

    /// Where a delivery stood, if that it leaves its queue is to last.
    fn lasting_position(&mut self, delivery: &Delivery) -> Option<Position> {
        self.engine.durability.as_ref()?;
        let queue = &self.sources.of(delivery.source).queue;
        (queue.durable.is_some() && queue.queue_type() != QueueType::Stream).then_some(delivery.position)
    }

    /// `basic.nack` and `basic.reject` with requeue.
    pub(super) fn reject_to_queue(&mut self, channel: u16, tag: u64, multiple: bool) -> Result<(), Refusal> {
        let taken = self.take_unacked(channel, tag, multiple)?;
        self.refuse_to_refuse(channel, &taken)?;
        self.flush_settles();
        self.requeue(channel, &taken);
        Ok(())
    }

    /// A stream takes nothing back. The error closes the connection, so what was taken is put back
    /// at once and nobody misses it in the channel.
    fn refuse_to_refuse(&mut self, channel: u16, taken: &[Delivery]) -> Result<(), Refusal> {
        let of_streams =
            |delivery: &&Delivery| self.sources.of(delivery.source).queue.queue_type() == QueueType::Stream;
        let Some(first) = taken.iter().find(of_streams) else { return Ok(()) };
        let queue = Arc::clone(&self.sources.of(first.source).queue);
        self.requeue(channel, taken);
        self.refuse_for_stream(&queue, "basic.nack and basic.reject")
    }

    fn take_unacked(&mut self, channel: u16, tag: u64, multiple: bool) -> Result<Vec<Delivery>, Refusal> {
        let mut taken = std::mem::take(&mut self.settles.taken);
        let unacked = &mut self.session.channel(channel).expect("the session found it open").unacked;
        if multiple {
            unacked.take_through(tag, &mut taken)?;
        } else {
            taken.push(unacked.take(tag)?);
        }
        Ok(taken)
    }

    fn give_back_credit(&mut self, channel: u16, delivery: &Delivery) {
        if !delivery.holds_credit {
            return;
        }
        let Some(open) = self.session.channel(channel) else { return };
        if let Some(credit) = &open.data.credit {
            credit.give_back(1);
            if !self.settles.credited.contains(&channel) {
                self.settles.credited.push(channel);
            }
        }
    }

    /// Puts deliveries back into their queues, each queue in one step.
    pub(super) fn requeue(&mut self, channel: u16, deliveries: &[Delivery]) {
        let mut deliveries = deliveries.to_vec();
        deliveries.sort_by_key(|delivery| delivery.source);
        for delivery in &deliveries {
            self.give_back_credit(channel, delivery);
        }
        let mut runs: Vec<_> = deliveries.chunk_by(|one, other| one.source == other.source).collect();
        self.sources.sort_by_tag(&mut runs, |run| run[0].source);
        for run in runs {
            self.requeue_run(run, Returning::ByConsumer);
        }
        self.wake_credited();
    }

    /// Deliveries of one source.
    pub(super) fn requeue_run(&mut self, run: &[Delivery], returning: Returning) {
        let id = run[0].source;
        let count = u32::try_from(run.len()).expect("fewer than 2^32 deliveries");
        let source = self.sources.of(id);
        let holders = source.settle(count);
        let slot = source.slot;
        let queue = Arc::clone(&source.queue);
        let done = queue.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
            let back = run.iter().map(|delivery| (delivery.position, redelivered(delivery.location)));
            queue.let_go(holders, messages.now_millis());
            match returning {
                Returning::ByConsumer => queue.requeue(back, slot, messages, effects),
                Returning::ByEnd => queue.abandon(back, messages, effects),
            }
        });
        if !self.scratch.effects.returned.is_empty() {
            queue.came_back(&self.engine, &self.scratch.effects.returned);
            self.scratch.effects.returned.clear();
        }
        if done.is_none() {
            self.engine.release(run.iter().map(|delivery| delivery.location));
        }
        self.sources.tidy(id);
    }

    /// Brings the counted acknowledgements to their queues.
    pub(super) fn flush_settles(&mut self) {
        if self.settles.counts.is_empty() {
            return;
        }
        let mut freed = std::mem::take(&mut self.settles.freed);
        if planted::is(Bug::ReferenceLeaked) && freed.len() > 1 {
            freed.pop();
        }
        self.engine.release(freed.drain(..));
        self.settles.freed = freed;
        let mut counts = std::mem::take(&mut self.settles.counts);
        for (id, settled) in counts.drain(..) {
            self.settle_source(id, settled);
        }
        self.settles.counts = counts;
        self.wake_credited();
    }

    fn settle_source(&mut self, id: SourceId, Settled { count, left }: Settled) {
        let source = self.sources.of(id);
        let holders = source.settle(count);
        let slot = source.slot;
        source.queue.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
            queue.let_go(holders, messages.now_millis());
            queue.settle(slot, count, messages, effects);
        });
        let left = source.queue.left(&self.engine, left);
        self.lasts_at = left.or(self.lasts_at);
        self.sources.tidy(id);
    }

    /// A channel's shared prefetch has room: every consumer of the channel may want it.
    fn wake_credited(&mut self) {
        for channel in std::mem::take(&mut self.settles.credited) {
            self.wake_channel(channel);
        }
    }

    /// Lets every consumer of a channel take what it can, those of one queue together.
    pub(super) fn wake_channel(&mut self, channel: u16) {
        let Some(open) = self.session.channel(channel) else { return };
        let mut queues: IndexMap<u64, (Arc<QueueCell>, Vec<ConsumerSlot>)> = IndexMap::new();
        for id in open.data.consumers.values() {
            let Some(source) = self.sources.find(*id) else { continue };
            let Some(slot) = source.slot else { continue };
            let queue = queues.entry(source.queue.serial);
            queue.or_insert_with(|| (Arc::clone(&source.queue), Vec::new())).1.push(slot);
        }
        self.steps_left = self.steps_left.saturating_sub(queues.len());
        for (queue, mut slots) in queues.into_values() {
            queue.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
                queue.wake_together(&mut slots, messages, effects);
            });
        }
    }
}

fn redelivered(location: Location) -> Location {
    if planted::is(Bug::RedeliveredNotSet) { location } else { location.as_redelivered() }
}
