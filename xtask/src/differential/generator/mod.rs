//! Scripts from seeds.
//!
//! Holds how a script is laid out and which names it draws from; what is drawn for each group is in
//! a file of its own.
//! Invariant: a seed, a group and a set of features make one script, always the same.

mod arguments;
mod consuming;
mod errors;
mod limits;
mod publishing;
mod topology;

use super::{
    features::{Feature, Features, Group},
    operation::{Operation, Script, Setup, Step},
    random::Random,
};

const STEPS_MIN: usize = 25;
const STEPS_MORE: usize = 40;

/// The script of a seed.
pub(super) fn script(seed: u64, group: Group, features: Features) -> Script {
    let mut draw = Draw { random: Random::new(seed), features, group, bodies: 0, connections: 1 };
    let connections = draw.setups();
    draw.connections = connections.len();
    let mut steps = draw.opening();
    for _ in 0..STEPS_MIN + draw.random.below(STEPS_MORE) {
        let step = draw.step();
        steps.extend(step);
    }
    Script { seed, connections, steps }
}

/// The state of a draw.
struct Draw {
    random: Random,
    features: Features,
    group: Group,
    bodies: usize,
    connections: usize,
}

/// Queues of a script. The third is the one that is mostly missing.
const QUEUES: [&str; 4] = ["~q1", "~q2", "~q3", "~gone"];
/// Exchanges of a script, one of each type when they are declared as they should be.
const EXCHANGES: [(&str, &str); 5] = [
    ("~direct", "direct"),
    ("~fanout", "fanout"),
    ("~topic", "topic"),
    ("~headers", "headers"),
    ("~other", "direct"),
];
const CONSUMERS: [&str; 3] = ["t", "u", "v"];

impl Step {
    /// The same place with that operation; what concerns the connection goes to its channel 0.
    fn with(self, operation: Operation) -> Self {
        let is_connections = matches!(operation, Operation::CloseConnection | Operation::UpdateSecret);
        Self { channel: if is_connections { 0 } else { self.channel }, operation, ..self }
    }
}

impl Draw {
    fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    fn setups(&mut self) -> Vec<Setup> {
        let most = if matches!(self.group, Group::Topology | Group::Errors) { 2 } else { 3 };
        let count = 1 + self.random.below(most);
        let setup = |draw: &mut Self| Setup {
            frame_max: draw.random.pick(&[131_072, 131_072, 4096, 8192]),
            cancel_notify: !draw.random.one_in(4),
        };
        (0..count).map(|_| setup(self)).collect()
    }

    fn at(&mut self, operation: Operation) -> Step {
        let connection = self.random.below(self.connections);
        let channel = self.random.pick(&[1, 1, 1, 2, 2, 3]);
        Step { connection, channel, operation: Operation::TxSelect }.with(operation)
    }

    /// What most scripts begin with, so that what follows finds something.
    fn opening(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (exchange, kind) in EXCHANGES.into_iter().take(4) {
            if !self.random.one_in(3) {
                let operation = topology::plain_exchange(exchange, kind);
                steps.push(self.at(operation));
            }
        }
        for queue in QUEUES.into_iter().take(3) {
            if !self.random.one_in(4) {
                let operation = self.first_queue(queue);
                steps.push(self.at(operation));
                let operation = self.bind_queue_to_its_own(queue);
                steps.push(self.at(operation));
                if self.group == Group::Consuming && !self.random.one_in(3) {
                    let operation = self.consume_from(queue);
                    steps.push(self.at(operation));
                }
            }
        }
        steps
    }

    fn first_queue(&mut self, queue: &str) -> Operation {
        if self.group == Group::Limits { self.limited_queue(queue) } else { topology::plain_queue(queue) }
    }

    /// One operation of the group's own, or now and then of another group; some come with another
    /// that gives them a meaning.
    fn step(&mut self) -> Vec<Step> {
        let group = if self.random.one_in(5) { self.random.pick(&Group::ALL) } else { self.group };
        let operations = match group {
            Group::Topology => vec![self.topology()],
            Group::Publishing => self.publishing(),
            Group::Consuming => vec![self.consuming()],
            Group::Limits => self.limits(),
            Group::Errors if self.group == Group::Errors => return self.errors(),
            Group::Errors => vec![self.mild_error()],
        };
        let first = self.at(Operation::TxSelect);
        operations.into_iter().map(|operation| first.clone().with(operation)).collect()
    }

    fn queue(&mut self) -> String {
        match self.random.below(30) {
            0 => String::new(),
            1 => "@0".to_owned(),
            2 => QUEUES[3].to_owned(),
            n => QUEUES[n % 3].to_owned(),
        }
    }

    fn exchange(&mut self) -> String {
        match self.random.below(24) {
            0 => String::new(),
            1 => "~gone".to_owned(),
            2 | 3 => "amq.direct".to_owned(),
            4 => "amq.topic".to_owned(),
            n => EXCHANGES[n % EXCHANGES.len()].0.to_owned(),
        }
    }

    /// A routing key. Predeclared exchanges are everybody's, so each key begins with the prefix.
    fn key(&mut self) -> String {
        let rest = self.random.pick(&["", "k", "k.l", "k..l", "l", "k.l.m", "q1", "q2", "q1"]);
        if rest.starts_with('q') { format!("~{rest}") } else { format!("~a.{rest}") }
    }

    /// A binding key, where patterns have a meaning for some.
    fn pattern(&mut self) -> String {
        let rest =
            self.random.pick(&["k", "k", "*", "#", "k.*", "*.l", "#.l", "k.#.l", "*.*", "", "#.#", "k.l.m"]);
        format!("~a.{rest}")
    }

    fn consumer_tag(&mut self) -> String {
        if self.random.one_in(12) { String::new() } else { self.random.pick(&CONSUMERS).to_owned() }
    }

    /// A body like no other in the script.
    fn body(&mut self) -> (String, usize) {
        self.bodies += 1;
        let body = format!("m{}.", self.bodies);
        let octets = body.len();
        (body, octets)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(group: Group, all: bool) -> BTreeSet<&'static str> {
        let scripts = (0..300).map(|seed| script(seed, group, Features { all }));
        scripts.flat_map(|script| script.steps).map(|step| step.operation.name()).collect()
    }

    #[test]
    fn a_seed_makes_the_same_script_again() {
        let draw = |seed| script(seed, Group::Consuming, Features { all: true });
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3).steps, draw(4).steps);
    }

    #[test]
    fn scripts_are_kept_as_text() {
        for (seed, group) in (0..50).zip(Group::ALL.into_iter().cycle()) {
            let drawn = script(seed, group, Features { all: true });
            let text = serde_json::to_string(&drawn).unwrap();
            assert_eq!(serde_json::from_str::<Script>(&text).unwrap(), drawn);
        }
    }

    #[test]
    fn every_operation_is_drawn() {
        let drawn: BTreeSet<_> = Group::ALL.into_iter().flat_map(|group| names(group, false)).collect();
        let missing: Vec<_> = crate::differential::histogram::OPERATIONS
            .iter()
            .filter(|name| !drawn.contains(**name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(drawn.len(), crate::differential::histogram::OPERATIONS.len());
    }

    #[test]
    fn what_is_not_built_is_not_drawn() {
        let drawn = |all| {
            let groups = Group::ALL.into_iter().cycle();
            let scripts = (0..400).zip(groups).map(|(seed, group)| script(seed, group, Features { all }));
            scripts.map(|script| serde_json::to_string(&script).unwrap()).collect::<String>()
        };
        let (built, everything) = (drawn(false), drawn(true));
        for (feature, mark) in [
            (Feature::AlternateExchange, "alternate-exchange"),
            (Feature::CarbonCopies, "\"BCC\""),
            (Feature::DirectReplyTo, "amq.rabbitmq.reply-to"),
            (Feature::MessageExpiration, "Expiration"),
            (Feature::MessageTtl, "x-message-ttl"),
            (Feature::QueueExpiry, "x-expires"),
            (Feature::DeadLettering, "x-dead-letter-exchange"),
            (Feature::PriorityQueues, "x-max-priority"),
            (Feature::SingleActiveConsumer, "x-single-active-consumer"),
            (Feature::ConsumerPriorities, "x-priority"),
            (Feature::DeliveryLimit, "x-delivery-limit"),
            (Feature::RejectPublishDeadLetter, "reject-publish-dlx"),
            (Feature::QuorumQueues, "quorum"),
        ] {
            assert!(everything.contains(mark), "{mark} is never drawn");
            let is_on = Features { all: false }.has(feature);
            assert_eq!(built.contains(mark), is_on, "{mark}");
        }
    }
}
