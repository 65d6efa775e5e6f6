//! A stream as a list: all messages that ever came, and up to where retention took them.
//!
//! Invariant: a message's place in the list is its offset, and what is at or behind
//! [`Stream::floor`] is kept.

use leveret_broker::Now;
use leveret_wire::{Table, Value};

/// A message as it was published.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) exchange: Vec<u8>,
    pub(super) routing_key: Vec<u8>,
    pub(super) property_octets: Vec<u8>,
    pub(super) body: Vec<u8>,
    pub(super) arrived_wall_millis: u64,
}

/// How much a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::streams) struct Retention {
    pub(in crate::streams) octets_max: Option<u32>,
    pub(in crate::streams) age_seconds_max: Option<u32>,
}

/// Where a reader wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::streams) enum Offset {
    First,
    Last,
    Next,
    Number(u64),
    LastCount(u64),
    /// With the first that came no more than so many seconds ago.
    Ago(u64),
    /// With the first that came at that second or later.
    Since(u64),
}

impl Offset {
    /// What the arguments of a consumer ask for; `None` when they make no sense.
    pub(super) fn of(arguments: Table<'_>) -> Option<Self> {
        let offset = match arguments.find("x-stream-offset") {
            None | Some(Value::LongStr(b"next")) => Self::Next,
            Some(Value::LongStr(b"first")) => Self::First,
            Some(Value::LongStr(b"last")) => Self::Last,
            Some(Value::LongStr(text)) => {
                let text = str::from_utf8(text).ok()?;
                let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
                let seconds = match unit {
                    "s" => 1,
                    "m" => 60,
                    _ => return None,
                };
                Self::Ago(number.parse::<u64>().ok()? * seconds)
            }
            Some(Value::Timestamp(seconds)) => Self::Since(seconds),
            Some(value) => {
                let number = value.as_integer()?;
                u64::try_from(number).map_or(Self::LastCount(number.unsigned_abs()), Self::Number)
            }
        };
        Some(offset)
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) retention: Retention,
    pub(super) messages: Vec<Message>,
    /// What is before it may be gone, and is once all is at rest.
    pub(super) floor: u64,
    /// What is before it is gone.
    pub(super) sure_floor: u64,
    /// Octets of the bodies from the floor on.
    octets: u64,
    pub(super) is_deleted: bool,
}

impl Stream {
    pub(super) fn new(name: String, retention: Retention) -> Self {
        let messages = Vec::new();
        Self { name, retention, messages, floor: 0, sure_floor: 0, octets: 0, is_deleted: false }
    }

    /// The offset of the message that comes next.
    pub(super) fn end(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(super) fn message(&self, offset: u64) -> Option<&Message> {
        self.messages.get(usize::try_from(offset).ok()?)
    }

    pub(super) fn append(&mut self, message: Message) {
        self.octets += message.body.len() as u64;
        self.messages.push(message);
    }

    /// Messages go, the oldest first, while there are too many octets of them or the oldest is as old
    /// as it may get. Returns how many went for want of room, and for their age.
    pub(super) fn retain(&mut self, now: Now) -> (u64, u64) {
        let (mut for_room, mut for_age) = (0, 0);
        while let Some(oldest) = self.message(self.floor) {
            let is_too_much = self.retention.octets_max.is_some_and(|max| self.octets > u64::from(max));
            let age_millis = now.wall_millis - oldest.arrived_wall_millis;
            let is_too_old =
                self.retention.age_seconds_max.is_some_and(|max| age_millis >= u64::from(max) * 1000);
            if !is_too_much && !is_too_old {
                break;
            }
            self.octets -= oldest.body.len() as u64;
            self.floor += 1;
            for_room += u64::from(is_too_much);
            for_age += u64::from(is_too_old && !is_too_much);
        }
        (for_room, for_age)
    }

    /// Between which offsets a reader begins: it is not known of every old message whether it is gone.
    pub(super) fn start(&self, offset: Offset, now: Now) -> (u64, u64) {
        let since = |wall_millis: u64| {
            self.messages.partition_point(|message| message.arrived_wall_millis < wall_millis) as u64
        };
        let wanted = match offset {
            Offset::First => 0,
            Offset::Last => self.end().saturating_sub(1),
            Offset::Next => self.end(),
            Offset::Number(number) => number,
            Offset::LastCount(count) => self.end().saturating_sub(count),
            Offset::Ago(seconds) => since(now.wall_millis.saturating_sub(seconds * 1000)),
            Offset::Since(seconds) => since(seconds * 1000),
        };
        (wanted.max(self.sure_floor), wanted.max(self.floor))
    }
}
