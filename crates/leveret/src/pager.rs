//! The threads that wait for the disk: one writes messages that memory has no room for, one reads
//! them back.
//!
//! Two, so that who waits for a page does not wait for what is written. Invariant: when the [`Pager`] is
//! dropped both have ended, and what they put away is removed.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use leveret_broker::{
    Now,
    engine::{Engine, Loader, Spiller, Wake},
    store::{Disk, pages::remove_spilled},
};

use crate::clock::Clock;

/// A bug that shows itself at once again does not fill the log.
const REST_AFTER_BUG: Duration = Duration::from_secs(1);
/// How long a worker waits when nobody wakes it and nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// The threads of an engine's pages.
#[derive(Debug)]
pub(crate) struct Pager {
    disk: Arc<dyn Disk>,
    stopping: Arc<AtomicBool>,
    bells: Vec<SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Wakes a thread that waits at the other end; one word waiting there is enough.
pub(crate) struct WakeThread(pub(crate) SyncSender<()>);

impl Wake for WakeThread {
    fn wake(&self) {
        let _ = self.0.try_send(());
    }
}

/// What a thread does in one turn, and when it is to be called though nobody wakes it.
trait Worker: Send + 'static {
    fn advance(&mut self, now: Now) -> bool;
    fn next_deadline_millis(&self) -> Option<u64>;
}

impl Worker for Spiller {
    fn advance(&mut self, now: Now) -> bool {
        self.advance(now)
    }

    fn next_deadline_millis(&self) -> Option<u64> {
        self.next_deadline_millis()
    }
}

impl Worker for Loader {
    fn advance(&mut self, now: Now) -> bool {
        self.advance(now)
    }

    fn next_deadline_millis(&self) -> Option<u64> {
        None
    }
}

impl Pager {
    /// Starts both threads. What an earlier run of the broker has put away is removed.
    pub(crate) fn start(engine: &Arc<Engine>, disk: Arc<dyn Disk>, clock: Clock) -> io::Result<Self> {
        let stopping = Arc::default();
        let mut pager = Self { disk: Arc::clone(&disk), stopping, bells: Vec::new(), threads: Vec::new() };
        let (bell, rings) = sync_channel(1);
        let spiller = Spiller::new(engine, disk, Box::new(WakeThread(bell.clone())))?;
        pager.spawn("leveret-spiller", spiller, bell, rings, clock)?;
        let (bell, rings) = sync_channel(1);
        let loader = Loader::new(engine, Box::new(WakeThread(bell.clone())));
        pager.spawn("leveret-loader", loader, bell, rings, clock)?;
        Ok(pager)
    }

    fn spawn(
        &mut self,
        name: &str,
        worker: impl Worker,
        bell: SyncSender<()>,
        rings: Receiver<()>,
        clock: Clock,
    ) -> io::Result<()> {
        let stopping = Arc::clone(&self.stopping);
        let work = move || work(worker, &rings, &stopping, clock);
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(work)?);
        self.bells.push(bell);
        Ok(())
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        for bell in &self.bells {
            let _ = bell.try_send(());
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // They mean nothing to anybody else. What cannot be removed is removed at the next start.
        let _ = remove_spilled(&*self.disk);
    }
}

fn work(mut worker: impl Worker, rings: &Receiver<()>, stopping: &AtomicBool, clock: Clock) {
    while !stopping.load(Ordering::Acquire) {
        // A bug of ours costs what was under way, and not every other queue's pages.
        let advanced = catch_unwind(AssertUnwindSafe(|| worker.advance(clock.now())));
        let rest = match advanced {
            Ok(true) => continue,
            Ok(false) => worker.next_deadline_millis().map_or(LOOK_EVERY, |at| clock.until(at)),
            Err(_) => {
                tracing::error!("a bug in the broker kept messages from being put on disk or read back");
                REST_AFTER_BUG
            }
        };
        match rings.recv_timeout(rest.min(LOOK_EVERY)) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
