//! The broker under test: one in this process for each test, or the one that `AMQP_PEER` names
//! (`host:port`), so that what is expected here can be held against another broker. With `AMQP_DATA`
//! each broker of our own has a data folder, and puts messages there as soon as it may.
//!
//! Invariant: when a test ends well, nothing that it declared is left, and a broker of our own
//! holds no octet of a message any more.

use std::{
    io::Write as _,
    net::{SocketAddr, ToSocketAddrs as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use leveret::{Broker, BrokerBuilder, Definitions};
use leveret_wire::method::{exchange, queue};

use tempfile::TempDir;

use super::{Client, Login};

/// How long a broker may take to give back what its connections had.
const CLEAN_LIMIT: Duration = Duration::from_secs(10);

/// What RabbitMQ 3.10.8 exported, with users for the tests of permissions and limits.
pub(crate) const DEFINITIONS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rabbitmq-3.10.8.json");

/// Octets of messages above which a broker with a folder of its own puts them there. One of them: all
/// that may be put on disk is.
const PAGING_OCTETS: u64 = 1;

/// Another broker is one for all tests, which then run one at a time.
static OTHER_BROKER: Mutex<()> = Mutex::new(());

/// Names that a test declared.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    pub(crate) queues: Vec<Vec<u8>>,
    pub(crate) exchanges: Vec<Vec<u8>>,
}

/// The broker under test.
pub(crate) struct Peer {
    broker: Option<Broker>,
    /// The data folder of a broker of our own, where it has one. Removed with this.
    _folder: Option<TempDir>,
    address: SocketAddr,
    login: Login<'static>,
    declared: Arc<Mutex<Declared>>,
    /// Queues that the broker had when it started.
    queues: usize,
    /// Held while another broker is under test.
    alone: Option<MutexGuard<'static, ()>>,
}

impl Peer {
    /// A broker as it comes.
    pub(crate) fn start() -> Self {
        match other_broker() {
            None => Self::own(Broker::builder(), Login::default()),
            Some(name) => Self::other(&name),
        }
    }

    /// A broker with the definitions that `DEFINITIONS` names. `None`, and a line that says so,
    /// when another broker is under test and it is not said that they were imported there.
    pub(crate) fn defined() -> Option<Self> {
        match other_broker() {
            None => {
                let definitions = Definitions::read(Path::new(DEFINITIONS)).expect("the file is right");
                Some(Self::own(Broker::builder().definitions(definitions), Login::default()))
            }
            Some(name) if std::env::var_os("AMQP_PEER_DEFINED").is_some() => Some(Self::other(&name)),
            Some(_) => {
                skip("it takes a broker that imported the tests' definitions (then set AMQP_PEER_DEFINED)");
                None
            }
        }
    }

    /// A broker of our own that is set up in some way. `None`, and a line that says so, when
    /// another broker is under test: `why` says what does not hold there.
    pub(crate) fn leveret(why: &str, set_up: impl FnOnce(BrokerBuilder) -> BrokerBuilder) -> Option<Self> {
        Self::leveret_as(Login::default(), why, set_up)
    }

    /// The same, where that is the login by which the test's traces are removed.
    pub(crate) fn leveret_as(
        login: Login<'static>,
        why: &str,
        set_up: impl FnOnce(BrokerBuilder) -> BrokerBuilder,
    ) -> Option<Self> {
        if other_broker().is_some() {
            skip(why);
            return None;
        }
        Some(Self::own(set_up(Broker::builder()), login))
    }

    /// A broker of our own and the other one. `None`, and a line that says so, when there is no
    /// other one.
    pub(crate) fn both() -> Option<(Self, Self)> {
        match other_broker() {
            Some(name) => Some((Self::own(Broker::builder(), Login::default()), Self::other(&name))),
            None => {
                skip("there is no other broker to compare with");
                None
            }
        }
    }

    fn own(builder: BrokerBuilder, login: Login<'static>) -> Self {
        let folder = std::env::var_os("AMQP_DATA").map(|_| tempfile::tempdir().expect("there is room"));
        let builder = match &folder {
            Some(folder) => builder.data(folder.path()).paging_octets(PAGING_OCTETS),
            None => builder,
        };
        let broker = futures_lite::future::block_on(builder.start()).expect("a broker starts");
        let (address, queues) = (broker.addresses()[0], broker.queue_count());
        let declared = Arc::default();
        Self { broker: Some(broker), _folder: folder, address, login, declared, queues, alone: None }
    }

    fn other(name: &str) -> Self {
        let alone = OTHER_BROKER.lock().unwrap_or_else(PoisonError::into_inner);
        let address = name.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.unwrap_or_else(|| panic!("AMQP_PEER={name} is not host:port"));
        let (login, declared) = (Login::default(), Arc::default());
        Self { broker: None, _folder: None, address, login, declared, queues: 0, alone: Some(alone) }
    }

    /// Whether it is a broker of our own.
    pub(crate) fn is_leveret(&self) -> bool {
        self.broker.is_some()
    }

    /// The test ends the broker itself.
    fn is_taken(&self) -> bool {
        self.broker.is_none() && self.alone.is_none()
    }

    /// The broker of our own.
    pub(crate) fn broker(&self) -> &Broker {
        self.broker.as_ref().expect("only tests of leveret alone ask for it")
    }

    /// The broker of our own, for a test that ends it, and with it what was declared.
    pub(crate) fn into_broker(mut self) -> Broker {
        self.broker.take().expect("only tests of leveret alone ask for it")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that is logged in and has channel 1 open.
    pub(crate) fn client(&self) -> Client {
        self.client_with(&Login::default())
    }

    /// A client that logged in in some way, with channel 1 open.
    pub(crate) fn client_with(&self, login: &Login<'_>) -> Client {
        let mut client = self.socket();
        client.log_in(login);
        client.open(1);
        client
    }

    /// A client that has said nothing yet.
    pub(crate) fn socket(&self) -> Client {
        Client::connect(self.address, Arc::clone(&self.declared))
    }

    fn clean(&self) {
        let declared = std::mem::take(&mut *self.declared.lock().unwrap_or_else(PoisonError::into_inner));
        let mut client = self.client_with(&self.login);
        for name in &declared.queues {
            let queue = leveret_wire::ShortStr::new(name).expect("it was sent as a short string");
            client.send(queue::Delete { queue, ..queue::Delete::default() });
            client.reopen_if_closed();
        }
        for name in &declared.exchanges {
            let exchange = leveret_wire::ShortStr::new(name).expect("it was sent as a short string");
            client.send(exchange::Delete { exchange, ..exchange::Delete::default() });
            client.reopen_if_closed();
        }
        client.close();
    }

    fn assert_clean(&self, broker: &Broker) {
        let begun = Instant::now();
        let left = || (broker.connection_count(), broker.queue_count(), broker.memory_octets());
        while left() != (0, self.queues, 0) {
            assert!(begun.elapsed() < CLEAN_LIMIT, "connections, queues and octets left: {:?}", left());
            thread::yield_now();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking() && self.broker.is_some() {
            return;
        }
        if self.is_taken() {
            return;
        }
        self.clean();
        if let Some(broker) = &self.broker {
            self.assert_clean(broker);
        }
    }
}

/// Says which test is skipped and why; not by a macro, whose output the test runner would keep
/// to itself.
fn skip(why: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "skipped {test}: {why}").expect("stderr takes a line");
}

fn other_broker() -> Option<String> {
    std::env::var("AMQP_PEER").ok().filter(|name| !name.is_empty())
}
