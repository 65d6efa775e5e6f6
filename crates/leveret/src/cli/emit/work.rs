//! The lines in hand: taking them in, sending them while there is a connection, counting their ends.
//!
//! Knows nothing of how connections are made. Invariant: a line that was counted as read is in the outbox
//! or has its end in the account.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::Receiver, time};

use super::{
    account::{Account, Outcome},
    input::Batch,
    lines::{Item, Line},
    outbox::{Bounds, Entry, Outbox},
    progress::{self, Progress},
    session::{Flight, News, Sender, Session},
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
    intake: Receiver<Batch>,
    /// What the last batch brought and the outbox had no room for.
    unread: VecDeque<Item>,
    input_open: bool,
    pub(crate) input_error: Option<io::Error>,
    pub(crate) outbox: Outbox<Flight>,
    pub(crate) account: Account,
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
    pub(crate) fn new(
        intake: Receiver<Batch>,
        status: Rc<Status>,
        stop: Stop,
        on_blocked: OnBlocked,
    ) -> Self {
        let now = Instant::now();
        Self {
            intake,
            unread: VecDeque::new(),
            input_open: true,
            input_error: None,
            outbox: Outbox::new(BOUNDS),
            account: Account::default(),
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
        let mut blocked = false;
        loop {
            self.admit(blocked);
            if let Some(end) = self.end(Instant::now()) {
                return end;
            }
            let (deadline, wants) = (self.deadline(blocked), self.wants_input(blocked));
            tokio::select! {
                biased;
                () = self.stop.requested() => self.stop_asked(),
                news = session.news.next() => match news {
                    News::Lost(error) => return End::Lost(error),
                    News::Blocked(reason) => blocked = self.say_blocked(&reason),
                    News::Unblocked => blocked = self.say_unblocked(),
                },
                moved = poll_fn(|cx| poll_outbox(&mut self.outbox, &mut self.account, &session.sender, blocked, cx)) =>
                    match moved {
                        Ok(()) => self.moved = Instant::now(),
                        Err(error) => return End::Lost(error),
                    },
                batch = self.intake.recv(), if wants => self.take_in(batch),
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
                () = self.stop.requested() => self.stop_asked(),
                batch = self.intake.recv(), if wants => self.take_in(batch),
                () = time::sleep_until(deadline.into()) => {}
            }
        }
    }

    /// Puts the lines of a lost session back; returns how many had no end.
    pub(crate) fn take_back(&mut self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let account = &mut self.account;
        self.outbox.take_back(|flight| match flight.poll(&mut cx) {
            Poll::Ready(Ok(outcome)) => {
                account.settle(outcome);
                true
            }
            Poll::Ready(Err(_)) | Poll::Pending => false,
        })
    }

    /// Takes out the line at which the broker closed the channel.
    pub(crate) fn refuse_next(&mut self) -> Option<Entry> {
        let entry = self.outbox.refuse_next()?;
        self.account.settle(Outcome::Refused);
        Some(entry)
    }

    /// Closes the account with everything that was taken out of the input; says how many lines were over
    /// the limit.
    pub(crate) fn close(&mut self) -> (Account, u64) {
        self.swallow_rest();
        self.account.close(self.outbox.len());
        (self.account, self.too_long)
    }

    fn end(&mut self, now: Instant) -> Option<End> {
        self.draw(now);
        if !self.input_open && self.unread.is_empty() && self.outbox.is_empty() {
            return Some(End::Done);
        }
        if self.stop_deadline.is_some_and(|deadline| deadline <= now) {
            return Some(End::Stopped);
        }
        let gives_up = self.give_up_at().is_some_and(|deadline| deadline <= now);
        gives_up.then_some(End::GaveUp)
    }

    fn give_up_at(&self) -> Option<Instant> {
        self.give_up_after.filter(|_| !self.outbox.is_empty()).map(|limit| self.moved + limit)
    }

    /// When to look again though nothing has happened.
    fn deadline(&self, stopped: bool) -> Instant {
        let now = Instant::now();
        let idle = now + Duration::from_secs(3600);
        let draw = self.status.shows_progress().then_some(self.next_draw);
        let stall = (self.on_blocked == OnBlocked::Drop && !stopped && !self.outbox.has_room())
            .then_some(self.moved + STALL)
            // Once it is over, only new lines and confirms make a difference.
            .filter(|stall| *stall > now);
        [draw, stall, self.stop_deadline, self.give_up_at()].into_iter().flatten().fold(idle, Instant::min)
    }

    fn draw(&mut self, now: Instant) {
        if self.status.shows_progress() && self.next_draw <= now {
            self.next_draw = now + progress::INTERVAL;
            self.status.progress(self.progress.line(&self.account, self.outbox.len(), now));
        }
    }

    /// Whether lines without room are dropped now rather than left to wait.
    fn drops(&self, stopped: bool) -> bool {
        self.on_blocked == OnBlocked::Drop && (stopped || self.moved.elapsed() >= STALL)
    }

    fn wants_input(&self, stopped: bool) -> bool {
        self.input_open && self.unread.is_empty() && (self.outbox.has_room() || self.drops(stopped))
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
        while self.outbox.has_room() || self.drops(stopped) {
            match self.unread.pop_front() {
                Some(Item::Line(line)) => self.read_line(line),
                Some(Item::TooLong) => self.read_too_long(),
                None => return,
            }
        }
    }

    fn read_line(&mut self, line: Line) {
        if self.outbox.has_room() {
            return self.keep(line);
        }
        self.account.read += 1;
        self.account.dropped += 1;
    }

    fn keep(&mut self, line: Line) {
        self.account.read += 1;
        if self.outbox.is_empty() {
            self.moved = Instant::now();
        }
        self.outbox.push(self.next_number, line);
        self.next_number += 1;
    }

    fn read_too_long(&mut self) {
        self.account.read += 1;
        self.account.not_confirmed += 1;
        self.too_long += 1;
    }

    /// The first signal closes the input and lets what was read arrive; the second one ends at once.
    fn stop_asked(&mut self) {
        if self.stop_deadline.is_some() {
            self.stop_deadline = Some(Instant::now());
            return;
        }
        self.stop_deadline = Some(Instant::now() + STOP_GRACE);
        self.swallow_rest();
    }

    /// Closes the input. The few batches that are out of it already go into the outbox whatever the
    /// bounds say.
    fn swallow_rest(&mut self) {
        self.input_open = false;
        self.intake.close();
        while let Ok(batch) = self.intake.try_recv() {
            self.take_in(Some(batch));
        }
        while let Some(item) = self.unread.pop_front() {
            match item {
                Item::Line(line) => self.keep(line),
                Item::TooLong => self.read_too_long(),
            }
        }
    }

    fn say_unblocked(&self) -> bool {
        self.status.say(" [*] the broker takes messages again");
        false
    }

    fn say_blocked(&self, reason: &str) -> bool {
        let then = match self.on_blocked {
            OnBlocked::Wait => "waiting",
            OnBlocked::Drop => "dropping what does not fit",
        };
        self.status.say(format!(" [!] the broker takes no messages now ({reason}); {then}"));
        true
    }
}

/// Sends what waits and counts what has met its end; ready when anything has.
fn poll_outbox(
    outbox: &mut Outbox<Flight>,
    account: &mut Account,
    sender: &Sender,
    blocked: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(), lapin::Error>> {
    let mut moved = false;
    loop {
        let mut sent = false;
        while let Some(entry) = if blocked { None } else { outbox.next_to_send() } {
            account.sent_again += u64::from(entry.sent_before);
            let mut flight = sender.publish(&entry);
            // The first poll hands the message over. What comes of it is asked when its turn comes.
            let _ = flight.poll(cx);
            outbox.sent(entry, flight);
            sent = true;
        }
        while let Some(Poll::Ready(landing)) = outbox.head().map(|flight| flight.poll(cx)) {
            account.settle(landing?);
            outbox.settle_head();
            moved = true;
        }
        if !sent {
            return if moved { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
    }
}
