//! What clients say, as methods and as the model has it.

use std::rc::Rc;

use leveret_wire::{
    TableBuf, Value,
    method::{basic, channel, confirm, exchange, queue},
};

use super::{
    exchange::{Binding, Declaration, Destination, HashOn},
    message::{HEADER, Message},
};
use crate::lab::Client;

/// The channel for publishing and declaring, the one for answers, and the one for mistakes.
pub(super) const MAIN: u16 = 1;
pub(super) const ANSWERS: u16 = 2;
pub(super) const PROBES: u16 = 3;

/// The name by which answers are asked for.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Something that may not be done, and what is said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// A consumer of answers that acknowledges.
    AnswersAcknowledged,
    /// A question on a channel that has no consumer of answers.
    AskedElsewhere,
    /// A second consumer of answers on a channel.
    SecondConsumer,
    /// A get from the name by which answers are asked for.
    GotAnswers,
    /// A binding to a ring that says no weight.
    NoWeight,
    /// A binding to a ring with the weight 0.
    WeightZero,
    /// An exchange that delays and does not say how it routes.
    NoInnerType,
    /// A memory of no messages.
    NoLength,
}

impl Mistake {
    pub(super) const ALL: [Self; 8] = [
        Self::AnswersAcknowledged,
        Self::AskedElsewhere,
        Self::SecondConsumer,
        Self::GotAnswers,
        Self::NoWeight,
        Self::WeightZero,
        Self::NoInnerType,
        Self::NoLength,
    ];

    /// The channel that it is made on, and goes with it.
    pub(super) const fn channel(self) -> u16 {
        match self {
            Self::SecondConsumer => ANSWERS,
            _ => PROBES,
        }
    }

    /// What RabbitMQ says: the class and method, the code and the text.
    pub(super) fn answer(self) -> String {
        let said = match self {
            Self::AnswersAcknowledged => "60/20 PRECONDITION_FAILED - reply consumer cannot acknowledge",
            Self::AskedElsewhere => "60/40 PRECONDITION_FAILED - fast reply consumer does not exist",
            Self::SecondConsumer => "60/20 PRECONDITION_FAILED - reply consumer already set",
            Self::GotAnswers => "60/70 NOT_FOUND - no queue 'amq.rabbitmq.reply-to' in vhost '/'",
            Self::NoWeight => "50/20 PRECONDITION_FAILED - The binding key must be an integer: <<\"heavy\">>",
            Self::WeightZero => "50/20 PRECONDITION_FAILED - The binding key must be greater than 0",
            Self::NoInnerType => {
                "40/10 PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"
            }
            Self::NoLength => {
                "40/10 PRECONDITION_FAILED - Invalid argument 0, 'x-recent-history-length' must be a positive \
                 integer"
            }
        };
        format!("close {said}")
    }
}

/// What a client says, in the order in which it says it.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Open(u16),
    CloseOk(u16),
    Close(u16),
    Confirms,
    DeclareQueue {
        name: String,
        exclusive: bool,
    },
    DeleteQueue(String),
    Consume(String),
    DeclareExchange(String, Declaration),
    DeleteExchange(String),
    Bind(Binding),
    Unbind(Binding),
    Publish(Rc<Message>),
    Get(String),
    ConsumeAnswers(String),
    CancelAnswers(String),
    /// Asks whether a queue is there.
    Look(String),
    Mistake(Mistake),
}

impl Command {
    pub(super) fn say(&self, client: &mut Client) {
        match self {
            Self::Open(channel) => client.say(*channel, channel::Open::default()),
            Self::CloseOk(channel) => client.say(*channel, channel::CloseOk {}),
            Self::Close(channel) => client.say(*channel, channel::Close::default()),
            Self::Confirms => client.say(MAIN, confirm::Select { nowait: false }),
            Self::DeclareQueue { name, exclusive } => {
                let (queue, exclusive) = ((&**name).into(), *exclusive);
                client.say(MAIN, queue::Declare { queue, exclusive, ..Default::default() });
            }
            Self::DeleteQueue(name) => {
                client.say(MAIN, queue::Delete { queue: (&**name).into(), ..Default::default() });
            }
            Self::Consume(name) => consume(client, MAIN, name, name, true),
            Self::DeclareExchange(name, declaration) => declare(client, name, declaration),
            Self::DeleteExchange(name) => {
                client.say(MAIN, exchange::Delete { exchange: (&**name).into(), ..Default::default() });
            }
            Self::Bind(binding) => bind(client, binding),
            Self::Unbind(binding) => unbind(client, binding),
            Self::Publish(message) => publish(client, message),
            Self::Get(name) => {
                client.say(MAIN, basic::Get { queue: (&**name).into(), no_ack: true, ..Default::default() });
            }
            Self::ConsumeAnswers(tag) => consume(client, ANSWERS, REPLY_TO, tag, true),
            Self::CancelAnswers(tag) => {
                client.say(ANSWERS, basic::Cancel { consumer_tag: (&**tag).into(), nowait: false });
            }
            Self::Look(name) => {
                let look = queue::Declare { queue: (&**name).into(), passive: true, ..Default::default() };
                client.say(PROBES, look);
            }
            Self::Mistake(mistake) => make_mistake(client, *mistake),
        }
    }
}

fn consume(client: &mut Client, channel: u16, queue: &str, tag: &str, no_ack: bool) {
    let (queue, consumer_tag) = (queue.into(), tag.into());
    client.say(channel, basic::Consume { queue, consumer_tag, no_ack, ..Default::default() });
}

fn declare(client: &mut Client, name: &str, declaration: &Declaration) {
    let Declaration { kind, delays, alternate, hash_on, length } = declaration;
    let mut arguments = TableBuf::new();
    if *delays {
        arguments.push("x-delayed-type", Value::LongStr(kind.name().as_bytes()));
    }
    if let Some(alternate) = alternate {
        arguments.push("alternate-exchange", Value::LongStr(alternate.as_bytes()));
    }
    match hash_on {
        HashOn::Key => {}
        HashOn::Header => arguments.push("hash-header", Value::LongStr(HEADER.as_bytes())),
        HashOn::MessageId => arguments.push("hash-property", Value::LongStr(b"message_id")),
    }
    if let Some(length) = length {
        arguments.push("x-recent-history-length", Value::I32(i32::try_from(*length).expect("it is small")));
    }
    let kind = if *delays { "x-delayed-message" } else { kind.name() };
    client.say(
        MAIN,
        exchange::Declare {
            exchange: name.into(),
            kind: kind.into(),
            arguments: arguments.as_table(),
            ..Default::default()
        },
    );
}

fn binding_arguments(binding: &Binding) -> TableBuf {
    let arguments = TableBuf::new();
    binding.number.map_or(arguments.clone(), |number| arguments.with(HEADER, Value::I32(number)))
}

fn bind(client: &mut Client, binding: &Binding) {
    let (arguments, source, key) = (binding_arguments(binding), &*binding.source, &*binding.key);
    let (arguments, routing_key) = (arguments.as_table(), key.into());
    match &binding.destination {
        Destination::Queue(name) => {
            let (queue, exchange) = ((&**name).into(), source.into());
            client.say(MAIN, queue::Bind { queue, exchange, routing_key, arguments, ..Default::default() });
        }
        Destination::Exchange(name) => {
            let (destination, source) = ((&**name).into(), source.into());
            let bind = exchange::Bind { destination, source, routing_key, arguments, ..Default::default() };
            client.say(MAIN, bind);
        }
    }
}

fn unbind(client: &mut Client, binding: &Binding) {
    let (arguments, source, key) = (binding_arguments(binding), &*binding.source, &*binding.key);
    let (arguments, routing_key) = (arguments.as_table(), key.into());
    match &binding.destination {
        Destination::Queue(name) => {
            let (queue, exchange) = ((&**name).into(), source.into());
            client.say(MAIN, queue::Unbind { queue, exchange, routing_key, arguments, ..Default::default() });
        }
        Destination::Exchange(name) => {
            let (destination, source) = ((&**name).into(), source.into());
            let unbind =
                exchange::Unbind { destination, source, routing_key, arguments, ..Default::default() };
            client.say(MAIN, unbind);
        }
    }
}

fn publish(client: &mut Client, message: &Message) {
    let publish = basic::Publish {
        exchange: (&*message.exchange).into(),
        routing_key: (&*message.key).into(),
        mandatory: message.mandatory,
        ..Default::default()
    };
    let reply_to = message.asks.as_ref().map(|_| REPLY_TO);
    message.with_properties(false, reply_to, |properties| {
        client.publish(message.channel, publish, properties, &message.body());
    });
}

fn make_mistake(client: &mut Client, mistake: Mistake) {
    let bad_weight = |client: &mut Client, key: &str| {
        let (queue, exchange, routing_key) = ("p0".into(), "ring".into(), key.into());
        client.say(PROBES, queue::Bind { queue, exchange, routing_key, ..Default::default() });
    };
    let bad_exchange = |client: &mut Client, kind: &str, arguments: &TableBuf| {
        let (exchange, arguments) = ("wrong".into(), arguments.as_table());
        let declare = exchange::Declare { exchange, kind: kind.into(), arguments, ..Default::default() };
        client.say(PROBES, declare);
    };
    match mistake {
        Mistake::AnswersAcknowledged => consume(client, PROBES, REPLY_TO, "wrong", false),
        Mistake::SecondConsumer => consume(client, ANSWERS, REPLY_TO, "wrong", true),
        Mistake::AskedElsewhere => {
            let properties =
                leveret_wire::Properties { reply_to: Some(REPLY_TO.into()), ..Default::default() };
            client.publish(PROBES, basic::Publish::default(), &properties, b"");
        }
        Mistake::GotAnswers => {
            client.say(PROBES, basic::Get { queue: REPLY_TO.into(), no_ack: true, ..Default::default() });
        }
        Mistake::NoWeight => bad_weight(client, "heavy"),
        Mistake::WeightZero => bad_weight(client, "0"),
        Mistake::NoInnerType => bad_exchange(client, "x-delayed-message", &TableBuf::new()),
        Mistake::NoLength => {
            let arguments = TableBuf::new().with("x-recent-history-length", Value::I32(0));
            bad_exchange(client, "x-recent-history", &arguments);
        }
    }
}
