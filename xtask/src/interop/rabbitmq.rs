//! Private RabbitMQ nodes on loopback, alone or as a cluster, with their own ports, data, cookie and epmd.
//!
//! Knows how RabbitMQ is configured and stopped; not what is tested against it.
//! Invariant: nothing of a node is shared with an installed RabbitMQ service, nor reachable from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::apt;
use super::ports;
use super::process::{Process, Program, Supervisor};

const BOOT_TIME_MAX: Duration = Duration::from_secs(120);
const STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// Debian's wrapper in /usr/sbin changes to the service's user and home; these scripts do not.
const DEBIAN_SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// One or more nodes that form one broker, and the epmd by which they find each other.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    _epmd: Process,
}

impl Cluster {
    /// Starts nodes called `names`; all but the first join it.
    pub(crate) fn start(supervisor: &Supervisor, names: &[&str], folder: &Path) -> Result<Self> {
        let mut cluster = Self::prepare(supervisor, names, folder)?;
        cluster.nodes[0].boot(supervisor)?;
        cluster.nodes[0].await_listening()?;
        cluster.heal(supervisor)?;
        Ok(cluster)
    }

    /// Makes everything ready for nodes called `names`, and starts none.
    pub(crate) fn prepare(supervisor: &Supervisor, names: &[&str], folder: &Path) -> Result<Self> {
        let scripts = scripts(supervisor, folder)?;
        let [epmd_port] = ports::free()?;
        let epmd = start_epmd(supervisor, epmd_port, folder)?;
        let make = |name: &&str| Node::prepare(name, names, &scripts, epmd_port, &folder.join(name));
        let nodes = names.iter().map(make).collect::<Result<Vec<_>>>()?;
        Ok(Self { nodes, _epmd: epmd })
    }

    /// Leaves the schedulers of the nodes that are yet to start as they are by default.
    pub(crate) fn spin(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.spins = true);
    }

    /// Starts the nodes that do not run, and waits until all are members.
    pub(crate) fn heal(&mut self, supervisor: &Supervisor) -> Result<()> {
        let (mut away, running): (Vec<_>, Vec<_>) =
            self.nodes.iter_mut().partition(|node| node.process.is_none());
        drop(running);
        away.iter_mut().try_for_each(|node| node.boot(supervisor))?;
        away.iter_mut().try_for_each(|node| node.await_listening())?;
        self.nodes[0].await_members(supervisor, self.nodes.len())
    }

    /// Stops the nodes that run; the last to go is one that all others still see.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.nodes.iter_mut().rev().filter(|node| node.process.is_some()).try_for_each(Node::stop)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }
}

fn scripts(supervisor: &Supervisor, folder: &Path) -> Result<PathBuf> {
    let found = apt::need(supervisor, "rabbitmq-server", &["rabbitmq-server"], folder)?;
    let debian = PathBuf::from(DEBIAN_SCRIPTS);
    if debian.join("rabbitmq-server").exists() {
        return Ok(debian);
    }
    Ok(found.parent().context("rabbitmq-server is in no folder")?.to_owned())
}

fn start_epmd(supervisor: &Supervisor, port: u16, folder: &Path) -> Result<Process> {
    let port = port.to_string();
    let program = Program::new("epmd", "epmd").args(["-address", "127.0.0.1", "-port", &port]);
    supervisor.spawn(program, folder)
}

/// One RabbitMQ node.
pub(crate) struct Node {
    name: String,
    folder: PathBuf,
    scripts: PathBuf,
    epmd_port: u16,
    dist_port: u16,
    port: u16,
    /// Whether schedulers spin before they sleep, as they do by default.
    spins: bool,
    process: Option<Process>,
}

impl Node {
    fn prepare(name: &str, all: &[&str], scripts: &Path, epmd_port: u16, folder: &Path) -> Result<Self> {
        let [port, dist_port] = ports::free()?;
        let node = Self {
            name: format!("{name}@localhost"),
            folder: folder.to_owned(),
            scripts: scripts.to_owned(),
            epmd_port,
            dist_port,
            port,
            spins: false,
            process: None,
        };
        node.write_files(all)?;
        Ok(node)
    }

    fn write_files(&self, all: &[&str]) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let write = |name: &str, text: &str| {
            let path = self.folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("rabbitmq.conf", &configuration(self.port, all))?;
        write("rabbitmq-env.conf", "")?;
        write("enabled_plugins", "[].\n")?;
        write(".erlang.cookie", "INTEROPONLYONLOOPBACK")?;
        // Erlang refuses a cookie that others may read.
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        fs::set_permissions(self.folder.join(".erlang.cookie"), owner_only)?;
        Ok(())
    }

    /// The URL that clients use.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the node and does not wait until it listens.
    pub(crate) fn boot(&mut self, supervisor: &Supervisor) -> Result<()> {
        let server = self.script("rabbitmq-server");
        self.process = Some(supervisor.spawn(server, &self.folder)?);
        Ok(())
    }

    fn await_listening(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("the node was not started")?;
        ports::await_broker(process, self.port, BOOT_TIME_MAX)
            .with_context(|| format!("RabbitMQ node {} does not start", self.name))
    }

    fn await_members(&self, supervisor: &Supervisor, count: usize) -> Result<()> {
        let count = count.to_string();
        let control = self.script("rabbitmqctl");
        let wait = control.args(["--node", &self.name, "await_online_nodes", &count, "--timeout", "60"]);
        supervisor
            .run(wait, &self.folder, BOOT_TIME_MAX)
            .context("the nodes did not form a cluster")
            .map(drop)
    }

    fn script(&self, script: &str) -> Program {
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
        // Schedulers that spin while idle would take the cores from what is tested.
        let quiet = if self.spins { "" } else { "+sbwt none +sbwtdcpu none +sbwtdio none" };
        Program::new(script, self.scripts.join(script))
            .env("HOME", &self.folder)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("data"))
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_PID_FILE", self.folder.join("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("rabbitmq-env.conf"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("enabled_plugins"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("{loopback} {quiet}"))
            .env("RABBITMQ_CTL_ERL_ARGS", loopback)
    }

    /// The node's process, once it was started.
    pub(crate) fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the node was not started")
    }

    /// Whether the node's process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.has_ended(), Ok(None)))
    }

    /// Stops the node as an operator does: its connections are closed with 320.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node was not started")?;
        process.signal(Signal::TERM)?;
        process.succeed(STOP_TIME_MAX).with_context(|| format!("RabbitMQ node {} does not stop", self.name))
    }

    /// Ends the node as a crash does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("the node was not started") };
        process.kill()
    }
}

fn configuration(port: u16, all: &[&str]) -> String {
    let mut text = format!("listeners.tcp.1 = 127.0.0.1:{port}\n");
    text += "cluster_formation.peer_discovery_backend = classic_config\n";
    for (index, name) in all.iter().enumerate() {
        text += &format!("cluster_formation.classic_config.nodes.{} = {name}@localhost\n", index + 1);
    }
    text
}
