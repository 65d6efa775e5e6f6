//! The firehose: copies of what is published and delivered.

use leveret_wire::{Properties, TableBuf, Value, method::tx};

use crate::support::{
    Client, Message, Peer, Said, bind, consume_no_ack, declare, declare_exchange, exclusive, get_no_ack,
    message, table,
};

/// A peer whose firehose is on, with a queue `t` that takes all of it.
fn traced() -> Option<(Peer, Client)> {
    let peer = Peer::leveret("the firehose is switched on by an operator", |builder| builder)?;
    assert!(peer.broker().set_tracing("/", true));
    assert!(!peer.broker().set_tracing("nowhere", true));
    let mut tracer = peer.client();
    tracer.ask(exclusive("t"), "declare-ok t 0 0");
    tracer.ask(bind("t", "amq.rabbitmq.trace", "#"), "QueueBindOk");
    Some((peer, tracer))
}

#[track_caller]
fn check(said: &Said, wanted: &[(&str, Value<'_>)]) {
    let properties = said.properties();
    let headers = properties.headers.expect("facts are in the headers");
    let mut found: Vec<_> = headers.iter().collect();
    // It differs each time.
    found.retain(|(name, _)| name.as_bytes() != b"connection");
    let wanted: Vec<_> = wanted.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    assert_eq!(found, wanted);
    assert_eq!(Properties { headers: None, ..properties }, Properties::default());
}

#[test]
fn what_is_published_and_delivered_is_told() {
    let Some((peer, mut tracer)) = traced() else { return };
    let mut client = peer.client();
    client.ask(declare_exchange("x", "fanout"), "ExchangeDeclareOk");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(bind("q", "x", ""), "QueueBindOk");
    client.ask(consume_no_ack("q", "c"), "consume-ok c");
    let own = table(&[("h", Value::Bool(true))]);
    let properties = Properties {
        headers: Some(own.as_table()),
        content_type: Some("text/plain".into()),
        priority: Some(3),
        timestamp: Some(5),
        ..Properties::default()
    };
    client.publish(Message { properties, ..message("x", "k", "m") });
    client.expect("deliver c 1 x/k m");
    let text = |text: &'static str| Value::LongStr(text.as_bytes());
    let keys = leveret_wire::ArrayBuf::new().with(text("k"));
    let queues = leveret_wire::ArrayBuf::new().with(text("q"));
    let described = TableBuf::new()
        .with("content_type", text("text/plain"))
        .with("headers", Value::Table(own.as_table()))
        .with("priority", Value::I32(3))
        .with("timestamp", Value::I32(5));
    let first = [
        ("exchange_name", text("x")),
        ("routing_keys", Value::Array(keys.as_array())),
        ("properties", Value::Table(described.as_table())),
        ("node", text("leveret")),
    ];
    let place = [("vhost", text("/")), ("channel", Value::I32(1)), ("user", text("guest"))];
    let published = [&first[..], &place, &[("routed_queues", Value::Array(queues.as_array()))]].concat();
    let told = tracer.ask(get_no_ack("t"), "get-ok 1 amq.rabbitmq.trace/publish.x m left 1");
    check(&told, &published);
    let delivered = [&first[..], &[("redelivered", Value::I32(0))], &place].concat();
    let told = tracer.ask(get_no_ack("t"), "get-ok 2 amq.rabbitmq.trace/deliver.q m left 0");
    check(&told, &delivered);
}

#[test]
fn what_is_got_is_told_and_the_copies_themselves_are_not() {
    let Some((peer, mut tracer)) = traced() else { return };
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.put(message("", "q", "m"));
    client.ask(get_no_ack("q"), "get-ok 1 /q m left 0");
    tracer.ask(get_no_ack("t"), "get-ok 1 amq.rabbitmq.trace/publish. m left 1");
    tracer.ask(get_no_ack("t"), "get-ok 2 amq.rabbitmq.trace/deliver.q m left 0");
    tracer.ask(get_no_ack("t"), "BasicGetEmpty");
    assert!(peer.broker().set_tracing("/", false));
    client.put(message("", "q", "m"));
    tracer.ask(get_no_ack("t"), "BasicGetEmpty");
}

#[test]
fn what_a_transaction_publishes_is_told_when_it_comes() {
    let Some((peer, mut tracer)) = traced() else { return };
    let mut client = peer.client();
    client.ask(tx::Select {}, "TxSelectOk");
    let copies = leveret_wire::ArrayBuf::new().with(Value::LongStr(b"b"));
    let headers = table(&[("CC", Value::Array(copies.as_array()))]);
    let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
    client.publish(message("", "a", "kept"));
    client.publish(Message { properties, ..message("", "a", "copied") });
    client.ask(tx::Rollback {}, "TxRollbackOk");
    tracer.ask(get_no_ack("t"), "get-ok 1 amq.rabbitmq.trace/publish. kept left 1");
    tracer.ask(get_no_ack("t"), "get-ok 2 amq.rabbitmq.trace/publish. copied left 0");
}
