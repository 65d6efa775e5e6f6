//! What keeps the broker busy until it is killed: publishers that wait for confirms, consumers that
//! acknowledge, and one client that changes definitions.
//!
//! Tells the ledger before it says anything to the broker that could have an effect, and after the broker's
//! answer. Invariant: each ends by itself when the broker is gone.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::Result;
use futures_lite::StreamExt as _;
use lapin::{
    Channel, PublisherConfirm,
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions, BasicQosOptions},
};
use leveret_sim::random::Random;

use super::{
    Books,
    body::MessageId,
    client::{self, Outcome},
    definitions::{FANOUT, STEADY, Standing, Thing, changing_exchanges, changing_queues},
    ledger::Listening,
};

const UNCONFIRMED_MAX: usize = 200;
/// Messages of a publisher before it waits for the kill.
const MESSAGES_MAX: u64 = 4_000;
const PREFETCH: u16 = 50;
/// Deliveries that a consumer leaves without an answer.
const UNANSWERED_MAX: usize = 20;
/// By then what a broker said before it died is known.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(10);

/// A publish whose confirm has not come.
struct Pending {
    id: MessageId,
    queues: Vec<&'static str>,
    confirm: PublisherConfirm,
    is_persistent: bool,
}

impl Pending {
    /// Waits for its confirm; false when there will be none.
    async fn settle(self, books: &Books) -> bool {
        let answer = tokio::time::timeout(LAST_WORDS_TIME_MAX, self.confirm).await;
        let Ok(Ok(confirmation)) = answer else { return false };
        match client::outcome_of(&confirmation) {
            Outcome::Confirmed if self.is_persistent => books.ledger().confirmed(self.id, &self.queues),
            Outcome::Returned => books.ledger().violation(format!("{} came back: no queue", self.id)),
            Outcome::Confirmed | Outcome::Refused => {}
        }
        true
    }
}

/// Publishes until the broker is gone.
pub(super) async fn publish(
    url: String,
    books: Arc<Books>,
    publisher: u32,
    mut random: Random,
) -> Result<()> {
    let connection = client::connect(&url).await?;
    let channel = client::confirming(&connection).await?;
    let mut pending = VecDeque::new();
    for number in 0..MESSAGES_MAX {
        match send(&channel, &books, MessageId { publisher, number }, &mut random).await {
            Ok(sent) => pending.push_back(sent),
            Err(_) => break,
        }
        if pending.len() >= UNCONFIRMED_MAX || random.permille(5) {
            let oldest = pending.pop_front().expect("there is one at least");
            if !oldest.settle(&books).await {
                break;
            }
        }
    }
    for left in pending {
        left.settle(&books).await;
    }
    Ok(())
}

async fn send(
    channel: &Channel,
    books: &Books,
    id: MessageId,
    random: &mut Random,
) -> lapin::Result<Pending> {
    let body = id.body();
    let is_persistent = random.percent(95);
    let (exchange, queues): (_, Vec<_>) = match random.percent(20) {
        true => (FANOUT, STEADY[..3].iter().map(|(name, _)| *name).collect()),
        false => ("", vec![random.pick(&STEADY).0]),
    };
    books.ledger().sent(id, &queues);
    let key = queues[0];
    let confirm = match is_persistent || exchange == FANOUT {
        true => client::publish(channel, exchange, key, &body).await?,
        false => client::publish_transient(channel, key, &body).await?,
    };
    Ok(Pending { id, queues, confirm, is_persistent })
}

/// Consumes until the broker is gone: most is acknowledged, one by one or several at once, some goes back,
/// and some is left without an answer.
pub(super) async fn consume(
    url: String,
    books: Arc<Books>,
    queue: &'static str,
    mut random: Random,
) -> Result<()> {
    let connection = client::connect(&url).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut consumer = client::consume(&channel, queue).await?;
    let mut listening = Listening::default();
    let mut unanswered: Vec<(u64, MessageId)> = Vec::new();
    while let Some(Ok(delivery)) = consumer.next().await {
        let known = books.ledger().delivered(queue, &delivery.data, delivery.redelivered, &mut listening);
        if let Some(id) = known {
            unanswered.push((delivery.delivery_tag, id));
        }
        if answer(&delivery, queue, &books, &mut unanswered, &mut random).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn answer(
    delivery: &Delivery,
    queue: &str,
    books: &Books,
    unanswered: &mut Vec<(u64, MessageId)>,
    random: &mut Random,
) -> lapin::Result<()> {
    let chance = random.below(100);
    if chance < 5 || unanswered.len() > UNANSWERED_MAX {
        for (_, id) in unanswered.drain(..) {
            books.ledger().acked(queue, id);
        }
        return delivery.ack(BasicAckOptions { multiple: true }).await.map(drop);
    }
    if chance < 8 {
        return Ok(());
    }
    let Some((_, id)) = unanswered.pop() else { return Ok(()) };
    if chance < 10 {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        return delivery.nack(options).await.map(drop);
    }
    books.ledger().acked(queue, id);
    delivery.ack(BasicAckOptions::default()).await.map(drop)
}

/// Changes definitions until the broker is gone.
pub(super) async fn change(url: String, books: Arc<Books>, publisher: u32, mut random: Random) -> Result<()> {
    let connection = client::connect(&url).await?;
    let channel = client::confirming(&connection).await?;
    let mut number = 0;
    loop {
        number += 1;
        let changed = if random.percent(30) {
            let name = random.pick_from(changing_exchanges()).expect("there are some");
            turn(&channel, &books, &Thing::Exchange(name)).await
        } else {
            let name = random.pick_from(changing_queues()).expect("there are some");
            change_queue(&channel, &books, &name, MessageId { publisher, number }, &mut random).await
        };
        if changed.is_err() {
            return Ok(());
        }
    }
}

async fn change_queue(
    channel: &Channel,
    books: &Books,
    name: &str,
    id: MessageId,
    random: &mut Random,
) -> lapin::Result<()> {
    let queue = Thing::Queue(name.to_owned());
    let is_there = books.definitions().standing(&queue) == Standing::There;
    match random.below(4) {
        0 if is_there => turn(channel, books, &Thing::Binding(name.to_owned())).await,
        1 | 2 if is_there => {
            books.ledger().sent(id, &[name]);
            let confirm = client::publish(channel, "", name, &id.body()).await?;
            if client::outcome_of(&confirm.await?) == Outcome::Confirmed {
                books.ledger().confirmed(id, &[name]);
            }
            Ok(())
        }
        _ => turn(channel, books, &queue).await,
    }
}

/// Makes it when it is not there, and takes it away when it is.
async fn turn(channel: &Channel, books: &Books, thing: &Thing) -> lapin::Result<()> {
    let is_there = books.definitions().standing(thing) == Standing::There;
    books.definitions().asked(thing);
    if is_there {
        client::delete(channel, thing).await?;
    } else {
        client::declare(channel, thing).await?;
    }
    books.changed(thing, !is_there);
    Ok(())
}
