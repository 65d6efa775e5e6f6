//! The broker that is killed and started again, always on the same port and folder.
//!
//! Knows how each kind of broker is started; not what it must have kept. Invariant: when a kill returns no
//! process of the broker's is left, and with a lossy folder what was not synced is decided.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::lossy::LossyFolder;
use crate::{
    interop::{
        ports,
        process::{Process, Program},
        rabbitmq::Cluster,
    },
    workplace::Workplace,
};

const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) enum Broker<'a> {
    Leveret(Leveret<'a>),
    RabbitMq { cluster: Cluster, workplace: &'a Workplace },
}

pub(super) struct Leveret<'a> {
    workplace: &'a Workplace,
    /// Before the folder, so that it is gone when that is unmounted.
    process: Option<Process>,
    lossy: Option<&'a LossyFolder>,
    data: PathBuf,
    port: u16,
    no_sync: bool,
}

impl<'a> Broker<'a> {
    /// Leveret, not started yet.
    pub(super) fn leveret(
        workplace: &'a Workplace,
        lossy: Option<&'a LossyFolder>,
        no_sync: bool,
    ) -> Result<Self> {
        let [port] = ports::free()?;
        let data = lossy.map_or_else(|| workplace.folder().join("data"), |folder| folder.path().to_owned());
        Ok(Self::Leveret(Leveret { workplace, process: None, lossy, data, port, no_sync }))
    }

    /// RabbitMQ, not started yet.
    pub(super) fn rabbitmq(workplace: &'a Workplace) -> Result<Self> {
        let cluster = Cluster::prepare(&workplace.supervisor, &["killed"], workplace.folder())?;
        Ok(Self::RabbitMq { cluster, workplace })
    }

    /// Starts it, and gives how long it took to answer.
    pub(super) fn start(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        match self {
            Self::Leveret(leveret) => leveret.start()?,
            Self::RabbitMq { cluster, workplace } => cluster.heal(&workplace.supervisor)?,
        }
        Ok(begun.elapsed())
    }

    /// Whether it is a single process that can be killed before it answers.
    pub(super) const fn can_die_starting(&self) -> bool {
        matches!(self, Self::Leveret(_))
    }

    /// Starts it, and ends it as a crash does after that time, whether it serves by then or not.
    pub(super) fn start_and_kill(&mut self, after: Duration) -> Result<()> {
        match self {
            Self::Leveret(leveret) => {
                leveret.process = Some(leveret.spawn()?);
                std::thread::sleep(after);
                leveret.kill()
            }
            Self::RabbitMq { .. } => bail!("its start is not a single process"),
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Leveret(leveret) => format!("amqp://guest:guest@127.0.0.1:{}/%2f", leveret.port),
            Self::RabbitMq { cluster, .. } => cluster.nodes[0].url(),
        }
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) -> Result<()> {
        match self {
            Self::Leveret(leveret) => leveret.kill(),
            Self::RabbitMq { cluster, .. } => cluster.nodes[0].kill(),
        }
    }

    /// Stops it as an operator does.
    pub(super) fn stop(&mut self) -> Result<()> {
        match self {
            Self::Leveret(leveret) => leveret.stop(),
            Self::RabbitMq { cluster, .. } => cluster.nodes[0].stop(),
        }
    }
}

impl Leveret<'_> {
    fn spawn(&self) -> Result<Process> {
        let listen = format!("127.0.0.1:{}", self.port);
        let program = Program::new("leveret-serve", &self.workplace.binary);
        let program = program.args(["serve", "--listen", &listen, "--data"]).args([&self.data]);
        let program = program.args(self.no_sync.then_some("--no-sync"));
        self.workplace.supervisor.spawn(program, self.workplace.folder())
    }

    fn start(&mut self) -> Result<()> {
        let mut process = self.spawn()?;
        ports::await_broker(&mut process, self.port, START_TIME_MAX)
            .context("leveret serve does not start")?;
        self.process = Some(process);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        if let Some(lossy) = self.lossy {
            lossy.power_off();
        }
        process.kill()?;
        if let Some(lossy) = self.lossy {
            lossy.power_cut();
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("it does not run")?;
        process.signal(Signal::TERM)?;
        process.succeed(STOP_TIME_MAX).context("leveret serve does not stop")
    }
}
