//! Full queues: what is dropped from the head, what is refused.
//!
//! Exact wherever the number of messages handed out is known; otherwise messages become unsure.

use super::{
    Model, QueueKey, Shared,
    death::Reason,
    hidden::Range,
    queue::{Arrival, Overflow, Queue},
};
use crate::counts::Event;

/// What came of a message at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    No,
    /// It depends on how far the broker was ahead.
    Unsure,
}

impl Model {
    /// A queue is offered a new message.
    pub(super) fn offer(&mut self, key: QueueKey, message: &Shared) -> Taken {
        let arrival = Arrival {
            turn: self.turns,
            unsure: false,
            arrived_millis: (self.now_millis, self.now_millis),
            source: None,
            unordered: false,
        };
        self.offer_as(key, message, arrival)
    }

    /// A queue is offered a new message that comes in that way.
    pub(super) fn offer_as(&mut self, key: QueueKey, message: &Shared, arrival: Arrival) -> Taken {
        self.expire_among_new(key);
        let taken = self.has_room(key, message.body.len() as u64);
        if taken == Taken::No {
            self.counts.note(Event::RefusedPublish);
            self.bury_refused(key, message, arrival);
            return taken;
        }
        self.counts.note(Event::Routed);
        let name = message.name();
        let mut arrival = arrival;
        if let Some((_, before)) = self.queue_mut(key).take(name) {
            // It was there perhaps, since then or since now, and is there surely.
            arrival.unordered = true;
            arrival.arrived_millis.0 = before.arrived_millis.0;
            self.queue_mut(key).open_letters.remove(&name);
        }
        let unsure = arrival.unsure || taken == Taken::Unsure;
        self.queue_mut(key).append(Shared::clone(message), Arrival { unsure, ..arrival });
        if taken == Taken::Unsure && self.queue(key).limits.overflow == Overflow::RejectPublishDlx {
            self.open_letters(key, message, Reason::MaxLength);
        }
        self.drop_head(key);
        // What has no time at all may go to a consumer or goes at once.
        self.expire_among_new(key);
        taken
    }

    /// A queue without limits takes what comes together before it looks which time is over, and a
    /// higher priority may come to stand first by then.
    fn expire_among_new(&mut self, key: QueueKey) {
        let queue = self.queue(key);
        if queue.terms.priority_max > 0 && queue.limits.is_none() {
            self.may_expire(key);
        } else {
            self.expire(key);
        }
    }

    fn rejects(&self, key: QueueKey) -> bool {
        let limits = self.queue(key).limits;
        limits.overflow != Overflow::DropHead && !limits.is_none()
    }

    fn bury_refused(&mut self, key: QueueKey, message: &Shared, arrival: Arrival) {
        if self.queue(key).limits.overflow != Overflow::RejectPublishDlx {
            return;
        }
        let mut refused = Queue::default();
        refused.append(Shared::clone(message), arrival);
        if let Some((_, waiting)) = refused.take(message.name()) {
            self.die(key, &waiting, Reason::MaxLength, None);
        }
    }

    fn has_room(&self, key: QueueKey, octets: u64) -> Taken {
        let queue = self.queue(key);
        if !self.rejects(key) {
            return Taken::Yes;
        }
        let ready = self.ready(key);
        let ready_octets = self.ready_octets(key);
        let fits = |ready: u64, ready_octets: u64| {
            queue.limits.messages_max.is_none_or(|max| ready < max)
                && queue.limits.octets_max.is_none_or(|max| ready_octets + octets <= max)
        };
        match (fits(ready.max, ready_octets.max), fits(ready.min, ready_octets.min)) {
            (true, _) => Taken::Yes,
            (false, true) => Taken::Unsure,
            (false, false) => Taken::No,
        }
    }

    /// How many octets are ready.
    fn ready_octets(&self, key: QueueKey) -> Range {
        let queue = self.queue(key);
        if queue.limits.octets_max.is_none() {
            return Range::default();
        }
        match self.exact_hidden(key) {
            Some(hidden) => {
                let octets = queue.octets_behind(hidden);
                Range { min: octets, max: octets }
            }
            None => Range { min: 0, max: queue.octets() },
        }
    }

    /// How many messages were handed out, if that is known and they are the first ones.
    pub(super) fn exact_hidden(&self, key: QueueKey) -> Option<u64> {
        self.exactly(key, self.hidden(key))
    }

    fn exactly(&self, key: QueueKey, hidden: Range) -> Option<u64> {
        let queue = self.queue(key);
        let sure = queue.sure() == queue.all() && queue.expecting.is_empty();
        let in_order = if hidden.max == 0 {
            !queue.is_unordered()
                || !queue.terms.is_quorum && queue.terms.grave.is_none() && queue.last_source.is_none()
        } else {
            queue.hands_out_in_order() && queue.terms.priority_max == 0
        };
        (sure && hidden.min == hidden.max && in_order).then_some(hidden.max)
    }

    pub(super) fn drops_head(&self, key: QueueKey) -> bool {
        let limits = self.queue(key).limits;
        limits.overflow == Overflow::DropHead && !limits.is_none()
    }

    /// Messages beyond the limit go from the head, behind what is handed out by now.
    fn drop_head(&mut self, key: QueueKey) {
        if self.drops_head(key) {
            self.drop_head_behind(key, self.hidden(key));
        }
    }

    /// Messages beyond the limit go from the head, where so many were handed out.
    pub(super) fn drop_head_behind(&mut self, key: QueueKey, hidden: Range) {
        if !self.drops_head(key) {
            return;
        }
        match self.exactly(key, hidden) {
            Some(hidden) => self.drop_exactly(key, hidden),
            None => self.doubt_dropped(key, hidden),
        }
    }

    fn drop_exactly(&mut self, key: QueueKey, hidden: u64) {
        let limits = self.queue(key).limits;
        loop {
            let queue = self.queue(key);
            let over = limits.messages_max.is_some_and(|max| queue.all() - hidden > max)
                || limits.octets_max.is_some_and(|max| queue.octets_behind(hidden) > max);
            if !over || queue.all() == hidden {
                return;
            }
            for waiting in self.queue_mut(key).remove(hidden, 1) {
                self.counts.note(Event::DroppedHead);
                self.die(key, &waiting, Reason::MaxLength, None);
            }
        }
    }

    /// However many were handed out, and whichever: what was dropped stood before the last ones
    /// that a full queue keeps, behind which letters may come, or be already.
    fn doubt_dropped(&mut self, key: QueueKey, hidden: Range) {
        let behind = self.may_stand_behind(key);
        let queue = self.queue_mut(key);
        let limits = queue.limits;
        if let Some(max) = limits.messages_max.filter(|max| queue.all() - hidden.min > *max) {
            queue.doubt_first(queue.all() - max.saturating_sub(behind));
        }
        if limits.octets_max.is_some_and(|max| queue.octets() > max) {
            queue.doubt_all();
        }
        self.open_letters_of_all(key, Reason::MaxLength);
    }
}
