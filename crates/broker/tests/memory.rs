//! The memory alarm counts all that is held on a peer's behalf, and always comes to its end.

mod client;

use client::{Client, FRAME_OCTETS_MAX};
use leveret_broker::{Now, engine::Config};
use leveret_wire::{
    ContentHeader, FrameKind, Method, decode_frame,
    method::{basic, connection, queue, tx},
    write_body_frames, write_frame,
};

const KIB: usize = 1024;

fn config(watermark_octets: usize) -> Config {
    Config { memory_watermark_octets: watermark_octets as u64, ..Config::default() }
}

/// A publish to `q` that announces `body_octets` and brings `body`.
fn publish(body_octets: usize, body: &[u8]) -> Vec<u8> {
    publish_to("q", body_octets, body)
}

fn publish_to(queue: &str, body_octets: usize, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let publish = basic::Publish { routing_key: queue.into(), ..Default::default() };
    Method::from(publish).write_frame(1, &mut octets);
    let header = ContentHeader {
        class_id: basic::CLASS_ID,
        body_octets: body_octets as u64,
        property_octets: &[0, 0],
    };
    write_frame(FrameKind::Header, 1, &mut octets, |out| header.encode(out));
    write_body_frames(1, body, FRAME_OCTETS_MAX, &mut octets);
    octets
}

fn body(octets: usize) -> Vec<u8> {
    let mut frames = Vec::new();
    write_body_frames(1, &vec![b'b'; octets], FRAME_OCTETS_MAX, &mut frames);
    frames
}

/// The reply code of the `connection.close` that was said, if one was.
fn close_code(said: &[u8]) -> Option<u16> {
    let mut rest = said;
    while let Some((frame, octets)) = decode_frame(rest, FRAME_OCTETS_MAX).unwrap() {
        if let Ok(Method::ConnectionClose(close)) = Method::decode(frame.payload) {
            return Some(close.reply_code);
        }
        rest = &rest[octets..];
    }
    None
}

/// The reason of the `connection.blocked` that was said, if one was.
fn blocked_for(said: &[u8]) -> Option<String> {
    let mut rest = said;
    while let Some((frame, octets)) = decode_frame(rest, FRAME_OCTETS_MAX).unwrap() {
        if let Ok(Method::ConnectionBlocked(blocked)) = Method::decode(frame.payload) {
            return Some(blocked.reason.to_str().unwrap().to_owned());
        }
        rest = &rest[octets..];
    }
    None
}

#[test]
fn who_is_blocked_is_told_of_all_that_is_short() {
    for (disk, octets, reason) in [
        (false, 4 * KIB, None),
        (false, 6 * KIB, Some("low on memory")),
        (true, 4 * KIB, Some("low on disk")),
        (true, 6 * KIB, Some("low on disk & memory")),
    ] {
        let mut client = Client::told_of_alarms(config(5 * KIB));
        client.call(1, queue::Declare { queue: "q".into(), ..Default::default() });
        // What raises the alarm is told to whoever publishes then.
        client.send(&publish(octets, &vec![b'b'; octets]));
        client.engine.set_disk_alarm(disk);
        let said = client.send(&publish(1, b"b"));
        assert_eq!(blocked_for(&said).as_deref(), reason, "disk {disk}, {octets} octets");
    }
}

#[test]
fn messages_under_way_do_not_wait_for_one_another() {
    let [mut one, mut other, mut third] = Client::several(config(1000 * KIB));
    for client in [&mut one, &mut other, &mut third] {
        assert_eq!(close_code(&client.send(&publish(300 * KIB, &vec![b'b'; 200 * KIB]))), None);
    }
    // What comes now brings them above the watermark, and no consumer could bring them below it.
    let said = third.send(&body(90 * KIB));
    assert_eq!(close_code(&said), Some(506), "it holds up all others");
    assert!(!one.engine.is_alarmed(), "{} octets", one.engine.memory_octets());
    for client in [&mut one, &mut other] {
        assert_eq!(close_code(&client.send(&body(100 * KIB))), None);
    }
    let declared = one.call(1, queue::Declare { queue: "q".into(), passive: true, ..Default::default() });
    let (frame, _) = decode_frame(&declared, FRAME_OCTETS_MAX).unwrap().unwrap();
    let Method::QueueDeclareOk(declared) = Method::decode(frame.payload).unwrap() else { panic!() };
    assert_eq!(declared.message_count, 2);
}

#[test]
fn what_only_an_unread_output_holds_is_counted() {
    let [mut publisher, mut consumer] = Client::several(config(256 * KIB));
    let consume = basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() };
    consumer.call(1, consume);
    publisher.send(&publish(300 * KIB, &vec![b'b'; 300 * KIB]));
    consumer.connection.advance(Client::NOW);
    assert!(consumer.connection.output().len() > 300 * KIB);
    assert!(consumer.engine.memory_octets() > 300 * KIB as u64, "{}", consumer.engine.memory_octets());
    assert!(consumer.engine.is_alarmed());
    consumer.take_said();
    assert_eq!(consumer.engine.memory_octets(), 0);
    assert!(!consumer.engine.is_alarmed(), "nobody else would say that it is over");
}

#[test]
fn what_is_copied_out_ends_the_alarm_though_the_peer_does_not_read() {
    let [mut publisher, mut consumer] = Client::several(config(6 * KIB));
    let consume = basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() };
    consumer.call(1, consume);
    raise_alarm(&mut publisher);
    consumer.connection.advance(Client::NOW);
    assert_eq!(consumer.engine.memory_octets(), 0);
    assert!(!consumer.engine.is_alarmed(), "nobody else would say that it is over");
}

#[test]
fn a_chunk_that_is_rewritten_while_an_output_holds_it_is_counted_twice() {
    let [mut publisher, mut consumer] = Client::several(config(55 * KIB));
    publisher.call(1, queue::Declare { queue: "kept".into(), ..Default::default() });
    let consume = basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() };
    consumer.call(1, consume);
    let message = |queue| publish_to(queue, 5 * KIB, &[b'b'; 5 * KIB]);
    publisher.send(&[[message("kept"), message("kept")].concat(), message("q").repeat(8)].concat());
    assert!(!publisher.engine.is_alarmed());
    consumer.connection.advance(Client::NOW);
    assert!(publisher.engine.memory_octets() > 55 * KIB as u64);
    assert!(publisher.engine.is_alarmed());
    consumer.take_said();
    assert!(!publisher.engine.is_alarmed());
}

#[test]
fn what_an_output_held_is_given_back_when_its_peer_goes() {
    let [mut publisher, mut consumer] = Client::several(config(256 * KIB));
    let consume = basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() };
    consumer.call(1, consume);
    publisher.send(&publish(300 * KIB, &vec![b'b'; 300 * KIB]));
    consumer.connection.advance(Client::NOW);
    consumer.connection.disconnect(Client::NOW);
    assert_eq!(publisher.engine.memory_octets(), 0);
    assert!(!publisher.engine.is_alarmed());
}

#[test]
fn a_connection_that_is_closed_for_memory_says_why() {
    let [mut one, mut other] = Client::several(config(1024 * KIB));
    one.send(&publish(900 * KIB, &vec![b'b'; 500 * KIB]));
    let said = other.send(&publish(900 * KIB, &vec![b'b'; 600 * KIB]));
    let close = decode_frame(&said, FRAME_OCTETS_MAX).unwrap().expect("something was said").0;
    let Method::ConnectionClose(connection::Close { reply_text, .. }) =
        Method::decode(close.payload).unwrap()
    else {
        panic!("it said {said:?}")
    };
    assert!(reply_text.to_string().starts_with("RESOURCE_ERROR - "), "{reply_text}");
}

fn raise_alarm(publisher: &mut Client) {
    while !publisher.engine.is_alarmed() {
        publisher.connection.receive(&publish(KIB, &[b'b'; KIB]), Client::NOW);
    }
}

#[test]
fn one_that_holds_too_much_is_closed_though_it_says_nothing_more() {
    let config = Config { message_octets_max: KIB as u64, ..config(10 * KIB) };
    let [mut publisher, mut holder] = Client::several(config);
    holder.call(1, tx::Select {});
    holder.send(&[publish(KIB, &[b'b'; KIB]), publish(KIB, &[b'b'; KIB])].concat());
    raise_alarm(&mut publisher);
    while holder.connection.advance(Client::NOW) {}
    assert_eq!(close_code(&holder.take_said()), Some(506));
}

/// Whether a client that began a message at 1 ms and said nothing since is gone by then.
fn is_gone_at(millis: u64) -> bool {
    let at = |monotonic_millis| Now { monotonic_millis, ..Client::NOW };
    let [mut publisher] = Client::several(config(10 * KIB));
    let mut silent = publisher.beside(1);
    silent.send(&publish(500, &[b'b'; 100]));
    for millis in [501, 1_001, 1_501] {
        silent.connection.advance(at(millis));
        silent.take_said();
    }
    raise_alarm(&mut publisher);
    silent.connection.advance(at(millis));
    silent.connection.is_disconnected()
}

#[test]
fn one_that_fell_silent_in_a_message_goes_though_memory_is_short() {
    assert!(!is_gone_at(2_000), "it has two intervals");
    assert!(is_gone_at(2_001));
}
