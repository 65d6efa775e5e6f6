//! A broker that was just started: leveret or RabbitMQ, on a loopback port and with a folder of its own.
//!
//! Knows how each is started and stopped; not what is measured.
//! Invariant: the time to start counts from before the process is made until a client's `connection.open-ok`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use super::client::Client;
use crate::interop::ports;
use crate::interop::process::{Process, Program, Supervisor};
use crate::interop::rabbitmq::Cluster;

const START_TIME_MAX: Duration = Duration::from_secs(120);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// Between two tries to connect; short against what is measured.
const CONNECT_AGAIN: Duration = Duration::from_micros(200);

/// Which broker, and how to start it.
pub(crate) enum Kind<'a> {
    /// The command at this path.
    Leveret(&'a Path),
    RabbitMq,
    /// RabbitMQ as it is configured when it is installed: its schedulers spin for a while before they sleep.
    StockRabbitMq,
}

impl Kind<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Leveret(_) => "leveret",
            Self::RabbitMq | Self::StockRabbitMq => "rabbitmq",
        }
    }
}

enum Running {
    Leveret { process: Process, binary: PathBuf, folder: PathBuf },
    RabbitMq(Cluster),
}

/// How a broker ends before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As an operator stops it.
    Orderly,
    /// By SIGKILL.
    Killed,
}

/// A broker that takes clients.
pub(crate) struct Peer {
    running: Running,
    pub(crate) port: u16,
    pub(crate) pid: Pid,
    /// From the start of the process until a client was served.
    pub(crate) start_up: Duration,
    /// Product and version.
    pub(crate) name: String,
}

impl Peer {
    pub(crate) fn start(supervisor: &Supervisor, kind: &Kind<'_>, folder: &Path) -> Result<Self> {
        let (mut running, port, started) = match kind {
            Kind::Leveret(binary) => {
                let [port] = ports::free()?;
                let started = Instant::now();
                let process = leveret(supervisor, binary, port, folder)?;
                let (binary, folder) = (binary.to_path_buf(), folder.to_owned());
                (Running::Leveret { process, binary, folder }, port, started)
            }
            Kind::RabbitMq | Kind::StockRabbitMq => {
                let mut cluster = Cluster::prepare(supervisor, &["alone"], folder)?;
                if matches!(kind, Kind::StockRabbitMq) {
                    cluster.spin();
                }
                let (port, started) = (cluster.nodes[0].port(), Instant::now());
                cluster.nodes[0].boot(supervisor)?;
                (Running::RabbitMq(cluster), port, started)
            }
        };
        let client = running.connect(supervisor, port)?;
        let start_up = started.elapsed();
        let name = client.server().to_owned();
        client.close()?;
        let pid = running.process()?.pid();
        Ok(Self { running, port, pid, start_up, name })
    }

    /// Stops it as an operator does.
    pub(crate) fn stop(self) -> Result<()> {
        match self.running {
            Running::RabbitMq(cluster) => cluster.stop(),
            Running::Leveret { mut process, .. } => stop_leveret(&mut process),
        }
    }

    /// Ends it and starts it again, with the same port and data; `start_up` and `pid` are then those of the new
    /// process.
    pub(crate) fn restart(&mut self, supervisor: &Supervisor, ending: Ending) -> Result<()> {
        let started = match &mut self.running {
            Running::Leveret { process, binary, folder } => {
                match ending {
                    Ending::Orderly => stop_leveret(process)?,
                    Ending::Killed => process.kill()?,
                }
                let started = Instant::now();
                *process = leveret(supervisor, binary, self.port, folder)?;
                started
            }
            Running::RabbitMq(cluster) => {
                let node = &mut cluster.nodes[0];
                match ending {
                    Ending::Orderly => node.stop()?,
                    Ending::Killed => node.kill()?,
                }
                let started = Instant::now();
                node.boot(supervisor)?;
                started
            }
        };
        let client = self.running.connect(supervisor, self.port)?;
        self.start_up = started.elapsed();
        client.close()?;
        self.pid = self.running.process()?.pid();
        Ok(())
    }

    /// Lets time pass; an error if the broker ends meanwhile.
    pub(crate) fn rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        let process = self.running.process()?;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            process.rest(left)?;
            if let Some(status) = process.has_ended()? {
                bail!("{} ended with {status}{}", process.name(), process.last_words());
            }
        }
        Ok(())
    }
}

fn stop_leveret(process: &mut Process) -> Result<()> {
    process.signal(Signal::TERM)?;
    process.succeed(STOP_TIME_MAX).context("leveret serve does not stop")
}

fn leveret(supervisor: &Supervisor, binary: &Path, port: u16, folder: &Path) -> Result<Process> {
    let listen = format!("127.0.0.1:{port}");
    let data = folder.join(format!("data-{port}"));
    let program = Program::new("leveret-serve", binary).args(["serve", "--listen", &listen, "--data"]);
    let program = program.args([&data]);
    supervisor.spawn(program, folder)
}

impl Running {
    fn process(&mut self) -> Result<&mut Process> {
        match self {
            Self::Leveret { process, .. } => Ok(process),
            Self::RabbitMq(cluster) => cluster.nodes[0].process(),
        }
    }

    /// Tries until a client is served.
    fn connect(&mut self, supervisor: &Supervisor, port: u16) -> Result<Client> {
        let deadline = Instant::now() + START_TIME_MAX;
        let process = self.process()?;
        loop {
            let error = match Client::open(port) {
                Ok(client) => return Ok(client),
                Err(error) => error,
            };
            supervisor.interrupt().check()?;
            if let Some(status) = process.has_ended()? {
                bail!("{} ended with {status}{}", process.name(), process.last_words());
            }
            if Instant::now() >= deadline {
                return Err(error).with_context(|| format!("{} takes no client", process.name()));
            }
            thread::sleep(CONNECT_AGAIN);
        }
    }
}
