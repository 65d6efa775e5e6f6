//! What a message carries that left a queue without having been consumed: the header `x-death`.
//!
//! As RabbitMQ 3.10 writes it, down to the order of the fields: the first entry ever stands as it
//! was made, every later one sorted by name; the newest comes first, one for each queue and
//! reason. What else an entry has, a client put there, and it stays.

use indexmap::IndexMap;
use leveret_wire::{Array, ArrayBuf, Properties, ShortStr, Table, TableBuf, Value};

use super::queue::DeathReason;
use crate::planted::{self, Bug};

const X_DEATH: &str = "x-death";
/// The header with further routing keys.
pub const CC: &str = "CC";

impl DeathReason {
    /// As `x-death` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// How a message left its queue.
#[derive(Debug, Clone, Copy)]
pub struct Death<'a> {
    /// Why.
    pub reason: DeathReason,
    /// The queue.
    pub queue: &'a str,
    /// The exchange that it had been published to.
    pub exchange: ShortStr<'a>,
    /// The key that it had been published with.
    pub routing_key: ShortStr<'a>,
    /// Seconds since 1970.
    pub time_seconds: u64,
    /// Whether the queue gives it a routing key of its own, which takes the place of all others.
    pub is_rekeyed: bool,
}

/// The headers of a dead message.
#[must_use]
pub fn headers(properties: &Properties<'_>, death: Death<'_>) -> TableBuf {
    let headers = properties.headers.unwrap_or(Table::EMPTY);
    let keys = routing_keys(headers, death.routing_key);
    let expiration = properties.expiration;
    let entry = Entry::new(&death, expiration, keys.as_array());
    let known = match headers.find(X_DEATH) {
        None => return first_death(headers, &death, &entry),
        Some(Value::Array(known)) => grouped(known),
        Some(_) => {
            let entries = ArrayBuf::new().with(Value::Table(entry.fields.as_table()));
            return finish(set(headers, X_DEATH, Value::Array(entries.as_array())).as_table(), &death);
        }
    };
    let (matching, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|other| other.is_of(&death));
    let newest = matching.first().map_or(entry.fields, Known::once_more);
    let newest = TableBuf::sorted(newest.as_table());
    let mut entries = ArrayBuf::new().with(Value::Table(newest.as_table()));
    others.iter().for_each(|other| entries.push(Value::Table(other.fields.as_table())));
    finish(set(headers, X_DEATH, Value::Array(entries.as_array())).as_table(), &death)
}

/// Whether a message with those headers went round without anybody having refused it.
#[must_use]
pub fn is_cycle(headers: Table<'_>, queue: &str) -> bool {
    let Some(Value::Array(entries)) = headers.find(X_DEATH) else { return false };
    let mut all_automatic = true;
    for entry in entries.iter() {
        let Value::Table(entry) = entry else {
            // A client put it there.
            all_automatic = false;
            continue;
        };
        all_automatic &= entry.find("reason") != Some(Value::LongStr(b"rejected"));
        if entry.find("queue") == Some(Value::LongStr(queue.as_bytes())) {
            return all_automatic;
        }
    }
    false
}

/// The routing keys of a message: its own and those of its header `CC`.
pub fn copied_keys(headers: Table<'_>) -> impl Iterator<Item = &[u8]> {
    let keys = match headers.find(CC) {
        Some(Value::Array(keys)) => keys,
        _ => Array::EMPTY,
    };
    keys.iter().filter_map(|key| match key {
        Value::LongStr(key) => Some(key),
        _ => None,
    })
}

fn routing_keys(headers: Table<'_>, routing_key: ShortStr<'_>) -> ArrayBuf {
    let mut keys = ArrayBuf::new().with(Value::LongStr(routing_key.as_bytes()));
    copied_keys(headers).for_each(|key| keys.push(Value::LongStr(key)));
    keys
}

/// A new entry, in the order in which RabbitMQ makes it.
struct Entry {
    fields: TableBuf,
}

impl Entry {
    fn new(death: &Death<'_>, expiration: Option<ShortStr<'_>>, keys: Array<'_>) -> Self {
        let mut fields = TableBuf::new()
            .with("count", Value::I64(1))
            .with("reason", Value::LongStr(death.reason.name().as_bytes()))
            .with("queue", Value::LongStr(death.queue.as_bytes()))
            .with("time", Value::Timestamp(death.time_seconds))
            .with("exchange", Value::LongStr(death.exchange.as_bytes()))
            .with("routing-keys", Value::Array(keys));
        if let Some(expiration) = expiration {
            fields.push("original-expiration", Value::LongStr(expiration.as_bytes()));
        }
        Self { fields }
    }
}

/// An entry that came with the message.
struct Known {
    fields: TableBuf,
}

impl Known {
    fn is_of(&self, death: &Death<'_>) -> bool {
        let fields = self.fields.as_table();
        text(fields, "queue") == Some(death.queue.as_bytes())
            && text(fields, "reason") == Some(death.reason.name().as_bytes())
    }

    fn once_more(&self) -> TableBuf {
        let count = self.fields.as_table().find("count").and_then(Value::as_integer).unwrap_or(0);
        set(
            self.fields.as_table(),
            "count",
            Value::I64(count.saturating_add(i64::from(!planted::is(Bug::DeathNotCounted)))),
        )
    }
}

/// The entries, one for each queue and reason; one without a count counts as often as it stands there.
fn grouped(entries: Array<'_>) -> Vec<Known> {
    // A client may have put thousands there, so each is looked for by its key.
    let mut groups: IndexMap<_, (Table<'_>, i64)> = IndexMap::new();
    for entry in entries.iter() {
        let Value::Table(fields) = entry else { continue };
        let key = (text(fields, "queue"), text(fields, "reason"));
        groups.entry(key).or_insert((fields, 0)).1 += 1;
    }
    let known = groups.into_values().map(|(fields, alike)| match fields.find("count") {
        Some(_) => Known { fields: TableBuf::from(fields) },
        None => Known { fields: set(fields, "count", Value::I64(alike)) },
    });
    known.collect()
}

fn text<'a>(fields: Table<'a>, name: &str) -> Option<&'a [u8]> {
    match fields.find(name) {
        Some(Value::LongStr(text)) => Some(text),
        _ => None,
    }
}

fn first_death(headers: Table<'_>, death: &Death<'_>, entry: &Entry) -> TableBuf {
    let entries = ArrayBuf::new().with(Value::Table(entry.fields.as_table()));
    let mut all = TableBuf::from(headers);
    for (name, value) in [
        ("x-first-death-reason", Value::LongStr(death.reason.name().as_bytes())),
        ("x-first-death-queue", Value::LongStr(death.queue.as_bytes())),
        ("x-first-death-exchange", Value::LongStr(death.exchange.as_bytes())),
        (X_DEATH, Value::Array(entries.as_array())),
    ] {
        all = set(all.as_table(), name, value);
    }
    finish(all.as_table(), death)
}

/// A key of the queue's own takes the place of the copies as well.
fn finish(headers: Table<'_>, death: &Death<'_>) -> TableBuf {
    if !death.is_rekeyed {
        return TableBuf::from(headers);
    }
    let mut kept = TableBuf::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_bytes() != CC.as_bytes()) {
        kept.push_field(name, value);
    }
    kept
}

/// The table with a field set, sorted by name as RabbitMQ leaves it.
#[must_use]
pub fn set(table: Table<'_>, name: &str, value: Value<'_>) -> TableBuf {
    let mut is_set = false;
    let mut all = TableBuf::new();
    for (field, old) in table.iter() {
        let is_it = field.as_bytes() == name.as_bytes() && !is_set;
        is_set |= is_it;
        all.push_field(field, if is_it { value } else { old });
    }
    if !is_set {
        all.push(name, value);
    }
    TableBuf::sorted(all.as_table())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(reason: DeathReason, queue: &'static str) -> Death<'static> {
        Death {
            reason,
            queue,
            exchange: "x".into(),
            routing_key: "k".into(),
            time_seconds: 7,
            is_rekeyed: false,
        }
    }

    fn die(headers_now: &TableBuf, death: Death<'_>) -> TableBuf {
        let properties = Properties { headers: Some(headers_now.as_table()), ..Properties::default() };
        headers(&properties, death)
    }

    fn entries(headers: &TableBuf) -> Vec<String> {
        let Some(Value::Array(entries)) = headers.as_table().find(X_DEATH) else { panic!("no x-death") };
        let described = |entry| {
            let Value::Table(entry) = entry else { panic!("an entry is a table") };
            let field = |name| super::super::arguments::value_text(entry.find(name).unwrap());
            format!("{} {} {}", field("queue"), field("reason"), field("count"))
        };
        entries.iter().map(described).collect()
    }

    fn names(table: Table<'_>) -> Vec<String> {
        table.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn the_first_entry_stands_as_it_was_made_and_later_ones_are_sorted() {
        let once = die(&TableBuf::new().with("z", Value::Void), death(DeathReason::Expired, "q"));
        let all = ["x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason", "z"];
        assert_eq!(names(once.as_table()), all);
        let first = |table: &TableBuf| {
            let Some(Value::Array(entries)) = table.as_table().find(X_DEATH) else { panic!("no x-death") };
            let Some(Value::Table(entry)) = entries.iter().next() else { panic!("no entry") };
            names(entry)
        };
        assert_eq!(first(&once), ["count", "reason", "queue", "time", "exchange", "routing-keys"]);
        let twice = die(&once, death(DeathReason::Expired, "q"));
        assert_eq!(first(&twice), ["count", "exchange", "queue", "reason", "routing-keys", "time"]);
    }

    #[test]
    fn there_is_one_entry_for_each_queue_and_reason_and_the_newest_is_first() {
        let mut headers = TableBuf::new();
        for (reason, queue) in [
            (DeathReason::Expired, "a"),
            (DeathReason::Rejected, "b"),
            (DeathReason::Rejected, "a"),
            (DeathReason::Expired, "a"),
        ] {
            headers = die(&headers, death(reason, queue));
        }
        assert_eq!(entries(&headers), ["a expired 2", "a rejected 1", "b rejected 1"]);
    }

    #[test]
    fn a_cycle_is_one_that_nobody_took_part_in() {
        let once = die(&TableBuf::new(), death(DeathReason::Expired, "a"));
        let round = die(&once, death(DeathReason::Expired, "b"));
        assert!(is_cycle(round.as_table(), "a") && is_cycle(round.as_table(), "b"));
        assert!(!is_cycle(round.as_table(), "c"));
        let refused = die(&once, death(DeathReason::Rejected, "b"));
        assert!(!is_cycle(refused.as_table(), "a"));
    }

    #[test]
    fn a_header_of_another_type_is_replaced_and_a_new_key_drops_the_copies() {
        let copies = ArrayBuf::new().with(Value::LongStr(b"c"));
        let headers =
            TableBuf::new().with("x-death", Value::Bool(true)).with(CC, Value::Array(copies.as_array()));
        let dead = die(&headers, Death { is_rekeyed: true, ..death(DeathReason::MaxLength, "q") });
        assert_eq!(names(dead.as_table()), ["x-death"]);
        assert_eq!(entries(&dead), ["q maxlen 1"]);
        let kept = die(&headers, death(DeathReason::MaxLength, "q"));
        assert_eq!(names(kept.as_table()), [CC, "x-death"]);
    }

    #[test]
    fn entries_by_the_thousand_are_gone_through_once() {
        let mut known = ArrayBuf::new();
        for number in 0..200_000_u32 {
            let name = number.to_be_bytes();
            known.push(Value::Table(TableBuf::new().with("queue", Value::LongStr(&name)).as_table()));
        }
        let mut headers = TableBuf::new().with("x-death", Value::Array(known.as_array()));
        headers = die(&headers, death(DeathReason::Expired, "q"));
        let Some(Value::Array(entries)) = headers.as_table().find(X_DEATH) else { panic!("no x-death") };
        assert_eq!(entries.iter().count(), 200_001);
    }
}
