//! `leveret emit` and `leveret receive` as processes: when they are ready, and a numbered stream between them.
//!
//! Knows what the two programs say while they work; what they say at the end is read in `account`.
//! Invariant: the line with the number N is the N-th that `emit` was given.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::account;
use super::lab::Scene;
use super::process::{Input, Process, Program};

const START_TIME_MAX: Duration = Duration::from_secs(30);
const EVENT_TIME_MAX: Duration = Duration::from_secs(60);

/// Starts `receive` and waits until it has its queue.
pub(crate) fn receiving(scene: &Scene, receive: Program) -> Result<Process> {
    let mut receive = scene.spawn(receive)?;
    receive.status_line("its queue", START_TIME_MAX, |line| line.starts_with(" [*] Waiting for logs."))?;
    Ok(receive)
}

/// `receive` writing to a file of its own.
pub(crate) struct FileReceiver {
    pub(crate) process: Process,
    pub(crate) file: PathBuf,
}

impl FileReceiver {
    /// Starts one that connects to `urls`; without any it is left to the program's default.
    pub(crate) fn start(scene: &Scene, name: &str, urls: &[String]) -> Result<Self> {
        let file = scene.folder.join(format!("{name}.received"));
        let program = scene.leveret(name)?.args(["receive", "--file"]).args([&file]).args(url_args(urls));
        Ok(Self { process: receiving(scene, program)?, file })
    }

    /// Waits until the file ends with `line`.
    pub(crate) fn await_last_line(&mut self, line: &str) -> Result<()> {
        let wanted = format!("{line}\n");
        self.await_content(&format!("the line {line:?}"), |content| content.ends_with(wanted.as_bytes()))
    }

    /// Waits until the file is `octets` longer than it is now.
    pub(crate) fn await_growth(&mut self, octets: usize) -> Result<()> {
        let wanted = self.content()?.len() + octets;
        self.await_content("more lines", |content| content.len() >= wanted)
    }

    fn await_content(&mut self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
        let deadline = Instant::now() + EVENT_TIME_MAX;
        while !wanted(&self.content()?) {
            let name = self.process.name().to_owned();
            if let Some(status) = self.process.has_ended()? {
                bail!("{name} ended with {status} before it had {what}{}", self.process.last_words());
            }
            ensure!(Instant::now() < deadline, "{name} has not {what}{}", self.process.last_words());
            self.process.rest(Duration::from_millis(20))?;
        }
        Ok(())
    }

    pub(crate) fn content(&self) -> Result<Vec<u8>> {
        match fs::read(&self.file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            content => content.with_context(|| format!("cannot read {}", self.file.display())),
        }
    }

    /// Stops the program as Ctrl-C does, and gives the numbers that it received.
    pub(crate) fn stop(&mut self) -> Result<Vec<u64>> {
        self.process.signal(rustix::process::Signal::INT)?;
        self.process.succeed(EVENT_TIME_MAX)?;
        numbers_in(&self.file, &self.content()?)
    }
}

/// Waits until `receive` has announced a gap with both its edges.
pub(crate) fn await_gap(receive: &mut Process) -> Result<()> {
    receive.status_line("a gap", EVENT_TIME_MAX, |line| line.starts_with(account::CLOSED)).map(drop)
}

/// Whether this `receive` has said that it hosts the broker.
pub(crate) fn hosts(receive: &Process) -> bool {
    receive.stderr.all().iter().any(|line| line.contains(" hosts one there"))
}

/// The `--url` arguments for `urls`.
pub(crate) fn url_args(urls: &[String]) -> Vec<String> {
    urls.iter().flat_map(|url| ["--url".to_owned(), url.clone()]).collect()
}

/// `emit` with a thread that feeds it numbered lines until it is told to stop.
pub(crate) struct NumberedEmit {
    pub(crate) process: Process,
    stop: Arc<AtomicBool>,
    fed: Arc<AtomicU64>,
    feeder: JoinHandle<()>,
}

impl NumberedEmit {
    pub(crate) fn start(scene: &Scene, urls: &[String]) -> Result<Self> {
        let program = scene.leveret("emit")?.args(["emit"]).args(url_args(urls)).input(Input::Pipe);
        let mut process = scene.spawn(program)?;
        let stdin = process.stdin.take().context("emit was started without a pipe")?;
        let (stop, fed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop_seen, counter) = (Arc::clone(&stop), Arc::clone(&fed));
        let feeder = std::thread::spawn(move || feed(stdin, &stop_seen, &counter));
        Ok(Self { process, stop, fed, feeder })
    }

    /// Ends the stream, and gives how many lines it had, once `emit` has given up on or sent all of them.
    pub(crate) fn finish(self) -> Result<(Process, u64)> {
        let Self { mut process, stop, fed, feeder } = self;
        stop.store(true, Ordering::Relaxed);
        process.wait(EVENT_TIME_MAX)?;
        feeder.join().map_err(|_| anyhow!("the thread that feeds emit panicked"))?;
        Ok((process, fed.load(Ordering::Relaxed)))
    }
}

/// Writes lines in bursts, as fast as `emit` takes them but at most some hundred thousand a second, until
/// told to stop or nobody reads any more.
fn feed(mut stdin: ChildStdin, stop: &AtomicBool, fed: &AtomicU64) {
    const BATCH_LINES: u64 = 1000;
    const BATCH_INTERVAL: Duration = Duration::from_millis(10);
    while !stop.load(Ordering::Relaxed) {
        let first = fed.load(Ordering::Relaxed) + 1;
        let batch: String = (first..first + BATCH_LINES).map(numbered_line).collect();
        if stdin.write_all(batch.as_bytes()).is_err() {
            break;
        }
        fed.fetch_add(BATCH_LINES, Ordering::Relaxed);
        std::thread::sleep(BATCH_INTERVAL);
    }
}

fn numbered_line(number: u64) -> String {
    format!("line {number}\n")
}

fn numbers_in(file: &Path, content: &[u8]) -> Result<Vec<u64>> {
    let content = std::str::from_utf8(content).with_context(|| format!("{} is damaged", file.display()))?;
    let number = |line: &str| {
        let number = line.strip_prefix("line ").and_then(|number| number.parse().ok());
        number.with_context(|| format!("{} holds {line:?}, which nobody sent", file.display()))
    };
    content.lines().filter(|line| *line != END).map(number).collect()
}

/// The line that closes a numbered stream, sent by an `emit` of its own.
pub(crate) const END: &str = "end";

/// Sends the closing line.
pub(crate) fn emit_end(scene: &Scene, urls: &[String]) -> Result<()> {
    scene.run(scene.leveret("emit-end")?.args(["emit"]).args(url_args(urls)).args([END])).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back() {
        let content = [numbered_line(1), numbered_line(2), numbered_line(12), format!("{END}\n")].concat();
        assert_eq!(numbers_in(Path::new("it"), content.as_bytes()).unwrap(), [1, 2, 12]);
    }

    #[test]
    fn a_line_that_nobody_sent_is_told() {
        for damaged in [&b"line 1\nlin\n"[..], b"line x\n", b"line 1\xff\n", b"\n"] {
            assert!(numbers_in(Path::new("it"), damaged).is_err(), "{}", damaged.escape_ascii());
        }
    }
}
