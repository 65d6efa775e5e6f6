//! The load: fifty publishers, fifty consumers, and messages of mixed sizes that all arrive.
//!
//! Half of the publishers ask for confirms and half of the consumers acknowledge, so that both ways of
//! each are in it. Knows messages and queues; not which broker carries them, nor what that costs.
//! Invariant: a load that ends well delivered every message once, whole and in order.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use leveret_wire::method::{basic, confirm, queue};
use leveret_wire::{ContentHeader, FrameKind, Method};

use super::client::{CHANNEL, Client, method_of};

/// Connections that publish, and as many that consume.
pub(super) const PAIRS: u64 = 50;

/// Octets of the bodies, taken in turn.
pub(super) const BODY_OCTETS: [usize; 10] = [16, 64, 64, 128, 128, 256, 256, 512, 1024, 8192];

/// Messages sent with one write.
const BATCH_MESSAGES: u64 = 50;
const UNCONFIRMED_MAX: usize = 500;
const PREFETCH: u16 = 500;
/// Deliveries acknowledged at once.
const ACK_EVERY: u64 = 100;

/// A publisher and the consumer of its queue.
struct Pair {
    publisher: Client,
    consumer: Client,
    queue: String,
    messages: u64,
    confirms: bool,
    acknowledges: bool,
}

/// Opens the connections, sends and receives, closes them; how long the messages took.
pub(super) fn run(port: u16, messages: u64) -> Result<Duration> {
    let pairs = (0..PAIRS).map(|number| Pair::open(port, number, messages)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let pairs = carry(pairs)?;
    let taken = started.elapsed();
    pairs.into_iter().try_for_each(Pair::close)?;
    Ok(taken)
}

/// Runs all pairs at the same time.
fn carry(mut pairs: Vec<Pair>) -> Result<Vec<Pair>> {
    thread::scope(|scope| {
        let mut ends = Vec::new();
        for pair in &mut pairs {
            let Pair { publisher, consumer, queue, messages, confirms, acknowledges } = pair;
            let (queue, messages, confirms, acknowledges) = (&*queue, *messages, *confirms, *acknowledges);
            ends.push(scope.spawn(move || publish(publisher, queue, messages, confirms)));
            ends.push(scope.spawn(move || consume(consumer, messages, acknowledges)));
        }
        ends.into_iter().try_for_each(|end| end.join().map_err(|_| anyhow!("a client panicked"))?)
    })?;
    Ok(pairs)
}

impl Pair {
    fn open(port: u16, number: u64, messages_of_all: u64) -> Result<Self> {
        let confirms = number.is_multiple_of(2);
        let acknowledges = (number / 2).is_multiple_of(2);
        let messages = messages_of_all / PAIRS + u64::from(number < messages_of_all % PAIRS);
        let (consumer, queue) = open_consumer(port, acknowledges).context("a consumer does not start")?;
        let publisher = open_publisher(port, confirms).context("a publisher does not start")?;
        Ok(Self { publisher, consumer, queue, messages, confirms, acknowledges })
    }

    fn close(self) -> Result<()> {
        self.publisher.close()?;
        self.consumer.close()
    }
}

fn open_consumer(port: u16, acknowledges: bool) -> Result<(Client, String)> {
    let mut client = Client::open(port)?;
    client.open_channel()?;
    let declare = queue::Declare { exclusive: true, ..queue::Declare::default() };
    let Method::QueueDeclareOk(declared) = client.call(CHANNEL, declare)? else {
        bail!("queue.declare-ok was expected");
    };
    let queue = declared.queue.to_string();
    let qos = basic::Qos { prefetch_count: PREFETCH, ..basic::Qos::default() };
    ensure!(matches!(client.call(CHANNEL, qos)?, Method::BasicQosOk(_)), "basic.qos-ok was expected");
    let consume =
        basic::Consume { queue: queue.as_str().into(), no_ack: !acknowledges, ..basic::Consume::default() };
    let answer = client.call(CHANNEL, consume)?;
    ensure!(matches!(answer, Method::BasicConsumeOk(_)), "basic.consume-ok was expected");
    Ok((client, queue))
}

fn open_publisher(port: u16, confirms: bool) -> Result<Client> {
    let mut client = Client::open(port)?;
    client.open_channel()?;
    if confirms {
        let answer = client.call(CHANNEL, confirm::Select::default())?;
        ensure!(matches!(answer, Method::ConfirmSelectOk(_)), "confirm.select-ok was expected");
    }
    Ok(client)
}

/// The body of a message: its number, then as many octets as its turn has.
fn body_of(number: u64, body: &mut Vec<u8>) {
    let turn = usize::try_from(number % BODY_OCTETS.len() as u64).expect("a small number");
    body.clear();
    body.extend_from_slice(&number.to_be_bytes());
    body.resize(BODY_OCTETS[turn], b'.');
}

fn publish(client: &mut Client, queue: &str, messages: u64, confirms: bool) -> Result<()> {
    let mut body = Vec::new();
    let mut unconfirmed = BTreeSet::new();
    for number in 0..messages {
        body_of(number, &mut body);
        client.publish(queue, &body);
        if (number + 1) % BATCH_MESSAGES == 0 {
            client.flush()?;
        }
        if confirms {
            unconfirmed.insert(number + 1);
            await_confirms(client, &mut unconfirmed, UNCONFIRMED_MAX)?;
        }
    }
    client.flush()?;
    await_confirms(client, &mut unconfirmed, 0)
}

/// Reads confirms until at most so many publishes lack theirs.
fn await_confirms(client: &mut Client, unconfirmed: &mut BTreeSet<u64>, count_max: usize) -> Result<()> {
    while unconfirmed.len() > count_max {
        match client.answer()? {
            Method::BasicAck(ack) if ack.multiple => {
                *unconfirmed = unconfirmed.split_off(&(ack.delivery_tag + 1));
            }
            Method::BasicAck(ack) => drop(unconfirmed.remove(&ack.delivery_tag)),
            other => bail!("a confirm was expected, and {} came", other.name()),
        }
    }
    Ok(())
}

fn consume(client: &mut Client, messages: u64, acknowledges: bool) -> Result<()> {
    let (mut body, mut expected) = (Vec::new(), Vec::new());
    for number in 0..messages {
        let delivery_tag = delivery(client, &mut body)?;
        body_of(number, &mut expected);
        ensure!(body == expected, "another message was expected as number {number} of its queue");
        if acknowledges && ((number + 1) % ACK_EVERY == 0 || number + 1 == messages) {
            client.say(CHANNEL, basic::Ack { delivery_tag, multiple: true });
            client.flush()?;
        }
    }
    Ok(())
}

/// Waits for a message, puts its body into `body` and gives its delivery tag.
fn delivery(client: &mut Client, body: &mut Vec<u8>) -> Result<u64> {
    let delivery_tag = match method_of(client.frame()?)? {
        Method::BasicDeliver(deliver) => deliver.delivery_tag,
        other => bail!("a delivery was expected, and {} came", other.name()),
    };
    let header = client.frame()?;
    ensure!(header.kind == FrameKind::Header, "a content header was expected");
    let body_octets = ContentHeader::decode(header.payload)?.body_octets;
    body.clear();
    while (body.len() as u64) < body_octets {
        let piece = client.frame()?;
        ensure!(piece.kind == FrameKind::Body, "a piece of a body was expected");
        body.extend_from_slice(piece.payload);
    }
    Ok(delivery_tag)
}
