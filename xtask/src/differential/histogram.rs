//! How often each operation was tried, and how each ended.
//!
//! Invariant: a run that is long enough and did not try everything often enough has failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{comparison::Heard, operation::Step};

/// Each of these is done in a run.
pub(super) const OPERATIONS: [&str; 38] = [
    "access.request",
    "basic.ack",
    "basic.cancel",
    "basic.consume",
    "basic.get",
    "basic.nack",
    "basic.publish",
    "basic.qos",
    "basic.recover",
    "basic.recover-async",
    "basic.reject",
    "broken body",
    "broken frame",
    "broken header",
    "broken method",
    "channel.close",
    "channel.flow",
    "channel.open",
    "confirm.select",
    "connection.close",
    "connection.update-secret",
    "exchange.bind",
    "exchange.declare",
    "exchange.declare passive",
    "exchange.delete",
    "exchange.unbind",
    "log in",
    "queue.bind",
    "queue.declare",
    "queue.declare passive",
    "queue.delete",
    "queue.purge",
    "queue.unbind",
    "socket closed",
    "time passes",
    "tx.commit",
    "tx.rollback",
    "tx.select",
];

/// What brokers say in a run, each at least a few times.
const OUTCOMES: [&str; 36] = [
    "AccessRequestOk",
    "BasicAck",
    "BasicCancel",
    "BasicCancelOk",
    "BasicConsumeOk",
    "BasicDeliver",
    "BasicGetEmpty",
    "BasicGetOk",
    "BasicNack",
    "BasicQosOk",
    "BasicRecoverOk",
    "BasicReturn 312",
    "ChannelClose 403",
    "ChannelClose 404",
    "ChannelClose 405",
    "ChannelClose 406",
    "ChannelCloseOk",
    "ChannelFlowOk",
    "ConfirmSelectOk",
    "ConnectionClose 501",
    "ConnectionClose 503",
    "ConnectionClose 504",
    "ConnectionClose 505",
    "ConnectionClose 530",
    "ConnectionClose 540",
    "ConnectionClose 541",
    "ConnectionCloseOk",
    "ConnectionUpdateSecretOk",
    "EndOfStream",
    "ExchangeBindOk",
    "ExchangeDeclareOk",
    "QueueBindOk",
    "QueueDeclareOk",
    "QueueDeleteOk",
    "QueuePurgeOk",
    "TxCommitOk",
];

/// One in so many steps is each operation, at least.
const OPERATION_SHARE: usize = 4000;
/// One in so many steps has each outcome, at least.
const OUTCOME_SHARE: usize = 20_000;
/// A run of fewer steps is too short to judge.
const STEPS_JUDGED_MIN: usize = 20_000;

/// Counts of one run.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) steps: usize,
    operations: BTreeMap<&'static str, BTreeMap<String, usize>>,
    outcomes: BTreeMap<String, usize>,
}

impl Histogram {
    /// Counts a step and what the reference said to it.
    pub(super) fn count(&mut self, step: &Step, heard: &Heard) {
        self.steps += 1;
        let own = heard.iter().find(|((connection, channel), event)| {
            let is_own = *channel == step.channel || event.name == "ConnectionClose";
            is_own && (*connection == step.connection || *connection == usize::MAX)
        });
        let outcome = own.map_or_else(|| "silence".to_owned(), |(_, event)| event.outcome());
        *self.operations.entry(step.operation.name()).or_default().entry(outcome).or_default() += 1;
        for (_, event) in heard {
            *self.outcomes.entry(event.outcome()).or_default() += 1;
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        for (operation, outcomes) in other.operations {
            let all = self.operations.entry(operation).or_default();
            outcomes.into_iter().for_each(|(outcome, count)| *all.entry(outcome).or_default() += count);
        }
        other.outcomes.into_iter().for_each(|(name, count)| *self.outcomes.entry(name).or_default() += count);
    }

    /// What came up too seldom; nothing is asked of a short run.
    pub(super) fn missing(&self) -> Vec<String> {
        if self.steps < STEPS_JUDGED_MIN {
            return Vec::new();
        }
        let tried = |name: &str| self.operations.get(name).map_or(0, |outcomes| outcomes.values().sum());
        let heard = |name: &str| self.outcomes.get(name).copied().unwrap_or_default();
        let operations = OPERATIONS.iter().map(|name| (*name, tried(name), self.steps / OPERATION_SHARE));
        let outcomes = OUTCOMES.iter().map(|name| (*name, heard(name), self.steps / OUTCOME_SHARE));
        let too_few = |(name, count, least): (&str, usize, usize)| {
            (count < least.max(1)).then(|| format!("{name}: {count}, and not {least}"))
        };
        operations.chain(outcomes).filter_map(too_few).collect()
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (operation, outcomes) in &self.operations {
            let total: usize = outcomes.values().sum();
            let mut each: Vec<_> = outcomes.iter().collect();
            each.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
            let each: Vec<_> = each.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let _ = writeln!(text, "{operation:26} {total:7}  {}", each.join(", "));
        }
        let outcomes: Vec<_> = self.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        text + "heard: " + &outcomes.join(", ") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{event::Event, operation::Operation};

    fn step() -> Step {
        Step { connection: 0, channel: 1, operation: Operation::TxCommit }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut histogram = Histogram::default();
        let heard = vec![((0, 1), Event::plain("ChannelClose").with("reply-code", "406"))];
        for _ in 0..STEPS_JUDGED_MIN {
            histogram.count(&step(), &heard);
        }
        let missing = histogram.missing();
        assert!(!missing.iter().any(|line| line.starts_with("tx.commit")), "{missing:?}");
        assert!(!missing.iter().any(|line| line.starts_with("ChannelClose 406")), "{missing:?}");
        assert!(missing.iter().any(|line| line.starts_with("tx.rollback")), "{missing:?}");
        assert!(missing.iter().any(|line| line.starts_with("ChannelClose 405")), "{missing:?}");
        assert!(histogram.table().contains("ChannelClose 406 20000"), "{}", histogram.table());
    }

    #[test]
    fn short_runs_are_not_judged() {
        let mut histogram = Histogram::default();
        histogram.count(&step(), &Vec::new());
        assert_eq!(histogram.missing(), [""; 0]);
    }
}
