//! A disk that loses what was not synced, and that fails when it is told to or by chance.
//!
//! Holds files and handles, faults and power cuts; what a cut leaves of octets is decided in `content`, of
//! names in `names`. A crash point is an operation at which the power goes; it may have had its effect.
//!
//! It is as unkind as a disk may be. A name is lost although its file was synced; sectors of 512 octets reach
//! the platter in any order, lengths apart from octets; after a failed sync nothing but a new write is written
//! again. It is no unkinder: what was synced stays, sectors are whole, and of a failed sync of names a later
//! one makes up.
//!
//! Invariant: one seed and the same operations give the same octets, names and faults.

mod content;
mod counts;
mod names;
mod state;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use leveret_broker::store::{Disk, DiskFile};

pub use self::counts::{DiskCounts, Effect, Fault, Operation};
use self::{
    names::InodeId,
    state::{PowerIs, State},
};
use crate::random::Random;

/// Octets that reach the platter together or not at all.
pub const SECTOR_OCTETS: usize = 512;

/// A simulated disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk with room for so many octets of files.
    #[must_use]
    pub fn new(random: Random, capacity_octets: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(random, capacity_octets))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of the store's is a finding of its own and leaves the disk as it is.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes how much fits. What is there stays.
    pub fn set_capacity(&self, octets: u64) {
        self.state().capacity_octets = octets;
    }

    /// Lets an operation fail by chance, so often in a thousand times.
    pub fn set_faults(&self, operation: Operation, permille: u64) {
        self.state().faults_permille.insert(operation, permille);
    }

    /// Lets the next such operation fail in that way; several calls are for several operations.
    ///
    /// # Panics
    /// When that operation cannot fail so.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        assert!(operation.faults().contains(&fault), "{operation:?} has no {fault:?}");
        self.state().faults_due.entry(operation).or_default().push_back(fault);
    }

    /// Lets the power go at that operation, counted from the first, 1, that this disk ever did. It fails,
    /// and so does all after it until [`SimDisk::power_cut`].
    pub fn power_off_at(&self, operation: u64) {
        self.state().off_at = Some(operation);
    }

    /// How many operations there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().counts.operations()
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().power == PowerIs::Off
    }

    /// The power goes, unless it has gone already, and comes back: what was not synced is kept, lost or
    /// torn by chance, and files that were open stay closed.
    pub fn power_cut(&self) {
        self.state().power_cut();
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.state().counts.clone()
    }

    /// The octets of a file as a reader sees them; no operation of the disk's.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.names.seen().get(name)?;
        Some(state.inodes[inode].content.seen().to_vec())
    }

    /// The number of a file, the same by whatever name; for a file system over this disk.
    #[must_use]
    pub fn number_of(&self, name: &str) -> Option<u64> {
        self.state().names.seen().get(name).map(|inode| inode.0)
    }

    /// The length of the file with that number.
    #[must_use]
    pub fn octets_of(&self, number: u64) -> Option<u64> {
        let state = self.state();
        let inode = state.inodes.get(&InodeId(number))?;
        Some(inode.content.seen().len() as u64)
    }

    /// Opens the file with that number.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what the disk says.
    pub fn open_number(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        let inode = InodeId(number);
        let epoch = self.state().open_number(inode)?;
        Ok(self.handle("", inode, epoch))
    }

    /// Changes a file on the platter, as age or a stray write does: bits that flip, an end that is missing.
    /// Gives whether there is such a file.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some(inode) = state.names.seen().get(name).copied() else { return false };
        let content = &mut state.inodes.get_mut(&inode).expect("what has a name is there").content;
        content.damage(change);
        true
    }

    fn handle(&self, name: &str, inode: InodeId, epoch: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), name: name.to_owned(), inode, epoch })
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.plain(Operation::List, "")?;
        Ok(state.names.seen().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (inode, epoch) = self.state().create(name)?;
        Ok(self.handle(name, inode, epoch))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let (inode, epoch) = self.state().open(name)?;
        Ok(self.handle(name, inode, epoch))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state().remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.state().sync_names()
    }

    fn free_octets(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.plain(Operation::FreeOctets, "")?;
        Ok(state.free_octets())
    }
}

/// A file that was opened, good until the power goes.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    name: String,
    inode: InodeId,
    /// Power cuts before it was opened.
    epoch: u64,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.epoch == self.epoch { Ok(state) } else { Err(state::no_power()) }
    }
}

impl DiskFile for SimFile {
    fn octets(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.plain(Operation::Octets, &self.name)?;
        Ok(state.content(self.inode).seen().len() as u64)
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.plain(Operation::Read, &self.name)?;
        state.content(self.inode).read(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.state()?.write(&self.name, self.inode, octets, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.state()?.sync(&self.name, self.inode)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.close(self.inode);
        }
    }
}
