//! Putting messages on pages: the newest runs of the queues that have any, until memory is below
//! its threshold again.
//!
//! A run is copied outside its queue's lock, with references of its own, and its page takes its
//! place only if the run is still there. Invariant: those references are given back whatever comes
//! of the page.

use std::{io, sync::Arc};

use super::{super::Engine, super::inbox::Wake, Cell};
use crate::{
    AwayRun, Location, Now, Ordinal, PagePlace, Run,
    store::{Disk, LastChunk, PageWriter, SpillWriter, Written, pages},
};

/// What is put away goes on until this share of the threshold, in percent, so that it is done for
/// more than a message at a time.
const CLEAR_PERCENT: u64 = 85;
/// Octets of pages that are written at once.
const WRITE_OCTETS: usize = 1024 * 1024;
/// What the buffer has room for: what is written at once, and a page that goes beyond it.
const BUFFER_OCTETS: usize = WRITE_OCTETS + WRITE_OCTETS / 4;
/// A buffer that was larger is not kept for the next pages.
const BUFFER_OCTETS_MAX: usize = 4 * WRITE_OCTETS;
/// Runs taken of a queue before others have their turn, and queues looked at in one turn.
const QUEUE_RUNS_MAX: usize = 16;
const TURN_QUEUES_MAX: usize = 64;
/// A record of more KiB is not copied for each of several queues.
const SHARED_KIBIBYTES_MAX: u32 = 64;
/// How long to wait after the disk took nothing.
const REST_MILLIS: u64 = 1000;

/// A page that is to be written, and what is on it.
struct Pending {
    queue: Cell,
    run: Run,
    written: Written,
}

/// Writes pages.
pub struct Spiller {
    engine: Arc<Engine>,
    writer: SpillWriter,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    /// The serial of the queue that was looked at last.
    last_queue: u64,
    /// Memory went above its threshold and is not low enough yet.
    is_spilling: bool,
    /// The disk took nothing, and is tried again then.
    rests_until_millis: Option<u64>,
}

impl Spiller {
    /// The spiller of an engine, which wakes it by `waker`. There is to be one. What an earlier run
    /// of the broker has put away is removed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn new(engine: &Arc<Engine>, disk: Arc<dyn Disk>, waker: Box<dyn Wake>) -> io::Result<Self> {
        pages::remove_spilled(&*disk)?;
        let _ = engine.paging.spiller.waker.set(waker);
        Ok(Self {
            engine: Arc::clone(engine),
            writer: SpillWriter::new(disk),
            buffer: Vec::new(),
            pending: Vec::new(),
            last_queue: 0,
            is_spilling: false,
            rests_until_millis: None,
        })
    }

    /// When to call [`Spiller::advance`] though nobody woke it, by the monotonic clock.
    #[must_use]
    pub const fn next_deadline_millis(&self) -> Option<u64> {
        self.rests_until_millis
    }

    /// Writes what there is too much of, and removes files that nobody needs. True when there is
    /// more to do at once. May wait for the disk.
    pub fn advance(&mut self, now: Now) -> bool {
        let paging = &self.engine.paging;
        paging.spiller.answer();
        self.writer.tidy(&paging.files);
        paging.files.remove_dead(self.writer.disk());
        if self.rests_until_millis.is_some_and(|until| now.monotonic_millis < until) {
            return false;
        }
        self.rests_until_millis = None;
        if !self.is_due() {
            return false;
        }
        self.buffer.reserve_exact(BUFFER_OCTETS);
        let found = self.collect();
        let written = found.and_then(|found| self.write().map(|()| found));
        self.note_outcome(&written, now);
        let has_more = written.unwrap_or(false) && self.is_due();
        if !has_more {
            // It may be long until the next page, and the buffer has grown to megabytes.
            self.buffer = Vec::new();
        }
        has_more
    }

    /// Whether memory is above its threshold, or was and is not low enough yet.
    fn is_due(&mut self) -> bool {
        let Some(threshold) = self.engine.paging.threshold_octets else { return false };
        let octets = self.engine.memory_octets();
        let bound = if self.is_spilling { threshold / 100 * CLEAR_PERCENT } else { threshold };
        self.is_spilling = octets > bound;
        self.is_spilling
    }

    /// Makes pages of runs, and writes when there are enough. False when no queue has any.
    fn collect(&mut self) -> io::Result<bool> {
        for _ in 0..TURN_QUEUES_MAX {
            let Some((serial, queue)) = self.engine.paging.spillable_behind(self.last_queue) else {
                return Ok(false);
            };
            self.last_queue = serial;
            let Some(queue) = queue.upgrade() else {
                self.engine.paging.remove_spillable(serial);
                continue;
            };
            let mut runs = queue.take_sealed(&self.engine, QUEUE_RUNS_MAX).into_iter();
            while let Some(run) = runs.next() {
                self.add_page(&queue, run);
                if self.buffer.len() >= WRITE_OCTETS
                    && let Err(error) = self.write()
                {
                    runs.for_each(|run| self.engine.release(run.locations));
                    return Err(error);
                }
            }
            if self.buffer.len() >= WRITE_OCTETS / 2 {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Makes a page of a run, unless that would copy large records that others hold as well.
    fn add_page(&mut self, queue: &Cell, run: Run) {
        let log = &self.engine.log;
        // One reference is the queue's, one is ours.
        let is_shared = |location: Location| {
            location.size_kibibytes() > SHARED_KIBIBYTES_MAX && log.references(location) > 2
        };
        if run.locations.iter().copied().any(is_shared) {
            queue.keep_here(run.first);
            return self.engine.release(run.locations);
        }
        let messages = u32::try_from(run.locations.len()).expect("a run is far below 2^32 messages");
        let mut writer = PageWriter::begin(&mut self.buffer, queue.serial, run.first, messages);
        let mut last_chunk = LastChunk::default();
        for (ordinal, &location) in (run.first.0..).zip(&run.locations) {
            writer.add(Ordinal(ordinal), location, last_chunk.find(log, location).raw(location));
        }
        let written = writer.finish();
        self.pending.push(Pending { queue: Arc::clone(queue), run, written });
    }

    /// Writes the pages, and lets each take the place of its run.
    fn write(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let files = &self.engine.paging.files;
        let place = self.writer.write(files, &self.buffer, self.pending.len() as u64);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_OCTETS_MAX);
        let (file, mut offset) = match place {
            Ok(place) => place,
            Err(error) => {
                let unwritten = self.pending.drain(..);
                unwritten.for_each(|pending| self.engine.release(pending.run.locations));
                return Err(error);
            }
        };
        for Pending { queue, run, written } in self.pending.drain(..) {
            let Written { octets, last, body_octets } = written;
            let messages = u32::try_from(run.locations.len()).expect("it was counted before");
            let page = PagePlace { file, octets, offset };
            offset += u64::from(octets);
            let away = AwayRun { first: run.first, last, messages, body_octets, page };
            match queue.put_away(away) {
                Some(locations) => self.engine.release(locations),
                None => self.engine.paging.give_back([away]),
            }
            self.engine.release(run.locations);
        }
        Ok(())
    }

    /// Says once that the disk takes nothing, and once that it does again.
    fn note_outcome(&mut self, outcome: &io::Result<bool>, now: Now) {
        let is_failing = &self.engine.paging.is_failing;
        let failed_before = is_failing.swap(outcome.is_err(), std::sync::atomic::Ordering::Relaxed);
        match outcome {
            Err(error) => {
                self.rests_until_millis = Some(now.monotonic_millis + REST_MILLIS);
                if !failed_before {
                    tracing::error!(%error, "messages cannot be put on disk and stay in memory");
                }
            }
            Ok(_) if failed_before => tracing::info!("messages can be put on disk again"),
            Ok(_) => {}
        }
    }
}

impl std::fmt::Debug for Spiller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spiller").field("writer", &self.writer).finish_non_exhaustive()
    }
}
