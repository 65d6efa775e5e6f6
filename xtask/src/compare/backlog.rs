//! What millions of messages that wait cost: the broker's memory, and the rates of both halves.
//!
//! Each body begins with its number, and what is drained is checked: all of it, in order. Invariant: the
//! broker of a measurement is its own, and its data folder was empty.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use leveret_wire::method::{basic, queue};
use leveret_wire::{ContentHeader, FrameKind, Method, write_body_frames, write_frame};
use procfs::process::Process;

use super::Lab;
use super::growth::{open, say_all, settle};
use super::load::Broker;
use crate::footprint::client::{CHANNEL, Client};
use crate::footprint::usage;

const MESSAGES: u64 = 10_000_000;
const BODY_OCTETS: usize = 100;
const QUEUES: u64 = 1000;
const MEMORY_OCTETS_MAX: u64 = 200 << 20;
/// Octets that may be read to drain one queue of many, as a multiple of the bodies in it: records, their
/// pages, and what its neighbours on the socket cost.
const READ_MULTIPLE_MAX: u64 = 4;
/// Octets of frames said at once.
const SAYING_OCTETS: usize = 256 * 1024;
const FRAME_OCTETS_MAX: u32 = 131_072;

pub(super) fn one_queue(lab: &Lab<'_>, _: &mut Broker) -> Result<(String, String, bool)> {
    let broker = lab.fresh("leveret-backlog")?;
    let names = [String::from("backlog")];
    let (published, mut client) = fill(&broker, &names)?;
    let drained = drain(&mut client, &names[0], 0..MESSAGES, 1)?;
    client.close()?;
    let peak = usage::peak_octets(broker.pid)?;
    broker.stop()?;
    let found = format!(
        "at most {} of memory; {} a second published, {} a second drained in order",
        mib(peak),
        rate(MESSAGES, published),
        rate(MESSAGES, drained)
    );
    Ok((found, mib(MEMORY_OCTETS_MAX), peak <= MEMORY_OCTETS_MAX))
}

pub(super) fn many_queues(lab: &Lab<'_>, _: &mut Broker) -> Result<(String, String, bool)> {
    let broker = lab.fresh("leveret-backlogs")?;
    let names: Vec<String> = (0..QUEUES).map(|number| format!("backlog-{number}")).collect();
    let (published, mut client) = fill(&broker, &names)?;
    let before = octets_read(&broker)?;
    let first = drain(&mut client, &names[7], 7..MESSAGES, QUEUES)?;
    let read = octets_read(&broker)? - before;
    let began = Instant::now();
    for (number, name) in (0..).zip(&names).filter(|(number, _)| *number != 7) {
        drain(&mut client, name, number..MESSAGES, QUEUES)?;
    }
    let drained = began.elapsed().as_secs_f64();
    client.close()?;
    let peak = usage::peak_octets(broker.pid)?;
    broker.stop()?;
    let each = MESSAGES / QUEUES;
    let read_max = each * BODY_OCTETS as u64 * READ_MULTIPLE_MAX;
    let found = format!(
        "at most {} of memory; {} a second published; one queue drained at {} a second, for which {} were read; \
         the others one by one at {} a second",
        mib(peak),
        rate(MESSAGES, published),
        rate(each, first),
        mib(read),
        rate(MESSAGES - each, drained)
    );
    let required = format!("{}; {} read", mib(MEMORY_OCTETS_MAX), mib(read_max));
    Ok((found, required, peak <= MEMORY_OCTETS_MAX && read <= read_max))
}

/// Publishes all messages, to each queue in turn; how long that took, and the client.
fn fill(broker: &Broker, names: &[String]) -> Result<(f64, Client)> {
    let mut client = open(broker)?;
    let declares = names.iter().map(|name| {
        queue::Declare { queue: name.as_str().into(), nowait: true, ..queue::Declare::default() }.into()
    });
    say_all(&mut client, declares)?;
    let templates: Vec<_> = names.iter().map(|name| template(name)).collect();
    let began = Instant::now();
    let mut frames = Vec::with_capacity(2 * SAYING_OCTETS);
    for (number, template) in (0..MESSAGES).zip(templates.iter().cycle()) {
        frames.extend_from_slice(template);
        let body = frames.len() - BODY_OCTETS - 1;
        frames[body..body + 8].copy_from_slice(&number.to_be_bytes());
        if frames.len() >= SAYING_OCTETS {
            client.say_octets(&frames);
            client.flush()?;
            frames.clear();
        }
    }
    client.say_octets(&frames);
    settle(&mut client)?;
    Ok((began.elapsed().as_secs_f64(), client))
}

/// The frames of a message to that queue, which end with its body and one octet.
fn template(queue: &str) -> Vec<u8> {
    let mut frames = Vec::new();
    let publish = basic::Publish { routing_key: queue.into(), ..basic::Publish::default() };
    Method::from(publish).write_frame(CHANNEL, &mut frames);
    let header = ContentHeader {
        class_id: basic::CLASS_ID,
        body_octets: BODY_OCTETS as u64,
        property_octets: &[0, 0],
    };
    write_frame(FrameKind::Header, CHANNEL, &mut frames, |out| header.encode(out));
    write_body_frames(CHANNEL, &[b'.'; BODY_OCTETS], FRAME_OCTETS_MAX, &mut frames);
    frames
}

/// Consumes what is in a queue, which are the numbers of the range that far apart; how long that took.
fn drain(client: &mut Client, queue: &str, numbers: std::ops::Range<u64>, apart: u64) -> Result<f64> {
    let began = Instant::now();
    let step = usize::try_from(apart)?;
    let tag = "drain";
    let consume = basic::Consume {
        queue: queue.into(),
        consumer_tag: tag.into(),
        no_ack: true,
        ..basic::Consume::default()
    };
    let answer = client.call(CHANNEL, consume)?;
    ensure!(matches!(answer, Method::BasicConsumeOk(_)), "basic.consume-ok was expected");
    for number in numbers.step_by(step) {
        let body = loop {
            let frame = client.frame()?;
            if frame.kind == FrameKind::Body {
                break *frame.payload.first_chunk().context("a body has its number")?;
            }
        };
        let found = u64::from_be_bytes(body);
        ensure!(found == number, "message {found} came where {number} was expected");
    }
    let seconds = began.elapsed().as_secs_f64();
    let answer = client.call(CHANNEL, basic::Cancel { consumer_tag: tag.into(), nowait: false })?;
    ensure!(matches!(answer, Method::BasicCancelOk(_)), "basic.cancel-ok was expected");
    Ok(seconds)
}

/// Octets that the broker has read so far, from files and sockets.
fn octets_read(broker: &Broker) -> Result<u64> {
    let process = Process::new(broker.pid.as_raw_nonzero().get()).context("the broker's process")?;
    Ok(process.io().context("what the broker has read")?.rchar)
}

fn mib(octets: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mib = octets as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB")
}

fn rate(messages: u64, seconds: f64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown without digits")]
    let messages = messages as f64;
    format!("{:.0}", messages / seconds)
}
