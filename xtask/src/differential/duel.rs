//! One script on two brokers, step by step.
//!
//! Gives both the same step, waits until both are quiet, and compares; goes on only when they
//! agree. Knows how delivery tags of the script become those of each broker; not what a step means.
//! Invariant: the next step begins when both have said the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    client::Client,
    comparison::{self, Agreement, Channel, Difference, Heard},
    encode::{Place, encode},
    event::Event,
    janitor,
    login::log_in,
    names::Names,
    operation::{Operation, Script, Step, Tag},
};

/// Channels up to this one are opened when a step needs them.
const CHANNEL_OPENED_MAX: u16 = 4;
/// After a socket was closed without a word there is nothing to wait for but time.
const VANISH_TIME: Duration = Duration::from_millis(60);
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
    /// Whether the script ended before its end because an order is open that the rest depends on.
    pub(super) is_open_end: bool,
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
        unacked: BTreeMap::new(),
        no_ack: BTreeSet::new(),
        tags: BTreeMap::new(),
        outcome: Outcome {
            trace: Vec::new(),
            allowed: Vec::new(),
            left_out: 0,
            is_open_end: false,
            difference: None,
        },
    };
    duel.run()?;
    let Duel { ours, theirs, outcome, .. } = duel;
    ours.finish(script)?;
    theirs.finish(script)?;
    Ok(outcome)
}

/// One of the brokers.
struct Side<'a> {
    address: SocketAddr,
    script: &'a Script,
    names: Names,
    clients: Vec<Option<Client>>,
    /// What handshakes of their own were told.
    aside: Vec<(u16, Event)>,
}

impl<'a> Side<'a> {
    fn new(address: SocketAddr, script: &'a Script, prefix: String) -> Self {
        let clients = script.connections.iter().map(|_| None).collect();
        Self { address, script, names: Names::new(prefix), clients, aside: Vec::new() }
    }

    /// Sees to it that the step's connection and channel are open.
    fn prepare(&mut self, step: &Step) -> Result<()> {
        let client = &mut self.clients[step.connection];
        if client.as_ref().is_none_or(|client| !client.is_open) {
            *client = Some(Client::open(self.address, &self.script.connections[step.connection])?);
        }
        let Some(client) = client else { return Ok(()) };
        client.ensure(1, &mut self.names);
        let is_open_step = matches!(step.operation, Operation::OpenChannel);
        if (2..=CHANNEL_OPENED_MAX).contains(&step.channel) && !is_open_step {
            client.ensure(step.channel, &mut self.names);
        }
        Ok(())
    }

    /// Takes a step, and asks for a sign that it is done.
    fn take(&mut self, step: &Step, delivery_tag: u64) -> Result<()> {
        match &step.operation {
            Operation::LogIn(login) => {
                self.aside = log_in(self.address, login, &mut self.names)?;
                return Ok(());
            }
            Operation::Vanish => {
                self.clients[step.connection] = None;
                return Ok(());
            }
            _ => {}
        }
        let Some(client) = &mut self.clients[step.connection] else { return Ok(()) };
        let place =
            Place { channel: step.channel, frame_max: client.frame_max, delivery_tag, names: &self.names };
        let mut octets = Vec::new();
        encode(&step.operation, &place, &mut octets);
        client.send(&octets);
        let channel = if client.channels.contains(&step.channel) { step.channel } else { 1 };
        match &step.operation {
            Operation::CloseConnection => client.await_answer(0),
            Operation::OpenChannel => client.await_answer(step.channel),
            // While RabbitMQ commits, it takes no other method on that channel.
            Operation::TxCommit if client.channels.contains(&step.channel) => {
                client.await_answer(step.channel);
            }
            Operation::CloseChannel if client.channels.contains(&step.channel) => {
                client.await_answer(step.channel);
            }
            Operation::Flow { .. } => {
                client.await_flow(step.channel);
                client.ask_quiet(channel);
            }
            _ => client.ask_quiet(channel),
        }
        Ok(())
    }

    fn ask_all_quiet(&mut self) {
        self.clients.iter_mut().flatten().for_each(Client::ask_all_quiet);
    }

    fn settle(&mut self) {
        for client in self.clients.iter_mut().flatten() {
            client.settle(&mut self.names);
        }
    }

    fn heard(&self) -> Heard {
        let aside = self.aside.iter().map(|(channel, event)| ((usize::MAX, *channel), event.clone()));
        let each = self.clients.iter().enumerate();
        let clients = each.filter_map(|(number, client)| Some((number, client.as_ref()?)));
        let heard = clients.flat_map(|(number, client)| {
            client.heard.iter().map(move |(channel, event)| ((number, *channel), event.clone()))
        });
        aside.chain(heard).collect()
    }

    fn forget(&mut self) {
        self.aside.clear();
        self.clients.iter_mut().flatten().for_each(|client| client.heard.clear());
    }

    fn finish(mut self, script: &Script) -> Result<()> {
        for client in self.clients.drain(..).flatten() {
            client.close(&mut self.names);
        }
        janitor::clean(self.address, script, &mut self.names)
    }
}

struct Duel<'a> {
    script: &'a Script,
    patience: Duration,
    ours: Side<'a>,
    theirs: Side<'a>,
    /// Tags, as the reference counts them, that a channel holds unacknowledged.
    unacked: BTreeMap<Channel, BTreeSet<u64>>,
    /// Consumers that need not acknowledge.
    no_ack: BTreeSet<(Channel, String)>,
    /// Where our tag is another than the reference's.
    tags: BTreeMap<(Channel, u64), u64>,
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
        self.compare(self.script.steps.len());
        Ok(())
    }

    /// Takes a step; whether the brokers still agree.
    fn step(&mut self, number: usize, step: &Step) -> Result<bool> {
        let Some(step) = self.placed(step) else {
            self.outcome.trace.push(None);
            return Ok(true);
        };
        let step = &step;
        self.ours.prepare(step)?;
        self.theirs.prepare(step)?;
        let at = (step.connection, step.channel);
        let tag = self.tag(at, &step.operation);
        if self.is_open_order(at, &step.operation, tag) {
            self.outcome.left_out += 1;
            self.outcome.trace.push(None);
            return Ok(true);
        }
        let our_tag = self.tags.get(&(at, tag)).copied().unwrap_or(tag);
        self.ours.take(step, our_tag)?;
        self.theirs.take(step, tag)?;
        match &step.operation {
            Operation::Wait { milliseconds } => thread::sleep(Duration::from_millis(*milliseconds)),
            Operation::Vanish => thread::sleep(VANISH_TIME),
            _ => {}
        }
        self.ours.settle();
        self.theirs.settle();
        let Some(heard) = self.compare(number) else { return Ok(false) };
        self.follow(at, &step.operation, tag, &heard);
        self.outcome.trace.push(Some((step.clone(), heard)));
        Ok(true)
    }

    /// What both said once they agree; nothing if they do not come to agree.
    fn compare(&mut self, number: usize) -> Option<Heard> {
        let begun = Instant::now();
        let mut rest = Duration::from_millis(1);
        loop {
            self.ours.ask_all_quiet();
            self.theirs.ask_all_quiet();
            self.ours.settle();
            self.theirs.settle();
            let (ours, theirs) = (self.ours.heard(), self.theirs.heard());
            match comparison::compare(&ours, &theirs) {
                Ok(agreement) => {
                    self.agree(agreement);
                    return Some(theirs);
                }
                Err(_) if begun.elapsed() >= self.patience && self.is_open_requeue(&ours, &theirs) => {
                    self.outcome.is_open_end = true;
                    return None;
                }
                Err(difference) if begun.elapsed() >= self.patience => {
                    self.outcome.difference = Some(Found { step: number, difference, ours, theirs });
                    return None;
                }
                Err(_) => {}
            }
            thread::sleep(rest);
            rest = REST_TIME_MAX.min(rest * 2);
        }
    }

    fn agree(&mut self, agreement: Agreement) {
        self.outcome.allowed.extend(agreement.allowed);
        for (channel, theirs, ours) in agreement.tags {
            self.tags.insert((channel, theirs), ours);
        }
        self.ours.forget();
        self.theirs.forget();
    }

    /// The step where it has something to settle, if it is to settle what is unacknowledged.
    fn placed(&self, step: &Step) -> Option<Step> {
        let (Operation::Ack { tag: Tag::Unacked(_), .. }
        | Operation::Nack { tag: Tag::Unacked(_), .. }
        | Operation::Reject { tag: Tag::Unacked(_), .. }) = step.operation
        else {
            return Some(step.clone());
        };
        let at = (step.connection, step.channel);
        let holds = |channel: &Channel| self.unacked.get(channel).is_some_and(|tags| !tags.is_empty());
        let (connection, channel) =
            if holds(&at) { at } else { *self.unacked.keys().find(|channel| holds(channel))? };
        Some(Step { connection, channel, ..step.clone() })
    }

    /// Whether the brokers differ only in the order in which they gave out again what several
    /// channels of an ended connection held: these end at the same time, and each by itself.
    fn is_open_requeue(&self, ours: &Heard, theirs: &Heard) -> bool {
        let ended = |(connection, channel): &Channel| {
            self.unacked.get(&(*connection, *channel)).is_some_and(|tags| !tags.is_empty())
                && theirs.iter().any(|((of, _), event)| of == connection && comparison::is_end(event))
        };
        let unordered = |heard: &Heard| {
            let line =
                |(channel, event): &(Channel, Event)| format!("{channel:?} {}", event.clone().without("tag"));
            let mut lines: Vec<String> = heard.iter().map(line).collect();
            lines.sort_unstable();
            lines
        };
        self.unacked.keys().filter(|channel| ended(channel)).count() > 1
            && unordered(ours) == unordered(theirs)
    }

    /// The delivery tag that an operation means, as the reference counts.
    fn tag(&self, at: Channel, operation: &Operation) -> u64 {
        match operation {
            Operation::Ack { tag, .. } | Operation::Nack { tag, .. } | Operation::Reject { tag, .. } => {
                match tag {
                    Tag::Number(number) => *number,
                    Tag::Unacked(number) => self.nth_unacked(at, *number),
                }
            }
            _ => 0,
        }
    }

    /// One of the unacknowledged deliveries; an unknown one if there are none.
    fn nth_unacked(&self, at: Channel, number: usize) -> u64 {
        let Some(unacked) = self.unacked.get(&at).filter(|unacked| !unacked.is_empty()) else { return 99 };
        unacked.iter().nth(number % unacked.len()).copied().unwrap_or(99)
    }

    /// Whether the operation would settle other deliveries on one broker than on the other.
    fn is_open_order(&self, at: Channel, operation: &Operation, tag: u64) -> bool {
        let (Operation::Ack { multiple: true, .. } | Operation::Nack { multiple: true, .. }) = operation
        else {
            return false;
        };
        let Some(unacked) = self.unacked.get(&at).filter(|_| tag > 0) else { return false };
        let ours = |theirs: u64| self.tags.get(&(at, theirs)).copied().unwrap_or(theirs);
        unacked.iter().any(|other| (*other <= tag) != (ours(*other) <= ours(tag)))
    }

    /// Keeps account of what is unacknowledged.
    fn follow(&mut self, at: Channel, operation: &Operation, tag: u64, heard: &Heard) {
        for (channel, event) in heard {
            self.follow_event(*channel, operation, event);
        }
        match operation {
            Operation::Ack { multiple, .. } | Operation::Nack { multiple, .. } => {
                self.settled(at, tag, *multiple);
            }
            Operation::Reject { .. } => self.settled(at, tag, false),
            Operation::Recover { .. } | Operation::RecoverAsync { .. } => {
                // What was given out again is unacknowledged under new tags.
                let again: BTreeSet<u64> = heard
                    .iter()
                    .filter_map(|(channel, event)| {
                        (*channel == at && event.name == "BasicDeliver")
                            .then(|| event.field("tag").parse().ok())?
                    })
                    .collect();
                self.unacked.entry(at).or_default().retain(|tag| again.contains(tag));
            }
            Operation::Vanish => self.forget_connection(at.0),
            Operation::Consume { consumer_tag, no_ack, nowait: true, .. } => {
                self.consumes(at, consumer_tag, *no_ack);
            }
            _ => {}
        }
    }

    fn consumes(&mut self, channel: Channel, consumer_tag: &str, no_ack: bool) {
        let consumer = (channel, consumer_tag.to_owned());
        if no_ack {
            self.no_ack.insert(consumer)
        } else {
            self.no_ack.remove(&consumer)
        };
    }

    fn settled(&mut self, at: Channel, tag: u64, multiple: bool) {
        let unacked = self.unacked.entry(at).or_default();
        unacked.retain(|other| if multiple { tag != 0 && *other > tag } else { *other != tag });
    }

    fn follow_event(&mut self, channel: Channel, operation: &Operation, event: &Event) {
        match event.name {
            "ChannelClose" | "ChannelCloseOk" => self.forget_channel(channel),
            "EndOfStream" | "ConnectionCloseOk" => self.forget_connection(channel.0),
            "BasicConsumeOk" => {
                let no_ack = matches!(operation, Operation::Consume { no_ack: true, .. });
                self.consumes(channel, event.field("consumer"), no_ack);
            }
            "BasicDeliver" if !self.no_ack.contains(&(channel, event.field("consumer").to_owned())) => {
                self.delivered(channel, event);
            }
            "BasicGetOk" if matches!(operation, Operation::Get { no_ack: false, .. }) => {
                self.delivered(channel, event);
            }
            _ => {}
        }
    }

    fn delivered(&mut self, channel: Channel, event: &Event) {
        if let Ok(tag) = event.field("tag").parse() {
            self.unacked.entry(channel).or_default().insert(tag);
        }
    }

    fn forget_channel(&mut self, channel: Channel) {
        self.unacked.remove(&channel);
        self.no_ack.retain(|(of, _)| *of != channel);
        self.tags.retain(|(of, _), _| *of != channel);
    }

    fn forget_connection(&mut self, connection: usize) {
        for channel in 0..=CHANNEL_OPENED_MAX {
            self.forget_channel((connection, channel));
        }
    }
}
