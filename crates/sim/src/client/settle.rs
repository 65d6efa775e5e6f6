//! Messages that a client asks for, and what it does with them.

use leveret_wire::{ShortStr, method::basic};

use super::{Client, Mode};
use crate::plan::{Act, Plan};

impl Client {
    pub(super) fn consume_somehow(&mut self, act: Act, number: u16, plan: &Plan) {
        match act {
            Act::Get => {
                let queue = self.queue_name(number, plan);
                for _ in 0..=self.random.below(4) {
                    let no_ack = self.random.percent(30);
                    self.get(number, &queue, no_ack);
                }
            }
            Act::Consume => {
                let queue = self.queue_name(number, plan);
                let no_ack = self.random.percent(25);
                let exclusive = self.random.percent(5);
                self.consume(number, &queue, no_ack, exclusive);
            }
            Act::Cancel => self.cancel(number),
            _ => {
                let prefetch_count = self.random.between(0, plan.prefetch_max);
                let prefetch_count = u16::try_from(prefetch_count).expect("prefetches are small");
                let global = self.random.percent(plan.shared_prefetch_percent);
                self.say(number, basic::Qos { prefetch_octets: 0, prefetch_count, global });
            }
        }
    }

    pub(super) fn get(&mut self, number: u16, queue: &str, no_ack: bool) {
        self.channel_mut(number).gets.push(no_ack);
        self.say(number, basic::Get { queue: queue.into(), no_ack, ..Default::default() });
    }

    pub(super) fn consume(&mut self, number: u16, queue: &str, no_ack: bool, exclusive: bool) {
        self.tags += 1;
        let tag = format!("c{}", self.tags);
        self.channel_mut(number).consumers.insert(tag.clone().into_bytes(), no_ack);
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: (&*tag).into(),
            no_ack,
            exclusive,
            nowait: self.random.percent(20),
            ..Default::default()
        };
        self.say(number, consume);
    }

    fn cancel(&mut self, number: u16) {
        let tags: Vec<_> = self.channel_mut(number).consumers.keys().cloned().collect();
        let Some(tag) = self.random.pick_from(tags) else { return };
        // Deliveries on their way still count, so the tag stays known.
        let consumer_tag = ShortStr::new(&tag).expect("a tag is a short string");
        let nowait = self.random.percent(20);
        self.say(number, basic::Cancel { consumer_tag, nowait });
    }

    pub(super) fn settle_some(&mut self, act: Act, number: u16) {
        if act == Act::Recover {
            // In a transaction it would bring up deliveries whose acknowledgement is under way.
            self.channel_mut(number).unacked.clear();
            return match self.random.percent(50) {
                true => self.say(number, basic::Recover { requeue: true }),
                false => self.say(number, basic::RecoverAsync { requeue: true }),
            };
        }
        let unacked: Vec<_> = self.channel_mut(number).unacked.iter().copied().collect();
        let Some(tag) = self.random.pick_from(unacked) else { return };
        match act {
            Act::SettleMany => {
                let all = self.random.percent(15);
                self.settle_up_to(number, if all { 0 } else { tag });
            }
            Act::Requeue => {
                self.channel_mut(number).unacked.remove(&tag);
                let requeue = self.random.percent(80);
                match self.random.percent(50) {
                    true => self.say(number, basic::Reject { delivery_tag: tag, requeue }),
                    false => self.say(number, basic::Nack { delivery_tag: tag, multiple: false, requeue }),
                }
            }
            _ => {
                self.channel_mut(number).unacked.remove(&tag);
                self.say(number, basic::Ack { delivery_tag: tag, multiple: false });
            }
        }
        if self.channel_mut(number).mode == Mode::Transaction && self.random.percent(30) {
            self.say(number, leveret_wire::method::tx::Commit {});
        }
    }

    /// Settles everything up to a tag, or everything it has for 0.
    pub(super) fn settle_up_to(&mut self, number: u16, tag: u64) {
        let unacked = &mut self.channel_mut(number).unacked;
        match tag {
            0 => unacked.clear(),
            tag => *unacked = unacked.split_off(&(tag + 1)),
        }
        if self.random.percent(70) {
            self.say(number, basic::Ack { delivery_tag: tag, multiple: true });
        } else {
            let requeue = self.random.percent(80);
            self.say(number, basic::Nack { delivery_tag: tag, multiple: true, requeue });
        }
    }
}
