//! Who may do what: permissions, topic permissions, limits, and several virtual hosts.
//!
//! The users are those of `tests/fixtures/rabbitmq-3.10.8.json`. Against another broker these
//! tests run once the file was imported there, see `Peer::defined`.

use leveret_wire::{
    Properties, Value,
    method::{channel, connection, exchange, queue},
};

use crate::support::{
    Client, Login, Message, Peer, ack, bind, bind_exchange, consume, declare, declare_exchange, declare_with,
    delete, delete_exchange, get, message, passive, passive_exchange, purge, table, unbind, unbind_exchange,
};

fn login(user: &str, password: &str, virtual_host: &'static str) -> Login<'static> {
    Login { response: format!("\0{user}\0{password}").into_bytes(), virtual_host, ..Login::default() }
}

/// Who may configure `n-`, write to `n-` and the default exchange, and read `r-` and `n-both`.
fn alice(peer: &Peer) -> Client {
    peer.client_with(&login("alice", "secret", "/"))
}

/// `403` with the text for something that alice may not do.
fn refused(ids: &str, resource: &str) -> String {
    format!("403 ({ids}) ACCESS_REFUSED - access to {resource} in vhost '/' refused for user 'alice'")
}

/// A login goes as far as opening its virtual host, and is refused there.
#[track_caller]
fn check_open(peer: &Peer, login: &Login<'_>, wanted: &str) {
    let mut client = peer.socket();
    client.greet(login);
    client.expect("ConnectionTune");
    client.tune(login);
    let virtual_host = login.virtual_host.into();
    client.send_on(0, connection::Open { virtual_host, ..connection::Open::default() });
    client.expect_connection_close(&format!("530 (10/40) NOT_ALLOWED - {wanted}"));
}

#[test]
fn a_virtual_host_is_opened_by_those_who_may() {
    let Some(peer) = Peer::defined() else { return };
    peer.client_with(&login("guest", "guest", "shop")).close();
    check_open(&peer, &login("guest", "guest", "nowhere"), "vhost nowhere not found");
    check_open(&peer, &login("carol", "none", "/"), "access to vhost '/' refused for user 'carol'");
    check_open(&peer, &login("carol", "none", "nowhere"), "vhost nowhere not found");
    check_open(&peer, &login("alice", "secret", "shop"), "access to vhost 'shop' refused for user 'alice'");
}

#[test]
fn passwords_of_both_algorithms_are_read() {
    let Some(peer) = Peer::defined() else { return };
    peer.client_with(&login("erin", "longer", "/")).close();
    for (user, password) in [("erin", "Longer"), ("alice", "secre"), ("alice", "")] {
        let mut client = peer.socket();
        client.greet(&login(user, password, "/"));
        client.expect_connection_close(
            "403 (0/0) ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see \
             the broker logfile.",
        );
    }
}

#[test]
fn virtual_hosts_have_queues_of_their_own() {
    let Some(peer) = Peer::defined() else { return };
    let mut here = peer.client();
    let mut there = peer.client_with(&login("guest", "guest", "shop"));
    here.ask(declare("w-both"), "declare-ok w-both 0 0");
    there.refused(passive("w-both"), "404 (50/10) NOT_FOUND - no queue 'w-both' in vhost 'shop'");
}

#[test]
fn declaring_and_deleting_take_configure() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = alice(&peer);
    client.ask(declare("n-q"), "declare-ok n-q 0 0");
    client.ask(declare_exchange("n-x", "fanout"), "ExchangeDeclareOk");
    client.refused(declare("other"), &refused("50/10", "queue 'other'"));
    client.refused(declare("r-mine"), &refused("50/10", "queue 'r-mine'"));
    client.refused(delete("other"), &refused("50/40", "queue 'other'"));
    client.refused(declare_exchange("other", "fanout"), &refused("40/10", "exchange 'other'"));
    client.refused(delete_exchange("other"), &refused("40/20", "exchange 'other'"));
    // What nobody may do is said before what this user may not do, and a type before both.
    let default = "403 (40/10) ACCESS_REFUSED - operation not permitted on the default exchange";
    client.refused(declare_exchange("", "fanout"), default);
    let system =
        "403 (40/20) ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    client.refused(delete_exchange("amq.direct"), system);
    let reserved = "403 (50/10) ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'";
    client.refused(declare("amq.q"), reserved);
    client.refused(declare_exchange("amq.direct", "direct"), &refused("40/10", "exchange 'amq.direct'"));
}

#[test]
fn a_passive_declare_takes_no_permission() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = alice(&peer);
    client.ask(passive("w-in"), "declare-ok w-in 0 0");
    client.ask(passive_exchange("w-x"), "ExchangeDeclareOk");
    client.refused(passive("other"), "404 (50/10) NOT_FOUND - no queue 'other' in vhost '/'");
}

#[test]
fn other_exchanges_in_a_declare_take_read_and_write() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = alice(&peer);
    let dead_letters =
        |exchange: &'static [u8]| table(&[("x-dead-letter-exchange", Value::LongStr(exchange))]);
    let arguments = dead_letters(b"n-dlx");
    client.refused(declare_with("n-unread", &arguments), &refused("50/10", "queue 'n-unread'"));
    let arguments = dead_letters(b"w-dlx");
    client.refused(declare_with("n-both", &arguments), &refused("50/10", "exchange 'w-dlx'"));
    let alternate = |exchange: &'static [u8]| table(&[("alternate-exchange", Value::LongStr(exchange))]);
    let arguments = alternate(b"n-ae");
    let declare = |name, arguments| exchange::Declare { arguments, ..declare_exchange(name, "fanout") };
    client.refused(declare("n-unread", arguments.as_table()), &refused("40/10", "exchange 'n-unread'"));
    let arguments = alternate(b"w-x");
    client.refused(declare("n-both", arguments.as_table()), &refused("40/10", "exchange 'w-x'"));
}

#[test]
fn bindings_take_write_to_the_destination_and_read_of_the_source() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = alice(&peer);
    client.ask(declare("n-q"), "declare-ok n-q 0 0");
    client.ask(declare_exchange("n-both", "fanout"), "ExchangeDeclareOk");
    client.ask(bind("n-q", "n-both", "k"), "QueueBindOk");
    client.ask(unbind("n-q", "n-both", "k"), "QueueUnbindOk");
    client.refused(bind("r-orders", "n-both", "k"), &refused("50/20", "queue 'r-orders'"));
    client.refused(bind("n-q", "amq.direct", "k"), &refused("50/20", "exchange 'amq.direct'"));
    client.refused(unbind("r-orders", "n-both", "k"), &refused("50/50", "queue 'r-orders'"));
    client.refused(unbind("n-q", "gone", "k"), &refused("50/50", "exchange 'gone'"));
    client.refused(bind_exchange("amq.fanout", "n-both", "k"), &refused("40/30", "exchange 'amq.fanout'"));
    client.refused(bind_exchange("n-gone", "w-x", "k"), &refused("40/30", "exchange 'w-x'"));
    client.refused(unbind_exchange("n-gone", "w-x", "k"), &refused("40/40", "exchange 'w-x'"));
    client.refused(bind("other", "", "k"), &refused("50/20", "queue 'other'"));
    let default = "403 (50/20) ACCESS_REFUSED - operation not permitted on the default exchange";
    client.refused(bind("n-q", "", "k"), default);
}

#[test]
fn publishing_takes_write() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = alice(&peer);
    client.ask(declare("n-q"), "declare-ok n-q 0 0");
    client.ask(declare_exchange("n-x", "headers"), "ExchangeDeclareOk");
    client.confirm_select();
    client.publish(message("", "n-q", "one"));
    client.publish(message("n-x", "", "nobody's"));
    client.confirms(2);
    client.ask(passive("n-q"), "declare-ok n-q 1 0");
    for exchange in ["amq.direct", "w-h", "gone"] {
        // Twice, for an answer that was kept would be another one.
        for _ in 0..2 {
            client.publish(message(exchange, "k", "refused"));
            client.expect(&format!("channel {}", refused("60/40", &format!("exchange '{exchange}'"))));
            client.reopen();
        }
    }
    client.publish(message("n-gone", "k", "refused"));
    client.expect("channel 404 (60/40) NOT_FOUND - no exchange 'n-gone' in vhost '/'");
    client.reopen();
    let mut erin = peer.client_with(&login("erin", "longer", "/"));
    erin.publish(message("", "n-q", "refused"));
    erin.expect(
        "channel 403 (60/40) ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'erin'",
    );
}

#[test]
fn taking_messages_takes_read() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = alice(&peer);
    client.ask(declare("n-q"), "declare-ok n-q 0 0");
    client.refused(consume("n-q", "t"), &refused("60/20", "queue 'n-q'"));
    client.refused(get("n-q"), &refused("60/70", "queue 'n-q'"));
    client.refused(purge("n-q"), &refused("50/30", "queue 'n-q'"));
    client.refused(get("gone"), &refused("60/70", "queue 'gone'"));
    client.ask(declare("n-q"), "declare-ok n-q 0 0");
    client.refused(get(""), &refused("60/70", "queue 'n-q'"));
    client.refused(get("r-gone"), "404 (60/70) NOT_FOUND - no queue 'r-gone' in vhost '/'");
    client.ask(declare("n-both"), "declare-ok n-both 0 0");
    client.confirm_select();
    client.publish(message("", "n-both", "mine"));
    client.confirms(1);
    client.ask(get("n-both"), "get-ok 1 /n-both mine left 0");
    client.send(ack(1));
    client.ask(get("n-both"), "BasicGetEmpty");
}

#[test]
fn topic_permissions_are_by_routing_key() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = peer.client_with(&login("tom", "topic", "/"));
    let refused = |ids: &str, key: &str| {
        format!(
            "403 ({ids}) ACCESS_REFUSED - access to topic '{key}' in exchange 'w-x' in vhost '/' refused for user \
             'tom'"
        )
    };
    client.ask(declare("n-topic"), "declare-ok n-topic 0 0");
    client.ask(bind("n-topic", "w-x", "r.#"), "QueueBindOk");
    client.ask(bind("n-topic", "amq.topic", "tom.*"), "QueueBindOk");
    client.refused(bind("n-topic", "w-x", "#"), &refused("50/20", "#"));
    client.refused(unbind("n-topic", "w-x", "#"), &refused("50/50", "#"));
    client.refused(bind_exchange("amq.fanout", "w-x", "tom.#"), &refused("40/30", "tom.#"));
    for _ in 0..2 {
        client.publish(message("w-x", "tom.1", "allowed"));
        client.publish(message("w-x", "alice.1", "refused"));
        client.expect(&format!("channel {}", refused("60/40", "alice.1")));
        client.reopen();
    }
    client.confirm_select();
    client.publish(message("amq.topic", "tom.1", "another exchange"));
    client.confirms(1);
    client.ask(passive("n-topic"), "declare-ok n-topic 1 0");
}

#[test]
fn an_impersonator_sends_in_anybodys_name() {
    let Some(peer) = Peer::defined() else { return };
    let in_guests_name = Message {
        properties: Properties { user_id: Some("guest".into()), ..Properties::default() },
        ..message("", "n-names", "hello")
    };
    let mut ivan = peer.client_with(&login("ivan", "imp", "/"));
    ivan.ask(declare("n-names"), "declare-ok n-names 0 0");
    ivan.confirm_select();
    ivan.publish(in_guests_name);
    ivan.confirms(1);
    ivan.ask(passive("n-names"), "declare-ok n-names 1 0");
    let mut tom = peer.client_with(&login("tom", "topic", "/"));
    tom.publish(in_guests_name);
    tom.expect(
        "channel 406 (60/40) PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was 'tom'",
    );
}

#[test]
fn a_virtual_host_has_a_limit_of_queues_and_a_type_for_them() {
    let Some(peer) = Peer::defined() else { return };
    let mut client = peer.client_with(&login("guest", "guest", "shop"));
    client.ask(queue::Declare { durable: true, ..declare("one") }, "declare-ok one 0 0");
    client.ask(queue::Declare { exclusive: true, ..declare("two") }, "declare-ok two 0 0");
    client.refused(
        declare("three"),
        "406 (50/10) PRECONDITION_FAILED - cannot declare queue 'three': queue limit in vhost 'shop' (2) is reached",
    );
    // The first one is a quorum queue, and it is found again without saying so.
    client.ask(queue::Declare { durable: true, ..declare("one") }, "declare-ok one 0 0");
    let quorum = table(&[("x-queue-type", Value::LongStr(b"quorum"))]);
    client.ask(queue::Declare { durable: true, ..declare_with("one", &quorum) }, "declare-ok one 0 0");
    client.ask(delete("one"), "delete-ok 0");
    client.ask(delete("two"), "delete-ok 0");
}

#[test]
fn connections_are_limited_by_virtual_host() {
    let Some(peer) = Peer::defined() else { return };
    let full = |user: &str, vhost: &str, limit: u8| {
        format!("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached")
    };
    check_open(&peer, &login("guest", "guest", "closed"), &full("guest", "closed", 0));
    let first = peer.client_with(&login("guest", "guest", "small"));
    check_open(&peer, &login("bob", "builder", "small"), &full("bob", "small", 1));
    // That is said before whether the user may open it.
    check_open(&peer, &login("alice", "secret", "small"), &full("alice", "small", 1));
    first.close();
    if peer.is_leveret() {
        peer.client_with(&login("guest", "guest", "small")).close();
    }
}

#[test]
fn connections_and_channels_are_limited_by_user() {
    let Some(peer) = Peer::defined() else { return };
    let zero = "connection refused for user 'dave': user connection limit (0) is reached";
    check_open(&peer, &login("dave", "zero", "/"), zero);
    let mut first = peer.client_with(&login("bob", "builder", "/"));
    let full = "connection refused for user 'bob': user connection limit (1) is reached";
    check_open(&peer, &login("bob", "builder", "small"), full);
    first.open(2);
    first.send_on(3, channel::Open::default());
    first.expect_connection_close(
        "530 (0/0) NOT_ALLOWED - number of channels opened for user 'bob' has reached the maximum allowed user limit \
         of (2)",
    );
    if peer.is_leveret() {
        let mut again = peer.client_with(&login("bob", "builder", "/"));
        again.open(2);
        again.close();
    }
}

#[test]
fn a_channel_that_is_closed_makes_room_for_another() {
    let Some(peer) = Peer::defined() else { return };
    if !peer.is_leveret() {
        // RabbitMQ counts behind its answers.
        return;
    }
    let mut client = peer.client_with(&login("bob", "builder", "/"));
    for _ in 0..3 {
        client.open(2);
        client.ask_on(2, channel::Close::default(), "ChannelCloseOk");
    }
    client.close();
}
