//! A data folder as it was at one moment, to be read while a broker goes on with it, or long after.
//!
//! All files are opened at once and read up to the lengths that they have then, so that it does not
//! matter what is written to them or removed later. Invariant: nothing here writes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use leveret_broker::store::{Disk, DiskFile};

/// How often a folder is listed that changes meanwhile.
const ATTEMPTS_MAX: usize = 100;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);
/// Octets around one that cannot be read which are given up with it: a disk's sector today.
const SECTOR_OCTETS: usize = 4096;

/// The files of a data folder at one moment.
#[derive(Debug)]
pub(crate) struct FrozenDisk {
    files: BTreeMap<String, Arc<FrozenFile>>,
}

impl FrozenDisk {
    /// Opens all files that make up a store.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS_MAX {
            let names = names(folder)?;
            if let Some(files) = open_all(folder, &names)?
                && is_still(folder, &names)?
            {
                return Ok(Self { files });
            }
            thread::sleep(BETWEEN_ATTEMPTS);
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "its files come and go all the time"))
    }
}

/// The files that make up a store, without those that its broker puts away for itself.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_ours = ["journal-", "pages-", "snapshot-"].iter().any(|kind| name.starts_with(kind));
        if is_ours && entry.file_type()?.is_file() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `None` when one went meanwhile.
fn open_all(folder: &Path, names: &[String]) -> io::Result<Option<BTreeMap<String, Arc<FrozenFile>>>> {
    let mut files = BTreeMap::new();
    for name in names {
        let path = folder.join(name);
        match File::open(&path) {
            Ok(file) => {
                let octets = file.metadata()?.len();
                files.insert(name.clone(), Arc::new(FrozenFile { path, file, octets }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(files))
}

/// Whether all files were there at one moment: none came or went while they were opened.
fn is_still(folder: &Path, listed: &[String]) -> io::Result<bool> {
    Ok(names(folder)? == listed)
}

#[derive(Debug)]
struct FrozenFile {
    path: PathBuf,
    file: File,
    octets: u64,
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the folder is only looked at")
}

impl Disk for FrozenDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn create(&self, _name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Err(read_only())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::<FrozenFile>::clone(file))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_names(&self) -> io::Result<()> {
        Err(read_only())
    }

    fn free_octets(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl DiskFile for FrozenFile {
    fn octets(&self) -> io::Result<u64> {
        Ok(self.octets)
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.saturating_add(octets.len() as u64) > self.octets {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let failed = read_around(octets, offset, |octets, offset| self.file.read_exact_at(octets, offset))?;
        if failed > 0 {
            tracing::warn!(file = %self.path.display(), octets = failed, "octets cannot be read");
        }
        Ok(())
    }

    fn write_at(&self, _octets: &[u8], _offset: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync(&self) -> io::Result<()> {
        Err(read_only())
    }
}

/// Reads all that a failing disk gives; what it does not give is zeros, which no checksum takes. Says how
/// many octets those are.
fn read_around(
    octets: &mut [u8],
    offset: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<usize> {
    let is_unreadable =
        |error: &io::Error| rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO);
    match read(octets, offset) {
        Err(error) if is_unreadable(&error) => {}
        other => return other.map(|()| 0),
    }
    let mut failed = 0;
    for (at, sector) in (offset..).step_by(SECTOR_OCTETS).zip(octets.chunks_mut(SECTOR_OCTETS)) {
        match read(sector, at) {
            Err(error) if is_unreadable(&error) => {
                sector.fill(0);
                failed += sector.len();
            }
            other => other?,
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_is_not_there_and_what_goes_later_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["journal-1", "snapshot-1", "spill-1", "lock", "aside-journal-1"] {
            fs::write(path(name), "before").unwrap();
        }
        let frozen = FrozenDisk::open(folder.path()).unwrap();
        fs::write(path("journal-2"), "new").unwrap();
        let longer = fs::OpenOptions::new().write(true).open(path("journal-1")).unwrap();
        longer.write_all_at(b"more", 6).unwrap();
        fs::remove_file(path("snapshot-1")).unwrap();
        assert_eq!(frozen.list().unwrap(), ["journal-1", "snapshot-1"]);
        for name in ["journal-1", "snapshot-1"] {
            let file = frozen.open(name).unwrap();
            let mut octets = vec![0; 6];
            file.read_at(&mut octets, 0).unwrap();
            assert_eq!((file.octets().unwrap(), &octets[..]), (6, &b"before"[..]));
            let beyond = file.read_at(&mut octets, 1).unwrap_err();
            assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("journal-1"), "before").unwrap();
        let frozen = FrozenDisk::open(folder.path()).unwrap();
        frozen.open("journal-1").unwrap().write_at(b"x", 0).unwrap_err();
        frozen.create("journal-2").unwrap_err();
        frozen.remove("journal-1").unwrap_err();
        frozen.rename("journal-1", "journal-2").unwrap_err();
    }

    #[test]
    fn octets_that_cannot_be_read_are_zeros_and_the_others_are_there() {
        let bad = 5000;
        let read = |octets: &mut [u8], offset: u64| {
            if (offset..offset + octets.len() as u64).contains(&bad) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
            }
            octets.fill(7);
            Ok(())
        };
        let mut octets = vec![1; 3 * SECTOR_OCTETS];
        assert_eq!(read_around(&mut octets, 0, read).unwrap(), SECTOR_OCTETS);
        let sectors: Vec<_> = octets.chunks(SECTOR_OCTETS).collect();
        assert!(sectors[0].iter().chain(sectors[2]).all(|octet| *octet == 7));
        assert!(sectors[1].iter().all(|octet| *octet == 0));
        let refuse = |_: &mut [u8], _| Err(io::ErrorKind::PermissionDenied.into());
        read_around(&mut octets, 0, refuse).unwrap_err();
    }
}
