//! Exchange types that RabbitMQ has as plugins: by chance, by a hash, and with a memory.
//!
//! Where the other broker lacks the plugin, a test says so and is skipped.

use leveret_wire::{Properties, TableBuf, Value, method::exchange};

use crate::support::{
    Client, Message, Peer, bind, bind_exchange, declare_exchange, delete_exchange, exclusive, mandatory,
    message, table, unbind,
};

/// A client, and the exchange `x` of that type with these arguments. `None`, and a line that says
/// so, where the broker does not know the type.
fn with_exchange(peer: &Peer, kind: &str, arguments: &TableBuf) -> Option<Client> {
    let mut client = peer.client();
    client.send(exchange::Declare { arguments: arguments.as_table(), ..declare_exchange("x", kind) });
    let said = client.next().to_string();
    if said == "ExchangeDeclareOk" {
        return Some(client);
    }
    assert!(!peer.is_leveret(), "{said}");
    eprintln!("skipped: the other broker has no exchanges of type {kind}");
    None
}

fn declare_and_bind(client: &mut Client, queue: &str, key: &str) {
    client.ask(exclusive(queue), &format!("declare-ok {queue} 0 0"));
    client.ask(bind(queue, "x", key), "QueueBindOk");
}

const QUEUES: [&str; 3] = ["q0", "q1", "q2"];

/// What each queue got, which leaves it empty.
fn got(client: &mut Client) -> [Vec<String>; 3] {
    QUEUES.map(|queue| client.get_all(queue))
}

#[test]
fn random_takes_one_queue_for_each_message() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-random", &TableBuf::new()) else { return };
    client.publish(mandatory("x", "k", "to nobody"));
    client.expect("return 312 NO_ROUTE x/k to nobody");
    for queue in QUEUES {
        declare_and_bind(&mut client, queue, "ignored");
    }
    let bodies: Vec<_> = (0..600).map(|n| n.to_string()).collect();
    client.publish_all(bodies.iter().map(|body| message("x", "same", body)));
    let got = got(&mut client);
    assert_eq!(got.iter().map(Vec::len).sum::<usize>(), 600, "each message is in one queue");
    // That a fair draw misses this is less likely than one in 10^9.
    assert!(got.iter().all(|messages| messages.len() > 130), "{:?}", got.each_ref().map(Vec::len));
}

#[test]
fn random_goes_on_through_exchanges_and_has_an_alternate() {
    let peer = Peer::start();
    let arguments = table(&[("alternate-exchange", Value::LongStr(b"amq.fanout"))]);
    let Some(mut client) = with_exchange(&peer, "x-random", &arguments) else { return };
    client.ask(exclusive("rest"), "declare-ok rest 0 0");
    client.ask(bind("rest", "amq.fanout", ""), "QueueBindOk");
    client.publish(message("x", "k", "without bindings"));
    assert_eq!(client.get_all("rest"), ["without bindings"]);
    client.ask(bind_exchange("amq.direct", "x", ""), "ExchangeBindOk");
    client.ask(exclusive("q0"), "declare-ok q0 0 0");
    client.ask(bind("q0", "amq.direct", "k"), "QueueBindOk");
    client.publish(message("x", "k", "on"));
    assert_eq!(client.get_all("q0"), ["on"]);
    assert!(client.get_all("rest").is_empty());
}

/// Publishes `count` messages, each made from its number, and returns where each went.
fn places<'m>(
    client: &mut Client,
    bodies: &'m [String],
    make: impl Fn(&'m str) -> Message<'m>,
) -> Vec<usize> {
    client.publish_all(bodies.iter().map(|body| make(body)));
    let mut places = vec![usize::MAX; bodies.len()];
    for (queue, messages) in got(client).iter().enumerate() {
        for body in messages {
            let n: usize = body.parse().expect("bodies are numbers");
            assert_eq!(places[n], usize::MAX, "message {n} is in one queue");
            places[n] = queue;
        }
    }
    assert!(!places.contains(&usize::MAX), "each message is in a queue");
    places
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

fn count(places: &[usize], queue: usize) -> usize {
    places.iter().filter(|place| **place == queue).count()
}

#[test]
fn a_consistent_hash_shares_keys_out_by_weight() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-consistent-hash", &TableBuf::new()) else { return };
    client.publish(mandatory("x", "k", "to nobody"));
    client.expect("return 312 NO_ROUTE x/k to nobody");
    declare_and_bind(&mut client, "q0", "1");
    declare_and_bind(&mut client, "q1", "4");
    client.ask(exclusive("q2"), "declare-ok q2 0 0");
    let bodies = numbers(1000);
    let by_key = |body| message("x", body, body);
    let first = places(&mut client, &bodies, by_key);
    assert!((100..300).contains(&count(&first, 0)), "{} of 1000 for one fifth", count(&first, 0));
    assert_eq!(places(&mut client, &bodies, by_key), first, "a key keeps its queue");
    client.ask(bind("q2", "x", "5"), "QueueBindOk");
    let second = places(&mut client, &bodies, by_key);
    assert!(first.iter().zip(&second).all(|(before, after)| before == after || *after == 2));
    assert!((400..600).contains(&count(&second, 2)), "{} of 1000 for a half", count(&second, 2));
    client.ask(unbind("q2", "x", "5"), "QueueUnbindOk");
    assert_eq!(places(&mut client, &bodies, by_key), first);
    // One destination gets all; by its first binding alone, and none after it lost one of them.
    client.ask(unbind("q0", "x", "1"), "QueueUnbindOk");
    client.ask(bind("q1", "x", "1"), "QueueBindOk");
    assert_eq!(count(&places(&mut client, &bodies[..20], by_key), 1), 20);
    client.ask(unbind("q1", "x", "1"), "QueueUnbindOk");
    client.publish(mandatory("x", "k", "to nobody"));
    client.expect("return 312 NO_ROUTE x/k to nobody");
}

#[test]
fn a_consistent_hash_goes_by_a_header_or_a_property() {
    let peer = Peer::start();
    let check = |argument: &str, value: &str, make: &dyn Fn(&str, &mut Client, &TableBuf)| {
        let arguments = table(&[(argument, Value::LongStr(value.as_bytes()))]);
        let Some(mut client) = with_exchange(&peer, "x-consistent-hash", &arguments) else { return };
        for queue in QUEUES {
            declare_and_bind(&mut client, queue, "1");
        }
        // The same keys and other values, and the other way round.
        for n in 0..60 {
            make(&n.to_string(), &mut client, &table(&[("h", Value::I32(n))]));
        }
        assert!(got(&mut client).iter().all(|messages| messages.len() > 3), "{argument} {value}");
        let same = table(&[("h", Value::I32(7))]);
        for key in ["a", "b", "c", "d", "e", "f"] {
            let headers = Properties {
                headers: Some(same.as_table()),
                message_id: Some("same".into()),
                correlation_id: Some("same".into()),
                timestamp: Some(7),
                ..Properties::default()
            };
            client.publish(Message { properties: headers, ..message("x", key, "m") });
        }
        let mut found = got(&mut client).map(|messages| messages.len());
        found.sort_unstable();
        assert_eq!(found, [0, 0, 6], "{argument} {value}");
        // What lacks it goes one way too.
        for key in ["a", "b", "c", "d", "e", "f"] {
            client.publish(message("x", key, "m"));
        }
        let mut found = got(&mut client).map(|messages| messages.len());
        found.sort_unstable();
        assert_eq!(found, [0, 0, 6], "without {argument} {value}");
        client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    };
    fn publish(client: &mut Client, properties: Properties<'_>) {
        client.publish(Message { properties, ..message("x", "same", "m") });
    }
    check("hash-header", "h", &|_, client, headers| {
        publish(client, Properties { headers: Some(headers.as_table()), ..Properties::default() });
    });
    check("hash-property", "message_id", &|text, client, _| {
        publish(client, Properties { message_id: Some(text.into()), ..Properties::default() });
    });
    check("hash-property", "correlation_id", &|text, client, _| {
        publish(client, Properties { correlation_id: Some(text.into()), ..Properties::default() });
    });
    check("hash-property", "timestamp", &|text, client, _| {
        let seconds = text.parse().expect("a number");
        publish(client, Properties { timestamp: Some(seconds), ..Properties::default() });
    });
}

#[test]
fn a_consistent_hash_refuses_what_it_cannot_go_by() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-consistent-hash", &TableBuf::new()) else { return };
    client.ask(exclusive("q"), "declare-ok q 0 0");
    for (key, wanted) in [
        ("0", "The binding key must be greater than 0"),
        ("-1", "The binding key must be greater than 0"),
        ("", "The binding key must be an integer: <<>>"),
        ("heavy", "The binding key must be an integer: <<\"heavy\">>"),
        ("a\"b\\", "The binding key must be an integer: <<\"a\\\"b\\\\\">>"),
        ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
        (" 1", "The binding key must be an integer: <<\" 1\">>"),
        ("\u{1}", "The binding key must be an integer: <<1>>"),
    ] {
        let to_queue = format!("406 (50/20) PRECONDITION_FAILED - {wanted}");
        let to_exchange = format!("406 (40/30) PRECONDITION_FAILED - {wanted}");
        client.refused(bind_exchange("amq.fanout", "x", key), &to_exchange);
        // An empty key and a named queue stay as they are.
        client.refused(bind("q", "x", key), &to_queue);
    }
    client.ask(bind("q", "x", "+01"), "QueueBindOk");
    let mut check = |arguments: &[(&str, Value<'_>)], wanted: &str| {
        let arguments = table(arguments);
        client.refused(
            exchange::Declare {
                arguments: arguments.as_table(),
                ..declare_exchange("y", "x-consistent-hash")
            },
            &format!("406 (40/10) PRECONDITION_FAILED - {wanted}"),
        );
    };
    let (header, property) =
        (("hash-header", Value::LongStr(b"h")), ("hash-property", Value::LongStr(b"message_id")));
    check(&[header, property], "hash-header and hash-property are mutually exclusive");
    check(&[("hash-property", Value::LongStr(b"type"))], "Unsupported property: type");
    // A second declaration is not asked what it hashes.
    let arguments = table(&[header]);
    let again =
        exchange::Declare { arguments: arguments.as_table(), ..declare_exchange("x", "x-consistent-hash") };
    client.ask(again, "ExchangeDeclareOk");
}

#[test]
fn a_hash_argument_of_another_type_is_named() {
    let why = "it crashes the plugin";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client();
    for name in ["hash-header", "hash-property"] {
        let arguments = table(&[(name, Value::I32(1))]);
        client.refused(
            exchange::Declare {
                arguments: arguments.as_table(),
                ..declare_exchange("x", "x-consistent-hash")
            },
            &format!(
                "406 (40/10) PRECONDITION_FAILED - invalid type 'signedint' for arg '{name}' in exchange 'x' in \
                 vhost '/'"
            ),
        );
    }
}

#[test]
fn a_modulus_hash_gives_each_key_one_binding() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-modulus-hash", &TableBuf::new()) else { return };
    client.publish(mandatory("x", "k", "to nobody"));
    client.expect("return 312 NO_ROUTE x/k to nobody");
    for queue in QUEUES {
        declare_and_bind(&mut client, queue, "ignored");
    }
    let bodies = numbers(600);
    let by_key = |body| message("x", body, body);
    let first = places(&mut client, &bodies, by_key);
    assert!((0..3).all(|queue| count(&first, queue) > 130), "{first:?}");
    assert_eq!(places(&mut client, &bodies, by_key), first, "a key keeps its queue");
}

/// A message that is not to be remembered.
fn no_store() -> TableBuf {
    table(&[("x-recent-history-no-store", Value::Bool(true))])
}

#[test]
fn a_recent_history_gives_new_bindings_the_last_messages() {
    let peer = Peer::start();
    let arguments = table(&[("x-recent-history-length", Value::I32(3))]);
    let Some(mut client) = with_exchange(&peer, "x-recent-history", &arguments) else { return };
    client.publish(mandatory("x", "k", "1"));
    client.expect("return 312 NO_ROUTE x/k 1");
    for body in ["2", "3"] {
        client.publish(message("x", "k", body));
    }
    declare_and_bind(&mut client, "q0", "");
    assert_eq!(client.get_all("q0"), ["1", "2", "3"], "what no queue wanted is remembered too");
    let (headers, other) = (no_store(), table(&[("x-recent-history-no-store", Value::Bool(false))]));
    let with = |headers| Properties { headers: Some(headers), ..Properties::default() };
    client.publish(Message { properties: with(headers.as_table()), ..message("x", "k", "not stored") });
    client.publish(Message { properties: with(other.as_table()), ..message("x", "k", "4") });
    assert_eq!(client.get_all("q0"), ["not stored", "4"]);
    // Binding again brings nothing; another binding and another queue do.
    client.ask(bind("q0", "x", ""), "QueueBindOk");
    assert!(client.get_all("q0").is_empty());
    declare_and_bind(&mut client, "q1", "");
    assert_eq!(client.get_all("q1"), ["2", "3", "4"]);
    client.publish(message("x", "k", "5"));
    assert_eq!((client.get_all("q0"), client.get_all("q1")), (vec!["5".to_owned()], vec!["5".to_owned()]));
    client.ask(unbind("q1", "x", ""), "QueueUnbindOk");
    client.ask(bind("q1", "x", ""), "QueueBindOk");
    assert_eq!(client.get_all("q1"), ["3", "4", "5"]);
    // It goes with its exchange.
    client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    client.ask(declare_exchange("x", "x-recent-history"), "ExchangeDeclareOk");
    client.ask(bind("q1", "x", ""), "QueueBindOk");
    assert!(client.get_all("q1").is_empty());
    // They come in their order, however many they are.
    let many = table(&[("x-recent-history-length", Value::I32(600))]);
    client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    let declare =
        exchange::Declare { arguments: many.as_table(), ..declare_exchange("x", "x-recent-history") };
    client.ask(declare, "ExchangeDeclareOk");
    for body in numbers(601) {
        client.publish(message("x", "k", &body));
    }
    declare_and_bind(&mut client, "q2", "");
    assert_eq!(client.get_all("q2"), numbers(601)[1..]);
    client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    client.ask(declare_exchange("x", "x-recent-history"), "ExchangeDeclareOk");
    // Without a length it is twenty.
    for body in numbers(25) {
        client.publish(message("x", "k", &body));
    }
    client.ask(bind("q0", "x", ""), "QueueBindOk");
    assert_eq!(client.get_all("q0"), numbers(25)[5..]);
}

#[test]
fn a_recent_history_is_delivered_to_consumers_and_through_exchanges() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-recent-history", &TableBuf::new()) else { return };
    let properties = Properties { message_id: Some("id".into()), ..Properties::default() };
    client.publish(Message { properties, ..message("x", "a", "1") });
    client.publish(message("x", "b", "2"));
    client.ask(exclusive("q0"), "declare-ok q0 0 0");
    client.ask(crate::support::consume_no_ack("q0", "c"), "consume-ok c");
    client.send(bind("q0", "x", ""));
    let said = [client.next(), client.next(), client.next()];
    let first = said.iter().find(|said| said.to_string() == "deliver c 1 x/a 1").expect("the first");
    assert_eq!(first.properties(), properties);
    assert!(said.iter().any(|said| said.to_string() == "deliver c 2 x/b 2"));
    assert!(said.iter().any(|said| said.to_string() == "QueueBindOk"));
    client.ask(exclusive("q1"), "declare-ok q1 0 0");
    for key in ["a", "b"] {
        client.ask(bind("q1", "amq.direct", key), "QueueBindOk");
    }
    client.ask(bind_exchange("amq.direct", "x", ""), "ExchangeBindOk");
    // To another exchange the plugin sends the newest first.
    let wanted = if peer.is_leveret() { ["1", "2"] } else { ["2", "1"] };
    assert_eq!(client.get_all("q1"), wanted);
}

#[test]
fn what_a_recent_history_takes_is_confirmed_and_returned_as_ever() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-recent-history", &TableBuf::new()) else { return };
    client.confirm_select();
    client.publish(message("x", "k", "confirmed"));
    assert_eq!(client.confirms(1), [(1, true)]);
    client.publish(mandatory("x", "k", "returned"));
    client.expect("return 312 NO_ROUTE x/k returned");
    client.expect("ack 2");
    declare_and_bind(&mut client, "q0", "");
    assert_eq!(client.get_all("q0"), ["confirmed", "returned"]);
}

#[test]
fn the_length_of_a_recent_history_is_checked() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-recent-history", &TableBuf::new()) else { return };
    let mut check = |value: Value<'_>, shown: &str| {
        let arguments = table(&[("x-recent-history-length", value)]);
        client.refused(
            exchange::Declare { arguments: arguments.as_table(), ..declare_exchange("y", "x-recent-history") },
            &format!(
                "406 (40/10) PRECONDITION_FAILED - Invalid argument {shown}, 'x-recent-history-length' must be a \
                 positive integer"
            ),
        );
    };
    check(Value::I32(0), "0");
    check(Value::I64(-5), "-5");
    check(Value::LongStr(b"5"), "<<\"5\">>");
    check(Value::U16(5), "5");
    check(Value::Bool(true), "true");
}

#[test]
fn a_key_filters_what_a_recent_history_gives() {
    let why = "the plugin ignores keys";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client();
    client.ask(declare_exchange("x", "x-recent-history"), "ExchangeDeclareOk");
    for key in ["a.1", "b.1", "a.2"] {
        client.publish(message("x", key, key));
    }
    declare_and_bind(&mut client, "q0", "a.*");
    assert_eq!(client.get_all("q0"), ["a.1", "a.2"]);
    client.publish(message("x", "b.2", "b.2"));
    client.publish(message("x", "a.3", "a.3"));
    assert_eq!(client.get_all("q0"), ["a.3"]);
    // Each binding brings what it wants, as each is a wish of its own.
    client.ask(bind("q0", "x", "b.#"), "QueueBindOk");
    assert_eq!(client.get_all("q0"), ["b.1", "b.2"]);
}

#[test]
fn the_life_of_a_remembered_message_begins_anew() {
    let peer = Peer::start();
    let Some(mut client) = with_exchange(&peer, "x-recent-history", &TableBuf::new()) else { return };
    let properties = Properties { expiration: Some("400".into()), ..Properties::default() };
    client.publish(Message { properties, ..message("x", "k", "m") });
    declare_and_bind(&mut client, "first", "");
    // It is the first queue's clock that says when its time is over.
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let empty = "declare-ok first 0 0";
    let count = |client: &mut Client| {
        client.send(crate::support::passive("first"));
        client.next().to_string()
    };
    while count(&mut client) != empty {
        assert!(std::time::Instant::now() < limit, "a message outlives its time");
    }
    declare_and_bind(&mut client, "second", "");
    assert_eq!(client.get_all("second"), ["m"]);
}
