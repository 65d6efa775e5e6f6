//! Policies: settings for all queues and exchanges whose names match.
//!
//! Of the policies that match, the one of the highest priority applies, whole; over it the one
//! operator's policy that matches, see [`merge`]. Knows names, types and patterns; what a queue
//! makes of its settings is the queue's. Invariant: what applies follows from a name and a type.

pub mod keys;
pub mod merge;
pub mod value;

use thiserror::Error;

pub use self::{keys::PolicyKeys, value::PolicyValue};
use super::queue_arguments::QueueType;
use crate::pattern::{Pattern, PatternError};

/// What a policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ApplyTo {
    #[default]
    All,
    Exchanges,
    Queues,
    ClassicQueues,
    QuorumQueues,
    Streams,
}

/// Why a policy is not taken. The texts are RabbitMQ's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// A value is wrong.
    #[error("Validation failed\n\n{0}")]
    Key(String),
    /// Keys that are not known.
    #[error("Validation failed\n\n[{0}] are not recognised policy settings")]
    Unrecognised(String),
    /// Nothing is set.
    #[error("Validation failed\n\nno policy provided")]
    Empty,
    /// It applies to nothing that is known.
    #[error("Validation failed\n\napply-to '{0}' unrecognised; should be 'queues', 'exchanges' or 'all'")]
    ApplyTo(String),
    /// The pattern is none.
    #[error("Validation failed\n\npattern should be regular expression but is invalid: {0}")]
    Pattern(#[from] PatternError),
}

impl ApplyTo {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::All, "all"),
        (Self::Exchanges, "exchanges"),
        (Self::Queues, "queues"),
        (Self::ClassicQueues, "classic_queues"),
        (Self::QuorumQueues, "quorum_queues"),
        (Self::Streams, "streams"),
    ];

    /// As RabbitMQ writes it; the last three are of RabbitMQ 3.12 and later.
    ///
    /// # Errors
    /// [`PolicyError::ApplyTo`] for anything else.
    pub fn from_name(name: &str) -> Result<Self, PolicyError> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(apply_to, _)| *apply_to).ok_or_else(|| PolicyError::ApplyTo(name.to_owned()))
    }

    /// The same back.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(apply_to, _)| *apply_to == self).expect("each has a name").1
    }

    const fn takes_exchanges(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }

    const fn takes(self, kind: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::Exchanges => false,
            Self::ClassicQueues => matches!(kind, QueueType::Classic),
            Self::QuorumQueues => matches!(kind, QueueType::Quorum),
            Self::Streams => matches!(kind, QueueType::Stream),
        }
    }
}

impl QueueType {
    /// Keys that a queue of this type does not know. A policy with one of them does not apply to
    /// it at all.
    fn knows(self, key: &str) -> bool {
        let mirror = key.starts_with("ha-") || key == "queue-master-locator";
        match self {
            Self::Classic => !matches!(
                key,
                "max-age"
                    | "stream-max-segment-size-bytes"
                    | "queue-leader-locator"
                    | "initial-cluster-size"
                    | "target-group-size"
                    | "delivery-limit"
                    | "dead-letter-strategy"
            ),
            Self::Quorum => {
                let stream =
                    matches!(key, "max-age" | "stream-max-segment-size-bytes" | "initial-cluster-size");
                !mirror && !stream && key != "queue-mode"
            }
            Self::Stream => {
                let other = matches!(
                    key,
                    "expires"
                        | "message-ttl"
                        | "dead-letter-exchange"
                        | "dead-letter-routing-key"
                        | "max-length"
                        | "max-in-memory-length"
                        | "max-in-memory-bytes"
                        | "overflow"
                        | "queue-mode"
                        | "delivery-limit"
                );
                !mirror && !other
            }
        }
    }
}

/// A policy, or an operator's.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The name, one of its kind in its virtual host.
    pub name: Box<str>,
    /// Names that it is for.
    pub pattern: Pattern,
    /// The highest one applies.
    pub priority: i64,
    /// What it applies to.
    pub apply_to: ApplyTo,
    /// As it was written, its keys in their order.
    definition: Vec<(Box<str>, PolicyValue)>,
    keys: PolicyKeys,
}

/// A policy as it is written.
#[derive(Debug, Clone)]
pub struct PolicyText<'a> {
    /// The name.
    pub name: &'a str,
    /// The pattern.
    pub pattern: &'a str,
    /// What it applies to.
    pub apply_to: &'a str,
    /// The priority.
    pub priority: i64,
    /// The keys and their values.
    pub definition: Vec<(Box<str>, PolicyValue)>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`] for the first thing that is wrong with it.
    pub fn parse(text: PolicyText<'_>, is_operators: bool) -> Result<Self, PolicyError> {
        let mut definition = text.definition;
        definition.sort_by(|(one, _), (other, _)| one.cmp(other));
        let keys = PolicyKeys::parse(&definition, is_operators)?;
        let apply_to = ApplyTo::from_name(text.apply_to)?;
        let pattern = Pattern::parse(text.pattern)?;
        Ok(Self { name: text.name.into(), pattern, priority: text.priority, apply_to, definition, keys })
    }

    /// As it was written, its keys in their order.
    #[must_use]
    pub fn definition(&self) -> &[(Box<str>, PolicyValue)] {
        &self.definition
    }

    fn is_for_queue(&self, name: &str, kind: QueueType) -> bool {
        self.apply_to.takes(kind)
            && self.definition.iter().all(|(key, _)| kind.knows(key))
            && self.pattern.matches(name)
    }

    fn is_for_exchange(&self, name: &str) -> bool {
        self.apply_to.takes_exchanges() && self.pattern.matches(name)
    }
}

/// The policies of a virtual host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policies {
    own: Vec<Policy>,
    operators: Vec<Policy>,
}

impl Policies {
    /// Puts policies in the order in which they are looked for: by priority, and among equal ones
    /// by name.
    #[must_use]
    pub fn new(mut own: Vec<Policy>, mut operators: Vec<Policy>) -> Self {
        for policies in [&mut own, &mut operators] {
            policies.sort_by(|one, other| {
                other.priority.cmp(&one.priority).then_with(|| one.name.cmp(&other.name))
            });
        }
        Self { own, operators }
    }

    /// The policies, and those of operators.
    #[must_use]
    pub fn all(&self) -> (&[Policy], &[Policy]) {
        (&self.own, &self.operators)
    }

    /// What applies to a queue.
    #[must_use]
    pub fn of_queue(&self, name: &str, kind: QueueType) -> PolicyKeys {
        self.effective(|policy| policy.is_for_queue(name, kind))
    }

    /// What applies to an exchange.
    #[must_use]
    pub fn of_exchange(&self, name: &str) -> PolicyKeys {
        self.effective(|policy| policy.is_for_exchange(name))
    }

    fn effective(&self, is_for: impl Fn(&Policy) -> bool) -> PolicyKeys {
        let first = |policies: &[Policy]| policies.iter().find(|policy| is_for(policy)).cloned();
        let own = first(&self.own).map(|policy| policy.keys).unwrap_or_default();
        match first(&self.operators) {
            Some(operators) => own.under_operator(&operators.keys),
            None => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, pattern: &str, apply_to: &str, priority: i64, keys: &[(&str, i64)]) -> Policy {
        let integer = |(key, value): &(&str, i64)| ((*key).into(), PolicyValue::Integer(*value));
        let definition = keys.iter().map(integer).collect();
        Policy::parse(PolicyText { name, pattern, apply_to, priority, definition }, false).unwrap()
    }

    fn lengths(policies: &Policies, name: &str, kind: QueueType) -> (Option<u64>, Option<u64>) {
        let keys = policies.of_queue(name, kind);
        (keys.messages_max, keys.message_ttl_millis)
    }

    #[test]
    fn the_highest_priority_applies_whole() {
        let low = policy("low", "^q", "queues", 1, &[("max-length", 1), ("message-ttl", 1)]);
        let high = policy("high", "^q1", "queues", 2, &[("max-length", 2)]);
        let policies = Policies::new(vec![low, high], Vec::new());
        assert_eq!(lengths(&policies, "q1", QueueType::Classic), (Some(2), None));
        assert_eq!(lengths(&policies, "q2", QueueType::Classic), (Some(1), Some(1)));
        assert_eq!(lengths(&policies, "other", QueueType::Classic), (None, None));
        assert_eq!(policies.of_exchange("q1"), PolicyKeys::default());
    }

    #[test]
    fn an_operators_policy_is_merged_over_it() {
        let own = policy("own", ".*", "all", 0, &[("max-length", 5), ("message-ttl", 5)]);
        let operators = policy("cap", "^q", "queues", 0, &[("max-length", 3), ("expires", 7)]);
        let policies = Policies::new(vec![own], vec![operators]);
        let keys = policies.of_queue("q", QueueType::Classic);
        assert_eq!(
            (keys.messages_max, keys.message_ttl_millis, keys.expires_millis),
            (Some(3), Some(5), Some(7))
        );
        assert_eq!(lengths(&policies, "other", QueueType::Classic), (Some(5), Some(5)));
    }

    #[test]
    fn a_policy_may_be_for_one_type_alone() {
        let check = |apply_to: &str, wanted: [bool; 3]| {
            let policies =
                Policies::new(vec![policy("p", "", apply_to, 0, &[("max-length-bytes", 1)])], Vec::new());
            let kinds = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
            assert_eq!(
                kinds.map(|kind| policies.of_queue("q", kind).octets_max.is_some()),
                wanted,
                "{apply_to}"
            );
        };
        check("all", [true; 3]);
        check("queues", [true; 3]);
        check("exchanges", [false; 3]);
        check("classic_queues", [true, false, false]);
        check("quorum_queues", [false, true, false]);
        check("streams", [false, false, true]);
    }

    #[test]
    fn a_policy_with_a_key_that_the_type_does_not_know_gives_way() {
        let limit = policy("limit", "", "queues", 9, &[("delivery-limit", 3), ("max-length", 1)]);
        let plain = policy("plain", "", "queues", 1, &[("max-length", 2)]);
        let policies = Policies::new(vec![limit, plain], Vec::new());
        assert_eq!(policies.of_queue("q", QueueType::Classic).messages_max, Some(2));
        let quorum = policies.of_queue("q", QueueType::Quorum);
        assert_eq!((quorum.messages_max, quorum.delivery_limit), (Some(1), Some(3)));
        assert_eq!(policies.of_queue("q", QueueType::Stream), PolicyKeys::default());
    }

    #[test]
    fn what_it_applies_to_must_be_known() {
        let text = PolicyText {
            name: "p",
            pattern: "",
            apply_to: "channels",
            priority: 0,
            definition: vec![("max-length".into(), PolicyValue::Integer(1))],
        };
        assert_eq!(
            Policy::parse(text.clone(), false).unwrap_err().to_string(),
            "Validation failed\n\napply-to 'channels' unrecognised; should be 'queues', 'exchanges' or 'all'"
        );
        let refused = Policy::parse(PolicyText { apply_to: "all", pattern: "(", ..text }, false).unwrap_err();
        assert!(refused.to_string().contains("pattern should be regular expression but is invalid"));
    }
}
