//! What a broker with streams has to say, from what it took: plain lists of messages, readers with
//! an offset, and what is due on each channel.
//!
//! Written from `docs/compatibility.md` and RabbitMQ's documents; shares the codec with the engine and
//! nothing else. Invariant: an answer is due in the order of what was asked on its channel.

mod commands;
mod list;
mod rest;
mod said;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leveret_broker::Now;
use leveret_wire::ReplyCode;

use self::list::{Message, Stream};
pub(super) use self::list::{Offset, Retention};
use super::StreamEvent;
use crate::{Checked, frames::whole_octets, lab::Tally};

/// Which incarnation of a stream; a name may be used again.
pub(super) type Serial = u64;

/// An answer that is due.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// A method that says nothing but yes, by class and method.
    Yes(u16, u16),
    Consume(String),
    Cancel(String),
    /// With how many messages, and readers where that is certain.
    Declare {
        ready: u64,
        readers: Option<usize>,
    },
    /// A channel or its connection is closed, for that method.
    Refusal(ReplyCode, (u16, u16)),
}

#[derive(Debug)]
struct Reader {
    stream: Serial,
    prefetch: u16,
    unacked: u16,
    /// The next message that it gets is that one or, of those before `next_max` and the stream's floor,
    /// one behind it.
    next: u64,
    next_max: u64,
}

#[derive(Debug, Default)]
struct Channel {
    prefetch: u16,
    published: u64,
    unconfirmed: BTreeSet<u64>,
    last_tag: u64,
    /// Which reader each delivery was for.
    unacked: BTreeMap<u64, String>,
    readers: BTreeMap<String, Reader>,
    due: VecDeque<Due>,
    /// Nothing that it says counts any more.
    is_refused: bool,
    /// It was told so.
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Connection {
    /// What was taken of a publish that is not whole.
    taken: Vec<u8>,
    channels: BTreeMap<u16, Channel>,
    /// What it is to be closed with, and whether it was told.
    refusal: Option<(ReplyCode, (u16, u16))>,
    is_closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) counts: Tally<StreamEvent>,
    now: Now,
    names: BTreeMap<String, Serial>,
    streams: BTreeMap<Serial, Stream>,
    /// What is bound to the fanout.
    bound: BTreeSet<Serial>,
    connections: BTreeMap<u32, Connection>,
    last_serial: Serial,
    /// Whether nobody but the auditor does anything, and nothing is under way.
    is_at_rest: bool,
}

impl Model {
    pub(super) fn note(&mut self, event: StreamEvent) {
        self.counts.note(event, 1);
    }

    /// The engine took that.
    pub(super) fn took(&mut self, client: u32, octets: &[u8], now: Now) -> Checked {
        self.keep_time(now);
        let connection = self.connections.entry(client).or_default();
        connection.taken.extend_from_slice(octets);
        let rest = connection.taken.split_off(whole_octets(&connection.taken)?);
        let whole = std::mem::replace(&mut connection.taken, rest);
        self.commands(client, &whole)
    }

    /// Messages get too old.
    fn keep_time(&mut self, now: Now) {
        self.now = now;
        for stream in self.streams.values_mut().filter(|stream| !stream.is_deleted) {
            let (for_room, for_age) = stream.retain(now);
            self.counts.note(StreamEvent::DroppedForRoom, for_room);
            self.counts.note(StreamEvent::DroppedForAge, for_age);
        }
    }

    /// A connection is no more, with its readers.
    pub(super) fn left(&mut self, client: u32) {
        self.connections.remove(&client);
    }

    fn stream(&self, name: &[u8]) -> Option<Serial> {
        self.names.get(str::from_utf8(name).ok()?).copied()
    }

    fn append(&mut self, serial: Serial, message: Message) {
        let stream = self.streams.get_mut(&serial).expect("it is kept for ever");
        stream.append(message);
        self.note(StreamEvent::Appended);
    }

    fn reader_count(&self, serial: Serial) -> usize {
        let channels = self.connections.values().flat_map(|connection| connection.channels.values());
        channels.flat_map(|channel| channel.readers.values()).filter(|reader| reader.stream == serial).count()
    }

    /// How a stream of that name keeps its messages, if there is one.
    pub(super) fn retention(&self, name: &str) -> Option<Retention> {
        let serial = self.names.get(name)?;
        self.streams.get(serial).map(|stream| stream.retention)
    }

    /// The offset of the message that comes next in a stream of that name.
    pub(super) fn end(&self, name: &str) -> Option<u64> {
        self.streams.get(self.names.get(name)?).map(Stream::end)
    }

    /// The names of streams that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Those that have readers.
    pub(super) fn names_read(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|(_, serial)| self.reader_count(**serial) > 0).map(|(name, _)| name.as_str())
    }
}
