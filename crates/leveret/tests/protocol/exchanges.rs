//! Exchanges: declared, bound, deleted, and where they send what.

use leveret_wire::{
    Properties, TableBuf, Value,
    method::{exchange, queue},
};

use crate::support::{
    Client, Message, Peer, bind, bind_exchange, declare, declare_exchange, delete, delete_exchange,
    exclusive, mandatory, message, passive_exchange, table, unbind, unbind_exchange,
};

#[test]
fn an_exchange_is_found_again_as_it_was_declared() {
    let peer = Peer::start();
    let mut client = peer.client();
    let plain = declare_exchange("x", "direct");
    let mut check = |first: exchange::Declare<'_>, second: exchange::Declare<'_>, wanted: Option<&str>| {
        client.ask(first, "ExchangeDeclareOk");
        match wanted {
            None => drop(client.ask(second, "ExchangeDeclareOk")),
            Some(text) => {
                client.refused(second, &format!("406 (40/10) PRECONDITION_FAILED - inequivalent arg {text}"));
            }
        }
        client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    };
    let differs = |what, one, other| {
        format!("'{what}' for exchange 'x' in vhost '/': received '{one}' but current is '{other}'")
    };
    check(plain, plain, None);
    check(plain, declare_exchange("x", "fanout"), Some(&differs("type", "fanout", "direct")));
    let durable = exchange::Declare { durable: true, ..plain };
    check(durable, durable, None);
    check(durable, plain, Some(&differs("durable", "false", "true")));
    let auto_delete = exchange::Declare { auto_delete: true, ..plain };
    check(auto_delete, plain, Some(&differs("auto_delete", "false", "true")));
    let internal = exchange::Declare { internal: true, ..plain };
    check(internal, plain, Some(&differs("internal", "false", "true")));
    let all = exchange::Declare { durable: true, auto_delete: true, internal: true, ..plain };
    check(all, all, None);
    check(all, declare_exchange("x", "topic"), Some(&differs("type", "topic", "direct")));
    let arguments = table(&[("anything", Value::I32(1))]);
    check(exchange::Declare { arguments: arguments.as_table(), ..plain }, plain, None);
    client.ask(passive_exchange("amq.match"), "ExchangeDeclareOk");
}

#[test]
fn passive_declare_looks_at_the_name_alone() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare_exchange("x", "topic"), "ExchangeDeclareOk");
    let wrong = exchange::Declare { passive: true, durable: true, ..declare_exchange("x", "nonsense") };
    client.ask(wrong, "ExchangeDeclareOk");
}

#[test]
fn unknown_types_close_the_connection() {
    let peer = Peer::start();
    let check = |kind: &str, wanted: &str| {
        let mut client = peer.client();
        client.send(declare_exchange("x", kind));
        client.expect_connection_close(wanted);
    };
    check("x-nope", "503 (40/10) COMMAND_INVALID - unknown exchange type 'x-nope'");
    check("", "503 (40/10) COMMAND_INVALID - invalid exchange type ''");
    check("Fanout", "503 (40/10) COMMAND_INVALID - unknown exchange type 'Fanout'");
}

#[test]
fn the_predeclared_exchanges_are_there() {
    let peer = Peer::start();
    let mut client = peer.client();
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        client.ask(exchange::Declare { durable: true, ..declare_exchange(name, kind) }, "ExchangeDeclareOk");
    }
}

#[test]
fn delete_may_insist_that_the_exchange_is_unused() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare_exchange("x", "fanout"), "ExchangeDeclareOk");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(bind("q", "x", ""), "QueueBindOk");
    let if_unused = exchange::Delete { if_unused: true, ..delete_exchange("x") };
    client.refused(if_unused, "406 (40/20) PRECONDITION_FAILED - exchange 'x' in vhost '/' in use");
    client.ask(unbind("q", "x", ""), "QueueUnbindOk");
    // Bindings to it are no use of it.
    client.ask(bind_exchange("x", "amq.fanout", ""), "ExchangeBindOk");
    client.ask(if_unused, "ExchangeDeleteOk");
    client.refused(passive_exchange("x"), "404 (40/10) NOT_FOUND - no exchange 'x' in vhost '/'");
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let peer = Peer::start();
    let mut client = peer.client();
    let auto_delete = exchange::Declare { auto_delete: true, ..declare_exchange("x", "direct") };
    let gone = "404 (40/10) NOT_FOUND - no exchange 'x' in vhost '/'";
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(auto_delete, "ExchangeDeclareOk");
    client.ask(unbind("q", "x", "never bound"), "QueueUnbindOk");
    client.ask(bind("q", "x", "a"), "QueueBindOk");
    client.ask(bind("q", "x", "b"), "QueueBindOk");
    client.ask(unbind("q", "x", "a"), "QueueUnbindOk");
    client.ask(passive_exchange("x"), "ExchangeDeclareOk");
    client.ask(unbind("q", "x", "b"), "QueueUnbindOk");
    client.refused(passive_exchange("x"), gone);
    client.ask(auto_delete, "ExchangeDeclareOk");
    client.ask(bind("q", "x", "a"), "QueueBindOk");
    client.ask(delete("q"), "delete-ok 0");
    client.refused(passive_exchange("x"), gone);
    // Bindings between exchanges count where they come from.
    client.ask(auto_delete, "ExchangeDeclareOk");
    client.ask(bind_exchange("x", "amq.fanout", ""), "ExchangeBindOk");
    client.ask(unbind_exchange("x", "amq.fanout", ""), "ExchangeUnbindOk");
    client.ask(passive_exchange("x"), "ExchangeDeclareOk");
    client.ask(bind_exchange("amq.fanout", "x", ""), "ExchangeBindOk");
    client.ask(unbind_exchange("amq.fanout", "x", ""), "ExchangeUnbindOk");
    client.refused(passive_exchange("x"), gone);
}

#[test]
fn methods_without_answer_are_carried_out() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.send(exchange::Declare { nowait: true, ..declare_exchange("x", "fanout") });
    client.send(exchange::Bind { nowait: true, ..bind_exchange("x", "amq.direct", "k") });
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.ask(bind("q", "x", ""), "QueueBindOk");
    client.publish(message("amq.direct", "k", "a"));
    client.send(exchange::Unbind { nowait: true, ..unbind_exchange("x", "amq.direct", "k") });
    client.publish(message("amq.direct", "k", "b"));
    client.send(exchange::Delete { nowait: true, ..delete_exchange("x") });
    client.refused(passive_exchange("x"), "404 (40/10) NOT_FOUND - no exchange 'x' in vhost '/'");
    assert_eq!(client.get_all("q"), ["a"]);
}

/// Queues that are bound to an exchange, each by one key or set of arguments.
struct Routes<'p> {
    client: Client,
    exchange: &'p str,
    queues: Vec<String>,
}

impl<'p> Routes<'p> {
    fn new(peer: &'p Peer, exchange: &'p str, keys: &[&str]) -> Self {
        let mut routes = Self { client: peer.client(), exchange, queues: Vec::new() };
        for key in keys {
            routes.bind(key, key, &TableBuf::new());
        }
        routes
    }

    fn bind(&mut self, name: &str, key: &str, arguments: &TableBuf) {
        let queue = format!("by {name}");
        self.client.ask(exclusive(&queue), &format!("declare-ok {queue} 0 0"));
        let bind = queue::Bind { arguments: arguments.as_table(), ..bind(&queue, self.exchange, key) };
        self.client.ask(bind, "QueueBindOk");
        self.queues.push(queue);
    }

    /// The message reaches the queues of those names, each once.
    #[track_caller]
    fn check(&mut self, key: &str, headers: Option<&TableBuf>, wanted: &[&str]) {
        let properties = Properties { headers: headers.map(TableBuf::as_table), ..Properties::default() };
        self.client.publish(Message { properties, ..message(self.exchange, key, "m") });
        for queue in &self.queues {
            let found = self.client.get_all(queue).len();
            let name = queue.strip_prefix("by ").expect("the prefix of all names");
            assert_eq!(found, usize::from(wanted.contains(&name)), "{queue}: {key:?} {headers:?}");
        }
    }
}

#[test]
fn direct_compares_keys() {
    let peer = Peer::start();
    let mut routes = Routes::new(&peer, "amq.direct", &["a", "A", "a.b", "", "#"]);
    routes.check("a", None, &["a"]);
    routes.check("A", None, &["A"]);
    routes.check("a.b", None, &["a.b"]);
    routes.check("", None, &[""]);
    routes.check("#", None, &["#"]);
    routes.check("x", None, &[]);
}

#[test]
fn fanout_ignores_keys() {
    let peer = Peer::start();
    let mut routes = Routes::new(&peer, "amq.fanout", &["a", "b", ""]);
    routes.check("x", None, &["a", "b", ""]);
    routes.check("", None, &["a", "b", ""]);
}

#[test]
fn topic_matches_words() {
    let peer = Peer::start();
    let keys = ["a.*", "*.*", "*", "#", "a.#", "#.b", "a.#.b", "a.b", "*.b.*", "a..b", "", "#.#", "*.#"];
    let mut routes = Routes::new(&peer, "amq.topic", &keys);
    routes.check("a.b", None, &["a.*", "*.*", "#", "a.#", "#.b", "a.#.b", "a.b", "#.#", "*.#"]);
    routes.check("a", None, &["*", "#", "a.#", "#.#", "*.#"]);
    routes.check("a.", None, &["a.*", "*.*", "#", "a.#", "#.#", "*.#"]);
    routes.check(".", None, &["*.*", "#", "#.#", "*.#"]);
    routes.check("", None, &["#", "", "#.#"]);
    routes.check("a.x.b", None, &["#", "a.#", "#.b", "a.#.b", "#.#", "*.#"]);
    routes.check("a..b", None, &["#", "a.#", "#.b", "a.#.b", "a..b", "#.#", "*.#"]);
    routes.check("x.b.y", None, &["#", "*.b.*", "#.#", "*.#"]);
    routes.check("b", None, &["*", "#", "#.b", "#.#", "*.#"]);
}

#[test]
fn a_message_reaches_a_queue_once_however_many_bindings_match() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    for key in ["a.*", "#", "a.b"] {
        client.ask(bind("q", "amq.topic", key), "QueueBindOk");
        client.ask(bind("q", "amq.topic", key), "QueueBindOk");
    }
    client.publish(message("amq.topic", "a.b", "once"));
    assert_eq!(client.get_all("q"), ["once"]);
    client.ask(unbind("q", "amq.topic", "#"), "QueueUnbindOk");
    client.publish(message("amq.topic", "x", "by none"));
    client.publish(message("amq.topic", "a.x", "by one"));
    assert_eq!(client.get_all("q"), ["by one"]);
}

const ALL: (&str, Value<'_>) = ("x-match", Value::LongStr(b"all"));
const ANY: (&str, Value<'_>) = ("x-match", Value::LongStr(b"any"));
const ALL_WITH_X: (&str, Value<'_>) = ("x-match", Value::LongStr(b"all-with-x"));
const ANY_WITH_X: (&str, Value<'_>) = ("x-match", Value::LongStr(b"any-with-x"));
const PDF: (&str, Value<'_>) = ("format", Value::LongStr(b"pdf"));
const REPORT: (&str, Value<'_>) = ("type", Value::LongStr(b"report"));
const X_ONE: (&str, Value<'_>) = ("x-one", Value::I32(1));

#[test]
fn headers_match_all_or_any() {
    let peer = Peer::start();
    let mut routes = Routes::new(&peer, "amq.headers", &[]);
    let bindings: [(&str, &[_]); 12] = [
        ("none", &[]),
        ("all none", &[ALL]),
        ("any none", &[ANY]),
        ("any-with-x none", &[ANY_WITH_X]),
        ("default", &[PDF, REPORT]),
        ("all", &[ALL, PDF, REPORT]),
        ("any", &[ANY, PDF, REPORT]),
        ("all x", &[ALL, X_ONE]),
        ("any x", &[ANY, X_ONE]),
        ("all-with-x", &[ALL_WITH_X, X_ONE]),
        ("any-with-x", &[ANY_WITH_X, X_ONE, PDF]),
        ("presence", &[("format", Value::Void)]),
    ];
    for (name, arguments) in bindings {
        routes.bind(name, "k", &table(arguments));
    }
    let always = ["none", "all none", "all x"];
    let mut check = |headers: Option<&[(&str, Value<'_>)]>, wanted: &[&str]| {
        let headers = headers.map(table);
        routes.check("any key", headers.as_ref(), &[&always, wanted].concat());
    };
    check(None, &[]);
    check(Some(&[]), &[]);
    check(Some(&[PDF]), &["any", "any-with-x", "presence"]);
    check(Some(&[REPORT]), &["any"]);
    check(Some(&[REPORT, X_ONE, PDF]), &["default", "all", "any", "all-with-x", "any-with-x", "presence"]);
    check(Some(&[X_ONE]), &["all-with-x", "any-with-x"]);
    check(Some(&[("format", Value::I32(1))]), &["presence"]);
    check(Some(&[("format", Value::Void)]), &["presence"]);
}

#[test]
fn header_values_are_compared_by_value() {
    let peer = Peer::start();
    let mut routes = Routes::new(&peer, "amq.headers", &[]);
    let inner = |value| TableBuf::new().with("i", value);
    let (wide, narrow) = (inner(Value::I64(1)), inner(Value::I32(1)));
    let bindings: [(&str, Value<'_>); 9] = [
        ("integer", Value::I32(2)),
        ("double", Value::F64(2.0)),
        ("text", Value::LongStr(b"s")),
        ("octets", Value::Octets(b"s")),
        ("bool", Value::Bool(true)),
        ("timestamp", Value::Timestamp(2)),
        ("table", Value::Table(narrow.as_table())),
        ("one", Value::I32(1)),
        ("text 2", Value::LongStr(b"2")),
    ];
    for (name, value) in bindings {
        routes.bind(name, "", &table(&[("h", value)]));
    }
    let mut check = |value, wanted: &[&str]| {
        routes.check("", Some(&table(&[("h", value)])), wanted);
    };
    for value in [Value::I8(2), Value::U8(2), Value::I16(2), Value::U16(2), Value::U32(2), Value::I64(2)] {
        check(value, &["integer", "double", "timestamp"]);
    }
    check(Value::F64(2.0), &["integer", "double", "timestamp"]);
    check(Value::F32(2.0), &["integer", "double", "timestamp"]);
    check(Value::LongStr(b"s"), &["text", "octets"]);
    check(Value::Octets(b"s"), &["text", "octets"]);
    check(Value::Bool(true), &["bool"]);
    check(Value::Bool(false), &[]);
    check(Value::Timestamp(2), &["integer", "double", "timestamp"]);
    check(Value::Table(narrow.as_table()), &["table"]);
    check(Value::Table(wide.as_table()), &[]);
    check(Value::LongStr(b"2"), &["text 2"]);
    check(Value::I32(1), &["one"]);
}

#[test]
fn a_wrong_match_is_refused() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.ask(declare_exchange("x", "headers"), "ExchangeDeclareOk");
    let mut check = |value, wanted: &str| {
        let arguments = table(&[("x-match", value)]);
        let to_queue = queue::Bind { arguments: arguments.as_table(), ..bind("q", "x", "") };
        client.refused(to_queue, &format!("406 (50/20) PRECONDITION_FAILED - {wanted}"));
        let to_exchange =
            exchange::Bind { arguments: arguments.as_table(), ..bind_exchange("amq.fanout", "x", "") };
        client.refused(to_exchange, &format!("406 (40/30) PRECONDITION_FAILED - {wanted}"));
    };
    check(
        Value::LongStr(b"zz"),
        "Invalid x-match field value <<\"zz\">>; expected all, any, all-with-x, or any-with-x",
    );
    check(Value::I32(1), "Invalid x-match field type signedint (value 1); expected longstr");
    // Other exchanges do not look at it.
    let arguments = table(&[("x-match", Value::I32(1))]);
    client.ask(queue::Bind { arguments: arguments.as_table(), ..bind("q", "amq.fanout", "") }, "QueueBindOk");
}

#[test]
fn bindings_are_told_apart_by_their_arguments() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    let with = |arguments: &[(&str, Value<'_>)]| table(arguments);
    let (narrow, wide) = (with(&[("a", Value::I32(1))]), with(&[("a", Value::I64(1))]));
    let (one, other) = (
        with(&[("b", Value::I32(2)), ("c", Value::I32(3))]),
        with(&[("c", Value::I32(3)), ("b", Value::I32(2))]),
    );
    let bind_with = |arguments: &TableBuf, client: &mut Client| {
        let bind = queue::Bind { arguments: arguments.as_table(), ..bind("q", "amq.direct", "k") };
        client.ask(bind, "QueueBindOk");
    };
    let unbind_with = |arguments: &TableBuf, client: &mut Client| {
        let unbind = queue::Unbind { arguments: arguments.as_table(), ..unbind("q", "amq.direct", "k") };
        client.ask(unbind, "QueueUnbindOk");
    };
    let is_bound = |client: &mut Client| {
        client.publish(message("amq.direct", "k", "m"));
        client.get_all("q").len() == 1
    };
    bind_with(&narrow, &mut client);
    unbind_with(&wide, &mut client);
    assert!(is_bound(&mut client), "another width is another binding");
    unbind_with(&narrow, &mut client);
    assert!(!is_bound(&mut client));
    bind_with(&one, &mut client);
    unbind_with(&other, &mut client);
    assert!(!is_bound(&mut client), "the order of arguments is of no matter");
}

#[test]
fn exchanges_pass_messages_on() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare_exchange("front", "topic"), "ExchangeDeclareOk");
    client
        .ask(exchange::Declare { internal: true, ..declare_exchange("back", "fanout") }, "ExchangeDeclareOk");
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.ask(bind("q", "back", ""), "QueueBindOk");
    client.ask(bind_exchange("back", "front", "logs.#"), "ExchangeBindOk");
    client.publish(message("front", "logs.a", "passed on"));
    client.publish(message("front", "x", "not"));
    assert_eq!(client.get_all("q"), ["passed on"]);
    // In a cycle, and by two ways, it comes once.
    client.ask(bind_exchange("front", "back", ""), "ExchangeBindOk");
    client.ask(bind("q", "front", "#"), "QueueBindOk");
    client.publish(message("front", "logs.b", "once"));
    assert_eq!(client.get_all("q"), ["once"]);
    client.ask(unbind_exchange("back", "front", "logs.#"), "ExchangeUnbindOk");
    client.ask(unbind("q", "front", "#"), "QueueUnbindOk");
    client.publish(mandatory("front", "logs.c", "to nobody"));
    client.expect("return 312 NO_ROUTE front/logs.c to nobody");
    // A deleted exchange takes its bindings along.
    client.ask(bind_exchange("back", "front", "#"), "ExchangeBindOk");
    client.ask(delete_exchange("back"), "ExchangeDeleteOk");
    client.ask(declare_exchange("back", "fanout"), "ExchangeDeclareOk");
    client.ask(bind("q", "back", ""), "QueueBindOk");
    client.publish(message("front", "k", "to the old one"));
    assert!(client.get_all("q").is_empty());
}

#[test]
fn the_default_exchange_knows_every_queue_by_its_name() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.publish(message("", "q", "too early"));
    client.ask(declare("q"), "declare-ok q 0 0");
    client.publish(message("", "q", "in time"));
    assert_eq!(client.get_all("q"), ["in time"]);
    client.ask(delete("q"), "delete-ok 0");
    client.publish(mandatory("", "q", "too late"));
    client.expect("return 312 NO_ROUTE /q too late");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.publish(message("", "q", "again"));
    assert_eq!(client.get_all("q"), ["again"]);
}
