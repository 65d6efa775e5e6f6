//! How fast messages with a fresh key each go through a topic exchange, with many bindings and with few.
//!
//! The frames are made ahead and every message is mandatory, so that one which found no queue would come
//! back. Invariant: what was declared for a measurement is gone after it.

use std::time::Instant;

use anyhow::{Result, ensure};
use leveret_wire::method::{basic, exchange, queue};
use leveret_wire::{ContentHeader, FrameKind, Method, TableBuf, Value, write_body_frames, write_frame};

use super::Lab;
use super::growth::{middle, open, say_all, settle};
use super::load::Broker;
use crate::footprint::client::{CHANNEL, Client};

const EXCHANGE: &str = "topics";
const QUEUE: &str = "topics";
const MANY: u64 = 100_000;
const FEW: u64 = 10;
const MESSAGES: u64 = 400_000;
/// Looked at before the others, so that messages which come back are few.
const FIRST_MESSAGES: u64 = 1000;
/// Of the rate with few bindings, which lie in the nearest cache. What ten thousand times as many cost is looks
/// into memory that no cache holds, a few for each word of a key; a walk that grew with their number would be
/// at less than a hundredth.
const SHARE_MIN: f64 = 0.25;
const FRAME_OCTETS_MAX: u32 = 131_072;
const BODY: [u8; 16] = [b'.'; 16];

pub(super) fn measure(lab: &Lab<'_>, broker: &mut Broker) -> Result<(String, String, bool)> {
    let (mut many, mut few) = (Vec::new(), Vec::new());
    for _ in 0..lab.options.runs {
        few.push(per_second(broker, FEW)?);
        many.push(per_second(broker, MANY)?);
    }
    let (many, few) = (middle(many), middle(few));
    let share = many / few;
    let found = format!("{many:.0} messages a second, {:.0} % of the {few:.0} with 10", share * 100.0);
    Ok((found, format!("{:.0} % of the rate with 10", SHARE_MIN * 100.0), share >= SHARE_MIN))
}

/// Messages routed a second by so many bindings.
fn per_second(broker: &Broker, bindings: u64) -> Result<f64> {
    let mut client = open(broker)?;
    let kind = "topic".into();
    client.call(CHANNEL, exchange::Declare { exchange: EXCHANGE.into(), kind, ..Default::default() })?;
    // Nobody takes them, and only the last ones are kept.
    let limit = TableBuf::new().with("x-max-length", Value::I32(1000));
    let arguments = limit.as_table();
    client.call(CHANNEL, queue::Declare { queue: QUEUE.into(), arguments, ..Default::default() })?;
    let keys: Vec<String> = (0..bindings).map(binding_key).collect();
    let binds = keys.iter().map(|key| {
        let (queue, exchange, routing_key) = (QUEUE.into(), EXCHANGE.into(), key.as_str().into());
        queue::Bind { queue, exchange, routing_key, nowait: true, ..queue::Bind::default() }.into()
    });
    say_all(&mut client, binds)?;
    publish(&mut client, bindings, 0..FIRST_MESSAGES)?;
    let seconds = publish(&mut client, bindings, FIRST_MESSAGES..FIRST_MESSAGES + MESSAGES)?;
    client.call(CHANNEL, queue::Delete { queue: QUEUE.into(), ..Default::default() })?;
    let answer =
        client.call(CHANNEL, exchange::Delete { exchange: EXCHANGE.into(), ..Default::default() })?;
    ensure!(matches!(answer, Method::ExchangeDeleteOk(_)), "exchange.delete-ok was expected");
    client.close()?;
    #[allow(clippy::cast_precision_loss, reason = "a small constant")]
    let messages = MESSAGES as f64;
    Ok(messages / seconds)
}

/// Sends these messages and waits until they are routed; how long that took.
fn publish(client: &mut Client, bindings: u64, numbers: std::ops::Range<u64>) -> Result<f64> {
    let mut frames = Vec::new();
    for number in numbers {
        write_publish(&mut frames, &fresh_key(bindings, number));
    }
    client.say_octets(&frames);
    let began = Instant::now();
    settle(client)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Three to five words, with and without wildcards.
fn binding_key(n: u64) -> String {
    match n % 4 {
        0 => format!("tenant{n}.*.created"),
        1 => format!("tenant{n}.orders.#"),
        2 => format!("tenant{n}.*.*.paid.today"),
        _ => format!("*.tenant{n}.#.failed"),
    }
}

/// A key that had not been before and that one binding takes, far from the one before.
fn fresh_key(bindings: u64, number: u64) -> String {
    const PRIME: u64 = 2_654_435_761;
    let n = number * PRIME % bindings;
    match n % 4 {
        0 => format!("tenant{n}.order{number}.created"),
        1 => format!("tenant{n}.orders.order{number}.seen"),
        2 => format!("tenant{n}.order{number}.invoice.paid.today"),
        _ => format!("order{number}.tenant{n}.invoice.failed"),
    }
}

fn write_publish(out: &mut Vec<u8>, key: &str) {
    let publish = basic::Publish {
        exchange: EXCHANGE.into(),
        routing_key: key.into(),
        mandatory: true,
        ..basic::Publish::default()
    };
    Method::from(publish).write_frame(CHANNEL, out);
    let header =
        ContentHeader { class_id: basic::CLASS_ID, body_octets: BODY.len() as u64, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, CHANNEL, out, |out| header.encode(out));
    write_body_frames(CHANNEL, &BODY, FRAME_OCTETS_MAX, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_and_spread_over_the_bindings() {
        let keys: std::collections::HashSet<_> = (0..1000).map(|n| fresh_key(MANY, n)).collect();
        assert_eq!(keys.len(), 1000);
        let tenants =
            |key: &String| key.split('.').find(|word| word.starts_with("tenant")).map(str::to_owned);
        let bindings: std::collections::HashSet<_> = keys.iter().filter_map(tenants).collect();
        assert!(bindings.len() > 990, "{}", bindings.len());
    }
}
