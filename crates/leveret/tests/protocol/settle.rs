//! Acknowledged, refused, put back: what becomes of a delivery.

use leveret_wire::method::{basic, channel};

use crate::support::{
    Client, Peer, ack, ack_through, cancel, consume, consume_no_ack, declare, get, get_no_ack, message, nack,
    passive, qos, reject,
};

/// A queue with messages 1 to `messages`, all of them got and unacknowledged on channel 1.
fn holding(peer: &Peer, messages: usize) -> Client {
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    for n in 1..=messages {
        client.put(message("", "q", &n.to_string()));
    }
    for n in 1..=messages {
        client.ask(get("q"), &format!("get-ok {n} /q {n} left {}", messages - n));
    }
    client
}

/// What is back in the queue once the channel is closed.
#[track_caller]
fn check_left(mut client: Client, wanted: &[&str]) {
    client.ask(channel::Close::default(), "ChannelCloseOk");
    client.open(1);
    assert_eq!(client.get_all("q"), wanted);
}

#[test]
fn one_is_acknowledged_or_all_up_to_it() {
    let peer = Peer::start();
    let check = |settle: &dyn Fn(&mut Client), left: &[&str]| {
        let mut client = holding(&peer, 5);
        settle(&mut client);
        client.expect_silence();
        check_left(client, left);
    };
    check(&|_| {}, &["1", "2", "3", "4", "5"]);
    check(&|client| client.send(ack(3)), &["1", "2", "4", "5"]);
    check(&|client| client.send(ack_through(3)), &["4", "5"]);
    check(&|client| client.send(ack_through(0)), &[]);
    check(
        &|client| {
            client.send(ack(2));
            client.send(ack_through(4));
            client.send(ack(5));
        },
        &[],
    );
    check(&|client| client.send(nack(3, false, false)), &["1", "2", "4", "5"]);
    check(&|client| client.send(nack(3, true, false)), &["4", "5"]);
    check(&|client| client.send(nack(0, true, false)), &[]);
    check(&|client| client.send(reject(1, false)), &["2", "3", "4", "5"]);
}

#[test]
fn a_delivery_is_settled_once() {
    let peer = Peer::start();
    let unknown =
        |ids: &str, tag: u64| format!("406 ({ids}) PRECONDITION_FAILED - unknown delivery tag {tag}");
    let mut client = holding(&peer, 3);
    client.send(ack(1));
    client.refused(ack(1), &unknown("60/80", 1));
    // All that was unacknowledged is back.
    assert_eq!(client.get_all("q"), ["2", "3"]);
    let mut client = holding(&peer, 3);
    client.send(ack_through(2));
    client.refused(reject(2, true), &unknown("60/90", 2));
    assert_eq!(client.get_all("q"), ["3"]);
    let mut client = holding(&peer, 3);
    client.send(ack(2));
    client.refused(ack_through(2), &unknown("60/80", 2));
    assert_eq!(client.get_all("q"), ["1", "3"]);
    let mut client = holding(&peer, 3);
    client.refused(ack_through(4), &unknown("60/80", 4));
    assert_eq!(client.get_all("q").len(), 3);
    // A get without acknowledgement takes a number all the same.
    let mut client = holding(&peer, 0);
    client.put(message("", "q", "m"));
    client.ask(get_no_ack("q"), "get-ok 1 /q m left 0");
    client.refused(ack(1), &unknown("60/80", 1));
    // Tags belong to their channel.
    let mut client = holding(&peer, 1);
    client.open(2);
    client.ask_on(2, ack(1), &format!("channel {}", unknown("60/80", 1)));
}

#[test]
fn what_is_put_back_goes_to_its_place() {
    let peer = Peer::start();
    let check = |settle: &dyn Fn(&mut Client), left: &[&str]| {
        let mut client = holding(&peer, 4);
        client.put(message("", "q", "5"));
        settle(&mut client);
        client.expect_silence();
        client.open(2);
        assert_eq!(client.get_all("q"), left);
        client.send(ack_through(0));
        client.ask(crate::support::purge("q"), "purge-ok 0");
    };
    check(&|client| client.send(nack(0, true, true)), &["1", "2", "3", "4", "5"]);
    check(&|client| client.send(nack(2, true, true)), &["1", "2", "5"]);
    check(
        &|client| {
            for tag in [3, 1, 4, 2] {
                client.send(reject(tag, true));
            }
        },
        &["1", "2", "3", "4", "5"],
    );
    check(
        &|client| {
            client.send(nack(4, false, true));
            client.send(ack(3));
            client.send(nack(2, true, true));
        },
        &["1", "2", "4", "5"],
    );
}

#[test]
fn what_was_delivered_before_says_so() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.put(message("", "q", "a"));
    client.ask(get("q"), "get-ok 1 /q a left 0");
    client.send(nack(1, false, true));
    client.ask(get("q"), "get-ok 2 /q a left 0 redelivered");
    client.send(reject(2, true));
    client.open(2);
    client.ask_on(2, consume("q", "t"), "consume-ok t");
    client.expect("deliver t 1 /q a redelivered");
    client.ask_on(2, channel::Close::default(), "ChannelCloseOk");
    client.put(message("", "q", "b"));
    client.ask(get("q"), "get-ok 3 /q a left 1 redelivered");
    client.ask(get("q"), "get-ok 4 /q b left 0");
    client.send(ack_through(0));
}

#[test]
fn what_is_rejected_may_come_back_to_the_same_consumer() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume("q", "t"), "consume-ok t");
    client.publish(message("", "q", "m"));
    client.expect("deliver t 1 /q m");
    for tag in 1..10 {
        client.send(reject(tag, true));
        client.expect(&format!("deliver t {} /q m redelivered", tag + 1));
    }
    client.send(ack(10));
    client.ask(cancel("t"), "cancel-ok t");
    client.ask(passive("q"), "declare-ok q 0 0");
}

#[test]
fn the_end_of_a_channel_or_connection_puts_back_in_order() {
    let peer = Peer::start();
    let mut watcher = peer.client();
    watcher.ask(declare("q"), "declare-ok q 0 0");
    let bodies = ["1", "2", "3", "4", "5"];
    let consumer = || {
        let mut client = peer.client();
        client.ask(qos(3), "BasicQosOk");
        client.ask(consume("q", "t"), "consume-ok t");
        client.expect_all(&["deliver t 1 /q 1", "deliver t 2 /q 2", "deliver t 3 /q 3"]);
        client
    };
    for body in bodies {
        watcher.put(message("", "q", body));
    }
    let mut client = consumer();
    client.send(ack(2));
    client.expect("deliver t 4 /q 4");
    client.ask(channel::Close::default(), "ChannelCloseOk");
    assert_eq!(watcher.get_all("q"), ["1", "3", "4", "5"]);

    for body in bodies {
        watcher.put(message("", "q", body));
    }
    consumer().close();
    assert_eq!(watcher.get_all("q"), bodies);

    for body in bodies {
        watcher.put(message("", "q", body));
    }
    let mut client = consumer();
    client.send(ack(99));
    client.expect("channel 406 (60/80) PRECONDITION_FAILED - unknown delivery tag 99");
    client.reopen();
    assert_eq!(client.get_all("q"), bodies);
}

#[test]
fn what_is_put_back_goes_to_whoever_waits() {
    let peer = Peer::start();
    let mut holder = holding(&peer, 2);
    let mut waiting = peer.client();
    waiting.ask(consume("q", "t"), "consume-ok t");
    holder.send(nack(2, false, true));
    waiting.expect("deliver t 1 /q 2 redelivered");
    holder.vanish();
    waiting.expect("deliver t 2 /q 1 redelivered");
    waiting.send(ack_through(0));
    waiting.expect_silence();
}

#[test]
fn recover_brings_all_again() {
    let peer = Peer::start();
    let mut client = holding(&peer, 2);
    client.ask(basic::Recover { requeue: true }, "BasicRecoverOk");
    client.ask(get("q"), "get-ok 3 /q 1 left 1 redelivered");
    client.ask(get("q"), "get-ok 4 /q 2 left 0 redelivered");
    client.send(basic::RecoverAsync { requeue: true });
    client.ask(get("q"), "get-ok 5 /q 1 left 1 redelivered");
    client.send(ack_through(5));
    client.ask(get_no_ack("q"), "get-ok 6 /q 2 left 0 redelivered");
    // With nothing to recover it is answered as well.
    client.ask(basic::Recover { requeue: true }, "BasicRecoverOk");
    // A consumer gets again what it holds.
    client.ask(consume("q", "t"), "consume-ok t");
    client.publish(message("", "q", "m"));
    client.expect_unordered(&["ack 3", "deliver t 7 /q m"]);
    client.send(basic::Recover { requeue: true });
    client.expect_unordered(&["BasicRecoverOk", "deliver t 8 /q m redelivered"]);
    client.send(ack(8));
}

#[test]
fn get_says_what_is_left() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(get("q"), "BasicGetEmpty");
    client.ask(get_no_ack("q"), "BasicGetEmpty");
    for body in ["a", "b", "c"] {
        client.put(message("", "q", body));
    }
    client.ask(get_no_ack("q"), "get-ok 1 /q a left 2");
    client.ask(get("q"), "get-ok 2 /q b left 1");
    client.ask(passive("q"), "declare-ok q 1 0");
    client.send(ack(2));
    client.ask(get("q"), "get-ok 3 /q c left 0");
    client.ask(get("q"), "BasicGetEmpty");
    client.send(ack(3));
}

#[test]
fn no_ack_deliveries_are_gone_when_they_are_sent() {
    let peer = Peer::start();
    let mut client = peer.client();
    client.ask(declare("q"), "declare-ok q 0 0");
    client.ask(consume_no_ack("q", "t"), "consume-ok t");
    client.publish(message("", "q", "m"));
    client.expect("deliver t 1 /q m");
    client.ask(channel::Close::default(), "ChannelCloseOk");
    client.open(1);
    client.ask(passive("q"), "declare-ok q 0 0");
}
