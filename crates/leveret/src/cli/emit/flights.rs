//! Lines in flight: handed to the broker in order, and counted when they land.
//!
//! Takes the time as an argument. Invariant: a line in the outbox has no end in the account yet.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{
    account::{Account, Outcome},
    outbox::{Bounds, Entry, Outbox},
    session::{Flight, Sender},
};

/// How often a line is offered that nobody is there to receive.
const OFFER_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Flights {
    pub(crate) outbox: Outbox<Flight>,
    pub(crate) account: Account,
    /// Where we host the broker, the first line waits for somebody to receive it: it comes back until
    /// then, and is offered again when this time has come.
    next_offer: Option<Instant>,
}

impl Flights {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { outbox: Outbox::new(bounds), account: Account::default(), next_offer: None }
    }

    /// The broker is ours and new, so nobody can have joined yet.
    pub(crate) fn wait_for_receiver(&mut self, now: Instant) {
        self.next_offer = Some(now);
        self.outbox.send_singly(usize::MAX);
    }

    /// When to poll again though nothing has landed.
    pub(crate) fn next_offer(&self) -> Option<Instant> {
        self.next_offer.filter(|_| self.outbox.has_only_waiting())
    }

    /// Sends what waits, if there is something to send with, and counts what has landed; ready when
    /// anything has.
    pub(crate) fn poll(
        &mut self,
        sender: Option<&Sender>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), lapin::Error>> {
        let mut moved = false;
        loop {
            let sent = sender.is_some_and(|sender| self.send(sender, now, cx));
            while let Some(Poll::Ready(landing)) = self.outbox.head().map(|flight| flight.poll(cx)) {
                self.land(landing?, now);
                moved = true;
            }
            if !sent {
                return if moved { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
    }

    fn send(&mut self, sender: &Sender, now: Instant, cx: &mut Context<'_>) -> bool {
        let mut sent = false;
        while self.next_offer.is_none_or(|offer| offer <= now) {
            let Some(entry) = self.outbox.next_to_send() else { break };
            self.account.sent_again += u64::from(entry.sent_before);
            let mut flight = sender.publish(&entry, self.next_offer.is_some());
            // The first poll hands the message over. What comes of it is asked when its turn comes.
            let _ = flight.poll(cx);
            self.outbox.sent(entry, flight);
            sent = true;
        }
        sent
    }

    fn land(&mut self, outcome: Outcome, now: Instant) {
        if self.next_offer.is_some() {
            if outcome == Outcome::Returned {
                self.next_offer = Some(now + OFFER_EVERY);
                return self.outbox.hold_head();
            }
            self.next_offer = None;
            self.outbox.send_together();
        }
        self.account.settle(outcome);
        self.outbox.settle_head();
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
}
