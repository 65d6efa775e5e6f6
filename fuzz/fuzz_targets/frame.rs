//! A stream of frames, as a connection reads it, and what is in the frames.

#![no_main]

use leveret_fuzz::{check_properties, without_allocating};
use leveret_wire::{
    ContentHeader, FRAME_OVERHEAD_OCTETS, Frame, FrameKind, Method, decode_frame, decode_protocol_header,
};
use libfuzzer_sys::fuzz_target;

const PAYLOAD_OCTETS_MAX: u32 = 4096;

fuzz_target!(|octets: &[u8]| {
    let start = decode_protocol_header(octets).map_or(0, |_| 8);
    let mut rest = &octets[start..];
    while let Ok(Some((frame, taken))) = without_allocating(|| decode_frame(rest, PAYLOAD_OCTETS_MAX)) {
        assert_eq!(taken, frame.payload.len() + FRAME_OVERHEAD_OCTETS);
        assert_eq!(decode_frame(&rest[..taken - 1], PAYLOAD_OCTETS_MAX), Ok(None));
        assert_eq!(decode_frame(&rest[..taken], PAYLOAD_OCTETS_MAX), Ok(Some((frame, taken))));
        check_payload(frame);
        rest = &rest[taken..];
    }
});

fn check_payload(frame: Frame<'_>) {
    match frame.kind {
        FrameKind::Method => drop(without_allocating(|| Method::decode(frame.payload))),
        FrameKind::Header => {
            let header = without_allocating(|| ContentHeader::decode(frame.payload));
            if let Ok(header) = header {
                check_properties(header.property_octets);
            }
        }
        FrameKind::Body | FrameKind::Heartbeat => {}
    }
}
