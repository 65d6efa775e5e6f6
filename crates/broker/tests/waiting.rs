//! Delayed messages in simulated time: what waits costs its place and no work, and comes when it is
//! due, however many wait and however long.

mod client;

use client::{Client, Unheeded};
use leveret_broker::{Now, engine::House};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TableBuf, Value,
    method::{basic, exchange, queue},
    write_body_frames, write_frame,
};

const WEEK_MILLIS: u64 = 7 * 24 * 3600 * 1000;

/// A client with the delayed exchange `x`, which leads to `q`, and the housekeeper.
fn start() -> (Client, House) {
    let mut client = Client::opened();
    let house = House::new(&client.engine, Box::new(Unheeded));
    let arguments = TableBuf::new().with("x-delayed-type", Value::LongStr(b"fanout"));
    let declare = exchange::Declare {
        exchange: "x".into(),
        kind: "x-delayed-message".into(),
        arguments: arguments.as_table(),
        ..Default::default()
    };
    client.call(1, declare);
    client.call(1, queue::Bind { queue: "q".into(), exchange: "x".into(), ..Default::default() });
    (client, house)
}

fn publish(client: &mut Client, delay_millis: u64) {
    let headers = TableBuf::new().with("x-delay", Value::I64(i64::try_from(delay_millis).unwrap()));
    let mut property_octets = Vec::new();
    Properties { headers: Some(headers.as_table()), ..Properties::default() }.encode(&mut property_octets);
    let mut octets = Vec::new();
    let publish = basic::Publish { exchange: "x".into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header =
        ContentHeader { class_id: basic::CLASS_ID, body_octets: 1, property_octets: &property_octets };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    write_body_frames(1, b"m", client::FRAME_OCTETS_MAX, &mut octets);
    client.send(&octets);
}

/// The housekeeper's turns until there is rest; how many it took.
fn advance(house: &mut House, monotonic_millis: u64) -> usize {
    let now = Now { monotonic_millis, wall_millis: monotonic_millis };
    let mut turns = 1;
    while house.advance(now) {
        turns += 1;
    }
    turns
}

/// How many messages are in the queue.
fn ready(client: &mut Client) -> u32 {
    let said = client.call(1, queue::Declare { queue: "q".into(), passive: true, ..Default::default() });
    let (frame, _) = leveret_wire::decode_frame(&said, client::FRAME_OCTETS_MAX).unwrap().unwrap();
    match Method::decode(frame.payload).unwrap() {
        Method::QueueDeclareOk(ok) => ok.message_count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hundred_thousand_waiting_messages_are_no_work_until_they_are_due() {
    const COUNT: u64 = 100_000;
    let (mut client, mut house) = start();
    for n in 0..COUNT {
        // From an hour to six weeks.
        publish(&mut client, 3_600_000 + (n * 7919) % (6 * WEEK_MILLIS));
    }
    let first = Client::NOW.monotonic_millis + 3_600_000;
    assert_eq!(house.next_deadline_millis(), Some(first), "nobody is woken before");
    assert_eq!(advance(&mut house, first - 1), 1);
    assert_eq!(ready(&mut client), 0);
    advance(&mut house, first);
    assert_eq!(ready(&mut client), 1);
    advance(&mut house, WEEK_MILLIS);
    let half_way = u64::from(ready(&mut client));
    assert!((1..COUNT).contains(&half_way), "{half_way}");
    assert!(house.next_deadline_millis().is_some_and(|next| next > WEEK_MILLIS));
    advance(&mut house, 7 * WEEK_MILLIS);
    assert_eq!(u64::from(ready(&mut client)), COUNT);
    assert_eq!(house.next_deadline_millis(), None);
    client.call(1, queue::Purge { queue: "q".into(), ..Default::default() });
    assert_eq!(client.engine.memory_octets(), 0);
}

#[test]
fn a_waiting_message_does_not_hold_the_octets_of_others() {
    let (mut client, mut house) = start();
    publish(&mut client, WEEK_MILLIS);
    let one = client.engine.memory_octets();
    for _ in 0..10_000 {
        publish(&mut client, 1000);
    }
    advance(&mut house, 2000);
    assert_eq!(ready(&mut client), 10_000);
    client.call(1, queue::Purge { queue: "q".into(), ..Default::default() });
    let left = client.engine.memory_octets();
    assert!(left < one + 10 * 1024, "{left} octets for what cost {one} before");
}
