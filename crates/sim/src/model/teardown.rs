//! Channels, connections and queues that go, with all they had.
//!
//! Mostly that is done in the turn that begins it, or in the connection's next one. What is too
//! much for a turn is *going* meanwhile: consumers may be there or not, deliveries may be back
//! in their queues or not, exclusive queues may be deleted or not.

use std::collections::BTreeSet;

use super::{
    ChannelKey, ConnectionKey, ConsumerKey, Model, Name, QueueKey,
    connection::{Channel, Held},
    hidden::Range,
    queue::Active,
    turn::{Deferred, TURN_STEPS_SURE, Turn},
    verdict::Verdict,
};
use crate::{Checked, counts::Event};

/// What goes in slices.
#[derive(Debug, Default)]
pub(super) struct Going {
    consumers: Vec<ConsumerKey>,
    /// Messages that are on their way back.
    returning: Vec<Returning>,
}

/// A message that is on its way back to its queue.
#[derive(Debug)]
struct Returning {
    queue: QueueKey,
    message: Name,
    /// The doubts that there were about the queue's messages when it began to return.
    doubts: u64,
}

impl Going {
    pub(super) const fn is_begun(&self) -> bool {
        !self.consumers.is_empty() || !self.returning.is_empty()
    }
}

impl Model {
    pub(super) fn close_channel(&mut self, turn: &mut Turn<'_>, key: ChannelKey) -> Checked {
        self.counts.note(Event::ChannelClose);
        if self.steps(self.channel(key)) <= TURN_STEPS_SURE {
            self.outcome(turn, key.1, (20, 40), Some((20, 41)), Verdict::unless(&[]))?;
            self.take_down_channel(key);
            return Ok(());
        }
        self.connection_mut(key.0).deferred = Some(Deferred::ChannelCloseOk(key.1));
        self.hear_rest(turn)?;
        self.take_down_channel(key);
        if self.connection(key.0).deferred.is_none() {
            self.finish_going(key.0);
        }
        Ok(())
    }

    /// Consumers to stop and sources of deliveries to put back.
    fn steps(&self, channel: &Channel) -> usize {
        channel.consumers.len() + channel.unacked.len().min(channel.consumers.len() + self.queues.len())
    }

    /// A channel goes, and is not there any more.
    pub(super) fn take_down_channel(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.get(&key) else { return };
        if self.steps(channel) > TURN_STEPS_SURE {
            return self.begin_going(key);
        }
        self.take_down_channels(&[key]);
    }

    /// First all consumers stop, then all deliveries go back.
    fn take_down_channels(&mut self, keys: &[ChannelKey]) {
        let consumers = |key: &ChannelKey| self.channel(*key).consumers.values().copied();
        let consumers: Vec<_> = keys.iter().flat_map(consumers).collect();
        let served = consumers.iter().filter_map(|consumer| self.consumers.get(consumer));
        let served: BTreeSet<QueueKey> = served.map(|consumer| consumer.queue).collect();
        for consumer in consumers {
            self.stop_consumer(consumer);
        }
        let channels = keys.iter().filter_map(|key| self.channels.remove(key));
        let unacked: Vec<Held> = channels.flat_map(|channel| channel.unacked.into_values()).collect();
        self.put_back(&unacked, &served);
    }

    fn begin_going(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.remove(&key) else { return };
        let mut going = std::mem::take(&mut self.connection_mut(key.0).in_slices);
        for consumer in channel.consumers.into_values() {
            let Some(state) = self.consumers.get_mut(&consumer) else { continue };
            state.going = true;
            going.consumers.push(consumer);
            let Some(queue) = self.queues.get_mut(&state.queue) else { continue };
            queue.used_millis = None;
            if queue.active == Active::Known(consumer) {
                queue.active = Active::Open;
            }
        }
        let held: Vec<Held> = channel.unacked.into_values().collect();
        let mut queues: BTreeSet<QueueKey> = held.iter().map(|held| held.queue).collect();
        queues.retain(|queue| self.queues.contains_key(queue));
        going.returning.extend(held.iter().filter_map(|held| self.begin_returning(held)));
        for queue in queues {
            // Limits are kept as they come back, and others are handed some of them meanwhile.
            self.drop_head_behind(queue, Range { min: 0, max: u64::MAX });
            self.may_expire(queue);
        }
        self.connection_mut(key.0).in_slices = going;
    }

    fn begin_returning(&mut self, held: &Held) -> Option<Returning> {
        self.counts.note(Event::Requeue);
        self.put_back_one(held, true);
        let queue = self.queues.get_mut(&held.queue)?;
        queue.scrambled = true;
        Some(Returning { queue: held.queue, message: held.waiting.message.name(), doubts: queue.doubts() })
    }

    /// All of the slices are done.
    fn finish_going(&mut self, key: ConnectionKey) {
        let turn = self.turns;
        let going = std::mem::take(&mut self.connection_mut(key).in_slices);
        for Returning { queue, message, doubts } in going.returning {
            let Some(queue) = self.queues.get_mut(&queue) else { continue };
            queue.came_back(message, turn);
            if queue.doubts() == doubts {
                queue.trust(message);
            }
        }
        for consumer in going.consumers {
            self.stop_consumer(consumer);
        }
    }

    /// A connection's next turn takes down what is to go; `more` when it is not done with it.
    pub(super) fn go_on_taking_down(&mut self, key: ConnectionKey, more: bool) {
        let connection = self.connection(key);
        if connection.going {
            self.take_down_connection(key, more);
        }
        if !more {
            self.finish_going(key);
        }
    }

    fn take_down_connection(&mut self, key: ConnectionKey, more: bool) {
        let channels: Vec<_> = self.channels.range((key, 0)..=(key, u16::MAX)).map(|(key, _)| *key).collect();
        let exclusive: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, q)| q.owner == Some(key) && !q.dead)
            .map(|(key, _)| *key)
            .collect();
        let steps: usize = channels.iter().map(|channel| self.steps(self.channel(*channel))).sum();
        let is_small =
            steps + exclusive.len() <= TURN_STEPS_SURE && !self.connection(key).in_slices.is_begun();
        let in_one_turn = !more || is_small;
        if !in_one_turn {
            channels.into_iter().for_each(|channel| self.begin_going(channel));
            for queue in exclusive {
                self.queue_mut(queue).doomed = true;
            }
            return;
        }
        self.take_down_channels(&channels);
        self.finish_going(key);
        for queue in exclusive {
            if self.queues.get(&queue).is_some_and(|queue| !queue.dead) {
                self.counts.note(Event::ExclusiveCleanUp);
                self.remove_queue(queue);
            }
        }
        self.connection_mut(key).going = false;
    }

    /// A queue goes. Its consumers may still get what they were handed before, until they are
    /// told.
    pub(super) fn remove_queue(&mut self, key: QueueKey) {
        self.topology_changes += 1;
        let queue = self.queue_mut(key);
        queue.dead = true;
        queue.doubt_all();
        let (name, consumers) = (queue.name.clone(), queue.consumers.clone());
        self.queue_names.remove(&name);
        self.remove_bindings_to(key);
        for consumer in consumers {
            if let Some(consumer) = self.consumers.get_mut(&consumer) {
                consumer.lost = true;
            }
        }
        self.forget_if_unwanted(key);
    }

    pub(super) fn forget_if_unwanted(&mut self, key: QueueKey) {
        if self.queues.get(&key).is_some_and(|queue| queue.dead && queue.consumers.is_empty()) {
            self.queues.remove(&key);
        }
    }

    /// The connection is over; nothing of it is left.
    ///
    /// # Errors
    /// When something was due.
    pub fn finished(&mut self, key: ConnectionKey) -> Checked {
        let connection = self.connection(key);
        crate::ensure!(
            matches!(connection.phase, super::Phase::Ended | super::Phase::Silent { .. }),
            "a connection ended in {:?}",
            connection.phase
        );
        crate::ensure!(!connection.going, "a connection ended before what it had was taken down");
        crate::ensure!(
            connection.deferred.is_none(),
            "a connection ended with {:?} due",
            connection.deferred
        );
        self.batch_is_there(key);
        self.connections.remove(&key);
        Ok(())
    }
}
