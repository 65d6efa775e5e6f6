//! Queues, exchanges and bindings that a client declares, ties, unties and deletes.

use leveret_wire::{
    ShortStr, TableBuf, Value,
    method::{exchange, queue},
};

use super::Client;
use crate::plan::{Act, Plan};

/// Keys to bind with.
const BINDING_KEYS: [&str; 10] = ["", "a", "b", "a.b", "#", "a.*", "a.#", "*.b", "#.c", "*"];
const PREDECLARED: [&str; 4] = ["amq.direct", "amq.fanout", "amq.topic", "amq.headers"];

impl Client {
    pub(super) fn change_topology(&mut self, act: Act, number: u16, plan: &Plan) {
        match act {
            Act::DeclareQueue => drop(self.declare_queue(number, plan)),
            Act::DeclareOwnQueue => self.declare_own_queue(number),
            Act::DeclareExchange => drop(self.declare_exchange(number, plan)),
            Act::DeleteQueue => self.delete_queue(number, plan),
            Act::DeleteExchange => self.delete_exchange(number, plan),
            Act::Bind => self.bind(number, plan),
            Act::Unbind => self.unbind(number, plan),
            Act::BindExchange => self.bind_exchange(number, plan),
            Act::UnbindExchange => self.unbind_exchange(number, plan),
            Act::Purge => {
                let queue = self.queue_name(number, plan);
                let nowait = self.random.percent(20);
                self.say(number, queue::Purge { queue: (&*queue).into(), nowait, ..Default::default() });
            }
            _ => {}
        }
    }

    /// The name of a queue: a shared one, the channel's last one, or somebody's own.
    pub(super) fn queue_name(&mut self, number: u16, plan: &Plan) -> String {
        let has_last = self.channel_mut(number).has_last_queue;
        match self.random.below(20) {
            0..=3 if has_last => String::new(),
            4 if self.random.percent(20) => format!("own{}", self.random.below(self.number as usize + 1)),
            5 if self.random.percent(10) => "nothing".to_owned(),
            _ => format!("q{}", self.known_queue(number, plan)),
        }
    }

    /// A shared queue that it declared, now if it knows none.
    pub(super) fn known_queue(&mut self, number: u16, plan: &Plan) -> usize {
        match self.random.pick_from(self.known_queues.iter().copied()) {
            Some(queue) if self.random.percent(95) => queue,
            _ => self.declare_queue(number, plan),
        }
    }

    /// A shared exchange that it declared, now if it knows none.
    pub(super) fn known_exchange(&mut self, number: u16, plan: &Plan) -> usize {
        match self.random.pick_from(self.known_exchanges.iter().copied()) {
            Some(exchange) if self.random.percent(95) => exchange,
            _ => self.declare_exchange(number, plan),
        }
    }

    fn exchange_name(&mut self, number: u16, plan: &Plan) -> String {
        match self.random.below(12) {
            0 | 1 => (*self.random.pick(&PREDECLARED)).to_owned(),
            2 if self.random.percent(10) => "nothing".to_owned(),
            _ => format!("x{}", self.known_exchange(number, plan)),
        }
    }

    fn declare_queue(&mut self, number: u16, plan: &Plan) -> usize {
        let n = self.random.below(plan.queues.len());
        self.known_queues.insert(n);
        let shape = &plan.queues[n];
        let odd = !shape.is_quorum && self.random.percent(2);
        let name = format!("q{n}");
        let declare = queue::Declare {
            queue: (&*name).into(),
            passive: self.random.percent(5),
            durable: shape.durable != odd,
            auto_delete: shape.auto_delete,
            nowait: self.random.percent(20),
            arguments: shape.arguments.as_table(),
            ..Default::default()
        };
        self.say(number, declare);
        n
    }

    fn declare_own_queue(&mut self, number: u16) {
        let name = if self.random.percent(60) { String::new() } else { format!("own{}", self.number) };
        let declare = queue::Declare {
            queue: (&*name).into(),
            exclusive: true,
            auto_delete: self.random.percent(30),
            ..Default::default()
        };
        self.say(number, declare);
    }

    fn declare_exchange(&mut self, number: u16, plan: &Plan) -> usize {
        let n = self.random.below(plan.exchanges.len());
        self.known_exchanges.insert(n);
        let shape = &plan.exchanges[n];
        let odd = self.random.percent(2);
        let name = format!("x{n}");
        let mut arguments = TableBuf::new();
        if let Some(alternate) = shape.alternate.filter(|_| !self.random.percent(2)) {
            arguments.push("alternate-exchange", Value::LongStr(alternate.as_bytes()));
        }
        let declare = exchange::Declare {
            exchange: (&*name).into(),
            kind: shape.kind.into(),
            passive: self.random.percent(5),
            durable: odd,
            auto_delete: shape.auto_delete,
            internal: shape.internal,
            nowait: self.random.percent(20),
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.say(number, declare);
        n
    }

    fn delete_queue(&mut self, number: u16, plan: &Plan) {
        let queue = self.queue_name(number, plan);
        // A quorum queue knows no conditions, and closes the connection over one.
        let unconditional = plan.queues.iter().any(|shape| shape.is_quorum) && self.random.percent(95);
        let mut condition = || self.random.percent(20) && !unconditional;
        let (if_unused, if_empty) = (condition(), condition());
        self.say(
            number,
            queue::Delete { queue: (&*queue).into(), if_unused, if_empty, ..Default::default() },
        );
    }

    fn delete_exchange(&mut self, number: u16, plan: &Plan) {
        let name = format!("x{}", self.random.below(plan.exchanges.len()));
        let (if_unused, nowait) = (self.random.percent(30), self.random.percent(20));
        self.say(
            number,
            exchange::Delete { exchange: (&*name).into(), if_unused, nowait, ..Default::default() },
        );
    }

    /// A binding's key and arguments.
    fn terms(&mut self) -> (&'static str, TableBuf) {
        let mut arguments = TableBuf::new();
        if self.random.percent(40) {
            let how: &[u8] = self.random.pick::<&[u8]>(&[b"all", b"any", b"all-with-x", b"any-with-x"]);
            arguments.push("x-match", Value::LongStr(how));
            for name in ["h", "g", "x-h"] {
                if self.random.percent(40) {
                    let value = Value::I32(i32::from(self.random.percent(50)));
                    arguments.push(name, if self.random.percent(20) { Value::Void } else { value });
                }
            }
        }
        (*self.random.pick::<&'static str>(&BINDING_KEYS), arguments)
    }

    fn bind(&mut self, number: u16, plan: &Plan) {
        let (queue, exchange) = (self.queue_name(number, plan), self.exchange_name(number, plan));
        let (key, arguments) = self.terms();
        let bind = queue::Bind {
            queue: (&*queue).into(),
            exchange: (&*exchange).into(),
            routing_key: key.into(),
            nowait: self.random.percent(20),
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.say(number, bind);
    }

    fn unbind(&mut self, number: u16, plan: &Plan) {
        let (queue, exchange) = (self.queue_name(number, plan), self.exchange_name(number, plan));
        let (key, arguments) = self.terms();
        let unbind = queue::Unbind {
            queue: (&*queue).into(),
            exchange: (&*exchange).into(),
            routing_key: key.into(),
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.say(number, unbind);
    }

    fn bind_exchange(&mut self, number: u16, plan: &Plan) {
        let (source, destination) = (self.exchange_name(number, plan), self.exchange_name(number, plan));
        let (key, arguments) = self.terms();
        let bind = exchange::Bind {
            destination: (&*destination).into(),
            source: (&*source).into(),
            routing_key: key.into(),
            nowait: self.random.percent(20),
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.say(number, bind);
    }

    fn unbind_exchange(&mut self, number: u16, plan: &Plan) {
        let (source, destination) = (self.exchange_name(number, plan), self.exchange_name(number, plan));
        let (key, arguments) = self.terms();
        let unbind = exchange::Unbind {
            destination: ShortStr::from(&*destination),
            source: ShortStr::from(&*source),
            routing_key: key.into(),
            nowait: self.random.percent(20),
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.say(number, unbind);
    }
}
