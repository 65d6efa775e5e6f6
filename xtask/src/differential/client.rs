//! A connection of a script to one broker.
//!
//! Knows how a client logs in, confirms closes and reaches a point after which nothing is under way
//! on a channel; not what a script is about.
//! Invariant: what the broker says is kept in the order in which it came, but for the answers to
//! questions that only ask whether it is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Result, bail};
use leveret_wire::{
    ContentHeader, FrameKind, Method, ProtocolHeader, TableBuf, Value,
    method::{LongStr, channel, connection},
};

use super::{
    event::{Content, Event, Teller},
    names::Names,
    operation::Setup,
    wire::{Incoming, Wire},
};

/// A method whose content is not whole yet.
struct Partial {
    payload: Vec<u8>,
    content: Content,
    body_octets: u64,
}

pub(super) struct Client {
    wire: Wire,
    pub(super) frame_max: u32,
    pub(super) is_open: bool,
    pub(super) channels: BTreeSet<u16>,
    /// How many answers are due on each channel before it is quiet.
    due: BTreeMap<u16, usize>,
    /// Answers to flows of the script, which come before those to ours.
    flows: BTreeMap<u16, usize>,
    partial: BTreeMap<u16, Partial>,
    pub(super) heard: Vec<(u16, Event)>,
}

impl Client {
    pub(super) fn open(address: SocketAddr, setup: &Setup) -> Result<Self> {
        let mut client = Self {
            wire: Wire::connect(address)?,
            frame_max: setup.frame_max,
            is_open: true,
            channels: BTreeSet::new(),
            due: BTreeMap::new(),
            flows: BTreeMap::new(),
            partial: BTreeMap::new(),
            heard: Vec::new(),
        };
        client.wire.send(&ProtocolHeader::SUPPORTED);
        client.expect("ConnectionStart")?;
        client.start(setup);
        client.expect("ConnectionTune")?;
        let tune = connection::TuneOk { channel_max: 2047, frame_max: setup.frame_max, heartbeat_seconds: 0 };
        client.send_method(0, tune.into());
        client.send_method(0, connection::Open { virtual_host: "/".into(), ..Default::default() }.into());
        client.expect("ConnectionOpenOk")?;
        Ok(client)
    }

    fn start(&mut self, setup: &Setup) {
        let capabilities = TableBuf::new()
            .with("consumer_cancel_notify", Value::Bool(setup.cancel_notify))
            .with("authentication_failure_close", Value::Bool(true));
        let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
        let start = connection::StartOk {
            client_properties: properties.as_table(),
            mechanism: "PLAIN".into(),
            response: LongStr(b"\0guest\0guest"),
            locale: "en_US".into(),
        };
        self.send_method(0, start.into());
    }

    fn expect(&mut self, wanted: &str) -> Result<()> {
        match self.wire.next() {
            Incoming::Frame(FrameKind::Method, 0, payload) => match Method::decode(&payload) {
                Ok(method) if method.name() == wanted => Ok(()),
                other => bail!("the broker said {other:?} and not {wanted}"),
            },
            _ => bail!("the broker did not say {wanted}"),
        }
    }

    pub(super) fn send(&mut self, octets: &[u8]) {
        self.wire.send(octets);
    }

    pub(super) fn send_method(&mut self, channel: u16, method: Method<'_>) {
        let mut octets = Vec::new();
        method.write_frame(channel, &mut octets);
        self.wire.send(&octets);
    }

    /// Opens a channel, if it is not open.
    pub(super) fn ensure(&mut self, channel: u16, names: &mut Names) {
        if self.is_open && !self.channels.contains(&channel) {
            self.send_method(channel, channel::Open::default().into());
            self.await_answer(channel);
            self.settle(names);
            self.heard.retain(|(_, event)| event.name != "ChannelOpenOk");
        }
    }

    /// An answer of the broker's on that channel is due: an open-ok, a close-ok, an end.
    pub(super) fn await_answer(&mut self, channel: u16) {
        *self.due.entry(channel).or_default() += 1;
    }

    /// A flow of the script's is on its way.
    pub(super) fn await_flow(&mut self, channel: u16) {
        *self.flows.entry(channel).or_default() += 1;
    }

    /// Asks for a sign that everything before it is done; on an open channel.
    pub(super) fn ask_quiet(&mut self, channel: u16) {
        if self.is_open {
            self.send_method(channel, channel::Flow { active: true }.into());
            self.await_answer(channel);
        }
    }

    /// Asks on all channels.
    pub(super) fn ask_all_quiet(&mut self) {
        for channel in self.channels.clone() {
            self.ask_quiet(channel);
        }
    }

    /// Reads until nothing is due.
    pub(super) fn settle(&mut self, names: &mut Names) {
        while self.is_open && !self.due.is_empty() {
            self.take_next(names);
        }
    }

    fn take_next(&mut self, names: &mut Names) {
        match self.wire.next() {
            Incoming::Frame(FrameKind::Heartbeat, ..) => {}
            Incoming::Frame(FrameKind::Method, channel, payload) => self.take_method(channel, payload, names),
            Incoming::Frame(kind, channel, payload) => self.take_content(kind, channel, &payload, names),
            Incoming::NoFrame(octets) => {
                let text = octets.escape_ascii().to_string();
                self.end(Event::plain("NoFrame").with("octets", text));
            }
            Incoming::End => self.end(Event::plain("EndOfStream")),
            Incoming::Silence => self.end(Event::plain("Silence")),
        }
    }

    fn end(&mut self, event: Event) {
        self.heard.push((0, event));
        self.ended();
    }

    fn ended(&mut self) {
        self.is_open = false;
        self.channels.clear();
        self.due.clear();
        self.flows.clear();
        self.partial.clear();
    }

    fn take_method(&mut self, channel: u16, payload: Vec<u8>, names: &mut Names) {
        let method = match Method::decode(&payload) {
            Ok(method) => method,
            Err(error) => return self.take_broken_method(channel, &payload, &error.to_string(), names),
        };
        if method.has_content() {
            let content = Content { header: Vec::new(), body: Vec::new() };
            self.partial.insert(channel, Partial { payload, content, body_octets: 0 });
            return;
        }
        if self.is_answer(channel, &method) {
            return;
        }
        let event = Teller { names }.event(&method, None);
        self.heard.push((channel, event));
        self.react(channel, &method);
    }

    /// A close may carry a text that was cut within a character.
    fn take_broken_method(&mut self, channel: u16, payload: &[u8], error: &str, names: &mut Names) {
        let Some((event, method)) = Teller { names }.close_of_no_text(payload) else {
            let text = format!("{error}: {}", payload.escape_ascii());
            return self.end(Event::plain("BrokenMethod").with("text", text));
        };
        self.heard.push((channel, event));
        self.react(channel, &method);
    }

    /// Whether it answers a question of ours and says nothing else.
    fn is_answer(&mut self, channel: u16, method: &Method<'_>) -> bool {
        let Method::ChannelFlowOk(_) = method else { return false };
        if let Some(flows) = self.flows.get_mut(&channel).filter(|flows| **flows > 0) {
            *flows -= 1;
            return false;
        }
        self.answered(channel)
    }

    fn answered(&mut self, channel: u16) -> bool {
        let Some(due) = self.due.get_mut(&channel) else { return false };
        *due -= 1;
        if *due == 0 {
            self.due.remove(&channel);
        }
        true
    }

    fn react(&mut self, channel: u16, method: &Method<'_>) {
        match method {
            // Whoever opens a channel that is open already is told otherwise.
            Method::ChannelOpenOk(_) if self.channels.insert(channel) => {
                self.answered(channel);
            }
            Method::TxCommitOk(_) => {
                self.answered(channel);
            }
            Method::ChannelClose(_) => {
                self.send_method(channel, channel::CloseOk {}.into());
                self.forget(channel);
            }
            Method::ChannelCloseOk(_) => self.forget(channel),
            // RabbitMQ leaves it to the client to close the socket then.
            Method::ConnectionCloseOk(_) => self.ended(),
            Method::ConnectionClose(_) => {
                self.send_method(0, connection::CloseOk {}.into());
                // What is read now ends with the stream, and nothing else is due.
                self.due.insert(0, 1);
            }
            _ => {}
        }
    }

    fn forget(&mut self, channel: u16) {
        self.channels.remove(&channel);
        self.due.remove(&channel);
        self.flows.remove(&channel);
        self.partial.remove(&channel);
    }

    fn take_content(&mut self, kind: FrameKind, channel: u16, payload: &[u8], names: &mut Names) {
        let Some(partial) = self.partial.get_mut(&channel) else {
            return self.end(Event::plain("StrayContent").with("channel", channel.to_string()));
        };
        match kind {
            FrameKind::Header => {
                partial.body_octets = ContentHeader::decode(payload).map_or(0, |header| header.body_octets);
                partial.content.header = payload.to_vec();
            }
            _ => partial.content.body.extend_from_slice(payload),
        }
        if payload.len() + 8 > self.frame_max as usize {
            return self.end(Event::plain("FrameTooLarge").with("octets", payload.len().to_string()));
        }
        if partial.content.body.len() as u64 >= partial.body_octets {
            self.finish(channel, names);
        }
    }

    fn finish(&mut self, channel: u16, names: &mut Names) {
        let Some(partial) = self.partial.remove(&channel) else { return };
        let Ok(method) = Method::decode(&partial.payload) else { return };
        let event = Teller { names }.event(&method, Some(&partial.content));
        self.heard.push((channel, event));
    }

    /// Says goodbye and waits until the broker has heard it.
    pub(super) fn close(mut self, names: &mut Names) {
        if self.is_open {
            let close = connection::Close { reply_code: 200, ..Default::default() };
            self.send_method(0, close.into());
            self.await_answer(0);
            self.settle(names);
        }
    }
}
