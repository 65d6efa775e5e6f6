//! `cargo xtask compare`: how fast leveret is, with its peers on the same machine in the same run.
//!
//! Holds what can be chosen and the course of a run. Scenarios are data (`scenario`); each runs against the
//! brokers in turn, A B A B, and its medians are compared. Invariant: the exit code is 0 only if everything
//! that was measured and has a requirement fulfils it.

mod backlog;
mod durable;
mod fanout;
mod growth;
mod load;
mod nats;
mod paced;
mod relay;
mod report;
mod scenario;
mod topics;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::footprint::peer::{Kind, Peer};
use crate::interop::process::Supervisor;
use crate::workplace::Workplace;
use load::{Broker, Figures};
use scenario::{Measure, SCENARIOS, Scenario};

/// What to measure, against whom, how often
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only scenarios whose name has this in it; repeatable. The report is written when all are run
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Peers beside leveret
    #[arg(long, value_name = "PEER,...", value_delimiter = ',', default_value = "rabbitmq,nats,relay")]
    peers: Vec<PeerName>,
    /// Runs of each scenario and broker
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure this leveret binary rather than building one
    #[arg(long, value_name = "PATH")]
    leveret: Option<PathBuf>,
    /// Of the messages of the rows on durable queues, how many percent; below 100 no report is written
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    durable_percent: u32,
    /// Name the scenarios and end
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PeerName {
    Rabbitmq,
    Nats,
    Relay,
}

/// A scenario's runs: leveret's, RabbitMQ's, and what stands beside them.
struct Row {
    scenario: &'static Scenario,
    leveret: Vec<Figures>,
    rabbitmq: Vec<Figures>,
    nats: Vec<Figures>,
    /// Microseconds of the relay for a message.
    relay: Option<f64>,
    /// The relay's runs where latency is measured, in turn with the brokers'.
    relay_latency: Vec<Figures>,
}

impl Row {
    fn new(scenario: &'static Scenario, relay: Option<f64>) -> Self {
        let (leveret, rabbitmq, nats, relay_latency) = Default::default();
        Self { scenario, leveret, rabbitmq, nats, relay, relay_latency }
    }
}

/// All that a run of the comparison showed.
struct Comparison {
    names: Vec<String>,
    rows: Vec<Row>,
    growth: Vec<growth::Line>,
    durable: Vec<durable::Line>,
}

pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.list {
        SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        growth::NAMES.iter().chain(&durable::NAMES).for_each(|name| println!("{name}"));
        return Ok(true);
    }
    let place = Workplace::set_up("compare", options.leveret.as_deref())?;
    let lab = Lab { options, supervisor: &place.supervisor, binary: &place.binary, folder: place.folder() };
    let comparison = lab.measure()?;
    if comparison.rows.is_empty() && comparison.growth.is_empty() && comparison.durable.is_empty() {
        bail!("no scenario is called that; --list names them");
    }
    let holds = report::print(&comparison);
    let is_whole = options.only.is_empty() && options.durable_percent == 100;
    if is_whole && options.peers.contains(&PeerName::Rabbitmq) {
        report::write(&place.workspace.join("docs/performance.md"), &comparison, options.runs)?;
    }
    Ok(holds)
}

/// What every measurement needs.
struct Lab<'a> {
    options: &'a Options,
    supervisor: &'a Supervisor,
    binary: &'a Path,
    folder: &'a Path,
}

impl Lab<'_> {
    fn wants(&self, name: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|part| name.contains(part.as_str()))
    }

    fn has(&self, peer: PeerName) -> bool {
        self.options.peers.contains(&peer)
    }

    fn measure(&self) -> Result<Comparison> {
        let mut leveret = self.start(&Kind::Leveret(self.binary), "leveret")?;
        let mut rabbitmq = match self.has(PeerName::Rabbitmq) {
            true => Some(self.start(&Kind::StockRabbitMq, "rabbitmq")?),
            false => None,
        };
        let mut names = vec![leveret.name().to_owned()];
        names.extend(rabbitmq.as_ref().map(|broker| broker.name().to_owned()));
        let mut rows = Vec::new();
        for scenario in SCENARIOS.iter().filter(|scenario| self.wants(scenario.name)) {
            rows.push(self.row(scenario, &mut leveret, rabbitmq.as_mut())?);
        }
        if rows.iter().any(|row| !row.nats.is_empty()) {
            names.push(nats::version(self)?);
        }
        let growth = growth::measure(self, &mut leveret)?;
        rabbitmq.map_or(Ok(()), Broker::stop)?;
        leveret.stop()?;
        // With brokers of their own, so that no other one takes memory or disk beside them.
        let durable = durable::measure(self)?;
        Ok(Comparison { names, rows, growth, durable })
    }

    fn start(&self, kind: &Kind<'_>, name: &str) -> Result<Broker> {
        let peer = Peer::start(self.supervisor, kind, &self.folder.join(name))?;
        println!("{} on port {}", peer.name, peer.port);
        Broker::new(peer, matches!(kind, Kind::Leveret(_)))
    }

    /// A leveret that has not carried anything yet, so that no memory it had is used again.
    fn fresh(&self, name: &str) -> Result<Broker> {
        self.start(&Kind::Leveret(self.binary), name)
    }

    fn run_once(&self, scenario: &Scenario, broker: &Broker) -> Result<Figures> {
        if !matches!(scenario.measure, Measure::Idle) {
            return load::run(self, scenario, broker);
        }
        let fresh = match broker.is_leveret {
            true => self.fresh("leveret-idle")?,
            false => self.start(&Kind::StockRabbitMq, "rabbitmq-idle")?,
        };
        let figures = load::run(self, scenario, &fresh)?;
        fresh.stop()?;
        Ok(figures)
    }

    fn row(
        &self,
        scenario: &'static Scenario,
        leveret: &mut Broker,
        mut rabbitmq: Option<&mut Broker>,
    ) -> Result<Row> {
        let relay = match (self.has(PeerName::Relay), scenario.relay()) {
            (true, Some(shape)) => Some(relay::micros_each(shape)?),
            _ => None,
        };
        let mut row = Row::new(scenario, relay);
        for number in 0..self.options.runs {
            row.leveret.push(self.run_once(scenario, leveret)?);
            println!("{}", report::line("leveret", scenario, &row.leveret));
            // What takes RabbitMQ minutes is run once.
            if let Some(broker) = rabbitmq.as_deref_mut().filter(|_| number == 0 || !scenario.is_slow()) {
                row.rabbitmq.push(self.run_once(scenario, broker)?);
                println!("{}", report::line("rabbitmq", scenario, &row.rabbitmq));
            }
            if let (true, Measure::Flow { fan_out: Some(fan_out), .. }) =
                (self.has(PeerName::Nats), &scenario.measure)
            {
                row.nats.push(nats::run(self, fan_out)?);
                println!("{}", report::line("nats", scenario, &row.nats));
            }
            if let (true, Measure::Latency(pace)) = (self.has(PeerName::Relay), &scenario.measure) {
                row.relay_latency.push(paced::run(*pace)?);
                println!("{}", report::line("relay", scenario, &row.relay_latency));
            }
        }
        Ok(row)
    }
}
