//! Publishing: a read batch becomes one chunk of the log and one step on each queue it goes to.
//!
//! Invariant: a publish is confirmed after every queue of its route was stepped.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use leveret_wire::{Properties, method::basic};

use super::{
    batch::{Batch, Message, PERSISTENT, Stepped},
    connection::Connection,
    publish_checks::check_properties,
    replies,
    routes::{QueueRoute, RouteCache},
};
use crate::{
    Location, Now, Refusal,
    model::exchange::CarbonCopies,
    planted::{self, Bug},
    session::{ChannelMode, Confirm, Failure, MethodIds, Publish},
    store::journal::Position,
};

/// Messages put into queues in one turn.
const TURN_APPENDS_MAX: usize = 16 * 1024;
/// Octets after which a batch is flushed though more input is there.
const BATCH_OCTETS_MAX: usize = 1024 * 1024;

/// A queue that falls behind its consumers this far makes its publishers read less often.
const PUBLISHER_PAUSE_READY: u64 = 20_000;
/// The longest pause between two reads.
const PUBLISHER_PAUSE_MILLIS_MAX: u64 = 20;

const PUBLISH_IDS: MethodIds = (basic::CLASS_ID, basic::Publish::METHOD_ID);

/// A publish that awaits its confirm.
struct Unconfirmed {
    channel: u16,
    delivery_tag: u64,
    /// None when no queue wanted it.
    location: Option<Location>,
}

/// Publishes that are confirmed once the journal is synced up to there.
struct Unsynced {
    position: Position,
    publishes: Vec<Unconfirmed>,
    refused: Vec<Location>,
}

/// How far behind its consumers the least burdened queue of a flush is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    queue: u64,
    ready: u64,
    delivered: u64,
}

/// Publishes of a read batch that are not in their queues yet.
#[derive(Default)]
pub(super) struct PublishBatch {
    pub(super) batch: Batch,
    unconfirmed: Vec<Unconfirmed>,
    refused: Vec<Location>,
    unsynced: VecDeque<Unsynced>,
    /// Whether a queue refused any since this was last set.
    pub(super) has_refused: bool,
    backlog: Option<Backlog>,
    /// The backlog that made the publisher pause last.
    paused_by: Option<Backlog>,
}

impl PublishBatch {
    pub(super) const fn is_flushing(&self) -> bool {
        self.batch.is_stepping()
    }

    /// Whether it has grown so much that it is flushed before more is read.
    pub(super) const fn is_due(&self) -> bool {
        self.batch.octets() >= BATCH_OCTETS_MAX
    }
}

/// Keeps the backlog of the least burdened queue. One without consumers makes nobody wait.
fn note_backlog(least: &mut Option<Backlog>, queue: u64, stepped: Stepped) {
    let Stepped { ready, delivered, has_consumers } = stepped;
    if !has_consumers {
        return;
    }
    if least.is_none_or(|least| ready < least.ready) {
        *least = Some(Backlog { queue, ready, delivered });
    }
}

/// The message as it goes into queues.
#[inline]
fn message<'a>(publish: &Publish<'a>, properties: Option<&Properties<'_>>, now: Now) -> Message<'a> {
    Message {
        route: publish.route,
        property_octets: publish.property_octets,
        body: publish.body,
        arrived_millis: now.monotonic_millis,
        expires: properties.is_some_and(|properties| properties.expiration.is_some()),
        is_persistent: properties.is_some_and(|properties| properties.delivery_mode == Some(PERSISTENT)),
    }
}

impl Connection {
    /// Takes a message: checks it, finds its way, and puts it into the batch.
    #[inline]
    pub(super) fn publish(&mut self, publish: Publish<'_>) -> Result<(), Failure> {
        self.try_publish(publish).map_err(|refusal| {
            let ids = if refusal == Refusal::BrokenContent { (0, 0) } else { PUBLISH_IDS };
            Failure::Refused { channel: publish.channel, ids, refusal }
        })?;
        self.block_if_alarmed();
        Ok(())
    }

    fn try_publish(&mut self, publish: Publish<'_>) -> Result<(), Refusal> {
        self.check_publish(&publish)?;
        let properties = decode_properties(publish.property_octets)?;
        if let Some(properties) = &properties {
            if replies::is_asked_for(properties) {
                return self.publish_with_reply_to(&publish, properties);
            }
            if let Some(copies) = CarbonCopies::of(properties) {
                return self.publish_copies(&publish, properties, copies);
            }
        }
        let vhost = self.vhost.as_ref().expect("channels are open in a virtual host");
        let grants = self.grants.as_mut().expect("channels are open in a virtual host");
        let random = || self.engine.random_number();
        let route = self.routes.route(vhost, grants, publish.route, properties.as_ref(), random)?;
        if let Some(properties) = &properties {
            let user = self.user.as_deref().filter(|_| !grants.is_impersonator);
            check_properties(properties, user)?;
        }
        let traced = vhost.is_traced.load(Ordering::Relaxed).then(|| Arc::clone(route));
        let channel = self.session.channel(publish.channel).expect("the session found it open");
        if matches!(channel.mode, ChannelMode::Transaction) {
            let route = Arc::clone(route);
            self.hold_publish(&publish, properties.as_ref(), None, &route);
            self.trace_if(traced.as_deref(), &publish, properties.as_ref());
            return Ok(());
        }
        let message = message(&publish, properties.as_ref(), self.now);
        let location = self.publishes.batch.append(&self.engine, &message, route, self.input_left);
        if let ChannelMode::Confirm(confirms) = &mut channel.mode {
            let delivery_tag = confirms.publish();
            self.publishes.unconfirmed.push(Unconfirmed { channel: publish.channel, delivery_tag, location });
        }
        self.trace_if(traced.as_deref(), &publish, properties.as_ref());
        if location.is_none() || publish.mandatory && replies::is_reply(publish.route) {
            self.unroutable(&publish);
        }
        Ok(())
    }

    /// Takes a message that is to be answered to this channel, which the answerer is told by a name
    /// of its own.
    #[cold]
    fn publish_with_reply_to(
        &mut self,
        publish: &Publish<'_>,
        properties: &Properties<'_>,
    ) -> Result<(), Refusal> {
        let token = self.reply_token(publish.channel)?;
        let mut property_octets = Vec::new();
        Properties { reply_to: Some((&*token).into()), ..*properties }.encode(&mut property_octets);
        self.try_publish(Publish { property_octets: &property_octets, ..*publish })
    }

    /// Takes a message whose headers carry further routing keys.
    #[cold]
    fn publish_copies(
        &mut self,
        publish: &Publish<'_>,
        properties: &Properties<'_>,
        copies: CarbonCopies<'_>,
    ) -> Result<(), Refusal> {
        let route = self.route_copies(publish, properties, copies)?;
        let user = self.user.as_deref().filter(|_| !self.grants().is_impersonator);
        check_properties(properties, user)?;
        copies.check()?;
        let channel = self.session.channel(publish.channel).expect("the session found it open");
        if matches!(channel.mode, ChannelMode::Transaction) {
            self.hold_publish(publish, Some(properties), Some(copies), &route);
        } else {
            self.append_copies(publish, properties, copies, &route);
        }
        let traced = self.is_traced().then_some(&*route);
        self.trace_if(traced, publish, Some(properties));
        Ok(())
    }

    /// Holds a publish of a transaction back. As by RabbitMQ, answers go out at once: they are
    /// delivered while the way is looked for.
    #[cold]
    fn hold_publish(
        &mut self,
        publish: &Publish<'_>,
        properties: Option<&Properties<'_>>,
        copies: Option<CarbonCopies<'_>>,
        route: &Arc<QueueRoute>,
    ) {
        let answers = replies::answers_of(route);
        if let Some((answers, _)) = &answers {
            match (properties, copies) {
                (Some(properties), Some(copies)) => {
                    self.append_copies(publish, properties, copies, answers);
                }
                _ => {
                    let message = message(publish, properties, self.now);
                    self.publishes.batch.append(&self.engine, &message, answers, self.input_left);
                }
            }
        }
        let held = answers.as_ref().map_or(route, |(_, others)| others);
        let channel = self.session.channel(publish.channel).expect("the session found it open");
        self.transaction_octets += channel.data.transaction.hold_publish(publish, held);
    }

    /// Copies a message that was published, if there is a route to be told. One of a transaction is
    /// told when it comes, committed or not, as by RabbitMQ.
    #[inline]
    fn trace_if(
        &mut self,
        traced: Option<&QueueRoute>,
        publish: &Publish<'_>,
        properties: Option<&Properties<'_>>,
    ) {
        if let Some(route) = traced {
            self.trace_publish(publish, properties, route);
        }
    }

    fn route_copies(
        &mut self,
        publish: &Publish<'_>,
        properties: &Properties<'_>,
        copies: CarbonCopies<'_>,
    ) -> Result<Arc<QueueRoute>, Refusal> {
        let vhost = self.vhost.as_ref().expect("channels are open in a virtual host");
        let grants = self.grants.as_mut().expect("channels are open in a virtual host");
        let random = || self.engine.random_number();
        RouteCache::route_copies(vhost, grants, publish.route, properties, copies, &random)
    }

    /// Puts the message into the batch without what only the broker may see of it.
    fn append_copies(
        &mut self,
        publish: &Publish<'_>,
        properties: &Properties<'_>,
        copies: CarbonCopies<'_>,
        route: &Arc<QueueRoute>,
    ) {
        let without_blind = copies.without_blind(properties);
        let property_octets = without_blind.as_deref().unwrap_or(publish.property_octets);
        let publish = Publish { property_octets, ..*publish };
        let message = message(&publish, Some(properties), self.now);
        let location = self.publishes.batch.append(&self.engine, &message, route, self.input_left);
        let channel = self.session.channel(publish.channel).expect("the session found it open");
        if let ChannelMode::Confirm(confirms) = &mut channel.mode {
            let delivery_tag = confirms.publish();
            self.publishes.unconfirmed.push(Unconfirmed { channel: publish.channel, delivery_tag, location });
        }
        if location.is_none() {
            self.unroutable(&publish);
        }
    }

    fn check_publish(&self, publish: &Publish<'_>) -> Result<(), Refusal> {
        if publish.immediate {
            return Err(Refusal::NotImplemented("immediate=true".to_owned()));
        }
        let octets_max = self.engine.config.message_octets_max;
        let octets = publish.body.len() as u64;
        if octets > octets_max {
            return Err(Refusal::MessageTooLarge { octets, octets_max });
        }
        Ok(())
    }

    /// Publishes a message of a transaction, which was checked and whose way was found when it came.
    pub(super) fn publish_committed(&mut self, publish: &Publish<'_>, route: &Arc<QueueRoute>) {
        let route = &without_dead_queues(route);
        let properties = decode_properties(publish.property_octets).expect("they were decoded before");
        if let Some(properties) = &properties
            && let Some(copies) = CarbonCopies::of(properties)
        {
            return self.append_copies(publish, properties, copies, route);
        }
        let message = message(publish, properties.as_ref(), self.now);
        if self.publishes.batch.append(&self.engine, &message, route, self.input_left).is_none() {
            self.unroutable(publish);
        }
    }

    /// No queue wants the message.
    fn unroutable(&mut self, publish: &Publish<'_>) {
        if planted::is(Bug::ReturnAfterConfirm) {
            self.confirm();
        }
        if publish.mandatory {
            self.write_return(publish);
        }
    }

    /// Puts the batch into its queues, as far as the turn goes.
    pub(super) fn flush_publishes(&mut self) {
        if !self.publishes.is_flushing() {
            if self.publishes.batch.is_empty() && self.publishes.unconfirmed.is_empty() {
                return;
            }
            self.place_batch();
        }
        let PublishBatch { batch, refused, has_refused, backlog, .. } = &mut self.publishes;
        let mut budget = TURN_APPENDS_MAX;
        let done = batch.step(&self.engine, &mut self.scratch, &mut budget, |queue, stepped, rejected| {
            let before = refused.len();
            refused.extend(rejected);
            *has_refused |= refused.len() > before;
            note_backlog(backlog, queue.serial, stepped);
        });
        if done {
            self.finish_flush();
        }
    }

    /// Puts the batch into the log; from here its messages have locations.
    fn place_batch(&mut self) {
        let batch = &mut self.publishes;
        let Some(first) = batch.batch.place(&self.engine) else { return };
        for location in batch.unconfirmed.iter_mut().filter_map(|publish| publish.location.as_mut()) {
            *location = location.behind(first);
        }
    }

    fn finish_flush(&mut self) {
        let lasts_at = self.publishes.batch.take_lasts_at();
        self.lasts_at = lasts_at.or(self.lasts_at);
        if let Some(position) = lasts_at {
            self.pause_if_unsynced(position);
        }
        match lasts_at.filter(|_| !self.publishes.unconfirmed.is_empty()) {
            Some(position) if !self.is_synced(position) => {
                let publishes = std::mem::take(&mut self.publishes.unconfirmed);
                let refused = std::mem::take(&mut self.publishes.refused);
                self.publishes.unsynced.push_back(Unsynced { position, publishes, refused });
                self.await_sync(position);
            }
            _ => self.confirm(),
        }
        self.publishes.refused.clear();
        self.pause_if_behind();
    }

    /// Confirms what is on stable storage by now.
    pub(super) fn confirm_synced(&mut self) {
        while let Some(unsynced) = self.publishes.unsynced.front()
            && self.is_synced(unsynced.position)
        {
            let Some(Unsynced { mut publishes, refused, .. }) = self.publishes.unsynced.pop_front() else {
                return;
            };
            self.confirm_all(&mut publishes, refused);
        }
        if let Some(unsynced) = self.publishes.unsynced.front() {
            self.await_sync(unsynced.position);
        }
    }

    fn confirm(&mut self) {
        if self.publishes.unconfirmed.is_empty() {
            return;
        }
        let refused = std::mem::take(&mut self.publishes.refused);
        let mut unconfirmed = std::mem::take(&mut self.publishes.unconfirmed);
        self.confirm_all(&mut unconfirmed, refused);
        self.publishes.unconfirmed = unconfirmed;
    }

    fn confirm_all(&mut self, publishes: &mut Vec<Unconfirmed>, mut refused: Vec<Location>) {
        refused.sort_unstable();
        let mut channels: Vec<u16> = Vec::new();
        for publish in publishes.drain(..) {
            let Some(channel) = self.session.channel(publish.channel) else { continue };
            let ChannelMode::Confirm(confirms) = &mut channel.mode else { continue };
            let taken = publish.location.is_none_or(|location| refused.binary_search(&location).is_err());
            confirms.settle(publish.delivery_tag, taken);
            if !channels.contains(&publish.channel) {
                channels.push(publish.channel);
            }
        }
        for channel in channels {
            self.write_confirms(channel);
        }
    }

    fn write_confirms(&mut self, id: u16) {
        let Some(channel) = self.session.channel(id) else { return };
        let ChannelMode::Confirm(confirms) = &mut channel.mode else { return };
        for confirm in confirms.drain() {
            let method = match confirm {
                Confirm::Ack { delivery_tag, multiple } => basic::Ack { delivery_tag, multiple }.into(),
                Confirm::Nack { delivery_tag, multiple } => {
                    leveret_wire::Method::from(basic::Nack { delivery_tag, multiple, requeue: true })
                }
            };
            method.write_frame(id, self.output.buffer());
        }
    }

    /// A publisher whose every queue is far behind consumers that do take messages is read less
    /// often, and so is everyone while more comes than is put on disk. Where a consumer has stopped, or one queue of several is slow, nobody waits.
    fn pause_if_behind(&mut self) {
        if let Some(pause) = self.engine.paging.publisher_pause_millis(self.engine.alarm.octets()) {
            self.read_from_millis = self.now.monotonic_millis + pause;
        }
        let Some(backlog) =
            self.publishes.backlog.take().filter(|backlog| backlog.ready > PUBLISHER_PAUSE_READY)
        else {
            return;
        };
        let before = self.publishes.paused_by.replace(backlog);
        let progress = before
            .is_none_or(|before| before.queue != backlog.queue || before.delivered != backlog.delivered);
        if progress {
            let pause = (backlog.ready / PUBLISHER_PAUSE_READY).min(PUBLISHER_PAUSE_MILLIS_MAX);
            self.read_from_millis = self.now.monotonic_millis + pause;
        }
    }
}

/// The route without queues that were deleted since it was found.
fn without_dead_queues(route: &Arc<QueueRoute>) -> Arc<QueueRoute> {
    if route.queues.iter().all(|queue| queue.is_alive()) {
        return Arc::clone(route);
    }
    let mut living = QueueRoute::clone(route);
    living.queues.retain(|queue| queue.is_alive());
    Arc::new(living)
}

/// The properties, if the message has any: most have none.
#[inline]
fn decode_properties(octets: &[u8]) -> Result<Option<Properties<'_>>, Refusal> {
    if octets == [0, 0] {
        return Ok(None);
    }
    Properties::decode(octets).map(Some).map_err(|_| Refusal::BrokenContent)
}
