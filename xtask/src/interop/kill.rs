//! The broker is killed in mid-stream: a server that is brought back, and a host among its receivers.
//!
//! Holds the course of events; what must be true of the numbers afterwards is judged in `account`.
//! Invariant: a broker dies only while lines flow through it, and of a signal that it cannot answer.

use anyhow::{Context, Result, ensure};

use super::account::{self, gaps_of};
use super::bus::{self, FileReceiver, NumberedEmit};
use super::lab::Scene;
use super::leveret::Server;
use super::ports;
use super::process::Process;
use super::rabbitmq::Cluster;
use super::{Against, Case};

/// Enough lines that queues, confirms and prefetch are all in full swing.
const MID_STREAM_OCTETS: usize = 1_000_000;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("kill/serve", Against::Leveret, kill_serve),
        Case::new("kill/embedded-host", Against::Leveret, kill_embedded_host),
        Case::new("kill/server", Against::RabbitMq, kill_rabbitmq).only_in_the_long_set(),
    ]
}

fn kill_serve(scene: &Scene) -> Result<()> {
    let [port] = ports::free()?;
    let server = Server::start(scene.supervisor(), scene.leveret_binary()?, port, &scene.folder)?;
    let url = server.url();
    let mut back = None;
    survive(scene, url, || {
        server.kill()?;
        back = Some(Server::start(scene.supervisor(), scene.leveret_binary()?, port, &scene.folder)?);
        Ok(())
    })?;
    back.context("the server was not brought back")?.stop()
}

fn kill_rabbitmq(scene: &Scene) -> Result<()> {
    let mut cluster = Cluster::start(scene.supervisor(), &["killed"], &scene.folder)?;
    let url = cluster.nodes[0].url();
    survive(scene, url, || {
        cluster.nodes[0].kill()?;
        cluster.heal(scene.supervisor())
    })?;
    cluster.nodes[0].stop()
}

/// A numbered stream through the broker at `url`, which `die_and_come_back` kills and starts again.
fn survive(scene: &Scene, url: String, die_and_come_back: impl FnOnce() -> Result<()>) -> Result<()> {
    let urls = [url];
    let mut receiver = FileReceiver::start(scene, "receive", &urls)?;
    let emit = NumberedEmit::start(scene, &urls)?;
    receiver.await_growth(MID_STREAM_OCTETS)?;
    die_and_come_back()?;
    bus::await_gap(&mut receiver.process)?;
    receiver.await_growth(MID_STREAM_OCTETS)?;

    let (emit, sent) = emit.finish()?;
    bus::emit_end(scene, &urls)?;
    receiver.await_last_line(bus::END)?;
    let received = receiver.stop()?;
    ensure!(gaps_of(&receiver.process)?.len() == 1, "there is not one gap{}", receiver.process.last_words());
    account::must_be_exact(&emit, sent, &receiver.process, &received)
}

/// Where `receive` hosts a broker when nothing else is configured.
const EMBEDDED_PORT: u16 = 5672;

fn kill_embedded_host(scene: &Scene) -> Result<()> {
    ensure!(ports::is_free(EMBEDDED_PORT), "port {EMBEDDED_PORT}, where receive would host, is in use");
    let start = |name| FileReceiver::start(scene, name, &[]);
    let mut host = start("receive-1")?;
    ensure!(bus::hosts(&host.process), "the first receiver does not host{}", host.process.last_words());
    let mut others = [start("receive-2")?, start("receive-3")?];
    for other in &others {
        ensure!(!bus::hosts(&other.process), "{} hosts too", other.process.name());
    }

    let emit = NumberedEmit::start(scene, &[])?;
    for receiver in others.iter_mut().chain([&mut host]) {
        receiver.await_growth(MID_STREAM_OCTETS)?;
    }
    host.process.kill()?;
    for other in &mut others {
        bus::await_gap(&mut other.process)?;
        other.await_growth(MID_STREAM_OCTETS)?;
    }
    let hosts = others.iter().filter(|other| bus::hosts(&other.process)).count();
    ensure!(hosts == 1, "{hosts} of the two that are left host the broker");

    let (emit, sent) = emit.finish()?;
    bus::emit_end(scene, &[])?;
    others.iter_mut().try_for_each(|other| other.await_last_line(bus::END))?;
    stop_and_judge(others, &emit, sent)
}

/// Stops the receivers, the host last, since the others would race to host when it goes.
fn stop_and_judge(mut receivers: [FileReceiver; 2], emit: &Process, sent: u64) -> Result<()> {
    receivers.sort_by_key(|receiver| bus::hosts(&receiver.process));
    for mut receiver in receivers {
        let received = receiver.stop()?;
        account::must_be_exact(emit, sent, &receiver.process, &received)?;
    }
    Ok(())
}
