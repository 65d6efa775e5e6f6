//! Signs of life, both ways.

use std::{
    thread,
    time::{Duration, Instant},
};

use leveret_wire::{FrameKind, method::channel};

use crate::support::{Client, Login, Peer, declare, exclusive, get, message, passive};

fn with_heartbeat(heartbeat_seconds: u16) -> Login<'static> {
    Login { heartbeat_seconds, ..Login::default() }
}

fn beat(client: &mut Client) {
    client.send_frame(FrameKind::Heartbeat, 0, b"");
}

/// Waits for that many heartbeats and answers each.
fn take_heartbeats(client: &mut Client, count: usize) -> Duration {
    let begun = Instant::now();
    for _ in 0..count {
        assert_eq!(client.next_or_heartbeat().to_string(), "heartbeat");
        beat(client);
    }
    begun.elapsed()
}

#[test]
fn the_server_beats_at_half_the_interval() {
    let peer = Peer::start();
    let mut client = peer.client_with(&with_heartbeat(1));
    let taken = take_heartbeats(&mut client, 6);
    assert!((Duration::from_millis(2200)..Duration::from_secs(6)).contains(&taken), "six took {taken:?}");
    client.ask(declare("q"), "declare-ok q 0 0");
}

#[test]
fn a_silent_client_is_dropped_with_its_exclusive_queues() {
    let peer = Peer::start();
    // Heartbeats are off for this one, whatever the broker offered.
    let mut watcher = peer.client_with(&with_heartbeat(0));
    watcher.ask(declare("q"), "declare-ok q 0 0");
    watcher.put(message("", "q", "held"));
    let mut silent = peer.client_with(&with_heartbeat(1));
    silent.ask(exclusive("mine"), "declare-ok mine 0 0");
    silent.ask(get("q"), "get-ok 1 /q held left 0");
    let begun = Instant::now();
    let last = loop {
        match silent.next_or_heartbeat().to_string() {
            beat if beat == "heartbeat" => {}
            other => break other,
        }
    };
    let silence = begun.elapsed();
    assert_eq!(last, "dropped", "without a word");
    assert!((Duration::from_millis(1900)..Duration::from_millis(4500)).contains(&silence), "{silence:?}");
    // What it had is given back by the time the socket closes, or soon after.
    let gone = "channel 404 (50/10) NOT_FOUND - no queue 'mine' in vhost '/'";
    loop {
        watcher.send(passive("mine"));
        let said = watcher.next_or_heartbeat().to_string();
        watcher.reopen();
        if said == gone {
            break;
        }
        assert!(said.starts_with("channel 405"), "{said}");
    }
    watcher.ask(get("q"), "get-ok 1 /q held left 0 redelivered");
}

#[test]
fn any_octets_are_a_sign_of_life() {
    let peer = Peer::start();
    let check = |octets: &[u8]| {
        let mut client = peer.client_with(&with_heartbeat(1));
        // One octet of a frame at each beat of the server's, for longer than silence may last.
        for octet in octets {
            assert_eq!(client.next_or_heartbeat().to_string(), "heartbeat");
            client.send_octets(&[*octet]);
        }
        client.ask(channel::Flow { active: true }, "ChannelFlowOk true");
    };
    let beat = [8, 0, 0, 0, 0, 0, 0, 0xce];
    check(&beat);
}

#[test]
fn other_frames_of_the_server_stand_for_heartbeats() {
    let peer = Peer::start();
    let mut busy = peer.client_with(&with_heartbeat(1));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        busy.ask(channel::Flow { active: true }, "ChannelFlowOk true");
        thread::sleep(Duration::from_millis(20));
    }
    // It is not asserted that none came: RabbitMQ looks at its clock, not at each frame.
    take_heartbeats(&mut busy, 2);
}
