//! Everything a tool says about its work, on stderr: lines, and on a terminal a progress line below them.
//!
//! A terminal can be paused, so a thread of its own does the writing and nothing ever waits for it.
//! Invariant: what is said is either written in order or counted as lost.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// Lines that may wait for a paused terminal.
const LINES_MAX: usize = 256;

/// How long the last lines may take to be written when the tool ends.
const LAST_LINES_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct Status {
    to_writer: Option<SyncSender<Said>>,
    writer_done: Receiver<()>,
    lost: Cell<u64>,
    shows_progress: bool,
    quiet: bool,
}

enum Said {
    Line(String),
    Progress(String),
}

impl Status {
    /// `progress` asks for a progress line, which is only ever shown on a terminal.
    pub(crate) fn start(quiet: bool, progress: bool) -> Self {
        let shows_progress = progress && !quiet && io::stderr().is_terminal();
        let (to_writer, said) = sync_channel(LINES_MAX);
        let (done, writer_done) = sync_channel(1);
        thread::spawn(move || {
            write_all(&said, shows_progress);
            let _ = done.send(());
        });
        Self { to_writer: Some(to_writer), writer_done, lost: Cell::new(0), shows_progress, quiet }
    }

    pub(crate) fn shows_progress(&self) -> bool {
        self.shows_progress
    }

    /// Says one line.
    pub(crate) fn say(&self, line: impl Into<String>) {
        if self.quiet {
            return;
        }
        let lost = self.lost.get();
        if lost > 0 && self.send(Said::Line(format!(" [!] {lost} status lines were lost here"))) {
            self.lost.set(0);
        }
        if !self.send(Said::Line(line.into())) {
            self.lost.set(self.lost.get() + 1);
        }
    }

    /// Replaces the progress line.
    pub(crate) fn progress(&self, line: String) {
        if self.shows_progress {
            // A progress line that finds no room is out of date before it could be shown.
            self.send(Said::Progress(line));
        }
    }

    fn send(&self, said: Said) -> bool {
        match self.to_writer.as_ref().map(|to_writer| to_writer.try_send(said)) {
            None | Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) => false,
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.to_writer = None;
        match self.writer_done.recv_timeout(LAST_LINES_WAIT) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

fn write_all(said: &Receiver<Said>, shows_progress: bool) {
    let bar = shows_progress.then(progress_line);
    for said in said {
        match (said, &bar) {
            (Said::Line(line), Some(bar)) => bar.suspend(|| write_line(&line)),
            (Said::Line(line), None) => write_line(&line),
            (Said::Progress(line), Some(bar)) => bar.set_message(line),
            (Said::Progress(_), None) => {}
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn progress_line() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is a constant");
    ProgressBar::new_spinner().with_style(style)
}

fn write_line(line: &str) {
    // Nobody is left to tell that stderr is gone, and the data does not depend on it.
    let _ = writeln!(io::stderr(), "{line}");
}
