//! The ready messages of a queue, in the order in which they go out.
//!
//! Each priority has a band of its own, the highest first; a queue without priorities has one.
//! A message gets its *position* when it first leaves, and goes back there when it is requeued. A long band's messages may be on pages (`band.rs`);
//! what needs a head that is there stops, and goes on when it was read. What came back is in
//! `returned.rs`. Invariant: a position belongs to one message.

use std::collections::VecDeque;

use smallvec::{SmallVec, smallvec};

use super::{
    band::{Band, Joined},
    returned::{Comeback, Returned},
};
use crate::{
    AwayRun, Location, Ordinal, Run,
    planted::{self, Bug},
};

/// Messages that an empty band keeps room for.
const IDLE_MESSAGES_MAX: usize = 4096;
/// Pages read ahead at most of one that is drained faster than they come.
const AHEAD_PAGES_MAX: usize = 32;

/// Where a message stood in its queue. Lower ones go out first.
///
/// ```text
///   63      56 55                                0        63              16 15        0
///   +---------+----------------------------------+        +------------------+---------+
///   |  band   |              index               |   or   |      index       | returns |
///   +---------+----------------------------------+        +------------------+---------+
/// ```
///
/// The second form is that of queues that count how often a message came back; those have one band.
/// In a stream it is the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(u64);

const BAND_SHIFT: u32 = 56;
const RETURNS_BITS: u32 = 16;
const RETURNS_MASK: u64 = (1 << RETURNS_BITS) - 1;

impl Position {
    /// Of a message in a stream.
    #[must_use]
    pub const fn of_offset(offset: u64) -> Self {
        Self(offset)
    }

    /// In a stream.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0
    }

    /// How often the message came back, in a queue that counts it.
    #[must_use]
    pub const fn returns(self) -> u32 {
        (self.0 & RETURNS_MASK) as u32
    }

    /// The same position of a message that came back once more.
    const fn returned(self) -> Self {
        if self.0 & RETURNS_MASK == RETURNS_MASK { self } else { Self(self.0 + 1) }
    }

    /// The position of a message that came back so often, as far as it can be counted.
    pub(super) const fn returned_often(self, count: u32) -> Self {
        let count = count as u64;
        Self(self.0 & !RETURNS_MASK | if count < RETURNS_MASK { count } else { RETURNS_MASK })
    }

    /// The position of `count` messages behind, in a queue that counts returns or does not.
    #[must_use]
    pub const fn plus(self, count: usize, counts_returns: bool) -> Self {
        let count = count as u64;
        Self(self.0 + if counts_returns { count << RETURNS_BITS } else { count })
    }

    /// What of it never changes, as a number that a queue gives to one message only.
    #[must_use]
    pub const fn ordinal(self, counts_returns: bool) -> u64 {
        if counts_returns { self.0 >> RETURNS_BITS } else { self.0 }
    }

    #[allow(clippy::cast_possible_truncation, reason = "eight bits are left")]
    const fn band(self) -> usize {
        (self.0 >> BAND_SHIFT) as usize
    }
}

/// What a step found out about pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notice {
    /// A page is to be read.
    pub wants_page: bool,
    /// A run can be put away.
    pub is_sealed: bool,
}

/// All that was ready, taken out.
#[derive(Debug, Default)]
pub struct Drained {
    /// What was in memory.
    pub locations: Vec<VecDeque<Location>>,
    /// What was on pages.
    pub away: Vec<AwayRun>,
}

impl Drained {
    /// How many messages there are.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let here = self.locations.iter().map(|locations| locations.len() as u64).sum::<u64>();
        here + self.away.iter().map(|run| u64::from(run.messages)).sum::<u64>()
    }
}

/// Ready messages.
#[derive(Debug)]
pub struct Ready {
    /// From the highest priority to the lowest.
    bands: SmallVec<[Band; 1]>,
    returned: Returned,
    counts_returns: bool,
    /// Messages that never left, on pages or not.
    fresh_count: usize,
    /// Whether runs may be put away.
    is_paged: bool,
    /// Runs that are away.
    away_runs: usize,
    /// Pages to be read before they are asked for.
    ahead_pages: usize,
    /// Somebody would have taken a message that is away.
    has_stalled: bool,
    notice: Notice,
}

impl Default for Ready {
    fn default() -> Self {
        Self::new(0, false, false)
    }
}

impl Ready {
    pub(super) fn new(priority_max: u8, counts_returns: bool, is_paged: bool) -> Self {
        let mut bands = smallvec![Band::default()];
        if !counts_returns {
            bands.resize_with(usize::from(priority_max) + 1, Band::default);
        }
        Self {
            bands,
            returned: Returned::new(counts_returns),
            counts_returns,
            fresh_count: 0,
            is_paged,
            away_runs: 0,
            ahead_pages: 1,
            has_stalled: false,
            notice: Notice::default(),
        }
    }

    /// Gives an empty one its pages, how often some messages came back, and the ordinals that the next
    /// messages have.
    pub(super) fn revive(&mut self, kept: &[AwayRun], returns: &[(Ordinal, u32)], ends: &[Ordinal]) {
        if let Returned::InTurn(turns) = &mut self.returned {
            returns.iter().for_each(|(ordinal, count)| turns.came_back_before(ordinal.index(), *count));
        }
        for end in ends {
            let band = end.band().min(self.bands.len() - 1);
            let runs: Vec<_> = kept.iter().filter(|run| run.first.band() == end.band()).copied().collect();
            self.fresh_count += runs.iter().map(|run| run.messages as usize).sum::<usize>();
            self.away_runs += runs.len();
            self.bands[band].revive(runs, end.index());
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.fresh_count + self.returned.len()
    }

    /// Whether priorities are told apart.
    pub(super) fn has_priorities(&self) -> bool {
        self.bands.len() > 1
    }

    /// Adds messages of the lowest priority behind the others; returns where the first one stands.
    pub(super) fn extend(&mut self, batch: &[Location]) -> Position {
        let lowest = self.bands.len() - 1;
        let position = self.end(lowest);
        self.join(lowest, batch);
        position
    }

    /// Adds a message behind the others of its priority, and returns where it stands; a higher
    /// priority than there is counts as the highest.
    pub(super) fn push(&mut self, location: Location, priority: u8) -> Position {
        let band = (self.bands.len() - 1).saturating_sub(priority.into());
        let position = self.end(band);
        self.join(band, &[location]);
        position
    }

    #[inline]
    fn join(&mut self, band: usize, batch: &[Location]) {
        self.fresh_count += batch.len();
        if !self.is_paged {
            self.bands[band].extend(batch);
        } else if self.bands[band].extend_paged(batch) == Joined::Sealed {
            self.notice.is_sealed = true;
        }
    }

    /// Where the next message of a band will stand.
    fn end(&self, at: usize) -> Position {
        self.position_of(at, self.bands[at].end())
    }

    const fn position_of(&self, band: usize, index: u64) -> Position {
        Position(if self.counts_returns {
            index << RETURNS_BITS
        } else {
            (band as u64) << BAND_SHIFT | index
        })
    }

    /// Where the messages stand: from the first to the last of each range, in which there may be
    /// gaps.
    pub(super) fn positions(&self) -> Vec<(Position, Position)> {
        let fresh = self.bands.iter().enumerate().filter(|(_, band)| !band.is_empty());
        let fresh =
            fresh.map(|(at, band)| (self.position_of(at, band.head()), self.position_of(at, band.end() - 1)));
        let returned = self.returned.positions().into_iter().map(|position| (position, position));
        fresh.chain(returned).collect()
    }

    /// Puts a message back: where it stood, or in a queue that counts returns as `how` says.
    pub(super) fn put_back(&mut self, position: Position, location: Location, how: Comeback) -> Position {
        match &mut self.returned {
            Returned::InPlace(places) => {
                let before = places.insert(position, location);
                assert!(before.is_none(), "a position belongs to one message");
                position
            }
            Returned::InTurn(turns) => {
                let position = if how == Comeback::Unsent { position } else { position.returned() };
                turns.put_back(position, location, how, self.bands[0].end());
                position
            }
        }
    }

    /// Takes the first message.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<(Location, Position)> {
        if self.returned.is_empty() && self.bands.len() == 1 {
            return self.pop_fresh(0);
        }
        self.pop_in_order()
    }

    fn pop_in_order(&mut self) -> Option<(Location, Position)> {
        let band = self.first_fresh_band();
        let goes_first = |of: &Position| {
            band.is_none_or(|band| of.band() <= band) || planted::is(Bug::ReturnedBeforePriority)
        };
        let returned = match &mut self.returned {
            Returned::InPlace(places) => match places.first_entry() {
                Some(entry) if goes_first(entry.key()) => Some(entry.remove_entry()),
                _ => None,
            },
            Returned::InTurn(turns) => turns.pop(self.bands[0].head()),
        };
        match returned {
            Some((position, location)) => Some((location, position)),
            None => self.pop_first_time(band?),
        }
    }

    fn first_fresh_band(&self) -> Option<usize> {
        self.bands.iter().position(|band| !band.is_empty())
    }

    #[inline(always)]
    fn pop_fresh(&mut self, at: usize) -> Option<(Location, Position)> {
        let band = &mut self.bands[at];
        let (location, index) = band.pop()?;
        if band.has_run_out() {
            self.next_run(at);
        }
        self.fresh_count -= 1;
        Some((location, self.position_of(at, index)))
    }

    /// Takes the first message of a band of those that never left, as far as this broker knows.
    fn pop_first_time(&mut self, band: usize) -> Option<(Location, Position)> {
        let (location, position) = self.pop_fresh(band)?;
        match &mut self.returned {
            Returned::InTurn(turns) => Some(turns.recall(location, position)),
            Returned::InPlace(_) => Some((location, position)),
        }
    }

    #[cold]
    fn next_run(&mut self, at: usize) {
        self.bands[at].promote();
        self.notice.wants_page |= self.next_away().is_some();
    }

    /// How many messages can be taken one after the other before a page has to be read, at least
    /// one unless the first is away.
    #[inline]
    pub(super) fn available(&mut self) -> usize {
        if self.away_runs == 0 { self.len() } else { self.available_here() }
    }

    #[cold]
    fn available_here(&mut self) -> usize {
        let here = self.returned.len() + self.bands.iter().map(Band::fresh_len).sum::<usize>();
        if self.is_head_away() { 0 } else { here }
    }

    /// Whether there are messages and the first one is on a page. Who asks wants to take it.
    pub(super) fn is_head_away(&mut self) -> bool {
        let Some(band) = self.first_fresh_band() else { return false };
        let comes_back = || match &self.returned {
            Returned::InPlace(places) => places.keys().next().is_some_and(|first| first.band() <= band),
            Returned::InTurn(turns) => turns.first(self.bands[0].head()).is_some(),
        };
        if !self.bands[band].is_head_away() || comes_back() {
            return false;
        }
        self.has_stalled = true;
        self.notice.wants_page = true;
        true
    }

    /// The first message of all, unless it is on a page.
    pub(super) fn first(&self) -> Option<Location> {
        self.head((0..self.bands.len()).find(|band| self.has_any_in(*band))?)
    }

    /// Whether a band has any message, here or on a page.
    pub(super) fn has_any_in(&self, band: usize) -> bool {
        !self.bands[band].is_empty() || self.returned_of(band).is_some()
    }

    pub(super) fn band_count(&self) -> usize {
        self.bands.len()
    }

    /// The first message of a band.
    pub(super) fn head(&self, band: usize) -> Option<Location> {
        let returned = self.returned_of(band).map(|(_, location)| location);
        returned.or_else(|| self.bands[band].front())
    }

    fn returned_of(&self, band: usize) -> Option<(Position, Location)> {
        let places = match &self.returned {
            Returned::InPlace(places) => places,
            Returned::InTurn(turns) => return turns.first(self.bands[0].head()),
        };
        let first = Position((band as u64) << BAND_SHIFT);
        let (position, location) = places.range(first..).next()?;
        (position.band() == band).then_some((*position, *location))
    }

    /// Takes the first message of a band, and returns where it stood.
    pub(super) fn pop_head(&mut self, band: usize) -> Option<Position> {
        let Some((position, _)) = self.returned_of(band) else {
            return self.pop_first_time(band).map(|(_, position)| position);
        };
        match &mut self.returned {
            Returned::InPlace(places) => places.remove(&position).map(|_| position),
            Returned::InTurn(turns) => turns.pop(self.bands[0].head()).map(|(position, _)| position),
        }
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> Drained {
        let mut drained = Drained::default();
        drained.locations.push(self.returned.drain());
        for band in &mut self.bands {
            band.drain(&mut drained.locations, &mut drained.away);
        }
        (self.fresh_count, self.away_runs, self.ahead_pages) = (0, 0, 1);
        drained
    }

    /// A queue that was long keeps no more room than it needs.
    pub(super) fn give_back_room(&mut self) {
        for band in &mut self.bands {
            band.give_back_room(IDLE_MESSAGES_MAX);
        }
    }
}

impl Ready {
    /// What steps found out about pages since the last call.
    #[inline]
    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        if self.notice == Notice::default() {
            return None;
        }
        Some(std::mem::take(&mut self.notice))
    }

    /// The page to be read next, if one is.
    pub(super) fn next_away(&self) -> Option<AwayRun> {
        if self.away_runs == 0 {
            return None;
        }
        let heads = self.bands.iter().find(|band| band.is_head_away());
        let ahead = self.ahead_pages;
        let head = heads.and_then(|band| band.next_away(1));
        head.or_else(|| self.bands.iter().find_map(|band| band.next_away(ahead)))
    }

    /// The newest runs that can be put away, the newest last.
    pub(super) fn newest_sealed(&self, runs_max: usize) -> Vec<Run> {
        // What goes out last is put away first.
        let mut bands = self.bands.iter().enumerate().rev();
        let sealed = bands.find_map(|(at, band)| {
            let runs = band.newest_sealed(at, runs_max);
            (!runs.is_empty()).then_some(runs)
        });
        sealed.unwrap_or_default()
    }

    /// Puts a page in the place of a run, and returns the run's messages; `None` when they were
    /// taken meanwhile.
    pub(super) fn put_away(&mut self, away: AwayRun) -> Option<VecDeque<Location>> {
        let locations = self.bands[away.first.band()].put_away(away)?;
        self.away_runs += 1;
        Some(locations)
    }

    /// A run cannot be put on a page.
    pub(super) fn keep_here(&mut self, first: Ordinal) {
        self.bands[first.band()].keep_here(first);
    }

    /// What was handed out when the broker ended came back, in a queue that counts that.
    fn note_redelivered(&mut self, runs: &[Run]) {
        let Returned::InTurn(turns) = &mut self.returned else { return };
        for run in runs {
            let indexes = run.first.index()..;
            for (index, _) in indexes.zip(&run.locations).filter(|(_, location)| location.redelivered()) {
                turns.came_back_before(index, 1);
            }
        }
    }

    /// Puts what was on a page in the place where it stood, with fewer messages if some are gone;
    /// false, with the runs untouched, when it is not awaited any more.
    pub(super) fn supply(&mut self, away: &AwayRun, runs: &mut Vec<Run>) -> bool {
        let messages = runs.iter().map(|run| run.locations.len()).sum::<usize>();
        self.note_redelivered(runs);
        if !self.bands[away.first.band()].supply(away, runs) {
            return false;
        }
        self.fresh_count = self.fresh_count - away.messages as usize + messages;
        self.away_runs -= 1;
        if std::mem::take(&mut self.has_stalled) {
            self.ahead_pages = (self.ahead_pages * 2).min(AHEAD_PAGES_MAX);
        }
        if self.away_runs == 0 {
            self.ahead_pages = 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(n: usize) -> Location {
        Location::new(n, 0)
    }

    fn popped(ready: &mut Ready) -> Vec<usize> {
        std::iter::from_fn(|| ready.pop()).map(|(location, _)| location.chunk()).collect()
    }

    #[test]
    fn higher_priorities_go_first_and_each_keeps_its_order() {
        let mut ready = Ready::new(3, false, false);
        for (number, priority) in [0, 2, 9, 3, 2].into_iter().enumerate() {
            ready.push(location(number), priority);
        }
        assert_eq!(popped(&mut ready), [2, 3, 1, 4, 0]);
    }

    #[test]
    fn what_comes_back_stands_before_the_others_of_its_priority_only() {
        let mut ready = Ready::new(1, false, false);
        ready.push(location(0), 0);
        ready.push(location(1), 0);
        let (first, position) = ready.pop().unwrap();
        ready.put_back(position, first, Comeback::BehindReturned);
        ready.push(location(2), 1);
        assert_eq!(ready.first(), Some(location(2)));
        assert_eq!((ready.head(0), ready.head(1)), (Some(location(2)), Some(location(0))));
        assert_eq!(popped(&mut ready), [2, 0, 1]);
    }

    #[test]
    fn returns_are_counted_up_to_a_bound() {
        let mut ready = Ready::new(0, true, false);
        ready.extend(&[location(0), location(1)]);
        let (_, mut position) = ready.pop().unwrap();
        assert_eq!(position.returns(), 0);
        for returns in 1..70_000_u32 {
            position = ready.put_back(position, location(0), Comeback::BehindReturned);
            assert_eq!(position.returns(), returns.min(65_535));
            ready.pop().unwrap();
        }
        position = ready.put_back(position, location(0), Comeback::Unsent);
        assert_eq!(position.returns(), 65_535);
        assert_eq!(popped(&mut ready), [0, 1]);
    }

    #[test]
    fn what_came_back_before_the_start_is_counted_on_from_there() {
        let mut ready = Ready::new(0, true, false);
        let returns = [(Ordinal(6), 9), (Ordinal(8), 2), (Ordinal(10), 100_000)];
        ready.revive(&[], &returns, &[Ordinal(7)]);
        ready.extend(&(7..12).map(location).collect::<Vec<_>>());
        let mut told = Vec::new();
        while let Some((location, position)) = ready.pop() {
            told.push((location.chunk(), position.returns(), location.redelivered()));
            if (location.chunk(), position.returns()) == (8, 2) {
                ready.put_back(position, location, Comeback::BehindReturned);
            }
        }
        let wanted =
            [(7, 0, false), (8, 2, true), (8, 3, true), (9, 0, false), (10, 65_535, true), (11, 0, false)];
        assert_eq!(told, wanted);
        assert!(ready.returned.is_empty(), "nothing is known any more");
    }

    #[test]
    fn what_comes_back_to_a_queue_that_counts_stands_in_the_order_in_which_it_came_back() {
        let mut ready = Ready::new(0, true, false);
        ready.extend(&(0..6).map(location).collect::<Vec<_>>());
        let taken: Vec<_> = std::iter::from_fn(|| ready.pop()).take(4).collect();
        let mut back = |at: usize, how| {
            let (location, position) = taken[at];
            ready.put_back(position, location, how);
        };
        back(2, Comeback::BehindAll);
        back(1, Comeback::BehindReturned);
        back(3, Comeback::Unsent);
        back(0, Comeback::BehindReturned);
        ready.extend(&[location(6)]);
        assert_eq!((ready.len(), ready.head(0)), (7, Some(location(1))));
        assert_eq!(ready.positions().len(), 5);
        assert_eq!(popped(&mut ready), [1, 0, 3, 4, 5, 2, 6]);
    }
}
