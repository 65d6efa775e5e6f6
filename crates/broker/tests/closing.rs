//! Channels and connections that close while there is much to take down.

mod client;

use client::{Client, names};
use leveret_wire::{
    ContentHeader, FrameKind, Method,
    method::{basic, channel, connection, queue},
    write_frame,
};

/// More consumers than are taken down in one turn.
const CONSUMERS: usize = 1_000;
/// More queues than a message is put into in one turn.
const QUEUES: usize = 2_000;

#[test]
fn nothing_is_said_after_the_connection_is_closed() {
    let mut client = Client::opened();
    let mut frames = Vec::new();
    for number in 0..CONSUMERS {
        let (queue, tag) = ("q".into(), number.to_string());
        let consume =
            basic::Consume { queue, consumer_tag: (&*tag).into(), nowait: true, ..Default::default() };
        Method::from(consume).write_frame(1, &mut frames);
    }
    assert!(client.send(&frames).is_empty());
    let mut frames = Vec::new();
    Method::from(channel::Close::default()).write_frame(1, &mut frames);
    client.connection.receive(&frames, Client::NOW);
    client.engine.stop();
    while client.connection.advance(Client::NOW) {}
    assert_eq!(names(&client.take_said()), ["ConnectionClose"]);
}

/// The broker stops while what came before a refused command is still put into its queues.
#[test]
fn what_is_not_refused_yet_does_not_end_a_connection_that_is_told_to_close() {
    let mut client = Client::opened();
    let mut frames = Vec::new();
    for number in 0..QUEUES {
        let name = format!("q{number}");
        let (queue, exchange) = (&*name, "amq.fanout");
        Method::from(queue::Declare { queue: queue.into(), nowait: true, ..Default::default() })
            .write_frame(1, &mut frames);
        let bind = queue::Bind {
            queue: queue.into(),
            exchange: exchange.into(),
            nowait: true,
            ..Default::default()
        };
        Method::from(bind).write_frame(1, &mut frames);
    }
    assert!(client.send(&frames).is_empty());
    let mut frames = Vec::new();
    publish("amq.fanout", &mut frames);
    publish("nothing", &mut frames);
    client.connection.receive(&frames, Client::NOW);
    assert!(client.take_said().is_empty());
    client.engine.stop();
    while client.connection.advance(Client::NOW) {}
    assert_eq!(names(&client.take_said()), ["ConnectionClose"]);
    assert!(!client.connection.is_finished(), "the client may still confirm it");
    client.call(0, connection::CloseOk::default());
    assert!(client.connection.is_finished());
}

/// An empty message.
fn publish(exchange: &str, frames: &mut Vec<u8>) {
    Method::from(basic::Publish { exchange: exchange.into(), ..Default::default() }).write_frame(1, frames);
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets: 0, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, frames, |out| header.encode(out));
}
