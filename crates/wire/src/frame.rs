//! The envelope: frames and the protocol header (AMQP 0-9-1, section 4.2).
//!
//! Knows sizes and end octets, never what a payload means.

use crate::FrameError;

/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;
/// Octets before a frame's payload: type, channel, size.
pub const FRAME_HEADER_OCTETS: usize = 7;
/// Octets of a frame that are not payload.
pub const FRAME_OVERHEAD_OCTETS: usize = 8;
/// The smallest frame_max that a peer may negotiate (section 4.2.3, frame-min-size).
pub const FRAME_MIN_OCTETS: u32 = 4096;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A method of a class.
    Method,
    /// A content header.
    Header,
    /// A piece of a content body.
    Body,
    /// A sign of life, on channel 0, without payload.
    Heartbeat,
}

impl FrameKind {
    /// The type octet.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }

    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// A whole frame, borrowed from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// The channel it belongs to; 0 is the connection itself.
    pub channel: u16,
    /// Between the envelope's header and its end octet.
    pub payload: &'a [u8],
}

/// Decodes the first frame of `input`.
///
/// Returns the frame and how many octets it took, or `None` while it is not complete. A frame
/// that announces a larger payload than `payload_octets_max` is refused as soon as its header is
/// there, so that nobody waits for a body that will not be taken. An unknown type or a wrong end
/// is refused, as in RabbitMQ, once the whole frame is there: the peer's close quotes its payload.
/// `payload_octets_max` is the caller's to choose: RabbitMQ takes a payload of the whole frame_max.
///
/// # Errors
/// [`FrameError`] when the envelope is wrong.
#[inline]
pub fn decode_frame(input: &[u8], payload_octets_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((header, rest)) = input.split_first_chunk::<FRAME_HEADER_OCTETS>() else { return Ok(None) };
    let [octet, c0, c1, s0, s1, s2, s3] = *header;
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if size > payload_octets_max {
        return Err(FrameError::TooLarge { kind: octet, size, size_max: payload_octets_max });
    }
    let size = size as usize;
    let Some(&end) = rest.get(size) else { return Ok(None) };
    if end != FRAME_END {
        return Err(FrameError::BadEnd { kind: octet, end });
    }
    let Some(kind) = FrameKind::from_octet(octet) else {
        return Err(FrameError::UnknownKind { kind: octet });
    };
    let frame = Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload: &rest[..size] };
    Ok(Some((frame, size + FRAME_OVERHEAD_OCTETS)))
}

/// Appends a frame around the payload that `fill` writes.
pub fn write_frame(kind: FrameKind, channel: u16, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[kind.octet(), c0, c1, 0, 0, 0, 0]);
    let payload_start = out.len();
    fill(out);
    let size = u32::try_from(out.len() - payload_start).expect("our own frames are far below 4 GiB");
    out[payload_start - 4..payload_start].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends `body` as body frames of at most `frame_octets_max` octets each; none when it is empty.
pub fn write_body_frames(channel: u16, body: &[u8], frame_octets_max: u32, out: &mut Vec<u8>) {
    let payload_octets_max = (frame_octets_max as usize).saturating_sub(FRAME_OVERHEAD_OCTETS).max(1);
    for piece in body.chunks(payload_octets_max) {
        write_frame(FrameKind::Body, channel, out, |out| out.extend_from_slice(piece));
    }
}

/// Appends a heartbeat frame.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    write_frame(FrameKind::Heartbeat, 0, out, |_| {});
}

/// The first eight octets of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 0-9-1, in either of the spellings that RabbitMQ takes.
    Amqp091,
    /// Anything else: another version, another protocol.
    Other([u8; 8]),
}

impl ProtocolHeader {
    /// Octets of a protocol header.
    pub const OCTETS: usize = 8;
    /// What a server answers to a version that it does not speak.
    pub const SUPPORTED: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
    const OLD_SPELLING: [u8; 8] = *b"AMQP\x01\x01\x00\x09";
}

/// Decodes the protocol header, or `None` while there are fewer than eight octets.
#[must_use]
pub fn decode_protocol_header(input: &[u8]) -> Option<ProtocolHeader> {
    let header = *input.first_chunk::<{ ProtocolHeader::OCTETS }>()?;
    Some(match header {
        ProtocolHeader::SUPPORTED | ProtocolHeader::OLD_SPELLING => ProtocolHeader::Amqp091,
        other => ProtocolHeader::Other(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Vec<u8> {
        let mut out = Vec::new();
        write_heartbeat(&mut out);
        out
    }

    #[test]
    fn a_frame_is_incomplete_until_its_last_octet() {
        let octets = heartbeat();
        for length in 0..octets.len() {
            assert_eq!(decode_frame(&octets[..length], 4096), Ok(None), "{length} octets");
        }
        let (frame, taken) = decode_frame(&octets, 4096).unwrap().unwrap();
        assert_eq!((frame.kind, frame.channel, frame.payload), (FrameKind::Heartbeat, 0, &[][..]));
        assert_eq!(taken, octets.len());
    }

    #[test]
    fn size_is_refused_before_the_payload_arrives() {
        let octets = [3, 0, 1, 0, 0, 0x10, 1];
        let refused = FrameError::TooLarge { kind: 3, size: 4097, size_max: 4096 };
        assert_eq!(decode_frame(&octets, 4096), Err(refused));
        assert_eq!(decode_frame(&octets, 4097), Ok(None));
    }

    #[test]
    fn wrong_type_and_wrong_end_are_refused_once_the_frame_is_whole() {
        let mut octets = *b"\x09\0\0\0\0\0\x03abc\xce";
        assert_eq!(decode_frame(&octets[..10], 4096), Ok(None));
        assert_eq!(decode_frame(&octets, 4096), Err(FrameError::UnknownKind { kind: 9 }));
        octets[10] = 0;
        assert_eq!(decode_frame(&octets, 4096), Err(FrameError::BadEnd { kind: 9, end: 0 }));
    }

    #[test]
    fn a_size_too_large_comes_before_an_unknown_type() {
        let refused = FrameError::TooLarge { kind: 9, size: 4097, size_max: 4096 };
        assert_eq!(decode_frame(&[9, 0, 0, 0, 0, 0x10, 1], 4096), Err(refused));
    }

    #[test]
    fn bodies_are_cut_at_the_frame_limit() {
        let mut out = Vec::new();
        write_body_frames(7, &[1; 10], 4 + 8, &mut out);
        let mut sizes = Vec::new();
        let mut rest = &out[..];
        while let Some((frame, taken)) = decode_frame(rest, 4096).unwrap() {
            sizes.push(frame.payload.len());
            rest = &rest[taken..];
        }
        assert_eq!(sizes, [4, 4, 2]);
        assert!(rest.is_empty());
    }

    #[test]
    fn both_spellings_of_the_version_are_taken() {
        let check = |octets: &[u8], wanted| assert_eq!(decode_protocol_header(octets), wanted);
        check(b"AMQP\x00\x00\x09\x01", Some(ProtocolHeader::Amqp091));
        check(b"AMQP\x01\x01\x00\x09", Some(ProtocolHeader::Amqp091));
        check(b"AMQP\x00\x01\x00\x00", Some(ProtocolHeader::Other(*b"AMQP\x00\x01\x00\x00")));
        check(b"GET / HT", Some(ProtocolHeader::Other(*b"GET / HT")));
        check(b"AMQP", None);
    }
}
