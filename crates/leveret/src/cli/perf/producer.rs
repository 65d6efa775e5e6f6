//! One producer: how many messages it may send now, and which.
//!
//! Knows its rate, its window of unconfirmed messages and its limit; the socket is the connection's.
//! Invariant: no more than the window is ever unconfirmed.

use std::ops::Range;

use super::{batch::Batch, handed::Handed, seen::Mark, seen::Seen, stamp::Ticks};

/// Why a producer sends nothing at the moment, the reason that ends soonest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// It may go on.
    None,
    /// The next message is due then.
    Until(Ticks),
    /// The socket is full.
    Socket,
    /// As many messages are unconfirmed as may be.
    Window,
    /// The broker said `connection.blocked`.
    Blocked,
    /// All is sent.
    Done,
}

/// When messages are due, by rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between one message and the next, in ticks.
    pub(super) interval: f64,
    /// When the first is due.
    pub(super) first: f64,
}

impl Pace {
    #[allow(clippy::cast_precision_loss, reason = "below 2^53 for years")]
    fn due(self, number: u64) -> Ticks {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a time from 0 on")]
        Ticks((self.first + number as f64 * self.interval) as u64)
    }

    /// How many messages are due by now.
    #[allow(clippy::cast_precision_loss, reason = "below 2^53 for years")]
    fn count(self, now: Ticks) -> u64 {
        let passed = (now.0 as f64 - self.first) / self.interval;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at")]
        if passed < 0.0 { 0 } else { passed as u64 + 1 }
    }
}

#[derive(Debug)]
pub(super) struct Producer {
    batch: Batch,
    pace: Option<Pace>,
    unconfirmed_max: Option<u64>,
    limit: u64,
    published: u64,
    unconfirmed: u64,
    confirmed: Seen,
    handed: Handed,
    end: End,
}

/// How far a producer is with finding out that the broker has taken everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    NotYet,
    Asked,
    Answered,
}

impl Producer {
    pub(super) fn new(batch: Batch, unconfirmed_max: Option<u64>, limit: Option<u64>) -> Self {
        Self {
            batch,
            pace: None,
            unconfirmed_max,
            limit: limit.unwrap_or(u64::MAX),
            published: 0,
            unconfirmed: 0,
            confirmed: Seen::default(),
            handed: Handed::default(),
            end: End::NotYet,
        }
    }

    /// From now on messages are due by this.
    pub(super) fn keep(&mut self, pace: Pace) {
        self.pace = Some(pace);
    }

    /// How many messages may be sent now, or why none.
    pub(super) fn allowance(&self, now: Ticks) -> Result<usize, Hold> {
        if self.published >= self.limit {
            return Err(Hold::Done);
        }
        let mut count = (self.limit - self.published).min(self.batch.capacity() as u64);
        if let Some(max) = self.unconfirmed_max {
            count = count.min(max - self.unconfirmed);
            if count == 0 {
                return Err(Hold::Window);
            }
        }
        if let Some(pace) = self.pace {
            count = count.min(pace.count(now).saturating_sub(self.published));
            if count == 0 {
                return Err(Hold::Until(pace.due(self.published)));
            }
        }
        Ok(usize::try_from(count).expect("at most a batch"))
    }

    /// Stamps that many messages, with the time they were due where there is a rate; where they are, which are
    /// handed to the socket now.
    pub(super) fn prepare(&mut self, count: usize, now: Ticks) -> Range<usize> {
        match self.pace {
            Some(pace) => self.batch.stamp(count, self.published, |number| pace.due(number)),
            None => self.batch.stamp(count, self.published, |_| now),
        }
        if self.unconfirmed_max.is_some() {
            self.handed.add(self.published, count as u64, now);
            self.unconfirmed += count as u64;
        }
        self.published += count as u64;
        self.batch.range(count)
    }

    pub(super) fn octets(&self, range: Range<usize>) -> &[u8] {
        self.batch.octets(range)
    }

    /// Takes a confirm, which counts from 1; how many messages it is for. `each` is told when so many of them
    /// were handed to the socket.
    pub(super) fn settle(
        &mut self,
        delivery_tag: u64,
        multiple: bool,
        mut each: impl FnMut(Ticks, u64),
    ) -> u64 {
        let last = match delivery_tag {
            0 if multiple => self.published,
            tag => tag.min(self.published),
        };
        let Some(last) = last.checked_sub(1) else { return 0 };
        let new = if multiple {
            let new = self.confirmed.mark_through(last);
            self.handed.take_through(last, new, each);
            new
        } else if self.confirmed.mark(last) == Mark::Repeated {
            0
        } else {
            self.handed.take(last).into_iter().for_each(|when| each(when, 1));
            1
        };
        self.unconfirmed -= new;
        new
    }

    /// Sends no more than what is sent.
    pub(super) fn stop(&mut self) {
        self.limit = self.published;
    }

    /// Whether the broker is to be asked now whether it has taken everything.
    pub(super) fn asks_for_end(&mut self) -> bool {
        let asks = self.published >= self.limit && self.end == End::NotYet;
        if asks {
            self.end = End::Asked;
        }
        asks
    }

    pub(super) fn answer_end(&mut self) {
        if self.end == End::Asked {
            self.end = End::Answered;
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.end == End::Answered && self.unconfirmed == 0
    }

    /// Messages that are behind the rate.
    pub(super) fn behind(&self, now: Ticks) -> u64 {
        self.pace.map_or(0, |pace| pace.count(now).min(self.limit).saturating_sub(self.published))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{batch::Message, stamp::Stamp};
    use super::*;

    fn producer(pace: Option<Pace>, unconfirmed_max: Option<u64>, limit: Option<u64>) -> Producer {
        let (exchange, routing_key) = (String::new(), "q".to_owned());
        let message = Message { exchange, routing_key, body_octets: 16, persistent: false, mandatory: false };
        let stamp = Stamp { run: 1, producer: 0, sequence: 0, sent: Ticks(0) };
        let batch = Batch::new(&message, stamp, 1, 4096, 1000);
        let mut producer = Producer::new(batch, unconfirmed_max, limit);
        pace.into_iter().for_each(|pace| producer.keep(pace));
        producer
    }

    #[test]
    fn the_window_holds_until_confirms_come() {
        let mut producer = producer(None, Some(5), None);
        let room = producer.allowance(Ticks(0)).expect("room");
        assert_eq!(room, 5);
        producer.prepare(room, Ticks(0));
        assert_eq!(producer.allowance(Ticks(0)), Err(Hold::Window));
        let settle = |producer: &mut Producer, tag, multiple| producer.settle(tag, multiple, |_, _| {});
        assert_eq!((settle(&mut producer, 2, false), settle(&mut producer, 2, false)), (1, 0));
        assert_eq!(producer.allowance(Ticks(0)), Ok(1));
        assert_eq!((settle(&mut producer, 3, true), settle(&mut producer, 9, true)), (2, 2));
        assert_eq!(producer.allowance(Ticks(0)), Ok(5));
    }

    #[test]
    fn a_confirm_is_timed_from_when_its_message_was_handed_over() {
        let pace = Pace { interval: 100.0, first: 0.0 };
        let mut producer = producer(Some(pace), Some(10), None);
        producer.prepare(3, Ticks(270));
        producer.prepare(2, Ticks(450));
        let mut told = Vec::new();
        for (tag, multiple) in [(5, false), (5, false), (2, true), (0, true)] {
            producer.settle(tag, multiple, |when, count| told.push((when.0, count)));
        }
        assert_eq!(told, [(450, 1), (270, 2), (270, 1), (450, 1)], "not from when it was due");
    }

    #[test]
    fn a_rate_makes_messages_due_and_stamps_them_so() {
        let pace = Pace { interval: 100.0, first: 50.0 };
        let mut producer = producer(Some(pace), None, None);
        assert_eq!(producer.allowance(Ticks(49)), Err(Hold::Until(Ticks(50))));
        assert_eq!(producer.allowance(Ticks(270)), Ok(3));
        let range = producer.prepare(3, Ticks(270));
        let octets = producer.octets(range);
        let body = |number: usize| &octets[(number + 1) * octets.len() / 3 - STAMP_AND_END..];
        let sent: Vec<_> = (0..3).map(|number| Stamp::read(body(number)).map(|stamp| stamp.sent)).collect();
        assert_eq!(sent, [50, 150, 250].map(|due| Some(Ticks(due))));
        assert_eq!(producer.allowance(Ticks(270)), Err(Hold::Until(Ticks(350))));
        assert_eq!(producer.behind(Ticks(560)), 3);
    }

    const STAMP_AND_END: usize = super::super::stamp::STAMP_OCTETS + 1;

    #[test]
    fn it_is_finished_when_all_is_sent_answered_and_confirmed() {
        let mut producer = producer(None, Some(10), Some(3));
        assert!(!producer.asks_for_end());
        producer.prepare(3, Ticks(0));
        assert_eq!(producer.allowance(Ticks(0)), Err(Hold::Done));
        assert!(producer.asks_for_end() && !producer.asks_for_end());
        producer.answer_end();
        assert!(!producer.is_finished());
        producer.settle(0, true, |_, _| {});
        assert!(producer.is_finished());
    }
}
