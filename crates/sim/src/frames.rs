//! Octets as frames, and frames as what a peer says: methods with their contents.
//!
//! Used on what the broker said and on what it took; knows nothing of who said it.

use leveret_wire::{ContentHeader, Frame, FrameKind, Method, decode_frame};

use crate::Violation;

/// The largest payload that any client agreed to.
const PAYLOAD_OCTETS_MAX: u32 = 1024 * 1024;

/// A content that came behind a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Flags and property list.
    pub property_octets: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

/// Something that a peer said.
#[derive(Debug)]
pub enum Said<'a> {
    /// A method without content.
    Method(u16, Method<'a>),
    /// A method with content.
    Content(u16, Method<'a>, Content),
    /// A sign of life.
    Heartbeat,
    /// The supported protocol version, in answer to another one.
    ProtocolHeader,
}

/// What the broker said in one turn, in order.
#[derive(Debug)]
pub struct Speech<'a> {
    rest: &'a [u8],
    frame_octets_max: u32,
}

impl<'a> Speech<'a> {
    /// Whole frames, none larger than agreed.
    #[must_use]
    pub const fn new(octets: &'a [u8], frame_octets_max: u32) -> Self {
        Self { rest: octets, frame_octets_max }
    }

    /// Whether all was heard.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    fn frame(&mut self) -> Result<Frame<'a>, Violation> {
        let payload_max = self.frame_octets_max - 8;
        match decode_frame(self.rest, payload_max) {
            Ok(Some((frame, octets))) => {
                self.rest = &self.rest[octets..];
                Ok(frame)
            }
            Ok(None) => Err(Violation::new("the broker said half a frame")),
            Err(error) => Err(Violation::new(format!("the broker said a broken frame: {error}"))),
        }
    }

    /// The next thing said.
    ///
    /// # Errors
    /// When it is not AMQP, or a content is not what its header announced.
    #[allow(clippy::should_implement_trait, reason = "what is said may be wrong, and then nothing follows")]
    pub fn next(&mut self) -> Result<Option<Said<'a>>, Violation> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if self.rest.starts_with(b"AMQP") {
            self.rest = &self.rest[8..];
            return Ok(Some(Said::ProtocolHeader));
        }
        let frame = self.frame()?;
        match frame.kind {
            FrameKind::Heartbeat if frame.channel == 0 && frame.payload.is_empty() => {
                Ok(Some(Said::Heartbeat))
            }
            FrameKind::Method => self.method(frame).map(Some),
            _ => Err(Violation::new(format!("the broker said a {:?} frame out of place", frame.kind))),
        }
    }

    fn method(&mut self, frame: Frame<'a>) -> Result<Said<'a>, Violation> {
        let method = Method::decode(frame.payload)
            .map_err(|error| Violation::new(format!("the broker said a broken method: {error}")))?;
        if has_content(&method) {
            return Ok(Said::Content(frame.channel, method, self.content(frame.channel)?));
        }
        Ok(Said::Method(frame.channel, method))
    }

    fn content(&mut self, channel: u16) -> Result<Content, Violation> {
        let header_frame = self.frame_of(FrameKind::Header, channel)?;
        let header = ContentHeader::decode(header_frame.payload)
            .map_err(|error| Violation::new(format!("the broker said a broken content header: {error}")))?;
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_octets {
            let piece = self.frame_of(FrameKind::Body, channel)?.payload;
            if piece.is_empty() {
                return Err(Violation::new("the broker said an empty body frame"));
            }
            body.extend_from_slice(piece);
        }
        if body.len() as u64 > header.body_octets {
            return Err(Violation::new("the broker said more body than its header announced"));
        }
        Ok(Content { property_octets: header.property_octets.to_vec(), body })
    }

    fn frame_of(&mut self, kind: FrameKind, channel: u16) -> Result<Frame<'a>, Violation> {
        let frame = self.frame()?;
        if frame.kind == kind && frame.channel == channel {
            return Ok(frame);
        }
        let text = format!("{:?} on channel {} inside a content on {channel}", frame.kind, frame.channel);
        Err(Violation::new(text))
    }
}

const fn has_content(method: &Method<'_>) -> bool {
    matches!(
        method,
        Method::BasicDeliver(_) | Method::BasicGetOk(_) | Method::BasicReturn(_) | Method::BasicPublish(_)
    )
}

/// How many of the octets are whole things: a method, with its content where it has one, or a sign of
/// life. What is behind them has not all come yet.
///
/// # Errors
/// When it is not AMQP.
pub fn whole_octets(octets: &[u8]) -> Result<usize, Violation> {
    let broken = |error: &dyn std::fmt::Display| Violation::new(format!("broken octets: {error}"));
    let mut at = if octets.starts_with(b"AMQP") { octets.len().min(8) } else { 0 };
    let mut whole = at;
    let mut waits_for_header = false;
    let mut body_octets_left = 0;
    while let Some((frame, taken)) =
        decode_frame(&octets[at..], PAYLOAD_OCTETS_MAX).map_err(|error| broken(&error))?
    {
        at += taken;
        match frame.kind {
            FrameKind::Method => {
                let method = Method::decode(frame.payload).map_err(|error| broken(&error))?;
                waits_for_header = has_content(&method);
            }
            FrameKind::Header => {
                let header = ContentHeader::decode(frame.payload).map_err(|error| broken(&error))?;
                (waits_for_header, body_octets_left) = (false, header.body_octets);
            }
            FrameKind::Body => {
                body_octets_left = body_octets_left.saturating_sub(frame.payload.len() as u64);
            }
            FrameKind::Heartbeat => {}
        }
        if !waits_for_header && body_octets_left == 0 {
            whole = at;
        }
    }
    Ok(whole)
}
