//! Publishing: a read batch becomes one chunk of the log and one step on each queue it goes to.
//!
//! Invariant: a publish is confirmed after every queue of its route was stepped.

use std::sync::Arc;

use leveret_wire::{Properties, Table, Value, method::basic};

use super::{
    Engine,
    connection::Connection,
    groups::{Cursor, Groups},
    queue_cell::QueueCell,
    routes::QueueRoute,
};
use crate::{
    Location, Refusal,
    planted::{self, Bug},
    session::{ChannelMode, Confirm, Failure, MethodIds, Publish},
    store::{LogBatch, OpenChunk, Record},
};

/// Messages put into queues in one turn; a step on a queue counts as this many.
const TURN_APPENDS_MAX: usize = 16 * 1024;
const STEP_APPENDS: usize = 16;
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
    open_chunk: OpenChunk,
    groups: Groups,
    unconfirmed: Vec<Unconfirmed>,
    refused: Vec<Location>,
    /// While flushing: what comes next.
    flushing: Option<Cursor>,
    backlog: Option<Backlog>,
    /// The backlog that made the publisher pause last.
    paused_by: Option<Backlog>,
}

impl PublishBatch {
    pub(super) const fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    /// Whether it has grown so much that it is flushed before more is read.
    pub(super) const fn is_due(&self) -> bool {
        self.log.octets() >= BATCH_OCTETS_MAX
    }

    /// Puts a message into the batch. Its place stands for its location until the batch is in the
    /// log; `None` when no queue wants it. `input_left` is how much more may come in the batch.
    #[inline]
    fn append(
        &mut self,
        engine: &Engine,
        publish: &Publish<'_>,
        route: &Arc<QueueRoute>,
        input_left: usize,
    ) -> Option<Location> {
        if route.queues.is_empty() {
            return None;
        }
        let Publish { route: octets, property_octets, body, .. } = *publish;
        let record_octets = Record::octets(octets.as_bytes().len(), property_octets.len(), body.len());
        let references = u32::try_from(route.queues.len()).expect("fewer than 2^32 queues");
        let buffer = || engine.log.buffer(record_octets + input_left);
        self.log.append(references, buffer, |chunk| Record::append(chunk, octets, property_octets, body));
        Some(self.groups.add(route, record_octets))
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
        let vhost = self.vhost.as_ref().expect("channels are open in a virtual host");
        let grants = self.grants.as_mut().expect("channels are open in a virtual host");
        let headers = properties.and_then(|properties| properties.headers).unwrap_or(Table::EMPTY);
        let route = self.routes.route(vhost, grants, publish.route, headers)?;
        if let Some(properties) = &properties {
            let user = self.user.as_deref().filter(|_| !grants.is_impersonator);
            check_properties(properties, user)?;
        }
        let channel = self.session.channel(publish.channel).expect("the session found it open");
        if matches!(channel.mode, ChannelMode::Transaction) {
            self.transaction_octets += channel.data.transaction.hold_publish(&publish);
            return Ok(());
        }
        let location = self.publishes.append(&self.engine, &publish, route, self.input_left);
        if let ChannelMode::Confirm(confirms) = &mut channel.mode {
            let delivery_tag = confirms.publish();
            self.publishes.unconfirmed.push(Unconfirmed { channel: publish.channel, delivery_tag, location });
        }
        if location.is_none() {
            self.unroutable(&publish);
        }
        Ok(())
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

    /// Publishes a message of a transaction, whose checks were made when it came.
    pub(super) fn publish_committed(&mut self, publish: Publish<'_>) -> Result<(), Refusal> {
        let vhost = self.vhost.as_ref().expect("channels are open in a virtual host");
        let properties = decode_properties(publish.property_octets)?;
        let grants = self.grants.as_mut().expect("channels are open in a virtual host");
        let headers = properties.and_then(|properties| properties.headers).unwrap_or(Table::EMPTY);
        let route = self.routes.route(vhost, grants, publish.route, headers)?;
        if self.publishes.append(&self.engine, &publish, route, self.input_left).is_none() {
            self.unroutable(&publish);
        }
        Ok(())
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
        let mut cursor = match self.publishes.flushing {
            Some(cursor) => cursor,
            None if self.publishes.groups.is_empty() && self.publishes.unconfirmed.is_empty() => return,
            None => {
                self.append_batch();
                Cursor::default()
            }
        };
        let mut budget = TURN_APPENDS_MAX;
        while let Some((queue, messages)) = self.publishes.groups.target(&mut cursor) {
            if budget == 0 {
                self.publishes.flushing = Some(cursor);
                return;
            }
            budget = budget.saturating_sub(messages.len() + STEP_APPENDS);
            let queue = Arc::clone(queue);
            self.enqueue(&queue, cursor);
            cursor.advance();
        }
        self.finish_flush();
    }

    /// Puts the batch into the log; from here its messages have locations.
    fn append_batch(&mut self) {
        let batch = &mut self.publishes;
        if batch.groups.is_empty() {
            return;
        }
        let first = self.engine.log.append(&mut batch.log, &mut batch.open_chunk);
        batch.groups.place(first);
        for location in batch.unconfirmed.iter_mut().filter_map(|publish| publish.location.as_mut()) {
            *location = location.behind(first);
        }
        self.engine.alarm.grown();
    }

    fn enqueue(&mut self, queue: &QueueCell, mut cursor: Cursor) {
        let Some((_, messages)) = self.publishes.groups.target(&mut cursor) else { return };
        let backlog = queue.step(&self.engine, &mut self.scratch, |model, body_octets, effects| {
            model.enqueue(messages, body_octets, effects);
            let (ready, delivered) = (model.ready(), model.delivered());
            (model.consumer_count() > 0).then_some(Backlog { queue: queue.serial, ready, delivered })
        });
        match backlog {
            Some(backlog) => {
                let refused = self.scratch.effects.rejected.drain(..).map(|place| messages[place]);
                self.publishes.refused.extend(refused);
                self.publishes.note_backlog(backlog);
            }
            // The queue was deleted since the route was found, as if before the publish.
            None => self.engine.release(messages.iter().copied()),
        }
    }

    fn finish_flush(&mut self) {
        self.publishes.flushing = None;
        self.publishes.groups.clear();
        self.confirm();
        self.publishes.refused.clear();
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

/// The properties, if the message has any: most have none.
#[inline]
fn decode_properties(octets: &[u8]) -> Result<Option<Properties<'_>>, Refusal> {
    if octets == [0, 0] {
        return Ok(None);
    }
    Properties::decode(octets).map(Some).map_err(|_| Refusal::BrokenContent)
}

/// Checks what a message says of itself; `user` is the only one whose name it may carry.
fn check_properties(properties: &Properties<'_>, user: Option<&str>) -> Result<(), Refusal> {
    if let (Some(claimed), Some(user)) = (properties.user_id, user) {
        if claimed.as_bytes() != user.as_bytes() {
            return Err(Refusal::WrongUserId { claimed: claimed.to_string(), user: user.to_owned() });
        }
    }
    if let Some(delivery_mode) = properties.delivery_mode.filter(|mode| !matches!(mode, 1 | 2)) {
        return Err(Refusal::InvalidMessage(format!("{{delivery_mode_unknown,{delivery_mode}}}")));
    }
    check_not_built(properties)
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

/// Milliseconds that a message may live at most, as in RabbitMQ: ten years.
const EXPIRATION_MILLIS_MAX: u64 = 315_360_000_000;

/// A decimal number with or without a sign, and nothing behind it.
fn check_expiration(expiration: &[u8]) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(expiration).into_owned();
    match expiration_fault(&text) {
        None => Ok(()),
        Some(reason) => Err(Refusal::InvalidExpiration { expiration: text, reason }),
    }
}

fn expiration_fault(text: &str) -> Option<String> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, leftover) = unsigned.split_at(end);
    let number = if digits.is_empty() { digits } else { digits.trim_start_matches('0') };
    match digits.parse::<u64>() {
        _ if digits.is_empty() => Some("no_integer".to_owned()),
        _ if !leftover.is_empty() => Some(format!("{{leftover_string,{leftover:?}}}")),
        _ if negative && !number.is_empty() => Some(format!("{{value_negative,-{number}}}")),
        Ok(millis) if millis <= EXPIRATION_MILLIS_MAX => None,
        _ => Some(format!("{{value_too_large,{number}}}")),
    }
}
