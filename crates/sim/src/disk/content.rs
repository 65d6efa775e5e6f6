//! The octets of one file: those that a reader sees, those on the platter, and the writes between them.
//!
//! Knows neither names nor faults. Invariant: what was synced is on the platter, and only a sync or chance
//! puts anything else there.

use std::{collections::BTreeMap, io, mem};

use super::{
    SECTOR_OCTETS,
    counts::{DiskCounts, Effect},
};
use crate::random::Random;

#[derive(Debug)]
struct Write {
    offset: usize,
    octets: Vec<u8>,
}

impl Write {
    fn end(&self) -> usize {
        self.offset + self.octets.len()
    }

    fn sectors(&self) -> impl Iterator<Item = usize> + use<> {
        self.offset / SECTOR_OCTETS..self.end().div_ceil(SECTOR_OCTETS)
    }

    /// Puts what it wrote between two offsets into an image that is long enough.
    fn overlay(&self, image: &mut [u8], from: usize, to: usize) {
        let (from, to) = (from.max(self.offset), to.min(self.end()));
        if from < to {
            image[from..to].copy_from_slice(&self.octets[from - self.offset..to - self.offset]);
        }
    }
}

/// What chance leaves of the writes to a file.
#[derive(Debug, Clone, Copy)]
enum Fate {
    All,
    Nothing,
    /// The first of them, and the beginning of the next one.
    Beginning,
    /// Sectors in any order, and a length that goes with none of them.
    Scattered,
}

const FATES: [(u64, Fate); 4] =
    [(1, Fate::All), (2, Fate::Nothing), (3, Fate::Beginning), (4, Fate::Scattered)];
/// How many of a hundred sectors are kept where they scatter; drawn for each file, so that now a few are
/// missing and now most.
const KEPT_PERCENT: [u64; 6] = [2, 20, 50, 80, 98, 99];
/// Of a thousand sectors that are lost from a file's new part so many hold octets of nobody's.
const STALE_PERMILLE: u64 = 100;

#[derive(Debug, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    platter: Vec<u8>,
    unsynced: Vec<Write>,
}

impl Content {
    /// The octets as a reader sees them.
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn read(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = self.seen.get(from..).and_then(|rest| rest.get(..octets.len()));
        octets.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write(&mut self, octets: &[u8], offset: usize) {
        if octets.is_empty() {
            return;
        }
        let write = Write { offset, octets: octets.to_vec() };
        apply(&write, &mut self.seen);
        self.unsynced.push(write);
    }

    pub(super) fn sync(&mut self) {
        // What an earlier sync failed to write is not among the writes, and so it is not written now.
        for write in mem::take(&mut self.unsynced) {
            apply(&write, &mut self.platter);
        }
    }

    /// A sync fails: what reached the platter is drawn, and nobody tries again. Readers see no difference.
    pub(super) fn fail_sync(&mut self, random: &mut Random, counts: &mut DiskCounts) {
        if !self.unsynced.is_empty() {
            counts.note(Effect::SyncFailed, 1);
            self.settle(random, counts);
        }
    }

    /// The power goes: what reached the platter is drawn, and is all that there is.
    pub(super) fn cut(&mut self, random: &mut Random, counts: &mut DiskCounts) {
        if !self.unsynced.is_empty() {
            let octets = self.seen.len();
            self.settle(random, counts);
            counts.note(Effect::LengthLost, u64::from(self.platter.len() < octets));
            let is_kept = self.platter.len() == octets && self.platter != self.seen;
            counts.note(Effect::LengthKept, u64::from(is_kept));
        }
        self.seen.clone_from(&self.platter);
    }

    /// Changes what is on the platter, and what is seen of it.
    pub(super) fn damage(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.sync();
        change(&mut self.platter);
        self.seen.clone_from(&self.platter);
    }

    fn settle(&mut self, random: &mut Random, counts: &mut DiskCounts) {
        let writes = mem::take(&mut self.unsynced);
        match random.weighted(&FATES) {
            Fate::All => self.keep_beginning(&writes, usize::MAX, counts),
            Fate::Nothing => self.keep_beginning(&writes, 0, counts),
            Fate::Beginning => {
                let sectors: usize = writes.iter().map(|write| write.sectors().count()).sum();
                self.keep_beginning(&writes, random.below(sectors + 1), counts);
            }
            Fate::Scattered => self.scatter(&writes, random, counts),
        }
    }

    /// Keeps so many sectors of the writes, in their order.
    fn keep_beginning(&mut self, writes: &[Write], mut sectors: usize, counts: &mut DiskCounts) {
        for write in writes {
            for sector in write.sectors() {
                if sectors == 0 {
                    counts.note(Effect::SectorLost, 1);
                    continue;
                }
                sectors -= 1;
                counts.note(Effect::SectorKept, 1);
                let to = write.end().min((sector + 1) * SECTOR_OCTETS);
                lengthen(&mut self.platter, to);
                write.overlay(&mut self.platter, sector * SECTOR_OCTETS, to);
            }
        }
    }

    fn scatter(&mut self, writes: &[Write], random: &mut Random, counts: &mut DiskCounts) {
        let synced_octets = self.platter.len();
        let octets = self.drawn_length(writes, random);
        let longest = writes.iter().map(Write::end).max().unwrap_or_default();
        lengthen(&mut self.platter, longest);
        let kept_percent = *random.pick(&KEPT_PERCENT);
        for (sector, writes) in by_sector(writes) {
            let kept = if random.percent(kept_percent) { writes.len() } else { random.below(writes.len()) };
            let from = sector * SECTOR_OCTETS;
            for write in &writes[..kept] {
                write.overlay(&mut self.platter, from, from + SECTOR_OCTETS);
            }
            counts.note(effect_of(kept, writes.len()), 1);
            if kept == 0 && from >= synced_octets && random.permille(STALE_PERMILLE) {
                counts.note(Effect::SectorStale, 1);
                let to = longest.min(from + SECTOR_OCTETS);
                fill(&mut self.platter[from..to], random);
            }
        }
        self.platter.truncate(octets);
    }

    /// The length synced, the length seen, or one between them, of a write's end or a sector's.
    fn drawn_length(&self, writes: &[Write], random: &mut Random) -> usize {
        let (least, most) = (self.platter.len(), self.seen.len().max(self.platter.len()));
        let drawn = match random.below(4) {
            0 => least,
            1 => most,
            2 => random.pick(writes).end(),
            _ => {
                let octets = random.between(least as u64, most as u64);
                usize::try_from(octets).unwrap_or(most).next_multiple_of(SECTOR_OCTETS)
            }
        };
        drawn.clamp(least, most)
    }
}

fn effect_of(kept: usize, writes: usize) -> Effect {
    match kept {
        0 => Effect::SectorLost,
        kept if kept == writes => Effect::SectorKept,
        _ => Effect::SectorOld,
    }
}

/// The writes to each sector, in their order.
fn by_sector(writes: &[Write]) -> BTreeMap<usize, Vec<&Write>> {
    let mut sectors: BTreeMap<usize, Vec<&Write>> = BTreeMap::new();
    for write in writes {
        for sector in write.sectors() {
            sectors.entry(sector).or_default().push(write);
        }
    }
    sectors
}

fn apply(write: &Write, image: &mut Vec<u8>) {
    lengthen(image, write.end());
    write.overlay(image, 0, usize::MAX);
}

fn lengthen(image: &mut Vec<u8>, octets: usize) {
    if image.len() < octets {
        image.resize(octets, 0);
    }
}

fn fill(octets: &mut [u8], random: &mut Random) {
    for part in octets.chunks_mut(8) {
        let drawn = random.between(0, u64::MAX).to_le_bytes();
        part.copy_from_slice(&drawn[..part.len()]);
    }
}
