//! Where every message has to be: exchanges, queues and what waits, by the rules and nothing else.
//!
//! Told of each command when the engine took it, of the housekeeper's turns, and of what clients read.
//! Invariant: what stands in a queue here stands there, in this order; but for messages that go one
//! way of several, which may be missing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use super::{
    choices::{Choice, Choices, Event, Moves, Way},
    events::RoutingEvent as E,
    exchange::{Binding, Copy, Declaration, Destination, Exchange, Kind},
    message::{DELAY_MILLIS_MAX, Message},
};
use crate::{Checked, ensure, lab::Tally};

/// What names of answers begin with.
pub(super) const TOKEN_PREFIX: &str = "amq.rabbitmq.reply-to.";
const DAY_MILLIS: u64 = 86_400_000;

/// A message in a queue.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) copy: Copy,
    /// Where the choice is noted, if it may be in another queue.
    pub(super) choice: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: VecDeque<Entry>,
    /// Nobody reads it any more, but for what is on its way.
    is_over: bool,
}

#[derive(Debug)]
struct Waiting {
    message: Rc<Message>,
    exchange: String,
    /// How often its exchange had been deleted.
    deletions: u64,
}

/// Where a message goes.
#[derive(Debug, Default)]
struct Ways {
    queues: BTreeSet<String>,
    choices: Vec<(String, Vec<Way>)>,
    waits_at: Vec<String>,
    /// Exchanges that it comes to and does not wait at.
    passed: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) exchanges: BTreeMap<String, Exchange>,
    pub(super) queues: BTreeMap<String, Queue>,
    waiting: BTreeMap<(u64, u64), Waiting>,
    held: u64,
    deletions: BTreeMap<String, u64>,
    pub(super) choices: Choices,
    /// Names of answers that somebody read, with whose they are.
    pub(super) tokens: BTreeMap<String, String>,
    pub(super) now_millis: u64,
    pub(super) counts: Tally<E>,
}

impl Model {
    pub(super) fn declare_queue(&mut self, name: &str) {
        self.queues.entry(name.to_owned()).or_default();
    }

    pub(super) fn has_queue(&self, name: &str) -> bool {
        self.queues.contains_key(name)
    }

    pub(super) fn declare_exchange(&mut self, name: &str, declaration: &Declaration) {
        self.exchanges.entry(name.to_owned()).or_insert_with(|| Exchange::new(declaration.clone()));
    }

    pub(super) fn delete_exchange(&mut self, name: &str) {
        self.counts.note(E::ExchangeDeleted, 1);
        let waits = self.waiting.values().any(|waiting| waiting.exchange == name);
        self.counts.note(E::DeletedWithWaiting, u64::from(waits));
        *self.deletions.entry(name.to_owned()).or_default() += 1;
        self.exchanges.remove(name);
        let gone = Destination::Exchange(name.to_owned());
        self.remove_destination(&gone);
        let (exchange, shares) = (name.to_owned(), Vec::new());
        self.choices.add(Event::Changed { exchange, moves: Moves::Anywhere, shares });
    }

    fn deletions(&self, exchange: &str) -> u64 {
        self.deletions.get(exchange).copied().unwrap_or(0)
    }

    /// A queue that is deleted takes its messages and its bindings with it.
    pub(super) fn delete_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.remove_destination(&Destination::Queue(name.to_owned()));
    }

    fn remove_destination(&mut self, gone: &Destination) {
        let leading = self.exchanges.values().flat_map(|exchange| &exchange.bindings);
        let leading: Vec<Binding> = leading.filter(|binding| binding.destination == *gone).cloned().collect();
        leading.iter().for_each(|binding| self.unbind(binding));
    }

    pub(super) fn bind(&mut self, binding: &Binding) {
        let Some(source) = self.exchanges.get_mut(&binding.source) else { return };
        let before = source.shares();
        if !source.bind(binding) {
            return;
        }
        self.counts.note(E::Bound, 1);
        let (after, kind) = (source.shares(), source.declaration.kind);
        let appends = before.iter().all(|(found, _)| *found != binding.destination);
        let moves = match kind {
            Kind::Ring if appends => Moves::To(binding.destination.clone()),
            Kind::Ring => Moves::AllBut(before.into_iter().map(|(destination, _)| destination).collect()),
            _ => Moves::Anywhere,
        };
        self.shares_changed(&binding.source, kind, moves, after);
        self.recall(binding);
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        let Some(source) = self.exchanges.get_mut(&binding.source) else { return };
        let before = source.shares();
        if !source.unbind(binding) {
            return;
        }
        self.counts.note(E::Unbound, 1);
        let (after, kind) = (source.shares(), source.declaration.kind);
        // Who was on the ring before the one that went keeps what it has.
        let before = before.into_iter().map(|(destination, _)| destination);
        let staying = before.take_while(|destination| *destination != binding.destination).collect();
        let moves = if kind == Kind::Ring { Moves::AllBut(staying) } else { Moves::Anywhere };
        self.shares_changed(&binding.source, kind, moves, after);
    }

    fn shares_changed(&mut self, exchange: &str, kind: Kind, moves: Moves, shares: Vec<(Destination, u64)>) {
        if kind.chooses() {
            self.counts.note(E::ShareChanged, 1);
            self.choices.add(Event::Changed { exchange: exchange.to_owned(), moves, shares });
        }
    }

    /// A new binding gets what its source remembers, the oldest first.
    fn recall(&mut self, binding: &Binding) {
        let source = &self.exchanges[&binding.source];
        let remembered: Vec<Copy> = source.remembered.iter().cloned().collect();
        let wanted: Vec<Copy> =
            remembered.iter().filter(|copy| source.wants(binding, &copy.message)).cloned().collect();
        self.counts.note(E::Recalled, wanted.len() as u64);
        self.counts.note(E::NotRecalled, (remembered.len() - wanted.len()) as u64);
        for copy in wanted {
            match &binding.destination {
                Destination::Queue(queue) => self.put(queue, copy, None),
                Destination::Exchange(exchange) => drop(self.route_from(exchange, &copy)),
            }
        }
    }

    fn put(&mut self, queue: &str, copy: Copy, choice: Option<usize>) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.entries.push_back(Entry { copy, choice });
        }
    }

    /// A client's message; whether it comes back.
    pub(super) fn publish(&mut self, message: &Rc<Message>) -> bool {
        self.counts.note(E::Publish, 1);
        let copy = Copy { message: Rc::clone(message), has_waited: false };
        if message.exchange.is_empty() {
            return self.publish_by_name(&copy);
        }
        let has_place = self.route_from(&message.exchange, &copy);
        message.mandatory && !has_place
    }

    /// The default exchange: keys are names of queues, or names of answers.
    fn publish_by_name(&mut self, copy: &Copy) -> bool {
        let message = Rc::clone(&copy.message);
        let queue_of = |key: &&str| self.tokens.get(*key).map_or(*key, |queue| queue).to_owned();
        let named: BTreeSet<String> = message.keys().iter().map(queue_of).collect();
        let is_there = |name: &String| self.queues.get(name).is_some_and(|queue| !queue.is_over);
        let there: Vec<String> = named.iter().filter(|name| is_there(name)).cloned().collect();
        there.iter().for_each(|queue| self.put(queue, copy.clone(), None));
        let is_answer = message.key.starts_with(TOKEN_PREFIX);
        if is_answer {
            let event = match there.len() {
                0 => E::AnswerToNobody,
                1 => E::Answer,
                _ => E::AnswerToSeveral,
            };
            self.counts.note(event, 1);
            self.counts.note(E::AnswerReturned, u64::from(message.mandatory && !there.is_empty()));
        }
        // As RabbitMQ 3.10 has it, an answer comes back though it was taken.
        message.mandatory && (is_answer || there.is_empty())
    }

    /// A message goes on from an exchange that is there; whether it has a place then.
    fn route_from(&mut self, exchange: &str, copy: &Copy) -> bool {
        let ways = self.ways(exchange, copy);
        let has_place = !ways.queues.is_empty() || !ways.choices.is_empty() || !ways.waits_at.is_empty();
        ways.queues.iter().for_each(|queue| self.put(queue, copy.clone(), None));
        for (exchange, ways) in ways.choices {
            self.choose(exchange, ways, copy);
        }
        for exchange in ways.waits_at {
            self.hold(exchange, &copy.message);
        }
        for exchange in ways.passed {
            let exchange = self.exchanges.get_mut(&exchange).expect("it was passed");
            exchange.remember(copy);
            let is_kept_out = exchange.declaration.kind == Kind::Recent && !copy.message.is_remembered();
            self.counts.note(E::NotStored, u64::from(is_kept_out));
        }
        has_place
    }

    fn choose(&mut self, exchange: String, mut ways: Vec<Way>, copy: &Copy) {
        ways.iter_mut().for_each(|(_, queues)| queues.sort());
        let queues: BTreeSet<String> = ways.iter().flat_map(|(_, queues)| queues.clone()).collect();
        let hashed = self.exchanges[&exchange].hashed(&copy.message);
        let (message, found) = (copy.message.id, Vec::new());
        let place = self.choices.add(Event::Chosen(Choice { exchange, message, hashed, ways, found }));
        queues.iter().for_each(|queue| self.put(queue, copy.clone(), Some(place)));
    }

    fn hold(&mut self, exchange: String, message: &Rc<Message>) {
        let millis = message.delay_millis().expect("it has a delay");
        self.counts.note(E::Waits, 1);
        self.counts.note(E::LongDelay, u64::from(millis >= DAY_MILLIS));
        self.counts.note(E::LongestDelay, u64::from(i64::try_from(millis) == Ok(DELAY_MILLIS_MAX)));
        self.counts.note(E::MandatoryWaits, u64::from(message.mandatory));
        self.held += 1;
        let deletions = self.deletions(&exchange);
        let waiting = Waiting { message: Rc::clone(message), exchange, deletions };
        self.waiting.insert((self.now_millis + millis, self.held), waiting);
    }

    /// Follows bindings and alternate exchanges; each exchange is passed once.
    fn ways(&mut self, from: &str, copy: &Copy) -> Ways {
        let (mut ways, mut reached, mut next) = (Ways::default(), vec![from.to_owned()], 0);
        while let Some(name) = reached.get(next).cloned() {
            next += 1;
            let exchange = &self.exchanges[&name];
            if exchange.declaration.delays && !copy.has_waited {
                if copy.message.delay_millis().is_some() {
                    ways.waits_at.push(name);
                    continue;
                }
                self.counts.note(E::NotDelayed, 1);
            }
            let (shares, wanted) = (exchange.shares(), exchange.wanted(&copy.message));
            if shares.is_empty() && wanted.is_empty() {
                let alternate = exchange.declaration.alternate.clone();
                let alternate = alternate.filter(|name| self.exchanges.contains_key(name));
                self.counts.note(E::Alternate, u64::from(alternate.is_some()));
                reached.extend(alternate.filter(|name| !reached.contains(name)));
            } else if !shares.is_empty() {
                let end = |(way, _): (Destination, u64)| (way.clone(), self.ends_of(&way));
                ways.choices.push((name.clone(), shares.into_iter().map(end).collect()));
            }
            for destination in wanted {
                match destination {
                    Destination::Queue(queue) => drop(ways.queues.insert(queue)),
                    Destination::Exchange(exchange) => {
                        self.counts.note(E::Onward, 1);
                        if !reached.contains(&exchange) {
                            reached.push(exchange);
                        }
                    }
                }
            }
            ways.passed.push(name);
        }
        ways
    }

    /// The queues behind one way of several: one, or those of an exchange that sends everything on.
    fn ends_of(&self, way: &Destination) -> Vec<String> {
        match way {
            Destination::Queue(queue) => vec![queue.clone()],
            Destination::Exchange(exchange) => {
                let bindings = &self.exchanges[exchange].bindings;
                let to_queue = |binding: &Binding| match &binding.destination {
                    Destination::Queue(queue) => Some(queue.clone()),
                    Destination::Exchange(_) => None,
                };
                bindings.iter().filter_map(to_queue).collect()
            }
        }
    }

    /// The housekeeper had a turn: what is due by then goes on, by its time and in the order in which it
    /// came, if there is an exchange of that name.
    pub(super) fn kept_house(&mut self) {
        let mut last = None;
        while let Some(first) = self.waiting.first_entry() {
            let (due_millis, _) = *first.key();
            if due_millis > self.now_millis {
                return;
            }
            let Waiting { message, exchange, deletions } = first.remove();
            self.counts.note(E::Due, 1);
            self.counts.note(E::DueTogether, u64::from(last.replace(due_millis) == Some(due_millis)));
            self.counts.note(E::DueLate, u64::from(due_millis < self.now_millis));
            if !self.exchanges.contains_key(&exchange) {
                self.counts.note(E::DueNowhere, 1);
                continue;
            }
            self.counts.note(E::DueElsewhere, u64::from(self.deletions(&exchange) != deletions));
            self.route_from(&exchange, &Copy { message, has_waited: true });
        }
    }

    /// Whether a consumer of answers is there by that name.
    pub(super) fn is_token_alive(&self, token: &str) -> bool {
        let queue = self.tokens.get(token).and_then(|whose| self.queues.get(whose));
        queue.is_some_and(|queue| !queue.is_over)
    }

    /// A consumer of answers was cancelled: what it was sent already may still come.
    pub(super) fn end_replies(&mut self, consumer: &str) {
        if let Some(queue) = self.queues.get_mut(consumer) {
            queue.is_over = true;
        }
    }

    /// Nothing is under way and every queue was emptied: nothing may be missing.
    pub(super) fn check_rest(&mut self) -> Checked {
        self.counts.note(E::Rest, 1);
        let due = self.waiting.keys().find(|(due_millis, _)| *due_millis <= self.now_millis);
        ensure!(due.is_none(), "the housekeeper was not woken for what was due at {due:?}");
        self.queues.retain(|_, queue| !queue.is_over);
        for (name, queue) in &mut self.queues {
            let missing = queue.entries.iter().find(|entry| entry.choice.is_none());
            ensure!(missing.is_none(), "'{name}' did not give {missing:?}");
            queue.entries.clear();
        }
        self.choices.settle(&mut self.counts)
    }

    /// Whether a queue has to give a message.
    pub(super) fn has_message(&self, queue: &str) -> bool {
        let queue = self.queues.get(queue);
        queue.is_some_and(|queue| queue.entries.iter().any(|entry| entry.choice.is_none()))
    }

    /// Whether nothing is to be kept.
    pub(super) fn keeps_nothing(&self) -> bool {
        let remembers = self.exchanges.values().any(|exchange| !exchange.remembered.is_empty());
        let has_entries = self.queues.values().any(|queue| !queue.entries.is_empty());
        self.waiting.is_empty() && !remembers && !has_entries
    }

    /// Exchanges where messages wait, each as often as there are messages.
    pub(super) fn waiting_at(&self) -> impl Iterator<Item = &str> {
        self.waiting.values().map(|waiting| &*waiting.exchange)
    }
}
