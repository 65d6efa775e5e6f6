//! What goes on whether or not there is a connection: handing messages to the writer, hearing what became
//! of them, counting what was missed, and noticing that it is time to end.
//!
//! Invariant: at most `prefetch` messages are with the writer; while it has so many, none is taken.

use std::{
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use lapin::message::Delivery;
use tokio::{signal::unix::Signal, time};

use super::{
    gap::Edge,
    message::Message,
    session::Session,
    tally::Tally,
    watch::StdoutWatch,
    writer::{Command, Report, Ticket, Writer},
};
use crate::cli::{
    Failure,
    status::Status,
    stop::{self, Stop},
};

/// How long the writer may take for its last messages when they go to a terminal or a pipe, which
/// somebody may have paused for good.
const LAST_WRITES_WAIT: Duration = Duration::from_secs(2);

/// Why the receiving ends.
pub(crate) enum Finish {
    /// All that `--count` asked for is with the writer.
    Count,
    /// Nothing came for `--idle-timeout`.
    Idle,
    Stopped,
    /// Nobody reads stdout any more.
    Closed,
    Failed(Failure),
}

/// When to end without being told to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) count: Option<u64>,
    pub(crate) idle_timeout: Option<Duration>,
}

pub(crate) struct Desk {
    pub(crate) status: Rc<Status>,
    pub(crate) tally: Tally,
    limits: Limits,
    prefetch: u64,
    writer: Writer,
    /// Messages that were handed to the writer and not reported back.
    with_writer: u64,
    last_message_at: Instant,
    session: u32,
    stop: Stop,
    hangup: Option<Signal>,
    watch: Option<StdoutWatch>,
}

/// What happened at the desk.
enum Event {
    Stop,
    Hangup,
    Closed,
    Report(Option<Report>),
    Delivery(Box<Result<Delivery, String>>),
    Time,
}

impl Desk {
    pub(crate) fn new(
        status: Rc<Status>,
        tally: Tally,
        limits: Limits,
        prefetch: u16,
        writer: Writer,
        stop: Stop,
    ) -> Self {
        Self {
            status,
            tally,
            limits,
            prefetch: u64::from(prefetch),
            writer,
            with_writer: 0,
            last_message_at: Instant::now(),
            session: 0,
            stop,
            hangup: None,
            watch: None,
        }
    }

    /// SIGHUP is for the file, not for the process.
    pub(crate) fn reopen_on(mut self, hangup: Option<Signal>) -> Self {
        self.hangup = hangup;
        self
    }

    pub(crate) fn watch(mut self, watch: Option<StdoutWatch>) -> Self {
        self.watch = watch;
        self
    }

    /// Takes messages from `session` until it is lost (`Ok`) or it is time to end (`Err`).
    pub(crate) async fn receive(&mut self, session: &mut Session) -> Result<String, Finish> {
        if self.session == 0 {
            // To be idle is to wait for messages, not for a broker.
            self.last_message_at = Instant::now();
        }
        self.session += 1;
        self.tally.bound(session.bound_at);
        loop {
            match self.event(Some(session)).await {
                Event::Delivery(delivery) => {
                    if let Err(reason) = self.take_all(session, *delivery).await {
                        return Ok(reason);
                    }
                }
                Event::Report(Some(Report::Written { last, messages })) => {
                    self.written(messages);
                    if last.session == self.session {
                        session.ack_up_to(last.delivery_tag).await;
                    }
                    self.on_time(Instant::now())?;
                }
                event => self.attend(event)?,
            }
        }
    }

    /// Goes on without a session until it is time to end.
    pub(crate) async fn wait_without_session(&mut self) -> Finish {
        loop {
            let event = self.event(None).await;
            if let Err(finish) = self.attend(event) {
                return finish;
            }
        }
    }

    /// Notes that what comes next does not follow on what came last.
    pub(crate) fn lost(&mut self, reason: &str) {
        self.status.say(self.tally.lost(SystemTime::now(), reason));
    }

    async fn event(&mut self, session: Option<&mut Session>) -> Event {
        let deadline = self.deadline();
        let takes = self.with_writer < self.prefetch && !self.has_all();
        tokio::select! {
            biased;
            () = self.stop.requested() => Event::Stop,
            () = StdoutWatch::closed(self.watch.as_mut()) => Event::Closed,
            _ = stop::next(self.hangup.as_mut()) => Event::Hangup,
            report = self.writer.reports.recv() => Event::Report(report),
            delivery = next(session), if takes => Event::Delivery(Box::new(delivery)),
            () = time::sleep_until(deadline.into()) => Event::Time,
        }
    }

    /// Deals with what is not about the session.
    fn attend(&mut self, event: Event) -> Result<(), Finish> {
        match event {
            Event::Stop => return Err(Finish::Stopped),
            Event::Closed | Event::Report(Some(Report::Closed)) => return Err(Finish::Closed),
            Event::Report(Some(Report::Failed(failure))) => return Err(Finish::Failed(failure)),
            // The writer ends only after one of the two reports above, or when it is told to.
            Event::Report(None) => return Err(Finish::Closed),
            Event::Hangup => self.writer.send(Command::Reopen),
            Event::Report(Some(Report::Note(note))) => self.status.say(note),
            Event::Report(Some(Report::Written { messages, .. })) => self.written(messages),
            Event::Delivery(_) | Event::Time => {}
        }
        self.on_time(Instant::now())
    }

    fn on_time(&mut self, now: Instant) -> Result<(), Finish> {
        if let Some(line) = self.tally.announce(now) {
            self.status.say(line);
        }
        if self.has_all() && self.with_writer == 0 {
            return Err(Finish::Count);
        }
        match self.idle_at() {
            Some(idle_at) if idle_at <= now => Err(Finish::Idle),
            _ => Ok(()),
        }
    }

    fn deadline(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        [self.tally.announces_at(), self.idle_at()].into_iter().flatten().fold(far, Instant::min)
    }

    /// A writer that is stuck is not idle.
    fn idle_at(&self) -> Option<Instant> {
        self.limits
            .idle_timeout
            .filter(|_| self.session > 0 && self.with_writer == 0)
            .map(|timeout| self.last_message_at + timeout)
    }

    fn has_all(&self) -> bool {
        self.missing() == Some(0)
    }

    /// How many messages `--count` still waits for.
    pub(crate) fn missing(&self) -> Option<u64> {
        self.limits.count.map(|count| count - self.tally.messages())
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.limits.idle_timeout
    }

    fn written(&mut self, messages: u64) {
        self.with_writer -= messages;
        if self.with_writer == 0 {
            self.last_message_at = Instant::now();
        }
    }

    /// Takes this message and those that have come behind it, or says why no more will come.
    async fn take_all(
        &mut self,
        session: &mut Session,
        first: Result<Delivery, String>,
    ) -> Result<(), String> {
        self.take(first?);
        while self.with_writer < self.prefetch && !self.has_all() {
            match session.ready().await {
                Some(delivery) => self.take(delivery?),
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        let ticket = Ticket { session: self.session, delivery_tag: delivery.delivery_tag };
        let message = Message::from(delivery);
        let edge = Edge { message: self.tally.messages() + 1, stamp: message.stamp() };
        self.tally.take(edge, Instant::now()).into_iter().for_each(|line| self.status.say(line));
        self.with_writer += 1;
        self.writer.send(Command::Write(Box::new(message), ticket));
    }

    /// Lets the writer finish, acknowledges what it wrote, and says how much that was.
    pub(crate) async fn finish(&mut self, session: Option<&Session>, unhurried: bool) -> Result<(), Failure> {
        self.writer.commands = None;
        let deadline = Instant::now() + if unhurried { Duration::MAX / 4 } else { LAST_WRITES_WAIT };
        let mut outcome = Ok(());
        loop {
            let report = tokio::select! {
                report = self.writer.reports.recv() => report,
                () = self.stop.requested() => None,
                () = time::sleep_until(deadline.into()) => None,
            };
            match report {
                Some(Report::Written { last, messages }) => {
                    self.with_writer -= messages;
                    if let Some(session) = session.filter(|_| last.session == self.session) {
                        session.ack_up_to(last.delivery_tag).await;
                    }
                }
                Some(Report::Failed(failure)) => outcome = Err(failure),
                Some(Report::Note(note)) => self.status.say(note),
                Some(Report::Closed) => {}
                None => break,
            }
        }
        outcome
    }

    /// Messages that were received and not written.
    pub(crate) fn unwritten(&self) -> u64 {
        self.with_writer
    }
}

async fn next(session: Option<&mut Session>) -> Result<Delivery, String> {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}
