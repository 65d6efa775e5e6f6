//! The limit of latency: how long octets take through a relay that does nothing else with them.
//!
//! The messages are due at a rate, as those of `leveret perf -r` are, and count from when they were due. The
//! relay waits for its socket by epoll, as a broker does. Invariant: every message that was sent is timed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use rustix::event::epoll;
use rustix::thread::set_current_timer_slack;

use super::load::Figures;
use super::relay::{Shape, pair};

const BUFFER_OCTETS: usize = 128 * 1024;

/// Messages of one size at a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) per_second: u32,
    pub(super) seconds: u32,
    pub(super) body_octets: usize,
}

impl Pace {
    const fn messages(self) -> u32 {
        self.per_second * self.seconds
    }

    /// When the message of that number is due, after the start.
    fn due(self, number: u32) -> Duration {
        Duration::from_secs(1) * number / self.per_second
    }
}

/// Carries the messages once.
pub(super) fn run(pace: Pace) -> Result<Figures> {
    let shape = Shape::new(pace.body_octets, 1);
    let (publisher, source) = pair()?;
    let (sink, consumer) = pair()?;
    let relay = thread::spawn(move || carry(&source, &sink, shape));
    let began = Instant::now();
    let consumer = thread::spawn(move || take(consumer, shape, pace, began));
    send(publisher, shape, pace, began)?;
    relay.join().map_err(|_| anyhow!("the relay panicked"))??;
    let mut latencies = consumer.join().map_err(|_| anyhow!("the consumer panicked"))??;
    ensure!(latencies.len() == pace.messages() as usize, "the relay lost something");
    latencies.sort_unstable();
    Ok(Figures {
        p50_micros: percentile(&latencies, 50),
        p99_micros: percentile(&latencies, 99),
        ..Figures::default()
    })
}

/// Of latencies in order, in microseconds.
pub(super) fn percentile(latencies: &[Duration], percent: usize) -> f64 {
    let rank = (latencies.len() * percent).div_ceil(100).max(1);
    latencies[rank - 1].as_secs_f64() * 1e6
}

/// Sends what is due, and sleeps until more is.
fn send(mut publisher: TcpStream, shape: Shape, pace: Pace, began: Instant) -> Result<()> {
    // The kernel otherwise adds up to 50 microseconds to a sleep.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let message = vec![b'.'; shape.publish_octets];
    let mut sent = 0;
    while sent < pace.messages() {
        let passed = began.elapsed();
        let mut due = Vec::new();
        while sent < pace.messages() && pace.due(sent) <= passed {
            due.extend_from_slice(&message);
            sent += 1;
        }
        publisher.write_all(&due)?;
        thread::sleep(pace.due(sent).saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// Writes one delivery for each publish that came, until the publisher has gone.
fn carry(mut source: &TcpStream, mut sink: &TcpStream, shape: Shape) -> Result<()> {
    source.set_nonblocking(true)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let mut events = Vec::with_capacity(1);
    let mut input = vec![0; BUFFER_OCTETS];
    let output = vec![b'.'; BUFFER_OCTETS.div_ceil(shape.publish_octets) * shape.delivery_octets];
    let mut rest = 0;
    loop {
        match source.read(&mut input) {
            Ok(0) => return Ok(()),
            Ok(octets) => {
                let came = octets + rest;
                rest = came % shape.publish_octets;
                sink.write_all(&output[..came / shape.publish_octets * shape.delivery_octets])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                events.clear();
                epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Latencies of the messages, each from when it was due to the read that brought its last octet.
fn take(mut consumer: TcpStream, shape: Shape, pace: Pace, began: Instant) -> Result<Vec<Duration>> {
    let mut buffer = vec![0; BUFFER_OCTETS];
    let mut latencies = Vec::with_capacity(pace.messages() as usize);
    let (mut octets, mut number) = (0, 0);
    loop {
        let came = consumer.read(&mut buffer)?;
        if came == 0 {
            return Ok(latencies);
        }
        let now = began.elapsed();
        octets += came;
        while octets >= shape.delivery_octets {
            octets -= shape.delivery_octets;
            latencies.push(now.saturating_sub(pace.due(number)));
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_timed_from_when_it_was_due() {
        let pace = Pace { per_second: 1000, seconds: 1, body_octets: 64 };
        assert_eq!((pace.messages(), pace.due(500)), (1000, Duration::from_millis(500)));
        let figures = run(pace).unwrap();
        assert!(0.0 < figures.p50_micros && figures.p50_micros <= figures.p99_micros, "{figures:?}");
    }

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        let latencies: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        let found = [0, 50, 99, 100].map(|percent| percentile(&latencies, percent).round());
        assert_eq!(found, [1.0, 100.0, 198.0, 200.0]);
    }
}
