//! What a client does about what it reads.

use leveret_wire::{
    FRAME_OVERHEAD_OCTETS, FrameKind, Method, ReplyCode, ShortStr, TableBuf, Value, decode_frame,
    method::{LongStr, channel, connection},
};

use super::{Client, Manners, State};

const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
const OTHER_HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";

impl Client {
    pub(super) fn greet(&mut self) {
        match self.manners {
            Manners::Mute => {}
            Manners::WrongProtocol => self.out.extend_from_slice(OTHER_HEADER),
            _ => self.out.extend_from_slice(HEADER),
        }
    }

    /// Reads octets that came, and does what the protocol wants it to do.
    pub fn read(&mut self, octets: &[u8]) {
        self.unread.extend_from_slice(octets);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        while let Ok(Some((frame, taken))) = decode_frame(rest, 1 << 20) {
            if frame.kind == FrameKind::Method
                && let Ok(method) = Method::decode(frame.payload)
            {
                self.react(frame.channel, method);
            }
            rest = &rest[taken..];
        }
        self.unread = rest.to_vec();
    }

    fn react(&mut self, channel: u16, method: Method<'_>) {
        if self.state == State::Over {
            return;
        }
        match method {
            Method::ConnectionStart(_) => self.log_in(),
            Method::ConnectionTune(tune) => self.tune(&tune),
            Method::ConnectionOpenOk(_) => self.state = State::Running,
            Method::ConnectionCloseOk(_) => self.state = State::Over,
            Method::ConnectionClose(_) => {
                self.say(0, connection::CloseOk {});
                self.state = State::Over;
            }
            Method::ConnectionBlocked(_) => self.is_blocked = true,
            Method::ConnectionUnblocked(_) => self.is_blocked = false,
            Method::ChannelClose(close) => {
                if close.reply_code == ReplyCode::NotFound.code() {
                    self.known_queues.clear();
                    self.known_exchanges.clear();
                }
                self.channels.remove(&channel);
                self.say(channel, channel::CloseOk {});
            }
            Method::ChannelCloseOk(_) => drop(self.channels.remove(&channel)),
            _ => self.take(channel, method),
        }
    }

    /// Something for a channel that may be gone by now.
    fn take(&mut self, number: u16, method: Method<'_>) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        match method {
            Method::BasicDeliver(deliver) => {
                let no_ack = channel.consumers.get(deliver.consumer_tag.as_bytes()).copied();
                if no_ack == Some(false) {
                    channel.unacked.insert(deliver.delivery_tag);
                }
            }
            Method::BasicGetOk(ok) if !channel.gets.is_empty() && !channel.gets.remove(0) => {
                channel.unacked.insert(ok.delivery_tag);
            }
            Method::BasicGetEmpty(_) if !channel.gets.is_empty() => drop(channel.gets.remove(0)),
            Method::BasicCancel(cancel) => drop(channel.consumers.remove(cancel.consumer_tag.as_bytes())),
            Method::QueueDeclareOk(_) => channel.has_last_queue = true,
            _ => {}
        }
    }

    fn log_in(&mut self) {
        if self.manners == Manners::ClosesEarly {
            self.state = State::Closing;
            return self.say(0, connection::Close { reply_code: 200, ..Default::default() });
        }
        let mut capabilities = TableBuf::new();
        for (name, has) in [
            ("consumer_cancel_notify", self.told_of_cancels),
            ("connection.blocked", self.told_of_blocks),
            ("authentication_failure_close", self.told_of_logins),
        ] {
            capabilities.push(name, Value::Bool(has));
        }
        let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
        let response: &[u8] = match self.manners {
            Manners::WrongPassword => b"\0guest\0wrong",
            Manners::Malformed => b"guest guest",
            _ => b"\0guest\0guest",
        };
        let (mechanism, locale) = (ShortStr::from("PLAIN"), ShortStr::from("en_US"));
        let client_properties = properties.as_table();
        let response = LongStr(response);
        self.say(0, connection::StartOk { client_properties, mechanism, response, locale });
    }

    fn tune(&mut self, tune: &connection::Tune) {
        let wrong = self.manners == Manners::WrongLimits;
        self.say(
            0,
            connection::TuneOk {
                channel_max: if wrong { 0 } else { tune.channel_max },
                frame_max: self.frame_octets_max.min(tune.frame_max),
                heartbeat_seconds: self.heartbeat_seconds,
            },
        );
        let virtual_host = if self.manners == Manners::WrongVhost { "nowhere" } else { "/" };
        self.say(0, connection::Open { virtual_host: virtual_host.into(), ..Default::default() });
    }

    /// Octets of a body that fit into one frame.
    pub(super) const fn piece_octets_max(&self) -> usize {
        self.frame_octets_max as usize - FRAME_OVERHEAD_OCTETS
    }
}
