//! Messages and queues whose time runs out, and messages that leave their queue in other ways
//! than to a consumer.

use std::{thread::sleep, time::Duration};

use leveret_wire::{Properties, Table, TableBuf, Value, method::queue};

use crate::support::{
    Client, Message, Peer, Said, ack, bind, cancel, consume, consume_no_ack, declare, declare_exchange,
    declare_with, get, get_no_ack, message, nack, passive, qos, reject, table,
};

const fn number(number: i32) -> Value<'static> {
    Value::I32(number)
}

const fn text(text: &str) -> Value<'_> {
    Value::LongStr(text.as_bytes())
}

/// Arguments by which dead letters go to the queue `dead`.
fn to_dead<'a>(more: &[(&'a str, Value<'a>)]) -> TableBuf {
    let mut arguments =
        table(&[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("dead"))]);
    more.iter().for_each(|(name, value)| arguments.push(name, *value));
    arguments
}

/// The queue `dead` with a consumer, and `q`, whose dead letters go there.
fn with_dead_letters(peer: &Peer, more: &[(&str, Value<'_>)]) -> Client {
    let mut client = peer.client();
    client.ask(declare("dead"), "declare-ok dead 0 0");
    client.ask(declare_with("q", &to_dead(more)), "declare-ok q 0 0");
    client.ask(consume_no_ack("dead", "d"), "consume-ok d");
    client
}

fn expiring<'a>(millis: &'a str, body: &'a str) -> Message<'a> {
    let properties = Properties { expiration: Some(millis.into()), ..Properties::default() };
    Message { properties, ..message("", "q", body) }
}

/// A table as text; times are left out, because they differ.
fn described(table: Table<'_>) -> String {
    let value = |value: Value<'_>| match value {
        Value::LongStr(text) => String::from_utf8_lossy(text).into_owned(),
        Value::I64(count) => format!("{count}l"),
        Value::Timestamp(_) => "T".to_owned(),
        Value::Array(values) => {
            let entries = values.iter().map(|value| match value {
                Value::Table(table) => described(table),
                Value::LongStr(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            });
            format!("[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        other => format!("{other:?}"),
    };
    let fields = table.iter().map(|(name, field)| format!("{name}={}", value(field)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(" "))
}

fn headers(said: &Said) -> String {
    described(said.properties().headers.expect("a dead letter has headers"))
}

#[test]
fn messages_live_as_long_as_the_queue_or_they_themselves_allow() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[("x-message-ttl", number(800))]);
    client.put(message("", "q", "by the queue"));
    client.ask(passive("q"), "declare-ok q 1 0");
    client.expect("deliver d 1 /dead by the queue");
    client.ask(passive("q"), "declare-ok q 0 0");
    client.put(expiring("30", "by itself"));
    client.expect("deliver d 2 /dead by itself");
    client.put(expiring("60000", "the lower of both"));
    client.expect("deliver d 3 /dead the lower of both");
}

#[test]
fn a_message_expires_at_the_head_of_its_queue() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[]);
    client.put(expiring("1500", "first"));
    client.put(expiring("1", "second"));
    client.put(message("", "q", "third"));
    sleep(Duration::from_millis(50));
    client.ask(passive("q"), "declare-ok q 3 0");
    client.expect_all(&["deliver d 1 /dead first", "deliver d 2 /dead second"]);
    assert_eq!(client.get_all("q"), ["third"]);
}

#[test]
fn a_message_without_any_time_goes_to_a_waiting_consumer_or_nowhere() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[("x-message-ttl", number(0))]);
    client.publish(message("", "q", "nobody waits"));
    client.expect("deliver d 1 /dead nobody waits");
    client.ask(qos(1), "BasicQosOk");
    client.ask(consume("q", "c"), "consume-ok c");
    client.publish(message("", "q", "taken"));
    client.expect("deliver c 2 /q taken");
    client.publish(message("", "q", "no room"));
    client.expect("deliver d 3 /dead no room");
    // What comes back has no time left.
    client.send(nack(2, false, true));
    client.expect("deliver d 4 /dead taken");
}

#[test]
fn requeueing_gives_no_new_life() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[("x-message-ttl", number(600))]);
    client.put(message("", "q", "m"));
    client.ask(get("q"), "get-ok 1 /q m left 0");
    sleep(Duration::from_millis(700));
    client.send(nack(1, false, true));
    client.expect("deliver d 2 /dead m");
}

#[test]
fn an_unused_queue_goes() {
    let peer = Peer::start();
    let mut client = peer.client();
    let arguments = table(&[("x-expires", number(1000))]);
    client.ask(declare_with("q", &arguments), "declare-ok q 0 0");
    for _ in 0..3 {
        sleep(Duration::from_millis(500));
        client.ask(get("q"), "BasicGetEmpty");
    }
    client.ask(consume("q", "c"), "consume-ok c");
    sleep(Duration::from_millis(1500));
    client.ask(passive("q"), "declare-ok q 0 1");
    client.ask(cancel("c"), "cancel-ok c");
    sleep(Duration::from_millis(1500));
    client.refused(passive("q"), "404 (50/10) NOT_FOUND - no queue 'q' in vhost '/'");
}

#[test]
fn a_dead_letter_says_where_it_comes_from() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[]);
    client.ask(declare_exchange("x", "fanout"), "ExchangeDeclareOk");
    client.ask(bind("q", "x", ""), "QueueBindOk");
    let own = table(&[("z", text("kept")), ("a", text("too"))]);
    let properties = Properties {
        headers: Some(own.as_table()),
        expiration: Some("20".into()),
        priority: Some(3),
        ..Properties::default()
    };
    client.put(Message { properties, ..message("x", "key", "m") });
    let dead = client.expect("deliver d 1 /dead m");
    let found = dead.properties();
    assert_eq!((found.expiration, found.priority), (None, Some(3)));
    assert_eq!(
        headers(&dead),
        "{a=too x-death=[{count=1l reason=expired queue=q time=T exchange=x routing-keys=[key] \
         original-expiration=20}] x-first-death-exchange=x x-first-death-queue=q x-first-death-reason=expired z=kept}"
    );
}

#[test]
fn what_a_consumer_refuses_is_a_dead_letter_and_counted_again_each_time() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[]);
    client.put(message("", "q", "m"));
    client.ask(get("q"), "get-ok 1 /q m left 0");
    client.send(reject(1, false));
    let dead = client.expect("deliver d 2 /dead m");
    let again = Message {
        properties: Properties { headers: dead.properties().headers, ..Properties::default() },
        ..message("", "q", "m")
    };
    client.put(again);
    client.ask(get("q"), "get-ok 3 /q m left 0");
    client.send(nack(3, false, false));
    let dead = client.expect("deliver d 4 /dead m");
    assert_eq!(
        headers(&dead),
        "{x-death=[{count=2l exchange= queue=q reason=rejected routing-keys=[q] time=T}] x-first-death-exchange= \
         x-first-death-queue=q x-first-death-reason=rejected}"
    );
}

#[test]
fn several_refused_at_once_keep_their_order() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[]);
    for n in 1..=3 {
        client.put(message("", "q", &n.to_string()));
    }
    client.ask(get("q"), "get-ok 1 /q 1 left 2");
    client.ask(get("q"), "get-ok 2 /q 2 left 1");
    client.ask(get("q"), "get-ok 3 /q 3 left 0");
    client.send(nack(0, true, false));
    client.expect_all(&["deliver d 4 /dead 1", "deliver d 5 /dead 2", "deliver d 6 /dead 3"]);
}

#[test]
fn what_does_not_fit_is_a_dead_letter() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[("x-max-length", number(1))]);
    client.put(message("", "q", "old"));
    client.put(message("", "q", "new"));
    let dead = client.expect("deliver d 1 /dead old");
    assert!(headers(&dead).contains("reason=maxlen"), "{}", headers(&dead));
    assert_eq!(client.get_all("q"), ["new"]);
}

#[test]
fn a_publish_may_be_refused_and_a_dead_letter() {
    let peer = Peer::start();
    let overflow = ("x-overflow", text("reject-publish-dlx"));
    let mut client = with_dead_letters(&peer, &[("x-max-length", number(1)), overflow]);
    client.confirm_select();
    client.publish(message("", "q", "old"));
    assert_eq!(client.confirms(1), [(1, true)]);
    client.publish(message("", "q", "new"));
    let said = [client.next().to_string(), client.next().to_string()];
    assert!(said.iter().any(|line| line.starts_with("nack 2")), "{said:?}");
    assert!(said.iter().any(|line| line == "deliver d 1 /dead new"), "{said:?}");
    assert_eq!(client.get_all("q"), ["old"]);
}

#[test]
fn a_cycle_ends_unless_somebody_refuses() {
    let peer = Peer::start();
    let mut client = peer.client();
    let arguments = table(&[
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("q")),
        ("x-message-ttl", number(20)),
    ]);
    client.ask(declare_with("q", &arguments), "declare-ok q 0 0");
    client.publish(message("", "q", "round"));
    sleep(Duration::from_millis(500));
    client.ask(passive("q"), "declare-ok q 0 0");
    let endless = table(&[("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("r"))]);
    client.ask(declare_with("r", &endless), "declare-ok r 0 0");
    client.ask(consume("r", "c"), "consume-ok c");
    client.publish(message("", "r", "refused"));
    for delivery in 1..4 {
        client.expect(&format!("deliver c {delivery} /r refused"));
        client.send(reject(delivery, false));
    }
    client.expect("deliver c 4 /r refused");
}

#[test]
fn dead_letters_take_their_own_key_or_keep_the_one_they_had() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare_exchange("graves", "direct"), "ExchangeDeclareOk");
    let keeping = table(&[("x-dead-letter-exchange", text("graves")), ("x-max-length", number(0))]);
    client.ask(declare_with("q", &keeping), "declare-ok q 0 0");
    client.ask(declare("dead"), "declare-ok dead 0 0");
    client.ask(bind("dead", "graves", "q"), "QueueBindOk");
    client.put(message("", "q", "m"));
    client.ask(get_no_ack("dead"), "get-ok 1 graves/q m left 0");
    // Where there is no such exchange, they are gone.
    let nowhere = table(&[("x-dead-letter-exchange", text("nowhere")), ("x-max-length", number(0))]);
    client.ask(declare_with("lost", &nowhere), "declare-ok lost 0 0");
    client.put(message("", "lost", "m"));
    client.ask(passive("lost"), "declare-ok lost 0 0");
}

#[test]
fn deleting_and_purging_make_no_dead_letters() {
    let peer = Peer::start();
    let mut client = with_dead_letters(&peer, &[]);
    client.put(message("", "q", "purged"));
    client.ask(crate::support::purge("q"), "purge-ok 1");
    client.put(message("", "q", "deleted"));
    client.ask(crate::support::delete("q"), "delete-ok 1");
    client.expect_silence();
}

#[test]
fn a_quorum_queue_counts_how_often_a_message_came_back() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("dead"), "declare-ok dead 0 0");
    let arguments = to_dead(&[("x-queue-type", text("quorum")), ("x-delivery-limit", number(2))]);
    let quorum = queue::Declare { durable: true, ..declare_with("q", &arguments) };
    client.ask(quorum, "declare-ok q 0 0");
    client.ask(consume_no_ack("dead", "d"), "consume-ok d");
    client.ask(consume("q", "c"), "consume-ok c");
    client.publish(message("", "q", "m"));
    assert_eq!(client.expect("deliver c 1 /q m").properties().headers, None);
    client.send(nack(1, false, true));
    let counts = |said: &Said| headers(said);
    assert_eq!(counts(&client.expect("deliver c 2 /q m redelivered")), "{x-delivery-count=1l}");
    client.send(reject(2, true));
    assert_eq!(counts(&client.expect("deliver c 3 /q m redelivered")), "{x-delivery-count=2l}");
    client.send(nack(3, false, true));
    let dead = client.expect("deliver d 4 /dead m");
    assert!(headers(&dead).contains("reason=delivery_limit"), "{}", headers(&dead));
}

#[test]
fn what_has_no_time_left_stays_behind_a_higher_priority() {
    let peer = Peer::start();
    let mut client = peer.client();
    let arguments = table(&[("x-max-priority", number(5)), ("x-max-length", number(2))]);
    client.ask(declare_with("q", &arguments), "declare-ok q 0 0");
    let properties = Properties { priority: Some(1), ..Properties::default() };
    client.put(Message { properties, ..message("", "q", "high") });
    client.put(expiring("0", "over"));
    client.ask(passive("q"), "declare-ok q 2 0");
    // The queue is too long by what nobody will get, and the first one goes for it.
    client.put(message("", "q", "low"));
    assert_eq!(client.get_all("q"), ["low"]);
}

#[test]
fn higher_priorities_go_first() {
    let peer = Peer::start();
    let mut client = peer.client();
    let arguments = table(&[("x-max-priority", number(5))]);
    client.ask(declare_with("q", &arguments), "declare-ok q 0 0");
    let mut put = |priority: Option<u8>, body: &str| {
        let properties = Properties { priority, ..Properties::default() };
        client.put(Message { properties, ..message("", "q", body) });
    };
    put(None, "none");
    put(Some(1), "1");
    put(Some(9), "above");
    put(Some(5), "5");
    put(Some(0), "0");
    put(Some(1), "1 again");
    client.ask(get("q"), "get-ok 1 /q above left 5");
    client.send(nack(1, false, true));
    assert_eq!(client.get_all("q"), ["above", "5", "1", "1 again", "none", "0"]);
}

#[test]
fn consumers_of_higher_priority_come_first() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume_no_ack("q", "low"), "consume-ok low");
    client.ask(qos(2), "BasicQosOk");
    let priority = table(&[("x-priority", number(10))]);
    let high =
        leveret_wire::method::basic::Consume { arguments: priority.as_table(), ..consume("q", "high") };
    client.ask(high, "consume-ok high");
    client.publish(message("", "q", "1"));
    client.expect("deliver high 1 /q 1");
    client.publish(message("", "q", "2"));
    client.expect("deliver high 2 /q 2");
    client.publish(message("", "q", "3"));
    client.expect("deliver low 3 /q 3");
    client.send(ack(1));
    client.publish(message("", "q", "4"));
    client.expect("deliver high 4 /q 4");
}

#[test]
fn one_consumer_is_active_and_the_next_takes_over() {
    let peer = Peer::start();
    let mut client = peer.client();
    let arguments = table(&[("x-single-active-consumer", Value::Bool(true))]);
    client.ask(declare_with("q", &arguments), "declare-ok q 0 0");
    client.ask(consume("q", "first"), "consume-ok first");
    client.ask(consume("q", "second"), "consume-ok second");
    for n in 1..=3 {
        client.publish(message("", "q", &n.to_string()));
        client.expect(&format!("deliver first {n} /q {n}"));
    }
    client.ask(cancel("first"), "cancel-ok first");
    client.publish(message("", "q", "4"));
    client.expect("deliver second 4 /q 4");
    let exclusive = leveret_wire::method::basic::Consume { exclusive: true, ..consume("q", "alone") };
    client.refused(exclusive, "403 (60/20) ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use");
    // What the first was given is there again, for the one who comes now.
    client.ask(consume("q", "third"), "consume-ok third");
    client.expect_unordered(&[
        "deliver third 1 /q 1 redelivered",
        "deliver third 2 /q 2 redelivered",
        "deliver third 3 /q 3 redelivered",
        "deliver third 4 /q 4 redelivered",
    ]);
}
