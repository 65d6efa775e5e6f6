//! Handshakes that a script makes on connections of their own.
//!
//! Knows the order of a handshake; not which one a broker takes.
//! Invariant: the socket is closed when this returns.

use std::net::SocketAddr;

use anyhow::Result;
use leveret_wire::{
    FrameKind, Method, ShortStr, TableBuf, Value,
    method::{LongStr, channel, connection},
};

use super::{
    encode::from_hex,
    event::{Event, Teller},
    names::Names,
    operation::LogIn,
    wire::{Incoming, Wire},
};

/// Logs in as far as the broker lets it, and tells what the broker said.
pub(super) fn log_in(address: SocketAddr, login: &LogIn, names: &mut Names) -> Result<Vec<(u16, Event)>> {
    let mut attempt = Attempt { wire: Wire::connect(address)?, names, heard: Vec::new() };
    attempt.run(login);
    Ok(attempt.heard)
}

struct Attempt<'a> {
    wire: Wire,
    names: &'a mut Names,
    heard: Vec<(u16, Event)>,
}

impl Attempt<'_> {
    fn run(&mut self, login: &LogIn) {
        self.wire.send(&from_hex(&login.header));
        if !self.hears("ConnectionStart") {
            return;
        }
        self.start(login);
        if !self.hears("ConnectionTune") {
            return;
        }
        let LogIn { channel_max, frame_max, .. } = *login;
        self.send(0, connection::TuneOk { channel_max, frame_max, heartbeat_seconds: 0 }.into());
        let host = self.names.octets_of(&login.virtual_host);
        let virtual_host = ShortStr::new(&host).unwrap_or_default();
        self.send(0, connection::Open { virtual_host, ..Default::default() }.into());
        if !self.hears("ConnectionOpenOk") {
            return;
        }
        for id in &login.channels {
            self.send(*id, channel::Open::default().into());
            if !self.hears("ChannelOpenOk") {
                return;
            }
        }
        self.send(0, connection::Close { reply_code: 200, ..Default::default() }.into());
        self.hears("nothing more");
    }

    fn start(&mut self, login: &LogIn) {
        let capabilities =
            TableBuf::new().with("authentication_failure_close", Value::Bool(login.failure_close));
        let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
        let start = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: ShortStr::truncated(&login.mechanism),
            response: LongStr(&from_hex(&login.response)),
            locale: "en_US".into(),
        };
        self.send(0, start.into());
    }

    fn send(&mut self, channel: u16, method: Method<'_>) {
        let mut octets = Vec::new();
        method.write_frame(channel, &mut octets);
        self.wire.send(&octets);
    }

    /// Whether the broker says that next; if not, all that it says is heard to its end.
    fn hears(&mut self, wanted: &'static str) -> bool {
        loop {
            let (channel, event) = match self.wire.next() {
                Incoming::Frame(FrameKind::Heartbeat, ..) => continue,
                Incoming::Frame(_, channel, payload) => (channel, self.told(channel, &payload)),
                Incoming::NoFrame(octets) => {
                    (0, Event::plain("NoFrame").with("octets", octets.escape_ascii().to_string()))
                }
                Incoming::End => (0, Event::plain("EndOfStream")),
                Incoming::Silence => (0, Event::plain("Silence")),
            };
            let name = event.name;
            self.heard.push((channel, event));
            if name == wanted {
                return true;
            }
            if matches!(name, "ConnectionCloseOk" | "NoFrame" | "EndOfStream" | "Silence") {
                return false;
            }
        }
    }

    fn told(&mut self, channel: u16, payload: &[u8]) -> Event {
        match Method::decode(payload) {
            Ok(method) => {
                if let Method::ConnectionClose(_) = method {
                    self.send(0, connection::CloseOk {}.into());
                }
                Teller { names: self.names }.event(&method, None)
            }
            Err(error) => Event::plain("BrokenMethod").with("text", format!("{error} on {channel}")),
        }
    }
}
