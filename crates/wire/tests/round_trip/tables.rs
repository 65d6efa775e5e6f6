//! Round trips of tables with values of every type, nested.

use std::collections::BTreeSet;

use leveret_wire::{DecodeError, Table, TableBuf, Value};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::material::{OwnedValue, TYPE_OCTETS, build_table, octets, read_table, sample, table};

fn collect_type_octets(value: Value<'_>, nested: bool, found: &mut BTreeSet<(bool, u8)>) {
    let one = TableBuf::new().with("", value);
    found.insert((nested, one.as_table().as_bytes()[1]));
    match value {
        Value::Table(table) => table.iter().for_each(|(_, value)| collect_type_octets(value, true, found)),
        Value::Array(array) => array.iter().for_each(|value| collect_type_octets(value, true, found)),
        _ => {}
    }
}

#[test]
fn every_type_is_generated_at_the_top_and_nested() {
    let mut runner = TestRunner::deterministic();
    let mut found = BTreeSet::new();
    for _ in 0..500 {
        let fields = sample(&table(octets()), &mut runner);
        for (_, value) in build_table(&fields).as_table().iter() {
            collect_type_octets(value, false, &mut found);
        }
    }
    let wanted = TYPE_OCTETS.iter().flat_map(|octet| [(false, *octet), (true, *octet)]);
    assert_eq!(found, wanted.collect());
}

#[test]
fn not_a_number_keeps_its_bits() {
    let (f32_bits, f64_bits) = (0x7fc0_1234, 0xfff8_0000_dead_beef);
    let built = TableBuf::new()
        .with("f", Value::F32(f32::from_bits(f32_bits)))
        .with("d", Value::F64(f64::from_bits(f64_bits)));
    let table = Table::new(built.as_table().as_bytes()).unwrap();
    assert!(matches!(table.find("f"), Some(Value::F32(n)) if n.to_bits() == f32_bits));
    assert!(matches!(table.find("d"), Some(Value::F64(n)) if n.to_bits() == f64_bits));
}

proptest! {
    #[test]
    fn fields_come_back_as_they_went(fields in table(octets())) {
        let built = build_table(&fields);
        let table = Table::new(built.as_table().as_bytes()).unwrap();
        prop_assert_eq!(read_table(table), fields);
        prop_assert_eq!(TableBuf::from(table), built);
    }

    #[test]
    fn the_first_field_of_a_name_is_found(fields in table("[ab]".prop_map(String::into_bytes))) {
        let built = build_table(&fields);
        for name in ["a", "b", "c"] {
            let wanted = fields.iter().find(|(found, _)| found == name.as_bytes());
            let found = built.as_table().find(name).map(|value| TableBuf::new().with(name, value));
            prop_assert_eq!(found, wanted.map(|field| build_table(&vec![field.clone()])));
        }
    }

    #[test]
    fn sorted_tables_hold_the_same_fields(fields in table(octets())) {
        let mut wanted = fields.clone();
        wanted.sort_by(|(one, _), (other, _)| one.cmp(other));
        let sorted = TableBuf::sorted(build_table(&fields).as_table());
        prop_assert_eq!(read_table(sorted.as_table()), wanted);
    }

    #[test]
    fn a_part_of_a_table_is_refused_or_is_its_first_fields(fields in table(octets())) {
        let built = build_table(&fields);
        let octets = built.as_table().as_bytes();
        for length in 0..octets.len() {
            match Table::new(&octets[..length]) {
                Ok(table) => prop_assert!(fields.starts_with(&read_table(table))),
                Err(error) => prop_assert_eq!(error, DecodeError::Truncated),
            }
        }
    }

    #[test]
    fn printing_goes_through_all_fields(fields in table(octets())) {
        let printed = format!("{:?}", build_table(&fields));
        let numbers = fields.iter().filter_map(|(_, value)| match value {
            OwnedValue::Scalar(Value::I64(n)) => Some(n.to_string()),
            _ => None,
        });
        for number in numbers {
            prop_assert!(printed.contains(&number));
        }
    }
}
