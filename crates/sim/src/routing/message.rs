//! Messages as clients made them, and as receivers have to see them.
//!
//! Invariant: a body tells whose it is, and every octet of it is known.

use leveret_wire::{ArrayBuf, Properties, ShortStr, TableBuf, Value};

use crate::{Checked, Violation, ensure};

/// The longest delay, from RabbitMQ's plugin.
pub(super) const DELAY_MILLIS_MAX: i64 = 4_294_967_295;
/// The header that says how long a message waits.
const DELAY: &str = "x-delay";
/// The header that keeps a message from being remembered.
pub(super) const NO_STORE: &str = "x-recent-history-no-store";
/// The header that headers exchanges and hashes look at.
pub(super) const HEADER: &str = "h";

/// A value of a header.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f64),
    Text(String),
    Texts(Vec<String>),
}

impl Field {
    fn put(&self, name: &str, table: &mut TableBuf) {
        match self {
            Self::Bool(value) => table.push(name, Value::Bool(*value)),
            Self::Int(value) => table.push(name, Value::I32(*value)),
            Self::Long(value) => table.push(name, Value::I64(*value)),
            Self::Float(value) => table.push(name, Value::F64(*value)),
            Self::Text(text) => table.push(name, Value::LongStr(text.as_bytes())),
            Self::Texts(texts) => {
                let mut array = ArrayBuf::new();
                texts.iter().for_each(|text| array.push(Value::LongStr(text.as_bytes())));
                table.push(name, Value::Array(array.as_array()));
            }
        }
    }

    /// A delay's whole number, of whatever kind it is.
    #[allow(clippy::cast_possible_truncation, reason = "what is too large for it is no delay either way")]
    fn number(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some((*value).into()),
            Self::Long(value) => Some(*value),
            Self::Float(value) => Some(value.trunc() as i64),
            Self::Text(text) => text.parse().ok(),
            Self::Bool(_) | Self::Texts(_) => None,
        }
    }
}

/// A message as its client publishes it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: u64,
    pub(super) channel: u16,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) headers: Vec<(&'static str, Field)>,
    pub(super) message_id: Option<String>,
    pub(super) mandatory: bool,
    /// The consumer of answers that is to be answered, by its name in the model.
    pub(super) asks: Option<String>,
    pub(super) filling_octets: usize,
}

impl Message {
    fn header(&self, name: &str) -> Option<&Field> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// All routing keys, the message's own first.
    pub(super) fn keys(&self) -> Vec<&str> {
        let copies = match self.header("CC") {
            Some(Field::Texts(texts)) => &texts[..],
            _ => &[],
        };
        std::iter::once(&*self.key).chain(copies.iter().map(String::as_str)).collect()
    }

    /// How long it waits where messages can, if it does.
    pub(super) fn delay_millis(&self) -> Option<u64> {
        let number = self.header(DELAY)?.number()?;
        let waits = (1..=DELAY_MILLIS_MAX).contains(&number);
        waits.then(|| u64::try_from(number).expect("it is above zero"))
    }

    pub(super) fn is_remembered(&self) -> bool {
        self.header(NO_STORE) != Some(&Field::Bool(true))
    }

    /// The number in the header that is routed by.
    pub(super) fn number(&self) -> Option<i32> {
        match self.header(HEADER) {
            Some(Field::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The headers, once it has waited: those of others stay, its delay is negative, and they come in
    /// the order of their names.
    fn waited(&self) -> Vec<(&'static str, Field)> {
        let millis = i64::try_from(self.delay_millis().expect("it waited")).expect("it is not that long");
        let negative = i32::try_from(-millis).map_or(Field::Long(-millis), Field::Int);
        let mut headers: Vec<_> = self.headers.iter().filter(|(name, _)| *name != DELAY).cloned().collect();
        headers.push((DELAY, negative));
        headers.sort_by_key(|(name, _)| *name);
        headers
    }

    /// Its properties, as it was sent or once it has waited.
    pub(super) fn with_properties<T>(
        &self,
        has_waited: bool,
        reply_to: Option<&str>,
        take: impl FnOnce(&Properties<'_>) -> T,
    ) -> T {
        let headers = if has_waited { self.waited() } else { self.headers.clone() };
        let mut table = TableBuf::new();
        headers.iter().for_each(|(name, value)| value.put(name, &mut table));
        take(&Properties {
            headers: (!headers.is_empty()).then_some(table.as_table()),
            message_id: self.message_id.as_deref().map(ShortStr::from),
            reply_to: reply_to.map(ShortStr::from),
            ..Properties::default()
        })
    }

    pub(super) fn property_octets(&self, has_waited: bool, reply_to: Option<&str>) -> Vec<u8> {
        let mut octets = Vec::new();
        self.with_properties(has_waited, reply_to, |properties| properties.encode(&mut octets));
        octets
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = self.id.to_be_bytes().to_vec();
        body.extend((0..self.filling_octets).map(|at| fill(self.id, at)));
        body
    }
}

/// Whose body it is.
pub(super) fn id_of(body: &[u8]) -> Checked<u64> {
    let (id, filling) = body.split_first_chunk().ok_or_else(|| Violation::new("a body is cut"))?;
    let id = u64::from_be_bytes(*id);
    let is_whole = filling.iter().enumerate().all(|(at, octet)| *octet == fill(id, at));
    ensure!(is_whole, "the body of message {id} is not what was sent");
    Ok(id)
}

#[allow(clippy::cast_possible_truncation, reason = "any octet will do")]
const fn fill(id: u64, at: usize) -> u8 {
    (id as usize).wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) as u8
}
