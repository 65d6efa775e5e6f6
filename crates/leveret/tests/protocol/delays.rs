//! Messages that wait at an exchange of type `x-delayed-message`, a plugin that RabbitMQ's packages
//! do not have.

use std::time::{Duration, Instant};

use leveret_wire::{
    Properties, TableBuf, Value,
    method::{exchange, tx},
};

use crate::support::{
    Client, Message, Peer, bind, bind_exchange, consume_no_ack, declare_exchange, delete_exchange, exclusive,
    get_no_ack, mandatory, message, passive, table,
};

const WHY: &str = "it has no delayed messages";

fn start() -> Option<(Peer, Client)> {
    let peer = Peer::leveret(WHY, |builder| builder)?;
    let client = peer.client();
    Some((peer, client))
}

/// Declares the delayed exchange `x` that routes as that type does.
fn declare_delayed(client: &mut Client, kind: &str) {
    let arguments = table(&[("x-delayed-type", Value::LongStr(kind.as_bytes()))]);
    let declare =
        exchange::Declare { arguments: arguments.as_table(), ..declare_exchange("x", "x-delayed-message") };
    client.ask(declare, "ExchangeDeclareOk");
}

fn declare_and_bind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    client.ask(exclusive(queue), &format!("declare-ok {queue} 0 0"));
    client.ask(bind(queue, exchange, key), "QueueBindOk");
}

fn delay(millis: i32) -> TableBuf {
    table(&[("x-delay", Value::I32(millis))])
}

fn with_headers<'a>(message: Message<'a>, headers: &'a TableBuf) -> Message<'a> {
    let properties = Properties { headers: Some(headers.as_table()), ..message.properties };
    Message { properties, ..message }
}

#[test]
fn messages_come_when_their_time_has_come() {
    let Some((_peer, mut client)) = start() else { return };
    declare_delayed(&mut client, "direct");
    declare_and_bind(&mut client, "q", "x", "k");
    client.ask(consume_no_ack("q", "c"), "consume-ok c");
    let begun = Instant::now();
    client.publish(with_headers(message("x", "k", "late"), &delay(600)));
    client.publish(with_headers(message("x", "k", "early"), &delay(200)));
    client.publish(message("x", "k", "now"));
    client.publish(with_headers(message("x", "k", "negative"), &delay(-5)));
    client.expect("deliver c 1 x/k now");
    let negative = client.expect("deliver c 2 x/k negative");
    assert_eq!(negative.properties().headers, Some(delay(-5).as_table()), "it is left alone");
    let early = client.expect("deliver c 3 x/k early");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(early.properties().headers, Some(delay(-200).as_table()));
    client.expect("deliver c 4 x/k late");
    assert!(begun.elapsed() >= Duration::from_millis(600));
}

#[test]
fn a_delayed_message_is_routed_when_its_time_has_come() {
    let Some((_peer, mut client)) = start() else { return };
    declare_delayed(&mut client, "topic");
    client.publish(with_headers(message("x", "a.b", "m"), &delay(300)));
    client.publish(with_headers(message("x", "b.b", "dropped"), &delay(300)));
    declare_and_bind(&mut client, "q", "x", "a.*");
    client.ask(consume_no_ack("q", "c"), "consume-ok c");
    client.expect("deliver c 1 x/a.b m");
    client.publish(message("x", "a.b", "at once"));
    client.expect("deliver c 2 x/a.b at once");
}

#[test]
fn a_delayed_message_is_confirmed_at_once_and_not_returned() {
    let Some((_peer, mut client)) = start() else { return };
    declare_delayed(&mut client, "direct");
    client.confirm_select();
    client.publish(with_headers(mandatory("x", "nowhere", "m"), &delay(200)));
    assert_eq!(client.confirms(1), [(1, true)]);
    client.publish(mandatory("x", "nowhere", "n"));
    client.expect("return 312 NO_ROUTE x/nowhere n");
    client.expect("ack 2");
}

#[test]
fn a_delay_holds_on_the_way_from_another_exchange_and_for_copies() {
    let Some((_peer, mut client)) = start() else { return };
    declare_delayed(&mut client, "direct");
    client.ask(bind_exchange("x", "amq.fanout", ""), "ExchangeBindOk");
    declare_and_bind(&mut client, "at once", "amq.fanout", "");
    declare_and_bind(&mut client, "late", "x", "copy");
    client.ask(consume_no_ack("late", "c"), "consume-ok c");
    let keys = leveret_wire::ArrayBuf::new().with(Value::LongStr(b"copy"));
    let headers = delay(200).with("CC", Value::Array(keys.as_array()));
    client.publish(with_headers(message("amq.fanout", "k", "m"), &headers));
    let said = client.ask(get_no_ack("at once"), "get-ok 1 amq.fanout/k m left 0");
    assert_eq!(said.properties().headers, Some(headers.as_table()), "there it did not wait");
    client.expect("deliver c 2 amq.fanout/k m");
}

#[test]
fn a_transaction_delays_from_its_commit_on() {
    let Some((_peer, mut client)) = start() else { return };
    declare_delayed(&mut client, "fanout");
    declare_and_bind(&mut client, "q", "x", "");
    client.ask(consume_no_ack("q", "c"), "consume-ok c");
    client.ask(tx::Select {}, "TxSelectOk");
    client.publish(with_headers(message("x", "k", "rolled back"), &delay(1)));
    client.ask(tx::Rollback {}, "TxRollbackOk");
    client.publish(with_headers(message("x", "k", "committed"), &delay(1)));
    client.ask(tx::Commit {}, "TxCommitOk");
    client.expect("deliver c 1 x/k committed");
}

#[test]
fn a_message_whose_exchange_is_gone_is_dropped_when_it_is_due() {
    let Some((peer, mut client)) = start() else { return };
    declare_delayed(&mut client, "fanout");
    declare_and_bind(&mut client, "q", "x", "");
    client.publish(with_headers(message("x", "k", "m"), &delay(100)));
    client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    let limit = Instant::now() + Duration::from_secs(10);
    while peer.broker().memory_octets() > 0 {
        assert!(Instant::now() < limit, "the message is still there");
        client.ask(passive("q"), "declare-ok q 0 0");
    }
}

#[test]
fn a_delayed_exchange_names_its_inner_type() {
    let Some((peer, mut client)) = start() else { return };
    let wrong = "406 (40/10) PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing \
                 exchange type";
    let mut check = |arguments: &[(&str, Value<'_>)], wanted: &str| {
        let arguments = table(arguments);
        client.refused(
            exchange::Declare {
                arguments: arguments.as_table(),
                ..declare_exchange("x", "x-delayed-message")
            },
            wanted,
        );
    };
    let inner = |name: &'static [u8]| ("x-delayed-type", Value::LongStr(name));
    check(&[], wrong);
    check(&[("x-delayed-type", Value::I32(1))], wrong);
    check(&[inner(b"x-delayed-message")], wrong);
    check(
        &[inner(b"x-consistent-hash"), ("hash-property", Value::LongStr(b"type"))],
        "406 (40/10) PRECONDITION_FAILED - Unsupported property: type",
    );
    declare_delayed(&mut client, "x-consistent-hash");
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.refused(
        bind("q", "x", "heavy"),
        "406 (50/20) PRECONDITION_FAILED - The binding key must be an integer: <<\"heavy\">>",
    );
    let mut client = peer.client();
    let arguments = table(&[("x-delayed-type", Value::LongStr(b"nope"))]);
    client.send(exchange::Declare {
        arguments: arguments.as_table(),
        ..declare_exchange("y", "x-delayed-message")
    });
    client.expect_connection_close("503 (40/10) COMMAND_INVALID - unknown exchange type 'nope'");
}
