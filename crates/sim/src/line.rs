//! The engine's end of a connection and the network before it, as the driver has them.
//!
//! The driver's side does what the real driver does and no more: it goes on with a connection
//! when it was woken, when there is more to do, when a deadline has come, and after it read or
//! made room. What the engine would forget to ask for, nobody does. Knows octets, never what they
//! mean.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use leveret_broker::{
    Now,
    engine::{Connection, Engine, Output, Peer, Reading, Wake},
};

use crate::{Checked, network::Pipe};

/// Notes that it was rung.
pub(crate) struct Bell(pub(crate) Arc<AtomicBool>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Something that can happen on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The engine goes on with the connection.
    Advance,
    /// The engine is given what came.
    Receive,
    /// The socket takes output.
    Write,
    /// The client reads.
    Read,
    /// The client does something.
    Act,
}

/// What came of giving the engine input.
pub(crate) struct Taken {
    /// The octets that it took.
    pub(crate) input: Vec<u8>,
    /// What it said.
    pub(crate) said: Vec<u8>,
    /// It did not take all of it, though it goes on reading.
    pub(crate) is_partial: bool,
}

pub(crate) struct Line {
    connection: Connection,
    pub(crate) pipe: Pipe,
    /// Whether the client's side of the socket is closed.
    pub(crate) is_closed: bool,
    bell: Arc<AtomicBool>,
    due: bool,
}

impl Line {
    pub(crate) fn new(engine: &Arc<Engine>, name: String, window_octets: usize, now: Now) -> Self {
        let bell = Arc::new(AtomicBool::new(false));
        let peer = Peer { name, is_loopback: true };
        Self {
            connection: Connection::new(engine, peer, Box::new(Bell(Arc::clone(&bell))), now),
            pipe: Pipe::new(window_octets),
            is_closed: false,
            bell,
            due: true,
        }
    }

    /// What can happen now, but for what the client does of itself. After a turn the driver goes on
    /// with a connection before it reads again; one that was only woken may be read first.
    pub(crate) fn steps(&self, client_reads: bool) -> impl Iterator<Item = Step> + use<> {
        let is_due = self.due || self.bell.load(Ordering::Relaxed);
        let input = self.pipe.up_octets() > 0 || self.pipe.is_whole() || self.is_closed;
        let receives = !self.due && input && self.connection.reading() == Reading::Now;
        let writes = !self.connection.output().is_empty() && self.pipe.takes_octets();
        let reads = self.pipe.down_octets() > 0 && client_reads;
        [(is_due, Step::Advance), (receives, Step::Receive), (writes, Step::Write), (reads, Step::Read)]
            .into_iter()
            .filter(|(possible, _)| *possible)
            .map(|(_, step)| step)
    }

    /// The engine is given what came, so many octets more than it left. `None` where the socket
    /// turns out to be closed, and is to be cut.
    pub(crate) fn receive(&mut self, octets: usize, now: Now) -> Option<Taken> {
        let mut input = self.pipe.input(octets);
        let is_over = self.is_closed && self.pipe.up_octets() == 0 && self.pipe.is_in_mid_frame();
        if input.is_empty() || is_over {
            return None;
        }
        let taken = self.connection.receive(&input, now);
        self.due = true;
        let said = self.pipe.overhear(self.connection.output());
        let is_paused = self.is_paused();
        self.pipe.taken(&input, taken, is_paused);
        let is_partial = taken < input.len() && !is_paused;
        input.truncate(taken);
        Some(Taken { input, said, is_partial })
    }

    /// The engine goes on; what it said, and whether there is more to do at once.
    pub(crate) fn advance(&mut self, now: Now) -> (Vec<u8>, bool) {
        self.bell.store(false, Ordering::Relaxed);
        self.due = self.connection.advance(now);
        (self.pipe.overhear(self.connection.output()), self.due)
    }

    /// The socket takes some of the output.
    pub(crate) fn write(&mut self, octets: usize, now: Now) -> Checked {
        let was_full = self.output().is_full();
        let written = self.pipe.write(self.connection.output(), octets)?;
        self.connection.sent(written, now);
        self.due |= was_full && !self.output().is_full();
        Ok(())
    }

    /// The socket is cut.
    pub(crate) fn cut(&mut self, now: Now) {
        self.pipe.cut();
        self.connection.disconnect(now);
        self.is_closed = false;
        self.due = true;
    }

    /// Time passed: a deadline may have come.
    pub(crate) fn look_at_clock(&mut self, now: Now) {
        self.due |= self.deadline_millis().is_some_and(|at| at <= now.monotonic_millis);
    }

    /// When to go on with it though nothing happens.
    fn deadline_millis(&self) -> Option<u64> {
        [self.connection.next_deadline_millis(), self.is_slowed()].into_iter().flatten().min()
    }

    pub(crate) fn output(&self) -> &Output {
        self.connection.output()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.connection.is_finished()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.connection.reading() == Reading::Paused
    }

    /// Whether the publisher is read later on, and when.
    pub(crate) fn is_slowed(&self) -> Option<u64> {
        match self.connection.reading() {
            Reading::From { monotonic_millis } => Some(monotonic_millis),
            Reading::Now | Reading::Paused => None,
        }
    }
}
