//! A small laboratory: an engine with its housekeeper and connections, and plain clients at their other
//! ends, for runs about one feature that bring a model of their own.
//!
//! The discipline is that of the large runs: a connection or the housekeeper goes on only when the
//! engine asked for it, octets are cut anywhere, and all of it follows from one seed. Knows octets and
//! turns; what they mean is for the `Witness`. Invariant: nothing is done here that a driver would
//! not do without being told.

mod client;
mod outcome;
mod tally;

use std::sync::Arc;

use leveret_broker::{
    Now,
    engine::{Config, Engine},
};

use crate::{
    Checked, ensure,
    house::Housekeeper,
    line::{Line, Step},
    random::{Random, SeededEntropy},
    trace::Trace,
};

pub(crate) use self::{client::Client, outcome::watch, tally::events};
pub use self::{
    outcome::{LabFailure, LabReport, LabSettings},
    tally::{Event, Tally},
};

/// Rounds in which everything has to come to rest.
const ROUNDS_MAX: usize = 200_000;
/// So many turns at one time leave more to do only if there is no end to it.
const UNFINISHED_TURNS_MAX: u32 = 500;
/// How long the last connection may take to end when the broker stops.
const END_SECONDS_MAX: usize = 4;

/// Who is told of all that happens, in order.
pub(crate) trait Witness {
    /// The engine took that from the client: whole frames, not always whole contents.
    fn took(&mut self, client: u32, octets: &[u8], now: Now) -> Checked;
    /// The engine said that to the client: whole methods with their contents.
    fn said(&mut self, client: u32, octets: &[u8], now: Now) -> Checked;
    /// The client read that: whole methods with their contents. It may answer.
    fn read(&mut self, client: &mut Client, octets: &[u8]) -> Checked;
    /// The client's connection is no more: its socket was cut, or it ended in order.
    fn left(&mut self, client: u32) -> Checked;
    /// The housekeeper had a turn.
    fn kept_house(&mut self, _now: Now) -> Checked {
        Ok(())
    }
}

/// A client with its connection.
pub(crate) struct Seat {
    pub(crate) client: Client,
    pub(crate) line: Line,
    /// Whether it stopped reading for a while.
    pub(crate) is_deaf: bool,
    /// Whether its socket was cut, or is closed for good.
    is_gone: bool,
}

pub(crate) struct Lab {
    pub(crate) engine: Arc<Engine>,
    pub(crate) random: Random,
    pub(crate) now: Now,
    pub(crate) trace: Trace,
    pub(crate) seats: Vec<Seat>,
    house: Housekeeper,
    last_number: u32,
    window_octets: usize,
    piece_octets_max: usize,
    /// Turns since time last passed that left more to do.
    unfinished_turns: u32,
}

impl Lab {
    pub(crate) fn new(config: Config, mut random: Random, trace: Trace) -> Self {
        let engine = Engine::new(config, Box::new(SeededEntropy(random.fork())));
        let window_octets = *random.pick(&[600, 5_000, 100_000]);
        let piece_octets_max = *random.pick(&[40, 1_000, 30_000, 200_000]);
        Self {
            house: Housekeeper::new(&engine),
            engine,
            random,
            now: Now { monotonic_millis: 1, wall_millis: 1_700_000_000_000 },
            trace,
            seats: Vec::new(),
            last_number: 0,
            window_octets,
            piece_octets_max,
            unfinished_turns: 0,
        }
    }

    /// A client connects; the number is its name, and given once.
    pub(crate) fn connect(&mut self) -> u32 {
        self.last_number += 1;
        let number = self.last_number;
        let client = Client::new(number, *self.random.pick(&[4096, 8192, 131_072, 131_072]));
        let line = Line::new(&self.engine, format!("client {number}"), self.window_octets, self.now);
        self.trace.step(format_args!("client {number} connects"));
        self.seats.push(Seat { client, line, is_deaf: false, is_gone: false });
        number
    }

    /// The client, if its connection is there.
    pub(crate) fn client(&mut self, number: u32) -> Option<&mut Client> {
        let seats = self.seats.iter_mut();
        seats.map(|seat| &mut seat.client).find(|client| client.number == number)
    }

    /// One thing happens somewhere, if there is anything to happen at the place chosen.
    pub(crate) fn step(&mut self, witness: &mut impl Witness) -> Checked {
        let at = self.random.below(self.seats.len() + 1);
        if at == self.seats.len() {
            return self.keep_house(witness);
        }
        let steps = self.steps(at);
        match self.random.pick_from(steps) {
            Some(step) => {
                let octets = 1 + self.random.size(self.piece_octets_max);
                self.take(at, step, octets, witness)
            }
            None => Ok(()),
        }
    }

    /// What can happen there; what the client has said goes on its way first.
    fn steps(&mut self, at: usize) -> Vec<Step> {
        let seat = &mut self.seats[at];
        let said = std::mem::take(&mut seat.client.out);
        if seat.is_gone {
            seat.line.steps(false).collect()
        } else {
            seat.line.pipe.send(&said);
            seat.line.is_closed |= seat.client.is_over();
            seat.line.steps(!seat.is_deaf).collect()
        }
    }

    fn keep_house(&mut self, witness: &mut impl Witness) -> Checked {
        if !self.house.is_due(self.now.monotonic_millis) {
            return Ok(());
        }
        self.trace.step(format_args!("the housekeeper's turn"));
        let more = self.house.advance(self.now);
        self.note_unfinished(more)?;
        witness.kept_house(self.now)
    }

    fn note_unfinished(&mut self, more: bool) -> Checked {
        self.unfinished_turns += u32::from(more);
        ensure!(self.unfinished_turns <= UNFINISHED_TURNS_MAX, "there is no end to what it does");
        Ok(())
    }

    fn take(&mut self, at: usize, step: Step, octets: usize, witness: &mut impl Witness) -> Checked {
        let number = self.seats[at].client.number;
        match (step, octets) {
            (Step::Advance, _) => self.trace.step(format_args!("{number:>3} {step:?}")),
            (_, usize::MAX) => self.trace.step(format_args!("{number:>3} {step:?} all")),
            _ => self.trace.step(format_args!("{number:>3} {step:?} {octets}")),
        }
        match step {
            Step::Advance => self.advance(at, witness),
            Step::Receive => self.receive(at, octets, witness),
            Step::Write => {
                self.seats[at].line.write(octets, self.now)?;
                self.bury(at, witness)
            }
            Step::Read => {
                let Seat { client, line, .. } = &mut self.seats[at];
                let whole = client.read(&line.pipe.read(octets))?;
                witness.read(client, &whole)
            }
            Step::Act => unreachable!("a line does nothing of itself"),
        }
    }

    fn receive(&mut self, at: usize, octets: usize, witness: &mut impl Witness) -> Checked {
        let Some(taken) = self.seats[at].line.receive(octets, self.now) else {
            return self.cut_at(at, witness);
        };
        let number = self.seats[at].client.number;
        self.trace.frames(number, "takes", &taken.input);
        witness.took(number, &taken.input, self.now)?;
        self.trace.frames(number, "says", &taken.said);
        witness.said(number, &taken.said, self.now)?;
        if self.seats[at].line.is_closed && taken.is_partial {
            return self.cut_at(at, witness);
        }
        Ok(())
    }

    fn advance(&mut self, at: usize, witness: &mut impl Witness) -> Checked {
        let seat = &mut self.seats[at];
        let number = seat.client.number;
        let (said, more) = seat.line.advance(self.now);
        self.note_unfinished(more)?;
        self.trace.frames(number, "says", &said);
        witness.said(number, &said, self.now)?;
        self.bury(at, witness)
    }

    /// A connection that is finished goes away.
    fn bury(&mut self, at: usize, witness: &mut impl Witness) -> Checked {
        if !self.seats[at].line.is_finished() {
            return Ok(());
        }
        let seat = self.seats.swap_remove(at);
        let number = seat.client.number;
        self.trace.step(format_args!("{number:>3} is over"));
        if seat.is_gone { Ok(()) } else { witness.left(number) }
    }

    /// The client's socket is cut at that moment.
    pub(crate) fn cut(&mut self, number: u32, witness: &mut impl Witness) -> Checked {
        match self.seats.iter().position(|seat| seat.client.number == number) {
            Some(at) => self.cut_at(at, witness),
            None => Ok(()),
        }
    }

    /// The client's socket is cut, and nothing else happens before its connection is over.
    pub(crate) fn cut_off(&mut self, number: u32, witness: &mut impl Witness) -> Checked {
        self.cut(number, witness)?;
        while let Some(at) = self.seats.iter().position(|seat| seat.client.number == number) {
            let goes_on = self.steps(at).contains(&Step::Advance);
            ensure!(goes_on, "connection {number} was cut and does not end");
            self.take(at, Step::Advance, 0, witness)?;
        }
        Ok(())
    }

    fn cut_at(&mut self, at: usize, witness: &mut impl Witness) -> Checked {
        let seat = &mut self.seats[at];
        let number = seat.client.number;
        self.trace.step(format_args!("{number:>3} is cut"));
        seat.line.cut(self.now);
        seat.client.out.clear();
        if std::mem::replace(&mut seat.is_gone, true) { Ok(()) } else { witness.left(number) }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, millis: u64) {
        self.trace.step(format_args!("{millis} ms pass"));
        self.unfinished_turns = 0;
        self.now.monotonic_millis += millis;
        self.now.wall_millis += millis;
        self.house.look_at_clock(self.now.monotonic_millis);
        for seat in &mut self.seats {
            seat.line.look_at_clock(self.now);
        }
    }

    /// Everybody reads, and everything that is under way arrives; publishers that are read later have
    /// their time.
    pub(crate) fn rest(&mut self, witness: &mut impl Witness) -> Checked {
        self.seats.iter_mut().for_each(|seat| seat.is_deaf = false);
        for _ in 0..ROUNDS_MAX {
            if !self.round(witness)? && !self.wait_for_slowed() {
                return Ok(());
            }
        }
        ensure!(false, "it never comes to rest");
        Ok(())
    }

    /// As many steps as there are connections, and whether that was not all that there is to do.
    fn round(&mut self, witness: &mut impl Witness) -> Checked<bool> {
        for _ in 0..=self.seats.len() {
            let at = self.random.below(self.seats.len() + 1);
            if at == self.seats.len() {
                self.keep_house(witness)?;
                continue;
            }
            let steps = self.steps(at);
            if let Some(step) = self.random.pick_from(steps) {
                self.take(at, step, usize::MAX, witness)?;
            }
        }
        let is_due = self.house.is_due(self.now.monotonic_millis);
        Ok(is_due || (0..self.seats.len()).any(|at| !self.steps(at).is_empty()))
    }

    fn wait_for_slowed(&mut self) -> bool {
        let now_millis = self.now.monotonic_millis;
        let next = self.seats.iter().filter_map(|seat| seat.line.is_slowed()).min();
        let Some(next) = next.filter(|next| *next > now_millis) else { return false };
        self.pass(next - now_millis);
        true
    }

    /// The broker stops; nothing may be left in it.
    pub(crate) fn stop(&mut self, witness: &mut impl Witness) -> Checked {
        self.trace.step(format_args!("the broker stops"));
        self.engine.stop();
        for _ in 0..END_SECONDS_MAX {
            self.rest(witness)?;
            self.pass(1_000);
        }
        self.rest(witness)?;
        ensure!(self.seats.is_empty(), "{} connections outlive a stop", self.seats.len());
        let engine = &self.engine;
        let (queues, chunks, octets) = (engine.queue_count(), engine.chunk_count(), engine.memory_octets());
        ensure!(queues == 0, "{queues} queues are left");
        ensure!(chunks == 0, "{chunks} chunks are left");
        ensure!(octets == 0, "{octets} octets of messages are left");
        Ok(())
    }
}
