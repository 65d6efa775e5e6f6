//! Child processes that cannot outlive the run.
//!
//! Holds how a child is started, watched and ended; knows nothing of brokers or clients.
//! Invariant: every process that the run starts, directly or not, is gone when the `Supervisor` is dropped.
//! Each child leads a process group that dies with its handle, and orphans that left their group (a daemon,
//! an Erlang port program) come back to us as the subreaper and are ended last.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::lines::Lines;

/// How often a wait looks up to see whether the run was interrupted.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How long what an ended child wrote may take to be read; a grandchild may hold the pipe open for ever.
const OUTPUT_AFTER_EXIT_MAX: Duration = Duration::from_secs(2);

/// Set by Ctrl-C and SIGTERM; every wait asks it, so that the run unwinds and takes its children along.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    fn install() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
        {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot watch for signals")?;
        }
        Ok(Self(flag))
    }

    /// An error once the run was interrupted.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_set() { Err(anyhow::anyhow!("interrupted")) } else { Ok(()) }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The parent of everything that the run starts.
pub(crate) struct Supervisor {
    interrupt: Interrupt,
    started_count: AtomicUsize,
}

impl Supervisor {
    /// Makes this process the one that orphaned descendants fall to, and listens for Ctrl-C.
    pub(crate) fn start() -> Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("cannot become the reaper of orphaned processes")?;
        Ok(Self { interrupt: Interrupt::install()?, started_count: AtomicUsize::new(0) })
    }

    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Starts `program`; its output is kept in `folder` as `NUMBER-NAME.stdout` and `.stderr`.
    pub(crate) fn spawn(&self, program: Program, folder: &Path) -> Result<Process> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let number = self.started_count.fetch_add(1, Ordering::Relaxed);
        let output = folder.join(format!("{number:03}-{}", program.name));
        Process::start(program, &output, self.interrupt.clone())
    }

    /// Runs `program` to its end and gives its standard output; anything but success is an error.
    pub(crate) fn run(&self, program: Program, folder: &Path, limit: Duration) -> Result<Vec<String>> {
        self.interrupt.check()?;
        let mut process = self.spawn(program, folder)?;
        process.succeed(limit)?;
        Ok(process.stdout.all())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Killing a process hands its children to us, so this takes one round for each generation.
        while let Some(orphan) = children_of_this_process().first().copied() {
            let _ = rustix::process::kill_process(orphan, Signal::KILL);
            let _ = rustix::process::waitpid(Some(orphan), WaitOptions::empty());
        }
    }
}

/// What `/proc` lists as children of this process, zombies included.
fn children_of_this_process() -> Vec<Pid> {
    let parent = rustix::process::getpid();
    let Ok(folders) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = folders.flatten().filter_map(|folder| folder.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).filter_map(Pid::from_raw).collect()
}

fn parent_of(pid: i32) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    Pid::from_raw(after_name.split_whitespace().nth(1)?.parse().ok()?)
}

/// Where a child reads from.
pub(crate) enum Input {
    Nothing,
    File(PathBuf),
    Pipe,
}

/// Where a child's standard output goes.
pub(crate) enum Output {
    /// Read line by line, kept, and copied to a file in the run's folder.
    Lines,
    /// Written by the child itself, for what is too much to keep.
    File(PathBuf),
}

/// A command together with its name in messages and its streams.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) command: Command,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

impl Program {
    pub(crate) fn new(name: impl Into<String>, executable: impl AsRef<Path>) -> Self {
        let mut command = Command::new(executable.as_ref());
        for (key, _) in std::env::vars_os().filter(|(key, _)| configures_a_broker(key)) {
            command.env_remove(key);
        }
        Self { name: name.into(), command, input: Input::Nothing, output: Output::Lines }
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    pub(crate) fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }
}

/// Settings of whoever runs this must not reach what is tested.
fn configures_a_broker(key: &OsStr) -> bool {
    let key = key.to_string_lossy();
    key == "AMQP_URL"
        || key == "RUST_LOG"
        || ["RABBITMQ_", "ERL_", "LEVERET_"].iter().any(|prefix| key.starts_with(prefix))
}

/// A running child. Dropping it kills its process group.
pub(crate) struct Process {
    name: String,
    child: Child,
    exit: OwnedFd,
    interrupt: Interrupt,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    fn start(program: Program, copy: &Path, interrupt: Interrupt) -> Result<Self> {
        let Program { name, mut command, input, output } = program;
        command.process_group(0).stderr(Stdio::piped());
        command.stdin(stdin_of(input)?).stdout(stdout_of(&output)?);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_child(&child);
        let exit = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a child")?;
        let stdout = match child.stdout.take() {
            Some(stream) => Lines::follow(stream, &copy.with_added_extension("stdout"))?,
            None => Lines::none(),
        };
        let stream = child.stderr.take().expect("standard error was asked for as a pipe");
        let stderr = Lines::follow(stream, &copy.with_added_extension("stderr"))?;
        let stdin = child.stdin.take();
        Ok(Self { name, child, exit, interrupt, stdin, stdout, stderr })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until a line of standard output fulfils `wanted`, and gives that line.
    pub(crate) fn line(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let found = self.stdout.wait(limit, &self.interrupt, wanted)?;
        found.map_or_else(|| Err(self.missing(what)), Ok)
    }

    /// Waits until a line of standard error fulfils `wanted`, and gives that line.
    pub(crate) fn status_line(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let found = self.stderr.wait(limit, &self.interrupt, wanted)?;
        found.map_or_else(|| Err(self.missing(what)), Ok)
    }

    fn missing(&mut self, what: &str) -> anyhow::Error {
        // A child that has closed its streams is about to end.
        let _ = self.await_exit(TICK);
        let state = match self.child.try_wait() {
            Ok(Some(status)) => format!("it ended with {status}"),
            _ => "it still runs".to_owned(),
        };
        anyhow::anyhow!("{}: no sign of {what}; {state}{}", self.name, self.last_words())
    }

    /// Whether the child has ended, without waiting.
    pub(crate) fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask after {}", self.name))
    }

    /// Waits until the child has ended and all it wrote was read.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.stdin = None;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.has_ended()? {
                self.stdout.wait_closed(OUTPUT_AFTER_EXIT_MAX);
                self.stderr.wait_closed(OUTPUT_AFTER_EXIT_MAX);
                return Ok(status);
            }
            self.interrupt.check()?;
            if Instant::now() >= deadline {
                bail!("{} still runs after {} s{}", self.name, limit.as_secs(), self.last_words());
            }
            self.await_exit(TICK)?;
        }
    }

    /// Waits for the child's end, which must be with exit code 0.
    pub(crate) fn succeed(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} ended with {status}{}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Lets time pass before something about the child is asked again; its end cuts this short.
    pub(crate) fn rest(&self, limit: Duration) -> Result<()> {
        self.interrupt.check()?;
        self.await_exit(limit)
    }

    fn await_exit(&self, limit: Duration) -> Result<()> {
        let timeout = Timespec::try_from(limit).context("a wait is too long")?;
        let mut watched = [PollFd::new(&self.exit, PollFlags::IN)];
        match rustix::event::poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for a child"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.pid(), signal)
            .with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Kills the child's process group as a crash would, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        rustix::process::kill_process_group(self.pid(), Signal::KILL)
            .with_context(|| format!("cannot kill {}", self.name))?;
        let status = self.wait(Duration::from_secs(10))?;
        match status.signal() {
            Some(_) => Ok(()),
            None => bail!("{} had ended by itself with {status}{}", self.name, self.last_words()),
        }
    }

    /// The end of what the child said on standard error, for an error message.
    pub(crate) fn last_words(&self) -> String {
        const LINES_SHOWN_MAX: usize = 8;
        let said = self.stderr.all();
        let from = said.len().saturating_sub(LINES_SHOWN_MAX);
        said[from..].iter().map(|line| format!("\n        {}: {line}", self.name)).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn stdin_of(input: Input) -> Result<Stdio> {
    Ok(match input {
        Input::Nothing => Stdio::null(),
        Input::Pipe => Stdio::piped(),
        Input::File(path) => {
            fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?.into()
        }
    })
}

fn stdout_of(output: &Output) -> Result<Stdio> {
    Ok(match output {
        Output::Lines => Stdio::piped(),
        Output::File(path) => {
            fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?.into()
        }
    })
}
