//! What clients were told, and what must therefore be there after a power cut.
//!
//! Kept outside the broker and written from the promises alone: what was confirmed stays until it is
//! acknowledged, what was acknowledged for sure does not come again, nothing is made up, what was
//! deleted does not rise. Invariant: a message whose fate is not known for sure may be there or not.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{BINDING, BOUND, COUNTING, LATE};
use crate::{Checked, ensure};

/// A message, by its number among all that were ever published.
pub(super) type MessageId = u64;

/// Numbers of publishers that are no clients.
const OWN_PUBLISHER_MIN: usize = 1000;

/// What is known of a message in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Published, and not confirmed.
    Open,
    /// It is there.
    Kept,
    /// It may have left.
    Leaving,
    /// It has left for sure.
    Gone,
    /// It was not to last.
    Passing,
    /// It came more than once, so that how many of it are left is not known.
    Repeated,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    fate: Fate,
    publisher: usize,
    priority: u8,
    /// Whether it lasts only as long as it waits.
    lasts_waiting: bool,
    /// How often it came back for sure, in the queue that counts that.
    returns_min: u32,
    /// How often at most, as far as clients heard of it.
    returns_max: u32,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Existence {
    #[default]
    No,
    Maybe,
    Yes,
}

#[derive(Debug, Default)]
struct Shelf {
    existence: Existence,
    messages: BTreeMap<MessageId, Entry>,
}

/// A message that was found in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundMessage {
    pub(super) id: MessageId,
    /// How often it came back, if its queue counts that.
    pub(super) returns: Option<u32>,
}

/// The queues and what is in them, as far as clients know.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    queues: BTreeMap<String, Shelf>,
    /// Messages that were refused, and are in their queue or where its dead letters go.
    moving: BTreeSet<MessageId>,
    /// Those that were found in one of the two since the last recovery.
    arrived: BTreeSet<MessageId>,
}

impl Ledger {
    /// Queues that there may be.
    pub(super) fn names(&self) -> Vec<String> {
        self.queues.keys().cloned().collect()
    }

    pub(super) fn existence(&self, queue: &str) -> Existence {
        self.queues.get(queue).map(|shelf| shelf.existence).unwrap_or_default()
    }

    pub(super) fn set_existence(&mut self, queue: &str, existence: Existence) {
        if queue == BOUND && existence == Existence::No {
            self.set_existence(BINDING, Existence::No);
        }
        let shelf = self.queues.entry(queue.to_owned()).or_default();
        shelf.existence = existence;
        if existence == Existence::No {
            shelf.messages.values_mut().for_each(|entry| entry.fate = Fate::Gone);
        }
    }

    /// A message is on its way to the queue.
    pub(super) fn published(
        &mut self,
        queue: &str,
        id: MessageId,
        publisher: usize,
        priority: u8,
        persistent: bool,
    ) {
        let fate = if persistent { Fate::Open } else { Fate::Passing };
        let shelf = self.queues.entry(queue.to_owned()).or_default();
        let entry = Entry { fate, publisher, priority, lasts_waiting: false, returns_min: 0, returns_max: 0 };
        shelf.messages.insert(id, entry);
    }

    /// A message is on its way to the queue, and waits before. While it waits it lasts, persistent or not;
    /// in the queue it may be lost if it is not persistent.
    pub(super) fn delayed(&mut self, queue: &str, id: MessageId, persistent: bool) {
        self.published(queue, id, own_publisher(id), 0, true);
        let entry = self.queues.get_mut(queue).and_then(|shelf| shelf.messages.get_mut(&id));
        if let Some(entry) = entry.filter(|_| !persistent) {
            entry.lasts_waiting = true;
            entry.fate = Fate::Leaving;
        }
    }

    fn change(&mut self, queue: &str, id: MessageId, change: impl FnOnce(Fate) -> Fate) {
        if let Some(entry) = self.queues.get_mut(queue).and_then(|shelf| shelf.messages.get_mut(&id)) {
            entry.fate = change(entry.fate);
        }
    }

    /// The broker said that it has the message.
    pub(super) fn confirmed(&mut self, queue: &str, id: MessageId) {
        self.change(queue, id, |fate| if fate == Fate::Open { Fate::Kept } else { fate });
    }

    /// Somebody was given the message, which came back so often before. Each time may count once more.
    pub(super) fn handed_out(&mut self, queue: &str, id: MessageId, returns: Option<u32>) -> Checked {
        let entry = self.queues.get_mut(queue).and_then(|shelf| shelf.messages.get_mut(&id));
        let (Some(entry), Some(returns)) = (entry, returns) else { return Ok(()) };
        entry.check_returns(id, returns, entry.returns_max)?;
        entry.returns_max = returns + 1;
        Ok(())
    }

    /// A message came back so often for sure.
    pub(super) fn came_back(&mut self, id: MessageId, returns: u32) {
        let entry = self.queues.get_mut(COUNTING).and_then(|shelf| shelf.messages.get_mut(&id));
        if let Some(entry) = entry {
            entry.returns_min = returns.max(entry.returns_min);
        }
    }

    /// Somebody tells the broker to let go of the message.
    pub(super) fn leaving(&mut self, queue: &str, id: MessageId) {
        self.change(queue, id, |fate| match fate {
            Fate::Open | Fate::Kept => Fate::Leaving,
            other => other,
        });
    }

    /// Somebody refuses a message, which goes from one queue to another.
    pub(super) fn refused(&mut self, from: &str, to: &str, id: MessageId) {
        let Some(entry) = self.queues.get_mut(from).and_then(|shelf| shelf.messages.get_mut(&id)) else {
            return;
        };
        if entry.fate == Fate::Kept {
            self.moving.insert(id);
        }
        let (persistent, priority) = (entry.fate != Fate::Passing, entry.priority);
        self.leaving(from, id);
        self.published(to, id, own_publisher(id), priority, persistent);
    }

    /// What was refused is still somewhere.
    pub(super) fn check_moves(&mut self) -> Checked {
        let lost: Vec<_> = self.moving.difference(&self.arrived).collect();
        ensure!(lost.is_empty(), "messages {lost:?} are lost on their way to a dead-letter exchange");
        self.moving.clear();
        self.arrived.clear();
        Ok(())
    }

    /// The broker let go of it for sure.
    pub(super) fn gone(&mut self, queue: &str, id: MessageId) {
        self.change(queue, id, |fate| match fate {
            Fate::Passing | Fate::Repeated => fate,
            _ => Fate::Gone,
        });
    }

    /// All messages that are in the queue, as far as is known, but for those that are `held`.
    pub(super) fn in_queue(&self, queue: &str, held: &[MessageId]) -> Vec<MessageId> {
        let Some(shelf) = self.queues.get(queue) else { return Vec::new() };
        let there = shelf.messages.iter().filter(|(_, entry)| entry.fate == Fate::Kept);
        there.map(|(id, _)| *id).filter(|id| !held.contains(id)).collect()
    }

    /// Looks at all that is in a queue after a recovery, `None` when there is no such queue; from here
    /// on that is what is there.
    pub(super) fn check(&mut self, queue: &str, found: Option<&[FoundMessage]>) -> Checked {
        let shelf = self.queues.entry(queue.to_owned()).or_default();
        let Some(found) = found else {
            ensure!(
                shelf.existence != Existence::Yes,
                "queue {queue} is not there, and its declare was answered"
            );
            shelf.messages.clear();
            self.set_existence(queue, Existence::No);
            return Ok(());
        };
        ensure!(
            shelf.existence != Existence::No,
            "queue {queue} is there again, and its delete was answered"
        );
        shelf.existence = Existence::Yes;
        shelf.check_found(queue, found)?;
        self.arrived.extend(found.iter().map(|message| message.id).filter(|id| self.moving.contains(id)));
        shelf.messages.retain(|id, _| found.iter().any(|message| message.id == *id));
        for entry in shelf.messages.values_mut() {
            entry.fate = if entry.lasts_waiting { Fate::Leaving } else { Fate::Kept };
        }
        for (at, FoundMessage { id, .. }) in found.iter().enumerate() {
            if let Some(entry) = shelf.messages.get_mut(id)
                && found[..at].iter().any(|before| before.id == *id)
            {
                entry.fate = Fate::Repeated;
            }
        }
        for FoundMessage { id, returns } in found {
            if let (Some(entry), Some(returns)) = (shelf.messages.get_mut(id), *returns) {
                // It stands in the snapshot, and who looks puts it back once more.
                (entry.returns_min, entry.returns_max) = (returns, returns + 1);
            }
        }
        Ok(())
    }
}

/// In which order they come is for others to know: each is a publisher of its own.
fn own_publisher(id: MessageId) -> usize {
    usize::try_from(id).unwrap_or_default() + OWN_PUBLISHER_MIN
}

impl Entry {
    fn check_returns(&self, id: MessageId, returns: u32, returns_max: u32) -> Checked {
        let min = self.returns_min;
        ensure!(returns >= min, "message {id} came back {returns} times, and {min} times for sure");
        ensure!(returns <= returns_max, "message {id} came back {returns} times, and at most {returns_max}");
        Ok(())
    }
}

impl Shelf {
    fn check_found(&self, queue: &str, found: &[FoundMessage]) -> Checked {
        let mut last: BTreeMap<(usize, u8), MessageId> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for FoundMessage { id, returns } in found {
            // Where it waited may not be known to be left when it is in the queue.
            ensure!(seen.insert(*id) || queue == LATE, "message {id} is in queue {queue} more than once");
            let Some(entry) = self.messages.get(id) else {
                ensure!(false, "message {id} is in queue {queue}, and nobody sent it there");
                continue;
            };
            ensure!(
                entry.fate != Fate::Gone,
                "message {id} came again in queue {queue}, and it had left for sure"
            );
            ensure!(entry.fate != Fate::Passing, "message {id} in queue {queue} was not to last");
            if let Some(returns) = *returns {
                // Somebody may have been given it last who did not live to hear it.
                entry.check_returns(*id, returns, entry.returns_max + 1)?;
            }
            let before = last.insert((entry.publisher, entry.priority), *id);
            ensure!(
                before.is_none_or(|before| before < *id) || entry.publisher >= OWN_PUBLISHER_MIN,
                "message {id} stands behind {before:?} in queue {queue}, which its publisher sent later"
            );
        }
        for (id, entry) in &self.messages {
            let is_found = found.iter().any(|message| message.id == *id);
            ensure!(
                entry.fate != Fate::Kept || is_found,
                "message {id} is lost from queue {queue}, and it was confirmed"
            );
        }
        Ok(())
    }
}
