//! How long others wait while a queue is drained from a disk that nobody has read yet.
//!
//! The broker is started anew with what it has, the kernel forgets what it holds of its files, and a consumer
//! drains. Beside it one connection sends a message to itself each millisecond. Invariant: a drain counts only if
//! the broker did read from the disk.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_wire::method::{basic, queue};
use leveret_wire::{FrameKind, Method};
use procfs::process::Process;

use super::super::Lab;
use super::super::growth::{middle, open};
use super::super::load::{Broker, number};
use super::{Found, Fresh, disk, load, load_beside, mib, rate, scaled};
use crate::footprint::client::{CHANNEL, Client};
use crate::footprint::peer::Ending;

const MESSAGES: u64 = 1_000_000;
/// RabbitMQ takes minutes for as many.
const RABBITMQ_MESSAGES: u64 = 100_000;
const BODY_OCTETS: u64 = 1024;
const FILL: &str = "-y 0 -f persistent -s 1024 -c 10000 -u cold";
const DRAIN: &str = "-x 0 -f persistent -q 1000 -u cold --delete";
const PING_EVERY: Duration = Duration::from_millis(1);
const QUIET_TIME: Duration = Duration::from_secs(2);
const GAP_MILLIS_MAX: f64 = 20.0;
/// Runs, at least: what the machine does to one of them is not the broker's.
const RUNS_MIN: u32 = 3;

/// The longest waits of a ping in milliseconds, the rate of the drain, and what was read for it.
#[derive(Clone, Copy, Debug)]
struct Run {
    gap_millis: f64,
    quiet_millis: f64,
    per_second: f64,
    read_octets: u64,
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Found> {
    let messages = scaled(lab, MESSAGES);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..lab.options.runs.max(RUNS_MIN) {
        let run = run(lab, Fresh::leveret(lab)?, messages)?;
        println!("leveret: {}", said(&[run]));
        // What lies around bodies on disk is more than what is in memory of them.
        let expected = messages * BODY_OCTETS / 10 * 9;
        ensure!(
            run.read_octets >= expected,
            "of {} only {} were read from disk",
            mib(expected),
            mib(run.read_octets)
        );
        ours.push(run);
    }
    // A start takes it seconds, and its waits are told and not judged.
    if let Some(fresh) = Fresh::rabbitmq(lab)? {
        theirs.push(run(lab, fresh, scaled(lab, RABBITMQ_MESSAGES))?);
    }
    let rabbitmq = (!theirs.is_empty())
        .then(|| format!("{} messages: {}", scaled(lab, RABBITMQ_MESSAGES), said(&theirs)));
    let leveret = format!("{messages} messages: {}", said(&ours));
    let required = format!("{GAP_MILLIS_MAX:.0} ms in the best run; the cache is dropped by `posix_fadvise`");
    Ok(Found { leveret, rabbitmq, required, holds: least(&ours) < GAP_MILLIS_MAX })
}

fn run(lab: &Lab<'_>, mut fresh: Fresh, messages: u64) -> Result<Run> {
    load(lab, &fresh.broker, FILL, Some(messages))?;
    fresh.broker.restart(lab, Ending::Orderly)?;
    let mut pings = Pings::open(&fresh.broker)?;
    let until = Instant::now() + QUIET_TIME;
    while Instant::now() < until {
        pings.ping()?;
    }
    let quiet = std::mem::take(&mut pings.longest);
    disk::drop_cache(&fresh.folder)?;
    let before = octets_read(&fresh.broker)?;
    let drained = load_beside(lab, &fresh.broker, DRAIN, None, || pings.ping())?;
    let read_octets = octets_read(&fresh.broker)? - before;
    #[allow(clippy::cast_precision_loss, reason = "millions")]
    let is_all = (number(&drained, "/consumed/count")? - messages as f64).abs() < 0.5;
    ensure!(is_all, "of {messages} messages these came: {drained}");
    let gap = pings.longest;
    pings.client.close()?;
    fresh.end()?;
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let per_second = rate(&drained, "consumed")?;
    Ok(Run { gap_millis: millis(gap), quiet_millis: millis(quiet), per_second, read_octets })
}

/// A connection that sends itself a message at a time.
struct Pings {
    client: Client,
    queue: String,
    due: Instant,
    longest: Duration,
}

impl Pings {
    fn open(broker: &Broker) -> Result<Self> {
        let mut client = open(broker)?;
        let declare = queue::Declare { exclusive: true, ..queue::Declare::default() };
        let Method::QueueDeclareOk(declared) = client.call(CHANNEL, declare)? else {
            anyhow::bail!("queue.declare-ok was expected")
        };
        let queue = declared.queue.to_string();
        let consume =
            basic::Consume { queue: queue.as_str().into(), no_ack: true, ..basic::Consume::default() };
        let answer = client.call(CHANNEL, consume)?;
        ensure!(matches!(answer, Method::BasicConsumeOk(_)), "basic.consume-ok was expected");
        Ok(Self { client, queue, due: Instant::now(), longest: Duration::ZERO })
    }

    /// Sends the next message when it is due and waits until it is back.
    fn ping(&mut self) -> Result<()> {
        thread::sleep(self.due.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        self.due = began + PING_EVERY;
        self.client.publish(&self.queue, b"ping");
        self.client.flush()?;
        for kind in [FrameKind::Method, FrameKind::Header, FrameKind::Body] {
            let frame = self.client.frame()?;
            ensure!(frame.kind == kind, "{kind:?} was expected, and {:?} came", frame.kind);
        }
        self.longest = self.longest.max(began.elapsed());
        Ok(())
    }
}

/// Octets that the broker has had read from the disk so far, not from what the kernel still had of it.
fn octets_read(broker: &Broker) -> Result<u64> {
    let process = Process::new(broker.pid.as_raw_nonzero().get()).context("the broker's process")?;
    Ok(process.io().context("what the broker has read")?.read_bytes)
}

fn least(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.gap_millis).fold(f64::INFINITY, f64::min)
}

fn said(runs: &[Run]) -> String {
    let of = |figure: fn(&Run) -> f64| middle(runs.iter().map(figure).collect());
    let read = runs.iter().map(|run| run.read_octets).min().unwrap_or_default();
    format!(
        "longest wait {:.1} ms in the best of {} runs, {:.1} ms in the median; {:.1} ms while nothing goes on; {:.0} a second \
         drained, {} read from disk",
        least(runs),
        runs.len(),
        of(|run| run.gap_millis),
        of(|run| run.quiet_millis),
        of(|run| run.per_second),
        mib(read)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_run_is_told_first_and_the_median_beside_it() {
        let run = |gap_millis| Run { gap_millis, quiet_millis: 1.0, per_second: 1e5, read_octets: 1 << 30 };
        let runs = [run(30.0), run(12.5), run(70.0)];
        assert!((least(&runs) - 12.5).abs() < f64::EPSILON);
        let said = said(&runs);
        assert!(
            said.starts_with("longest wait 12.5 ms in the best of 3 runs, 30.0 ms in the median"),
            "{said}"
        );
        assert!(said.ends_with("1024 MiB read from disk"), "{said}");
    }
}
