//! What a disk is asked for, how it can fail, and how often each of it happened.
//!
//! Decides nothing. Invariant: every operation, fault, effect and crash point is counted when it happens.

use std::{collections::BTreeMap, fmt};

/// What a disk is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// The names of all files.
    List,
    /// A new file.
    Create,
    /// A file that is there.
    Open,
    /// Another name.
    Rename,
    /// A name that goes.
    Remove,
    /// Names that are to survive.
    SyncNames,
    /// How much still fits.
    FreeOctets,
    /// A file's length.
    Octets,
    /// Octets of a file.
    Read,
    /// Octets into a file.
    Write,
    /// Octets and a length that are to survive.
    Sync,
}

impl Operation {
    /// Every operation.
    pub const ALL: &'static [Self] = &[
        Self::List,
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::Remove,
        Self::SyncNames,
        Self::FreeOctets,
        Self::Octets,
        Self::Read,
        Self::Write,
        Self::Sync,
    ];

    /// How it can fail.
    #[must_use]
    pub const fn faults(self) -> &'static [Fault] {
        match self {
            Self::Write => &[Fault::InputOutput, Fault::NoRoom, Fault::ShortWrite],
            Self::Create | Self::Rename | Self::Sync | Self::SyncNames => {
                &[Fault::InputOutput, Fault::NoRoom]
            }
            Self::List | Self::Open | Self::Remove | Self::FreeOctets | Self::Octets | Self::Read => {
                &[Fault::InputOutput]
            }
        }
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The disk cannot do it: EIO. Nothing is written.
    InputOutput,
    /// There is no room: ENOSPC. Of a write the beginning may be there.
    NoRoom,
    /// The beginning of a write is there, and then the disk cannot go on: EIO.
    ShortWrite,
}

/// What became of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The power was cut.
    PowerCut,
    /// A sector kept what was not synced.
    SectorKept,
    /// A sector lost all that was written to it.
    SectorLost,
    /// A sector kept an earlier write and lost a later one.
    SectorOld,
    /// A sector that the file had not had before holds octets of nobody's.
    SectorStale,
    /// A file is shorter than it was.
    LengthLost,
    /// A file is as long as it was although octets in it are lost.
    LengthKept,
    /// A file that was made is not there.
    MadeLost,
    /// A file has its earlier name.
    RenameLost,
    /// A file has both names.
    RenameTorn,
    /// A file that was removed is there.
    RemovalLost,
    /// A change of names was kept although one before it was lost.
    NamesReordered,
    /// A sync failed with octets that were not synced.
    SyncFailed,
}

impl Effect {
    /// Every effect.
    pub const ALL: &'static [Self] = &[
        Self::PowerCut,
        Self::SectorKept,
        Self::SectorLost,
        Self::SectorOld,
        Self::SectorStale,
        Self::LengthLost,
        Self::LengthKept,
        Self::MadeLost,
        Self::RenameLost,
        Self::RenameTorn,
        Self::RemovalLost,
        Self::NamesReordered,
        Self::SyncFailed,
    ];
}

/// How often each thing happened on a disk, or on several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskCounts {
    operations: BTreeMap<Operation, u64>,
    faults: BTreeMap<(Operation, Fault), u64>,
    effects: BTreeMap<Effect, u64>,
    crash_points: BTreeMap<(Operation, String), u64>,
}

impl DiskCounts {
    pub(super) fn note_operation(&mut self, operation: Operation) {
        *self.operations.entry(operation).or_default() += 1;
    }

    pub(super) fn note_fault(&mut self, operation: Operation, fault: Fault) {
        *self.faults.entry((operation, fault)).or_default() += 1;
    }

    pub(super) fn note(&mut self, effect: Effect, times: u64) {
        if times > 0 {
            *self.effects.entry(effect).or_default() += times;
        }
    }

    /// The power went in an operation on that file. Files are told apart by what stands before their number.
    pub(super) fn note_crash_point(&mut self, operation: Operation, name: &str) {
        let kind = name.split('-').next().unwrap_or_default().to_owned();
        *self.crash_points.entry((operation, kind)).or_default() += 1;
    }

    /// All operations together.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.values().sum()
    }

    /// How often that was asked for.
    #[must_use]
    pub fn operations_of(&self, operation: Operation) -> u64 {
        self.operations.get(&operation).copied().unwrap_or_default()
    }

    /// How often that failed in that way.
    #[must_use]
    pub fn faults(&self, operation: Operation, fault: Fault) -> u64 {
        self.faults.get(&(operation, fault)).copied().unwrap_or_default()
    }

    /// How often that became of what was not synced.
    #[must_use]
    pub fn effects(&self, effect: Effect) -> u64 {
        self.effects.get(&effect).copied().unwrap_or_default()
    }

    /// How often the power went in that operation on a file whose name begins so, up to a hyphen.
    #[must_use]
    pub fn crash_points(&self, operation: Operation, kind: &str) -> u64 {
        self.crash_points.get(&(operation, kind.to_owned())).copied().unwrap_or_default()
    }

    /// Adds another disk's.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.operations, &other.operations);
        add(&mut self.faults, &other.faults);
        add(&mut self.effects, &other.effects);
        add(&mut self.crash_points, &other.crash_points);
    }
}

fn add<K: Ord + Clone>(sums: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, times) in more {
        *sums.entry(key.clone()).or_default() += times;
    }
}

impl fmt::Display for DiskCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (operation, times) in &self.operations {
            writeln!(f, "{times:>10}  {operation:?}")?;
        }
        for ((operation, fault), times) in &self.faults {
            writeln!(f, "{times:>10}  {operation:?} failed: {fault:?}")?;
        }
        for (effect, times) in &self.effects {
            writeln!(f, "{times:>10}  {effect:?}")?;
        }
        for ((operation, kind), times) in &self.crash_points {
            writeln!(f, "{times:>10}  power went in {operation:?} {kind}")?;
        }
        Ok(())
    }
}
