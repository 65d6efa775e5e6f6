//! The thread that writes: a paused terminal or a slow disk stops it and nothing else.
//!
//! Gets messages, gives back what has become of them. Invariant: a message is reported as written only
//! after every place it goes to has taken all of it; the caller bounds how many are here.

use std::{
    fs::File,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    message::Message,
    render::Renderer,
    sink::{self, Batch, LogFile},
};
use crate::cli::Failure;

/// What is written at once, so that acknowledgements go back while there is more to write.
const BATCH_MESSAGES_MAX: u64 = 64;
const BATCH_BYTES_MAX: usize = 256 << 10;

/// So long without a message is idle, and the time to sync.
const IDLE: Duration = Duration::from_millis(10);

/// Which delivery a message was, to acknowledge it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) session: u32,
    pub(crate) delivery_tag: u64,
}

pub(crate) enum Command {
    Write(Box<Message>, Ticket),
    Reopen,
}

pub(crate) enum Report {
    /// `messages` more are written, the last of them with this ticket.
    Written {
        last: Ticket,
        messages: u64,
    },
    /// Nobody reads stdout any more.
    Closed,
    Failed(Failure),
    /// Something to be said on stderr.
    Note(String),
}

/// The places to write to, each with its own rendering.
#[derive(Default)]
pub(crate) struct Outputs {
    pub(crate) stdout: Option<(File, Renderer)>,
    pub(crate) file: Option<(LogFile, Renderer)>,
}

/// The caller's ends of the thread. Dropping `commands` lets it finish and end.
pub(crate) struct Writer {
    pub(crate) commands: Option<Sender<Command>>,
    pub(crate) reports: UnboundedReceiver<Report>,
}

impl Writer {
    pub(crate) fn start(outputs: Outputs) -> Self {
        let (commands, to_do) = channel();
        let (to_caller, reports) = unbounded_channel();
        let job = Job { outputs, batch: Batch::default(), to_caller };
        thread::spawn(move || job.run(&to_do));
        Self { commands: Some(commands), reports }
    }

    pub(crate) fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // A writer that has ended has reported why.
            let _ = commands.send(command);
        }
    }
}

struct Job {
    outputs: Outputs,
    batch: Batch,
    to_caller: UnboundedSender<Report>,
}

/// Why the thread ends before its caller wants it to.
enum Halt {
    Closed,
    Failed(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Job {
    fn run(mut self, to_do: &Receiver<Command>) {
        let report = match self.work(to_do) {
            Ok(()) => return,
            Err(Halt::Closed) => Report::Closed,
            Err(Halt::Failed(failure)) => Report::Failed(failure),
        };
        let _ = self.to_caller.send(report);
    }

    fn work(&mut self, to_do: &Receiver<Command>) -> Result<(), Halt> {
        loop {
            match self.next(to_do) {
                Ok(Command::Write(message, ticket)) => self.write(to_do, *message, ticket)?,
                Ok(Command::Reopen) => self.reopen()?,
                Err(RecvTimeoutError::Timeout) => self.sync()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(self.sync()?),
            }
            if self.sync_due().is_some_and(|due| due <= Instant::now()) {
                self.sync()?;
            }
        }
    }

    fn next(&self, to_do: &Receiver<Command>) -> Result<Command, RecvTimeoutError> {
        match self.sync_due() {
            Some(due) => to_do.recv_timeout(IDLE.min(due.saturating_duration_since(Instant::now()))),
            None => to_do.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Writes this message and those that wait behind it.
    fn write(&mut self, to_do: &Receiver<Command>, first: Message, ticket: Ticket) -> Result<(), Halt> {
        let (mut messages, mut last, mut reopen) = (vec![first], ticket, false);
        let mut octets = 0;
        while messages.len() as u64 <= BATCH_MESSAGES_MAX && octets < BATCH_BYTES_MAX {
            match to_do.try_recv() {
                Ok(Command::Write(message, ticket)) => {
                    octets += message.body.len();
                    messages.push(*message);
                    last = ticket;
                }
                Ok(Command::Reopen) => {
                    reopen = true;
                    break;
                }
                Err(_) => break,
            }
        }
        self.write_out(&messages)?;
        let _ = self.to_caller.send(Report::Written { last, messages: messages.len() as u64 });
        if reopen { self.reopen() } else { Ok(()) }
    }

    fn write_out(&mut self, messages: &[Message]) -> Result<(), Halt> {
        if let Some((file, renderer)) = &mut self.outputs.file {
            fill(&mut self.batch, renderer, messages);
            file.append(&self.batch, Instant::now())?;
        }
        if let Some((stdout, renderer)) = &mut self.outputs.stdout {
            fill(&mut self.batch, renderer, messages);
            if !sink::write_stdout(stdout, &self.batch)? {
                self.sync()?;
                return Err(Halt::Closed);
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Halt> {
        let Some((file, renderer)) = &mut self.outputs.file else { return Ok(()) };
        renderer.restart();
        let note = file.reopen()?;
        let note = note.unwrap_or_else(|| " [*] the file was reopened".to_owned());
        let _ = self.to_caller.send(Report::Note(note));
        Ok(())
    }

    fn sync_due(&self) -> Option<Instant> {
        self.outputs.file.as_ref().and_then(|(file, _)| file.sync_due())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.outputs.file.as_mut().map_or(Ok(()), |(file, _)| file.sync())
    }
}

fn fill(batch: &mut Batch, renderer: &mut Renderer, messages: &[Message]) {
    batch.clear();
    for message in messages {
        renderer.push(message, &mut batch.octets);
        batch.ends.push(batch.octets.len());
    }
}
