//! Orders that RabbitMQ leaves open and on which the rest of a script depends: it ends there.
//!
//! Each is an exact predicate with a name; `docs/differential.md` says the same in a list.
//! Invariant: what ends a script is the same messages on both brokers, in another order.

use std::collections::BTreeSet;

use super::{
    comparison::{self, Channel, Difference, Heard},
    event::Event,
    field::Field,
    ledger::Ledger,
    operation::{Operation, Script, Step},
};

/// Several channels of an ended connection held something: these end at the same time, and each by
/// itself.
const REQUEUE_OF_CHANNELS: &str = "requeue-of-channels";
/// A message goes into a classic queue that makes it a dead letter at once, and into a quorum queue
/// that is given the dead letter too: the quorum queue's log may take that before the message.
const DEATH_BEFORE_MESSAGE: &str = "death-before-message";

/// Consumers on several queues share a channel's prefetch: which queue hears first that there is room
/// again, and how much another one leaves it, RabbitMQ leaves to chance (`rabbit_limiter`).
const ROOM_FOR_SEVERAL_QUEUES: &str = "room-for-several-queues";
/// What one channel of an ending connection gave back, another of it was handed that need not
/// acknowledge it, or it ended too early for that: the message is gone on one broker alone.
pub(super) const LOST_WITH_ITS_CONNECTION: &str = "lost-with-its-connection";

/// Where a script stands.
pub(super) struct Place<'a> {
    pub(super) script: &'a Script,
    pub(super) ledger: &'a Ledger,
}

/// The name of the order that is open, if the brokers differ in one alone.
pub(super) fn name_of(
    at: &Place<'_>,
    difference: &Difference,
    ours: &Heard,
    theirs: &Heard,
) -> Option<&'static str> {
    let script = at.script;
    if is_requeue_of_channels(at.ledger, ours, theirs) {
        return Some(REQUEUE_OF_CHANNELS);
    }
    if is_room_for_several_queues(script, difference.channel, ours, theirs) {
        return Some(ROOM_FOR_SEVERAL_QUEUES);
    }
    let (Some(our), Some(their)) = (&difference.ours, &difference.theirs) else { return None };
    let queues = Queues::of(script);
    (queues.may_race() && queues.is_death_and_message(our, their)).then_some(DEATH_BEFORE_MESSAGE)
}

fn is_requeue_of_channels(ledger: &Ledger, ours: &Heard, theirs: &Heard) -> bool {
    let ended = |(connection, _): &&Channel| {
        theirs.iter().any(|((of, _), event)| of == connection && comparison::is_end(event))
    };
    let unordered = |heard: &Heard| {
        let line =
            |(channel, event): &(Channel, Event)| format!("{channel:?} {}", event.clone().without("tag"));
        let mut lines: Vec<String> = heard.iter().map(line).collect();
        lines.sort_unstable();
        lines
    };
    ledger.holders().filter(ended).count() > 1 && unordered(ours) == unordered(theirs)
}

/// Whether all is the same but what consumers of that channel were given, and they were given as many
/// messages, from several queues under one prefetch.
fn is_room_for_several_queues(script: &Script, at: Channel, ours: &Heard, theirs: &Heard) -> bool {
    let on_channel = |step: &&Step| (step.connection, step.channel) == at;
    let steps = || script.steps.iter().filter(on_channel).map(|step| &step.operation);
    let shares = steps().any(|operation| {
        matches!(operation, Operation::Qos { global: true, prefetch_count, .. } if *prefetch_count > 0)
    });
    let queues: BTreeSet<&str> = steps()
        .filter_map(|operation| match operation {
            Operation::Consume { queue, .. } => Some(queue.as_str()),
            _ => None,
        })
        .collect();
    let is_given = |(channel, event): &&(Channel, Event)| *channel == at && event.name == "BasicDeliver";
    let given = |heard: &Heard| heard.iter().filter(is_given).count();
    let rest = |heard: &Heard| heard.iter().filter(|said| !is_given(said)).cloned().collect::<Vec<_>>();
    shares && queues.len() > 1 && given(ours) == given(theirs) && rest(ours) == rest(theirs)
}

/// Whether a consumer of an ending connection that need not acknowledge was given something again by
/// one broker and not by the other.
pub(super) fn is_lost_with_its_connection(ledger: &Ledger, ours: &Heard, theirs: &Heard) -> bool {
    let lost = |heard: &Heard| {
        let ended =
            |connection| heard.iter().any(|((of, _), event)| *of == connection && comparison::is_end(event));
        let is_lost = |(channel, event): &&(Channel, Event)| {
            event.name == "BasicDeliver"
                && event.field("redelivered") == "true"
                && ended(channel.0)
                && ledger.is_no_ack(*channel, event.field("consumer"))
        };
        heard.iter().filter(is_lost).count()
    };
    lost(ours) != lost(theirs)
}

/// Which queues a script declares.
#[derive(Default)]
struct Queues {
    has_quorum: bool,
    /// A classic queue whose messages may die as they come.
    has_deadly: bool,
}

impl Queues {
    fn of(script: &Script) -> Self {
        let mut queues = Self::default();
        for step in &script.steps {
            let Operation::DeclareQueue { arguments, passive: false, .. } = &step.operation else { continue };
            let has = |name: &str| arguments.iter().any(|(found, _)| found == name);
            let is_quorum = arguments.contains(&("x-queue-type".to_owned(), Field::text("quorum")));
            let dies = has("x-message-ttl") || has("x-max-length") || has("x-max-length-bytes");
            queues.has_quorum |= is_quorum;
            queues.has_deadly |= !is_quorum && dies && has("x-dead-letter-exchange");
        }
        queues
    }

    const fn may_race(&self) -> bool {
        self.has_quorum && self.has_deadly
    }

    /// Whether one is a message and the other what became of the same message, both read.
    fn is_death_and_message(&self, ours: &Event, theirs: &Event) -> bool {
        let died = |event: &Event| event.field("headers").contains("x-death:");
        let is_read = matches!(ours.name, "BasicGetOk" | "BasicDeliver");
        let same = |field: &str| ours.field(field) == theirs.field(field);
        is_read
            && ours.name == theirs.name
            && ["body", "redelivered", "consumer", "left"].into_iter().all(same)
            && died(ours) != died(theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::{comparison::Lane, operation::Setup};

    fn declare(arguments: &[(&str, Field)]) -> Step {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let operation = Operation::DeclareQueue {
            queue: "~q1".to_owned(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments,
        };
        Step { connection: 0, channel: 1, operation }
    }

    fn script(steps: Vec<Step>) -> Script {
        Script { seed: 1, connections: vec![Setup { frame_max: 4096, cancel_notify: true }], steps }
    }

    #[track_caller]
    fn check(script: &Script, ours: &Event, theirs: &Event, wanted: Option<&str>) {
        let difference = Difference {
            channel: (0, 1),
            lane: Lane::Replies,
            ours: Some(ours.clone()),
            theirs: Some(theirs.clone()),
        };
        let heard = |event: &Event| vec![((0, 1), event.clone())];
        let ledger = Ledger::default();
        let at = Place { script, ledger: &ledger };
        let name = name_of(&at, &difference, &heard(ours), &heard(theirs));
        assert_eq!(name, wanted);
    }

    #[test]
    fn a_dead_letter_may_come_before_its_message_in_a_quorum_queue_alone() {
        let quorum = declare(&[("x-queue-type", Field::text("quorum"))]);
        let dead_letters = ("x-dead-letter-exchange", Field::text("~fanout"));
        let deadly = declare(&[("x-message-ttl", Field::I32(0)), dead_letters.clone()]);
        let living = declare(&[dead_letters]);
        let message = Event::plain("BasicGetOk").with("body", "m").with("left", "1");
        let death = message.clone().with("headers", "{x-death:array []}");
        let name = Some(DEATH_BEFORE_MESSAGE);
        let both = script(vec![quorum.clone(), deadly.clone()]);
        check(&both, &message, &death, name);
        check(&both, &death, &message, name);
        check(&both, &message, &message.clone().with("headers", "{h:Void}"), None);
        check(&both, &message, &death.clone().with("body", "n"), None);
        check(&both, &message, &death.clone().with("left", "0"), None);
        check(&script(vec![quorum, living]), &message, &death, None);
        check(&script(vec![deadly]), &message, &death, None);
    }

    fn step(operation: Operation) -> Step {
        Step { connection: 0, channel: 1, operation }
    }

    fn consume(queue: &str) -> Step {
        step(Operation::Consume {
            queue: queue.to_owned(),
            consumer_tag: String::new(),
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments: Vec::new(),
        })
    }

    #[test]
    fn room_is_for_any_of_several_queues_and_for_as_many_messages() {
        let qos = |global| step(Operation::Qos { prefetch_octets: 0, prefetch_count: 2, global });
        let given = |consumer: &str| ((0, 1), Event::plain("BasicDeliver").with("consumer", consumer));
        let check = |steps: Vec<Step>, ours: &Heard, theirs: &Heard, wanted| {
            assert_eq!(is_room_for_several_queues(&script(steps), (0, 1), ours, theirs), wanted);
        };
        let several = || vec![qos(true), consume("~q1"), consume("~q2")];
        check(several(), &vec![given("t")], &vec![given("u")], true);
        check(several(), &vec![given("t")], &vec![given("u"), given("t")], false);
        check(
            several(),
            &vec![given("t")],
            &vec![given("u"), ((0, 1), Event::plain("BasicRecoverOk"))],
            false,
        );
        check(vec![qos(true), consume("~q1")], &vec![given("t")], &vec![given("u")], false);
        check(vec![qos(false), consume("~q1"), consume("~q2")], &vec![given("t")], &vec![given("u")], false);
    }

    #[test]
    fn only_what_need_not_be_acknowledged_is_lost_with_its_connection() {
        let end = ((0, 0), Event::plain("EndOfStream"));
        let given = |redelivered: &str| {
            let event = Event::plain("BasicDeliver").with("consumer", "t").with("redelivered", redelivered);
            ((0, 1), event)
        };
        let mut ledger = Ledger::default();
        let with = vec![given("true"), end.clone()];
        let without = vec![end.clone()];
        assert!(!is_lost_with_its_connection(&ledger, &with, &without));
        let operation = consume("~q1").operation;
        let ok = vec![((0, 1), Event::plain("BasicConsumeOk").with("consumer", "t"))];
        ledger.follow((0, 1), &operation, 0, &ok);
        assert!(is_lost_with_its_connection(&ledger, &with, &without));
        assert!(!is_lost_with_its_connection(&ledger, &with, &with));
        assert!(!is_lost_with_its_connection(&ledger, &vec![given("false"), end], &without));
        assert!(!is_lost_with_its_connection(&ledger, &vec![given("true")], &Vec::new()));
    }
}
