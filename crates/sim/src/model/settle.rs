//! Deliveries settled: acknowledged, refused, put back; at once or by a transaction.

use std::collections::{BTreeMap, BTreeSet};

use leveret_wire::{Method, ReplyCode};

use super::{
    ChannelKey, Model, QueueKey,
    connection::{Held, HeldSettle, Mode, Taker},
    death::Reason,
    hidden::Range,
    queue::Waiting,
    turn::Turn,
    verdict::{self, Verdict},
};
use crate::{Checked, counts::Event};

/// What a client says of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged,
    Refused,
    Requeued,
}

impl Outcome {
    pub(super) const fn refused(requeue: bool) -> Self {
        if requeue { Self::Requeued } else { Self::Refused }
    }
}

impl Model {
    /// `basic.ack`, `basic.nack`, `basic.reject`.
    pub(super) fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        method: &Method<'_>,
        (tag, multiple): (u64, bool),
        outcome: Outcome,
    ) -> Checked {
        let tags = self.named_tags(key, tag, multiple);
        let verdict = Verdict::unless(&[(tags.is_none(), ReplyCode::PreconditionFailed)]);
        if let verdict::Outcome::Refused = self.outcome(turn, key.1, method.ids(), None, verdict)? {
            return Ok(());
        }
        let tags = tags.unwrap_or_default();
        if let Mode::Transaction { settles, .. } = &mut self.channel_mut(key).mode {
            settles.push(HeldSettle { tags, outcome });
            return Ok(());
        }
        self.settle_tags(key, &tags, outcome);
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

    fn settle_tags(&mut self, key: ChannelKey, tags: &[u64], outcome: Outcome) {
        let unacked = &mut self.channel_mut(key).unacked;
        let settled: Vec<Held> = tags.iter().filter_map(|tag| unacked.remove(tag)).collect();
        if outcome == Outcome::Requeued {
            self.put_back(&settled, &BTreeSet::new());
        }
        for held in &settled {
            self.give_back_credit(key, held);
            match outcome {
                Outcome::Acknowledged => self.counts.note(Event::Ack),
                Outcome::Refused => {
                    self.counts.note(Event::Ack);
                    self.die(held.queue, &held.waiting, Reason::Rejected, Some(held.taker()));
                }
                Outcome::Requeued => {}
            }
        }
        // Whoever has credit again is given what there is, but for what is past its time.
        for held in &settled {
            self.may_expire(held.queue);
        }
    }

    fn give_back_credit(&mut self, key: ChannelKey, held: &Held) {
        let turn = self.turns;
        self.forget_use(held.queue);
        let limit = &mut self.channel_mut(key).shared_limit;
        limit.held -= u64::from(held.counts_in_limit);
        limit.look(turn);
        if let Some(consumer) = held.consumer.and_then(|consumer| self.consumers.get_mut(&consumer)) {
            consumer.unacked -= 1;
        }
    }

    /// Deliveries go back to where they stood. Limits are kept before anybody who has credit by
    /// that is handed any of them. In the queues that lost consumers in the same go, what those were
    /// handed may come back after these.
    pub(super) fn put_back(&mut self, deliveries: &[Held], lost_consumers: &BTreeSet<QueueKey>) {
        let mut sources: BTreeMap<QueueKey, BTreeSet<Taker>> = BTreeMap::new();
        for held in deliveries {
            sources.entry(held.queue).or_default().insert(held.taker());
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
            // So may what the next active consumer is given, which follows when all is back.
            let single = queue.terms.single_active;
            let min = if queue.scrambled || single { 0 } else { hidden.min };
            // Consumer by consumer, in an order that is the broker's own: how many are handed out
            // before the last one's are back depends on it.
            let in_parts = sources.len() > 1 || single || lost_consumers.contains(&key);
            let max = if in_parts { u64::MAX } else { hidden.max };
            queue.scrambled |= sources.len() > 1 || hidden.max > 0;
            self.drop_head_behind(key, Range { min, max });
            self.expire_behind(key, Range { min, max });
        }
    }

    /// A quorum queue is used until who held messages of it without being a consumer holds none.
    fn forget_use(&mut self, key: QueueKey) {
        let queue = self.queues.get_mut(&key).filter(|queue| queue.terms.is_quorum);
        if let Some(queue) = queue {
            queue.used_millis = None;
        }
    }

    pub(super) fn put_back_one(&mut self, held: &Held, unsure: bool) {
        let turn = self.turns;
        self.forget_use(held.queue);
        let Some(queue) = self.queues.get_mut(&held.queue).filter(|queue| !queue.dead) else { return };
        let max = queue.terms.returns_max;
        let returns = held.waiting.returns;
        let dies = max.is_some_and(|max| returns.is_some_and(|returns| returns >= max));
        if dies && !unsure {
            return self.die(held.queue, &held.waiting, Reason::DeliveryLimit, Some(held.taker()));
        }
        let may_die = dies || max.is_some() && returns.is_none();
        let waiting = Waiting {
            redelivered: Some(true),
            unsure: unsure || may_die,
            since: turn,
            fresh: false,
            came: 0,
            returns: returns.map(|returns| returns + 1),
            // A quorum queue lines up what comes back as it came, or behind all others.
            unordered: held.waiting.unordered || queue.terms.is_quorum,
            ..held.waiting.clone()
        };
        queue.insert(held.position, waiting);
        if may_die {
            self.open_letters(held.queue, &held.waiting.message, Reason::DeliveryLimit);
        }
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
        if let verdict::Outcome::Refused = self.outcome(turn, key.1, method.ids(), answer, verdict)? {
            return Ok(());
        }
        let tags = self.named_tags(key, 0, true).unwrap_or_default();
        self.settle_tags(key, &tags, Outcome::Requeued);
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
            self.settle_tags(key, &held.tags, held.outcome);
        }
        let (mut refused, mut unsure) = (false, false);
        for held in publishes {
            let landing = self.land(turn, key, &held.message, held.mandatory, held.destinations);
            refused |= landing.refused;
            unsure |= !landing.unsure.is_empty();
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
