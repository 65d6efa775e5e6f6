//! A task's turn: it ends when its budget of steps is used, and the task yields.
//!
//! Its length is in processor time, which other processes do not add to. Invariant: a turn stays on one
//! thread, since only its end awaits.

use std::time::Duration;

use tokio::task::yield_now;

use crate::measure::thread_time;

/// The turns of one task, made where the task runs.
pub(super) struct Turn {
    budget: usize,
    left: usize,
    started: Duration,
    pub(super) longest: Duration,
}

impl Turn {
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, left: budget, started: thread_time(), longest: Duration::ZERO }
    }

    /// Pays for steps that were made, and ends the turn if they were its last.
    pub(super) async fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
        if self.left == 0 {
            self.end().await;
        }
    }

    /// Lets other tasks run.
    pub(super) async fn end(&mut self) {
        self.longest = self.longest.max(thread_time() - self.started);
        yield_now().await;
        self.started = thread_time();
        self.left = self.budget;
    }

    /// How many units of so many steps each the turn has left, at least one.
    pub(super) fn units(&self, steps_each: usize) -> usize {
        (self.left / steps_each).max(1)
    }
}
