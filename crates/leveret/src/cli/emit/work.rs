//! The lines in hand: taking them in, sending them while there is a connection, counting their ends.
//!
//! Knows nothing of how connections are made. Invariant: a line that was counted as read is in the outbox
//! or has its end in the account.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::time;

use super::{
    account::Account,
    blockage::Blockage,
    flights::Flights,
    input::{Batch, Input},
    lines::{Item, Line},
    outbox::Bounds,
    progress::{self, Progress},
    session::{News, Session},
};
use crate::cli::{status::Status, stop::Stop};

/// What may be on its way without a confirm. Enough to keep a distant broker busy; what a lost
/// connection can bring in repeats, and what an outage can fill before the feeder waits.
const BOUNDS: Bounds = Bounds { lines: 4096, octets: 16 << 20 };

/// With `--on-blocked drop`, how long a full outbox may stand still before lines are dropped: a broker
/// that is merely slower than its feeder moves sooner than this.
const STALL: Duration = Duration::from_millis(250);

/// How long lines that were read have to be confirmed after a signal to end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What to do with lines that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnBlocked {
    /// Read no further: the program that writes the lines waits
    Wait,
    /// Read on: lines are dropped and counted
    Drop,
}

/// Why the sending ended or was interrupted.
pub(crate) enum End {
    Done,
    Lost(lapin::Error),
    /// A signal asked for the end, and the lines on their way have had their time.
    Stopped,
    /// Nothing was confirmed for as long as `--give-up-after` allows.
    GaveUp,
}

pub(crate) struct Work {
    intake: Input,
    /// What the last batch brought and the outbox had no room for.
    unread: VecDeque<Item>,
    input_open: bool,
    pub(crate) input_error: Option<io::Error>,
    pub(crate) flights: Flights,
    too_long: u64,
    status: Rc<Status>,
    progress: Progress,
    next_draw: Instant,
    stop: Stop,
    stop_deadline: Option<Instant>,
    on_blocked: OnBlocked,
    give_up_after: Option<Duration>,
    /// When a line last met its end, or the first one came into an empty outbox.
    moved: Instant,
    next_number: u64,
}

impl Work {
    pub(crate) fn new(intake: Input, status: Rc<Status>, stop: Stop, on_blocked: OnBlocked) -> Self {
        let now = Instant::now();
        Self {
            intake,
            unread: VecDeque::new(),
            input_open: true,
            input_error: None,
            flights: Flights::new(BOUNDS),
            too_long: 0,
            status,
            progress: Progress::default(),
            next_draw: now,
            stop,
            stop_deadline: None,
            on_blocked,
            give_up_after: None,
            moved: now,
            next_number: 1,
        }
    }

    pub(crate) fn give_up_after(mut self, limit: Option<Duration>) -> Self {
        self.give_up_after = limit;
        self
    }

    /// Sends on `session` until everything has its end or the session is lost.
    pub(crate) async fn send_on(&mut self, session: &mut Session) -> End {
        let mut blockage = Blockage::default();
        loop {
            let blocked = blockage.is_on();
            self.admit(blocked);
            if let Some(end) = self.end(Instant::now()) {
                return end;
            }
            blockage.say(Instant::now()).into_iter().for_each(|line| self.status.say(line));
            let (deadline, wants) = (self.deadline(blocked), self.wants_input(blocked));
            let deadline = blockage.said_at().into_iter().fold(deadline, Instant::min);
            let sender = (!blocked).then_some(&session.sender);
            tokio::select! {
                biased;
                () = self.stop.requested() => self.stop_asked().await,
                news = session.news.next() => match news {
                    News::Lost(error) => return End::Lost(error),
                    News::Blocked(reason) => blockage.begin(reason, Instant::now()),
                    News::Unblocked => blockage.end().into_iter().for_each(|line| self.status.say(line)),
                },
                moved = poll_fn(|cx| self.flights.poll(sender, Instant::now(), cx)) => match moved {
                    Ok(()) => self.moved = Instant::now(),
                    Err(error) => return End::Lost(error),
                },
                batch = self.intake.next(), if wants => self.take_in(batch),
                () = time::sleep_until(deadline.into()) => {}
            }
        }
    }

    /// Waits while there is nothing to send on, and takes lines in if it `reads`; returns when there is
    /// no use in waiting longer.
    pub(crate) async fn wait_without_session(&mut self, reads: bool) -> End {
        loop {
            self.admit(true);
            if let Some(end) = self.end(Instant::now()) {
                return end;
            }
            let (deadline, wants) = (self.deadline(true), reads && self.wants_input(true));
            tokio::select! {
                biased;
                () = self.stop.requested() => self.stop_asked().await,
                batch = self.intake.next(), if wants => self.take_in(batch),
                () = time::sleep_until(deadline.into()) => {}
            }
        }
    }

    /// Waits for a signal to end.
    pub(crate) async fn stop_requested(&mut self) {
        self.stop.requested().await;
    }

    /// Closes the account with everything that was taken out of the input; says how many lines were over
    /// the limit.
    pub(crate) async fn close(&mut self) -> (Account, u64) {
        self.swallow_rest().await;
        self.flights.account.close(self.flights.outbox.len());
        (self.flights.account, self.too_long)
    }

    fn end(&mut self, now: Instant) -> Option<End> {
        self.draw(now);
        if !self.input_open && self.unread.is_empty() && self.flights.outbox.is_empty() {
            return Some(End::Done);
        }
        if self.stop_deadline.is_some_and(|deadline| deadline <= now) {
            return Some(End::Stopped);
        }
        let gives_up = self.give_up_at().is_some_and(|deadline| deadline <= now);
        gives_up.then_some(End::GaveUp)
    }

    fn give_up_at(&self) -> Option<Instant> {
        self.give_up_after.filter(|_| !self.flights.outbox.is_empty()).map(|limit| self.moved + limit)
    }

    /// When to look again though nothing has happened.
    fn deadline(&self, stopped: bool) -> Instant {
        let now = Instant::now();
        let idle = now + Duration::from_secs(3600);
        let draw = self.status.shows_progress().then_some(self.next_draw);
        let stall = (self.on_blocked == OnBlocked::Drop && !stopped && !self.flights.outbox.has_room())
            .then_some(self.moved + STALL)
            // Once it is over, only new lines and confirms make a difference.
            .filter(|stall| *stall > now);
        let offer = self.flights.next_offer().filter(|_| !stopped);
        [draw, stall, offer, self.stop_deadline, self.give_up_at()]
            .into_iter()
            .flatten()
            .fold(idle, Instant::min)
    }

    fn draw(&mut self, now: Instant) {
        if self.status.shows_progress() && self.next_draw <= now {
            self.next_draw = now + progress::INTERVAL;
            self.status.progress(self.progress.line(&self.flights.account, self.flights.outbox.len(), now));
        }
    }

    /// Whether lines without room are dropped now rather than left to wait.
    fn drops(&self, stopped: bool) -> bool {
        self.on_blocked == OnBlocked::Drop && (stopped || self.moved.elapsed() >= STALL)
    }

    fn wants_input(&self, stopped: bool) -> bool {
        self.input_open && self.unread.is_empty() && (self.flights.outbox.has_room() || self.drops(stopped))
    }

    fn take_in(&mut self, batch: Option<Batch>) {
        match batch {
            Some(batch) => {
                self.unread.extend(batch.items);
                self.input_error = self.input_error.take().or(batch.error);
            }
            None => self.input_open = false,
        }
    }

    /// Moves what was read into the outbox, as far as there is room.
    fn admit(&mut self, stopped: bool) {
        while self.flights.outbox.has_room() || self.drops(stopped) {
            match self.unread.pop_front() {
                Some(Item::Line(line)) => self.read_line(line),
                Some(Item::TooLong) => self.read_too_long(),
                None => return,
            }
        }
    }

    fn read_line(&mut self, line: Line) {
        if self.flights.outbox.has_room() {
            return self.keep(line);
        }
        self.flights.account.read += 1;
        self.flights.account.dropped += 1;
    }

    fn keep(&mut self, line: Line) {
        self.flights.account.read += 1;
        if self.flights.outbox.is_empty() {
            self.moved = Instant::now();
        }
        self.flights.outbox.push(self.next_number, line);
        self.next_number += 1;
    }

    fn read_too_long(&mut self) {
        self.flights.account.read += 1;
        self.flights.account.not_confirmed += 1;
        self.too_long += 1;
    }

    /// The first signal closes the input and lets what was read arrive; the second one ends at once.
    async fn stop_asked(&mut self) {
        if self.stop_deadline.is_some() {
            self.stop_deadline = Some(Instant::now());
            return;
        }
        self.stop_deadline = Some(Instant::now() + STOP_GRACE);
        self.swallow_rest().await;
        if !self.flights.outbox.is_empty() {
            let lines = self.flights.outbox.len();
            self.status
                .say(format!(" [*] waiting for {lines} lines to be confirmed; CTRL+C again to end at once"));
        }
    }

    /// Closes the input. The few batches that are out of it already go into the outbox whatever the
    /// bounds say.
    async fn swallow_rest(&mut self) {
        self.intake.stop();
        while self.input_open {
            let batch = self.intake.next().await;
            self.take_in(batch);
        }
        while let Some(item) = self.unread.pop_front() {
            match item {
                Item::Line(line) => self.keep(line),
                Item::TooLong => self.read_too_long(),
            }
        }
    }
}
