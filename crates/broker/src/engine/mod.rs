//! The joint: a session's calls become steps on the model, and what follows from them becomes
//! appends to the log, deliveries, confirms and requeues.
//!
//! [`Engine`] is what all connections share, [`Connection`] what each has to itself. Three things
//! cross from one connection's thread to another's: an inbox, a version in a route, and the
//! memory alarm. Invariant: no thread holds two queues' locks, and none asks for the topology's
//! while it holds a queue's.

mod ack_timeout;
mod alarm;
mod batch;
mod config;
mod connection;
mod consume;
#[cfg(all(test, loom, feature = "planted-bugs"))]
mod crossing_tests;
mod dead_letters;
mod deadlines;
mod declare;
mod delays;
mod deliver;
mod groups;
mod history;
mod house;
mod inbox;
mod lifecycle;
mod login;
mod methods;
mod output;
mod publish;
mod publish_checks;
mod queue_cell;
mod queues;
mod replies;
mod routes;
mod settle;
mod sources;
mod teardown;
mod timers;
mod trace;
mod transaction;
mod vhost;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use indexmap::IndexMap;
use parking_lot::{Mutex, RwLock};

use self::{alarm::MemoryAlarm, deadlines::Deadlines, delays::Delays, inbox::Inbox, vhost::Vhost};
pub use self::{
    config::{Config, User},
    connection::{Connection, Peer, Reading},
    house::House,
    inbox::Wake,
    output::Output,
};
use crate::{OctetCount, store::MessageLog};

/// Where random octets come from: the operating system, or a seed.
pub trait Entropy: Send {
    /// Fills `octets`.
    fn fill(&mut self, octets: &mut [u8]);
}

/// A connection, for as long as the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What all connections share.
pub struct Engine {
    config: Config,
    log: MessageLog,
    alarm: MemoryAlarm,
    deadlines: Deadlines,
    delays: Delays,
    vhosts: RwLock<IndexMap<Box<str>, Arc<Vhost>>>,
    entropy: Mutex<Box<dyn Entropy>>,
    connections: Mutex<IndexMap<ConnectionId, Arc<Inbox>>>,
    /// The last number given to a connection or a queue.
    last_id: AtomicU64,
    stopping: AtomicBool,
}

impl Engine {
    /// A broker without connections.
    #[must_use]
    pub fn new(config: Config, entropy: Box<dyn Entropy>) -> Arc<Self> {
        let vhosts = config
            .vhosts
            .iter()
            .map(|name| (name.clone(), Arc::new(Vhost::new(name))))
            .collect::<IndexMap<_, _>>();
        let octets = OctetCount::default();
        Arc::new(Self {
            log: MessageLog::new(octets.clone()),
            alarm: MemoryAlarm::new(config.memory_watermark_octets, octets),
            deadlines: Deadlines::default(),
            delays: Delays::default(),
            vhosts: RwLock::new(vhosts),
            entropy: Mutex::new(entropy),
            connections: Mutex::default(),
            last_id: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            config,
        })
    }

    /// How it was set up.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Octets that messages cost now, by our own count.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        self.alarm.octets()
    }

    /// How many chunks of messages there are.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.log.chunk_count()
    }

    /// How many connections there are, those in their handshake and those going among them.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.lock().len()
    }

    /// How many queues there are in all virtual hosts.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.vhosts.read().values().map(|vhost| vhost.topology.read().queue_count()).sum()
    }

    /// Whether publishers are not read from.
    #[must_use]
    pub fn is_alarmed(&self) -> bool {
        self.alarm.is_raised()
    }

    /// Switches the copies to `amq.rabbitmq.trace` on or off in a virtual host; false when there is
    /// none of that name.
    pub fn set_tracing(&self, vhost: &str, is_on: bool) -> bool {
        self.vhost(vhost).map(|vhost| vhost.is_traced.store(is_on, Ordering::Relaxed)).is_some()
    }

    /// Closes every connection with 320; those that come later are closed at once.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for inbox in self.connections.lock().values() {
            inbox.call();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    fn random_number(&self) -> u64 {
        let mut octets = [0; 8];
        self.entropy.lock().fill(&mut octets);
        u64::from_le_bytes(octets)
    }

    /// `prefix` and 22 characters of base64url, from 16 random octets.
    fn random_name(&self, prefix: &str) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut octets = [0; 16];
        self.entropy.lock().fill(&mut octets);
        let number = u128::from_be_bytes(octets);
        let digits = (0..22).map(|digit| {
            // 22 digits of 6 bits are 132 bits: the last one has four bits of zeros.
            let shifted = if digit == 21 { number << 4 } else { number >> (122 - 6 * digit) };
            char::from(ALPHABET[usize::try_from(shifted & 63).expect("six bits")])
        });
        digits.fold(prefix.to_owned(), |mut name, digit| {
            name.push(digit);
            name
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("connections", &self.connection_count()).finish_non_exhaustive()
    }
}
