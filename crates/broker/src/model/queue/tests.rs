//! What a queue does with messages and consumers, step by step.

use super::*;

fn location(n: usize) -> Location {
    Location::new(n, 0)
}

/// Ten octets a message; what has a life of its own lives for five milliseconds from 0 on.
struct Ten {
    now_millis: u64,
}

const TEN: &Ten = &Ten { now_millis: 0 };

impl Messages for Ten {
    fn now_millis(&self) -> u64 {
        self.now_millis
    }

    fn wall_millis(&self) -> u64 {
        self.now_millis
    }

    fn body_octets(&self, _: Location) -> u64 {
        10
    }

    fn priority(&self, location: Location) -> u8 {
        u8::try_from(location.chunk() % 3).unwrap()
    }

    fn arrived_millis(&self, _: Location) -> u64 {
        0
    }

    fn expiration_millis(&self, _: Location) -> Option<u64> {
        Some(5)
    }
}

struct Check {
    queue: Queue,
    effects: Effects,
    next: usize,
}

impl Check {
    fn new(settings: QueueSettings) -> Self {
        Self { queue: Queue::new(settings, 0, false), effects: Effects::default(), next: 0 }
    }

    fn publish(&mut self, count: usize) -> &mut Self {
        let batch: Vec<_> = (self.next..self.next + count).map(location).collect();
        self.next += count;
        self.queue.enqueue(&batch, TEN, &mut self.effects);
        self
    }

    fn consume(&mut self, settings: ConsumerSettings) -> ConsumerSlot {
        let slot = self.queue.add_consumer(settings).unwrap();
        self.queue.wake(slot, TEN, &mut self.effects);
        slot
    }

    fn take(&mut self) -> Taken {
        match self.queue.take(false, TEN, &mut self.effects) {
            Take::Message(taken) => taken,
            other => panic!("{other:?}"),
        }
    }

    fn requeue(&mut self, taken: &[Taken]) {
        let back = taken.iter().map(|taken| (taken.position, taken.location));
        self.queue.requeue(back, None, TEN, &mut self.effects);
    }

    /// The numbers of the messages that were buried since the last call, and why.
    fn dead(&mut self) -> Vec<(usize, DeathReason)> {
        self.effects.dead.drain(..).map(|dead| (dead.location.chunk(), dead.reason)).collect()
    }

    /// The numbers of the messages that went to consumers since the last call.
    fn delivered(&mut self) -> Vec<(ConsumerSlot, usize)> {
        self.effects.assigned.drain(..).map(|a| (a.consumer, a.location.chunk())).collect()
    }

    fn dropped(&mut self) -> Vec<usize> {
        self.effects.dropped.drain(..).map(Location::chunk).collect()
    }
}

fn prefetch(prefetch: u16) -> ConsumerSettings {
    ConsumerSettings { prefetch, ..ConsumerSettings::default() }
}

#[test]
fn consumers_take_turns() {
    let mut check = Check::new(QueueSettings::default());
    check.consume(prefetch(2));
    check.consume(prefetch(0));
    check.publish(5);
    assert_eq!(check.delivered(), [(0, 0), (1, 1), (0, 2), (1, 3), (1, 4)]);
}

#[test]
fn requeued_messages_go_back_to_their_position() {
    let mut check = Check::new(QueueSettings::default());
    check.publish(5);
    let taken: Vec<_> = (0..3).map(|_| check.take()).collect();
    check.requeue(&[taken[2], taken[0]]);
    assert_eq!((check.queue.ready(), check.queue.unacked()), (4, 1));
    check.requeue(&[taken[1]]);
    check.consume(prefetch(0));
    assert_eq!(check.delivered(), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
}

#[test]
fn settling_makes_room() {
    let mut check = Check::new(QueueSettings::default());
    let slot = check.consume(prefetch(1));
    check.publish(3);
    assert_eq!(check.delivered(), [(slot, 0)]);
    check.queue.settle(Some(slot), 1, TEN, &mut check.effects);
    assert_eq!(check.delivered(), [(slot, 1)]);
    assert_eq!(check.queue.unacked(), 1);
}

#[test]
fn drop_head_keeps_the_newest() {
    let settings = QueueSettings { messages_max: Some(2), ..QueueSettings::default() };
    let mut check = Check::new(settings);
    check.publish(5);
    assert_eq!(check.dropped(), [0, 1, 2]);
    let settings = QueueSettings { octets_max: Some(25), ..QueueSettings::default() };
    let mut check = Check::new(settings);
    check.publish(3).publish(1);
    assert_eq!(check.dropped(), [0, 1]);
    assert_eq!(check.queue.ready_octets, 20);
}

#[test]
fn what_a_consumer_takes_is_not_dropped() {
    let settings = QueueSettings { messages_max: Some(0), ..QueueSettings::default() };
    let mut check = Check::new(settings);
    check.consume(prefetch(2));
    check.publish(3);
    assert_eq!(check.delivered(), [(0, 0), (0, 1)]);
    assert_eq!(check.dropped(), [2]);
}

#[test]
fn reject_publish_refuses_what_does_not_fit() {
    let settings = QueueSettings {
        messages_max: Some(2),
        overflow: Overflow::RejectPublish,
        ..QueueSettings::default()
    };
    let mut check = Check::new(settings);
    check.consume(prefetch(1));
    check.publish(4);
    assert_eq!(check.delivered(), [(0, 0)]);
    assert_eq!(check.effects.rejected, [3]);
    assert_eq!(check.dropped(), [3]);
}

#[test]
fn exclusive_consumers_stand_alone() {
    let exclusive = || ConsumerSettings { exclusive: true, ..ConsumerSettings::default() };
    let mut queue = Queue::default();
    let slot = queue.add_consumer(exclusive()).unwrap();
    assert_eq!(queue.add_consumer(ConsumerSettings::default()), Err(InExclusiveUse));
    queue.remove_consumer(slot, 0);
    assert!(queue.is_abandoned());
    queue.add_consumer(ConsumerSettings::default()).unwrap();
    assert_eq!(queue.add_consumer(exclusive()), Err(InExclusiveUse));
}

fn with_dead_letters() -> QueueSettings {
    QueueSettings { dead_letters: true, ..QueueSettings::default() }
}

#[test]
fn heads_past_their_time_leave_and_others_wait_behind_them() {
    let settings = QueueSettings { message_ttl_millis: Some(10), ..with_dead_letters() };
    let mut check = Check::new(settings);
    check.queue.enqueue(&[location(0), location(1).expiring(true)], TEN, &mut check.effects);
    assert_eq!(check.queue.next_deadline_millis(TEN), Some(10));
    check.queue.keep_time(&Ten { now_millis: 9 }, &mut check.effects);
    assert_eq!((check.dead(), check.queue.ready()), (vec![], 2));
    check.queue.keep_time(&Ten { now_millis: 10 }, &mut check.effects);
    assert_eq!(check.dead(), [(0, DeathReason::Expired), (1, DeathReason::Expired)]);
    assert_eq!(check.queue.next_deadline_millis(TEN), None);
}

#[test]
fn a_message_without_any_time_goes_to_a_consumer_or_nowhere() {
    let settings = QueueSettings { message_ttl_millis: Some(0), ..QueueSettings::default() };
    let mut check = Check::new(settings);
    check.consume(prefetch(1));
    check.publish(2);
    assert_eq!((check.delivered(), check.dropped()), (vec![(0, 0)], vec![1]));
}

#[test]
fn requeueing_gives_no_new_life() {
    let mut check = Check::new(with_dead_letters());
    check.queue.enqueue(&[location(0).expiring(true)], TEN, &mut check.effects);
    let taken = check.take();
    assert_eq!(check.queue.next_deadline_millis(TEN), None);
    check.requeue(&[taken]);
    assert_eq!(check.queue.next_deadline_millis(TEN), Some(5));
}

#[test]
fn an_unused_queue_has_a_deadline_of_its_own() {
    let settings = QueueSettings { expires_millis: Some(100), ..QueueSettings::default() };
    let mut check = Check::new(settings);
    assert_eq!(check.queue.next_deadline_millis(TEN), Some(100));
    let slot = check.consume(prefetch(0));
    assert_eq!(check.queue.next_deadline_millis(TEN), None);
    check.queue.remove_consumer(slot, 50);
    assert!(!check.queue.is_past_its_time(149) && check.queue.is_past_its_time(150));
    check.queue.touch(149);
    assert!(!check.queue.is_past_its_time(150));
}

#[test]
fn what_comes_back_too_often_is_buried() {
    let settings = QueueSettings { counts_returns: true, returns_max: Some(2), ..with_dead_letters() };
    let mut check = Check::new(settings);
    check.publish(2);
    for returns in 0..3 {
        let taken = check.take();
        assert_eq!((taken.location.chunk(), taken.position.returns()), (0, returns));
        check.requeue(&[taken]);
    }
    assert_eq!(check.dead(), [(0, DeathReason::DeliveryLimit)]);
    assert_eq!(check.take().location.chunk(), 1);
}

#[test]
fn priorities_decide_who_goes_out_and_who_is_dropped() {
    let settings = QueueSettings { priority_max: 2, messages_max: Some(5), ..with_dead_letters() };
    let mut check = Check::new(settings);
    check.publish(6);
    assert_eq!(check.dead(), [(2, DeathReason::MaxLength)]);
    check.consume(prefetch(0));
    assert_eq!(check.delivered(), [(0, 5), (0, 1), (0, 4), (0, 0), (0, 3)]);
}

/// The first message is larger than its queue may be; the third has a higher priority than the others.
struct LargeFirst;

impl Messages for LargeFirst {
    fn now_millis(&self) -> u64 {
        0
    }

    fn wall_millis(&self) -> u64 {
        0
    }

    fn body_octets(&self, location: Location) -> u64 {
        if location.chunk() == 0 { 100 } else { 10 }
    }

    fn priority(&self, location: Location) -> u8 {
        u8::from(location.chunk() == 2)
    }

    fn arrived_millis(&self, _: Location) -> u64 {
        0
    }

    fn expiration_millis(&self, _: Location) -> Option<u64> {
        None
    }
}

#[test]
fn what_does_not_fit_goes_before_what_comes_later() {
    let settings = QueueSettings { priority_max: 1, octets_max: Some(50), ..with_dead_letters() };
    let mut check = Check::new(settings);
    let batch: Vec<_> = (0..4).map(location).collect();
    check.queue.enqueue(&batch, &LargeFirst, &mut check.effects);
    assert_eq!(check.dead(), [(0, DeathReason::MaxLength)]);
    assert_eq!(check.queue.ready(), 3);
    let settings = QueueSettings { messages_max: Some(2), octets_max: None, ..settings };
    let mut check = Check::new(settings);
    check.queue.enqueue(&batch, &LargeFirst, &mut check.effects);
    assert_eq!(check.dead(), [(2, DeathReason::MaxLength), (0, DeathReason::MaxLength)]);
}

#[test]
fn what_comes_to_stand_first_in_a_full_queue_has_no_time_left() {
    let late = &Ten { now_millis: 5 };
    let batch = [location(0), location(1).expiring(true), location(2)];
    let settings = QueueSettings { messages_max: Some(1), ..with_dead_letters() };
    let mut check = Check::new(settings);
    check.queue.enqueue(&batch, late, &mut check.effects);
    assert_eq!(check.dead(), [(0, DeathReason::MaxLength), (1, DeathReason::Expired)]);
    assert_eq!(check.queue.ready(), 1);
    let settings = QueueSettings { overflow: Overflow::RejectPublish, ..settings };
    let mut check = Check::new(settings);
    let batch = [batch[1], location(4).expiring(true), batch[2]];
    check.queue.enqueue(&batch, late, &mut check.effects);
    assert_eq!(check.dead(), [(1, DeathReason::Expired), (4, DeathReason::Expired)]);
    assert_eq!((check.queue.ready(), &*check.effects.rejected), (1, &[][..]));
}

#[test]
fn consumers_of_higher_priority_come_first_while_they_can_take_more() {
    let mut check = Check::new(QueueSettings::default());
    let low = check.consume(prefetch(0));
    let high = check.consume(ConsumerSettings { priority: 1, ..prefetch(2) });
    check.publish(3);
    assert_eq!(check.delivered(), [(high, 0), (high, 1), (low, 2)]);
}

#[test]
fn one_consumer_is_active_and_the_next_follows_when_it_is_told() {
    let settings = QueueSettings { single_active_consumer: true, ..QueueSettings::default() };
    let mut check = Check::new(settings);
    let first = check.consume(prefetch(1));
    let second = check.consume(ConsumerSettings { priority: 5, ..prefetch(0) });
    check.publish(3);
    assert_eq!(check.delivered(), [(first, 0)]);
    check.queue.remove_consumer(first, 0);
    check.queue.requeue([(Position::default(), location(0))].into_iter(), None, TEN, &mut check.effects);
    assert_eq!(check.delivered(), []);
    check.queue.succeed(TEN, &mut check.effects);
    assert_eq!(check.delivered(), [(second, 0), (second, 1), (second, 2)]);
    let exclusive = ConsumerSettings { exclusive: true, ..ConsumerSettings::default() };
    assert_eq!(check.queue.add_consumer(exclusive), Err(InExclusiveUse));
}

#[test]
fn what_is_refused_may_be_buried() {
    let settings =
        QueueSettings { messages_max: Some(1), overflow: Overflow::RejectPublishDlx, ..with_dead_letters() };
    let mut check = Check::new(settings);
    check.publish(2);
    assert_eq!(check.effects.rejected, [1]);
    assert_eq!(check.dead(), [(1, DeathReason::MaxLength)]);
}

/// One that was to stay for long before one whose time is short.
fn with_a_short_life_behind() -> Check {
    let mut check = Check::new(QueueSettings::default());
    let batch = [location(0), location(1).expiring(true), location(2)];
    check.queue.enqueue(&batch, TEN, &mut check.effects);
    check
}

#[test]
fn what_comes_to_stand_first_past_its_time_is_not_handed_out() {
    let mut check = with_a_short_life_behind();
    let slot = check.queue.add_consumer(ConsumerSettings::default()).unwrap();
    check.queue.wake(slot, &Ten { now_millis: 5 }, &mut check.effects);
    let given: Vec<_> = check.effects.assigned.iter().map(|assigned| assigned.location.chunk()).collect();
    assert_eq!((given, check.effects.dropped.len(), check.queue.ready()), (vec![0, 2], 1, 0));
}

#[test]
fn what_comes_to_stand_first_past_its_time_does_not_count_as_left() {
    let mut check = with_a_short_life_behind();
    let taken = check.queue.take(true, &Ten { now_millis: 5 }, &mut check.effects);
    assert!(
        matches!(taken, Take::Message(Taken { location, remaining: 1, .. }) if location == self::location(0))
    );
}

#[test]
fn a_step_takes_so_many_out_and_hands_nothing_out_until_the_rest_is() {
    const PAST: usize = 2 * STEP_BURIALS_MAX + 1;
    let now = &Ten { now_millis: 10 };
    let settings = QueueSettings { message_ttl_millis: Some(10), ..with_dead_letters() };
    let mut check = Check::new(settings);
    check.publish(PAST);
    let slot = check.queue.add_consumer(prefetch(0)).unwrap();
    check.queue.wake(slot, now, &mut check.effects);
    for left in [PAST - STEP_BURIALS_MAX, 1] {
        assert_eq!(check.queue.take(true, now, &mut check.effects), Take::Behind);
        assert_eq!((check.dead().len(), check.queue.ready()), (STEP_BURIALS_MAX, left as u64));
        assert!(check.queue.is_behind());
        assert!(check.queue.next_deadline_millis(now).is_some_and(|at| at <= now.now_millis));
        check.queue.keep_time(now, &mut check.effects);
    }
    assert_eq!((check.queue.ready(), check.queue.is_behind(), check.delivered()), (0, false, vec![]));
}

#[test]
fn consumers_get_what_is_behind_many_that_are_past_their_time() {
    let now = &Ten { now_millis: 5 };
    let mut check = Check::new(QueueSettings::default());
    let short: Vec<_> = (0..=STEP_BURIALS_MAX).map(|n| location(n).expiring(true)).collect();
    check.queue.enqueue(&short, TEN, &mut check.effects);
    check.queue.enqueue(&[location(7)], TEN, &mut check.effects);
    let slot = check.queue.add_consumer(prefetch(0)).unwrap();
    check.queue.wake(slot, now, &mut check.effects);
    assert_eq!((check.dropped().len(), check.delivered()), (STEP_BURIALS_MAX, vec![]));
    check.queue.keep_time(now, &mut check.effects);
    assert_eq!((check.dropped(), check.delivered()), (vec![STEP_BURIALS_MAX], vec![(slot, 7)]));
}

#[test]
fn nobody_overtakes_the_next_active_consumer() {
    let settings = QueueSettings { single_active_consumer: true, ..QueueSettings::default() };
    let mut check = Check::new(settings);
    let first = check.consume(prefetch(1));
    let second = check.consume(prefetch(0));
    check.publish(2);
    assert_eq!(check.delivered(), [(first, 0)]);
    assert!(check.queue.remove_consumer(first, 0));
    let newcomer = check.consume(ConsumerSettings { priority: 9, ..prefetch(0) });
    check.publish(1);
    assert!(!check.queue.remove_consumer(newcomer, 0));
    assert_eq!(check.delivered(), []);
    check.queue.requeue([(Position::default(), location(0))].into_iter(), None, TEN, &mut check.effects);
    check.queue.succeed(TEN, &mut check.effects);
    assert_eq!(check.delivered(), [(second, 0), (second, 1), (second, 2)]);
}

#[test]
fn one_who_comes_while_the_last_goes_is_active_once_what_that_one_had_is_back() {
    let settings = QueueSettings { single_active_consumer: true, ..QueueSettings::default() };
    let mut check = Check::new(settings);
    let first = check.consume(prefetch(1));
    check.publish(2);
    assert_eq!(check.delivered(), [(first, 0)]);
    assert!(check.queue.remove_consumer(first, 0));
    let newcomer = check.consume(prefetch(0));
    assert_eq!(check.delivered(), []);
    check.queue.requeue([(Position::default(), location(0))].into_iter(), None, TEN, &mut check.effects);
    check.queue.succeed(TEN, &mut check.effects);
    assert_eq!(check.delivered(), [(newcomer, 0), (newcomer, 1)]);
}

#[test]
fn a_quorum_queue_counts_what_is_past_its_time_behind_one_that_may_come_back() {
    for (no_ack, remaining) in [(false, 1), (true, 0)] {
        let mut check = Check::new(QueueSettings { counts_returns: true, ..QueueSettings::default() });
        check.queue.enqueue(&[location(0), location(1).expiring(true)], TEN, &mut check.effects);
        let taken = check.queue.take(no_ack, &Ten { now_millis: 5 }, &mut check.effects);
        let Take::Message(taken) = taken else { panic!("{taken:?}") };
        assert_eq!(taken.remaining, remaining);
        check.queue.keep_time(&Ten { now_millis: 5 }, &mut check.effects);
        assert_eq!(check.queue.ready(), 0);
    }
}
