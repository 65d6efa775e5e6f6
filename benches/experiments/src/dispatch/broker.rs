//! One run of the broker's side: sockets and tasks on two workers, with the process's time measured.
//!
//! Leaves who encodes to the designs. Invariant: every connection is one task, which alone reads and
//! writes its socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::Interest,
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::mpsc,
    task::{JoinHandle, consume_budget, yield_now},
};

use super::{
    Feed, GENERATOR, Queue,
    direct::DirectQueue,
    generator::PUBLISHER,
    inbox::InboxQueue,
    log::{LENGTH_OCTETS, Location, Log},
    pull::PullQueue,
    settings::{Design, Settings},
};
use crate::measure::{self, Problem};

/// System calls of one connection that moved octets.
#[derive(Clone, Copy, Default)]
pub(super) struct Calls {
    pub(super) reads: u64,
    pub(super) writes: u64,
}

/// What one run cost.
pub(super) struct Outcome {
    pub(super) elapsed: Duration,
    pub(super) processor: Duration,
    /// The part of `processor` outside the kernel.
    pub(super) user: Duration,
    pub(super) calls: Calls,
}

/// Runs the broker with its generator once.
pub(super) fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure_run(Arc::new(settings.clone())))
}

async fn measure_run(settings: Arc<Settings>) -> Result<Outcome, Problem> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut generator = start_generator(listener.local_addr()?.port(), &settings)?;
    let connections = accept_all(&listener, &settings).await?;
    let (before, user_before) = (measure::processor_time(), measure::user_time());
    let elapsed = generate(&mut generator)?;
    let (processor, user) = (measure::processor_time() - before, measure::user_time() - user_before);
    generator.wait()?;
    let mut calls = Calls::default();
    for connection in connections {
        let one = connection.await?;
        calls.reads += one.reads;
        calls.writes += one.writes;
    }
    Ok(Outcome { elapsed, processor, user, calls })
}

fn start_generator(port: u16, settings: &Settings) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args([GENERATOR, &port.to_string(), &settings.to_argument()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

/// Lets the generator go, and waits for the time that it prints.
fn generate(generator: &mut Child) -> Result<Duration, Problem> {
    generator.stdin.take().expect("stdin is piped").write_all(b"go\n")?;
    let mut line = String::new();
    BufReader::new(generator.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
    Ok(Duration::from_nanos(line.trim().parse()?))
}

async fn accept_all(
    listener: &TcpListener,
    settings: &Arc<Settings>,
) -> Result<Vec<JoinHandle<Calls>>, Problem> {
    let log = Arc::new(Log::default());
    let queues: Arc<[_]> = (0..settings.queues).map(|_| new_queue(&log, settings)).collect();
    let (attached, mut all_attached) = mpsc::channel(1);
    let mut connections = Vec::new();
    for _ in 0..settings.publishers + settings.consumers() {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (log, queues) = (Arc::clone(&log), Arc::clone(&queues));
        let (settings, attached) = (Arc::clone(settings), attached.clone());
        connections.push(tokio::spawn(async move {
            serve(&stream, log, &queues, &settings, attached)
                .await
                .unwrap_or_else(|problem| panic!("{problem}"))
        }));
    }
    for _ in &connections {
        all_attached.recv().await;
    }
    Ok(connections)
}

fn new_queue(log: &Arc<Log>, settings: &Arc<Settings>) -> Arc<dyn Queue> {
    let (log, settings) = (Arc::clone(log), Arc::clone(settings));
    match settings.design {
        Design::Inbox => Arc::new(InboxQueue::new(log, settings)),
        Design::Direct => Arc::new(DirectQueue::new(log, settings)),
        Design::Pull => Arc::new(PullQueue::new(log, settings)),
    }
}

async fn serve(
    stream: &TcpStream,
    log: Arc<Log>,
    queues: &[Arc<dyn Queue>],
    settings: &Settings,
    attached: mpsc::Sender<()>,
) -> io::Result<Calls> {
    let mut hello = [0; 2];
    let mut filled = 0;
    while filled < hello.len() {
        stream.readable().await?;
        filled += read(stream, &mut hello[filled..])?.unwrap_or(0);
    }
    if hello[0] == PUBLISHER {
        attached.send(()).await.ok();
        return serve_publisher(stream, &log, queues, settings).await;
    }
    let feed = Arc::clone(&queues[usize::from(hello[1])]).attach();
    attached.send(()).await.ok();
    serve_consumer(stream, feed, settings).await
}

/// Reads once; `None` when there is nothing to read yet. A generator that is gone ends the stream.
fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.try_read(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

async fn serve_publisher(
    stream: &TcpStream,
    log: &Log,
    queues: &[Arc<dyn Queue>],
    settings: &Settings,
) -> io::Result<Calls> {
    let mut buffer = vec![0; settings.read_octets];
    let mut filled = 0;
    let mut batch = Vec::new();
    let mut calls = Calls::default();
    loop {
        stream.readable().await?;
        let Some(count) = read(stream, &mut buffer[filled..])? else { continue };
        if count == 0 {
            return Ok(calls);
        }
        calls.reads += 1;
        filled += count;
        let parsed = publish_batch(&buffer[..filled], log, queues, &mut batch);
        buffer.copy_within(parsed..filled, 0);
        filled -= parsed;
        if settings.reads_per_turn > 0 && calls.reads.is_multiple_of(settings.reads_per_turn as u64) {
            yield_now().await;
        }
    }
}

/// Publishes the whole records at the start of `octets`, and answers how many octets those were.
fn publish_batch(octets: &[u8], log: &Log, queues: &[Arc<dyn Queue>], batch: &mut Vec<Location>) -> usize {
    batch.clear();
    let mut parsed = 0;
    while let Some(length) = octets.get(parsed..parsed + LENGTH_OCTETS) {
        let length = u32::from_le_bytes(length.try_into().expect("four octets were asked for"));
        let end = parsed + LENGTH_OCTETS + length as usize;
        if end > octets.len() {
            break;
        }
        batch.push(Location::new(0, parsed as u32));
        parsed = end;
    }
    if batch.is_empty() {
        return parsed;
    }
    let slot = log.append(&octets[..parsed], (batch.len() * queues.len()) as u32);
    batch.iter_mut().for_each(|location| *location = location.in_slot(slot));
    queues.iter().for_each(|queue| queue.publish(batch));
    parsed
}

/// What a connection writes: octets, of which the first `written` are gone.
#[derive(Default)]
struct Outgoing {
    octets: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// Writes once; answers false when the socket takes no more.
    fn write(&mut self, stream: &TcpStream, calls: &mut Calls) -> io::Result<bool> {
        match stream.try_write(&self.octets[self.written..]) {
            Ok(count) => {
                calls.writes += 1;
                self.written += count;
                if self.written == self.octets.len() {
                    self.octets.clear();
                    self.written = 0;
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn serve_consumer(
    stream: &TcpStream,
    mut feed: Box<dyn Feed>,
    settings: &Settings,
) -> io::Result<Calls> {
    let mut outgoing = Outgoing::default();
    let mut acks = Acks { buffer: vec![0; settings.read_octets], filled: 0, tags: Vec::new() };
    let mut calls = Calls::default();
    loop {
        if outgoing.octets.is_empty() {
            feed.fill(&mut outgoing.octets);
        }
        if outgoing.octets.is_empty() {
            tokio::select! {
                () = feed.wake().notified() => {}
                ready = stream.readable() => ready?,
            }
        } else if !outgoing.write(stream, &mut calls)? {
            stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
        }
        if !acks.receive(stream, feed.as_mut(), &mut calls)? {
            return Ok(calls);
        }
        consume_budget().await;
    }
}

struct Acks {
    buffer: Vec<u8>,
    filled: usize,
    tags: Vec<u64>,
}

impl Acks {
    /// Settles what the socket holds; answers false when the consumer is gone.
    fn receive(&mut self, stream: &TcpStream, feed: &mut dyn Feed, calls: &mut Calls) -> io::Result<bool> {
        let Some(count) = read(stream, &mut self.buffer[self.filled..])? else { return Ok(true) };
        if count == 0 {
            return Ok(false);
        }
        calls.reads += 1;
        self.filled += count;
        let (tags, rest) = self.buffer[..self.filled].as_chunks();
        self.tags.clear();
        self.tags.extend(tags.iter().copied().map(u64::from_le_bytes));
        let rest_octets = rest.len();
        self.buffer.copy_within(self.filled - rest_octets..self.filled, 0);
        self.filled = rest_octets;
        feed.acknowledged(&self.tags);
        Ok(true)
    }
}
