//! Opening a session: once, or again and again until it works.
//!
//! Knows when to try and when to give in; what a session is, its opener says.

use std::fmt;

use super::{
    Failure,
    backoff::Backoff,
    connect::{ConnectError, reason, reply_code, wait_before_retry},
    status::Status,
};

/// Why there is no session.
pub(crate) enum OpenError {
    Connect(ConnectError),
    /// The connection was made, and then failed or was refused something.
    Amqp(lapin::Error),
    /// Nothing that another try would change.
    Failure(Failure),
}

impl From<lapin::Error> for OpenError {
    fn from(error: lapin::Error) -> Self {
        Self::Amqp(error)
    }
}

impl OpenError {
    /// Whether a broker was there and said no.
    fn is_answer(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_answer(),
            Self::Amqp(error) => reply_code(error).is_some(),
            Self::Failure(_) => true,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Amqp(error) => f.write_str(&reason(error)),
            Self::Failure(failure) => failure.fmt(f),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Connect(error) => Self::NoBroker(error),
            OpenError::Amqp(error) => Self::Refused(reason(&error)),
            OpenError::Failure(failure) => failure,
        }
    }
}

/// How patiently a session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// One round of tries.
    None,
    /// Until a broker is there; one that says no ends it.
    UntilAnswered,
    /// Until it works: there is something to lose.
    Endless,
}

impl Patience {
    /// How patient a tool is at its start.
    pub(crate) fn at_start(wait_for_broker: bool) -> Self {
        if wait_for_broker { Self::UntilAnswered } else { Self::None }
    }

    fn is_over(self, error: &OpenError) -> bool {
        match self {
            Self::None => true,
            Self::UntilAnswered => error.is_answer(),
            Self::Endless => matches!(error, OpenError::Failure(_)),
        }
    }
}

/// Opens a session as patiently as that, and says once that it does not work.
pub(crate) async fn open<S>(
    status: &Status,
    patience: Patience,
    mut backoff: Backoff,
    mut session: impl AsyncFnMut() -> Result<S, OpenError>,
) -> Result<S, Failure> {
    let mut told = false;
    loop {
        let error = match session().await {
            Ok(session) => return Ok(session),
            Err(error) if patience.is_over(&error) => return Err(error.into()),
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            status.say(format!(" [!] {error}; trying again until it works"));
        }
        wait_before_retry(&mut backoff).await;
    }
}
