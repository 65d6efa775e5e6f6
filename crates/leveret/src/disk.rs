//! The data folder: the real [`Disk`], one folder that one broker has for itself.
//!
//! What is kept in the files is the engine's; here are names, octets, syncs and the lock. Invariant: while
//! a [`DirectoryDisk`] lives no other broker has its folder, in this process or another one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use leveret_broker::store::{Disk, DiskFile};
use thiserror::Error;

/// The file whose lock says that the folder is taken.
const LOCK_NAME: &str = "lock";
/// A file of octets that mean nothing, whose room is there for who empties a full disk.
const RESERVE_NAME: &str = "reserve";
/// Octets of it: what many million acknowledgements take.
pub(crate) const RESERVE_OCTETS: u64 = 16 * 1024 * 1024;
/// Octets of a process id and a line end, always as many, so that a shorter one leaves nothing of a longer.
const HOLDER_OCTETS: usize = 11;
/// Room is set aside ahead of what is written only where it is at most this part of what is free.
const ROOM_SHARE: u64 = 64;

/// Why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum DataFolderError {
    /// It is not there and cannot be made.
    #[error("cannot make the data folder {}", path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is there and cannot be used.
    #[error("cannot use the data folder {}", path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another broker has it.
    #[error("the data folder {} is in use by {}", path.display(), holder_text(*holder))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other broker's process, where it could be read.
        holder: Option<u32>,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    match holder {
        Some(pid) if pid == process::id() => format!("another broker of this process ({pid})"),
        Some(pid) => format!("another broker, process {pid}"),
        None => "another broker".to_owned(),
    }
}

/// Whether what is written is made to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncing {
    /// It is, before anybody is told that it is safe.
    Honest,
    /// It is not: the operating system writes when it likes.
    Skipped,
}

/// A folder of the operating system's.
#[derive(Debug)]
pub(crate) struct DirectoryDisk {
    path: PathBuf,
    /// The folder itself, to sync names and to ask for room.
    folder: File,
    syncing: Syncing,
    /// Octets read of its files.
    octets_read: Arc<AtomicU64>,
    /// Held for its lock, which goes when it is closed if it was not given back before.
    lock: File,
}

impl DirectoryDisk {
    /// Takes the folder, and makes it if it is not there.
    pub(crate) fn open(path: &Path, syncing: Syncing) -> Result<Self, DataFolderError> {
        let make = |source| DataFolderError::Make { path: path.to_owned(), source };
        let open = |source| DataFolderError::Open { path: path.to_owned(), source };
        // Later the process may work in another folder.
        let path = &std::path::absolute(path).map_err(open)?;
        make_folder(path).map_err(make)?;
        let folder = File::open(path).map_err(open)?;
        let mut options = OpenOptions::new();
        let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(path.join(LOCK_NAME)).map_err(open)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataFolderError::InUse { path: path.clone(), holder: holder_of(&lock) });
            }
            Err(TryLockError::Error(source)) => return Err(open(source)),
        }
        // Who holds it is only told; a full disk must not keep a broker from starting.
        let _ = lock.write_all_at(format!("{:<10}\n", process::id()).as_bytes(), 0);
        Ok(Self { path: path.clone(), folder, syncing, octets_read: Arc::default(), lock })
    }

    /// Lets another broker have the folder, when nothing is written to it any more, whoever still holds this.
    pub(crate) fn give_back(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the data folder stays locked until this process ends");
        }
    }

    /// Octets that were read of its files since it was opened.
    pub(crate) fn octets_read(&self) -> u64 {
        self.octets_read.load(Ordering::Relaxed)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes room for the time when there is none. Nothing changes if it is taken already.
    pub(crate) fn take_reserve(&self) -> io::Result<()> {
        let path = self.path.join(RESERVE_NAME);
        if path.exists() {
            return Ok(());
        }
        let file = Self::options().create_new(true).open(&path).map_err(no_room)?;
        let taken = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_OCTETS);
        if let Err(error) = taken {
            fs::remove_file(&path)?;
            return Err(no_room(error.into()));
        }
        Ok(())
    }

    /// Gives the room back that was taken. False when there is none.
    pub(crate) fn give_up_reserve(&self) -> bool {
        fs::remove_file(self.path.join(RESERVE_NAME)).is_ok()
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }

    fn file(&self, name: &str, options: &OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let file = options.open(self.path.join(name)).map_err(no_room)?;
        let octets_read = Arc::clone(&self.octets_read);
        Ok(Arc::new(DirectoryFile { file, syncing: self.syncing, octets_read }))
    }
}

/// Makes a folder and those above it, for nobody else to look into, so that they survive a power cut.
fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(path.parent().ok_or(error)?)?;
            return make_folder(path);
        }
        Err(error) => return Err(error),
    }
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The process that has that folder now, as far as it can be read.
pub(crate) fn holder(folder: &Path) -> Option<u32> {
    let lock = File::open(folder.join(LOCK_NAME)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => holder_of(&lock),
        _ => None,
    }
}

fn holder_of(lock: &File) -> Option<u32> {
    let mut octets = [0; HOLDER_OCTETS];
    lock.read_exact_at(&mut octets, 0).ok()?;
    str::from_utf8(&octets).ok()?.trim().parse().ok()
}

/// A quota is a lack of room too.
fn no_room(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => error,
    }
}

#[allow(clippy::unnecessary_cast, reason = "its numbers are narrower on other systems")]
const fn octets_free(room: &rustix::fs::StatVfs) -> u64 {
    (room.f_bavail as u64).saturating_mul(room.f_frsize as u64)
}

impl Disk for DirectoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is no text is none of ours, and neither is a folder, such as lost+found.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name != LOCK_NAME && name != RESERVE_NAME && entry.file_type()?.is_file() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(name, Self::options().create_new(true))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.file(name, &Self::options())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to)).map_err(no_room)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        match self.syncing {
            Syncing::Honest => self.folder.sync_all().map_err(no_room),
            Syncing::Skipped => Ok(()),
        }
    }

    fn free_octets(&self) -> io::Result<u64> {
        Ok(octets_free(&rustix::fs::fstatvfs(&self.folder)?))
    }
}

#[derive(Debug)]
struct DirectoryFile {
    file: File,
    syncing: Syncing,
    octets_read: Arc<AtomicU64>,
}

impl DiskFile for DirectoryFile {
    fn octets(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.octets_read.fetch_add(octets.len() as u64, Ordering::Relaxed);
        self.file.read_exact_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(octets, offset).map_err(no_room)
    }

    fn expect_octets(&self, octets: u64) {
        let room = rustix::fs::fstatvfs(&self.file).map_or(0, |room| octets_free(&room));
        if room / ROOM_SHARE >= octets {
            let _ = rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, octets);
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.syncing {
            Syncing::Honest => self.file.sync_data().map_err(no_room),
            Syncing::Skipped => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn disk_in(path: &Path) -> DirectoryDisk {
        DirectoryDisk::open(path, Syncing::Honest).expect("the folder is free")
    }

    #[test]
    fn octets_and_lengths_are_kept_in_files() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        let file = disk.create("journal-1").unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello,", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(file.octets().unwrap(), 11);
        let again = disk.open("journal-1").unwrap();
        let mut octets = [0; 11];
        again.read_at(&mut octets, 0).unwrap();
        assert_eq!(&octets, b"hello,world");
        let beyond = again.read_at(&mut octets, 1).unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn room_that_is_set_aside_is_not_length() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        let file = disk.create("spill-1").unwrap();
        file.expect_octets(1024 * 1024);
        file.expect_octets(u64::MAX);
        file.write_at(b"four", 0).unwrap();
        assert_eq!(file.octets().unwrap(), 4);
    }

    #[test]
    fn names_are_made_changed_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        disk.create("a").unwrap();
        assert_eq!(disk.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open("b").unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.create("b").unwrap().write_at(b"old", 0).unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_names().unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.open("b").unwrap().octets().unwrap(), 0, "the other file took its place");
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn a_removed_file_is_read_on() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        let file = disk.create("a").unwrap();
        file.write_at(b"still here", 0).unwrap();
        disk.remove("a").unwrap();
        let mut octets = [0; 10];
        file.read_at(&mut octets, 0).unwrap();
        assert_eq!(&octets, b"still here");
    }

    #[test]
    fn folders_and_foreign_names_are_not_listed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        disk.create("a").unwrap();
        assert_eq!(disk.list().unwrap(), ["a"]);
    }

    #[test]
    fn a_new_folder_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/leveret");
        let disk = disk_in(&path);
        assert_eq!(fs::metadata(disk.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn two_brokers_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        let refused = DirectoryDisk::open(folder.path(), Syncing::Honest).unwrap_err();
        let text = refused.to_string();
        let holder = format!("in use by another broker of this process ({})", process::id());
        assert!(text.ends_with(&holder), "{text}");
        disk.give_back();
        let next = disk_in(folder.path());
        drop(disk);
        DirectoryDisk::open(folder.path(), Syncing::Honest).unwrap_err();
        drop(next);
        disk_in(folder.path());
    }

    #[test]
    fn a_lock_that_somebody_left_behind_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LOCK_NAME), "4294967295\n").unwrap();
        disk_in(folder.path());
        let said = fs::read_to_string(folder.path().join(LOCK_NAME)).unwrap();
        assert_eq!(said.trim().parse(), Ok(process::id()));
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        for path in [path.clone(), path.join("below")] {
            let refused = DirectoryDisk::open(&path, Syncing::Honest).unwrap_err();
            assert!(refused.to_string().contains(&path.display().to_string()), "{refused}");
        }
    }

    #[test]
    fn room_is_taken_once_and_given_up_once() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk_in(folder.path());
        assert!(!disk.give_up_reserve());
        for _ in 0..2 {
            disk.take_reserve().unwrap();
        }
        let taken = fs::metadata(folder.path().join(RESERVE_NAME)).unwrap();
        assert_eq!(taken.len(), RESERVE_OCTETS);
        assert!(std::os::unix::fs::MetadataExt::blocks(&taken) * 512 >= RESERVE_OCTETS, "it is no hole");
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.give_up_reserve());
        assert!(!disk.give_up_reserve());
    }

    #[test]
    fn room_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(disk_in(folder.path()).free_octets().unwrap() > 0);
    }
}
