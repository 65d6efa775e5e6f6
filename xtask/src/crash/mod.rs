//! `cargo xtask crash`: the real broker is killed at random moments under load, and after each restart what
//! it has is held against a ledger that lives outside it.
//!
//! Holds the course of a run; what must hold is in `ledger` and `definitions`, what is lost with the power in
//! `lossy`. Invariant: the exit code is 0 only if every round was run and nothing was lost, invented, out of
//! order or risen again, or if that was to be found and was.

mod body;
mod broker;
mod check;
mod client;
mod consume;
mod definitions;
mod ledger;
mod load;
mod lossy;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use leveret_sim::random::Random;
use tokio::{
    runtime::Runtime,
    sync::watch,
    task::{JoinError, JoinSet},
};

use self::{
    body::MessageId,
    broker::Broker,
    check::Check,
    client::Address,
    definitions::{Definitions, STEADY, Thing},
    ledger::Ledger,
    lossy::LossyFolder,
};
use crate::workplace::Workplace;

const PUBLISHERS: u32 = 3;
/// Publisher numbers that a round has, more than it takes: for its publishers, who changes definitions, who checks,
/// who moves messages in transactions, and a consumer of each queue that has one.
const NUMBERS_A_ROUND: u32 = 16;
const CHANGER: u32 = PUBLISHERS;
const CHECKER: u32 = PUBLISHERS + 1;
const MOVER: u32 = PUBLISHERS + 2;
const FIRST_CONSUMER: u32 = PUBLISHERS + 3;
const LOAD_MILLIS_MAX: u64 = 1_500;
/// Of a hundred rounds so many are heavy: they last longer and their messages are large, so that segments of the
/// journal are retired meanwhile.
const HEAVY_PERCENT: u64 = 10;
const HEAVY_LOAD_MILLIS_MAX: u64 = 6_000;
/// Of a hundred starts after a kill so many are killed too, and the next one again as often.
const KILLED_STARTS_PERCENT: u64 = 30;
/// Of a hundred messages so many are acknowledged when queues are emptied after a kill.
const ACKED_PERCENT: u64 = 80;
/// By then clients of a broker that is gone have noticed.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(60);
/// Of each queue.
const VIOLATIONS_SHOWN_MAX: usize = 5;

/// How often and how the broker dies.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often it is killed
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Lay its data folder on a file system that forgets what was not synced when it is killed; takes root
    /// and /dev/fuse
    #[arg(long)]
    lossy: bool,
    /// What is drawn: messages, moments, what is forgotten; the time decides if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Start it with --no-sync
    #[arg(long)]
    no_sync: bool,
    /// Succeed when a violation is found, and fail when there is none: for a broker that is to lose
    #[arg(long)]
    expect_loss: bool,
    /// Kill RabbitMQ instead
    #[arg(long, conflicts_with_all = ["lossy", "no_sync", "leveret"])]
    rabbitmq: bool,
    /// Use this leveret binary rather than building one
    #[arg(long, value_name = "PATH")]
    leveret: Option<PathBuf>,
}

/// What is known outside the broker.
struct Books {
    /// Whether the broker says of acknowledgements when they last, as RabbitMQ does not.
    settles: bool,
    ledger: Mutex<Ledger>,
    definitions: Mutex<Definitions>,
}

impl Books {
    fn new(settles: bool) -> Self {
        Self { settles, ledger: Mutex::default(), definitions: Mutex::new(Definitions::new()) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn definitions(&self) -> MutexGuard<'_, Definitions> {
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker said that it is there now, or that it is not.
    fn changed(&self, thing: &Thing, is_there: bool) {
        self.definitions().done(thing, is_there);
        self.ledger().counts.changes += 1;
        if let Thing::Queue(name) = thing
            && !is_there
        {
            self.ledger().all_gone(name);
        }
    }

    /// An answer came on the connection on which those were acknowledged before.
    fn settled(&self, queue: &str, acked: impl IntoIterator<Item = MessageId>) {
        if self.settles {
            acked.into_iter().for_each(|id| self.ledger().settled(queue, id));
        }
    }

    fn is_violated(&self) -> bool {
        !self.ledger().violations().is_empty()
    }
}

/// Runs the rounds; whether the outcome is the wanted one.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.lossy {
        LossyFolder::check_possible()?;
    }
    // RabbitMQ is no reason to build a leveret.
    let own = std::env::current_exe().context("this program is nowhere")?;
    let given = if options.rabbitmq { Some(own.as_path()) } else { options.leveret.as_deref() };
    let mut workplace = Workplace::set_up("crash", given)?;
    let seed = options.seed.unwrap_or_else(seed_of_now);
    println!("seed {seed}");
    let is_violated = {
        let lossy = match options.lossy {
            true => Some(LossyFolder::mount(&workplace.folder().join("lossy"), seed)?),
            false => None,
        };
        let broker = match options.rabbitmq {
            true => Broker::rabbitmq(&workplace)?,
            false => Broker::leveret(&workplace, lossy.as_ref(), options.no_sync)?,
        };
        let mut run = Run::new(&workplace, broker, Books::new(!options.rabbitmq), seed)?;
        let outcome = run.rounds(options.rounds);
        run.report();
        if let Some(lossy) = &lossy {
            print!("{}", lossy.counts());
        }
        let is_violated = run.books.is_violated();
        // A broker that lost things may well answer in ways that nobody expects.
        if !is_violated {
            outcome?;
        }
        is_violated
    };
    if is_violated && !options.expect_loss {
        println!("what the broker said is in {}", workplace.keep().display());
    }
    Ok(is_violated == options.expect_loss)
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

/// Who keeps the broker busy.
struct Clients {
    tasks: JoinSet<(String, Result<()>)>,
    running: BTreeSet<String>,
    is_killed: watch::Sender<bool>,
}

impl Clients {
    fn ended(
        &mut self,
        ended: std::result::Result<(String, Result<()>), JoinError>,
    ) -> Result<(String, Result<()>)> {
        let (name, outcome) = ended.context("a client panicked")?;
        self.running.remove(&name);
        Ok((name, outcome))
    }

    fn names(&self) -> Vec<&str> {
        self.running.iter().map(String::as_str).collect()
    }
}

struct Run<'a> {
    workplace: &'a Workplace,
    broker: Broker<'a>,
    books: Arc<Books>,
    random: Random,
    runtime: Runtime,
    rounds_done: u32,
    starts_killed: u32,
    longest_start: Duration,
}

impl<'a> Run<'a> {
    fn new(workplace: &'a Workplace, broker: Broker<'a>, books: Books, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (books, random) = (Arc::new(books), Random::new(seed));
        let (rounds_done, starts_killed, longest_start) = (0, 0, Duration::ZERO);
        Ok(Self { workplace, broker, books, random, runtime, rounds_done, starts_killed, longest_start })
    }

    fn rounds(&mut self, rounds: u32) -> Result<()> {
        self.start()?;
        self.runtime.block_on(check::set_up(&self.broker.url(), &self.books))?;
        for round in 0..rounds {
            self.workplace.supervisor.interrupt().check()?;
            self.load(round)?;
            self.killed_starts()?;
            self.start()?;
            self.rounds_done += 1;
            self.check(round, ACKED_PERCENT)?;
            if self.books.is_violated() {
                return Ok(());
            }
        }
        self.last(rounds)
    }

    /// All is acknowledged, and after an orderly stop nothing but that may be missing.
    fn last(&mut self, round: u32) -> Result<()> {
        for (times, acked_percent) in [(0, 0), (1, 100)] {
            self.broker.stop()?;
            self.start()?;
            self.check(round + times, acked_percent)?;
        }
        self.broker.stop()
    }

    fn start(&mut self) -> Result<()> {
        self.longest_start = self.broker.start()?.max(self.longest_start);
        Ok(())
    }

    /// Kills it while it makes of its files what it served before.
    fn killed_starts(&mut self) -> Result<()> {
        while self.broker.can_die_starting() && self.random.percent(KILLED_STARTS_PERCENT) {
            let micros = u64::try_from(self.longest_start.as_micros()).unwrap_or(u64::MAX);
            let after = Duration::from_micros(self.random.between(0, micros));
            self.broker.start_and_kill(after)?;
            self.starts_killed += 1;
        }
        Ok(())
    }

    fn check(&mut self, round: u32, acked_percent: u64) -> Result<()> {
        let random = self.random.fork();
        let mut check = Check::new(&self.books, publisher(round, CHECKER), random, acked_percent);
        self.runtime.block_on(check.run(&self.broker.url()))
    }

    /// Keeps the broker busy for a random time and kills it.
    fn load(&mut self, round: u32) -> Result<()> {
        let is_heavy = self.random.percent(HEAVY_PERCENT);
        let mut clients = self.clients(round, is_heavy);
        let millis_max = if is_heavy { HEAVY_LOAD_MILLIS_MAX } else { LOAD_MILLIS_MAX };
        let millis = self.random.between(0, millis_max);
        // The moment of the kill is what is drawn: nothing is waited for.
        std::thread::sleep(Duration::from_millis(millis));
        while let Some(ended) = clients.tasks.try_join_next() {
            if let (name, Err(error)) = clients.ended(ended)? {
                self.books.ledger().violation(format!("{name}: was not served any more: {error:#}"));
            }
        }
        self.broker.kill()?;
        clients.is_killed.send_replace(true);
        let ending = async {
            while let Some(ended) = clients.tasks.join_next().await {
                // Whoever was connecting when the broker went is not served any more.
                if let (name, Err(error)) = clients.ended(ended)?
                    && client::is_refusal(&error)
                {
                    self.books.ledger().violation(format!("{name}: was refused: {error:#}"));
                }
            }
            anyhow::Ok(())
        };
        let ended = self.runtime.block_on(async { tokio::time::timeout(CLIENT_TIME_MAX, ending).await });
        match ended {
            Ok(ended) => ended,
            Err(_) => {
                anyhow::bail!("clients go on although the broker is gone: {}", clients.names().join(", "))
            }
        }
    }

    fn clients(&mut self, round: u32, is_heavy: bool) -> Clients {
        let is_killed = watch::Sender::new(false);
        let broker = Address { url: self.broker.url(), is_killed: is_killed.subscribe() };
        let mut clients = Clients { tasks: JoinSet::new(), running: BTreeSet::new(), is_killed };
        let (handle, books) = (self.runtime.handle().clone(), &self.books);
        let mut start = |name: String, client: Pin<Box<dyn Future<Output = Result<()>> + Send>>| {
            clients.running.insert(name.clone());
            clients.tasks.spawn_on(async move { (name, client.await) }, &handle);
        };
        for number in 0..PUBLISHERS {
            let (publisher, random) = (publisher(round, number), self.random.fork());
            let client = load::publish(broker.clone(), Arc::clone(books), publisher, is_heavy, random);
            start(format!("publisher {number}"), Box::pin(client));
        }
        // One queue has none, and so it grows from round to round.
        for (number, (queue, _)) in (FIRST_CONSUMER..).zip(&STEADY[1..]) {
            let (publisher, random) = (publisher(round, number), self.random.fork());
            let client = consume::consume(broker.clone(), Arc::clone(books), queue, publisher, random);
            start(format!("consumer of {queue}"), Box::pin(client));
        }
        let (mover, random) = (publisher(round, MOVER), self.random.fork());
        let client = consume::transact(broker.clone(), Arc::clone(books), STEADY[1].0, mover, random);
        start("mover".to_owned(), Box::pin(client));
        let (changer, random) = (publisher(round, CHANGER), self.random.fork());
        start("changer".to_owned(), Box::pin(load::change(broker, Arc::clone(books), changer, random)));
        clients
    }

    fn report(&self) {
        let ledger = self.books.ledger();
        let counts = ledger.counts;
        println!(
            "{} kills under load and {} while it started; the longest start took {} ms",
            self.rounds_done,
            self.starts_killed,
            self.longest_start.as_millis()
        );
        println!(
            "{} messages sent, {} confirmed; {} deliveries, {} acknowledged, {} of them with an answer behind them; \
             {} commits; {} definitions changed",
            counts.sent,
            counts.confirmed,
            counts.delivered,
            counts.acked,
            counts.settled,
            counts.commits,
            counts.changes
        );
        println!(
            "after restarts {} messages were found that had to be there, and {} were not that did not have to",
            counts.survived, counts.forgotten
        );
        let violations = ledger.violations();
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for violation in violations {
            let of_queue = shown.entry(violation.split(':').next().unwrap_or_default()).or_default();
            *of_queue += 1;
            if *of_queue <= VIOLATIONS_SHOWN_MAX {
                println!("VIOLATION {violation}");
            }
        }
        println!("{} violations", violations.len());
    }
}

/// The number that a publisher of a round has, and none of another round.
const fn publisher(round: u32, number: u32) -> u32 {
    assert!(number < NUMBERS_A_ROUND);
    round * NUMBERS_A_ROUND + number
}
