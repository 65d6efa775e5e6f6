//! What an exchange remembers: its last messages, which a new binding gets.
//!
//! Knows messages as locations that it holds references of, and gives them back when they are too
//! old or the exchange goes. As in RabbitMQ's plugin it is a fanout that takes each message, be it
//! routed or not, but for those whose header `x-recent-history-no-store` is true. Beyond the plugin,
//! which ignores keys, a binding key that is not empty is a topic pattern: it filters what the
//! binding gets, of what was remembered and of what comes. The oldest message comes first; the plugin
//! sends the newest first where the binding leads to an exchange. Invariant: once closed it holds nothing.

use std::{collections::VecDeque, fmt};

use leveret_wire::{Properties, Table, Value};

use crate::{
    Location,
    model::arguments::{erlang_text, value_text},
    planted::{self, Bug},
    refusal::Refusal,
    sync::Mutex,
};

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &str = "x-recent-history-no-store";
/// How many messages are remembered when the exchange's arguments do not say it.
const LENGTH_DEFAULT: usize = 20;

/// Gives references to messages back.
type Release = Box<dyn Fn(&mut dyn Iterator<Item = Location>) + Send + Sync>;

/// The last messages of an exchange.
pub struct History {
    messages_max: usize,
    release: Release,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    locations: VecDeque<Location>,
    is_closed: bool,
}

impl History {
    /// Remembers up to that many messages.
    #[must_use]
    pub fn new(messages_max: usize, release: Release) -> Self {
        Self { messages_max, release, kept: Mutex::new(Kept::default()) }
    }

    /// Takes over a reference to the message that came last.
    pub fn keep(&self, location: Location) {
        let mut kept = self.kept.lock();
        kept.locations.push_back(location);
        let more = usize::from(planted::is(Bug::HistoryOneTooMany));
        let left = if kept.is_closed { 0 } else { self.messages_max + more };
        let surplus = kept.locations.len().saturating_sub(left);
        let old: Vec<_> = kept.locations.drain(..surplus).collect();
        drop(kept);
        (self.release)(&mut old.into_iter());
    }

    /// The messages from the oldest on. Their references stay here; `retain` is to count one more
    /// of each, as long as they are there for certain.
    pub fn copy(&self, retain: impl FnOnce(&[Location])) -> Vec<Location> {
        let kept = self.kept.lock();
        let mut copy: Vec<_> = kept.locations.iter().copied().collect();
        if planted::is(Bug::HistoryNewestFirst) {
            copy.reverse();
        }
        retain(&copy);
        copy
    }

    /// Gives all back, and from now on what comes later, because the exchange is gone.
    pub fn close(&self) {
        let mut kept = self.kept.lock();
        kept.is_closed = true;
        let all = std::mem::take(&mut kept.locations);
        drop(kept);
        (self.release)(&mut all.into_iter());
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("messages_max", &self.messages_max).finish_non_exhaustive()
    }
}

/// How many messages the exchange's arguments ask for.
///
/// # Errors
/// When that is no number above zero, in RabbitMQ's words.
pub(super) fn parse_length(arguments: Table<'_>) -> Result<usize, Refusal> {
    let Some(value) = arguments.find(LENGTH) else { return Ok(LENGTH_DEFAULT) };
    // The plugin knows no unsigned integers.
    let signed = match value {
        Value::I8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_) => value.as_integer(),
        _ => None,
    };
    match signed.map(usize::try_from) {
        Some(Ok(length)) if length > 0 => Ok(length),
        _ => {
            let shown = match value {
                Value::LongStr(text) | Value::Octets(text) => erlang_text(text),
                other => value_text(other),
            };
            let text = format!("Invalid argument {shown}, '{LENGTH}' must be a positive integer");
            Err(Refusal::InvalidExchangeArgument(text))
        }
    }
}

/// Whether a message with these properties is to be remembered.
#[must_use]
pub fn is_remembered(properties: &Properties<'_>) -> bool {
    let no_store = properties.headers.and_then(|headers| headers.find(NO_STORE));
    no_store != Some(Value::Bool(true)) || planted::is(Bug::HistoryKeepsAll)
}

/// The topic pattern that a binding key stands for.
#[must_use]
pub(super) const fn pattern(binding_key: &[u8]) -> &[u8] {
    if binding_key.is_empty() { b"#" } else { binding_key }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as StdMutex};

    use leveret_wire::TableBuf;

    use super::*;

    #[test]
    fn the_oldest_goes_and_all_go_with_the_exchange() {
        let released = Arc::new(StdMutex::new(Vec::new()));
        let to = Arc::clone(&released);
        let release = move |locations: &mut dyn Iterator<Item = Location>| {
            to.lock().unwrap().extend(locations.map(Location::number));
        };
        let history = History::new(2, Box::new(release));
        for n in 0..3 {
            history.keep(Location::new(0, n));
        }
        assert_eq!(*released.lock().unwrap(), [0]);
        let mut retained = Vec::new();
        let kept = history.copy(|locations| retained.extend_from_slice(locations));
        assert_eq!(kept.iter().map(|location| location.number()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(retained, kept);
        history.close();
        assert_eq!(*released.lock().unwrap(), [0, 1, 2]);
        history.keep(Location::new(0, 3));
        assert_eq!(*released.lock().unwrap(), [0, 1, 2, 3], "what was under way is given back too");
        drop(history);
        assert_eq!(released.lock().unwrap().len(), 4);
    }

    #[test]
    fn the_length_is_a_positive_integer() {
        let check = |value: Value<'_>, wanted: Result<usize, &str>| {
            let arguments = TableBuf::new().with(LENGTH, value);
            let found = parse_length(arguments.as_table()).map_err(|refusal| refusal.to_string());
            let text = |shown| {
                format!("Invalid argument {shown}, 'x-recent-history-length' must be a positive integer")
            };
            assert_eq!(found, wanted.map_err(text));
        };
        check(Value::I32(3), Ok(3));
        check(Value::I64(1), Ok(1));
        check(Value::I32(0), Err("0"));
        check(Value::I8(-1), Err("-1"));
        check(Value::U8(5), Err("5"));
        check(Value::LongStr(b"5"), Err("<<\"5\">>"));
        assert_eq!(parse_length(Table::EMPTY), Ok(LENGTH_DEFAULT));
    }

    #[test]
    fn only_true_keeps_a_message_from_being_remembered() {
        let check = |value: Value<'_>, wanted: bool| {
            let headers = TableBuf::new().with(NO_STORE, value);
            let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
            assert_eq!(is_remembered(&properties), wanted);
        };
        check(Value::Bool(true), false);
        check(Value::Bool(false), true);
        check(Value::I32(1), true);
        assert!(is_remembered(&Properties::default()));
    }
}
