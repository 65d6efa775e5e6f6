//! The phases: joins, joins with publishes between them, wide publishes, dropped connections.
//!
//! Leaves tables to the vhost and stalls to `steady`. Invariant: what a phase sets up is not measured.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use super::{
    Variant,
    steady::Steady,
    turn::Turn,
    vhost::{Owner, Queue, RouteCache, Vhost},
};
use crate::measure::{self, Problem};

const CONNECTIONS: usize = 4;
const JOINS: usize = 20_000;
/// Pipelined joins (a declare and a bind) that one read of 64 KiB brings.
const JOINS_A_READ: usize = 700;
const JOINS_A_PUBLISH: usize = 20;
const PUBLISHERS: usize = 2;
const BATCHES: usize = 4;
/// Publishes that one read brings, grouped by queue.
const BATCH_MESSAGES: usize = 64;
const DROPPED_QUEUES: usize = 100_000;
const DROPPED_QUEUE_MESSAGES: usize = 8;
/// The steady publisher runs alone for so long before a phase begins.
const LEAD: Duration = Duration::from_millis(5);
const QUIET: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Quiet,
    Joins,
    JoinsAndPublishes,
    Publishes,
    Drops,
}

impl Phase {
    pub(super) const ALL: [Self; 5] =
        [Self::Quiet, Self::Joins, Self::JoinsAndPublishes, Self::Publishes, Self::Drops];

    pub(super) fn title(self) -> String {
        match self {
            Self::Quiet => "No churn, for comparison".into(),
            Self::Joins => format!("{JOINS} joins by {CONNECTIONS} connections"),
            Self::JoinsAndPublishes => {
                format!("{JOINS} joins, with a publish to the fanout after each {JOINS_A_PUBLISH}")
            }
            Self::Publishes => format!(
                "{PUBLISHERS} publishers, each {BATCHES} batches of {BATCH_MESSAGES} messages to {JOINS} queues"
            ),
            Self::Drops => format!("{DROPPED_QUEUES} queues dropped with {CONNECTIONS} connections"),
        }
    }
}

pub(super) struct Outcome {
    pub(super) stalls_millis: Vec<f64>,
    pub(super) longest_turn: Duration,
    pub(super) elapsed: Duration,
    pub(super) processor: Duration,
}

/// Runs one phase on a fresh vhost and runtime.
pub(super) fn run(phase: Phase, variant: &Variant) -> Result<Outcome, Problem> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .event_interval(variant.event_interval)
        .enable_all()
        .build()?;
    runtime.block_on(measure_phase(phase, *variant))
}

async fn measure_phase(phase: Phase, variant: Variant) -> Result<Outcome, Problem> {
    let vhost = (variant.new_vhost)();
    let owned = set_up(phase, &vhost);
    let steady = Steady::start(Arc::clone(&vhost)).await?;
    sleep(LEAD).await;
    let (start, before) = (Instant::now(), measure::processor_time());
    let mut tasks = start_tasks(phase, variant.budget, &vhost, owned);
    let mut longest_turn = Duration::ZERO;
    while let Some(longest) = tasks.join_next().await {
        longest_turn = longest_turn.max(longest?);
    }
    let (elapsed, processor) = (start.elapsed(), measure::processor_time() - before);
    Ok(Outcome { stalls_millis: steady.stop().await?, longest_turn, elapsed, processor })
}

/// A connection and its queues.
type Owned = (Arc<Owner>, Vec<Arc<Queue>>);

/// Queues that stand before the phase begins.
fn set_up(phase: Phase, vhost: &Arc<dyn Vhost>) -> Vec<Owned> {
    let (queues, messages) = match phase {
        Phase::Publishes => (JOINS, 0),
        Phase::Drops => (DROPPED_QUEUES, DROPPED_QUEUE_MESSAGES),
        Phase::Quiet | Phase::Joins | Phase::JoinsAndPublishes => return Vec::new(),
    };
    let mut owned: Vec<Owned> = (0..CONNECTIONS).map(|_| Owned::default()).collect();
    for index in 0..queues {
        let (owner, queues) = &mut owned[index % CONNECTIONS];
        let queue = vhost.declare(name(0, index), owner);
        queue.append(&vec![0; messages]);
        queues.push(queue);
    }
    vhost.bind_all(&owned.iter().flat_map(|(_, queues)| queues).cloned().collect::<Vec<_>>());
    owned
}

fn name(connection: usize, index: usize) -> Arc<str> {
    format!("amq.gen-{connection:04}-{index:012}").into()
}

fn start_tasks(phase: Phase, budget: usize, vhost: &Arc<dyn Vhost>, owned: Vec<Owned>) -> JoinSet<Duration> {
    let mut tasks = JoinSet::new();
    match phase {
        Phase::Quiet => drop(tasks.spawn(quiet())),
        Phase::Joins | Phase::JoinsAndPublishes => {
            let publishes = phase == Phase::JoinsAndPublishes;
            for connection in 0..CONNECTIONS {
                tasks.spawn(join(Arc::clone(vhost), connection, publishes, budget));
            }
        }
        Phase::Publishes => {
            for _ in 0..PUBLISHERS {
                tasks.spawn(publish(Arc::clone(vhost), budget));
            }
        }
        Phase::Drops => {
            for owned in owned {
                tasks.spawn(drop_connection(Arc::clone(vhost), owned, budget));
            }
        }
    }
    tasks
}

async fn quiet() -> Duration {
    sleep(QUIET).await;
    Duration::ZERO
}

async fn join(vhost: Arc<dyn Vhost>, connection: usize, publishes: bool, budget: usize) -> Duration {
    let (owner, mut cache) = (Arc::new(Owner::default()), RouteCache::default());
    let mut turn = Turn::new(budget);
    for index in 1..=JOINS / CONNECTIONS {
        let queue = vhost.declare(name(connection, index), &owner);
        vhost.bind(&queue);
        turn.spend(2).await;
        if publishes && index % JOINS_A_PUBLISH == 0 {
            publish_batch(vhost.as_ref(), &[index as u64], &mut cache, &mut turn).await;
        }
        if index % JOINS_A_READ == 0 {
            turn.end().await;
        }
    }
    turn.end().await;
    turn.longest
}

async fn publish(vhost: Arc<dyn Vhost>, budget: usize) -> Duration {
    let (mut cache, mut turn) = (RouteCache::default(), Turn::new(budget));
    for _ in 0..BATCHES {
        publish_batch(vhost.as_ref(), &[0; BATCH_MESSAGES], &mut cache, &mut turn).await;
        turn.end().await;
    }
    turn.longest
}

/// Appends the batch to each queue of the fanout, with one lock for each.
async fn publish_batch(vhost: &dyn Vhost, batch: &[u64], cache: &mut RouteCache, turn: &mut Turn) {
    let (routes, steps) = vhost.fanout(cache);
    turn.spend(steps).await;
    let mut rest = routes.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(turn.units(batch.len()).min(rest.len()));
        now.iter().for_each(|queue| queue.append(batch));
        turn.spend(now.len() * batch.len()).await;
        rest = later;
    }
}

async fn drop_connection(vhost: Arc<dyn Vhost>, owned: Owned, budget: usize) -> Duration {
    let (owner, mut queues) = owned;
    let mut turn = Turn::new(budget);
    owner.die();
    while !queues.is_empty() {
        let count = turn.units(1 + DROPPED_QUEUE_MESSAGES).min(queues.len());
        let now = queues.split_off(queues.len() - count);
        vhost.delete(&now);
        let freed: usize = now.iter().map(|queue| queue.free()).sum();
        drop(now);
        turn.spend(count + freed).await;
    }
    turn.end().await;
    turn.longest
}
