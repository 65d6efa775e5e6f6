//! One run of `leveret`: how it is started, what it says, how it ends.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than anything here takes, so that a test that hangs fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A command line that is being put together.
pub(crate) struct Tool(Command);

impl Tool {
    pub(crate) fn new(subcommand: &str) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_leveret")), subcommand)
    }

    /// A tool that may write no file longer than so many blocks of 512 octets.
    pub(crate) fn with_short_files(subcommand: &str, blocks: u32) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_leveret")]);
        Self::by(shell, subcommand)
    }

    fn by(mut command: Command, subcommand: &str) -> Self {
        command.arg(subcommand);
        for variable in ["AMQP_URL", "NO_COLOR", "LEVERET_EMBEDDED_ADDRESS"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.0.stdin(stdin);
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.0.stdout(stdout);
        self
    }

    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.0.stderr(stderr);
        self
    }

    pub(crate) fn start(mut self) -> Running {
        let mut child = self.0.spawn().expect("the binary was built");
        let (said, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            let stderr = BufReader::new(stderr);
            thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        }
        Running { child: Some(child), lines, heard: Vec::new() }
    }

    /// Starts a receiver and waits until its queue is bound.
    pub(crate) fn start_waiting(self) -> Running {
        let mut running = self.start();
        running.wait_for("Waiting for logs");
        running
    }

    /// Runs to the end with this on stdin.
    pub(crate) fn run(self, input: &[u8]) -> Ended {
        let mut running = self.stdin(Stdio::piped()).start();
        let mut stdin = running.stdin();
        let input = input.to_vec();
        let feeder = thread::spawn(move || {
            // A tool that ends before its input does is the test's to judge.
            let _ = stdin.write_all(&input);
        });
        let ended = running.end();
        feeder.join().expect("the feeder only writes");
        ended
    }
}

/// A tool that runs. Killed if the test forgets it.
pub(crate) struct Running {
    child: Option<Child>,
    lines: Receiver<String>,
    heard: Vec<String>,
}

/// What a tool left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<String>,
}

impl Ended {
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "it said:\n{}", self.stderr.join("\n"));
        self
    }

    /// The line that holds `part`.
    #[track_caller]
    pub(crate) fn said(&self, part: &str) -> &str {
        let line = self.stderr.iter().find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("nobody said {part:?}:\n{}", self.stderr.join("\n")))
    }

    /// A number that stands before or after `word` in the last line.
    #[track_caller]
    pub(crate) fn account(&self, word: &str) -> u64 {
        let line = self.said("leveret emit: ");
        let rest = &line[line.find(word).expect(word) + word.len()..];
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }
}

impl Running {
    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("only an end takes it")
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child().stdin.take().expect("piped")
    }

    pub(crate) fn stdout(&mut self) -> impl Read + Send + use<> {
        self.child().stdout.take().expect("piped")
    }

    /// Waits until the tool says a line that holds `part`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.heard.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(_) => panic!("nobody said {part:?}:\n{}", self.heard.join("\n")),
            }
        }
    }

    /// Whether it has said so before what was last waited for.
    pub(crate) fn has_said(&self, part: &str) -> bool {
        self.heard.iter().any(|line| line.contains(part))
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.child().id()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(self.child());
        kill_process(pid, signal).expect("it runs");
    }

    /// Asks it to end, as CTRL+C does.
    pub(crate) fn interrupt(mut self) -> Ended {
        self.signal(Signal::INT);
        self.end()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let stdout = self.child().stdout.take().map(read_all);
        let status = self.wait();
        let stdout = stdout.map_or_else(Vec::new, |reader| reader.join().expect("reading a pipe"));
        let mut stderr = std::mem::take(&mut self.heard);
        stderr.extend(self.lines.iter());
        Ended { status, stdout, stderr }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut child = self.child.take().expect("only an end takes it");
        loop {
            if let Some(status) = child.try_wait().expect("it is our child") {
                return status;
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                panic!("it did not end; it said:\n{}", self.lines.try_iter().collect::<Vec<_>>().join("\n"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut octets = Vec::new();
        pipe.read_to_end(&mut octets).expect("a pipe can be read");
        octets
    })
}
