//! A thread with connections of its own, which waits for all of them at once.
//!
//! Takes its orders from the course of the run and reports when they are carried out. A turn reads what
//! came, lets producers write, and waits if nobody can go on. Invariant: nothing here blocks but the one wait.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token, Waker};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    check::Findings,
    connection::{Connection, State},
    crew::{ConnectionPlan, Seat},
    fault::Fault,
    handshake::FRAME_OCTETS_MAX,
    plan::Plan,
    producer::Hold,
    scene::Scene,
    stamp::Ticks,
    tally::SharedCounts,
};

const EVENTS_MAX: usize = 1024;
const READ_OCTETS: usize = 256 * 1024;
const WAKER: Token = Token(usize::MAX);
/// Waiting for sockets counts in milliseconds; a shorter time is slept through.
const FINE: Duration = Duration::from_millis(2);
const GLANCE_EVERY: Duration = Duration::from_millis(10);
pub(super) const SECOND: Ticks = Ticks(10_000_000);

/// What the workers are told to do, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Connect and log in.
    Connect,
    /// Open the channels and whatever is theirs.
    Open,
    Consume,
    Publish,
    /// Publish no more.
    Stop,
    /// Remember the processor time and how the time was spent.
    Mark,
    Close,
}

/// What a worker reports.
#[derive(Debug)]
pub(super) enum Report {
    /// An order is carried out.
    Done(Order),
    /// All that its producers had to send is taken by the broker.
    Published,
    /// All its consumers have had their messages.
    Consumed,
    Failed(Fault),
}

/// How a worker's time was spent, up to a mark.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Of a processor.
    pub(super) processor: Duration,
    /// Waiting for sockets that take no more.
    pub(super) on_socket: Duration,
    /// Waiting for confirms.
    pub(super) on_confirms: Duration,
    /// Waiting while the broker takes no publishes.
    pub(super) on_blocked: Duration,
    /// Waiting for anything else.
    pub(super) idle: Duration,
}

/// What a worker leaves behind.
pub(super) struct Leavings {
    pub(super) latency: Histogram<u64>,
    pub(super) confirm_latency: Histogram<u64>,
    pub(super) findings: Findings,
    pub(super) marks: Vec<Spent>,
    /// Messages that were due and not sent at the second mark.
    pub(super) behind: u64,
}

pub(super) struct Worker {
    pub(super) plan: Arc<Plan>,
    pub(super) poll: Poll,
    pub(super) address: std::net::SocketAddr,
    pub(super) to_open: VecDeque<ConnectionPlan>,
    pub(super) scene: Scene,
    pub(super) counts: Arc<SharedCounts>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) reports: UnboundedSender<Report>,
    pub(super) connections: Vec<Connection>,
    /// Who uses the channels of each connection.
    pub(super) seats: Vec<Vec<Seat>>,
    /// Connections that may have something to read.
    readable: VecDeque<usize>,
    pub(super) is_readable: Vec<bool>,
    /// Connections with producers.
    pub(super) publishing: Vec<usize>,
    /// Connections that are not yet open.
    pub(super) opening: usize,
    /// The order that is being carried out.
    pub(super) order: Option<Order>,
    pub(super) is_publishing: bool,
    /// Whether it was reported that everything was published, and that everything was consumed.
    has_published: bool,
    pub(super) has_consumed: bool,
    pub(super) spent: Spent,
    pub(super) marks: Vec<Spent>,
    pub(super) behind: u64,
    pub(super) second: Ticks,
    glanced: Ticks,
}

/// The ends of a worker that others hold.
pub(super) struct Handle {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) waker: Waker,
    pub(super) counts: Arc<SharedCounts>,
}

impl Worker {
    pub(super) fn new(
        plan: Arc<Plan>,
        address: std::net::SocketAddr,
        to_open: Vec<ConnectionPlan>,
        scene: Scene,
        reports: UnboundedSender<Report>,
    ) -> io::Result<(Self, Handle)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (to_worker, orders) = mpsc::channel();
        let counts = Arc::new(SharedCounts::default());
        let handle = Handle { orders: to_worker, waker, counts: Arc::clone(&counts) };
        let worker = Self {
            plan,
            poll,
            address,
            to_open: to_open.into(),
            scene,
            counts,
            orders,
            reports,
            connections: Vec::new(),
            seats: Vec::new(),
            readable: VecDeque::new(),
            is_readable: Vec::new(),
            publishing: Vec::new(),
            opening: 0,
            order: None,
            is_publishing: false,
            has_published: false,
            has_consumed: false,
            spent: Spent::default(),
            marks: Vec::new(),
            behind: 0,
            second: Ticks(0),
            glanced: Ticks(0),
        };
        Ok((worker, handle))
    }

    /// Works until it is told to close, or until something goes wrong.
    pub(super) fn run(mut self) -> Leavings {
        sharpen_sleep();
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_OCTETS + FRAME_OCTETS_MAX as usize];
        while self.order != Some(Order::Close) || !self.is_closed() {
            if let Err(fault) = self.turn(&mut events, &mut buffer) {
                let _ = self.reports.send(Report::Failed(fault));
                break;
            }
        }
        self.leave()
    }

    fn leave(self) -> Leavings {
        self.counts.store(&self.scene.counts);
        let mut findings = Findings::default();
        self.scene.checks.iter().for_each(|check| findings.add(check.findings()));
        let latency = self.scene.latency.into_histogram();
        let confirm_latency = self.scene.confirm_latency.into_histogram();
        Leavings { latency, confirm_latency, findings, marks: self.marks, behind: self.behind }
    }

    fn turn(&mut self, events: &mut Events, buffer: &mut [u8]) -> Result<(), Fault> {
        let hold = self.publish()?;
        self.counts.store(&self.scene.counts);
        self.wait(hold, events).map_err(|error| Fault::of_socket(&error))?;
        for event in events.iter().filter(|event| event.token() != WAKER) {
            let index = event.token().0;
            if event.is_writable() || event.is_error() {
                self.writable(index)?;
            }
            if event.is_readable() || event.is_read_closed() {
                self.set_readable(index);
            }
        }
        self.read(buffer)?;
        self.take_orders()?;
        self.carry_on()?;
        self.pass_seconds()
    }

    /// Lets producers send; why nobody goes on, or that somebody does.
    fn publish(&mut self) -> Result<Hold, Fault> {
        let mut hold = Hold::Done;
        if !self.is_publishing || self.publishing.is_empty() {
            return Ok(hold);
        }
        for &index in &self.publishing {
            hold = hold.min(self.connections[index].publish(&mut self.scene)?);
        }
        if hold == Hold::Done && !self.has_published && self.have_producers_finished() {
            self.has_published = true;
            self.report(Report::Published);
        }
        Ok(hold)
    }

    fn have_producers_finished(&mut self) -> bool {
        self.connections.iter_mut().flat_map(Connection::producers).all(|producer| producer.is_finished())
    }

    pub(super) fn report(&self, report: Report) {
        // Whoever hears it is to find it counted.
        self.counts.store(&self.scene.counts);
        // Where nobody listens any more the orders have ended too, which ends this worker.
        let _ = self.reports.send(report);
    }

    /// Waits for sockets as long as nobody can go on, and counts the time to the reason.
    fn wait(&mut self, hold: Hold, events: &mut Events) -> io::Result<()> {
        if hold == Hold::None || !self.readable.is_empty() {
            return self.poll(events, Duration::ZERO);
        }
        let began = self.scene.clock.now();
        let until_second = (Ticks(self.second.0 + SECOND.0)).since(began);
        let limit = match hold {
            Hold::Until(due) => due.since(began).min(until_second),
            _ => until_second,
        };
        if limit >= FINE {
            self.poll(events, limit - FINE / 2)?;
        } else if matches!(hold, Hold::Until(_)) {
            std::thread::sleep(limit);
            self.glance(events)?;
        } else {
            self.poll(events, FINE)?;
        }
        let waited = self.scene.clock.now().since(began);
        *match hold {
            Hold::Socket => &mut self.spent.on_socket,
            Hold::Window => &mut self.spent.on_confirms,
            Hold::Blocked => &mut self.spent.on_blocked,
            _ => &mut self.spent.idle,
        } += waited;
        Ok(())
    }

    /// Looks at the sockets after a short sleep: each time where confirms may have come, and else now and then,
    /// because a producer that sends at a rate is told nothing that hurries.
    fn glance(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.scene.clock.now();
        if self.plan.producing.unconfirmed_max.is_none() && now.since(self.glanced) < GLANCE_EVERY {
            events.clear();
            return Ok(());
        }
        self.glanced = now;
        self.poll(events, Duration::ZERO)
    }

    fn poll(&mut self, events: &mut Events, limit: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(limit)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn writable(&mut self, index: usize) -> Result<(), Fault> {
        let was = self.connections[index].state;
        let result = self.connections[index].writable();
        match result {
            Err(Fault::Lost(detail)) if was == State::Connecting => {
                Err(Fault::Unreachable { address: self.plan.url.to_string(), detail })
            }
            result => result,
        }
    }

    pub(super) fn set_readable(&mut self, index: usize) {
        if !std::mem::replace(&mut self.is_readable[index], true) {
            self.readable.push_back(index);
        }
    }

    /// One read of each connection that has something; one that has more waits for the next turn.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        for _ in 0..self.readable.len() {
            let Some(index) = self.readable.pop_front() else { break };
            let connection = &mut self.connections[index];
            let was = connection.state;
            let has_more = connection.read(buffer, &mut self.scene)?;
            if was == State::Greeting && connection.state == State::Open {
                self.opening -= 1;
            }
            self.is_readable[index] = false;
            if has_more {
                self.set_readable(index);
            }
        }
        Ok(())
    }
}

/// A sleep is to end when it should: the kernel otherwise adds up to 50 microseconds.
fn sharpen_sleep() {
    #[cfg(target_os = "linux")]
    {
        // Where this fails the latencies show it.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    }
}
