//! What a queue's own decisions cost: order, turns, windows and credit.
//!
//! Leaves out its lock, inboxes and the messages themselves, of which it knows locations only.
//! Invariant: every message of a batch is assigned, and the queue is empty after it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_broker::{
    Location,
    model::{
        consumer::ConsumerSettings,
        queue::{ConsumerSlot, Effects, Messages, Queue, QueueSettings},
    },
};

const BATCH: u32 = 1000;

/// Messages that are all alike, at a time that stands.
struct Alike;

impl Messages for Alike {
    fn now_millis(&self) -> u64 {
        1
    }

    fn wall_millis(&self) -> u64 {
        1
    }

    fn body_octets(&self, _: Location) -> u64 {
        16
    }

    fn priority(&self, _: Location) -> u8 {
        0
    }

    fn arrived_millis(&self, _: Location) -> u64 {
        1
    }

    fn expiration_millis(&self, _: Location) -> Option<u64> {
        None
    }
}

/// A queue with consumers, and what a batch for it is.
struct Bench {
    queue: Queue,
    effects: Effects,
    batch: Vec<Location>,
}

impl Bench {
    fn new(consumers: usize, no_ack: bool) -> Self {
        let mut queue = Queue::new(QueueSettings::default(), 1, false);
        for _ in 0..consumers {
            let settings = ConsumerSettings { no_ack, ..ConsumerSettings::default() };
            let slot = queue.add_consumer(settings).expect("none is exclusive");
            queue.wake(slot, &Alike, &mut Effects::default());
        }
        let batch = (0..BATCH as usize).map(|n| Location::new(1, n).of_octets(16)).collect();
        Self { queue, effects: Effects::default(), batch }
    }

    /// Takes a batch in, and hands it to the consumers.
    fn dispatch(&mut self) {
        self.queue.enqueue(&self.batch, &Alike, &mut self.effects);
        self.refill();
    }

    /// Gives back the windows of what was assigned, as connections do once it is on its way.
    fn refill(&mut self) {
        let mut next = 0;
        while let Some(&assignment) = self.effects.assigned.get(next) {
            next += 1;
            if assignment.window > 0 {
                let slot = assignment.consumer;
                self.queue.refill(slot, assignment.window, &Alike, &mut self.effects);
            }
        }
        assert_eq!((next, self.queue.ready()), (self.batch.len(), 0), "every message is assigned");
    }

    /// Settles all at once, consumer by consumer.
    fn settle(&mut self) {
        for slot in 0..self.queue.consumer_count() {
            let count = self.effects.assigned.iter().filter(|assignment| assignment.consumer == slot).count();
            let count = u32::try_from(count).expect("at most a batch");
            self.queue.settle(Some(slot), count, &Alike, &mut self.effects);
        }
        self.clear();
    }

    fn settle_one_by_one(&mut self) {
        let slots: Vec<ConsumerSlot> = self.effects.assigned.iter().map(|one| one.consumer).collect();
        for slot in slots {
            self.queue.settle(Some(slot), 1, &Alike, &mut self.effects);
        }
        self.clear();
    }

    /// Puts all back, which assigns them again.
    fn requeue(&mut self) {
        let assigned = std::mem::take(&mut self.effects.assigned);
        let messages = assigned.iter().map(|one| (one.position, one.location));
        self.queue.requeue(messages, Some(0), &Alike, &mut self.effects);
        self.refill();
    }

    fn clear(&mut self) {
        assert_eq!(self.queue.unacked(), 0, "every message is settled");
        self.effects.assigned.clear();
    }
}

fn queue(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(BATCH.into()));
    let mut bench = Bench::new(1, true);
    group.bench_function("enqueue and dispatch, no acknowledgement", |bencher| {
        bencher.iter(|| {
            bench.dispatch();
            bench.clear();
        });
    });
    let mut bench = Bench::new(1, false);
    group.bench_function("enqueue, dispatch and settle", |bencher| {
        bencher.iter(|| {
            bench.dispatch();
            bench.settle();
        });
    });
    let mut bench = Bench::new(10, false);
    group.bench_function("enqueue, dispatch to ten and settle", |bencher| {
        bencher.iter(|| {
            bench.dispatch();
            bench.settle();
        });
    });
    let mut bench = Bench::new(1, false);
    group.bench_function("enqueue, dispatch and settle one by one", |bencher| {
        bencher.iter(|| {
            bench.dispatch();
            bench.settle_one_by_one();
        });
    });
    let mut bench = Bench::new(1, false);
    bench.dispatch();
    group.bench_function("requeue and dispatch", |bencher| bencher.iter(|| bench.requeue()));
}

criterion_group!(benches, queue);
criterion_main!(benches);
