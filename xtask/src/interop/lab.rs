//! What the cases of one run share: the brokers, the client programs, the built command, and a folder.
//!
//! Starts each of these when the first case asks for it; knows nothing of what a case checks.
//! Invariant: brokers and clients are dropped before the supervisor, which ends what is left of them.

use std::cell::{OnceCell, RefCell, RefMut};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::Against;
use super::clients::{self, Clients, Language};
use super::process::{Interrupt, Process, Program, Supervisor};
use super::rabbitmq::Cluster;
use super::{leveret, ports};

/// How long a client program that ends by itself may take.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(60);

/// Everything that outlives a case.
pub(crate) struct Lab {
    leveret: RefCell<Option<leveret::Server>>,
    rabbitmq: RefCell<Option<Cluster>>,
    rabbitmq_cluster: RefCell<Option<Cluster>>,
    clients: Once<Clients>,
    leveret_binary: Once<PathBuf>,
    workspace: PathBuf,
    target: PathBuf,
    folder: tempfile::TempDir,
    supervisor: Supervisor,
}

impl Lab {
    /// A lab with nothing running yet; `leveret_binary` spares the build.
    pub(crate) fn open(leveret_binary: Option<PathBuf>) -> Result<Self> {
        let supervisor = Supervisor::start()?;
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in no workspace")?;
        let target = workspace.join("target/interop");
        fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&target)?;
        let given = leveret_binary.map(|path| path.canonicalize().context("no such leveret binary"));
        Ok(Self {
            leveret: RefCell::default(),
            rabbitmq: RefCell::default(),
            rabbitmq_cluster: RefCell::default(),
            clients: OnceCell::new(),
            leveret_binary: given.transpose()?.map_or_else(OnceCell::new, |path| OnceCell::from(Ok(path))),
            workspace: workspace.to_owned(),
            target,
            folder,
            supervisor,
        })
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        self.supervisor.interrupt()
    }

    /// Stops the brokers; the folder with everybody's output stays only if `keep`.
    pub(crate) fn close(mut self, keep: bool) -> Result<()> {
        if let Some(server) = self.leveret.take() {
            server.stop()?;
        }
        for cluster in [self.rabbitmq.take(), self.rabbitmq_cluster.take()].into_iter().flatten() {
            cluster.stop()?;
        }
        self.folder.disable_cleanup(keep);
        if keep {
            println!("what every process said is in {}", self.folder.path().display());
        }
        Ok(())
    }

    /// The stage for one case.
    pub(crate) fn scene(&self, against: Against, name: &str) -> Result<Scene<'_>> {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Scene { lab: self, against, folder })
    }

    fn clients(&self) -> Result<&Clients> {
        once(&self.clients, || {
            Clients::set_up(&self.supervisor, &self.workspace.join("tests/interop"), &self.target)
        })
    }

    fn leveret_binary(&self) -> Result<&PathBuf> {
        once(&self.leveret_binary, || leveret::build(&self.supervisor, &self.workspace, self.folder.path()))
    }

    fn leveret_url(&self) -> Result<String> {
        let mut shared = self.leveret.borrow_mut();
        if !shared.as_mut().is_some_and(leveret::Server::is_running) {
            let [port] = ports::free()?;
            let folder = self.folder.path().join("leveret");
            *shared = Some(leveret::Server::start(&self.supervisor, self.leveret_binary()?, port, &folder)?);
        }
        Ok(shared.as_ref().expect("it was just started").url())
    }

    fn rabbitmq_url(&self) -> Result<String> {
        let mut shared = self.rabbitmq.borrow_mut();
        if !shared.as_mut().is_some_and(|cluster| cluster.nodes[0].is_running()) {
            let folder = self.folder.path().join("rabbitmq");
            *shared = Some(Cluster::start(&self.supervisor, &["alone"], &folder)?);
        }
        Ok(shared.as_ref().expect("it was just started").nodes[0].url())
    }

    fn three_nodes(&self) -> Result<RefMut<'_, Cluster>> {
        let mut shared = self.rabbitmq_cluster.borrow_mut();
        match shared.as_mut() {
            Some(cluster) => cluster.heal(&self.supervisor)?,
            None => {
                let folder = self.folder.path().join("cluster");
                *shared = Some(Cluster::start(&self.supervisor, &["one", "two", "three"], &folder)?);
            }
        }
        Ok(RefMut::map(shared, |cluster| cluster.as_mut().expect("it was just started")))
    }
}

/// What is made once, or the reason why it could not be made.
type Once<T> = OnceCell<Result<T, String>>;

/// The value in `cell`, made if nobody has tried yet. A failure is not tried again, only told again.
fn once<T>(cell: &Once<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    let made = cell.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(|reason| anyhow!("{reason}"))
}

/// What one case works with.
pub(crate) struct Scene<'a> {
    lab: &'a Lab,
    pub(crate) against: Against,
    pub(crate) folder: PathBuf,
}

impl Scene<'_> {
    /// The URL of the shared broker of this kind, started if need be.
    pub(crate) fn url(&self) -> Result<String> {
        match self.against {
            Against::Leveret => self.lab.leveret_url(),
            Against::RabbitMq => self.lab.rabbitmq_url(),
        }
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.lab.supervisor
    }

    /// Where the committed programs and lists are.
    pub(crate) fn sources(&self) -> PathBuf {
        self.lab.workspace.join("tests/interop")
    }

    /// Where what takes long to set up is kept between runs.
    pub(crate) fn target(&self) -> &Path {
        &self.lab.target
    }

    /// The client program `name` in `language`, for the shared broker.
    pub(crate) fn client(&self, language: Language, name: &str) -> Result<Program> {
        Ok(self.lab.clients()?.program(language, name, &self.url()?))
    }

    /// The leveret command.
    pub(crate) fn leveret(&self, name: &str) -> Result<Program> {
        Ok(Program::new(name, self.lab.leveret_binary()?))
    }

    pub(crate) fn leveret_binary(&self) -> Result<&Path> {
        self.lab.leveret_binary().map(PathBuf::as_path)
    }

    /// Three RabbitMQ nodes in one cluster, all of them running.
    pub(crate) fn cluster(&self) -> Result<RefMut<'_, Cluster>> {
        self.lab.three_nodes()
    }

    pub(crate) fn spawn(&self, program: Program) -> Result<Process> {
        self.lab.supervisor.spawn(program, &self.folder)
    }

    /// Runs a client program that ends by itself, and gives what it printed.
    pub(crate) fn run(&self, program: Program) -> Result<Vec<String>> {
        self.lab.supervisor.run(program, &self.folder, CLIENT_TIME_MAX)
    }

    /// Starts a consumer and waits until it consumes.
    pub(crate) fn consumer(&self, program: Program) -> Result<Process> {
        let mut consumer = self.spawn(program)?;
        clients::await_ready(&mut consumer)?;
        Ok(consumer)
    }
}
