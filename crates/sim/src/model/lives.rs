//! Lives: messages whose time runs out, queues that nobody uses, and the housekeeper's turns.
//!
//! A message goes when it stands first among those of its priority and its time is over, in the
//! next step on its queue or in the housekeeper's turn. Invariant: what is past its time and was
//! not taken out by a step that is known is in limbo, or no step may have come.

use super::{
    ConnectionKey, Model, Name, QueueKey, Shared,
    death::Reason,
    hidden::Range,
    queue::{Active, Waiting},
};
use crate::{Checked, counts::Event, ensure};

/// What a step at some time takes out of a queue.
#[derive(Debug, Default)]
struct Over {
    surely: Vec<Name>,
    perhaps: Vec<Name>,
}

impl Model {
    /// What time it is in the turn to come.
    pub fn look_at_clock(&mut self, now_millis: u64, now_wall_millis: u64) {
        (self.now_millis, self.now_wall_millis) = (now_millis, now_wall_millis);
    }

    /// A step on the queue, by a connection that works on it for all to see.
    pub(super) fn expire(&mut self, key: QueueKey) {
        if self.queue(key).has_mortals() {
            self.expire_behind(key, self.hidden(key));
        }
    }

    /// A step on the queue, in which so many messages were with its consumers.
    pub(super) fn expire_behind(&mut self, key: QueueKey, hidden: Range) {
        if !self.queue(key).has_mortals() {
            return;
        }
        let over = self.over(key, hidden, true);
        self.bury_expired(key, over);
    }

    /// A step on the queue may have come.
    pub(super) fn may_expire(&mut self, key: QueueKey) {
        if self.queues.get(&key).is_none_or(|queue| queue.dead || !queue.has_mortals()) {
            return;
        }
        let over = self.over(key, self.hidden(key), false);
        self.bury_expired(key, over);
    }

    fn bury_expired(&mut self, key: QueueKey, over: Over) {
        for name in over.surely {
            if let Some((_, waiting)) = self.queue_mut(key).take(name) {
                self.counts.note(Event::Expired);
                self.die(key, &waiting, Reason::Expired, None);
            }
        }
        for name in over.perhaps {
            let changes = self.topology_changes;
            self.queue_mut(key).put_into_limbo(name, changes);
            let found = self.queue(key).find(name).map(|(_, waiting)| Shared::clone(&waiting.message));
            if let Some(message) = found {
                self.open_letters(key, &message, Reason::Expired);
            }
        }
    }

    fn over(&self, key: QueueKey, hidden: Range, is_known: bool) -> Over {
        let queue = self.queue(key);
        let bands = queue.bands();
        let in_order =
            hidden.max == 0 || queue.hands_out_in_order() && bands.len() == 1 && queue.sure() == queue.all();
        // Of those that a consumer is given in one go, some may be past their time and left out.
        let is_left_out =
            hidden.max > 0 && queue.waiting().any(|waiting| waiting.may_be_over(self.now_millis));
        let is_exact =
            is_known && hidden.min == hidden.max && in_order && !is_left_out && queue.expecting.is_empty();
        let mut over = Over::default();
        // What is over goes once it is the first of all.
        let mut is_first = is_exact;
        for band in bands {
            let skip = if is_exact { usize::try_from(hidden.max).unwrap_or(usize::MAX) } else { 0 };
            let others_may_stand_before = if is_exact { 0 } else { hidden.max };
            let band = band.into_iter().skip(skip);
            let (waiting, before) = (band.clone().count(), over.surely.len());
            if self.over_in_band(band, is_first, others_may_stand_before, &mut over) {
                break;
            }
            is_first &= over.surely.len() == before + waiting;
        }
        over
    }

    /// Of one priority; whether one that is there for certain stays before what comes behind.
    fn over_in_band<'a>(
        &self,
        band: impl Iterator<Item = &'a Waiting> + Clone,
        is_first: bool,
        handed_out_max: u64,
        over: &mut Over,
    ) -> bool {
        let now = self.now_millis;
        let lives_out_of_order = band.clone().any(|waiting| waiting.unordered && !waiting.is_over(now));
        let one_lives = band.clone().any(|waiting| !waiting.is_over(now));
        let (mut surely, mut before) = (is_first, 0);
        for waiting in band {
            let name = waiting.message.name();
            // What is in no certain order may stand behind one that lives.
            let is_first = surely && !lives_out_of_order && !(waiting.unordered && one_lives);
            if is_first && waiting.is_over(now) {
                over.surely.push(name);
                continue;
            }
            if waiting.may_be_over(now) {
                over.perhaps.push(name);
            } else if !waiting.is_open() && !waiting.unordered {
                before += 1;
                if before > handed_out_max {
                    return true;
                }
            }
            surely = false;
        }
        false
    }

    /// Queues that the connection's own turn may step without a word.
    pub(super) fn may_step_queues_of(&mut self, key: ConnectionKey) {
        let mut queues: Vec<QueueKey> = Vec::new();
        for (_, channel) in self.channels.range((key, 0)..=(key, u16::MAX)) {
            queues.extend(channel.consumers.values().map(|consumer| self.consumers[consumer].queue));
            queues.extend(channel.unacked.values().map(|held| held.queue));
        }
        if self.connection(key).going || self.connection(key).in_slices.is_begun() {
            queues.extend(self.queues.keys());
        }
        queues.sort_unstable();
        queues.dedup();
        queues.retain(|queue| self.queues.contains_key(queue));
        queues.into_iter().for_each(|queue| self.may_expire(queue));
    }

    /// The queue is used.
    pub(super) fn touch(&mut self, key: QueueKey) {
        let now_millis = self.now_millis;
        self.queue_mut(key).used_millis = Some(now_millis);
    }

    /// The housekeeper had a turn, in which so many queues went; which queues are there is asked by
    /// name.
    ///
    /// # Errors
    /// When others went than those whose time was over.
    pub fn kept_house(&mut self, deleted: usize, more: bool, is_there: impl Fn(&str) -> bool) -> Checked {
        self.turns += 1;
        self.counts.note(Event::HouseTurn);
        let living = self.queues.iter().filter(|(_, queue)| !queue.dead);
        let living: Vec<QueueKey> = living.map(|(key, _)| *key).collect();
        let (mut surely, mut perhaps) = (Vec::new(), Vec::new());
        for key in living {
            if more {
                self.may_expire(key);
            } else {
                self.expire(key);
            }
            match self.is_past_its_time(key) {
                Some(true) if !more => surely.push(key),
                Some(false) => {}
                _ => perhaps.push(key),
            }
        }
        for key in &surely {
            let name = &self.queue(*key).name;
            ensure!(!is_there(name), "'{name}' is there after the housekeeper's turn, and its time was over");
        }
        perhaps.retain(|key| !is_there(&self.queue(*key).name));
        // One of a connection that goes may have gone before, with that.
        let gone_before = perhaps.iter().filter(|key| self.queue(**key).doomed).count();
        surely.append(&mut perhaps);
        let all = surely.len();
        ensure!(
            (all - gone_before..=all).contains(&deleted),
            "{deleted} queues went, where the time of {all} was over"
        );
        for key in surely {
            self.counts.note(Event::QueueExpired);
            self.remove_queue(key);
        }
        self.land_letters();
        Ok(())
    }

    /// Whether nobody used the queue for as long as it may be unused, if that is known.
    fn is_past_its_time(&self, key: QueueKey) -> Option<bool> {
        let queue = self.queue(key);
        let Some(life) = queue.terms.expires_millis else { return Some(false) };
        let staying = queue.consumers.iter().any(|consumer| !self.consumers[consumer].going);
        if staying {
            return Some(false);
        }
        let is_going = !queue.consumers.is_empty();
        // Whoever holds messages of a quorum queue may count as a consumer.
        let is_held = queue.terms.is_quorum && self.holders(key) > 0;
        queue.used_millis.filter(|_| !is_going && !is_held).map(|used| used + life <= self.now_millis)
    }

    /// Nothing that is past its time is left, because the housekeeper was told in time.
    pub(super) fn check_lives(&mut self, key: QueueKey) -> Checked {
        if self.queue(key).has_mortals() {
            let over = self.over(key, Range::default(), true);
            let kept = over
                .surely
                .iter()
                .filter(|name| self.queue(key).find(**name).is_some_and(|(_, waiting)| !waiting.is_open()));
            let (kept, name) = (kept.count(), &self.queue(key).name);
            ensure!(kept == 0, "'{name}' keeps {kept} messages past their time, and nobody was told to look");
            self.bury_expired(key, over);
        }
        let name = &self.queue(key).name;
        ensure!(
            self.is_past_its_time(key) != Some(true),
            "'{name}' is there though nobody used it for its time, and nobody was told to look"
        );
        Ok(())
    }

    /// Lets the next consumer become the active one, if there was one at a time.
    pub(super) fn succeed(&mut self, key: QueueKey) {
        let queue = self.queue(key);
        if !queue.terms.single_active || queue.active == Active::Open && !queue.consumers.is_empty() {
            return;
        }
        let first = queue
            .consumers
            .iter()
            .min_by_key(|consumer| (std::cmp::Reverse(self.consumers[*consumer].priority), **consumer));
        let next = first.map_or(Active::Nobody, |consumer| Active::Known(*consumer));
        if next != Active::Nobody {
            self.counts.note(Event::Succession);
        }
        self.queue_mut(key).active = next;
    }
}
