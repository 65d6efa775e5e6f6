//! From the protocol header to an open virtual host.

use std::{
    thread,
    time::{Duration, Instant},
};

use leveret_wire::{
    FrameKind, Method, TableBuf, Value,
    method::{channel, connection},
};

use crate::support::{Client, Login, Peer};

/// The handshake's end, as the client sees it, and how long the broker was silent before it.
fn last_words(mut client: Client) -> (String, Duration) {
    let begun = Instant::now();
    let said = client.next().to_string();
    (said, begun.elapsed())
}

const SUPPORTED: &str = "protocol header [65, 77, 81, 80, 0, 0, 9, 1]";

#[test]
fn other_protocols_are_told_which_one_is_spoken() {
    let peer = Peer::start();
    let check = |octets: &[u8]| {
        let mut client = peer.socket();
        client.send_octets(octets);
        let (said, silence) = last_words(client);
        assert_eq!(said, SUPPORTED, "{octets:?}");
        assert!(silence < Duration::from_secs(2), "at once, not after {silence:?}");
    };
    check(b"AMQP\x00\x01\x00\x00");
    check(b"AMQP\x00\x00\x09\x02");
    check(b"AMQP\x00\x00\x08\x00");
    check(b"AMQP\x03\x01\x00\x00");
    check(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    check(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0]);
    check(b"\0\0\0\0\0\0\0\0");
}

#[test]
fn both_spellings_of_the_version_are_taken() {
    let peer = Peer::start();
    for header in [b"AMQP\x00\x00\x09\x01", b"AMQP\x01\x01\x00\x09"] {
        let mut client = peer.socket();
        client.send_octets(header);
        let start = client.expect("ConnectionStart");
        let Method::ConnectionStart(start) = start.method() else { unreachable!("it was compared") };
        assert_eq!((start.version_major, start.version_minor), (0, 9));
        // RabbitMQ gives them in either order.
        let mut mechanisms: Vec<_> = start.mechanisms.0.split(|&octet| octet == b' ').collect();
        mechanisms.sort_unstable();
        assert_eq!(mechanisms, [&b"AMQPLAIN"[..], b"PLAIN"]);
        assert_eq!(start.locales.0, b"en_US");
    }
}

#[test]
fn the_header_may_come_octet_by_octet() {
    let peer = Peer::start();
    let mut client = peer.socket();
    for octet in b"AMQP\x00\x00\x09\x01" {
        client.send_octets(&[*octet]);
    }
    client.expect("ConnectionStart");
}

#[test]
fn start_says_who_the_broker_is_and_what_it_can_do() {
    let peer = Peer::start();
    let mut client = peer.socket();
    client.send_octets(b"AMQP\x00\x00\x09\x01");
    let start = client.expect("ConnectionStart");
    let Method::ConnectionStart(start) = start.method() else { unreachable!("it was compared") };
    let names: Vec<_> = start.server_properties.iter().map(|(name, _)| name.to_string()).collect();
    let wanted =
        ["capabilities", "cluster_name", "copyright", "information", "platform", "product", "version"];
    assert_eq!(names, wanted);
    let Some(Value::Table(capabilities)) = start.server_properties.find("capabilities") else {
        panic!("capabilities are a table: {:?}", start.server_properties)
    };
    let capabilities: Vec<_> = capabilities.iter().map(|(name, value)| (name.to_string(), value)).collect();
    let yes = Value::Bool(true);
    let wanted = [
        ("publisher_confirms", yes),
        ("exchange_exchange_bindings", yes),
        ("basic.nack", yes),
        ("consumer_cancel_notify", yes),
        ("connection.blocked", yes),
        ("consumer_priorities", yes),
        ("authentication_failure_close", yes),
        ("per_consumer_qos", yes),
        ("direct_reply_to", yes),
    ];
    assert_eq!(capabilities, wanted.map(|(name, value)| (name.to_owned(), value)));
}

fn amqplain(user: &[u8], password: &[u8]) -> Vec<u8> {
    let table =
        TableBuf::new().with("LOGIN", Value::LongStr(user)).with("PASSWORD", Value::LongStr(password));
    table.as_table().as_bytes().to_vec()
}

#[test]
fn both_mechanisms_log_in() {
    let peer = Peer::start();
    peer.client().close();
    let login = Login { mechanism: "AMQPLAIN", response: amqplain(b"guest", b"guest"), ..Login::default() };
    peer.client_with(&login).close();
}

#[test]
fn tune_offers_rabbitmqs_limits() {
    let peer = Peer::start();
    let mut client = peer.socket();
    client.greet(&Login::default());
    let tune = client.expect("ConnectionTune");
    let wanted = connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat_seconds: 60 };
    assert_eq!(tune.method(), wanted.into());
}

#[test]
fn a_failed_login_is_told_to_those_who_understand_it() {
    let peer = Peer::start();
    let check = |mechanism, response: &[u8]| {
        let mut client = peer.socket();
        client.greet(&Login { mechanism, response: response.to_vec(), ..Login::default() });
        client.expect_connection_close(&format!(
            "403 (0/0) ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details \
             see the broker logfile."
        ));
    };
    check("PLAIN", b"\0guest\0wrong");
    check("PLAIN", b"\0nobody\0guest");
    check("PLAIN", b"\0guest\0");
    check("AMQPLAIN", &amqplain(b"guest", b"wrong"));
}

#[test]
fn an_unknown_virtual_host_is_named() {
    let peer = Peer::start();
    let mut client = peer.socket();
    let login = Login { virtual_host: "nov", ..Login::default() };
    client.greet(&login);
    client.expect("ConnectionTune");
    client.tune(&login);
    client.send_on(0, connection::Open { virtual_host: "nov".into(), ..connection::Open::default() });
    client.expect_connection_close("530 (10/40) NOT_ALLOWED - vhost nov not found");
}

#[test]
fn limits_up_to_those_offered_are_taken() {
    let peer = Peer::start();
    let check = |channel_max, frame_max, heartbeat_seconds| {
        let login = Login { channel_max, frame_max, heartbeat_seconds, ..Login::default() };
        peer.client_with(&login).close();
    };
    check(1, 4096, 0);
    check(2047, 131_072, 60);
    // The client's word on heartbeats is final, also above what was offered.
    check(10, 8192, 100);
    check(10, 8192, 65535);
}

type Steps = Box<dyn Fn(&mut Client) + Send + Sync>;

/// What is answered with silence, and after a while with a closed socket.
fn silent_cases() -> Vec<(&'static str, Steps)> {
    let login = |mechanism: &'static str, response: &[u8]| -> Steps {
        let login = Login { mechanism, response: response.to_vec(), ..Login::default() };
        Box::new(move |client| client.greet(&login))
    };
    let tune = |channel_max, frame_max| -> Steps {
        Box::new(move |client| {
            client.greet(&Login::default());
            client.expect("ConnectionTune");
            client.tune(&Login { channel_max, frame_max, ..Login::default() });
        })
    };
    let instead_of_start_ok = |method: Method<'static>| -> Steps {
        Box::new(move |client| {
            client.send_octets(b"AMQP\x00\x00\x09\x01");
            client.expect("ConnectionStart");
            client.send_on(0, method);
        })
    };
    let mute: &[&str] = &[];
    let no_close = Login { response: b"\0guest\0wrong".to_vec(), capabilities: mute, ..Login::default() };
    vec![
        ("an unknown mechanism", login("EXTERNAL", b"")),
        ("PLAIN without NULs", login("PLAIN", b"guest")),
        ("PLAIN with one NUL", login("PLAIN", b"\0guest")),
        ("PLAIN with an identity", login("PLAIN", b"guest\0guest\0guest")),
        ("PLAIN that is empty", login("PLAIN", b"")),
        ("AMQPLAIN without a password", login("AMQPLAIN", &amqplain(b"guest", b"guest")[..18])),
        ("AMQPLAIN that is no table", login("AMQPLAIN", b"guest")),
        ("a bad login of a client that takes no close", Box::new(move |client| client.greet(&no_close))),
        ("frame_max 0", tune(2047, 0)),
        ("frame_max below the least", tune(2047, 4095)),
        ("frame_max above the offer", tune(2047, 131_073)),
        ("channel_max 0", tune(0, 131_072)),
        ("channel_max above the offer", tune(2048, 131_072)),
        ("open in place of start-ok", instead_of_start_ok(connection::Open::default().into())),
        ("tune-ok in place of start-ok", instead_of_start_ok(connection::TuneOk::default().into())),
        ("channel.open in place of start-ok", instead_of_start_ok(channel::Open::default().into())),
        (
            "a close in place of tune-ok",
            Box::new(|client| {
                client.greet(&Login::default());
                client.expect("ConnectionTune");
                client.send_on(0, connection::Close::default());
            }),
        ),
        (
            "a body frame in place of start-ok",
            Box::new(|client| {
                client.send_octets(b"AMQP\x00\x00\x09\x01");
                client.expect("ConnectionStart");
                client.send_frame(FrameKind::Body, 1, b"body");
            }),
        ),
    ]
}

#[test]
fn what_is_malformed_before_open_is_answered_with_silence() {
    let peer = Peer::start();
    let check = |name: &str, steps: &Steps| {
        let mut client = peer.socket();
        steps(&mut client);
        let (said, silence) = last_words(client);
        assert_eq!(said, "dropped", "{name}");
        let around_three_seconds = Duration::from_millis(2900)..Duration::from_secs(8);
        assert!(around_three_seconds.contains(&silence), "{name}: dropped after {silence:?}");
    };
    thread::scope(|scope| {
        for (name, steps) in silent_cases() {
            scope.spawn(move || check(name, &steps));
        }
    });
}

#[test]
fn a_handshake_that_does_not_come_to_its_end_is_dropped() {
    let peer = Peer::start();
    let check = |steps: fn(&mut Client)| {
        let mut client = peer.socket();
        steps(&mut client);
        let (said, silence) = last_words(client);
        assert_eq!(said, "dropped");
        assert!((Duration::from_secs(9)..Duration::from_secs(15)).contains(&silence), "{silence:?}");
    };
    let cases: [fn(&mut Client); 4] = [
        |_| {},
        |client| client.send_octets(b"AMQP"),
        |client| {
            client.send_octets(b"AMQP\x00\x00\x09\x01");
            client.expect("ConnectionStart");
        },
        |client| {
            client.greet(&Login::default());
            client.expect("ConnectionTune");
        },
    ];
    thread::scope(|scope| {
        for steps in cases {
            scope.spawn(move || check(steps));
        }
    });
}

#[test]
fn users_and_virtual_hosts_are_those_that_were_set_up() {
    let alice = Login { response: b"\0alice\0secret".to_vec(), virtual_host: "staging", ..Login::default() };
    let why = "it takes a broker with a user and a virtual host of its own";
    let set_up =
        |builder: leveret::BrokerBuilder| builder.default_user("alice", "secret").virtual_host("staging");
    let Some(peer) = Peer::leveret_as(alice.clone(), why, set_up) else { return };
    peer.client_with(&alice).close();
    let refused = |response: &[u8]| {
        let mut client = peer.socket();
        client.greet(&Login { response: response.to_vec(), ..Login::default() });
        client.expect_connection_close(
            "403 (0/0) ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see \
             the broker logfile.",
        );
    };
    refused(b"\0guest\0guest");
    refused(b"\0alice\0Secret");
    let mut client = peer.socket();
    client.greet(&alice);
    client.expect("ConnectionTune");
    client.tune(&alice);
    client.send_on(0, connection::Open { virtual_host: "/".into(), ..connection::Open::default() });
    client.expect_connection_close("530 (10/40) NOT_ALLOWED - vhost / not found");
}

#[test]
fn limits_are_offered_as_they_were_set_up() {
    let why = "it takes a broker with limits of its own";
    let set_up = |builder: leveret::BrokerBuilder| builder.channel_max(7).heartbeat_seconds(3);
    let login = Login { channel_max: 7, ..Login::default() };
    let Some(peer) = Peer::leveret_as(login, why, set_up) else { return };
    let mut client = peer.socket();
    client.greet(&Login::default());
    let tune = client.expect("ConnectionTune");
    let wanted = connection::Tune { channel_max: 7, frame_max: 131_072, heartbeat_seconds: 3 };
    assert_eq!(tune.method(), wanted.into());
}

#[test]
fn everything_may_be_sent_without_waiting() {
    let peer = Peer::start();
    let login = Login::default();
    let mut client = peer.socket();
    client.send_octets(b"AMQP\x00\x00\x09\x01");
    client.start_ok(&login);
    client.tune(&login);
    client.send_on(0, connection::Open { virtual_host: "/".into(), ..connection::Open::default() });
    client.send_on(1, channel::Open::default());
    client.expect_all(&["ConnectionStart", "ConnectionTune", "ConnectionOpenOk", "ChannelOpenOk"]);
}
