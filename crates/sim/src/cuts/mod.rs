//! Power cuts: lives of a broker on one simulated disk, each ended by a cut, a kill or a stop, and after
//! each a look at whether all that was promised is there.
//!
//! One seed decides everything. Invariant: a run ends with a violation or with a ledger that every
//! recovery agreed with.

mod client;
mod lab;
mod ledger;

use std::fmt;

use leveret_broker::{Now, engine::OpenError};

use self::{
    client::{BINDING, Client, LATE, LATE_BINDING, QUEUES},
    lab::{Lab, Power},
    ledger::{Existence, Ledger},
};
use crate::{
    Checked, Violation,
    disk::{DiskCounts, Operation, SimDisk},
    random::Random,
};

/// Lives of a broker in one run.
const LIVES: u64 = 6;
/// Steps after which somebody who waits for something has waited too long.
const STEPS_MAX: usize = 200_000;
/// Octets that fit onto the disk.
const DISK_OCTETS: u64 = 64 * 1024 * 1024;
const CLIENTS: usize = 3;
/// In which all comes that waits, in milliseconds; clocks of two lives may differ by half of it.
const ALL_IS_DUE_MILLIS: u64 = 60_000;

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The power goes in the middle of an operation of the disk.
    Cut,
    /// The process goes; the disk has all that it was told.
    Kill,
    /// As `serve` ends.
    Stop,
}

/// What a run comes to.
#[derive(Debug, Default)]
pub struct CutReport {
    /// What the disk was asked for and what became of it.
    pub disk: DiskCounts,
    /// Lives that ended by a cut, by a kill, and well.
    pub ends: [u64; 3],
    /// Messages that were published, and those that were found after a recovery.
    pub published: u64,
    /// See above.
    pub found: u64,
    /// Starts in which the power went.
    pub refused_starts: u64,
}

impl CutReport {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.disk.add(&other.disk);
        self.ends.iter_mut().zip(other.ends).for_each(|(all, some)| *all += some);
        self.published += other.published;
        self.found += other.found;
        self.refused_starts += other.refused_starts;
    }
}

impl fmt::Display for CutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ends: [cuts, kills, stops], published, found, refused_starts, disk } = self;
        writeln!(f, "{cuts} cuts ({refused_starts} of them in a start), {kills} kills, {stops} stops")?;
        writeln!(f, "{published} messages published, {found} found after recoveries")?;
        write!(f, "{disk}")
    }
}

struct Course {
    random: Random,
    disk: SimDisk,
    ledger: Ledger,
    next_id: u64,
    now_millis: u64,
    report: CutReport,
}

/// Runs a seed.
///
/// # Errors
/// A [`Violation`] of what was promised.
pub fn run_cuts(seed: u64) -> Checked<CutReport> {
    let mut random = Random::new(seed);
    let disk = SimDisk::new(random.fork(), DISK_OCTETS);
    let mut course = Course {
        random,
        disk,
        ledger: Ledger::default(),
        next_id: 0,
        now_millis: 1_700_000_000_000,
        report: CutReport::default(),
    };
    for life in 0..LIVES {
        course
            .live(life)
            .map_err(|violation| Violation::new(format!("seed {seed}, life {life}: {violation}")))?;
    }
    course.report.disk = course.disk.counts();
    course.report.published = course.next_id;
    Ok(course.report)
}

impl Course {
    fn live(&mut self, life: u64) -> Checked {
        let end = self.random.weighted(&[(6, End::Cut), (2, End::Kill), (2, End::Stop)]);
        if end == End::Cut {
            let within = self.random.between(0, 600);
            self.disk.power_off_at(self.disk.operations() + 1 + within);
        }
        // A disk that fails now and then: what cannot be written is written again elsewhere.
        let permille = if self.random.percent(30) { self.random.between(1, 60) } else { 0 };
        match self.start()? {
            Some(lab) => {
                for operation in [Operation::Write, Operation::Sync, Operation::SyncNames, Operation::Create]
                {
                    self.disk.set_faults(operation, permille);
                }
                self.live_in(lab, life, end)?;
                Operation::ALL.iter().for_each(|operation| self.disk.set_faults(*operation, 0));
            }
            None => self.report.refused_starts += 1,
        }
        if end == End::Cut {
            self.disk.power_cut();
        }
        self.report.ends[end as usize] += 1;
        Ok(())
    }

    /// `None` when the power went while it started.
    fn start(&mut self) -> Checked<Option<Lab>> {
        let now = Now { monotonic_millis: self.now_millis, wall_millis: self.now_millis };
        match Lab::start(&self.disk, &mut self.random, now) {
            Ok(lab) => Ok(Some(lab)),
            Err(OpenError::Disk(_)) if self.disk.is_off() => Ok(None),
            Err(error) => Err(Violation::new(format!("the broker does not start: {error:?}"))),
        }
    }

    fn live_in(&mut self, mut lab: Lab, life: u64, end: End) -> Checked {
        let mut surveyor = Client::new(CLIENTS);
        if life > 0 {
            // Before anybody connects, who would take too long over it.
            lab.pass(ALL_IS_DUE_MILLIS);
            self.now_millis += ALL_IS_DUE_MILLIS;
        }
        let line = lab.connect();
        if life > 0 && !self.survey(&mut lab, &mut surveyor, line)? {
            return Ok(());
        }
        let mut clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
        let lines: Vec<usize> = clients.iter().map(|_| lab.connect()).collect();
        for _ in 0..200 + self.random.size(4000) {
            if !self.step(&mut lab, &mut clients, &lines)? {
                return Ok(());
            }
            let at = self.random.below(CLIENTS);
            if self.random.percent(30) {
                clients[at].act(&mut self.random, &mut self.next_id, &mut self.ledger);
            } else if self.random.permille(4) && !self.clear_a_queue(&mut lab, &mut clients, &lines)? {
                return Ok(());
            }
        }
        match end {
            End::Cut | End::Kill => Ok(()),
            End::Stop => {
                // One that cannot write at its end told nobody that it had.
                drop(lab.stop());
                Ok(())
            }
        }
    }

    /// A step of the broker's, and what clients hear of it. False when the power is off.
    fn step(&mut self, lab: &mut Lab, clients: &mut [Client], lines: &[usize]) -> Checked<bool> {
        for (client, line) in clients.iter_mut().zip(lines) {
            lab.say(*line, &client.out);
            client.out.clear();
        }
        if lab.step(&mut self.random) == Power::Off {
            return Ok(false);
        }
        self.now_millis += 1;
        for (client, line) in clients.iter_mut().zip(lines) {
            client.hear(&mut lab.lines[*line].down, &mut self.ledger)?;
        }
        Ok(true)
    }

    /// Steps until it is so. False when the power is off.
    fn step_until(
        &mut self,
        lab: &mut Lab,
        clients: &mut [Client],
        lines: &[usize],
        is_so: impl Fn(&[Client]) -> bool,
    ) -> Checked<bool> {
        for _ in 0..STEPS_MAX {
            if is_so(clients) && lab.has_taken_all() && clients.iter().all(|client| client.out.is_empty()) {
                return Ok(true);
            }
            if !self.step(lab, clients, lines)? {
                return Ok(false);
            }
        }
        Err(Violation::new(format!("a client waits for ever: {clients:?}")))
    }

    /// A queue is purged or deleted while nobody does anything else, so that it is known what is in it.
    fn clear_a_queue(&mut self, lab: &mut Lab, clients: &mut [Client], lines: &[usize]) -> Checked<bool> {
        let all_settled = |clients: &[Client]| clients.iter().all(Client::is_settled);
        if !self.step_until(lab, clients, lines, all_settled)? {
            return Ok(false);
        }
        let queue = *self.random.pick(&QUEUES);
        // What waits is in no queue, and comes when that is purged.
        if self.ledger.existence(queue) != Existence::Yes || queue == LATE {
            return Ok(true);
        }
        let held: Vec<u64> = clients.iter().flat_map(Client::held).collect();
        if self.random.percent(50) {
            let ids = self.ledger.in_queue(queue, &held);
            clients[0].purge(queue, ids, &mut self.ledger);
        } else {
            let ids = self.ledger.in_queue(queue, &[]);
            clients[0].delete(queue, &ids, &mut self.ledger);
        }
        self.step_until(lab, clients, lines, all_settled)
    }

    /// Looks at all queues after a recovery. False when the power is off.
    fn survey(&mut self, lab: &mut Lab, surveyor: &mut Client, line: usize) -> Checked<bool> {
        let lines = [line];
        let is_queue = |name: &String| ![BINDING, LATE_BINDING].contains(&&**name);
        for queue in self.ledger.names().into_iter().filter(is_queue) {
            let surveyor = std::slice::from_mut(&mut *surveyor);
            if !self.step_until(lab, surveyor, &lines, |clients| clients[0].is_open())? {
                return Ok(false);
            }
            surveyor[0].survey = Some(Vec::new());
            surveyor[0].is_missing = false;
            loop {
                let before = surveyor[0].survey.as_ref().map_or(0, Vec::len);
                surveyor[0].get(&queue);
                if !self.step_until(lab, surveyor, &lines, Client::all_settled)? {
                    return Ok(false);
                }
                if surveyor[0].is_missing || surveyor[0].survey.as_ref().map_or(0, Vec::len) == before {
                    break;
                }
            }
            let found = surveyor[0].survey.take().unwrap_or_default();
            self.report.found += found.len() as u64;
            let found = (!surveyor[0].is_missing).then_some(&found[..]);
            self.ledger.check(&queue, found)?;
        }
        let surveyor = std::slice::from_mut(surveyor);
        self.ledger.check_moves()?;
        if !self.step_until(lab, surveyor, &lines, |clients| clients[0].is_open())? {
            return Ok(false);
        }
        surveyor[0].give_all_back();
        self.step_until(lab, surveyor, &lines, Client::all_settled)
    }
}
