//! The engine with its links, and the model that is told of every turn.

use std::sync::Arc;

use leveret_broker::{Now, engine::Engine};

use crate::{
    Checked,
    client::{Client, Role},
    counts::Event,
    ensure,
    house::Housekeeper,
    line::Step,
    link::Link,
    model::{Circumstances, Model},
    plan::Plan,
    random::Random,
    trace::Trace,
};

pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) now: Now,
    pub(crate) housekeeper: Housekeeper,
    pub(crate) links: Vec<Link>,
    pub(crate) model: Model,
    pub(crate) trace: Trace,
    pub(crate) is_stopping: bool,
    watermark_octets: u64,
    last_number: u32,
    /// Turns since time last passed that left more to do.
    unfinished_turns: u32,
}

/// So many turns at one time leave more to do only if there is no end to it.
const UNFINISHED_TURNS_MAX: u32 = 200;

impl World {
    pub(crate) fn new(engine: Arc<Engine>, plan: Plan, random: Random, model: Model, trace: Trace) -> Self {
        let watermark_octets = plan.memory_watermark_octets;
        let housekeeper = Housekeeper::new(&engine);
        let mut world = Self {
            engine,
            plan,
            random,
            now: Now { monotonic_millis: 1, wall_millis: 1_700_000_000_000 },
            housekeeper,
            links: Vec::new(),
            model,
            trace,
            is_stopping: false,
            watermark_octets,
            last_number: 0,
            unfinished_turns: 0,
        };
        world.tell_time();
        world
    }

    fn next_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// A client connects.
    pub(crate) fn connect(&mut self, role: Role) {
        let (number, random) = (self.next_number(), self.random.fork());
        let client = Client::new(number, role, &self.plan, random);
        self.add(client);
    }

    /// A client connects that is never cut and does nothing on its own account.
    pub(crate) fn connect_steady(&mut self) -> u32 {
        let (number, random) = (self.next_number(), self.random.fork());
        self.add(Client::steady(number, random));
        number
    }

    fn add(&mut self, client: Client) {
        let mut link = Link::new(&self.engine, client, self.plan.window_octets, self.now);
        link.post();
        self.trace.step(format_args!("client {} connects as {:?}", link.key.0, link.client.role));
        self.model.connected(link.key, self.now.monotonic_millis);
        self.links.push(link);
    }

    /// One thing happens somewhere, if there is anything to happen at the place chosen.
    pub(crate) fn step(&mut self, steady: u32) -> Checked {
        let at = self.random.below(self.links.len() + 1);
        if at == self.links.len() {
            return self.keep_house();
        }
        let mut steps: Vec<Step> = self.links[at].steps().collect();
        if self.links[at].client.number == steady {
            steps.retain(|step| *step != Step::Act);
        }
        match self.random.pick_from(steps) {
            Some(step) => self.take(at, step, None),
            None => Ok(()),
        }
    }

    /// The housekeeper has a turn, if it asked for one.
    pub(crate) fn keep_house(&mut self) -> Checked {
        let now_millis = self.now.monotonic_millis;
        if !self.housekeeper.is_due(now_millis) {
            return Ok(());
        }
        self.trace.step(format_args!("the housekeeper's turn"));
        if self.housekeeper.is_late(now_millis) {
            self.model.note(Event::LateHouseTurn);
        }
        let was_alarmed = self.engine.is_alarmed();
        let before = self.engine.queue_count();
        let more = self.housekeeper.advance(self.now);
        let deleted = before - self.engine.queue_count();
        self.note_unfinished(more)?;
        let engine = &self.engine;
        self.model.kept_house(deleted, more, |queue| engine.has_queue("/", queue))?;
        self.check_alarm(was_alarmed)
    }

    fn note_unfinished(&mut self, more: bool) -> Checked {
        self.unfinished_turns += u32::from(more);
        ensure!(self.unfinished_turns <= UNFINISHED_TURNS_MAX, "there is no end to what it does");
        Ok(())
    }

    fn tell_time(&mut self) {
        self.model.look_at_clock(self.now.monotonic_millis, self.now.wall_millis);
    }

    /// Takes a step; where sizes are open they are drawn, unless one is given.
    pub(crate) fn take(&mut self, at: usize, step: Step, octets: Option<usize>) -> Checked {
        let octets = octets.unwrap_or_else(|| 1 + self.random.size(self.plan.piece_octets_max));
        let key = self.links[at].key;
        match step {
            Step::Advance | Step::Act => self.trace.step(format_args!("{:>3} {step:?}", key.0)),
            _ if octets == usize::MAX => self.trace.step(format_args!("{:>3} {step:?} all", key.0)),
            _ => self.trace.step(format_args!("{:>3} {step:?} {octets}", key.0)),
        }
        match step {
            Step::Advance => self.advance(at),
            Step::Receive => self.receive(at, octets),
            Step::Write => self.write(at, octets),
            Step::Read => {
                let link = &mut self.links[at];
                let read = link.line.pipe.read(octets);
                link.client.read(&read);
                link.post();
                Ok(())
            }
            Step::Act => {
                let link = &mut self.links[at];
                link.client.act(&self.plan);
                link.post();
                Ok(())
            }
        }
    }

    fn circumstances(&self, at: usize, was_alarmed: bool) -> Circumstances {
        let link = &self.links[at];
        Circumstances {
            now_millis: self.now.monotonic_millis,
            is_paused: link.line.is_paused(),
            is_full: link.line.output().is_full(),
            is_empty: link.line.output().is_empty(),
            was_alarmed,
            is_alarmed: self.engine.is_alarmed(),
            is_stopping: self.is_stopping,
        }
    }

    fn receive(&mut self, at: usize, octets: usize) -> Checked {
        let was_alarmed = self.engine.is_alarmed();
        let link = &mut self.links[at];
        let Some(taken) = link.line.receive(octets, self.now) else { return self.cut(at) };
        let key = link.key;
        if link.line.is_slowed().is_some() {
            self.model.note(Event::PausedRead);
        }
        let circumstances = self.circumstances(at, was_alarmed);
        self.trace.frames(key.0, "takes", &taken.input);
        self.trace.frames(key.0, "says", &taken.said);
        self.model.received(key, &taken.input, &taken.said, circumstances)?;
        if self.links[at].line.is_closed && taken.is_partial {
            return self.cut(at);
        }
        self.check_alarm(was_alarmed)
    }

    fn advance(&mut self, at: usize) -> Checked {
        let now_millis = self.now.monotonic_millis;
        let was_alarmed = self.engine.is_alarmed();
        let key = self.links[at].key;
        let dies = self.model.dies_by_clock(key, now_millis, self.is_stopping);
        if self.is_stopping {
            self.model.stopped(key);
        }
        let line = &mut self.links[at].line;
        let (said, more) = line.advance(self.now);
        if more {
            self.model.note(Event::SlicedTurn);
        }
        if line.output().is_full() {
            self.model.note(Event::FullOutput);
        }
        self.note_unfinished(more)?;
        let circumstances = self.circumstances(at, was_alarmed);
        self.trace.frames(key.0, "says", &said);
        if dies {
            self.check_dead(at)?;
            self.model.died(key);
        } else {
            self.model.advanced(key, &said, more, circumstances)?;
        }
        self.check_alarm(was_alarmed)?;
        self.bury(at)
    }

    fn check_dead(&self, at: usize) -> Checked {
        let link = &self.links[at];
        ensure!(
            link.line.is_paused() && link.line.output().is_empty(),
            "connection {} outlived its time",
            link.key.0
        );
        Ok(())
    }

    fn write(&mut self, at: usize, octets: usize) -> Checked {
        let link = &mut self.links[at];
        link.line.write(octets, self.now)?;
        self.model.wrote(link.key, self.now.monotonic_millis, link.line.is_paused());
        self.bury(at)
    }

    /// A connection that is finished goes away.
    fn bury(&mut self, at: usize) -> Checked {
        if !self.links[at].line.is_finished() {
            return Ok(());
        }
        let link = self.links.swap_remove(at);
        self.trace.step(format_args!("{:>3} is over", link.key.0));
        drop(link.line);
        self.model.finished(link.key)
    }

    /// The socket is cut at that moment.
    pub(crate) fn cut(&mut self, at: usize) -> Checked {
        let link = &mut self.links[at];
        self.trace.step(format_args!("{:>3} is cut", link.key.0));
        self.model.note(Event::Disconnect);
        if link.line.pipe.is_in_mid_frame() {
            self.model.note(Event::DisconnectInMidFrame);
        }
        link.client.die();
        link.line.cut(self.now);
        self.model.disconnected(link.key);
        Ok(())
    }

    fn check_alarm(&mut self, was_alarmed: bool) -> Checked {
        let (octets, alarmed) = (self.engine.memory_octets(), self.engine.is_alarmed());
        if alarmed && !was_alarmed {
            self.model.note(Event::Alarm);
        }
        let (high, low) = (self.watermark_octets, self.watermark_octets / 100 * 95);
        ensure!(octets <= high || alarmed, "{octets} octets and no alarm at {high}");
        ensure!(octets > low || !alarmed, "an alarm at {octets} octets, it clears at {low}");
        Ok(())
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.trace.step(format_args!("{millis} ms pass"));
        self.unfinished_turns = 0;
        self.now.monotonic_millis += millis;
        self.now.wall_millis += millis;
        let now_millis = self.now.monotonic_millis;
        self.tell_time();
        self.housekeeper.look_at_clock(now_millis);
        for link in &mut self.links {
            link.line.look_at_clock(self.now);
            if link.client.beats() {
                link.client.beat();
                link.post();
            }
        }
    }

    /// The broker is told to stop.
    pub(crate) fn stop(&mut self) {
        self.trace.step(format_args!("the broker stops"));
        self.is_stopping = true;
        self.engine.stop();
    }

    pub(crate) fn link_of(&mut self, number: u32) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.key.0 == number)
    }

    pub(crate) fn place_of(&self, number: u32) -> Option<usize> {
        self.links.iter().position(|link| link.key.0 == number)
    }
}
