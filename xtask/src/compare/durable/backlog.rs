//! Millions of messages that last while nobody consumes, and then a consumer that acknowledges each.
//!
//! Invariant: filling counts until the last confirm, draining until the last message came.

use anyhow::{Result, ensure};

use super::super::Lab;
use super::super::load::number;
use super::{Found, Fresh, load, mib, rate, scaled};
use crate::footprint::usage;

const MESSAGES: u64 = 5_000_000;
/// RabbitMQ takes minutes for as many.
const RABBITMQ_MESSAGES: u64 = 250_000;
const FILL: &str = "-y 0 -f persistent -s 1024 -c 10000 -u backlog";
const DRAIN: &str = "-x 0 -f persistent -q 1000 -u backlog --delete";
/// As for a backlog that need not last.
const MEMORY_OCTETS_MAX: u64 = 200 << 20;

pub(super) fn measure(lab: &Lab<'_>) -> Result<Found> {
    let (leveret, peak_octets) = fill_and_drain(lab, Fresh::leveret(lab)?, scaled(lab, MESSAGES))?;
    let rabbitmq = match Fresh::rabbitmq(lab)? {
        Some(fresh) => Some(fill_and_drain(lab, fresh, scaled(lab, RABBITMQ_MESSAGES))?.0),
        None => None,
    };
    let required = format!("{} of memory", mib(MEMORY_OCTETS_MAX));
    Ok(Found { leveret, rabbitmq, required, holds: peak_octets <= MEMORY_OCTETS_MAX })
}

/// Both halves in words, and the most memory that the broker had resident in either.
fn fill_and_drain(lab: &Lab<'_>, fresh: Fresh, messages: u64) -> Result<(String, u64)> {
    let filled = load(lab, &fresh.broker, FILL, Some(messages))?;
    let drained = load(lab, &fresh.broker, DRAIN, None)?;
    #[allow(clippy::cast_precision_loss, reason = "millions")]
    let is_all = (number(&drained, "/consumed/count")? - messages as f64).abs() < 0.5;
    ensure!(is_all, "of {messages} messages these came: {drained}");
    let peak_octets = usage::peak_octets(fresh.broker.peer.pid)?;
    fresh.end()?;
    let found = format!(
        "{messages} messages: at most {} of memory; {:.0} a second published and confirmed, {:.0} a second drained and acknowledged",
        mib(peak_octets),
        rate(&filled, "published")?,
        rate(&drained, "consumed")?
    );
    Ok((found, peak_octets))
}
