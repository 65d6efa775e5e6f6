//! The client programs in other languages, and the libraries they need from their registries.
//!
//! Knows where the programs and their interpreters are, and the form of what they print; not what it must be.
//! Invariant: everything is installed below the target folder, and only when its list of requirements changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::apt;
use super::process::{Process, Program, Supervisor};

const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);

/// How long a message may take from one program to another.
pub(crate) const ARRIVAL_TIME_MAX: Duration = Duration::from_secs(30);

/// A language that a client program is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    JavaScript,
}

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Python => "py",
            Self::JavaScript => "js",
        }
    }
}

/// The interpreters, with pika and amqplib installed for them.
pub(crate) struct Clients {
    sources: PathBuf,
    python: PathBuf,
    node: PathBuf,
    node_modules: PathBuf,
}

impl Clients {
    /// Installs what is not installed yet, below `folder`; the programs are in `sources`.
    pub(crate) fn set_up(supervisor: &Supervisor, sources: &Path, folder: &Path) -> Result<Self> {
        let python = set_up_python(supervisor, &sources.join("python"), &folder.join("venv"))?;
        let modules = folder.join("javascript");
        let node = set_up_javascript(supervisor, &sources.join("javascript"), &modules)?;
        Ok(Self { sources: sources.to_owned(), python, node, node_modules: modules.join("node_modules") })
    }

    /// The client program `name` in `language`, that connects to `url`.
    pub(crate) fn program(&self, language: Language, name: &str, url: &str) -> Program {
        let interpreter = match language {
            Language::Python => &self.python,
            Language::JavaScript => &self.node,
        };
        let source = self.sources.join(language.name()).join(name).with_extension(language.extension());
        Program::new(format!("{name}.{}", language.extension()), interpreter)
            .args([source])
            .env("AMQP_URL", url)
            .env("NODE_PATH", &self.node_modules)
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }
}

fn set_up_python(supervisor: &Supervisor, sources: &Path, venv: &Path) -> Result<PathBuf> {
    let requirements = sources.join("requirements.txt");
    let python = venv.join("bin/python");
    let stamp = Stamp::new(&[&requirements], venv)?;
    if stamp.is_current() {
        return Ok(python);
    }
    println!("setting up Python's client library in {}", venv.display());
    let system_python = apt::need(supervisor, "python3", &["python3", "python3-venv"], venv)?;
    make_venv(supervisor, &system_python, venv)?;
    let pip = Program::new("pip", &python).args(["-m", "pip", "install", "--quiet", "--requirement"]);
    supervisor.run(pip.args([requirements]), venv, INSTALL_TIME_MAX)?;
    stamp.set()?;
    Ok(python)
}

/// Debian splits the parts that a virtual environment needs into a package of their own.
pub(crate) fn make_venv(supervisor: &Supervisor, python: &Path, venv: &Path) -> Result<()> {
    let command = || Program::new("venv", python).args(["-m", "venv", "--clear"]).args([venv]);
    let logs = venv.with_extension("log");
    if supervisor.run(command(), &logs, INSTALL_TIME_MAX).is_ok() {
        return Ok(());
    }
    apt::install(supervisor, &["python3-venv"], &logs)
        .context("python3 cannot make a virtual environment")?;
    supervisor.run(command(), &logs, INSTALL_TIME_MAX).map(drop)
}

fn set_up_javascript(supervisor: &Supervisor, sources: &Path, folder: &Path) -> Result<PathBuf> {
    let logs = folder.with_extension("log");
    let node = apt::need(supervisor, "node", &["nodejs", "npm"], &logs)?;
    let lists = [sources.join("package.json"), sources.join("package-lock.json")];
    let stamp = Stamp::new(&[&lists[0], &lists[1]], folder)?;
    if stamp.is_current() {
        return Ok(node);
    }
    println!("setting up JavaScript's client library in {}", folder.display());
    let npm = apt::need(supervisor, "npm", &["npm"], &logs)?;
    fs::create_dir_all(folder)?;
    for list in &lists {
        let name = list.file_name().expect("a list of packages has a file name");
        fs::copy(list, folder.join(name)).with_context(|| format!("cannot copy {}", list.display()))?;
    }
    let install = Program::new("npm", npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(folder);
    supervisor.run(install, &logs, INSTALL_TIME_MAX)?;
    stamp.set()?;
    Ok(node)
}

/// Remembers which lists of requirements an installation was made from.
pub(crate) struct Stamp {
    file: PathBuf,
    wanted: String,
}

impl Stamp {
    pub(crate) fn new(lists: &[&Path], installed: &Path) -> Result<Self> {
        let read = |list: &&Path| {
            fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))
        };
        let wanted = lists.iter().map(read).collect::<Result<String>>()?;
        Ok(Self::of(wanted, installed))
    }

    /// For what was made from something else than lists in files.
    pub(crate) fn of(wanted: String, installed: &Path) -> Self {
        Self { file: installed.join("installed-from"), wanted }
    }

    pub(crate) fn is_current(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|found| found == self.wanted)
    }

    pub(crate) fn set(&self) -> Result<()> {
        fs::write(&self.file, &self.wanted).context("cannot note what was installed")
    }
}

/// Says when a consumer has its queue and is consuming from it.
pub(crate) fn await_ready(consumer: &mut Process) -> Result<()> {
    const START_TIME_MAX: Duration = Duration::from_secs(30);
    consumer.line("its ready line", START_TIME_MAX, |line| line.starts_with("ready")).map(drop)
}

/// Waits for the last of `expected`, then compares all that came.
pub(crate) fn expect(receiver: &mut Process, expected: &[&str]) -> Result<()> {
    let last = expected.last().expect("something is expected");
    receiver
        .line(&format!("{last:?}"), ARRIVAL_TIME_MAX, |line| line.strip_prefix("received ") == Some(last))?;
    let received = received(receiver);
    ensure!(received == expected, "{} received {received:?}, not {expected:?}", receiver.name());
    Ok(())
}

/// The messages that a subscriber has printed.
pub(crate) fn received(receiver: &Process) -> Vec<String> {
    let lines = receiver.stdout.all();
    lines.iter().filter_map(|line| line.strip_prefix("received ")).map(str::to_owned).collect()
}
