//! What the broker said, as one line of text.

use std::fmt;

use leveret_wire::{ContentHeader, Method, Properties};

/// Octets of a body that are shown.
const BODY_SHOWN_OCTETS: usize = 40;

/// Content that came with a method.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ReceivedContent {
    /// The payload of the header frame.
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Something that the broker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A method, with its content if it has one.
    Method {
        channel: u16,
        payload: Vec<u8>,
        content: Option<ReceivedContent>,
    },
    Heartbeat,
    /// Eight octets in place of an answer to a protocol header.
    ProtocolHeader([u8; 8]),
    /// The broker closed the socket.
    Dropped,
}

impl Said {
    /// The method.
    pub(crate) fn method(&self) -> Method<'_> {
        match self {
            Self::Method { payload, .. } => Method::decode(payload).expect("the broker's methods decode"),
            other => panic!("expected a method, the broker said: {other}"),
        }
    }

    /// The method's octets.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::Method { payload, .. } => payload,
            other => panic!("expected a method, the broker said: {other}"),
        }
    }

    pub(crate) fn content(&self) -> &ReceivedContent {
        match self {
            Self::Method { content: Some(content), .. } => content,
            other => panic!("expected a method with content, the broker said: {other}"),
        }
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.content().body
    }

    pub(crate) fn properties(&self) -> Properties<'_> {
        let header = ContentHeader::decode(&self.content().header).expect("the broker's headers decode");
        Properties::decode(header.property_octets).expect("the broker's properties decode")
    }

    pub(crate) fn channel(&self) -> u16 {
        match self {
            Self::Method { channel, .. } => *channel,
            other => panic!("expected a method, the broker said: {other}"),
        }
    }

    fn body_text(&self) -> String {
        let body = self.body();
        match body.get(..BODY_SHOWN_OCTETS) {
            None => String::from_utf8_lossy(body).into_owned(),
            Some(_) => format!("{} octets", body.len()),
        }
    }

    fn method_text(&self) -> String {
        let flag = |set, name| if set { name } else { "" };
        match self.method() {
            Method::ConnectionClose(close) => format!(
                "connection {} ({}/{}) {}",
                close.reply_code, close.class_id, close.method_id, close.reply_text
            ),
            Method::ChannelClose(close) => format!(
                "channel {} ({}/{}) {}",
                close.reply_code, close.class_id, close.method_id, close.reply_text
            ),
            Method::QueueDeclareOk(ok) => {
                format!("declare-ok {} {} {}", ok.queue, ok.message_count, ok.consumer_count)
            }
            Method::QueueDeleteOk(ok) => format!("delete-ok {}", ok.message_count),
            Method::QueuePurgeOk(ok) => format!("purge-ok {}", ok.message_count),
            Method::BasicConsumeOk(ok) => format!("consume-ok {}", ok.consumer_tag),
            Method::BasicCancelOk(ok) => format!("cancel-ok {}", ok.consumer_tag),
            Method::BasicCancel(cancel) => {
                format!("cancel {}{}", cancel.consumer_tag, flag(cancel.nowait, " nowait"))
            }
            Method::BasicDeliver(deliver) => format!(
                "deliver {} {} {}/{} {}{}",
                deliver.consumer_tag,
                deliver.delivery_tag,
                deliver.exchange,
                deliver.routing_key,
                self.body_text(),
                flag(deliver.redelivered, " redelivered"),
            ),
            Method::BasicGetOk(ok) => format!(
                "get-ok {} {}/{} {} left {}{}",
                ok.delivery_tag,
                ok.exchange,
                ok.routing_key,
                self.body_text(),
                ok.message_count,
                flag(ok.redelivered, " redelivered"),
            ),
            Method::BasicReturn(back) => format!(
                "return {} {} {}/{} {}",
                back.reply_code,
                back.reply_text,
                back.exchange,
                back.routing_key,
                self.body_text()
            ),
            Method::BasicAck(ack) => format!("ack {}{}", ack.delivery_tag, flag(ack.multiple, " multiple")),
            Method::BasicNack(nack) => {
                format!("nack {}{}", nack.delivery_tag, flag(nack.multiple, " multiple"))
            }
            Method::ChannelFlowOk(ok) => format!("ChannelFlowOk {}", ok.active),
            Method::AccessRequestOk(ok) => format!("AccessRequestOk {}", ok.ticket),
            Method::ConnectionBlocked(blocked) => format!("ConnectionBlocked {}", blocked.reason),
            other => other.name().to_owned(),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method { .. } => f.write_str(&self.method_text()),
            Self::Heartbeat => f.write_str("heartbeat"),
            Self::ProtocolHeader(octets) => write!(f, "protocol header {octets:?}"),
            Self::Dropped => f.write_str("dropped"),
        }
    }
}
