//! Writing the journal: what threads appended goes to a segment and is synced.
//!
//! One thread of the driver's has this. Octets stay in memory until they are synced. Invariant:
//! after a write or a sync that failed, nothing more goes to that file, because what of it is there
//! is unknown: a new segment begins where the journal was synced, with all that came after.

use std::{io, sync::Arc};

use super::{
    Journal,
    entry::Position,
    segment::{SEGMENT_HEADER_OCTETS, SegmentHeader, segment_name},
};
use crate::{
    planted::{self, Bug},
    store::disk::{Disk, DiskFile},
};

/// Octets after which a further segment begins.
pub const SEGMENT_OCTETS: u64 = 32 * 1024 * 1024;
/// Octets of room that the buffers keep between two writes.
const BUFFER_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// A segment that is written, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its number.
    pub number: u64,
    /// Where its first entry stands.
    pub first: Position,
    /// Behind the last one that was synced.
    pub end: Position,
}

#[derive(Debug)]
struct OpenSegment {
    file: Arc<dyn DiskFile>,
    span: SegmentSpan,
    /// Whether its name would survive a power cut.
    is_named: bool,
}

/// Writes a journal.
#[derive(Debug)]
pub struct JournalWriter {
    disk: Arc<dyn Disk>,
    segment_octets: u64,
    segment: Option<OpenSegment>,
    next_number: u64,
    /// What is not synced, from that position on.
    unsynced: Vec<u8>,
    start: Position,
    spare: Vec<u8>,
    /// All of `unsynced` is in the file, as far as the disk took it.
    has_written: bool,
}

impl JournalWriter {
    /// Goes on behind segments of lower numbers than that, with a new one.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, next_number: u64) -> Self {
        Self {
            disk,
            segment_octets: SEGMENT_OCTETS,
            segment: None,
            next_number,
            unsynced: Vec::new(),
            start: Position::default(),
            spare: Vec::new(),
            has_written: false,
        }
    }

    /// Begins a further segment after so many octets.
    #[must_use]
    pub const fn with_segments_of(mut self, octets: u64) -> Self {
        self.segment_octets = octets;
        self
    }

    /// Brings what was appended to the disk, and says so to `journal`. `closed` is told of each
    /// segment that nothing more goes to.
    ///
    /// # Errors
    /// What the disk says. Nothing is lost: the next call begins a new segment with all that is not
    /// synced.
    pub fn write(&mut self, journal: &Journal, mut closed: impl FnMut(SegmentSpan)) -> io::Result<()> {
        if !(planted::is(Bug::SyncTriedAgain) && self.has_written) {
            self.take(journal);
        }
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.try_write(&mut closed) {
            if !planted::is(Bug::SyncTriedAgain) {
                self.close(&mut closed);
            }
            return Err(error);
        }
        self.start = self.start.plus(self.unsynced.len());
        self.unsynced.clear();
        self.has_written = false;
        self.unsynced.shrink_to(BUFFER_OCTETS_MAX);
        journal.set_synced(self.start);
        if self
            .segment
            .as_ref()
            .is_some_and(|open| open.span.end.behind(open.span.first) >= self.segment_octets)
        {
            self.close(&mut closed);
        }
        Ok(())
    }

    /// Lets go of the segment that is written: what comes next begins another one.
    pub fn close_segment(&mut self, mut closed: impl FnMut(SegmentSpan)) {
        self.close(&mut closed);
    }

    /// Octets that wait for a disk that failed.
    #[must_use]
    pub fn unsynced_octets(&self) -> usize {
        self.unsynced.len()
    }

    fn take(&mut self, journal: &Journal) {
        if self.unsynced.is_empty() {
            self.start = journal.take(&mut self.unsynced);
            return;
        }
        journal.take(&mut self.spare);
        self.unsynced.append(&mut self.spare);
        self.spare.shrink_to(BUFFER_OCTETS_MAX);
    }

    fn try_write(&mut self, closed: &mut impl FnMut(SegmentSpan)) -> io::Result<()> {
        let end = self.start.plus(self.unsynced.len());
        if self.segment.is_none() {
            self.segment = Some(self.create(closed)?);
        }
        let open = self.segment.as_mut().expect("it was just made");
        let offset = SEGMENT_HEADER_OCTETS as u64 + self.start.behind(open.span.first);
        if planted::is(Bug::SyncTriedAgain) && self.has_written {
            // As if what was written before the sync that failed needed no more than another sync.
            open.file.sync()?;
            open.span.end = end;
            return Ok(());
        }
        open.file.write_at(&self.unsynced, offset)?;
        self.has_written = true;
        if !planted::is(Bug::ConfirmBeforeSync) {
            open.file.sync()?;
        }
        if !open.is_named && !planted::is(Bug::NamesNotSynced) {
            self.disk.sync_names()?;
        }
        open.is_named = true;
        open.span.end = end;
        Ok(())
    }

    /// Makes a segment that begins where the journal is synced up to. Its number is used up even
    /// where that fails.
    fn create(&mut self, closed: &mut impl FnMut(SegmentSpan)) -> io::Result<OpenSegment> {
        let number = self.next_number;
        self.next_number += 1;
        let header = SegmentHeader { number, first: self.start };
        let file = self.disk.create(&segment_name(number))?;
        let span = SegmentSpan { number, first: self.start, end: self.start };
        if let Err(error) = file.write_at(&header.to_octets(), 0) {
            closed(span);
            return Err(error);
        }
        Ok(OpenSegment { file, span, is_named: false })
    }

    fn close(&mut self, closed: &mut impl FnMut(SegmentSpan)) {
        if let Some(open) = self.segment.take() {
            closed(open.span);
        }
    }
}
