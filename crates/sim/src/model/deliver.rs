//! Messages that go out: to consumers, and to those who ask for one.

use leveret_wire::{Method, ReplyCode, method::basic};

use super::{
    ChannelKey, ConsumerKey, Model, Name, QueueKey,
    connection::Held,
    death::{Heard, Reason},
    hidden::window_share,
    publish::check_content,
    queue::{Active, Position, Waiting},
    turn::Turn,
    verdict::Verdict,
};
use crate::{
    Checked, Violation,
    counts::Event,
    ensure,
    frames::{Content, Said},
};

/// So many consumers make a crowd, and so many messages a backlog, in which looking at every
/// message before every other takes too long: then one of some is looked at.
const CROWD: usize = 32;
const BACKLOG: u64 = 1_000;
const SAMPLED_OF: u64 = 16;

impl Model {
    /// A message is delivered to a consumer.
    pub(super) fn hear_deliver(
        &mut self,
        key: ChannelKey,
        deliver: &basic::Deliver<'_>,
        content: &Content,
    ) -> Checked {
        self.counts.note(Event::Delivery);
        let heard = Heard::of(&content.property_octets)?;
        let id = heard.name.id;
        let channel = self.channels.get(&key).filter(|channel| !channel.closing);
        let consumer = channel.and_then(|channel| channel.consumers.get(deliver.consumer_tag.as_bytes()));
        let Some(&consumer) = consumer else {
            return Err(Violation::new(format!("message {id} was delivered to nobody")));
        };
        let queue = self.consumers[&consumer].queue;
        self.check_active(queue, consumer)?;
        self.check_turn(queue, consumer, heard.name)?;
        self.check_was_alive(queue, consumer, heard.name)?;
        self.check_channel_had_room(queue, consumer, heard.name)?;
        let (position, waiting) = self.leaves(queue, &heard, deliver.redelivered)?;
        let (exchange, routing_key) = (deliver.exchange.as_bytes(), deliver.routing_key.as_bytes());
        check_content(&waiting.message, exchange, routing_key, content)?;
        waiting.message.check_properties(&content.property_octets, &heard, self.now_wall_millis / 1000)?;
        self.check_tag(key, deliver.delivery_tag)?;
        let state = self.consumers.get_mut(&consumer).expect("it was just looked up");
        state.delivered += 1;
        state.heard += window_share(&waiting.message);
        if state.no_ack {
            return Ok(());
        }
        self.hold(key, queue, position, waiting, Some(consumer));
        self.check_prefetch(key, consumer)
    }

    /// The message leaves the queue's waiting ones.
    fn leaves(&mut self, queue: QueueKey, heard: &Heard, redelivered: bool) -> Checked<(Position, Waiting)> {
        let id = heard.name.id;
        if redelivered {
            self.counts.note(Event::Redelivery);
        }
        let name = self.queue(queue).name.clone();
        let Some((position, mut waiting)) = self.queue_mut(queue).take(heard.name) else {
            return Err(Violation::new(format!("{heard} went out and does not wait in '{name}'")));
        };
        ensure!(
            waiting.redelivered.is_none_or(|wanted| wanted == redelivered),
            "message {id} of '{name}' went out with redelivered={redelivered}"
        );
        self.check_returns(queue, &mut waiting, heard.returns)?;
        self.settle_letters(queue, &waiting);
        (waiting.unsure, waiting.limbo) = (false, false);
        Ok((position, waiting))
    }

    /// A quorum queue says how often a message came back.
    fn check_returns(&mut self, queue: QueueKey, waiting: &mut Waiting, said: Option<u64>) -> Checked {
        let is_quorum = self.queue(queue).terms.is_quorum;
        let (id, returns) = (waiting.message.id, said.unwrap_or(0));
        ensure!(is_quorum || said.is_none(), "message {id} counts how often it came back");
        if !is_quorum {
            return Ok(());
        }
        if returns > 0 {
            self.counts.note(Event::CountedDelivery);
        }
        ensure!(
            waiting.returns.is_none_or(|wanted| wanted == returns),
            "message {id} is said to have come back {returns} times, not {:?}",
            waiting.returns
        );
        waiting.returns = Some(returns);
        Ok(())
    }

    /// Where there is one active consumer at a time, it alone is given messages.
    fn check_active(&mut self, queue: QueueKey, consumer: ConsumerKey) -> Checked {
        let state = self.queue_mut(queue);
        if state.active == Active::Open {
            state.active = Active::Known(consumer);
        }
        let passive = state.active != Active::Nobody && state.active != Active::Known(consumer);
        ensure!(
            !passive || state.dead,
            "a consumer of '{}' got a message that is not the active one",
            state.name
        );
        Ok(())
    }

    /// It was handed out after the connection last had nothing left to send, and so were heads
    /// taken out whose time was over then.
    fn check_was_alive(&self, queue: QueueKey, consumer: ConsumerKey, name: Name) -> Checked {
        let Some((_, waiting)) = self.queue(queue).find(name) else { return Ok(()) };
        let connection = self.connection(self.consumers[&consumer].channel.0);
        // What just came goes to a consumer even if it has no time at all.
        let just_came = waiting.came > connection.drained_turn || waiting.unordered;
        ensure!(
            just_came || !waiting.is_over(connection.drained_millis),
            "message {} of '{}' was delivered after its time",
            name.id,
            self.queue(queue).name
        );
        Ok(())
    }

    /// One that acknowledges nothing is handed nothing either while its channel's prefetch is used up.
    fn check_channel_had_room(&self, queue: QueueKey, consumer: ConsumerKey, name: Name) -> Checked {
        let consumer = &self.consumers[&consumer];
        let full_since = self.channel(consumer.channel).shared_limit.full_since.filter(|_| consumer.no_ack);
        let found = self.queue(queue).find(name).map(|(_, waiting)| waiting);
        let came = found.filter(|waiting| !waiting.unordered).map(|waiting| waiting.came);
        let (Some(came), Some(full_since)) = (came, full_since) else { return Ok(()) };
        ensure!(
            came <= full_since,
            "message {} of '{}' went to a channel whose prefetch was used up before it came",
            name.id,
            self.queue(queue).name
        );
        Ok(())
    }

    fn check_tag(&mut self, key: ChannelKey, tag: u64) -> Checked {
        let channel = self.channel_mut(key);
        channel.last_tag += 1;
        ensure!(tag == channel.last_tag, "delivery tag {tag} where {} is due", channel.last_tag);
        Ok(())
    }

    fn hold(
        &mut self,
        key: ChannelKey,
        queue: QueueKey,
        position: Position,
        waiting: Waiting,
        consumer: Option<ConsumerKey>,
    ) {
        let turn = self.turns;
        let state = consumer.and_then(|consumer| self.consumers.get_mut(&consumer));
        // What was handed out by a queue that was gone before there was a limit does not count.
        let may_count = state.is_some_and(|consumer| {
            consumer.unacked += 1;
            !consumer.lost
        });
        let channel = self.channel_mut(key);
        let counts_in_limit = may_count && channel.shared_limit.was_set;
        channel.shared_limit.held += u64::from(counts_in_limit);
        channel.shared_limit.look(turn);
        let held = Held { channel: key, queue, position, waiting, consumer, counts_in_limit };
        channel.unacked.insert(channel.last_tag, held);
    }

    fn check_prefetch(&self, key: ChannelKey, consumer: ConsumerKey) -> Checked {
        let consumer = &self.consumers[&consumer];
        let (held, prefetch) = (consumer.unacked, u64::from(consumer.prefetch));
        ensure!(prefetch == 0 || held <= prefetch, "a consumer with prefetch {prefetch} holds {held}");
        let limit = &self.channel(key).shared_limit;
        ensure!(
            limit.ceiling.is_none_or(|ceiling| limit.held <= ceiling),
            "a channel with prefetch {:?} holds {}",
            limit.ceiling,
            limit.held
        );
        Ok(())
    }

    /// It was this consumer's turn to get that message: every message before it is either on
    /// its way to another consumer or came back when this one was on its way already.
    fn check_turn(&self, queue: QueueKey, consumer: ConsumerKey, name: Name) -> Checked {
        let id = name.id;
        let Some((position, waiting)) = self.queue(queue).find(name) else { return Ok(()) };
        let is_sampled = self.queue(queue).consumers.len() > CROWD || self.queue(queue).all() > BACKLOG;
        if self.queue(queue).is_first(position) || is_sampled && !id.is_multiple_of(SAMPLED_OF) {
            return Ok(());
        }
        let elsewhere = self.hidden_elsewhere(queue, consumer).max;
        if elsewhere >= self.queue(queue).all() {
            return Ok(());
        }
        let has_priorities = self.queue(queue).terms.priority_max > 0;
        let drained_turn = self.connection(self.consumers[&consumer].channel.0).drained_turn;
        let passed = self
            .queue(queue)
            .before(position)
            .filter(|other| {
                !other.is_open() && (other.fresh && !has_priorities || other.since <= drained_turn)
            })
            .filter(|other| is_ordered(other, waiting))
            .take(usize::try_from(elsewhere).unwrap_or(usize::MAX) + 1)
            .count() as u64;
        ensure!(
            passed <= elsewhere,
            "message {id} of '{}' overtook {passed} messages or more, others may have been handed {elsewhere}",
            self.queue(queue).name
        );
        Ok(())
    }

    pub(super) fn get(&mut self, turn: &mut Turn<'_>, key: ChannelKey, get: basic::Get<'_>) -> Checked {
        let named = self.named_queue(key, get.queue);
        let verdict = Verdict::unless(&named.reasons()).or(named.doomed, ReplyCode::NotFound);
        if named.queue.is_none() || named.locked {
            return self.outcome(turn, key.1, (60, 70), Some((60, 71)), verdict).map(drop);
        }
        let single = named
            .queue
            .is_some_and(|queue| self.queue(queue).terms.is_quorum && self.queue(queue).terms.single_active);
        if single {
            let verdict = Verdict::refused(ReplyCode::ResourceLocked);
            return self.outcome(turn, key.1, (60, 70), Some((60, 71)), verdict).map(drop);
        }
        let answer = self.next_answer(turn)?;
        if let Some(queue) = named.queue {
            self.touch(queue);
            self.expire(queue);
        }
        match (answer, named.queue) {
            (Some(Said::Method(channel, Method::BasicGetEmpty(_))), Some(queue)) if channel == key.1 => {
                self.got_nothing(queue)
            }
            (Some(Said::Content(channel, Method::BasicGetOk(ok), content)), Some(queue))
                if channel == key.1 =>
            {
                self.got(key, queue, &ok, &content, get.no_ack)
            }
            (answer, _) => Err(Violation::new(format!("{answer:?} in answer to a get"))),
        }
    }

    fn got_nothing(&mut self, queue: QueueKey) -> Checked {
        self.counts.note(Event::GetEmpty);
        self.check_ready(queue, 0, "get-empty")
    }

    fn got(
        &mut self,
        key: ChannelKey,
        queue: QueueKey,
        ok: &basic::GetOk<'_>,
        content: &Content,
        no_ack: bool,
    ) -> Checked {
        self.counts.note(Event::Get);
        let heard = Heard::of(&content.property_octets)?;
        let id = heard.name.id;
        let (hidden, ready) = (self.hidden(queue), self.ready(queue));
        ensure!(ready.max > 0, "message {id} was fetched, but none was ready");
        let before = self.queue(queue).find(heard.name).map(|(position, waiting)| {
            let others = self.queue(queue).before(position).filter(|other| !other.is_open());
            others.filter(|other| is_ordered(other, waiting)).count() as u64
        });
        ensure!(
            before.is_none_or(|before| before <= hidden.max),
            "message {id} was fetched before {before:?} messages that stand before it"
        );
        let late =
            self.queue(queue).find(heard.name).is_some_and(|(_, waiting)| waiting.is_over(self.now_millis));
        ensure!(!late, "message {id} of '{}' was fetched after its time", self.queue(queue).name);
        let (position, waiting) = self.leaves(queue, &heard, ok.redelivered)?;
        check_content(&waiting.message, ok.exchange.as_bytes(), ok.routing_key.as_bytes(), content)?;
        waiting.message.check_properties(&content.property_octets, &heard, self.now_wall_millis / 1000)?;
        self.check_tag(key, ok.delivery_tag)?;
        if !no_ack {
            self.hold(key, queue, position, waiting, None);
        }
        // A quorum queue counts what is past its time until it is looked at again.
        if no_ack || !self.queue(queue).terms.is_quorum {
            self.expire(queue);
        }
        let after = self.ready(queue);
        let left = after.min.min(ready.min.saturating_sub(1))..=after.max.min(ready.max - 1);
        ensure!(
            left.contains(&ok.message_count.into()),
            "get-ok counts {} of {left:?}: {}",
            ok.message_count,
            self.queue(queue)
        );
        Ok(())
    }

    /// Messages that may have been delivered to a connection at the moment it went, unheard.
    pub(super) fn doubt_unheard(&mut self, key: super::ConnectionKey) {
        let own = |(consumer, state): (&ConsumerKey, &super::Consumer)| {
            (state.channel.0 == key).then_some((*consumer, state.queue, state.no_ack))
        };
        let consumers: Vec<_> = self.consumers.iter().filter_map(own).collect();
        for (_, key, no_ack) in consumers {
            let hidden = self.hidden(key).max;
            if hidden == 0 {
                continue;
            }
            let queue = self.queue_mut(key);
            let limit = queue.terms.returns_max;
            let is_over = |waiting: &Waiting, max| waiting.returns.is_none_or(|returns| returns >= max);
            let some_may_die = limit.is_some_and(|max| queue.waiting().any(|waiting| is_over(waiting, max)));
            for waiting in queue.waiting_mut().filter(|waiting| waiting.redelivered == Some(false)) {
                waiting.redelivered = None;
            }
            for waiting in queue.waiting_mut() {
                waiting.returns = None;
            }
            if no_ack || some_may_die {
                queue.doubt_all();
            }
            // What went out and came back may have done so too often.
            if some_may_die {
                self.open_letters_of_all(key, Reason::DeliveryLimit);
            }
        }
    }
}

/// Whether the order of two messages is certain. Where a batch was not brought to its queues in
/// one turn, it is so only among messages of one client.
fn is_ordered(one: &Waiting, other: &Waiting) -> bool {
    let published = one.message.history.is_empty() && other.message.history.is_empty();
    let came_back = |waiting: &Waiting| waiting.unordered && waiting.redelivered == Some(true);
    let is_of_one = published && publisher(one) == publisher(other) && !came_back(one) && !came_back(other);
    !one.unordered && !other.unordered || is_of_one
}

/// Clients put their own number into the upper half of a message's.
fn publisher(waiting: &Waiting) -> u64 {
    waiting.message.id >> 32
}
