//! The disk that brokers write to: its room, how long it takes to sync, and what lies on it.
//!
//! Knows files and folders; never brokers. Invariant: what is measured here is on the file system of the run's
//! folder, which is on a disk and not in memory.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, StatVfs};

use super::super::Lab;
use super::super::paced::percentile;
use super::mib;

/// What the largest measurement has on disk at a time, and half as much.
const ROOM_OCTETS_MIN: u64 = 8 << 30;
/// File systems in memory, by the numbers of `linux/magic.h`.
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
const SYNCS: usize = 300;
const SYNCED_OCTETS: usize = 4096;

/// An error unless the run's folder is on a disk with room for every measurement; else what was found.
pub(super) fn check_room(lab: &Lab<'_>) -> Result<String> {
    let folder = lab.folder;
    let kind = rustix::fs::statfs(folder).context("the run's file system")?.f_type;
    #[allow(clippy::useless_conversion, reason = "its type differs from target to target")]
    let kind = i64::from(kind);
    ensure!(kind != TMPFS_MAGIC && kind != RAMFS_MAGIC, "{} is in memory, not on a disk", folder.display());
    let free = octets_free(&rustix::fs::statvfs(folder).context("the run's file system")?);
    let needed = ROOM_OCTETS_MIN * u64::from(lab.options.durable_percent) / 100;
    ensure!(free >= needed, "{} has {} of room, and {} are needed", folder.display(), mib(free), mib(needed));
    Ok(format!("data folders are in {}, with {} of room", folder.display(), mib(free)))
}

const fn octets_free(found: &StatVfs) -> u64 {
    found.f_bavail * found.f_frsize
}

/// How long `fdatasync` takes after 4 KiB were appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncTimes {
    pub(super) p50_micros: f64,
    pub(super) p99_micros: f64,
}

/// Appends 4 KiB and syncs, some hundred times.
pub(super) fn sync_times(folder: &Path) -> Result<SyncTimes> {
    let mut file = tempfile::tempfile_in(folder).context("a file to sync")?;
    let octets = [b'.'; SYNCED_OCTETS];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&octets)?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(SyncTimes { p50_micros: percentile(&times, 50), p99_micros: percentile(&times, 99) })
}

/// Octets that the files below a folder take of the disk.
pub(super) fn octets_taken(folder: &Path) -> Result<u64> {
    const BLOCK_OCTETS: u64 = 512;
    let blocks = |path: &PathBuf| match fs::metadata(path) {
        Ok(found) => Ok(found.blocks()),
        // The broker may remove a file while we look.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    let blocks: u64 = files(folder)?.iter().map(blocks).sum::<Result<u64>>()?;
    Ok(blocks * BLOCK_OCTETS)
}

/// Has the kernel forget what it holds of the files below a folder, by `posix_fadvise`; what was not written yet
/// is, before. This asks for no rights, and leaves alone what others have in memory.
pub(super) fn drop_cache(folder: &Path) -> Result<()> {
    for path in files(folder)? {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        file.sync_all().with_context(|| format!("cannot sync {}", path.display()))?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// All files below a folder, also those in folders of it.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let into = if entry.file_type()?.is_dir() { &mut folders } else { &mut files };
            into.push(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_folder_and_below_it_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(octets_taken(folder.path()).unwrap(), 0);
        fs::write(folder.path().join("one"), vec![b'.'; 1 << 20]).unwrap();
        fs::write(below.join("two"), vec![b'.'; 2 << 20]).unwrap();
        drop_cache(folder.path()).unwrap();
        let taken = octets_taken(folder.path()).unwrap();
        assert!((3 << 20..4 << 20).contains(&taken), "{taken}");
        assert!(octets_taken(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_sync_takes_time() {
        let times = sync_times(Path::new(".")).unwrap();
        assert!(0.0 < times.p50_micros && times.p50_micros <= times.p99_micros, "{times:?}");
    }
}
