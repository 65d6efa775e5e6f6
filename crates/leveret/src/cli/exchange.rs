//! The exchange that lines go through: taken as it is where it exists, declared where it does not.
//!
//! Invariant: an exchange that exists is never declared with a type or a flag of ours, so that one that
//! somebody else has made is never an error.

use std::str::FromStr;

use lapin::{
    Connection, ExchangeKind, options::ExchangeDeclareOptions, protocol::AMQPSoftError, types::FieldTable,
    types::ShortString,
};

use super::{connect::reply_code, headers::short_string};

/// An exchange may be deleted or made by others between our two questions; more often than this it is
/// somebody's loop.
const TRIES_MAX: usize = 5;

/// An exchange's type as it was typed: one of the protocol's four, or one that a plugin brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeType(ExchangeKind);

impl ExchangeType {
    pub(crate) fn ignores_keys(&self) -> bool {
        self.0 == ExchangeKind::Fanout
    }
}

impl FromStr for ExchangeType {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        Ok(Self(match typed {
            "fanout" => ExchangeKind::Fanout,
            "direct" => ExchangeKind::Direct,
            "topic" => ExchangeKind::Topic,
            "headers" => ExchangeKind::Headers,
            "" => return Err("an exchange has a type".to_owned()),
            other => ExchangeKind::Custom(short_string(other)?.to_string()),
        }))
    }
}

impl std::fmt::Display for ExchangeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            ExchangeKind::Fanout => "fanout",
            ExchangeKind::Direct => "direct",
            ExchangeKind::Topic => "topic",
            ExchangeKind::Headers => "headers",
            ExchangeKind::Custom(name) => name,
        })
    }
}

/// Whether the exchange was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ensured {
    Found,
    Declared,
}

/// Makes sure that the exchange is there.
pub(crate) async fn ensure(
    connection: &Connection,
    name: &ShortString,
    kind: &ExchangeType,
) -> Result<Ensured, lapin::Error> {
    // The default exchange is always there, and asking for it is an error.
    if name.as_str().is_empty() {
        return Ok(Ensured::Found);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match declare(connection, name, kind, true).await {
            Err(error) if is(&error, &AMQPSoftError::NOTFOUND) => {}
            found => return found.map(|()| Ensured::Found),
        }
        match declare(connection, name, kind, false).await {
            // Somebody made it with another type in the meantime: that one is taken.
            Err(error) if is(&error, &AMQPSoftError::PRECONDITIONFAILED) && tries < TRIES_MAX => {}
            declared => return declared.map(|()| Ensured::Declared),
        }
    }
}

/// Asks on a channel of its own, because a broker closes the channel on which it says no.
async fn declare(
    connection: &Connection,
    name: &ShortString,
    kind: &ExchangeType,
    passive: bool,
) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    // Neither durable nor auto-delete, as in the publish/subscribe tutorial, so that its programs can
    // declare the exchange after us.
    let options = ExchangeDeclareOptions { passive, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.clone(), kind.0.clone(), options, FieldTable::default()).await?;
    channel.close(200, "done".into()).await
}

fn is(error: &lapin::Error, code: &AMQPSoftError) -> bool {
    reply_code(error) == Some(code.get_id())
}
