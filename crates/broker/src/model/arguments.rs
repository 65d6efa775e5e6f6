//! Arguments of queues and exchanges: what they mean, what is wrong with them, and whether a
//! second declaration asks for the same.
//!
//! Arguments whose meaning is not built are refused by name; those that RabbitMQ does not know
//! either are kept and mean nothing, as there.

use leveret_wire::{ShortStr, Table, Value};

use super::{queue_arguments::QueueType, stream::StreamOffset};
use crate::refusal::Refusal;

/// Queue arguments that a second declaration must repeat, in the order in which they are compared.
const CLASSIC_COMPARED: [&str; 13] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
];
const QUORUM_COMPARED: [&str; 14] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-message-ttl",
];
const STREAM_COMPARED: [&str; 5] = [
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
];

/// Whose arguments they are, for the texts.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// `queue` or `exchange`.
    pub object: &'static str,
    /// Its name.
    pub name: &'a str,
    /// The virtual host.
    pub vhost: &'a str,
}

impl Owner<'_> {
    pub(super) fn invalid(self, argument: &str, reason: impl Into<String>) -> Refusal {
        Refusal::InvalidArgument {
            argument: argument.to_owned(),
            object: self.object,
            name: self.name.to_owned(),
            vhost: self.vhost.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn wrong_type(self, argument: &str, value: Value<'_>) -> Refusal {
        Refusal::ArgumentType {
            argument: argument.to_owned(),
            type_name: value.type_name(),
            object: self.object,
            name: self.name.to_owned(),
            vhost: self.vhost.to_owned(),
        }
    }

    pub(super) fn of_other_type(self, argument: &'static str, queue_type: QueueType) -> Refusal {
        Refusal::ArgumentOfOtherType {
            argument,
            queue: self.name.to_owned(),
            vhost: self.vhost.to_owned(),
            queue_type: queue_type.module(),
        }
    }

    pub(super) fn refuse_missing(self, arguments: Table<'_>, missing: &[&str]) -> Result<(), Refusal> {
        match missing.iter().find(|name| arguments.find(name).is_some()) {
            Some(name) => Err(self.invalid(name, "not implemented by this broker yet")),
            None => Ok(()),
        }
    }
}

/// What a consumer's arguments ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumerArguments {
    /// `x-priority`: any integer, 0 if there is none.
    pub priority: i64,
    /// `x-stream-offset`.
    pub offset: StreamOffset,
}

impl ConsumerArguments {
    /// Reads them: first those that consumers of that type of queue have, then whether there are
    /// others, both in RabbitMQ's order. A stream has no priorities, and nothing else has an offset.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] when one is of a wrong type or form.
    pub fn parse(arguments: Table<'_>, queue_type: QueueType, owner: Owner<'_>) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let foreign: &[&str] = match queue_type {
            QueueType::Classic => {
                parsed.priority = parse_priority(arguments, owner)?;
                check_failover(arguments, owner)?;
                &["x-stream-offset"]
            }
            QueueType::Quorum => {
                parsed.priority = parse_priority(arguments, owner)?;
                &[FAILOVER, "x-stream-offset"]
            }
            QueueType::Stream => {
                parsed.offset = parse_offset(arguments, owner)?;
                &["x-priority", FAILOVER]
            }
        };
        // Of two, the one that stands first in the table.
        let is_foreign =
            |name: &ShortStr<'_>| foreign.iter().find(|other| other.as_bytes() == name.as_bytes());
        match arguments.iter().find_map(|(name, _)| is_foreign(&name)) {
            None => Ok(parsed),
            Some(name) => Err(owner.of_other_type(name, queue_type)),
        }
    }
}

/// Whether a consumer goes when another node takes its queue over, which does not happen here.
const FAILOVER: &str = "x-cancel-on-ha-failover";

fn check_failover(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    match arguments.find(FAILOVER) {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(other) => Err(owner.invalid(FAILOVER, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn parse_priority(arguments: Table<'_>, owner: Owner<'_>) -> Result<i64, Refusal> {
    let name = "x-priority";
    let Some(value) = arguments.find(name) else { return Ok(0) };
    let wrong = || owner.invalid(name, format!("\"expected integer, got {}\"", value.type_name()));
    value.as_integer().ok_or_else(wrong)
}

/// A word, a number, a time, or how far back: `10m`. A number below zero is so many from the end,
/// as LavinMQ has it.
fn parse_offset(arguments: Table<'_>, owner: Owner<'_>) -> Result<StreamOffset, Refusal> {
    let name = "x-stream-offset";
    let Some(value) = arguments.find(name) else { return Ok(StreamOffset::Next) };
    let ago = |text| age_millis(text).map(|millis| StreamOffset::Ago { millis });
    let offset = match (value, value.as_integer()) {
        (Value::LongStr(b"first"), _) => Some(StreamOffset::First),
        (Value::LongStr(b"last"), _) => Some(StreamOffset::Last),
        (Value::LongStr(b"next"), _) => Some(StreamOffset::Next),
        (Value::LongStr(text), _) => str::from_utf8(text).ok().and_then(ago),
        (Value::Timestamp(seconds), _) => Some(StreamOffset::Since { seconds }),
        (_, Some(number)) => Some(match u64::try_from(number) {
            Ok(number) => StreamOffset::Number(number),
            Err(_) => StreamOffset::LastCount(number.unsigned_abs()),
        }),
        _ => None,
    };
    offset.ok_or_else(|| {
        let value = match value {
            Value::LongStr(text) => format!("<<\"{}\">>", String::from_utf8_lossy(text)),
            other => value_text(other),
        };
        let type_name = arguments.find(name).map_or("void", Value::type_name);
        owner.invalid(name, format!("{{invalid_stream_offset_arg,{{{type_name},{value}}}}}"))
    })
}

/// Milliseconds of a number with a unit: `Y`, `M`, `D`, `h`, `m` or `s`, a year having 365 days and
/// a month 30, as RabbitMQ reads it.
#[must_use]
pub fn age_millis(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let seconds: u64 = match unit {
        'Y' => 365 * 24 * 3600,
        'M' => 30 * 24 * 3600,
        'D' => 24 * 3600,
        'h' => 3600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let number = &text[..text.len() - unit.len_utf8()];
    if !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(seconds)?.checked_mul(1000)
}

/// Compares the arguments of a second declaration of a queue with those it has.
///
/// # Errors
/// [`Refusal::Inequivalent`] with RabbitMQ's words for the first difference.
pub fn check_queue_equivalence(
    current: Table<'_>,
    received: Table<'_>,
    queue_type: QueueType,
    owner: Owner<'_>,
) -> Result<(), Refusal> {
    let compared: &[&str] = match queue_type {
        QueueType::Classic => &CLASSIC_COMPARED,
        QueueType::Quorum => &QUORUM_COMPARED,
        QueueType::Stream => &STREAM_COMPARED,
    };
    for &name in compared {
        let (now, then) = (received.find(name), current.find(name));
        let classic = Some(Value::LongStr(b"classic"));
        let is_default = (now, then) == (classic, None) || (now, then) == (None, classic);
        if name == "x-queue-type" && is_default {
            continue;
        }
        if let Some(difference) = argument_difference(then, now) {
            return Err(inequivalent(name, difference, owner));
        }
    }
    Ok(())
}

/// The refusal of a second declaration that differs.
#[must_use]
pub fn inequivalent(argument: &str, difference: String, owner: Owner<'_>) -> Refusal {
    Refusal::Inequivalent {
        argument: argument.to_owned(),
        object: owner.object,
        name: owner.name.to_owned(),
        vhost: owner.vhost.to_owned(),
        difference,
    }
}

/// `received 'x' but current is 'y'`, when they differ.
#[must_use]
pub fn flag_difference<T: PartialEq + std::fmt::Display>(current: &T, received: &T) -> Option<String> {
    (current != received).then(|| format!("received '{received}' but current is '{current}'"))
}

/// `received 'x' but current is 'y'`, when two values of an argument differ.
#[must_use]
pub fn argument_difference(current: Option<Value<'_>>, received: Option<Value<'_>>) -> Option<String> {
    let described =
        |value: Value<'_>| format!("the value '{}' of type '{}'", value_text(value), value.type_name());
    match (current, received) {
        (None, None) => None,
        (Some(current), None) => Some(format!("received none but current is {}", described(current))),
        (None, Some(received)) => Some(format!("received {} but current is none", described(received))),
        (Some(current), Some(Value::Void)) => (current != Value::Void)
            .then(|| format!("received none but current is '{}'", value_text(current))),
        (Some(current), Some(received)) => {
            let equal = match (current.as_integer(), received.as_integer()) {
                (Some(one), Some(other)) => one == other,
                _ => current == received,
            };
            let texts =
                || format!("received '{}' but current is '{}'", value_text(received), value_text(current));
            (!equal).then(texts)
        }
    }
}

/// A value as RabbitMQ's texts show it.
#[must_use]
pub fn value_text(value: Value<'_>) -> String {
    match (value, value.as_integer()) {
        (_, Some(integer)) => integer.to_string(),
        (Value::Bool(value), _) => value.to_string(),
        (Value::LongStr(octets) | Value::Octets(octets), _) => String::from_utf8_lossy(octets).into_owned(),
        (Value::F32(float), _) => float.to_string(),
        (Value::F64(float), _) => float.to_string(),
        (Value::Timestamp(seconds), _) => seconds.to_string(),
        (Value::Void, _) => "undefined".to_owned(),
        (Value::Array(values), _) => erlang_list(values.iter().map(erlang_typed)),
        (Value::Table(fields), _) => erlang_list(fields.iter().map(|(name, value)| {
            format!("{{{},{},{}}}", erlang_text(name.as_bytes()), value.type_name(), erlang_value(value))
        })),
        (other, _) => format!("{other:?}"),
    }
}

fn erlang_list(terms: impl Iterator<Item = String>) -> String {
    format!("[{}]", terms.collect::<Vec<_>>().join(","))
}

/// A value with its type, as Erlang shows an element of an array.
fn erlang_typed(value: Value<'_>) -> String {
    format!("{{{},{}}}", value.type_name(), erlang_value(value))
}

fn erlang_value(value: Value<'_>) -> String {
    match value {
        Value::LongStr(octets) | Value::Octets(octets) => erlang_text(octets),
        other => value_text(other),
    }
}

/// Octets as Erlang shows a term of them: `<<"text">>`, or `<<1,2>>` where not all can be shown.
#[must_use]
pub fn erlang_text(octets: &[u8]) -> String {
    if octets.is_empty() {
        return "<<>>".to_owned();
    }
    if octets.iter().all(|octet| matches!(octet, b' '..=b'~')) {
        let text = String::from_utf8_lossy(octets).replace('\\', "\\\\").replace('"', "\\\"");
        return format!("<<\"{text}\">>");
    }
    let shown: Vec<_> = octets.iter().map(u8::to_string).collect();
    format!("<<{}>>", shown.join(","))
}

#[cfg(test)]
mod tests {
    use leveret_wire::TableBuf;

    use super::*;

    const QUEUE: Owner<'static> = Owner { object: "queue", name: "q", vhost: "/" };

    fn table(name: &str, value: Value<'_>) -> TableBuf {
        TableBuf::new().with(name, value)
    }

    fn difference(current: Option<Value<'_>>, received: Option<Value<'_>>) -> Option<String> {
        let build =
            |value: Option<Value<'_>>| value.map_or_else(TableBuf::new, |value| table("x-max-length", value));
        let refused = check_queue_equivalence(
            build(current).as_table(),
            build(received).as_table(),
            QueueType::Classic,
            QUEUE,
        )
        .err()?;
        let text = refused.to_string();
        Some(
            text.strip_prefix("inequivalent arg 'x-max-length' for queue 'q' in vhost '/': ")
                .unwrap()
                .to_owned(),
        )
    }

    #[test]
    fn differences_are_told_in_rabbitmqs_words() {
        let check = |current, received, wanted: Option<&str>| {
            assert_eq!(difference(current, received).as_deref(), wanted);
        };
        check(Some(Value::I32(1000)), Some(Value::I64(1000)), None);
        check(Some(Value::I32(1000)), Some(Value::I32(2000)), Some("received '2000' but current is '1000'"));
        let none = "received none but current is the value '1000' of type 'signedint'";
        check(Some(Value::I32(1000)), None, Some(none));
        let given = "received the value '1000' of type 'signedint' but current is none";
        check(None, Some(Value::I32(1000)), Some(given));
        check(Some(Value::I32(1000)), Some(Value::Void), Some("received none but current is '1000'"));
    }

    #[test]
    fn a_reader_says_where_it_begins() {
        let check = |value, wanted: Option<StreamOffset>| {
            let arguments = table("x-stream-offset", value);
            let parsed = ConsumerArguments::parse(arguments.as_table(), QueueType::Stream, QUEUE);
            assert_eq!(parsed.map(|parsed| parsed.offset).ok(), wanted);
        };
        check(Value::LongStr(b"first"), Some(StreamOffset::First));
        check(Value::LongStr(b"last"), Some(StreamOffset::Last));
        check(Value::I8(3), Some(StreamOffset::Number(3)));
        check(Value::I64(-3), Some(StreamOffset::LastCount(3)));
        check(Value::Timestamp(9), Some(StreamOffset::Since { seconds: 9 }));
        check(Value::LongStr(b"10m"), Some(StreamOffset::Ago { millis: 600_000 }));
        for wrong in ["1h30m", "10x", "", "m", "\u{e9}", "99999999999999999999s"] {
            check(Value::LongStr(wrong.as_bytes()), None);
        }
        check(Value::Bool(true), None);
    }
}
