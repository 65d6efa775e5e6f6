//! What clients do of themselves.

use leveret_broker::Now;
use leveret_wire::{
    Properties, TableBuf, Value,
    method::{basic, channel, queue},
};

use super::{
    NAMES, StreamEvent,
    model::{Offset, Retention},
    play::{Book, Play},
};
use crate::lab::Client;

/// Readers of a channel.
const READERS_MAX: usize = 3;
/// What streams of a run are bound to, so that a message is in several.
const FANOUT: &str = "amq.fanout";

/// Something that is refused.
#[derive(Debug, Clone, Copy)]
enum Mistake {
    Get,
    Purge,
    NoAck,
    Nack,
    NoPrefetch,
    BadOffset,
    UnknownTag,
    NotDurable,
    Exclusive,
    AutoDelete,
    OtherArguments,
    NoStream,
}

const MISTAKES: [Mistake; 12] = [
    Mistake::Get,
    Mistake::Purge,
    Mistake::NoAck,
    Mistake::Nack,
    Mistake::NoPrefetch,
    Mistake::BadOffset,
    Mistake::UnknownTag,
    Mistake::NotDurable,
    Mistake::Exclusive,
    Mistake::AutoDelete,
    Mistake::OtherArguments,
    Mistake::NoStream,
];

impl Play {
    /// The client does something, if it may.
    pub(super) fn act(&mut self, client: &mut Client, now: Now) {
        let Some(desk) = self.desks.get(&client.number) else { return };
        if !client.is_open() || desk.is_over {
            return;
        }
        let open = desk.books.iter().filter(|(_, book)| book.is_open).map(|(number, _)| *number);
        let Some(number) = self.random.pick_from(open) else { return };
        let name = *self.random.pick(&NAMES);
        if self.random.permille(self.plan.mistake_permille) {
            let mistake = *self.random.pick(&MISTAKES);
            return self.err(client, number, name, mistake);
        }
        if self.random.permille(self.plan.delete_permille) {
            return self.delete_on(client, number, name);
        }
        if self.model.end(name).is_none() {
            return self.declare(client, number, name);
        }
        match self.random.below(20) {
            0..=7 => self.publish_some(client, number, name),
            8..=14 => self.acknowledge_some(client, number),
            15..=17 => self.read_from(client, number, name, now),
            18 if self.random.percent(10) => self.close_channel(client, number),
            18 => self.cancel_one(client, number),
            _ if self.random.percent(20) => self.bind(client, number, name),
            _ => client.say(number, passive(name)),
        }
    }

    fn book(&mut self, client: u32, number: u16) -> &mut Book {
        self.desks.entry(client).or_default().books.entry(number).or_default()
    }

    /// Declares a stream as it is, or anew with a retention that is drawn.
    fn declare(&mut self, client: &mut Client, number: u16, name: &str) {
        let octets_max = self.random.percent(50).then(|| self.retained_octets());
        let age_seconds_max = self.random.percent(40).then(|| *self.random.pick(&[2, 5, 20]));
        let retention = self.model.retention(name).unwrap_or(Retention { octets_max, age_seconds_max });
        let arguments = arguments(retention);
        client.say(number, declaration(name, &arguments));
    }

    fn retained_octets(&mut self) -> u32 {
        let body_octets = u32::try_from(self.plan.body_octets_max).unwrap_or(0);
        *self.random.pick(&[100, 2_000, body_octets * 4 + 10])
    }

    fn bind(&self, client: &mut Client, number: u16, name: &str) {
        client.say(number, queue::Bind { queue: name.into(), exchange: FANOUT.into(), ..Default::default() });
    }

    fn publish_some(&mut self, client: &mut Client, number: u16, name: &str) {
        let to_all = self.random.percent(15);
        for _ in 0..=self.random.size(self.plan.burst_max) {
            let exchange = if to_all { FANOUT } else { "" };
            let publish =
                basic::Publish { exchange: exchange.into(), routing_key: name.into(), ..Default::default() };
            self.publish(client, number, publish);
        }
    }

    fn publish(&mut self, client: &mut Client, number: u16, publish: basic::Publish<'_>) {
        self.last_message += 1;
        let id = self.last_message;
        let body: Vec<u8> =
            id.to_be_bytes().into_iter().cycle().take(self.random.size(self.plan.body_octets_max)).collect();
        let headers = TableBuf::new().with("of", Value::I32(7)).with("x", Value::LongStr(b"y"));
        let properties = Properties {
            headers: self.random.percent(40).then_some(headers.as_table()),
            delivery_mode: self.random.percent(50).then_some(2),
            timestamp: Some(id),
            ..Properties::default()
        };
        client.publish(number, publish, &properties, &body);
    }

    fn acknowledge_some(&mut self, client: &mut Client, number: u16) {
        let multiple = self.random.percent(60);
        let held: Vec<u64> = self.book(client.number, number).held.iter().copied().collect();
        let Some(delivery_tag) = self.random.pick_from(held) else { return };
        let book = self.book(client.number, number);
        book.held.retain(|tag| if multiple { *tag > delivery_tag } else { *tag != delivery_tag });
        client.say(number, basic::Ack { delivery_tag, multiple });
    }

    /// The client acknowledges all that it has read.
    pub(super) fn acknowledge_all(&mut self, client: &mut Client) {
        let Some(desk) = self.desks.get_mut(&client.number) else { return };
        if !client.is_open() || desk.is_over {
            return;
        }
        for (number, book) in desk.books.iter_mut().filter(|(_, book)| book.is_open) {
            if let Some(&delivery_tag) = book.held.last() {
                book.held.clear();
                client.say(*number, basic::Ack { delivery_tag, multiple: true });
            }
        }
    }

    fn read_from(&mut self, client: &mut Client, number: u16, name: &str, now: Now) {
        if self.book(client.number, number).readers.len() >= READERS_MAX {
            return;
        }
        if !self.bookmarks.is_empty() && self.random.percent(40) {
            let at = self.random.below(self.bookmarks.len());
            let (name, next) = self.bookmarks.swap_remove(at);
            self.model.note(StreamEvent::CameBack);
            return self.start_reader(client, number, &name, Some(Offset::Number(next)));
        }
        let offset = self.offset(name, now);
        self.start_reader(client, number, name, offset);
    }

    /// Where to begin; `None` leaves it to the broker.
    fn offset(&mut self, name: &str, now: Now) -> Option<Offset> {
        let end = self.model.end(name).unwrap_or(0);
        let seconds = self.random.between(0, 20);
        Some(match self.random.below(9) {
            0 => return None,
            1 => Offset::First,
            2 => Offset::Last,
            3 => Offset::Next,
            4 => Offset::Number(self.random.between(0, end)),
            5 => Offset::Number(end + self.random.between(0, 20)),
            6 => Offset::LastCount(self.random.between(1, 30)),
            7 => Offset::Ago(seconds),
            _ => Offset::Since(now.wall_millis / 1000 + 3 - seconds),
        })
    }

    fn start_reader(&mut self, client: &mut Client, number: u16, name: &str, offset: Option<Offset>) {
        self.last_tag += 1;
        let tag = format!("reader {}", self.last_tag);
        let arguments = self.offset_arguments(offset);
        client.say(number, consumption(name, &tag, &arguments));
        self.book(client.number, number).readers.insert(tag, (name.to_owned(), None));
    }

    fn offset_arguments(&mut self, offset: Option<Offset>) -> TableBuf {
        let text;
        let value = match offset {
            None => return TableBuf::new(),
            Some(Offset::First) => Value::LongStr(b"first"),
            Some(Offset::Last) => Value::LongStr(b"last"),
            Some(Offset::Next) => Value::LongStr(b"next"),
            Some(Offset::Number(offset)) => Value::I64(i64::try_from(offset).expect("runs are short")),
            Some(Offset::LastCount(count)) => Value::I32(-i32::try_from(count).expect("it is small")),
            Some(Offset::Since(seconds)) => Value::Timestamp(seconds),
            Some(Offset::Ago(seconds)) => {
                text = if self.random.percent(20) { "1m".to_owned() } else { format!("{seconds}s") };
                Value::LongStr(text.as_bytes())
            }
        };
        TableBuf::new().with("x-stream-offset", value)
    }

    fn cancel_one(&mut self, client: &mut Client, number: u16) {
        let tags: Vec<String> = self.book(client.number, number).readers.keys().cloned().collect();
        let Some(tag) = self.random.pick_from(tags) else { return };
        client.say(number, basic::Cancel { consumer_tag: tag.as_str().into(), nowait: false });
        self.forget_reader(client.number, number, &tag);
    }

    fn close_channel(&mut self, client: &mut Client, number: u16) {
        client.say(number, channel::Close { reply_code: 200, ..Default::default() });
        self.close_book(client.number, number);
        self.desks.entry(client.number).or_default().closing.insert(number);
    }

    /// Deletes a stream on a channel.
    fn delete_on(&self, client: &mut Client, number: u16, name: &str) {
        client.say(number, queue::Delete { queue: name.into(), ..Default::default() });
    }
}

/// What the auditor does.
impl Play {
    /// Asks how many messages and readers a stream has.
    pub(super) fn ask_for(&self, client: &mut Client, name: &str) {
        client.say(1, passive(name));
    }

    /// Wants to be the only reader of a stream that has others.
    pub(super) fn ask_to_be_alone(&mut self, client: &mut Client, name: &str) {
        let arguments = TableBuf::new();
        client.say(1, basic::Consume { exclusive: true, ..consumption(name, "alone", &arguments) });
        self.close_book(client.number, 1);
    }

    /// Deletes a stream.
    pub(super) fn delete(&self, client: &mut Client, name: &str) {
        self.delete_on(client, 1, name);
    }
}

/// Mistakes.
impl Play {
    /// Says what is refused, and nothing more on that channel until it hears so.
    fn err(&mut self, client: &mut Client, number: u16, name: &str, mistake: Mistake) {
        let none = TableBuf::new();
        let wrong = TableBuf::new().with("x-stream-offset", Value::LongStr(b"somewhere"));
        let other = arguments(Retention { octets_max: Some(77), age_seconds_max: Some(77) });
        let durable = declaration(name, &other);
        match mistake {
            Mistake::Get => client.say(number, basic::Get { queue: name.into(), ..Default::default() }),
            Mistake::Purge => client.say(number, queue::Purge { queue: name.into(), ..Default::default() }),
            Mistake::NoAck => {
                client.say(number, basic::Consume { no_ack: true, ..consumption(name, "lazy", &none) });
            }
            Mistake::Nack => {
                let Some(&delivery_tag) = self.book(client.number, number).held.first() else { return };
                client.say(number, basic::Nack { delivery_tag, multiple: false, requeue: true });
            }
            Mistake::NoPrefetch => {
                client.say(number, basic::Qos::default());
                client.say(number, consumption(name, "greedy", &none));
            }
            Mistake::BadOffset => client.say(number, consumption(name, "lost", &wrong)),
            Mistake::UnknownTag => client.say(number, basic::Ack { delivery_tag: 1 << 40, multiple: false }),
            Mistake::NotDurable => client.say(number, queue::Declare { durable: false, ..durable }),
            Mistake::Exclusive => client.say(number, queue::Declare { exclusive: true, ..durable }),
            Mistake::AutoDelete => client.say(number, queue::Declare { auto_delete: true, ..durable }),
            // Where there is no such stream yet it is none, so that one is declared first.
            Mistake::OtherArguments => {
                self.declare(client, number, name);
                client.say(number, durable);
            }
            Mistake::NoStream => client.say(number, passive("desert")),
        }
        let ends_all = matches!(mistake, Mistake::Get | Mistake::Purge | Mistake::NoAck | Mistake::Nack);
        if ends_all && self.model.end(name).is_some() || matches!(mistake, Mistake::Nack) {
            self.desks.entry(client.number).or_default().is_over = true;
        }
        self.close_book(client.number, number);
    }
}

fn arguments(retention: Retention) -> TableBuf {
    let mut arguments = TableBuf::new().with("x-queue-type", Value::LongStr(b"stream"));
    if let Some(octets) = retention.octets_max {
        arguments.push("x-max-length-bytes", Value::I64(octets.into()));
    }
    if let Some(seconds) = retention.age_seconds_max {
        arguments.push("x-max-age", Value::LongStr(format!("{seconds}s").as_bytes()));
    }
    arguments
}

fn declaration<'a>(name: &'a str, arguments: &'a TableBuf) -> queue::Declare<'a> {
    let arguments = arguments.as_table();
    queue::Declare { queue: name.into(), durable: true, arguments, ..Default::default() }
}

fn consumption<'a>(name: &'a str, tag: &'a str, arguments: &'a TableBuf) -> basic::Consume<'a> {
    let arguments = arguments.as_table();
    basic::Consume { queue: name.into(), consumer_tag: tag.into(), arguments, ..Default::default() }
}

fn passive(name: &str) -> queue::Declare<'_> {
    queue::Declare { queue: name.into(), passive: true, ..Default::default() }
}
