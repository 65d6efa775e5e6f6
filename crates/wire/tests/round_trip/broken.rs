//! Octets that no honest peer sends: an error each, and never a panic.

use leveret_wire::{
    ContentHeader, Frame, Method, Properties, Table, TableBuf, decode_frame, decode_protocol_header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::material::{every_method, material, read_table, table, text};

/// Decodes `octets` as whatever they could be, and goes through all of what was accepted.
fn decode_everything(octets: &[u8]) {
    let _ = decode_protocol_header(octets);
    if let Ok(Some((Frame { payload, .. }, taken))) = decode_frame(octets, u32::MAX) {
        assert_eq!(payload.len() + leveret_wire::FRAME_OVERHEAD_OCTETS, taken);
        decode_payload(payload);
    }
    decode_payload(octets);
}

fn decode_payload(octets: &[u8]) {
    if let Ok(method) = Method::decode(octets) {
        again(&method);
    }
    if let Ok(header) = ContentHeader::decode(octets) {
        decode_properties(header.property_octets);
    }
    decode_properties(octets);
    if let Ok(table) = Table::new(octets) {
        go_through(table);
    }
}

/// What a peer may have sent in another spelling is the same method once it was encoded by us.
fn again(method: &Method<'_>) {
    let mut octets = Vec::new();
    method.encode(&mut octets);
    assert_eq!(Method::decode(&octets), Ok(*method));
    assert!(!format!("{method:?}").is_empty());
}

fn decode_properties(octets: &[u8]) {
    let Ok(properties) = Properties::decode(octets) else { return };
    let mut again = Vec::new();
    properties.encode(&mut again);
    assert_eq!(Properties::decode(&again), Ok(properties));
    properties.headers.into_iter().for_each(go_through);
}

fn go_through(table: Table<'_>) {
    assert_eq!(read_table(table).len(), table.iter().count());
    let sorted = TableBuf::sorted(table);
    assert!(Table::new(sorted.as_table().as_bytes()).is_ok());
    assert!(!format!("{table:?}").is_empty());
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in vec(any::<u8>(), 0..200)) {
        decode_everything(&octets);
    }

    #[test]
    fn any_octets_behind_a_known_method_are_survived(
        which in any::<Index>(),
        fields in vec(any::<u8>(), 0..100),
    ) {
        let (class_id, method_id) = *which.get(Method::IDS);
        let mut payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
        payload.extend_from_slice(&fields);
        decode_everything(&payload);
    }

    #[test]
    fn a_valid_method_with_wrong_octets_is_survived(
        material in material(text(), table(text())),
        wrong in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        for method in every_method(&material) {
            let mut payload = Vec::new();
            method.encode(&mut payload);
            for (index, octet) in &wrong {
                *index.get_mut(&mut payload) = *octet;
            }
            decode_everything(&payload);
        }
    }

    #[test]
    fn valid_properties_with_wrong_octets_are_survived(
        material in material(text(), table(text())),
        wrong in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let properties = Properties { headers: Some(material.table.as_table()), ..Properties::default() };
        let mut octets = Vec::new();
        properties.encode(&mut octets);
        for (index, octet) in &wrong {
            *index.get_mut(&mut octets) = *octet;
        }
        decode_everything(&octets);
    }
}
