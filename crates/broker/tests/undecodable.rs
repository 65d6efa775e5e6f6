//! What a peer is told whose octets cannot be decoded, compared with what RabbitMQ 3.10.8 says.

mod client;

use client::{Client, FRAME_OCTETS_MAX};
use leveret_wire::method::{basic, connection, queue};
use leveret_wire::{
    ContentHeader, FrameKind, Method, ProtocolHeader, ShortStr, decode_frame, write_body_frames, write_frame,
};

/// Sends the octets on a connection with channel 1 open, and compares the connection.close with
/// the reply text and the ids of the method at fault.
#[track_caller]
fn check(octets: &[u8], reply_text: &str, ids: (u16, u16)) {
    let said = Client::opened().send(octets);
    let (frame, _) = decode_frame(&said, u32::MAX).unwrap().expect("something was said");
    let Ok(Method::ConnectionClose(close)) = Method::decode(frame.payload) else {
        panic!("no close: {:?}", Method::decode(frame.payload));
    };
    assert_eq!(close.reply_text.to_str(), Some(reply_text));
    assert_eq!((close.class_id, close.method_id), ids);
}

fn frame(kind: FrameKind, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(kind, channel, &mut out, |out| out.extend_from_slice(payload));
    out
}

fn method<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut out = Vec::new();
    method.into().write_frame(channel, &mut out);
    out
}

#[test]
fn frames_of_no_known_type_are_quoted() {
    check(
        b"\x09\0\0\0\0\0\x03abc\xce",
        "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame",
        (0, 0),
    );
    check(b"\x09\0\0\0\0\0\0\xce", "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame", (0, 0));
    let long = [&b"\x09\0\0\0\0\0\x28"[..], &[b'a'; 40], b"\xce"].concat();
    let quoted = "FRAME_ERROR - type 9, first 16 octets = <<\"aaaaaaaaaaaaaaaa\">>: unknown_frame";
    check(&long, quoted, (0, 0));
}

#[test]
fn frames_with_a_wrong_envelope_are_quoted() {
    let text = "FRAME_ERROR - type 9, all octets = <<\"abc\">>: {invalid_frame_end_marker,0}";
    check(b"\x09\0\0\0\0\0\x03abc\0", text, (0, 0));
    let text = "FRAME_ERROR - type 9, all octets = <<>>: {frame_too_large,200000,131064}";
    check(&[9, 0, 0, 0, 3, 0x0d, 0x40], text, (0, 0));
}

#[test]
fn frames_too_short_for_their_kind_are_unknown() {
    let text = "FRAME_ERROR - type 1, all octets = <<0,20,0>>: unknown_frame";
    check(&frame(FrameKind::Method, 1, &[0, 20, 0]), text, (0, 0));
    let text = "FRAME_ERROR - type 8, all octets = <<\"abc\">>: unknown_frame";
    check(&frame(FrameKind::Heartbeat, 0, b"abc"), text, (0, 0));
    let publish = method(1, basic::Publish { routing_key: "q".into(), ..Default::default() });
    let header = frame(FrameKind::Header, 1, &[0, 60, 0, 0]);
    let text = "FRAME_ERROR - type 2, all octets = <<0,60,0,0>>: unknown_frame";
    check(&[publish, header].concat(), text, (0, 0));
}

#[test]
fn a_content_header_with_a_weight_is_out_of_order() {
    let publish = method(1, basic::Publish { routing_key: "q".into(), ..Default::default() });
    let header = frame(FrameKind::Header, 1, &[0, 60, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    let text =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    check(&[publish, header].concat(), text, (60, 40));
}

#[test]
fn the_fields_of_an_undecodable_method_are_quoted() {
    let declare = [0, 50, 0, 10, 0, 0, 0, 4, 0, 0, 0, 0, 122, 122];
    let text = "FRAME_ERROR - cannot decode <<0,0,0,4,0,0,0,0,122,122>>";
    check(&frame(FrameKind::Method, 1, &declare), text, (50, 10));
    check(&frame(FrameKind::Method, 1, b"\0\x32\0\x0aab"), "FRAME_ERROR - cannot decode <<97,98>>", (50, 10));
}

#[test]
fn names_that_are_no_text_are_told() {
    let name = ShortStr::new(b"\xff").unwrap();
    let text = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    check(&method(1, queue::Declare { queue: name, ..Default::default() }), text, (0, 0));
    check(&method(0, connection::UpdateSecret { reason: name, ..Default::default() }), text, (10, 70));
}

#[test]
fn a_peer_with_another_protocol_gets_our_header_and_nothing_more() {
    for rest in [&b""[..], b"/ HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut client = Client::new();
        assert_eq!(client.send(&[&b"GET / HT"[..], rest].concat()), ProtocolHeader::SUPPORTED);
        assert!(client.connection.is_finished());
    }
}

#[test]
fn the_limit_of_a_message_holds_for_one_that_comes_in_one_piece() {
    let mut client = Client::with_message_octets_max(100);
    let publish = |octets: usize| {
        let mut out = method(1, basic::Publish { routing_key: "q".into(), ..Default::default() });
        let header = ContentHeader { class_id: 60, body_octets: octets as u64, property_octets: &[0, 0] };
        write_frame(FrameKind::Header, 1, &mut out, |out| header.encode(out));
        write_body_frames(1, &vec![b'b'; octets], FRAME_OCTETS_MAX, &mut out);
        out
    };
    assert!(client.send(&publish(100)).is_empty());
    let said = client.send(&publish(101));
    let (frame, _) = decode_frame(&said, u32::MAX).unwrap().expect("something was said");
    let Ok(Method::ChannelClose(close)) = Method::decode(frame.payload) else { panic!("no close") };
    let text = "PRECONDITION_FAILED - message size 101 is larger than configured max size 100";
    assert_eq!(close.reply_text.to_str(), Some(text));
}
