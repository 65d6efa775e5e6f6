//! Messages that a client asks for, and what it does with them.

use leveret_wire::{
    ShortStr, TableBuf, Value,
    method::{basic, tx},
};

use super::{Client, Mode, State};
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
                let priority = self.random.percent(plan.priority_percent).then(|| self.random.below(4));
                // Neither does it know limits for whole channels.
                let shares = self.channel_mut(number).has_shared_limit;
                if shares && plan.queues.iter().any(|shape| shape.is_quorum) && self.random.percent(98) {
                    return;
                }
                self.consume_as(number, &queue, no_ack, exclusive, priority);
                if self.random.percent(plan.regret_percent) {
                    let tag = format!("c{}", self.tags);
                    self.cancel_one(number, tag.as_bytes());
                }
            }
            Act::Cancel => self.cancel(number),
            _ => self.limit(number, plan),
        }
    }

    /// Asks for a prefetch.
    pub(super) fn limit(&mut self, number: u16, plan: &Plan) {
        let prefetch_count = self.random.between(0, plan.prefetch_max);
        let prefetch_count = u16::try_from(prefetch_count).expect("prefetches are small");
        let global = self.random.percent(plan.shared_prefetch_percent);
        self.channel_mut(number).has_shared_limit |= global;
        self.say(number, basic::Qos { prefetch_octets: 0, prefetch_count, global });
    }

    pub(super) fn get(&mut self, number: u16, queue: &str, no_ack: bool) {
        self.channel_mut(number).gets.push(no_ack);
        self.say(number, basic::Get { queue: queue.into(), no_ack, ..Default::default() });
    }

    pub(super) fn consume(&mut self, number: u16, queue: &str, no_ack: bool, exclusive: bool) {
        self.consume_as(number, queue, no_ack, exclusive, None);
    }

    fn consume_as(
        &mut self,
        number: u16,
        queue: &str,
        no_ack: bool,
        exclusive: bool,
        priority: Option<usize>,
    ) {
        let mut arguments = TableBuf::new();
        if let Some(priority) = priority.and_then(|priority| i32::try_from(priority).ok()) {
            arguments.push("x-priority", Value::I32(priority - 1));
        }
        self.tags += 1;
        let tag = format!("c{}", self.tags);
        self.channel_mut(number).consumers.insert(tag.clone().into_bytes(), no_ack);
        let consume = basic::Consume {
            queue: queue.into(),
            consumer_tag: (&*tag).into(),
            no_ack,
            exclusive,
            nowait: self.random.percent(20),
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.say(number, consume);
    }

    fn cancel(&mut self, number: u16) {
        let tags: Vec<_> = self.channel_mut(number).consumers.keys().cloned().collect();
        let Some(tag) = self.random.pick_from(tags) else { return };
        self.cancel_one(number, &tag);
    }

    /// Deliveries on their way still count, so the tag stays known.
    fn cancel_one(&mut self, number: u16, tag: &[u8]) {
        let consumer_tag = ShortStr::new(tag).expect("a tag is a short string");
        let nowait = self.random.percent(20);
        self.say(number, basic::Cancel { consumer_tag, nowait });
    }

    pub(super) fn settle_some(&mut self, act: Act, number: u16, plan: &Plan) {
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
                let requeue = !self.random.percent(plan.refusal_percent);
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
            self.say(number, tx::Commit {});
        }
    }

    /// Acknowledges everything that it has.
    pub fn catch_up(&mut self) {
        if self.state != State::Running || self.is_lost {
            return;
        }
        let open = self.channels.iter().filter(|(_, channel)| !channel.closing).map(|(number, _)| *number);
        for number in open.collect::<Vec<_>>() {
            self.channel_mut(number).unacked.clear();
            self.say(number, basic::Ack { delivery_tag: 0, multiple: true });
            if self.channel_mut(number).mode == Mode::Transaction {
                self.say(number, tx::Commit {});
            }
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
