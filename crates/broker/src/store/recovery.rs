//! What is there after a start: the newest snapshot, and what the journal has behind it.
//!
//! All that lives is brought to pages and a new snapshot, so that the journal begins anew; this is
//! what retiring a segment does while the broker runs. Damage costs what it hit, is counted by queue
//! where that is known, and keeps nothing else from being served. Invariant: what was synced and is
//! whole is there again, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{
    disk::Disk,
    journal::{
        Operation, Position, QueueNumber,
        entry::ALIGNMENT,
        reader::{Found, SegmentReader},
        segment::{BadHeader, segment_name, segment_number},
        writer::SegmentSpan,
    },
    kept::{KEPT_FILE_MIN, KeptMessage, KeptWriter, kept_name, kept_number},
    page::{self, PageEntry},
    pages::remove_spilled,
    ranges::{Range, RangeSet},
    retire::{Losses, Retirement},
    snapshot::{BadSnapshot, QueueState, Snapshot, snapshot_number},
};
use crate::{AwayRun, Ordinal};

/// Which queues the definitions know, by their numbers.
pub type KnownQueues<'a> = &'a dyn Fn(&BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeSet<QueueNumber>;

/// What a recovery found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The state, which is on disk as a snapshot now.
    pub snapshot: Snapshot,
    /// Its number.
    pub snapshot_number: u64,
    /// What was wrong, if anything was.
    pub damage: Damage,
}

/// What was lost, and what may have been.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Messages that are lost, by their queues.
    pub lost: Losses,
    /// Files that are damaged, and how many octets of each.
    pub files: BTreeMap<String, u64>,
    /// Octets at the journal's end that were not whole. Nobody was told that they were there.
    pub torn_octets: u64,
    /// No snapshot is whole though there should be one: definitions may be lost.
    pub no_snapshot: bool,
}

/// Brings the folder into order and says what is in it.
///
/// # Errors
/// What the disk says, and [`io::ErrorKind::InvalidData`] for files of a newer version.
pub fn recover(disk: &dyn Disk, known_queues: KnownQueues<'_>) -> io::Result<Recovered> {
    remove_spilled(disk)?;
    let names = disk.list()?;
    let mut recovery = Recovery {
        disk,
        is_newest: false,
        first_segment: 0,
        synced: Position::default(),
        damage: Damage::default(),
        segments: Vec::new(),
    };
    let (number, snapshot) = recovery.newest_snapshot(&names)?;
    // One of a higher number that was not finished is written over by the next one.
    let before = recovery.is_newest.then(|| snapshot.clone());
    let mut state = State { snapshot, dead: BTreeSet::new() };
    recovery.first_segment = state.snapshot.first_segment;
    let mut readers = recovery.open_segments(&names, state.snapshot.position)?;
    recovery.replay(&mut readers, &mut state)?;
    drop(readers);
    let known = known_queues(&state.snapshot.definitions);
    recovery.keep_living(&names, &mut state, &known)?;
    let snapshot_number = recovery.finish(&names, number, before.as_ref(), &mut state.snapshot)?;
    Ok(Recovered { snapshot: state.snapshot, snapshot_number, damage: recovery.damage })
}

struct Recovery<'d> {
    disk: &'d dyn Disk,
    /// The snapshot that is used is the one of the highest number, and there twice.
    is_newest: bool,
    /// The first segment that the snapshot does not have in it.
    first_segment: u64,
    /// Up to there somebody may have been told that the journal is synced.
    synced: Position,
    damage: Damage,
    segments: Vec<SegmentSpan>,
}

struct State {
    snapshot: Snapshot,
    /// Queues that were deleted.
    dead: BTreeSet<QueueNumber>,
}

impl State {
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
            Operation::QueueGone { queue } => {
                self.snapshot.queues.remove(&queue);
                self.dead.insert(queue);
            }
            Operation::Gone { .. }
            | Operation::Batch { .. }
            | Operation::Enqueue { .. }
            | Operation::Mark { .. } => {}
        }
    }
}

impl Recovery<'_> {
    fn newest_snapshot(&mut self, names: &[String]) -> io::Result<(u64, Snapshot)> {
        let mut found: Vec<_> =
            names.iter().filter_map(|name| Some((snapshot_number(name)?, name))).collect();
        found.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
        let highest = found.first().map_or(0, |(number, _)| *number);
        for of_number in found.chunk_by(|one, other| one.0 == other.0) {
            if let Some(snapshot) = self.whole_snapshot(of_number)? {
                // Those of higher numbers were never finished, or this one would be gone.
                let is_whole = of_number.len() == 2 && self.damage == Damage::default();
                self.is_newest = is_whole && of_number[0].0 == highest;
                return Ok((highest, snapshot));
            }
        }
        self.damage.no_snapshot = !found.is_empty();
        Ok((highest, Snapshot::default()))
    }

    /// Of a snapshot and its copy the one that is whole.
    fn whole_snapshot(&mut self, copies: &[(u64, &String)]) -> io::Result<Option<Snapshot>> {
        let (mut whole, mut damaged) = (None, Vec::new());
        for (_, name) in copies {
            match Snapshot::read(&self.read_whole(name)?) {
                Ok(snapshot) => whole = Some(snapshot),
                Err(newer @ BadSnapshot::Newer(_)) => return Err(refused(name, newer)),
                Err(BadSnapshot::Damaged) => damaged.push(*name),
            }
        }
        if whole.is_some() {
            damaged.into_iter().for_each(|name| self.note_damage(name, 0));
        }
        Ok(whole)
    }

    fn read_whole(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.disk.open(name)?;
        let mut octets = vec![0; usize::try_from(file.octets()?).map_err(io::Error::other)?];
        file.read_at(&mut octets, 0)?;
        Ok(octets)
    }

    fn note_damage(&mut self, name: &str, octets: u64) {
        *self.damage.files.entry(name.to_owned()).or_default() += octets;
    }

    /// Opens all segments in order. What an earlier one has from the first position of the next one
    /// on does not count.
    fn open_segments(&mut self, names: &[String], position: Position) -> io::Result<Vec<SegmentReader>> {
        let mut numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let mut readers: Vec<SegmentReader> = Vec::new();
        for number in numbers {
            let expected = readers.last().map_or(position, SegmentReader::end);
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
        if number >= self.first_segment && end < next.first() {
            self.note_damage(&segment_name(number), next.first().behind(end));
        }
    }

    fn open_segment(&mut self, number: u64, expected: Position) -> io::Result<SegmentReader> {
        let name = segment_name(number);
        let file = self.disk.open(&name)?;
        match SegmentReader::open(std::sync::Arc::clone(&file)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(newer @ BadHeader::Newer(_)) = bad_header(&error) {
                    return Err(refused(&name, newer));
                }
                // It goes on where the one before ended, as most do, or nothing in it is found whole.
                self.note_damage(&name, 0);
                SegmentReader::at(file, expected)
            }
            opened => opened,
        }
    }

    /// Carries out again what the segments say that the snapshot does not have in it.
    fn replay(&mut self, readers: &mut [SegmentReader], state: &mut State) -> io::Result<()> {
        let first_segment = state.snapshot.first_segment;
        let last = self.segments.last().map(|segment| segment.number);
        for (at, reader) in readers.iter_mut().enumerate() {
            let segment = self.segments[at];
            if segment.number < first_segment {
                continue;
            }
            let is_last = Some(segment.number) == last;
            let synced = if is_last { synced_by_marks(reader)? } else { reader.end() };
            self.synced = self.synced.max(synced);
            self.replay_segment(segment, reader, synced, state)?;
        }
        Ok(())
    }

    fn replay_segment(
        &mut self,
        segment: SegmentSpan,
        reader: &mut SegmentReader,
        synced: Position,
        state: &mut State,
    ) -> io::Result<()> {
        reader.rewind();
        let mut is_behind_hole = false;
        while let Some(found) = reader.next(synced)? {
            match found {
                Found::Operation { operation, .. } => state.carry_out(&operation, is_behind_hole),
                Found::Batch { .. } => {}
                // It was never told to be there, and what stands behind may rest on it.
                Found::Damage { at, octets } if at >= synced => {
                    self.damage.torn_octets += octets;
                    is_behind_hole = true;
                }
                Found::Damage { octets, .. } => self.note_damage(&segment_name(segment.number), octets),
            }
        }
        Ok(())
    }

    /// Brings all that lives to pages.
    fn keep_living(
        &mut self,
        names: &[String],
        state: &mut State,
        known: &BTreeSet<QueueNumber>,
    ) -> io::Result<()> {
        let snapshot = &mut state.snapshot;
        let used = names.iter().filter_map(|name| kept_number(name)).max();
        snapshot.next_kept_file =
            snapshot.next_kept_file.max(used.map_or(KEPT_FILE_MIN, |number| number + 1));
        let (dead, first_segment) = (&state.dead, snapshot.first_segment);
        snapshot.queues.retain(|queue, _| known.contains(queue));
        for segment in self.segments.clone().iter().filter(|segment| segment.number >= first_segment) {
            let queues = &snapshot.queues;
            let gone = |queue: QueueNumber| queues.get(&queue).map(|state| &state.gone);
            let is_live = |queue: QueueNumber, ordinal: Ordinal| {
                let has_left = gone(queue).is_some_and(|gone| gone.contains(ordinal.0));
                !has_left && known.contains(&queue) && !dead.contains(&queue)
            };
            let redelivered = |queue: QueueNumber, ordinal: Ordinal| {
                gone(queue).is_some_and(|gone| overtaken(gone, ordinal))
            };
            let retirement = Retirement {
                disk: self.disk,
                segments: &self.segments,
                is_live: &is_live,
                redelivered: &redelivered,
                synced: self.synced,
            };
            let retired = retirement.run(*segment, snapshot.next_kept_file)?;
            snapshot.next_kept_file += 1;
            for (queue, messages) in retired.losses {
                *self.damage.lost.entry(queue).or_default() += messages;
            }
            for page in retired.pages {
                snapshot.queues.entry(page.queue).or_default().kept.push(page.run);
            }
        }
        self.tidy_pages(snapshot)
    }

    /// Sees to it that every page is either all there or not: counts of messages rest on that.
    fn tidy_pages(&mut self, snapshot: &mut Snapshot) -> io::Result<()> {
        let mut writer: Option<KeptWriter> = None;
        for (&queue, state) in &mut snapshot.queues {
            let runs = std::mem::take(&mut state.kept);
            for run in runs {
                let range = Range { first: run.first.0, last: run.last.0 };
                let is_dense = range.len() == u64::from(run.messages);
                if state.gone.covers(range) {
                    continue;
                }
                if is_dense && !state.gone.meets(range) {
                    state.kept.push(run);
                    continue;
                }
                let Some((octets, entries)) = self.read_page(queue, &run)? else { continue };
                let living: Vec<_> =
                    entries.iter().filter(|entry| !state.gone.contains(entry.ordinal.0)).collect();
                close_gaps(&mut state.gone, range, &living);
                if living.len() == entries.len() {
                    state.kept.push(run);
                } else if !living.is_empty() {
                    let writer = match &mut writer {
                        Some(writer) => writer,
                        none => none.insert(KeptWriter::create(self.disk, snapshot.next_kept_file)?),
                    };
                    let messages: Vec<_> = living.iter().map(|entry| kept_message(&octets, entry)).collect();
                    writer.add(queue, &messages)?;
                }
            }
        }
        let Some(writer) = writer else { return Ok(()) };
        snapshot.next_kept_file += 1;
        for page in writer.finish(self.disk)? {
            snapshot.queues.entry(page.queue).or_default().kept.push(page.run);
        }
        Ok(())
    }

    fn read_page(
        &mut self,
        queue: QueueNumber,
        run: &AwayRun,
    ) -> io::Result<Option<(Vec<u8>, Vec<PageEntry>)>> {
        let name = kept_name(run.page.file);
        let mut octets = vec![0; run.page.octets as usize];
        let read = self.disk.open(&name).and_then(|file| file.read_at(&mut octets, run.page.offset));
        let is_cut = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        };
        let entries = match read {
            Ok(()) => page::entries(&octets, queue.0, run).ok(),
            Err(error) if is_cut(&error) => None,
            Err(error) => return Err(error),
        };
        let Some(entries) = entries else {
            self.note_damage(&name, run.page.octets.into());
            *self.damage.lost.entry(queue).or_default() += u64::from(run.messages);
            return Ok(None);
        };
        Ok(Some((octets, entries)))
    }

    /// Writes the new snapshot and removes what it makes superfluous.
    fn finish(
        &self,
        names: &[String],
        number: u64,
        before: Option<&Snapshot>,
        snapshot: &mut Snapshot,
    ) -> io::Result<u64> {
        if let Some(last) = self.segments.last() {
            snapshot.first_segment = snapshot.first_segment.max(last.number + 1);
            let file = self.disk.open(&segment_name(last.number))?;
            let end = SegmentReader::at(file, last.first)?.end();
            let aligned = end.0.next_multiple_of(ALIGNMENT as u64);
            snapshot.position = snapshot.position.max(Position(aligned));
        }
        snapshot.queues.values_mut().for_each(close_up);
        let is_unchanged = before == Some(snapshot) && self.damage == Damage::default();
        let number = if is_unchanged { number } else { number + 1 };
        if is_unchanged {
            // It is there for us, and may not be after a power cut: who wrote it may have been killed.
            Snapshot::sync(self.disk, number)?;
        } else {
            snapshot.write(self.disk, number)?;
        }
        if self.damage.no_snapshot {
            // Somebody may want to make something of them yet.
            set_aside(self.disk, names);
        } else {
            remove_superfluous(self.disk, names, number, snapshot);
        }
        Ok(number)
    }
}

/// Removes files that neither the snapshot nor what comes after it needs. One that cannot be removed
/// is removed at the next start.
pub fn remove_superfluous(disk: &dyn Disk, names: &[String], number: u64, snapshot: &Snapshot) {
    let used: BTreeSet<u32> =
        snapshot.queues.values().flat_map(|state| &state.kept).map(|run| run.page.file).collect();
    for name in names {
        let is_superfluous = snapshot_number(name).is_some_and(|other| other != number)
            || segment_number(name).is_some_and(|segment| segment < snapshot.first_segment)
            || kept_number(name).is_some_and(|file| file < snapshot.next_kept_file && !used.contains(&file));
        if is_superfluous && let Err(error) = disk.remove(name) {
            tracing::warn!(name, %error, "a file that is not needed any more cannot be removed");
        }
    }
}

/// Gives files that nothing refers to any more names that nobody removes.
fn set_aside(disk: &dyn Disk, names: &[String]) {
    let is_ours = |name: &&String| {
        snapshot_number(name).is_some() || segment_number(name).is_some() || kept_number(name).is_some()
    };
    for name in names.iter().filter(is_ours) {
        if let Err(error) = disk.rename(name, &format!("aside-{name}")) {
            tracing::warn!(name, %error, "a file cannot be set aside");
        }
    }
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

/// What stands between messages that live never comes.
fn close_gaps(gone: &mut RangeSet, range: Range, living: &[&PageEntry]) {
    let living: Vec<_> = living.iter().map(|entry| Range::of(entry.ordinal.0)).collect();
    gone.close_within(range, living);
}

/// Whatever stood before the last message that is known of, and is not kept, is gone: it was to go
/// with the process. So the set has few ranges again.
fn close_up(state: &mut QueueState) {
    state.kept.sort_unstable_by_key(|run| run.first);
    let mut ends: BTreeMap<usize, u64> = BTreeMap::new();
    let lasts = state.gone.iter().map(|range| range.last).chain(state.kept.iter().map(|run| run.last.0));
    for last in lasts {
        let end = ends.entry(Ordinal(last).band()).or_default();
        *end = last.max(*end);
    }
    for (band, last) in ends {
        let kept = state.kept.iter().filter(|run| run.first.band() == band);
        let kept: Vec<_> = kept.map(|run| Range { first: run.first.0, last: run.last.0 }).collect();
        state.gone.close_within(Range { first: Ordinal::new(band, 0).0, last }, kept);
    }
}

fn kept_message<'a>(page: &'a [u8], entry: &PageEntry) -> KeptMessage<'a> {
    let start = entry.offset as usize;
    let record = &page[start..start + page::record_octets(page, entry)];
    KeptMessage { ordinal: entry.ordinal, record, redelivered: entry.redelivered }
}

fn bad_header(error: &io::Error) -> Option<BadHeader> {
    error.get_ref()?.downcast_ref().copied()
}

fn refused(name: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {why}"))
}
