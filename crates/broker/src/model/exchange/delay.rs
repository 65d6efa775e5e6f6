//! Delayed messages: how long one waits, by its header `x-delay`, and the queue of those that wait.
//!
//! An exchange of type `x-delayed-message` routes as the type in `x-delayed-type` does, once a
//! message's time has come; one without a delay goes at once. A waiting message is an entry in a
//! tree and nothing else: no timer, and no work before it is due. As in RabbitMQ's plugin a message
//! goes on waiting when its exchange is deleted, and is dropped if there is none by that name then.
//! Invariant: entries come out by their time, and of one time in the order they went in.

use std::{collections::BTreeMap, sync::Arc};

use leveret_wire::{ShortStr, Table, TableBuf, Value};

use super::ExchangeKind;
use crate::{
    planted::{self, Bug},
    refusal::Refusal,
};

const DELAYED_TYPE: &str = "x-delayed-type";
const DELAY: &str = "x-delay";
/// The longest delay, as in RabbitMQ's plugin: 49 days. What asks for more is not delayed.
pub const DELAY_MILLIS_MAX: u64 = u32::MAX as u64;

/// The exchange that a delayed message goes on from.
#[derive(Debug, PartialEq, Eq)]
pub struct DelayedAt {
    /// The virtual host.
    pub vhost: Box<str>,
    /// The name.
    pub exchange: Box<str>,
    /// What the store calls the messages that wait there, if they are to last.
    pub line: Option<u64>,
}

/// A delay that a message is to have on its way.
#[derive(Debug, Clone)]
pub struct Delay {
    /// Where it waits.
    pub at: Arc<DelayedAt>,
    /// How long.
    pub millis: u64,
}

/// The type that a delayed message is routed by.
///
/// # Errors
/// When the arguments name none, or one that there is not.
pub(super) fn parse_type(arguments: Table<'_>) -> Result<ExchangeKind, Refusal> {
    let wrong = || {
        let text = format!("Invalid argument, '{DELAYED_TYPE}' must be an existing exchange type");
        Refusal::InvalidExchangeArgument(text)
    };
    let Some(Value::LongStr(name)) = arguments.find(DELAYED_TYPE) else { return Err(wrong()) };
    let kind = ShortStr::new(name).and_then(ExchangeKind::from_name);
    match kind {
        Some(ExchangeKind::Delayed) => Err(wrong()),
        Some(kind) => Ok(kind),
        None => {
            let name = String::from_utf8_lossy(name);
            Err(Refusal::UnknownExchangeType(format!("unknown exchange type '{name}'")))
        }
    }
}

/// How long a message with these headers waits, if it does. A text or a float counts as its whole
/// number.
#[must_use]
pub fn delay_millis(headers: Table<'_>) -> Option<u64> {
    let value = headers.find(DELAY)?;
    let millis = match value {
        Value::LongStr(text) => str::from_utf8(text).ok()?.parse().ok()?,
        Value::F32(millis) => whole(millis.into()),
        Value::F64(millis) => whole(millis),
        other => other.as_integer()?,
    };
    let refused = u64::from(planted::is(Bug::LongestDelayRefused));
    u64::try_from(millis).ok().filter(|millis| (1..=DELAY_MILLIS_MAX - refused).contains(millis))
}

#[allow(clippy::cast_possible_truncation, reason = "beyond the range it is no delay, and a cast saturates")]
const fn whole(millis: f64) -> i64 {
    millis as i64
}

/// The headers of a message that has waited: the delay is negative, so that it does not wait again
/// and its receiver can tell. They come in the order of their names, as from the plugin.
#[must_use]
pub fn waited(headers: Table<'_>, millis: u64) -> TableBuf {
    if planted::is(Bug::DelayBeginsAgain) {
        return TableBuf::sorted(headers);
    }
    let mut changed = TableBuf::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_bytes() != DELAY.as_bytes()) {
        changed.push_field(name, value);
    }
    let negative = -i64::try_from(millis).expect("a delay is a number of 32 bits");
    changed.push(DELAY, i32::try_from(negative).map_or(Value::I64(negative), Value::I32));
    TableBuf::sorted(changed.as_table())
}

/// What waits for its time.
#[derive(Debug)]
pub struct DelayQueue<T> {
    waiting: BTreeMap<(u64, u64), T>,
    pushed: u64,
}

impl<T> Default for DelayQueue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), pushed: 0 }
    }
}

impl<T> DelayQueue<T> {
    /// Adds what is due then; true when nothing is due earlier.
    pub fn push(&mut self, due_millis: u64, item: T) -> bool {
        let is_earliest = self.next_due_millis().is_none_or(|next| due_millis < next);
        self.pushed += 1;
        let turn = if planted::is(Bug::DelayedOutOfOrder) { u64::MAX - self.pushed } else { self.pushed };
        self.waiting.insert((due_millis, turn), item);
        is_earliest
    }

    /// Takes the first that is due.
    pub fn pop_due(&mut self, now_millis: u64) -> Option<T> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now_millis)?;
        Some(first.remove())
    }

    /// When the first one is due.
    #[must_use]
    pub fn next_due_millis(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(&(due, _), _)| due)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_comes_out_by_its_time_and_then_by_its_turn() {
        let mut queue = DelayQueue::default();
        assert!(queue.push(30, "c"));
        assert!(queue.push(10, "a"));
        assert!(!queue.push(10, "b"));
        assert!(!queue.push(u64::MAX, "never"));
        assert_eq!((queue.next_due_millis(), queue.pop_due(9)), (Some(10), None));
        assert_eq!([queue.pop_due(29), queue.pop_due(29), queue.pop_due(29)], [Some("a"), Some("b"), None]);
        assert_eq!((queue.pop_due(30), queue.len()), (Some("c"), 1));
    }

    #[test]
    fn many_wait_without_work() {
        let mut queue = DelayQueue::default();
        for n in 0..100_000_u64 {
            queue.push(1000 + (n * 7919) % 3_000_000_000, n);
        }
        assert_eq!((queue.pop_due(999), queue.len()), (None, 100_000));
        let mut last = 0;
        while let Some(due) = queue.next_due_millis() {
            assert!(due >= last && queue.pop_due(due).is_some());
            last = due;
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn a_delay_is_a_number_of_milliseconds() {
        let check = |value: Value<'_>, wanted: Option<u64>| {
            assert_eq!(delay_millis(TableBuf::new().with(DELAY, value).as_table()), wanted, "{value:?}");
        };
        check(Value::I32(5000), Some(5000));
        check(Value::U8(7), Some(7));
        check(Value::I64(4_294_967_295), Some(4_294_967_295));
        check(Value::I64(4_294_967_296), None);
        check(Value::I32(0), None);
        check(Value::I32(-5000), None);
        check(Value::LongStr(b"250"), Some(250));
        check(Value::LongStr(b"soon"), None);
        check(Value::F64(2.9), Some(2));
        check(Value::F64(1e300), None);
        check(Value::Bool(true), None);
        assert_eq!(delay_millis(Table::EMPTY), None);
    }

    #[test]
    fn the_delay_is_negative_when_it_is_over() {
        let headers =
            TableBuf::new().with("z", Value::Void).with(DELAY, Value::I64(5)).with("a", Value::Void);
        let wanted =
            TableBuf::new().with("a", Value::Void).with(DELAY, Value::I32(-5)).with("z", Value::Void);
        assert_eq!(waited(headers.as_table(), 5), wanted);
        let long = waited(headers.as_table(), DELAY_MILLIS_MAX);
        assert_eq!(long.as_table().find(DELAY), Some(Value::I64(-4_294_967_295)));
    }

    #[test]
    fn the_inner_type_is_one_of_the_others() {
        let parse = |name: &'static [u8]| {
            let arguments = TableBuf::new().with(DELAYED_TYPE, Value::LongStr(name));
            parse_type(arguments.as_table()).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(parse(b"topic"), Ok(ExchangeKind::Topic));
        assert_eq!(parse(b"nope"), Err("unknown exchange type 'nope'".to_owned()));
        let wrong = "Invalid argument, 'x-delayed-type' must be an existing exchange type".to_owned();
        assert_eq!(parse(b"x-delayed-message"), Err(wrong.clone()));
        assert_eq!(parse_type(Table::EMPTY).map_err(|refusal| refusal.to_string()), Err(wrong));
    }
}
