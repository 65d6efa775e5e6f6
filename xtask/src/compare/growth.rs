//! What must not grow with the number of queues, bindings and subscribers; measured on leveret alone.
//!
//! A steady publisher runs while something large goes on beside it, and its longest wait is looked at, with that
//! of a run in which nothing went on. Invariant: what is made for a measurement is gone after it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use leveret_wire::method::{basic, exchange, queue};
use leveret_wire::{ContentHeader, FrameKind, Method, TableBuf, Value, write_body_frames, write_frame};

use super::load::{self, Broker, number};
use super::{Lab, backlog, topics};
use crate::footprint::client::{CHANNEL, Client};
use crate::footprint::usage;

pub(super) const NAMES: [&str; 8] = [
    "20,000 joins to a fanout",
    "dropping 100,000 exclusive queues",
    "deleting a queue with 10,000 bindings",
    "1 MiB in 1,000 queues",
    "one subscriber that does not read",
    "fresh keys to 100,000 topic bindings",
    "10,000,000 x 100 B waiting in one queue",
    "10,000,000 x 100 B waiting in 1,000 queues",
];

const JOINS_PER_SECOND_MIN: f64 = 5000.0;
/// Runs of what is looked at for stalls, at least.
const STALL_RUNS_MIN: u32 = 5;
const STALL_MILLIS_MAX: f64 = 10.0;
const DROPPED_QUEUES: usize = 100_000;
const BINDINGS: usize = 10_000;
const LARGE_QUEUES: usize = 1000;
const LARGE_OCTETS: usize = 1 << 20;
/// Near 1 MiB: what a thousand queues hold for themselves is in it.
const LARGE_MEMORY_OCTETS_MAX: u64 = 4 << 20;
/// Of the rate without the one that does not read, who is one queue more to fill.
const UNREAD_SHARE_MIN: f64 = 0.5;

const STEADY: &str = "-a -r 2000 -s 64 -z 6";
const STEADY_TIME_MAX: Duration = Duration::from_secs(60);
const SAYING_MAX: usize = 1000;

/// One measurement, what was required, and whether it was kept.
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) found: String,
    pub(super) required: String,
    pub(super) holds: bool,
}

type Measurement = fn(&Lab<'_>, &mut Broker) -> Result<(String, String, bool)>;

pub(super) fn measure(lab: &Lab<'_>, broker: &mut Broker) -> Result<Vec<Line>> {
    let measurements: [Measurement; 8] = [
        joins,
        dropped_queues,
        deleted_bindings,
        large_message,
        unread,
        topics::measure,
        backlog::one_queue,
        backlog::many_queues,
    ];
    let mut lines = Vec::new();
    for (name, measurement) in NAMES.into_iter().zip(measurements).filter(|(name, _)| lab.wants(name)) {
        let (found, required, holds) = measurement(lab, broker).context(name)?;
        println!("{name}: {found}");
        lines.push(Line { name, found, required, holds });
    }
    Ok(lines)
}

fn joins(lab: &Lab<'_>, broker: &mut Broker) -> Result<(String, String, bool)> {
    let summary = load::perf(lab, broker, "-a --fan-out 20000 --connections 20", Some(20))?;
    let per_second = number(&summary, "/setup/consumers/per_second")?;
    let consumed = number(&summary, "/consumed/count")?;
    let found = format!("{per_second:.0} joins a second; 20 messages made {consumed:.0} deliveries");
    let all_served = (consumed - 400_000.0).abs() < 0.5;
    Ok((
        found,
        format!("{JOINS_PER_SECOND_MIN:.0} a second, all served"),
        per_second >= JOINS_PER_SECOND_MIN && all_served,
    ))
}

pub(super) fn open(broker: &Broker) -> Result<Client> {
    let mut client = Client::open(broker.peer.port)?;
    client.open_channel()?;
    Ok(client)
}

/// Says many things that are not answered, and waits until they are done.
pub(super) fn say_all<'m>(client: &mut Client, methods: impl Iterator<Item = Method<'m>>) -> Result<()> {
    for (index, method) in methods.enumerate() {
        client.say(CHANNEL, method);
        if index % SAYING_MAX == 0 {
            client.flush()?;
        }
    }
    settle(client)
}

pub(super) fn settle(client: &mut Client) -> Result<()> {
    let answer = client.call(CHANNEL, basic::Qos::default())?;
    ensure!(matches!(answer, Method::BasicQosOk(_)), "basic.qos-ok was expected");
    Ok(())
}

/// Longest wait of a message from a steady publisher while `action` is done, in milliseconds.
fn stall(lab: &Lab<'_>, broker: &Broker, action: impl FnOnce() -> Result<()>) -> Result<f64> {
    let program = load::program(lab, broker, STEADY, None);
    let mut steady = lab.supervisor.spawn(program, lab.folder)?;
    steady.status_line("the first messages", STEADY_TIME_MAX, |line| line.contains("consumed"))?;
    action()?;
    steady.succeed(STEADY_TIME_MAX)?;
    let summary = serde_json::from_str(&steady.stdout.all().concat())?;
    Ok(number(&summary, "/latency_microseconds/max")? / 1000.0)
}

/// The longest waits of several runs with and without the action, for which each time something is prepared.
///
/// The shortest of them is judged: a stall that the broker makes is in every run, and one that the machine makes is
/// not. The median of both stands beside it.
fn judged_stall(
    lab: &Lab<'_>,
    broker: &Broker,
    prepare: impl Fn() -> Result<Client>,
    action: impl Fn(Client) -> Result<()>,
) -> Result<(String, String, bool)> {
    let (mut longest, mut quiet) = (Vec::new(), Vec::new());
    for _ in 0..lab.options.runs.max(STALL_RUNS_MIN) {
        quiet.push(stall(lab, broker, || Ok(()))?);
        let client = prepare()?;
        longest.push(stall(lab, broker, || action(client))?);
    }
    let least = longest.iter().copied().fold(f64::INFINITY, f64::min);
    let (runs, longest, quiet) = (longest.len(), middle(longest), middle(quiet));
    let found = format!(
        "longest wait {least:.1} ms in the best of {runs} runs, {longest:.1} ms in the median; \
         {quiet:.1} ms while nothing goes on"
    );
    Ok((found, format!("{STALL_MILLIS_MAX:.0} ms in the best run"), least < STALL_MILLIS_MAX))
}

pub(super) fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn dropped_queues(lab: &Lab<'_>, broker: &mut Broker) -> Result<(String, String, bool)> {
    let names: Vec<String> = (0..DROPPED_QUEUES).map(|number| format!("dropped-{number}")).collect();
    let prepare = || {
        let mut client = open(broker)?;
        let declares = names.iter().map(|name| {
            let queue = name.as_str().into();
            queue::Declare { queue, exclusive: true, nowait: true, ..queue::Declare::default() }.into()
        });
        say_all(&mut client, declares)?;
        Ok(client)
    };
    judged_stall(lab, broker, prepare, |client| {
        drop(client);
        Ok(())
    })
}

fn deleted_bindings(lab: &Lab<'_>, broker: &mut Broker) -> Result<(String, String, bool)> {
    let keys: Vec<String> = (0..BINDINGS).map(|number| format!("key.{number}")).collect();
    let prepare = || {
        let mut client = open(broker)?;
        client.call(CHANNEL, queue::Declare { queue: "bound".into(), ..queue::Declare::default() })?;
        let binds = keys.iter().map(|key| {
            let (queue, exchange, routing_key) = ("bound".into(), "amq.topic".into(), key.as_str().into());
            queue::Bind { queue, exchange, routing_key, nowait: true, ..queue::Bind::default() }.into()
        });
        say_all(&mut client, binds)?;
        Ok(client)
    };
    judged_stall(lab, broker, prepare, |mut client| {
        let delete = queue::Delete { queue: "bound".into(), ..queue::Delete::default() };
        let answer = client.call(CHANNEL, delete)?;
        ensure!(matches!(answer, Method::QueueDeleteOk(_)), "queue.delete-ok was expected");
        client.close()
    })
}

fn large_message(lab: &Lab<'_>, _: &mut Broker) -> Result<(String, String, bool)> {
    let broker = lab.fresh("leveret-large")?;
    let mut client = open(&broker)?;
    let names: Vec<String> = (0..LARGE_QUEUES).map(|number| format!("large-{number}")).collect();
    let declares = names.iter().flat_map(|name| {
        let queue = name.as_str().into();
        let declare = queue::Declare { queue, exclusive: true, nowait: true, ..queue::Declare::default() };
        let exchange = "amq.fanout".into();
        [declare.into(), queue::Bind { queue, exchange, nowait: true, ..queue::Bind::default() }.into()]
    });
    say_all(&mut client, declares)?;
    let before = usage::memory(broker.pid)?.rss_octets;
    publish(&mut client, "amq.fanout", &vec![b'.'; LARGE_OCTETS])?;
    settle(&mut client)?;
    let after = usage::memory(broker.pid)?.rss_octets;
    for queue in [&names[0], &names[LARGE_QUEUES - 1]] {
        let declare =
            queue::Declare { queue: queue.as_str().into(), passive: true, ..queue::Declare::default() };
        let answer = client.call(CHANNEL, declare)?;
        ensure!(
            matches!(answer, Method::QueueDeclareOk(ok) if ok.message_count == 1),
            "the message is not there"
        );
    }
    client.close()?;
    broker.stop()?;
    let octets = after.saturating_sub(before);
    let mib = |octets: u64| {
        #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
        let mib = octets as f64 / f64::from(1 << 20);
        format!("{mib:.1} MiB")
    };
    Ok((
        format!("{} of memory", mib(octets)),
        mib(LARGE_MEMORY_OCTETS_MAX),
        octets <= LARGE_MEMORY_OCTETS_MAX,
    ))
}

fn publish(client: &mut Client, exchange: &str, body: &[u8]) -> Result<()> {
    client.say(CHANNEL, basic::Publish { exchange: exchange.into(), ..basic::Publish::default() });
    let header =
        ContentHeader { class_id: basic::CLASS_ID, body_octets: body.len() as u64, property_octets: &[0, 0] };
    let mut frames = Vec::new();
    write_frame(FrameKind::Header, CHANNEL, &mut frames, |out| header.encode(out));
    write_body_frames(CHANNEL, body, 4096, &mut frames);
    client.say_octets(&frames);
    client.flush()
}

fn unread(lab: &Lab<'_>, broker: &mut Broker) -> Result<(String, String, bool)> {
    const FLAGS: &str = "-a -s 64 -e unread -t fanout -y 5";
    const MESSAGES: u64 = 300_000;
    let alone = load::perf(lab, broker, FLAGS, Some(MESSAGES))?;
    let mut client = open(broker)?;
    client.call(
        CHANNEL,
        exchange::Declare {
            exchange: "unread".into(),
            kind: "fanout".into(),
            ..exchange::Declare::default()
        },
    )?;
    let limit = TableBuf::new().with("x-max-length", Value::I32(10_000));
    let arguments = limit.as_table();
    client.call(CHANNEL, queue::Declare { exclusive: true, arguments, ..queue::Declare::default() })?;
    client.call(CHANNEL, queue::Bind { exchange: "unread".into(), ..queue::Bind::default() })?;
    client.call(CHANNEL, basic::Consume { no_ack: true, ..basic::Consume::default() })?;
    // From here on nothing more is read from that socket.
    let beside = load::perf(lab, broker, FLAGS, Some(MESSAGES))?;
    drop(client);
    let mut client = open(broker)?;
    client.call(CHANNEL, exchange::Delete { exchange: "unread".into(), ..exchange::Delete::default() })?;
    client.close()?;
    let share = number(&beside, "/consumed/per_second")? / number(&alone, "/consumed/per_second")?;
    let found = format!("the five others get {:.0} % of what they get without it", share * 100.0);
    Ok((found, format!("{:.0} %", UNREAD_SHARE_MIN * 100.0), share >= UNREAD_SHARE_MIN))
}
