//! A connection's task: its socket on one side, the engine's connection on the other.
//!
//! Decides when to read, write and wait; nothing that a client could see. Invariant: it ends when
//! the engine's connection is finished, never before, so that what the peer had is given back.

use std::{
    future::{pending, poll_fn},
    io,
    io::IoSlice,
    net::Shutdown,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use leveret_broker::{
    Now,
    engine::{Connection, Engine, Peer, Reading, Wake},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::ioctl_fionread,
};
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    clock::Clock,
    read_buffer::{Read, Remainder},
};

/// Parts of the output handed to one vectored write.
const WRITE_PARTS_MAX: usize = 64;
/// Turns in a row before others get the thread, if they take no longer than a millisecond. Several
/// reads bring more messages to a consumer in one wake than one does, and who lets others go first
/// wakes an idle thread, which takes up the work and wakes this one in its turn.
const TURNS_BEFORE_YIELD: u32 = 16;
/// How often to look whether a peer that is not read is still there.
const PAUSED_LOOK: Duration = Duration::from_secs(1);
/// How long a peer may take to close its side after ours, and how much is read meanwhile at a time.
const LINGER_MAX: Duration = Duration::from_secs(5);
const LINGER_READ_OCTETS: usize = 4 * 1024;
/// How many further bugs may show themselves while what a connection had is given back.
const GIVE_BACK_BUGS_MAX: u32 = 100;
/// A deadline this far away stands for none.
const NO_DEADLINE: Duration = Duration::from_secs(3600);

/// How long a connection has kept its thread.
struct Spell {
    turns: u32,
    began_millis: u64,
}

impl Spell {
    const fn begun(now: Now) -> Self {
        Self { turns: 0, began_millis: now.monotonic_millis }
    }

    /// Counts a turn. True when it is the last.
    const fn ends(&mut self, now: Now) -> bool {
        self.turns += 1;
        self.turns >= TURNS_BEFORE_YIELD || now.monotonic_millis > self.began_millis
    }
}

/// Wakes a task.
pub(crate) struct NotifyTask(pub(crate) Arc<Notify>);

impl Wake for NotifyTask {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Serves a connection that was just accepted, until it is over.
pub(crate) async fn serve(stream: TcpStream, peer: Peer, engine: Arc<Engine>, clock: Clock) {
    let notify = Arc::new(Notify::new());
    let mut connection =
        Connection::new(&engine, peer, Box::new(NotifyTask(Arc::clone(&notify))), clock.now());
    drop(engine);
    if catch_panic(run(&stream, &mut connection, &notify, clock)).await.is_err() {
        give_back(&mut connection, clock).await;
    }
    let said_goodbye = !connection.is_disconnected();
    drop(connection);
    if said_goodbye {
        let _ = timeout(LINGER_MAX, linger(&stream)).await;
    }
}

/// Waits for the peer to close its side too. A socket that is closed with input unread is reset, and
/// a peer that was still sending would lose what we said last.
async fn linger(stream: &TcpStream) {
    if SockRef::from(stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut unread = vec![0; LINGER_READ_OCTETS];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut unread) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// A bug of ours costs the connection that it showed itself in, and nobody else waits for what
/// that had.
async fn give_back(connection: &mut Connection, clock: Clock) {
    tracing::error!(connection = %connection.peer().name, "a bug in the broker ended this connection");
    let mut bugs = 0;
    let mut step = |connection: &mut Connection, step: fn(&mut Connection, Now)| {
        bugs += u32::from(catch_unwind(AssertUnwindSafe(|| step(connection, clock.now()))).is_err());
        bugs <= GIVE_BACK_BUGS_MAX
    };
    step(connection, |connection, now| {
        connection.abandon();
        connection.disconnect(now);
    });
    while !connection.is_finished()
        && step(connection, |connection, now| {
            connection.advance(now);
        })
    {
        tokio::task::yield_now().await;
    }
}

/// What the future comes to, or that it panicked; it is not polled again then.
async fn catch_panic<T>(future: impl Future<Output = T>) -> std::thread::Result<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

async fn run(stream: &TcpStream, connection: &mut Connection, notify: &Notify, clock: Clock) {
    let mut remainder = Remainder::default();
    let mut deadline = pin!(sleep_until(Instant::now() + NO_DEADLINE));
    let mut writable = true;
    let mut spell = Spell::begun(clock.now());
    loop {
        let now = clock.now();
        let mut more = connection.advance(now);
        if writable {
            let was_full = connection.output().is_full();
            writable = write(stream, connection, clock);
            more |= was_full && !connection.output().is_full();
            more |= connection.is_disconnected();
        }
        if connection.is_finished() {
            return;
        }
        if spell.ends(now) {
            tokio::task::yield_now().await;
            spell = Spell::begun(clock.now());
        }
        if more {
            continue;
        }
        let ready = wait(stream, connection, &remainder, notify, deadline.as_mut(), writable, clock);
        match noting_wait(ready, || spell = Spell::begun(now)).await {
            Ready::ToRead => {
                if remainder.read(stream, connection, clock.now()) == Read::Closed {
                    connection.disconnect(clock.now());
                }
            }
            Ready::ToWrite => writable = true,
            // While the peer is not read, its leaving does not show itself in a read.
            Ready::Otherwise if connection.reading() == Reading::Paused => match look(stream, &remainder) {
                Presence::Here => {}
                Presence::Unsure => connection.probe(),
                Presence::Gone => connection.disconnect(clock.now()),
            },
            Ready::Otherwise => {}
        }
    }
}

/// What the future comes to, after `waits` if it was not ready at once.
async fn noting_wait<T>(future: impl Future<Output = T>, waits: impl FnOnce()) -> T {
    let mut future = pin!(future);
    let mut waits = Some(waits);
    poll_fn(|context| {
        let polled = future.as_mut().poll(context);
        if polled.is_pending()
            && let Some(waits) = waits.take()
        {
            waits();
        }
        polled
    })
    .await
}

/// Whether a peer is there, as far as its socket tells without being read.
enum Presence {
    Here,
    /// It closed its side, or all of it, and left something that is still to be read: what it sent
    /// before is taken when its turn comes. If it is gone, that shows when something is written.
    Unsure,
    Gone,
}

fn look(stream: &TcpStream, remainder: &Remainder) -> Presence {
    let mut socket = [PollFd::new(stream, PollFlags::RDHUP)];
    if poll(&mut socket, Some(&Timespec::default())).is_err() {
        return Presence::Here;
    }
    let events = socket[0].revents();
    if events.intersects(PollFlags::HUP | PollFlags::ERR) {
        return Presence::Gone;
    }
    if !events.contains(PollFlags::RDHUP) {
        return Presence::Here;
    }
    let is_read = !remainder.is_whole() && ioctl_fionread(stream).is_ok_and(|octets| octets == 0);
    if is_read { Presence::Gone } else { Presence::Unsure }
}

enum Ready {
    ToRead,
    ToWrite,
    Otherwise,
}

async fn wait(
    stream: &TcpStream,
    connection: &Connection,
    remainder: &Remainder,
    notify: &Notify,
    mut deadline: std::pin::Pin<&mut Sleep>,
    writable: bool,
    clock: Clock,
) -> Ready {
    let reading = connection.reading();
    let read_from = match reading {
        Reading::From { monotonic_millis } => Some(monotonic_millis),
        Reading::Now | Reading::Paused => None,
    };
    let next = [connection.next_deadline_millis(), read_from].into_iter().flatten().min();
    let far = Instant::now() + if reading == Reading::Paused { PAUSED_LOOK } else { NO_DEADLINE };
    let at = next.map_or(far, |millis| clock.instant(millis).min(far));
    // A deadline that moved away is left to fire early: that costs one look in a while, where
    // moving it would cost something in every turn.
    if deadline.is_elapsed() || at < deadline.deadline() {
        deadline.as_mut().reset(at);
    }
    tokio::select! {
        biased;
        () = readable(stream, reading, remainder) => Ready::ToRead,
        () = notify.notified() => Ready::Otherwise,
        () = becomes_writable(stream, writable) => Ready::ToWrite,
        () = deadline => Ready::Otherwise,
    }
}

async fn readable(stream: &TcpStream, reading: Reading, remainder: &Remainder) {
    if reading != Reading::Now {
        return pending().await;
    }
    if remainder.is_whole() {
        return;
    }
    // An error shows itself in the read that follows.
    let _ = stream.readable().await;
}

async fn becomes_writable(stream: &TcpStream, writable: bool) {
    if writable {
        return pending().await;
    }
    // An error shows itself in the write that follows.
    let _ = stream.writable().await;
}

/// Writes what the socket takes. False when it takes no more for now.
fn write(stream: &TcpStream, connection: &mut Connection, clock: Clock) -> bool {
    while !connection.output().is_empty() {
        match write_parts(stream, connection) {
            Ok(octets) => connection.sent(octets, clock.now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => {
                connection.disconnect(clock.now());
                return true;
            }
        }
    }
    true
}

fn write_parts(stream: &TcpStream, connection: &Connection) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); WRITE_PARTS_MAX];
    let mut count = 0;
    for (slice, part) in slices.iter_mut().zip(connection.output().parts()) {
        *slice = IoSlice::new(part);
        count += 1;
    }
    if count == 1 { stream.try_write(&slices[0]) } else { stream.try_write_vectored(&slices[..count]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_a_future_and_not_its_task() {
        let future = async |panics: bool| {
            tokio::task::yield_now().await;
            assert!(!panics, "as it was told to");
            7
        };
        assert_eq!(catch_panic(future(false)).await.unwrap(), 7);
        assert!(catch_panic(future(true)).await.is_err());
    }
}
