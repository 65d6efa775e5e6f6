//! Three RabbitMQ nodes, and the one that both programs are connected to goes away in mid-stream.
//!
//! Holds the course of events; what must be true of the numbers afterwards is judged in `account`.
//! Invariant: the node goes only once both programs are seen to be connected to it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::account;
use super::bus::{self, FileReceiver, NumberedEmit};
use super::lab::Scene;
use super::ports;
use super::process::TICK;
use super::rabbitmq::Node;
use super::{Against, Case};

/// Enough lines that queues, confirms and prefetch are all in full swing.
const MID_STREAM_OCTETS: usize = 1_000_000;

const MOVE_TIME_MAX: Duration = Duration::from_secs(60);

pub(super) fn cases() -> Vec<Case> {
    let case = |name, go_away| Case::new(name, Against::RabbitMq, move |scene| node_goes(scene, go_away));
    vec![case("cluster/node-stopped", Node::stop), case("cluster/node-killed", Node::kill)]
}

fn node_goes(scene: &Scene, go_away: fn(&mut Node) -> Result<()>) -> Result<()> {
    let mut cluster = scene.cluster()?;
    let urls = cluster.urls();
    let mut receiver = FileReceiver::start(scene, "receive", &urls)?;
    let emit = NumberedEmit::start(scene, &urls)?;
    receiver.await_growth(MID_STREAM_OCTETS)?;

    let (first, others) = cluster.nodes.split_first_mut().expect("a cluster has a first node");
    let connected = ports::connections_to(first.port())?;
    ensure!(connected == 2, "{connected} connections lead to the first node, not one of each program");
    go_away(first)?;
    await_connections(&receiver, others, 2)?;
    receiver.await_growth(MID_STREAM_OCTETS)?;

    let (emit, sent) = emit.finish()?;
    bus::emit_end(scene, &urls[1..])?;
    receiver.await_last_line(bus::END)?;
    let received = receiver.stop()?;
    account::must_be_exact(&emit, sent, &receiver.process, &received)
}

/// Waits until `count` connections lead to `nodes` together.
fn await_connections(receiver: &FileReceiver, nodes: &[Node], count: usize) -> Result<()> {
    let deadline = Instant::now() + MOVE_TIME_MAX;
    loop {
        let counts =
            nodes.iter().map(|node| ports::connections_to(node.port())).collect::<Result<Vec<_>>>()?;
        if counts.iter().sum::<usize>() == count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the programs did not move: connections {counts:?}, not {count}");
        receiver.process.rest(TICK)?;
    }
}
