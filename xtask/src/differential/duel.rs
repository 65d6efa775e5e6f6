//! One script on two brokers, step by step.
//!
//! Gives both the same step, waits until both are quiet, and compares; goes on only when they
//! agree. Sockets are in `side.rs`, delivery tags in `ledger.rs`.
//! Invariant: the next step begins when both have said the same.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    comparison::{self, Agreement, Difference, Heard},
    field::Field,
    ledger::Ledger,
    open,
    operation::{Operation, Script, Step},
    side::Side,
};

/// After a socket was closed without a word there is nothing to wait for but time.
const VANISH_TIME: Duration = Duration::from_millis(60);
/// What was done to a quorum queue of RabbitMQ's is in its log by then, and shows.
const LOG_TIME: Duration = Duration::from_millis(60);
/// At the end of a script, for what came too much and too late.
const LAST_TIME: Duration = Duration::from_millis(15);
const REST_TIME_MAX: Duration = Duration::from_millis(50);

/// Two brokers: ours, and the one that is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Brokers {
    pub(super) ours: SocketAddr,
    pub(super) theirs: SocketAddr,
}

/// How a script ended.
pub(super) struct Outcome {
    /// What the reference said to each step that was taken, and where it was taken.
    pub(super) trace: Vec<Option<(Step, Heard)>>,
    pub(super) allowed: Vec<&'static str>,
    /// Steps that mean something else to each broker, because an order is open.
    pub(super) left_out: usize,
    /// How often counts of a queue had to be asked for once more.
    pub(super) asked_again: usize,
    /// Why the script ended before its end: an order is open that the rest depends on.
    pub(super) open_end: Option<&'static str>,
    pub(super) difference: Option<Found>,
}

/// A difference, and what led to it.
pub(super) struct Found {
    pub(super) step: usize,
    pub(super) difference: Difference,
    pub(super) ours: Heard,
    pub(super) theirs: Heard,
}

/// Runs a script; `run` makes its names differ from those of all other runs, and a difference
/// counts when it is still there after `patience`.
pub(super) fn run(script: &Script, brokers: Brokers, run: u64, patience: Duration) -> Result<Outcome> {
    let side = |letter, address| Side::new(address, script, format!("{letter}{run:06x}-"));
    let mut duel = Duel {
        script,
        patience,
        ours: side('o', brokers.ours),
        theirs: side('t', brokers.theirs),
        ledger: Ledger::default(),
        outcome: Outcome {
            trace: Vec::new(),
            allowed: Vec::new(),
            left_out: 0,
            asked_again: 0,
            open_end: None,
            difference: None,
        },
    };
    duel.run()?;
    let Duel { ours, theirs, outcome, .. } = duel;
    ours.finish(script)?;
    theirs.finish(script)?;
    Ok(outcome)
}

struct Duel<'a> {
    script: &'a Script,
    patience: Duration,
    ours: Side<'a>,
    theirs: Side<'a>,
    ledger: Ledger,
    outcome: Outcome,
}

impl Duel<'_> {
    fn run(&mut self) -> Result<()> {
        for (number, step) in self.script.steps.iter().enumerate() {
            if !self.step(number, step)? {
                return Ok(());
            }
        }
        thread::sleep(LAST_TIME);
        self.compare(self.script.steps.len(), None)?;
        Ok(())
    }

    /// Takes a step; whether the brokers still agree.
    fn step(&mut self, number: usize, step: &Step) -> Result<bool> {
        let Some(step) = self.ledger.placed(step) else {
            self.outcome.trace.push(None);
            return Ok(true);
        };
        let step = &step;
        self.ours.prepare(step)?;
        self.theirs.prepare(step)?;
        let at = (step.connection, step.channel);
        let tag = self.ledger.tag(at, &step.operation);
        if self.ledger.is_open_order(at, &step.operation, tag) {
            self.outcome.left_out += 1;
            self.outcome.trace.push(None);
            return Ok(true);
        }
        if self.deletes_quorum_queue(step) {
            thread::sleep(LOG_TIME);
        }
        let our_tag = self.ledger.our_tag(at, tag);
        self.ours.take(step, our_tag)?;
        self.theirs.take(step, tag)?;
        match &step.operation {
            Operation::Wait { milliseconds } => thread::sleep(Duration::from_millis(*milliseconds)),
            Operation::Vanish => thread::sleep(VANISH_TIME),
            _ => {}
        }
        self.ours.settle();
        self.theirs.settle();
        let Some(heard) = self.compare(number, Some(step))? else { return Ok(false) };
        if self.is_told_of_end(&heard) {
            thread::sleep(LOG_TIME);
        }
        self.ledger.follow(at, &step.operation, tag, &heard);
        self.outcome.trace.push(Some((step.clone(), heard)));
        Ok(true)
    }

    /// Whether the answer tells how many messages RabbitMQ's log of a quorum queue has come to.
    fn deletes_quorum_queue(&self, step: &Step) -> bool {
        let Operation::DeleteQueue { queue, .. } = &step.operation else { return false };
        self.quorum_queues().any(|name| name == queue)
    }

    /// Whether a quorum queue of RabbitMQ's is to hear that a channel is gone, which it does later
    /// than the client.
    fn is_told_of_end(&self, heard: &Heard) -> bool {
        let ends = ["ChannelClose", "ChannelCloseOk", "ConnectionCloseOk", "EndOfStream"];
        self.quorum_queues().next().is_some() && heard.iter().any(|(_, event)| ends.contains(&event.name))
    }

    /// The quorum queues that the script declares.
    fn quorum_queues(&self) -> impl Iterator<Item = &str> {
        let quorum = ("x-queue-type".to_owned(), Field::text("quorum"));
        self.script.steps.iter().filter_map(move |step| match &step.operation {
            Operation::DeclareQueue { queue, arguments, .. } if arguments.contains(&quorum) => {
                Some(queue.as_str())
            }
            _ => None,
        })
    }

    /// What both said once they agree; nothing if they do not come to agree.
    fn compare(&mut self, number: usize, step: Option<&Step>) -> Result<Option<Heard>> {
        let begun = Instant::now();
        let mut rest = Duration::from_millis(1);
        loop {
            self.ours.ask_all_quiet();
            self.theirs.ask_all_quiet();
            self.ours.settle();
            self.theirs.settle();
            let (ours, theirs) = (self.ours.heard(), self.theirs.heard());
            match comparison::compare(&ours, &theirs) {
                Ok(_) if open::is_lost_with_its_connection(&self.ledger, &ours, &theirs) => {
                    self.outcome.open_end = Some(open::LOST_WITH_ITS_CONNECTION);
                    return Ok(None);
                }
                // Both confirm later what is to last, and the next step's confirms shall not be among
                // these.
                Ok(_) if self.awaits_confirm(step, &theirs) && begun.elapsed() < self.patience => {}
                Ok(agreement) => {
                    self.agree(agreement);
                    return Ok(Some(theirs));
                }
                Err(difference) if begun.elapsed() >= self.patience => {
                    let at = open::Place { script: self.script, ledger: &self.ledger };
                    let open = open::name_of(&at, &difference, &ours, &theirs);
                    self.outcome.open_end = open;
                    if open.is_none() {
                        self.outcome.difference = Some(Found { step: number, difference, ours, theirs });
                    }
                    return Ok(None);
                }
                Err(difference) => self.ask_counts_again(step, &difference)?,
            }
            thread::sleep(rest);
            rest = REST_TIME_MAX.min(rest * 2);
        }
    }

    fn awaits_confirm(&self, step: Option<&Step>, heard: &Heard) -> bool {
        step.is_some_and(|step| self.ledger.awaits_confirm(step, heard))
    }

    /// Where the brokers differ in a declare-ok's counts alone, asks both for these once more. Those
    /// of a RabbitMQ queue may be of a moment before what a channel has been told was done: a quorum
    /// queue answers with what its log has come to, and a dead letter is on its way between queues.
    fn ask_counts_again(&mut self, step: Option<&Step>, difference: &Difference) -> Result<()> {
        let Some(step) = step.filter(|_| difference.is_of_counts()) else { return Ok(()) };
        let Operation::DeclareQueue { queue, .. } = &step.operation else { return Ok(()) };
        if queue.is_empty() {
            return Ok(());
        }
        self.outcome.asked_again += 1;
        self.ours.ask_counts_again(step, queue)?;
        self.theirs.ask_counts_again(step, queue)
    }

    fn agree(&mut self, agreement: Agreement) {
        self.outcome.allowed.extend(agreement.allowed);
        self.ledger.cross(agreement.tags);
        self.ours.forget();
        self.theirs.forget();
    }
}
