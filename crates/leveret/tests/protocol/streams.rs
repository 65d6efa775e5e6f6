//! Streams: kept for many readers, and consumed by none.

use leveret_wire::{
    Properties, TableBuf, Value,
    method::{basic, queue},
};

use crate::support::{
    Client, Message, Peer, ack, cancel, consume, consume_no_ack, declare_with, delete, get, message, nack,
    purge, qos, qos_global, table,
};

fn stream_arguments(more: &[(&str, Value<'_>)]) -> TableBuf {
    let mut arguments = table(&[("x-queue-type", Value::LongStr(b"stream"))]);
    more.iter().for_each(|(name, value)| arguments.push(name, *value));
    arguments
}

/// A client and a stream `s` with messages 0 to `messages - 1`.
fn with_stream(peer: &Peer, messages: usize) -> Client {
    let mut client = peer.client();
    client.ask(
        queue::Declare { durable: true, ..declare_with("s", &stream_arguments(&[])) },
        "declare-ok s 0 0",
    );
    for n in 0..messages {
        client.put(message("", "s", &n.to_string()));
    }
    client
}

fn read<'a>(arguments: &'a TableBuf, tag: &'a str) -> basic::Consume<'a> {
    basic::Consume { arguments: arguments.as_table(), ..consume("s", tag) }
}

fn from(offset: Value<'_>) -> TableBuf {
    table(&[("x-stream-offset", offset)])
}

#[test]
fn a_reader_begins_where_it_wants() {
    let peer = Peer::start();
    let mut client = with_stream(&peer, 5);
    client.ask(qos(100), "BasicQosOk");
    let mut check = |offset: Value<'_>, wanted: &[i64]| {
        client.ask(read(&from(offset), "r"), "consume-ok r");
        for &offset in wanted {
            let said = client.next();
            assert_eq!(said.body(), offset.to_string().as_bytes());
            let headers = said.properties().headers.expect("an offset");
            assert_eq!(headers.find("x-stream-offset"), Some(Value::I64(offset)));
        }
        client.ask(cancel("r"), "cancel-ok r");
    };
    check(Value::LongStr(b"first"), &[0, 1, 2, 3, 4]);
    check(Value::LongStr(b"next"), &[]);
    check(Value::I32(3), &[3, 4]);
    check(Value::LongStr(b"1h"), &[0, 1, 2, 3, 4]);
    client.ask(read(&TableBuf::new(), "r"), "consume-ok r");
    client.publish(message("", "s", "new"));
    client.expect_unordered(&["deliver r 13 /s new", "ack 6"]);
}

#[test]
fn only_here_a_reader_may_begin_so_many_from_the_end() {
    let why = "LavinMQ has it, RabbitMQ not";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = with_stream(&peer, 5);
    client.ask(qos(100), "BasicQosOk");
    client.ask(read(&from(Value::I32(-2)), "r"), "consume-ok r");
    client.expect_all(&["deliver r 1 /s 3", "deliver r 2 /s 4"]);
}

#[test]
fn readers_are_given_as_many_as_they_have_room_for() {
    let peer = Peer::start();
    let mut client = with_stream(&peer, 4);
    client.ask(qos(2), "BasicQosOk");
    client.ask(read(&from(Value::LongStr(b"first")), "r"), "consume-ok r");
    client.expect_all(&["deliver r 1 /s 0", "deliver r 2 /s 1"]);
    client.expect_silence();
    client.send(ack(1));
    client.expect("deliver r 3 /s 2");
    // Another reads the same from the start, though the first has taken some.
    let mut other = peer.client();
    other.ask(qos(10), "BasicQosOk");
    other.ask(read(&from(Value::I32(0)), "o"), "consume-ok o");
    other.expect_all(&["deliver o 1 /s 0", "deliver o 2 /s 1", "deliver o 3 /s 2", "deliver o 4 /s 3"]);
}

#[test]
fn messages_keep_what_they_came_with() {
    let peer = Peer::start();
    let mut client = with_stream(&peer, 0);
    let headers = table(&[("a", Value::I32(1))]);
    let properties = Properties {
        headers: Some(headers.as_table()),
        expiration: Some("1".into()),
        ..Properties::default()
    };
    client.put(Message { properties, ..message("", "s", "m") });
    client.ask(qos(10), "BasicQosOk");
    client.ask(read(&from(Value::LongStr(b"first")), "r"), "consume-ok r");
    let said = client.expect("deliver r 1 /s m");
    let found = said.properties();
    assert_eq!(found.expiration.map(|text| text.to_string()), Some("1".to_owned()));
    let names: Vec<_> = found.headers.unwrap().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "x-stream-offset"]);
}

#[test]
fn what_a_stream_cannot_do_is_refused() {
    let peer = Peer::start();
    let unsupported = |what: &str, ids: &str| {
        format!("540 ({ids}) NOT_IMPLEMENTED - {what} not supported by stream queues queue 's' in vhost '/'")
    };
    let _keeper = with_stream(&peer, 1);
    let mut client = peer.client();
    client.refused(
        consume("s", "r"),
        "406 (60/20) PRECONDITION_FAILED - consumer prefetch count is not set for 'queue 's' in vhost '/''",
    );
    client.ask(qos_global(5), "BasicQosOk");
    client.refused(
        consume("s", "r"),
        "406 (60/20) PRECONDITION_FAILED - consumer prefetch count is not set for 'queue 's' in vhost '/''",
    );
    client.send(get("s"));
    client.expect_connection_close(&unsupported("basic.get", "60/70"));
    let mut client = peer.client();
    client.send(purge("s"));
    client.expect_connection_close(&unsupported("queue.purge", "50/30"));
    let mut client = peer.client();
    client.ask(qos(5), "BasicQosOk");
    client.send(consume_no_ack("s", "r"));
    client.expect_connection_close(&unsupported("automatic acknowledgement", "60/20"));
    let mut client = peer.client();
    client.ask(qos(5), "BasicQosOk");
    client.ask(read(&from(Value::LongStr(b"first")), "r"), "consume-ok r");
    client.expect("deliver r 1 /s 0");
    client.send(nack(1, false, true));
    client.expect_connection_close(&unsupported("basic.nack and basic.reject", "60/120"));
}

#[test]
fn a_stream_is_durable_and_for_everybody() {
    let peer = Peer::start();
    let mut client = peer.client();
    let arguments = stream_arguments(&[]);
    let durable = queue::Declare { durable: true, ..declare_with("s", &arguments) };
    let mut check = |declare: queue::Declare<'_>, wanted: &str| {
        client.refused(declare, &format!("406 (50/10) PRECONDITION_FAILED - {wanted}"));
    };
    let invalid = |property: &str| format!("invalid property '{property}' for queue 's' in vhost '/'");
    check(declare_with("s", &arguments), &invalid("non-durable"));
    check(queue::Declare { exclusive: true, ..durable }, &invalid("exclusive-owner"));
    check(queue::Declare { auto_delete: true, ..durable }, &invalid("auto-delete"));
    check(
        queue::Declare { queue: "".into(), ..durable },
        "Cannot declare a server-named queue for type rabbit_stream_queue",
    );
    let lives = stream_arguments(&[("x-message-ttl", Value::I32(1))]);
    check(
        queue::Declare { arguments: lives.as_table(), ..durable },
        "invalid arg 'x-message-ttl' for queue 's' in vhost '/' of queue type rabbit_stream_queue",
    );
    let wrong = stream_arguments(&[("x-max-age", Value::LongStr(b"10x"))]);
    check(
        queue::Declare { arguments: wrong.as_table(), ..durable },
        "invalid arg 'x-max-age' for queue 's' in vhost '/': invalid_max_age",
    );
}

#[test]
fn the_oldest_go_when_there_is_too_much() {
    let why = "RabbitMQ drops whole segments";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client();
    let arguments = stream_arguments(&[("x-max-length-bytes", Value::I32(3))]);
    client.ask(queue::Declare { durable: true, ..declare_with("s", &arguments) }, "declare-ok s 0 0");
    for n in 0..5 {
        client.put(message("", "s", &n.to_string()));
    }
    client.ask(qos(10), "BasicQosOk");
    client.ask(read(&from(Value::LongStr(b"first")), "r"), "consume-ok r");
    client.expect_all(&["deliver r 1 /s 2", "deliver r 2 /s 3", "deliver r 3 /s 4"]);
}

#[test]
fn a_stream_is_deleted_with_its_messages() {
    let peer = Peer::start();
    let mut client = with_stream(&peer, 3);
    client.ask(qos(1), "BasicQosOk");
    client.ask(read(&from(Value::LongStr(b"first")), "r"), "consume-ok r");
    client.expect("deliver r 1 /s 0");
    client.ask(queue::Delete { if_empty: true, ..delete("s") }, "delete-ok 0");
    client.expect("cancel r nowait");
    client.send(ack(1));
    client.expect_silence();
}
