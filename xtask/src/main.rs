//! Repository chores, run as `cargo xtask CHORE`.
//!
//! Holds the command line only; each chore is a module of its own.

use std::process::ExitCode;

use clap::Parser;

#[cfg(target_os = "linux")]
mod compare;
#[cfg(target_os = "linux")]
mod crash;
#[cfg(target_os = "linux")]
mod differential;
#[cfg(target_os = "linux")]
mod footprint;
mod fuzz;
mod instructions;
#[cfg(target_os = "linux")]
mod interop;
mod loom;
mod tidy;
#[cfg(target_os = "linux")]
mod workplace;

/// Chores of this repository
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Chore {
    /// Measure leveret's speed, with RabbitMQ, NATS and a bare relay beside
    #[cfg(target_os = "linux")]
    Compare(compare::Options),
    /// Kill the broker under load, and see that nothing it confirmed is lost
    #[cfg(target_os = "linux")]
    Crash(crash::Options),
    /// Run random scripts on RabbitMQ and leveret, and compare what they say
    #[cfg(target_os = "linux")]
    Differential(differential::Options),
    /// Measure start-up and memory, with RabbitMQ beside
    #[cfg(target_os = "linux")]
    Footprint(footprint::Options),
    /// Run the fuzz targets for a bounded time each, or replay an input
    Fuzz(fuzz::Options),
    /// Count what a message costs the engine, in instructions
    Instructions(instructions::Options),
    /// Run leveret and RabbitMQ against client programs in several languages
    #[cfg(target_os = "linux")]
    Interop(interop::Options),
    /// Model-check what connections' threads share
    Loom(loom::Options),
    /// Check the repository's rules
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Chore::parse() {
        #[cfg(target_os = "linux")]
        Chore::Compare(options) => compare::run(&options),
        #[cfg(target_os = "linux")]
        Chore::Crash(options) => crash::run(&options),
        #[cfg(target_os = "linux")]
        Chore::Differential(options) => differential::run(&options),
        #[cfg(target_os = "linux")]
        Chore::Footprint(options) => footprint::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        #[cfg(target_os = "linux")]
        Chore::Interop(options) => interop::run(&options),
        Chore::Instructions(options) => instructions::run(&options),
        Chore::Loom(options) => loom::run(&options),
        Chore::Tidy => tidy::run(),
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
