//! Round trips of every method.

use std::collections::BTreeSet;

use leveret_wire::{DecodeError, FrameKind, Method, decode_frame};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::material::{every_method, material, octets, sample, table, text};

fn encoded(method: &Method<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    method.encode(&mut payload);
    payload
}

#[test]
fn every_method_is_built_here() {
    let material = sample(&material(text(), table(text())), &mut TestRunner::deterministic());
    let built: Vec<_> = every_method(&material).map(|method| method.ids()).collect();
    assert_eq!(built.len(), Method::IDS.len());
    assert_eq!(BTreeSet::from_iter(built), BTreeSet::from_iter(Method::IDS.iter().copied()));
}

proptest! {
    #[test]
    fn methods_come_back_as_they_went(material in material(text(), table(octets()))) {
        for method in every_method(&material) {
            let payload = encoded(&method);
            let (class, id) = (payload[..2].try_into().unwrap(), payload[2..4].try_into().unwrap());
            prop_assert_eq!((u16::from_be_bytes(class), u16::from_be_bytes(id)), method.ids());
            prop_assert_eq!(Method::decode(&payload), Ok(method));
        }
    }

    #[test]
    fn method_frames_come_back_as_they_went(material in material(text(), table(text())), channel: u16) {
        for method in every_method(&material) {
            let mut out = b"before".to_vec();
            method.write_frame(channel, &mut out);
            let (frame, taken) = decode_frame(&out[6..], u32::MAX).unwrap().unwrap();
            prop_assert_eq!((frame.kind, frame.channel, taken), (FrameKind::Method, channel, out.len() - 6));
            prop_assert_eq!(Method::decode(frame.payload), Ok(method));
        }
    }

    #[test]
    fn strings_of_any_octets_come_back_where_content_follows(material in material(octets(), table(octets()))) {
        let all_text = material.short_strs.iter().all(|octets| str::from_utf8(octets).is_ok());
        for method in every_method(&material) {
            match Method::decode(&encoded(&method)) {
                Err(DecodeError::MalformedUtf8) => prop_assert!(!all_text && !method.has_content()),
                decoded => prop_assert_eq!(decoded, Ok(method)),
            }
        }
    }

    #[test]
    fn octets_behind_a_method_are_refused(material in material(text(), table(text())), extra in 1..9_usize) {
        for method in every_method(&material) {
            let mut payload = encoded(&method);
            payload.resize(payload.len() + extra, 0);
            prop_assert_eq!(Method::decode(&payload), Err(DecodeError::TrailingOctets(extra)));
        }
    }
}

proptest! {
    // Each case decodes every method at every length.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_part_of_a_method_is_refused(material in material(text(), table(text()))) {
        for method in every_method(&material) {
            let payload = encoded(&method);
            for length in 0..payload.len() {
                prop_assert_eq!(Method::decode(&payload[..length]), Err(DecodeError::Truncated));
            }
        }
    }
}
