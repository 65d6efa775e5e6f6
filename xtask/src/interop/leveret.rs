//! The leveret command: how it is built, and `leveret serve` as a broker to test.
//!
//! Knows the command's flags; not what its programs are expected to say.
//! Invariant: a server is one that answered a handshake on its own port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::ports;
use super::process::{Process, Program, Supervisor};

const BUILD_TIME_MAX: Duration = Duration::from_secs(1800);
const START_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

/// Builds the command in release mode and gives its path.
pub(crate) fn build(supervisor: &Supervisor, workspace: &Path, folder: &Path) -> Result<PathBuf> {
    println!("building leveret");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = Program::new("cargo-build", PathBuf::from(cargo))
        .args(["build", "--release", "--package", "leveret", "--message-format", "json-render-diagnostics"])
        .current_dir(workspace);
    let messages = supervisor.run(build, folder, BUILD_TIME_MAX).context("leveret does not build")?;
    messages.iter().find_map(|message| executable_of(message)).context("the build made no leveret")
}

/// The path in cargo's message about the finished binary.
fn executable_of(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_leveret = message["target"]["name"] == "leveret" && message["reason"] == "compiler-artifact";
    message["executable"].as_str().filter(|_| is_leveret).map(PathBuf::from)
}

/// A running `leveret serve`.
pub(crate) struct Server {
    port: u16,
    process: Process,
}

impl Server {
    pub(crate) fn start(supervisor: &Supervisor, leveret: &Path, port: u16, folder: &Path) -> Result<Self> {
        let listen = format!("127.0.0.1:{port}");
        let data = folder.join(format!("data-{port}"));
        let program = Program::new("leveret-serve", leveret).args(["serve", "--listen", &listen, "--data"]);
        let program = program.args([&data]);
        let mut process = supervisor.spawn(program, folder)?;
        ports::await_broker(&mut process, port, START_TIME_MAX).context("leveret serve does not start")?;
        Ok(Self { port, process })
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.process.has_ended(), Ok(None))
    }

    /// Stops the server as an operator does; it must end with exit code 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.process.succeed(STOP_TIME_MAX).context("leveret serve does not stop")
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_the_messages_of_a_build() {
        let binary =
            r#"{"reason":"compiler-artifact","target":{"name":"leveret"},"executable":"/t/leveret"}"#;
        let library = r#"{"reason":"compiler-artifact","target":{"name":"leveret"},"executable":null}"#;
        let other = r#"{"reason":"compiler-artifact","target":{"name":"build-script"},"executable":"/t/b"}"#;
        assert_eq!(executable_of(binary), Some("/t/leveret".into()));
        assert_eq!(executable_of(library), None);
        assert_eq!(executable_of(other), None);
        assert_eq!(executable_of("   Compiling leveret"), None);
    }
}
