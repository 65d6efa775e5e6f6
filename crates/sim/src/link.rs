//! A connection with both its ends: the engine's, the network between, the client.
//!
//! The driver's side does what the real driver does and no more: it goes on with a connection
//! when it was woken, when there is more to do, when a deadline has come, and after it read or
//! made room. What the engine would forget to ask for, nobody does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use leveret_broker::{
    Now,
    engine::{Connection, Engine, Peer, Reading, Wake},
};

use crate::{client::Client, model::ConnectionKey, network::Pipe, random::Random};

/// Notes that it was rung.
pub(crate) struct Bell(pub(crate) Arc<AtomicBool>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Something that can happen on a link.
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

pub(crate) struct Link {
    pub(crate) key: ConnectionKey,
    pub(crate) connection: Connection,
    pub(crate) pipe: Pipe,
    pub(crate) client: Client,
    /// Whether the client's side of the socket is closed.
    pub(crate) is_closed: bool,
    bell: Arc<AtomicBool>,
    due: bool,
}

impl Link {
    pub(crate) fn new(engine: &Arc<Engine>, client: Client, window_octets: usize, now: Now) -> Self {
        let bell = Arc::new(AtomicBool::new(false));
        let name = format!("client {}", client.number);
        let peer = Peer { name, is_loopback: true };
        Self {
            key: ConnectionKey(client.number),
            connection: Connection::new(engine, peer, Box::new(Bell(Arc::clone(&bell))), now),
            pipe: Pipe::new(window_octets),
            client,
            is_closed: false,
            bell,
            due: true,
        }
    }

    /// The engine is to go on with the connection.
    pub(crate) const fn set_due(&mut self) {
        self.due = true;
    }

    /// The engine goes on with it now, so nothing is due any more.
    pub(crate) fn take_due(&mut self) -> bool {
        self.bell.swap(false, Ordering::Relaxed) | std::mem::take(&mut self.due)
    }

    fn is_due(&self) -> bool {
        self.due || self.bell.load(Ordering::Relaxed)
    }

    /// When to go on with it though nothing happens.
    pub(crate) fn deadline_millis(&self) -> Option<u64> {
        let read_from = match self.connection.reading() {
            Reading::From { monotonic_millis } => Some(monotonic_millis),
            Reading::Now | Reading::Paused => None,
        };
        [self.connection.next_deadline_millis(), read_from].into_iter().flatten().min()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.connection.reading() == Reading::Paused
    }

    /// Whether the publisher is read later on.
    pub(crate) fn is_slowed(&self) -> Option<u64> {
        match self.connection.reading() {
            Reading::From { monotonic_millis } => Some(monotonic_millis),
            Reading::Now | Reading::Paused => None,
        }
    }

    /// What can happen now. After a turn the driver goes on with a connection before it reads
    /// again; one that was only woken may be read first.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step> {
        let is_due = self.is_due();
        let input = self.pipe.up_octets() > 0 || self.pipe.is_whole() || self.is_closed;
        let receives = !self.due && input && self.connection.reading() == Reading::Now;
        let writes = !self.connection.output().is_empty() && self.pipe.takes_octets();
        let reads = self.pipe.down_octets() > 0 && !self.client.is_deaf && !self.client.is_lost;
        let acts = self.client.state == crate::client::State::Running && !self.client.is_lost;
        [
            (is_due, Step::Advance),
            (receives, Step::Receive),
            (writes, Step::Write),
            (reads, Step::Read),
            (acts, Step::Act),
        ]
        .into_iter()
        .filter(|(possible, _)| *possible)
        .map(|(_, step)| step)
    }

    /// What the client has said goes on its way; when it will say nothing more, it closes.
    pub(crate) fn post(&mut self) {
        let said = std::mem::take(&mut self.client.out);
        self.pipe.send(&said);
        self.is_closed |= self.client.state == crate::client::State::Over;
    }

    /// The client's machine is gone, and some of what it sent; its socket stays open.
    pub(crate) fn lose(&mut self, random: &mut Random) {
        self.client.is_lost = true;
        self.pipe.lose_end(random);
    }

    /// The client dies while it sends.
    pub(crate) fn die_sending(&mut self, random: &mut Random) {
        self.client.die();
        self.pipe.lose_end(random);
        self.is_closed = true;
    }
}
