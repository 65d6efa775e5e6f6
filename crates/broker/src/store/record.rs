//! A message as it stands in a chunk.
//!
//! ```text
//!   0        4              8              12           14
//!   +--------+--------------+--------------+------------+----------------+--------------+-------------+
//!   | record | header frame | body octets  | route      | route          | header frame | body frame  |
//!   | octets | octets       |              | octets     | exchange, key  | channel 0    | channel 0   |
//!   +--------+--------------+--------------+------------+----------------+--------------+-------------+
//!    u32 LE   u32 LE         u32 LE         u16 LE        two short strs
//! ```
//!
//! The frames stand as they go out, so that a delivery is a few copies and two patched channel
//! numbers. There is no body frame when the body is empty; a body longer than a consumer's
//! frames is cut when it is delivered.

use leveret_wire::{
    FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, FrameKind, ShortStr, method::basic, write_frame,
};

const FIXED_OCTETS: usize = 14;
const CONTENT_HEADER_FIXED_OCTETS: usize = 12;

/// A message, borrowed from its chunk.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Exchange and routing key as two short strings, ready for a method's fields.
    pub route: &'a [u8],
    /// The header frame, then the body as one frame if there is one; all with channel 0.
    pub content_frames: &'a [u8],
    /// Octets of `content_frames` that are the header frame.
    pub header_frame_octets: usize,
    /// Octets of the body.
    pub body_octets: usize,
}

impl<'a> Record<'a> {
    /// Appends a message to a chunk under construction.
    pub fn append(
        chunk: &mut Vec<u8>,
        exchange: ShortStr<'_>,
        routing_key: ShortStr<'_>,
        property_octets: &[u8],
        body: &[u8],
    ) {
        let start = chunk.len();
        let header_frame_octets = FRAME_OVERHEAD_OCTETS + CONTENT_HEADER_FIXED_OCTETS + property_octets.len();
        let route_octets = 2 + exchange.len() + routing_key.len();
        let record_octets = Self::octets(exchange, routing_key, property_octets, body);
        chunk.reserve(record_octets);
        chunk.extend_from_slice(&length_u32(record_octets));
        chunk.extend_from_slice(&length_u32(header_frame_octets));
        chunk.extend_from_slice(&length_u32(body.len()));
        let route_length = u16::try_from(route_octets).expect("two short strings are at most 512 octets");
        chunk.extend_from_slice(&route_length.to_le_bytes());
        append_short_str(chunk, exchange);
        append_short_str(chunk, routing_key);
        write_frame(FrameKind::Header, 0, chunk, |chunk| {
            chunk.extend_from_slice(&basic::CLASS_ID.to_be_bytes());
            chunk.extend_from_slice(&[0, 0]);
            chunk.extend_from_slice(&(body.len() as u64).to_be_bytes());
            chunk.extend_from_slice(property_octets);
        });
        if !body.is_empty() {
            write_frame(FrameKind::Body, 0, chunk, |chunk| chunk.extend_from_slice(body));
        }
        debug_assert_eq!(chunk.len() - start, record_octets, "the announced size holds");
    }

    /// How many octets a message takes in a chunk.
    #[must_use]
    pub fn octets(
        exchange: ShortStr<'_>,
        routing_key: ShortStr<'_>,
        property_octets: &[u8],
        body: &[u8],
    ) -> usize {
        let body_frame = if body.is_empty() { 0 } else { FRAME_OVERHEAD_OCTETS + body.len() };
        let header_frame = FRAME_OVERHEAD_OCTETS + CONTENT_HEADER_FIXED_OCTETS + property_octets.len();
        FIXED_OCTETS + 2 + exchange.len() + routing_key.len() + header_frame + body_frame
    }

    /// The record at `offset` of a chunk.
    #[must_use]
    pub fn at(chunk: &'a [u8], offset: usize) -> Self {
        let fixed: &[u8; FIXED_OCTETS] = chunk[offset..].first_chunk().expect("records are whole");
        let [r0, r1, r2, r3, h0, h1, h2, h3, b0, b1, b2, b3, k0, k1] = *fixed;
        let record_octets = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let header_frame_octets = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
        let body_octets = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        let route_end = FIXED_OCTETS + u16::from_le_bytes([k0, k1]) as usize;
        let record = &chunk[offset..offset + record_octets];
        let (route, content_frames) = record[FIXED_OCTETS..].split_at(route_end - FIXED_OCTETS);
        Self { route, content_frames, header_frame_octets, body_octets }
    }

    /// The whole record at `offset`, to be copied into another chunk.
    #[must_use]
    pub fn raw(chunk: &'a [u8], offset: usize) -> &'a [u8] {
        let length: [u8; 4] = *chunk[offset..].first_chunk().expect("records are whole");
        &chunk[offset..offset + u32::from_le_bytes(length) as usize]
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        let start = (self.header_frame_octets + FRAME_HEADER_OCTETS).min(self.content_frames.len());
        &self.content_frames[start..start + self.body_octets]
    }

    /// The payload of the header frame.
    #[must_use]
    pub fn header_payload(&self) -> &'a [u8] {
        &self.content_frames[FRAME_HEADER_OCTETS..self.header_frame_octets - 1]
    }

    /// Flags and property list.
    #[must_use]
    pub fn property_octets(&self) -> &'a [u8] {
        &self.header_payload()[CONTENT_HEADER_FIXED_OCTETS..]
    }

    /// Exchange and routing key.
    #[must_use]
    pub fn exchange_and_key(&self) -> (ShortStr<'a>, ShortStr<'a>) {
        let (exchange, rest) = split_short_str(self.route);
        let (routing_key, _) = split_short_str(rest);
        (exchange, routing_key)
    }
}

fn append_short_str(chunk: &mut Vec<u8>, text: ShortStr<'_>) {
    chunk.push(u8::try_from(text.len()).expect("a short string is at most 255 octets"));
    chunk.extend_from_slice(text.as_bytes());
}

fn split_short_str(octets: &[u8]) -> (ShortStr<'_>, &[u8]) {
    let (&length, rest) = octets.split_first().expect("a record's route holds two short strings");
    let (text, rest) = rest.split_at(length.into());
    (ShortStr::new(text).expect("a length octet is at most 255"), rest)
}

fn length_u32(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a message is at most 128 MiB").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exchange: &str, key: &str, properties: &[u8], body: &[u8]) {
        let mut chunk = vec![7; 3];
        Record::append(&mut chunk, exchange.into(), key.into(), properties, body);
        let record = Record::at(&chunk, 3);
        assert_eq!(record.exchange_and_key(), (exchange.into(), key.into()));
        assert_eq!(record.body(), body);
        assert_eq!(record.property_octets(), properties);
        assert_eq!(Record::raw(&chunk, 3), &chunk[3..]);
        assert_eq!(Record::octets(exchange.into(), key.into(), properties, body), chunk.len() - 3);
    }

    #[test]
    fn a_message_comes_back_as_it_went_in() {
        check("", "", &[0, 0], b"");
        check("logs", "kern.info", &[0x10, 0, 2], b"body");
        check(&"x".repeat(255), &"k".repeat(255), &[0, 0], &[9; 200_000]);
    }
}
