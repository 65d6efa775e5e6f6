//! Consumers of the model: started, limited, cancelled by either side.

use leveret_wire::{Method, ReplyCode, Value, method::basic};

use super::{
    ChannelKey, ConnectionKey, ConsumerKey, Model, QueueKey,
    queue::Active,
    turn::Turn,
    verdict::{Outcome, Verdict},
};
use crate::{Checked, Violation, counts::Event, ensure, frames::Said};

/// A consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) channel: ChannelKey,
    pub(super) queue: QueueKey,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    /// Higher ones are served first.
    pub(super) priority: i64,
    /// 0 is no limit.
    pub(super) prefetch: u16,
    /// Deliveries heard.
    pub(super) delivered: u64,
    /// Those of them that are not settled.
    pub(super) unacked: u64,
    /// What it was delivered took of its window since its connection had nothing left to send.
    pub(super) heard: u64,
    /// Its queue is gone and its client was not told yet.
    pub(super) lost: bool,
    /// Its channel is being taken down in slices.
    pub(super) going: bool,
}

impl Model {
    pub(super) fn consume(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        consume: basic::Consume<'_>,
    ) -> Checked {
        let named = self.named_queue(key, consume.queue);
        let tag = consume.consumer_tag.as_bytes();
        let namesake = self.channel(key).consumers.get(tag).map(|consumer| &self.consumers[consumer]);
        let told = self.connection(key.0).capabilities.consumer_cancel_notify;
        let reused = namesake.is_some_and(|consumer| !consumer.lost || told);
        let perhaps_reused = namesake.is_some_and(|consumer| consumer.lost && !told);
        let [missing, locked] = named.reasons();
        let in_use = named.queue.is_some_and(|queue| self.is_in_exclusive_use(queue, consume.exclusive));
        // A quorum queue knows no limit for a whole channel.
        let is_quorum = named.queue.is_some_and(|queue| self.queue(queue).terms.is_quorum);
        let shares = is_quorum && self.channel(key).shared_limit.was_set;
        let verdict = Verdict::unless(&[
            missing,
            locked,
            (reused, ReplyCode::NotAllowed),
            (in_use, ReplyCode::AccessRefused),
            (shares, ReplyCode::NotImplemented),
        ])
        .or(perhaps_reused, ReplyCode::NotAllowed)
        .or(named.doomed, ReplyCode::NotFound);
        let answer = (!consume.nowait).then_some((60, 21));
        let Outcome::Done(answer) = self.outcome(turn, key.1, (60, 20), answer, verdict)? else {
            return Ok(());
        };
        let tag = match answer {
            Some(Said::Method(_, Method::BasicConsumeOk(ok))) => ok.consumer_tag.as_bytes().to_vec(),
            _ => tag.to_vec(),
        };
        let asked = consume.consumer_tag.as_bytes();
        ensure!(asked.is_empty() || asked == tag, "a consumer got another tag than it asked for");
        let queue = named.queue.ok_or(Violation::new("a consumer of a queue that does not exist"))?;
        self.start_consumer(key, queue, tag, &consume);
        Ok(())
    }

    fn is_in_exclusive_use(&self, queue: QueueKey, exclusive: bool) -> bool {
        let consumers = &self.queue(queue).consumers;
        if exclusive && self.queue(queue).terms.single_active {
            return true;
        }
        !consumers.is_empty()
            && (exclusive || consumers.iter().any(|consumer| self.consumers[consumer].exclusive))
    }

    fn start_consumer(
        &mut self,
        key: ChannelKey,
        queue: QueueKey,
        tag: Vec<u8>,
        consume: &basic::Consume<'_>,
    ) {
        self.counts.note(Event::Consume);
        self.expire(queue);
        let new = ConsumerKey(self.next_key());
        let channel = self.channel_mut(key);
        channel.consumers.insert(tag, new);
        let consumer = Consumer {
            channel: key,
            queue,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            priority: consume.arguments.find("x-priority").and_then(Value::as_integer).unwrap_or(0),
            prefetch: channel.prefetch,
            delivered: 0,
            unacked: 0,
            heard: 0,
            lost: false,
            going: false,
        };
        self.consumers.insert(new, consumer);
        let state = self.queue_mut(queue);
        state.consumers.insert(new);
        if state.terms.single_active && state.active == Active::Nobody {
            state.active = Active::Known(new);
        }
        self.may_expire(queue);
    }

    pub(super) fn cancel(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        cancel: basic::Cancel<'_>,
    ) -> Checked {
        let answer = (!cancel.nowait).then_some((60, 31));
        self.outcome(turn, key.1, (60, 30), answer, Verdict::unless(&[]))?;
        if let Some(consumer) = self.channel_mut(key).consumers.remove(cancel.consumer_tag.as_bytes()) {
            self.counts.note(Event::Cancel);
            self.stop_consumer(consumer);
        }
        Ok(())
    }

    /// A consumer ends; what was handed to it and not heard is ready again, and limits are kept
    /// before others are handed any of that.
    pub(super) fn stop_consumer(&mut self, key: ConsumerKey) {
        let turn = self.turns;
        if !self.consumers.contains_key(&key) {
            return;
        }
        let was_handed = self.credit(key).max > 0;
        self.may_expire(self.consumers[&key].queue);
        let mut elsewhere = self.hidden_elsewhere(self.consumers[&key].queue, key);
        if self.holds_deliveries(key) {
            // They may come back in the same go, and stood before what comes back here.
            elsewhere.max = u64::MAX;
        }
        let Some(consumer) = self.consumers.remove(&key) else { return };
        let Some(queue) = self.queues.get_mut(&consumer.queue) else { return };
        queue.consumers.remove(&key);
        if queue.dead {
            return self.forget_if_unwanted(consumer.queue);
        }
        let abandoned = queue.auto_delete && queue.consumers.is_empty();
        if queue.consumers.is_empty() {
            queue.used_millis = (!consumer.going).then_some(self.now_millis);
        }
        if abandoned {
            // What was handed out goes with it, and nothing is dropped to make room for that.
            self.counts.note(Event::QueueAutoDelete);
            return self.remove_queue(consumer.queue);
        }
        let was_active = queue.active == Active::Known(key) || queue.active == Active::Open;
        if was_handed {
            queue.stir(turn);
            self.drop_head_behind(consumer.queue, elsewhere);
            self.may_expire(consumer.queue);
        }
        if was_active {
            self.succeed(consumer.queue);
        }
    }

    /// Whether the consumer's channel has deliveries of its queue.
    fn holds_deliveries(&self, key: ConsumerKey) -> bool {
        let consumer = &self.consumers[&key];
        let channel = self.channels.get(&consumer.channel);
        channel.is_some_and(|channel| channel.unacked.values().any(|held| held.queue == consumer.queue))
    }

    /// The broker says that a consumer's queue is gone.
    pub(super) fn hear_cancel(&mut self, key: ChannelKey, tag: &[u8]) -> Checked {
        let channel = self.channels.get_mut(&key).filter(|channel| !channel.closing);
        let consumer = channel.and_then(|channel| channel.consumers.remove(tag));
        let consumer = consumer.ok_or(Violation::new("a consumer was cancelled that there is not"))?;
        ensure!(self.consumers[&consumer].lost, "a consumer was cancelled whose queue is there");
        let told = self.connection(key.0).capabilities.consumer_cancel_notify;
        ensure!(told, "a client was told of a cancel that it did not ask for");
        self.counts.note(Event::CancelNotified);
        self.stop_consumer(consumer);
        Ok(())
    }

    /// Clients that did not ask are not told, but the consumers are gone all the same.
    pub(super) fn forget_lost_consumers(&mut self, key: ConnectionKey) {
        if self.connection(key).capabilities.consumer_cancel_notify {
            return;
        }
        let consumers = &self.consumers;
        let mut lost = Vec::new();
        for channel in self.channels.range_mut((key, 0)..=(key, u16::MAX)).map(|(_, channel)| channel) {
            channel.consumers.retain(|_, consumer| {
                let is_lost = consumers[consumer].lost;
                lost.extend(is_lost.then_some(*consumer));
                !is_lost
            });
        }
        for consumer in lost {
            self.counts.note(Event::CancelUnnotified);
            self.stop_consumer(consumer);
        }
    }

    pub(super) fn qos(&mut self, turn: &mut Turn<'_>, key: ChannelKey, qos: basic::Qos) -> Checked {
        let verdict = Verdict::unless(&[(qos.prefetch_octets != 0, ReplyCode::NotImplemented)]);
        if let Outcome::Refused = self.outcome(turn, key.1, (60, 10), Some((60, 11)), verdict)? {
            return Ok(());
        }
        let channel = self.channel_mut(key);
        if !qos.global {
            channel.prefetch = qos.prefetch_count;
            // A limit for each consumer to come lifts the channel's.
            (channel.shared_limit.current, channel.shared_limit.ceiling) = (None, None);
            channel.shared_limit.full_since = None;
            return Ok(());
        }
        let fetched = channel.unacked.values().filter(|held| held.consumer.is_none()).count() as u64;
        let limit = &mut channel.shared_limit;
        limit.full_since = None;
        let new = (qos.prefetch_count > 0).then_some(u64::from(qos.prefetch_count));
        if limit.current.is_none() {
            limit.lost = fetched;
        }
        limit.ceiling = match (limit.ceiling, new) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        };
        limit.current = new;
        limit.was_set = true;
        Ok(())
    }
}
