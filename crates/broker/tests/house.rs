//! What the housekeeper waits for.

mod client;

use client::{Client, Unheeded};
use leveret_broker::{Now, engine::House};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TableBuf, Value,
    method::{basic, queue},
    write_frame,
};

/// Publishes to `q` a message that lives so long.
fn publish(client: &mut Client, life_millis: u64) {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: "q".into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let mut properties = Vec::new();
    let life = life_millis.to_string();
    Properties { expiration: Some((&*life).into()), ..Properties::default() }.encode(&mut properties);
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets: 0, property_octets: &properties };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    client.send(&octets);
}

#[test]
fn a_queue_that_is_deleted_is_waited_for_no_more() {
    let mut client = Client::opened();
    let house = House::new(&client.engine, Box::new(Unheeded));
    let arguments = TableBuf::new().with("x-expires", Value::I64(100_000));
    let arguments = arguments.as_table();
    client.call(1, queue::Declare { queue: "x".into(), arguments, ..Default::default() });
    assert_eq!(house.next_deadline_millis(), Some(Client::NOW.monotonic_millis + 100_000));
    client.call(1, queue::Delete { queue: "x".into(), ..Default::default() });
    assert_eq!(house.next_deadline_millis(), None);
}

#[test]
fn a_queue_is_waited_for_once() {
    let mut client = Client::opened();
    let mut house = House::new(&client.engine, Box::new(Unheeded));
    for life_millis in (1_000..2_000).rev() {
        publish(&mut client, life_millis);
        client.call(1, basic::Get { queue: "q".into(), no_ack: true, ..Default::default() });
    }
    let mut now = Client::NOW;
    let mut looks = 0;
    while let Some(at) = house.next_deadline_millis() {
        now.monotonic_millis = at;
        house.advance(now);
        looks += 1;
    }
    assert_eq!(looks, 1);
}

#[test]
fn an_exclusive_queue_that_nobody_used_leaves_its_owner_too() {
    let mut client = Client::opened();
    let mut house = House::new(&client.engine, Box::new(Unheeded));
    let arguments = TableBuf::new().with("x-expires", Value::I64(10));
    for name in ["x", "y"] {
        let arguments = if name == "x" { arguments.as_table() } else { leveret_wire::Table::EMPTY };
        client
            .call(1, queue::Declare { queue: name.into(), exclusive: true, arguments, ..Default::default() });
    }
    assert!(format!("{:?}", client.connection).contains("exclusive_queues: 2"));
    let later = Now { monotonic_millis: Client::NOW.monotonic_millis + 10, ..Client::NOW };
    while house.advance(later) {}
    assert_eq!(client.engine.queue_count(), 2);
    client.connection.advance(later);
    assert!(format!("{:?}", client.connection).contains("exclusive_queues: 1"));
}
