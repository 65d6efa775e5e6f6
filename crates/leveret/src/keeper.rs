//! The threads that keep what lasts: one writes and syncs the journal, one retires its old segments.
//!
//! Two, so that nobody's confirm waits for a segment that is retired. Invariant: when the [`Keeper`] is
//! dropped all that was appended is written, and both threads have ended.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use leveret_broker::{
    engine::{Engine, Retirer, SyncBell, Syncer},
    store::Disk as _,
};

use crate::{
    disk::{DirectoryDisk, RESERVE_OCTETS},
    pager::WakeThread,
};

/// How long something may be in memory alone that nobody waits for.
const WRITE_WITHIN: Duration = Duration::from_millis(100);
/// How long to wait after the disk failed.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(200);
/// How long to wait after a bug, so that one that shows itself at once again does not fill the log.
const REST_AFTER_BUG: Duration = Duration::from_secs(1);
/// How often to look whether files of pages are needed that are there.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often to ask how much room the disk has.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The threads of an engine's journal.
#[derive(Debug)]
pub(crate) struct Keeper {
    stopping: Arc<AtomicBool>,
    syncer: Option<(SyncSender<()>, JoinHandle<()>)>,
    retirer: Option<(SyncSender<()>, JoinHandle<()>)>,
}

/// Rings for the syncer; one word waiting there is enough.
struct Bell {
    words: SyncSender<()>,
    is_awaited: Arc<AtomicBool>,
}

impl SyncBell for Bell {
    fn appended(&self) {
        let _ = self.words.try_send(());
    }

    fn awaited(&self) {
        if !self.is_awaited.swap(true, Ordering::AcqRel) {
            let _ = self.words.try_send(());
        }
    }
}

impl Keeper {
    /// Starts both threads, for an engine that was opened with a store.
    pub(crate) fn start(engine: &Arc<Engine>, disk: &Arc<DirectoryDisk>) -> io::Result<Self> {
        let stopping = Arc::<AtomicBool>::default();
        let mut keeper = Self { stopping: Arc::clone(&stopping), syncer: None, retirer: None };
        let (words, rings) = sync_channel(1);
        let is_awaited = Arc::<AtomicBool>::default();
        let bell = Bell { words: words.clone(), is_awaited: Arc::clone(&is_awaited) };
        if let Some(syncer) = Syncer::new(engine, Box::new(bell)) {
            let room = Room {
                engine: Arc::clone(engine),
                disk: Arc::clone(disk),
                looked_at: None,
                is_reserve_spent: false,
            };
            let work = Sync { syncer, rings, is_awaited, stopping: Arc::clone(&stopping), room };
            let thread =
                thread::Builder::new().name("leveret-syncer".to_owned()).spawn(move || work.run())?;
            keeper.syncer = Some((words, thread));
        }
        let (words, rings) = sync_channel(1);
        if let Some(retirer) = Retirer::new(engine, Box::new(WakeThread(words.clone()))) {
            let work = move || retire(retirer, &rings, &stopping);
            let thread = thread::Builder::new().name("leveret-retirer".to_owned()).spawn(work)?;
            keeper.retirer = Some((words, thread));
        }
        Ok(keeper)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The retirer ends with what the syncer has written last.
        for (words, thread) in self.syncer.take().into_iter().chain(self.retirer.take()) {
            let _ = words.try_send(());
            let _ = thread.join();
        }
    }
}

struct Sync {
    syncer: Syncer,
    rings: Receiver<()>,
    is_awaited: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
    room: Room,
}

impl Sync {
    fn run(mut self) {
        let mut has_failed = false;
        while !self.stopping.load(Ordering::Acquire) {
            if !self.wait() {
                break;
            }
            self.is_awaited.store(false, Ordering::Release);
            let advanced = catch_unwind(AssertUnwindSafe(|| self.syncer.advance()));
            match advanced {
                Ok(Ok(more)) => {
                    if std::mem::take(&mut has_failed) {
                        tracing::warn!(
                            "the data folder can be written again; nothing that was confirmed is lost"
                        );
                    }
                    self.is_awaited.fetch_or(more, Ordering::AcqRel);
                    self.room.look();
                }
                Ok(Err(error)) if self.room.makes_room(&error) => {
                    self.is_awaited.store(true, Ordering::Release);
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::error!(%error, "the data folder cannot be written; nothing is confirmed until it can");
                    }
                    self.room.raise();
                    thread::sleep(REST_AFTER_FAILURE);
                    self.is_awaited.store(true, Ordering::Release);
                }
                Err(_) => {
                    tracing::error!("a bug in the broker kept its journal from being written");
                    thread::sleep(REST_AFTER_BUG);
                }
            }
        }
        if let Err(error) = self.syncer.finish() {
            tracing::error!(%error, "what was not confirmed may be lost: the journal's end cannot be written");
        }
    }

    /// Waits until something is to be written. False when nobody will ring again.
    fn wait(&mut self) -> bool {
        if self.is_awaited.load(Ordering::Acquire) {
            return true;
        }
        loop {
            match self.rings.recv_timeout(self.room.next_look()) {
                Ok(()) => break,
                Err(RecvTimeoutError::Timeout) => self.room.look(),
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        let is_urgent = self.is_awaited.load(Ordering::Acquire) || self.stopping.load(Ordering::Acquire);
        // What nobody waits for is written with what comes meanwhile.
        is_urgent || !matches!(self.rings.recv_timeout(WRITE_WITHIN), Err(RecvTimeoutError::Disconnected))
    }
}

/// How much room the disk has.
struct Room {
    engine: Arc<Engine>,
    disk: Arc<DirectoryDisk>,
    looked_at: Option<Instant>,
    /// What was in reserve was given to consumers: publishers wait until as much is there again.
    is_reserve_spent: bool,
}

impl Room {
    fn look(&mut self) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        let limit = self.engine.config().disk_free_limit_octets;
        let Ok(free) = self.disk.free_octets() else { return };
        if free > limit.saturating_add(2 * RESERVE_OCTETS) {
            match self.disk.take_reserve() {
                Ok(()) => self.is_reserve_spent = false,
                Err(error) => tracing::debug!(%error, "no room can be taken for a full disk"),
            }
        }
        self.engine.set_disk_alarm(free < limit || self.is_reserve_spent);
    }

    /// The disk is full, and there was room in reserve, which can be written now. Publishers wait, so that
    /// it is there for what consumers say.
    fn makes_room(&mut self, error: &io::Error) -> bool {
        let has_reserve = error.kind() == io::ErrorKind::StorageFull && self.disk.give_up_reserve();
        if has_reserve {
            self.is_reserve_spent = true;
            self.raise();
            tracing::error!(
                "the data folder's disk is full; publishers wait, and {RESERVE_OCTETS} octets in reserve are \
                 there for acknowledgements"
            );
        }
        has_reserve
    }

    /// The disk takes nothing, whatever it says of its room.
    fn raise(&mut self) {
        self.looked_at = Some(Instant::now());
        self.engine.set_disk_alarm(true);
    }

    /// Whoever waits for room is not kept waiting, and nobody else is looked after.
    fn next_look(&self) -> Duration {
        if self.engine.is_alarmed() { LOOK_EVERY } else { Duration::from_secs(10) }
    }
}

fn retire(mut retirer: Retirer, rings: &Receiver<()>, stopping: &AtomicBool) {
    let mut has_failed = false;
    let mut rest = TIDY_EVERY;
    let mut tidied_at = Instant::now();
    loop {
        if let Err(RecvTimeoutError::Disconnected) = rings.recv_timeout(rest) {
            return;
        }
        if stopping.load(Ordering::Acquire) {
            break;
        }
        let advanced = catch_unwind(AssertUnwindSafe(|| {
            let more = retirer.advance()?;
            if tidied_at.elapsed() < TIDY_EVERY {
                return Ok(more);
            }
            tidied_at = Instant::now();
            retirer.tidy()
        }));
        rest = match advanced {
            Ok(Ok(more)) => {
                has_failed = false;
                if more { Duration::from_millis(10) } else { TIDY_EVERY }
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::error!(%error, "old parts of the journal cannot be cleared away");
                }
                REST_AFTER_BUG
            }
            Err(_) => {
                tracing::error!("a bug in the broker kept old parts of its journal from being cleared away");
                REST_AFTER_BUG
            }
        };
    }
    if let Err(error) = retirer.finish() {
        tracing::warn!(%error, "the journal could not be cleared away; the next start does it");
    }
}
