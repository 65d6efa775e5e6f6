//! Arguments of queues and exchanges: what they mean, what is wrong with them, and whether a
//! second declaration asks for the same.
//!
//! Arguments whose meaning is not built are refused by name; those that RabbitMQ does not know
//! either are kept and mean nothing, as there.

use leveret_wire::{Table, Value};

use super::queue::{Overflow, QueueLimits};
use crate::refusal::Refusal;

/// The type of a queue. On one node a quorum queue is a durable queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueType {
    /// A queue.
    #[default]
    Classic,
    /// A queue that must be durable and may not be exclusive.
    Quorum,
}

/// What a queue's arguments ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueArguments {
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// `x-max-length`, `x-max-length-bytes`, `x-overflow`.
    pub limits: QueueLimits,
}

/// Queue arguments of RabbitMQ's whose meaning is not built.
const QUEUE_ARGUMENTS_MISSING: [&str; 17] = [
    "x-consumer-timeout",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-expires",
    "x-initial-cluster-size",
    "x-max-age",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-max-priority",
    "x-message-ttl",
    "x-quorum-target-group-size",
    "x-single-active-consumer",
    "x-stream-filter-size-bytes",
    "x-stream-max-segment-size-bytes",
    "x-stream-offset",
];

/// Queue arguments that a second declaration must repeat.
const QUEUE_ARGUMENTS_COMPARED: [&str; 6] =
    ["x-max-length", "x-max-length-bytes", "x-overflow", "x-queue-mode", "x-queue-type", "x-queue-version"];

/// Exchange arguments whose meaning is not built.
const EXCHANGE_ARGUMENTS_MISSING: [&str; 1] = ["alternate-exchange"];
/// Consumer arguments whose meaning is not built.
const CONSUMER_ARGUMENTS_MISSING: [&str; 2] = ["x-priority", "x-stream-offset"];

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
    fn invalid(self, argument: &str, reason: impl Into<String>) -> Refusal {
        Refusal::InvalidArgument {
            argument: argument.to_owned(),
            object: self.object,
            name: self.name.to_owned(),
            vhost: self.vhost.to_owned(),
            reason: reason.into(),
        }
    }

    fn refuse_missing(self, arguments: Table<'_>, missing: &[&str]) -> Result<(), Refusal> {
        match missing.iter().find(|name| arguments.find(name).is_some()) {
            Some(name) => Err(self.invalid(name, "not implemented by this broker yet")),
            None => Ok(()),
        }
    }
}

impl QueueArguments {
    /// Reads a queue's arguments, none of which is among those that are not built.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] when one is of a wrong type or range.
    pub fn parse(arguments: Table<'_>, owner: Owner<'_>) -> Result<Self, Refusal> {
        let queue_type = parse_queue_type(arguments, owner)?;
        check_queue_mode(arguments, owner)?;
        check_queue_version(arguments, owner)?;
        check_cluster_arguments(arguments, queue_type, owner)?;
        let limits = QueueLimits {
            messages_max: parse_count(arguments, "x-max-length", owner)?,
            octets_max: parse_count(arguments, "x-max-length-bytes", owner)?,
            overflow: parse_overflow(arguments, owner)?,
        };
        Ok(Self { queue_type, limits })
    }
}

fn parse_queue_type(arguments: Table<'_>, owner: Owner<'_>) -> Result<QueueType, Refusal> {
    let name = "x-queue-type";
    match arguments.find(name) {
        None => Ok(QueueType::Classic),
        Some(Value::LongStr(b"classic")) => Ok(QueueType::Classic),
        Some(Value::LongStr(b"quorum")) => Ok(QueueType::Quorum),
        Some(Value::LongStr(b"stream")) => {
            Err(owner.invalid(name, "queues of type 'stream' are not implemented by this broker yet"))
        }
        Some(Value::LongStr(other)) => {
            Err(owner
                .invalid(name, format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(other))))
        }
        Some(other) => Err(owner.invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn check_queue_mode(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    let name = "x-queue-mode";
    match arguments.find(name) {
        None | Some(Value::LongStr(b"default" | b"lazy")) => Ok(()),
        Some(Value::LongStr(other)) => {
            Err(owner
                .invalid(name, format!("\"unsupported queue mode '{}'\"", String::from_utf8_lossy(other))))
        }
        Some(other) => Err(owner.invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn check_queue_version(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    let name = "x-queue-version";
    match arguments.find(name).map(|value| (value, value.as_integer())) {
        None | Some((_, Some(1 | 2))) => Ok(()),
        Some((_, Some(other))) => {
            Err(owner.invalid(name, format!("\"unsupported queue version '{other}'\"")))
        }
        Some((other, None)) => {
            Err(owner.invalid(name, format!("\"expected integer, got {}\"", other.type_name())))
        }
    }
}

/// Arguments about replicas: there is one node, so they are checked and change nothing.
fn check_cluster_arguments(
    arguments: Table<'_>,
    queue_type: QueueType,
    owner: Owner<'_>,
) -> Result<(), Refusal> {
    let name = "x-queue-leader-locator";
    match (queue_type, arguments.find(name)) {
        (_, None) | (QueueType::Quorum, Some(Value::LongStr(b"client-local" | b"balanced"))) => Ok(()),
        (QueueType::Quorum, Some(_)) => Err(owner.invalid(name, "invalid_queue_locator_arg")),
        (QueueType::Classic, Some(_)) => Err(Refusal::ArgumentOfOtherType {
            argument: name,
            queue: owner.name.to_owned(),
            vhost: owner.vhost.to_owned(),
            queue_type: "rabbit_classic_queue",
        }),
    }
}

fn parse_count(arguments: Table<'_>, name: &str, owner: Owner<'_>) -> Result<Option<u64>, Refusal> {
    let Some(value) = arguments.find(name) else { return Ok(None) };
    match (value, value.as_integer()) {
        (Value::Void, _) => Ok(None),
        (_, Some(count)) => match u64::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(owner.invalid(name, format!("{{value_negative,{count}}}"))),
        },
        (other, None) => Err(owner.invalid(name, format!("\"expected integer, got {}\"", other.type_name()))),
    }
}

fn parse_overflow(arguments: Table<'_>, owner: Owner<'_>) -> Result<Overflow, Refusal> {
    let name = "x-overflow";
    match arguments.find(name) {
        None | Some(Value::LongStr(b"drop-head")) => Ok(Overflow::DropHead),
        Some(Value::LongStr(b"reject-publish")) => Ok(Overflow::RejectPublish),
        Some(Value::LongStr(b"reject-publish-dlx")) => {
            Err(owner.invalid(name, "'reject-publish-dlx' is not implemented by this broker yet"))
        }
        Some(Value::LongStr(_)) => Err(owner.invalid(name, "invalid_overflow")),
        Some(other) => Err(owner.invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

/// Refuses a queue's arguments whose meaning is not built, be the queue there or not.
///
/// # Errors
/// [`Refusal::InvalidArgument`] naming the first of them.
pub fn refuse_missing_arguments(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    owner.refuse_missing(arguments, &QUEUE_ARGUMENTS_MISSING)
}

/// Checks an exchange's arguments.
///
/// # Errors
/// [`Refusal::InvalidArgument`] when the meaning of one is not built.
pub fn check_exchange_arguments(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    owner.refuse_missing(arguments, &EXCHANGE_ARGUMENTS_MISSING)
}

/// Checks a consumer's arguments.
///
/// # Errors
/// [`Refusal::InvalidArgument`] when the meaning of one is not built.
pub fn check_consumer_arguments(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    owner.refuse_missing(arguments, &CONSUMER_ARGUMENTS_MISSING)
}

/// Compares the arguments of a second declaration of a queue with those it has.
///
/// # Errors
/// [`Refusal::Inequivalent`] with RabbitMQ's words for the first difference.
pub fn check_queue_equivalence(
    current: Table<'_>,
    received: Table<'_>,
    owner: Owner<'_>,
) -> Result<(), Refusal> {
    for name in QUEUE_ARGUMENTS_COMPARED {
        let default = |value| {
            if name == "x-queue-type" && value == Some(Value::LongStr(b"classic")) { None } else { value }
        };
        let (now, then) = (default(received.find(name)), default(current.find(name)));
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

fn argument_difference(current: Option<Value<'_>>, received: Option<Value<'_>>) -> Option<String> {
    let described =
        |value: Value<'_>| format!("the value '{}' of type '{}'", value_text(value), value.type_name());
    match (current, received) {
        (None, None) => None,
        (Some(current), None) => Some(format!("received none but current is {}", described(current))),
        (None, Some(Value::Void)) => None,
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
        (other, _) => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::TableBuf;

    use super::*;

    const QUEUE: Owner<'static> = Owner { object: "queue", name: "q", vhost: "/" };

    fn table(name: &str, value: Value<'_>) -> TableBuf {
        TableBuf::new().with(name, value)
    }

    fn check_refused(name: &str, value: Value<'_>, wanted: &str) {
        let arguments = table(name, value);
        let arguments = arguments.as_table();
        let parse = |()| QueueArguments::parse(arguments, QUEUE).map(drop);
        let refusal = refuse_missing_arguments(arguments, QUEUE).and_then(parse).unwrap_err();
        let text = refusal.to_string();
        let prefix = format!("invalid arg '{name}' for queue 'q' in vhost '/': ");
        assert_eq!(text.strip_prefix(&prefix), Some(wanted), "{text}");
    }

    #[test]
    fn wrong_arguments_are_refused_in_rabbitmqs_words() {
        check_refused("x-max-length", Value::I32(-1), "{value_negative,-1}");
        check_refused("x-max-length", Value::LongStr(b"5"), "\"expected integer, got longstr\"");
        check_refused("x-overflow", Value::I32(1), "{unacceptable_type,signedint}");
        check_refused("x-overflow", Value::LongStr(b"spill"), "invalid_overflow");
        check_refused("x-queue-mode", Value::LongStr(b"nope"), "\"unsupported queue mode 'nope'\"");
        check_refused("x-queue-type", Value::LongStr(b"nope"), "\"unsupported queue type 'nope'\"");
        check_refused("x-queue-version", Value::I32(3), "\"unsupported queue version '3'\"");
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for name in QUEUE_ARGUMENTS_MISSING {
            check_refused(name, Value::I32(1), "not implemented by this broker yet");
        }
    }

    #[test]
    fn limits_are_read() {
        let arguments = TableBuf::new()
            .with("x-max-length", Value::U8(3))
            .with("x-max-length-bytes", Value::I64(4))
            .with("x-overflow", Value::LongStr(b"reject-publish"))
            .with("x-queue-type", Value::LongStr(b"quorum"))
            .with("x-nobody-knows", Value::Void);
        let parsed = QueueArguments::parse(arguments.as_table(), QUEUE).unwrap();
        let limits =
            QueueLimits { messages_max: Some(3), octets_max: Some(4), overflow: Overflow::RejectPublish };
        assert_eq!(parsed, QueueArguments { queue_type: QueueType::Quorum, limits });
    }

    fn difference(current: Option<Value<'_>>, received: Option<Value<'_>>) -> Option<String> {
        let build =
            |value: Option<Value<'_>>| value.map_or_else(TableBuf::new, |value| table("x-max-length", value));
        let refused =
            check_queue_equivalence(build(current).as_table(), build(received).as_table(), QUEUE).err()?;
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
}
