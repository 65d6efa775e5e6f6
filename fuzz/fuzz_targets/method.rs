//! The payload of a method frame: ids, fields, and the table of arguments.

#![no_main]

use leveret_fuzz::without_allocating;
use leveret_wire::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let Ok(method) = without_allocating(|| Method::decode(payload)) else { return };
    assert!(Method::IDS.contains(&method.ids()));
    // A peer may set bits and reserved fields that we do not, but never say more than we do.
    let mut again = Vec::new();
    method.encode(&mut again);
    assert!(again.len() <= payload.len());
    assert_eq!(Method::decode(&again), Ok(method));
    // Printing walks through the table, which is checked when decoded and read without checks.
    assert!(!format!("{method:?}").is_empty());
});
