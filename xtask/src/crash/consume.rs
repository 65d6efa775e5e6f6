//! Who takes messages until the broker is killed: consumers that acknowledge, and one that moves messages in
//! transactions.
//!
//! Tells the ledger before it says anything to the broker that could have an effect, and after the broker's
//! answer. Invariant: each ends by itself when the broker is gone, with an error.
//!
//! Acknowledgements go by the channel and not by the delivery: lapin 4.12.3 hands what is asked of a delivery
//! to a task of its own, and what comes to that between its being told to stop and its end is never answered,
//! nor refused.

use std::{mem, sync::Arc};

use anyhow::{Result, bail};
use futures_lite::StreamExt as _;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicNackOptions, BasicQosOptions},
};
use leveret_sim::random::Random;

use super::{
    Books,
    body::MessageId,
    client::{self, Address, Outcome},
    definitions::STEADY,
    ledger::Listening,
};

const PREFETCH: u16 = 50;
/// Deliveries that a consumer leaves without an answer.
const UNANSWERED_MAX: usize = 20;
/// Of a hundred deliveries so many are followed by a message whose confirm is waited for.
const STAMPED_PERCENT: u64 = 2;
/// Messages that a transaction moves.
const MOVED_MAX: usize = 8;

/// A consumer's deliveries.
struct Taken {
    queue: &'static str,
    listening: Listening,
    unanswered: Vec<(u64, MessageId)>,
    /// What was acknowledged and no confirm covers yet.
    acked: Vec<MessageId>,
}

impl Taken {
    fn new(queue: &'static str) -> Self {
        Self { queue, listening: Listening::default(), unanswered: Vec::new(), acked: Vec::new() }
    }

    fn acked(&mut self, books: &Books, id: MessageId) {
        books.ledger().acked(self.queue, id);
        self.acked.push(id);
    }
}

/// Consumes: most is acknowledged, one by one or several at once, some goes back, and some is left without an
/// answer. Now and then a message is published and its confirm waited for, which covers what was acknowledged
/// before.
pub(super) async fn consume(
    broker: Address,
    books: Arc<Books>,
    queue: &'static str,
    publisher: u32,
    mut random: Random,
) -> Result<()> {
    let connection = broker.connect().await?;
    let channel = connection.create_channel().await?;
    let stamping = client::confirming(&connection).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut consumer = client::consume(&channel, queue).await?;
    let mut taken = Taken::new(queue);
    let mut number = 0;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let tag = delivery.delivery_tag;
        let known =
            books.ledger().delivered(queue, &delivery.data, delivery.redelivered, &mut taken.listening);
        if let Some(id) = known {
            taken.unanswered.push((tag, id));
        }
        answer(&channel, tag, &books, &mut taken, &mut random).await?;
        if random.percent(STAMPED_PERCENT) {
            number += 1;
            let acked = mem::take(&mut taken.acked);
            stamp(&stamping, &books, MessageId { publisher, number }, &mut random).await?;
            books.settled(queue, acked);
        }
    }
    bail!("the consumer of {queue} was cancelled")
}

async fn answer(
    channel: &Channel,
    tag: u64,
    books: &Books,
    taken: &mut Taken,
    random: &mut Random,
) -> lapin::Result<()> {
    let chance = random.below(100);
    if chance < 5 || taken.unanswered.len() > UNANSWERED_MAX {
        for (_, id) in mem::take(&mut taken.unanswered) {
            taken.acked(books, id);
        }
        return channel.basic_ack(tag, BasicAckOptions { multiple: true }).await;
    }
    if chance < 8 {
        return Ok(());
    }
    let Some((_, id)) = taken.unanswered.pop() else { return Ok(()) };
    if chance < 10 {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        return channel.basic_nack(tag, options).await;
    }
    taken.acked(books, id);
    channel.basic_ack(tag, BasicAckOptions::default()).await
}

/// Publishes a message that lasts and waits for its confirm.
async fn stamp(channel: &Channel, books: &Books, id: MessageId, random: &mut Random) -> Result<()> {
    let queue = random.pick(&STEADY).0;
    books.ledger().sent(id, &[queue]);
    let confirm = client::publish(channel, "", queue, &id.body()).await?;
    match client::outcome_of(&confirm.await?) {
        Outcome::Confirmed => books.ledger().confirmed(id, &[queue]),
        outcome => bail!("{queue} takes no message: {outcome:?}"),
    }
    Ok(())
}

/// Takes messages and publishes others in transactions, of which some are rolled back. The ledger hears of a
/// transaction only when its commit is sent: before that it must have no effect.
pub(super) async fn transact(
    broker: Address,
    books: Arc<Books>,
    queue: &'static str,
    publisher: u32,
    mut random: Random,
) -> Result<()> {
    let connection = broker.connect().await?;
    let channel = connection.create_channel().await?;
    channel.tx_select().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut consumer = client::consume(&channel, queue).await?;
    let mut taken = Taken::new(queue);
    let (mut number, mut wanted) = (0, 1);
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let known =
            books.ledger().delivered(queue, &delivery.data, delivery.redelivered, &mut taken.listening);
        taken.unanswered.extend(known.map(|id| (delivery.delivery_tag, id)));
        if taken.unanswered.len() < wanted {
            continue;
        }
        let mut sent = Vec::new();
        for (tag, _) in &taken.unanswered {
            number += 1;
            let (id, to) = (MessageId { publisher, number }, random.pick(&STEADY).0);
            client::publish(&channel, "", to, &id.body()).await?;
            channel.basic_ack(*tag, BasicAckOptions::default()).await?;
            sent.push((id, to));
        }
        wanted = 1 + random.below(MOVED_MAX);
        if random.percent(20) {
            // Nothing of it happened, and so the acknowledgements are sent again in the next one.
            channel.tx_rollback().await?;
            wanted += taken.unanswered.len();
            continue;
        }
        commit(&channel, &books, &mut taken, &sent).await?;
    }
    bail!("the consumer of {queue} was cancelled")
}

async fn commit(
    channel: &Channel,
    books: &Books,
    taken: &mut Taken,
    sent: &[(MessageId, &'static str)],
) -> lapin::Result<()> {
    for (id, to) in sent {
        books.ledger().sent(*id, &[to]);
    }
    for (_, id) in mem::take(&mut taken.unanswered) {
        taken.acked(books, id);
    }
    channel.tx_commit().await?;
    books.ledger().counts.commits += 1;
    for (id, to) in sent {
        books.ledger().confirmed(*id, &[to]);
    }
    books.settled(taken.queue, mem::take(&mut taken.acked));
    Ok(())
}
