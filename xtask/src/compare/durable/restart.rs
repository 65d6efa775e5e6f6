//! How long a start takes with many queues full of messages that last.
//!
//! Invariant: a start counts from before the process is made until a client is served, and only if every message
//! is in its queue then.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use leveret_wire::Method;
use leveret_wire::method::queue;

use super::super::Lab;
use super::super::growth::{middle, open};
use super::super::load::Broker;
use super::{Found, Fresh, load, scaled};
use crate::footprint::client::CHANNEL;
use crate::footprint::peer::Ending;

const QUEUES: u64 = 1000;
const MESSAGES_EACH: u64 = 1000;
/// RabbitMQ takes a minute for as many.
const RABBITMQ_MESSAGES_EACH: u64 = 100;
const FILL: &str = "-x 1000 -y 0 --queues 1000 -u restart -f persistent -s 100 -c 100 --connections 10";
const ORDERLY_SECONDS_MAX: f64 = 1.0;
const KILLED_SECONDS_MAX: f64 = 5.0;

/// Seconds of the starts after each ending.
#[derive(Debug, Default)]
struct Starts {
    killed: Vec<f64>,
    orderly: Vec<f64>,
}

pub(super) fn measure(lab: &Lab<'_>) -> Result<Found> {
    let mut ours = Starts::default();
    for _ in 0..lab.options.runs {
        starts(lab, Fresh::leveret(lab)?, scaled(lab, MESSAGES_EACH), &mut ours)?;
    }
    // Once: the times are hundreds of ours.
    let rabbitmq = match Fresh::rabbitmq(lab)? {
        Some(fresh) => {
            let mut theirs = Starts::default();
            let each = scaled(lab, RABBITMQ_MESSAGES_EACH);
            starts(lab, fresh, each, &mut theirs)?;
            Some(format!("{} messages: {}", each * QUEUES, said(&theirs)))
        }
        None => None,
    };
    Ok(judged(&ours, rabbitmq))
}

/// Fills a broker, kills it while its journal is as it is after that, and stops it.
fn starts(lab: &Lab<'_>, mut fresh: Fresh, each: u64, starts: &mut Starts) -> Result<()> {
    load(lab, &fresh.broker, FILL, Some(each))?;
    for (ending, found) in [(Ending::Killed, &mut starts.killed), (Ending::Orderly, &mut starts.orderly)] {
        let took = fresh.broker.restart(lab, ending)?;
        check_queues(&fresh.broker, each)?;
        println!("{}: {ending:?}: {:.3} s", fresh.broker.name(), took.as_secs_f64());
        found.push(Duration::as_secs_f64(&took));
    }
    fresh.end()
}

fn check_queues(broker: &Broker, each: u64) -> Result<()> {
    let mut client = open(broker)?;
    for number in 1..=QUEUES {
        let name = format!("restart-{number}");
        let declare =
            queue::Declare { queue: name.as_str().into(), passive: true, ..queue::Declare::default() };
        let Method::QueueDeclareOk(found) = client.call(CHANNEL, declare)? else {
            bail!("queue.declare-ok was expected")
        };
        let count = found.message_count;
        ensure!(u64::from(count) == each, "{name} has {count} messages, and {each} were confirmed");
    }
    client.close()
}

fn said(starts: &Starts) -> String {
    let of = |seconds: &[f64]| middle(seconds.to_vec());
    format!("{:.3} s after an orderly stop, {:.3} s after SIGKILL", of(&starts.orderly), of(&starts.killed))
}

fn judged(ours: &Starts, rabbitmq: Option<String>) -> Found {
    let holds = middle(ours.orderly.clone()) <= ORDERLY_SECONDS_MAX
        && middle(ours.killed.clone()) <= KILLED_SECONDS_MAX;
    let required = format!("{ORDERLY_SECONDS_MAX:.0} s and {KILLED_SECONDS_MAX:.0} s, nothing lost");
    Found { leveret: said(ours), rabbitmq, required, holds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_starts_are_judged_by_their_medians() {
        let holds = |orderly: &[f64], killed: &[f64]| {
            let starts = Starts { killed: killed.to_vec(), orderly: orderly.to_vec() };
            judged(&starts, None).holds
        };
        assert!(holds(&[0.2, 7.0, 1.0], &[9.0, 5.0, 4.0]));
        assert!(!holds(&[1.1], &[0.1]) && !holds(&[0.1], &[5.1]));
    }

    #[test]
    fn the_generator_fills_as_many_queues_as_are_looked_at() {
        assert!(FILL.contains(&format!("-x {QUEUES} ")) && FILL.contains(&format!("--queues {QUEUES} ")));
    }
}
