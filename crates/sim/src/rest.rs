//! Coming to rest: all that is under way arrives, and then the model has to know everything.
//!
//! Time stands still meanwhile, but for publishers that are read later. Invariant: nothing is
//! done here that a driver would not do without being told.

use crate::{Checked, counts::Event, ensure, line::Step, link::Link, model::Facts, world::World};

/// Rounds in which everything has to come to rest.
const ROUNDS_MAX: usize = 200_000;

/// How often everybody acknowledges everything before all is compared.
const CATCH_UP_PERCENT: u64 = 40;

impl World {
    /// Everything that is under way arrives, everybody reads and nobody does anything new.
    pub(crate) fn settle(&mut self) -> Checked {
        for link in &mut self.links {
            link.client.is_deaf = false;
        }
        self.rest()?;
        let catches_up = self.random.percent(CATCH_UP_PERCENT);
        if catches_up {
            self.catch_up()?;
        }
        while self.engine.is_alarmed() && self.relieve()? {
            self.rest()?;
        }
        if catches_up && !self.engine.is_alarmed() {
            self.go_round()?;
        }
        let facts = self.facts();
        self.model.check_quiet(&facts)
    }

    /// All consumers have the credit that they asked for, and get what there is for it.
    fn catch_up(&mut self) -> Checked {
        for link in &mut self.links {
            link.client.catch_up();
            link.post();
        }
        self.rest()
    }

    /// Each consumer of a queue gets a message in turn.
    fn go_round(&mut self) -> Checked {
        let names: Vec<String> = self.model.idle_queue_names().map(str::to_owned).collect();
        let Some(name) = self.random.pick_from(names) else { return Ok(()) };
        let round = self.model.begin_round(&name);
        self.send_messages(&name, round.messages());
        self.rest()?;
        self.model.note(Event::Round);
        self.model.check_round(&round)
    }

    /// Goes on until nothing is left to do but to wait.
    pub(crate) fn rest(&mut self) -> Checked {
        for _ in 0..ROUNDS_MAX {
            if !self.round()? && !self.wait_for_slowed() {
                return Ok(());
            }
        }
        ensure!(false, "it never comes to rest");
        Ok(())
    }

    /// As many steps as there are connections, and whether that was not all that there is to do.
    fn round(&mut self) -> Checked<bool> {
        for _ in 0..=self.links.len() {
            let at = self.random.below(self.links.len() + 1);
            if at == self.links.len() {
                self.keep_house()?;
                continue;
            }
            if let Some(step) = self.random.pick_from(steps_at_rest(&self.links[at])) {
                self.take(at, step, Some(usize::MAX))?;
            }
        }
        for link in self.links.iter_mut().filter(|link| link.client.is_lost) {
            // Nobody will read it, and it would keep the broker from saying all that is due.
            link.line.pipe.read(usize::MAX);
        }
        let house = self.housekeeper.is_due(self.now.monotonic_millis);
        Ok(house || self.links.iter().any(|link| steps_at_rest(link).next().is_some()))
    }

    /// Publishers that are read later have their time.
    fn wait_for_slowed(&mut self) -> bool {
        let now_millis = self.now.monotonic_millis;
        let next = self.links.iter().filter_map(|link| link.line.is_slowed()).min();
        let Some(next) = next.filter(|next| *next > now_millis) else { return false };
        self.pass(next - now_millis);
        true
    }

    fn facts(&self) -> Facts {
        Facts {
            now_millis: self.now.monotonic_millis,
            is_stopping: self.is_stopping,
            is_alarmed: self.engine.is_alarmed(),
            memory_octets: self.engine.memory_octets(),
            chunk_count: self.engine.chunk_count(),
            queue_count: self.engine.queue_count(),
            paused: self.links.iter().filter(|link| link.line.is_paused()).map(|link| link.key).collect(),
            lost: self.links.iter().filter(|link| link.client.is_lost).map(|link| link.key).collect(),
        }
    }
}

fn steps_at_rest(link: &Link) -> impl Iterator<Item = Step> {
    link.steps().filter(|step| *step != Step::Act)
}
