//! Exchanges, queues and bindings.
//!
//! Knows what can be declared and taken away; not which of it is refused.

use super::{Draw, EXCHANGES};
use crate::differential::{features::Feature, field::Field, operation::Operation};

/// An exchange as most scripts have it.
pub(super) fn plain_exchange(exchange: &str, kind: &str) -> Operation {
    Operation::DeclareExchange {
        exchange: exchange.to_owned(),
        kind: kind.to_owned(),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: Vec::new(),
    }
}

/// A queue as most scripts have it.
pub(super) fn plain_queue(queue: &str) -> Operation {
    Operation::DeclareQueue {
        queue: queue.to_owned(),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: Vec::new(),
    }
}

impl Draw {
    pub(super) fn topology(&mut self) -> Operation {
        match self.random.below(100) {
            0..=17 => self.declare_queue(),
            18..=24 => self.passive_queue(),
            25..=39 => self.declare_exchange(),
            40..=44 => self.passive_exchange(),
            45..=58 => self.bind_queue(),
            59..=65 => self.unbind_queue(),
            66..=74 => self.bind_exchange(),
            75..=79 => self.unbind_exchange(),
            80..=86 => self.delete_exchange(),
            87..=94 => self.delete_queue(),
            95..=96 => Operation::PurgeQueue { queue: self.queue(), nowait: self.random.one_in(4) },
            _ => self.reserved(),
        }
    }

    fn declare_queue(&mut self) -> Operation {
        let plain = !self.random.one_in(3);
        let queue = self.queue();
        let mut arguments = if self.random.one_in(2) { self.queue_arguments() } else { Vec::new() };
        // RabbitMQ's channel crashes on a type that it does not know for a queue that it has to name.
        arguments.retain(|(name, _)| !queue.is_empty() || name != "x-queue-type");
        Operation::DeclareQueue {
            queue,
            passive: false,
            durable: !plain && self.random.one_in(3),
            exclusive: self.random.one_in(6),
            auto_delete: !plain && self.random.one_in(3),
            nowait: self.random.one_in(12),
            arguments,
        }
    }

    fn passive_queue(&mut self) -> Operation {
        Operation::DeclareQueue {
            queue: self.queue(),
            passive: true,
            durable: self.random.one_in(2),
            exclusive: self.random.one_in(4),
            auto_delete: self.random.one_in(4),
            nowait: self.random.one_in(12),
            arguments: if self.random.one_in(4) { self.queue_arguments() } else { Vec::new() },
        }
    }

    fn declare_exchange(&mut self) -> Operation {
        let (exchange, own) = self.random.pick(&EXCHANGES);
        let other = self.random.pick(&["direct", "fanout", "topic", "headers"]);
        Operation::DeclareExchange {
            exchange: exchange.to_owned(),
            kind: if self.random.one_in(5) { other } else { own }.to_owned(),
            passive: false,
            durable: self.random.one_in(6),
            auto_delete: self.random.one_in(5),
            internal: self.random.one_in(10),
            nowait: self.random.one_in(12),
            arguments: self.exchange_arguments(),
        }
    }

    fn exchange_arguments(&mut self) -> Vec<(String, Field)> {
        if self.has(Feature::AlternateExchange) && self.random.one_in(3) {
            let value = match self.random.below(10) {
                0 => Field::I32(1),
                1 => Field::text(""),
                2 => Field::Void,
                _ => Field::text(self.exchange()),
            };
            return vec![("alternate-exchange".to_owned(), value)];
        }
        if self.random.one_in(8) { vec![("x-unknown".to_owned(), Field::Bool(true))] } else { Vec::new() }
    }

    fn passive_exchange(&mut self) -> Operation {
        let kind = self.random.pick(&["direct", "fanout", "", "x-nope"]).to_owned();
        let exchange = self.exchange();
        Operation::DeclareExchange {
            exchange,
            kind,
            passive: true,
            durable: self.random.one_in(2),
            auto_delete: false,
            internal: false,
            nowait: self.random.one_in(12),
            arguments: Vec::new(),
        }
    }

    pub(super) fn bind_queue(&mut self) -> Operation {
        let exchange = self.bindable();
        Operation::BindQueue {
            queue: self.queue(),
            routing_key: self.pattern_or_key(),
            nowait: self.random.one_in(12),
            arguments: self.binding_arguments(&exchange),
            exchange,
        }
    }

    /// A binding by which messages reach that queue.
    pub(super) fn bind_queue_to_its_own(&mut self, queue: &str) -> Operation {
        let (exchange, _) = self.random.pick(&EXCHANGES[..4]);
        Operation::BindQueue {
            queue: queue.to_owned(),
            exchange: exchange.to_owned(),
            routing_key: self.pattern_or_key(),
            nowait: false,
            arguments: self.binding_arguments(exchange),
        }
    }

    /// Other scripts' messages go through the predeclared fanout and headers exchanges, if any do.
    fn bindable(&mut self) -> String {
        if self.random.one_in(25) { "amq.fanout".to_owned() } else { self.exchange() }
    }

    fn pattern_or_key(&mut self) -> String {
        if self.random.one_in(2) { self.key() } else { self.pattern() }
    }

    fn unbind_queue(&mut self) -> Operation {
        let exchange = self.bindable();
        Operation::UnbindQueue {
            queue: self.queue(),
            routing_key: self.pattern_or_key(),
            arguments: self.binding_arguments(&exchange),
            exchange,
        }
    }

    /// Two exchanges of the script's own: what is bound to a predeclared one would get others'
    /// messages, and what a predeclared one is bound to would give them on.
    fn two_exchanges(&mut self) -> (String, String) {
        let mut one = || match self.random.below(30) {
            0 => String::new(),
            1 => "~gone".to_owned(),
            n => EXCHANGES[n % EXCHANGES.len()].0.to_owned(),
        };
        (one(), one())
    }

    fn bind_exchange(&mut self) -> Operation {
        let (destination, source) = self.two_exchanges();
        Operation::BindExchange {
            routing_key: self.pattern_or_key(),
            nowait: self.random.one_in(12),
            arguments: self.binding_arguments(&source),
            destination,
            source,
        }
    }

    fn unbind_exchange(&mut self) -> Operation {
        let (destination, source) = self.two_exchanges();
        Operation::UnbindExchange {
            routing_key: self.pattern_or_key(),
            nowait: self.random.one_in(12),
            arguments: self.binding_arguments(&source),
            destination,
            source,
        }
    }

    fn delete_exchange(&mut self) -> Operation {
        let exchange = match self.random.below(14) {
            0 => "amq.direct".to_owned(),
            1 => "amq.nosuch".to_owned(),
            2 => String::new(),
            n => EXCHANGES[n % EXCHANGES.len()].0.to_owned(),
        };
        Operation::DeleteExchange {
            exchange,
            if_unused: self.random.one_in(2),
            nowait: self.random.one_in(12),
        }
    }

    pub(super) fn delete_queue(&mut self) -> Operation {
        let queue = if self.random.one_in(20) { "amq.nosuch".to_owned() } else { self.queue() };
        Operation::DeleteQueue {
            queue,
            if_unused: self.random.one_in(3),
            if_empty: self.random.one_in(3),
            nowait: self.random.one_in(12),
        }
    }

    fn reserved(&mut self) -> Operation {
        let name = self.random.pick(&["amq.mine", "amq.", "amq", "amq.direct", "amq.topic", ""]);
        // A name that is not reserved has to go with the script.
        let name = if name == "amq" { "~amq.x" } else { name };
        if self.random.one_in(2) {
            return plain_queue(if name.is_empty() { "amq.gen-x" } else { name });
        }
        let kind = self.random.pick(&["direct", "topic", "fanout"]);
        let mut declare = plain_exchange(name, kind);
        if let Operation::DeclareExchange { durable, .. } = &mut declare {
            *durable = !self.random.one_in(4);
        }
        declare
    }
}
