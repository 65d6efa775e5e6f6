//! Round trips of content headers with any subset of the properties.

use leveret_wire::{ContentHeader, DecodeError, Properties, ShortStr, Table};
use proptest::option::of;
use proptest::prelude::*;

use crate::material::{Material, OwnedTable, build_table, material, octets, table, text};

/// The properties of class basic, in the order of their flags.
pub(crate) const PROPERTIES: u32 = 14;

/// Keeps the properties whose bit is set in `subset`; bit 0 is the first one.
pub(crate) fn choose<'a>(material: &'a Material, subset: u32) -> Properties<'a> {
    let has = |bit: u32| subset & (1 << bit) != 0;
    let text = |bit: u32, which: usize| has(bit).then(|| ShortStr::new(&material.short_strs[which]).unwrap());
    let octet = |bit: u32, which: usize| has(bit).then(|| material.numbers[which].to_le_bytes()[0]);
    Properties {
        content_type: text(0, 0),
        content_encoding: text(1, 1),
        headers: has(2).then(|| material.table.as_table()),
        delivery_mode: octet(3, 0),
        priority: octet(4, 1),
        correlation_id: text(5, 2),
        reply_to: text(6, 0),
        expiration: text(7, 1),
        message_id: text(8, 2),
        timestamp: has(9).then_some(material.numbers[2]),
        kind: text(10, 0),
        user_id: text(11, 1),
        app_id: text(12, 2),
        cluster_id: text(13, 0),
    }
}

fn encoded(properties: &Properties<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    properties.encode(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_subset_comes_back_as_it_went(material in material(text(), table(text()))) {
        for subset in 0..1 << PROPERTIES {
            let properties = choose(&material, subset);
            let octets = encoded(&properties);
            // The first property has the highest bit, and the two lowest bits have no property.
            let flags = u16::from_be_bytes([octets[0], octets[1]]);
            prop_assert_eq!(u32::from(flags), subset.reverse_bits() >> 16);
            prop_assert_eq!(Properties::decode(&octets), Ok(properties));
        }
    }
}

proptest! {
    #[test]
    fn any_octets_travel_in_properties(
        strings in prop::array::uniform9(of(octets())),
        headers in of(table(octets())),
        numbers: (Option<u8>, Option<u8>, Option<u64>),
    ) {
        let short = |which: usize| strings[which].as_deref().map(|octets| ShortStr::new(octets).unwrap());
        let headers = headers.as_ref().map(|fields: &OwnedTable| build_table(fields));
        let properties = Properties {
            content_type: short(0),
            content_encoding: short(1),
            headers: headers.as_ref().map(|headers| headers.as_table()),
            delivery_mode: numbers.0,
            priority: numbers.1,
            correlation_id: short(2),
            reply_to: short(3),
            expiration: short(4),
            message_id: short(5),
            timestamp: numbers.2,
            kind: short(6),
            user_id: short(7),
            app_id: short(8),
            cluster_id: None,
        };
        let octets = encoded(&properties);
        prop_assert_eq!(Properties::decode(&octets), Ok(properties));
    }

    #[test]
    fn headers_come_back_as_they_went(
        material in material(text(), table(text())),
        subset in 0..1_u32 << PROPERTIES,
        class_id: u16,
        body_octets: u64,
    ) {
        let property_octets = encoded(&choose(&material, subset));
        let header = ContentHeader { class_id, body_octets, property_octets: &property_octets };
        let mut payload = Vec::new();
        header.encode(&mut payload);
        prop_assert_eq!(ContentHeader::decode(&payload), Ok(header));
    }

    #[test]
    fn a_part_of_the_properties_is_refused(
        material in material(text(), table(text())),
        subset in 0..1_u32 << PROPERTIES,
    ) {
        let octets = encoded(&choose(&material, subset));
        for length in 0..octets.len() {
            prop_assert_eq!(Properties::decode(&octets[..length]), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn a_part_of_a_header_is_refused(body_octets: u64) {
        let mut payload = Vec::new();
        ContentHeader { class_id: 60, body_octets, property_octets: &[] }.encode(&mut payload);
        for length in 0..payload.len() {
            prop_assert_eq!(ContentHeader::decode(&payload[..length]), Err(DecodeError::Truncated));
        }
        // What is left of the properties shows only when they are decoded.
        let header = ContentHeader::decode(&payload).unwrap();
        prop_assert_eq!(Properties::decode(header.property_octets), Err(DecodeError::Truncated));
    }
}

#[test]
fn an_empty_headers_table_is_not_the_absence_of_one() {
    let properties = Properties { headers: Some(Table::EMPTY), ..Properties::default() };
    assert_eq!(encoded(&properties), [0x20, 0, 0, 0, 0, 0]);
    assert_eq!(Properties::decode(&[0x20, 0, 0, 0, 0, 0]), Ok(properties));
}
