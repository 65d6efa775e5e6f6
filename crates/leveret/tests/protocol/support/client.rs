//! The client: a socket, frames in and out.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use leveret_wire::{
    ContentHeader, FrameKind, Method, ProtocolHeader, TableBuf, Value, decode_frame,
    method::{LongStr, basic, channel, connection},
    write_body_frames, write_frame,
};

use super::{Message, Said, peer::Declared, said::ReceivedContent};

/// How long an answer may take. Long, because a test machine may be busy; a test that waits it out
/// has failed.
const READ_LIMIT: Duration = Duration::from_secs(20);
const READ_OCTETS: usize = 256 * 1024;
/// Octets read and not used up that are moved to the front of the buffer.
const MOVE_OCTETS_MAX: usize = 4096;

/// How to log in.
#[derive(Debug, Clone)]
pub(crate) struct Login<'a> {
    pub(crate) mechanism: &'a str,
    pub(crate) response: Vec<u8>,
    /// The client's capabilities, all of them true.
    pub(crate) capabilities: &'a [&'a str],
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_seconds: u16,
    pub(crate) virtual_host: &'a str,
}

/// Guest on the virtual host `/`, without heartbeats, knowing all that clients may know.
impl Default for Login<'_> {
    fn default() -> Self {
        Self {
            mechanism: "PLAIN",
            response: b"\0guest\0guest".to_vec(),
            capabilities: &["authentication_failure_close", "consumer_cancel_notify", "connection.blocked"],
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_seconds: 0,
            virtual_host: "/",
        }
    }
}

/// A client.
pub(crate) struct Client {
    stream: TcpStream,
    /// For one read.
    buffer: Box<[u8]>,
    input: Vec<u8>,
    /// Octets of the input that are used up.
    used: usize,
    frame_max: u32,
    /// Publishes on channel 1 that are confirmed, once it confirms them.
    confirmed: Option<u64>,
    declared: Arc<Mutex<Declared>>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, declared: Arc<Mutex<Declared>>) -> Self {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("a socket has options");
        stream.set_read_timeout(Some(READ_LIMIT)).expect("a socket has options");
        stream.set_write_timeout(Some(READ_LIMIT)).expect("a socket has options");
        let frame_max = Login::default().frame_max;
        let buffer = vec![0; READ_OCTETS].into();
        Self { stream, buffer, input: Vec::new(), used: 0, frame_max, confirmed: None, declared }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Limits how long the next answers may take.
    pub(crate) fn limit_reads(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a socket has options");
    }

    /// The whole handshake.
    pub(crate) fn log_in(&mut self, login: &Login<'_>) {
        self.greet(login);
        self.expect("ConnectionTune");
        self.tune(login);
        let virtual_host = login.virtual_host.into();
        self.send_on(0, connection::Open { virtual_host, ..connection::Open::default() });
        self.expect("ConnectionOpenOk");
    }

    /// Protocol header and credentials.
    pub(crate) fn greet(&mut self, login: &Login<'_>) {
        self.send_octets(&ProtocolHeader::SUPPORTED);
        self.expect("ConnectionStart");
        self.start_ok(login);
    }

    pub(crate) fn start_ok(&mut self, login: &Login<'_>) {
        let mut capabilities = TableBuf::new();
        for name in login.capabilities {
            capabilities.push(name, Value::Bool(true));
        }
        let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
        self.send_on(
            0,
            connection::StartOk {
                client_properties: properties.as_table(),
                mechanism: login.mechanism.into(),
                response: LongStr(&login.response),
                locale: "en_US".into(),
            },
        );
    }

    pub(crate) fn tune(&mut self, login: &Login<'_>) {
        let Login { channel_max, frame_max, heartbeat_seconds, .. } = *login;
        self.frame_max = frame_max;
        self.send_on(0, connection::TuneOk { channel_max, frame_max, heartbeat_seconds });
    }

    pub(crate) fn open(&mut self, channel: u16) {
        self.ask_on(channel, channel::Open::default(), "ChannelOpenOk");
    }

    /// Says goodbye in order.
    pub(crate) fn close(mut self) {
        let reply_text = "done".into();
        self.send_on(0, connection::Close { reply_code: 200, reply_text, ..connection::Close::default() });
        while self.next().to_string() != "ConnectionCloseOk" {}
    }

    /// Closes the socket without a word.
    pub(crate) fn vanish(self) {
        // The peer may have closed it before.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn send_octets(&mut self, octets: &[u8]) {
        self.stream.write_all(octets).expect("the broker reads");
    }

    /// Sends what the broker may not read any more, because it closes the connection.
    pub(crate) fn try_send_octets(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets);
    }

    pub(crate) fn send_frame(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        let mut out = Vec::new();
        write_frame(kind, channel, &mut out, |out| out.extend_from_slice(payload));
        self.send_octets(&out);
    }

    /// Sends a method on channel 1.
    pub(crate) fn send<'m>(&mut self, method: impl Into<Method<'m>>) {
        self.send_on(1, method);
    }

    pub(crate) fn send_on<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let method = method.into();
        self.remember(&method);
        let mut out = Vec::new();
        method.write_frame(channel, &mut out);
        self.send_octets(&out);
    }

    pub(crate) fn publish(&mut self, message: Message<'_>) {
        let mut out = Vec::new();
        encode(&message, self.frame_max, &mut out);
        self.send_octets(&out);
    }

    /// Publishes on channel 1 and waits until the message is where it goes.
    #[track_caller]
    pub(crate) fn put(&mut self, message: Message<'_>) {
        let Some(confirmed) = self.confirmed else {
            self.confirm_select();
            return self.put(message);
        };
        self.publish(message);
        self.expect(&format!("ack {}", confirmed + 1));
        self.confirmed = Some(confirmed + 1);
    }

    /// Publishes many at once.
    pub(crate) fn publish_all<'m>(&mut self, messages: impl IntoIterator<Item = Message<'m>>) {
        let mut out = Vec::new();
        for message in messages {
            encode(&message, self.frame_max, &mut out);
        }
        self.send_octets(&out);
    }

    fn remember(&self, method: &Method<'_>) {
        let mut declared = self.declared.lock().expect("no test fails while it holds the lock");
        match method {
            Method::QueueDeclare(declare) if !declare.passive && !declare.queue.is_empty() => {
                declared.queues.push(declare.queue.as_bytes().to_vec());
            }
            Method::ExchangeDeclare(declare)
                if !declare.passive && !declare.exchange.as_bytes().starts_with(b"amq.") =>
            {
                declared.exchanges.push(declare.exchange.as_bytes().to_vec());
            }
            _ => {}
        }
    }

    /// The next thing the broker says that is no heartbeat.
    #[allow(clippy::should_implement_trait, reason = "a connection is no iterator: it blocks and panics")]
    pub(crate) fn next(&mut self) -> Said {
        loop {
            match self.next_or_heartbeat() {
                Said::Heartbeat => {}
                said => return said,
            }
        }
    }

    /// The next thing the broker says.
    pub(crate) fn next_or_heartbeat(&mut self) -> Said {
        let Some((kind, channel, payload)) = self.frame() else { return self.end_of_stream() };
        match kind {
            FrameKind::Heartbeat => Said::Heartbeat,
            FrameKind::Method => self.method(channel, payload),
            other => panic!("the broker sent a {other:?} frame without a method before it"),
        }
    }

    fn end_of_stream(&self) -> Said {
        let rest = &self.input[self.used..];
        match rest.first_chunk() {
            Some(header) => Said::ProtocolHeader(*header),
            None => Said::Dropped,
        }
    }

    fn method(&mut self, channel: u16, payload: Vec<u8>) -> Said {
        let method = Method::decode(&payload).expect("the broker's methods decode");
        // The other names were remembered when they were sent.
        if let Method::QueueDeclareOk(ok) = method
            && ok.queue.as_bytes().starts_with(b"amq.")
        {
            let queue = ok.queue.as_bytes().to_vec();
            self.declared.lock().expect("no test fails while it holds the lock").queues.push(queue);
        }
        let has_content =
            matches!(method, Method::BasicDeliver(_) | Method::BasicGetOk(_) | Method::BasicReturn(_));
        let content = has_content.then(|| self.content(channel));
        Said::Method { channel, payload, content }
    }

    fn content(&mut self, channel: u16) -> ReceivedContent {
        let header = self.frame_of(FrameKind::Header, channel);
        let body_octets = ContentHeader::decode(&header).expect("the broker's headers decode").body_octets;
        let mut body = Vec::new();
        while (body.len() as u64) < body_octets {
            let piece = self.frame_of(FrameKind::Body, channel);
            assert!(piece.len() + 8 <= self.frame_max as usize, "a frame of {} octets", piece.len() + 8);
            body.extend_from_slice(&piece);
        }
        assert_eq!(body.len() as u64, body_octets, "the body is as long as its header says");
        ReceivedContent { header, body }
    }

    fn frame_of(&mut self, kind: FrameKind, channel: u16) -> Vec<u8> {
        let (found, found_channel, payload) = self.frame().expect("content is whole");
        assert_eq!((found, found_channel), (kind, channel), "content is in one piece");
        payload
    }

    /// The next frame; `None` at the end of the stream.
    fn frame(&mut self) -> Option<(FrameKind, u16, Vec<u8>)> {
        loop {
            let rest = &self.input[self.used..];
            // A broker that does not speak AMQP 0-9-1 says so in eight octets of no frame.
            let is_header = rest.first() == Some(&b'A');
            if !is_header && let Some((frame, octets)) = decode_frame(rest, u32::MAX).expect("frames decode")
            {
                let found = (frame.kind, frame.channel, frame.payload.to_vec());
                self.used += octets;
                return Some(found);
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// Reads what the socket has. False at the end of the stream.
    fn read(&mut self) -> bool {
        if self.input.len() - self.used <= MOVE_OCTETS_MAX {
            self.input.drain(..self.used);
            self.used = 0;
        }
        let octets = match self.stream.read(&mut self.buffer) {
            Ok(octets) => octets,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the broker was to say something: {error}"),
        };
        self.input.extend_from_slice(&self.buffer[..octets]);
        octets > 0
    }

    /// The broker says that next.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &str) -> Said {
        let said = self.next();
        assert_eq!(said.to_string(), wanted);
        said
    }

    /// The broker says all that next, in that order.
    #[track_caller]
    pub(crate) fn expect_all(&mut self, wanted: &[&str]) {
        for (at, line) in wanted.iter().enumerate() {
            let said = self.next().to_string();
            assert_eq!(said, *line, "number {at} of {wanted:?}");
        }
    }

    /// The broker says all that next, in any order.
    #[track_caller]
    pub(crate) fn expect_unordered(&mut self, wanted: &[&str]) {
        let mut said: Vec<_> = wanted.iter().map(|_| self.next().to_string()).collect();
        let mut wanted = wanted.to_vec();
        said.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(said, wanted);
    }

    /// Asks on channel 1.
    #[track_caller]
    pub(crate) fn ask<'m>(&mut self, method: impl Into<Method<'m>>, wanted: &str) -> Said {
        self.ask_on(1, method, wanted)
    }

    #[track_caller]
    pub(crate) fn ask_on<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>, wanted: &str) -> Said {
        let method = method.into();
        self.send_on(channel, method);
        let said = self.next();
        assert_eq!(said.to_string(), wanted, "the answer to {method:?}");
        assert!(matches!(said, Said::Method { channel: on, .. } if on == channel || on == 0));
        said
    }

    /// The broker refuses and closes channel 1, which is opened again.
    #[track_caller]
    pub(crate) fn refused<'m>(&mut self, method: impl Into<Method<'m>>, wanted: &str) {
        self.ask(method, &format!("channel {wanted}"));
        self.reopen();
    }

    /// Confirms the broker's `channel.close` on channel 1 and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.send(channel::CloseOk {});
        self.confirmed = None;
        self.open(1);
    }

    /// Takes one answer; if it closes channel 1, opens it again.
    pub(crate) fn reopen_if_closed(&mut self) {
        if matches!(self.next().method(), Method::ChannelClose(_)) {
            self.reopen();
        }
    }

    /// Nothing was said on this connection that was not read. By two round trips, because what
    /// the broker says of its own accord may come behind the answer to the first.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        for _ in 0..2 {
            self.ask(channel::Flow { active: true }, "ChannelFlowOk true");
        }
    }

    /// What was said up to the end of two round trips, see [`Client::expect_silence`].
    pub(crate) fn drain(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        for _ in 0..2 {
            self.send(channel::Flow { active: true });
            loop {
                let next = self.next();
                if next.to_string() == "ChannelFlowOk true" {
                    break;
                }
                said.push(next);
            }
        }
        said
    }

    /// The broker has closed the connection with this; the close is confirmed, the socket goes.
    #[track_caller]
    pub(crate) fn expect_connection_close(&mut self, wanted: &str) {
        self.expect(&format!("connection {wanted}"));
        let mut out = Vec::new();
        Method::from(connection::CloseOk {}).write_frame(0, &mut out);
        self.try_send_octets(&out);
        self.expect("dropped");
    }

    /// Takes confirms for that many publishes, and returns their tags and whether they were taken.
    /// Returns of messages that come between them are left out.
    pub(crate) fn confirms(&mut self, count: usize) -> Vec<(u64, bool)> {
        let mut confirms = Confirms::after(self.confirmed.unwrap_or(0));
        while confirms.settled.len() < count {
            confirms.add(&self.next());
        }
        self.confirmed = self.confirmed.map(|before| before + count as u64);
        confirms.settled.into_iter().collect()
    }

    /// Makes channel 1 confirm publishes.
    pub(crate) fn confirm_select(&mut self) {
        self.ask(leveret_wire::method::confirm::Select { nowait: false }, "ConfirmSelectOk");
        self.confirmed.get_or_insert(0);
    }

    /// Takes the next messages of that number from a consumer and returns their bodies.
    pub(crate) fn bodies(&mut self, count: usize) -> Vec<String> {
        let bodies = (0..count).map(|_| self.next().body().to_vec());
        bodies.map(|body| String::from_utf8(body).expect("tests publish text")).collect()
    }

    /// Gets from a queue until it is empty, without acknowledgement.
    pub(crate) fn get_all(&mut self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            self.send(super::get_no_ack(queue));
            let said = self.next();
            if matches!(said.method(), Method::BasicGetEmpty(_)) {
                return bodies;
            }
            bodies.push(String::from_utf8(said.body().to_vec()).expect("tests publish text"));
        }
    }
}

/// Confirms expanded: what `multiple` covers, each tag once.
pub(crate) struct Confirms {
    pub(crate) settled: BTreeMap<u64, bool>,
    /// Up to here all is settled.
    through: u64,
}

impl Confirms {
    /// Confirms of a channel that has had those up to `through`.
    pub(crate) const fn after(through: u64) -> Self {
        Self { settled: BTreeMap::new(), through }
    }

    pub(crate) fn add(&mut self, said: &Said) {
        match said.method() {
            Method::BasicAck(ack) => self.settle(ack.delivery_tag, ack.multiple, true),
            Method::BasicNack(nack) => self.settle(nack.delivery_tag, nack.multiple, false),
            Method::BasicReturn(_) => {}
            _ => panic!("expected a confirm, the broker said: {said}"),
        }
    }

    fn settle(&mut self, tag: u64, multiple: bool, taken: bool) {
        if !multiple {
            let before = self.settled.insert(tag, taken);
            assert_eq!(before, None, "publish {tag} is confirmed once");
            return;
        }
        for tag in self.through + 1..=tag {
            self.settled.entry(tag).or_insert(taken);
        }
        self.through = tag;
    }
}

/// Appends a publish with its content.
pub(crate) fn encode(message: &Message<'_>, frame_max: u32, out: &mut Vec<u8>) {
    let Message { channel, body, .. } = *message;
    Method::from(message.publish()).write_frame(channel, out);
    let mut property_octets = Vec::new();
    message.properties.encode(&mut property_octets);
    let header = ContentHeader {
        class_id: basic::CLASS_ID,
        body_octets: body.len() as u64,
        property_octets: &property_octets,
    };
    write_frame(FrameKind::Header, channel, out, |out| header.encode(out));
    write_body_frames(channel, body, frame_max, out);
}
