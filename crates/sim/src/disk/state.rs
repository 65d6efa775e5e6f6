//! The disk itself: files by number, their names, what is to fail and when the power goes.
//!
//! Knows what each operation does and how it fails. Invariant: every operation begins with `begin`, which
//! counts it and decides its fault, so that nothing escapes faults and power cuts.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
};

use super::{
    content::Content,
    counts::{DiskCounts, Effect, Fault, Operation},
    names::{InodeId, Names},
};
use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerIs {
    On,
    Off,
}

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) content: Content,
    open_count: usize,
}

/// How an operation that has begun goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Well,
    Fails(Fault),
    /// It has its effect, and nobody hears of it.
    PowerGoes,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) capacity_octets: u64,
    pub(super) faults_permille: BTreeMap<Operation, u64>,
    pub(super) faults_due: BTreeMap<Operation, VecDeque<Fault>>,
    pub(super) off_at: Option<u64>,
    pub(super) power: PowerIs,
    pub(super) counts: DiskCounts,
    pub(super) names: Names,
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    /// Power cuts so far.
    pub(super) epoch: u64,
    next_inode: InodeId,
    random: Random,
}

impl State {
    pub(super) fn new(random: Random, capacity_octets: u64) -> Self {
        Self {
            capacity_octets,
            faults_permille: BTreeMap::new(),
            faults_due: BTreeMap::new(),
            off_at: None,
            power: PowerIs::On,
            counts: DiskCounts::default(),
            names: Names::default(),
            inodes: BTreeMap::new(),
            epoch: 0,
            next_inode: InodeId(1),
            random,
        }
    }

    /// Counts an operation and draws how it goes on; an error when there is no power.
    fn begin(&mut self, operation: Operation, name: &str) -> io::Result<Course> {
        if self.power == PowerIs::Off {
            return Err(no_power());
        }
        self.counts.note_operation(operation);
        if self.off_at.is_some_and(|at| self.counts.operations() >= at) {
            self.counts.note_crash_point(operation, name);
            (self.off_at, self.power) = (None, PowerIs::Off);
            return Ok(Course::PowerGoes);
        }
        let fault = self.next_fault(operation);
        if let Some(fault) = fault {
            self.counts.note_fault(operation, fault);
        }
        Ok(fault.map_or(Course::Well, Course::Fails))
    }

    fn next_fault(&mut self, operation: Operation) -> Option<Fault> {
        if let Some(fault) = self.faults_due.get_mut(&operation).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let permille = self.faults_permille.get(&operation).copied().filter(|permille| *permille > 0)?;
        self.random.permille(permille).then(|| *self.random.pick(operation.faults()))
    }

    /// An operation that changes nothing until it is known to go well.
    pub(super) fn plain(&mut self, operation: Operation, name: &str) -> io::Result<()> {
        let course = self.begin(operation, name)?;
        course.outcome()
    }

    pub(super) fn content(&self, inode: InodeId) -> &Content {
        &self.inodes[&inode].content
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<(InodeId, u64)> {
        let course = self.begin(Operation::Create, name)?;
        if self.names.seen().contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if course.has_effect() {
            self.names.make(name, self.next_inode);
            self.inodes.insert(self.next_inode, Inode::default());
            self.next_inode.0 += 1;
        }
        course.outcome()?;
        self.opened(name)
    }

    pub(super) fn open(&mut self, name: &str) -> io::Result<(InodeId, u64)> {
        self.plain(Operation::Open, name)?;
        self.opened(name)
    }

    pub(super) fn open_number(&mut self, inode: InodeId) -> io::Result<u64> {
        self.plain(Operation::Open, "")?;
        let found = self.inodes.get_mut(&inode).ok_or(io::ErrorKind::NotFound)?;
        found.open_count += 1;
        Ok(self.epoch)
    }

    fn opened(&mut self, name: &str) -> io::Result<(InodeId, u64)> {
        let inode = self.find(name)?;
        self.inode(inode).open_count += 1;
        Ok((inode, self.epoch))
    }

    fn find(&self, name: &str) -> io::Result<InodeId> {
        self.names.seen().get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn inode(&mut self, inode: InodeId) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("what has a name or is open is there")
    }

    pub(super) fn close(&mut self, inode: InodeId) {
        self.inode(inode).open_count -= 1;
        self.forget_unreachable();
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let course = self.begin(Operation::Rename, from)?;
        let inode = self.find(from)?;
        if course.has_effect() {
            self.names.rename(from, to, inode);
        }
        self.forget_unreachable();
        course.outcome()
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let course = self.begin(Operation::Remove, name)?;
        self.find(name)?;
        if course.has_effect() {
            self.names.remove(name);
        }
        self.forget_unreachable();
        course.outcome()
    }

    pub(super) fn sync_names(&mut self) -> io::Result<()> {
        self.plain(Operation::SyncNames, "")?;
        self.names.sync();
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn write(&mut self, name: &str, inode: InodeId, octets: &[u8], offset: u64) -> io::Result<()> {
        let course = self.begin(Operation::Write, name)?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let room = self.room_at(inode, offset).min(octets.len());
        let written = match course {
            Course::Well | Course::PowerGoes => room,
            Course::Fails(Fault::InputOutput) => 0,
            Course::Fails(Fault::NoRoom | Fault::ShortWrite) => self.random.below(room.max(1)),
        };
        self.inode(inode).content.write(&octets[..written], offset);
        course.outcome()?;
        if room < octets.len() { Err(no_room()) } else { Ok(()) }
    }

    /// How many octets can be written there.
    fn room_at(&self, inode: InodeId, offset: usize) -> usize {
        let end = self.content(inode).seen().len();
        let free = usize::try_from(self.free_octets()).unwrap_or(usize::MAX);
        // A gap before it takes room too: nothing here is sparse.
        (end.saturating_add(free)).saturating_sub(offset)
    }

    pub(super) fn sync(&mut self, name: &str, inode: InodeId) -> io::Result<()> {
        let course = self.begin(Operation::Sync, name)?;
        let Self { inodes, random, counts, .. } = self;
        let content = &mut inodes.get_mut(&inode).expect("an open file is there").content;
        match course {
            Course::Well => content.sync(),
            Course::Fails(_) => content.fail_sync(random, counts),
            // How far it came is drawn with all the rest.
            Course::PowerGoes => {}
        }
        course.outcome()
    }

    /// What still fits beside files that have a name or are open.
    pub(super) fn free_octets(&self) -> u64 {
        let is_used = |(id, inode): &(&InodeId, &Inode)| {
            inode.open_count > 0 || self.names.seen().values().any(|named| named == *id)
        };
        let used: u64 =
            self.inodes.iter().filter(is_used).map(|(_, inode)| inode.content.seen().len() as u64).sum();
        self.capacity_octets.saturating_sub(used)
    }

    pub(super) fn power_cut(&mut self) {
        self.counts.note(Effect::PowerCut, 1);
        self.epoch += 1;
        (self.power, self.off_at) = (PowerIs::On, None);
        self.faults_due.clear();
        self.names.cut(&mut self.random, &mut self.counts);
        for inode in self.inodes.values_mut() {
            inode.open_count = 0;
            inode.content.cut(&mut self.random, &mut self.counts);
        }
        self.forget_unreachable();
    }

    /// Files that nobody can come to again, not even after a power cut, are gone.
    fn forget_unreachable(&mut self) {
        let Self { inodes, names, .. } = self;
        inodes.retain(|id, inode| inode.open_count > 0 || names.can_have(*id));
    }
}

impl Course {
    fn has_effect(self) -> bool {
        matches!(self, Self::Well | Self::PowerGoes)
    }

    fn outcome(self) -> io::Result<()> {
        match self {
            Self::Well => Ok(()),
            Self::PowerGoes => Err(no_power()),
            Self::Fails(Fault::NoRoom) => Err(no_room()),
            Self::Fails(Fault::InputOutput | Fault::ShortWrite) => {
                Err(io::Error::other("simulated: the disk cannot do it"))
            }
        }
    }
}

fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated: no room is left")
}

pub(super) fn no_power() -> io::Error {
    io::Error::other("simulated: the power is off")
}
