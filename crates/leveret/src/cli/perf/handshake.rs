//! From the protocol header to `connection.open-ok`, as answers to what the broker says.
//!
//! Knows login, virtual host and limits; octets come and go elsewhere. Invariant: nothing is sent that
//! the broker did not ask for.

use leveret_wire::{
    Method, Table, TableBuf, Value,
    method::{LongStr, connection},
};

use super::fault::Fault;

/// The largest frame that is taken, so that one always fits into the buffer that is read into.
pub(super) const FRAME_OCTETS_MAX: u32 = 128 * 1024;

/// Who logs in, where, and with which wishes.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) virtual_host: String,
    /// Seconds between signs of life; `None` takes what the broker suggests.
    pub(super) heartbeat_seconds: Option<u16>,
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tuning {
    pub(super) frame_max: u32,
    /// 0 is no limit.
    pub(super) channel_max: u16,
    pub(super) heartbeat_seconds: u16,
}

/// How far a connection has come.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    /// Product and version as the broker tells them.
    pub(super) product: String,
    pub(super) version: String,
    pub(super) tuning: Tuning,
}

impl Handshake {
    /// Answers a method by appending to `out`; whether the connection is now open.
    pub(super) fn answer(
        &mut self,
        login: &Login,
        method: &Method<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Fault> {
        match method {
            Method::ConnectionStart(start) => {
                self.product = text_of(start.server_properties, "product");
                self.version = text_of(start.server_properties, "version");
                start_ok(login, start, out)?;
            }
            Method::ConnectionTune(tune) => {
                self.tuning = agree(tune, login.heartbeat_seconds);
                let Tuning { frame_max, channel_max, heartbeat_seconds } = self.tuning;
                let tune_ok = connection::TuneOk { channel_max, frame_max, heartbeat_seconds };
                Method::from(tune_ok).write_frame(0, out);
                let virtual_host = login.virtual_host.as_str().into();
                let open = connection::Open { virtual_host, ..connection::Open::default() };
                Method::from(open).write_frame(0, out);
            }
            Method::ConnectionOpenOk(_) => return Ok(true),
            Method::ConnectionClose(close) => return Err(Fault::closed_connection(close)),
            other => return Err(Fault::Nonsense(format!("{} in the handshake", other.name()))),
        }
        Ok(false)
    }
}

fn start_ok(login: &Login, start: &connection::Start<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    if !start.mechanisms.0.split(|octet| *octet == b' ').any(|mechanism| mechanism == b"PLAIN") {
        return Err(Fault::Unsuitable(
            "the broker has no login by user name and password (PLAIN)".to_owned(),
        ));
    }
    let capabilities = TableBuf::new()
        .with("publisher_confirms", Value::Bool(true))
        .with("basic.nack", Value::Bool(true))
        .with("consumer_cancel_notify", Value::Bool(true))
        .with("connection.blocked", Value::Bool(true))
        .with("authentication_failure_close", Value::Bool(true));
    let properties = TableBuf::new()
        .with("product", Value::LongStr(b"leveret perf"))
        .with("version", Value::LongStr(env!("CARGO_PKG_VERSION").as_bytes()))
        .with("capabilities", Value::Table(capabilities.as_table()));
    let response = format!("\0{}\0{}", login.user, login.password);
    let start_ok = connection::StartOk {
        client_properties: properties.as_table(),
        mechanism: "PLAIN".into(),
        response: LongStr(response.as_bytes()),
        locale: "en_US".into(),
    };
    Method::from(start_ok).write_frame(0, out);
    Ok(())
}

fn agree(tune: &connection::Tune, heartbeat_seconds: Option<u16>) -> Tuning {
    let frame_max = if tune.frame_max == 0 { FRAME_OCTETS_MAX } else { tune.frame_max.min(FRAME_OCTETS_MAX) };
    Tuning {
        frame_max,
        channel_max: tune.channel_max,
        heartbeat_seconds: heartbeat_seconds.unwrap_or(tune.heartbeat_seconds),
    }
}

fn text_of(properties: Table<'_>, name: &str) -> String {
    properties.find(name).and_then(Value::as_str).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(offered: (u32, u16), wish: Option<u16>, agreed: (u32, u16)) {
        let tune = connection::Tune { channel_max: 7, frame_max: offered.0, heartbeat_seconds: offered.1 };
        let wanted = Tuning { frame_max: agreed.0, channel_max: 7, heartbeat_seconds: agreed.1 };
        assert_eq!(agree(&tune, wish), wanted);
    }

    #[test]
    fn limits_are_taken_as_offered_but_for_frames_too_large_to_read() {
        check((4096, 60), None, (4096, 60));
        check((0, 60), Some(5), (FRAME_OCTETS_MAX, 5));
        check((1 << 20, 60), Some(0), (FRAME_OCTETS_MAX, 0));
    }

    #[test]
    fn a_broker_without_plain_login_is_told_apart() {
        let login = Login {
            user: "u".into(),
            password: "p".into(),
            virtual_host: "/".into(),
            heartbeat_seconds: None,
        };
        let start = |mechanisms| {
            Method::from(connection::Start {
                mechanisms: LongStr(mechanisms),
                ..connection::Start::default()
            })
        };
        let mut out = Vec::new();
        let refused = Handshake::default().answer(&login, &start(b"EXTERNAL PLAINER"), &mut out);
        assert!(matches!(refused, Err(Fault::Unsuitable(_))) && out.is_empty(), "{refused:?}");
        assert_eq!(Handshake::default().answer(&login, &start(b"AMQPLAIN PLAIN"), &mut out), Ok(false));
        assert!(out.windows(4).any(|octets| octets == b"\0u\0p"));
    }
}
