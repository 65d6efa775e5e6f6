//! Publishing: a read batch becomes one chunk of the log and one step on each queue it goes to.
//!
//! A batch that goes by one route, which is the usual case, keeps one list of messages for all
//! its queues; otherwise each queue has a list of its own, so that their order is kept whatever
//! routes alternate. Invariant: a publish is confirmed after every queue of its route was
//! stepped.

use std::sync::Arc;

use indexmap::IndexMap;
use leveret_wire::{Properties, Table, Value, method::basic};

use super::{connection::Connection, queue_cell::QueueCell, routes::QueueRoute};
use crate::{
    Location, Refusal,
    session::{ChannelMode, Confirm, Failure, MethodIds, Publish},
    store::{LogBatch, MessageLog, Record},
};

/// Messages and queues that are stepped in one turn; a step counts as this many messages.
const TURN_APPENDS_MAX: usize = 16 * 1024;
const STEP_APPENDS: usize = 8;
/// Appends that a batch may wait with, when its queues have lists of their own.
const BATCH_APPENDS_MAX: usize = 16 * 1024;
/// Octets after which a batch is flushed though more input is there.
const BATCH_OCTETS_MAX: usize = 1024 * 1024;

/// A queue that falls behind its consumers this far makes its publishers read less often.
const PUBLISHER_PAUSE_READY: u64 = 20_000;
/// The longest pause between two reads.
const PUBLISHER_PAUSE_MILLIS_MAX: u64 = 20;

const PUBLISH_IDS: MethodIds = (basic::CLASS_ID, basic::Publish::METHOD_ID);

/// A queue and the messages of the batch that go there.
struct Target {
    queue: Arc<QueueCell>,
    messages: Vec<Location>,
}

#[derive(Default)]
enum Grouping {
    #[default]
    Empty,
    One(Arc<QueueRoute>),
    Many(IndexMap<u64, Target>),
}

/// A publish that awaits its confirm.
struct Unconfirmed {
    channel: u16,
    delivery_tag: u64,
    /// None when no queue wanted it.
    location: Option<Location>,
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
    log: LogBatch,
    messages: Vec<Location>,
    grouping: Grouping,
    appends: u64,
    unconfirmed: Vec<Unconfirmed>,
    refused: Vec<Location>,
    /// While flushing: the next queue.
    flushing: Option<usize>,
    backlog: Option<Backlog>,
    /// The backlog that made the publisher pause last.
    paused_by: Option<Backlog>,
}

impl PublishBatch {
    pub(super) const fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// Whether it has grown so much that it is flushed before more is read.
    pub(super) fn is_due(&self) -> bool {
        match self.grouping {
            Grouping::Many(_) if self.appends >= BATCH_APPENDS_MAX as u64 => true,
            _ => MessageLog::batch_octets(&self.log) >= BATCH_OCTETS_MAX,
        }
    }

    fn add(&mut self, location: Location, route: &Arc<QueueRoute>) {
        self.appends += route.queues.len() as u64;
        match &mut self.grouping {
            Grouping::Empty => self.grouping = Grouping::One(Arc::clone(route)),
            Grouping::One(only) if Arc::ptr_eq(only, route) => {}
            Grouping::One(_) => {
                self.split();
                self.add_to_targets(location, route);
            }
            Grouping::Many(_) => self.add_to_targets(location, route),
        }
        self.messages.push(location);
    }

    /// A second route: from now on each queue has its own list.
    fn split(&mut self) {
        let Grouping::One(route) = std::mem::replace(&mut self.grouping, Grouping::Many(IndexMap::new()))
        else {
            return;
        };
        let Grouping::Many(targets) = &mut self.grouping else { return };
        for queue in &route.queues {
            let target = Target { queue: Arc::clone(queue), messages: self.messages.clone() };
            targets.insert(queue.serial, target);
        }
    }

    fn add_to_targets(&mut self, location: Location, route: &QueueRoute) {
        let Grouping::Many(targets) = &mut self.grouping else { return };
        for queue in &route.queues {
            let target = targets
                .entry(queue.serial)
                .or_insert_with(|| Target { queue: Arc::clone(queue), messages: Vec::new() });
            target.messages.push(location);
        }
    }

    fn target(&self, at: usize) -> Option<(&Arc<QueueCell>, &[Location])> {
        match &self.grouping {
            Grouping::Empty => None,
            Grouping::One(route) => Some((route.queues.get(at)?, &self.messages)),
            Grouping::Many(targets) => {
                targets.get_index(at).map(|(_, target)| (&target.queue, &target.messages[..]))
            }
        }
    }

    fn note_backlog(&mut self, backlog: Option<Backlog>) {
        self.backlog = match (self.backlog, backlog) {
            (Some(one), Some(other)) if one.ready <= other.ready => Some(one),
            (_, other) => other,
        };
    }
}

impl Connection {
    /// Takes a message: checks it, finds its way, and puts it into the batch.
    #[inline]
    pub(super) fn publish(&mut self, publish: Publish<'_>) -> Result<(), Failure> {
        self.try_publish(publish).map_err(|refusal| Failure::Refused {
            channel: publish.channel,
            ids: PUBLISH_IDS,
            refusal,
        })?;
        self.block_if_alarmed();
        Ok(())
    }

    fn try_publish(&mut self, publish: Publish<'_>) -> Result<(), Refusal> {
        if publish.immediate {
            return Err(Refusal::NotImplemented("immediate=true".to_owned()));
        }
        let octets_max = self.engine.config.message_octets_max;
        let octets = publish.body.len() as u64;
        if octets > octets_max {
            return Err(Refusal::MessageTooLarge { octets, octets_max });
        }
        let vhost = Arc::clone(self.vhost.as_ref().expect("channels are open in a virtual host"));
        let properties = decode_properties(publish.property_octets)?;
        let headers = properties.headers.unwrap_or(Table::EMPTY);
        let route = self.routes.route(&vhost, publish.exchange, publish.routing_key, headers)?;
        self.check_properties(&properties)?;
        let channel = self.session.channel(publish.channel).expect("the session found it open");
        match &mut channel.mode {
            ChannelMode::Transaction => {
                channel.data.transaction.hold_publish(&publish);
                Ok(())
            }
            ChannelMode::Confirm(confirms) => {
                let delivery_tag = confirms.publish();
                let location = self.append(&publish, &route);
                let unconfirmed = Unconfirmed { channel: publish.channel, delivery_tag, location };
                self.publishes.unconfirmed.push(unconfirmed);
                Ok(())
            }
            ChannelMode::Plain => {
                self.append(&publish, &route);
                Ok(())
            }
        }
    }

    /// Publishes a message of a transaction, whose checks were made when it came.
    pub(super) fn publish_committed(&mut self, publish: Publish<'_>) -> Result<(), Refusal> {
        let vhost = Arc::clone(self.vhost.as_ref().expect("channels are open in a virtual host"));
        let headers = decode_properties(publish.property_octets)?.headers.unwrap_or(Table::EMPTY);
        let route = self.routes.route(&vhost, publish.exchange, publish.routing_key, headers)?;
        self.append(&publish, &route);
        Ok(())
    }

    fn append(&mut self, publish: &Publish<'_>, route: &Arc<QueueRoute>) -> Option<Location> {
        if route.queues.is_empty() {
            if publish.mandatory {
                self.write_return(publish);
            }
            return None;
        }
        let Publish { exchange, routing_key, property_octets, body, .. } = *publish;
        let octets_hint = Record::octets(exchange, routing_key, property_octets, body) + self.input_left;
        let location = self.engine.log.append(&mut self.publishes.log, octets_hint, |chunk| {
            Record::append(chunk, exchange, routing_key, property_octets, body);
        });
        self.publishes.add(location, route);
        Some(location)
    }

    fn check_properties(&self, properties: &Properties<'_>) -> Result<(), Refusal> {
        if let Some(claimed) = properties.user_id {
            let user = self.user.as_deref().unwrap_or_default();
            if claimed.as_bytes() != user.as_bytes() {
                return Err(Refusal::WrongUserId { claimed: claimed.to_string(), user: user.to_owned() });
            }
        }
        if let Some(delivery_mode) = properties.delivery_mode.filter(|mode| !matches!(mode, 1 | 2)) {
            return Err(Refusal::InvalidMessage(format!("{{delivery_mode_unknown,{delivery_mode}}}")));
        }
        check_not_built(properties)
    }

    /// Puts the batch into its queues, as far as the turn goes.
    pub(super) fn flush_publishes(&mut self) {
        let batch = &mut self.publishes;
        let Some(mut at) = batch.flushing.or_else(|| {
            let waiting = !batch.messages.is_empty() || !batch.unconfirmed.is_empty();
            waiting.then_some(0)
        }) else {
            return;
        };
        if batch.flushing.is_none() {
            self.engine.log.seal(&mut batch.log, batch.appends);
            self.engine.alarm.grown(self.engine.log.octets());
        }
        let mut budget = TURN_APPENDS_MAX;
        while let Some((queue, messages)) = self.publishes.target(at) {
            if budget == 0 {
                self.publishes.flushing = Some(at);
                return;
            }
            budget = budget.saturating_sub(messages.len() + STEP_APPENDS);
            let queue = Arc::clone(queue);
            self.enqueue(&queue, at);
            at += 1;
        }
        self.finish_flush();
    }

    fn enqueue(&mut self, queue: &QueueCell, at: usize) {
        let Some((_, messages)) = self.publishes.target(at) else { return };
        let backlog = queue.step(&self.engine, &mut self.scratch, |model, body_octets, effects| {
            model.enqueue(messages, body_octets, effects);
            let (ready, delivered) = (model.ready(), model.delivered());
            (model.consumer_count() > 0).then_some(Backlog { queue: queue.serial, ready, delivered })
        });
        match backlog {
            Some(backlog) => {
                let refused = self.scratch.effects.rejected.drain(..).map(|place| messages[place]);
                self.publishes.refused.extend(refused.collect::<Vec<_>>());
                self.publishes.note_backlog(backlog);
            }
            // The queue was deleted since the route was found, as if before the publish.
            None => self.engine.release(messages.iter().copied()),
        }
    }

    fn finish_flush(&mut self) {
        self.publishes.flushing = None;
        self.publishes.messages.clear();
        self.publishes.grouping = Grouping::Empty;
        self.publishes.appends = 0;
        self.confirm();
        self.pause_if_behind();
    }

    fn confirm(&mut self) {
        if self.publishes.unconfirmed.is_empty() {
            return;
        }
        let mut refused = std::mem::take(&mut self.publishes.refused);
        refused.sort_unstable();
        let mut unconfirmed = std::mem::take(&mut self.publishes.unconfirmed);
        let mut channels: Vec<u16> = Vec::new();
        for publish in unconfirmed.drain(..) {
            let Some(channel) = self.session.channel(publish.channel) else { continue };
            let ChannelMode::Confirm(confirms) = &mut channel.mode else { continue };
            let taken = publish.location.is_none_or(|location| refused.binary_search(&location).is_err());
            confirms.settle(publish.delivery_tag, taken);
            if !channels.contains(&publish.channel) {
                channels.push(publish.channel);
            }
        }
        self.publishes.unconfirmed = unconfirmed;
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
                Confirm::Nack { delivery_tag } => {
                    leveret_wire::Method::from(basic::Nack { delivery_tag, multiple: false, requeue: false })
                }
            };
            method.write_frame(id, self.output.buffer());
        }
    }

    /// A publisher whose every queue is far behind consumers that do take messages is read less
    /// often. Where a consumer has stopped, or one queue of several is slow, nobody waits.
    fn pause_if_behind(&mut self) {
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

fn decode_properties(octets: &[u8]) -> Result<Properties<'_>, Refusal> {
    Properties::decode(octets).map_err(|_| Refusal::BrokenContent)
}

/// Properties and headers that would change what the broker does with the message, in ways that
/// are not built.
fn check_not_built(properties: &Properties<'_>) -> Result<(), Refusal> {
    let not_built =
        |what: &str| Err(Refusal::NotImplemented(format!("{what} is not implemented by this broker yet")));
    if let Some(expiration) = properties.expiration {
        check_expiration(expiration.as_bytes())?;
        return not_built("the property 'expiration'");
    }
    if properties.reply_to.is_some_and(|reply_to| reply_to.as_bytes() == b"amq.rabbitmq.reply-to") {
        return not_built("direct reply-to");
    }
    let Some(headers) = properties.headers else { return Ok(()) };
    for name in ["CC", "BCC"] {
        match headers.find(name) {
            None => {}
            Some(Value::Array(_)) => return not_built(&format!("the header '{name}'")),
            Some(other) => {
                let reason = format!("{{unacceptable_type_in_header,\"{name}\",{}}}", other.type_name());
                return Err(Refusal::InvalidMessage(reason));
            }
        }
    }
    Ok(())
}

fn check_expiration(expiration: &[u8]) -> Result<(), Refusal> {
    if !expiration.is_empty() && expiration.iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    let expiration = String::from_utf8_lossy(expiration).into_owned();
    Err(Refusal::InvalidExpiration { expiration, reason: "no_integer" })
}
