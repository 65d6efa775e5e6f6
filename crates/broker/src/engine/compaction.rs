//! Files of pages that are mostly dead: what still lives in them is brought together elsewhere, so that
//! one old message does not keep the room of millions that went.
//!
//! Works on what durable queues say of their pages, while they go on. Invariant: a queue gives up a page
//! only for one with the same living messages, which is on stable storage.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::durability::DurableQueue;
use crate::{
    AwayRun,
    planted::{self, Bug},
    store::{
        Disk,
        journal::QueueNumber,
        kept::{KeptMessage, KeptWriter, kept_name, kept_number},
        page,
    },
};

/// A file is worn when less than this share of it lives, in percent.
const WORN_PERCENT: u64 = 25;

/// Durable queues by their numbers.
pub(super) type Queues = BTreeMap<QueueNumber, Arc<DurableQueue>>;

/// What could be had back.
#[derive(Debug, Default)]
pub(super) struct Wear {
    /// Octets that nobody needs.
    pub(super) garbage_octets: u64,
    /// Files of which little lives.
    worn: BTreeSet<u32>,
}

/// Looks at all files of pages with numbers below that.
pub(super) fn wear(disk: &dyn Disk, queues: &Queues, below: u32) -> io::Result<Wear> {
    let mut living: BTreeMap<u32, u64> = BTreeMap::new();
    for queue in queues.values() {
        queue.count_living(&mut living);
    }
    let mut wear = Wear::default();
    for name in disk.list()? {
        let Some(number) = kept_number(&name).filter(|number| *number < below) else { continue };
        let octets = disk.open(&name)?.octets()?;
        let living = living.get(&number).copied().unwrap_or(0).min(octets);
        if living * 100 < octets * WORN_PERCENT {
            wear.garbage_octets += octets - living;
            if living > 0 {
                wear.worn.insert(number);
            }
        }
    }
    Ok(wear)
}

/// Brings what lives in worn files to a new one of that number.
///
/// # Errors
/// What the disk says; then queues have what they had.
pub(super) fn rewrite(disk: &dyn Disk, queues: &Queues, wear: &Wear, file_number: u32) -> io::Result<()> {
    if wear.worn.is_empty() {
        return Ok(());
    }
    let mut given_up: Vec<(&Arc<DurableQueue>, Vec<AwayRun>)> = Vec::new();
    let pages = KeptWriter::write(disk, file_number, |writer| {
        for (&number, queue) in queues {
            let runs = queue.kept_in(&wear.worn);
            let mut read = Vec::new();
            for run in runs {
                if rewrite_page(disk, number, queue, &run, writer)? {
                    read.push(run);
                }
            }
            if !read.is_empty() {
                given_up.push((queue, read));
            }
        }
        Ok(())
    })?;
    let mut new: BTreeMap<QueueNumber, Vec<AwayRun>> = BTreeMap::new();
    for page in pages {
        new.entry(page.queue).or_default().push(page.run);
    }
    for (queue, runs) in given_up {
        queue.forget(&runs);
    }
    for (number, runs) in new {
        if planted::is(Bug::LivingNotRewritten) {
            continue;
        }
        runs.into_iter().for_each(|run| queues[&number].keep(run));
    }
    Ok(())
}

/// False when the page is damaged: then it stays, and is told of when it is wanted.
fn rewrite_page(
    disk: &dyn Disk,
    number: QueueNumber,
    queue: &DurableQueue,
    run: &AwayRun,
    writer: &mut KeptWriter,
) -> io::Result<bool> {
    let mut octets = vec![0; run.page.octets as usize];
    disk.open(&kept_name(run.page.file))?.read_at(&mut octets, run.page.offset)?;
    let Ok(entries) = page::entries(&octets, number.0, run) else { return Ok(false) };
    let living = entries.iter().filter(|entry| !queue.has_left(entry.ordinal));
    let messages: Vec<_> = living.map(|entry| KeptMessage::of_page(&octets, entry)).collect();
    writer.add(number, &messages)?;
    Ok(true)
}
