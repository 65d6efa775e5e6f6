//! Consumers: started, limited, cancelled; and messages asked for one at a time.

use std::sync::Arc;

use leveret_wire::{Method, ShortStr, method::basic};

use super::{
    connection::Connection,
    inbox::{self, Letter},
    queue_cell::QueueCell,
    replies::REPLY_TO,
    sources::{Delivery, SourceId},
};
use crate::{
    Refusal,
    model::{
        arguments::{ConsumerArguments, Owner},
        consumer::{ChannelCredit, ConsumerSettings},
        queue::Take,
        queue_arguments::QueueType,
    },
    planted::{self, Bug},
};

const SERVER_TAG_PREFIX: &str = "amq.ctag-";

/// A `basic.get` whose message is on a page.
pub(super) struct Getting {
    channel: u16,
    queue: Arc<QueueCell>,
    no_ack: bool,
}

impl Connection {
    pub(super) fn consume(&mut self, channel: u16, consume: basic::Consume<'_>) -> Result<(), Refusal> {
        if consume.queue.as_bytes() == REPLY_TO.as_bytes() {
            // A second one is refused for being that, whatever its tag.
            let is_second = self.channel(channel).data.replies.is_some();
            let tag = if is_second { Vec::new() } else { self.consumer_tag(channel, consume.consumer_tag)? };
            return self.consume_replies(channel, &tag, &consume);
        }
        if consume.queue.is_empty() {
            self.last_queue(channel)?;
        }
        let tag = self.consumer_tag(channel, consume.consumer_tag)?;
        let queue = self.named_queue(channel, consume.queue)?;
        let owner = Owner { object: "queue", name: &queue.name, vhost: self.vhost_name() };
        let arguments = ConsumerArguments::parse(consume.arguments, queue.queue_type(), owner)?;
        self.check_prefetch(channel, &queue)?;
        self.check_shared_credit(channel, &queue)?;
        if consume.no_ack {
            self.refuse_for_stream(&queue, "automatic acknowledgement")?;
        }
        self.start_consumer(channel, &queue, &tag, arguments, &consume)?;
        Ok(())
    }

    /// The tag that the client chose, if it is free on the channel, or one of ours.
    fn consumer_tag(&mut self, channel: u16, tag: ShortStr<'_>) -> Result<Vec<u8>, Refusal> {
        if tag.is_empty() {
            return Ok(self.engine.random_name(SERVER_TAG_PREFIX).into_bytes());
        }
        if self.channel(channel).data.consumers.contains_key(tag.as_bytes()) {
            return Err(Refusal::ConsumerTagReused(tag.to_string()));
        }
        Ok(tag.as_bytes().to_vec())
    }

    fn check_shared_credit(&mut self, channel: u16, queue: &QueueCell) -> Result<(), Refusal> {
        let shared = self.channel(channel).data.credit.is_some();
        if shared && queue.queue_type() != QueueType::Classic {
            let (queue, vhost) = (&queue.name, self.vhost_name());
            let text = format!("queue '{queue}' in vhost '{vhost}' does not support global qos");
            return Err(Refusal::NotImplemented(text));
        }
        Ok(())
    }

    /// Who reads a stream says how far it may be ahead of what was acknowledged.
    fn check_prefetch(&mut self, channel: u16, queue: &QueueCell) -> Result<(), Refusal> {
        if queue.queue_type() == QueueType::Stream && self.channel(channel).data.prefetch == 0 {
            let (queue, vhost) = (queue.name.to_string(), self.vhost_name().to_owned());
            return Err(Refusal::NoPrefetch { queue, vhost });
        }
        Ok(())
    }

    pub(super) fn start_consumer(
        &mut self,
        channel: u16,
        queue: &Arc<QueueCell>,
        tag: &[u8],
        arguments: ConsumerArguments,
        consume: &basic::Consume<'_>,
    ) -> Result<(), Refusal> {
        self.heed_ack_timeout(queue);
        let data = &self.channel(channel).data;
        let settings = ConsumerSettings {
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority: arguments.priority,
            prefetch: data.prefetch,
            channel_credit: data.credit.clone(),
        };
        let id = self.sources.insert(channel, Arc::clone(queue), tag, consume.no_ack);
        self.sources.of(id).shares_credit = settings.channel_credit.is_some() && !consume.no_ack;
        let refused = |kind: fn(String, String) -> Refusal, connection: &mut Self| {
            connection.sources.tidy(id);
            kind(queue.name.to_string(), connection.vhost_name().to_owned())
        };
        let (offset, inbox) = (arguments.offset, &self.inbox);
        match queue.add_consumer(&self.engine, &mut self.scratch, settings, offset, inbox, id) {
            None => return Err(refused(|queue, vhost| Refusal::NoQueue { queue, vhost }, self)),
            Some(Err(_)) => return Err(refused(|queue, vhost| Refusal::ExclusiveUse { queue, vhost }, self)),
            Some(Ok(slot)) => self.sources.of(id).slot = Some(slot),
        }
        self.channel(channel).data.consumers.insert(tag.into(), id);
        if !consume.nowait {
            let consumer_tag = ShortStr::new(tag).expect("a consumer tag is a short string");
            self.say(channel, basic::ConsumeOk { consumer_tag });
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, channel: u16, cancel: basic::Cancel<'_>) -> Result<(), Refusal> {
        let consumers = &mut self.channel(channel).data.consumers;
        if let Some(id) = consumers.shift_remove(cancel.consumer_tag.as_bytes()) {
            self.stop_consumer(id);
            let replies = self.channel(channel).data.replies.take_if(|replies| replies.source == id);
            self.forget_replies(replies);
        }
        if !cancel.nowait {
            self.say(channel, basic::CancelOk { consumer_tag: cancel.consumer_tag });
        }
        Ok(())
    }

    /// Takes a consumer off its queue and puts back what it was not sent yet.
    pub(super) fn stop_consumer(&mut self, id: SourceId) {
        let Some(source) = self.sources.find(id) else { return };
        let Some(slot) = source.slot.take() else { return };
        let (queue, no_ack) = (Arc::clone(&source.queue), source.no_ack);
        let removal = queue.remove_consumer(&self.engine, &mut self.scratch, slot);
        let unsent = self.retract(|source| source == id);
        self.put_back_unsent(&queue, no_ack, &unsent);
        if removal.was_active {
            self.let_succeed(&queue);
        }
        self.note_holder(id, &queue);
        self.give_back_unsent_credit(id, unsent.len());
        if removal.is_abandoned {
            self.remove_abandoned_queue(&queue);
        }
        self.sources.tidy(id);
    }

    /// A quorum queue counts a consumer that was cancelled for as long as it holds messages.
    fn note_holder(&mut self, id: SourceId, queue: &QueueCell) {
        let source = self.sources.of(id);
        if queue.queue_type() == QueueType::Quorum && source.unacked > 0 {
            source.is_held = true;
            queue.step(&self.engine, &mut self.scratch, |queue, _, _| queue.hold());
        }
    }

    /// Messages for those consumers that lie in the inbox or in the mail, unread.
    pub(super) fn retract(&mut self, of: impl Fn(SourceId) -> bool) -> Vec<(SourceId, Letter)> {
        let mut unsent = Vec::new();
        let reader = &mut self.reader;
        inbox::retract(&mut reader.mail, reader.next_run, reader.next_letter, &of, &mut unsent);
        self.inbox.retract(of, &mut unsent);
        unsent
    }

    /// They were handed out but never sent, so they are as they were.
    pub(super) fn put_back_unsent(&mut self, queue: &QueueCell, no_ack: bool, unsent: &[(SourceId, Letter)]) {
        if unsent.is_empty() {
            return;
        }
        let acknowledgeable =
            if no_ack { 0 } else { u32::try_from(unsent.len()).expect("a window is small") };
        let back = unsent.iter().map(|(_, letter)| (letter.position, letter.location));
        let done = queue.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
            queue.put_back(back, acknowledgeable, messages, effects);
        });
        if done.is_none() {
            if planted::is(Bug::ReferenceReleasedTwice) {
                self.engine.release(unsent.iter().map(|(_, letter)| letter.location));
            }
            self.engine.release(unsent.iter().map(|(_, letter)| letter.location));
        }
    }

    /// What was never sent counted in the channel's shared prefetch all the same.
    fn give_back_unsent_credit(&mut self, id: SourceId, unsent: usize) {
        if planted::is(Bug::CreditLostOnCancel) {
            return;
        }
        let Some(source) = self.sources.find(id).filter(|source| source.shares_credit && unsent > 0) else {
            return;
        };
        let channel = source.channel;
        let Some(open) = self.session.channel(channel) else { return };
        let Some(credit) = &open.data.credit else { return };
        credit.give_back(u32::try_from(unsent).expect("a window is small"));
        self.wake_channel(channel);
    }

    /// The consumer's queue is gone.
    pub(super) fn consumer_cancelled(&mut self, id: SourceId) {
        let Some(source) = self.sources.find(id) else { return };
        if source.slot.take().is_none() {
            return;
        }
        let (channel, tag) = (source.channel, source.tag.clone());
        let unsent = self.retract(|source| source == id);
        self.give_back_unsent_credit(id, unsent.len());
        self.engine.release(unsent.iter().map(|(_, letter)| letter.location));
        self.sources.tidy(id);
        let notify = self.session.capabilities().consumer_cancel_notify;
        let Some(open) = self.session.channel(channel) else { return };
        open.data.consumers.shift_remove(&*tag);
        if notify && !planted::is(Bug::CancelNotSent) {
            let consumer_tag = ShortStr::new(&tag).expect("a consumer tag is a short string");
            self.say(channel, basic::Cancel { consumer_tag, nowait: true });
        }
    }

    pub(super) fn get(&mut self, channel: u16, get: basic::Get<'_>) -> Result<(), Refusal> {
        let cell = self.named_queue(channel, get.queue)?;
        self.check_gettable(&cell)?;
        self.get_from(Getting { channel, queue: cell, no_ack: get.no_ack });
        Ok(())
    }

    /// Answers a `basic.get` that waited for a page, if that was read.
    pub(super) fn get_again(&mut self) {
        let Some(getting) = self.getting.take() else { return };
        // The channel may be closed meanwhile, for a delivery that was kept too long.
        if self.session.channel(getting.channel).is_some() {
            self.get_from(getting);
        }
    }

    /// Answers with the first message, or waits for its page; nothing more is read from the peer
    /// until then.
    fn get_from(&mut self, getting: Getting) {
        let Getting { channel, queue: cell, no_ack } = getting;
        let taken = match cell.take(&self.engine, &mut self.scratch, no_ack, &self.inbox) {
            Take::Message(taken) => taken,
            Take::Empty | Take::Behind => {
                return self.say(channel, Method::from(basic::GetEmpty::default()));
            }
            Take::Away => {
                self.getting = Some(Getting { channel, queue: cell, no_ack });
                self.answers_wait = true;
                return;
            }
        };
        self.heed_ack_timeout(&cell);
        let delivery_tag = if no_ack {
            self.channel(channel).unacked.next_tag()
        } else {
            let source = self.getter(channel, &cell);
            self.sources.of(source).unacked += 1;
            let (location, position) = (taken.location, taken.position);
            let now = self.now.monotonic_millis;
            let is_timed = self.ack_timeout_millis.is_some();
            let open = self.channel(channel);
            if is_timed {
                open.data.marks.note(open.unacked.last_tag() + 1, now);
            }
            open.unacked.push(Delivery { location, position, source, holds_credit: false })
        };
        let remaining = u32::try_from(taken.remaining).unwrap_or(u32::MAX);
        self.write_get_ok(channel, delivery_tag, &taken, &cell, remaining);
        if no_ack {
            cell.left(&self.engine, [taken.position]);
            self.engine.release([taken.location]);
        }
    }

    fn check_gettable(&self, cell: &QueueCell) -> Result<(), Refusal> {
        self.refuse_for_stream(cell, "basic.get")?;
        if cell.queue_type() == QueueType::Quorum && cell.has_single_active_consumer() {
            let (queue, vhost) = (cell.name.to_string(), self.vhost_name().to_owned());
            return Err(Refusal::SingleActiveGet { queue, vhost });
        }
        Ok(())
    }

    /// The source that stands for a queue that the channel gets from.
    fn getter(&mut self, channel: u16, cell: &Arc<QueueCell>) -> SourceId {
        let known = self.channel(channel).data.getters.get(&cell.serial).copied();
        if let Some(id) = known.filter(|id| self.sources.find(*id).is_some()) {
            return id;
        }
        let id = self.sources.insert(channel, Arc::clone(cell), b"", false);
        let sources = &mut self.sources;
        let getters = &mut self.session.channel(channel).expect("the session found it open").data.getters;
        getters.retain(|_, id| sources.find(*id).is_some());
        getters.insert(cell.serial, id);
        id
    }

    pub(super) fn qos(&mut self, channel: u16, qos: basic::Qos) -> Result<(), Refusal> {
        if qos.prefetch_octets != 0 {
            return Err(Refusal::NotImplemented(format!("prefetch_size!=0 ({})", qos.prefetch_octets)));
        }
        if qos.global {
            self.limit_channel(channel, qos.prefetch_count);
        } else {
            self.channel(channel).data.prefetch = qos.prefetch_count;
            // RabbitMQ lifts the channel's limit with this, and clients may count on it.
            if self.channel(channel).data.credit.is_some() {
                self.limit_channel(channel, 0);
            }
        }
        self.say(channel, basic::QosOk {});
        Ok(())
    }

    /// A limit for the whole channel holds for its consumers of now as well.
    fn limit_channel(&mut self, channel: u16, prefetch_count: u16) {
        let credit = self.channel_credit(channel);
        let open = self.session.channel(channel).expect("the session found it open");
        let gotten = open.unacked.iter_mut().filter(|delivery| self.sources.of(delivery.source).is_getter());
        credit.set_limit(prefetch_count.into(), u32::try_from(gotten.count()).unwrap_or(u32::MAX));
        self.wake_channel(channel);
    }

    fn channel_credit(&mut self, channel: u16) -> Arc<ChannelCredit> {
        if let Some(credit) = &self.channel(channel).data.credit {
            return Arc::clone(credit);
        }
        let credit = Arc::new(ChannelCredit::default());
        self.channel(channel).data.credit = Some(Arc::clone(&credit));
        let consumers: Vec<_> = self.channel(channel).data.consumers.values().copied().collect();
        for id in &consumers {
            let Some(source) = self.sources.find(*id) else { continue };
            let Some(slot) = source.slot else { continue };
            let shared = source
                .queue
                .step(&self.engine, &mut self.scratch, |queue, _, _| queue.share_credit(slot, &credit));
            // What a queue that is gone handed out before does not count, nor what a stream hands out.
            source.shares_credit = shared.unwrap_or(false) && !source.no_ack;
        }
        for delivery in self.session.channel(channel).expect("the session found it open").unacked.iter_mut() {
            delivery.holds_credit = self.sources.of(delivery.source).shares_credit;
        }
        credit
    }

    pub(super) fn recover(&mut self, channel: u16, requeue: bool, confirmed: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::NotImplemented("requeue=false".to_owned()));
        }
        let taken = self.take_recoverable(channel);
        self.requeue(channel, &taken);
        if confirmed {
            self.say(channel, basic::RecoverOk {});
        }
        Ok(())
    }
}
