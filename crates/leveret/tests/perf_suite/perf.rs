//! One run of `leveret perf` with the broker it loads, and its summary as JSON.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use leveret::{Broker, BrokerBuilder};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::tool::{Ended, Tool};

static QUEUES: AtomicU32 = AtomicU32::new(0);

/// A broker, and a name for a queue that no other test uses.
pub(crate) struct Bench {
    runtime: Runtime,
    broker: Option<Broker>,
    url: String,
    pub(crate) queue: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        match std::env::var("LEVERET_TEST_AMQP_URL") {
            Ok(url) => Self::at(None, url, runtime()),
            Err(_) => Self::with(Broker::builder()),
        }
    }

    /// A leveret in this process, set up by the test.
    pub(crate) fn with(builder: BrokerBuilder) -> Self {
        let runtime = runtime();
        let broker = runtime.block_on(builder.start()).expect("a free port");
        let url = broker.amqp_uri();
        Self::at(Some(broker), url, runtime)
    }

    fn at(broker: Option<Broker>, url: String, runtime: Runtime) -> Self {
        let number = QUEUES.fetch_add(1, Relaxed);
        let queue = format!("perf-suite-{}-{number}", std::process::id());
        Self { runtime, broker, url, queue }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The broker's own words about itself, where it is in this process.
    pub(crate) fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    pub(crate) fn shut_down(&mut self) {
        let broker = self.broker.take().expect("a broker in this process");
        self.runtime.block_on(broker.shutdown());
    }

    /// The load generator with these flags; QUEUE stands for the queue of this test.
    pub(crate) fn perf(&self, flags: &str) -> Tool {
        perf(&flags.replace("QUEUE", &self.queue)).args(["--uri", self.url()])
    }

    /// Runs to the end with exit code 0 and gives the summary.
    #[track_caller]
    pub(crate) fn run(&self, flags: &str) -> Value {
        self.run_to(flags, 0)
    }

    #[track_caller]
    pub(crate) fn run_to(&self, flags: &str, code: i32) -> Value {
        summary(&self.perf(flags).args(["-o", "json"]).start().end().expect_code(code))
    }
}

pub(crate) fn perf(flags: &str) -> Tool {
    Tool::new("perf").args(flags.split_whitespace())
}

#[track_caller]
pub(crate) fn summary(ended: &Ended) -> Value {
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}\n{}", String::from_utf8_lossy(&ended.stdout), ended.stderr.join("\n"))
    })
}

/// The number at `path`, such as `/published/count`.
#[track_caller]
pub(crate) fn number(summary: &Value, path: &str) -> u64 {
    let value = summary.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{path} is no number in {summary:#}"))
}

#[track_caller]
pub(crate) fn float(summary: &Value, path: &str) -> f64 {
    let value = summary.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{path} is no number in {summary:#}"))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
