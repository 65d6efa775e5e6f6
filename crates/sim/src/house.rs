//! The driver's side of the housekeeper: it goes on when it was woken or its deadline came.
//!
//! The deadline is the one that stood when it last had a turn, as in a driver that sleeps until
//! then. What the engine would forget to ask for, nobody does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use leveret_broker::{
    Now,
    engine::{Engine, House},
};

use crate::line::Bell;

pub(crate) struct Housekeeper {
    house: House,
    bell: Arc<AtomicBool>,
    more: bool,
    deadline_millis: Option<u64>,
    /// Since when it waits for its turn.
    due_since_millis: Option<u64>,
}

impl Housekeeper {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        let bell = Arc::new(AtomicBool::new(false));
        let house = House::new(engine, Box::new(Bell(Arc::clone(&bell))));
        Self { house, bell, more: true, deadline_millis: None, due_since_millis: None }
    }

    pub(crate) fn is_due(&self, now_millis: u64) -> bool {
        let deadline_came = self.deadline_millis.is_some_and(|at| at <= now_millis);
        self.more || deadline_came || self.bell.load(Ordering::Relaxed)
    }

    /// Time passes: what is due by then waits from then on.
    pub(crate) fn look_at_clock(&mut self, now_millis: u64) {
        if self.is_due(now_millis) {
            self.due_since_millis.get_or_insert(now_millis);
        }
    }

    /// Whether time passed since it asked for its turn.
    pub(crate) fn is_late(&self, now_millis: u64) -> bool {
        self.due_since_millis.is_some_and(|since| since < now_millis)
    }

    /// True when there is more to do at once.
    pub(crate) fn advance(&mut self, now: Now) -> bool {
        self.bell.store(false, Ordering::Relaxed);
        self.due_since_millis = None;
        self.more = self.house.advance(now);
        self.deadline_millis = self.house.next_deadline_millis();
        self.more
    }
}
