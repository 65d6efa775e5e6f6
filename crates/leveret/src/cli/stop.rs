//! The signals that ask a tool to end.
//!
//! The first one asks for an orderly end, a second one for an end at once; what that means is the
//! caller's to do. SIGHUP is one of them unless the caller wants it for something else.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Stop {
    pub(crate) fn listen(hangup_too: bool) -> Result<Self, Failure> {
        Self::signals(hangup_too).map_err(|source| Failure::System { what: "listen for signals", source })
    }

    fn signals(hangup_too: bool) -> io::Result<Self> {
        let hangup = hangup_too.then(|| signal(SignalKind::hangup())).transpose()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    /// Waits for the next signal to end.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = next(self.hangup.as_mut()) => {}
        }
    }
}

/// The next of these signals; never, where nobody listens for them.
pub(crate) async fn next(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}
