//! Methods that stand alone: new secrets, tickets of old, flow, and closing.

use std::time::{Duration, Instant};

use leveret_wire::{
    Method,
    method::{LongStr, access, channel, connection},
};

use crate::support::{Login, Peer, declare, message, passive};

#[test]
fn a_new_secret_is_taken() {
    let peer = Peer::start();
    let mut client = peer.client();
    let update = connection::UpdateSecret { new_secret: LongStr(b"guest"), reason: "it was time".into() };
    client.ask_on(0, update, "ConnectionUpdateSecretOk");
    client.ask(declare("q"), "declare-ok q 0 0");
}

#[test]
fn a_ticket_is_number_one() {
    let peer = Peer::start();
    let mut client = peer.client();
    let request = access::Request { realm: "/data".into(), active: true, ..access::Request::default() };
    client.ask(request, "AccessRequestOk 1");
}

#[test]
fn flow_is_on_and_stays_on() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(channel::Flow { active: true }, "ChannelFlowOk true");
    client.send(channel::Flow { active: false });
    client.expect_connection_close("540 (20/20) NOT_IMPLEMENTED - active=false");
}

#[test]
fn open_ok_of_a_channel_has_an_empty_long_string() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.send_on(2, channel::Open::default());
    let said = client.next();
    let mut payload = Vec::new();
    Method::from(channel::OpenOk::default()).encode(&mut payload);
    assert_eq!(payload, [0, 20, 0, 11, 0, 0, 0, 0]);
    assert_eq!(said.payload(), payload);
}

#[test]
fn a_channel_is_closed_and_opened_again() {
    let peer = Peer::start();
    let mut client = peer.client();
    for _ in 0..100 {
        let close =
            channel::Close { reply_code: 200, reply_text: "done".into(), ..channel::Close::default() };
        client.ask(close, "ChannelCloseOk");
        client.open(1);
    }
    if !peer.is_leveret() {
        // RabbitMQ forgets a channel a little after it said close-ok.
        return;
    }
    // In one go, without waiting.
    client.send(channel::Close::default());
    client.send(channel::Open::default());
    client.send(declare("q"));
    client.expect_all(&["ChannelCloseOk", "ChannelOpenOk", "declare-ok q 0 0"]);
}

#[test]
fn what_was_published_before_a_close_is_taken() {
    let peer = Peer::start();
    let mut watcher = peer.client();
    watcher.ask(declare("q"), "declare-ok q 0 0");
    let mut client = peer.client();
    client.publish_all((0..1000).map(|_| message("", "q", "m")));
    client.ask(channel::Close::default(), "ChannelCloseOk");
    watcher.ask(passive("q"), "declare-ok q 1000 0");
    let mut client = peer.client();
    client.publish_all((0..1000).map(|_| message("", "q", "m")));
    client.close();
    // RabbitMQ's queues may be busy with them a little longer.
    let mut count = 1000;
    while count < 2000 {
        watcher.send(passive("q"));
        let said = watcher.next();
        let Method::QueueDeclareOk(ok) = said.method() else { panic!("{said}") };
        assert!(ok.message_count == 2000 || (!peer.is_leveret() && ok.message_count >= count), "{said}");
        count = ok.message_count;
    }
}

#[test]
fn after_close_ok_the_socket_is_the_clients_to_close() {
    let why = "RabbitMQ waits for longer";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client_with(&Login::default());
    client.ask_on(
        0,
        connection::Close { reply_code: 200, ..connection::Close::default() },
        "ConnectionCloseOk",
    );
    let answered = Instant::now();
    client.expect("dropped");
    assert!(answered.elapsed() >= Duration::from_secs(2), "{:?}", answered.elapsed());
}

#[test]
fn a_close_that_the_client_never_confirms_is_not_waited_for_long() {
    let why = "RabbitMQ waits for thirty seconds";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client();
    client.send_on(9, channel::Close::default());
    client.expect("connection 504 (20/40) CHANNEL_ERROR - expected 'channel.open'");
    client.send(declare("ignored"));
    client.expect("dropped");
    let mut watcher = peer.client();
    watcher.refused(passive("ignored"), "404 (50/10) NOT_FOUND - no queue 'ignored' in vhost '/'");
}
