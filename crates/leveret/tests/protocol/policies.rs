//! Policies: settings that nobody declared.

use leveret::Definitions;
use leveret_wire::{Value, method::queue};

use crate::support::{
    Client, Peer, bind, consume, consume_no_ack, declare, declare_exchange, declare_with, delete, get,
    get_no_ack, message, passive, table,
};

/// RabbitMQ's defaults and these policies, as its definitions have them.
fn with_policies(policies: &str, operators: &str) -> Option<Peer> {
    let json = format!(
        r#"{{"vhosts": [{{"name": "/"}}],
            "users": [{{"name": "guest", "password_hash": "AQIDBEMMOXwY6PKx/JKP9PAqfsb4ozuD0Ta3pxxa9gEYBMmD", "tags": "administrator"}}],
            "permissions": [{{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}}],
            "policies": [{policies}],
            "parameters": [{operators}]}}"#
    );
    let definitions = Definitions::from_json(&json).expect("the definitions are right");
    Peer::leveret("policies come with the broker's definitions", |builder| builder.definitions(definitions))
}

fn policy(pattern: &str, apply_to: &str, definition: &str) -> String {
    format!(
        r#"{{"vhost": "/", "name": "p-{pattern}", "pattern": "{pattern}", "apply-to": "{apply_to}", "priority": 0,
            "definition": {{{definition}}}}}"#
    )
}

fn operator_policy(pattern: &str, definition: &str) -> String {
    format!(
        r#"{{"vhost": "/", "component": "operator_policy", "name": "o", "value": {{"pattern": "{pattern}",
            "apply-to": "queues", "priority": 0, "definition": {{{definition}}}}}}}"#
    )
}

fn published(client: &mut Client, queue: &str, count: usize) {
    for n in 0..count {
        client.put(message("", queue, &n.to_string()));
    }
}

#[test]
fn a_queue_is_limited_by_policy_and_argument_and_the_lesser_number_holds() {
    let operators = operator_policy("^operated", r#""max-length": 1"#);
    let Some(peer) = with_policies(&policy("q$", "queues", r#""max-length": 2"#), &operators) else { return };
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    published(&mut client, "q", 5);
    client.ask(passive("q"), "declare-ok q 2 0");
    let longer = table(&[("x-max-length", Value::I32(4))]);
    client.ask(declare_with("longer-q", &longer), "declare-ok longer-q 0 0");
    published(&mut client, "longer-q", 5);
    client.ask(passive("longer-q"), "declare-ok longer-q 2 0");
    client.ask(declare("operated-q"), "declare-ok operated-q 0 0");
    published(&mut client, "operated-q", 5);
    client.ask(passive("operated-q"), "declare-ok operated-q 1 0");
    client.ask(declare("other"), "declare-ok other 0 0");
    published(&mut client, "other", 5);
    client.ask(passive("other"), "declare-ok other 5 0");
    // What was declared is compared, not what a policy made of it.
    client.ask(declare("q"), "declare-ok q 2 0");
}

#[test]
fn dead_letters_and_lives_come_by_policy_too() {
    let definition = r#""message-ttl": 30, "dead-letter-exchange": "", "dead-letter-routing-key": "dead""#;
    let Some(peer) = with_policies(&policy("^q$", "queues", definition), "") else { return };
    let mut client = peer.client();
    client.ask(declare("dead"), "declare-ok dead 0 0");
    client.ask(consume_no_ack("dead", "d"), "consume-ok d");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.put(message("", "q", "m"));
    client.expect("deliver d 1 /dead m");
}

#[test]
fn an_exchange_has_an_alternate_by_policy_be_it_predeclared_or_not() {
    let definition = r#""alternate-exchange": "back""#;
    let Some(peer) = with_policies(&policy("(^x$|direct)", "exchanges", definition), "") else { return };
    let mut client = peer.client();
    client.ask(declare_exchange("x", "topic"), "ExchangeDeclareOk");
    client.ask(declare_exchange("back", "fanout"), "ExchangeDeclareOk");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(bind("q", "back", ""), "QueueBindOk");
    client.put(message("x", "nobody", "by x"));
    client.put(message("amq.direct", "nobody", "by amq.direct"));
    client.ask(get_no_ack("q"), "get-ok 1 x/nobody by x left 1");
    client.ask(get_no_ack("q"), "get-ok 2 amq.direct/nobody by amq.direct left 0");
}

#[test]
fn a_quorum_queue_has_a_delivery_limit_by_policy() {
    let Some(peer) = with_policies(&policy("q", "all", r#""delivery-limit": 0"#), "") else { return };
    let mut client = peer.client();
    let quorum = table(&[("x-queue-type", Value::LongStr(b"quorum"))]);
    client.ask(queue::Declare { durable: true, ..declare_with("q", &quorum) }, "declare-ok q 0 0");
    client.put(message("", "q", "m"));
    client.ask(get("q"), "get-ok 1 /q m left 0");
    client.send(crate::support::nack(1, false, true));
    client.ask(passive("q"), "declare-ok q 0 0");
    let classic = table(&[("x-queue-type", Value::LongStr(b"classic"))]);
    client.refused(
        queue::Declare { durable: true, ..declare_with("q", &classic) },
        "406 (50/10) PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received \
         'classic' but current is 'quorum'",
    );
}

#[test]
fn consumers_may_keep_deliveries_for_as_long_as_a_policy_allows() {
    let policies = policy("^q", "queues", r#""consumer-timeout": 200"#);
    let Some(peer) = with_policies(&policies, "") else { return };
    let mut client = peer.client();
    let shorter = table(&[("x-consumer-timeout", Value::I32(100))]);
    for (queue, arguments, wanted) in [("q", table(&[]), 200), ("q-shorter", shorter, 100)] {
        client.ask(declare("other"), "declare-ok other 0 0");
        client.ask(declare_with(queue, &arguments), &format!("declare-ok {queue} 0 0"));
        client.put(message("", "other", "may be kept for ever"));
        client.put(message("", queue, "m"));
        client.ask(get("other"), "get-ok 1 /other may be kept for ever left 0");
        client.ask(consume(queue, "c"), "consume-ok c");
        client.expect(&format!("deliver c 2 /{queue} m"));
        client.expect(&format!(
            "channel 406 (0/0) PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value \
             used: {wanted} ms. This timeout value can be configured, see consumers doc guide to learn more"
        ));
        client.reopen();
        client.ask(delete("other"), "delete-ok 1");
    }
}
