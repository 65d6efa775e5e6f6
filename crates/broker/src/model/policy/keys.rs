//! The keys that policies may have: what is wrong with them, in RabbitMQ's words, and what they
//! mean.
//!
//! Keys about replicas, and about where a queue keeps its messages, are checked and mean nothing
//! on one node, as their arguments do. Invariant: a definition that was taken has no other key
//! whose meaning is lost.

use super::{PolicyError, value::PolicyValue};
use crate::model::{arguments::age_millis, queue::Overflow, queue_arguments::SEGMENT_OCTETS_MAX};

/// What policies ask for. Where nothing is asked for, arguments alone decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyKeys {
    /// `message-ttl`
    pub message_ttl_millis: Option<u64>,
    /// `expires`
    pub expires_millis: Option<u64>,
    /// `max-length`
    pub messages_max: Option<u64>,
    /// `max-length-bytes`
    pub octets_max: Option<u64>,
    /// `overflow`
    pub overflow: Option<Overflow>,
    /// `dead-letter-exchange`
    pub dead_letter_exchange: Option<Box<str>>,
    /// `dead-letter-routing-key`
    pub dead_letter_routing_key: Option<Box<str>>,
    /// `dead-letter-strategy`: whether it is `at-least-once`.
    pub dead_letter_at_least_once: Option<bool>,
    /// `alternate-exchange`
    pub alternate_exchange: Option<Box<str>>,
    /// `delivery-limit`
    pub delivery_limit: Option<u64>,
    /// `max-age`
    pub max_age_millis: Option<u64>,
    /// `stream-max-segment-size-bytes`
    pub segment_octets_max: Option<u64>,
    /// `consumer-timeout`, which RabbitMQ 3.12 brought.
    pub consumer_timeout_millis: Option<u64>,
}

/// Keys of an operator's policies: numbers alone, so that there is a lesser one.
const OPERATOR_KEYS: [&str; 8] = [
    "consumer-timeout",
    "delivery-limit",
    "expires",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "max-length",
    "max-length-bytes",
    "message-ttl",
];

impl PolicyKeys {
    /// Reads a definition, its keys in their order.
    ///
    /// # Errors
    /// [`PolicyError::Key`] for the first value that is wrong, and
    /// [`PolicyError::Unrecognised`] for the keys that are not known.
    pub(super) fn parse(
        definition: &[(Box<str>, PolicyValue)],
        is_operators: bool,
    ) -> Result<Self, PolicyError> {
        if definition.is_empty() {
            return Err(PolicyError::Empty);
        }
        let mut keys = Self::default();
        let mut unknown = Vec::new();
        for (key, value) in definition {
            let known = !is_operators || OPERATOR_KEYS.contains(&&**key);
            if !known || !keys.take(key, value)? {
                unknown.push(format!("{{<<{key:?}>>,{value}}}"));
            }
        }
        check_mirrors(definition)?;
        if unknown.is_empty() { Ok(keys) } else { Err(PolicyError::Unrecognised(unknown.join(","))) }
    }

    /// Takes a key. False when it is not known.
    fn take(&mut self, key: &str, value: &PolicyValue) -> Result<bool, PolicyError> {
        match key {
            "message-ttl" => self.message_ttl_millis = number(value, 0, "message TTL")?,
            "expires" => self.expires_millis = number(value, 1, "queue expiry")?,
            "max-length" => self.messages_max = number(value, 0, "maximum length")?,
            "max-length-bytes" => self.octets_max = number(value, 0, "maximum length in bytes")?,
            "overflow" => self.overflow = Some(overflow(value)?),
            "dead-letter-exchange" => {
                self.dead_letter_exchange = Some(text(value, "dead letter exchange name")?);
            }
            "dead-letter-routing-key" => {
                self.dead_letter_routing_key = Some(text(value, "dead letter routing key")?);
            }
            "dead-letter-strategy" => {
                let strategies = ["at-most-once", "at-least-once"];
                let strategy = one_of(value, &strategies, "dead letter strategy")?;
                self.dead_letter_at_least_once = Some(strategy == "at-least-once");
            }
            "alternate-exchange" => self.alternate_exchange = Some(text(value, "alternate exchange name")?),
            "delivery-limit" => self.delivery_limit = number(value, 0, "delivery limit")?,
            "max-age" => self.max_age_millis = Some(max_age(value)?),
            "stream-max-segment-size-bytes" => self.segment_octets_max = segment(value)?,
            "consumer-timeout" => self.consumer_timeout_millis = number(value, 0, "consumer timeout")?,
            other => return check_without_meaning(other, value),
        }
        Ok(true)
    }
}

/// Keys that mean nothing on one node. False when the key is none of them.
fn check_without_meaning(key: &str, value: &PolicyValue) -> Result<bool, PolicyError> {
    match key {
        "max-in-memory-length" | "max-in-memory-bytes" => {
            number(value, 0, "maximum memory in bytes")?;
        }
        "queue-mode" => {
            one_of(value, &["default", "lazy"], "queue-mode value")?;
        }
        "queue-version" if matches!(value, PolicyValue::Integer(1 | 2)) => {}
        "queue-version" => return Err(wrong(value, "queue-version value")),
        "queue-leader-locator" => {
            let locators = ["client-local", "balanced", "random", "least-leaders"];
            one_of(value, &locators, "queue leader locator value")?;
        }
        "initial-cluster-size" | "target-group-size" => {
            number(value, 0, "cluster size")?;
        }
        "ha-mode"
        | "ha-params"
        | "ha-sync-mode"
        | "ha-sync-batch-size"
        | "ha-promote-on-shutdown"
        | "ha-promote-on-failure" => {}
        "queue-master-locator" => {
            one_of(value, &["client-local", "min-masters", "random"], "queue-master-locator value")?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The keys of mirrored queues, which are checked together.
fn check_mirrors(definition: &[(Box<str>, PolicyValue)]) -> Result<(), PolicyError> {
    let find = |key: &str| definition.iter().find(|(name, _)| &**name == key).map(|(_, value)| value);
    let Some(mode) = find("ha-mode") else {
        let others = definition.iter().any(|(key, _)| key.starts_with("ha-"));
        let text = "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown";
        return if others { Err(PolicyError::Key(text.to_owned())) } else { Ok(()) };
    };
    one_of(mode, &["all", "exactly", "nodes"], "ha-mode value")?;
    let sync_mode = find("ha-sync-mode").filter(|value| !is_one_of(value, &["manual", "automatic"]));
    match sync_mode {
        Some(other) => {
            Err(PolicyError::Key(format!("ha-sync-mode must be \"manual\" or \"automatic\", got {other}")))
        }
        None => Ok(()),
    }
}

fn wrong(value: &PolicyValue, what: &str) -> PolicyError {
    PolicyError::Key(format!("{value} is not a valid {what}"))
}

fn number(value: &PolicyValue, least: i64, what: &str) -> Result<Option<u64>, PolicyError> {
    match value {
        PolicyValue::Integer(number) if *number >= least => Ok(u64::try_from(*number).ok()),
        other => Err(wrong(other, what)),
    }
}

fn text(value: &PolicyValue, what: &str) -> Result<Box<str>, PolicyError> {
    match value {
        PolicyValue::Text(text) => Ok(text.clone()),
        other => Err(wrong(other, what)),
    }
}

fn is_one_of(value: &PolicyValue, known: &[&str]) -> bool {
    matches!(value, PolicyValue::Text(text) if known.contains(&&**text))
}

fn one_of<'v>(value: &'v PolicyValue, known: &[&str], what: &str) -> Result<&'v str, PolicyError> {
    match value {
        PolicyValue::Text(text) if is_one_of(value, known) => Ok(text),
        other => Err(wrong(other, what)),
    }
}

fn overflow(value: &PolicyValue) -> Result<Overflow, PolicyError> {
    let known = ["drop-head", "reject-publish", "reject-publish-dlx"];
    Ok(match one_of(value, &known, "overflow value")? {
        "drop-head" => Overflow::DropHead,
        "reject-publish" => Overflow::RejectPublish,
        _ => Overflow::RejectPublishDlx,
    })
}

fn segment(value: &PolicyValue) -> Result<Option<u64>, PolicyError> {
    let octets = number(value, 0, "segment size")?;
    if octets > Some(SEGMENT_OCTETS_MAX.unsigned_abs()) {
        Err(wrong(value, "segment size"))
    } else {
        Ok(octets)
    }
}

fn max_age(value: &PolicyValue) -> Result<u64, PolicyError> {
    let millis = match value {
        PolicyValue::Text(text) => age_millis(text).filter(|millis| *millis > 0),
        _ => None,
    };
    millis.ok_or_else(|| wrong(value, "max age"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> PolicyValue {
        text.parse().map_or_else(|_| PolicyValue::Text(text.into()), PolicyValue::Integer)
    }

    fn parse(definition: &[(&str, &str)], is_operators: bool) -> Result<PolicyKeys, String> {
        let definition: Vec<_> = definition.iter().map(|(key, text)| ((*key).into(), value(text))).collect();
        PolicyKeys::parse(&definition, is_operators).map_err(|error| error.to_string())
    }

    fn check(definition: &[(&str, &str)], wanted: PolicyKeys) {
        assert_eq!(parse(definition, false), Ok(wanted), "{definition:?}");
    }

    fn check_refused(key: &str, text: &str, wanted: &str) {
        assert_eq!(parse(&[(key, text)], false), Err(format!("Validation failed\n\n{wanted}")));
    }

    #[test]
    fn keys_are_read() {
        let numbers = [
            ("message-ttl", "0"),
            ("expires", "1"),
            ("max-length", "2"),
            ("max-length-bytes", "3"),
            ("delivery-limit", "4"),
            ("stream-max-segment-size-bytes", "3000000000"),
            ("consumer-timeout", "6"),
            ("max-age", "2m"),
        ];
        check(
            &numbers,
            PolicyKeys {
                message_ttl_millis: Some(0),
                expires_millis: Some(1),
                messages_max: Some(2),
                octets_max: Some(3),
                delivery_limit: Some(4),
                segment_octets_max: Some(3_000_000_000),
                consumer_timeout_millis: Some(6),
                max_age_millis: Some(120_000),
                ..PolicyKeys::default()
            },
        );
        let names = [
            ("overflow", "reject-publish-dlx"),
            ("dead-letter-exchange", ""),
            ("dead-letter-routing-key", "k"),
            ("dead-letter-strategy", "at-most-once"),
            ("alternate-exchange", "ae"),
        ];
        check(
            &names,
            PolicyKeys {
                overflow: Some(Overflow::RejectPublishDlx),
                dead_letter_exchange: Some("".into()),
                dead_letter_routing_key: Some("k".into()),
                dead_letter_at_least_once: Some(false),
                alternate_exchange: Some("ae".into()),
                ..PolicyKeys::default()
            },
        );
    }

    #[test]
    fn keys_without_a_meaning_on_one_node_are_checked_only() {
        let keys = [
            ("ha-mode", "exactly"),
            ("ha-params", "2"),
            ("ha-sync-mode", "automatic"),
            ("queue-mode", "lazy"),
            ("queue-version", "2"),
            ("queue-leader-locator", "balanced"),
            ("initial-cluster-size", "3"),
        ];
        check(&keys, PolicyKeys::default());
        check_refused(
            "ha-sync-mode",
            "manual",
            "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown",
        );
        check_refused("queue-mode", "eager", "<<\"eager\">> is not a valid queue-mode value");
        check_refused("queue-version", "3", "3 is not a valid queue-version value");
    }

    #[test]
    fn wrong_values_are_refused_in_rabbitmqs_words() {
        check_refused("message-ttl", "a", "<<\"a\">> is not a valid message TTL");
        check_refused("message-ttl", "-1", "-1 is not a valid message TTL");
        check_refused("expires", "0", "0 is not a valid queue expiry");
        check_refused("max-length", "x", "<<\"x\">> is not a valid maximum length");
        check_refused("max-length-bytes", "x", "<<\"x\">> is not a valid maximum length in bytes");
        check_refused("overflow", "spill", "<<\"spill\">> is not a valid overflow value");
        check_refused("dead-letter-exchange", "1", "1 is not a valid dead letter exchange name");
        check_refused("dead-letter-routing-key", "1", "1 is not a valid dead letter routing key");
        check_refused("dead-letter-strategy", "no", "<<\"no\">> is not a valid dead letter strategy");
        check_refused("alternate-exchange", "1", "1 is not a valid alternate exchange name");
        check_refused("delivery-limit", "-1", "-1 is not a valid delivery limit");
        check_refused("max-age", "1w", "<<\"1w\">> is not a valid max age");
        check_refused("max-age", "D", "<<\"D\">> is not a valid max age");
        check_refused("max-age", "0D", "<<\"0D\">> is not a valid max age");
        let segment = "3000000001 is not a valid segment size";
        check_refused("stream-max-segment-size-bytes", "3000000001", segment);
        check_refused("max-priority", "5", "[{<<\"max-priority\">>,5}] are not recognised policy settings");
    }

    #[test]
    fn operators_have_numbers_alone() {
        let refused =
            "Validation failed\n\n[{<<\"overflow\">>,<<\"drop-head\">>}] are not recognised policy settings";
        assert_eq!(parse(&[("overflow", "drop-head")], true), Err(refused.to_owned()));
        let wanted = PolicyKeys { messages_max: Some(1), ..PolicyKeys::default() };
        assert_eq!(parse(&[("max-length", "1")], true), Ok(wanted));
    }

    #[test]
    fn an_empty_definition_is_none() {
        assert_eq!(parse(&[], false), Err("Validation failed\n\nno policy provided".to_owned()));
    }
}
