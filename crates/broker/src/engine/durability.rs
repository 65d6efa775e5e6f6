//! What lasts: durable doings go to the journal, and what waits for them goes on when they are on
//! stable storage.
//!
//! Connections append and never wait in place: one that has something to tell only then is woken.
//! Invariant: a confirm, a durable declare-ok and a commit-ok are written after the journal is synced
//! up to all that they tell of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use super::{
    Engine,
    inbox::{Inbox, Wake},
    queue_cell::QueueCell,
};
use crate::{
    AwayRun, Location, Ordinal,
    model::queue::{Added, Position as QueuePosition},
    planted::{self, Bug},
    store::{
        Disk,
        journal::{Appended, Journal, List, Operation, Position, QueueNumber, Run, writer::SegmentSpan},
        ranges::{self, Range, RangeSet},
        returns::{Return, Returns},
        snapshot::{QueueState, Snapshot},
    },
    sync::Mutex,
};

/// Octets that may wait to be synced before publishers are not read from.
const UNSYNCED_OCTETS_MAX: u64 = 32 * 1024 * 1024;

/// Tells the driver's thread that writes the journal that there is something for it. Both may be
/// called from any thread, and must not block.
pub trait SyncBell: Send + Sync {
    /// Something was appended that nobody waits for: it is to be written soon.
    fn appended(&self);
    /// Somebody waits: it is to be written and synced at once.
    fn awaited(&self);
}

/// Who is to be woken when the journal is synced up to there.
struct Waiter {
    position: Position,
    inbox: Arc<Inbox>,
}

/// The journal, who waits for it, and what its history comes to.
pub(super) struct Durability {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) journal: Journal,
    waiters: Mutex<Vec<Waiter>>,
    bell: OnceLock<Box<dyn SyncBell>>,
    /// Definitions by their keys, as the journal has them at its end.
    definitions: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The durable queues.
    queues: Mutex<BTreeMap<QueueNumber, Arc<DurableQueue>>>,
    /// Segments that are to be retired, in order.
    closed: Mutex<Vec<SegmentSpan>>,
    /// Who retires them.
    retirer: OnceLock<Box<dyn Wake>>,
}

impl Durability {
    /// What a recovery found, to go on from.
    pub(super) fn new(disk: Arc<dyn Disk>, snapshot: &Snapshot) -> Self {
        Self {
            disk,
            journal: Journal::starting_at(snapshot.position),
            waiters: Mutex::default(),
            bell: OnceLock::new(),
            definitions: Mutex::new(snapshot.definitions.clone()),
            queues: Mutex::default(),
            closed: Mutex::default(),
            retirer: OnceLock::new(),
        }
    }

    /// Sets who writes the journal. There is to be one.
    pub(super) fn set_bell(&self, bell: Box<dyn SyncBell>) {
        let _ = self.bell.set(bell);
        // What was appended before rang for nobody.
        self.call_syncer();
    }

    /// Sets who retires segments. There is to be one.
    pub(super) fn set_retirer(&self, waker: Box<dyn Wake>) {
        let _ = self.retirer.set(waker);
    }

    /// Appends an operation; returns where the journal has to be synced to for it to last.
    pub(super) fn append(&self, operation: &Operation<'_>) -> Position {
        let appended = self.journal.append(operation);
        self.tell(appended);
        appended.end
    }

    /// Whoever appends first tells the syncer, which takes all that comes behind with it.
    fn tell(&self, appended: Appended) {
        if appended.is_first
            && let Some(bell) = self.bell.get()
        {
            bell.appended();
        }
    }

    /// Something is defined, in place of what had its key.
    pub(super) fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Position {
        let mut definitions = self.definitions.lock();
        let position = self.append(&Operation::Put { key: &key, value: &value });
        definitions.insert(key, value);
        position
    }

    /// As [`Durability::put`], unless just that is defined already.
    pub(super) fn put_if_new(&self, key: Vec<u8>, value: Vec<u8>) {
        let is_known = self.definitions.lock().get(&key) == Some(&value);
        if !is_known {
            self.put(key, value);
        }
    }

    /// What had the key is not defined any more.
    pub(super) fn remove(&self, key: &[u8]) -> Position {
        let mut definitions = self.definitions.lock();
        let position = self.append(&Operation::Remove { key });
        definitions.remove(key);
        position
    }

    /// Definitions by their keys.
    pub(super) fn definitions(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.definitions.lock().clone()
    }

    pub(super) fn add_queue(&self, number: QueueNumber, queue: &Arc<DurableQueue>) {
        self.queues.lock().insert(number, Arc::clone(queue));
    }

    /// A queue is gone, with all that is in it.
    pub(super) fn remove_queue(&self, queue: QueueNumber) -> Position {
        self.queues.lock().remove(&queue);
        if planted::is(Bug::DeletionNotKept) {
            return self.journal.end();
        }
        self.append(&Operation::QueueGone { queue })
    }

    /// The durable queues as they are now.
    pub(super) fn queues(&self) -> BTreeMap<QueueNumber, Arc<DurableQueue>> {
        self.queues.lock().clone()
    }

    /// Nothing more is written to that segment.
    pub(super) fn closed(&self, segment: SegmentSpan) {
        self.closed.lock().push(segment);
        self.wake_retirer();
    }

    pub(super) fn wake_retirer(&self) {
        if let Some(retirer) = self.retirer.get() {
            retirer.wake();
        }
    }

    pub(super) fn take_closed(&self) -> Vec<SegmentSpan> {
        std::mem::take(&mut *self.closed.lock())
    }

    /// Appends messages that queues are to be told to have.
    pub(super) fn append_batch(self: &Arc<Self>, records: &[u8]) -> OpenBatch {
        let appended = self.journal.append_batch(records);
        self.tell(appended);
        OpenBatch { durability: Arc::clone(self), start: appended.start, end: appended.end }
    }

    /// Whether the journal is synced up to there.
    pub(super) fn is_synced(&self, position: Position) -> bool {
        self.journal.synced() >= position
    }

    /// Whether so much waits to be synced that no more should come.
    pub(super) fn is_behind(&self) -> bool {
        self.journal.unsynced_octets() > UNSYNCED_OCTETS_MAX
    }

    /// Wakes the connection when the journal is synced up to there; at once if it is.
    pub(super) fn wait(&self, position: Position, inbox: &Arc<Inbox>) {
        self.waiters.lock().push(Waiter { position, inbox: Arc::clone(inbox) });
        self.call_syncer();
        // The sync may have come between the caller's look and this.
        if self.is_synced(position) {
            inbox.call();
        }
    }

    /// Wakes who waits for what is synced now. Returns whether others wait still.
    pub(super) fn wake_synced(&self) -> bool {
        let synced = self.journal.synced();
        let mut waiters = self.waiters.lock();
        let woken: Vec<_> = waiters.extract_if(.., |waiter| waiter.position <= synced).collect();
        let more = !waiters.is_empty();
        drop(waiters);
        for waiter in woken {
            waiter.inbox.call();
        }
        more
    }

    /// Asks for a sync at once.
    pub(super) fn call_syncer(&self) {
        if let Some(bell) = self.bell.get() {
            bell.awaited();
        }
    }
}

/// A batch in the journal whose queues are being told. What it stands in stays until this is
/// dropped.
pub(super) struct OpenBatch {
    durability: Arc<Durability>,
    start: Position,
    /// Up to where the journal has to be synced for all that was told.
    end: Position,
}

impl OpenBatch {
    /// A queue took messages of it. `place_of` says which record of the batch in the journal a
    /// message of `batch` is, if it is one.
    pub(super) fn enqueued(
        &mut self,
        queue: &QueueCell,
        batch: &[Location],
        added: &[Added],
        place_of: impl Fn(Location) -> Option<u32>,
    ) {
        let counts_returns = queue.declaration.parsed.settings.counts_returns;
        let mut runs = Vec::new();
        for added in added {
            for (nth, location) in batch[added.place..][..added.count].iter().enumerate() {
                if let Some(place) = place_of(*location) {
                    let ordinal = added.position.plus(nth, counts_returns).ordinal(counts_returns);
                    Run::collect(&mut runs, place, ordinal);
                }
            }
        }
        if runs.is_empty() {
            return;
        }
        let mut octets = Vec::new();
        let runs = List::write(&runs, &mut octets);
        let enqueue = Operation::Enqueue { queue: queue.number(), batch: self.start, runs };
        self.end = self.durability.append(&enqueue);
    }

    /// A line took one message of it, the record in that place.
    pub(super) fn kept(&mut self, line: QueueNumber, place: u32, ordinal: Ordinal) {
        let mut runs = Vec::new();
        Run::collect(&mut runs, place, ordinal.0);
        let mut octets = Vec::new();
        let runs = List::write(&runs, &mut octets);
        self.end = self.durability.append(&Operation::Enqueue { queue: line, batch: self.start, runs });
    }

    /// Up to where the journal has to be synced for what queues were told.
    pub(super) const fn end(&self) -> Position {
        self.end
    }
}

impl Drop for OpenBatch {
    fn drop(&mut self) {
        self.durability.journal.close_batch(self.start);
    }
}

/// What is known of a durable queue's messages by their ordinals.
#[derive(Debug, Default)]
struct Known {
    /// Those that left it for good.
    gone: RangeSet,
    /// How often others came back, where the queue counts that.
    returns: Returns,
}

/// What is kept with a durable queue.
#[derive(Debug, Default)]
pub(super) struct DurableQueue {
    messages: Mutex<Known>,
    /// Its pages that last.
    kept: Mutex<Vec<AwayRun>>,
}

impl QueueCell {
    /// What the store calls the queue.
    pub(super) const fn number(&self) -> QueueNumber {
        QueueNumber(self.serial)
    }

    /// Messages left the queue for good. Where that is to last it stands in the journal from here on,
    /// and the position is returned that it has to be synced to.
    pub(super) fn left(
        &self,
        engine: &Engine,
        positions: impl IntoIterator<Item = QueuePosition>,
    ) -> Option<Position> {
        let (Some(durability), Some(durable)) = (&engine.durability, &self.durable) else { return None };
        let counts_returns = self.declaration.parsed.settings.counts_returns;
        let mut left = Vec::new();
        for position in positions {
            ranges::collect(&mut left, position.ordinal(counts_returns));
        }
        durable.leave(durability, self.number(), &left)
    }

    /// As [`QueueCell::left`], for all messages from the first position of each pair to the last.
    pub(super) fn left_all(
        &self,
        engine: &Engine,
        positions: &[(QueuePosition, QueuePosition)],
    ) -> Option<Position> {
        let (Some(durability), Some(durable)) = (&engine.durability, &self.durable) else { return None };
        let counts_returns = self.declaration.parsed.settings.counts_returns;
        let ordinal = |position: QueuePosition| position.ordinal(counts_returns);
        let left: Vec<_> = positions
            .iter()
            .map(|(first, last)| Range { first: ordinal(*first), last: ordinal(*last) })
            .collect();
        durable.leave(durability, self.number(), &left)
    }
}

impl QueueCell {
    /// Messages came back to the queue, which counts that, and stand there now.
    pub(super) fn came_back(&self, engine: &Engine, positions: &[QueuePosition]) {
        if let (Some(durability), Some(durable)) = (&engine.durability, &self.durable) {
            durable.come_back(durability, self.number(), positions);
        }
    }
}

impl DurableQueue {
    pub(super) fn new(state: QueueState) -> Self {
        let QueueState { gone, kept, returns } = state;
        Self { messages: Mutex::new(Known { gone, returns }), kept: Mutex::new(kept) }
    }

    /// Whether the message left the queue for good.
    pub(super) fn has_left(&self, ordinal: Ordinal) -> bool {
        self.messages.lock().gone.contains(ordinal.0)
    }

    /// Messages are on a page that lasts.
    pub(super) fn keep(&self, run: AwayRun) {
        self.kept.lock().push(run);
    }

    /// Adds up by files how many octets of its pages live, as far as counts tell.
    pub(super) fn count_living(&self, files: &mut BTreeMap<u32, u64>) {
        let messages = self.messages.lock();
        for run in &*self.kept.lock() {
            let range = run.range();
            let living =
                range.len().saturating_sub(messages.gone.count_within(range)).min(run.messages.into());
            let octets = u64::from(run.page.octets) * living / u64::from(run.messages.max(1));
            // A page with a message in it never counts as nothing.
            *files.entry(run.page.file).or_default() += octets.max(living);
        }
    }

    /// Its pages in those files that have a living message.
    pub(super) fn kept_in(&self, files: &BTreeSet<u32>) -> Vec<AwayRun> {
        let messages = self.messages.lock();
        let kept = self.kept.lock();
        let of_files =
            kept.iter().filter(|run| files.contains(&run.page.file) && !messages.gone.covers(run.range()));
        of_files.copied().collect()
    }

    /// Messages are on other pages now.
    pub(super) fn forget(&self, runs: &[AwayRun]) {
        let pages: BTreeSet<_> = runs.iter().map(|run| (run.page.file, run.page.offset)).collect();
        self.kept.lock().retain(|run| !pages.contains(&(run.page.file, run.page.offset)));
    }

    /// What a snapshot says of it. Pages whose messages are all gone are forgotten.
    pub(super) fn state(&self) -> QueueState {
        let (gone, returns) = {
            let messages = self.messages.lock();
            (messages.gone.clone(), messages.returns.clone())
        };
        let mut kept = self.kept.lock();
        kept.retain(|run| !gone.covers(run.range()));
        QueueState { gone, kept: kept.clone(), returns }
    }

    pub(super) fn leave(
        &self,
        durability: &Durability,
        queue: QueueNumber,
        left: &[Range],
    ) -> Option<Position> {
        if left.is_empty() {
            return None;
        }
        {
            let Known { gone, returns } = &mut *self.messages.lock();
            left.iter().for_each(|range| gone.insert(*range));
            if !returns.is_empty() {
                left.iter().for_each(|range| returns.forget(*range));
            }
        }
        if planted::is(Bug::AcknowledgementNotKept) {
            return None;
        }
        let mut octets = Vec::new();
        let ranges = List::write(left, &mut octets);
        Some(durability.append(&Operation::Gone { queue, ranges }))
    }

    /// Messages came back, where they stand now. Nobody waits for that to last.
    fn come_back(&self, durability: &Durability, queue: QueueNumber, positions: &[QueuePosition]) {
        let counts_returns = true;
        let mut back = Vec::new();
        {
            let Known { gone, returns } = &mut *self.messages.lock();
            for position in positions {
                let message = Return { ordinal: position.ordinal(counts_returns), count: position.returns() };
                // Whoever it was given next may have acknowledged it already.
                if !gone.contains(message.ordinal) {
                    returns.note(message);
                    back.push(message);
                }
            }
        }
        if !back.is_empty() && !planted::is(Bug::ReturnNotKept) {
            let mut octets = Vec::new();
            let returns = List::write(&back, &mut octets);
            durability.append(&Operation::Returned { queue, returns });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::store::disk_tests::MemoryDisk;

    /// Counts rings of each kind.
    #[derive(Default)]
    struct Rings {
        appended: AtomicU64,
        awaited: AtomicU64,
    }

    impl SyncBell for Arc<Rings> {
        fn appended(&self) {
            self.appended.fetch_add(1, Ordering::Relaxed);
        }

        fn awaited(&self) {
            self.awaited.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn rings_of(append: impl FnOnce(&Arc<Durability>)) -> u64 {
        let rings = Arc::<Rings>::default();
        let durability = Arc::new(Durability::new(Arc::new(MemoryDisk::default()), &Snapshot::default()));
        durability.set_bell(Box::new(Arc::clone(&rings)));
        assert_eq!(rings.awaited.load(Ordering::Relaxed), 1, "what came before the bell is asked for");
        append(&durability);
        rings.appended.load(Ordering::Relaxed)
    }

    #[test]
    fn whatever_is_appended_first_rings_and_what_is_behind_it_does_not() {
        let remove = |durability: &Arc<Durability>| {
            durability.remove(b"key");
        };
        assert_eq!(rings_of(remove), 1);
        assert_eq!(rings_of(|durability| drop(durability.append_batch(b"records"))), 1);
        let both = |durability: &Arc<Durability>| {
            drop(durability.append_batch(b"records"));
            remove(durability);
        };
        assert_eq!(rings_of(both), 1);
    }
}
