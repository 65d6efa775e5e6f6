//! A stream: messages in the order in which they came, read by many and consumed by nobody.
//!
//! A reader has an offset of its own; what it acknowledges only makes room for more. Messages go
//! when there are too many octets of them or when they are too old. Invariant: after every step,
//! no reader that could be given a message has one before it.

use std::collections::VecDeque;

use slab::Slab;

use super::{
    consumer::{Consumer, ConsumerSettings},
    queue::{Added, Assignment, ConsumerSlot, Effects, InExclusiveUse, Messages, Position},
};
use crate::{
    Location,
    planted::{self, Bug},
};

/// How much a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamSettings {
    /// `x-max-length-bytes`, in octets of bodies.
    pub octets_max: Option<u64>,
    /// `x-max-age`.
    pub age_millis_max: Option<u64>,
}

/// Where a reader begins (`x-stream-offset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamOffset {
    /// With the oldest message that is kept.
    First,
    /// With the newest one.
    Last,
    /// With what comes from now on, which is the default.
    #[default]
    Next,
    /// With that number, or the first one kept.
    Number(u64),
    /// With the newest so many.
    LastCount(u64),
    /// With the first that came no more than so long ago.
    Ago {
        /// Milliseconds.
        millis: u64,
    },
    /// With the first that came at that time or later.
    Since {
        /// Seconds since 1970.
        seconds: u64,
    },
}

#[derive(Debug)]
struct Reader {
    consumer: Consumer,
    next_offset: u64,
}

/// A stream.
#[derive(Debug, Default)]
pub struct Stream {
    settings: StreamSettings,
    entries: VecDeque<Location>,
    /// The offset of the first entry.
    first_offset: u64,
    /// Octets of the bodies; counted only under a limit.
    octets: u64,
    readers: Slab<Reader>,
    had_reader: bool,
    is_behind: bool,
    delivered: u64,
}

/// Messages that a step drops before it leaves more to the next.
const STEP_DROPS_MAX: usize = 1024;

impl Stream {
    /// An empty stream.
    #[must_use]
    pub fn new(settings: StreamSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// The offset of the next message of an empty stream.
    pub const fn begin_at(&mut self, offset: u64) {
        self.first_offset = offset;
    }

    /// Gives an empty stream messages with their offsets, which rise. Where one is missing, what was
    /// before it is too old.
    pub fn revive(&mut self, entries: &[(u64, Location)]) {
        for &(offset, location) in entries {
            if offset != self.end() || self.is_empty() {
                self.first_offset = offset - self.entries.len() as u64;
            }
            self.entries.push_back(location);
        }
    }

    /// Messages that are kept.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages handed out since the stream is there.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How many readers there are.
    #[must_use]
    pub fn reader_count(&self) -> usize {
        self.readers.len()
    }

    /// Whether there was a reader and there is none now.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.had_reader && self.readers.is_empty()
    }

    /// The offset that the next message will have.
    fn end(&self) -> u64 {
        self.first_offset + self.entries.len() as u64
    }

    /// Takes a batch of messages in order.
    pub fn append(&mut self, batch: &[Location], messages: &dyn Messages, effects: &mut Effects) {
        let position = Position::of_offset(self.end());
        effects.added.push(Added { place: 0, count: batch.len(), position });
        self.entries.extend(batch);
        if self.settings.octets_max.is_some() {
            self.octets += batch.iter().map(|&location| messages.body_octets(location)).sum::<u64>();
        }
        self.serve_all(effects);
        self.retain(messages, effects);
    }

    /// Whether there may be more that is too old, because there was too much for one step.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Drops what there is too much of, and what is too old, as far as a step goes.
    pub fn retain(&mut self, messages: &dyn Messages, effects: &mut Effects) {
        self.is_behind = false;
        while self.settings.octets_max.is_some_and(|max| self.is_too_large(max))
            || self.oldest_goes_at(messages).is_some_and(|at| at <= messages.now_millis())
        {
            if effects.dropped.len() >= STEP_DROPS_MAX {
                self.is_behind = true;
                return;
            }
            let Some(location) = self.entries.pop_front() else { return };
            effects.gone.push(Position::of_offset(self.first_offset));
            self.first_offset += 1;
            if self.settings.octets_max.is_some() {
                self.octets -= messages.body_octets(location);
            }
            if !planted::is(Bug::StreamDropLeaked) {
                effects.dropped.push(location);
            }
        }
    }

    fn is_too_large(&self, octets_max: u64) -> bool {
        self.octets > octets_max || planted::is(Bug::StreamKeepsTooLittle) && self.octets == octets_max
    }

    /// When to step the stream though nothing happens, by the monotonic clock.
    pub fn next_deadline_millis(&self, messages: &dyn Messages) -> Option<u64> {
        if self.is_behind {
            return Some(messages.now_millis());
        }
        self.oldest_goes_at(messages).filter(|_| !planted::is(Bug::StreamAgeForgotten))
    }

    /// When the oldest message is too old, by the monotonic clock.
    pub fn oldest_goes_at(&self, messages: &dyn Messages) -> Option<u64> {
        let age = self.settings.age_millis_max?;
        self.entries.front().map(|&oldest| messages.arrived_millis(oldest).saturating_add(age))
    }

    /// Starts a reader; [`Stream::wake`] gives it its first messages.
    ///
    /// # Errors
    /// [`InExclusiveUse`] when it or another one wants to be alone.
    pub fn add_reader(
        &mut self,
        settings: ConsumerSettings,
        offset: StreamOffset,
        messages: &dyn Messages,
    ) -> Result<ConsumerSlot, InExclusiveUse> {
        let alone = |other: &Reader| settings.exclusive || other.consumer.settings().exclusive;
        if self.readers.iter().next().is_some_and(|(_, other)| alone(other)) {
            return Err(InExclusiveUse);
        }
        self.had_reader = true;
        let next_offset = self.resolve(offset, messages);
        Ok(self.readers.insert(Reader { consumer: Consumer::new(settings), next_offset }))
    }

    fn resolve(&self, offset: StreamOffset, messages: &dyn Messages) -> u64 {
        let arrived_by = |millis: u64| {
            let earlier = self.entries.partition_point(|&entry| messages.arrived_millis(entry) < millis);
            let first = if planted::is(Bug::StreamTimeCountsFromStart) { 0 } else { self.first_offset };
            first + earlier as u64
        };
        match offset {
            StreamOffset::First => self.first_offset,
            StreamOffset::Last => self.end().saturating_sub(1).max(self.first_offset),
            StreamOffset::Next => self.end(),
            StreamOffset::Number(number) => {
                number.max(self.first_offset) + u64::from(planted::is(Bug::StreamOffsetOffByOne))
            }
            StreamOffset::LastCount(count) => self.end().saturating_sub(count).max(self.first_offset),
            StreamOffset::Ago { millis } => arrived_by(messages.now_millis().saturating_sub(millis)),
            StreamOffset::Since { seconds } => {
                let ago = messages.wall_millis().saturating_sub(seconds.saturating_mul(1000));
                let is_to_come = seconds.saturating_mul(1000) > messages.wall_millis();
                if is_to_come { self.end() } else { arrived_by(messages.now_millis().saturating_sub(ago)) }
            }
        }
    }

    /// Ends a reader.
    pub fn remove_reader(&mut self, slot: ConsumerSlot) {
        self.readers.remove(slot);
    }

    /// The reader may have credit again, or is new.
    pub fn wake(&mut self, slot: ConsumerSlot, effects: &mut Effects) {
        self.serve(slot, effects);
    }

    /// A part of the reader's window came back.
    pub fn refill(&mut self, slot: ConsumerSlot, window: u32, effects: &mut Effects) {
        self.readers[slot].consumer.refill(window);
        self.serve(slot, effects);
    }

    /// The reader has settled `count` deliveries, in whatever way.
    pub fn settle(&mut self, slot: Option<ConsumerSlot>, count: u32, effects: &mut Effects) {
        if let Some(slot) = slot {
            self.readers[slot].consumer.settle(count);
            if !planted::is(Bug::StreamAckNotServed) {
                self.serve(slot, effects);
            }
        }
    }

    fn serve_all(&mut self, effects: &mut Effects) {
        for slot in 0..self.readers.capacity() {
            let is_forgotten =
                planted::is(Bug::StreamReaderNotWoken) && slot > 0 && slot + 1 == self.readers.len();
            if self.readers.contains(slot) && !is_forgotten {
                self.serve(slot, effects);
            }
        }
    }

    fn serve(&mut self, slot: ConsumerSlot, effects: &mut Effects) {
        let (first_offset, end) = (self.first_offset, self.end());
        let Reader { consumer, next_offset } = &mut self.readers[slot];
        if *next_offset >= end {
            return;
        }
        *next_offset = (*next_offset).max(first_offset);
        let granted = consumer.reserve(u32::try_from(end - *next_offset).unwrap_or(u32::MAX));
        let mut count = 0;
        while count < granted && consumer.has_window() {
            let at = usize::try_from(*next_offset - first_offset).expect("it is among the entries");
            let location = self.entries[at];
            let position = Position::of_offset(*next_offset);
            let window = consumer.hand_over(location.size_kibibytes());
            effects.assigned.push(Assignment { consumer: slot, location, position, window });
            *next_offset += 1;
            count += 1;
        }
        *next_offset += u64::from(count < granted && planted::is(Bug::StreamWindowSkips));
        consumer.give_back(granted - count);
        self.delivered += u64::from(count);
    }

    /// From the first offset that is kept to the last one.
    pub fn positions(&self) -> Vec<(Position, Position)> {
        let last = self.end().checked_sub(1).filter(|_| !self.is_empty());
        last.map(|last| (Position::of_offset(self.first_offset), Position::of_offset(last)))
            .into_iter()
            .collect()
    }

    /// Takes everything out, when the stream is deleted.
    pub fn drain(&mut self) -> Vec<VecDeque<Location>> {
        self.first_offset = self.end();
        self.octets = 0;
        vec![std::mem::take(&mut self.entries)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten octets a message; message n came at n seconds, and it is now eight seconds.
    struct Tens;

    const NOW_MILLIS: u64 = 8_000;
    const WALL_SECONDS: u64 = 1_000_000;

    impl Messages for Tens {
        fn now_millis(&self) -> u64 {
            NOW_MILLIS
        }

        fn wall_millis(&self) -> u64 {
            WALL_SECONDS * 1000
        }

        fn body_octets(&self, _: Location) -> u64 {
            10
        }

        fn priority(&self, _: Location) -> u8 {
            0
        }

        fn arrived_millis(&self, location: Location) -> u64 {
            location.chunk() as u64 * 1000
        }

        fn expiration_millis(&self, _: Location) -> Option<u64> {
            None
        }
    }

    fn filled(settings: StreamSettings, messages: usize) -> (Stream, Effects) {
        let (mut stream, mut effects) = (Stream::new(settings), Effects::default());
        let batch: Vec<_> = (0..messages).map(|n| Location::new(n, 0)).collect();
        stream.append(&batch, &Tens, &mut effects);
        (stream, effects)
    }

    fn read(stream: &mut Stream, offset: StreamOffset, prefetch: u16) -> (ConsumerSlot, Vec<u64>) {
        let settings = ConsumerSettings { prefetch, ..ConsumerSettings::default() };
        let slot = stream.add_reader(settings, offset, &Tens).unwrap();
        let mut effects = Effects::default();
        stream.wake(slot, &mut effects);
        (slot, offsets(&effects))
    }

    fn offsets(effects: &Effects) -> Vec<u64> {
        effects.assigned.iter().map(|assignment| assignment.position.offset()).collect()
    }

    #[test]
    fn a_reader_begins_where_it_wants() {
        let check = |offset, wanted: &[u64]| {
            let (mut stream, _) = filled(StreamSettings::default(), 5);
            assert_eq!(read(&mut stream, offset, 100).1, wanted, "{offset:?}");
        };
        check(StreamOffset::First, &[0, 1, 2, 3, 4]);
        check(StreamOffset::Last, &[4]);
        check(StreamOffset::Next, &[]);
        check(StreamOffset::Number(3), &[3, 4]);
        check(StreamOffset::Number(7), &[]);
        check(StreamOffset::LastCount(2), &[3, 4]);
        check(StreamOffset::LastCount(9), &[0, 1, 2, 3, 4]);
        check(StreamOffset::Ago { millis: 5_000 }, &[3, 4]);
        check(StreamOffset::Since { seconds: WALL_SECONDS - 6 }, &[2, 3, 4]);
        check(StreamOffset::Since { seconds: WALL_SECONDS + 6 }, &[]);
    }

    #[test]
    fn readers_read_the_same_each_at_its_own_pace() {
        let (mut stream, mut effects) = filled(StreamSettings::default(), 4);
        let (slow, first) = read(&mut stream, StreamOffset::First, 1);
        assert_eq!(first, [0]);
        assert_eq!(read(&mut stream, StreamOffset::First, 10).1, [0, 1, 2, 3]);
        stream.settle(Some(slow), 1, &mut effects);
        assert_eq!(offsets(&effects), [1]);
    }

    #[test]
    fn a_number_that_is_not_there_yet_is_waited_for() {
        let (mut stream, mut effects) = filled(StreamSettings::default(), 1);
        assert_eq!(read(&mut stream, StreamOffset::Number(2), 10).1, [0_u64; 0]);
        let batch: Vec<_> = (1..4).map(|n| Location::new(n, 0)).collect();
        stream.append(&batch, &Tens, &mut effects);
        assert_eq!(offsets(&effects), [2, 3]);
    }

    #[test]
    fn what_may_be_as_old_as_can_be_said_stays() {
        let settings = StreamSettings { octets_max: None, age_millis_max: Some(u64::MAX / 1000 * 1000) };
        let (mut stream, mut effects) = (Stream::new(settings), Effects::default());
        stream.append(&[Location::new(1, 0)], &Tens, &mut effects);
        assert_eq!((effects.dropped.len(), stream.len()), (0, 1));
    }

    #[test]
    fn what_is_too_much_or_too_old_goes() {
        let (mut stream, effects) = filled(StreamSettings { octets_max: Some(35), age_millis_max: None }, 5);
        assert_eq!((effects.dropped.len(), stream.len()), (2, 3));
        assert_eq!(read(&mut stream, StreamOffset::Number(0), 9).1, [2, 3, 4]);
        let (stream, effects) = filled(StreamSettings { octets_max: None, age_millis_max: Some(6_000) }, 5);
        assert_eq!((effects.dropped.len(), stream.len()), (3, 2));
        assert_eq!(stream.oldest_goes_at(&Tens), Some(9_000));
    }
}
