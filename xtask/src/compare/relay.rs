//! The limit: a thread that reads what publishers would send and writes what consumers would get, without AMQP.
//!
//! Same sockets, same sizes, same buffers as a broker's; nothing is decoded, routed or kept. Its processor time
//! is what the kernel takes for the octets alone. Invariant: for each message that came in, one goes to every socket.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::time::{ClockId, clock_gettime};

/// Octets of one read and the most of one write, as the broker has them.
const BUFFER_OCTETS: usize = 128 * 1024;
/// Octets that go out in a run.
const CARRIED_OCTETS: usize = 1 << 30;
const RUNS: usize = 3;

/// Sizes of what goes in and out, and to how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) publish_octets: usize,
    pub(super) delivery_octets: usize,
    copies: u32,
}

impl Shape {
    /// Frames of a message to and from an exchange with a name of 21 octets, with a key of 4 and a consumer
    /// tag of 1: those of `leveret perf`.
    pub(super) fn new(body_octets: usize, copies: u32) -> Self {
        const ENVELOPE: usize = 8;
        const NAMES: usize = 1 + 21 + 1 + 4;
        let content = ENVELOPE + 14 + ENVELOPE + body_octets;
        Self {
            publish_octets: ENVELOPE + 4 + 2 + NAMES + 1 + content,
            delivery_octets: ENVELOPE + 4 + 2 + 8 + 1 + NAMES + content,
            copies,
        }
    }
}

/// The relay's processor time for a delivery: the median of a few runs.
pub(super) fn micros_each(shape: Shape) -> Result<f64> {
    let mut runs = (0..RUNS).map(|_| run(shape)).collect::<Result<Vec<f64>>>()?;
    runs.sort_by(f64::total_cmp);
    Ok(runs[RUNS / 2])
}

fn run(shape: Shape) -> Result<f64> {
    let copies = shape.copies as usize;
    let messages = CARRIED_OCTETS / shape.delivery_octets / copies;
    let (mut publisher, source) = pair()?;
    let mut ends = Vec::new();
    let mut sinks = Vec::new();
    for _ in 0..copies {
        let (sink, consumer) = pair()?;
        sinks.push(sink);
        ends.push(thread::spawn(move || drain(consumer)));
    }
    let relay = thread::spawn(move || relay(source, &mut sinks, shape));
    let octets = vec![b'.'; BUFFER_OCTETS / shape.publish_octets * shape.publish_octets];
    let mut left = messages * shape.publish_octets;
    while left > 0 {
        let batch = left.min(octets.len());
        publisher.write_all(&octets[..batch])?;
        left -= batch;
    }
    drop(publisher);
    let spent = relay.join().map_err(|_| anyhow!("the relay panicked"))??;
    for end in ends {
        let came = end.join().map_err(|_| anyhow!("a consumer panicked"))??;
        anyhow::ensure!(came == messages * shape.delivery_octets, "the relay lost something");
    }
    #[allow(clippy::cast_precision_loss, reason = "a few million")]
    let deliveries = (messages * copies) as f64;
    Ok(spent.as_secs_f64() * 1e6 / deliveries)
}

pub(super) fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

/// Carries until the publisher has gone; the processor time of this thread.
fn relay(mut source: TcpStream, sinks: &mut [TcpStream], shape: Shape) -> Result<Duration> {
    let mut input = vec![0; BUFFER_OCTETS];
    let output = vec![b'.'; BUFFER_OCTETS / shape.delivery_octets.min(BUFFER_OCTETS) * shape.delivery_octets];
    let began = processor_time()?;
    let mut rest = 0;
    loop {
        let came = source.read(&mut input)? + rest;
        if came == rest {
            return Ok(processor_time()? - began);
        }
        rest = came % shape.publish_octets;
        for sink in &mut *sinks {
            let mut left = came / shape.publish_octets * shape.delivery_octets;
            while left > 0 {
                let batch = left.min(output.len());
                sink.write_all(&output[..batch])?;
                left -= batch;
            }
        }
    }
}

fn drain(mut consumer: TcpStream) -> std::io::Result<usize> {
    let mut buffer = vec![0; 2 * BUFFER_OCTETS];
    let mut came = 0;
    loop {
        match consumer.read(&mut buffer)? {
            0 => return Ok(came),
            octets => came += octets,
        }
    }
}

fn processor_time() -> Result<Duration> {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).context("no time before 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_large_as_its_frames() {
        let shape = Shape::new(16, 1);
        assert_eq!((shape.publish_octets, shape.delivery_octets), (88, 96));
    }
}
