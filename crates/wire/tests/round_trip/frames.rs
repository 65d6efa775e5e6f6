//! Frames that arrive in pieces, cut anywhere.

use leveret_wire::{
    FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, Frame, FrameError, FrameKind, decode_frame,
    write_body_frames, write_frame, write_heartbeat,
};
use proptest::collection::vec;
use proptest::prelude::*;

const PAYLOAD_OCTETS_MAX: u32 = 64;

type OwnedFrame = (FrameKind, u16, Vec<u8>);

fn frame() -> impl Strategy<Value = OwnedFrame> {
    let kind = prop_oneof![Just(FrameKind::Method), Just(FrameKind::Header), Just(FrameKind::Body)];
    let payload = vec(any::<u8>(), 0..=PAYLOAD_OCTETS_MAX as usize);
    prop_oneof![
        4 => (kind, any::<u16>(), payload),
        1 => Just((FrameKind::Heartbeat, 0, Vec::new())),
    ]
}

fn write(frames: &[OwnedFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, channel, payload) in frames {
        match kind {
            FrameKind::Heartbeat => write_heartbeat(&mut out),
            kind => write_frame(*kind, *channel, &mut out, |out| out.extend_from_slice(payload)),
        }
    }
    out
}

/// Takes all whole frames off the front of `input`, as a connection does after each read.
fn take_frames(input: &mut Vec<u8>) -> Vec<OwnedFrame> {
    let mut frames = Vec::new();
    let mut start = 0;
    while let Some((frame, taken)) = decode_frame(&input[start..], PAYLOAD_OCTETS_MAX).unwrap() {
        let Frame { kind, channel, payload } = frame;
        frames.push((kind, channel, payload.to_vec()));
        start += taken;
    }
    input.drain(..start);
    frames
}

proptest! {
    #[test]
    fn frames_cut_at_every_point_come_back(frames in vec(frame(), 1..4)) {
        let octets = write(&frames);
        for cut in 0..=octets.len() {
            let mut input = octets[..cut].to_vec();
            let mut taken = take_frames(&mut input);
            prop_assert!(frames.starts_with(&taken));
            input.extend_from_slice(&octets[cut..]);
            taken.extend(take_frames(&mut input));
            prop_assert_eq!(&taken, &frames);
            prop_assert!(input.is_empty());
        }
    }

    #[test]
    fn frames_in_pieces_of_any_size_come_back(frames in vec(frame(), 1..6), sizes in vec(1..40_usize, 1..9)) {
        let octets = write(&frames);
        let (mut input, mut taken, mut start) = (Vec::new(), Vec::new(), 0);
        for size in sizes.iter().cycle() {
            let end = octets.len().min(start + size);
            input.extend_from_slice(&octets[start..end]);
            taken.extend(take_frames(&mut input));
            if end == octets.len() {
                break;
            }
            start = end;
        }
        prop_assert_eq!(taken, frames);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_by_its_header(size in PAYLOAD_OCTETS_MAX + 1.., kind: u8) {
        let mut header = vec![kind, 0, 1];
        header.extend_from_slice(&size.to_be_bytes());
        let refused = FrameError::TooLarge { kind, size, size_max: PAYLOAD_OCTETS_MAX };
        prop_assert_eq!(decode_frame(&header, PAYLOAD_OCTETS_MAX), Err(refused));
        prop_assert_eq!(decode_frame(&header[..FRAME_HEADER_OCTETS - 1], PAYLOAD_OCTETS_MAX), Ok(None));
    }

    #[test]
    fn bodies_come_back_from_frames_that_are_full_but_the_last(
        body in vec(any::<u8>(), 0..300),
        frame_octets_max in 9..100_u32,
        channel: u16,
    ) {
        let mut out = Vec::new();
        write_body_frames(channel, &body, frame_octets_max, &mut out);
        let payload_octets_max = frame_octets_max as usize - FRAME_OVERHEAD_OCTETS;
        let (mut rest, mut found) = (&out[..], Vec::new());
        while let Some((frame, taken)) = decode_frame(rest, frame_octets_max).unwrap() {
            prop_assert_eq!((frame.kind, frame.channel), (FrameKind::Body, channel));
            prop_assert_eq!(frame.payload.len(), payload_octets_max.min(body.len() - found.len()));
            found.extend_from_slice(frame.payload);
            rest = &rest[taken..];
        }
        prop_assert_eq!(found, body);
        prop_assert!(rest.is_empty());
    }
}
