//! An engine on a simulated disk, with its workers and a few connections, driven by chance.
//!
//! The drivers' threads are steps here: any of them may come next, or not for a while. Knows frames
//! and steps; what they mean is the ledger's. Invariant: once the power is off nothing is taken from
//! the engine, for nobody would have heard it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use leveret_broker::{
    Now,
    engine::{
        Config, Connection, Engine, House, Loader, OpenError, Peer, Reading, Retirer, Spiller, Store,
        SyncBell, Syncer, Wake,
    },
};

use crate::{
    disk::SimDisk,
    random::{Random, SeededEntropy},
};

/// Octets of a segment of the journal, so that there are many.
const SEGMENT_OCTETS: u64 = 8 * 1024;
/// Octets of messages above which queues put theirs on pages.
const PAGING_OCTETS: u64 = 16 * 1024;

/// Octets in files of pages that nobody needs above which they are cleared away.
const GARBAGE_OCTETS: u64 = 4 * 1024;

#[derive(Clone, Default)]
struct Bell(Arc<AtomicBool>);

impl Bell {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// Lets a worker work if it was rung for, and again if it says that there is more or failed. What
    /// the engine forgets to ring for, nobody does.
    fn answer(&self, work: impl FnOnce() -> io::Result<bool>) -> io::Result<()> {
        if !self.take() {
            return Ok(());
        }
        let worked = work();
        if !matches!(worked, Ok(false)) {
            self.wake();
        }
        worked.map(drop)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SyncBell for Bell {
    fn appended(&self) {
        self.wake();
    }

    fn awaited(&self) {
        self.wake();
    }
}

/// A connection with its octets on the way.
pub(super) struct Line {
    connection: Connection,
    bell: Bell,
    is_due: bool,
    /// What the client said and the engine has not taken.
    up: Vec<u8>,
    /// What the engine said and the client has not read.
    pub(super) down: Vec<u8>,
}

/// What a worker's failure comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
}

/// A running broker.
pub(super) struct Lab {
    pub(super) engine: Arc<Engine>,
    disk: SimDisk,
    syncer: Syncer,
    syncer_bell: Bell,
    retirer: Retirer,
    retirer_bell: Bell,
    spiller: Spiller,
    loader: Loader,
    house: House,
    pub(super) lines: Vec<Line>,
    now: Now,
}

impl Lab {
    /// Recovers what is on the disk and starts a broker on it.
    pub(super) fn start(disk: &SimDisk, random: &mut Random, now: Now) -> Result<Self, OpenError> {
        let store = Store::open(Arc::new(disk.clone()))?;
        let config = Config { paging_octets: Some(PAGING_OCTETS), ..Config::default() };
        let entropy = Box::new(SeededEntropy(random.fork()));
        let engine = Engine::open_with(config, entropy, now, Some(&store))?;
        let bell = || Box::new(Bell::default());
        let (syncer_bell, retirer_bell) = (Bell::default(), Bell::default());
        let syncer = Syncer::new(&engine, Box::new(syncer_bell.clone()))
            .expect("there is a store")
            .with_segments_of(SEGMENT_OCTETS);
        let retirer = Retirer::new(&engine, Box::new(retirer_bell.clone()))
            .expect("there is a store")
            .with_garbage_of(GARBAGE_OCTETS);
        let spiller = Spiller::new(&engine, Arc::new(disk.clone()), bell())?;
        let loader = Loader::new(&engine, bell());
        let house = House::new(&engine, bell());
        let lines = Vec::new();
        Ok(Self {
            engine,
            disk: disk.clone(),
            syncer,
            syncer_bell,
            retirer,
            retirer_bell,
            spiller,
            loader,
            house,
            lines,
            now,
        })
    }

    /// A client connects; the number is that of its line.
    pub(super) fn connect(&mut self) -> usize {
        let bell = Bell::default();
        let peer = Peer { name: format!("client {}", self.lines.len()), is_loopback: true };
        let connection = Connection::new(&self.engine, peer, Box::new(bell.clone()), self.now);
        self.lines.push(Line { connection, bell, is_due: true, up: Vec::new(), down: Vec::new() });
        self.lines.len() - 1
    }

    /// Octets go on their way to the engine.
    pub(super) fn say(&mut self, line: usize, octets: &[u8]) {
        self.lines[line].up.extend_from_slice(octets);
    }

    /// Whether the engine has taken all that clients said.
    pub(super) fn has_taken_all(&self) -> bool {
        self.lines.iter().all(|line| line.up.is_empty())
    }

    /// One step of somebody's.
    pub(super) fn step(&mut self, random: &mut Random) -> Power {
        self.now.monotonic_millis += random.between(0, 3);
        self.now.wall_millis = self.now.monotonic_millis;
        let outcome = match random.below(12) {
            0..=1 => self.syncer_bell.answer(|| self.syncer.advance()),
            2 if random.percent(10) => self.tidy(),
            2 => self.retirer_bell.answer(|| self.retirer.advance()),
            3 => {
                self.spiller.advance(self.now);
                Ok(())
            }
            4 => {
                self.loader.advance(self.now);
                Ok(())
            }
            5 => {
                self.house.advance(self.now);
                Ok(())
            }
            _ => {
                if !self.lines.is_empty() {
                    let line = random.below(self.lines.len());
                    self.drive(line, random);
                }
                Ok(())
            }
        };
        self.power(outcome)
    }

    /// So much time passes, and what is due then comes.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now.monotonic_millis += millis;
        self.now.wall_millis = self.now.monotonic_millis;
        while self.house.advance(self.now) {}
    }

    /// As the driver does now and then.
    fn tidy(&mut self) -> io::Result<()> {
        if self.retirer.tidy()? {
            self.retirer_bell.wake();
        }
        Ok(())
    }

    fn power(&self, outcome: io::Result<()>) -> Power {
        // A disk that fails without being off is tried again by a later step.
        drop(outcome);
        if self.disk.is_off() { Power::Off } else { Power::On }
    }

    fn drive(&mut self, at: usize, random: &mut Random) {
        let now = self.now;
        let line = &mut self.lines[at];
        let may_receive = !line.up.is_empty() && line.connection.reading() == Reading::Now;
        if line.bell.take() || line.is_due || !may_receive {
            line.is_due = line.connection.advance(now);
        } else {
            let whole = random.percent(70);
            let end = if whole { line.up.len() } else { 1 + random.below(line.up.len()) };
            let taken = line.connection.receive(&line.up[..end], now);
            line.up.drain(..taken);
            line.is_due = true;
        }
        let pieces: Vec<u8> = line.connection.output().parts().flatten().copied().collect();
        if !pieces.is_empty() {
            line.connection.sent(pieces.len(), now);
            line.is_due = true;
            line.down.extend_from_slice(&pieces);
        }
    }

    /// The broker is stopped as `serve` is, and says what it had to say.
    pub(super) fn stop(mut self) -> io::Result<()> {
        self.engine.stop();
        for line in &mut self.lines {
            line.connection.disconnect(self.now);
            while line.connection.advance(self.now) {}
        }
        self.syncer.finish()?;
        self.retirer.finish()
    }
}
