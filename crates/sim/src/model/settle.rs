//! Deliveries settled: acknowledged, refused, put back; at once or by a transaction.

use std::collections::{BTreeMap, BTreeSet};

use leveret_wire::{Method, ReplyCode};

use super::{
    ChannelKey, ConsumerKey, Model, QueueKey,
    connection::{Held, HeldSettle, Mode},
    hidden::Range,
    queue::Waiting,
    turn::Turn,
    verdict::{Outcome, Verdict},
};
use crate::{Checked, counts::Event};

impl Model {
    /// `basic.ack`, `basic.nack`, `basic.reject`.
    pub(super) fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        method: &Method<'_>,
        (tag, multiple): (u64, bool),
        requeue: bool,
    ) -> Checked {
        let tags = self.named_tags(key, tag, multiple);
        let verdict = Verdict::unless(&[(tags.is_none(), ReplyCode::PreconditionFailed)]);
        if let Outcome::Refused = self.outcome(turn, key.1, method.ids(), None, verdict)? {
            return Ok(());
        }
        let tags = tags.unwrap_or_default();
        if let Mode::Transaction { settles, .. } = &mut self.channel_mut(key).mode {
            settles.push(HeldSettle { tags, requeue });
            return Ok(());
        }
        self.settle_tags(key, &tags, requeue);
        Ok(())
    }

    /// The deliveries that a tag names; none when it is unknown.
    fn named_tags(&self, key: ChannelKey, tag: u64, multiple: bool) -> Option<Vec<u64>> {
        let channel = self.channel(key);
        let open: Vec<u64> =
            channel.unacked.keys().copied().filter(|tag| !channel.is_held_back(*tag)).collect();
        match (tag, multiple) {
            (0, true) => Some(open),
            _ if !open.contains(&tag) => None,
            (_, true) => Some(open.into_iter().filter(|other| *other <= tag).collect()),
            (_, false) => Some(vec![tag]),
        }
    }

    fn settle_tags(&mut self, key: ChannelKey, tags: &[u64], requeue: bool) {
        let unacked = &mut self.channel_mut(key).unacked;
        let settled: Vec<Held> = tags.iter().filter_map(|tag| unacked.remove(tag)).collect();
        if requeue {
            self.put_back(&settled);
        }
        for held in &settled {
            self.give_back_credit(key, held);
            if !requeue {
                self.counts.note(Event::Ack);
            }
        }
    }

    fn give_back_credit(&mut self, key: ChannelKey, held: &Held) {
        self.channel_mut(key).shared_limit.held -= u64::from(held.counts_in_limit);
        if let Some(consumer) = held.consumer.and_then(|consumer| self.consumers.get_mut(&consumer)) {
            consumer.unacked -= 1;
        }
    }

    /// Deliveries go back to where they stood. Limits are kept before anybody who has credit by
    /// that is handed any of them.
    pub(super) fn put_back(&mut self, deliveries: &[Held]) {
        let mut sources: BTreeMap<QueueKey, BTreeSet<Option<ConsumerKey>>> = BTreeMap::new();
        for held in deliveries {
            sources.entry(held.queue).or_default().insert(held.consumer);
        }
        sources.retain(|queue, _| self.queues.contains_key(queue));
        let queues: Vec<_> =
            sources.into_iter().map(|(key, sources)| (key, sources, self.hidden(key))).collect();
        for held in deliveries {
            self.counts.note(Event::Requeue);
            self.put_back_one(held, false);
        }
        for (key, sources, hidden) in queues {
            let Some(queue) = self.queues.get_mut(&key).filter(|queue| !queue.dead) else { continue };
            // What came back of a consumer just now may come with these, and not before.
            let min = if queue.scrambled { 0 } else { hidden.min };
            // Consumer by consumer, in an order that is the broker's own: how many are handed out
            // before the last one's are back depends on it.
            let max = if sources.len() > 1 { u64::MAX } else { hidden.max };
            queue.scrambled |= sources.len() > 1 || hidden.max > 0;
            self.drop_head_behind(key, Range { min, max });
        }
    }

    pub(super) fn put_back_one(&mut self, held: &Held, unsure: bool) {
        let turn = self.turns;
        let Some(queue) = self.queues.get_mut(&held.queue).filter(|queue| !queue.dead) else { return };
        let waiting = Waiting {
            message: held.message.clone(),
            redelivered: Some(true),
            unsure,
            since: turn,
            fresh: false,
            unordered: held.unordered,
        };
        queue.insert(held.position, waiting);
    }

    pub(super) fn recover(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        method: &Method<'_>,
        requeue: bool,
        answered: bool,
    ) -> Checked {
        let verdict = Verdict::unless(&[(!requeue, ReplyCode::NotImplemented)]);
        let answer = answered.then_some((60, 111));
        if let Outcome::Refused = self.outcome(turn, key.1, method.ids(), answer, verdict)? {
            return Ok(());
        }
        let tags = self.named_tags(key, 0, true).unwrap_or_default();
        self.settle_tags(key, &tags, true);
        Ok(())
    }

    pub(super) fn commit(&mut self, turn: &mut Turn<'_>, key: ChannelKey) -> Checked {
        let Mode::Transaction { publishes, settles } = &mut self.channel_mut(key).mode else {
            return self.expect_refusal(
                turn,
                key.1,
                (90, 20),
                Verdict::refused(ReplyCode::PreconditionFailed),
            );
        };
        let (publishes, settles) = (std::mem::take(publishes), std::mem::take(settles));
        self.counts.note(Event::TxCommit);
        // Either could be first; the broker makes room before it publishes.
        for held in settles {
            self.settle_tags(key, &held.tags, held.requeue);
        }
        let (mut refused, mut unsure) = (false, false);
        for held in publishes {
            let exchange = std::str::from_utf8(&held.message.exchange).unwrap_or_default();
            // An exchange that was deleted since takes its messages along.
            if self.exchanges.exists(exchange) && !self.exchanges.is_internal(exchange) {
                let landing = self.land(turn, key, &held.message, held.mandatory);
                refused |= landing.refused;
                unsure |= !landing.unsure.is_empty();
            }
        }
        // What a queue refuses makes the transaction a partial one, which is told.
        let code = ReplyCode::PreconditionFailed;
        let verdict = Verdict::unless(&[(refused, code)]).or(unsure, code);
        self.outcome(turn, key.1, (90, 20), Some((90, 21)), verdict).map(drop)
    }

    pub(super) fn roll_back(&mut self, turn: &mut Turn<'_>, key: ChannelKey) -> Checked {
        let Mode::Transaction { publishes, settles } = &mut self.channel_mut(key).mode else {
            return self.expect_refusal(
                turn,
                key.1,
                (90, 30),
                Verdict::refused(ReplyCode::PreconditionFailed),
            );
        };
        publishes.clear();
        settles.clear();
        self.counts.note(Event::TxRollback);
        self.outcome(turn, key.1, (90, 30), Some((90, 31)), Verdict::unless(&[])).map(drop)
    }
}
