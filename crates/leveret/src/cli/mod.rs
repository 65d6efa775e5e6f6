//! What can be typed after `leveret`, and the way from there to the subcommand.
//!
//! Each subcommand parses its own arguments into types that cannot be wrong and runs itself; what they
//! share (broker addresses, exchanges, status lines, exit codes) lies in the modules beside this file.
//! Invariant: data goes to stdout, everything that is said about it goes to stderr.

mod amqp_url;
mod backoff;
mod broker_args;
mod connect;
mod data_folder;
mod embedded;
mod emit;
mod exchange;
mod failure;
mod harmless;
mod headers;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod heap;
mod open_files;
mod perf;
mod persist;
mod receive;
mod serve;
mod sever;
mod sizes;
mod stamp;
mod status;
mod stop;
mod store;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

pub(crate) use failure::Failure;

/// A log bus and the AMQP 0-9-1 broker that it runs on.
#[derive(Parser)]
#[command(name = "leveret", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Emit(emit::EmitArgs),
    #[command(disable_help_flag = true)]
    Perf(Box<perf::PerfArgs>),
    Receive(receive::ReceiveArgs),
    Serve(serve::ServeArgs),
    Store(store::StoreArgs),
}

/// Parses the command line and runs the subcommand it names.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    match Cli::parse().command {
        Command::Emit(args) => emit::run(args),
        Command::Perf(args) => perf::run(&args),
        Command::Receive(args) => receive::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Store(args) => store::run(&args),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Prints what a command found out.
fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::Output { target: "stdout".to_owned(), detail: error.to_string() })
}

/// Prints what `--help` of that subcommand prints.
fn print_help(subcommand: &str) -> Result<(), Failure> {
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(subcommand).expect("it is one of ours");
    let said = command.print_long_help();
    said.map_err(|error| Failure::Output { target: "stdout".to_owned(), detail: error.to_string() })
}

/// The tools do their waiting on one thread; what can block (stdin, stdout, files) has threads of its own.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = quiet_runtime()?;
    runtime.spawn(give_back_when_quiet(|| {}));
    Ok(runtime)
}

/// The same for who sees to [`give_back_when_quiet`] itself.
fn quiet_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    heap::keep_at_hand();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System { what: "start", source })
}

/// Gives memory back to the system whenever the process is quiet after work; `let_go` is called first. Never ends.
async fn give_back_when_quiet(let_go: impl Fn()) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    heap::give_back_when_quiet(let_go).await;
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        drop(let_go);
        std::future::pending::<()>().await;
    }
}
