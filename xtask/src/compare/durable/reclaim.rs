//! Disk that is given back while one old message of a queue stays.
//!
//! Invariant: that message is the first of its queue, nobody acknowledges it, and it is still there at the end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use leveret_wire::method::basic;
use leveret_wire::{ContentHeader, FrameKind, Method};

use super::super::Lab;
use super::super::growth::open;
use super::{Found, Fresh, disk, load, load_beside, mib, scaled};
use crate::footprint::client::{CHANNEL, Client, method_of};

const QUEUE: &str = "reclaim";
const BODY_OCTETS: u64 = 1024;
/// More than 2 GiB of bodies.
const MESSAGES: u64 = 2_200_000;
/// RabbitMQ takes minutes for as many.
const RABBITMQ_MESSAGES: u64 = 150_000;
const OLD: &str = "-y 0 -f persistent -s 1024 -c 1 -u reclaim";
const PASSING: &str = "-f persistent -s 1024 -c 1000 -q 1000 -u reclaim";
const FOLDER_OCTETS_MAX: u64 = 300 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is no longer needed goes a moment after the last message that needed it.
const SETTLE_TIME: Duration = Duration::from_secs(2);

pub(super) fn measure(lab: &Lab<'_>) -> Result<Found> {
    let (leveret, end_octets) = pass(lab, Fresh::leveret(lab)?, scaled(lab, MESSAGES))?;
    let rabbitmq = match Fresh::rabbitmq(lab)? {
        Some(fresh) => Some(pass(lab, fresh, scaled(lab, RABBITMQ_MESSAGES))?.0),
        None => None,
    };
    let required = format!("{} on disk at the end", mib(FOLDER_OCTETS_MAX));
    Ok(Found { leveret, rabbitmq, required, holds: end_octets <= FOLDER_OCTETS_MAX })
}

/// What was found in words, and what the folder took of the disk at the end.
fn pass(lab: &Lab<'_>, fresh: Fresh, messages: u64) -> Result<(String, u64)> {
    load(lab, &fresh.broker, OLD, Some(1))?;
    let mut holder = open(&fresh.broker)?;
    hold(&mut holder)?;
    let (mut most_octets, mut looked) = (0, Instant::now());
    load_beside(lab, &fresh.broker, PASSING, Some(messages), || {
        thread::sleep(LOOK_EVERY.saturating_sub(looked.elapsed()));
        looked = Instant::now();
        most_octets = most_octets.max(disk::octets_taken(&fresh.folder)?);
        Ok(())
    })?;
    thread::sleep(SETTLE_TIME);
    let end_octets = disk::octets_taken(&fresh.folder)?;
    // It goes back to its queue with the connection that held it.
    holder.close()?;
    let mut other = open(&fresh.broker)?;
    hold(&mut other).context("the old message is gone")?;
    other.close()?;
    fresh.end()?;
    let found = format!(
        "{} on disk at the end, at most {} meanwhile, while {} passed",
        mib(end_octets),
        mib(most_octets.max(end_octets)),
        mib(messages * BODY_OCTETS)
    );
    Ok((found, end_octets))
}

/// Takes the first message of the queue, and acknowledges nothing.
fn hold(client: &mut Client) -> Result<()> {
    let get = basic::Get { queue: QUEUE.into(), ..basic::Get::default() };
    client.say(CHANNEL, get);
    client.flush()?;
    match method_of(client.frame()?)? {
        Method::BasicGetOk(_) => {}
        other => bail!("basic.get-ok was expected, and {} came", other.name()),
    }
    let header = client.frame()?;
    ensure!(header.kind == FrameKind::Header, "a content header was expected");
    let body_octets = ContentHeader::decode(header.payload)?.body_octets;
    ensure!(body_octets == BODY_OCTETS, "the old message has {BODY_OCTETS} octets, and {body_octets} came");
    let body = client.frame()?;
    ensure!(body.kind == FrameKind::Body, "a body was expected");
    Ok(())
}
