//! A bare AMQP 0-9-1 client over a blocking socket, so that a load costs the broker and not the client.
//!
//! Built on the codec alone; knows nothing of what is sent over it.
//! Invariant: a read that takes longer than a minute is an error, so that no run hangs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use leveret_wire::method::{LongStr, basic, channel, connection};
use leveret_wire::{
    ContentHeader, Frame, FrameKind, Method, ProtocolHeader, Table, Value, decode_frame, write_body_frames,
    write_frame,
};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(60);
const INPUT_OCTETS: usize = 256 * 1024;

/// The channel that everything is done on.
pub(crate) const CHANNEL: u16 = 1;

/// No properties: an empty list of flags.
const NO_PROPERTIES: [u8; 2] = [0, 0];

/// An open connection, with the channel open once that was asked for.
pub(crate) struct Client {
    stream: TcpStream,
    /// Octets read, of which those in `start..end` were not taken yet.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// What the next flush sends.
    output: Vec<u8>,
    frame_max: u32,
    server: String,
}

impl Client {
    /// Connects as guest and shakes hands, until `connection.open-ok`.
    pub(crate) fn open(port: u16) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let input = vec![0; INPUT_OCTETS];
        let mut client = Self {
            stream,
            input,
            start: 0,
            end: 0,
            output: ProtocolHeader::SUPPORTED.to_vec(),
            frame_max: 0,
            server: String::new(),
        };
        client.shake_hands().context("the handshake fails")?;
        Ok(client)
    }

    fn shake_hands(&mut self) -> Result<()> {
        self.server = match self.answer()? {
            Method::ConnectionStart(start) => server_name(start.server_properties),
            other => bail!("connection.start was expected, and {} came", other.name()),
        };
        let login = LongStr(b"\0guest\0guest");
        let start_ok = connection::StartOk {
            mechanism: "PLAIN".into(),
            response: login,
            locale: "en_US".into(),
            client_properties: Table::EMPTY,
        };
        let Method::ConnectionTune(tune) = self.call(0, start_ok)? else {
            bail!("connection.tune was expected")
        };
        self.frame_max = tune.frame_max;
        self.say(0, connection::TuneOk { heartbeat_seconds: 0, ..tune_ok(tune) });
        let open = connection::Open { virtual_host: "/".into(), ..connection::Open::default() };
        let Method::ConnectionOpenOk(_) = self.call(0, open)? else {
            bail!("connection.open-ok was expected")
        };
        Ok(())
    }

    /// Product and version as the broker tells them.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn open_channel(&mut self) -> Result<()> {
        match self.call(CHANNEL, channel::Open::default())? {
            Method::ChannelOpenOk(_) => Ok(()),
            other => bail!("channel.open-ok was expected, and {} came", other.name()),
        }
    }

    /// Says goodbye and waits for the answer; what else comes before it is passed over.
    pub(crate) fn close(mut self) -> Result<()> {
        self.say(
            0,
            connection::Close { reply_code: 200, reply_text: "bye".into(), ..connection::Close::default() },
        );
        self.flush()?;
        loop {
            let frame = self.frame().context("the broker does not confirm the close")?;
            if frame.kind == FrameKind::Method && frame.payload.starts_with(&[0, 10, 0, 51]) {
                return Ok(());
            }
        }
    }

    /// Sends a method and gives the one that answers it.
    pub(crate) fn call<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) -> Result<Method<'_>> {
        self.say(channel, method);
        self.answer()
    }

    /// Flushes, and gives the next method.
    pub(crate) fn answer(&mut self) -> Result<Method<'_>> {
        self.flush()?;
        let frame = self.frame()?;
        if frame.kind != FrameKind::Method {
            bail!("a method was expected, and a frame of type {:?} came", frame.kind);
        }
        method_of(frame)
    }

    /// Puts a method into the output.
    pub(crate) fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        method.into().write_frame(channel, &mut self.output);
    }

    /// Puts frames that were made elsewhere into the output.
    pub(crate) fn say_octets(&mut self, frames: &[u8]) {
        self.output.extend_from_slice(frames);
    }

    /// Puts a message for the queue of that name into the output.
    pub(crate) fn publish(&mut self, queue: &str, body: &[u8]) {
        self.say(CHANNEL, basic::Publish { routing_key: queue.into(), ..basic::Publish::default() });
        let header = ContentHeader {
            class_id: basic::CLASS_ID,
            body_octets: body.len() as u64,
            property_octets: &NO_PROPERTIES,
        };
        write_frame(FrameKind::Header, CHANNEL, &mut self.output, |out| header.encode(out));
        write_body_frames(CHANNEL, body, self.frame_max, &mut self.output);
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.output).context("the broker takes no more")?;
        self.output.clear();
        Ok(())
    }

    /// Waits for the next frame.
    pub(crate) fn frame(&mut self) -> Result<Frame<'_>> {
        let payload_octets_max = u32::try_from(INPUT_OCTETS).expect("a small constant");
        let octets = loop {
            match decode_frame(&self.input[self.start..self.end], payload_octets_max)? {
                Some((_, octets)) => break octets,
                None => self.fill()?,
            }
        };
        let from = self.start;
        self.start += octets;
        let (frame, _) = decode_frame(&self.input[from..from + octets], payload_octets_max)?
            .expect("it was whole a moment ago");
        Ok(frame)
    }

    fn fill(&mut self) -> Result<()> {
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.stream.read(&mut self.input[self.end..]).context("the broker is silent")? {
            0 => bail!("the broker closed the socket"),
            octets => self.end += octets,
        }
        Ok(())
    }
}

/// The method in a frame; a close by the broker is an error.
pub(crate) fn method_of(frame: Frame<'_>) -> Result<Method<'_>> {
    match Method::decode(frame.payload)? {
        Method::ConnectionClose(close) => bail!("the broker closes the connection: {}", close.reply_text),
        Method::ChannelClose(close) => bail!("the broker closes the channel: {}", close.reply_text),
        method => Ok(method),
    }
}

/// Takes what is offered.
fn tune_ok(tune: connection::Tune) -> connection::TuneOk {
    let connection::Tune { channel_max, frame_max, heartbeat_seconds } = tune;
    connection::TuneOk { channel_max, frame_max, heartbeat_seconds }
}

fn server_name(properties: Table<'_>) -> String {
    let text = |name| match properties.find(name) {
        Some(Value::LongStr(octets)) => String::from_utf8_lossy(octets).into_owned(),
        _ => "?".to_owned(),
    };
    format!("{} {}", text("product"), text("version"))
}
