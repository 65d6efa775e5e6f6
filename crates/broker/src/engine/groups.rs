//! The publishes of a read batch, grouped by queue.
//!
//! A batch that goes by one route, which is the usual case, keeps one list of messages for all
//! its queues; otherwise each queue has a list of its own, so that their order is kept whatever
//! routes alternate. Where that would take too much, a further group begins.
//! Invariant: stepping the targets in order puts every message into every queue of its route, in
//! the order in which they came.

use std::{ops::Range, sync::Arc};

use indexmap::IndexMap;

use super::{queue_cell::QueueCell, routes::QueueRoute};
use crate::Location;

/// Places in queues' own lists that a group may hold.
const GROUP_PLACES_MAX: usize = 16 * 1024;

/// A queue and the messages of the group that go there.
struct Target {
    queue: Arc<QueueCell>,
    messages: Vec<Location>,
}

enum Group {
    /// All messages go by one route.
    One { route: Arc<QueueRoute>, places: Range<usize> },
    /// Each queue has a list of its own.
    Many { targets: IndexMap<u64, Target>, listed: usize },
}

/// Which target comes next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    group: usize,
    target: usize,
}

/// The groups of a batch. Until [`Groups::place`] its messages are known by their places in the
/// batch, written as numbers of chunk 0.
#[derive(Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    messages: Vec<Location>,
}

impl Groups {
    pub(super) const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.messages.clear();
    }

    /// Adds the next message of the batch, of that many octets, with a life of its own or none.
    pub(super) fn add(&mut self, route: &Arc<QueueRoute>, octets: usize, expires: bool) -> Location {
        let place = self.messages.len();
        let location = Location::new(0, place).of_octets(octets).expiring(expires);
        match self.groups.last_mut() {
            Some(Group::One { route: only, places }) if Arc::ptr_eq(only, route) => places.end += 1,
            Some(group) if group.listed_with(route) <= GROUP_PLACES_MAX => {
                group.split(&self.messages);
                group.list(location, route);
            }
            _ => self.groups.push(Group::One { route: Arc::clone(route), places: place..place + 1 }),
        }
        self.messages.push(location);
        location
    }

    /// The message at place 0 has this location, and the others those behind it.
    pub(super) fn place(&mut self, first: Location) {
        let rebase = |message: &mut Location| *message = message.behind(first);
        self.messages.iter_mut().for_each(rebase);
        for group in &mut self.groups {
            if let Group::Many { targets, .. } = group {
                targets.values_mut().flat_map(|target| &mut target.messages).for_each(rebase);
            }
        }
    }

    /// The target at the cursor, which moves on over groups that have no more.
    pub(super) fn target(&self, cursor: &mut Cursor) -> Option<(&Arc<QueueCell>, &[Location])> {
        while let Some(group) = self.groups.get(cursor.group) {
            let target = match group {
                Group::One { route, places } => {
                    route.queues.get(cursor.target).map(|queue| (queue, &self.messages[places.clone()]))
                }
                Group::Many { targets, .. } => {
                    targets.get_index(cursor.target).map(|(_, target)| (&target.queue, &target.messages[..]))
                }
            };
            if target.is_some() {
                return target;
            }
            *cursor = Cursor { group: cursor.group + 1, target: 0 };
        }
        None
    }
}

impl Cursor {
    pub(super) const fn advance(&mut self) {
        self.target += 1;
    }
}

impl Group {
    /// Places that its lists would hold with one more message, by that route.
    fn listed_with(&self, route: &QueueRoute) -> usize {
        let listed = match self {
            Self::One { route, places } => route.queues.len() * places.len(),
            Self::Many { listed, .. } => *listed,
        };
        listed + route.queues.len()
    }

    /// Adds a message to the lists of its queues.
    fn list(&mut self, location: Location, route: &QueueRoute) {
        let Self::Many { targets, listed } = self else { return };
        *listed += route.queues.len();
        for queue in &route.queues {
            targets.entry(queue.serial).or_insert_with(|| Target::new(queue)).messages.push(location);
        }
    }

    /// From now on each queue has its own list, with what it has of the batch's messages.
    fn split(&mut self, batch: &[Location]) {
        let Self::One { route, places } = self else { return };
        let listed = route.queues.len() * places.len();
        let messages = &batch[places.clone()];
        let with_messages = |queue| Target { messages: messages.to_vec(), ..Target::new(queue) };
        let targets = route.queues.iter().map(|queue| (queue.serial, with_messages(queue))).collect();
        *self = Self::Many { targets, listed };
    }
}

impl Target {
    fn new(queue: &Arc<QueueCell>) -> Self {
        Self { queue: Arc::clone(queue), messages: Vec::new() }
    }
}
