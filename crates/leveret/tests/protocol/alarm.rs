//! The memory alarm: publishers wait, consumers go on.

use std::net::Shutdown;

use leveret_wire::method::connection;

use crate::support::{
    Client, Login, Peer, Said, ack_through, consume, consume_no_ack, declare, exclusive, message, passive,
    purge,
};

const WATERMARK_OCTETS: u64 = 1_000_000;
const WHY: &str = "it takes a broker with a small watermark";

fn small() -> Option<Peer> {
    Peer::leveret(WHY, |builder| builder.memory_watermark_octets(WATERMARK_OCTETS))
}

/// A client that has published to `q` until it was told to wait.
fn blocked(peer: &Peer) -> (Client, usize) {
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let published = publish_until_blocked(&mut client, "q");
    (client, published)
}

fn publish_until_blocked(client: &mut Client, queue: &str) -> usize {
    client.confirm_select();
    for published in 1..100 {
        client.publish(message("", queue, &"x".repeat(100_000)));
        match client.next().to_string() {
            said if said == "ConnectionBlocked low on memory" => return published,
            said => assert_eq!(said, format!("ack {published}")),
        }
    }
    panic!("the alarm is raised")
}

#[test]
fn publishers_wait_and_are_told() {
    let Some(peer) = small() else { return };
    let (mut publisher, published) = blocked(&peer);
    assert!(peer.broker().memory_octets() > WATERMARK_OCTETS);
    assert!((10..13).contains(&published), "{published} messages of 100,000 octets");
    // Nothing of theirs is read any more, until it clears.
    publisher.send(passive("q"));
    publisher.publish(message("", "q", "late"));
    let mut consumer = peer.client();
    consumer.ask(consume_no_ack("q", "t"), "consume-ok t");
    for n in 1..=published {
        consumer.expect(&format!("deliver t {n} /q 100000 octets"));
    }
    // The confirm of the last one came before it was told to wait, or behind.
    let mut said: Vec<_> = (0..3).map(|_| publisher.next().to_string()).collect();
    if said[0] == format!("ack {published}") {
        said.remove(0);
        said.push(publisher.next().to_string());
    }
    assert_eq!(said, ["ConnectionUnblocked", "declare-ok q 0 1", &format!("ack {}", published + 1)]);
    consumer.expect(&format!("deliver t {} /q late", published + 1));
}

#[test]
fn those_who_do_not_publish_are_not_held_up() {
    let Some(peer) = small() else { return };
    let (mut publisher, published) = blocked(&peer);
    let mut other = peer.client();
    other.ask(exclusive("own"), "declare-ok own 0 0");
    other.ask(passive("q"), &format!("declare-ok q {published} 0"));
    other.expect_silence();
    other.close();
    let mut other = peer.client();
    other.ask(purge("q"), &format!("purge-ok {published}"));
    loop {
        match publisher.next().to_string() {
            said if said == "ConnectionUnblocked" => break,
            said => assert_eq!(said, format!("ack {published}")),
        }
    }
    publisher.send_on(0, connection::Close::default());
    publisher.expect("ConnectionCloseOk");
}

#[test]
fn a_publisher_that_does_not_understand_it_waits_all_the_same() {
    let Some(peer) = small() else { return };
    let (_publisher, published) = blocked(&peer);
    let mut mute = peer.client_with(&Login { capabilities: &[], ..Login::default() });
    mute.publish(message("", "q", "held up"));
    mute.send(passive("q"));
    let mut consumer = peer.client();
    consumer.ask(consume("q", "t"), "consume-ok t");
    for n in 1..=published + 1 {
        consumer.next();
        if n == published {
            // All but one message are settled, so that it clears.
            consumer.send(ack_through(n as u64));
        }
    }
    let said = mute.next().to_string();
    assert!(said.starts_with("declare-ok q "), "no word of waiting, and then the answer: {said}");
}

#[test]
fn what_a_waiting_publisher_sent_before_it_closed_its_side_is_taken() {
    let Some(peer) = small() else { return };
    let (mut publisher, published) = blocked(&peer);
    publisher.publish(message("", "q", "the last word"));
    publisher.stream().shutdown(Shutdown::Write).unwrap();
    // Until it is seen that nobody reads from that side, which is looked at every second.
    loop {
        match publisher.next_or_heartbeat() {
            Said::Heartbeat => break,
            said => assert_eq!(said.to_string(), format!("ack {published}")),
        }
    }
    let mut consumer = peer.client();
    consumer.ask(consume_no_ack("q", "t"), "consume-ok t");
    for n in 1..=published {
        consumer.expect(&format!("deliver t {n} /q 100000 octets"));
    }
    consumer.expect(&format!("deliver t {} /q the last word", published + 1));
}

#[test]
fn it_clears_when_a_waiting_publisher_goes_with_its_queue() {
    goes_with_its_queue(&Login { heartbeat_seconds: 1, ..Login::default() });
}

#[test]
fn it_clears_when_a_waiting_publisher_goes_that_sends_no_signs_of_life() {
    goes_with_its_queue(&Login { heartbeat_seconds: 0, ..Login::default() });
}

fn goes_with_its_queue(login: &Login<'_>) {
    let Some(peer) = small() else { return };
    let mut publisher = peer.client_with(login);
    publisher.ask(exclusive("mine"), "declare-ok mine 0 0");
    publish_until_blocked(&mut publisher, "mine");
    // It is not read any more, so the end of the stream behind it does not show itself in a read.
    publisher.publish(message("", "mine", "unread"));
    publisher.vanish();
    // Its end is seen when nothing can be written any more.
    let mut other = peer.client();
    other.ask(declare("q"), "declare-ok q 0 0");
    other.confirm_select();
    other.publish(message("", "q", "through"));
    other.expect_unordered(&["ConnectionBlocked low on memory", "ConnectionUnblocked", "ack 1"]);
    assert!(peer.broker().memory_octets() < WATERMARK_OCTETS);
}
