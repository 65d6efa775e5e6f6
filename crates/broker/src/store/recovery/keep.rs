//! Bringing what lives to pages and writing the snapshot that knows them.
//!
//! Reads one folder and writes to one, which may be another. Invariant: nothing is removed before
//! what is in its place is on stable storage.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{
    Damage,
    superfluous::{remove_superfluous, set_all_aside},
    survey::{Survey, read_page},
};
use crate::{
    AwayRun, Ordinal,
    store::{
        disk::Disk,
        journal::{Position, QueueNumber, entry::ALIGNMENT, reader::SegmentReader, segment::segment_name},
        kept::{KEPT_FILE_MIN, KeptMessage, KeptWriter, kept_number},
        page::PageEntry,
        ranges::{Range, RangeSet},
        snapshot::{QueueState, Snapshot},
    },
};

/// A survey whose messages are brought to pages.
pub(super) struct Keeping<'s, 'd> {
    survey: &'s mut Survey<'d>,
    into: &'d dyn Disk,
    known: BTreeSet<QueueNumber>,
}

impl<'s, 'd> Keeping<'s, 'd> {
    /// Pages and the snapshot are written there; the definitions know those queues.
    pub(super) fn new(survey: &'s mut Survey<'d>, into: &'d dyn Disk, known: BTreeSet<QueueNumber>) -> Self {
        let used = survey.names.iter().filter_map(|name| kept_number(name)).max();
        let snapshot = &mut survey.snapshot;
        snapshot.next_kept_file =
            snapshot.next_kept_file.max(used.map_or(KEPT_FILE_MIN, |number| number + 1));
        survey.retain_queues(&known);
        Self { survey, into, known }
    }

    /// Brings all that lives in the journal to pages.
    pub(super) fn keep_living(&mut self) -> io::Result<()> {
        for segment in self.survey.fresh_segments() {
            let file_number = self.take_file_number();
            let retired = self.survey.with_retirement(&self.known, |retirement| {
                let survivors = retirement.survivors(segment)?;
                let pages = retirement.write(&survivors, self.into, file_number)?;
                Ok::<_, io::Error>((pages, survivors.losses))
            });
            let (pages, losses) = retired?;
            self.survey.damage.lose(losses);
            for page in pages {
                self.survey.snapshot.queues.entry(page.queue).or_default().kept.push(page.run);
            }
        }
        Ok(())
    }

    fn take_file_number(&mut self) -> u32 {
        let number = self.survey.snapshot.next_kept_file;
        self.survey.snapshot.next_kept_file += 1;
        number
    }

    /// Sees to it that every page is either all there or not: counts of messages rest on that. Pages
    /// are read from `from`, and with `all` each is written anew.
    pub(super) fn tidy_pages(&mut self, from: &dyn Disk, all: bool) -> io::Result<()> {
        let mut writer = PageRewriter { into: self.into, number: self.take_file_number(), file: None };
        let survey = &mut *self.survey;
        for (&queue, state) in &mut survey.snapshot.queues {
            let runs = std::mem::take(&mut state.kept);
            for run in runs {
                let range = run.range();
                let is_dense = range.len() == u64::from(run.messages);
                if state.gone.covers(range) {
                    continue;
                }
                if !all && is_dense && !state.gone.meets(range) {
                    state.kept.push(run);
                    continue;
                }
                let Some((octets, entries)) = read_page(from, queue, state, &run, &mut survey.damage)? else {
                    continue;
                };
                let living: Vec<_> =
                    entries.iter().filter(|entry| !state.gone.contains(entry.ordinal.0)).collect();
                close_gaps(&mut state.gone, range, &living);
                if !all && living.len() == entries.len() {
                    state.kept.push(run);
                } else if !living.is_empty() {
                    let messages: Vec<_> =
                        living.iter().map(|entry| KeptMessage::of_page(&octets, entry)).collect();
                    writer.add(queue, &messages)?;
                }
            }
        }
        writer.finish(&mut survey.snapshot)
    }

    /// Writes the new snapshot and says its number.
    pub(super) fn write_snapshot(&mut self) -> io::Result<u64> {
        let survey = &mut *self.survey;
        let snapshot = &mut survey.snapshot;
        if let Some(last) = survey.segments.last() {
            snapshot.first_segment = snapshot.first_segment.max(last.number + 1);
            let file = survey.disk.open(&segment_name(last.number))?;
            let end = SegmentReader::at(file, last.first)?.end();
            let aligned = end.0.next_multiple_of(ALIGNMENT as u64);
            snapshot.position = snapshot.position.max(Position(aligned));
        }
        snapshot.queues.values_mut().for_each(close_up);
        let is_unchanged = survey.unchanged.as_ref() == Some(snapshot) && survey.damage == Damage::default();
        if is_unchanged {
            // It is there for us, and may not be after a power cut: who wrote it may have been killed.
            Snapshot::sync(self.into, survey.snapshot_number)?;
            return Ok(survey.snapshot_number);
        }
        let number = survey.snapshot_number + 1;
        snapshot.write(self.into, number)?;
        Ok(number)
    }

    /// Clears away what the snapshot makes superfluous.
    pub(super) fn clear_away(&self, snapshot_number: u64) {
        let Survey { names, snapshot, damage, .. } = &*self.survey;
        if damage.no_snapshot {
            // Somebody may want to make something of them yet.
            set_all_aside(self.into, names);
        } else {
            let is_damaged = |name: &str| damage.files.contains_key(name);
            remove_superfluous(self.into, names, snapshot_number, snapshot, is_damaged);
        }
    }
}

/// Writes pages anew, to a file that is made for the first of them.
struct PageRewriter<'d> {
    into: &'d dyn Disk,
    number: u32,
    file: Option<KeptWriter>,
}

impl PageRewriter<'_> {
    fn add(&mut self, queue: QueueNumber, messages: &[KeptMessage<'_>]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(KeptWriter::create(self.into, self.number)?),
        };
        file.add(queue, messages)
    }

    fn finish(mut self, snapshot: &mut Snapshot) -> io::Result<()> {
        let Some(file) = self.file.take() else {
            // Its number is free for the next one.
            snapshot.next_kept_file = self.number;
            return Ok(());
        };
        match file.finish(self.into) {
            Ok(pages) => {
                for page in pages {
                    snapshot.queues.entry(page.queue).or_default().kept.push(page.run);
                }
                Ok(())
            }
            Err(error) => {
                KeptWriter::remove(self.into, self.number);
                Err(error)
            }
        }
    }
}

impl Drop for PageRewriter<'_> {
    /// One that was not finished is of no use.
    fn drop(&mut self) {
        if self.file.is_some() {
            KeptWriter::remove(self.into, self.number);
        }
    }
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
    for (&band, &last) in &ends {
        let kept = state.kept.iter().filter(|run| run.first.band() == band);
        let kept: Vec<_> = kept.map(AwayRun::range).collect();
        state.gone.close_within(Range { first: Ordinal::new(band, 0).0, last }, kept);
    }
    state.returns.forget_gone(&state.gone);
    // One whose enqueue was lost is not there, and its ordinal is given anew. Queues that count have one
    // band.
    let next = ends.get(&0).map_or(Some(0), |last| last.checked_add(1));
    if let Some(first) = next {
        state.returns.forget(Range { first, last: u64::MAX });
    }
}
