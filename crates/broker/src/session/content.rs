//! Contents: a publish, its header and its body, in one piece or from frames that came apart.
//!
//! Invariant: what is held back grows with the octets that came, never with those announced.

use leveret_wire::{
    ContentHeader, Frame, FrameKind, PublishFields, PublishRoute, decode_frame, method::basic,
};

use super::{Call, MethodIds};
use crate::Refusal;

/// A message to publish, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// The channel it came on.
    pub channel: u16,
    /// Where it goes: to which exchange, by which key.
    pub route: PublishRoute<'a>,
    /// It comes back when no queue wants it.
    pub mandatory: bool,
    /// RabbitMQ does not do this.
    pub immediate: bool,
    /// Flags and property list, not yet decoded.
    pub property_octets: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Publish<'a> {
    /// The publish with its content, when `input` begins with all of it in one header frame and
    /// at most one body frame, and how many octets that is.
    #[inline]
    pub(super) fn whole(
        channel: u16,
        publish: PublishFields<'a>,
        input: &'a [u8],
        frame_max: u32,
    ) -> Option<(Self, usize)> {
        let next = |input: &'a [u8], kind| match decode_frame(input, frame_max) {
            Ok(Some((frame, taken))) if frame.kind == kind && frame.channel == channel => {
                Some((frame, taken))
            }
            _ => None,
        };
        let (header_frame, mut taken) = next(input, FrameKind::Header)?;
        let header = ContentHeader::decode(header_frame.payload).ok()?;
        if header.class_id != basic::CLASS_ID {
            return None;
        }
        let mut body = &[][..];
        if header.body_octets > 0 {
            let (body_frame, more) = next(&input[taken..], FrameKind::Body)?;
            if body_frame.payload.len() as u64 != header.body_octets {
                return None;
            }
            taken += more;
            body = body_frame.payload;
        }
        let publish = Self {
            channel,
            route: publish.route,
            mandatory: publish.mandatory,
            immediate: publish.immediate,
            property_octets: header.property_octets,
            body,
        };
        Some((publish, taken))
    }
}

/// A message whose frames came apart.
#[derive(Debug)]
pub struct Content {
    channel: u16,
    route: Box<[u8]>,
    mandatory: bool,
    immediate: bool,
    property_octets: Vec<u8>,
    body: Vec<u8>,
    body_octets: u64,
    body_octets_seen: u64,
}

impl Content {
    /// Borrows the message.
    #[must_use]
    pub fn as_publish(&self) -> Publish<'_> {
        let route = PublishRoute::from_octets(&self.route).expect("it was a route when it came");
        Publish {
            channel: self.channel,
            route,
            mandatory: self.mandatory,
            immediate: self.immediate,
            property_octets: &self.property_octets,
            body: &self.body,
        }
    }
}

/// A content under way on a channel.
#[derive(Debug)]
pub(super) enum Assembly {
    Idle,
    Header(Box<Content>),
    Body(Box<Content>),
}

const PUBLISH_IDS: MethodIds = (basic::CLASS_ID, basic::Publish::METHOD_ID);

impl Assembly {
    pub(super) fn begin(publish: PublishFields<'_>) -> Self {
        Self::Header(Box::new(Content {
            channel: 0,
            route: publish.route.as_bytes().into(),
            mandatory: publish.mandatory,
            immediate: publish.immediate,
            property_octets: Vec::new(),
            body: Vec::new(),
            body_octets: 0,
            body_octets_seen: 0,
        }))
    }

    /// The method that an error in the content names.
    pub(super) const fn ids(&self) -> MethodIds {
        if matches!(self, Self::Idle) { (0, 0) } else { PUBLISH_IDS }
    }

    /// Octets that are held back.
    pub(super) fn octets(&self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Header(content) | Self::Body(content) => {
                (content.body.capacity() + content.property_octets.len()) as u64
            }
        }
    }

    /// Why a frame of that kind may not come now.
    pub(super) fn refuses(&self, kind: FrameKind) -> Option<Refusal> {
        let text = match (self, kind) {
            (Self::Idle, FrameKind::Method)
            | (Self::Header(_), FrameKind::Header)
            | (Self::Body(_), FrameKind::Body) => return None,
            (Self::Idle, _) => "expected method frame, got non method frame instead",
            (Self::Header(_), _) => {
                "expected content header for class 60, got non content header frame instead"
            }
            (Self::Body(_), _) => "expected content body, got non content body frame instead",
        };
        Some(Refusal::UnexpectedFrame(text.to_owned()))
    }

    /// Takes a header or body frame, and returns the message once it is whole.
    pub(super) fn frame(
        &mut self,
        channel: u16,
        frame: Frame<'_>,
        message_octets_max: u64,
    ) -> Result<Option<Call<'static>>, Refusal> {
        if let Some(refusal) = self.refuses(frame.kind) {
            return Err(refusal);
        }
        let mut content = match std::mem::replace(self, Self::Idle) {
            Self::Header(mut content) => {
                content.channel = channel;
                content.take_header(frame.payload)?;
                content
            }
            Self::Body(mut content) => {
                content.take_body(frame.payload, message_octets_max)?;
                content
            }
            Self::Idle => return Ok(None),
        };
        if content.body_octets_seen < content.body_octets {
            *self = Self::Body(content);
            return Ok(None);
        }
        if content.body_octets > message_octets_max {
            let refusal =
                Refusal::MessageTooLarge { octets: content.body_octets, octets_max: message_octets_max };
            return Err(refusal);
        }
        content.body.shrink_to_fit();
        Ok(Some(Call::PublishAssembled(content)))
    }
}

impl Content {
    fn take_header(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        // Its length was checked before, so that this is a weight: none of the headers there are.
        let Ok(header) = ContentHeader::decode(payload) else {
            let text = "expected content header for class 60, got non content header frame instead";
            return Err(Refusal::UnexpectedFrame(text.to_owned()));
        };
        if header.class_id != basic::CLASS_ID {
            let text = format!(
                "expected content header for class 60, got one for class {} instead",
                header.class_id
            );
            return Err(Refusal::UnexpectedFrame(text));
        }
        self.property_octets = header.property_octets.to_vec();
        self.body_octets = header.body_octets;
        Ok(())
    }

    /// A body that will be refused for its size is counted and not kept.
    fn take_body(&mut self, payload: &[u8], message_octets_max: u64) -> Result<(), Refusal> {
        self.body_octets_seen += payload.len() as u64;
        if self.body_octets_seen > self.body_octets {
            let text = "expected content body, got non content body frame instead".to_owned();
            return Err(Refusal::UnexpectedFrame(text));
        }
        if self.body_octets <= message_octets_max {
            self.body.extend_from_slice(payload);
        }
        Ok(())
    }
}
