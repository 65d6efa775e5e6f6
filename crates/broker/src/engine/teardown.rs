//! Taking down a channel or a connection: consumers off their queues, deliveries put back,
//! exclusive queues deleted.
//!
//! Done in slices, because a connection may have a hundred thousand queues; nothing more is read
//! from it until all is done. Invariant: the answer that says so (`close-ok`) comes last.

use std::{collections::VecDeque, sync::Arc};

use leveret_wire::method::{channel as channel_method, connection};

use super::{
    Engine,
    connection::{ChannelData, Connection},
    inbox::Letter,
    queue_cell::QueueCell,
    settle::Returning,
    sources::{Delivery, SourceId, Sources},
};
use crate::{
    AwayRun, Location,
    model::queue::Drained,
    planted::{self, Bug},
    session::{Channel, Phase},
};

/// Queues stepped in one turn.
const TURN_STEPS_MAX: usize = 256;
/// Deliveries put back in one step, and the cost of a step in them.
const STEP_DELIVERIES_MAX: usize = 4096;
/// References given back in one turn.
const TURN_FREES_MAX: usize = 16 * 1024;

/// What follows when all is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    ChannelCloseOk(u16),
    ConnectionCloseOk,
    /// The session takes and awaits nothing more.
    End,
}

/// Messages that a consumer was handed and never sent.
struct Unsent {
    queue: Arc<QueueCell>,
    no_ack: bool,
    letters: Vec<(SourceId, Letter)>,
}

/// What is left to take down.
pub(super) struct Teardown {
    consumers: VecDeque<SourceId>,
    /// Consumers that are off their queues, and whose messages still lie in the mail.
    stopped: Vec<SourceId>,
    unsent: VecDeque<Unsent>,
    /// Of each source; they go back before what was not sent, which stood behind them.
    deliveries: VecDeque<VecDeque<Delivery>>,
    /// Queues with one active consumer at a time, which may have been ours.
    successions: Vec<Arc<QueueCell>>,
    queues: VecDeque<Arc<QueueCell>>,
    then: Then,
}

/// References and pages to give back, a slice at a time.
#[derive(Default)]
pub(super) struct Frees {
    pending: VecDeque<VecDeque<Location>>,
    away: Vec<AwayRun>,
}

impl Frees {
    /// What was in a queue.
    pub(super) fn push_drained(&mut self, drained: Drained) {
        self.pending.extend(drained.locations.into_iter().filter(|locations| !locations.is_empty()));
        self.away.extend(drained.away);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.away.is_empty()
    }

    /// Gives back what is there, as far as the budget goes.
    pub(super) fn run(&mut self, engine: &Engine, budget: &mut usize) {
        self.run_away(engine, budget);
        while *budget > 0 {
            let Some(mut locations) = self.pending.pop_front() else { return };
            let count = locations.len().min(*budget);
            *budget -= count;
            engine.release(locations.drain(..count));
            if !locations.is_empty() {
                self.pending.push_front(locations);
            }
        }
    }

    fn run_away(&mut self, engine: &Engine, budget: &mut usize) {
        let count = self.away.len().min(*budget);
        if count > 0 {
            *budget -= count;
            engine.paging.give_back(self.away.drain(self.away.len() - count..));
        }
    }
}

impl Teardown {
    fn new(then: Then) -> Self {
        Self {
            consumers: VecDeque::new(),
            stopped: Vec::new(),
            unsent: VecDeque::new(),
            deliveries: VecDeque::new(),
            successions: Vec::new(),
            queues: VecDeque::new(),
            then,
        }
    }

    fn add_channel(&mut self, mut channel: Channel<ChannelData, Delivery>, sources: &Sources) {
        self.consumers.extend(channel.data.consumers.values());
        let mut taken = Vec::new();
        channel.unacked.take_through(0, &mut taken).expect("tag 0 takes all there are");
        // Each source's deliveries stay in order, because the sort is stable.
        taken.sort_by_key(|delivery| delivery.source);
        let runs = taken.chunk_by(|one, other| one.source == other.source);
        let mut runs: Vec<_> = runs.map(|run| VecDeque::from(run.to_vec())).collect();
        sources.sort_by_tag(&mut runs, |run| run[0].source);
        self.deliveries.extend(runs);
    }

    fn is_done(&self) -> bool {
        self.consumers.is_empty()
            && self.stopped.is_empty()
            && self.unsent.is_empty()
            && self.deliveries.is_empty()
            && self.successions.is_empty()
            && self.queues.is_empty()
    }
}

impl Connection {
    /// The peer closes a channel.
    pub(super) fn close_channel(&mut self, id: u16) {
        let channel = self.session.remove_channel(id);
        self.tear_down_channel(channel, Some(id));
    }

    /// A channel is gone; `answer` is its number if the peer awaits an answer.
    pub(super) fn tear_down_channel(
        &mut self,
        channel: Option<Channel<ChannelData, Delivery>>,
        answer: Option<u16>,
    ) {
        let mut teardown = Teardown::new(answer.map_or(Then::Nothing, Then::ChannelCloseOk));
        if let Some(mut channel) = channel {
            self.forget_replies(channel.data.replies.take());
            self.transaction_octets -= channel.data.transaction.octets();
            teardown.add_channel(channel, &self.sources);
        }
        self.teardowns.push_back(teardown);
        self.run_teardowns();
    }

    /// The connection goes with all that it has.
    pub(super) fn tear_down(&mut self, then: Then) {
        let mut teardown = Teardown::new(then);
        self.getting = None;
        for (_, mut channel) in self.session.take_channels() {
            self.forget_replies(channel.data.replies.take());
            self.transaction_octets -= channel.data.transaction.octets();
            teardown.add_channel(channel, &self.sources);
        }
        if then != Then::End || !planted::is(Bug::ExclusiveQueueLeaked) {
            teardown.queues = self.exclusive.values().cloned().collect();
        }
        if then == Then::End {
            self.end();
        }
        self.routes.clear();
        self.teardowns.push_back(teardown);
    }

    /// Takes down what is to go, as far as the turn goes.
    pub(super) fn run_teardowns(&mut self) {
        let mut budget = TURN_STEPS_MAX;
        while budget > 0 {
            let Some(mut teardown) = self.teardowns.pop_front() else { return };
            while budget > 0 && !teardown.is_done() {
                budget -= 1;
                self.teardown_step(&mut teardown);
            }
            if !teardown.is_done() {
                return self.teardowns.push_front(teardown);
            }
            self.torn_down(teardown.then);
        }
    }

    fn teardown_step(&mut self, teardown: &mut Teardown) {
        if let Some(id) = teardown.consumers.pop_front() {
            return self.take_off_queue(id, teardown);
        }
        if !teardown.stopped.is_empty() {
            let stopped = std::mem::take(&mut teardown.stopped);
            teardown.unsent = self.take_unsent(stopped);
            return;
        }
        if let Some(deliveries) = teardown.deliveries.front_mut() {
            let count = deliveries.len().min(STEP_DELIVERIES_MAX);
            let run: Vec<_> = deliveries.drain(..count).collect();
            if deliveries.is_empty() {
                teardown.deliveries.pop_front();
            }
            return self.requeue_run(&run, Returning::ByEnd);
        }
        if let Some(unsent) = teardown.unsent.pop_front() {
            return self.put_back_unsent(&unsent.queue, unsent.no_ack, &unsent.letters);
        }
        if let Some(queue) = teardown.successions.pop() {
            return self.let_succeed(&queue);
        }
        if let Some(queue) = teardown.queues.pop_front() {
            let vhost = self.open_vhost_handle();
            let Ok(_messages) = self.remove_queue(&vhost, &queue, |_| Ok::<(), std::convert::Infallible>(()));
        }
    }

    /// A consumer is handed nothing more. What it was handed is looked for once for all of them,
    /// because they may be many and have much in the mail.
    fn take_off_queue(&mut self, id: SourceId, teardown: &mut Teardown) {
        let Some(source) = self.sources.find(id) else { return };
        let Some(slot) = source.slot.take() else { return };
        let queue = Arc::clone(&source.queue);
        teardown.stopped.push(id);
        let removal = queue.remove_consumer(&self.engine, &mut self.scratch, slot);
        if removal.was_active {
            teardown.successions.push(Arc::clone(&queue));
        }
        if removal.is_abandoned {
            self.remove_abandoned_queue(&queue);
        }
    }

    /// The next consumer may become the active one.
    pub(super) fn let_succeed(&mut self, queue: &QueueCell) {
        queue.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
            queue.succeed(messages, effects);
        });
    }

    /// Takes what consumers were handed out of the mail, and lets go of the consumers.
    fn take_unsent(&mut self, mut stopped: Vec<SourceId>) -> VecDeque<Unsent> {
        stopped.sort_unstable();
        let mut letters = self.retract(|source| stopped.binary_search(&source).is_ok());
        letters.sort_by_key(|(source, _)| *source);
        let unsent = letters.chunk_by(|(one, _), (other, _)| one == other).map(|run| {
            let source = self.sources.of(run[0].0);
            Unsent { queue: Arc::clone(&source.queue), no_ack: source.no_ack, letters: run.to_vec() }
        });
        let unsent = unsent.collect();
        for id in stopped {
            self.sources.tidy(id);
        }
        unsent
    }

    fn torn_down(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            // Nothing is said on a connection that was closed meanwhile.
            Then::ChannelCloseOk(channel) if self.session.phase() == Phase::Running => {
                self.say(channel, channel_method::CloseOk {});
            }
            Then::ChannelCloseOk(_) => {}
            Then::ConnectionCloseOk => {
                tracing::info!(connection = %self.peer().name, vhost = self.vhost_name(), "connection closed");
                self.say(0, connection::CloseOk {});
                self.end();
                // As by RabbitMQ, the socket is the client's to close; one with threads may take an
                // end that comes right behind the answer for an error.
                self.lingers = !self.disconnected;
            }
            Then::End => {
                self.session.end();
                self.places = None;
            }
        }
    }

    /// Gives references back, as far as the turn goes.
    pub(super) fn run_frees(&mut self) {
        let mut budget = TURN_FREES_MAX;
        self.frees.run(&self.engine, &mut budget);
    }
}
