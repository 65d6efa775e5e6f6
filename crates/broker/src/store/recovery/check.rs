//! Looking a folder over: all that is in it is read, and nothing is changed.
//!
//! Reads what a recovery reads, and the pages that a recovery leaves for later. Invariant: what is
//! counted as there was read whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{
    Damage,
    survey::{Survey, read_page},
};
use crate::store::{disk::Disk, journal::QueueNumber, record::Record};

/// Messages of a queue that are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many.
    pub count: u64,
    /// Octets of their bodies.
    pub body_octets: u64,
}

impl Messages {
    fn add(&mut self, record: &Record<'_>) {
        self.count += 1;
        self.body_octets += record.body_octets as u64;
    }
}

/// What a folder has.
#[derive(Debug)]
pub struct Check {
    /// What is wrong.
    pub damage: Damage,
    /// The definitions, by their keys.
    pub definitions: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Messages by queues; one that has none is not there.
    pub queues: BTreeMap<QueueNumber, Messages>,
    /// The highest number of a snapshot; 0 where there is none.
    pub snapshot_number: u64,
    /// Segments of the journal that the snapshot does not have in it.
    pub segments: usize,
}

/// Reads all that is in a folder. `known_queues` says which queues definitions know; what is of others
/// is not counted.
///
/// # Errors
/// What the disk says, and [`io::ErrorKind::InvalidData`] for files of a newer version.
pub fn check(
    disk: &dyn Disk,
    known_queues: impl FnOnce(&BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeSet<QueueNumber>,
) -> io::Result<Check> {
    let mut survey = Survey::read(disk)?;
    let known = known_queues(survey.definitions());
    survey.retain_queues(&known);
    let mut queues: BTreeMap<QueueNumber, Messages> = BTreeMap::new();
    let segments = survey.fresh_segments();
    for segment in &segments {
        let survivors = survey.with_retirement(&known, |retirement| retirement.survivors(*segment))?;
        for (queue, record) in survivors.iter() {
            queues.entry(queue).or_default().add(&Record::at(record, 0));
        }
        survey.damage.lose(survivors.losses);
    }
    for (&queue, state) in &survey.snapshot.queues {
        for run in &state.kept {
            if state.gone.covers(run.range()) {
                continue;
            }
            let page = read_page(disk, queue, state, run, &mut survey.damage)?;
            let Some((octets, entries)) = page else { continue };
            for entry in entries.iter().filter(|entry| !state.gone.contains(entry.ordinal.0)) {
                queues.entry(queue).or_default().add(&Record::at(&octets, entry.offset as usize));
            }
        }
    }
    Ok(Check {
        damage: survey.damage,
        definitions: survey.snapshot.definitions,
        queues,
        snapshot_number: survey.snapshot_number,
        segments: segments.len(),
    })
}
