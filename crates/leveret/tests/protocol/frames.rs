//! Frames and contents: broken, out of order, too large, too many channels.

use std::collections::BTreeSet;

use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TableBuf, Value,
    method::{basic, channel, confirm},
};

use crate::support::{Client, Login, Message, Peer, declare, get, get_no_ack, message, passive};

#[track_caller]
fn check_closed(peer: &Peer, steps: impl FnOnce(&mut Client), wanted: &str) {
    let mut client = peer.client();
    steps(&mut client);
    client.expect_connection_close(wanted);
}

/// The broker drops the socket without a word.
#[track_caller]
fn check_dropped(peer: &Peer, steps: impl FnOnce(&mut Client)) {
    let mut client = peer.client();
    steps(&mut client);
    client.expect("dropped");
}

/// A frame by its octets.
fn frame(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(payload);
    out.push(end);
    out
}

#[test]
fn broken_frames_close_the_connection() {
    let peer = Peer::start();
    let check =
        |octets: &[u8], wanted: &str| check_closed(&peer, |client| client.send_octets(octets), wanted);
    check(
        &frame(9, 0, b"abc", 0xce),
        "501 (0/0) FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame",
    );
    check(
        &frame(9, 1, &[1, 2, 3], 0xce),
        "501 (0/0) FRAME_ERROR - type 9, all octets = <<1,2,3>>: unknown_frame",
    );
    check(
        &frame(8, 0, b"", 0),
        "501 (0/0) FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,0}",
    );
    check(
        &frame(1, 1, &[0, 60, 0, 10], 0xcd),
        "501 (0/0) FRAME_ERROR - type 1, all octets = <<0,60,0,10>>: {invalid_frame_end_marker,205}",
    );
    check(
        &frame(8, 0, b"beat", 0xce),
        "501 (0/0) FRAME_ERROR - type 8, all octets = <<\"beat\">>: unknown_frame",
    );
    check(&frame(8, 1, b"", 0xce), "505 (0/0) UNEXPECTED_FRAME - type 8, all octets = <<>>");
    check(&frame(3, 0, b"body", 0xce), "505 (0/0) UNEXPECTED_FRAME - type 3, all octets = <<\"body\">>");
    check(&frame(2, 0, &[1, 2], 0xce), "501 (0/0) FRAME_ERROR - type 2, all octets = <<1,2>>: unknown_frame");
}

#[test]
fn frames_may_be_as_large_as_agreed_and_no_larger() {
    let peer = Peer::start();
    let check = |frame_max: u32| {
        let login = Login { frame_max, ..Login::default() };
        let mut client = peer.client_with(&login);
        client.ask(declare("q"), "declare-ok q 0 0");
        let body = vec![b'x'; frame_max as usize];
        begin_content(&mut client, "q", u64::from(frame_max));
        // RabbitMQ takes a payload of frame_max, though the frame is then larger.
        client.send_frame(FrameKind::Body, 1, &body);
        client.ask(get_no_ack("q"), &format!("get-ok 1 /q {frame_max} octets left 0"));
        begin_content(&mut client, "q", u64::from(frame_max) + 1);
        client.try_send_octets(&frame(3, 1, &vec![b'x'; frame_max as usize + 1], 0xce));
        let (size, limit) = (frame_max + 1, frame_max - 8);
        client.expect_connection_close(&format!(
            "501 (0/0) FRAME_ERROR - type 3, all octets = <<>>: {{frame_too_large,{size},{limit}}}"
        ));
    };
    check(4096);
    check(131_072);
}

/// A publish to the default exchange and its header, without body.
fn begin_content(client: &mut Client, queue: &str, body_octets: u64) {
    client.send(message("", queue, "").publish());
    let mut header = Vec::new();
    ContentHeader { class_id: 60, body_octets, property_octets: &[0, 0] }.encode(&mut header);
    client.send_frame(FrameKind::Header, 1, &header);
}

#[test]
fn methods_that_do_not_decode_close_the_connection() {
    let peer = Peer::start();
    let check = |payload: &[u8], wanted: &str| {
        check_closed(&peer, |client| client.send_frame(FrameKind::Method, 1, payload), wanted);
    };
    // A queue name that ends behind the payload.
    check(&[0, 50, 0, 10, 0, 0, 5, b'a'], "501 (50/10) FRAME_ERROR - cannot decode <<0,0,5,97>>");
    // An octet too many.
    check(&[0, 90, 0, 10, 7], "501 (90/10) FRAME_ERROR - cannot decode <<7>>");
    // A name that is not UTF-8.
    let malformed = "501 (0/0) FRAME_ERROR - Malformed UTF-8 in shortstr";
    check(&[0, 50, 0, 40, 0, 0, 2, 0xc3, 0x28, 0], malformed);
    check(&[0, 60, 0, 30, 1, 0xff, 0], malformed);
    check_closed(
        &peer,
        |client| client.send_frame(FrameKind::Method, 0, &[0, 10, 0, 50, 0, 0, 1, 0xff, 0, 0, 0, 0]),
        "501 (10/50) FRAME_ERROR - Malformed UTF-8 in shortstr",
    );
    check_dropped(&peer, |client| client.send_frame(FrameKind::Method, 1, &[0, 99, 0, 10]));
    check_dropped(&peer, |client| client.send_frame(FrameKind::Method, 1, &[0, 50, 0, 99]));
    check_dropped(&peer, |client| {
        let declare = [0, 50, 0, 10, 0, 0, 1, b'q', 0, 0, 0, 0, 3, 1, b'a', b'?'];
        client.send_frame(FrameKind::Method, 1, &declare);
    });
    // Not even a class and a method.
    check(&[0, 60, 0], "501 (0/0) FRAME_ERROR - type 1, all octets = <<0,60,0>>: unknown_frame");
    check(&[], "501 (0/0) FRAME_ERROR - type 1, all octets = <<>>: unknown_frame");
}

fn header(class_id: u16, body_octets: u64, property_octets: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    ContentHeader { class_id, body_octets, property_octets }.encode(&mut payload);
    payload
}

#[test]
fn contents_come_in_order() {
    let peer = Peer::start();
    let unexpected = |what: &str| format!("505 (60/40) UNEXPECTED_FRAME - expected {what} instead");
    let no_header = unexpected("content header for class 60, got non content header frame");
    let no_body = unexpected("content body, got non content body frame");
    let publish = |client: &mut Client| client.send(message("", "q", "").publish());
    check_closed(
        &peer,
        |client| {
            publish(client);
            client.send(passive("q"));
        },
        &no_header,
    );
    check_closed(
        &peer,
        |client| {
            publish(client);
            publish(client);
        },
        &no_header,
    );
    check_closed(
        &peer,
        |client| {
            publish(client);
            client.send_frame(FrameKind::Body, 1, b"body");
        },
        &no_header,
    );
    check_closed(
        &peer,
        |client| {
            publish(client);
            client.send_frame(FrameKind::Header, 1, &header(50, 4, &[0, 0]));
        },
        &unexpected("content header for class 60, got one for class 50"),
    );
    check_closed(
        &peer,
        |client| {
            begin_content(client, "q", 4);
            client.send(passive("q"));
        },
        &no_body,
    );
    check_closed(
        &peer,
        |client| {
            begin_content(client, "q", 4);
            client.send_frame(FrameKind::Header, 1, &header(60, 4, &[0, 0]));
        },
        &no_body,
    );
    check_closed(
        &peer,
        |client| {
            begin_content(client, "q", 4);
            client.send_frame(FrameKind::Body, 1, b"12345");
            // RabbitMQ sees it when something else comes.
            client.send(passive("q"));
        },
        &no_body,
    );
    let no_method = "505 (0/0) UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    check_closed(&peer, |client| client.send_frame(FrameKind::Header, 1, &header(60, 0, &[0, 0])), no_method);
    check_closed(&peer, |client| client.send_frame(FrameKind::Body, 1, b"body"), no_method);
    check_closed(&peer, |client| client.send_frame(FrameKind::Body, 2, b"body"), no_method);
    check_closed(
        &peer,
        |client| {
            begin_content(client, "q", 0);
            client.send_frame(FrameKind::Body, 1, b"");
        },
        no_method,
    );
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    begin_content(&mut client, "q", 5);
    for piece in [&b"a"[..], b"", b"bcd", b"", b"e"] {
        client.send_frame(FrameKind::Body, 1, piece);
        // What another channel and the connection say comes between.
        client.send_frame(FrameKind::Heartbeat, 0, b"");
    }
    client.ask(get_no_ack("q"), "get-ok 1 /q abcde left 0");
}

#[test]
fn contents_of_two_channels_may_alternate() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.open(2);
    client.ask(declare("q"), "declare-ok q 0 0");
    for channel in [1, 2] {
        client.ask_on(channel, confirm::Select { nowait: false }, "ConfirmSelectOk");
        client.send_on(channel, message("", "q", "").publish());
    }
    for channel in [2, 1] {
        client.send_frame(FrameKind::Header, channel, &header(60, 2, &[0, 0]));
    }
    for (channel, piece) in [(1, b"a"), (2, b"b"), (2, b"b"), (1, b"a")] {
        client.send_frame(FrameKind::Body, channel, piece);
    }
    assert_eq!(client.confirms(1), [(1, true)]);
    assert_eq!(client.confirms(1), [(1, true)]);
    let bodies: BTreeSet<_> = client.get_all("q").into_iter().collect();
    assert!(bodies.iter().eq(["aa", "bb"]), "{bodies:?}");
}

#[test]
fn broken_properties_close_the_connection() {
    let peer = Peer::start();
    let check = |property_octets: &[u8]| {
        check_closed(
            &peer,
            |client| {
                client.send(message("", "q", "").publish());
                client.send_frame(FrameKind::Header, 1, &header(60, 0, property_octets));
            },
            "541 (0/0) INTERNAL_ERROR",
        );
    };
    check(&[0x80, 0, 9, b'a']);
    check(&[0x10, 0]);
    check(&[0x10, 0, 2, 9]);
    check(&[0]);
    check(&[]);
}

#[test]
fn all_properties_pass_through() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let headers = TableBuf::new()
        .with("flag", Value::Bool(true))
        .with("void", Value::Void)
        .with("x-death", Value::LongStr(b"not a death"))
        .with("double", Value::F64(1.5));
    let properties = Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("utf-8".into()),
        headers: Some(headers.as_table()),
        delivery_mode: Some(1),
        priority: Some(200),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        expiration: None,
        message_id: Some("m".into()),
        timestamp: Some(u64::MAX / 3),
        kind: Some("t".into()),
        user_id: Some("guest".into()),
        app_id: Some("a".into()),
        cluster_id: Some("cluster".into()),
    };
    client.publish(Message { properties, ..message("", "q", "body") });
    let said = client.ask(get("q"), "get-ok 1 /q body left 0");
    assert_eq!(said.properties(), properties);
    client.publish(message("", "q", "bare"));
    let said = client.ask(get("q"), "get-ok 2 /q bare left 0");
    assert_eq!(said.properties(), Properties::default());
}

#[test]
fn unknown_delivery_modes_are_refused() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let with = |mode| {
        let properties = Properties { delivery_mode: Some(mode), ..Properties::default() };
        Message { properties, ..message("", "q", "body") }
    };
    client.publish(with(1));
    client.publish(with(2));
    client.publish(with(7));
    client.expect("channel 406 (60/40) PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,7}");
    client.reopen();
    client.ask(passive("q"), "declare-ok q 2 0");
}

#[test]
fn channels_are_limited_in_number_not_by_their_numbers() {
    let peer = Peer::start();
    let login = Login { channel_max: 2, ..Login::default() };
    let mut client = peer.client_with(&login);
    client.open(65535);
    client.ask_on(65535, channel::Close::default(), "ChannelCloseOk");
    client.open(300);
    client.send_on(7, channel::Open::default());
    client.expect_connection_close(
        "530 (0/0) NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    );
}

#[test]
fn as_many_channels_as_agreed_can_be_open() {
    let peer = Peer::start();
    let mut client = peer.client();
    for channel in 2..=2047 {
        client.send_on(channel, channel::Open::default());
    }
    let opened: BTreeSet<_> = (2..=2047).map(|_| client.expect("ChannelOpenOk").channel()).collect();
    assert!(opened.into_iter().eq(2..=2047));
    client.send_on(2048, channel::Open::default());
    client.expect_connection_close(
        "530 (0/0) NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)",
    );
}

#[test]
fn large_bodies_pass_in_frames_of_4096_octets_both_ways() {
    let peer = Peer::start();
    let small = Login { frame_max: 4096, ..Login::default() };
    let check = |publisher: &Login<'_>, consumer: &Login<'_>, octets: usize| {
        let mut publisher = peer.client_with(publisher);
        let mut consumer = peer.client_with(consumer);
        publisher.ask(declare("q"), "declare-ok q 0 0");
        publisher.confirm_select();
        let body: String = (b'a'..=b'z').cycle().map(char::from).take(octets).collect();
        publisher.publish(message("", "q", &body));
        assert_eq!(publisher.confirms(1), [(1, true)]);
        consumer.send(get_no_ack("q"));
        // That each frame holds its limit is asserted where frames are read.
        assert!(consumer.next().body() == body.as_bytes(), "{octets} octets come as they went");
    };
    for octets in [0, 1, 4087, 4088, 4089, 8176, 8177, 100_000, 1_000_000] {
        check(&small, &small, octets);
        check(&small, &Login::default(), octets);
        check(&Login::default(), &small, octets);
    }
}

#[test]
fn a_message_may_be_as_large_as_configured_and_no_larger() {
    let why = "the limit of 128 MiB is too large to try at every turn";
    let Some(peer) = Peer::leveret(why, |builder| builder.message_octets_max(10_000)) else { return };
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let too_large = "channel 406 (60/40) PRECONDITION_FAILED - message size 10001 is larger than configured max size 10000";
    for frame_max in [4096, 131_072] {
        let mut client = peer.client_with(&Login { frame_max, ..Login::default() });
        client.publish(message("", "q", &"x".repeat(10_000)));
        client.publish(message("", "q", &"x".repeat(10_001)));
        client.expect(too_large);
        client.reopen();
        client.ask(get_no_ack("q"), "get-ok 1 /q 10000 octets left 0");
    }
    // One refused for its size is counted in a transaction neither.
    client.ask(leveret_wire::method::tx::Select {}, "TxSelectOk");
    client.publish(message("", "q", &"x".repeat(10_001)));
    client.expect(too_large);
}

#[test]
fn a_method_is_found_however_its_octets_are_cut() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let mut octets = Vec::new();
    let mut publish = |body: &str| {
        crate::support::encode(&message("", "q", body), 4096, &mut octets);
    };
    publish("one");
    publish("");
    publish(&"three".repeat(2000));
    Method::from(get("q")).write_frame(1, &mut octets);
    Method::from(basic::Ack { delivery_tag: 1, multiple: false }).write_frame(1, &mut octets);
    for octet in octets.chunks(1) {
        client.send_octets(octet);
    }
    client.expect("get-ok 1 /q one left 2");
    assert_eq!(client.get_all("q"), ["".to_owned(), "three".repeat(2000)]);
}

#[test]
fn headers_that_outgrow_a_frame_are_sent_in_one_all_the_same() {
    let peer = Peer::start();
    let mut client = peer.client_with(&Login { frame_max: 4096, ..Login::default() });
    client.ask(declare("q"), "declare-ok q 0 0");
    let long = "y".repeat(20_000);
    let headers = TableBuf::new().with("h", Value::LongStr(long.as_bytes()));
    let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
    peer.client().put(Message { properties, ..message("", "q", "m") });
    let got = client.ask(get_no_ack("q"), "get-ok 1 /q m left 0");
    assert_eq!(got.properties(), properties);
}

#[test]
fn headers_may_be_nested_deeply() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let mut headers = TableBuf::new();
    for _ in 1..leveret_wire::TABLE_DEPTH_MAX {
        headers = TableBuf::new().with("t", Value::Table(headers.as_table()));
    }
    let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
    client.put(Message { properties, ..message("", "q", "m") });
    let got = client.ask(get_no_ack("q"), "get-ok 1 /q m left 0");
    assert_eq!(got.properties(), properties);
    if !peer.is_leveret() {
        return;
    }
    let deeper = TableBuf::new().with("t", Value::Table(headers.as_table()));
    let properties = Properties { headers: Some(deeper.as_table()), ..Properties::default() };
    client.publish(Message { properties, ..message("", "q", "m") });
    client.expect_connection_close("541 (0/0) INTERNAL_ERROR");
}
