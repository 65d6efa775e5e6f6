//! Transactions: held until commit, dropped by rollback.

use leveret_wire::{
    Method,
    method::{channel, tx},
};

use crate::support::{
    Client, Peer, ack, bind, consume, declare, declare_exchange, delete, delete_exchange, get, mandatory,
    message, nack, passive, reject,
};

/// A client with a queue and a transactional channel.
fn transactional(peer: &Peer) -> Client {
    let mut client = peer.client();
    client.send(declare("q"));
    client.next();
    client.ask(tx::Select {}, "TxSelectOk");
    client
}

#[test]
fn publishes_are_held_until_commit() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    let mut watcher = peer.client();
    client.publish(message("", "q", "a"));
    client.publish(message("", "q", "b"));
    client.expect_silence();
    watcher.ask(passive("q"), "declare-ok q 0 0");
    client.ask(tx::Commit {}, "TxCommitOk");
    watcher.ask(passive("q"), "declare-ok q 2 0");
    client.publish(message("", "q", "c"));
    client.ask(tx::Rollback {}, "TxRollbackOk");
    client.ask(tx::Commit {}, "TxCommitOk");
    assert_eq!(watcher.get_all("q"), ["a", "b"]);
    // What is not committed goes with the channel.
    client.publish(message("", "q", "d"));
    client.ask(channel::Close::default(), "ChannelCloseOk");
    watcher.ask(passive("q"), "declare-ok q 0 0");
    // Without anything to commit or roll back there is an answer as well.
    let mut client = transactional(&peer);
    client.ask(tx::Commit {}, "TxCommitOk");
    client.ask(tx::Rollback {}, "TxRollbackOk");
}

#[test]
fn acknowledgements_are_held_until_commit() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    let mut watcher = peer.client();
    for body in ["1", "2", "3"] {
        watcher.put(message("", "q", body));
    }
    client.ask(get("q"), "get-ok 1 /q 1 left 2");
    client.ask(get("q"), "get-ok 2 /q 2 left 1");
    client.ask(get("q"), "get-ok 3 /q 3 left 0");
    client.send(ack(1));
    client.ask(tx::Rollback {}, "TxRollbackOk");
    // A rolled-back acknowledgement may be given again.
    client.send(ack(1));
    client.send(reject(2, true));
    client.expect_silence();
    watcher.ask(passive("q"), "declare-ok q 0 0");
    client.ask(tx::Commit {}, "TxCommitOk");
    watcher.ask(passive("q"), "declare-ok q 1 0");
    // What was acknowledged and not committed is back when the channel goes.
    client.send(ack(3));
    client.ask(channel::Close::default(), "ChannelCloseOk");
    assert_eq!(watcher.get_all("q"), ["2", "3"]);
}

#[test]
fn acknowledgements_of_many_are_held_as_well() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    let mut watcher = peer.client();
    for body in ["1", "2", "3", "4"] {
        watcher.put(message("", "q", body));
    }
    for n in 1..=4 {
        client.ask(get("q"), &format!("get-ok {n} /q {n} left {}", 4 - n));
    }
    client.send(nack(2, true, true));
    client.send(nack(3, false, false));
    client.expect_silence();
    watcher.ask(passive("q"), "declare-ok q 0 0");
    client.ask(tx::Commit {}, "TxCommitOk");
    assert_eq!(watcher.get_all("q"), ["1", "2"]);
    client.send(nack(0, true, false));
    client.ask(tx::Commit {}, "TxCommitOk");
    client.ask(channel::Close::default(), "ChannelCloseOk");
    watcher.ask(passive("q"), "declare-ok q 0 0");
}

#[test]
fn wrong_acknowledgements_are_told_at_once() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    let unknown =
        |ids: &str, tag: u64| format!("channel 406 ({ids}) PRECONDITION_FAILED - unknown delivery tag {tag}");
    let mut watcher = peer.client();
    watcher.put(message("", "q", "1"));
    client.ask(ack(9), &unknown("60/80", 9));
    let mut client = transactional(&peer);
    client.ask(get("q"), "get-ok 1 /q 1 left 0");
    client.send(ack(1));
    client.ask(ack(1), &unknown("60/80", 1));
    client.reopen();
    client.ask(get("q"), "get-ok 1 /q 1 left 0 redelivered");
    client.send(ack(1));
}

#[test]
fn a_missing_exchange_is_told_at_once_and_returns_come_at_commit() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    client.publish(mandatory("", "nobody", "a"));
    client.publish(message("", "q", "b"));
    client.publish(mandatory("", "nobody", "c"));
    client.expect_silence();
    client.ask(tx::Rollback {}, "TxRollbackOk");
    client.publish(mandatory("", "nobody", "d"));
    client.publish(mandatory("", "q", "e"));
    client.send(tx::Commit {});
    client.expect_all(&["return 312 NO_ROUTE /nobody d", "TxCommitOk"]);
    client.publish(message("", "q", "f"));
    client.publish(message("gone", "k", "g"));
    client.expect("channel 404 (60/40) NOT_FOUND - no exchange 'gone' in vhost '/'");
    client.reopen();
    assert_eq!(client.get_all("q"), ["e"]);
}

#[test]
fn an_exchange_that_goes_before_commit_takes_its_messages_along() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    client.ask(declare_exchange("x", "fanout"), "ExchangeDeclareOk");
    client.publish(message("x", "", "a"));
    client.publish(message("", "q", "b"));
    client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    client.ask(tx::Commit {}, "TxCommitOk");
    assert_eq!(client.get_all("q"), ["b"]);
}

#[test]
fn consumers_go_on_during_a_transaction() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    client.ask(crate::support::qos(1), "BasicQosOk");
    client.ask(consume("q", "t"), "consume-ok t");
    let mut publisher = peer.client();
    publisher.put(message("", "q", "1"));
    publisher.put(message("", "q", "2"));
    client.expect("deliver t 1 /q 1");
    // Room is made when the acknowledgement takes effect.
    client.send(ack(1));
    client.expect_silence();
    client.send(tx::Commit {});
    client.expect_unordered(&["TxCommitOk", "deliver t 2 /q 2"]);
    client.send(ack(2));
    client.ask(tx::Commit {}, "TxCommitOk");
}

#[test]
fn many_messages_are_committed_at_once() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    let bodies: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
    client.publish_all(bodies.iter().map(|body| message("", "q", body)));
    client.ask(tx::Commit {}, "TxCommitOk");
    let said = client.ask(passive("q"), "declare-ok q 5000 0");
    assert!(matches!(said.method(), Method::QueueDeclareOk(_)));
    assert_eq!(client.get_all("q"), bodies);
}

#[test]
fn where_a_message_goes_is_found_when_it_comes() {
    let peer = Peer::start();
    let mut client = transactional(&peer);
    client.ask(declare_exchange("x", "fanout"), "ExchangeDeclareOk");
    client.ask(bind("q", "x", ""), "QueueBindOk");
    client.publish(message("x", "", "by an exchange that is gone"));
    client.ask(delete_exchange("x"), "ExchangeDeleteOk");
    client.ask(declare("late"), "declare-ok late 0 0");
    client.ask(declare_exchange("y", "fanout"), "ExchangeDeclareOk");
    client.publish(mandatory("y", "", "before the binding"));
    client.ask(bind("late", "y", ""), "QueueBindOk");
    client.ask(declare("gone"), "declare-ok gone 0 0");
    client.publish(mandatory("", "gone", "to a queue that is gone"));
    client.ask(delete("gone"), "delete-ok 0");
    client.send(tx::Commit {});
    client.expect("return 312 NO_ROUTE y/ before the binding");
    client.expect("return 312 NO_ROUTE /gone to a queue that is gone");
    client.expect("TxCommitOk");
    assert_eq!(client.get_all("q"), ["by an exchange that is gone"]);
    client.ask(passive("late"), "declare-ok late 0 0");
}
