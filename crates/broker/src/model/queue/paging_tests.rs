//! A queue whose messages go to pages and back does what one does whose messages stay.

use std::collections::BTreeMap;

use super::*;
use crate::{AwayRun, Ordinal, PagePlace, Run};

/// Every message of one run; each is of this many KiB, so that a run has few.
const MESSAGE_KIBIBYTES: usize = 32;

fn location(n: usize) -> Location {
    Location::new(n, 0).of_octets(MESSAGE_KIBIBYTES * 1024)
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// What the messages are, by their number.
#[derive(Default)]
struct Facts {
    now_millis: u64,
    arrived_millis: Vec<u64>,
}

impl Messages for Facts {
    fn now_millis(&self) -> u64 {
        self.now_millis
    }

    fn wall_millis(&self) -> u64 {
        self.now_millis
    }

    fn body_octets(&self, location: Location) -> u64 {
        location.chunk() as u64 % 50
    }

    fn priority(&self, location: Location) -> u8 {
        u8::try_from(location.chunk() % 4).unwrap()
    }

    fn arrived_millis(&self, location: Location) -> u64 {
        self.arrived_millis[location.chunk()]
    }

    fn expiration_millis(&self, location: Location) -> Option<u64> {
        Some(location.chunk() as u64 % 40)
    }
}

/// Pages of a queue, as a disk would have them.
#[derive(Default)]
struct Pages {
    pages: BTreeMap<u64, Run>,
    next: u64,
    written: usize,
}

impl Pages {
    fn put_away(&mut self, queue: &mut Queue, facts: &Facts, runs_max: usize) {
        for run in queue.newest_sealed(runs_max) {
            let away = self.write(&run, facts);
            let locations = queue.put_away(away).expect("it was just there");
            assert_eq!(Vec::from(locations), run.locations);
        }
    }

    fn write(&mut self, run: &Run, facts: &Facts) -> AwayRun {
        self.next += 1;
        self.written += 1;
        self.pages.insert(self.next, run.clone());
        let messages = u32::try_from(run.locations.len()).unwrap();
        let last = Ordinal(run.first.0 + u64::from(messages) - 1);
        let body_octets = run.locations.iter().map(|&location| facts.body_octets(location)).sum();
        let page = PagePlace { file: 0, octets: 1, offset: self.next };
        AwayRun { first: run.first, last, messages, body_octets, page }
    }

    /// Does what the loader does.
    fn load(&mut self, queue: &mut Queue, facts: &Facts, effects: &mut Effects) {
        while queue.take_notice().is_some_and(|notice| notice.wants_page) {
            while let Some(away) = queue.next_away() {
                let run = self.pages.remove(&away.page.offset).expect("a page is read once");
                assert!(queue.supply(&away, &mut vec![run], facts, effects), "it was just there");
            }
        }
    }

    fn forget(&mut self, drained: &Drained) {
        for run in &drained.away {
            self.pages.remove(&run.page.offset).expect("a page is given back once");
        }
    }
}

/// A queue without pages and one with them, to which the same is done.
struct Pair {
    stays: Queue,
    pages: Queue,
    disk: Pages,
    facts: Facts,
    effects: [Effects; 2],
    random: Random,
    /// Deliveries that are not settled, by their consumer, with those of `basic.get` under none.
    held: BTreeMap<Option<ConsumerSlot>, Vec<(Position, Location)>>,
    /// Consumers, with the part of their window that is under way.
    consumers: BTreeMap<ConsumerSlot, u32>,
    no_ack: Vec<ConsumerSlot>,
}

impl Pair {
    fn new(settings: QueueSettings, seed: u64) -> Self {
        Self {
            stays: Queue::new(settings, 0, false),
            pages: Queue::new(settings, 0, true),
            disk: Pages::default(),
            facts: Facts::default(),
            effects: Default::default(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            held: BTreeMap::new(),
            consumers: BTreeMap::new(),
            no_ack: Vec::new(),
        }
    }

    /// Does the same to both, and compares what comes of it.
    fn both<R: PartialEq + std::fmt::Debug>(
        &mut self,
        mut act: impl FnMut(&mut Queue, &Facts, &mut Effects) -> R,
    ) -> R {
        let [one, other] = &mut self.effects;
        let wanted = act(&mut self.stays, &self.facts, one);
        let mut found = act(&mut self.pages, &self.facts, other);
        self.disk.load(&mut self.pages, &self.facts, other);
        // `basic.get` asks again when the page was read.
        while found != wanted && format!("{found:?}") == "Away" {
            found = act(&mut self.pages, &self.facts, other);
            self.disk.load(&mut self.pages, &self.facts, other);
        }
        assert_eq!(found, wanted);
        // Some steps leave a head that is past its time until the next one, unless it is read anew.
        self.stays.expire(&self.facts, one);
        self.pages.expire(&self.facts, other);
        self.disk.load(&mut self.pages, &self.facts, other);
        self.compare();
        self.note_assigned();
        wanted
    }

    fn compare(&mut self) {
        let [one, other] = &self.effects;
        assert_eq!(one.assigned, other.assigned);
        assert_eq!(one.dropped, other.dropped);
        assert_eq!(one.dead, other.dead);
        assert_eq!(one.rejected, other.rejected);
        assert_eq!(self.stays.ready(), self.pages.ready());
        assert_eq!(self.stays.ready_octets, self.pages.ready_octets);
        assert_eq!(self.stays.unacked(), self.pages.unacked());
        let deadline = |queue: &Queue| queue.next_deadline_millis(&self.facts);
        assert_eq!(deadline(&self.stays), deadline(&self.pages));
    }

    fn note_assigned(&mut self) {
        for assigned in &self.effects[0].assigned {
            *self.consumers.get_mut(&assigned.consumer).expect("it is there") += assigned.window;
            if !self.no_ack.contains(&assigned.consumer) {
                let held = self.held.entry(Some(assigned.consumer)).or_default();
                held.push((assigned.position, assigned.location));
            }
        }
        self.effects = Default::default();
    }

    fn publish(&mut self) {
        let first = self.facts.arrived_millis.len();
        let count = 1 + self.random.below(30);
        self.facts.arrived_millis.resize(first + count, self.facts.now_millis);
        // Where a limit drops heads, which of those past their time it finds is a matter of chance.
        let expires = |n| n % 5 == 0 && !self.stays.settings().is_limited();
        let batch: Vec<_> = (first..first + count).map(|n| location(n).expiring(expires(n))).collect();
        // What does not fit is dropped message by message where that matters, if the head is there: while
        // a page is read, what comes is weighed with what was on it.
        let together = if self.stays.settings().is_limited() { 1 } else { batch.len() };
        for batch in batch.chunks(together) {
            self.both(|queue, facts, effects| queue.enqueue(batch, facts, effects));
        }
    }

    fn consume(&mut self) {
        if self.consumers.len() >= 3 {
            return;
        }
        let no_ack = self.random.one_in(4);
        let prefetch = u16::try_from(self.random.below(40)).unwrap();
        let settings = || ConsumerSettings { no_ack, prefetch, ..ConsumerSettings::default() };
        let slot = self.stays.add_consumer(settings()).unwrap();
        assert_eq!(self.pages.add_consumer(settings()), Ok(slot));
        self.consumers.insert(slot, 0);
        if no_ack {
            self.no_ack.push(slot);
        }
        self.both(|queue, facts, effects| queue.wake(slot, facts, effects));
    }

    fn cancel(&mut self) {
        let at = self.random.below(self.consumers.len().max(1));
        let Some(&slot) = self.consumers.keys().nth(at) else { return };
        self.consumers.remove(&slot);
        self.no_ack.retain(|other| *other != slot);
        let was_active = self.stays.remove_consumer(slot, self.facts.now_millis);
        assert_eq!(self.pages.remove_consumer(slot, self.facts.now_millis), was_active);
        let back = self.held.remove(&Some(slot)).unwrap_or_default();
        self.both(|queue, facts, effects| queue.requeue(back.iter().copied(), None, facts, effects));
        if was_active {
            self.both(|queue, facts, effects| queue.succeed(facts, effects));
        }
    }

    fn refill(&mut self) {
        for slot in self.consumers.keys().copied().collect::<Vec<_>>() {
            let window = self.consumers.insert(slot, 0).expect("it is there");
            self.both(|queue, facts, effects| queue.refill(slot, window, facts, effects));
        }
    }

    fn get(&mut self) {
        let taken = self.both(|queue, facts, effects| {
            let mut taken = queue.take(false, facts, effects);
            if let Take::Message(taken) = &mut taken
                && !queue.settings().is_limited()
            {
                // One past its time that comes to stand first counts as left until its page is read.
                taken.remaining = 0;
            }
            taken
        });
        if let Take::Message(taken) = taken {
            self.held.entry(None).or_default().push((taken.position, taken.location));
        }
    }

    /// Settles or requeues some of what somebody holds.
    fn give_back(&mut self, requeues: bool) {
        let at = self.random.below(self.held.len().max(1));
        let Some(&slot) = self.held.keys().nth(at) else { return };
        let held = self.held.get_mut(&slot).expect("it is there");
        let from = self.random.below(held.len().max(1)).min(held.len());
        let mut back = held.split_off(from);
        if self.random.one_in(2) {
            back.reverse();
        }
        if requeues {
            let back: Vec<_> = back.iter().map(|(position, it)| (*position, it.as_redelivered())).collect();
            self.both(|queue, facts, effects| queue.requeue(back.iter().copied(), slot, facts, effects));
        } else {
            let count = u32::try_from(back.len()).unwrap();
            self.both(|queue, facts, effects| queue.settle(slot, count, facts, effects));
        }
    }

    fn purge(&mut self) {
        let (one, other) = (self.stays.drain(), self.pages.drain());
        assert_eq!(one.messages(), other.messages());
        self.disk.forget(&other);
        assert!(self.disk.pages.is_empty(), "whatever was on a page is gone");
        self.compare();
    }

    fn act(&mut self) {
        if self.random.one_in(2) {
            let runs_max = 1 + self.random.below(8);
            self.disk.put_away(&mut self.pages, &self.facts, runs_max);
        }
        match self.random.below(40) {
            0..14 => self.publish(),
            14..18 => self.consume(),
            18..20 => self.cancel(),
            20..26 => self.refill(),
            26..30 => self.get(),
            30..34 => self.give_back(false),
            34..37 => self.give_back(true),
            37 | 38 => {
                self.facts.now_millis += self.random.below(30) as u64;
                self.both(|queue, facts, effects| queue.expire(facts, effects));
            }
            _ if self.random.one_in(5) => self.purge(),
            _ => {}
        }
    }
}

fn settings(random: &mut Random) -> QueueSettings {
    let counts_returns = random.one_in(4);
    let mut settings = QueueSettings {
        counts_returns,
        returns_max: (counts_returns && random.one_in(2)).then_some(2),
        priority_max: if !counts_returns && random.one_in(3) { 3 } else { 0 },
        dead_letters: random.one_in(2),
        single_active_consumer: random.one_in(6),
        ..QueueSettings::default()
    };
    match random.below(5) {
        0 => settings.messages_max = Some(150),
        1 => settings.octets_max = Some(4000),
        2 => settings.message_ttl_millis = Some(100),
        _ => {}
    }
    settings
}

#[test]
fn pages_change_nothing_but_where_messages_are() {
    let mut written = 0;
    for seed in 1..400 {
        let settings = settings(&mut Random(seed * 7919));
        let mut pair = Pair::new(settings, seed);
        for _ in 0..150 {
            pair.act();
        }
        written += pair.disk.written;
        pair.purge();
    }
    assert!(written > 5000, "{written} pages are too few to say anything");
}

/// A queue of so many messages, of which all runs that can be are on pages.
fn put_away(messages: usize) -> (Queue, Pages, Facts) {
    let mut queue = Queue::new(QueueSettings::default(), 0, true);
    let facts = Facts { now_millis: 0, arrived_millis: vec![0; messages] };
    let mut pages = Pages::default();
    for n in 0..messages {
        queue.enqueue(&[location(n)], &facts, &mut Effects::default());
    }
    pages.put_away(&mut queue, &facts, usize::MAX);
    (queue, pages, facts)
}

#[test]
fn the_first_messages_and_the_last_ones_stay() {
    let (queue, pages, _) = put_away(80);
    assert_eq!((queue.ready(), pages.pages.len()), (80, 8));
    assert!(pages.pages.values().all(|run| run.locations.len() == 8));
    assert_eq!(queue.next_away().unwrap().first, Ordinal(8), "the page behind the first messages");
}

#[test]
fn whoever_wants_a_message_that_is_away_waits_for_its_page() {
    let (mut queue, mut pages, facts) = put_away(40);
    let mut effects = Effects::default();
    for _ in 0..8 {
        assert!(matches!(queue.take(true, &facts, &mut effects), Take::Message(_)));
    }
    assert_eq!(queue.take(true, &facts, &mut effects), Take::Away);
    assert_eq!(queue.ready(), 32);
    let slot = queue.add_consumer(ConsumerSettings::default()).unwrap();
    queue.wake(slot, &facts, &mut effects);
    assert!(effects.assigned.is_empty());
    pages.load(&mut queue, &facts, &mut effects);
    let numbers: Vec<_> = effects.assigned.iter().map(|assigned| assigned.location.chunk()).collect();
    assert_eq!(numbers, (8..40).collect::<Vec<_>>());
}

#[test]
fn pages_that_are_waited_for_are_read_further_ahead() {
    let (mut queue, mut pages, facts) = put_away(8 * 100);
    let mut effects = Effects::default();
    let mut ahead = Vec::new();
    for _ in 0..8 * 90 {
        while queue.take(true, &facts, &mut effects) == Take::Away {
            let before = pages.pages.len();
            pages.load(&mut queue, &facts, &mut effects);
            ahead.push(before - pages.pages.len());
        }
    }
    assert_eq!(ahead, [3, 5, 9, 17, 33, 31], "each time twice as many beyond the first");
}

#[test]
fn what_is_damaged_is_left_out_and_its_numbers_are_not_used_again() {
    let (mut queue, _, facts) = put_away(24);
    let mut effects = Effects::default();
    for _ in 0..8 {
        queue.take(true, &facts, &mut effects);
    }
    let away = queue.next_away().unwrap();
    assert!(queue.supply(&away, &mut Vec::new(), &facts, &mut effects));
    assert_eq!(queue.ready(), 8);
    assert!(!queue.supply(&away, &mut Vec::new(), &facts, &mut effects), "it is not there any more");
    let Take::Message(taken) = queue.take(true, &facts, &mut effects) else { panic!("it is here") };
    assert_eq!(taken.location.chunk(), 16);
}

#[test]
fn a_run_that_was_taken_meanwhile_is_not_put_away() {
    let (mut queue, mut pages, facts) = put_away(8);
    let batch: Vec<_> = (0..40).map(location).collect();
    queue.enqueue(&batch, &facts, &mut Effects::default());
    let runs = queue.newest_sealed(usize::MAX);
    assert_eq!(runs.len(), 4);
    for _ in 0..16 {
        queue.take(true, &facts, &mut Effects::default());
    }
    let away: Vec<_> = runs.iter().map(|run| pages.write(run, &facts)).collect();
    let put: Vec<_> = away.into_iter().map(|away| queue.put_away(away).is_some()).collect();
    // All of the first one was taken, and the next one stands first.
    assert_eq!(put, [false, false, true, true]);
    let drained = queue.drain();
    assert_eq!((drained.messages(), drained.away.len()), (32, 2));
    assert_eq!(queue.ready(), 0);
}
