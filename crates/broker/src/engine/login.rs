//! Who logs in, and to which virtual host.

use std::sync::Arc;

use leveret_wire::{ShortStr, Table, TableBuf, Value};

use super::{admission::Account, connection::Connection, permissions::Grants};
use crate::{
    Refusal,
    session::{Failure, MethodIds},
};

const OPEN_IDS: MethodIds = (10, 40);

/// What `connection.start` says of the server. The capabilities are those that work.
pub(super) fn server_properties(cluster_name: &str) -> TableBuf {
    let mut capabilities = TableBuf::new();
    for (name, works) in [
        ("publisher_confirms", true),
        ("exchange_exchange_bindings", true),
        ("basic.nack", true),
        ("consumer_cancel_notify", true),
        ("connection.blocked", true),
        ("consumer_priorities", true),
        ("authentication_failure_close", true),
        ("per_consumer_qos", true),
        ("direct_reply_to", true),
    ] {
        capabilities.push(name, Value::Bool(works));
    }
    TableBuf::new()
        .with("capabilities", Value::Table(capabilities.as_table()))
        .with("cluster_name", Value::LongStr(cluster_name.as_bytes()))
        .with("copyright", Value::LongStr(b"The Leveret developers"))
        .with("information", Value::LongStr(b"Licensed under MIT or Apache-2.0"))
        .with("platform", Value::LongStr(b"Rust"))
        .with("product", Value::LongStr(b"Leveret"))
        .with("version", Value::LongStr(env!("CARGO_PKG_VERSION").as_bytes()))
}

struct Credentials<'a> {
    user: &'a [u8],
    password: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// The response of a mechanism. `None` when it is malformed or of no mechanism offered.
    fn decode(mechanism: ShortStr<'_>, response: &'a [u8]) -> Option<Self> {
        match mechanism.as_bytes() {
            b"PLAIN" => Self::plain(response),
            b"AMQPLAIN" => Self::amqplain(response),
            _ => None,
        }
    }

    /// RFC 4616, without an identity to act as.
    fn plain(response: &'a [u8]) -> Option<Self> {
        let mut parts = response.split(|&octet| octet == 0);
        let (identity, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        (identity.is_empty() && parts.next().is_none()).then_some(Self { user, password })
    }

    /// A table without its length.
    fn amqplain(response: &'a [u8]) -> Option<Self> {
        let table = Table::new(response).ok()?;
        let text = |name| match table.find(name) {
            Some(Value::LongStr(octets)) => Some(octets),
            _ => None,
        };
        Some(Self { user: text("LOGIN")?, password: text("PASSWORD")? })
    }
}

impl Connection {
    pub(super) fn login(&mut self, mechanism: ShortStr<'_>, response: &[u8]) -> Result<(), Failure> {
        let Some(credentials) = Credentials::decode(mechanism, response) else {
            return Err(Failure::SilentThenDrop(
                "the login was malformed or of a mechanism that was not offered",
            ));
        };
        match self.check_login(&credentials) {
            Ok(account) => {
                self.user = Some(account.user.name.to_string());
                self.account = Some(account);
                self.session.accept_login(self.output.buffer());
                Ok(())
            }
            Err(reason) => {
                let user = String::from_utf8_lossy(credentials.user).into_owned();
                tracing::warn!(connection = %self.peer.name, user, reason, "login refused");
                self.refuse_login(mechanism)
            }
        }
    }

    fn check_login(&self, credentials: &Credentials<'_>) -> Result<Arc<Account>, &'static str> {
        let named = str::from_utf8(credentials.user).ok().and_then(|name| self.engine.account(name));
        let Some(account) = named else { return Err("no such user") };
        let user = &account.user;
        if !user.has_password(credentials.password) {
            return Err("wrong password");
        }
        if user.loopback_only && !self.peer.is_loopback {
            return Err("this user can only log in from this machine; `--user` adds one for others");
        }
        Ok(account)
    }

    fn refuse_login(&self, mechanism: ShortStr<'_>) -> Result<(), Failure> {
        if !self.session.capabilities().authentication_failure_close {
            return Err(Failure::SilentThenDrop("the login failed"));
        }
        let refusal = Refusal::LoginRefused { mechanism: mechanism.to_string() };
        Err(Failure::Refused { channel: 0, ids: (0, 0), refusal })
    }

    pub(super) fn open_vhost(&mut self, name: ShortStr<'_>) -> Result<(), Failure> {
        self.try_open_vhost(name).map_err(|refusal| Failure::Refused {
            channel: 0,
            ids: OPEN_IDS,
            refusal,
        })?;
        self.session.accept_open(self.output.buffer());
        self.opened();
        Ok(())
    }

    fn try_open_vhost(&mut self, name: ShortStr<'_>) -> Result<(), Refusal> {
        let vhost = name.to_str().and_then(|name| self.engine.vhost(name));
        let vhost = vhost.ok_or_else(|| Refusal::NoVhost(name.to_string()))?;
        let account = self.account.as_ref().expect("a virtual host is opened after the login");
        let places = self.admit(&vhost, account)?;
        let Some(grants) = Grants::of(&account.user, &vhost) else {
            let (vhost, user) = (vhost.name.to_string(), account.user.name.to_string());
            return Err(Refusal::VhostRefused { vhost, user });
        };
        self.grants = Some(Box::new(grants));
        self.places = Some(places);
        self.vhost = Some(vhost);
        Ok(())
    }
}
