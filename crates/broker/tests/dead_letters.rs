//! Dead letters that lead to more of them.

mod client;

use client::{Client, names};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Table, TableBuf, Value,
    method::{basic, exchange, queue},
    write_frame,
};

fn publish(exchange: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let publish = basic::Publish { exchange: exchange.into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets: 0, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    octets
}

fn declare(client: &mut Client, name: &str, arguments: Table<'_>) {
    client.call(1, queue::Declare { queue: name.into(), arguments, ..Default::default() });
    client.call(1, queue::Bind { queue: name.into(), exchange: "round".into(), ..Default::default() });
}

/// What a message of such queues leads to: deliveries to the consumer of a further queue, if there is
/// one, and the most octets that lay about at a time.
fn bury(queues: usize, is_counted: bool) -> (usize, u64) {
    let mut client = Client::opened();
    client
        .call(1, exchange::Declare { exchange: "round".into(), kind: "fanout".into(), ..Default::default() });
    let arguments = TableBuf::new()
        .with("x-dead-letter-exchange", Value::LongStr(b"round"))
        .with("x-max-length", Value::I32(0));
    for n in 0..queues {
        declare(&mut client, &format!("q{n}"), arguments.as_table());
    }
    if is_counted {
        declare(&mut client, "counted", Table::EMPTY);
        client.call(1, basic::Consume { queue: "counted".into(), no_ack: true, ..Default::default() });
    }
    let octets = publish("round");
    let (mut taken, mut most, mut delivered) = (0, 0, 0);
    loop {
        taken += client.connection.receive(&octets[taken..], Client::NOW);
        let more = client.connection.advance(Client::NOW);
        most = client.engine.memory_octets().max(most);
        let said = client.take_said();
        delivered += names(&said).iter().filter(|name| **name == "BasicDeliver").count();
        if !more && said.is_empty() && taken == octets.len() {
            return (delivered, most);
        }
    }
}

/// Queues that nothing fits into, each other's dead-letter exchange by way of a fanout: there is a
/// dead letter for each way through some of them.
#[test]
fn a_message_goes_all_ways_through_queues() {
    // The sum of 7!/k! for k from 0 to 7, the last one being the message itself.
    assert_eq!(bury(7, true).0, 13_700);
}

#[test]
fn those_that_go_all_ways_through_queues_do_not_wait_all_at_once() {
    // There are 40,320 ways through all eight, each of a kilobyte.
    let (_, most) = bury(8, false);
    assert!(most < 12 * 1024 * 1024, "{most} octets");
}
