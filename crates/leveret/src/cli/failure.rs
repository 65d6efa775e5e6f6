//! Why a subcommand did not do what it was asked, and the exit code that says so.
//!
//! Invariant: every code here stands in the table of `docs/tools.md`, and a code has one meaning.

use std::{
    error::Error,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use leveret::{DataFolderError, DefinitionsError, StartError, data_folder::StoreError};

use super::{connect::ConnectError, store};

/// Everything that ends a subcommand with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },

    #[error("{0}")]
    Usage(String),

    #[error("{0}{hint}", hint = .0.hint())]
    NoBroker(ConnectError),

    #[error("{0}")]
    Unreachable(String),

    #[error("cannot host a broker")]
    Host(#[source] StartError),

    #[error("the broker refused: {0}")]
    Refused(String),

    /// The account on stderr has said which lines; nothing is left to add.
    #[error("not every line was confirmed")]
    Incomplete,

    #[error("cannot write to {target}: {detail}")]
    Output { target: String, detail: String },

    #[error("no room left to write to {target}: {detail}")]
    DiskFull { target: String, detail: String },

    #[error("no message for {waited}, and {missing} still to come")]
    IdleBeforeCount { waited: humantime::Duration, missing: u64 },

    /// The summary on stdout has said what was found.
    #[error("what came is not what was published")]
    Check,

    #[error("{0}")]
    Lost(String),

    #[error("{}", listen_text(.0))]
    Listen(StartError),

    #[error("--definitions")]
    Definitions(#[source] DefinitionsError),

    #[error("cannot read the lines to send")]
    Input(#[source] io::Error),

    #[error("{}: {}", folder.display(), store_text(error))]
    Store { folder: PathBuf, error: StoreError },

    /// What was said on stdout has the rest.
    #[error("{}: something is damaged", .0.display())]
    Damaged(PathBuf),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::System { .. } => 1,
            Self::Usage(_) | Self::Definitions(_) | Self::Listen(StartError::Definitions { .. }) => 2,
            Self::NoBroker(error) if error.is_answer() => 4,
            Self::NoBroker(_) | Self::Unreachable(_) | Self::Host(_) => 3,
            Self::Refused(_) => 4,
            Self::Incomplete => 5,
            Self::Output { .. } => 6,
            Self::DiskFull { .. } => 7,
            Self::IdleBeforeCount { .. } => 8,
            Self::Input(_) => 9,
            Self::Listen(StartError::DataFolder(_) | StartError::Pages { .. }) => 13,
            Self::Listen(_) => 10,
            Self::Check => 11,
            Self::Lost(_) => 12,
            Self::Store { .. } => 13,
            Self::Damaged(_) => 14,
        })
    }

    /// Prints the whole chain of causes, once.
    pub(crate) fn report(&self) {
        let mut line = format!("leveret: {self}");
        let mut cause = self.source();
        while let Some(source) = cause {
            line.push_str(&format!(": {source}"));
            cause = source.source();
        }
        // Where nobody listens any more, nobody misses it.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// Why a data folder cannot be read or copied, and what to do about it.
fn store_text(error: &StoreError) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}{}", store::advice(error))
}

/// Why a broker does not start, and what to do about it, in one line.
fn listen_text(error: &StartError) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    let advice = match error {
        StartError::AddressInUse { .. } => "stop it, or choose another address with --listen ADDRESS:PORT",
        StartError::Listen { .. } => "is it an address of this machine, and may you listen there?",
        StartError::Definitions { .. } => "correct the file, or start without --definitions",
        StartError::DataFolder(DataFolderError::InUse { .. }) => {
            "stop it, or choose another one with --data DIR"
        }
        StartError::DataFolder(_) | StartError::Pages { .. } => "may you write there?",
        StartError::Store { source } if source.kind() == io::ErrorKind::InvalidData => {
            "start the newer program, or choose another folder with --data DIR"
        }
        StartError::Store { .. } => "may you read and write there, and has the disk room?",
        StartError::Threads { .. } => "is there a limit on threads or memory?",
    };
    format!("{error}{cause}; {advice}")
}
