//! Notices that nobody reads stdout any more, even while there is nothing to write.
//!
//! Invariant: it only ever looks; a pipe is found closed by waiting for its error, not by writing to it.

use std::{
    io::{self, IsTerminal},
    os::fd::AsFd,
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, fstat},
};
use tokio::sync::oneshot;

pub(crate) struct StdoutWatch {
    closed: oneshot::Receiver<()>,
}

impl StdoutWatch {
    /// Watches stdout if it is a pipe or a socket; anything else has no reader to lose.
    pub(crate) fn start() -> Option<Self> {
        let stdout = io::stdout();
        let kind = FileType::from_raw_mode(fstat(&stdout).ok()?.st_mode);
        if stdout.is_terminal() || !matches!(kind, FileType::Fifo | FileType::Socket) {
            return None;
        }
        let fd = stdout.as_fd().try_clone_to_owned().ok()?;
        let (found, closed) = oneshot::channel();
        thread::spawn(move || {
            // Asking for nothing, poll still tells of errors and of a peer that hung up.
            let nothing = PollFlags::empty();
            while poll(&mut [PollFd::new(&fd, nothing)], None) == Err(rustix::io::Errno::INTR) {}
            let _ = found.send(());
        });
        Some(Self { closed })
    }

    /// Waits until nobody reads; for ever, where nothing is watched.
    pub(crate) async fn closed(watch: Option<&mut Self>) {
        match watch {
            Some(watch) => {
                let _ = (&mut watch.closed).await;
            }
            None => std::future::pending().await,
        }
    }
}
