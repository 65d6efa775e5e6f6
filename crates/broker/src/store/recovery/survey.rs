//! What a folder has: its newest snapshot, with what the journal says behind it carried out again.
//!
//! Reads and changes nothing. Damage costs what it hit and is noted; what the operating system cannot
//! read is an error. Invariant: of what is not whole nothing is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::Damage;
use crate::{
    AwayRun, Ordinal,
    store::{
        disk::Disk,
        journal::{
            Operation, Position, QueueNumber,
            reader::{Found, SegmentReader},
            segment::{BadHeader, segment_name, segment_number},
            writer::SegmentSpan,
        },
        kept::kept_name,
        page::{self, PageEntry},
        ranges::RangeSet,
        retire::Retirement,
        snapshot::{BadSnapshot, QueueState, Snapshot, snapshot_number},
    },
};

/// What was read of a folder.
#[derive(Debug)]
pub struct Survey<'d> {
    pub(super) disk: &'d dyn Disk,
    /// All files that are there.
    pub(super) names: Vec<String>,
    /// The snapshot, and what the journal has behind it in it.
    pub(super) snapshot: Snapshot,
    /// The highest number of a snapshot.
    pub(super) snapshot_number: u64,
    /// The snapshot as it was read, if it is the one of the highest number and there twice.
    pub(super) unchanged: Option<Snapshot>,
    /// Queues that were deleted.
    pub(super) dead: BTreeSet<QueueNumber>,
    pub(super) segments: Vec<SegmentSpan>,
    /// Up to there somebody may have been told that the journal is synced.
    pub(super) synced: Position,
    pub(super) damage: Damage,
}

impl<'d> Survey<'d> {
    /// Reads what is in the folder.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] for files of a newer version.
    pub fn read(disk: &'d dyn Disk) -> io::Result<Self> {
        let mut survey = Self {
            disk,
            names: disk.list()?,
            snapshot: Snapshot::default(),
            snapshot_number: 0,
            unchanged: None,
            dead: BTreeSet::new(),
            segments: Vec::new(),
            synced: Position::default(),
            damage: Damage::default(),
        };
        survey.read_snapshot()?;
        let mut readers = survey.open_segments()?;
        survey.replay(&mut readers)?;
        Ok(survey)
    }

    /// The definitions, by their keys.
    #[must_use]
    pub const fn definitions(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.snapshot.definitions
    }

    /// What is wrong, as far as it was read.
    #[must_use]
    pub const fn damage(&self) -> &Damage {
        &self.damage
    }

    /// The segments that the snapshot does not have in it, in order.
    pub(in crate::store) fn fresh_segments(&self) -> Vec<SegmentSpan> {
        let first = self.snapshot.first_segment;
        self.segments.iter().filter(|segment| segment.number >= first).copied().collect()
    }

    /// Forgets the queues that no definition knows, with their messages.
    pub(in crate::store) fn retain_queues(&mut self, known: &BTreeSet<QueueNumber>) {
        self.snapshot.queues.retain(|queue, _| known.contains(queue));
    }

    /// Works on a segment with what is known here of its messages; `known` are the queues that are there.
    pub(in crate::store) fn with_retirement<T>(
        &self,
        known: &BTreeSet<QueueNumber>,
        work: impl FnOnce(&Retirement<'_>) -> T,
    ) -> T {
        let queues = &self.snapshot.queues;
        let gone = |queue: QueueNumber| queues.get(&queue).map(|state| &state.gone);
        let is_live = |queue: QueueNumber, ordinal: Ordinal| {
            let has_left = gone(queue).is_some_and(|gone| gone.contains(ordinal.0));
            !has_left && known.contains(&queue) && !self.dead.contains(&queue)
        };
        let redelivered =
            |queue: QueueNumber, ordinal: Ordinal| gone(queue).is_some_and(|gone| overtaken(gone, ordinal));
        work(&Retirement {
            disk: self.disk,
            segments: &self.segments,
            is_live: &is_live,
            redelivered: &redelivered,
            synced: self.synced,
        })
    }

    fn read_snapshot(&mut self) -> io::Result<()> {
        let mut found: Vec<_> =
            self.names.iter().filter_map(|name| Some((snapshot_number(name)?, name.clone()))).collect();
        found.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
        self.snapshot_number = found.first().map_or(0, |(number, _)| *number);
        for of_number in found.chunk_by(|one, other| one.0 == other.0) {
            if let Some(snapshot) = self.whole_snapshot(of_number)? {
                // Those of higher numbers were never finished, or this one would be gone.
                let is_whole = of_number.len() == 2 && self.damage == Damage::default();
                let is_newest = is_whole && of_number[0].0 == self.snapshot_number;
                self.unchanged = is_newest.then(|| snapshot.clone());
                self.snapshot = snapshot;
                return Ok(());
            }
        }
        self.damage.no_snapshot = !found.is_empty();
        Ok(())
    }

    /// Of a snapshot and its copy the one that is whole.
    fn whole_snapshot(&mut self, copies: &[(u64, String)]) -> io::Result<Option<Snapshot>> {
        let (mut whole, mut damaged) = (None, Vec::new());
        for (_, name) in copies {
            match Snapshot::read(&self.read_whole(name)?) {
                Ok(snapshot) => whole = Some(snapshot),
                Err(newer @ BadSnapshot::Newer(_)) => return Err(refused(name, newer)),
                Err(BadSnapshot::Damaged) => damaged.push(name),
            }
        }
        if whole.is_some() {
            damaged.into_iter().for_each(|name| self.damage.note(name, 0));
        }
        Ok(whole)
    }

    fn read_whole(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.disk.open(name)?;
        let mut octets = vec![0; usize::try_from(file.octets()?).map_err(io::Error::other)?];
        file.read_at(&mut octets, 0)?;
        Ok(octets)
    }

    /// Opens all segments in order. What an earlier one has from the first position of the next one
    /// on does not count.
    fn open_segments(&mut self) -> io::Result<Vec<SegmentReader>> {
        let mut numbers: Vec<_> = self.names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let mut readers: Vec<SegmentReader> = Vec::new();
        for number in numbers {
            let expected = readers.last().map_or(self.snapshot.position, SegmentReader::end);
            let reader = self.open_segment(number, expected)?;
            self.note_gap(readers.last(), &reader);
            // All of them: one between may have been given up before anything was in it.
            readers.iter_mut().for_each(|before| before.cut(reader.first()));
            self.segments.iter_mut().for_each(|before| before.end = before.end.min(reader.first()));
            let (first, end) = (reader.first(), reader.end());
            self.segments.push(SegmentSpan { number, first, end });
            readers.push(reader);
        }
        Ok(readers)
    }

    /// Segments follow one another without a gap.
    fn note_gap(&mut self, before: Option<&SegmentReader>, next: &SegmentReader) {
        let Some(number) = self.segments.last().map(|segment| segment.number) else { return };
        let end = before.map_or(next.first(), SegmentReader::end);
        if number >= self.snapshot.first_segment && end < next.first() {
            self.damage.note(&segment_name(number), next.first().behind(end));
        }
    }

    fn open_segment(&mut self, number: u64, expected: Position) -> io::Result<SegmentReader> {
        let name = segment_name(number);
        let file = self.disk.open(&name)?;
        match SegmentReader::open(Arc::clone(&file)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(newer @ BadHeader::Newer(_)) = bad_header(&error) {
                    return Err(refused(&name, newer));
                }
                // It goes on where the one before ended, as most do, or nothing in it is found whole.
                self.damage.note(&name, 0);
                SegmentReader::at(file, expected)
            }
            opened => opened,
        }
    }

    /// Carries out again what the segments say that the snapshot does not have in it.
    fn replay(&mut self, readers: &mut [SegmentReader]) -> io::Result<()> {
        let last = self.segments.last().map(|segment| segment.number);
        let fresh = self.fresh_segments();
        let begin = self.segments.len() - fresh.len();
        for (segment, reader) in fresh.into_iter().zip(&mut readers[begin..]) {
            let is_last = Some(segment.number) == last;
            let synced = if is_last { synced_by_marks(reader)? } else { reader.end() };
            self.synced = self.synced.max(synced);
            self.replay_segment(segment, reader, synced)?;
        }
        Ok(())
    }

    fn replay_segment(
        &mut self,
        segment: SegmentSpan,
        reader: &mut SegmentReader,
        synced: Position,
    ) -> io::Result<()> {
        reader.rewind();
        let mut is_behind_hole = false;
        while let Some(found) = reader.next(synced)? {
            match found {
                Found::Operation { operation, .. } => self.carry_out(&operation, is_behind_hole),
                Found::Batch { .. } => {}
                // It was never told to be there, and what stands behind may rest on it.
                Found::Damage { at, octets } if at >= synced => {
                    self.damage.torn_octets += octets;
                    is_behind_hole = true;
                }
                Found::Damage { octets, .. } => self.damage.note(&segment_name(segment.number), octets),
            }
        }
        Ok(())
    }

    /// Carries out what the journal says. Behind a hole, messages that left may have gone to where the
    /// hole is, so that they stay.
    fn carry_out(&mut self, operation: &Operation<'_>, is_behind_hole: bool) {
        match *operation {
            Operation::Put { key, value } => {
                self.snapshot.definitions.insert(key.to_vec(), value.to_vec());
            }
            Operation::Remove { key } => {
                self.snapshot.definitions.remove(key);
            }
            Operation::Gone { queue, ranges } if !is_behind_hole && !self.dead.contains(&queue) => {
                let gone = &mut self.snapshot.queues.entry(queue).or_default().gone;
                ranges.iter().for_each(|range| gone.insert(range));
            }
            Operation::Returned { queue, returns } if !self.dead.contains(&queue) => {
                let known = &mut self.snapshot.queues.entry(queue).or_default().returns;
                returns.iter().for_each(|message| known.note(message));
            }
            Operation::QueueGone { queue } => {
                self.snapshot.queues.remove(&queue);
                self.dead.insert(queue);
            }
            Operation::Gone { .. }
            | Operation::Returned { .. }
            | Operation::Batch { .. }
            | Operation::Enqueue { .. }
            | Operation::Mark { .. } => {}
        }
    }
}

/// Reads a page with what it has; `None`, noted as damage, when it is not whole.
///
/// # Errors
/// What the disk says, but for a file that is missing or ends too early.
pub(in crate::store) fn read_page(
    disk: &dyn Disk,
    queue: QueueNumber,
    state: &QueueState,
    run: &AwayRun,
    damage: &mut Damage,
) -> io::Result<Option<(Vec<u8>, Vec<PageEntry>)>> {
    let name = kept_name(run.page.file);
    let mut octets = vec![0; run.page.octets as usize];
    let read = disk.open(&name).and_then(|file| file.read_at(&mut octets, run.page.offset));
    let is_cut =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof);
    let entries = match read {
        Ok(()) => page::entries(&octets, queue.0, run).ok(),
        Err(error) if is_cut(&error) => None,
        Err(error) => return Err(error),
    };
    let Some(entries) = entries else {
        damage.note(&name, run.page.octets.into());
        let range = run.range();
        let living = range.len().saturating_sub(state.gone.count_within(range));
        *damage.lost.entry(queue).or_default() += living.min(run.messages.into());
        return Ok(None);
    };
    Ok(Some((octets, entries)))
}

/// Up to where the last segment was synced, as far as it says so itself.
fn synced_by_marks(reader: &mut SegmentReader) -> io::Result<Position> {
    let mut synced = reader.first();
    reader.rewind();
    while let Some(found) = reader.next(Position(u64::MAX))? {
        if let Found::Operation { operation: Operation::Mark { synced: mark }, .. } = found {
            synced = synced.max(mark);
        }
    }
    Ok(synced)
}

/// Whether a message behind this one in its band has left the queue, so that this one was handed out.
fn overtaken(gone: &RangeSet, ordinal: Ordinal) -> bool {
    gone.first_behind(ordinal.0).is_some_and(|other| Ordinal(other).band() == ordinal.band())
}

fn bad_header(error: &io::Error) -> Option<BadHeader> {
    error.get_ref()?.downcast_ref().copied()
}

fn refused(name: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {why}"))
}
