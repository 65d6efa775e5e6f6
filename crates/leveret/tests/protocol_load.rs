//! The protocol under load: large bodies, wide fanouts, consumers that do not read, and many
//! queues that go at once; and that nobody else has to wait for any of it.
//!
//! The tests run one at a time, because they measure. The client is that of the `protocol` tests,
//! and so is the choice of the broker.

#[path = "protocol/support/mod.rs"]
mod support;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use leveret_wire::{Method, Value, method::queue};

use self::support::{
    Login, Peer, ack, bind, consume, consume_no_ack, declare, declare_exchange, declare_with, exclusive,
    get_no_ack, message, passive, qos, table,
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long others may wait for an answer at the worst, on a machine that is busy with other
/// things as well. What is not done in slices takes longer than that.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);

/// The slowest round trip of a client while `work` is done.
fn slowest_round_trip(peer: &Peer, work: impl FnOnce()) -> Duration {
    let mut client = peer.client();
    client.ask(exclusive("probe"), "declare-ok probe 0 0");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let probe = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !done.load(Ordering::Acquire) {
                let begun = Instant::now();
                client.ask(passive("probe"), "declare-ok probe 0 0");
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        });
        work();
        done.store(true, Ordering::Release);
        probe.join().expect("the probe is answered")
    })
}

#[test]
fn a_body_of_100_megabytes_passes() {
    let _alone = alone();
    let peer = Peer::start();
    let body: String = (0..100_000_000_u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let mut publisher = peer.client();
    let mut consumer = peer.client_with(&Login { frame_max: 4096, ..Login::default() });
    publisher.ask(declare("q"), "declare-ok q 0 0");
    publisher.put(message("", "q", &body));
    consumer.ask(consume("q", "t"), "consume-ok t");
    let said = consumer.expect("deliver t 1 /q 100000000 octets");
    assert!(said.body() == body.as_bytes(), "it comes as it went");
    consumer.send(ack(1));
    consumer.expect_silence();
}

#[test]
fn a_thousand_messages_reach_two_thousand_queues() {
    let _alone = alone();
    let peer = Peer::start();
    let mut owner = peer.client();
    owner.ask(declare_exchange("x", "fanout"), "ExchangeDeclareOk");
    let names: Vec<_> = (0..2000).map(|n| format!("q{n}")).collect();
    for name in &names {
        owner.send(queue::Declare { nowait: true, ..exclusive(name) });
        owner.send(queue::Bind { nowait: true, ..bind(name, "x", "") });
    }
    owner.expect_silence();
    let mut publisher = peer.client();
    publisher.confirm_select();
    let begun = Instant::now();
    let slowest = slowest_round_trip(&peer, || {
        publisher.publish_all((0..1000).map(|_| message("x", "", "m")));
        assert_eq!(publisher.confirms(1000).len(), 1000);
    });
    println!("2,000,000 messages in {:?}, the slowest round trip beside it {slowest:?}", begun.elapsed());
    for name in &names {
        owner.ask(passive(name), &format!("declare-ok {name} 1000 0"));
    }
    assert!(slowest < ROUND_TRIP_MAX || !peer.is_leveret(), "others waited {slowest:?}");
}

#[test]
fn ten_thousand_queues_go_with_their_connection_and_nobody_waits() {
    let _alone = alone();
    let why = "what is measured is how leveret takes them down";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut owner = peer.client();
    for n in 0..10_000 {
        let name = format!("q{n}");
        owner.send(queue::Declare { nowait: true, ..exclusive(&name) });
        owner.send(queue::Bind { nowait: true, ..bind(&name, "amq.fanout", "") });
    }
    owner.expect_silence();
    owner.put(message("amq.fanout", "", "m"));
    assert_eq!(peer.broker().queue_count(), 10_000);
    let begun = Instant::now();
    let slowest = slowest_round_trip(&peer, || {
        owner.vanish();
        // The probe has a queue of its own.
        while peer.broker().queue_count() > 1 {
            thread::yield_now();
        }
    });
    println!("10,000 queues gone in {:?}, the slowest round trip beside it {slowest:?}", begun.elapsed());
    assert!(slowest < ROUND_TRIP_MAX, "others waited {slowest:?}");
}

const BODY_OCTETS: usize = 100_000;
const LARGE: &str = match std::str::from_utf8(&[b'x'; BODY_OCTETS]) {
    Ok(text) => text,
    Err(_) => panic!("it is text"),
};

#[test]
fn a_consumer_that_does_not_read_costs_little_and_slows_nobody() {
    let _alone = alone();
    let peer = Peer::start();
    let mut deaf = peer.client();
    let limit = table(&[("x-max-length-bytes", Value::I32(2_000_000))]);
    deaf.ask(declare_with("deaf", &limit), "declare-ok deaf 0 0");
    deaf.ask(consume_no_ack("deaf", "t"), "consume-ok t");
    let mut reader = peer.client();
    reader.ask(declare("heard"), "declare-ok heard 0 0");
    reader.ask(qos(10), "BasicQosOk");
    reader.ask(consume("heard", "t"), "consume-ok t");
    let mut publisher = peer.client();
    for queue in ["deaf", "heard"] {
        publisher.ask(bind(queue, "amq.fanout", ""), "QueueBindOk");
    }
    publisher.confirm_select();
    let before_octets = resident_octets();
    let mut most_octets = 0;
    let slowest = slowest_round_trip(&peer, || {
        for n in 1..=2000 {
            publisher.publish(message("amq.fanout", "", LARGE));
            assert_eq!(
                reader.expect(&format!("deliver t {n} amq.fanout/ 100000 octets")).body().len(),
                BODY_OCTETS
            );
            reader.send(ack(n));
            publisher.confirms(1);
            if peer.is_leveret() {
                most_octets = most_octets.max(peer.broker().memory_octets());
            }
        }
    });
    let grown_octets = resident_octets().saturating_sub(before_octets);
    println!(
        "200 MB passed a deaf consumer: {most_octets} octets of messages at most, {grown_octets} resident more, slowest round trip {slowest:?}"
    );
    if peer.is_leveret() {
        // What its queue may hold, what lies in its output, and chunks that are not yet full.
        assert!(most_octets < 20_000_000, "{most_octets} octets of messages");
        assert!(grown_octets < 60_000_000, "{grown_octets} octets resident");
        assert!(slowest < ROUND_TRIP_MAX, "others waited {slowest:?}");
    }
    // It hears all that is left once it reads again, in order.
    let mut last = 0;
    for said in deaf.drain() {
        let Method::BasicDeliver(deliver) = said.method() else { panic!("{said}") };
        assert_eq!(deliver.delivery_tag, last + 1);
        last += 1;
    }
    assert!(last >= 20, "{last} messages came");
    publisher.ask(get_no_ack("deaf"), "BasicGetEmpty");
}

/// Octets of memory that this process has, as far as the system tells.
fn resident_octets() -> u64 {
    const PAGE_OCTETS: u64 = 4096;
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("statm has the resident pages second") * PAGE_OCTETS
}
