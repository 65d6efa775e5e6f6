//! Where the lines come from: the arguments, or stdin on a thread of its own.
//!
//! Invariant: at most `BATCHES_MAX` batches wait, so that an input that nobody takes from is not read.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::ffi::OsStringExt,
    sync::Arc,
    thread,
};

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

/// Each argument is one message.
pub(crate) fn arguments(messages: Vec<OsString>) -> Receiver<Batch> {
    let line = |message: OsString| Item::Line(Line { body: Arc::from(message.into_vec()), terminated: true });
    let (to_publisher, batches) = channel(1);
    let batch = Batch { items: messages.into_iter().map(line).collect(), error: None };
    to_publisher.try_send(batch).expect("the channel is new and has room for one");
    batches
}

/// Each line of stdin is one message.
pub(crate) fn stdin() -> Receiver<Batch> {
    let (to_publisher, batches) = channel(BATCHES_MAX);
    // The thread may sit in a read for ever; it ends with the process.
    thread::spawn(move || read_all(io::stdin().lock(), &to_publisher, LINE_BYTES_MAX));
    batches
}

fn read_all(mut input: impl Read, to_publisher: &Sender<Batch>, line_bytes_max: usize) {
    let mut splitter = LineSplitter::new(line_bytes_max);
    let mut chunk = vec![0; READ_BYTES];
    let end = loop {
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
        read_all(input, &to_publisher, 100);
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
    fn arguments_are_messages_whatever_they_hold() {
        let messages = vec![OsString::from_vec(b"a\n\xff".to_vec()), OsString::new()];
        let batch = arguments(messages).blocking_recv().expect("one batch");
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
