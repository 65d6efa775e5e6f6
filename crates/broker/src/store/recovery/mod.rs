//! What is there after a start: the newest snapshot, and what the journal has behind it.
//!
//! All that lives is brought to pages and a new snapshot, so that the journal begins anew; this is
//! what retiring a segment does while the broker runs. Damage costs what it hit, is counted by queue
//! where that is known, and keeps nothing else from being served. Invariant: what was synced and is
//! whole is there again, and nothing else.

pub mod check;
mod keep;
mod superfluous;
pub mod survey;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use self::{keep::Keeping, survey::Survey};
use super::{disk::Disk, journal::QueueNumber, pages::remove_spilled, retire::Losses, snapshot::Snapshot};

pub use superfluous::remove_superfluous;

/// Which queues the definitions know, by their numbers.
pub type KnownQueues<'a> = &'a dyn Fn(&BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeSet<QueueNumber>;

/// What a recovery found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The state, which is on disk as a snapshot now.
    pub snapshot: Snapshot,
    /// Its number.
    pub snapshot_number: u64,
    /// What was wrong, if anything was.
    pub damage: Damage,
}

/// What was lost, and what may have been.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Messages that are lost, by their queues.
    pub lost: Losses,
    /// Files that are damaged, and how many octets of each.
    pub files: BTreeMap<String, u64>,
    /// Octets at the journal's end that were not whole. Nobody was told that they were there.
    pub torn_octets: u64,
    /// No snapshot is whole though there should be one: definitions may be lost.
    pub no_snapshot: bool,
}

impl Damage {
    pub(super) fn note(&mut self, name: &str, octets: u64) {
        *self.files.entry(name.to_owned()).or_default() += octets;
    }

    pub(super) fn lose(&mut self, losses: Losses) {
        for (queue, messages) in losses {
            *self.lost.entry(queue).or_default() += messages;
        }
    }
}

/// Brings the folder into order and says what is in it.
///
/// # Errors
/// What the disk says, and [`io::ErrorKind::InvalidData`] for files of a newer version.
pub fn recover(disk: &dyn Disk, known_queues: KnownQueues<'_>) -> io::Result<Recovered> {
    remove_spilled(disk)?;
    let mut survey = Survey::read(disk)?;
    let known = known_queues(survey.definitions());
    let mut keeping = Keeping::new(&mut survey, disk, known);
    keeping.keep_living()?;
    keeping.tidy_pages(disk, false)?;
    let snapshot_number = keeping.write_snapshot()?;
    keeping.clear_away(snapshot_number);
    Ok(Recovered { snapshot: survey.snapshot, snapshot_number, damage: survey.damage })
}

/// Writes what a folder has to another one, which is empty, so that a broker can start there, and says
/// what was wrong. Nothing in the first one is changed.
///
/// # Errors
/// As [`recover`].
pub fn copy(from: &dyn Disk, into: &dyn Disk, known_queues: KnownQueues<'_>) -> io::Result<Damage> {
    let mut survey = Survey::read(from)?;
    let known = known_queues(survey.definitions());
    let mut keeping = Keeping::new(&mut survey, into, known);
    keeping.tidy_pages(from, true)?;
    keeping.keep_living()?;
    keeping.tidy_pages(into, false)?;
    keeping.write_snapshot()?;
    Ok(survey.damage)
}
