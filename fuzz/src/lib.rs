//! What the fuzz targets share: the bound on allocation, and walks through decoded values.
//!
//! libFuzzer's own limit on an allocation works with sanitizers only, which need a nightly
//! compiler, so that the targets measure what they allocate themselves.

use allocation_counter::measure;
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, ProtocolHeader, Table, TableBuf, Value, decode_frame,
};

/// Runs `decode` and panics when it allocated anything.
pub fn without_allocating<T>(decode: impl FnOnce() -> T) -> T {
    let mut decoded = None;
    let allocated = measure(|| decoded = Some(decode()));
    assert_eq!(allocated.count_total, 0, "decoding allocated: {allocated:?}");
    decoded.expect("the closure was run")
}

/// Runs `work` and panics when at some moment it held more than `octets_max`.
pub fn within<T>(octets_max: u64, work: impl FnOnce() -> T) -> T {
    let mut done = None;
    let allocated = measure(|| done = Some(work()));
    assert!(allocated.bytes_max <= octets_max, "{octets_max} octets were allowed: {allocated:?}");
    done.expect("the closure was run")
}

/// Goes through what a broker says, and panics when that is not whole frames of known methods.
pub fn check_said(said: &[u8]) {
    // A peer with another protocol gets the header of ours and nothing else.
    if said == ProtocolHeader::SUPPORTED {
        return;
    }
    let mut rest = said;
    while let Some((frame, taken)) = decode_frame(rest, u32::MAX).expect("the broker writes frames") {
        let known = match frame.kind {
            FrameKind::Method => Method::decode(frame.payload).is_ok(),
            FrameKind::Header => ContentHeader::decode(frame.payload).is_ok(),
            FrameKind::Body | FrameKind::Heartbeat => true,
        };
        assert!(known, "the broker wrote {frame:?}");
        rest = &rest[taken..];
    }
    assert!(rest.is_empty(), "the broker left {} octets of a frame behind", rest.len());
}

/// Decodes properties, and panics when they do not come back from what is encoded of them.
pub fn check_properties(octets: &[u8]) {
    let Ok(properties) = without_allocating(|| Properties::decode(octets)) else { return };
    let mut again = Vec::new();
    properties.encode(&mut again);
    assert_eq!(Properties::decode(&again), Ok(properties));
    if let Some(headers) = properties.headers {
        check_table(headers);
    }
}

/// Reads all fields of a table, and panics when a copy field by field is not the same table.
pub fn check_table(table: Table<'_>) {
    let mut copy = TableBuf::new();
    for (name, value) in table.iter() {
        check_value(value);
        copy.push_field(name, value);
    }
    let copy = Table::new(copy.as_table().as_bytes()).expect("a copy of a table is a table");
    let fields = |table: Table<'_>| format!("{table:?}");
    assert_eq!(fields(copy), fields(table));
    let sorted = TableBuf::sorted(table);
    assert_eq!(TableBuf::sorted(sorted.as_table()), sorted);
}

fn check_value(value: Value<'_>) {
    match value {
        Value::Table(table) => check_table(table),
        Value::Array(array) => array.iter().for_each(check_value),
        other => assert!(!other.type_name().is_empty()),
    }
}
