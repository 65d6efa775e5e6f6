//! What can be drawn, by group, and what the broker does not do yet.
//!
//! The one place that says so: when a feature is built, its line leaves [`NOT_BUILT`] and scripts
//! use it from then on.
//! Invariant: with `--all-features` every feature is drawn, built or not.

use clap::ValueEnum;

/// What a script is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Group {
    /// Exchanges, queues and bindings: flags, redeclarations, deletes, reserved names
    Topology,
    /// Messages: properties, routing, returns, confirms, transactions, sizes
    Publishing,
    /// Consumers, gets, settlements, prefetch, exclusive use
    Consuming,
    /// Limits, expiry, dead letters, priorities, quorum queues
    Limits,
    /// Mistakes: broken frames, wrong states, bad arguments, logins
    Errors,
}

impl Group {
    pub(super) const ALL: [Self; 5] =
        [Self::Topology, Self::Publishing, Self::Consuming, Self::Limits, Self::Errors];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Topology => "topology",
            Self::Publishing => "publishing",
            Self::Consuming => "consuming",
            Self::Limits => "limits",
            Self::Errors => "errors",
        }
    }
}

/// Something that scripts use only where it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    AlternateExchange,
    CarbonCopies,
    DirectReplyTo,
    MessageExpiration,
    MessageTtl,
    QueueExpiry,
    DeadLettering,
    PriorityQueues,
    SingleActiveConsumer,
    ConsumerPriorities,
    DeliveryLimit,
    RejectPublishDeadLetter,
    QuorumQueues,
    StreamArguments,
}

/// What is switched off until it is built.
pub(super) const NOT_BUILT: &[Feature] = &[];

/// Which features scripts use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    pub(super) all: bool,
}

impl Features {
    pub(super) fn has(self, feature: Feature) -> bool {
        self.all || !NOT_BUILT.contains(&feature)
    }
}
