//! Messages on their way into queues: appended to a batch, put into the log together, then
//! brought to each queue in one step.
//!
//! Invariant: every message of the batch goes into every queue of its route, in order, or is
//! given back where a queue is gone.

use std::sync::Arc;

use leveret_wire::{Properties, PublishRoute};

use super::{
    Engine,
    delays::Waiting,
    durability::OpenBatch,
    groups::{Cursor, Groups},
    kept_line::KeptLine,
    queue_cell::{QueueCell, Scratch},
    routes::QueueRoute,
};
use crate::{
    Location, Ordinal,
    model::{
        exchange::{Delay, History, is_remembered},
        queue::{Added, Position as QueuePosition},
    },
    planted::{self, Bug},
    store::{LogBatch, OpenChunk, Record, journal::Position},
};

/// A step on a queue costs as much as this many messages put into it.
const STEP_APPENDS: usize = 16;

/// Messages published anew at a time, and octets of records after which no more are taken up.
const REPUBLISHED_MESSAGES_MAX: usize = 256;
const REPUBLISHED_OCTETS_MAX: usize = 1024 * 1024;

/// The `delivery-mode` of messages that are to last.
pub(super) const PERSISTENT: u8 = 2;

/// A message to be put into queues.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) route: PublishRoute<'a>,
    pub(super) property_octets: &'a [u8],
    pub(super) body: &'a [u8],
    /// By the monotonic clock.
    pub(super) arrived_millis: u64,
    /// Whether it has the property `expiration`.
    pub(super) expires: bool,
    /// Whether it is to last in queues that do (`delivery-mode` 2).
    pub(super) is_persistent: bool,
}

/// What a queue looks like after it took messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stepped {
    pub(super) ready: u64,
    pub(super) delivered: u64,
    pub(super) has_consumers: bool,
}

#[derive(Default)]
pub(super) struct Batch {
    log: LogBatch,
    open_chunk: OpenChunk,
    groups: Groups,
    /// Messages that are remembered as well.
    remembered: Vec<(Arc<History>, Location)>,
    /// Messages that are to wait somewhere, with the time when they are due.
    delayed: Vec<(u64, Delay, Location)>,
    /// Which queue comes next, once the messages are in the log.
    cursor: Option<Cursor>,
    lasting: Lasting,
    /// The messages that last, once they are in the journal.
    in_journal: Option<InJournal>,
    /// Up to where the journal has to be synced for what became of the batches before.
    lasts_at: Option<Position>,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether its messages are in the log and not in all their queues yet.
    pub(super) const fn is_stepping(&self) -> bool {
        self.cursor.is_some()
    }

    /// Octets of records so far.
    pub(super) const fn octets(&self) -> usize {
        self.log.octets()
    }

    /// Puts a message into the batch. Its place stands for its location until the batch is in the
    /// log; `None` when no queue wants it. `octets_left` is how much more may come in the batch.
    #[inline]
    pub(super) fn append(
        &mut self,
        engine: &Engine,
        message: &Message<'_>,
        route: &Arc<QueueRoute>,
        octets_left: usize,
    ) -> Option<Location> {
        let held = if route.has_holders() { Held::of(message, route) } else { Held::default() };
        let references = route.queues.len() + held.histories.len() + held.delays.len();
        if references == 0 {
            return None;
        }
        let Message { route: octets, property_octets, body, arrived_millis, expires, is_persistent } =
            *message;
        let record_octets = Record::octets(octets.as_bytes().len(), property_octets.len(), body.len());
        let references = u32::try_from(references).expect("fewer than 2^32 queues");
        let buffer = || engine.log.buffer(record_octets + octets_left);
        let write =
            |chunk: &mut Vec<u8>| Record::append(chunk, arrived_millis, octets, property_octets, body);
        self.log.append(references, buffer, write);
        let location = self.groups.add(route, record_octets, expires);
        if engine.durability.is_some() {
            let waits = || held.delays.iter().any(|delay| delay.at.line.is_some());
            let lasts = route.queues.iter().any(|queue| queue.keeps(is_persistent)) || waits();
            self.lasting.note(lasts, is_persistent);
        }
        if held.is_empty() {
            return Some(location);
        }
        self.hold(held, arrived_millis, location);
        let waits = !held.delays.is_empty() && !planted::is(Bug::DelayedReturned);
        (!route.queues.is_empty() || waits).then_some(location)
    }

    #[cold]
    fn hold(&mut self, held: Held<'_>, arrived_millis: u64, location: Location) {
        self.remembered.extend(held.histories.iter().map(|history| (Arc::clone(history), location)));
        let due = |delay: &Delay| (arrived_millis + delay.millis, delay.clone(), location);
        self.delayed.extend(held.delays.iter().map(due));
    }

    /// Puts the messages into the log. The message at place 0 has the location returned, and
    /// those behind it the ones behind that; `None` when there are none.
    pub(super) fn place(&mut self, engine: &Engine) -> Option<Location> {
        self.cursor = Some(Cursor::default());
        if self.groups.is_empty() {
            return None;
        }
        let open = self.lasting.append(engine, &self.log);
        let first = engine.log.append(&mut self.log, &mut self.open_chunk);
        self.in_journal =
            open.map(|open| InJournal { open, first, lasting: std::mem::take(&mut self.lasting) });
        self.lasting = Lasting::default();
        self.groups.place(first);
        for (history, location) in self.remembered.drain(..) {
            history.keep(location.behind(first));
        }
        for (due_millis, delay, place) in self.delayed.drain(..) {
            let line = delay.at.line.and_then(|number| engine.delays.line(number));
            let in_journal = self.in_journal.as_mut();
            let kept = in_journal.zip(line).and_then(|(in_journal, line)| in_journal.keep(line, place));
            let waiting = Waiting { location: place.behind(first), at: delay.at, kept };
            if engine.delays.hold(due_millis, waiting) {
                engine.deadlines.wake();
            }
        }
        engine.alarm.grown();
        engine.paging.grown(engine.alarm.octets());
        Some(first)
    }

    /// Brings the messages to their queues, as far as the budget of appends goes; true when all
    /// are there. `after` is told what became of each queue and which messages it refused.
    pub(super) fn step(
        &mut self,
        engine: &Engine,
        scratch: &mut Scratch,
        budget: &mut usize,
        mut after: impl FnMut(&QueueCell, Stepped, &mut dyn Iterator<Item = Location>),
    ) -> bool {
        let mut cursor = self.cursor.take().unwrap_or_default();
        while let Some((queue, batch)) = self.groups.target(&mut cursor) {
            if *budget == 0 {
                self.cursor = Some(cursor);
                return false;
            }
            *budget = budget.saturating_sub(batch.len() + STEP_APPENDS);
            let in_journal = self.in_journal.as_mut().filter(|_| queue.durable.is_some());
            match enqueue(engine, scratch, queue, batch, in_journal) {
                Some(stepped) => {
                    let rejected = &mut scratch.effects.rejected;
                    after(queue, stepped, &mut rejected.drain(..).map(|place| batch[place]));
                }
                // The queue was deleted since the route was found, as if before the publish.
                None => engine.release(batch.iter().copied()),
            }
            scratch.effects.rejected.clear();
            scratch.effects.added.clear();
            cursor.advance();
        }
        self.groups.clear();
        self.lasts_at = self.in_journal.take().map(|in_journal| in_journal.open.end()).or(self.lasts_at);
        true
    }

    /// Up to where the journal has to be synced for what became of the messages that lasted, in all
    /// batches since this was last asked.
    pub(super) const fn take_lasts_at(&mut self) -> Option<Position> {
        self.lasts_at.take()
    }
}

/// A message of a batch that is to last in some queue.
#[derive(Debug, Clone, Copy)]
struct LastingPlace {
    /// Which of those it is.
    place: u32,
    /// Whether it is to last wherever queues do.
    is_persistent: bool,
}

/// Which messages of a batch are to last.
#[derive(Debug, Default)]
struct Lasting {
    /// The place among them of each message of the batch; none as long as all are to last.
    places: Option<Vec<Option<LastingPlace>>>,
    messages: u32,
    lasting: u32,
}

impl Lasting {
    fn note(&mut self, lasts: bool, is_persistent: bool) {
        if !(lasts && is_persistent) && self.places.is_none() {
            let place = |place| Some(LastingPlace { place, is_persistent: true });
            self.places = Some((0..self.messages).map(place).collect());
        }
        if let Some(places) = &mut self.places {
            places.push(lasts.then_some(LastingPlace { place: self.lasting, is_persistent }));
        }
        self.messages += 1;
        self.lasting += u32::from(lasts);
    }

    /// Puts them into the journal.
    fn append(&self, engine: &Engine, log: &LogBatch) -> Option<OpenBatch> {
        let durability = engine.durability.as_ref().filter(|_| self.lasting > 0)?;
        let Some(places) = &self.places else { return Some(durability.append_batch(log.records())) };
        let lasting = places.iter().enumerate().filter(|(_, place)| place.is_some());
        let records: Vec<_> = lasting.flat_map(|(at, _)| log.record(at)).copied().collect();
        Some(durability.append_batch(&records))
    }

    /// Which of those that last the message at a place of the batch is, if `keeps` says so of one that
    /// is persistent or not.
    fn place(&self, place: usize, keeps: impl Fn(bool) -> bool) -> Option<u32> {
        match &self.places {
            None => Some(u32::try_from(place).expect("a batch has far fewer messages")),
            Some(places) => places[place].filter(|lasting| keeps(lasting.is_persistent)).map(|at| at.place),
        }
    }
}

/// The messages of a batch that are in the journal.
struct InJournal {
    open: OpenBatch,
    /// The location of the batch's first message.
    first: Location,
    lasting: Lasting,
}

impl InJournal {
    fn enqueued(&mut self, queue: &QueueCell, batch: &[Location], added: &[Added]) {
        let Self { open, first, lasting } = self;
        open.enqueued(queue, batch, added, |location| {
            lasting.place(location.number() - first.number(), |is_persistent| queue.keeps(is_persistent))
        });
    }

    /// A line takes the message at a place of the batch, persistent or not.
    fn keep(&mut self, line: Arc<KeptLine>, place: Location) -> Option<(Arc<KeptLine>, Ordinal)> {
        let record = self.lasting.place(place.number(), |_| true)?;
        let ordinal = line.next_ordinal();
        self.open.kept(line.number, record, ordinal);
        Some((line, ordinal))
    }
}

/// What beside queues is to hold a message.
#[derive(Clone, Copy, Default)]
struct Held<'r> {
    histories: &'r [Arc<History>],
    delays: &'r [Delay],
}

impl<'r> Held<'r> {
    const fn is_empty(&self) -> bool {
        self.histories.is_empty() && self.delays.is_empty()
    }

    #[cold]
    fn of(message: &Message<'_>, route: &'r QueueRoute) -> Self {
        let properties = Properties::decode(message.property_octets).unwrap_or_default();
        let histories = if is_remembered(&properties) { &route.histories[..] } else { &[] };
        Self { histories, delays: &route.delays }
    }
}

/// Messages published anew from where they lie in the log, a batch at a time.
#[derive(Default)]
pub(super) struct Republication {
    batch: Batch,
    taken: Vec<Location>,
    /// What the messages left that lasts, once what takes their place is in the journal.
    left: Vec<Left>,
}

/// Where a message stood that lasts.
pub(super) enum Left {
    Queue(Arc<QueueCell>, QueuePosition),
    Line(Arc<KeptLine>, Ordinal),
}

impl Left {
    fn tell(self, engine: &Engine) {
        match self {
            Self::Queue(queue, position) => {
                queue.left(engine, [position]);
            }
            Self::Line(line, ordinal) => {
                if let Some(durability) = &engine.durability {
                    line.left(durability, ordinal);
                }
            }
        }
    }
}

/// A message that is published anew.
pub(super) struct Republished {
    /// Where it lies.
    pub(super) location: Location,
    /// What it left for that, and where it stood there.
    pub(super) left: Option<Left>,
}

impl Republication {
    /// Whether a part of it is under way.
    pub(super) const fn is_busy(&self) -> bool {
        self.batch.is_stepping()
    }

    /// Publishes what `next` puts into the batch, as far as the budget of appends goes; true when
    /// some may be left. `next` is told how many the batch has, and returns the message that it took,
    /// which is given back to the log after what takes its place is there; or `None` when the batch
    /// is to have no more, and if it has none, when there are no more.
    pub(super) fn work(
        &mut self,
        engine: &Engine,
        scratch: &mut Scratch,
        mut budget: usize,
        mut next: impl FnMut(&mut Scratch, &mut Batch, usize) -> Option<Republished>,
    ) -> bool {
        loop {
            if self.batch.is_stepping() && !self.batch.step(engine, scratch, &mut budget, |_, _, _| {}) {
                return true;
            }
            self.left.drain(..).for_each(|left| left.tell(engine));
            if budget == 0 {
                return true;
            }
            while self.taken.len() < REPUBLISHED_MESSAGES_MAX
                && self.batch.octets() < REPUBLISHED_OCTETS_MAX
                && let Some(Republished { location, left }) = next(scratch, &mut self.batch, self.taken.len())
            {
                self.taken.push(location);
                self.left.extend(left);
                budget = budget.saturating_sub(1);
            }
            if self.taken.is_empty() {
                return false;
            }
            self.batch.place(engine);
            engine.release(self.taken.drain(..));
        }
    }
}

/// The journal is told under the queue's lock, so that it has the queue's messages in their order.
fn enqueue(
    engine: &Engine,
    scratch: &mut Scratch,
    queue: &QueueCell,
    batch: &[Location],
    in_journal: Option<&mut InJournal>,
) -> Option<Stepped> {
    queue.step(engine, scratch, |model, messages, effects| {
        model.enqueue(batch, messages, effects);
        if let Some(in_journal) = in_journal {
            in_journal.enqueued(queue, batch, &effects.added);
        }
        Stepped {
            ready: model.ready(),
            delivered: model.delivered(),
            has_consumers: model.consumer_count() > 0,
        }
    })
}
