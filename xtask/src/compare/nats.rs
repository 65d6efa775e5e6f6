//! NATS beside the fan-outs: a private nats-server with its stock configuration, loaded by `async-nats`.
//!
//! Core NATS drops what a subscriber is too slow for, so the publisher stays at most a bounded number of messages
//! ahead. Invariant: a run in which a message was dropped is an error, not a figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_lite::StreamExt as _;
use rustix::process::Signal;
use tokio::sync::Notify;

use super::Lab;
use super::fanout::FanOut;
use super::load::Figures;
use crate::footprint::usage;
use crate::interop::process::Program;
use crate::interop::{apt, ports};

const START_TIME_MAX: Duration = Duration::from_secs(10);
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Messages that the slowest subscriber may be behind.
const AHEAD_MAX: u64 = 10_000;
/// The client is slower than a broker, so it carries a part of what leveret carries.
const PART: u64 = 5;

pub(super) fn version(lab: &Lab<'_>) -> Result<String> {
    let server = apt::need(lab.supervisor, "nats-server", &["nats-server"], lab.folder)?;
    let program = Program::new("nats-version", server).args(["--version"]);
    Ok(lab.supervisor.run(program, lab.folder, START_TIME_MAX)?.concat())
}

pub(super) fn run(lab: &Lab<'_>, fan_out: &FanOut) -> Result<Figures> {
    let server = apt::need(lab.supervisor, "nats-server", &["nats-server"], lab.folder)?;
    let [port] = ports::free()?;
    let program = Program::new("nats-server", server).args(["-a", "127.0.0.1", "-p", &port.to_string()]);
    let mut process = lab.supervisor.spawn(program, lab.folder)?;
    process.status_line("nats-server", START_TIME_MAX, |line| line.contains("Server is ready"))?;
    let before = usage::processor_time(process.pid())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (seconds, deliveries) = runtime.block_on(load(port, fan_out))?;
    let spent = usage::processor_time(process.pid())? - before;
    process.signal(Signal::TERM)?;
    process.wait(STOP_TIME_MAX).context("nats-server does not stop")?;
    #[allow(clippy::cast_precision_loss, reason = "a few million")]
    let deliveries = deliveries as f64;
    let micros = spent.as_secs_f64() * 1e6 / deliveries;
    let (per_second, cores) = (deliveries / seconds, spent.as_secs_f64() / seconds);
    Ok(Figures { micros, per_second, seconds, cores, is_held_up_elsewhere: true, ..Figures::default() })
}

/// How long it took and how many deliveries came.
async fn load(port: u16, fan_out: &FanOut) -> Result<(f64, u64)> {
    let url = format!("nats://127.0.0.1:{port}");
    let messages = fan_out.messages / PART;
    let progress: Arc<Vec<AtomicU64>> =
        Arc::new((0..fan_out.subscribers).map(|_| AtomicU64::new(0)).collect());
    let moved = Arc::new(Notify::new());
    for index in 0..fan_out.subscribers as usize {
        let client = async_nats::connect(&url).await?;
        let mut subscription = client.subscribe("fan").await?;
        client.flush().await?;
        let (progress, moved) = (Arc::clone(&progress), Arc::clone(&moved));
        tokio::spawn(async move {
            let _client = client;
            while subscription.next().await.is_some() {
                let came = progress[index].fetch_add(1, Relaxed) + 1;
                if came.is_multiple_of(AHEAD_MAX / 10) || came == messages {
                    moved.notify_one();
                }
            }
        });
    }
    let publisher = async_nats::connect(&url).await?;
    let slowest = || progress.iter().map(|came| came.load(Relaxed)).min().unwrap_or_default();
    let body = vec![b'.'; fan_out.body_octets];
    let began = Instant::now();
    for number in 0..messages {
        publisher.publish("fan", body.clone().into()).await?;
        while number >= slowest() + AHEAD_MAX {
            publisher.flush().await?;
            wait(&moved).await?;
        }
    }
    publisher.flush().await?;
    while slowest() < messages {
        wait(&moved).await?;
    }
    let deliveries = progress.iter().map(|came| came.load(Relaxed)).sum();
    ensure!(deliveries == messages * u64::from(fan_out.subscribers), "a message came twice");
    Ok((began.elapsed().as_secs_f64(), deliveries))
}

async fn wait(moved: &Notify) -> Result<()> {
    tokio::time::timeout(SILENCE_MAX, moved.notified()).await.context("NATS dropped messages")
}
