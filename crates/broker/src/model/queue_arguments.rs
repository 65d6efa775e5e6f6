//! What a queue's arguments ask for, and what is wrong with them.
//!
//! Arguments whose meaning is not built are refused by name; those that RabbitMQ does not know
//! either are kept and mean nothing, as there.

use leveret_wire::{ShortStr, Table, TableBuf, Value};

use super::{
    arguments::{Owner, age_millis},
    policy::PolicyKeys,
    queue::{Overflow, QueueSettings},
    stream::StreamSettings,
};
use crate::refusal::Refusal;

/// The type of a queue. On one node a quorum queue is a durable queue that counts how often a
/// message came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueType {
    /// A queue.
    #[default]
    Classic,
    /// A queue that must be durable and may not be exclusive.
    Quorum,
    /// Messages stay and are read by many, see [`super::stream`].
    Stream,
}

impl QueueType {
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Classic, "classic"), (Self::Quorum, "quorum"), (Self::Stream, "stream")];

    /// The type of that name in `x-queue-type`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// The same back.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).expect("each has a name").1
    }

    /// As RabbitMQ's texts call it.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// The arguments without those that only queues of other types have.
    fn known_of(self, arguments: Table<'_>) -> TableBuf {
        let foreign = |name: ShortStr<'_>| {
            self.foreign_arguments().iter().any(|other| other.as_bytes() == name.as_bytes())
        };
        let mut known = TableBuf::new();
        for (name, value) in arguments.iter().filter(|(name, _)| !foreign(*name)) {
            known.push_field(name, value);
        }
        known
    }

    /// Arguments that only queues of other types have.
    const fn foreign_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Classic => &[
                "x-dead-letter-strategy",
                "x-delivery-limit",
                "x-initial-cluster-size",
                "x-max-age",
                "x-max-in-memory-bytes",
                "x-max-in-memory-length",
                "x-queue-leader-locator",
                "x-quorum-initial-group-size",
                "x-stream-max-segment-size-bytes",
            ],
            Self::Quorum => &[
                "x-queue-master-locator",
                "x-initial-cluster-size",
                "x-max-age",
                "x-max-priority",
                "x-queue-mode",
                "x-queue-version",
                "x-stream-max-segment-size-bytes",
            ],
            Self::Stream => &[
                "x-queue-master-locator",
                "x-dead-letter-exchange",
                "x-dead-letter-routing-key",
                "x-dead-letter-strategy",
                "x-delivery-limit",
                "x-expires",
                "x-max-in-memory-bytes",
                "x-max-in-memory-length",
                "x-max-length",
                "x-max-priority",
                "x-message-ttl",
                "x-overflow",
                "x-queue-mode",
                "x-queue-version",
                "x-quorum-initial-group-size",
                "x-single-active-consumer",
            ],
        }
    }
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterArguments {
    /// `x-dead-letter-exchange`.
    pub exchange: Box<str>,
    /// `x-dead-letter-routing-key`.
    pub routing_key: Option<Box<[u8]>>,
}

/// What a queue's arguments ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueueArguments {
    /// `x-queue-type`.
    pub queue_type: QueueType,
    /// How the queue treats its messages.
    pub settings: QueueSettings,
    /// Where messages go that leave it unconsumed.
    pub dead_letter: Option<DeadLetterArguments>,
    /// How much a stream keeps.
    pub stream: StreamSettings,
    /// How long consumers may keep a delivery; as the broker has it, if this is none.
    pub ack_timeout_millis: Option<u64>,
}

/// How often a message of a quorum queue may come back unless it is told, as in RabbitMQ 4.
const QUORUM_RETURNS_MAX: u32 = 20;
/// The largest segment of a stream that RabbitMQ takes.
pub(super) const SEGMENT_OCTETS_MAX: i64 = 3_000_000_000;
/// Milliseconds that a message or a queue may live at most, as in RabbitMQ: ten years.
pub const LIFE_MILLIS_MAX: u64 = 315_360_000_000;

/// Queue arguments of RabbitMQ's whose meaning is not built.
const QUEUE_ARGUMENTS_MISSING: [&str; 1] = ["x-stream-filter-size-bytes"];

impl QueueArguments {
    /// Reads a queue's arguments, none of which is among those that are not built.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] when one is of a wrong type or range.
    pub fn parse(arguments: Table<'_>, owner: Owner<'_>) -> Result<Self, Refusal> {
        // In RabbitMQ's order, so that of several mistakes the same one is told: the type, then the
        // values that it knows, then what it does not know.
        let queue_type = parse_queue_type(arguments, owner)?;
        let given = arguments;
        let known = queue_type.known_of(given);
        let arguments = known.as_table();
        let expires_millis = parse_life(arguments, "x-expires", 1, owner)?;
        let message_ttl_millis = parse_life(arguments, "x-message-ttl", 0, owner)?;
        let dead_letter = parse_dead_letter(arguments, owner)?;
        check_strategy(arguments, owner)?;
        let messages_max = parse_count(arguments, "x-max-length", owner)?;
        let octets_max = parse_count(arguments, "x-max-length-bytes", owner)?;
        parse_count(arguments, "x-max-in-memory-length", owner)?;
        parse_count(arguments, "x-max-in-memory-bytes", owner)?;
        let priority_max = parse_priority(arguments, owner)?;
        let overflow = parse_overflow(arguments, owner)?;
        check_queue_mode(arguments, owner)?;
        check_queue_version(arguments, owner)?;
        let single_active_consumer = parse_bool(arguments, "x-single-active-consumer", owner)?;
        check_group_size(arguments, "x-quorum-initial-group-size", owner)?;
        let age_millis_max = parse_age(arguments, owner)?;
        parse_count(arguments, "x-stream-max-segment-size-bytes", owner)?;
        check_group_size(arguments, "x-initial-cluster-size", owner)?;
        let counts_returns = queue_type == QueueType::Quorum;
        let settings = QueueSettings {
            is_durable: false,
            messages_max,
            octets_max,
            overflow,
            message_ttl_millis,
            expires_millis,
            priority_max,
            single_active_consumer,
            returns_max: if counts_returns { parse_returns_max(arguments, owner)? } else { None },
            counts_returns,
            returns_last: counts_returns && !has_delivery_limit(arguments),
            dead_letters: dead_letter.is_some(),
        };
        let stream = StreamSettings { octets_max, age_millis_max };
        // RabbitMQ has it from 3.12 on.
        let ack_timeout_millis = parse_count(arguments, "x-consumer-timeout", owner)?;
        refuse_foreign(given, queue_type, owner)?;
        check_locator(given, queue_type, owner)?;
        Ok(Self { queue_type, settings, dead_letter, stream, ack_timeout_millis })
    }
}

impl QueueArguments {
    /// What these arguments and policies make together.
    #[must_use]
    pub fn under(mut self, policy: &PolicyKeys, arguments: Table<'_>) -> Self {
        let (kind, settings) = (self.queue_type, &mut self.settings);
        settings.message_ttl_millis = policy.message_ttl_millis_with(settings.message_ttl_millis);
        settings.expires_millis = policy.expires_millis_with(kind, settings.expires_millis);
        settings.messages_max = policy.messages_max_with(settings.messages_max);
        settings.octets_max = policy.octets_max_with(kind, settings.octets_max);
        let asked = arguments.find("x-overflow").map(|_| settings.overflow);
        settings.overflow = policy.overflow_with(kind, asked).unwrap_or_default();
        if let Some(limit) = policy.delivery_limit.filter(|_| settings.counts_returns) {
            let asked = settings.returns_max.filter(|_| arguments.find("x-delivery-limit").is_some());
            let limit = policy.delivery_limit_with(asked.map(u64::from)).unwrap_or(limit);
            settings.returns_max = Some(u32::try_from(limit).unwrap_or(u32::MAX));
            settings.returns_last = false;
        }
        let own = self.dead_letter.take();
        let (exchange, key) = own.map_or((None, None), |own| (Some(own.exchange), own.routing_key));
        self.dead_letter = exchange.or_else(|| policy.dead_letter_exchange.clone()).map(|exchange| {
            let of_policy = || policy.dead_letter_routing_key.as_deref().map(|key| key.as_bytes().into());
            DeadLetterArguments { exchange, routing_key: key.or_else(of_policy) }
        });
        self.settings.dead_letters = self.dead_letter.is_some();
        self.stream.octets_max = policy.octets_max_with(kind, self.stream.octets_max);
        self.stream.age_millis_max = policy.max_age_millis_with(self.stream.age_millis_max);
        self.ack_timeout_millis = policy.consumer_timeout_millis_with(self.ack_timeout_millis);
        self
    }
}

/// Of several the one that stands first in the table, as RabbitMQ has it.
fn refuse_foreign(arguments: Table<'_>, queue_type: QueueType, owner: Owner<'_>) -> Result<(), Refusal> {
    let foreign = queue_type.foreign_arguments();
    let is_foreign = |name: ShortStr<'_>| foreign.iter().find(|other| other.as_bytes() == name.as_bytes());
    match arguments.iter().find_map(|(name, _)| is_foreign(name)) {
        None => Ok(()),
        Some(argument) => Err(owner.of_other_type(argument, queue_type)),
    }
}

/// Refuses segments of a stream that are larger than RabbitMQ takes. The last of its checks, for a
/// queue that is new.
///
/// # Errors
/// [`Refusal::ArgumentTooLarge`] when they are.
pub fn check_segment(arguments: Table<'_>) -> Result<(), Refusal> {
    let name = "x-stream-max-segment-size-bytes";
    match arguments.find(name).and_then(Value::as_integer) {
        Some(octets) if octets > SEGMENT_OCTETS_MAX => Err(Refusal::ArgumentTooLarge { argument: name }),
        _ => Ok(()),
    }
}

/// `x-dead-letter-exchange` and `x-dead-letter-routing-key`.
fn parse_dead_letter(arguments: Table<'_>, owner: Owner<'_>) -> Result<Option<DeadLetterArguments>, Refusal> {
    let (exchange, key) = ("x-dead-letter-exchange", "x-dead-letter-routing-key");
    let exchange = match arguments.find(exchange) {
        None => None,
        Some(Value::LongStr(name)) => Some(String::from_utf8_lossy(name).into()),
        Some(other) => return Err(owner.wrong_type(exchange, other)),
    };
    let routing_key = match arguments.find(key) {
        None => None,
        // A routing key has no more room than that in any method.
        Some(Value::LongStr(octets)) => Some(octets[..octets.len().min(ShortStr::OCTETS_MAX)].into()),
        Some(other) => return Err(owner.invalid(key, format!("{{unacceptable_type,{}}}", other.type_name()))),
    };
    match exchange {
        Some(exchange) => Ok(Some(DeadLetterArguments { exchange, routing_key })),
        None if routing_key.is_some() => Err(owner.invalid(key, "routing_key_but_no_dlx_defined")),
        None => Ok(None),
    }
}

/// Milliseconds, at least `least`.
fn parse_life(
    arguments: Table<'_>,
    name: &str,
    least: u64,
    owner: Owner<'_>,
) -> Result<Option<u64>, Refusal> {
    match parse_count(arguments, name, owner)? {
        Some(millis) if millis < least => Err(owner.invalid(name, format!("{{value_zero,{millis}}}"))),
        Some(millis) if millis > LIFE_MILLIS_MAX => {
            Err(owner.invalid(name, format!("{{value_too_large,{millis}}}")))
        }
        life => Ok(life),
    }
}

fn parse_priority(arguments: Table<'_>, owner: Owner<'_>) -> Result<u8, Refusal> {
    let name = "x-max-priority";
    let priority = parse_count(arguments, name, owner)?.unwrap_or(0);
    u8::try_from(priority).map_err(|_| owner.invalid(name, format!("{{max_value_exceeded,{priority}}}")))
}

fn parse_bool(arguments: Table<'_>, name: &str, owner: Owner<'_>) -> Result<bool, Refusal> {
    match arguments.find(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(value),
        Some(other) => Err(owner.invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

/// Whether a limit of returns is asked for. The one that a queue has that asks for none is not
/// RabbitMQ 3.10's, and changes nothing of its order.
fn has_delivery_limit(arguments: Table<'_>) -> bool {
    let limit = arguments.find("x-delivery-limit").and_then(Value::as_integer);
    limit.is_some_and(|limit| limit >= 0)
}

/// A limit below zero is none, as in RabbitMQ 4.
fn parse_returns_max(arguments: Table<'_>, owner: Owner<'_>) -> Result<Option<u32>, Refusal> {
    let name = "x-delivery-limit";
    let Some(value) = arguments.find(name) else { return Ok(Some(QUORUM_RETURNS_MAX)) };
    match value.as_integer() {
        Some(limit) if limit < 0 => Ok(None),
        Some(limit) => Ok(Some(u32::try_from(limit).unwrap_or(u32::MAX))),
        None => Err(owner.invalid(name, format!("\"expected integer, got {}\"", value.type_name()))),
    }
}

fn parse_queue_type(arguments: Table<'_>, owner: Owner<'_>) -> Result<QueueType, Refusal> {
    let name = "x-queue-type";
    match arguments.find(name) {
        None => Ok(QueueType::Classic),
        Some(Value::LongStr(b"classic")) => Ok(QueueType::Classic),
        Some(Value::LongStr(b"quorum")) => Ok(QueueType::Quorum),
        Some(Value::LongStr(b"stream")) => Ok(QueueType::Stream),
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

/// There is one node, so where the leader stands is checked and changes nothing.
fn check_locator(arguments: Table<'_>, queue_type: QueueType, owner: Owner<'_>) -> Result<(), Refusal> {
    let name = "x-queue-leader-locator";
    match (queue_type, arguments.find(name)) {
        (QueueType::Classic, _) | (_, None | Some(Value::LongStr(b"client-local" | b"balanced"))) => Ok(()),
        (_, Some(_)) => Err(owner.invalid(name, "invalid_queue_locator_arg")),
    }
}

/// There is one node, so this is checked and changes nothing.
fn check_group_size(arguments: Table<'_>, name: &str, owner: Owner<'_>) -> Result<(), Refusal> {
    match parse_count(arguments, name, owner)? {
        Some(0) => Err(owner.invalid(name, "{value_zero,0}")),
        _ => Ok(()),
    }
}

/// Dead letters never leave this process, so both strategies are one.
fn check_strategy(arguments: Table<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    let name = "x-dead-letter-strategy";
    match arguments.find(name) {
        None | Some(Value::LongStr(b"at-most-once" | b"at-least-once")) => Ok(()),
        Some(Value::LongStr(_)) => Err(owner.invalid(name, "invalid_dlx_strategy")),
        Some(other) => Err(owner.invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn parse_age(arguments: Table<'_>, owner: Owner<'_>) -> Result<Option<u64>, Refusal> {
    let name = "x-max-age";
    match arguments.find(name) {
        None => Ok(None),
        Some(Value::LongStr(text)) => match str::from_utf8(text).ok().and_then(age_millis) {
            Some(millis) => Ok(Some(millis)),
            None => Err(owner.invalid(name, "invalid_max_age")),
        },
        Some(other) => Err(owner.invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn parse_count(arguments: Table<'_>, name: &str, owner: Owner<'_>) -> Result<Option<u64>, Refusal> {
    let Some(value) = arguments.find(name) else { return Ok(None) };
    match (value, value.as_integer()) {
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
        Some(Value::LongStr(b"reject-publish-dlx")) => Ok(Overflow::RejectPublishDlx),
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

#[cfg(test)]
mod tests {
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
        check_refused("x-message-ttl", Value::I32(-1), "{value_negative,-1}");
        check_refused("x-message-ttl", Value::I64(315_360_000_001), "{value_too_large,315360000001}");
        check_refused("x-expires", Value::I32(0), "{value_zero,0}");
        check_refused("x-max-priority", Value::I32(256), "{max_value_exceeded,256}");
        check_refused("x-single-active-consumer", Value::I32(1), "{unacceptable_type,signedint}");
        check_refused("x-dead-letter-routing-key", Value::LongStr(b"k"), "routing_key_but_no_dlx_defined");
    }

    #[test]
    fn segments_of_a_stream_have_a_limit() {
        let check = |octets: i64| {
            let arguments = TableBuf::new().with("x-stream-max-segment-size-bytes", Value::I64(octets));
            check_segment(arguments.as_table()).map_err(|refusal| refusal.reply_text())
        };
        assert_eq!(check(SEGMENT_OCTETS_MAX), Ok(()));
        let text = "PRECONDITION_FAILED - Exceeded max value for x-stream-max-segment-size-bytes";
        assert_eq!(check(SEGMENT_OCTETS_MAX + 1), Err(text.to_owned()));
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
        let stream = StreamSettings { octets_max: Some(4), age_millis_max: None };
        let settings = QueueSettings {
            messages_max: Some(3),
            octets_max: Some(4),
            overflow: Overflow::RejectPublish,
            returns_max: Some(QUORUM_RETURNS_MAX),
            counts_returns: true,
            returns_last: true,
            ..QueueSettings::default()
        };
        assert_eq!(
            parsed,
            QueueArguments { queue_type: QueueType::Quorum, settings, stream, ..QueueArguments::default() }
        );
    }

    #[test]
    fn each_type_has_arguments_of_its_own() {
        let check = |queue_type: &'static [u8], name: &str, value, wanted: Option<&str>| {
            let arguments = table("x-queue-type", Value::LongStr(queue_type)).with(name, value);
            let refusal = QueueArguments::parse(arguments.as_table(), QUEUE).err().map(|it| it.to_string());
            let of =
                |module| format!("invalid arg '{name}' for queue 'q' in vhost '/' of queue type {module}");
            assert_eq!(refusal, wanted.map(of));
        };
        let several = TableBuf::new()
            .with("x-quorum-initial-group-size", Value::I32(3))
            .with("x-max-age", Value::LongStr(b"1h"));
        let refusal = QueueArguments::parse(several.as_table(), QUEUE).unwrap_err().to_string();
        assert!(refusal.starts_with("invalid arg 'x-quorum-initial-group-size'"), "{refusal}");
        check(b"classic", "x-max-age", Value::LongStr(b"1h"), Some("rabbit_classic_queue"));
        check(b"classic", "x-max-priority", Value::I32(5), None);
        check(b"quorum", "x-max-priority", Value::I32(5), Some("rabbit_quorum_queue"));
        check(b"quorum", "x-delivery-limit", Value::I32(5), None);
        check(b"stream", "x-message-ttl", Value::I32(5), Some("rabbit_stream_queue"));
        check(b"stream", "x-max-age", Value::LongStr(b"1h"), None);
    }
}
