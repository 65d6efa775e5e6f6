//! Taking messages back from pages: those that queues want, a page of each in turn.
//!
//! Invariant: a page that is read, damaged or not, leaves its queue and is given back; what is lost
//! with it is said, with the queue and the count.

use std::sync::Arc;

use super::{
    super::{Engine, dead_letters::Undertaker, inbox::Wake, queue_cell::Scratch},
    Cell,
};
use crate::{
    AwayRun, Now, Run,
    store::page::{self, PageEntry},
};

/// Pages read in one turn.
const TURN_PAGES_MAX: usize = 32;
/// Dead letters put into queues in one turn.
const TURN_APPENDS_MAX: usize = 16 * 1024;

/// Reads pages.
pub struct Loader {
    engine: Arc<Engine>,
    scratch: Scratch,
    undertaker: Undertaker,
}

impl Loader {
    /// The loader of an engine, which wakes it by `waker`. There is to be one.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, waker: Box<dyn Wake>) -> Self {
        let _ = engine.paging.loader.waker.set(waker);
        Self { engine: Arc::clone(engine), scratch: Scratch::default(), undertaker: Undertaker::default() }
    }

    /// Reads pages that queues want. True when there is more to do at once. May wait for the disk.
    pub fn advance(&mut self, now: Now) -> bool {
        self.scratch.now = now;
        self.engine.paging.loader.answer();
        for _ in 0..TURN_PAGES_MAX {
            let Some(queue) = self.engine.paging.wanting.lock().pop_front() else { break };
            let Some(queue) = queue.upgrade() else { continue };
            let Some(away) = queue.next_away() else { continue };
            self.load(&queue, away);
            // It may want the next one, after others had theirs.
            self.engine.paging.add_wanting(Arc::downgrade(&queue));
        }
        let dead = self.undertaker.work(&self.engine, &mut self.scratch, now, TURN_APPENDS_MAX);
        dead || !self.engine.paging.wanting.lock().is_empty()
    }

    fn load(&mut self, queue: &Cell, away: AwayRun) {
        let read = self.read(queue, &away);
        let (mut runs, problem) = match read {
            Ok(runs) => (runs, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        if !queue.supply(&self.engine, &mut self.scratch, &away, &mut runs) {
            // The queue was purged or deleted, and its pages were given back.
            return runs.into_iter().for_each(|run| self.engine.release(run.locations));
        }
        self.engine.paging.give_back([away]);
        if let Some(problem) = problem {
            self.engine.paging.files.note_damage(away.page.file);
            let vhost = queue.vhost.upgrade();
            tracing::error!(
                queue = &*queue.name,
                vhost = vhost.as_ref().map_or("", |vhost| &vhost.name),
                messages = away.messages,
                "messages are lost, because their page cannot be read: {problem}"
            );
        }
    }

    /// Puts a page's messages into the log.
    fn read(&self, queue: &Cell, away: &AwayRun) -> Result<Vec<Run>, String> {
        let octets = self.engine.paging.files.read(away.page).map_err(|error| error.to_string())?;
        let entries = page::entries(&octets, queue.serial, away).map_err(|damage| damage.to_string())?;
        let lengths: Vec<_> = entries.iter().map(|entry| page::record_octets(&octets, entry)).collect();
        let first = self.engine.log.append_page(octets, entries.iter().map(|entry| entry.offset));
        self.engine.alarm.grown();
        Ok(runs(&entries, &lengths, first))
    }
}

/// Messages with numbers that follow one another stand in one run.
fn runs(entries: &[PageEntry], lengths: &[usize], first: crate::Location) -> Vec<Run> {
    let mut number = 0;
    let runs = entries.chunk_by(|one, other| one.ordinal.0 + 1 == other.ordinal.0).map(|chunk| {
        let locations = chunk.iter().map(|entry| {
            let location = first.plus(number).of_octets(lengths[number]).expiring(entry.expires);
            number += 1;
            if entry.redelivered { location.as_redelivered() } else { location }
        });
        Run { first: chunk[0].ordinal, locations: locations.collect() }
    });
    runs.collect()
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").finish_non_exhaustive()
    }
}
