//! From the protocol header to an open virtual host (section 2.2.4 of the specification).
//!
//! What RabbitMQ answers with silence and a dropped socket after three seconds is answered so
//! here too: an unknown mechanism, a malformed response, a method out of turn, refused limits.

use leveret_wire::{
    FRAME_MIN_OCTETS, Frame, FrameKind, Method, ProtocolHeader, Table, TableBuf, Value,
    decode_protocol_header,
    method::{LongStr, connection},
};

use super::{Call, Failure, Phase, Session};

/// Mechanisms offered, in order of preference.
const MECHANISMS: &[u8] = b"PLAIN AMQPLAIN";
const LOCALES: &[u8] = b"en_US";

/// What the server offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Channels open at a time.
    pub channel_max: u16,
    /// Octets of a frame.
    pub frame_max: u32,
    /// Seconds between signs of life that the server suggests; the client decides.
    pub heartbeat_seconds: u16,
    /// Name, version and capabilities.
    pub server_properties: TableBuf,
}

/// What is agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// Channels open at a time.
    pub channel_max: u16,
    /// Octets of a frame.
    pub frame_max: u32,
    /// Seconds between signs of life; 0 is none.
    pub heartbeat_seconds: u16,
}

impl From<&Offer> for Tuned {
    fn from(offer: &Offer) -> Self {
        Self { channel_max: offer.channel_max, frame_max: offer.frame_max, heartbeat_seconds: 0 }
    }
}

/// What the client said it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCapabilities {
    /// It wants `connection.close` for a failed login, not a dropped socket.
    pub authentication_failure_close: bool,
    /// It takes `basic.cancel` from the server.
    pub consumer_cancel_notify: bool,
    /// It takes `connection.blocked` and `unblocked`.
    pub connection_blocked: bool,
}

impl ClientCapabilities {
    fn of(client_properties: Table<'_>) -> Self {
        let Some(Value::Table(capabilities)) = client_properties.find("capabilities") else {
            return Self::default();
        };
        let has = |name| capabilities.find(name) == Some(Value::Bool(true));
        Self {
            authentication_failure_close: has("authentication_failure_close"),
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
        }
    }
}

impl<D: Default, T> Session<D, T> {
    pub(super) fn protocol_header<'i>(
        &mut self,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Option<Call<'i>>)>, Failure> {
        match decode_protocol_header(input) {
            None => Ok(None),
            Some(ProtocolHeader::Amqp091) => {
                self.phase = Phase::StartOk;
                self.write_start(out);
                Ok(Some((ProtocolHeader::OCTETS, None)))
            }
            Some(ProtocolHeader::Other(octets)) => {
                out.extend_from_slice(&ProtocolHeader::SUPPORTED);
                Err(Failure::Drop(describe_header(octets).into()))
            }
        }
    }

    fn write_start(&self, out: &mut Vec<u8>) {
        Method::from(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: self.offer.server_properties.as_table(),
            mechanisms: LongStr(MECHANISMS),
            locales: LongStr(LOCALES),
        })
        .write_frame(0, out);
    }

    pub(super) fn handshake_frame<'i>(&mut self, frame: Frame<'i>) -> Result<Option<Call<'i>>, Failure> {
        if frame.kind == FrameKind::Heartbeat {
            return Ok(None);
        }
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return Err(Failure::SilentThenDrop("the peer sent a frame before the connection was open"));
        }
        let method = Method::decode(frame.payload);
        match (self.phase, method) {
            (Phase::StartOk, Ok(Method::ConnectionStartOk(start_ok))) => {
                self.capabilities = ClientCapabilities::of(start_ok.client_properties);
                self.phase = Phase::Login;
                Ok(Some(Call::Login { mechanism: start_ok.mechanism, response: start_ok.response.0 }))
            }
            (Phase::TuneOk, Ok(Method::ConnectionTuneOk(tune_ok))) => self.tune_ok(tune_ok).map(|()| None),
            (Phase::Open, Ok(Method::ConnectionOpen(open))) => {
                self.phase = Phase::Opening;
                Ok(Some(Call::Open { virtual_host: open.virtual_host }))
            }
            _ => Err(Failure::SilentThenDrop("the peer sent a method out of turn during the handshake")),
        }
    }

    fn tune_ok(&mut self, tune_ok: connection::TuneOk) -> Result<(), Failure> {
        let channels = 1..=self.offer.channel_max;
        let frames = FRAME_MIN_OCTETS..=self.offer.frame_max;
        if !channels.contains(&tune_ok.channel_max) || !frames.contains(&tune_ok.frame_max) {
            return Err(Failure::SilentThenDrop("the peer asked for limits beyond those offered"));
        }
        self.tuned = Tuned {
            channel_max: tune_ok.channel_max,
            frame_max: tune_ok.frame_max,
            heartbeat_seconds: tune_ok.heartbeat_seconds,
        };
        self.phase = Phase::Open;
        Ok(())
    }

    /// The credentials are good: limits are offered.
    pub fn accept_login(&mut self, out: &mut Vec<u8>) {
        Method::from(connection::Tune {
            channel_max: self.offer.channel_max,
            frame_max: self.offer.frame_max,
            heartbeat_seconds: self.offer.heartbeat_seconds,
        })
        .write_frame(0, out);
        self.phase = Phase::TuneOk;
    }

    /// The virtual host is there and may be used.
    pub fn accept_open(&mut self, out: &mut Vec<u8>) {
        Method::from(connection::OpenOk::default()).write_frame(0, out);
        self.phase = Phase::Running;
    }
}

fn describe_header(octets: [u8; 8]) -> String {
    match &octets {
        [b'A', b'M', b'Q', b'P', version @ ..] => {
            format!("the peer's protocol header asks for AMQP {version:?}, not 0-9-1")
        }
        [b'G', b'E', b'T', ..] | [b'P', b'O', b'S', b'T', ..] | [b'H', b'E', b'A', b'D', ..] => {
            "the peer sent an HTTP request; this is the port for AMQP clients".to_owned()
        }
        [0x16, 3, ..] => "the peer began with TLS; this port takes plain AMQP".to_owned(),
        other => format!("the peer does not speak AMQP 0-9-1: its first octets are {other:?}"),
    }
}
