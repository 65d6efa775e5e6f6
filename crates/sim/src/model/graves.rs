//! Dead letters: from the queue that a message left unconsumed to where they go.
//!
//! A death that is certain makes its letters when the broker publishes them, which is after the
//! command or the slice of work that it belongs to. One that is only possible makes *open*
//! letters at once: messages that may be there, and of which nobody knows when they came. What
//! is heard of either settles the other. Invariant: a message that surely waits in a queue has no
//! letters that it made there.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    Destinations, Message, Model, Name, QueueKey, Shared,
    connection::Taker,
    death::Reason,
    limits::Taken,
    queue::{Arrival, Overflow, Waiting},
    terms::Grave,
};
use crate::counts::Event;

/// Where a dead letter comes from. Letters that are published together are in order only if they
/// come from one source and stood in order there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) generation: u64,
    queue: QueueKey,
    taker: Option<Taker>,
    /// Where it stood there was open.
    unordered: bool,
}

/// A message that surely died and was not published anew yet.
#[derive(Debug)]
pub(super) struct Letter {
    queue: (QueueKey, String),
    /// Who had it, if somebody gave it back.
    taker: Option<Taker>,
    /// Where it stood among others in its queue was open.
    unordered: bool,
    grave: Grave,
    message: Shared,
    reason: Reason,
    /// It may not have died, and until so many changes to what is bound its letters are there.
    open_until: Option<u64>,
    /// It is not in its queue any more, so it did die, if perhaps later or for another reason.
    has_died: bool,
}

impl Model {
    /// A message left a queue unconsumed, and is not in it any more.
    pub(super) fn die(&mut self, key: QueueKey, waiting: &Waiting, reason: Reason, taker: Option<Taker>) {
        let Some(queue) = self.queues.get(&key).filter(|queue| !queue.dead) else { return };
        let Some(grave) = queue.terms.grave.clone() else { return };
        let queue = (key, queue.name.clone());
        if waiting.limbo || waiting.unsure {
            if !waiting.unsure && reason == Reason::Expired {
                self.trust_letters(key, waiting);
            }
            return self.open_letters(key, &waiting.message, reason);
        }
        let message = Shared::clone(&waiting.message);
        self.letters.push(Letter {
            queue,
            taker,
            unordered: waiting.unordered,
            grave,
            message,
            reason,
            open_until: None,
            has_died: true,
        });
    }

    /// Publishes what died, and what dies of that.
    pub(super) fn land_letters(&mut self) {
        while !self.letters.is_empty() {
            self.generation += 1;
            for letter in std::mem::take(&mut self.letters) {
                self.land_letter(&letter);
            }
        }
    }

    fn now_seconds(&self) -> u64 {
        self.now_wall_millis / 1000
    }

    fn land_letter(&mut self, letter: &Letter) {
        let Letter { queue: (key, name), grave, message, reason, open_until, .. } = letter;
        if let Some(changes) = open_until {
            // What is bound to what when it is published is what counts.
            let queue = self.queues.get(key);
            let found = queue.and_then(|queue| queue.find(message.name()));
            let is_open = found.is_some_and(|(_, waiting)| waiting.is_open());
            if (is_open || letter.has_died) && *changes != self.topology_changes {
                self.open_letters_from((*key, name), grave, message, *reason);
            }
            return;
        }
        self.counts.note(Event::dead_letter(*reason));
        let seconds = (self.now_seconds(), self.now_seconds());
        let Letter { taker, unordered, .. } = *letter;
        let source = Source { generation: self.generation, queue: *key, taker, unordered };
        let (message, queues, all) = self.exhume(message, (*key, name), *reason, grave, seconds);
        if queues.len() < all {
            self.counts.note(Event::Cycle);
        }
        let message = Rc::new(message);
        for queue in queues {
            self.land_letter_in(queue, &message, source);
        }
    }

    fn land_letter_in(&mut self, key: QueueKey, message: &Shared, source: Source) {
        let others =
            |waiting: &Waiting| waiting.source.is_some_and(|other| other.generation == source.generation);
        let queue = self.queue(key);
        let unordered = queue.mixed_generation == Some(source.generation)
            || queue.last_source.is_some_and(|last| last.generation == source.generation && last != source)
            || queue.terms.priority_max > 0 && queue.last_source == Some(source)
            || (source.unordered || self.has_priorities(source.queue)) && queue.last_source == Some(source);
        self.queue_mut(key).last_source = Some(source);
        if unordered {
            let queue = self.queue_mut(key);
            queue.mixed_generation = Some(source.generation);
            queue.doubt_order_of(others);
            if !queue.limits.is_none() {
                queue.doubt_all();
                self.open_letters_of_all(key, Reason::MaxLength);
            }
        }
        let arrival = Arrival {
            turn: self.turns,
            // One that came before others may have gone for them.
            unsure: unordered && self.drops_head(key),
            arrived_millis: (self.now_millis, self.now_millis),
            source: Some(source),
            unordered,
        };
        let taken = self.offer_as(key, message, arrival);
        if arrival.unsure {
            self.open_letters(key, message, Reason::MaxLength);
        }
        // Which of several that came together had no room is open.
        if taken == Taken::No && unordered {
            self.open_letter_in(key, message);
        }
    }

    fn has_priorities(&self, key: QueueKey) -> bool {
        self.queues.get(&key).is_none_or(|queue| queue.terms.priority_max > 0)
    }

    /// What takes a message's place, where it goes, and to how many queues but for cycles.
    fn exhume(
        &self,
        message: &Message,
        queue: (QueueKey, &str),
        reason: Reason,
        grave: &Grave,
        seconds: (u64, u64),
    ) -> (Message, Destinations, usize) {
        let history = message.history.and(message, queue, reason, seconds);
        let dead = message.dead(&grave.exchange, grave.routing_key.as_deref(), history);
        let mut queues = Destinations::new();
        if self.exchanges.exists(&grave.exchange) {
            queues = self.destinations(&dead);
        }
        let all = queues.len();
        queues.retain(|queue| !dead.history.is_cycle(&self.queues[queue].name));
        (dead, queues, all)
    }

    /// The message may have died just now.
    pub(super) fn open_letters(&mut self, key: QueueKey, message: &Shared, reason: Reason) {
        let Some(queue) = self.queues.get(&key) else { return };
        let Some(grave) = queue.terms.grave.clone() else { return };
        let (name, has_died) = (queue.name.clone(), queue.find(message.name()).is_none());
        self.open_letters_from((key, &name), &grave, message, reason);
        self.letters.push(Letter {
            queue: (key, name),
            taker: None,
            unordered: true,
            grave,
            message: Shared::clone(message),
            reason,
            open_until: Some(self.topology_changes),
            has_died,
        });
    }

    fn open_letters_from(
        &mut self,
        queue: (QueueKey, &str),
        grave: &Grave,
        message: &Shared,
        reason: Reason,
    ) {
        let seconds = (self.now_seconds(), u64::MAX);
        let (dead, queues, _) = self.exhume(message, queue, reason, grave, seconds);
        let dead = Rc::new(dead);
        for queue in queues {
            self.open_letter_in(queue, &dead);
        }
    }

    fn open_letter_in(&mut self, key: QueueKey, message: &Shared) {
        if self.is_held(key, message.name()) {
            return;
        }
        if self.queue(key).find(message.name()).is_some() {
            return self.may_come_now(key);
        }
        let arrival = Arrival {
            turn: self.turns,
            unsure: true,
            arrived_millis: (self.now_millis, u64::MAX),
            source: None,
            unordered: true,
        };
        let stamp = self.topology_changes;
        let queue = self.queue_mut(key);
        queue.append(Shared::clone(message), arrival);
        queue.open_letters.insert(message.name(), stamp);
        if !queue.limits.is_none() {
            queue.doubt_all();
            match queue.limits.overflow {
                Overflow::DropHead => self.open_letters_of_all(key, Reason::MaxLength),
                Overflow::RejectPublishDlx => self.open_letters(key, message, Reason::MaxLength),
                Overflow::RejectPublish => {}
            }
        }
        // If it came, that was a step.
        self.may_expire(key);
    }

    /// A letter that is open since before may come now, to the queues that there are now. What that
    /// leads to may lead here again.
    fn may_come_now(&mut self, key: QueueKey) {
        let now = Some((self.now_millis, self.topology_changes));
        let queue = self.queue_mut(key);
        if std::mem::replace(&mut queue.looked_at, now) == now {
            return;
        }
        if !queue.limits.is_none() && queue.limits.overflow != Overflow::RejectPublish {
            self.open_letters_of_all(key, Reason::MaxLength);
        }
        self.may_expire(key);
    }

    /// Whether somebody was given the message and did not settle it yet.
    fn is_held(&self, key: QueueKey, name: Name) -> bool {
        let held = self.channels.values().flat_map(|channel| channel.unacked.values());
        held.filter(|held| held.queue == key).any(|held| held.waiting.message.name() == name)
    }

    /// Any message of a queue may have died.
    pub(super) fn open_letters_of_all(&mut self, key: QueueKey, reason: Reason) {
        if self.queue(key).terms.grave.is_none() {
            return;
        }
        let unsure = self.queue(key).waiting().filter(|waiting| waiting.unsure);
        let messages: Vec<Shared> = unsure.map(|waiting| Shared::clone(&waiting.message)).collect();
        for message in messages {
            self.open_letters(key, &message, reason);
        }
    }

    fn letters_of(&self, key: QueueKey, name: Name) -> Vec<(QueueKey, Name)> {
        let parent = Some((key, name));
        let mut letters = Vec::new();
        for (queue, state) in &self.queues {
            let names = state.open_letters.keys().filter_map(|letter| state.find(*letter));
            let own = names.filter(|(_, waiting)| waiting.message.history.parent == parent);
            letters.extend(own.map(|(_, waiting)| (*queue, waiting.message.name())));
        }
        letters
    }

    /// The message did not die: it is heard of.
    pub(super) fn retract_letters(&mut self, key: QueueKey, name: Name) {
        for (queue, letter) in self.letters_of(key, name) {
            self.queue_mut(queue).take(letter);
            self.queue_mut(queue).open_letters.remove(&letter);
            self.retract_letters(queue, letter);
        }
    }

    /// The message did die, some time since it may have done so.
    fn trust_letters(&mut self, key: QueueKey, dead: &Waiting) {
        let (name, now_millis, changes) = (dead.message.name(), self.now_millis, self.topology_changes);
        self.counts.note(Event::DeadLetterExpired);
        if self.is_yet_to_land(key, name) {
            return;
        }
        for (queue, letter) in self.letters_of(key, name) {
            let queue = self.queue_mut(queue);
            let stamp = queue.open_letters.remove(&letter);
            let Some((position, mut waiting)) = queue.take(letter) else { continue };
            let undoubted = waiting.doubts == queue.doubts() && queue.limits.is_none();
            if undoubted && stamp == Some(changes) && dead.limbo_changes == changes {
                waiting.unsure = false;
            }
            waiting.arrived_millis.1 = now_millis;
            queue.insert(position, waiting);
        }
    }

    /// Whether a connection may be about to publish the letters of a dead message in its next turn,
    /// to what is bound then.
    fn is_yet_to_land(&mut self, key: QueueKey, name: Name) -> bool {
        let letters = self.connections.values_mut().flat_map(|connection| &mut connection.letters);
        believe(letters, key, name)
    }

    /// The message turns out to have been refused. Where its letters are not published yet, they go to
    /// what is bound then.
    pub(super) fn was_refused(&mut self, key: QueueKey, name: Name) {
        self.queues.get_mut(&key).and_then(|queue| queue.take(name));
        believe(&mut self.letters, key, name);
    }

    /// How many messages of a queue may stand behind all others: letters that may come later, and what
    /// is in no certain order.
    pub(super) fn may_stand_behind(&self, key: QueueKey) -> u64 {
        let kept = self.connections.values().flat_map(|connection| &connection.letters);
        let unpublished: BTreeSet<(QueueKey, Name)> =
            self.letters.iter().chain(kept).map(|letter| (letter.queue.0, letter.message.name())).collect();
        let queue = self.queue(key);
        let may = |waiting: &&Waiting| {
            let parent = waiting.message.history.parent;
            waiting.unordered
                || queue.open_letters.contains_key(&waiting.message.name())
                || waiting.is_open() && parent.is_some_and(|parent| unpublished.contains(&parent))
        };
        queue.waiting().filter(may).count() as u64
    }

    /// Whether the message that a letter is made of may be in its queue still, and die some time.
    pub(super) fn may_still_come(&self, letter: &Message) -> bool {
        let Some((queue, parent)) = letter.history.parent else { return false };
        let found = self.queues.get(&queue).and_then(|queue| queue.find(parent));
        found.is_some_and(|(_, waiting)| waiting.is_open())
    }

    /// A message went out: what it may have become is not there, and what it came of is gone.
    pub(super) fn settle_letters(&mut self, key: QueueKey, waiting: &Waiting) {
        let name = waiting.message.name();
        if waiting.is_open() {
            self.retract_letters(key, name);
        }
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.open_letters.remove(&name);
        }
        if let Some((queue, parent)) = waiting.message.history.parent
            && let Some(state) = self.queues.get_mut(&queue)
            && state.find(parent).is_some_and(|(_, waiting)| waiting.is_open())
            && let Some((_, waiting)) = state.take(parent)
        {
            self.settle_parents(queue, &waiting);
        }
    }

    /// What died was there before.
    fn settle_parents(&mut self, key: QueueKey, waiting: &Waiting) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.open_letters.remove(&waiting.message.name());
        }
        if let Some((queue, parent)) = waiting.message.history.parent
            && let Some(state) = self.queues.get_mut(&queue)
            && state.find(parent).is_some_and(|(_, waiting)| waiting.is_open())
            && let Some((_, waiting)) = state.take(parent)
        {
            self.settle_parents(queue, &waiting);
        }
    }
}

/// Notes that a message did die, and whether any of the letters is of it.
fn believe<'a>(letters: impl IntoIterator<Item = &'a mut Letter>, key: QueueKey, name: Name) -> bool {
    let mut any = false;
    for letter in letters {
        if letter.queue.0 == key && letter.message.name() == name {
            (letter.has_died, any) = (true, true);
        }
    }
    any
}
