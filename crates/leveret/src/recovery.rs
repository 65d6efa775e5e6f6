//! A data folder at the start: brought into order, with word of how far that is and of what is
//! damaged.
//!
//! What is in the folder is for `leveret-broker` to know. Invariant: nobody is told anything once the
//! start is over.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use leveret_broker::{
    engine::Store,
    store::{Disk as _, recovery::Damage},
};

use crate::{StartError, disk::DirectoryDisk};

/// After so long a start says how far it is, and again each time that this has passed.
pub(crate) const TELL_AFTER: Duration = Duration::from_secs(2);

/// How far a start is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoFar {
    /// Since it began.
    elapsed: Duration,
    /// Octets that were read.
    octets_read: u64,
    /// Octets of all files that were there when it began. Most are read once, the journal twice, and
    /// pages of messages that stay where they are not at all.
    octets_there: u64,
}

/// Tells how far a start is, until this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Closed when it is over.
    running: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Tells it each time that `every` has passed. Where there is no thread to be had nothing is told.
    pub(crate) fn watch(
        disk: &Arc<DirectoryDisk>,
        every: Duration,
        tell: impl Fn(SoFar) + Send + 'static,
    ) -> Self {
        let (running, over) = mpsc::channel::<()>();
        let (disk, begin) = (Arc::clone(disk), Instant::now());
        let log = tracing::dispatcher::get_default(Clone::clone);
        let watch = move || {
            let octets_there = octets_of(&disk);
            while over.recv_timeout(every) == Err(mpsc::RecvTimeoutError::Timeout) {
                let (elapsed, octets_read) = (begin.elapsed(), disk.octets_read());
                let so_far = SoFar { elapsed, octets_read, octets_there };
                tracing::dispatcher::with_default(&log, || tell(so_far));
            }
        };
        let thread = thread::Builder::new().name("leveret-start".to_owned()).spawn(watch).ok();
        Self { running: Some(running), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // It tells what it is told to tell, and a panic there is not for a start to end by.
            let _ = thread.join();
        }
    }
}

/// Octets of the files that can be looked at.
fn octets_of(disk: &DirectoryDisk) -> u64 {
    let octets = |name: &String| disk.open(name).and_then(|file| file.octets());
    disk.list().unwrap_or_default().iter().filter_map(|name| octets(name).ok()).sum()
}

/// Writes it to the log.
pub(crate) fn tell(so_far: SoFar) {
    const MIB: u64 = 1024 * 1024;
    let SoFar { elapsed, octets_read, octets_there } = so_far;
    tracing::info!(
        seconds = elapsed.as_secs(),
        "still starting: {} MiB are read of a data folder of {} MiB",
        octets_read / MIB,
        octets_there / MIB
    );
}

/// What an earlier run left in the folder, brought into order. What is damaged of it is told.
///
/// # Errors
/// [`StartError::Store`] for what the disk says, or a file of a newer version.
pub(crate) fn recover(disk: &Arc<DirectoryDisk>) -> Result<Store, StartError> {
    let begin = Instant::now();
    let open = || Store::open(Arc::<DirectoryDisk>::clone(disk));
    let opened = match open() {
        Err(error) if error.kind() == io::ErrorKind::StorageFull && disk.give_up_reserve() => open(),
        opened => opened,
    };
    let store = opened.map_err(|source| StartError::Store { source })?;
    tell_damage(&store, store.damage());
    tracing::info!(
        milliseconds = begin.elapsed().as_millis(),
        "the data folder {} is read",
        disk.path().display()
    );
    Ok(store)
}

fn tell_damage(store: &Store, damage: &Damage) {
    for (number, messages) in &damage.lost {
        let (queue, vhost) = store.queue_name(*number).unwrap_or_default();
        tracing::error!(queue, vhost, messages, "messages are lost, because what they stood in is damaged");
    }
    for (file, octets) in &damage.files {
        tracing::error!(file, octets, "a file is damaged; what is whole in it is used");
    }
    if damage.torn_octets > 0 {
        let octets = damage.torn_octets;
        tracing::warn!(
            octets,
            "the end of the journal was not written whole; nobody was told that it was there"
        );
    }
    if damage.no_snapshot {
        tracing::error!("no snapshot is whole: what was declared before the oldest journal is lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Syncing;

    #[test]
    fn a_start_that_takes_long_says_how_far_it_is_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(DirectoryDisk::open(folder.path(), Syncing::Skipped).unwrap());
        let file = disk.create("some-file").unwrap();
        file.write_at(&[7; 5000], 0).unwrap();
        let (teller, told) = mpsc::channel();
        let progress = Progress::watch(&disk, Duration::from_millis(1), move |so_far| {
            let _ = teller.send(so_far);
        });
        let first = told.recv().unwrap();
        assert_eq!((first.octets_read, first.octets_there), (0, 5000));
        file.read_at(&mut [0; 3000], 0).unwrap();
        let later = told.iter().find(|so_far| so_far.octets_read > 0).unwrap();
        assert_eq!(later.octets_read, 3000);
        assert!(later.elapsed > first.elapsed);
        drop(progress);
        // What it told before is there still, and then the channel is closed.
        assert!(told.iter().all(|so_far| so_far.octets_read == 3000));
    }
}
