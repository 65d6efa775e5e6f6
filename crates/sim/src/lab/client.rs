//! A plain client: it opens its connection, says what it is told to say, and reads.
//!
//! What it reads and says on its channels is its user's business. Invariant: what it gives to its user
//! are whole methods with their contents, however the octets came.

use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TableBuf, Value,
    method::{LongStr, basic, connection},
    write_body_frames, write_frame,
};

use crate::{
    Checked,
    frames::{Said, Speech, whole_octets},
};

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    /// It asked for the end.
    Closing,
    /// It reads and says nothing more.
    Over,
}

/// A client at the far end of a line.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u32,
    /// What it has said.
    pub(crate) out: Vec<u8>,
    unread: Vec<u8>,
    phase: Phase,
    frame_octets_max: u32,
}

impl Client {
    pub(super) fn new(number: u32, frame_octets_max: u32) -> Self {
        let out = b"AMQP\x00\x00\x09\x01".to_vec();
        Self { number, out, unread: Vec::new(), phase: Phase::Opening, frame_octets_max }
    }

    /// Whether its connection is open, so that it may use channels.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Says a method.
    pub(crate) fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        method.into().write_frame(channel, &mut self.out);
    }

    /// Publishes, in as many frames as it takes.
    pub(crate) fn publish(
        &mut self,
        channel: u16,
        publish: basic::Publish<'_>,
        properties: &Properties<'_>,
        body: &[u8],
    ) {
        self.say(channel, publish);
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        let (class_id, body_octets) = (basic::CLASS_ID, body.len() as u64);
        let header = ContentHeader { class_id, body_octets, property_octets: &property_octets };
        write_frame(FrameKind::Header, channel, &mut self.out, |out| header.encode(out));
        write_body_frames(channel, body, self.frame_octets_max, &mut self.out);
    }

    /// Asks for the end of its connection.
    pub(crate) fn close(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
            self.say(0, connection::Close { reply_code: 200, ..Default::default() });
        }
    }

    /// Reads octets that came, opens and closes its connection as the protocol wants it, and returns
    /// what is whole.
    pub(super) fn read(&mut self, octets: &[u8]) -> Checked<Vec<u8>> {
        self.unread.extend_from_slice(octets);
        let rest = self.unread.split_off(whole_octets(&self.unread)?);
        let whole = std::mem::replace(&mut self.unread, rest);
        let mut speech = Speech::new(&whole, self.frame_octets_max);
        while let Some(said) = speech.next()? {
            if let Said::Method(0, method) = said {
                self.react(&method);
            }
        }
        Ok(whole)
    }

    fn react(&mut self, method: &Method<'_>) {
        match method {
            Method::ConnectionStart(_) => self.log_in(),
            Method::ConnectionTune(tune) => {
                let connection::Tune { channel_max, .. } = *tune;
                let (frame_max, heartbeat_seconds) = (self.frame_octets_max, 0);
                self.say(0, connection::TuneOk { channel_max, frame_max, heartbeat_seconds });
                self.say(0, connection::Open { virtual_host: "/".into(), ..Default::default() });
            }
            Method::ConnectionOpenOk(_) => self.phase = Phase::Open,
            Method::ConnectionCloseOk(_) => self.phase = Phase::Over,
            Method::ConnectionClose(_) => {
                self.say(0, connection::CloseOk {});
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    fn log_in(&mut self) {
        let mut capabilities = TableBuf::new();
        for name in ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"] {
            capabilities.push(name, Value::Bool(true));
        }
        let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
        let client_properties = properties.as_table();
        let (mechanism, locale, response) = ("PLAIN".into(), "en_US".into(), LongStr(b"\0guest\0guest"));
        self.say(0, connection::StartOk { client_properties, mechanism, response, locale });
    }
}
