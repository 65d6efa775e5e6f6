//! What goes wrong between the load generator and the broker, by whose doing, and the exit code for it.
//!
//! Invariant: what the broker said is passed on in its own words.

use std::io;

use leveret_wire::{DecodeError, FrameError, method};

use crate::cli::Failure;

/// The reply code with which brokers end connections when they stop.
const CONNECTION_FORCED: u16 = 320;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("no connection to {address}: {detail}")]
    Unreachable { address: String, detail: String },

    #[error("the broker closed the {what}: {code} {text}")]
    Closed { what: &'static str, code: u16, text: String },

    #[error("{0}")]
    Unsuitable(String),

    #[error("the connection was lost: {0}")]
    Lost(String),

    #[error("the broker sent what it must not: {0}")]
    Nonsense(String),
}

impl Fault {
    pub(super) fn of_socket(error: &io::Error) -> Self {
        Self::Lost(error.to_string())
    }

    pub(super) fn closed_connection(close: &method::connection::Close<'_>) -> Self {
        let what = "connection";
        Self::Closed { what, code: close.reply_code, text: close.reply_text.to_string() }
    }

    pub(super) fn closed_channel(close: &method::channel::Close<'_>) -> Self {
        Self::Closed { what: "channel", code: close.reply_code, text: close.reply_text.to_string() }
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::Nonsense(error.to_string())
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Nonsense(error.to_string())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::Unreachable { .. } => Self::Unreachable(text),
            // A broker that stops says so on every connection.
            Fault::Closed { code: CONNECTION_FORCED, .. } => Self::Lost(text),
            Fault::Closed { .. } => Self::Refused(text),
            Fault::Unsuitable(_) => Self::Usage(text),
            Fault::Lost(_) | Fault::Nonsense(_) => Self::Lost(text),
        }
    }
}
