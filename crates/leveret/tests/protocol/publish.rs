//! Publishing: confirms, returns, limits of queues.

use leveret_wire::{
    Method, Properties, TableBuf, Value,
    method::{confirm, queue},
};

use crate::support::{
    Client, Confirms, Message, Peer, ack, bind, consume, consume_no_ack, declare, declare_exchange,
    declare_with, delete, exclusive, get, get_no_ack, mandatory, message, nack, passive, qos, table,
};

#[test]
fn confirms_come_for_every_publish() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.confirm_select();
    let bodies: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    client.publish_all(bodies.iter().map(|body| message("", "q", body)));
    let confirms = client.confirms(1000);
    assert!(confirms.into_iter().eq((1..=1000).map(|tag| (tag, true))));
    assert_eq!(client.get_all("q"), bodies);
    // Whatever became of the message.
    client.put(message("", "nowhere", "dropped"));
    client.put(message("amq.fanout", "", "unbound"));
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() };
    client.put(Message { properties: persistent, ..message("", "q", "persistent") });
}

#[test]
fn publishes_before_select_are_not_counted() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.publish(message("", "nowhere", "a"));
    client.publish(message("", "nowhere", "b"));
    client.put(message("", "nowhere", "c"));
    // Selecting again does not begin to count again.
    client.send(confirm::Select { nowait: true });
    client.put(message("", "nowhere", "d"));
    // Each channel counts for itself.
    client.open(2);
    client.ask_on(2, confirm::Select { nowait: false }, "ConfirmSelectOk");
    client.publish(Message { channel: 2, ..message("", "nowhere", "e") });
    let said = client.expect("ack 1");
    assert_eq!(said.channel(), 2);
}

#[test]
fn unroutable_messages_come_back_when_they_are_mandatory() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.publish(message("amq.direct", "nobody", "dropped"));
    let headers = table(&[("h", Value::I32(1))]);
    let properties = Properties {
        headers: Some(headers.as_table()),
        content_type: Some("text/plain".into()),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    client.publish(Message { properties, ..mandatory("amq.direct", "nobody", "returned") });
    let said = client.expect("return 312 NO_ROUTE amq.direct/nobody returned");
    assert_eq!(said.properties(), properties);
    let large = "x".repeat(300_000);
    client.publish(mandatory("", "nobody", &large));
    let said = client.expect("return 312 NO_ROUTE /nobody 300000 octets");
    assert!(said.body() == large.as_bytes());
    client.publish(mandatory("", "nobody", ""));
    client.expect("return 312 NO_ROUTE /nobody ");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.publish(mandatory("", "q", "taken"));
    client.expect_silence();
}

#[test]
fn a_return_comes_before_its_confirm() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.confirm_select();
    client.publish(mandatory("", "nobody", "a"));
    client.expect_all(&["return 312 NO_ROUTE /nobody a", "ack 1"]);
    client.publish_all(["q", "nobody", "q", "nobody"].map(|key| mandatory("", key, "m")));
    let (mut confirms, mut returned) = (Confirms::after(1), 0);
    while confirms.settled.len() < 4 {
        let said = client.next();
        confirms.add(&said);
        returned += usize::from(matches!(said.method(), Method::BasicReturn(_)));
        let confirmed = [3, 5].into_iter().filter(|tag| confirms.settled.contains_key(tag)).count();
        assert!(returned >= confirmed, "{returned} returned, {confirmed} of them confirmed");
    }
    assert_eq!(returned, 2);
}

#[test]
fn a_refused_publish_closes_the_channel_and_is_not_confirmed() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.confirm_select();
    client.publish_all([message("", "q", "a"), message("gone", "q", "b"), message("", "q", "c")]);
    let mut said = client.next().to_string();
    if said == "ack 1" {
        said = client.next().to_string();
    }
    assert_eq!(said, "channel 404 (60/40) NOT_FOUND - no exchange 'gone' in vhost '/'");
    client.reopen();
    // What came before took effect, what came behind did not.
    assert_eq!(client.get_all("q"), ["a"]);
}

fn limited(limit: &str, value: i32, overflow: Option<&'static str>) -> TableBuf {
    let mut arguments = table(&[(limit, Value::I32(value))]);
    if let Some(overflow) = overflow {
        arguments.push("x-overflow", Value::LongStr(overflow.as_bytes()));
    }
    arguments
}

/// A client with a queue `q` of those arguments, in confirm mode.
fn with_queue(peer: &Peer, arguments: &TableBuf) -> Client {
    let mut client = peer.client();
    client.ask(declare_with("q", arguments), "declare-ok q 0 0");
    client.confirm_select();
    client
}

#[test]
fn a_full_queue_drops_its_oldest_messages() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length", 3, None));
    for body in ["a", "b", "c", "d", "e"] {
        client.put(message("", "q", body));
    }
    client.ask(passive("q"), "declare-ok q 3 0");
    assert_eq!(client.get_all("q"), ["c", "d", "e"]);
    client.ask(delete("q"), "delete-ok 0");
    let mut client = with_queue(&peer, &limited("x-max-length", 0, None));
    client.put(message("", "q", "a"));
    client.ask(get("q"), "BasicGetEmpty");
    client.ask(consume_no_ack("q", "t"), "consume-ok t");
    client.publish(message("", "q", "b"));
    client.expect_unordered(&["deliver t 1 /q b", "ack 2"]);
}

#[test]
fn a_full_queue_drops_its_oldest_octets() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length-bytes", 10, Some("drop-head")));
    for body in ["aaaa", "bbbb", "cc"] {
        client.put(message("", "q", body));
    }
    client.ask(passive("q"), "declare-ok q 3 0");
    client.put(message("", "q", "d"));
    client.ask(passive("q"), "declare-ok q 3 0");
    // A message larger than all the queue may hold drops all, itself too.
    client.put(message("", "q", "eleven octs"));
    client.ask(passive("q"), "declare-ok q 0 0");
    client.put(message("", "q", "ten octets"));
    assert_eq!(client.get_all("q"), ["ten octets"]);
}

#[test]
fn only_ready_messages_count() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length", 2, None));
    client.put(message("", "q", "a"));
    client.put(message("", "q", "b"));
    client.ask(get("q"), "get-ok 1 /q a left 1");
    client.ask(get("q"), "get-ok 2 /q b left 0");
    client.put(message("", "q", "c"));
    client.put(message("", "q", "d"));
    client.ask(passive("q"), "declare-ok q 2 0");
    // What is put back is the oldest, and one too many.
    client.send(nack(2, false, true));
    client.expect_silence();
    assert_eq!(client.get_all("q"), ["c", "d"]);
    client.send(ack(1));
}

#[test]
fn limits_are_kept_before_what_was_put_back_is_delivered_again() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length", 2, None));
    let mut consumer = peer.client();
    consumer.ask(consume("q", "t"), "consume-ok t");
    for (n, body) in (1..).zip(["a", "b", "c", "d"]) {
        client.put(message("", "q", body));
        consumer.expect(&format!("deliver t {n} /q {body}"));
    }
    consumer.send(nack(0, true, true));
    consumer.expect_all(&["deliver t 5 /q c redelivered", "deliver t 6 /q d redelivered"]);
    consumer.expect_silence();
}

#[test]
fn a_full_queue_may_refuse() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length", 2, Some("reject-publish")));
    client.put(message("", "q", "a"));
    client.put(message("", "q", "b"));
    client.publish(mandatory("", "q", "c"));
    assert_eq!(client.confirms(1), [(3, false)]);
    client.ask(get_no_ack("q"), "get-ok 1 /q a left 1");
    client.publish(message("", "q", "d"));
    client.publish(message("", "q", "e"));
    assert_eq!(client.confirms(2), [(4, true), (5, false)]);
    assert_eq!(client.get_all("q"), ["b", "d"]);
    // Without confirms the message is dropped in silence.
    let mut plain = peer.client();
    for body in ["f", "g", "h"] {
        plain.publish(mandatory("", "q", body));
    }
    plain.expect_silence();
    assert_eq!(plain.get_all("q"), ["f", "g"]);
}

#[test]
fn a_full_queue_may_refuse_by_octets() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length-bytes", 10, Some("reject-publish")));
    client.put(message("", "q", "12345"));
    client.put(message("", "q", "67890"));
    client.publish(message("", "q", "1"));
    assert_eq!(client.confirms(1), [(3, false)]);
    client.ask(get_no_ack("q"), "get-ok 1 /q 12345 left 1");
    client.publish(message("", "q", "1234"));
    client.publish(message("", "q", "56"));
    client.publish(message("", "q", "7"));
    assert_eq!(client.confirms(3), [(4, true), (5, false), (6, true)]);
}

#[test]
fn one_queue_that_refuses_is_a_refusal() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length", 1, Some("reject-publish")));
    client.ask(declare("roomy"), "declare-ok roomy 0 0");
    client.ask(bind("q", "amq.fanout", ""), "QueueBindOk");
    client.ask(bind("roomy", "amq.fanout", ""), "QueueBindOk");
    client.publish(message("amq.fanout", "", "a"));
    client.publish(message("amq.fanout", "", "b"));
    assert_eq!(client.confirms(2), [(1, true), (2, false)]);
    // The other one kept it.
    assert_eq!(client.get_all("roomy"), ["a", "b"]);
    assert_eq!(client.get_all("q"), ["a"]);
}

#[test]
fn a_consumer_makes_room_before_anything_is_refused() {
    let peer = Peer::start();
    let mut client = with_queue(&peer, &limited("x-max-length", 1, Some("reject-publish")));
    let mut consumer = peer.client();
    consumer.ask(qos(2), "BasicQosOk");
    consumer.ask(consume("q", "t"), "consume-ok t");
    for body in ["a", "b", "c"] {
        client.put(message("", "q", body));
    }
    client.publish(message("", "q", "d"));
    assert_eq!(client.confirms(1), [(4, false)]);
    consumer.expect_all(&["deliver t 1 /q a", "deliver t 2 /q b"]);
    consumer.send(ack(1));
    consumer.expect("deliver t 3 /q c");
}

#[test]
fn a_message_may_go_to_many_queues() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare_exchange("x", "topic"), "ExchangeDeclareOk");
    let names: Vec<_> = (0..100).map(|n| format!("q{n}")).collect();
    for name in &names {
        client.ask(exclusive(name), &format!("declare-ok {name} 0 0"));
        client.ask(bind(name, "x", "#"), "QueueBindOk");
    }
    client.put(message("x", "a.b", "1"));
    client.put(message("x", "c", "2"));
    for name in &names {
        assert_eq!(client.get_all(name), ["1", "2"]);
    }
}

#[test]
fn messages_by_alternating_routes_keep_their_order() {
    let peer = Peer::start();
    let mut client = peer.client();
    for (queue, keys) in [("even", &["0", "2"][..]), ("odd", &["1"]), ("all", &["0", "1", "2"])] {
        client.ask(exclusive(queue), &format!("declare-ok {queue} 0 0"));
        for key in keys {
            client.ask(bind(queue, "amq.direct", key), "QueueBindOk");
        }
    }
    client.confirm_select();
    let bodies: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    client.publish_all(
        bodies.iter().enumerate().map(|(n, body)| message("amq.direct", ["0", "1", "2"][n % 3], body)),
    );
    client.confirms(300);
    assert_eq!(client.get_all("all"), bodies);
    let of = |wanted: fn(usize) -> bool| -> Vec<_> {
        (0..300).filter(|n| wanted(n % 3)).map(|n| n.to_string()).collect()
    };
    assert_eq!(client.get_all("even"), of(|key| key != 1));
    assert_eq!(client.get_all("odd"), of(|key| key == 1));
}

#[test]
fn bindings_made_between_publishes_take_effect_between_them() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    let nowait_bind = queue::Bind { nowait: true, ..bind("q", "amq.direct", "k") };
    client.publish(message("amq.direct", "k", "before"));
    client.send(nowait_bind);
    client.publish(message("amq.direct", "k", "bound"));
    client.ask(crate::support::unbind("q", "amq.direct", "k"), "QueueUnbindOk");
    client.publish(message("amq.direct", "k", "after"));
    assert_eq!(client.get_all("q"), ["bound"]);
}

#[test]
fn malformed_properties_with_meaning_are_refused_in_rabbitmqs_words() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut check = |properties: Properties<'_>, wanted: &str| {
        client.publish(Message { properties, ..message("", "nowhere", "m") });
        client.expect(&format!("channel 406 (60/40) PRECONDITION_FAILED - {wanted}"));
        client.reopen();
    };
    let mut check_expiration = |expiration: &str, wanted: &str| {
        let properties = Properties { expiration: Some(expiration.into()), ..Properties::default() };
        check(properties, &format!("invalid expiration '{expiration}': {wanted}"));
    };
    check_expiration("abc", "no_integer");
    check_expiration("", "no_integer");
    check_expiration("-1", "{value_negative,-1}");
    check_expiration("-007", "{value_negative,-7}");
    check_expiration("+", "no_integer");
    check_expiration(" 1", "no_integer");
    check_expiration("999999999999999", "{value_too_large,999999999999999}");
    check_expiration("1.5", "{leftover_string,\".5\"}");
    check_expiration("315360000001", "{value_too_large,315360000001}");
    let cc = table(&[("CC", Value::LongStr(b"k"))]);
    let properties = Properties { headers: Some(cc.as_table()), ..Properties::default() };
    check(properties, "invalid message: {unacceptable_type_in_header,\"CC\",longstr}");
    let bcc = table(&[("BCC", Value::I32(1))]);
    let properties = Properties { headers: Some(bcc.as_table()), ..Properties::default() };
    check(properties, "invalid message: {unacceptable_type_in_header,\"BCC\",signedint}");
}
