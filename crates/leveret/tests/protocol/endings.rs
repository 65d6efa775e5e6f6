//! How connections end whose peers do not do their part.

use std::{
    thread,
    time::{Duration, Instant},
};

use futures_lite::future::block_on;
use leveret_wire::{Method, method::connection};

use crate::support::{Client, Peer, consume_no_ack, declare, encode, message};

const TOLD: &str = "320 (0/0) CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
const BODY_OCTETS: usize = 100_000;

/// A consumer with more in front of it than the sockets hold, and who published that.
fn unread(peer: &Peer) -> (Client, Client) {
    let mut consumer = peer.client();
    consumer.ask(declare("q"), "declare-ok q 0 0");
    consumer.ask(consume_no_ack("q", "t"), "consume-ok t");
    let mut publisher = peer.client();
    publisher.confirm_select();
    let body = "x".repeat(BODY_OCTETS);
    publisher.publish_all((0..200).map(|_| message("", "q", &body)));
    publisher.confirms(200);
    (consumer, publisher)
}

#[test]
fn a_peer_that_does_not_read_is_told_of_the_shutdown_once_it_does() {
    let Some(peer) = Peer::leveret("it takes a broker that can be shut down", |builder| builder) else {
        return;
    };
    let (mut consumer, mut publisher) = unread(&peer);
    let broker = peer.into_broker();
    let stopped = thread::spawn(|| block_on(broker.shutdown()));
    let mut deliveries = 0;
    let last = loop {
        match consumer.next().to_string() {
            said if said.starts_with("deliver t ") => deliveries += 1,
            said => break said,
        }
    };
    assert_eq!(last, format!("connection {TOLD}"));
    assert!((1..200).contains(&deliveries), "it ends between two of them: {deliveries}");
    consumer.send_on(0, connection::CloseOk {});
    consumer.expect("dropped");
    publisher.expect_connection_close(TOLD);
    stopped.join().expect("the broker stops");
}

#[test]
fn a_peer_that_never_reads_does_not_keep_the_broker_up() {
    let Some(peer) = Peer::leveret("it takes a broker that can be shut down", |builder| builder) else {
        return;
    };
    let (_consumer, _publisher) = unread(&peer);
    let begun = Instant::now();
    block_on(peer.into_broker().shutdown());
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn what_comes_behind_the_end_of_a_connection_changes_nothing() {
    let why = "RabbitMQ may answer such octets with an error all the same";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client();
    let mut octets = Vec::new();
    Method::from(connection::Close::default()).write_frame(0, &mut octets);
    octets.extend_from_slice(b"AMQP\0\0\x09\x01 and more \xff\xce");
    client.send_octets(&octets);
    client.expect("ConnectionCloseOk");
    client.expect("dropped");
}

#[test]
fn a_peer_that_still_sends_hears_that_the_connection_is_closed() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut late = Vec::new();
    Method::from(connection::Close::default()).write_frame(0, &mut late);
    for _ in 0..20_000 {
        encode(&message("", "nowhere", "too late"), 131_072, &mut late);
    }
    client.try_send_octets(&late);
    client.expect("ConnectionCloseOk");
}
