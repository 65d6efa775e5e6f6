//! What is refused, with which code, in which words, and what closes for it.
//!
//! Topics of their own (queues, exchanges, consumers, frames) have their refusals with them; here
//! are those of the table that every client meets.

use leveret_wire::{
    Method, Properties,
    method::{basic, channel, confirm, connection, exchange, tx},
};

use crate::support::{
    Client, Message, Peer, ack, bind, bind_exchange, cancel, consume, declare, declare_exchange, delete,
    delete_exchange, exclusive, get, message, nack, passive, passive_exchange, purge, reject, unbind,
    unbind_exchange,
};

/// The broker closes the connection of a client that does that.
#[track_caller]
fn check_connection(peer: &Peer, steps: impl FnOnce(&mut Client), wanted: &str) {
    let mut client = peer.client();
    steps(&mut client);
    client.expect_connection_close(wanted);
}

#[test]
fn what_is_not_there_is_named() {
    let peer = Peer::start();
    let mut client = peer.client();
    let queue = |ids: &str| format!("404 ({ids}) NOT_FOUND - no queue 'gone' in vhost '/'");
    let exchange = |ids: &str| format!("404 ({ids}) NOT_FOUND - no exchange 'gone' in vhost '/'");
    client.refused(passive("gone"), &queue("50/10"));
    client.refused(bind("gone", "amq.direct", "k"), &queue("50/20"));
    client.refused(purge("gone"), &queue("50/30"));
    client.refused(consume("gone", "t"), &queue("60/20"));
    client.refused(get("gone"), &queue("60/70"));
    client.refused(passive_exchange("gone"), &exchange("40/10"));
    client.refused(passive_exchange("amq.nosuch"), &exchange("40/10").replace("gone", "amq.nosuch"));
    client.refused(bind_exchange("gone", "amq.direct", "k"), &exchange("40/30"));
    client.refused(bind_exchange("amq.direct", "gone", "k"), &exchange("40/30"));
    client.ask(declare("q"), "declare-ok q 0 0");
    client.refused(bind("q", "gone", "k"), &exchange("50/20"));
    client.publish(message("gone", "k", "lost"));
    client.expect(&format!("channel {}", exchange("60/40")));
}

#[test]
fn taking_away_what_is_not_there_is_no_error() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(delete("gone"), "delete-ok 0");
    client.ask(delete("amq.gone"), "delete-ok 0");
    client.ask(delete_exchange("gone"), "ExchangeDeleteOk");
    client.ask(cancel("nobody"), "cancel-ok nobody");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(unbind("q", "amq.direct", "never bound"), "QueueUnbindOk");
    client.ask(unbind("q", "gone", "k"), "QueueUnbindOk");
    client.ask(unbind("gone", "amq.direct", "k"), "QueueUnbindOk");
    client.ask(unbind_exchange("amq.direct", "amq.fanout", "k"), "ExchangeUnbindOk");
    client.ask(unbind_exchange("gone", "amq.fanout", "k"), "ExchangeUnbindOk");
    client.ask(unbind_exchange("amq.direct", "gone", "k"), "ExchangeUnbindOk");
}

#[test]
fn an_exclusive_queue_is_its_owners_alone() {
    let peer = Peer::start();
    let mut owner = peer.client();
    owner.ask(exclusive("mine"), "declare-ok mine 0 0");
    owner.ask(bind("mine", "amq.direct", "k"), "QueueBindOk");
    let mut other = peer.client();
    let locked = |ids: &str| {
        format!(
            "405 ({ids}) RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It \
             could be originally declared on another connection or the exclusive property value does not match \
             that of the original declaration."
        )
    };
    other.refused(declare("mine"), &locked("50/10"));
    other.refused(exclusive("mine"), &locked("50/10"));
    other.refused(passive("mine"), &locked("50/10"));
    other.refused(get("mine"), &locked("60/70"));
    other.refused(consume("mine", "t"), &locked("60/20"));
    other.refused(purge("mine"), &locked("50/30"));
    other.refused(delete("mine"), &locked("50/40"));
    other.refused(bind("mine", "amq.direct", "k2"), &locked("50/20"));
    other.refused(unbind("mine", "amq.direct", "k"), &locked("50/50"));
    other.ask(unbind("mine", "amq.direct", "never bound"), "QueueUnbindOk");
    other.confirm_select();
    other.publish(message("", "mine", "may come"));
    assert_eq!(other.confirms(1), [(1, true)]);
    owner.ask(get("mine"), "get-ok 1 /mine may come left 0");
    // The owner may use it on any of its channels, but not declare it as something else.
    owner.open(2);
    owner.ask_on(2, exclusive("mine"), "declare-ok mine 0 0");
    owner.refused(declare("mine"), &locked("50/10"));
    owner.ask(declare("ours"), "declare-ok ours 0 0");
    owner.refused(exclusive("ours"), &locked("50/10").replace("mine", "ours"));
    // It goes with its owner, whether it says goodbye or not.
    owner.close();
    other.refused(passive("mine"), "404 (50/10) NOT_FOUND - no queue 'mine' in vhost '/'");
    let mut owner = peer.client();
    owner.ask(exclusive("mine"), "declare-ok mine 0 0");
    owner.vanish();
    loop {
        other.send(passive("mine"));
        let said = other.next().to_string();
        other.reopen();
        if said.starts_with("channel 404") {
            break;
        }
        assert_eq!(said, format!("channel {}", locked("50/10")));
    }
}

#[test]
fn names_that_only_the_server_gives_are_refused() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.refused(
        declare("amq.mine"),
        "403 (50/10) ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    client.refused(
        declare_exchange("amq.mine", "direct"),
        "403 (40/10) ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    let system = |name: &str| {
        format!("403 (40/20) ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed")
    };
    client.refused(delete_exchange("amq.direct"), &system("amq.direct"));
    client.refused(delete_exchange("amq.nosuch"), &system("amq.nosuch"));
    // What is there already may be declared again as it is.
    let topic = exchange::Declare { durable: true, ..declare_exchange("amq.topic", "topic") };
    client.ask(topic, "ExchangeDeclareOk");
}

#[test]
fn the_default_exchange_is_left_alone() {
    let peer = Peer::start();
    let mut client = peer.client();
    let refused =
        |ids: &str| format!("403 ({ids}) ACCESS_REFUSED - operation not permitted on the default exchange");
    client.ask(declare("q"), "declare-ok q 0 0");
    client.refused(bind("q", "", "k"), &refused("50/20"));
    client.refused(bind("gone", "", "k"), &refused("50/20"));
    client.refused(unbind("q", "", "k"), &refused("50/50"));
    client.refused(bind_exchange("", "amq.direct", "k"), &refused("40/30"));
    client.refused(bind_exchange("amq.direct", "", "k"), &refused("40/30"));
    client.refused(unbind_exchange("", "amq.direct", "k"), &refused("40/40"));
    client.refused(unbind_exchange("amq.direct", "", "k"), &refused("40/40"));
    client.refused(declare_exchange("", "direct"), &refused("40/10"));
    client.refused(passive_exchange(""), &refused("40/10"));
    client.refused(delete_exchange(""), &refused("40/20"));
}

#[test]
fn nobody_publishes_to_an_internal_exchange() {
    let peer = Peer::start();
    let mut client = peer.client();
    let internal = exchange::Declare { internal: true, ..declare_exchange("inner", "fanout") };
    client.ask(internal, "ExchangeDeclareOk");
    client.publish(message("inner", "k", "lost"));
    client.expect(
        "channel 403 (60/40) ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'",
    );
}

#[test]
fn the_empty_name_needs_a_queue_declared_before() {
    let peer = Peer::start();
    let mut client = peer.client();
    let none = |ids: &str| format!("404 ({ids}) NOT_FOUND - no previously declared queue");
    client.refused(bind("", "amq.direct", "k"), &none("50/20"));
    client.refused(unbind("", "amq.direct", "k"), &none("50/50"));
    client.refused(purge(""), &none("50/30"));
    client.refused(delete(""), &none("50/40"));
    client.refused(consume("", "t"), &none("60/20"));
    client.refused(get(""), &none("60/70"));
    client.refused(passive(""), "404 (50/10) NOT_FOUND - no queue '' in vhost '/'");
}

#[test]
fn unknown_delivery_tags_are_refused() {
    let peer = Peer::start();
    let mut client = peer.client();
    let unknown =
        |ids: &str, tag: u64| format!("406 ({ids}) PRECONDITION_FAILED - unknown delivery tag {tag}");
    client.refused(ack(1), &unknown("60/80", 1));
    client.refused(ack(0), &unknown("60/80", 0));
    client.refused(nack(7, false, true), &unknown("60/120", 7));
    client.refused(reject(u64::MAX, false), &unknown("60/90", u64::MAX));
    client.refused(basic::Ack { delivery_tag: 9, multiple: true }, &unknown("60/80", 9));
    client.refused(nack(0, false, false), &unknown("60/120", 0));
    // Of nothing, all is nothing.
    client.send(basic::Ack { delivery_tag: 0, multiple: true });
    client.send(nack(0, true, true));
    client.expect_silence();
}

#[test]
fn confirms_and_transactions_do_not_mix() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.confirm_select();
    client.confirm_select();
    client.refused(tx::Select {}, "406 (90/10) PRECONDITION_FAILED - cannot switch from confirm to tx mode");
    client.ask(tx::Select {}, "TxSelectOk");
    client.ask(tx::Select {}, "TxSelectOk");
    client.refused(
        confirm::Select { nowait: false },
        "406 (85/10) PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
    let plain = |ids: &str| format!("406 ({ids}) PRECONDITION_FAILED - channel is not transactional");
    client.refused(tx::Commit {}, &plain("90/20"));
    client.refused(tx::Rollback {}, &plain("90/30"));
}

#[test]
fn what_rabbitmq_does_not_do_is_not_done() {
    let peer = Peer::start();
    let check = |method: Method<'static>, wanted: &str| {
        check_connection(&peer, |client| client.send(method), wanted);
    };
    check(
        basic::Qos { prefetch_octets: 5, prefetch_count: 1, global: false }.into(),
        "540 (60/10) NOT_IMPLEMENTED - prefetch_size!=0 (5)",
    );
    check(basic::Recover { requeue: false }.into(), "540 (60/110) NOT_IMPLEMENTED - requeue=false");
    check(basic::RecoverAsync { requeue: false }.into(), "540 (60/100) NOT_IMPLEMENTED - requeue=false");
    check(channel::Flow { active: false }.into(), "540 (20/20) NOT_IMPLEMENTED - active=false");
    let immediate = Message { immediate: true, ..message("", "q", "now or never") };
    check_connection(
        &peer,
        |client| client.publish(immediate),
        "540 (60/40) NOT_IMPLEMENTED - immediate=true",
    );
}

#[test]
fn the_user_id_must_be_true() {
    let peer = Peer::start();
    let mut client = peer.client();
    let with = |user| {
        let properties = Properties { user_id: Some(user), ..Properties::default() };
        Message { properties, mandatory: true, ..message("", "nowhere", "signed") }
    };
    client.publish(with("guest".into()));
    client.expect("return 312 NO_ROUTE /nowhere signed");
    client.publish(with("bob".into()));
    client.expect(
        "channel 406 (60/40) PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was \
         'guest'",
    );
}

#[test]
fn channels_are_opened_once_before_use() {
    let peer = Peer::start();
    check_connection(
        &peer,
        |client| client.send_on(2, declare("q")),
        "504 (50/10) CHANNEL_ERROR - expected 'channel.open'",
    );
    check_connection(
        &peer,
        |client| client.send_on(2, channel::Close::default()),
        "504 (20/40) CHANNEL_ERROR - expected 'channel.open'",
    );
    check_connection(
        &peer,
        |client| client.send_on(1, channel::Open::default()),
        "504 (20/10) CHANNEL_ERROR - second 'channel.open' seen",
    );
}

#[test]
fn a_channel_that_the_broker_closed_is_deaf_until_that_is_confirmed() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(passive("gone"), "channel 404 (50/10) NOT_FOUND - no queue 'gone' in vhost '/'");
    client.send(declare("ignored"));
    client.publish(message("", "ignored", "ignored"));
    client.send(ack(7));
    client.reopen();
    client.refused(passive("ignored"), "404 (50/10) NOT_FOUND - no queue 'ignored' in vhost '/'");
    // Both sides may close at once.
    client.ask(passive("gone"), "channel 404 (50/10) NOT_FOUND - no queue 'gone' in vhost '/'");
    client.ask(channel::Close::default(), "ChannelCloseOk");
    client.reopen();
    client.ask(passive("gone"), "channel 404 (50/10) NOT_FOUND - no queue 'gone' in vhost '/'");
    client.send(channel::Open::default());
    client.expect_connection_close("504 (20/10) CHANNEL_ERROR - second 'channel.open' seen");
}

#[test]
fn an_error_of_one_channel_leaves_the_others_alone() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.open(2);
    client.ask_on(2, declare("q"), "declare-ok q 0 0");
    client.ask(passive("gone"), "channel 404 (50/10) NOT_FOUND - no queue 'gone' in vhost '/'");
    client.ask_on(2, passive("q"), "declare-ok q 0 0");
}

#[test]
fn what_comes_with_an_error_in_one_write_is_answered() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.open(2);
    client.ask(declare("q"), "declare-ok q 0 0");
    let mut octets = Vec::new();
    for _ in 0..3 {
        Method::from(passive("q")).write_frame(2, &mut octets);
        Method::from(ack(99)).write_frame(1, &mut octets);
        Method::from(passive("q")).write_frame(2, &mut octets);
        Method::from(channel::CloseOk {}).write_frame(1, &mut octets);
        Method::from(channel::Open::default()).write_frame(1, &mut octets);
    }
    client.send_octets(&octets);
    let unknown = "channel 406 (60/80) PRECONDITION_FAILED - unknown delivery tag 99";
    let mut wanted = vec!["declare-ok q 0 0"; 6];
    wanted.extend([unknown, "ChannelOpenOk"].repeat(3));
    client.expect_unordered(&wanted);
}

#[test]
fn errors_of_methods_without_answer_close_the_channel_all_the_same() {
    let peer = Peer::start();
    let mut client = peer.client();
    let nowait = leveret_wire::method::queue::Declare { nowait: true, ..passive("gone") };
    client.refused(nowait, "404 (50/10) NOT_FOUND - no queue 'gone' in vhost '/'");
    let nowait = basic::Consume { nowait: true, ..consume("gone", "t") };
    client.refused(nowait, "404 (60/20) NOT_FOUND - no queue 'gone' in vhost '/'");
}

#[test]
fn methods_of_the_server_are_not_for_clients() {
    let peer = Peer::start();
    let unimplemented = |ids: &str| format!("503 ({ids}) COMMAND_INVALID - unimplemented method");
    let check = |channel: u16, method: Method<'static>, wanted: &str| {
        check_connection(&peer, |client| client.send_on(channel, method), wanted);
    };
    let cases: [Method<'static>; 17] = [
        channel::OpenOk::default().into(),
        channel::FlowOk { active: true }.into(),
        channel::CloseOk {}.into(),
        exchange::DeclareOk {}.into(),
        exchange::BindOk {}.into(),
        leveret_wire::method::queue::DeclareOk::default().into(),
        leveret_wire::method::queue::UnbindOk {}.into(),
        leveret_wire::method::access::RequestOk { ticket: 1 }.into(),
        basic::QosOk {}.into(),
        basic::ConsumeOk::default().into(),
        basic::CancelOk::default().into(),
        basic::GetEmpty::default().into(),
        basic::RecoverOk {}.into(),
        tx::SelectOk {}.into(),
        tx::CommitOk {}.into(),
        confirm::SelectOk {}.into(),
        connection::Open::default().into(),
    ];
    for method in cases {
        let (class_id, method_id) = method.ids();
        check(1, method, &unimplemented(&format!("{class_id}/{method_id}")));
    }
    let on_connection = "unexpected method in connection state running";
    let cases: [Method<'static>; 12] = [
        connection::StartOk::default().into(),
        connection::TuneOk::default().into(),
        connection::SecureOk::default().into(),
        connection::Open::default().into(),
        connection::Start::default().into(),
        connection::OpenOk::default().into(),
        connection::CloseOk {}.into(),
        connection::Blocked::default().into(),
        connection::UpdateSecretOk {}.into(),
        channel::Open::default().into(),
        declare("q").into(),
        basic::Ack { delivery_tag: 1, multiple: false }.into(),
    ];
    for method in cases {
        let (class_id, method_id) = method.ids();
        check(0, method, &format!("504 ({class_id}/{method_id}) CHANNEL_ERROR - {on_connection}"));
    }
}
