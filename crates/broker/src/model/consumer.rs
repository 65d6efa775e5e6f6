//! What a consumer may still be given.
//!
//! Three limits hold together: the window (what lies between the queue and the consumer's
//! socket), the consumer's own prefetch, and a prefetch that all consumers of a channel share.
//! Invariant: what was reserved and not given back is exactly what the consumer holds.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::planted::{self, Bug};

/// What a queue hands to one consumer ahead of its socket: KiB of messages, each rounded up to a
/// power of two. At least half of it comes back at a time, behind the messages that it was for,
/// so that a consumer that is not read from costs this much, one message, and then nothing.
pub const DELIVERY_WINDOW: u32 = 2048;
/// What is handed over at least before a part of the window comes back.
pub const DELIVERY_WINDOW_STEP: u32 = DELIVERY_WINDOW / 2;

/// The prefetch of a channel (`basic.qos` with global set), shared by its consumers, which may
/// stand on different queues.
#[derive(Debug, Default)]
pub struct ChannelCredit {
    /// 0 is no limit.
    limit: AtomicU32,
    taken: AtomicU32,
    /// Places that nobody gives back while the limit is there.
    lost: AtomicU32,
}

impl ChannelCredit {
    /// Sets the limit; 0 is none. Where there was none, `gotten` messages that `basic.get` took and
    /// that are not acknowledged take places, and keep them until the limit is lifted, acknowledged
    /// or not: so does RabbitMQ (`rabbit_limiter`).
    pub fn set_limit(&self, limit: u32, gotten: u32) {
        let before = self.limit.swap(limit, Ordering::AcqRel);
        if limit == 0 || before == 0 {
            self.lost.store(if limit == 0 { 0 } else { gotten }, Ordering::Release);
        }
    }

    /// What may be taken at a time; `None` without a limit.
    fn places(&self) -> Option<u32> {
        let limit = self.limit.load(Ordering::Acquire);
        (limit > 0).then(|| limit.saturating_sub(self.lost.load(Ordering::Acquire)))
    }

    /// Counts what was handed out before the limit was there.
    pub fn take(&self, count: u32) {
        self.taken.fetch_add(count, Ordering::AcqRel);
    }

    /// Gives back what was acknowledged or requeued. Whoever does it then steps the queues of
    /// the channel's consumers, or they would wait for ever.
    pub fn give_back(&self, count: u32) {
        let before = self.taken.fetch_sub(count, Ordering::AcqRel);
        assert!(before >= count, "more channel credit given back than taken");
    }

    fn is_used_up(&self) -> bool {
        self.places().is_some_and(|places| self.taken.load(Ordering::Acquire) >= places)
    }

    fn reserve(&self, wanted: u32) -> u32 {
        let places = self.places();
        let mut granted = wanted;
        let grant = |taken: u32| {
            granted = places.map_or(wanted, |places| wanted.min(places.saturating_sub(taken)));
            (granted > 0).then_some(taken + granted)
        };
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, grant) {
            Ok(_) => granted,
            Err(_) => 0,
        }
    }
}

/// How a consumer was started.
#[derive(Debug, Clone, Default)]
pub struct ConsumerSettings {
    /// Deliveries need no acknowledgement.
    pub no_ack: bool,
    /// No other consumer on the queue.
    pub exclusive: bool,
    /// `x-priority`: higher ones are given messages first.
    pub priority: i64,
    /// Unacknowledged deliveries at a time; 0 is no limit.
    pub prefetch: u16,
    /// The channel's shared prefetch, when it has one.
    pub channel_credit: Option<Arc<ChannelCredit>>,
}

/// A consumer of a queue.
#[derive(Debug)]
pub struct Consumer {
    settings: ConsumerSettings,
    window: u32,
    /// Handed over since a part of the window was last put behind a message.
    handed_over: u32,
    unacked: u32,
    /// Whether it stands in the queue's round.
    pub(super) in_round: bool,
    /// When it last left the round for want of credit, as the queue counts.
    pub(super) parked: u64,
}

impl Consumer {
    /// A consumer that holds nothing yet.
    #[must_use]
    pub const fn new(settings: ConsumerSettings) -> Self {
        Self { settings, window: DELIVERY_WINDOW, handed_over: 0, unacked: 0, in_round: false, parked: 0 }
    }

    /// How it was started.
    #[must_use]
    pub const fn settings(&self) -> &ConsumerSettings {
        &self.settings
    }

    /// Whether a prefetch of its channel holds for it.
    #[must_use]
    pub const fn shares_credit(&self) -> bool {
        self.settings.channel_credit.is_some()
    }

    /// Reserves credit for at most `wanted` messages and says for how many. The window may be
    /// used up before them; then what is left over is to be given back. One who shares credit
    /// asks for one at a time, because others of the channel may look for credit meanwhile.
    pub fn reserve(&mut self, wanted: u32) -> u32 {
        let mut granted = wanted.min(self.window);
        if self.settings.no_ack {
            // What it is given takes nothing from the channel's prefetch, but as in RabbitMQ it waits
            // while that is used up.
            let waits = self.settings.channel_credit.as_ref().is_some_and(|credit| credit.is_used_up());
            if waits && !planted::is(Bug::NoAckIgnoresSharedPrefetch) {
                return 0;
            }
        } else {
            if self.settings.prefetch > 0 {
                granted = granted.min(u32::from(self.settings.prefetch).saturating_sub(self.unacked));
            }
            if let Some(credit) = &self.settings.channel_credit {
                granted = if granted == 0 { 0 } else { credit.reserve(granted) };
            }
            self.unacked += granted;
        }
        granted
    }

    /// Gives back credit that was reserved and not used.
    pub fn give_back(&mut self, count: u32) {
        assert!(count == 0 || !self.shares_credit(), "shared credit is reserved for one message at a time");
        self.settle(count);
    }

    /// Whether anything may be handed over.
    #[must_use]
    pub const fn has_window(&self) -> bool {
        self.window > 0
    }

    /// Counts a message handed over, and says how much of the window comes back behind it. A
    /// message that is larger than the window is counted as what is left of it.
    pub fn hand_over(&mut self, size_kibibytes: u32) -> u32 {
        let size = size_kibibytes.min(self.window);
        self.window -= size;
        self.handed_over += size;
        if self.handed_over < DELIVERY_WINDOW_STEP { 0 } else { std::mem::take(&mut self.handed_over) }
    }

    /// A part of the window came back: the messages before it are on their way out.
    pub const fn refill(&mut self, window: u32) {
        self.window += window;
        assert!(self.window <= DELIVERY_WINDOW, "a part of the window comes back once");
    }

    /// Deliveries were acknowledged or went back to the queue.
    pub fn settle(&mut self, count: u32) {
        assert!(self.settings.no_ack || self.unacked >= count, "settled more than was delivered");
        self.unacked = self.unacked.saturating_sub(count);
    }

    /// Puts the consumer under a channel's shared prefetch, with what it holds already.
    pub fn share_credit(&mut self, credit: &Arc<ChannelCredit>) {
        if self.settings.channel_credit.is_some() {
            return;
        }
        credit.take(self.unacked);
        self.settings.channel_credit = Some(Arc::clone(credit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_and_window_hold_together() {
        let mut consumer = Consumer::new(ConsumerSettings { prefetch: 3, ..ConsumerSettings::default() });
        assert_eq!(consumer.reserve(10), 3);
        assert_eq!(consumer.reserve(1), 0);
        consumer.settle(2);
        assert_eq!(consumer.reserve(10), 2);
        let mut consumer = Consumer::new(ConsumerSettings { no_ack: true, ..ConsumerSettings::default() });
        assert_eq!(consumer.reserve(u32::MAX), DELIVERY_WINDOW);
        let returned: u32 = (0..DELIVERY_WINDOW).map(|_| consumer.hand_over(1)).sum();
        assert_eq!((returned, consumer.reserve(1)), (DELIVERY_WINDOW, 0));
        consumer.refill(DELIVERY_WINDOW_STEP);
        assert_eq!(consumer.reserve(u32::MAX), DELIVERY_WINDOW_STEP);
    }

    #[test]
    fn a_window_that_is_used_up_is_on_its_way_back() {
        let check = |sizes: &[u32]| {
            let mut consumer =
                Consumer::new(ConsumerSettings { no_ack: true, ..ConsumerSettings::default() });
            let mut sizes = sizes.iter().cycle();
            let mut returned = 0;
            while consumer.has_window() {
                returned += consumer.hand_over(*sizes.next().expect("a cycle has no end"));
            }
            assert!(returned >= DELIVERY_WINDOW_STEP, "{returned} of the window comes back");
            consumer.refill(returned);
        };
        check(&[1]);
        check(&[512]);
        check(&[1, 1024]);
        check(&[1023, 4]);
        check(&[4096]);
    }

    #[test]
    fn one_that_acknowledges_nothing_waits_for_the_channel_and_takes_nothing_from_it() {
        let credit = Arc::new(ChannelCredit::default());
        credit.set_limit(1, 0);
        let settings = |no_ack| ConsumerSettings {
            no_ack,
            channel_credit: Some(Arc::clone(&credit)),
            ..ConsumerSettings::default()
        };
        let (mut other, mut one) = (Consumer::new(settings(false)), Consumer::new(settings(true)));
        assert_eq!((one.reserve(1), one.reserve(1), other.reserve(1)), (1, 1, 1));
        assert_eq!(one.reserve(1), 0);
        credit.give_back(1);
        assert_eq!(one.reserve(1), 1);
    }

    #[test]
    fn channel_credit_is_shared() {
        let credit = Arc::new(ChannelCredit::default());
        credit.set_limit(5, 0);
        let settings =
            || ConsumerSettings { channel_credit: Some(Arc::clone(&credit)), ..ConsumerSettings::default() };
        let (mut one, mut other) = (Consumer::new(settings()), Consumer::new(settings()));
        assert_eq!((one.reserve(4), other.reserve(4)), (4, 1));
        credit.give_back(3);
        assert_eq!(other.reserve(4), 3);
        credit.set_limit(0, 0);
        assert_eq!(one.reserve(100), 100);
    }

    #[test]
    fn what_was_gotten_takes_places_until_the_limit_is_lifted() {
        let credit = Arc::new(ChannelCredit::default());
        let mut one = Consumer::new(ConsumerSettings {
            channel_credit: Some(Arc::clone(&credit)),
            ..ConsumerSettings::default()
        });
        credit.set_limit(2, 1);
        assert_eq!(one.reserve(1) + one.reserve(1), 1);
        credit.set_limit(3, 3);
        assert_eq!(one.reserve(1) + one.reserve(1), 1);
        credit.set_limit(0, 1);
        credit.set_limit(3, 0);
        assert_eq!(one.reserve(1) + one.reserve(1), 1);
    }
}
