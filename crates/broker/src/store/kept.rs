//! Pages that last: messages of durable queues, taken out of the journal so that it need not be kept.
//!
//! A file `pages-*` begins as the files of pages do (`pages.rs`), and its pages stand as theirs do
//! (`page.rs`). Snapshots say which of them are held. Invariant: a page is told of only when its file
//! is synced, with its name.

use std::{io, sync::Arc};

use super::{
    disk::{Disk, DiskFile},
    journal::QueueNumber,
    page::{self, PageEntry, PageWriter},
    pages::{FILE_HEADER_OCTETS, file_header},
    record::Record,
};
use crate::{
    AwayRun, Location, Ordinal, PagePlace,
    planted::{self, Bug},
};

const PREFIX: &str = "pages-";
/// Octets of records after which a page ends.
const PAGE_OCTETS_MAX: usize = 256 * 1024;
/// Messages after which a page ends.
const PAGE_MESSAGES_MAX: usize = 4096;
/// Octets that are written at a time.
const WRITE_OCTETS: usize = 1024 * 1024;

/// Numbers of such files are above this, so that they are never those of spilled pages.
pub const KEPT_FILE_MIN: u32 = 1 << 31;

/// The name of the file of that number.
#[must_use]
pub fn kept_name(number: u32) -> String {
    format!("{PREFIX}{number:016x}")
}

/// The number of the file of that name, if it is one of these.
#[must_use]
pub fn kept_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX).filter(|digits| digits.len() == 16)?;
    u32::from_str_radix(digits, 16).ok().filter(|number| *number >= KEPT_FILE_MIN)
}

/// A message on its way to a page.
#[derive(Debug, Clone, Copy)]
pub struct KeptMessage<'a> {
    /// Its number in its queue.
    pub ordinal: Ordinal,
    /// Its record.
    pub record: &'a [u8],
    /// Whether it may have been delivered before.
    pub redelivered: bool,
}

impl<'a> KeptMessage<'a> {
    /// A message of a page that was read.
    #[must_use]
    pub fn of_page(page: &'a [u8], entry: &PageEntry) -> Self {
        let start = entry.offset as usize;
        let record = &page[start..start + page::record_octets(page, entry)];
        Self { ordinal: entry.ordinal, record, redelivered: entry.redelivered }
    }
}

/// A page and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptPage {
    /// The queue.
    pub queue: QueueNumber,
    /// Its messages.
    pub run: AwayRun,
}

/// Writes one file of pages.
#[derive(Debug)]
pub struct KeptWriter {
    file: Arc<dyn DiskFile>,
    number: u32,
    /// Pages that are not written yet, from that offset on.
    buffer: Vec<u8>,
    offset: u64,
    pages: Vec<KeptPage>,
}

impl KeptWriter {
    /// Writes the file of that number and says which pages are in it.
    ///
    /// # Errors
    /// What the disk says; then there is no file, or one that nobody knows of.
    pub fn write(
        disk: &dyn Disk,
        number: u32,
        fill: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<Vec<KeptPage>> {
        let mut writer = Self::create(disk, number)?;
        let written = fill(&mut writer).and_then(|()| writer.finish(disk));
        if written.is_err() {
            Self::remove(disk, number);
        }
        written
    }

    /// Removes a file that could not be written, so that it takes no room on a disk that has none.
    pub fn remove(disk: &dyn Disk, number: u32) {
        // What is not removed is superfluous, and goes with the next snapshot.
        let _ = disk.remove(&kept_name(number));
    }

    /// Makes the file of that number.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(disk: &dyn Disk, number: u32) -> io::Result<Self> {
        let file = disk.create(&kept_name(number))?;
        let buffer = file_header().to_vec();
        debug_assert_eq!(buffer.len(), FILE_HEADER_OCTETS);
        Ok(Self { file, number, buffer, offset: 0, pages: Vec::new() })
    }

    /// Adds messages of a queue, which rise.
    ///
    /// # Errors
    /// What the disk says.
    pub fn add(&mut self, queue: QueueNumber, messages: &[KeptMessage<'_>]) -> io::Result<()> {
        let mut rest = messages;
        while !rest.is_empty() {
            let (page, behind) = rest.split_at(page_messages(rest));
            self.add_page(queue, page);
            rest = behind;
            if self.buffer.len() >= WRITE_OCTETS {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn add_page(&mut self, queue: QueueNumber, messages: &[KeptMessage<'_>]) {
        let start = self.buffer.len();
        let (first, count) = (messages[0].ordinal, messages.len());
        let count = u32::try_from(count).expect("a page has few messages");
        let mut writer = PageWriter::begin(&mut self.buffer, queue.0, first, count);
        for message in messages {
            let location = Location::new(0, 0).expiring(expires(message.record));
            let location = if message.redelivered { location.as_redelivered() } else { location };
            writer.add(message.ordinal, location, message.record);
        }
        let written = writer.finish();
        let place =
            PagePlace { file: self.number, octets: written.octets, offset: self.offset + start as u64 };
        let (last, body_octets) = (written.last, written.body_octets);
        let run = AwayRun { first, last, messages: count, body_octets, page: place };
        self.pages.push(KeptPage { queue, run });
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Syncs the file and its name, and says which pages are in it.
    ///
    /// # Errors
    /// What the disk says; then nothing of the file may be used.
    pub fn finish(mut self, disk: &dyn Disk) -> io::Result<Vec<KeptPage>> {
        self.flush()?;
        if !planted::is(Bug::PagesNotSynced) {
            self.file.sync()?;
            disk.sync_names()?;
        }
        Ok(self.pages)
    }
}

/// How many of the messages go on one page.
fn page_messages(messages: &[KeptMessage<'_>]) -> usize {
    let band = messages[0].ordinal.band();
    let mut octets = 0;
    let fits = |message: &&KeptMessage<'_>| {
        octets += message.record.len();
        message.ordinal.band() == band && octets <= PAGE_OCTETS_MAX
    };
    messages.iter().take(PAGE_MESSAGES_MAX).take_while(fits).count().max(1)
}

/// Whether a record has the property `expiration`, whose flag is the lowest bit of the first octet.
fn expires(record: &[u8]) -> bool {
    Record::at(record, 0).property_octets().first().is_some_and(|flags| flags & 1 != 0)
}
