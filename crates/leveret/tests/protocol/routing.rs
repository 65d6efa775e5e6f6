//! Ways that a message goes beside its binding: the alternate exchange, and the keys of `CC` and
//! `BCC`.

use leveret_wire::{ArrayBuf, Properties, TableBuf, Value, method::exchange};

use crate::support::{
    Client, Message, Peer, bind, bind_exchange, declare_exchange, delete_exchange, exclusive, get_no_ack,
    mandatory, message, table, unbind,
};

fn alternate(name: &str) -> TableBuf {
    table(&[("alternate-exchange", Value::LongStr(name.as_bytes()))])
}

/// Declares a direct exchange with an alternate.
fn declare_with_alternate(client: &mut Client, name: &str, other: &str) {
    let arguments = alternate(other);
    let declare = exchange::Declare { arguments: arguments.as_table(), ..declare_exchange(name, "direct") };
    client.ask(declare, "ExchangeDeclareOk");
}

fn declare_and_bind(client: &mut Client, queue: &str, exchange: &str, key: &str) {
    client.ask(exclusive(queue), &format!("declare-ok {queue} 0 0"));
    client.ask(bind(queue, exchange, key), "QueueBindOk");
}

#[test]
fn an_alternate_exchange_takes_what_was_not_routed() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_with_alternate(&mut client, "first", "second");
    client.publish(mandatory("first", "k", "to nobody"));
    client.expect("return 312 NO_ROUTE first/k to nobody");
    // It may come later, and be chained.
    declare_with_alternate(&mut client, "second", "third");
    client.ask(declare_exchange("third", "fanout"), "ExchangeDeclareOk");
    declare_and_bind(&mut client, "wanted", "first", "k");
    declare_and_bind(&mut client, "rest", "third", "");
    client.publish(mandatory("first", "k", "bound"));
    client.publish(mandatory("first", "x", "not bound"));
    assert_eq!(client.get_all("wanted"), ["bound"]);
    assert_eq!(client.get_all("rest"), ["not bound"]);
    declare_and_bind(&mut client, "between", "second", "x");
    client.publish(mandatory("first", "x", "on the way"));
    assert_eq!(client.get_all("between"), ["on the way"]);
    client.ask(unbind("between", "second", "x"), "QueueUnbindOk");
    client.publish(mandatory("first", "x", "at the end"));
    assert_eq!(client.get_all("rest"), ["at the end"]);
    client.ask(delete_exchange("second"), "ExchangeDeleteOk");
    client.publish(mandatory("first", "x", "gone"));
    client.expect("return 312 NO_ROUTE first/x gone");
    assert!(client.get_all("rest").is_empty());
}

#[test]
fn what_an_alternate_exchange_routes_is_confirmed_and_not_returned() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_with_alternate(&mut client, "x", "amq.fanout");
    declare_and_bind(&mut client, "q", "amq.fanout", "");
    client.confirm_select();
    client.publish(mandatory("x", "k", "a"));
    client.publish(message("x", "k", "b"));
    assert_eq!(client.confirms(2), [(1, true), (2, true)]);
    assert_eq!(client.get_all("q"), ["a", "b"]);
}

#[test]
fn alternates_in_a_circle_and_the_default_exchange_route_nowhere() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_with_alternate(&mut client, "one", "other");
    declare_with_alternate(&mut client, "other", "one");
    declare_with_alternate(&mut client, "self", "self");
    declare_with_alternate(&mut client, "nameless", "");
    client.ask(exclusive("q"), "declare-ok q 0 0");
    for name in ["one", "self", "nameless"] {
        client.publish(mandatory(name, "q", "to nobody"));
        client.expect(&format!("return 312 NO_ROUTE {name}/q to nobody"));
    }
}

#[test]
fn every_exchange_on_the_way_has_its_own_alternate() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_with_alternate(&mut client, "back", "amq.fanout");
    client.ask(declare_exchange("front", "fanout"), "ExchangeDeclareOk");
    client.ask(bind_exchange("back", "front", ""), "ExchangeBindOk");
    declare_and_bind(&mut client, "q", "front", "");
    declare_and_bind(&mut client, "rest", "amq.fanout", "");
    client.publish(message("front", "k", "both"));
    assert_eq!(client.get_all("q"), ["both"]);
    assert_eq!(client.get_all("rest"), ["both"]);
    // A binding that leads where the message is already is one all the same.
    client.ask(bind("q", "back", "k"), "QueueBindOk");
    client.publish(message("front", "k", "one"));
    assert_eq!(client.get_all("q"), ["one"]);
    assert!(client.get_all("rest").is_empty());
    // And so is one to an exchange that leads nowhere.
    declare_with_alternate(&mut client, "dead end", "amq.fanout");
    client.ask(declare_exchange("empty", "fanout"), "ExchangeDeclareOk");
    client.ask(bind_exchange("empty", "dead end", "k"), "ExchangeBindOk");
    client.publish(mandatory("dead end", "k", "nobody"));
    client.expect("return 312 NO_ROUTE dead end/k nobody");
    client.publish(message("dead end", "x", "rest"));
    assert_eq!(client.get_all("rest"), ["rest"]);
}

#[test]
fn an_alternate_exchange_may_be_internal_and_of_any_type() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_with_alternate(&mut client, "x", "inner");
    let inner = exchange::Declare { internal: true, ..declare_exchange("inner", "topic") };
    client.ask(inner, "ExchangeDeclareOk");
    declare_and_bind(&mut client, "q", "inner", "a.*");
    client.publish(message("x", "a.b", "matches"));
    client.publish(message("x", "b.a", "does not"));
    assert_eq!(client.get_all("q"), ["matches"]);
    // One that looks at headers, where other routes are kept by their key.
    declare_with_alternate(&mut client, "y", "amq.headers");
    client.ask(exclusive("h"), "declare-ok h 0 0");
    let arguments = table(&[("h", Value::I32(1))]);
    let by_header =
        leveret_wire::method::queue::Bind { arguments: arguments.as_table(), ..bind("h", "amq.headers", "") };
    client.ask(by_header, "QueueBindOk");
    let properties = Properties { headers: Some(arguments.as_table()), ..Properties::default() };
    client.publish(message("y", "k", "without"));
    client.publish(Message { properties, ..message("y", "k", "with") });
    client.publish(message("y", "k", "without"));
    assert_eq!(client.get_all("h"), ["with"]);
}

#[test]
fn an_alternate_exchange_is_checked_and_compared() {
    let peer = Peer::start();
    let mut client = peer.client();
    fn with(value: Value<'_>) -> TableBuf {
        table(&[("alternate-exchange", value)])
    }
    let mut check = |first: Option<Value<'_>>, second: Option<Value<'_>>, wanted: Option<&str>| {
        let (first, second) =
            (first.map_or_else(TableBuf::new, with), second.map_or_else(TableBuf::new, with));
        let plain = declare_exchange("x", "direct");
        client.ask(exchange::Declare { arguments: first.as_table(), ..plain }, "ExchangeDeclareOk");
        let again = exchange::Declare { arguments: second.as_table(), ..plain };
        match wanted {
            None => drop(client.ask(again, "ExchangeDeclareOk")),
            Some(difference) => client.refused(
                again,
                &format!(
                    "406 (40/10) PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in \
                     vhost '/': {difference}"
                ),
            ),
        }
        client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    };
    let (a, b) = (Value::LongStr(b"a"), Value::LongStr(b"b"));
    check(Some(a), Some(a), None);
    check(Some(a), Some(b), Some("received 'b' but current is 'a'"));
    check(Some(a), None, Some("received none but current is the value 'a' of type 'longstr'"));
    check(None, Some(a), Some("received the value 'a' of type 'longstr' but current is none"));
    check(Some(a), Some(Value::I32(1)), Some("received '1' but current is 'a'"));
    for (value, kind) in [(Value::I32(1), "signedint"), (Value::Void, "void"), (Value::Bool(true), "bool")] {
        let arguments = with(value);
        client.refused(
            exchange::Declare { arguments: arguments.as_table(), ..declare_exchange("x", "direct") },
            &format!(
                "406 (40/10) PRECONDITION_FAILED - invalid type '{kind}' for arg 'alternate-exchange' in exchange \
                 'x' in vhost '/'"
            ),
        );
    }
}

fn texts(texts: &[&str]) -> ArrayBuf {
    texts.iter().fold(ArrayBuf::new(), |array, text| array.with(Value::LongStr(text.as_bytes())))
}

/// Headers with these further keys.
fn copies(open: &[&str], blind: &[&str]) -> TableBuf {
    let (open_keys, blind_keys) = (texts(open), texts(blind));
    let mut headers = TableBuf::new();
    if !open.is_empty() {
        headers.push("CC", Value::Array(open_keys.as_array()));
    }
    if !blind.is_empty() {
        headers.push("BCC", Value::Array(blind_keys.as_array()));
    }
    headers
}

fn with_headers<'a>(message: Message<'a>, headers: &'a TableBuf) -> Message<'a> {
    let properties = Properties { headers: Some(headers.as_table()), ..message.properties };
    Message { properties, ..message }
}

#[test]
fn copies_go_by_further_keys_once_to_each_queue() {
    let peer = Peer::start();
    let mut client = peer.client();
    for key in ["a", "b", "c"] {
        declare_and_bind(&mut client, key, "amq.direct", key);
    }
    client.ask(bind("a", "amq.direct", "b"), "QueueBindOk");
    let mut check = |exchange: &str, key: &str, open: &[&str], blind: &[&str], wanted: [bool; 3]| {
        let headers = copies(open, blind);
        client.publish(with_headers(message(exchange, key, "m"), &headers));
        let found = ["a", "b", "c"].map(|queue| client.get_all(queue).len());
        assert_eq!(found, wanted.map(usize::from), "{exchange}: {key} {open:?} {blind:?}");
    };
    check("amq.direct", "a", &["b"], &["c"], [true, true, true]);
    check("amq.direct", "a", &["a", "b"], &["b"], [true, true, false]);
    check("amq.direct", "c", &["nowhere"], &[], [false, false, true]);
    check("amq.direct", "nowhere", &[], &["c"], [false, false, true]);
    check("", "b", &["c", "b"], &["a", "nowhere"], [true, true, true]);
    check("", "nowhere", &["c"], &[], [false, false, true]);
}

#[test]
fn copies_go_by_topics_and_on_through_exchanges() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_and_bind(&mut client, "words", "amq.topic", "*.b");
    client.ask(bind_exchange("amq.direct", "amq.topic", "on"), "ExchangeBindOk");
    declare_and_bind(&mut client, "direct", "amq.direct", "x.b");
    let headers = copies(&["x.b"], &["on"]);
    client.publish(with_headers(message("amq.topic", "nowhere", "m"), &headers));
    assert_eq!(client.get_all("words"), ["m"]);
    assert_eq!(client.get_all("direct"), ["m"], "all keys go on with it");
}

#[test]
fn one_key_that_is_wanted_keeps_a_message_from_the_alternate_exchange() {
    let peer = Peer::start();
    let mut client = peer.client();
    declare_with_alternate(&mut client, "x", "amq.fanout");
    declare_and_bind(&mut client, "q", "x", "k");
    declare_and_bind(&mut client, "rest", "amq.fanout", "");
    let headers = copies(&["k"], &[]);
    client.publish(with_headers(message("x", "nowhere", "wanted"), &headers));
    client.publish(message("x", "nowhere", "rest"));
    assert_eq!(client.get_all("q"), ["wanted"]);
    assert_eq!(client.get_all("rest"), ["rest"]);
}

#[test]
fn blind_copies_do_not_show() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    let mut tag = 0;
    let mut check = |headers: &TableBuf, wanted: &TableBuf| {
        tag += 1;
        let shown = Properties { headers: Some(wanted.as_table()), ..Properties::default() };
        client.publish(with_headers(message("", "q", "m"), headers));
        let said = client.ask(get_no_ack("q"), &format!("get-ok {tag} /q m left 0"));
        assert_eq!(said.properties(), shown);
        client.publish(with_headers(mandatory("amq.direct", "nowhere", "m"), headers));
        let said = client.expect("return 312 NO_ROUTE amq.direct/nowhere m");
        assert_eq!(said.properties(), shown);
    };
    check(&copies(&["q"], &["nothing"]), &copies(&["q"], &[]));
    check(&copies(&[], &["nothing"]), &TableBuf::new());
    check(&TableBuf::new(), &TableBuf::new());
    let other = TableBuf::new().with("h", Value::I32(1));
    let empty = ArrayBuf::new();
    check(&other.clone().with("BCC", Value::Array(empty.as_array())), &other);
}

#[test]
fn what_is_no_text_among_the_copies_means_nothing() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    let keys = ArrayBuf::new().with(Value::I32(1)).with(Value::LongStr(b"q")).with(Value::Void);
    let headers = TableBuf::new().with("CC", Value::Array(keys.as_array()));
    client.publish(with_headers(message("", "nowhere", "m"), &headers));
    assert_eq!(client.get_all("q"), ["m"]);
}

#[test]
fn copies_are_refused_after_the_exchange_and_the_user_were_looked_at() {
    let peer = Peer::start();
    let mut client = peer.client();
    let headers = table(&[("CC", Value::LongStr(b"k"))]);
    client.publish(with_headers(message("nowhere", "k", "m"), &headers));
    client.expect("channel 404 (60/40) NOT_FOUND - no exchange 'nowhere' in vhost '/'");
    client.reopen();
    let properties = Properties {
        user_id: Some("bob".into()),
        headers: Some(headers.as_table()),
        ..Properties::default()
    };
    client.publish(Message { properties, ..message("amq.direct", "k", "m") });
    client.expect(
        "channel 406 (60/40) PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was \
         'guest'",
    );
}

#[test]
fn copies_are_routed_and_hidden_in_a_transaction_too() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.ask(exclusive("r"), "declare-ok r 0 0");
    client.ask(leveret_wire::method::tx::Select {}, "TxSelectOk");
    let headers = copies(&[], &["r"]);
    client.publish(with_headers(message("", "q", "m"), &headers));
    client.publish(with_headers(mandatory("amq.direct", "q", "n"), &headers));
    client.send(leveret_wire::method::tx::Commit {});
    let said = client.expect("return 312 NO_ROUTE amq.direct/q n");
    let empty = TableBuf::new();
    let shown = Properties { headers: Some(empty.as_table()), ..Properties::default() };
    assert_eq!(said.properties(), shown);
    client.expect("TxCommitOk");
    let said = client.ask(get_no_ack("q"), "get-ok 1 /q m left 0");
    assert_eq!(said.properties(), shown);
    assert_eq!(client.get_all("r"), ["m"]);
}

#[test]
fn copies_are_confirmed_once() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.ask(exclusive("r"), "declare-ok r 0 0");
    client.confirm_select();
    let headers = copies(&["r"], &[]);
    client.publish(with_headers(message("", "q", "a"), &headers));
    client.publish(with_headers(message("", "nowhere", "b"), &headers));
    client.publish(with_headers(message("amq.direct", "nowhere", "c"), &headers));
    assert_eq!(client.confirms(3), [(1, true), (2, true), (3, true)]);
    assert_eq!(client.get_all("r"), ["a", "b"]);
}
