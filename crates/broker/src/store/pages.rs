//! Files of pages: which there are, how many of each one's pages are held, and the one that pages
//! are written to.
//!
//! ```text
//!   0          8         12        16
//!   +----------+---------+---------+------+------+---
//!   | LEVPAGES | version | crc of  | page | page |  ...
//!   +----------+---------+---------+------+------+---
//!    8 octets   u32 LE    0..12, u32 LE
//! ```
//!
//! A file `spill-*` holds what memory has no room for. It is never synced, means nothing to another
//! run of the broker, and is removed when the broker starts. Invariant: a file is removed when the
//! last of its pages is given back, and not before; no lock is held while the disk is waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    Disk, DiskFile,
    kept::{KEPT_FILE_MIN, kept_name},
};
use crate::PagePlace;

const MAGIC: &[u8; 8] = b"LEVPAGES";
const VERSION: u32 = 1;
pub(super) const FILE_HEADER_OCTETS: usize = 16;
/// A file of this many octets takes no further pages.
const FILE_OCTETS: u64 = 64 * 1024 * 1024;
const SPILL_PREFIX: &str = "spill-";

/// How a file of pages begins.
pub(super) fn file_header() -> [u8; FILE_HEADER_OCTETS] {
    let mut header = [0; FILE_HEADER_OCTETS];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The version that a header says, if it is whole.
fn version_of(header: &[u8; FILE_HEADER_OCTETS]) -> Option<u32> {
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    (header[..8] == *MAGIC && u32_at(12) == crc32c::crc32c(&header[..12])).then(|| u32_at(8))
}

fn spill_name(number: u32) -> String {
    format!("{SPILL_PREFIX}{number:016x}")
}

#[derive(Debug)]
struct PageFile {
    handle: Arc<dyn DiskFile>,
    /// Pages that somebody holds.
    pages: u64,
    /// Whether more may come.
    grows: bool,
}

#[derive(Debug, Default)]
struct Files {
    files: BTreeMap<u32, PageFile>,
    /// Files without pages, which are to be removed.
    dead: Vec<u32>,
    /// Files with a page that could not be read.
    damaged: BTreeSet<u32>,
}

impl Files {
    fn look(&mut self, number: u32) {
        if self.files.get(&number).is_some_and(|file| file.pages == 0 && !file.grows) {
            self.files.remove(&number);
            // Which of those that last are needed is said by snapshots.
            if number < KEPT_FILE_MIN {
                self.dead.push(number);
            }
        }
    }
}

/// The files that pages are in, as all who hold pages share them. A leaf lock.
#[derive(Debug, Default)]
pub struct PageFiles {
    files: Mutex<Files>,
}

impl PageFiles {
    fn add(&self, number: u32, handle: Arc<dyn DiskFile>) {
        self.files.lock().files.insert(number, PageFile { handle, pages: 0, grows: true });
    }

    /// Opens a file of pages that last, for queues to hold pages of until it is closed. It is never
    /// removed here.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] for one of a newer version.
    pub fn open_kept(&self, disk: &dyn Disk, number: u32) -> io::Result<()> {
        let handle = disk.open(&kept_name(number))?;
        let mut header = [0; FILE_HEADER_OCTETS];
        handle.read_at(&mut header, 0)?;
        // Where the header is damaged each page says for itself whether it is whole.
        if let Some(version) = version_of(&header).filter(|version| *version > VERSION) {
            let text = format!(
                "{}: it has version {version}, and this program reads versions up to {VERSION}",
                kept_name(number)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.add(number, handle);
        Ok(())
    }

    /// No further pages of the file are held: it is let go with the last one.
    pub fn close(&self, number: u32) {
        let mut files = self.files.lock();
        if let Some(file) = files.files.get_mut(&number) {
            file.grows = false;
        }
        files.look(number);
    }

    /// Somebody holds further pages of a file.
    pub fn hold(&self, number: u32, pages: u64) {
        if let Some(file) = self.files.lock().files.get_mut(&number) {
            file.pages += pages;
        }
    }

    /// Gives pages back. True when a file is to be removed.
    pub fn give_back(&self, pages: impl IntoIterator<Item = PagePlace>) -> bool {
        let mut files = self.files.lock();
        for page in pages {
            if let Some(file) = files.files.get_mut(&page.file) {
                file.pages = file.pages.checked_sub(1).expect("a page is given back once");
                if file.pages == 0 {
                    files.look(page.file);
                }
            }
        }
        !files.dead.is_empty()
    }

    /// Reads a page.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self, page: PagePlace) -> io::Result<Vec<u8>> {
        let handle = self.files.lock().files.get(&page.file).map(|file| Arc::clone(&file.handle));
        let handle = handle.ok_or(io::ErrorKind::NotFound)?;
        let mut octets = vec![0; page.octets as usize];
        handle.read_at(&mut octets, page.offset)?;
        Ok(octets)
    }

    /// A page of the file could not be read.
    pub fn note_damage(&self, number: u32) {
        self.files.lock().damaged.insert(number);
    }

    /// Whether a page of the file could not be read.
    #[must_use]
    pub fn is_damaged(&self, number: u32) -> bool {
        self.files.lock().damaged.contains(&number)
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.lock().files.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes the files that nobody holds a page of.
    pub fn remove_dead(&self, disk: &dyn Disk) {
        loop {
            let Some(number) = self.files.lock().dead.pop() else { return };
            let name = spill_name(number);
            if let Err(error) = disk.remove(&name) {
                tracing::warn!(name, %error, "a file of pages that nobody needs cannot be removed");
            }
        }
    }
}

/// Removes what an earlier run of the broker has put away.
///
/// # Errors
/// What the disk says.
pub fn remove_spilled(disk: &dyn Disk) -> io::Result<()> {
    for name in disk.list()?.iter().filter(|name| name.starts_with(SPILL_PREFIX)) {
        disk.remove(name)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Current {
    number: u32,
    handle: Arc<dyn DiskFile>,
    octets: u64,
}

/// Writes pages to files of their own, one file after the other.
#[derive(Debug)]
pub struct SpillWriter {
    disk: Arc<dyn Disk>,
    current: Option<Current>,
    next_number: u32,
}

impl SpillWriter {
    /// Begins with no file.
    #[must_use]
    pub const fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, current: None, next_number: 0 }
    }

    /// Where pages are written.
    #[must_use]
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Writes `pages` pages that lie one behind the other, and says where the first one is. The
    /// caller holds each of them.
    ///
    /// # Errors
    /// What the disk says; then the next write begins in the same place.
    pub fn write(&mut self, files: &PageFiles, octets: &[u8], pages: u64) -> io::Result<(u32, u64)> {
        if self.current.as_ref().is_some_and(|file| file.octets >= FILE_OCTETS)
            && let Some(full) = self.current.take()
        {
            files.close(full.number);
        }
        let file = match &mut self.current {
            Some(file) => file,
            none => none.insert(Self::create(&*self.disk, files, &mut self.next_number)?),
        };
        file.handle.write_at(octets, file.octets)?;
        let offset = file.octets;
        file.octets += octets.len() as u64;
        files.hold(file.number, pages);
        Ok((file.number, offset))
    }

    fn create(disk: &dyn Disk, files: &PageFiles, next_number: &mut u32) -> io::Result<Current> {
        // A name that could not be used or removed is not tried again.
        let number = *next_number;
        *next_number += 1;
        let name = spill_name(number);
        let handle = disk.create(&name)?;
        if let Err(error) = handle.write_at(&file_header(), 0) {
            let _ = disk.remove(&name);
            return Err(error);
        }
        handle.expect_octets(FILE_OCTETS);
        files.add(number, Arc::clone(&handle));
        Ok(Current { number, handle, octets: FILE_HEADER_OCTETS as u64 })
    }

    /// Lets go of the file that is written to when nobody holds a page of it.
    pub fn tidy(&mut self, files: &PageFiles) {
        let is_unused =
            |number: u32| files.files.lock().files.get(&number).is_some_and(|file| file.pages == 0);
        if self.current.as_ref().is_some_and(|file| is_unused(file.number))
            && let Some(unused) = self.current.take()
        {
            files.close(unused.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk_tests::MemoryDisk;

    #[test]
    fn a_file_goes_with_its_last_page() {
        let disk = Arc::new(MemoryDisk::default());
        let files = PageFiles::default();
        let mut writer = SpillWriter::new(disk.clone());
        let (file, offset) = writer.write(&files, b"onetwo", 2).unwrap();
        let places = [0, 3].map(|at| PagePlace { file, octets: 3, offset: offset + at });
        assert_eq!(files.read(places[1]).unwrap(), b"two");
        assert!(!files.give_back([places[0]]));
        files.close(file);
        assert!(files.give_back([places[1]]));
        files.remove_dead(&*disk);
        assert_eq!((files.len(), disk.list().unwrap().len()), (0, 0));
        assert!(files.read(places[1]).is_err());
    }

    #[test]
    fn a_file_that_is_written_to_goes_when_it_is_not_needed() {
        let disk = Arc::new(MemoryDisk::default());
        let files = PageFiles::default();
        let mut writer = SpillWriter::new(disk.clone());
        let (file, offset) = writer.write(&files, b"page", 1).unwrap();
        writer.tidy(&files);
        assert!(!files.give_back([PagePlace { file, octets: 4, offset }]), "more may come");
        writer.tidy(&files);
        files.remove_dead(&*disk);
        assert_eq!(disk.list().unwrap(), Vec::<String>::new());
        let (next, _) = writer.write(&files, b"page", 1).unwrap();
        assert_ne!(next, file);
    }

    #[test]
    fn what_fails_is_written_again_in_the_same_place() {
        let disk = Arc::new(MemoryDisk::default());
        let files = PageFiles::default();
        let mut writer = SpillWriter::new(disk.clone());
        disk.fail_writes(true);
        writer.write(&files, b"one", 1).unwrap_err();
        assert_eq!(disk.list().unwrap(), Vec::<String>::new());
        disk.fail_writes(false);
        let (_, offset) = writer.write(&files, b"one", 1).unwrap();
        disk.fail_writes(true);
        writer.write(&files, b"two", 1).unwrap_err();
        disk.fail_writes(false);
        let (file, second) = writer.write(&files, b"two", 1).unwrap();
        assert_eq!(second, offset + 3);
        assert_eq!(files.read(PagePlace { file, octets: 3, offset: second }).unwrap(), b"two");
    }

    #[test]
    fn what_an_earlier_run_put_away_is_removed_and_nothing_else() {
        let disk = MemoryDisk::default();
        for name in ["spill-0", "pages-0", "journal-0"] {
            disk.create(name).unwrap();
        }
        remove_spilled(&disk).unwrap();
        assert_eq!(disk.list().unwrap(), ["journal-0", "pages-0"]);
    }
}
