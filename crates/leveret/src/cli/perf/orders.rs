//! How a worker carries out its orders: connecting, opening, consuming, publishing, closing.
//!
//! Invariant: an order is reported as done once, when every answer to it has come.

use std::{collections::HashMap, sync::mpsc, time::Duration};

use mio::Token;
use rustix::time::{ClockId, clock_gettime};

use super::{
    batch::{BATCH_OCTETS, Batch},
    channel::Role,
    check::Check,
    connection::{Connection, State},
    consumer::Consumer,
    crew::Seat,
    fault::Fault,
    link::Link,
    producer::{Pace, Producer},
    stamp::{Stamp, Ticks},
    worker::{Order, Report, SECOND, Spent, Worker},
};

/// Connections that a worker opens at the same time.
const OPENING_MAX: usize = 64;
/// What all producers' batches together may take.
const BATCHES_OCTETS_MAX: usize = 64 << 20;

impl Worker {
    /// Takes the orders that have come.
    pub(super) fn take_orders(&mut self) -> Result<(), Fault> {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Mark) => self.mark(),
                Ok(order) => {
                    self.order = Some(order);
                    self.start(order)?;
                }
                Err(mpsc::TryRecvError::Empty) => return Ok(()),
                // Nobody waits for the end any more.
                Err(mpsc::TryRecvError::Disconnected) => {
                    self.order = Some(Order::Close);
                    self.connections.iter_mut().for_each(|connection| connection.state = State::Closed);
                    return Ok(());
                }
            }
        }
    }

    fn mark(&mut self) {
        let processor = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default();
        self.marks.push(Spent { processor, ..self.spent });
        let now = self.scene.clock.now();
        let producers = self.connections.iter_mut().flat_map(Connection::producers);
        self.behind = producers.map(|producer| producer.behind(now)).sum();
        self.report(Report::Done(Order::Mark));
    }

    fn start(&mut self, order: Order) -> Result<(), Fault> {
        match order {
            Order::Connect | Order::Mark => {}
            Order::Open => self.open_channels()?,
            Order::Consume => self.consume()?,
            Order::Publish => self.start_publishing(),
            Order::Stop => {
                self.connections.iter_mut().flat_map(Connection::producers).for_each(Producer::stop);
            }
            Order::Close => {
                self.is_publishing = false;
                self.connections.iter_mut().try_for_each(Connection::close)?;
            }
        }
        Ok(())
    }

    /// Goes on with an order that takes several turns, and says when it is carried out.
    pub(super) fn carry_on(&mut self) -> Result<(), Fault> {
        if self.order == Some(Order::Connect) {
            self.connect()?;
        }
        let is_done = match self.order {
            Some(Order::Connect) => self.to_open.is_empty() && self.opening == 0,
            Some(Order::Open | Order::Consume) => self.scene.unanswered == 0,
            _ => false,
        };
        if is_done {
            self.order.take().into_iter().for_each(|order| self.report(Report::Done(order)));
        }
        if !self.has_consumed && !self.scene.checks.is_empty() && self.have_consumers_ended() {
            self.has_consumed = true;
            self.report(Report::Consumed);
        }
        Ok(())
    }

    fn have_consumers_ended(&self) -> bool {
        let channels = self.connections.iter().flat_map(|connection| &connection.channels);
        channels.into_iter().all(|channel| !matches!(&channel.role, Role::Consumer(it) if !it.has_ended()))
    }

    /// Begins as many connections as may be in the making at a time.
    fn connect(&mut self) -> Result<(), Fault> {
        while self.opening < OPENING_MAX {
            let Some(plan) = self.to_open.pop_front() else { break };
            let unreachable = |error: std::io::Error| Fault::Unreachable {
                address: self.plan.url.to_string(),
                detail: error.to_string(),
            };
            let index = self.connections.len();
            let mut link = Link::connect(self.address).map_err(unreachable)?;
            link.register(self.poll.registry(), Token(index)).map_err(unreachable)?;
            self.connections.push(Connection::new(link));
            if plan.seats.iter().any(|seat| matches!(seat, Seat::Producer(_))) {
                self.publishing.push(index);
            }
            self.seats.push(plan.seats);
            self.is_readable.push(false);
            self.opening += 1;
        }
        Ok(())
    }

    fn open_channels(&mut self) -> Result<(), Fault> {
        let mut checks = HashMap::new();
        for index in 0..self.connections.len() {
            for seat in self.seats[index].clone() {
                let role = match seat {
                    Seat::Producer(number) => self.producer(index, number)?,
                    Seat::Consumer { queue } => {
                        let check = match queue {
                            Some(queue) => *checks.entry(queue).or_insert_with(|| self.new_check(queue)),
                            None => self.new_check(0),
                        };
                        Role::Consumer(Consumer::new(check, &self.plan.consuming))
                    }
                };
                self.connections[index].open_channel(role, &self.plan, &mut self.scene)?;
            }
            self.connections[index].flush()?;
        }
        Ok(())
    }

    fn new_check(&mut self, queue: usize) -> usize {
        let producers = usize::from(self.plan.producing.producers);
        self.scene.checks.push(Check::new(self.plan.run, producers, self.plan.is_ordered(queue)));
        self.scene.checks.len() - 1
    }

    fn producer(&self, index: usize, number: u16) -> Result<Role, Fault> {
        let connection = &self.connections[index];
        let producing = &self.plan.producing;
        let message = &producing.messages[usize::from(number) % producing.messages.len()];
        let stamp = Stamp { run: self.plan.run, producer: number, sequence: 0, sent: Ticks(0) };
        let octets_max = (BATCHES_OCTETS_MAX / usize::from(producing.producers)).min(BATCH_OCTETS);
        let frame_max = connection.handshake.tuning.frame_max;
        let batch = Batch::new(message, stamp, connection.next_channel()?, frame_max, octets_max);
        Ok(Role::Producer(Box::new(Producer::new(batch, producing.unconfirmed_max, producing.limit))))
    }

    fn consume(&mut self) -> Result<(), Fault> {
        for (connection, seats) in self.connections.iter_mut().zip(&self.seats) {
            for (channel, seat) in connection.channels.iter().zip(seats) {
                let (Role::Consumer(consumer), Seat::Consumer { queue }) = (&channel.role, seat) else {
                    continue;
                };
                let name = queue.map_or("", |queue| &self.plan.queues.names[queue]);
                consumer.consume(name, channel.number, &mut connection.link.out);
                self.scene.unanswered += 1;
            }
            connection.flush()?;
        }
        Ok(())
    }

    /// With a rate, producers begin one after the other within the time between two messages of one.
    fn start_publishing(&mut self) {
        self.is_publishing = true;
        let Some(rate) = self.plan.producing.rate else { return };
        #[allow(clippy::cast_precision_loss, reason = "below 2^53 for years")]
        let now = self.scene.clock.now().0 as f64;
        #[allow(clippy::cast_precision_loss, reason = "ten million")]
        let interval = SECOND.0 as f64 / rate;
        for (connection, seats) in self.connections.iter_mut().zip(&self.seats) {
            for (producer, seat) in connection.producers().zip(seats) {
                let Seat::Producer(number) = seat else { continue };
                let share = f64::from(*number) / f64::from(self.plan.producing.producers);
                producer.keep(Pace { interval, first: now + share * interval });
            }
        }
    }

    pub(super) fn pass_seconds(&mut self) -> Result<(), Fault> {
        let now = self.scene.clock.now();
        while now.0 - self.second.0 >= SECOND.0 {
            self.second.0 += SECOND.0;
            self.connections.iter_mut().try_for_each(Connection::pass_second)?;
        }
        Ok(())
    }

    /// Whether every connection has heard that its end is taken.
    pub(super) fn is_closed(&self) -> bool {
        self.connections.iter().all(|connection| connection.state == State::Closed)
    }
}
