//! The octets of a field table, nested or not.

#![no_main]

use leveret_fuzz::{check_table, without_allocating};
use leveret_wire::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(table) = without_allocating(|| Table::new(octets)) {
        check_table(table);
    }
});
