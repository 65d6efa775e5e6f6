//! The joint: a session's calls become steps on the model, and what follows from them becomes
//! appends to the log, deliveries, confirms and requeues.
//!
//! [`Engine`] is what all connections share, [`Connection`] what each has to itself. Three things
//! cross from one connection's thread to another's: an inbox, a version in a route, and the
//! memory alarm. Invariant: no thread holds two queues' locks, and none asks for the topology's
//! while it holds a queue's.

mod ack_timeout;
mod admission;
mod alarm;
mod batch;
mod chronicle;
mod compaction;
mod config;
mod connection;
mod consume;
#[cfg(all(test, loom, feature = "planted-bugs"))]
mod crossing_tests;
mod dead_letters;
mod deadlines;
mod declare;
mod definition_entry;
mod delays;
mod deliver;
mod durability;
mod export;
mod groups;
mod held;
mod history;
mod house;
mod import;
mod inbox;
mod kept_line;
mod lifecycle;
mod login;
mod methods;
mod output;
mod paging;
mod permissions;
mod publish;
mod publish_checks;
mod queue_cell;
mod queues;
mod replies;
mod retirer;
mod revival;
mod routes;
mod settle;
mod sources;
mod stored;
mod syncer;
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

use self::{
    admission::Account,
    alarm::MemoryAlarm,
    deadlines::Deadlines,
    delays::Delays,
    durability::Durability,
    inbox::{Inbox, Notice},
    paging::Paging,
    vhost::Vhost,
};
pub use self::{
    config::Config,
    connection::{Connection, Peer, Reading},
    house::House,
    inbox::Wake,
    output::Output,
    paging::{Loader, Spiller},
    retirer::Retirer,
    stored::{QueueReport, Store, StoreReport},
    syncer::{SyncBell, Syncer},
};
use crate::{Now, OctetCount, definitions::DefinitionError, model::topology::PREDECLARED, store::MessageLog};

/// Where random octets come from: the operating system, or a seed.
pub trait Entropy: Send {
    /// Fills `octets`.
    fn fill(&mut self, octets: &mut [u8]);
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A definition does not fit.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The disk fails.
    #[error("cannot read what was kept")]
    Disk(#[from] std::io::Error),
}

/// A connection, for as long as the broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What all connections share.
pub struct Engine {
    config: Config,
    log: MessageLog,
    alarm: MemoryAlarm,
    cluster_name: Option<Box<str>>,
    accounts: IndexMap<Box<str>, Arc<Account>>,
    /// None when nothing is to outlast the process.
    durability: Option<Arc<Durability>>,
    /// Numbers of files that come next, when there is a journal.
    first_segment: u64,
    next_kept_file: u32,
    snapshot_number: u64,
    deadlines: Deadlines,
    delays: Delays,
    paging: Paging,
    vhosts: RwLock<IndexMap<Box<str>, Arc<Vhost>>>,
    entropy: Mutex<Box<dyn Entropy>>,
    connections: Mutex<IndexMap<ConnectionId, Arc<Inbox>>>,
    /// The last number given to a connection, a queue or an exchange; predeclared exchanges have the
    /// first ones.
    last_id: AtomicU64,
    stopping: AtomicBool,
}

impl Engine {
    /// A broker without connections.
    ///
    /// # Panics
    /// When the configuration's definitions do not fit together, see [`Engine::open`].
    #[must_use]
    pub fn new(config: Config, entropy: Box<dyn Entropy>) -> Arc<Self> {
        let start = Now { monotonic_millis: 0, wall_millis: 0 };
        Self::open(config, entropy, start).unwrap_or_else(|error| panic!("definitions: {error}"))
    }

    /// A broker without connections, with all that its configuration's definitions list.
    ///
    /// # Errors
    /// [`OpenError`] for the first of them that names what is not there, or that a client could not
    /// declare either.
    pub fn open(config: Config, entropy: Box<dyn Entropy>, now: Now) -> Result<Arc<Self>, OpenError> {
        Self::open_with(config, entropy, now, None)
    }

    /// As [`Engine::open`], with what is in a store, where what lasts goes from now on.
    ///
    /// # Errors
    /// [`OpenError`] for a definition, or for a disk that fails.
    pub fn open_with(
        mut config: Config,
        entropy: Box<dyn Entropy>,
        now: Now,
        store: Option<&Store>,
    ) -> Result<Arc<Self>, OpenError> {
        let mut definitions = std::mem::take(&mut config.definitions);
        if let Some(store) = store {
            store.add_vhosts(&mut definitions);
        }
        let snapshot = store.map(|store| &store.recovered.snapshot);
        let octets = OctetCount::default();
        let engine = Arc::new(Self {
            log: MessageLog::new(octets.clone()),
            alarm: MemoryAlarm::new(config.memory_watermark_octets, octets),
            cluster_name: definitions.cluster_name.clone(),
            accounts: import::accounts(&definitions)?,
            durability: store
                .as_ref()
                .map(|store| Arc::new(Durability::new(Arc::clone(&store.disk), &store.recovered.snapshot))),
            first_segment: snapshot.map_or(0, |snapshot| snapshot.first_segment),
            next_kept_file: snapshot.map_or(0, |snapshot| snapshot.next_kept_file),
            snapshot_number: store.as_ref().map_or(0, |store| store.recovered.snapshot_number),
            deadlines: Deadlines::default(),
            delays: Delays::default(),
            paging: Paging::new(config.paging_octets),
            vhosts: RwLock::new(import::vhosts(&definitions)?),
            entropy: Mutex::new(entropy),
            connections: Mutex::default(),
            last_id: AtomicU64::new(store.map_or(0, Store::last_number).max(PREDECLARED.len() as u64)),
            stopping: AtomicBool::new(false),
            config,
        });
        if let Some(store) = store {
            engine.revive(store, now)?;
        }
        engine.import(&definitions, now)?;
        Ok(engine)
    }

    /// How it was set up. The definitions are taken from it by now: [`Engine::definitions`] has
    /// those of now.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Octets that messages cost now, by our own count.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        self.alarm.octets()
    }

    /// Lets go of the buffers that are kept for the next messages.
    pub fn let_go_of_buffers(&self) {
        self.log.let_go_of_buffers();
    }

    /// How many chunks of messages there are.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.log.chunk_count()
    }

    /// How many files of messages on disk there are.
    #[must_use]
    pub fn page_file_count(&self) -> usize {
        self.paging.files.len()
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

    /// Whether there is a queue of that name in the virtual host.
    #[must_use]
    pub fn has_queue(&self, vhost: &str, name: &str) -> bool {
        self.vhost(vhost).is_some_and(|vhost| vhost.topology.read().queue(name).is_some())
    }

    /// Whether publishers are not read from.
    #[must_use]
    pub fn is_alarmed(&self) -> bool {
        self.alarm.is_raised()
    }

    /// The disk has no room, or fails: publishers are not read from. Or it has again.
    pub fn set_disk_alarm(&self, is_raised: bool) {
        if !self.alarm.set_disk_short(is_raised) {
            return;
        }
        if is_raised {
            tracing::warn!("disk alarm: publishers are not read from until there is room");
        } else {
            tracing::warn!("disk alarm cleared: publishers are read from again");
        }
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

    /// Tells a connection that a queue which only it could use is gone.
    fn tell_queue_gone(&self, owner: ConnectionId, serial: u64) {
        let inbox = self.connections.lock().get(&owner).cloned();
        if let Some(inbox) = inbox {
            inbox.put_notice(Notice::QueueGone(serial));
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn last_number(&self) -> u64 {
        self.last_id.load(Ordering::Relaxed)
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts.get(name).cloned()
    }

    /// What `connection.start` calls the cluster.
    fn cluster_name(&self) -> &str {
        self.cluster_name.as_deref().unwrap_or("leveret")
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
