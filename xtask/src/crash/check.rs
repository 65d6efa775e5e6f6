//! What must hold when the broker is back: definitions first, then all that is in each queue.
//!
//! Tells the ledger what it finds; the ledger judges. Invariant: a queue is known to be empty because the
//! message published last has come, not because nothing came for a while.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_lite::StreamExt as _;
use lapin::{
    Channel, Connection,
    options::{BasicAckOptions, BasicCancelOptions},
};
use leveret_sim::random::Random;

use super::{
    Books,
    body::MessageId,
    client::{self, Outcome},
    definitions::{DIRECT, FANOUT, STEADY, Standing, Thing, changing_queues},
    ledger::{Emptying, Order},
};

/// Far more than any queue here takes to be emptied.
const EMPTYING_TIME_MAX: Duration = Duration::from_secs(60);

/// A look at the broker after a restart.
pub(super) struct Check<'a> {
    pub(super) books: &'a Books,
    pub(super) publisher: u32,
    pub(super) random: Random,
    /// Of a hundred messages so many are acknowledged; the others go back.
    pub(super) acked_percent: u64,
    number: u64,
    /// What was acknowledged, each with its queue.
    acked: Vec<(String, MessageId)>,
}

impl<'a> Check<'a> {
    pub(super) fn new(books: &'a Books, publisher: u32, random: Random, acked_percent: u64) -> Self {
        Self { books, publisher, random, acked_percent, number: 0, acked: Vec::new() }
    }

    pub(super) async fn run(&mut self, url: &str) -> Result<()> {
        let connection = client::connect(url).await?;
        self.names(&connection).await?;
        for (queue, order) in STEADY {
            self.empty(&connection, queue, order).await?;
        }
        for queue in changing_queues() {
            let standing = self.books.definitions().standing(&Thing::Queue(queue.clone()));
            if standing == Standing::There {
                self.binding(&connection, &queue).await?;
                self.empty(&connection, &queue, Order::Kept).await?;
            }
        }
        self.settle(&connection).await?;
        connection.close(200, "checked".into()).await.context("the broker does not close a connection")
    }

    /// A confirm on a connection covers what was acknowledged on it before.
    async fn settle(&mut self, connection: &Connection) -> Result<()> {
        let channel = client::confirming(connection).await?;
        let outcome = self.publish(&channel, "", STEADY[0].0).await?.1;
        anyhow::ensure!(outcome == Outcome::Confirmed, "a message is not taken: {outcome:?}");
        for (queue, id) in self.acked.drain(..) {
            self.books.settled(&queue, [id]);
        }
        client::close(&channel).await
    }

    async fn names(&mut self, connection: &Connection) -> Result<()> {
        let things = self.books.definitions().all();
        for thing in things {
            if !matches!(thing, Thing::Binding(_)) {
                let is_there = client::exists(connection, &thing).await?;
                self.found(&thing, is_there);
            }
        }
        Ok(())
    }

    fn found(&self, thing: &Thing, is_there: bool) {
        let standing = self.books.definitions().standing(thing);
        let wrong = self.books.definitions().found(thing, is_there);
        if let Some(wrong) = wrong {
            self.books.ledger().violation(wrong);
        }
        if let Thing::Queue(name) = thing
            && !is_there
        {
            // Where it had to be there, its messages are missing too.
            if standing == Standing::There {
                self.books.ledger().emptied(&Emptying::of(name, Order::Kept));
            }
            self.books.ledger().all_gone(name);
        }
    }

    fn next_id(&mut self) -> MessageId {
        self.number += 1;
        MessageId { publisher: self.publisher, number: self.number }
    }

    /// A binding is there if a message finds its way.
    async fn binding(&mut self, connection: &Connection, queue: &str) -> Result<()> {
        let channel = client::confirming(connection).await?;
        let outcome = self.publish(&channel, DIRECT, queue).await?.1;
        self.found(&Thing::Binding(queue.to_owned()), outcome != Outcome::Returned);
        client::close(&channel).await
    }

    async fn publish(
        &mut self,
        channel: &Channel,
        exchange: &str,
        queue: &str,
    ) -> Result<(MessageId, Outcome)> {
        let id = self.next_id();
        self.books.ledger().sent(id, &[queue]);
        let confirm = client::publish(channel, exchange, queue, &id.body()).await?;
        let outcome = client::outcome_of(&confirm.await?);
        if outcome == Outcome::Confirmed {
            self.books.ledger().confirmed(id, &[queue]);
        }
        Ok((id, outcome))
    }

    async fn empty(&mut self, connection: &Connection, queue: &str, order: Order) -> Result<()> {
        let channel = client::confirming(connection).await?;
        let (last, outcome) = self.publish(&channel, "", queue).await?;
        anyhow::ensure!(outcome == Outcome::Confirmed, "{queue} takes no message: {outcome:?}");
        let mut emptying = Emptying::of(queue, order);
        let taking = self.take_all(&channel, queue, last, &mut emptying);
        match tokio::time::timeout(EMPTYING_TIME_MAX, taking).await {
            Ok(taken) => taken?,
            Err(_) => self.books.ledger().violation(format!("{queue} stopped before its last message")),
        }
        self.books.ledger().emptied(&emptying);
        client::close(&channel).await
    }

    async fn take_all(
        &mut self,
        channel: &Channel,
        queue: &str,
        last: MessageId,
        emptying: &mut Emptying,
    ) -> Result<()> {
        let mut consumer = client::consume(channel, queue).await?;
        let mut is_last = false;
        while !is_last {
            let delivery = consumer.next().await.context("the consumer ended")??;
            let id = self.books.ledger().found(&delivery.data, emptying);
            if let Some(id) = id
                && (id == last || self.random.percent(self.acked_percent))
            {
                self.books.ledger().acked(queue, id);
                self.acked.push((queue.to_owned(), id));
                channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
            }
            is_last = id == Some(last);
        }
        // A consumer that is dropped is cancelled some time later, which its channel may not live to see.
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
        Ok(())
    }
}

/// Declares what is always there; the first time, or where a broker lost it.
pub(super) async fn set_up(url: &str, books: &Books) -> Result<()> {
    let connection = client::connect(url).await?;
    let channel = connection.create_channel().await?;
    let exchanges = [FANOUT, DIRECT].map(|name| Thing::Exchange(name.to_owned()));
    let queues = STEADY.map(|(name, _)| Thing::Queue(name.to_owned()));
    for thing in exchanges.iter().chain(&queues) {
        books.definitions().asked(thing);
        client::declare(&channel, thing).await?;
        books.changed(thing, true);
    }
    for (queue, _) in &STEADY[..3] {
        client::bind(&channel, queue, FANOUT, "").await?;
    }
    client::close(&channel).await?;
    connection.close(200, "set up".into()).await.context("the broker does not close a connection")
}
