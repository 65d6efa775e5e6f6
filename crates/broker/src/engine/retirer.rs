//! The retirer: brings what still lives in old segments of the journal to pages, and lets the
//! segments go.
//!
//! Driven by a thread that may wait for the disk. Publishers go on meanwhile. Invariant: a segment
//! goes only when a snapshot is on stable storage that makes it superfluous.

use std::{collections::BTreeSet, io, sync::Arc};

use super::{
    Engine, compaction,
    durability::{Durability, DurableQueue},
    inbox::Wake,
};
use crate::{
    Ordinal,
    planted::{self, Bug},
    store::{
        journal::{Position, QueueNumber, segment::segment_name, writer::SegmentSpan},
        kept::kept_number,
        recovery::remove_superfluous,
        retire::Retirement,
        snapshot::Snapshot,
    },
};

/// Segments that are retired together, so that one snapshot serves them.
const RETIRED_SEGMENTS_MIN: usize = 2;
/// Octets of files of pages that nobody needs from which on they are cleared away.
const GARBAGE_OCTETS_MIN: u64 = 32 * 1024 * 1024;

/// A segment that is retired and may still hold messages that later entries name.
#[derive(Debug, Clone, Copy)]
struct Held {
    span: SegmentSpan,
    /// Up to where entries may name its batches, once that is known.
    named_until: Option<Position>,
}

/// Retires segments.
pub struct Retirer {
    engine: Arc<Engine>,
    durability: Arc<Durability>,
    /// Files that something is lost of.
    damaged: BTreeSet<String>,
    /// Segments to be retired, in order.
    closed: Vec<SegmentSpan>,
    held: Vec<Held>,
    /// A snapshot that may be written once the journal is synced up to that position.
    pending: Option<(Position, Snapshot)>,
    next_kept_file: u32,
    snapshot_number: u64,
    first_segment: u64,
    garbage_octets_min: u64,
    /// The journal's end when files of pages were looked at last.
    looked_at: Position,
}

impl Retirer {
    /// The retirer of an engine that keeps something, which wakes it by `waker`. There is to be one.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, waker: Box<dyn Wake>) -> Option<Self> {
        let durability = Arc::clone(engine.durability.as_ref()?);
        durability.set_retirer(waker);
        Some(Self {
            engine: Arc::clone(engine),
            durability,
            damaged: BTreeSet::new(),
            closed: Vec::new(),
            held: Vec::new(),
            pending: None,
            next_kept_file: engine.next_kept_file,
            snapshot_number: engine.snapshot_number,
            first_segment: engine.first_segment,
            garbage_octets_min: GARBAGE_OCTETS_MIN,
            looked_at: Position::default(),
        })
    }

    /// Clears files of pages away when so many octets of them are needed by nobody.
    #[must_use]
    pub fn with_garbage_of(self, octets: u64) -> Self {
        Self { garbage_octets_min: octets, ..self }
    }

    /// Clears away files of pages of which little or nothing lives any more, if that is worth it. To be
    /// called every few seconds. True when there is more to do once the journal is synced further. May
    /// wait for the disk.
    ///
    /// # Errors
    /// What the disk says. Nothing is lost: call again, after a while.
    pub fn tidy(&mut self) -> io::Result<bool> {
        let end = self.durability.journal.end();
        if self.pending.is_some() || std::mem::replace(&mut self.looked_at, end) == end {
            return Ok(self.pending.is_some());
        }
        let queues = self.durability.queues();
        let disk = Arc::clone(&self.durability.disk);
        let wear = compaction::wear(&*disk, &queues, self.next_kept_file)?;
        if wear.garbage_octets < self.garbage_octets_min {
            return Ok(false);
        }
        let number = self.take_file_number();
        compaction::rewrite(&*disk, &queues, &wear, number)?;
        self.prepare_snapshot();
        self.write_snapshot()?;
        Ok(self.pending.is_some())
    }

    /// A number that was tried is not used again, whatever became of it.
    fn take_file_number(&mut self) -> u32 {
        let number = self.next_kept_file;
        self.next_kept_file += 1;
        number
    }

    /// Retires segments when there are some. True when there is more to do once the journal is
    /// synced further. May wait for the disk.
    ///
    /// # Errors
    /// What the disk says. Nothing is lost: call again, after a while.
    pub fn advance(&mut self) -> io::Result<bool> {
        self.closed.extend(self.durability.take_closed());
        if self.pending.is_none() && self.closed.len() >= RETIRED_SEGMENTS_MIN {
            self.retire()?;
        }
        self.write_snapshot()?;
        Ok(self.pending.is_some())
    }

    /// Retires all segments and writes a snapshot, when the engine has stopped and its syncer has
    /// finished.
    ///
    /// # Errors
    /// What the disk says; then the next start does it.
    pub fn finish(&mut self) -> io::Result<()> {
        self.closed.extend(self.durability.take_closed());
        self.write_snapshot()?;
        if !self.closed.is_empty() {
            self.retire()?;
            self.write_snapshot()?;
        }
        Ok(())
    }

    fn retire(&mut self) -> io::Result<()> {
        let mut spans: Vec<_> = self.held.iter().map(|held| held.span).collect();
        spans.extend(&self.closed);
        while let Some(&segment) = self.closed.first() {
            self.retire_segment(segment, &spans)?;
            self.closed.remove(0);
            self.held.push(Held { span: segment, named_until: None });
            self.first_segment = segment.number + 1;
        }
        self.prepare_snapshot();
        Ok(())
    }

    fn prepare_snapshot(&mut self) {
        let snapshot = self.snapshot();
        // What it says may rest on what is not synced yet.
        self.pending = Some((self.durability.journal.end(), snapshot));
        self.durability.call_syncer();
    }

    fn retire_segment(&mut self, segment: SegmentSpan, spans: &[SegmentSpan]) -> io::Result<()> {
        let number = self.take_file_number();
        let queues = self.durability.queues();
        let is_live = |queue: QueueNumber, ordinal: Ordinal| {
            queues.get(&queue).is_some_and(|queue: &Arc<DurableQueue>| !queue.has_left(ordinal))
        };
        let retirement = Retirement {
            disk: &*self.durability.disk,
            segments: spans,
            is_live: &is_live,
            redelivered: &|_, _| false,
            synced: segment.end,
        };
        let retired = retirement.run(segment, number)?;
        if !retired.losses.is_empty() {
            self.damaged.insert(segment_name(segment.number));
        }
        for (queue, messages) in retired.losses {
            tracing::error!(
                queue = queue.0,
                messages,
                "messages that are in memory yet are damaged on disk, and a restart would lose them"
            );
        }
        for page in retired.pages {
            if let Some(queue) = queues.get(&page.queue) {
                queue.keep(page.run);
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        let queues = self.durability.queues();
        Snapshot {
            first_segment: self.first_segment,
            position: self.durability.journal.synced(),
            last_number: self.engine.last_number(),
            next_kept_file: self.next_kept_file,
            definitions: self.durability.definitions(),
            queues: queues.into_iter().map(|(number, queue)| (number, queue.state())).collect(),
        }
    }

    fn write_snapshot(&mut self) -> io::Result<()> {
        let Some((position, snapshot)) = self.pending.take_if(|(position, _)| {
            self.durability.journal.synced() >= *position || planted::is(Bug::SnapshotBeforeSync)
        }) else {
            return Ok(());
        };
        let disk = Arc::clone(&self.durability.disk);
        self.snapshot_number += 1;
        if let Err(error) = snapshot.write(&*disk, self.snapshot_number) {
            self.pending = Some((position, snapshot));
            return Err(error);
        }
        self.remove_superfluous(&snapshot)
    }

    /// Removes what the snapshot makes superfluous, but for segments whose batches later entries
    /// name.
    fn remove_superfluous(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let retired_until = self.held.last().map_or(Position::default(), |held| held.span.end);
        for held in &mut self.held {
            held.named_until =
                held.named_until.or_else(|| self.durability.journal.named_until(held.span.end));
        }
        self.held.retain(|held| held.named_until.is_none_or(|until| until > retired_until));
        let is_held = |name: &String| self.held.iter().any(|held| segment_name(held.span.number) == *name);
        let disk = &*self.durability.disk;
        let names: Vec<_> = disk.list()?.into_iter().filter(|name| !is_held(name)).collect();
        let files = &self.engine.paging.files;
        let is_damaged = |name: &str| {
            self.damaged.contains(name) || kept_number(name).is_some_and(|number| files.is_damaged(number))
        };
        remove_superfluous(disk, &names, self.snapshot_number, snapshot, is_damaged);
        Ok(())
    }
}

impl std::fmt::Debug for Retirer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retirer").finish_non_exhaustive()
    }
}
