//! When all is quiet nothing is open any more: every count is exact, and whatever could have
//! happened must have happened.

use super::{
    ConnectionKey, ConsumerKey, Model, Phase,
    connection::{Channel, Mode},
    queue::{Active, Overflow, Waiting},
};
use crate::{Checked, counts::Event, ensure};

/// What the broker says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The monotonic clock.
    pub now_millis: u64,
    /// Whether the broker is stopping.
    pub is_stopping: bool,
    /// Whether the memory alarm stands.
    pub is_alarmed: bool,
    /// Octets that messages cost.
    pub memory_octets: u64,
    /// Chunks of messages.
    pub chunk_count: usize,
    /// Queues in all virtual hosts.
    pub queue_count: usize,
    /// Connections that take no input.
    pub paused: Vec<ConnectionKey>,
    /// Connections whose client's machine is gone, with its socket still open.
    pub lost: Vec<ConnectionKey>,
}

impl Model {
    /// Every connection has done all it could, and every client has read all there was.
    ///
    /// # Errors
    /// When something is left undone.
    pub fn check_quiet(&mut self, facts: &Facts) -> Checked {
        self.counts.note(Event::Quiet);
        self.check_connections(facts)?;
        self.check_channels()?;
        self.check_queues()?;
        let queues = self.queue_count();
        ensure!(facts.queue_count == queues, "{} queues are there, not {queues}", facts.queue_count);
        self.check_memory(facts)
    }

    fn check_connections(&self, facts: &Facts) -> Checked {
        for (key, connection) in &self.connections {
            ensure!(!connection.going, "connection {} is still going", key.0);
            ensure!(connection.deferred.is_none(), "connection {}: {:?} is due", key.0, connection.deferred);
            ensure!(connection.letters.is_empty(), "connection {} keeps dead letters", key.0);
            ensure!(connection.returns.is_empty(), "connection {}: a message did not come back", key.0);
            // A client that is gone does not close its socket, which the broker waits for a while.
            let has_ended = connection.phase == Phase::Ended && !facts.lost.contains(key);
            ensure!(!has_ended, "connection {} has ended and is still there", key.0);
            ensure!(
                !self.dies_by_clock(*key, facts.now_millis, facts.is_stopping),
                "connection {} outlives its time",
                key.0
            );
            if facts.is_alarmed || connection.phase != Phase::Running {
                continue;
            }
            ensure!(!connection.blocked, "connection {} was never unblocked", key.0);
            ensure!(!facts.paused.contains(key), "connection {} is not read from, for no reason", key.0);
        }
        Ok(())
    }

    fn check_channels(&self) -> Checked {
        for ((connection, number), channel) in &self.channels {
            if let Mode::Confirm { open, .. } = &channel.mode {
                let open = open.len();
                ensure!(
                    open == 0,
                    "connection {} channel {number}: {open} publishes unconfirmed",
                    connection.0
                );
            }
            let lost = channel.consumers.values().any(|consumer| self.consumers[consumer].lost);
            ensure!(!lost, "connection {} channel {number}: a cancel was not told", connection.0);
        }
        Ok(())
    }

    fn check_queues(&mut self) -> Checked {
        let keys: Vec<_> = self.queues.keys().copied().collect();
        for key in &keys {
            self.check_lives(*key)?;
        }
        let mut idle_queues = Vec::new();
        for key in keys {
            let queue = self.queue(key);
            ensure!(!queue.dead, "a consumer of '{}' was never told that it is gone", queue.name);
            ensure!(queue.expecting.is_empty(), "a batch never came to '{}'", queue.name);
            let idle = self.served_consumers(key).any(|consumer| self.is_idle(consumer, 1));
            let (name, sure) = (&queue.name, queue.sure());
            ensure!(!idle || sure == 0, "'{name}' keeps {sure} messages while a consumer has credit");
            self.queue_mut(key).scrambled = false;
            self.check_limits(key)?;
            idle_queues.extend(idle.then_some(key));
        }
        self.settle_doubts(&idle_queues);
        Ok(())
    }

    /// What may be there is not, if a consumer could have taken it; unless it may come yet, because
    /// what it is made of is there perhaps and stands behind others.
    fn settle_doubts(&mut self, idle: &[super::QueueKey]) {
        loop {
            let mut gone = Vec::new();
            for key in idle {
                let queue = self.queue(*key);
                let is_gone = |waiting: &&Waiting| {
                    !queue.open_letters.contains_key(&waiting.message.name())
                        || !self.may_still_come(&waiting.message)
                };
                let names = queue.waiting().filter(is_gone).map(|waiting| waiting.message.name());
                gone.extend(names.map(|name| (*key, name)));
            }
            for (key, name) in &gone {
                let queue = self.queue_mut(*key);
                queue.take(*name);
                queue.open_letters.remove(name);
            }
            // What was made of that does not come either.
            if gone.is_empty() {
                return;
            }
        }
    }

    fn check_limits(&self, key: super::QueueKey) -> Checked {
        let queue = self.queue(key);
        let (name, sure) = (&queue.name, queue.sure());
        let drops = queue.limits.overflow == Overflow::DropHead;
        let max = queue.limits.messages_max.filter(|_| drops);
        ensure!(max.is_none_or(|max| sure <= max), "'{name}' keeps {sure} messages, at most {max:?}");
        Ok(())
    }

    /// Consumers that are given messages.
    pub(super) fn served_consumers(&self, key: super::QueueKey) -> impl Iterator<Item = ConsumerKey> {
        let queue = self.queue(key);
        let served = |consumer: &&ConsumerKey| match queue.active {
            Active::Nobody => true,
            Active::Known(active) => active == **consumer,
            Active::Open => false,
        };
        queue.consumers.iter().filter(served).copied()
    }

    /// Whether the consumer could take a message, and its channel so many of them.
    pub(super) fn is_idle(&self, key: ConsumerKey, of_channel: u64) -> bool {
        let consumer = &self.consumers[&key];
        let channel = self.channel(consumer.channel);
        let delivered = channel.unacked.values().filter(|held| held.consumer.is_some()).count() as u64;
        let own =
            consumer.no_ack || consumer.prefetch == 0 || consumer.unacked < u64::from(consumer.prefetch);
        let limit = &channel.shared_limit;
        own && limit.current.is_none_or(|places| delivered + of_channel + limit.lost <= places)
    }

    fn check_memory(&self, facts: &Facts) -> Checked {
        let waiting: u64 = self.queues.values().map(super::Queue::all).sum();
        let held: usize = self.channels.values().map(Channel::messages_held).sum();
        ensure!(
            waiting > 0 || held > 0 || (facts.memory_octets == 0 && facts.chunk_count == 0),
            "{} octets in {} chunks are kept for no message",
            facts.memory_octets,
            facts.chunk_count
        );
        Ok(())
    }

    /// How many messages surely and possibly wait in a queue.
    #[must_use]
    pub fn waiting(&self, name: &str) -> Option<(u64, u64)> {
        let queue = self.queue(*self.queue_names.get(name)?);
        Some((queue.sure(), queue.all()))
    }
}
