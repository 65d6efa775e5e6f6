//! Where the lines come from: the arguments, or stdin on a thread of its own.
//!
//! Invariant: at most `BATCHES_MAX` batches wait, so that an input that nobody takes from is not read; and
//! what was read is always handed over, also when the reading is stopped.

use std::{
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read},
    os::unix::ffi::OsStringExt,
    sync::Arc,
    thread,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::lines::{Item, LINE_BYTES_MAX, Line, LineSplitter};

const BATCHES_MAX: usize = 4;

/// What one read may bring, but for the rest of a line that is longer.
const READ_BYTES: usize = 64 << 10;

/// The lines that one read brought, and the error that ended the input.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    pub(crate) error: Option<io::Error>,
}

/// Lines as they are read.
#[derive(Debug)]
pub(crate) struct Input {
    batches: Receiver<Batch>,
    /// Closing it stops the reading.
    going: Option<PipeWriter>,
}

impl Input {
    /// The next batch; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }

    /// Reads no further. What has been read already is still to come.
    pub(crate) fn stop(&mut self) {
        self.going = None;
    }
}

/// Each argument is one message.
pub(crate) fn arguments(messages: Vec<OsString>) -> Input {
    let line = |message: OsString| Item::Line(Line { body: Arc::from(message.into_vec()), terminated: true });
    let (to_publisher, batches) = channel(1);
    let batch = Batch { items: messages.into_iter().map(line).collect(), error: None };
    to_publisher.try_send(batch).expect("the channel is new and has room for one");
    Input { batches, going: None }
}

/// Each line of stdin is one message.
pub(crate) fn stdin() -> io::Result<Input> {
    let (to_publisher, batches) = channel(BATCHES_MAX);
    let (stopped, going) = io::pipe()?;
    thread::spawn(move || {
        read_all(io::stdin().lock(), || !is_stopped(&stopped), &to_publisher, LINE_BYTES_MAX);
    });
    Ok(Input { batches, going: Some(going) })
}

/// Waits until stdin can be read without waiting, or the reading is to stop.
fn is_stopped(stopped: &PipeReader) -> bool {
    let stdin = io::stdin();
    loop {
        let mut either = [PollFd::new(stopped, PollFlags::empty()), PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut either, None) {
            Err(rustix::io::Errno::INTR) => {}
            // Without poll the next read tells what is wrong.
            Err(_) => return false,
            Ok(_) => return !either[0].revents().is_empty(),
        }
    }
}

fn read_all(
    mut input: impl Read,
    mut goes_on: impl FnMut() -> bool,
    to_publisher: &Sender<Batch>,
    line_bytes_max: usize,
) {
    let mut splitter = LineSplitter::new(line_bytes_max);
    let mut chunk = vec![0; READ_BYTES];
    let end = loop {
        if !goes_on() {
            break None;
        }
        match input.read(&mut chunk) {
            Ok(0) => break None,
            Ok(octets) => {
                let mut batch = Batch::default();
                splitter.push(&chunk[..octets], &mut batch.items);
                if !batch.items.is_empty() && to_publisher.blocking_send(batch).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error),
        }
    };
    let mut last = Batch { items: Vec::new(), error: end };
    splitter.finish(&mut last.items);
    // Nobody listens any more when the publisher has ended first.
    let _ = to_publisher.blocking_send(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its octets and then fails.
    struct Failing(&'static [u8]);

    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("torn out")),
                octets => Ok(octets),
            }
        }
    }

    fn collect(input: impl Read) -> (Vec<Item>, Option<String>) {
        let (to_publisher, mut batches) = channel(BATCHES_MAX);
        read_all(input, || true, &to_publisher, 100);
        drop(to_publisher);
        let mut items = Vec::new();
        let mut error = None;
        while let Some(batch) = batches.blocking_recv() {
            items.extend(batch.items);
            error = batch.error.map(|error| error.to_string());
        }
        (items, error)
    }

    #[test]
    fn an_input_that_fails_gives_its_lines_and_then_the_error() {
        let (items, error) = collect(Failing(b"one\ntw"));
        assert_eq!(items.len(), 2, "the torn line is sent as the input's last");
        assert_eq!(error.as_deref(), Some("torn out"));
        assert_eq!(collect(&b"one\n"[..]).1, None);
    }

    #[test]
    fn what_was_read_before_the_stop_is_handed_over() {
        let (to_publisher, mut batches) = channel(BATCHES_MAX);
        let mut reads = 1..=1;
        read_all(&b"one\ntw"[..], || reads.next().is_some(), &to_publisher, 100);
        drop(to_publisher);
        let lines = std::iter::from_fn(|| batches.blocking_recv()).flat_map(|batch| batch.items).count();
        assert_eq!(lines, 2);
    }

    #[test]
    fn arguments_are_messages_whatever_they_hold() {
        let messages = vec![OsString::from_vec(b"a\n\xff".to_vec()), OsString::new()];
        let batch = arguments(messages).batches.blocking_recv().expect("one batch");
        let bodies: Vec<Vec<u8>> = batch
            .items
            .iter()
            .map(|item| match item {
                Item::Line(line) => line.body.to_vec(),
                Item::TooLong => panic!("nothing is too long"),
            })
            .collect();
        assert_eq!(bodies, [b"a\n\xff".to_vec(), Vec::new()]);
    }
}
