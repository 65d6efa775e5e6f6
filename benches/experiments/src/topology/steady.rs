//! The steady publisher: one message a millisecond by a socket, and how long each waited.
//!
//! Leaves the churn to `phase`. Invariant: a stall is counted from the moment the client sent, and every
//! message that was sent is counted, the last ones too.

use std::{
    io::{self, Write},
    net::TcpStream as Client,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, task};

use super::vhost::{Owner, Queue, RouteCache, STEADY_KEYS, Vhost};
use crate::measure::Problem;

const PERIOD: Duration = Duration::from_millis(1);
const STAMP_OCTETS: usize = 8;

pub(super) struct Steady {
    stop: Arc<AtomicBool>,
    client: JoinHandle<io::Result<()>>,
    server: task::JoinHandle<io::Result<Vec<f64>>>,
}

impl Steady {
    /// Starts to publish to the direct exchange of the vhost.
    pub(super) async fn start(vhost: Arc<dyn Vhost>) -> Result<Self, Problem> {
        let keys = bind_keys(vhost.as_ref());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = Client::connect(listener.local_addr()?)?;
        client.set_nodelay(true)?;
        let (stream, _) = listener.accept().await?;
        let epoch = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let client = thread::spawn(move || send(client, epoch, &stopped));
        let server = tokio::spawn(async move { receive(&stream, epoch, vhost.as_ref(), &keys).await });
        Ok(Self { stop, client, server })
    }

    /// Stops, and answers the milliseconds that each message waited.
    pub(super) async fn stop(self) -> Result<Vec<f64>, Problem> {
        self.stop.store(true, Ordering::Release);
        let stalls = self.server.await??;
        self.client.join().expect("the client does not panic")?;
        Ok(stalls)
    }
}

fn bind_keys(vhost: &dyn Vhost) -> Vec<String> {
    let owner = Arc::new(Owner::default());
    let keys: Vec<String> = (0..STEADY_KEYS).map(|key| format!("steady.{key}")).collect();
    for key in &keys {
        vhost.bind_direct(key, &Queue::new(key.as_str().into(), &owner));
    }
    keys
}

fn send(mut client: Client, epoch: Instant, stopped: &AtomicBool) -> io::Result<()> {
    let mut next = Instant::now();
    while !stopped.load(Ordering::Acquire) {
        let nanos = epoch.elapsed().as_nanos() as u64;
        client.write_all(&nanos.to_le_bytes())?;
        next += PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

async fn receive(
    stream: &tokio::net::TcpStream,
    epoch: Instant,
    vhost: &dyn Vhost,
    keys: &[String],
) -> io::Result<Vec<f64>> {
    let (mut stalls, mut cache) = (Vec::new(), RouteCache::default());
    let mut buffer = [0; STAMP_OCTETS * 1024];
    let mut filled = 0;
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer[filled..]) {
            Ok(0) => return Ok(stalls),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let (stamps, rest) = buffer[..filled].as_chunks::<STAMP_OCTETS>();
        for stamp in stamps {
            let stamp = u64::from_le_bytes(*stamp);
            let routes = vhost.direct(&keys[stalls.len() % keys.len()], &mut cache);
            routes.iter().for_each(|queue| queue.append(&[stamp]));
            stalls.push((epoch.elapsed().as_nanos() as u64 - stamp) as f64 / 1e6);
        }
        let rest_octets = rest.len();
        buffer.copy_within(filled - rest_octets..filled, 0);
        filled = rest_octets;
    }
}
