//! Messages that go one way of several: which way that was is learned when everything is at rest.
//!
//! Invariant: choices and changes of who shares are looked at in the order in which they happened.

use std::collections::{BTreeMap, BTreeSet};

use super::{events::RoutingEvent, exchange::Destination};
use crate::{Checked, Violation, ensure, lab::Tally};

/// Choices from which on the shares are compared.
const COMPARED_MIN: u64 = 60;
/// How many standard deviations a share may be off; it is once in 500 million by chance.
const DEVIATIONS_MAX: f64 = 6.0;
/// Of so many expected there is one at least.
const EXPECTED_SURE: f64 = 30.0;

/// One way of several, with the queues at its end.
pub(super) type Way = (Destination, Vec<String>);

/// A message that goes one way.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) exchange: String,
    pub(super) message: u64,
    /// What was hashed; `None` where chance decides.
    pub(super) hashed: Option<String>,
    /// The ways that it may go.
    pub(super) ways: Vec<Way>,
    /// The queues that it was found in.
    pub(super) found: Vec<String>,
}

/// What a change of bindings lets values do.
#[derive(Debug)]
pub(super) enum Moves {
    /// A value stays, or goes to the one that came.
    To(Destination),
    /// Values of these stay, and others go anywhere.
    AllBut(Vec<Destination>),
    Anywhere,
}

#[derive(Debug)]
pub(super) enum Event {
    Chosen(Choice),
    Changed { exchange: String, moves: Moves, shares: Vec<(Destination, u64)> },
}

/// What is known of an exchange.
#[derive(Debug, Default)]
struct Known {
    /// Where a value may go.
    ways: BTreeMap<String, BTreeSet<Destination>>,
    shares: Vec<(Destination, u64)>,
    /// Values that were counted since the last change.
    counted: BTreeSet<String>,
    drawn: BTreeMap<Destination, u64>,
    is_compared: bool,
}

/// What happened since the last rest, and what was learned before.
#[derive(Debug, Default)]
pub(super) struct Choices {
    events: Vec<Event>,
    known: BTreeMap<String, Known>,
}

impl Choices {
    /// Adds an event; the number is its place until the next rest.
    pub(super) fn add(&mut self, event: Event) -> usize {
        self.events.push(event);
        self.events.len() - 1
    }

    /// The message was found in a queue.
    pub(super) fn found(&mut self, place: usize, queue: &str) {
        if let Event::Chosen(choice) = &mut self.events[place] {
            choice.found.push(queue.to_owned());
        }
    }

    /// Every message is where it went: it went one way, and the one that it had to go.
    pub(super) fn settle(&mut self, counts: &mut Tally<RoutingEvent>) -> Checked {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Chosen(choice) => self.learn(choice, counts)?,
                Event::Changed { exchange, moves, shares } => {
                    let known = self.known.entry(exchange.clone()).or_default();
                    known.compare(&exchange, counts)?;
                    known.change(moves, shares);
                }
            }
        }
        self.known.iter_mut().try_for_each(|(exchange, known)| known.compare(exchange, counts))
    }

    fn learn(&mut self, mut choice: Choice, counts: &mut Tally<RoutingEvent>) -> Checked {
        choice.found.sort();
        let goes = |(_, queues): &&Way| *queues == choice.found;
        let way = choice.ways.iter().find(goes).map(|(way, _)| way.clone());
        let Choice { exchange, message, hashed, found, .. } = choice;
        let way = way.ok_or_else(|| {
            Violation::new(format!("'{exchange}' sent message {message} to {found:?}, which is no one way"))
        })?;
        let known = self.known.entry(exchange.clone()).or_default();
        let Some(value) = hashed else {
            *known.drawn.entry(way).or_default() += 1;
            return Ok(());
        };
        if let Some(ways) = known.ways.get(&value) {
            ensure!(ways.contains(&way), "'{exchange}' sent {value:?} to {way:?}, and before to {ways:?}");
            counts.note(RoutingEvent::SameValue, 1);
        }
        known.ways.insert(value.clone(), BTreeSet::from([way.clone()]));
        if known.counted.insert(value) {
            *known.drawn.entry(way).or_default() += 1;
        }
        Ok(())
    }
}

impl Known {
    fn change(&mut self, moves: Moves, shares: Vec<(Destination, u64)>) {
        match moves {
            Moves::To(new) => {
                for ways in self.ways.values_mut() {
                    ways.insert(new.clone());
                }
            }
            Moves::AllBut(staying) => {
                self.ways.retain(|_, ways| ways.iter().all(|way| staying.contains(way)));
            }
            Moves::Anywhere => self.ways.clear(),
        }
        *self = Self { ways: std::mem::take(&mut self.ways), shares, ..Self::default() };
    }

    /// Everybody has about as much as the weights say.
    #[allow(clippy::cast_precision_loss, reason = "the numbers are small")]
    fn compare(&mut self, exchange: &str, counts: &mut Tally<RoutingEvent>) -> Checked {
        let total: u64 = self.drawn.values().sum();
        let weights: u64 = self.shares.iter().map(|(_, weight)| weight).sum();
        if total < COMPARED_MIN {
            return Ok(());
        }
        for (destination, weight) in &self.shares {
            let drawn = self.drawn.get(destination).copied().unwrap_or(0) as f64;
            let share = *weight as f64 / weights as f64;
            let wanted = total as f64 * share;
            let off_max = DEVIATIONS_MAX * (wanted * (1.0 - share)).sqrt() + 1.0;
            let is_near = (drawn - wanted).abs() <= off_max && (drawn > 0.0 || wanted < EXPECTED_SURE);
            ensure!(is_near, "'{exchange}' sent {destination:?} {drawn} of {total}, for a share of {share}");
        }
        counts.note(RoutingEvent::SharesCompared, u64::from(!self.is_compared));
        self.is_compared = true;
        Ok(())
    }
}
