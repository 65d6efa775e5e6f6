//! A message as it stands in a chunk.
//!
//! ```text
//!   0        4              8         12        20       22
//!   +--------+--------------+---------+---------+--------+----------------+--------------+-------------+
//!   | record | header frame | body    | arrived | route  | route          | header frame | body frame  |
//!   | octets | octets       | octets  | millis  | octets | exchange, key  | channel 0    | channel 0   |
//!   +--------+--------------+---------+---------+--------+----------------+--------------+-------------+
//!    u32 LE   u32 LE         u32 LE    u64 LE    u16 LE    two short strs
//! ```
//!
//! The frames stand as they go out, so that a delivery is a few copies and two patched channel
//! numbers. There is no body frame when the body is empty; a body longer than a consumer's
//! frames is cut when it is delivered.

use leveret_wire::{
    FRAME_END, FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, FrameKind, PublishRoute, method::basic,
};

const FIXED_OCTETS: usize = 22;
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
    /// When it came, by the monotonic clock.
    pub arrived_millis: u64,
}

impl<'a> Record<'a> {
    /// Appends a message to a chunk under construction. What has a fixed size is put together first,
    /// because every append to a vector asks for its room.
    #[inline]
    pub fn append(
        chunk: &mut Vec<u8>,
        arrived_millis: u64,
        route: PublishRoute<'_>,
        property_octets: &[u8],
        body: &[u8],
    ) {
        let start = chunk.len();
        let route = route.as_bytes();
        let header_octets = CONTENT_HEADER_FIXED_OCTETS + property_octets.len();
        let record_octets = Self::octets(route.len(), property_octets.len(), body.len());
        chunk.reserve(record_octets);
        let mut fixed = [0; FIXED_OCTETS];
        fixed[..4].copy_from_slice(&length(record_octets).to_le_bytes());
        fixed[4..8].copy_from_slice(&length(header_octets + FRAME_OVERHEAD_OCTETS).to_le_bytes());
        fixed[8..12].copy_from_slice(&length(body.len()).to_le_bytes());
        let route_octets = u16::try_from(route.len()).expect("two short strings are at most 512 octets");
        fixed[12..20].copy_from_slice(&arrived_millis.to_le_bytes());
        fixed[20..].copy_from_slice(&route_octets.to_le_bytes());
        chunk.extend_from_slice(&fixed);
        chunk.extend_from_slice(route);
        let mut header = [0; FRAME_HEADER_OCTETS + CONTENT_HEADER_FIXED_OCTETS];
        header[..FRAME_HEADER_OCTETS].copy_from_slice(&frame_header(FrameKind::Header, header_octets));
        header[FRAME_HEADER_OCTETS..][..2].copy_from_slice(&basic::CLASS_ID.to_be_bytes());
        header[FRAME_HEADER_OCTETS + 4..].copy_from_slice(&(body.len() as u64).to_be_bytes());
        chunk.extend_from_slice(&header);
        chunk.extend_from_slice(property_octets);
        chunk.push(FRAME_END);
        if !body.is_empty() {
            chunk.extend_from_slice(&frame_header(FrameKind::Body, body.len()));
            chunk.extend_from_slice(body);
            chunk.push(FRAME_END);
        }
        debug_assert_eq!(chunk.len() - start, record_octets, "the announced size holds");
    }

    /// How many octets a message takes in a chunk.
    #[must_use]
    pub const fn octets(route_octets: usize, property_octets: usize, body_octets: usize) -> usize {
        let body_frame = if body_octets == 0 { 0 } else { FRAME_OVERHEAD_OCTETS + body_octets };
        let header_frame = FRAME_OVERHEAD_OCTETS + CONTENT_HEADER_FIXED_OCTETS + property_octets;
        FIXED_OCTETS + route_octets + header_frame + body_frame
    }

    /// The record at `offset` of a chunk.
    #[must_use]
    pub fn at(chunk: &'a [u8], offset: usize) -> Self {
        let fixed: &[u8; FIXED_OCTETS] = chunk[offset..].first_chunk().expect("records are whole");
        let [r0, r1, r2, r3, h0, h1, h2, h3, b0, b1, b2, b3, a0, a1, a2, a3, a4, a5, a6, a7, k0, k1] = *fixed;
        let record_octets = u32::from_le_bytes([r0, r1, r2, r3]) as usize;
        let header_frame_octets = u32::from_le_bytes([h0, h1, h2, h3]) as usize;
        let body_octets = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
        let arrived_millis = u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]);
        let route_end = FIXED_OCTETS + u16::from_le_bytes([k0, k1]) as usize;
        let record = &chunk[offset..offset + record_octets];
        let (route, content_frames) = record[FIXED_OCTETS..].split_at(route_end - FIXED_OCTETS);
        Self { route, content_frames, header_frame_octets, body_octets, arrived_millis }
    }

    /// Whether a record stands at `offset` whose parts fit together, so that none of these methods
    /// panics. For what was read from a file.
    #[must_use]
    pub fn is_whole(octets: &[u8], offset: usize) -> bool {
        let Some(fixed) = octets.get(offset..).and_then(|octets| octets.first_chunk::<FIXED_OCTETS>()) else {
            return false;
        };
        let length =
            |at: usize| u32::from_le_bytes(*fixed[at..].first_chunk().expect("it is fixed")) as usize;
        let (record, header_frame, body) = (length(0), length(4), length(8));
        let body_frame = if body == 0 { 0 } else { FRAME_OVERHEAD_OCTETS + body };
        let route = u16::from_le_bytes([fixed[20], fixed[21]]) as usize;
        header_frame >= FRAME_OVERHEAD_OCTETS + CONTENT_HEADER_FIXED_OCTETS
            && record == FIXED_OCTETS + route + header_frame + body_frame
            && octets.len() - offset >= record
    }

    /// Records that stand one behind the other, up to one that is not whole.
    pub fn walk(octets: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let record = Self::is_whole(octets, offset).then(|| Self::raw(octets, offset))?;
            offset += record.len();
            Some(record)
        })
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
}

fn length(octets: usize) -> u32 {
    u32::try_from(octets).expect("a message is at most 128 MiB")
}

/// The header of a frame on channel 0.
fn frame_header(kind: FrameKind, payload_octets: usize) -> [u8; FRAME_HEADER_OCTETS] {
    let [s0, s1, s2, s3] = length(payload_octets).to_be_bytes();
    [kind.octet(), 0, 0, s0, s1, s2, s3]
}

#[cfg(test)]
mod tests {
    use leveret_wire::{ContentHeader, write_body_frames, write_frame};

    use super::*;

    fn check(exchange: &str, key: &str, properties: &[u8], body: &[u8]) {
        let mut chunk = vec![7; 3];
        let route = [
            &[u8::try_from(exchange.len()).unwrap()],
            exchange.as_bytes(),
            &[u8::try_from(key.len()).unwrap()],
            key.as_bytes(),
        ]
        .concat();
        let publish = PublishRoute::from_octets(&route).unwrap();
        Record::append(&mut chunk, 1 << 40, publish, properties, body);
        let record = Record::at(&chunk, 3);
        assert_eq!(record.route, route);
        assert_eq!(record.body(), body);
        assert_eq!(record.arrived_millis, 1 << 40);
        assert_eq!(record.property_octets(), properties);
        assert_eq!(Record::raw(&chunk, 3), &chunk[3..]);
        assert_eq!(Record::octets(route.len(), properties.len(), body.len()), chunk.len() - 3);
        let mut frames = Vec::new();
        write_frame(FrameKind::Header, 0, &mut frames, |out| {
            let header = ContentHeader {
                class_id: basic::CLASS_ID,
                body_octets: body.len() as u64,
                property_octets: properties,
            };
            header.encode(out);
        });
        write_body_frames(0, body, u32::MAX, &mut frames);
        assert!(record.content_frames == frames, "they stand as they go out");
    }

    #[test]
    fn a_message_comes_back_as_it_went_in() {
        check("", "", &[0, 0], b"");
        check("logs", "kern.info", &[0x10, 0, 2], b"body");
        check(&"x".repeat(255), &"k".repeat(255), &[0, 0], &[9; 200_000]);
    }
}
