//! One consumer: what it does with a delivery, and when it acknowledges.
//!
//! Invariant: acknowledgements go into the caller's buffer in the order of the deliveries.

use leveret_wire::{
    Method,
    method::{basic, queue},
};

use super::{
    plan::{Consuming, Plan},
    scene::Scene,
    stamp::Stamp,
};

const TAG: &str = "c";

/// A delivery whose body has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) delivery_tag: u64,
    pub(super) redelivered: bool,
}

#[derive(Debug)]
pub(super) struct Consumer {
    /// Its queue's check among those of the worker.
    check: usize,
    auto_ack: bool,
    ack_every: u64,
    unacked: u64,
    limit: u64,
    consumed: u64,
    has_ended: bool,
}

impl Consumer {
    pub(super) fn new(check: usize, consuming: &Consuming) -> Self {
        Self {
            check,
            auto_ack: consuming.auto_ack,
            ack_every: consuming.ack_every,
            unacked: 0,
            limit: consuming.limit.unwrap_or(u64::MAX),
            consumed: 0,
            has_ended: consuming.limit == Some(0),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The broker ended it.
    pub(super) fn cancel(&mut self) {
        self.has_ended = true;
    }

    /// Prefetch, and the queue of its own where it has one; how many answers will come.
    pub(super) fn prepare(&self, plan: &Plan, channel: u16, out: &mut Vec<u8>) -> usize {
        let mut questions = 0;
        let mut ask = |method: Method<'_>| {
            method.write_frame(channel, out);
            questions += 1;
        };
        if plan.consuming.prefetch > 0 {
            let prefetch_count = plan.consuming.prefetch;
            ask(basic::Qos { prefetch_count, ..basic::Qos::default() }.into());
        }
        if plan.has_own_queues() {
            let arguments = plan.queues.arguments.as_table();
            ask(queue::Declare { exclusive: true, arguments, ..queue::Declare::default() }.into());
            let exchange = plan.queues.exchange.as_deref().unwrap_or_default();
            for key in &plan.queues.keys {
                let routing_key = key.as_str().into();
                ask(queue::Bind { exchange: exchange.into(), routing_key, ..queue::Bind::default() }.into());
            }
        }
        questions
    }

    /// Starts taking messages. Without a name the queue is the one that the channel declared last.
    pub(super) fn consume(&self, queue: &str, channel: u16, out: &mut Vec<u8>) {
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: TAG.into(),
            no_ack: self.auto_ack,
            ..basic::Consume::default()
        };
        Method::from(consume).write_frame(channel, out);
    }

    /// Takes a message of which at least the front of the body is here.
    #[inline]
    pub(super) fn take(
        &mut self,
        delivery: Delivery,
        front: &[u8],
        channel: u16,
        out: &mut Vec<u8>,
        scene: &mut Scene,
    ) {
        if self.consumed >= self.limit {
            // On its way before the broker heard of the end; unacknowledged, it goes back to its queue.
            return;
        }
        scene.counts.consumed += 1;
        self.consumed += 1;
        let check = &mut scene.checks[self.check];
        match Stamp::read(front).filter(|_| scene.is_stamped) {
            Some(stamp) if check.look_at(&stamp, delivery.redelivered) => {
                scene.latency.record(stamp.sent, scene.now);
            }
            Some(_) => {}
            None => check.pass(delivery.redelivered),
        }
        if !self.auto_ack {
            self.acknowledge(delivery.delivery_tag, channel, out);
        }
        if self.consumed == self.limit {
            self.end(delivery.delivery_tag, channel, out);
        }
    }

    #[inline]
    fn acknowledge(&mut self, delivery_tag: u64, channel: u16, out: &mut Vec<u8>) {
        self.unacked += 1;
        if self.unacked >= self.ack_every {
            write_ack(delivery_tag, self.ack_every > 1, channel, out);
            self.unacked = 0;
        }
    }

    fn end(&mut self, delivery_tag: u64, channel: u16, out: &mut Vec<u8>) {
        if self.unacked > 0 {
            write_ack(delivery_tag, true, channel, out);
            self.unacked = 0;
        }
        self.has_ended = true;
        Method::from(basic::Cancel { consumer_tag: TAG.into(), nowait: true }).write_frame(channel, out);
    }
}

fn write_ack(delivery_tag: u64, multiple: bool, channel: u16, out: &mut Vec<u8>) {
    Method::from(basic::Ack { delivery_tag, multiple }).write_frame(channel, out);
}
