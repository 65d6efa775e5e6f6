//! What an exchange's arguments ask for.
//!
//! Reads and checks them once, when an exchange is made; a second declaration compares them as
//! they came. A policy's settings have their place here too: an argument goes before them.

use leveret_wire::{Table, Value};

use super::{ExchangeKind, HashOn, delay, recent_history};
use crate::{
    model::{arguments::Owner, policy::PolicyKeys},
    refusal::Refusal,
};

/// The argument that names an exchange for what is not routed.
pub const ALTERNATE: &str = "alternate-exchange";

/// The settings of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExchangeSettings {
    /// The exchange that gets what this one has no destination for, be it there or not.
    pub alternate: Option<Box<[u8]>>,
    /// What a consistent hash goes by.
    pub hash_on: HashOn,
    /// How many messages are remembered, by an exchange that does.
    pub history_messages_max: Option<usize>,
    /// The type that a delayed message is routed by.
    pub delayed_kind: Option<ExchangeKind>,
}

impl ExchangeSettings {
    /// Reads an exchange's arguments.
    ///
    /// # Errors
    /// When one that means something to an exchange of that kind is wrong.
    pub fn parse(kind: ExchangeKind, arguments: Table<'_>, owner: Owner<'_>) -> Result<Self, Refusal> {
        let alternate = match arguments.find(ALTERNATE) {
            None => None,
            Some(Value::LongStr(name)) => Some(name.into()),
            Some(other) => return Err(owner.wrong_type(ALTERNATE, other)),
        };
        let delayed_kind = match kind {
            ExchangeKind::Delayed => Some(delay::parse_type(arguments)?),
            _ => None,
        };
        let kind = delayed_kind.unwrap_or(kind);
        let hash_on = match kind {
            ExchangeKind::ConsistentHash => HashOn::parse(arguments, owner)?,
            _ => HashOn::default(),
        };
        let history_messages_max = match kind {
            ExchangeKind::RecentHistory => Some(recent_history::parse_length(arguments)?),
            _ => None,
        };
        Ok(Self { alternate, hash_on, history_messages_max, delayed_kind })
    }

    /// What these and policies make together.
    #[must_use]
    pub fn under(mut self, policy: &PolicyKeys) -> Self {
        let of_policy = || policy.alternate_exchange.as_deref().map(|name| name.as_bytes().into());
        self.alternate = self.alternate.or_else(of_policy);
        self
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::TableBuf;

    use super::*;

    #[test]
    fn an_alternate_exchange_is_a_text() {
        let owner = Owner { object: "exchange", name: "x", vhost: "/" };
        let parse = |value| {
            let arguments = TableBuf::new().with(ALTERNATE, value);
            ExchangeSettings::parse(ExchangeKind::Direct, arguments.as_table(), owner)
        };
        assert_eq!(parse(Value::LongStr(b"other")).unwrap().alternate.as_deref(), Some(&b"other"[..]));
        assert_eq!(parse(Value::LongStr(b"")).unwrap().alternate.as_deref(), Some(&b""[..]));
        assert_eq!(
            parse(Value::I32(1)).unwrap_err().to_string(),
            "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
        );
    }
}
