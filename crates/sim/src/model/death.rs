//! What a dead letter carries: its history, as the header `x-death` tells it.
//!
//! Invariant: the history of a message in the model is the one that the header of every copy of
//! it has to have, but for times that only a range is known of.

use std::{
    fmt,
    hash::{DefaultHasher, Hasher as _},
};

use leveret_wire::{ArrayBuf, Properties, Table, TableBuf, Value};

use super::{
    Message, Name, QueueKey,
    publish::{copies, without},
};
use crate::{Checked, Violation, ensure};

/// Why a message left its queue unconsumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    const fn text(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// Deaths of one kind in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    queue: String,
    reason: Reason,
    count: i64,
    exchange: Vec<u8>,
    routing_keys: Vec<Vec<u8>>,
    original_expiration: Option<Vec<u8>>,
    /// The first of them, in seconds since 1970: from and to.
    seconds: (u64, u64),
    /// It was the first of all and no other came of its kind, so its fields are not sorted.
    as_made: bool,
}

/// All deaths of a message, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct History {
    deaths: Vec<Death>,
    /// Why, in which queue, and by which exchange it had come there.
    first: Option<(Reason, String, Vec<u8>)>,
    /// What it was before, and where.
    pub(super) parent: Option<(QueueKey, Name)>,
}

impl History {
    pub(super) const fn is_empty(&self) -> bool {
        self.deaths.is_empty()
    }

    /// Tells messages apart that were one when they were published.
    pub(super) fn digest(&self) -> u64 {
        digest(
            self.deaths
                .iter()
                .map(|death| (death.queue.as_bytes(), death.reason.text().as_bytes(), death.count)),
        )
    }

    /// Octets at most that it costs in the message.
    pub(super) fn octets_max(&self) -> usize {
        self.deaths.len() * 512
    }

    /// Whether the message would go round without anybody having refused it on the way.
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let way = self.deaths.iter().position(|death| death.queue == queue);
        way.is_some_and(|way| self.deaths[..=way].iter().all(|death| death.reason != Reason::Rejected))
    }

    /// One death more.
    pub(super) fn and(
        &self,
        message: &Message,
        (key, queue): (QueueKey, &str),
        reason: Reason,
        seconds: (u64, u64),
    ) -> Self {
        let mut deaths = self.deaths.clone();
        let before = deaths.iter().position(|death| death.queue == queue && death.reason == reason);
        let latest = match before.map(|at| deaths.remove(at)) {
            Some(known) => Death { count: known.count + 1, as_made: false, ..known },
            None => Death {
                queue: queue.to_owned(),
                reason,
                count: 1,
                exchange: message.exchange.clone(),
                routing_keys: message.keys_shown(),
                original_expiration: message.expiration(),
                seconds,
                as_made: deaths.is_empty(),
            },
        };
        deaths.insert(0, latest);
        let first = self.first.clone().or_else(|| Some((reason, queue.to_owned(), message.exchange.clone())));
        Self { deaths, first, parent: Some((key, message.name())) }
    }

    fn write(&self, headers: &mut TableBuf, times: &[u64]) {
        let Some((reason, queue, exchange)) = &self.first else { return };
        headers.push("x-first-death-reason", Value::LongStr(reason.text().as_bytes()));
        headers.push("x-first-death-queue", Value::LongStr(queue.as_bytes()));
        headers.push("x-first-death-exchange", Value::LongStr(exchange));
        let mut entries = ArrayBuf::new();
        for (death, time) in self.deaths.iter().zip(times) {
            entries.push(Value::Table(death.entry(*time).as_table()));
        }
        headers.push("x-death", Value::Array(entries.as_array()));
    }
}

impl Death {
    fn entry(&self, time: u64) -> TableBuf {
        let mut keys = ArrayBuf::new();
        self.routing_keys.iter().for_each(|key| keys.push(Value::LongStr(key)));
        let mut entry = TableBuf::new()
            .with("count", Value::I64(self.count))
            .with("reason", Value::LongStr(self.reason.text().as_bytes()))
            .with("queue", Value::LongStr(self.queue.as_bytes()))
            .with("time", Value::Timestamp(time))
            .with("exchange", Value::LongStr(&self.exchange))
            .with("routing-keys", Value::Array(keys.as_array()));
        if let Some(expiration) = &self.original_expiration {
            entry.push("original-expiration", Value::LongStr(expiration));
        }
        if self.as_made { entry } else { TableBuf::sorted(entry.as_table()) }
    }
}

fn digest<'a>(deaths: impl Iterator<Item = (&'a [u8], &'a [u8], i64)>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut any = false;
    for (queue, reason, count) in deaths {
        any = true;
        hasher.write(queue);
        hasher.write(reason);
        hasher.write_i64(count);
    }
    if any { hasher.finish() } else { 0 }
}

/// What the properties of a message that goes out say of it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) name: Name,
    times: Vec<u64>,
    /// How it died, for people.
    deaths: String,
    /// `x-delivery-count`.
    pub(super) returns: Option<u64>,
}

impl Heard {
    pub(super) fn of(property_octets: &[u8]) -> Checked<Self> {
        let properties = Properties::decode(property_octets)
            .map_err(|error| Violation::new(format!("a message has broken properties: {error}")))?;
        let id = properties.timestamp.ok_or(Violation::new("a message without its number"))?;
        let headers = properties.headers.unwrap_or(Table::EMPTY);
        let mut entries = Vec::new();
        if let Some(Value::Array(deaths)) = headers.find("x-death") {
            for death in deaths.iter() {
                entries.push(entry(death).ok_or(Violation::new("a broken entry of x-death"))?);
            }
        }
        let history = digest(entries.iter().map(|(queue, reason, count, _)| (*queue, *reason, *count)));
        let returns = headers.find("x-delivery-count").and_then(Value::as_integer);
        Ok(Self {
            name: Name { id, history },
            deaths: entries.iter().map(described).collect(),
            times: entries.iter().map(|(.., time)| *time).collect(),
            returns: returns.and_then(|returns| u64::try_from(returns).ok()),
        })
    }
}

fn described((queue, reason, count, _): &(&[u8], &[u8], i64, u64)) -> String {
    let [queue, reason] = [queue, reason].map(|text| String::from_utf8_lossy(text));
    format!(", {reason} in '{queue}' ({count})")
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}{}", self.name.id, self.deaths)
    }
}

/// Queue, reason, count and time.
fn entry(value: Value<'_>) -> Option<(&[u8], &[u8], i64, u64)> {
    let Value::Table(entry) = value else { return None };
    let text = |name| match entry.find(name) {
        Some(Value::LongStr(text)) => Some(text),
        _ => None,
    };
    let Some(Value::Timestamp(time)) = entry.find("time") else { return None };
    Some((text("queue")?, text("reason")?, entry.find("count")?.as_integer()?, time))
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        for Death { queue, reason, count, .. } in &self.history.deaths {
            write!(f, ",{}@{queue}*{count}", reason.text())?;
        }
        Ok(())
    }
}

impl Message {
    /// The routing keys that receivers see: its own and those of `CC`.
    fn keys_shown(&self) -> Vec<Vec<u8>> {
        copies(&self.routing_key, &self.property_octets).0
    }

    /// The message as its queue's dead-letter exchange gets it. A key of the queue's own takes the
    /// place of the copies as well.
    pub(super) fn dead(&self, exchange: &str, routing_key: Option<&[u8]>, history: History) -> Self {
        let properties = self.properties();
        let headers =
            properties.headers.filter(|_| routing_key.is_some()).map(|headers| without(headers, "CC"));
        let headers = headers.as_ref().map(TableBuf::as_table).or(properties.headers);
        let mut property_octets = Vec::new();
        Properties { expiration: None, headers, ..properties }.encode(&mut property_octets);
        let routing_key = routing_key.unwrap_or(&self.routing_key).to_vec();
        Self {
            id: self.id,
            exchange: exchange.as_bytes().to_vec(),
            keys: copies(&routing_key, &property_octets).0,
            routing_key,
            property_octets,
            hidden_octets: 0,
            body: self.body.clone(),
            history,
        }
    }

    /// Checks properties that went out against those that it came with and what happened since.
    pub(super) fn check_properties(&self, octets: &[u8], heard: &Heard, now_seconds: u64) -> Checked {
        let id = self.id;
        let times = self.history.deaths.iter().zip(&heard.times);
        for (death, time) in times {
            let (from, to) = (death.seconds.0, death.seconds.1.min(now_seconds));
            ensure!(
                (from..=to).contains(time),
                "message {id} is said to have died in '{}' at {time}, not from {from} to {to}",
                death.queue
            );
        }
        ensure!(octets == self.expected(heard), "message {id} came with other properties");
        Ok(())
    }

    fn expected(&self, heard: &Heard) -> Vec<u8> {
        if self.history.is_empty() && heard.returns.is_none() {
            return self.property_octets.clone();
        }
        let properties = Properties::decode(&self.property_octets).unwrap_or_default();
        let mut headers = TableBuf::from(properties.headers.unwrap_or(Table::EMPTY));
        self.history.write(&mut headers, &heard.times);
        if let Some(returns) = heard.returns.and_then(|returns| i64::try_from(returns).ok()) {
            headers.push("x-delivery-count", Value::I64(returns));
        }
        let headers = TableBuf::sorted(headers.as_table());
        let mut octets = Vec::new();
        Properties { headers: Some(headers.as_table()), ..properties }.encode(&mut octets);
        octets
    }
}
