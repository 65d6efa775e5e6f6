//! A data folder from the outside: brought into order for an engine, looked over, or copied.
//!
//! Knows which definitions there are; what they come to is for `revival`. Invariant: looking over and
//! copying change nothing in the folder, so that they may be tried on whatever is left of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::definition_entry::{DefinitionEntry, DelaysEntry};
use crate::{
    definitions::{Definitions, VhostDefinition},
    store::{
        Disk,
        journal::QueueNumber,
        recovery::{
            self, Damage, Recovered,
            check::{self, Check, Messages},
        },
    },
};

/// A data folder that was brought into order, for an engine to go on with.
#[derive(Debug)]
pub struct Store {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) recovered: Recovered,
}

impl Store {
    /// Recovers what is in the folder.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] for files of a newer version.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let recovered = recovery::recover(&*disk, &known_queues)?;
        Ok(Self { disk, recovered })
    }

    /// Reads all that is in a folder and says what it is.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn check(disk: &dyn Disk) -> io::Result<StoreReport> {
        check::check(disk, known_queues).map(StoreReport::new)
    }

    /// Writes what is whole in a folder to another one, which is empty, and says what was wrong.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn copy(from: &dyn Disk, into: &dyn Disk) -> io::Result<Damage> {
        recovery::copy(from, into, &known_queues)
    }

    /// What was wrong with it.
    #[must_use]
    pub const fn damage(&self) -> &Damage {
        &self.recovered.damage
    }

    /// What a driver had kept by [`Engine::keep_access`](super::Engine::keep_access).
    #[must_use]
    pub fn access(&self) -> Option<&[u8]> {
        self.entries().find_map(|entry| match entry {
            DefinitionEntry::Access(text) => Some(text),
            _ => None,
        })
    }

    /// A name for people of the queue of that number, as far as it is known.
    #[must_use]
    pub fn queue_name(&self, number: QueueNumber) -> Option<(String, String)> {
        self.entries().find_map(|entry| match entry {
            DefinitionEntry::Queue(queue) if queue.number == number.0 => {
                Some((queue.name.to_owned(), queue.vhost.to_owned()))
            }
            DefinitionEntry::Delays(delays) if delays.number == number.0 => {
                Some((line_name(&delays), delays.vhost.to_owned()))
            }
            _ => None,
        })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = DefinitionEntry<'_>> {
        entries(&self.recovered.snapshot.definitions)
    }

    /// Virtual hosts that something is in are there, whatever else is defined.
    pub(super) fn add_vhosts(&self, definitions: &mut Definitions) {
        for vhost in self.entries().filter_map(|entry| vhost_of(&entry)) {
            if !definitions.vhosts.iter().any(|known| *known.name == *vhost) {
                tracing::warn!(
                    vhost,
                    "a virtual host is not defined any more and has something in it; it stays"
                );
                definitions.vhosts.push(VhostDefinition::new(vhost));
            }
        }
    }

    /// The highest number that something was given.
    pub(super) fn last_number(&self) -> u64 {
        let numbers = self.entries().filter_map(|entry| match entry {
            DefinitionEntry::Exchange(exchange) => Some(exchange.number),
            DefinitionEntry::Queue(queue) => Some(queue.number),
            DefinitionEntry::Delays(delays) => Some(delays.number),
            DefinitionEntry::Binding(_) | DefinitionEntry::Access(_) => None,
        });
        numbers.max().unwrap_or(0).max(self.recovered.snapshot.last_number)
    }
}

/// A queue that a folder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReport {
    /// Its virtual host; empty if its definition is not there.
    pub vhost: String,
    /// Its name, or its number if its definition is not there.
    pub name: String,
    /// Messages that are there.
    pub messages: Messages,
    /// Messages that were there and are damaged.
    pub lost: u64,
}

/// What is in a folder.
#[derive(Debug)]
pub struct StoreReport {
    /// Queues, in the order of their virtual hosts and names.
    pub queues: Vec<QueueReport>,
    /// Exchanges but for the predeclared ones.
    pub exchanges: usize,
    /// Bindings but for those of the default exchange.
    pub bindings: usize,
    /// The highest number of a snapshot; 0 where there is none.
    pub snapshot_number: u64,
    /// Segments of the journal that the snapshot does not have in it.
    pub segments: usize,
    /// What is wrong.
    pub damage: Damage,
}

impl StoreReport {
    fn new(check: Check) -> Self {
        let (mut exchanges, mut bindings) = (0, 0);
        let mut queues = BTreeMap::new();
        let (found, damage) = (&check.queues, &check.damage);
        let report = |number: QueueNumber, vhost: &str, name: String| QueueReport {
            vhost: vhost.to_owned(),
            name,
            messages: found.get(&number).copied().unwrap_or_default(),
            lost: damage.lost.get(&number).copied().unwrap_or_default(),
        };
        for entry in entries(&check.definitions) {
            match entry {
                DefinitionEntry::Exchange(_) => exchanges += 1,
                DefinitionEntry::Binding(_) => bindings += 1,
                DefinitionEntry::Queue(queue) => {
                    let number = QueueNumber(queue.number);
                    queues.insert(number, report(number, queue.vhost, queue.name.to_owned()));
                }
                DefinitionEntry::Delays(delays) => {
                    let number = QueueNumber(delays.number);
                    queues.insert(number, report(number, delays.vhost, line_name(&delays)));
                }
                DefinitionEntry::Access(_) => {}
            }
        }
        for &number in damage.lost.keys() {
            queues.entry(number).or_insert_with(|| report(number, "", format!("number {}", number.0)));
        }
        let mut queues: Vec<_> = queues.into_values().collect();
        queues.sort_by(|one, other| (&one.vhost, &one.name).cmp(&(&other.vhost, &other.name)));
        let (snapshot_number, segments) = (check.snapshot_number, check.segments);
        Self { queues, exchanges, bindings, snapshot_number, segments, damage: check.damage }
    }
}

fn entries(definitions: &BTreeMap<Vec<u8>, Vec<u8>>) -> impl Iterator<Item = DefinitionEntry<'_>> {
    definitions.iter().filter_map(|(key, value)| DefinitionEntry::read(key, value))
}

fn known_queues(definitions: &BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeSet<QueueNumber> {
    let queues = entries(definitions).filter_map(|entry| match entry {
        DefinitionEntry::Queue(queue) => Some(QueueNumber(queue.number)),
        DefinitionEntry::Delays(delays) => Some(QueueNumber(delays.number)),
        _ => None,
    });
    queues.collect()
}

/// What people are told of messages that wait at an exchange.
fn line_name(delays: &DelaysEntry<'_>) -> String {
    format!("delayed at exchange {}", delays.exchange)
}

fn vhost_of<'a>(entry: &DefinitionEntry<'a>) -> Option<&'a str> {
    match entry {
        DefinitionEntry::Exchange(exchange) => Some(exchange.vhost),
        DefinitionEntry::Queue(queue) => Some(queue.vhost),
        DefinitionEntry::Delays(delays) => Some(delays.vhost),
        DefinitionEntry::Binding(_) | DefinitionEntry::Access(_) => None,
    }
}
