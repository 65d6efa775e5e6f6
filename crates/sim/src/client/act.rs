//! What a client does on its own account: the choice, and publishing.

use leveret_wire::{
    ArrayBuf, ContentHeader, FrameKind, Properties, ShortStr, TableBuf, Value,
    method::{access, basic, channel, confirm, connection, tx},
    write_body_frames, write_frame,
};

use super::{Client, Mode, Role};
use crate::plan::{Act, Plan};

/// Channels that a client uses.
const CHANNELS_MAX: u16 = 4;
/// Keys to publish with.
const KEYS: [&str; 8] = ["", "a", "b", "a.b", "a.c", "a.b.c", "b.a", "."];

impl Client {
    /// Does something.
    pub fn act(&mut self, plan: &Plan) {
        self.acts += 1;
        match self.role {
            Role::Ordinary => {
                let act = self.random.weighted(&plan.likings);
                self.act_as(act, plan);
            }
            Role::Publisher => {
                let act = self.random.weighted(&plan.likings);
                let takes_messages = matches!(act, Act::Get | Act::Consume);
                self.act_as(if takes_messages { Act::Publish } else { act }, plan);
            }
            Role::Hoarder => self.hoard(),
            Role::Flooder => self.flood(),
        }
    }

    fn act_as(&mut self, act: Act, plan: &Plan) {
        if act == Act::OpenChannel || self.channels.is_empty() {
            return self.begin_channel(plan);
        }
        let Some(number) = self.open_channel() else { return };
        match act {
            Act::CloseChannel => self.end_channel(number),
            Act::CloseConnection => self.close(),
            Act::Publish => self.publish_some(number, plan, 1),
            Act::Burst => {
                let count = 2 + self.random.below(30);
                self.publish_some(number, plan, count);
            }
            Act::SelectConfirms | Act::SelectTransaction | Act::Commit | Act::RollBack => {
                self.transact(act, number);
            }
            Act::Upkeep => self.keep_up(number),
            Act::Mistake => self.err(number, plan),
            Act::Get | Act::Consume | Act::Cancel | Act::Qos => self.consume_somehow(act, number, plan),
            Act::Settle | Act::SettleMany | Act::Requeue | Act::Recover => {
                self.settle_some(act, number, plan);
            }
            _ => self.change_topology(act, number, plan),
        }
    }

    fn begin_channel(&mut self, plan: &Plan) {
        let free = (1..=CHANNELS_MAX).filter(|number| !self.channels.contains_key(number));
        let Some(number) = self.random.pick_from(free) else { return };
        self.channels.insert(number, super::Channel::default());
        self.say(number, channel::Open::default());
        if self.random.percent(50) {
            self.limit(number, plan);
        }
    }

    pub(super) fn end_channel(&mut self, number: u16) {
        self.channel_mut(number).closing = true;
        self.say(number, channel::Close { reply_code: 200, ..Default::default() });
    }

    fn transact(&mut self, act: Act, number: u16) {
        let mode = self.channel_mut(number).mode;
        match (act, mode) {
            (Act::SelectConfirms, Mode::Plain | Mode::Confirm) => {
                self.channel_mut(number).mode = Mode::Confirm;
                let nowait = self.random.percent(30);
                self.say(number, confirm::Select { nowait });
            }
            (Act::SelectTransaction, Mode::Plain | Mode::Transaction) => {
                self.channel_mut(number).mode = Mode::Transaction;
                self.say(number, tx::Select {});
            }
            (Act::Commit, Mode::Transaction) => self.say(number, tx::Commit {}),
            (Act::RollBack, Mode::Transaction) => self.say(number, tx::Rollback {}),
            _ => {}
        }
    }

    fn keep_up(&mut self, number: u16) {
        match self.random.below(4) {
            0 => self.say(number, channel::Flow { active: true }),
            1 => self.say(number, access::Request::default()),
            2 => self.say(0, connection::UpdateSecret::default()),
            _ => self.beat(),
        }
    }

    fn publish_some(&mut self, number: u16, plan: &Plan, count: usize) {
        let (exchange, mut key) = self.way(number, plan);
        let mandatory = self.random.percent(20);
        for _ in 0..count {
            if self.random.percent(20) {
                key = self.key(plan);
            }
            let octets = self.random.size(plan.body_octets_max);
            let headers = self.headers_with_copies();
            let expiration = self.random.percent(plan.expiration_percent).then(|| self.life());
            let priority = self.random.percent(plan.priority_percent).then(|| self.priority());
            let extras = (headers.as_ref(), expiration, priority);
            self.publish_with(number, (&exchange, &key), mandatory, extras, octets);
        }
    }

    fn life(&mut self) -> &'static str {
        self.random.pick::<&str>(&["0", "1", "20", "150", "600", "5000"])
    }

    fn priority(&mut self) -> u8 {
        *self.random.pick(&[0, 1, 2, 5, 9, 200])
    }

    /// An exchange and a key that may lead somewhere.
    fn way(&mut self, number: u16, plan: &Plan) -> (String, String) {
        let exchange = match self.random.below(10) {
            0..=4 => return (String::new(), format!("q{}", self.known_queue(number, plan))),
            5 => (*self.random.pick(&["amq.direct", "amq.fanout", "amq.topic", "amq.headers"])).to_owned(),
            _ => match self.known_exchange(number, plan) {
                internal if plan.exchanges[internal].internal && self.random.percent(95) => String::new(),
                known => format!("x{known}"),
            },
        };
        (exchange, self.key(plan))
    }

    fn key(&mut self, plan: &Plan) -> String {
        if self.random.percent(30) {
            return format!("q{}", self.random.below(plan.queues.len()));
        }
        (*self.random.pick(&KEYS)).to_owned()
    }

    /// Publishes a message of so many octets that goes by one key.
    pub fn publish(
        &mut self,
        number: u16,
        exchange: &str,
        routing_key: &str,
        mandatory: bool,
        octets: usize,
    ) {
        let headers = self.headers();
        self.publish_with(number, (exchange, routing_key), mandatory, (headers.as_ref(), None, None), octets);
    }

    fn publish_with(
        &mut self,
        number: u16,
        (exchange, routing_key): (&str, &str),
        mandatory: bool,
        (headers, expiration, priority): (Option<&TableBuf>, Option<&str>, Option<u8>),
        octets: usize,
    ) {
        self.messages += 1;
        let id = u64::from(self.number) << 32 | u64::from(self.messages);
        let (exchange, routing_key) = (ShortStr::from(exchange), ShortStr::from(routing_key));
        let method = basic::Publish { exchange, routing_key, mandatory, ..Default::default() };
        self.say(number, method);
        let properties = Properties {
            timestamp: Some(id),
            headers: headers.map(TableBuf::as_table),
            expiration: expiration.map(ShortStr::from),
            priority,
            delivery_mode: self.random.percent(40).then_some(2),
            user_id: self.random.percent(10).then_some("guest".into()),
            ..Properties::default()
        };
        self.content(number, &properties, octets);
    }

    fn headers(&mut self) -> Option<TableBuf> {
        self.random.percent(30).then(|| {
            let mut headers = TableBuf::new();
            for name in ["h", "g", "x-h"] {
                if self.random.percent(60) {
                    headers.push(name, Value::I32(i32::from(self.random.percent(50))));
                }
            }
            headers
        })
    }

    fn headers_with_copies(&mut self) -> Option<TableBuf> {
        let mut headers = self.headers()?;
        for name in ["CC", "BCC"] {
            if self.random.percent(25) {
                self.push_copies(&mut headers, name);
            }
        }
        Some(headers)
    }

    /// Further routing keys, now and then among what is none.
    fn push_copies(&mut self, headers: &mut TableBuf, name: &str) {
        if self.random.percent(1) {
            return headers.push(name, Value::LongStr(b"a"));
        }
        let mut keys = ArrayBuf::new();
        for _ in 0..self.random.below(3) {
            match self.random.below(6) {
                0 => keys.push(Value::I32(1)),
                1 | 2 => keys.push(Value::LongStr(format!("q{}", self.random.below(4)).as_bytes())),
                _ => keys.push(Value::LongStr(self.random.pick(&KEYS).as_bytes())),
            }
        }
        headers.push(name, Value::Array(keys.as_array()));
    }

    /// A content whose body is told apart from others by its octets.
    pub(super) fn content(&mut self, number: u16, properties: &Properties<'_>, octets: usize) {
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        let header = ContentHeader {
            class_id: basic::CLASS_ID,
            body_octets: octets as u64,
            property_octets: &property_octets,
        };
        write_frame(FrameKind::Header, number, &mut self.out, |out| header.encode(out));
        let seed = self.messages.to_le_bytes();
        let body: Vec<u8> = (0..octets).map(|at| seed[at % 4].wrapping_add(at.to_le_bytes()[0])).collect();
        let piece = usize::try_from(self.random.between(1, 100)).expect("a small number");
        // Bodies mostly come in the largest frames that fit, now and then in odd pieces.
        let frame_octets =
            if self.random.percent(10) && octets < 1000 { piece + 8 } else { self.piece_octets_max() };
        let frame_octets = u32::try_from(frame_octets).expect("a frame is small");
        write_body_frames(number, &body, frame_octets, &mut self.out);
    }
}
