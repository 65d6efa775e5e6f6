//! Direct reply-to: answers without a queue.

use leveret_wire::{
    Properties,
    method::{channel, tx},
};

use crate::support::{
    Client, Message, Peer, bind, cancel, consume, consume_no_ack, declare, delete, get, mandatory, message,
    passive, purge,
};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn asking<'a>(reply_to: &'a str, body: &'a str) -> Message<'a> {
    let properties = Properties { reply_to: Some(reply_to.into()), ..Properties::default() };
    Message { properties, ..message("", "q", body) }
}

/// Who asks, who answers from `q`, and the name that answers go to.
fn asked(peer: &Peer) -> (Client, Client, String) {
    let mut answerer = peer.client();
    answerer.ask(declare("q"), "declare-ok q 0 0");
    answerer.ask(consume_no_ack("q", "a"), "consume-ok a");
    let mut asker = peer.client();
    asker.ask(consume_no_ack(REPLY_TO, "r"), "consume-ok r");
    asker.publish(asking(REPLY_TO, "question"));
    let question = answerer.expect("deliver a 1 /q question");
    let token = question.properties().reply_to.expect("where the answer goes").to_string();
    assert!(token.starts_with("amq.rabbitmq.reply-to."), "{token}");
    (asker, answerer, token)
}

#[test]
fn answers_come_to_the_channel_that_asked() {
    let peer = Peer::start();
    let (mut asker, mut answerer, token) = asked(&peer);
    for answer in ["one", "two"] {
        answerer.publish(message("", &token, answer));
        asker.expect(&format!("deliver r 1 /{token} {answer}"));
    }
    // The name is one for all questions of the channel.
    asker.publish(asking(REPLY_TO, "again"));
    let question = answerer.expect("deliver a 2 /q again");
    assert_eq!(question.properties().reply_to.map(|name| name.to_string()), Some(token));
    // A name of the asker's own is left alone.
    asker.publish(asking("mine", "own"));
    let question = answerer.expect("deliver a 3 /q own");
    assert_eq!(question.properties().reply_to.map(|name| name.to_string()).as_deref(), Some("mine"));
}

#[test]
fn an_answer_that_is_mandatory_comes_back_though_it_was_taken() {
    let peer = Peer::start();
    let (mut asker, mut answerer, token) = asked(&peer);
    answerer.publish(mandatory("", &token, "m"));
    answerer.expect(&format!("return 312 NO_ROUTE /{token} m"));
    asker.expect(&format!("deliver r 1 /{token} m"));
}

#[test]
fn an_answer_within_a_transaction_is_given_at_once_and_comes_back_at_the_commit() {
    let peer = Peer::start();
    let (mut asker, mut answerer, token) = asked(&peer);
    answerer.ask(tx::Select::default(), "TxSelectOk");
    answerer.publish(mandatory("", &token, "m"));
    asker.expect(&format!("deliver r 1 /{token} m"));
    answerer.expect_silence();
    answerer.send(tx::Commit::default());
    answerer.expect(&format!("return 312 NO_ROUTE /{token} m"));
    answerer.expect("TxCommitOk");
    answerer.publish(message("", &token, "n"));
    asker.expect(&format!("deliver r 1 /{token} n"));
    answerer.ask(tx::Rollback::default(), "TxRollbackOk");
    asker.expect_silence();
}

#[test]
fn nobody_hears_answers_once_the_consumer_is_gone() {
    let peer = Peer::start();
    let check = |leave: &dyn Fn(&mut Client)| {
        let (mut asker, mut answerer, token) = asked(&peer);
        answerer.ask(passive(&token), &format!("declare-ok {token} 0 1"));
        leave(&mut asker);
        answerer.publish(mandatory("", &token, "late"));
        answerer.expect(&format!("return 312 NO_ROUTE /{token} late"));
        answerer
            .refused(passive(&token), &format!("404 (50/10) NOT_FOUND - no queue '{token}' in vhost '/'"));
        answerer.ask(delete("q"), "delete-ok 0");
    };
    check(&|asker| {
        asker.ask(cancel("r"), "cancel-ok r");
    });
    check(&|asker| {
        asker.ask(channel::Close::default(), "ChannelCloseOk");
    });
}

#[test]
fn what_cannot_be_is_refused() {
    let peer = Peer::start();
    let mut client = peer.client();
    let fast = |ids: &str, text: &str| format!("406 ({ids}) PRECONDITION_FAILED - {text}");
    client.publish(asking(REPLY_TO, "m"));
    client.expect(&format!("channel {}", fast("60/40", "fast reply consumer does not exist")));
    client.reopen();
    client.refused(consume(REPLY_TO, "r"), &fast("60/20", "reply consumer cannot acknowledge"));
    client.ask(consume_no_ack(REPLY_TO, "r"), "consume-ok r");
    client.refused(consume_no_ack(REPLY_TO, "s"), &fast("60/20", "reply consumer already set"));
    // Its own tag is none that is reused.
    client.ask(consume_no_ack(REPLY_TO, "r"), "consume-ok r");
    client.refused(consume(REPLY_TO, "r"), &fast("60/20", "reply consumer cannot acknowledge"));
    let missing = |ids: &str| format!("404 ({ids}) NOT_FOUND - no queue '{REPLY_TO}' in vhost '/'");
    client.refused(get(REPLY_TO), &missing("60/70"));
    client.refused(purge(REPLY_TO), &missing("50/30"));
    client.refused(bind(REPLY_TO, "amq.direct", "k"), &missing("50/20"));
    client.ask(delete(REPLY_TO), "delete-ok 0");
    client.ask(passive(REPLY_TO), &format!("declare-ok {REPLY_TO} 0 1"));
    client.ask(declare(REPLY_TO), &format!("declare-ok {REPLY_TO} 0 1"));
}
