//! The names of files: those that a reader sees, those on the platter, and the changes between them.
//!
//! Knows numbers of files, not what is in them. Invariant: what was synced is on the platter, and only a
//! sync or chance puts anything else there.

use std::{collections::BTreeMap, mem};

use super::counts::{DiskCounts, Effect};
use crate::random::Random;

/// A file's number, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InodeId(pub(super) u64);

type Folder = BTreeMap<String, InodeId>;

#[derive(Debug, Clone)]
enum Change {
    Made { name: String, inode: InodeId },
    Renamed { from: String, to: String, inode: InodeId },
    Removed { name: String },
}

impl Change {
    fn apply(&self, folder: &mut Folder) {
        match self {
            Self::Made { name, inode } => drop(folder.insert(name.clone(), *inode)),
            Self::Renamed { from, to, inode } => {
                folder.insert(to.clone(), *inode);
                // Its earlier name may be another file's by now.
                if folder.get(from) == Some(inode) {
                    folder.remove(from);
                }
            }
            Self::Removed { name } => drop(folder.remove(name)),
        }
    }

    const fn inode(&self) -> Option<InodeId> {
        match self {
            Self::Made { inode, .. } | Self::Renamed { inode, .. } => Some(*inode),
            Self::Removed { .. } => None,
        }
    }

    const fn loss(&self) -> Effect {
        match self {
            Self::Made { .. } => Effect::MadeLost,
            Self::Renamed { .. } => Effect::RenameLost,
            Self::Removed { .. } => Effect::RemovalLost,
        }
    }
}

/// What chance leaves of the changes.
#[derive(Debug, Clone, Copy)]
enum Fate {
    All,
    Nothing,
    Beginning,
    /// Each by itself.
    Scattered,
}

const FATES: [(u64, Fate); 4] =
    [(2, Fate::All), (2, Fate::Nothing), (3, Fate::Beginning), (3, Fate::Scattered)];
/// How many of a hundred renames that are kept leave the earlier name there too.
const TORN_PERCENT: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct Names {
    seen: Folder,
    platter: Folder,
    unsynced: Vec<Change>,
}

impl Names {
    /// The names as a reader sees them.
    pub(super) const fn seen(&self) -> &Folder {
        &self.seen
    }

    pub(super) fn make(&mut self, name: &str, inode: InodeId) {
        self.change(Change::Made { name: name.to_owned(), inode });
    }

    /// Gives a file that is there another name.
    pub(super) fn rename(&mut self, from: &str, to: &str, inode: InodeId) {
        // A file that takes its own name stays as it is.
        if from != to {
            self.change(Change::Renamed { from: from.to_owned(), to: to.to_owned(), inode });
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Removed { name: name.to_owned() });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.platter.clone_from(&self.seen);
        self.unsynced.clear();
    }

    /// Whether the file has a name, or could have one after a power cut.
    pub(super) fn can_have(&self, inode: InodeId) -> bool {
        self.seen.values().chain(self.platter.values()).any(|other| *other == inode)
            || self.unsynced.iter().any(|change| change.inode() == Some(inode))
    }

    /// The power goes: which changes reached the platter is drawn.
    pub(super) fn cut(&mut self, random: &mut Random, counts: &mut DiskCounts) {
        let changes = mem::take(&mut self.unsynced);
        if !changes.is_empty() {
            let fate = random.weighted(&FATES);
            let beginning = random.below(changes.len() + 1);
            let mut is_one_lost = false;
            for (at, change) in changes.iter().enumerate() {
                let is_kept = match fate {
                    Fate::All => true,
                    Fate::Nothing => false,
                    Fate::Beginning => at < beginning,
                    Fate::Scattered => random.percent(50),
                };
                if is_kept {
                    self.keep(change, random, counts);
                    counts.note(Effect::NamesReordered, u64::from(is_one_lost));
                } else {
                    counts.note(change.loss(), 1);
                    is_one_lost = true;
                }
            }
        }
        self.seen.clone_from(&self.platter);
    }

    fn keep(&mut self, change: &Change, random: &mut Random, counts: &mut DiskCounts) {
        match change {
            Change::Renamed { from, to, inode }
                if self.platter.get(from) == Some(inode) && random.percent(TORN_PERCENT) =>
            {
                counts.note(Effect::RenameTorn, 1);
                self.platter.insert(to.clone(), *inode);
            }
            _ => change.apply(&mut self.platter),
        }
    }
}
