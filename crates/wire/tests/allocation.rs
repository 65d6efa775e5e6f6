//! Decoding allocates nothing, whatever sizes a peer announces.
//!
//! A binary of its own, because it counts allocations by taking the place of the allocator.

use allocation_counter::{AllocationInfo, measure};
use leveret_wire::method::{basic, connection, queue};
use leveret_wire::{
    ArrayBuf, ContentHeader, DecodeError, FRAME_OVERHEAD_OCTETS, FrameKind, Method, Properties, ShortStr,
    TABLE_DEPTH_MAX, Table, TableBuf, Value, decode_frame, decode_protocol_header, write_frame,
};

const MIB: u64 = 1024 * 1024;

#[track_caller]
fn check_no_allocation(decode: impl FnOnce()) {
    assert_eq!(measure(decode), AllocationInfo::default());
}

#[test]
fn an_allocation_is_counted() {
    let counted = measure(|| drop(std::hint::black_box(vec![0_u8; 1000])));
    assert_eq!((counted.count_total, counted.bytes_total), (1, 1000));
}

#[test]
fn a_content_header_of_128_mib_allocates_nothing() {
    let mut frame = Vec::new();
    let header = ContentHeader { class_id: 60, body_octets: 128 * MIB, property_octets: &[0, 0] };
    write_frame(FrameKind::Header, 1, &mut frame, |out| header.encode(out));
    check_no_allocation(|| {
        let (frame, _) = decode_frame(&frame, 131_072).unwrap().unwrap();
        let header = ContentHeader::decode(frame.payload).unwrap();
        assert_eq!(header.body_octets, 128 * MIB);
        assert_eq!(Properties::decode(header.property_octets), Ok(Properties::default()));
    });
}

#[test]
fn a_frame_of_4_gib_allocates_nothing() {
    let header = [3, 0, 1, 0xff, 0xff, 0xff, 0xff, b'b', b'o', b'd', b'y'];
    check_no_allocation(|| {
        assert!(decode_frame(&header, 131_072).is_err());
        assert_eq!(decode_frame(&header, u32::MAX), Ok(None));
    });
}

#[test]
fn lengths_of_4_gib_inside_a_payload_allocate_nothing() {
    let check = |octets: &[u8]| {
        check_no_allocation(|| assert_eq!(Table::new(octets).err(), Some(DecodeError::Truncated)));
        let mut properties = vec![0x20, 0];
        properties.extend_from_slice(&u32::try_from(octets.len()).unwrap().to_be_bytes());
        properties.extend_from_slice(octets);
        check_no_allocation(|| assert_eq!(Properties::decode(&properties), Err(DecodeError::Truncated)));
    };
    for type_octet in [b'S', b'x', b'A', b'F'] {
        check(&[1, b'n', type_octet, 0xff, 0xff, 0xff, 0xff]);
        // One more level down, where the outer length is right.
        check(&[1, b'n', b'F', 0, 0, 0, 7, 1, b'n', type_octet, 0xff, 0xff, 0xff, 0xff]);
        check(&[1, b'n', b'A', 0, 0, 0, 5, type_octet, 0xff, 0xff, 0xff, 0xff]);
    }
    let start_ok = [0, 10, 0, 11, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
    check_no_allocation(|| assert_eq!(Method::decode(&start_ok), Err(DecodeError::Truncated)));
}

#[test]
fn nesting_of_any_depth_allocates_nothing() {
    let check = |depth: usize, wanted: Option<DecodeError>| {
        let mut table = TableBuf::new();
        for _ in 1..depth {
            table = TableBuf::new().with("t", Value::Table(table.as_table()));
        }
        check_no_allocation(|| assert_eq!(Table::new(table.as_table().as_bytes()).err(), wanted));
    };
    check(TABLE_DEPTH_MAX, None);
    check(TABLE_DEPTH_MAX + 1, Some(DecodeError::TooDeep));
    check(10_000, Some(DecodeError::TooDeep));
}

#[test]
fn what_is_read_of_valid_methods_allocates_nothing() {
    let array = ArrayBuf::new().with(Value::LongStr(b"one")).with(Value::I64(2));
    let inner = TableBuf::new().with("a", Value::Array(array.as_array()));
    let table = TableBuf::new().with("x-max-length", Value::I32(9)).with("t", Value::Table(inner.as_table()));
    let methods: [Method<'_>; 4] = [
        connection::StartOk { client_properties: table.as_table(), ..Default::default() }.into(),
        queue::Declare { queue: "q".into(), arguments: table.as_table(), ..Default::default() }.into(),
        basic::Publish { routing_key: "key".into(), ..Default::default() }.into(),
        basic::Ack { delivery_tag: 7, multiple: true }.into(),
    ];
    for method in methods {
        let mut octets = Vec::new();
        method.encode(&mut octets);
        check_no_allocation(|| assert_eq!(Method::decode(&octets), Ok(method)));
    }
    check_no_allocation(|| {
        assert_eq!(table.as_table().iter().count(), 2);
        let Some(Value::Table(inner)) = table.as_table().find("t") else { panic!("no inner table") };
        let Some(Value::Array(array)) = inner.find("a") else { panic!("no array") };
        assert_eq!(array.iter().count(), 2);
    });
}

#[test]
fn properties_and_protocol_headers_allocate_nothing() {
    let headers = TableBuf::new().with("k", Value::LongStr(&[b'v'; 500]));
    let properties = Properties {
        headers: Some(headers.as_table()),
        correlation_id: ShortStr::new(&[b'c'; ShortStr::OCTETS_MAX]),
        timestamp: Some(1),
        ..Properties::default()
    };
    let mut octets = Vec::new();
    properties.encode(&mut octets);
    check_no_allocation(|| {
        assert_eq!(Properties::decode(&octets), Ok(properties));
        assert!(decode_protocol_header(b"AMQP\0\0\x09\x01").is_some());
    });
}

#[test]
fn encoding_into_a_buffer_with_room_allocates_nothing() {
    let mut out = Vec::with_capacity(1000);
    let publish =
        basic::Publish { exchange: "logs".into(), routing_key: "info".into(), ..Default::default() };
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    check_no_allocation(|| {
        Method::from(publish).write_frame(1, &mut out);
        write_frame(FrameKind::Header, 1, &mut out, |out| properties.encode(out));
        leveret_wire::write_body_frames(1, &[b'b'; 100], 64, &mut out);
    });
    assert!(out.len() > 100 + 4 * FRAME_OVERHEAD_OCTETS);
}
