//! What gives the broker messages and changes what it has until it is killed: publishers that wait for
//! confirms, and one client that changes definitions. Who takes messages is in `consume`.
//!
//! Tells the ledger before it says anything to the broker that could have an effect, and after the broker's
//! answer. Invariant: each ends by itself when the broker is gone, with an error if that came too early.

use std::{collections::VecDeque, sync::Arc};

use anyhow::Result;
use lapin::{Channel, PublisherConfirm};
use leveret_sim::random::Random;

use super::{
    Books,
    body::{FIRST_HEAVY, MessageId},
    client::{self, Address, Outcome},
    definitions::{FANOUT, STEADY, Standing, Thing, changing_exchanges, changing_queues},
};

const UNCONFIRMED_MAX: usize = 200;
/// Messages of a publisher before it waits for the kill.
const MESSAGES_MAX: u64 = 4_000;
const HEAVY_MESSAGES_MAX: u64 = 20_000;

/// A publish whose confirm has not come.
struct Pending {
    id: MessageId,
    queues: Vec<&'static str>,
    confirm: PublisherConfirm,
    is_persistent: bool,
}

impl Pending {
    /// Waits for its confirm.
    async fn settle(self, books: &Books) -> lapin::Result<()> {
        match client::outcome_of(&self.confirm.await?) {
            Outcome::Confirmed if self.is_persistent => books.ledger().confirmed(self.id, &self.queues),
            Outcome::Returned => books.ledger().violation(format!("{} came back: no queue", self.id)),
            Outcome::Confirmed | Outcome::Refused => {}
        }
        Ok(())
    }
}

/// Publishes until the broker is gone, or that is enough: messages that are mostly small, or large.
pub(super) async fn publish(
    broker: Address,
    books: Arc<Books>,
    publisher: u32,
    is_heavy: bool,
    mut random: Random,
) -> Result<()> {
    let connection = broker.connect().await?;
    let channel = client::confirming(&connection).await?;
    let mut pending = VecDeque::new();
    let numbers = if is_heavy { FIRST_HEAVY..FIRST_HEAVY + HEAVY_MESSAGES_MAX } else { 0..MESSAGES_MAX };
    let ids = numbers.map(|number| MessageId { publisher, number });
    let mut outcome = publish_all(&channel, &books, ids, &mut random, &mut pending).await;
    // What the broker said before it went counts, whatever came between.
    for left in pending {
        outcome = outcome.and(left.settle(&books).await);
    }
    Ok(outcome?)
}

async fn publish_all(
    channel: &Channel,
    books: &Books,
    ids: impl Iterator<Item = MessageId>,
    random: &mut Random,
    pending: &mut VecDeque<Pending>,
) -> lapin::Result<()> {
    for id in ids {
        pending.push_back(send(channel, books, id, random).await?);
        if pending.len() >= UNCONFIRMED_MAX || random.permille(5) {
            pending.pop_front().expect("there is one at least").settle(books).await?;
        }
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

/// Changes definitions until the broker is gone.
pub(super) async fn change(
    broker: Address,
    books: Arc<Books>,
    publisher: u32,
    mut random: Random,
) -> Result<()> {
    let connection = broker.connect().await?;
    let channel = client::confirming(&connection).await?;
    let mut number = 0;
    loop {
        number += 1;
        if random.percent(30) {
            let name = random.pick_from(changing_exchanges()).expect("there are some");
            turn(&channel, &books, &Thing::Exchange(name)).await?;
        } else {
            let name = random.pick_from(changing_queues()).expect("there are some");
            change_queue(&channel, &books, &name, MessageId { publisher, number }, &mut random).await?;
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
    match random.below(10) {
        0 | 1 if is_there => turn(channel, books, &Thing::Binding(name.to_owned())).await,
        2 if is_there => {
            books.ledger().leaving(name);
            client::purge(channel, name).await?;
            books.ledger().counts.changes += 1;
            books.ledger().all_gone(name);
            Ok(())
        }
        3..=6 if is_there => {
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
