//! Queues: declared, found again, named by the server, bound, purged, deleted.

use leveret_wire::{
    TableBuf, Value,
    method::{basic, queue},
};

use crate::support::{
    Client, Login, Peer, bind, bind_exchange, consume, consume_no_ack, declare, declare_exchange,
    declare_with, delete, delete_exchange, exclusive, get, message, passive, passive_exchange, purge, qos,
    table, unbind,
};

/// A second declaration of a queue that was declared with these flags and arguments.
struct Redeclare<'a> {
    client: &'a mut Client,
}

impl Redeclare<'_> {
    /// `wanted` is what follows `inequivalent arg `; none when the declarations are equivalent.
    #[track_caller]
    fn check(&mut self, first: queue::Declare<'_>, second: queue::Declare<'_>, wanted: Option<&str>) {
        let queue = "q".into();
        self.client.ask(queue::Declare { queue, ..first }, "declare-ok q 0 0");
        let second = queue::Declare { queue, ..second };
        match wanted {
            None => drop(self.client.ask(second, "declare-ok q 0 0")),
            Some(text) => {
                let wanted = format!("406 (50/10) PRECONDITION_FAILED - inequivalent arg {text}");
                self.client.refused(second, &wanted);
            }
        }
        self.client.ask(delete("q"), "delete-ok 0");
    }

    #[track_caller]
    fn check_arguments(
        &mut self,
        first: &[(&str, Value<'_>)],
        second: &[(&str, Value<'_>)],
        wanted: Option<&str>,
    ) {
        let (first, second) = (table(first), table(second));
        self.check(declare_with("q", &first), declare_with("q", &second), wanted);
    }
}

#[test]
fn a_queue_is_found_again_as_it_was_declared() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut redeclare = Redeclare { client: &mut client };
    let plain = queue::Declare::default();
    let durable = queue::Declare { durable: true, ..plain };
    let auto_delete = queue::Declare { auto_delete: true, ..plain };
    redeclare.check(plain, plain, None);
    redeclare.check(durable, durable, None);
    redeclare.check(auto_delete, auto_delete, None);
    let differs = |what, one, other| {
        format!("'{what}' for queue 'q' in vhost '/': received '{one}' but current is '{other}'")
    };
    redeclare.check(durable, plain, Some(&differs("durable", "false", "true")));
    redeclare.check(plain, durable, Some(&differs("durable", "true", "false")));
    redeclare.check(auto_delete, plain, Some(&differs("auto_delete", "false", "true")));
    // An exclusive queue is not durable, whatever is asked.
    let exclusive = queue::Declare { exclusive: true, ..plain };
    redeclare.check(exclusive, queue::Declare { exclusive: true, ..durable }, None);
    // The first difference is told.
    redeclare.check(
        auto_delete,
        queue::Declare { auto_delete: false, ..durable },
        Some(&differs("durable", "true", "false")),
    );
}

#[test]
fn arguments_are_compared_by_value() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut redeclare = Redeclare { client: &mut client };
    let length = |value| [("x-max-length", value)];
    let thousand = [
        Value::I8(100),
        Value::U8(100),
        Value::I16(100),
        Value::U16(100),
        Value::I32(100),
        Value::U32(100),
        Value::I64(100),
    ];
    for value in thousand {
        redeclare.check_arguments(&length(Value::I32(100)), &length(value), None);
        redeclare.check_arguments(&length(value), &length(Value::I32(100)), None);
    }
    let differs = |text: &str| format!("'x-max-length' for queue 'q' in vhost '/': {text}");
    redeclare.check_arguments(
        &length(Value::I32(1000)),
        &length(Value::I64(2000)),
        Some(&differs("received '2000' but current is '1000'")),
    );
    redeclare.check_arguments(
        &length(Value::I32(1000)),
        &[],
        Some(&differs("received none but current is the value '1000' of type 'signedint'")),
    );
    redeclare.check_arguments(
        &[],
        &length(Value::I32(1000)),
        Some(&differs("received the value '1000' of type 'signedint' but current is none")),
    );
    redeclare.check_arguments(
        &length(Value::I64(1000)),
        &[],
        Some(&differs("received none but current is the value '1000' of type 'long'")),
    );
    redeclare.check_arguments(
        &[("x-max-length-bytes", Value::I32(5))],
        &[("x-max-length-bytes", Value::I32(6))],
        Some("'x-max-length-bytes' for queue 'q' in vhost '/': received '6' but current is '5'"),
    );
    redeclare.check_arguments(
        &[("x-overflow", Value::LongStr(b"drop-head"))],
        &[("x-overflow", Value::LongStr(b"reject-publish"))],
        Some("'x-overflow' for queue 'q' in vhost '/': received 'reject-publish' but current is 'drop-head'"),
    );
    redeclare.check_arguments(
        &[],
        &[("x-overflow", Value::LongStr(b"drop-head"))],
        Some(
            "'x-overflow' for queue 'q' in vhost '/': received the value 'drop-head' of type 'longstr' but current \
             is none",
        ),
    );
    redeclare.check_arguments(
        &[("x-queue-mode", Value::LongStr(b"lazy"))],
        &[("x-queue-mode", Value::LongStr(b"default"))],
        Some("'x-queue-mode' for queue 'q' in vhost '/': received 'default' but current is 'lazy'"),
    );
    redeclare.check_arguments(
        &[("x-queue-version", Value::I32(1))],
        &[("x-queue-version", Value::I32(2))],
        Some("'x-queue-version' for queue 'q' in vhost '/': received '2' but current is '1'"),
    );
    redeclare.check_arguments(&[], &[("x-queue-type", Value::LongStr(b"classic"))], None);
    redeclare.check_arguments(&[("x-queue-type", Value::LongStr(b"classic"))], &[], None);
    redeclare.check_arguments(&[("anything", Value::I32(1))], &[("x-else", Value::LongStr(b"b"))], None);
}

#[test]
fn a_quorum_queue_is_durable_and_for_all() {
    let peer = Peer::start();
    let mut client = peer.client();
    let quorum = table(&[("x-queue-type", Value::LongStr(b"quorum"))]);
    let durable = |name| queue::Declare { durable: true, ..declare_with(name, &quorum) };
    let invalid = |what: &str| {
        format!("406 (50/10) PRECONDITION_FAILED - invalid property '{what}' for queue 'q' in vhost '/'")
    };
    client.refused(declare_with("q", &quorum), &invalid("non-durable"));
    client.refused(queue::Declare { auto_delete: true, ..durable("q") }, &invalid("auto-delete"));
    client.refused(queue::Declare { exclusive: true, ..durable("q") }, &invalid("exclusive-owner"));
    let both = queue::Declare { exclusive: true, ..declare_with("q", &quorum) };
    client.refused(both, &invalid("exclusive-owner"));
    client.refused(queue::Declare { auto_delete: true, ..both }, &invalid("auto-delete"));
    client.refused(
        durable(""),
        "406 (50/10) PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue",
    );
    client.ask(durable("quorum"), "declare-ok quorum 0 0");
    client.ask(durable("quorum"), "declare-ok quorum 0 0");
    let classic = queue::Declare { durable: true, ..declare("quorum") };
    client.refused(
        classic,
        "406 (50/10) PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'quorum' in vhost '/': received \
         none but current is the value 'quorum' of type 'longstr'",
    );
    let mut refused = peer.client();
    refused.send(queue::Delete { if_empty: true, ..delete("quorum") });
    refused.expect_connection_close(
        "540 (50/40) NOT_IMPLEMENTED - cannot delete queue 'quorum' in vhost '/'. queue.delete operations with \
         if-empty flag set are not supported by quorum queues",
    );
    let mut refused = peer.client();
    refused.ask(basic::Qos { global: true, ..qos(5) }, "BasicQosOk");
    refused.send(consume("quorum", "t"));
    refused.expect_connection_close(
        "540 (60/20) NOT_IMPLEMENTED - queue 'quorum' in vhost '/' does not support global qos",
    );
    client.ask(delete("quorum"), "delete-ok 0");
}

#[test]
fn wrong_arguments_are_refused() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut check = |name: &str, value, reason: &str| {
        let arguments = table(&[(name, value)]);
        client.refused(
            declare_with("q", &arguments),
            &format!(
                "406 (50/10) PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {reason}"
            ),
        );
    };
    check("x-max-length", Value::I32(-1), "{value_negative,-1}");
    check("x-max-length-bytes", Value::I64(-7), "{value_negative,-7}");
    check("x-max-length", Value::LongStr(b"5"), "\"expected integer, got longstr\"");
    check("x-max-length", Value::Bool(true), "\"expected integer, got bool\"");
    check("x-max-length", Value::F64(1.0), "\"expected integer, got double\"");
    check("x-overflow", Value::I32(1), "{unacceptable_type,signedint}");
    check("x-overflow", Value::LongStr(b"spill"), "invalid_overflow");
    check("x-queue-mode", Value::LongStr(b"nope"), "\"unsupported queue mode 'nope'\"");
    check("x-queue-mode", Value::I32(1), "{unacceptable_type,signedint}");
    check("x-queue-type", Value::LongStr(b"nope"), "\"unsupported queue type 'nope'\"");
    check("x-queue-version", Value::I32(3), "\"unsupported queue version '3'\"");
    check("x-queue-version", Value::LongStr(b"1"), "\"expected integer, got longstr\"");
    let arguments = table(&[("x-queue-leader-locator", Value::LongStr(b"client-local"))]);
    client.refused(
        declare_with("q", &arguments),
        "406 (50/10) PRECONDITION_FAILED - invalid arg 'x-queue-leader-locator' for queue 'q' in vhost '/' of queue \
         type rabbit_classic_queue",
    );
}

#[test]
fn passive_declare_looks_at_the_name_alone() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.put(message("", "q", "m"));
    let wrong = table(&[("x-max-length", Value::LongStr(b"many"))]);
    let all_else = queue::Declare {
        durable: true,
        exclusive: true,
        auto_delete: true,
        arguments: wrong.as_table(),
        ..passive("q")
    };
    client.ask(all_else, "declare-ok q 1 0");
    // It makes the queue the channel's last one.
    client.open(2);
    client.ask_on(2, passive("q"), "declare-ok q 1 0");
    client.ask_on(2, purge(""), "purge-ok 1");
}

#[test]
fn the_server_names_queues_and_the_empty_name_is_the_last_one() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut declare_unnamed = || {
        client.send(exclusive(""));
        let said = client.next();
        let leveret_wire::Method::QueueDeclareOk(ok) = said.method() else { panic!("{said}") };
        ok.queue.to_string()
    };
    let (first, last) = (declare_unnamed(), declare_unnamed());
    assert_ne!(first, last);
    for name in [&first, &last] {
        let random = name.strip_prefix("amq.gen-").expect("a name of the server's");
        assert_eq!(random.len(), 22, "{name}");
        let is_base64url = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(random.chars().all(is_base64url), "{name}");
    }
    client.ask(bind("", "amq.direct", "k"), "QueueBindOk");
    client.put(message("amq.direct", "k", "one"));
    client.ask(passive(&last), &format!("declare-ok {last} 1 0"));
    client.ask(get(""), "get-ok 1 amq.direct/k one left 0");
    client.ask(unbind("", "amq.direct", "k"), "QueueUnbindOk");
    client.ask(purge(""), "purge-ok 0");
    client.ask(consume_no_ack("", "t"), "consume-ok t");
    client.ask(delete(""), "delete-ok 0");
    client.expect("cancel t nowait");
    // The last queue is gone, and its name is still the last one.
    client.refused(get(""), &format!("404 (60/70) NOT_FOUND - no queue '{last}' in vhost '/'"));
    client.ask(passive(&first), &format!("declare-ok {first} 0 0"));
    // A name of the server's is nobody else's to declare, though the queue is there.
    client.refused(
        exclusive(&first),
        &format!("403 (50/10) ACCESS_REFUSED - queue name '{first}' contains reserved prefix 'amq.*'"),
    );
}

#[test]
fn binding_without_names_uses_the_queues() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(bind("", "amq.direct", ""), "QueueBindOk");
    client.put(message("amq.direct", "q", "by name"));
    client.put(message("amq.direct", "", "by none"));
    client.ask(passive("q"), "declare-ok q 1 0");
    client.ask(unbind("", "amq.direct", ""), "QueueUnbindOk");
    client.put(message("amq.direct", "q", "unbound"));
    client.ask(passive("q"), "declare-ok q 1 0");
    // A queue that is named is bound by the key that is given, be it empty.
    client.ask(bind("q", "amq.direct", ""), "QueueBindOk");
    client.put(message("amq.direct", "", "by none"));
    client.put(message("amq.direct", "q", "by name"));
    client.ask(passive("q"), "declare-ok q 2 0");
    client.ask(unbind("q", "amq.direct", ""), "QueueUnbindOk");
}

#[test]
fn line_ends_are_stripped_from_names_where_something_is_made_or_taken_away() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("a\nb\r\n"), "declare-ok ab 0 0");
    client.ask(passive("\nab"), "declare-ok ab 0 0");
    client.ask(bind("a\nb", "amq.di\nrect", "k\n"), "QueueBindOk");
    client.put(message("amq.direct", "k\n", "the key is as it is"));
    client.ask(get("ab"), "get-ok 1 amq.direct/k\n the key is as it is left 0");
    client.ask(unbind("ab\n", "amq.direct\r", "k\n"), "QueueUnbindOk");
    client.ask(consume("ab", "t\n"), "consume-ok t\n");
    client.ask(delete("ab\n"), "delete-ok 0");
    client.expect("cancel t\n nowait");
    client.send(declare("\n"));
    let said = client.next().to_string();
    assert!(said.starts_with("declare-ok amq.gen-"), "{said}");
    client.ask(declare_exchange("x\n", "fanout"), "ExchangeDeclareOk");
    client.ask(bind_exchange("x\n", "\namq.fanout", ""), "ExchangeBindOk");
    client.ask(delete_exchange("x\n"), "ExchangeDeleteOk");
    client.refused(passive_exchange("x"), "404 (40/10) NOT_FOUND - no exchange 'x' in vhost '/'");
    // Where something is used they are not, as it is to be quick.
    client.ask(declare("q"), "declare-ok q 0 0");
    let no_queue = |ids: &str| format!("404 ({ids}) NOT_FOUND - no queue 'q\n' in vhost '/'");
    client.refused(get("q\n"), &no_queue("60/70"));
    client.refused(consume("q\n", "t"), &no_queue("60/20"));
    client.refused(purge("q\n"), &no_queue("50/30"));
    client.publish(message("amq.dire\nct", "k", "lost"));
    client.expect("channel 404 (60/40) NOT_FOUND - no exchange 'amq.dire\nct' in vhost '/'");
    client.reopen();
    client.ask(declare("nul\0in it"), "declare-ok nul\0in it 0 0");
}

#[test]
fn names_may_be_of_255_octets() {
    let peer = Peer::start();
    let mut client = peer.client();
    let name = "é".repeat(127) + "x";
    assert_eq!(name.len(), 255);
    client.ask(declare(&name), &format!("declare-ok {name} 0 0"));
    client.publish(message("", &name, "m"));
    client.ask(get(&name), &format!("get-ok 1 /{name} m left 0"));
    // A reply text is cut where it must be, between characters.
    client.ask(delete(&name), "delete-ok 0");
    client.send(passive(&name));
    let text = client.next().to_string();
    let wanted = "channel 404 (50/10) NOT_FOUND - no queue 'éé";
    assert!(text.starts_with(wanted), "{text}");
    assert!((254..=255).contains(&(text.len() - "channel 404 (50/10) ".len())), "{} octets", text.len());
}

#[test]
fn declare_counts_ready_messages_and_consumers() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    for _ in 0..3 {
        client.put(message("", "q", "m"));
    }
    client.ask(get("q"), "get-ok 1 /q m left 2");
    client.ask(passive("q"), "declare-ok q 2 0");
    client.open(2);
    client.ask_on(2, qos(1), "BasicQosOk");
    client.ask_on(2, consume("q", "t"), "consume-ok t");
    client.expect("deliver t 1 /q m");
    client.ask(passive("q"), "declare-ok q 1 1");
}

#[test]
fn purge_drops_what_is_ready_and_nothing_else() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    for body in ["a", "b", "c"] {
        client.put(message("", "q", body));
    }
    client.ask(get("q"), "get-ok 1 /q a left 2");
    client.ask(purge("q"), "purge-ok 2");
    client.ask(purge("q"), "purge-ok 0");
    client.send(crate::support::reject(1, true));
    client.ask(get("q"), "get-ok 2 /q a left 0 redelivered");
}

#[test]
fn delete_counts_and_may_insist() {
    let peer = Peer::start();
    let mut client = peer.client();
    let if_empty = queue::Delete { if_empty: true, ..delete("q") };
    let if_unused = queue::Delete { if_unused: true, ..delete("q") };
    let both = queue::Delete { if_empty: true, ..if_unused };
    let refused = |what: &str| format!("406 (50/40) PRECONDITION_FAILED - queue 'q' in vhost '/' {what}");
    client.ask(declare("q"), "declare-ok q 0 0");
    for _ in 0..3 {
        client.put(message("", "q", "m"));
    }
    client.open(2);
    client.ask_on(2, qos(1), "BasicQosOk");
    client.ask_on(2, consume("q", "t"), "consume-ok t");
    client.expect("deliver t 1 /q m");
    client.refused(if_empty, &refused("not empty"));
    client.refused(if_unused, &refused("in use"));
    client.refused(both, &refused("not empty"));
    // Ready messages are counted.
    client.send(delete("q"));
    client.expect_unordered(&["delete-ok 2", "cancel t nowait"]);
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(both, "delete-ok 0");
    // What was delivered from a queue that is gone may still be acknowledged.
    client.send_on(2, crate::support::ack(1));
    client.ask_on(2, qos(1), "BasicQosOk");
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let peer = Peer::start();
    let mut client = peer.client();
    let auto_delete = queue::Declare { auto_delete: true, ..declare("q") };
    let gone = "404 (50/10) NOT_FOUND - no queue 'q' in vhost '/'";
    client.ask(auto_delete, "declare-ok q 0 0");
    client.open(2);
    client.ask_on(2, consume("q", "a"), "consume-ok a");
    client.ask_on(2, consume("q", "b"), "consume-ok b");
    client.ask_on(2, crate::support::cancel("a"), "cancel-ok a");
    client.ask(passive("q"), "declare-ok q 0 1");
    client.ask_on(2, crate::support::cancel("b"), "cancel-ok b");
    client.refused(passive("q"), gone);
    // Without any consumer it stays, also when its connection goes.
    let mut other = peer.client();
    other.ask(auto_delete, "declare-ok q 0 0");
    other.close();
    client.ask(passive("q"), "declare-ok q 0 0");
    // The end of a channel and of a connection are the end of a consumer.
    client.ask_on(2, consume("q", "a"), "consume-ok a");
    client.ask_on(2, leveret_wire::method::channel::Close::default(), "ChannelCloseOk");
    client.refused(passive("q"), gone);
    let mut other = peer.client();
    other.ask(auto_delete, "declare-ok q 0 0");
    other.ask(consume("q", "a"), "consume-ok a");
    other.close();
    client.refused(passive("q"), gone);
}

#[test]
fn methods_without_answer_are_carried_out() {
    let peer = Peer::start();
    let mut client = peer.client_with(&Login::default());
    client.send(queue::Declare { nowait: true, ..declare("q") });
    client.send(queue::Bind { nowait: true, ..bind("q", "amq.direct", "k") });
    client.put(message("amq.direct", "k", "a"));
    client.ask(passive("q"), "declare-ok q 1 0");
    client.send(queue::Purge { nowait: true, ..purge("q") });
    client.ask(passive("q"), "declare-ok q 0 0");
    client.send(basic::Consume { nowait: true, ..consume_no_ack("q", "t") });
    client.publish(message("amq.direct", "k", "b"));
    client.expect_unordered(&["deliver t 1 amq.direct/k b", "ack 2"]);
    client.send(basic::Cancel { consumer_tag: "t".into(), nowait: true });
    client.ask(passive("q"), "declare-ok q 0 0");
    client.send(queue::Delete { nowait: true, ..delete("q") });
    client.refused(passive("q"), "404 (50/10) NOT_FOUND - no queue 'q' in vhost '/'");
    // A server-named queue that nobody is told of is the channel's last one all the same.
    client.send(queue::Declare { nowait: true, ..exclusive("") });
    client.ask(purge(""), "purge-ok 0");
}

#[test]
fn arguments_without_meaning_here_are_refused_by_name() {
    let why = "RabbitMQ knows what they mean";
    let Some(peer) = Peer::leveret(why, |builder| builder) else { return };
    let mut client = peer.client();
    let mut check = |arguments: TableBuf| {
        let (name, _) = arguments.as_table().iter().next().expect("an argument to try");
        client.refused(
            declare_with("q", &arguments),
            &format!(
                "406 (50/10) PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': not implemented \
                 by this broker yet"
            ),
        );
    };
    check(table(&[("x-stream-filter-size-bytes", Value::I32(16))]));
}
