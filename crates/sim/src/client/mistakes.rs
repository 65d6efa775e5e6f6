//! What a client gets wrong, so that the broker has to close a channel or the connection.

use leveret_wire::{
    Properties,
    method::{basic, channel, confirm, exchange, queue, tx},
};

use super::{Client, Mode};
use crate::plan::Plan;

impl Client {
    pub(super) fn err(&mut self, number: u16, plan: &Plan) {
        match self.random.below(100) {
            0..80 => self.err_on_channel(number, plan),
            _ => self.err_on_connection(number),
        }
    }

    fn err_on_channel(&mut self, number: u16, plan: &Plan) {
        match self.random.below(12) {
            0 => self.say(number, basic::Ack { delivery_tag: 1_000_000, multiple: false }),
            1 => self.say(number, basic::Nack { delivery_tag: 1_000_000, multiple: true, requeue: true }),
            2 => self.publish(number, "nothing", "a", false, 10),
            3 => {
                let name = format!("q{}", self.random.below(plan.queues.len()));
                let declare =
                    queue::Declare { queue: (&*name).into(), exclusive: true, ..Default::default() };
                self.say(number, declare);
            }
            4 => self.say(number, queue::Declare { queue: "amq.mine".into(), ..Default::default() }),
            5 => self.say(number, exchange::Delete { exchange: "amq.topic".into(), ..Default::default() }),
            6 => {
                let name = format!("x{}", self.random.below(plan.exchanges.len()));
                let declare = exchange::Declare {
                    exchange: (&*name).into(),
                    kind: "fanout".into(),
                    durable: true,
                    ..Default::default()
                };
                self.say(number, declare);
            }
            7 => self.change_mode(number),
            8 => self.publish_as_another(number),
            9 => self.publish_too_much(number),
            10 => self.say(number, queue::Bind { queue: "q0".into(), ..Default::default() }),
            _ => {
                let queue = format!("own{}", self.random.below(self.number as usize + 1));
                self.get(number, &queue, true);
            }
        }
    }

    /// From confirms to transactions or the reverse, or an end of a transaction that there is not.
    fn change_mode(&mut self, number: u16) {
        match self.channel_mut(number).mode {
            Mode::Plain => self.say(number, tx::Commit {}),
            Mode::Confirm => self.say(number, tx::Select {}),
            Mode::Transaction => self.say(number, confirm::Select { nowait: false }),
        }
    }

    fn publish_as_another(&mut self, number: u16) {
        self.say(number, basic::Publish::default());
        let properties = Properties { user_id: Some("root".into()), ..self.numbered() };
        self.content(number, &properties, 3);
    }

    fn publish_too_much(&mut self, number: u16) {
        self.say(number, basic::Publish::default());
        let properties = self.numbered();
        self.content(number, &properties, crate::run::MESSAGE_OCTETS_MAX + 1);
    }

    fn numbered(&mut self) -> Properties<'static> {
        self.messages += 1;
        let id = u64::from(self.number) << 32 | u64::from(self.messages);
        Properties { timestamp: Some(id), ..Properties::default() }
    }

    fn err_on_connection(&mut self, number: u16) {
        match self.random.below(9) {
            0 => self.say(number, channel::Open::default()),
            1 => self.say(number + 100, basic::Get { queue: "q0".into(), ..Default::default() }),
            2 => {
                self.say(number, basic::Publish { immediate: true, ..Default::default() });
                let properties = self.numbered();
                self.content(number, &properties, 2);
            }
            3 => self.say(number, basic::Qos { prefetch_octets: 7, ..Default::default() }),
            4 => self.say(number, basic::Recover { requeue: false }),
            5 => self.say(number, channel::Flow { active: false }),
            6 => {
                let declare =
                    exchange::Declare { exchange: "x".into(), kind: "x-odd".into(), ..Default::default() };
                self.say(number, declare);
            }
            7 => {
                // The octet behind the payload is not the one that ends a frame.
                self.beat();
                *self.out.last_mut().expect("it just said something") = 0;
            }
            _ => self.reuse_tag(number),
        }
    }

    fn reuse_tag(&mut self, number: u16) {
        let tags: Vec<_> = self.channel_mut(number).consumers.keys().cloned().collect();
        let Some(tag) = self.random.pick_from(tags) else { return };
        let consumer_tag = leveret_wire::ShortStr::new(&tag).expect("a tag is a short string");
        self.say(number, basic::Consume { queue: "q0".into(), consumer_tag, ..Default::default() });
    }
}
