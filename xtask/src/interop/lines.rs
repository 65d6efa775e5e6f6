//! What a child writes, line by line: kept, copied to a file, and awaited.
//!
//! Knows streams and lines; not processes.
//! Invariant: a line is kept before anybody who waits for it is woken, and lines keep their order.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::process::{Interrupt, TICK};

/// The lines of one stream so far. Octets that are not UTF-8 are replaced: this is for reading, not comparing.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    lines: Vec<String>,
    closed: bool,
}

impl Lines {
    /// A stream that has nothing and never will.
    pub(crate) fn none() -> Self {
        Self::with(State { lines: Vec::new(), closed: true })
    }

    /// Reads `stream` to its end on a thread of its own, copying it to the file at `copy`.
    pub(crate) fn follow(stream: impl Read + Send + 'static, copy: &Path) -> Result<Self> {
        let copy = File::create(copy).with_context(|| format!("cannot write {}", copy.display()))?;
        let lines = Self::with(State { lines: Vec::new(), closed: false });
        let writer = lines.clone();
        std::thread::spawn(move || writer.read_all(stream, copy));
        Ok(lines)
    }

    fn with(state: State) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    fn read_all(&self, stream: impl Read, mut copy: File) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(stream.read_until(b'\n', &mut line), Ok(octets) if octets > 0) {
            // A full disk must not stop the child, which would block on a pipe that nobody reads.
            let _ = copy.write_all(&line);
            self.push(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned());
            line.clear();
        }
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    fn push(&self, line: String) {
        self.lock().lines.push(line);
        self.0.changed.notify_all();
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// The first line that fulfils `wanted`, waiting for it; none when the time or the stream ends before.
    pub(crate) fn wait(
        &self,
        limit: Duration,
        interrupt: &Interrupt,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Option<String>> {
        let deadline = Instant::now() + limit;
        let mut looked_at = 0;
        let mut state = self.lock();
        loop {
            if let Some(found) = state.lines[looked_at..].iter().find(|line| wanted(line)) {
                return Ok(Some(found.clone()));
            }
            looked_at = state.lines.len();
            if state.closed || Instant::now() >= deadline {
                return Ok(None);
            }
            interrupt.check()?;
            state = self.sleep(state, TICK);
        }
    }

    /// Waits a little for the end of the stream, which a process that has ended may still have in its pipe.
    pub(crate) fn wait_closed(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        while !state.closed && Instant::now() < deadline {
            state = self.sleep(state, limit);
        }
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.0.changed.wait_timeout(state, limit).expect("no holder of this lock panics").0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }
}
