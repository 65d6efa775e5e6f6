//! Channels and connections that close while there is much to take down.

mod client;

use client::{Client, names};
use leveret_wire::{
    Method,
    method::{basic, channel},
};

/// More consumers than are taken down in one turn.
const CONSUMERS: usize = 1_000;

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
