//! The clients, in a process of their own: blocking threads that publish, consume and acknowledge.
//!
//! Knows the wire of the experiment, nothing of the broker. Invariant: no more than the settings'
//! in-flight limit is published and not yet received.

use std::{
    io::{self, BufRead, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    log::{DELIVERY_HEADER_OCTETS, LENGTH_OCTETS},
    settings::Settings,
};
use crate::measure::Problem;

/// The first octet of a connection that publishes, and of one that consumes.
pub(super) const PUBLISHER: u8 = b'P';
pub(super) const CONSUMER: u8 = b'C';

const BUFFER_OCTETS: usize = 64 << 10;
const TICK: Duration = Duration::from_millis(1);
/// How long a publisher waits before it looks again whether it may go on.
const PAUSE: Duration = Duration::from_micros(50);

/// Connects everything, waits for a line on stdin, publishes, and prints the nanoseconds it took until
/// all was received.
pub(super) fn run(port: u16, settings: Settings) -> Result<(), Problem> {
    let settings = Arc::new(settings);
    let received = Arc::new(AtomicUsize::new(0));
    let (done, all_received) = mpsc::channel();
    for index in 0..settings.consumers() {
        let stream = connect(port, CONSUMER, index / settings.consumers_per_queue)?;
        let (settings, received, done) = (Arc::clone(&settings), Arc::clone(&received), done.clone());
        thread::spawn(move || consume(stream, &settings, &received, &done));
    }
    let publishers: Result<Vec<_>, _> =
        (0..settings.publishers).map(|_| connect(port, PUBLISHER, 0)).collect();
    io::stdin().lock().read_line(&mut String::new())?;
    let start = Instant::now();
    for stream in publishers? {
        let (settings, received) = (Arc::clone(&settings), Arc::clone(&received));
        thread::spawn(move || publish(stream, &settings, &received));
    }
    all_received.recv()?;
    println!("{}", start.elapsed().as_nanos());
    Ok(())
}

fn connect(port: u16, kind: u8, queue: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.write_all(&[kind, queue as u8])?;
    Ok(stream)
}

fn publish(mut stream: TcpStream, settings: &Settings, received: &AtomicUsize) -> io::Result<()> {
    let mut record = (settings.body_octets as u32).to_le_bytes().to_vec();
    record.resize(LENGTH_OCTETS + settings.body_octets, b'x');
    let in_tick = settings.rate / 1000;
    let batch_max = if in_tick > 0 { in_tick } else { (BUFFER_OCTETS / record.len()).max(1) };
    let octets = record.repeat(batch_max);
    let to_send = settings.messages / settings.publishers;
    let start = Instant::now();
    let mut sent = 0;
    while sent < to_send {
        while (sent * settings.publishers + batch_max) * settings.queues
            > received.load(Ordering::Relaxed) + settings.in_flight_max * settings.queues
        {
            thread::sleep(PAUSE);
        }
        let count = batch_max.min(to_send - sent);
        stream.write_all(&octets[..count * record.len()])?;
        sent += count;
        if let Some(ticks) = sent.checked_div(in_tick) {
            thread::sleep((start + TICK * ticks as u32).saturating_duration_since(Instant::now()));
        }
    }
    // The connection stays open until the process ends, as a client's would.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn consume(
    mut stream: TcpStream,
    settings: &Settings,
    received: &AtomicUsize,
    done: &mpsc::Sender<()>,
) -> Result<(), Problem> {
    let record_octets = DELIVERY_HEADER_OCTETS + settings.body_octets;
    let mut buffer = vec![0; BUFFER_OCTETS.max(record_octets)];
    let mut filled = 0;
    let mut acks = Vec::new();
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        if count == 0 {
            return Err("the broker closed the connection".into());
        }
        filled += count;
        let whole = filled / record_octets;
        if settings.prefetch > 0 {
            acks.clear();
            let records = buffer[..filled].chunks_exact(record_octets);
            records.for_each(|record| acks.extend_from_slice(&record[LENGTH_OCTETS..DELIVERY_HEADER_OCTETS]));
            stream.write_all(&acks)?;
        }
        buffer.copy_within(whole * record_octets..filled, 0);
        filled -= whole * record_octets;
        let before = received.fetch_add(whole, Ordering::Relaxed);
        if before < settings.deliveries() && before + whole >= settings.deliveries() {
            done.send(())?;
        }
    }
}
