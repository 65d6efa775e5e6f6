//! A folder in memory for tests, whose reads and writes can be made to fail.

#![allow(dead_code, reason = "each test uses its part of it")]

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Disk, DiskFile};

#[derive(Debug, Default)]
struct Failures {
    writes: AtomicBool,
    reads: AtomicBool,
}

/// A folder in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    failures: Arc<Failures>,
}

/// A file in memory.
#[derive(Debug)]
struct MemoryFile {
    octets: Mutex<Vec<u8>>,
    failures: Arc<Failures>,
}

impl MemoryDisk {
    pub(crate) fn fail_writes(&self, fail: bool) {
        self.failures.writes.store(fail, Ordering::Relaxed);
    }

    pub(crate) fn fail_reads(&self, fail: bool) {
        self.failures.reads.store(fail, Ordering::Relaxed);
    }

    /// A folder with the same files.
    pub(crate) fn copied(&self) -> Self {
        let copied = Self::default();
        for (name, file) in &*self.files.lock() {
            let octets = Mutex::new(file.octets.lock().clone());
            let file = MemoryFile { octets, failures: Arc::clone(&copied.failures) };
            copied.files.lock().insert(name.clone(), Arc::new(file));
        }
        copied
    }

    /// Changes the octets of one file.
    pub(crate) fn damage_file(&self, name: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        damage(&mut self.files.lock()[name].octets.lock());
    }

    /// Changes the octets of every file.
    pub(crate) fn damage(&self, damage: impl Fn(&mut Vec<u8>)) {
        self.files.lock().values().for_each(|file| damage(&mut file.octets.lock()));
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = MemoryFile { octets: Mutex::default(), failures: Arc::clone(&self.failures) };
        let file = Arc::new(file);
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let files = self.files.lock();
        let file = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::<MemoryFile>::clone(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_octets(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl DiskFile for MemoryFile {
    fn octets(&self) -> io::Result<u64> {
        Ok(self.octets.lock().len() as u64)
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        if self.failures.reads.load(Ordering::Relaxed) {
            return Err(io::Error::other("as it was told to"));
        }
        let offset = usize::try_from(offset).expect("a test's file is small");
        let file = self.octets.lock();
        let found = file.get(offset..offset + octets.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        octets.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("a test's file is small");
        let fails = self.failures.writes.load(Ordering::Relaxed);
        // A write that fails may have written a part.
        let octets = if fails { &octets[..octets.len() / 2] } else { octets };
        let mut file = self.octets.lock();
        let end = file.len().max(offset + octets.len());
        file.resize(end, 0);
        file[offset..offset + octets.len()].copy_from_slice(octets);
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
