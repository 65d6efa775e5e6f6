//! A data folder without a broker: looked over, and copied.
//!
//! Both read the folder as it is at one moment, whether a broker runs on it or not, and leave it as it
//! is. They block while they read.

use std::{io, path::Path, thread, time::Duration};

use leveret_broker::{engine::Store, store::Disk as _};
pub use leveret_broker::{
    engine::{QueueReport, StoreReport},
    store::recovery::{Damage, check::Messages},
};
use thiserror::Error;

use crate::{
    DataFolderError,
    disk::{self, DirectoryDisk, Syncing},
    frozen::FrozenDisk,
};

/// How often a folder is looked at in which something seems to be damaged while a broker writes to it.
const ATTEMPTS: usize = 4;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(300);

/// Why a folder cannot be looked over or copied.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be read.
    #[error("cannot read the data folder")]
    Read(#[source] io::Error),
    /// There is nothing of a broker's in it.
    #[error("no broker has kept anything there")]
    Nothing,
    /// The folder for the copy cannot be used.
    #[error(transparent)]
    Target(#[from] DataFolderError),
    /// The folder for the copy has something in it.
    #[error("there is something in the folder for the copy already")]
    TargetNotEmpty,
    /// Reading or writing fails. What was written is removed.
    #[error("cannot copy the data folder")]
    Copy(#[source] io::Error),
}

/// A folder that was looked over.
#[derive(Debug)]
pub struct Checked {
    /// What is in it.
    pub report: StoreReport,
    /// The process of the broker that runs on it, where it says so.
    pub holder: Option<u32>,
}

/// Reads all that is in a folder and says what it is. Nothing is changed.
///
/// # Errors
/// [`StoreError::Read`], for files of a newer version too, and [`StoreError::Nothing`].
pub fn check(folder: &Path) -> Result<Checked, StoreError> {
    read_calm(folder, |disk| {
        let report = Store::check(disk).map_err(StoreError::Read)?;
        let is_whole = report.damage == Damage::default();
        Ok((report, is_whole))
    })
    .map(|(report, holder)| Checked { report, holder })
}

/// Writes what is whole in a folder to another one, which is made if it is not there and has to be empty,
/// and says what was wrong. A broker can start on the copy.
///
/// What a running broker has confirmed before this is called is in the copy, and on stable storage when
/// this returns.
///
/// # Errors
/// [`StoreError`]; there is no copy then.
pub fn copy(from: &Path, into: &Path) -> Result<Damage, StoreError> {
    let target = DirectoryDisk::open(into, Syncing::Honest)?;
    if !target.list().map_err(StoreError::Copy)?.is_empty() {
        return Err(StoreError::TargetNotEmpty);
    }
    let copied = read_calm(from, |disk| {
        remove_all(&target);
        let damage = Store::copy(disk, &target).map_err(StoreError::Copy)?;
        let is_whole = damage == Damage::default();
        Ok((damage, is_whole))
    });
    if copied.is_err() {
        remove_all(&target);
    }
    copied.map(|(damage, _)| damage)
}

fn remove_all(disk: &DirectoryDisk) {
    for name in disk.list().unwrap_or_default() {
        if let Err(error) = disk.remove(&name) {
            tracing::warn!(name, %error, "a file that was begun cannot be removed");
        }
    }
}

/// Works on a folder as it is at one moment, and once more when something was not whole that its broker
/// may just be writing. Says whose it is, too.
fn read_calm<T>(
    folder: &Path,
    work: impl Fn(&FrozenDisk) -> Result<(T, bool), StoreError>,
) -> Result<(T, Option<u32>), StoreError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let frozen = FrozenDisk::open(folder).map_err(StoreError::Read)?;
        if frozen.list().map_err(StoreError::Read)?.is_empty() {
            return Err(StoreError::Nothing);
        }
        let (worked, is_whole) = work(&frozen)?;
        let holder = disk::holder(folder);
        if is_whole || holder.is_none() || attempt == ATTEMPTS {
            return Ok((worked, holder));
        }
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}
