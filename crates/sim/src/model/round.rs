//! Round robin: where all consumers of a queue have credit and nothing waits, as many messages as
//! there are of the highest priority give each of those one, and the others none. Where one
//! consumer is active at a time, it is that one.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConsumerKey, Model, QueueKey};
use crate::{Checked, counts::Event, ensure};

/// The consumers of a queue before messages are sent round, and what they were delivered so far.
#[derive(Debug)]
pub struct Round {
    queue: QueueKey,
    first: BTreeSet<ConsumerKey>,
    delivered: BTreeMap<ConsumerKey, u64>,
}

impl Round {
    /// How many messages give each consumer one.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.first.len()
    }
}

impl Model {
    /// The names of queues whose consumers could all take a message.
    pub fn idle_queue_names(&self) -> impl Iterator<Item = &str> {
        self.shared_queue_names().filter(|name| self.is_idle_queue(self.queue_names[*name]))
    }

    fn is_idle_queue(&self, key: QueueKey) -> bool {
        let queue = self.queue(key);
        let mut of_channel = BTreeMap::new();
        for consumer in &queue.consumers {
            *of_channel.entry(self.consumers[consumer].channel).or_insert(0) += 1;
        }
        let has_room = |consumer: &ConsumerKey| {
            let channel = self.consumers[consumer].channel;
            self.is_idle(*consumer, of_channel[&channel])
        };
        queue.all() == 0 && !queue.consumers.is_empty() && queue.consumers.iter().all(has_room)
    }

    /// Looks at the consumers of a queue before messages are sent round.
    #[must_use]
    pub fn begin_round(&self, name: &str) -> Round {
        let queue = self.queue_names[name];
        let delivered = |consumer: &ConsumerKey| (*consumer, self.consumers[consumer].delivered);
        let highest = self.served_consumers(queue).map(|consumer| self.consumers[&consumer].priority).max();
        let first = |consumer: &ConsumerKey| Some(self.consumers[consumer].priority) == highest;
        let first: BTreeSet<_> = self.served_consumers(queue).filter(first).collect();
        Round { queue, first, delivered: self.queue(queue).consumers.iter().map(delivered).collect() }
    }

    /// They were sent, and everything came to rest.
    ///
    /// # Errors
    /// When a consumer that is still there got none, or more than one.
    pub fn check_round(&mut self, round: &Round) -> Checked {
        let Some(queue) = self.queues.get(&round.queue) else { return Ok(()) };
        if !queue.consumers.iter().eq(round.delivered.keys()) {
            return Ok(());
        }
        for (consumer, before) in &round.delivered {
            let got = self.consumers[consumer].delivered - before;
            let due = u64::from(round.first.contains(consumer));
            ensure!(
                got == due,
                "a consumer of '{}' got {got} messages, not {due}, where {} went round as many consumers",
                queue.name,
                round.messages()
            );
        }
        if round.first.len() < round.delivered.len() {
            self.counts.note(Event::RoundOfSome);
        }
        Ok(())
    }
}
