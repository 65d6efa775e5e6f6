//! Repository chores, run as `cargo xtask CHORE`.
//!
//! Holds the command line only; each chore is a module of its own.

use std::process::ExitCode;

use clap::Parser;

mod fuzz;

/// Chores of this repository
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Chore {
    /// Run the fuzz targets for a bounded time each, or replay an input
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let outcome = match Chore::parse() {
        Chore::Fuzz(options) => fuzz::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
