//! A folder whose file system keeps unsynced writes apart, and forgets some of them when the power is cut.
//!
//! A thin layer of FUSE over the simulation's disk, which decides what is lost. One folder of files, without
//! folders in it; what a broker's data folder does not need is an error.
//! Invariant: nothing is cached in the kernel, so that after a cut nobody sees what is gone.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use leveret_broker::store::{Disk as _, DiskFile};
use leveret_sim::{
    disk::{DiskCounts, SECTOR_OCTETS, SimDisk},
    random::Random,
};

/// Room for files: far more than a run writes before its journals are compacted.
const CAPACITY_OCTETS: u64 = 4 << 30;
const DEVICE: &str = "/dev/fuse";
const UNCACHED: Duration = Duration::ZERO;
/// A sync takes up to so long, so that there is something to lose most of the time.
const SYNC_MICROS_MAX: u64 = 4_000;
/// Who else writes does not wait for a sync.
const THREADS: usize = 4;
const NAME_OCTETS_MAX: u32 = 255;

/// A mounted folder. Dropping it unmounts it; whoever used it must have ended before.
pub(super) struct LossyFolder {
    disk: SimDisk,
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl LossyFolder {
    /// An error that says what is missing where a file system cannot be mounted.
    pub(super) fn check_possible() -> Result<()> {
        if !Path::new(DEVICE).exists() {
            bail!(
                "--lossy takes a file system of its own, and there is no {DEVICE} here (modprobe fuse; in a \
                 container --device {DEVICE} --cap-add SYS_ADMIN)"
            );
        }
        if !rustix::process::geteuid().is_root() {
            bail!("--lossy takes a file system of its own, which only root may mount");
        }
        Ok(())
    }

    pub(super) fn mount(path: &Path, seed: u64) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let disk = SimDisk::new(Random::new(seed), CAPACITY_OCTETS);
        let files = Files {
            disk: disk.clone(),
            open: Mutex::default(),
            last_handle: AtomicU64::new(0),
            delays: Mutex::new(Random::new(!seed)),
        };
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        config.mount_options = vec![MountOption::FSName("leveret-lossy".to_owned()), MountOption::NoExec];
        let session = fuser::spawn_mount(files, path, &config)
            .with_context(|| format!("cannot mount a file system at {}", path.display()))?;
        Ok(Self { disk, path: path.to_owned(), session: Some(session) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The power goes: from now on nothing is written or synced, and every call fails. So it goes before the
    /// process does, whose last sync would be carried out otherwise.
    pub(super) fn power_off(&self) {
        self.disk.power_off_at(0);
    }

    /// The power comes back, and what was not synced is forgotten, or some of it.
    pub(super) fn power_cut(&self) {
        self.disk.power_cut();
    }

    pub(super) fn counts(&self) -> DiskCounts {
        self.disk.counts()
    }
}

impl Drop for LossyFolder {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        if let Err(error) = session.umount_and_join() {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

/// What the kernel asks.
struct Files {
    disk: SimDisk,
    open: Mutex<BTreeMap<u64, Arc<dyn DiskFile>>>,
    last_handle: AtomicU64,
    delays: Mutex<Random>,
}

impl Files {
    fn open_files(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<dyn DiskFile>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the time of a sync, before it has any effect.
    fn delay(&self) {
        let micros = self.delays.lock().unwrap_or_else(PoisonError::into_inner).between(0, SYNC_MICROS_MAX);
        std::thread::sleep(Duration::from_micros(micros));
    }

    fn keep(&self, file: Arc<dyn DiskFile>) -> FileHandle {
        let handle = self.last_handle.fetch_add(1, Ordering::Relaxed) + 1;
        self.open_files().insert(handle, file);
        FileHandle(handle)
    }

    fn file(&self, handle: FileHandle) -> Result<Arc<dyn DiskFile>, Errno> {
        self.open_files().get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn attributes_of(&self, name: &OsStr) -> Result<FileAttr, Errno> {
        let number = self.disk.number_of(text(name)?).ok_or(Errno::ENOENT)?;
        self.attributes(number)
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let octets = self.disk.octets_of(number).ok_or(Errno::ENOENT)?;
        Ok(attributes(inode_of(number), FileType::RegularFile, octets))
    }

    fn attributes_by(&self, inode: INodeNo, handle: Option<FileHandle>) -> Result<FileAttr, Errno> {
        if inode == INodeNo::ROOT {
            return Ok(attributes(inode, FileType::Directory, 0));
        }
        match handle.and_then(|handle| self.file(handle).ok()) {
            Some(file) => {
                let octets = file.octets().map_err(|error| errno(&error))?;
                Ok(attributes(inode, FileType::RegularFile, octets))
            }
            None => self.attributes(number_of(inode)),
        }
    }

    fn create_file(&self, name: &OsStr) -> Result<(FileAttr, FileHandle), Errno> {
        let file = self.disk.create(text(name)?).map_err(|error| errno(&error))?;
        Ok((self.attributes_of(name)?, self.keep(file)))
    }

    fn read_file(&self, handle: FileHandle, offset: u64, octets: u32) -> Result<Vec<u8>, Errno> {
        let file = self.file(handle)?;
        let read = || {
            let left = file.octets()?.saturating_sub(offset).min(u64::from(octets));
            let mut buffer = vec![0; usize::try_from(left).unwrap_or(usize::MAX)];
            file.read_at(&mut buffer, offset).map(|()| buffer)
        };
        read().map_err(|error| errno(&error))
    }

    fn rename_file(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        if !flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        self.disk.rename(text(from)?, text(to)?).map_err(|error| errno(&error))
    }

    fn remove_file(&self, name: &OsStr) -> Result<(), Errno> {
        self.disk.remove(text(name)?).map_err(|error| errno(&error))
    }
}

/// The root has number 1, and so has the first file.
fn inode_of(number: u64) -> INodeNo {
    INodeNo(number + INodeNo::ROOT.0)
}

fn number_of(inode: INodeNo) -> u64 {
    inode.0 - INodeNo::ROOT.0
}

fn text(name: &OsStr) -> Result<&str, Errno> {
    name.to_str().ok_or(Errno::EINVAL)
}

fn errno(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::NotFound => Errno::ENOENT,
        io::ErrorKind::AlreadyExists => Errno::EEXIST,
        io::ErrorKind::StorageFull => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}

fn attributes(ino: INodeNo, kind: FileType, octets: u64) -> FileAttr {
    let (perm, nlink) = if kind == FileType::Directory { (0o700, 2) } else { (0o600, 1) };
    FileAttr {
        ino,
        size: octets,
        blocks: octets.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Answers a question with what was found, or with its error.
macro_rules! answer {
    ($reply:ident, $found:expr, $value:pat => $say:expr) => {
        match $found {
            Ok($value) => $say,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.attributes_of(name), found => reply.entry(&UNCACHED, &found, Generation(0)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.attributes_by(inode, handle), found => reply.attr(&UNCACHED, &found));
    }

    /// Times and permissions are nobody's concern here; a length is, and no broker sets one.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        octets: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if octets.is_some() {
            return reply.error(Errno::EOPNOTSUPP);
        }
        answer!(reply, self.attributes_by(inode, handle), found => reply.attr(&UNCACHED, &found));
    }

    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        answer!(reply, self.create_file(name), (found, handle) => {
            reply.created(&UNCACHED, &found, Generation(0), handle, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.disk.open_number(number_of(inode)).map_err(|error| errno(&error));
        answer!(reply, opened, file => reply.opened(self.keep(file), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        octets: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.read_file(handle, offset, octets), found => reply.data(&found));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        octets: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self
            .file(handle)
            .and_then(|file| file.write_at(octets, offset).map_err(|error| errno(&error)))
            .and_then(|()| u32::try_from(octets.len()).map_err(|_| Errno::EINVAL));
        answer!(reply, written, written => reply.written(written));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.open_files().remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.delay();
        let synced = self.file(handle).and_then(|file| file.sync().map_err(|error| errno(&error)));
        answer!(reply, synced, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.delay();
        let synced = self.disk.sync_names().map_err(|error| errno(&error));
        answer!(reply, synced, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        from: &OsStr,
        _: INodeNo,
        to: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer!(reply, self.rename_file(from, to, flags), () => reply.ok());
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove_file(name), () => reply.ok());
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = match self.disk.list() {
            Ok(names) => names,
            Err(error) => return reply.error(errno(&error)),
        };
        // A place in the folder is the number of a file, so that it stands when others come and go.
        let mut files: Vec<_> =
            names.iter().filter_map(|name| Some((self.disk.number_of(name)?, name))).collect();
        files.sort_unstable();
        for (number, name) in files.into_iter().filter(|(number, _)| *number > offset) {
            if reply.add(inode_of(number), number, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let block = SECTOR_OCTETS as u64;
        match self.disk.free_octets() {
            Ok(free) => {
                let (all, free) = (CAPACITY_OCTETS / block, free / block);
                let block = u32::try_from(block).expect("a sector is small");
                reply.statfs(all, free, free, 0, 0, block, NAME_OCTETS_MAX, block);
            }
            Err(error) => reply.error(errno(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use super::*;

    /// A mounted folder, or nothing where this may not mount.
    fn mounted(folder: &Path, seed: u64) -> Option<LossyFolder> {
        if let Err(error) = LossyFolder::check_possible() {
            eprintln!("left out: {error}");
            return None;
        }
        Some(LossyFolder::mount(&folder.join("mounted"), seed).unwrap())
    }

    #[test]
    fn files_are_as_in_any_folder() {
        let folder = tempfile::tempdir().unwrap();
        let Some(lossy) = mounted(folder.path(), 1) else { return };
        let path = lossy.path().join("a");
        let big: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        fs::write(lossy.path().join("b"), &big).unwrap();
        assert_eq!(fs::read(lossy.path().join("b")).unwrap(), big);
        let file = fs::File::create_new(&path).unwrap();
        file.write_all_at(b"here", 2).unwrap();
        fs::rename(&path, lossy.path().join("c")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 6);
        fs::remove_file(lossy.path().join("c")).unwrap();
        let mut octets = [0; 6];
        file.read_exact_at(&mut octets, 0).unwrap();
        assert_eq!(&octets, b"\0\0here", "a removed file is read on");
        assert!(file.try_lock().is_ok());
        assert_eq!(
            fs::File::create_new(lossy.path().join("b")).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert!(!path.exists());
        let room = rustix::fs::statvfs(lossy.path()).unwrap();
        assert_eq!(room.f_blocks * room.f_frsize, CAPACITY_OCTETS);
    }

    #[test]
    fn a_cut_takes_what_was_not_synced_and_nothing_else() {
        let (mut there, mut whole) = (0, 0);
        for seed in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let Some(lossy) = mounted(folder.path(), seed) else { return };
            let synced = lossy.path().join("synced");
            fs::write(&synced, b"synced").unwrap();
            let file = fs::File::open(&synced).unwrap();
            file.sync_data().unwrap();
            fs::File::open(lossy.path()).unwrap().sync_all().unwrap();
            fs::write(lossy.path().join("not"), [1; 5000]).unwrap();
            lossy.power_cut();
            assert_eq!(fs::read(&synced).unwrap(), b"synced");
            assert!(file.read_at(&mut [0; 1], 0).is_err(), "what was open is not any more");
            let names: Vec<_> =
                fs::read_dir(lossy.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let not = lossy.path().join("not");
            assert_eq!(names.len() == 2, not.exists());
            there += u32::from(not.exists());
            whole += u32::from(fs::read(not).is_ok_and(|octets| octets == [1; 5000]));
        }
        assert!((3..18).contains(&there) && whole < there, "of 20 {there} were there, {whole} of them whole");
    }

    #[test]
    fn once_the_power_is_off_nothing_is_synced() {
        let mut lost = 0;
        for seed in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let Some(lossy) = mounted(folder.path(), seed) else { return };
            let path = lossy.path().join("a");
            fs::write(&path, [1; 5000]).unwrap();
            fs::File::open(lossy.path()).unwrap().sync_all().unwrap();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            lossy.power_off();
            assert!(file.sync_data().is_err());
            assert!(file.write_all_at(b"2", 0).is_err());
            assert!(fs::File::create(lossy.path().join("b")).is_err());
            lossy.power_cut();
            assert!(!lossy.path().join("b").exists());
            let octets = fs::read(&path).unwrap();
            assert!(octets.first() != Some(&b'2'));
            lost += u32::from(octets != [1; 5000]);
        }
        assert!((5..20).contains(&lost), "of 20 {lost} lost something");
    }
}
