//! Sends messages through the engine as two sockets would, for a profiler to count.
//!
//! Only what the engine does for the messages differs between two runs with different numbers of
//! them, so the difference of their counts is what messages cost. The octets of a read are as
//! many as a socket brings under load. Invariant: every message comes out, and is counted.

mod scenario;

use clap::Parser;

use self::scenario::Scenario;

/// Sends messages through the engine without sockets.
#[derive(Parser)]
struct Options {
    /// What is sent, and who takes it
    #[arg(value_enum)]
    scenario: Scenario,
    /// How many messages are published
    messages: usize,
}

fn main() {
    let options = Options::parse();
    options.scenario.run(options.messages);
}
