//! `leveret store`: looks over and copies a data folder, without a broker.
//!
//! Reads what the library says of the folder and shows it. Invariant: the folder itself is never changed.

mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use leveret::data_folder::{self, Checked, Damage, StoreError};

use super::Failure;

/// Look over or copy a data folder
#[derive(Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand)]
enum StoreCommand {
    Check(CheckArgs),
    Backup(BackupArgs),
}

/// Read all that is in a data folder and say what is there and what is damaged
///
/// Nothing in the folder is changed, and a broker may run on it meanwhile. The exit code is 14 when
/// something is damaged.
#[derive(Args)]
struct CheckArgs {
    /// The data folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Write what is whole to this folder, which has to be empty, for a broker to start on
    #[arg(long, value_name = "DIR")]
    salvage: Option<PathBuf>,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Copy a data folder to another one, also while a broker runs on it
///
/// All that the broker has confirmed before is in the copy, and is on stable storage at the end. To go back
/// to it, start a broker with --data and the copy. The exit code is 14 when something was damaged; the
/// copy has the rest then.
#[derive(Args)]
struct BackupArgs {
    /// The data folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// The folder for the copy, which is made, or has to be empty
    #[arg(value_name = "COPY")]
    copy: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table
    Text,
    /// One JSON object
    Json,
}

pub(crate) fn run(args: &StoreArgs) -> Result<(), Failure> {
    match &args.command {
        StoreCommand::Check(args) => check(args),
        StoreCommand::Backup(args) => backup(args),
    }
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let failed = |error| Failure::Store { folder: args.folder.clone(), error };
    let checked = data_folder::check(&args.folder).map_err(failed)?;
    if let Some(target) = &args.salvage {
        data_folder::copy(&args.folder, target).map_err(failed)?;
    }
    let said = match args.output {
        Output::Text => report::text(&args.folder, &checked),
        Output::Json => report::json(&args.folder, &checked),
    };
    super::print(&said)?;
    if let Some(target) = &args.salvage {
        eprintln!("what is whole was written to {}", target.display());
    }
    fail_if_damaged(&args.folder, &checked.report.damage)
}

fn backup(args: &BackupArgs) -> Result<(), Failure> {
    let failed = |error| Failure::Store { folder: args.folder.clone(), error };
    let damage = data_folder::copy(&args.folder, &args.copy).map_err(failed)?;
    let Checked { report, .. } = data_folder::check(&args.copy).map_err(failed)?;
    let messages: u64 = report.queues.iter().map(|queue| queue.messages.count).sum();
    let queues = report.queues.len();
    eprintln!("{} has {queues} queues with {messages} messages", args.copy.display());
    for line in report::damage_lines(&damage) {
        eprintln!("{line}");
    }
    fail_if_damaged(&args.folder, &damage)
}

/// A torn end is none: it is what a crash leaves, and nobody was told that it was there.
fn fail_if_damaged(folder: &std::path::Path, damage: &Damage) -> Result<(), Failure> {
    if damage.lost.is_empty() && damage.files.is_empty() && !damage.no_snapshot {
        return Ok(());
    }
    Err(Failure::Damaged(folder.to_owned()))
}

/// What to do about it, in a few words.
pub(crate) fn advice(error: &StoreError) -> &'static str {
    match error {
        StoreError::Read(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            "; use the newer program"
        }
        StoreError::Read(_) => "; is it there, and may you read it?",
        StoreError::Nothing => "; is it the right one?",
        StoreError::Target(_) => "",
        StoreError::TargetNotEmpty => "; choose another one",
        StoreError::Copy(_) => "; has the disk room?",
    }
}
