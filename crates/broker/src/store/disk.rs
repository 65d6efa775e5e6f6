//! The one door to the disk: files in one folder, as a driver opens them.
//!
//! Real in `leveret`, simulated with power cuts and failures in `leveret-sim`. Everything here may
//! block, so only the store's own work calls it, never a connection's. Invariant: nothing is known
//! to survive a power cut before it was synced: octets and lengths by [`DiskFile::sync`], names by
//! [`Disk::sync_names`].

use std::{fmt::Debug, io, sync::Arc};

/// A folder of files, which no other broker uses.
pub trait Disk: Debug + Send + Sync {
    /// The names of all files, in any order.
    ///
    /// # Errors
    /// What the operating system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], or what the operating system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], or what the operating system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in place of a file that has it.
    ///
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Whoever has it open goes on reading it.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when names that were made, changed or removed would survive a power cut.
    ///
    /// # Errors
    /// What the operating system says; which of them survive is unknown then.
    fn sync_names(&self) -> io::Result<()>;

    /// Octets that could still be written.
    ///
    /// # Errors
    /// What the operating system says.
    fn free_octets(&self) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length.
    ///
    /// # Errors
    /// What the operating system says.
    fn octets(&self) -> io::Result<u64>;

    /// Fills `octets` from that offset on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before, or what the operating system says.
    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `octets`, and lengthens the file where it ends before.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there is no room, or what the operating system says. A part
    /// may be written.
    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()>;

    /// So many octets are going to be written from its beginning on: a disk may set room aside for them,
    /// which makes writing cheaper. It promises nothing, and the length stays.
    fn expect_octets(&self, octets: u64) {
        let _ = octets;
    }

    /// Returns when all that was written would survive a power cut.
    ///
    /// # Errors
    /// What the operating system says. What of it survives is unknown then, and a further call that
    /// returns well says nothing about it: the octets are to be written to another file.
    fn sync(&self) -> io::Result<()>;
}
