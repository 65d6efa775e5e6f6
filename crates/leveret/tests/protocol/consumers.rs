//! Consumers: who gets what, how much of it, and how they end.

use std::collections::{BTreeMap, BTreeSet};

use leveret_wire::{
    Method, Value,
    method::{basic, channel},
};

use crate::support::{
    Client, Login, Peer, ack, ack_through, cancel, consume, consume_no_ack, declare, delete, exclusive, get,
    get_no_ack, message, nack, passive, qos, qos_global, table,
};

/// The next messages are shared by these consumers, and no more come.
#[track_caller]
fn check_shares(client: &mut Client, wanted: &[(&str, usize)]) {
    let mut shares = BTreeMap::new();
    for _ in 0..wanted.iter().map(|(_, count)| count).sum::<usize>() {
        let said = client.next();
        let Method::BasicDeliver(deliver) = said.method() else { panic!("expected a delivery: {said}") };
        *shares.entry(deliver.consumer_tag.to_string()).or_insert(0) += 1;
    }
    let wanted: BTreeMap<_, _> = wanted.iter().map(|(tag, count)| ((*tag).to_owned(), *count)).collect();
    assert_eq!(shares, wanted);
    client.expect_silence();
}

/// That many messages come, whoever of the consumers gets them, and no more.
#[track_caller]
fn check_shared(client: &mut Client, count: usize) {
    client.bodies(count);
    client.expect_silence();
}

/// A queue with that many messages, and a client to consume them.
fn filled(peer: &Peer, messages: usize) -> Client {
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let mut publisher = peer.client();
    for n in 1..=messages {
        publisher.put(message("", "q", &n.to_string()));
    }
    publisher.close();
    client
}

#[test]
fn consumers_take_turns() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    for tag in ["a", "b", "c"] {
        client.ask(consume("q", tag), &format!("consume-ok {tag}"));
    }
    let mut publisher = peer.client();
    for _ in 0..30 {
        publisher.put(message("", "q", "m"));
    }
    check_shares(&mut client, &[("a", 10), ("b", 10), ("c", 10)]);
}

#[test]
fn a_tag_is_given_to_those_who_bring_none() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let mut tags = BTreeSet::new();
    for _ in 0..2 {
        client.send(consume("q", ""));
        let said = client.next();
        let Method::BasicConsumeOk(ok) = said.method() else { panic!("{said}") };
        let tag = ok.consumer_tag.to_string();
        let random = tag.strip_prefix("amq.ctag-").expect("a tag of the server's");
        assert_eq!(random.len(), 22, "{tag}");
        tags.insert(tag);
    }
    assert_eq!(tags.len(), 2);
}

#[test]
fn a_tag_is_used_once_on_a_channel() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.open(2);
    client.ask(consume("q", "a"), "consume-ok a");
    client.ask_on(2, consume("q", "a"), "consume-ok a");
    client.ask(cancel("a"), "cancel-ok a");
    client.ask(consume("q", "a"), "consume-ok a");
    client.send(consume("q", "a"));
    client.expect_connection_close("530 (60/20) NOT_ALLOWED - attempt to reuse consumer tag 'a'");
}

#[test]
fn prefetch_limits_each_new_consumer() {
    let peer = Peer::start();
    let mut client = filled(&peer, 20);
    client.ask(qos(3), "BasicQosOk");
    client.ask(consume("q", "a"), "consume-ok a");
    check_shares(&mut client, &[("a", 3)]);
    client.ask(qos(5), "BasicQosOk");
    client.ask(consume("q", "b"), "consume-ok b");
    check_shares(&mut client, &[("b", 5)]);
    // What is acknowledged makes room, one for one.
    client.send(ack(1));
    check_shares(&mut client, &[("a", 1)]);
    client.send(ack_through(3));
    check_shares(&mut client, &[("a", 2)]);
    // No limit for the last one.
    client.ask(qos(0), "BasicQosOk");
    client.ask(consume("q", "c"), "consume-ok c");
    check_shares(&mut client, &[("c", 9)]);
}

#[test]
fn prefetch_does_not_hold_back_what_needs_no_acknowledgement() {
    let peer = Peer::start();
    let mut client = filled(&peer, 20);
    client.ask(qos(2), "BasicQosOk");
    client.ask(qos_global(3), "BasicQosOk");
    client.ask(consume_no_ack("q", "a"), "consume-ok a");
    check_shares(&mut client, &[("a", 20)]);
}

#[test]
fn global_prefetch_is_shared_by_the_channel() {
    let peer = Peer::start();
    let mut client = filled(&peer, 30);
    client.ask(qos_global(5), "BasicQosOk");
    client.ask(consume("q", "a"), "consume-ok a");
    check_shares(&mut client, &[("a", 5)]);
    client.ask(consume("q", "b"), "consume-ok b");
    client.expect_silence();
    client.send(ack_through(5));
    check_shared(&mut client, 5);
    // Another channel has a limit of its own.
    client.open(2);
    client.ask_on(2, consume("q", "c"), "consume-ok c");
    check_shares(&mut client, &[("c", 20)]);
}

#[test]
fn both_kinds_of_prefetch_hold_together() {
    let peer = Peer::start();
    let mut client = filled(&peer, 30);
    client.ask(qos(3), "BasicQosOk");
    client.ask(qos_global(5), "BasicQosOk");
    client.ask(consume("q", "a"), "consume-ok a");
    check_shares(&mut client, &[("a", 3)]);
    client.ask(consume("q", "b"), "consume-ok b");
    check_shares(&mut client, &[("b", 2)]);
    // Room that one makes on the channel is there for the other.
    client.send(ack(1));
    check_shared(&mut client, 1);
}

#[test]
fn messages_that_were_got_before_take_places_of_a_global_prefetch_until_it_is_lifted() {
    let peer = Peer::start();
    let mut client = filled(&peer, 9);
    client.ask(get("q"), "get-ok 1 /q 1 left 8");
    client.ask(qos_global(3), "BasicQosOk");
    client.ask(get("q"), "get-ok 2 /q 2 left 7");
    client.ask(consume("q", "a"), "consume-ok a");
    client.expect_all(&["deliver a 3 /q 3", "deliver a 4 /q 4"]);
    // Neither its acknowledgement nor another limit gives the place back.
    client.send(ack(1));
    client.expect_silence();
    client.ask(qos_global(4), "BasicQosOk");
    client.expect("deliver a 5 /q 5");
    client.expect_silence();
    client.ask(qos_global(0), "BasicQosOk");
    check_shared(&mut client, 4);
}

#[test]
fn who_waited_for_the_channels_prefetch_first_is_served_first() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume("q", "a"), "consume-ok a");
    client.ask(consume("q", "b"), "consume-ok b");
    client.ask(qos_global(1), "BasicQosOk");
    client.publish(message("", "q", "1"));
    client.expect("deliver a 1 /q 1");
    client.put(message("", "q", "2"));
    client.put(message("", "q", "3"));
    client.send(ack(1));
    client.expect("deliver b 2 /q 2");
    client.send(ack(2));
    client.expect("deliver a 3 /q 3");
}

#[test]
fn a_prefetch_for_new_consumers_lifts_that_of_the_channel() {
    let peer = Peer::start();
    let mut client = filled(&peer, 10);
    client.ask(qos_global(2), "BasicQosOk");
    client.ask(consume("q", "a"), "consume-ok a");
    check_shares(&mut client, &[("a", 2)]);
    client.ask(qos(3), "BasicQosOk");
    check_shares(&mut client, &[("a", 8)]);
}

#[test]
fn global_prefetch_applies_to_consumers_that_are_there() {
    let peer = Peer::start();
    let mut client = filled(&peer, 0);
    let mut publisher = peer.client();
    client.ask(consume("q", "a"), "consume-ok a");
    client.ask(qos_global(3), "BasicQosOk");
    for _ in 0..10 {
        publisher.put(message("", "q", "m"));
    }
    check_shares(&mut client, &[("a", 3)]);
    // A higher limit lets more through at once.
    client.ask(qos_global(5), "BasicQosOk");
    check_shares(&mut client, &[("a", 2)]);
    // A lower one holds back until enough is acknowledged.
    client.ask(qos_global(2), "BasicQosOk");
    client.send(ack_through(3));
    client.expect_silence();
    client.send(ack(4));
    check_shares(&mut client, &[("a", 1)]);
    client.ask(qos_global(0), "BasicQosOk");
    check_shares(&mut client, &[("a", 4)]);
}

#[test]
fn global_prefetch_spans_queues() {
    let peer = Peer::start();
    let mut client = peer.client();
    let mut publisher = peer.client();
    for queue in ["q1", "q2"] {
        client.ask(declare(queue), &format!("declare-ok {queue} 0 0"));
        for _ in 0..5 {
            publisher.put(message("", queue, "m"));
        }
    }
    client.ask(qos_global(4), "BasicQosOk");
    client.ask(consume("q1", "a"), "consume-ok a");
    check_shares(&mut client, &[("a", 4)]);
    client.ask(consume("q2", "b"), "consume-ok b");
    client.expect_silence();
    client.send(ack_through(4));
    check_shared(&mut client, 4);
}

#[test]
fn a_get_is_not_subject_to_prefetch() {
    let peer = Peer::start();
    let mut client = filled(&peer, 10);
    client.ask(qos(1), "BasicQosOk");
    client.ask(qos_global(1), "BasicQosOk");
    client.ask(get("q"), "get-ok 1 /q 1 left 9");
    client.ask(get("q"), "get-ok 2 /q 2 left 8");
    client.ask(consume("q", "a"), "consume-ok a");
    client.expect("deliver a 3 /q 3");
    client.ask(get("q"), "get-ok 4 /q 4 left 6");
    // Acknowledging what was got makes no room for a consumer.
    client.send(ack(1));
    client.send(ack(2));
    client.expect_silence();
    client.send(ack(3));
    client.expect("deliver a 5 /q 5");
}

#[test]
fn prefetch_is_given_back_by_every_way_of_settling() {
    let peer = Peer::start();
    let mut client = filled(&peer, 10);
    for limit in [qos(1), qos_global(1)] {
        client.ask(limit, "BasicQosOk");
        client.ask(consume("q", "a"), "consume-ok a");
        client.expect("deliver a 1 /q 1");
        client.send(nack(1, false, true));
        client.expect("deliver a 2 /q 1 redelivered");
        client.send(basic::Reject { delivery_tag: 2, requeue: true });
        client.expect("deliver a 3 /q 1 redelivered");
        client.ask(cancel("a"), "cancel-ok a");
        client.send(nack(0, true, true));
        client.ask(channel::Close::default(), "ChannelCloseOk");
        client.open(1);
        client.ask(passive("q"), "declare-ok q 10 0");
        client.ask(get("q"), "get-ok 1 /q 1 left 9 redelivered");
        client.send(nack(1, false, true));
        client.ask(channel::Close::default(), "ChannelCloseOk");
        client.open(1);
        put_back_as_new(&mut client, &peer);
    }
}

/// Fills the queue with messages that were never delivered.
fn put_back_as_new(client: &mut Client, peer: &Peer) {
    client.ask(delete("q"), "delete-ok 10");
    *client = filled(peer, 10);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let alone = |tag| basic::Consume { exclusive: true, ..consume("q", tag) };
    let in_use = "403 (60/20) ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    client.open(2);
    client.ask_on(2, alone("a"), "consume-ok a");
    client.refused(consume("q", "b"), in_use);
    client.refused(alone("b"), in_use);
    // Getting is no consuming.
    client.ask(get("q"), "BasicGetEmpty");
    client.ask_on(2, cancel("a"), "cancel-ok a");
    client.ask_on(2, consume("q", "a"), "consume-ok a");
    client.refused(alone("b"), in_use);
    client.ask(consume("q", "b"), "consume-ok b");
}

#[test]
fn clients_are_told_when_a_queue_goes_if_they_understand_it() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume("q", "own"), "consume-ok own");
    client.open(2);
    client.ask_on(2, consume("q", "other channel"), "consume-ok other channel");
    let mut other = peer.client();
    other.ask(consume("q", "other connection"), "consume-ok other connection");
    let mut mute = peer.client_with(&Login { capabilities: &[], ..Login::default() });
    mute.ask(consume("q", "mute"), "consume-ok mute");
    client.send(delete("q"));
    let said: Vec<_> = (0..3).map(|_| client.next()).collect();
    let on_channel = |channel| {
        let lines = said.iter().filter(|said| said.channel() == channel);
        lines.map(ToString::to_string).collect::<Vec<_>>()
    };
    // On the channel that deletes, it comes behind the answer.
    assert_eq!(on_channel(1), ["delete-ok 0", "cancel own nowait"]);
    assert_eq!(on_channel(2), ["cancel other channel nowait"]);
    other.expect("cancel other connection nowait");
    mute.expect_silence();
    // The tags are free again.
    for (client, tag) in [(&mut client, "own"), (&mut other, "other connection"), (&mut mute, "mute")] {
        client.send(declare("q"));
        let said = client.next().to_string();
        assert!(said.starts_with("declare-ok q 0 "), "{said}");
        client.ask(consume("q", tag), &format!("consume-ok {tag}"));
    }
}

#[test]
fn a_cancelled_consumer_gets_nothing_more_and_keeps_what_it_has() {
    let peer = Peer::start();
    let mut client = filled(&peer, 4);
    client.ask(qos(2), "BasicQosOk");
    client.ask(consume("q", "a"), "consume-ok a");
    client.expect_all(&["deliver a 1 /q 1", "deliver a 2 /q 2"]);
    client.ask(cancel("a"), "cancel-ok a");
    client.send(ack(1));
    client.expect_silence();
    client.ask(passive("q"), "declare-ok q 2 0");
    client.ask(get_no_ack("q"), "get-ok 3 /q 3 left 1");
    client.ask(channel::Close::default(), "ChannelCloseOk");
    client.open(1);
    client.ask(get_no_ack("q"), "get-ok 1 /q 2 left 1 redelivered");
}

#[test]
fn deliveries_of_several_consumers_of_a_channel_are_numbered_together() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q1"), "declare-ok q1 0 0");
    client.ask(declare("q2"), "declare-ok q2 0 0");
    client.ask(consume("q1", "a"), "consume-ok a");
    client.ask(consume_no_ack("q2", "b"), "consume-ok b");
    let mut publisher = peer.client();
    publisher.put(message("", "q1", "1"));
    client.expect("deliver a 1 /q1 1");
    publisher.put(message("", "q2", "2"));
    client.expect("deliver b 2 /q2 2");
    publisher.put(message("", "q1", "3"));
    client.expect("deliver a 3 /q1 3");
    // A delivery that needs no acknowledgement takes none.
    client.refused(ack(2), "406 (60/80) PRECONDITION_FAILED - unknown delivery tag 2");
}

#[test]
fn deliveries_say_where_the_message_was_published() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(exclusive("q"), "declare-ok q 0 0");
    client.ask(crate::support::bind("q", "amq.topic", "#"), "QueueBindOk");
    client.ask(consume_no_ack("q", "t"), "consume-ok t");
    client.publish(message("amq.topic", "a.b", "topic"));
    client.publish(message("amq.topic", "", "no key"));
    client.publish(message("", "q", ""));
    client.expect_all(&[
        "deliver t 1 amq.topic/a.b topic",
        "deliver t 2 amq.topic/ no key",
        "deliver t 3 /q ",
    ]);
}

#[test]
fn messages_of_a_channel_arrive_in_order() {
    let peer = Peer::start();
    let mut publisher = peer.client();
    let mut consumer = peer.client();
    consumer.ask(declare("q"), "declare-ok q 0 0");
    consumer.ask(qos(7), "BasicQosOk");
    consumer.ask(consume("q", "t"), "consume-ok t");
    let bodies: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
    publisher.publish_all(bodies.iter().map(|body| message("", "q", body)));
    for (n, body) in bodies.iter().enumerate() {
        let said = consumer.next();
        assert_eq!(said.body(), body.as_bytes());
        consumer.send(ack(n as u64 + 1));
    }
}

#[test]
fn a_consumer_on_many_queues_hears_from_each() {
    let peer = Peer::start();
    let mut client = peer.client();
    let names: Vec<_> = (0..50).map(|n| format!("q{n}")).collect();
    for name in &names {
        client.ask(exclusive(name), &format!("declare-ok {name} 0 0"));
        client.ask(crate::support::bind(name, "amq.fanout", ""), "QueueBindOk");
        client.ask(consume_no_ack(name, name), &format!("consume-ok {name}"));
    }
    client.publish(message("amq.fanout", "", "m"));
    let heard: BTreeSet<_> = names
        .iter()
        .map(|_| {
            let said = client.next();
            let Method::BasicDeliver(deliver) = said.method() else { panic!("{said}") };
            deliver.consumer_tag.to_string()
        })
        .collect();
    assert!(heard.iter().eq(names.iter().collect::<BTreeSet<_>>()));
    client.expect_silence();
}

#[test]
fn cancelling_one_of_two_leaves_all_to_the_other() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume_no_ack("q", "a"), "consume-ok a");
    client.ask(consume_no_ack("q", "b"), "consume-ok b");
    client.ask(cancel("a"), "cancel-ok a");
    let mut publisher = peer.client();
    for _ in 0..4 {
        publisher.put(message("", "q", "m"));
    }
    check_shares(&mut client, &[("b", 4)]);
}

#[test]
fn a_priority_is_a_number() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    let arguments = table(&[("x-priority", Value::LongStr(b"5"))]);
    client.refused(
        basic::Consume { arguments: arguments.as_table(), ..consume("q", "t") },
        "406 (60/20) PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, \
         got longstr\"",
    );
}

#[test]
fn a_consumer_that_keeps_deliveries_too_long_loses_its_channel() {
    let why = "the time is set up by an operator";
    let timeout = std::time::Duration::from_millis(100);
    let Some(peer) = Peer::leveret(why, |builder| builder.consumer_timeout(timeout)) else { return };
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume("q", "c"), "consume-ok c");
    client.publish(message("", "q", "m"));
    client.expect("deliver c 1 /q m");
    client.expect(
        "channel 406 (0/0) PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: \
         100 ms. This timeout value can be configured, see consumers doc guide to learn more",
    );
    client.reopen();
    client.ask(passive("q"), "declare-ok q 1 0");
}
