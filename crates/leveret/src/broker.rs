//! A broker to start, to ask for its address, and to stop.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use leveret_broker::{
    access::User,
    definitions::{DefinitionError, Definitions as Typed},
    engine::{Config, Engine, Entropy, OpenError, Store},
    store::Disk as _,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use tokio::runtime::Runtime;

use crate::{
    clock::Clock,
    definitions::{Definitions, hashed},
    disk::{DataFolderError, DirectoryDisk, Syncing},
    house,
    keeper::Keeper,
    listener, memory,
    pager::Pager,
    recovery::{self, Progress},
};

/// How long connections may take to close when the broker stops.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
const SHUTDOWN_LOOK: Duration = Duration::from_millis(2);
/// Threads, unless the machine has fewer cores.
const WORKERS_MAX: usize = 8;
/// Octets of messages above which those of long queues are put on disk.
const PAGING_OCTETS: u64 = 64 * 1024 * 1024;

/// Why a broker does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Somebody listens there already.
    #[error("{address} is in use by another program")]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// What an earlier run left in the data folder cannot be removed, or there are no threads.
    #[error("cannot put messages into the data folder")]
    Pages {
        /// What the operating system says.
        source: io::Error,
    },
    /// No threads could be had.
    #[error("cannot start the broker's threads")]
    Threads {
        /// What the operating system says.
        source: io::Error,
    },
    /// The definitions do not fit together.
    #[error("{origin}: {definition}")]
    Definitions {
        /// Where they are from.
        origin: String,
        /// Which of them, and what is wrong with it.
        definition: DefinitionError,
    },
    /// What is in the data folder cannot be read.
    #[error("cannot read what is in the data folder")]
    Store {
        /// What the operating system says, or which file is of a newer version.
        source: io::Error,
    },
    /// The data folder cannot be used, or another broker has it.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
}

/// A broker that runs in this process. Dropping it stops it; [`Broker::shutdown`] also tells its
/// clients and waits for them.
#[derive(Debug)]
pub struct Broker {
    engine: Arc<Engine>,
    /// What a URI names beside the address.
    login: Option<Login>,
    virtual_host: String,
    addresses: Vec<SocketAddr>,
    /// Taken when it stops.
    runtime: Option<Runtime>,
    /// Puts messages on disk; ended when the broker stops.
    keeper: Option<Keeper>,
    pager: Option<Pager>,
    /// Held so that no other broker takes the folder.
    disk: Option<Arc<DirectoryDisk>>,
}

/// Sets a broker up.
#[derive(Debug, Clone)]
pub struct BrokerBuilder {
    addresses: Vec<SocketAddr>,
    config: Config,
    workers: Option<usize>,
    default_user: Login,
    default_virtual_host: String,
    users: Vec<Login>,
    definitions: Option<Definitions>,
    data: Option<PathBuf>,
    syncing: Syncing,
    paging_octets: u64,
}

/// A name and its password.
#[derive(Clone)]
struct Login {
    name: String,
    password: String,
}

impl Login {
    fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned() }
    }

    fn user(&self) -> User {
        let tags = vec!["administrator".into()];
        User { tags, ..User::new(&self.name, hashed(&self.password)) }
    }

    /// RabbitMQ's default user, who is not let in from other machines while it is called guest.
    fn default_user(&self) -> User {
        User { loopback_only: self.name == "guest", ..self.user() }
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker on a free port of 127.0.0.1, with RabbitMQ's default user guest and virtual host
    /// `/`, unless the builder is told otherwise.
    #[must_use]
    pub fn builder() -> BrokerBuilder {
        let config =
            Config { memory_watermark_octets: memory::default_watermark_octets(), ..Config::default() };
        BrokerBuilder {
            addresses: Vec::new(),
            config,
            workers: None,
            default_user: Login::new("guest", "guest"),
            default_virtual_host: "/".to_owned(),
            users: Vec::new(),
            definitions: None,
            data: None,
            syncing: Syncing::Honest,
            paging_octets: PAGING_OCTETS,
        }
    }

    /// Where it listens, in the order in which it was told to; ports are the true ones.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A URI by which any AMQP 0-9-1 client connects: the first address, the first user and the
    /// first virtual host. It has no user where all of them are from definitions, which have no
    /// passwords but their hashes.
    #[must_use]
    pub fn amqp_uri(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let login = self.login.as_ref();
        let login = login.map(|login| format!("{}:{}@", encode(&login.name), encode(&login.password)));
        format!("amqp://{}{}/{}", login.unwrap_or_default(), self.addresses[0], encode(&self.virtual_host))
    }

    /// Users, virtual hosts, permissions, policies, exchanges, queues and bindings, as they are
    /// now.
    #[must_use]
    pub fn definitions(&self) -> Definitions {
        Definitions::of_broker(self.engine.definitions())
    }

    /// The folder that this broker has for itself, if it was given one.
    #[must_use]
    pub fn data_folder(&self) -> Option<&Path> {
        self.disk.as_deref().map(DirectoryDisk::path)
    }

    /// How many connections there are, those in their handshake among them.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.engine.connection_count()
    }

    /// How many queues there are in all virtual hosts.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.engine.queue_count()
    }

    /// Octets that messages cost now, by the broker's own count.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        self.engine.memory_octets()
    }

    /// Lets go of the buffers that are kept for the next messages, at most a few mebibytes: for
    /// whoever sees that the process is quiet. The next load allocates them anew.
    pub fn let_go_of_buffers(&self) {
        self.engine.let_go_of_buffers();
    }

    /// Switches the firehose of a virtual host on or off: copies of all messages, published and
    /// delivered, to its exchange `amq.rabbitmq.trace`. False when there is no such virtual host.
    #[must_use = "there may be no such virtual host"]
    pub fn set_tracing(&self, virtual_host: &str, is_on: bool) -> bool {
        self.engine.set_tracing(virtual_host, is_on)
    }

    /// Closes all connections with reply code 320, waits until they are gone (at most a few
    /// seconds), and stops.
    pub async fn shutdown(mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.engine.stop();
        let engine = Arc::clone(&self.engine);
        // Also called from other runtimes than Tokio's, so the timer is made in our own.
        let gone = runtime.spawn(async move {
            let empty = async {
                while engine.connection_count() > 0 {
                    tokio::time::sleep(SHUTDOWN_LOOK).await;
                }
            };
            tokio::time::timeout(SHUTDOWN_MAX, empty).await
        });
        if !matches!(gone.await, Ok(Ok(()))) {
            tracing::warn!("some connections did not close in time and were dropped");
        }
        self.close_folder();
        runtime.shutdown_background();
    }

    /// Ends what writes to the data folder and lets others have it. Tasks of connections may go on for a
    /// moment.
    fn close_folder(&mut self) {
        drop(self.pager.take());
        drop(self.keeper.take());
        if let Some(disk) = self.disk.take() {
            disk.give_back();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.engine.stop();
        self.close_folder();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl BrokerBuilder {
    /// Listens on that address; port 0 is a free one. May be called several times.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Adds a user who may log in from anywhere and do everything.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.retain(|other| other.name != name);
        self.users.push(Login::new(name, password));
        self
    }

    /// Takes another default user in the place of guest. As in RabbitMQ, one who is called guest
    /// may log in from this machine only, and with definitions there is no default user.
    #[must_use]
    pub fn default_user(mut self, name: &str, password: &str) -> Self {
        self.default_user = Login::new(name, password);
        self
    }

    /// Sets the only virtual host. As in RabbitMQ, with definitions there are those that they
    /// list.
    #[must_use]
    pub fn virtual_host(mut self, name: &str) -> Self {
        self.default_virtual_host = name.to_owned();
        self
    }

    /// What the broker has from its start, in the place of the default user and virtual host.
    #[must_use]
    pub fn definitions(mut self, definitions: Definitions) -> Self {
        self.definitions = Some(definitions);
        self
    }

    /// What was kept, with what is given now: definitions, which come on top, or users.
    fn define_with(&mut self, store: Option<&Store>) -> Result<(Typed, Option<Login>), StartError> {
        let (is_given, users) = (self.definitions.is_some(), self.users.clone());
        let (typed, login) = self.define()?;
        let Some(text) = store.and_then(Store::access) else { return Ok((typed, login)) };
        let kept = str::from_utf8(text).ok().and_then(|text| Definitions::from_json(text).ok());
        let Some(Definitions { typed: mut kept, .. }) = kept else {
            tracing::error!(
                "users and virtual hosts that were kept cannot be read; those of a first start are made"
            );
            return Ok((typed, login));
        };
        if is_given {
            kept.merge(typed);
        } else {
            users.iter().for_each(|login| {
                kept.users.retain(|user| *user.name != *login.name);
                kept.add_user(login.user());
            });
        }
        Ok((kept, login))
    }

    /// The definitions that all of this makes, and the login for a URI.
    fn define(&mut self) -> Result<(Typed, Option<Login>), StartError> {
        let Some(definitions) = self.definitions.take() else {
            // Who is added under the default user's name takes its place.
            let replaced = self.users.iter().position(|login| login.name == self.default_user.name);
            let (first, user) = match replaced.map(|at| self.users.remove(at)) {
                Some(login) => (login.clone(), login.user()),
                None => (self.default_user.clone(), self.default_user.default_user()),
            };
            let mut typed = Typed::with_user(user, &self.default_virtual_host);
            self.users.iter().for_each(|login| typed.add_user(login.user()));
            return Ok((typed, Some(first)));
        };
        let Definitions { origin, mut typed } = definitions;
        for login in &self.users {
            if typed.users.iter().any(|user| *user.name == login.name) {
                let object = format!("user '{}'", login.name);
                let reason = "it is there, and given a password beside the definitions too".to_owned();
                return Err(StartError::Definitions {
                    origin,
                    definition: DefinitionError { object, reason },
                });
            }
            typed.add_user(login.user());
        }
        Ok((typed, self.users.first().cloned()))
    }

    /// Takes a folder for this broker alone; it is made if it is not there. Without one nothing of the
    /// broker touches a disk.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Leaves it to the operating system when what is written to the data folder reaches the disk. A
    /// power cut takes what it had not written, whoever was told otherwise.
    #[must_use]
    pub const fn no_sync(mut self) -> Self {
        self.syncing = Syncing::Skipped;
        self
    }

    /// Octets that are to stay free on the data folder's disk; 50 MB by default.
    #[must_use]
    pub const fn disk_free_limit_octets(mut self, octets: u64) -> Self {
        self.config.disk_free_limit_octets = octets;
        self
    }

    /// Octets of messages above which those of long queues are put into the data folder, 64 MiB by
    /// default, so that memory does not grow with them. Without a folder they stay in memory.
    #[must_use]
    pub const fn paging_octets(mut self, octets: u64) -> Self {
        self.paging_octets = octets;
        self
    }

    /// Octets of messages above which publishers are not read from. The default is a share of
    /// the machine's memory, see [`memory::WATERMARK_PERCENT`].
    #[must_use]
    pub const fn memory_watermark_octets(mut self, octets: u64) -> Self {
        self.config.memory_watermark_octets = octets;
        self
    }

    /// The largest message taken, in octets of its body; at most 128 MiB, which is the default.
    #[must_use]
    pub fn message_octets_max(mut self, octets: u64) -> Self {
        self.config.message_octets_max = octets.min(Config::MESSAGE_OCTETS_MAX);
        self
    }

    /// Seconds between signs of life that are suggested to clients; 60 by default, 0 is none.
    #[must_use]
    pub const fn heartbeat_seconds(mut self, seconds: u16) -> Self {
        self.config.heartbeat_seconds = seconds;
        self
    }

    /// How long a consumer may keep a delivery without settling it before its channel is closed;
    /// for ever by default.
    #[must_use]
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.config.ack_timeout_millis = Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Channels that a connection may have open at a time; 2047 by default.
    #[must_use]
    pub const fn channel_max(mut self, channels: u16) -> Self {
        self.config.channel_max = channels;
        self
    }

    /// Threads of the broker; by default one for each core, at most eight.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// Starts the broker. It accepts connections when this returns.
    ///
    /// # Errors
    /// [`StartError`] when an address cannot be listened on or the data folder not be had; then nothing
    /// is left running.
    #[allow(clippy::unused_async, reason = "starting may come to wait, for a data folder to be read")]
    pub async fn start(mut self) -> Result<Broker, StartError> {
        if self.addresses.is_empty() {
            self.addresses.push((Ipv4Addr::LOCALHOST, 0).into());
        }
        let origin = self.definitions.as_ref().map_or_else(String::new, |given| given.origin.clone());
        let disk = self.disk()?.map(Arc::new);
        let progress = disk.as_ref().map(|disk| Progress::watch(disk, recovery::TELL_AFTER, recovery::tell));
        let store = disk.as_ref().map(recovery::recover).transpose()?;
        let (typed, login) = self.define_with(store.as_ref())?;
        let virtual_host = typed.vhosts.first().map_or_else(String::new, |vhost| vhost.name.to_string());
        self.config.definitions = typed;
        let sockets = self.addresses.iter().map(|&address| bind(address)).collect::<Result<Vec<_>, _>>()?;
        self.config.paging_octets = disk.as_ref().map(|_| self.paging_octets);
        let runtime = self.runtime().map_err(|source| StartError::Threads { source })?;
        let clock = Clock::new();
        let engine =
            match Engine::open_with(self.config, Box::new(SystemEntropy), clock.now(), store.as_ref()) {
                Ok(engine) => engine,
                Err(error) => {
                    runtime.shutdown_background();
                    return Err(match error {
                        OpenError::Definition(definition) => StartError::Definitions { origin, definition },
                        OpenError::Disk(source) => StartError::Store { source },
                    });
                }
            };
        drop(progress);
        engine.keep_access(Definitions::of_broker(engine.definitions().access_only()).to_json().as_bytes());
        let workers = disk.clone().map(|disk| {
            let keeper = Keeper::start(&engine, &disk)?;
            Ok((keeper, Pager::start(&engine, disk, clock)?))
        });
        let (keeper, pager) = match workers.transpose() {
            Ok(workers) => workers.unzip(),
            Err(source) => {
                runtime.shutdown_background();
                return Err(StartError::Pages { source });
            }
        };
        runtime.spawn(house::keep(Arc::clone(&engine), clock));
        let mut addresses = Vec::new();
        for socket in sockets {
            let _inside = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(socket)
                .and_then(|listener| Ok((listener.local_addr()?, listener)))
                .map_err(|source| StartError::Threads { source });
            let (address, listener) = match listener {
                Ok(listening) => listening,
                Err(error) => {
                    // To drop a runtime inside another one is not allowed.
                    runtime.shutdown_background();
                    return Err(error);
                }
            };
            addresses.push(address);
            runtime.spawn(listener::accept(listener, Arc::clone(&engine), clock));
        }
        Ok(Broker { engine, login, virtual_host, addresses, runtime: Some(runtime), keeper, pager, disk })
    }

    fn disk(&self) -> Result<Option<DirectoryDisk>, StartError> {
        let Some(path) = &self.data else { return Ok(None) };
        let disk = DirectoryDisk::open(path, self.syncing)?;
        let limit = self.config.disk_free_limit_octets;
        if let Ok(free) = disk.free_octets()
            && free < limit
        {
            tracing::warn!("{} has room for {free} octets, less than the limit of {limit}", path.display());
        }
        Ok(Some(disk))
    }

    fn runtime(&self) -> io::Result<Runtime> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.workers.unwrap_or_else(|| cores.min(WORKERS_MAX)))
            .thread_name("leveret")
            .enable_all()
            .build()
    }
}

fn bind(address: SocketAddr) -> Result<std::net::TcpListener, StartError> {
    listener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        _ => StartError::Listen { address, source },
    })
}

/// The operating system's randomness.
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, octets: &mut [u8]) {
        getrandom::fill(octets).expect("the operating system gives random octets");
    }
}
