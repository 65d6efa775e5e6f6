//! Arbitrary fields: what the methods, tables and properties of these tests are made of.

use leveret_wire::method::{
    LongStr, Method, ReservedBit, ReservedLongStr, ReservedShort, ReservedShortStr, access, basic, channel,
    confirm, connection, exchange, queue, tx,
};
use leveret_wire::{ArrayBuf, ShortStr, Table, TableBuf, Value};
use proptest::array::{uniform3, uniform4, uniform5};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// The type octets of every kind of field value.
pub(crate) const TYPE_OCTETS: &[u8] = b"tbBsuIilfdDSATFVx";

/// A field value that owns what it holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OwnedValue {
    /// A value of fixed size.
    Scalar(Value<'static>),
    LongStr(Vec<u8>),
    Octets(Vec<u8>),
    Array(Vec<OwnedValue>),
    Table(OwnedTable),
}

pub(crate) type OwnedTable = Vec<(Vec<u8>, OwnedValue)>;

impl OwnedValue {
    fn lend(&self, taker: &mut dyn FnMut(Value<'_>)) {
        match self {
            Self::Scalar(value) => taker(*value),
            Self::LongStr(octets) => taker(Value::LongStr(octets)),
            Self::Octets(octets) => taker(Value::Octets(octets)),
            Self::Array(values) => {
                let mut array = ArrayBuf::new();
                values.iter().for_each(|value| value.lend(&mut |value| array.push(value)));
                taker(Value::Array(array.as_array()));
            }
            Self::Table(fields) => taker(Value::Table(build_table(fields).as_table())),
        }
    }

    fn read(value: Value<'_>) -> Self {
        match value {
            Value::LongStr(octets) => Self::LongStr(octets.to_vec()),
            Value::Octets(octets) => Self::Octets(octets.to_vec()),
            Value::Array(array) => Self::Array(array.iter().map(Self::read).collect()),
            Value::Table(table) => Self::Table(read_table(table)),
            Value::Bool(value) => Self::Scalar(Value::Bool(value)),
            Value::I8(n) => Self::Scalar(Value::I8(n)),
            Value::U8(n) => Self::Scalar(Value::U8(n)),
            Value::I16(n) => Self::Scalar(Value::I16(n)),
            Value::U16(n) => Self::Scalar(Value::U16(n)),
            Value::I32(n) => Self::Scalar(Value::I32(n)),
            Value::U32(n) => Self::Scalar(Value::U32(n)),
            Value::I64(n) => Self::Scalar(Value::I64(n)),
            Value::F32(n) => Self::Scalar(Value::F32(n)),
            Value::F64(n) => Self::Scalar(Value::F64(n)),
            Value::Decimal { scale, value } => Self::Scalar(Value::Decimal { scale, value }),
            Value::Timestamp(seconds) => Self::Scalar(Value::Timestamp(seconds)),
            Value::Void => Self::Scalar(Value::Void),
        }
    }
}

/// Encodes the fields.
pub(crate) fn build_table(fields: &OwnedTable) -> TableBuf {
    let mut table = TableBuf::new();
    for (name, value) in fields {
        let name = ShortStr::new(name).expect("names are generated short");
        value.lend(&mut |value| table.push_field(name, value));
    }
    table
}

/// Decodes all fields, however deep.
pub(crate) fn read_table(table: Table<'_>) -> OwnedTable {
    table.iter().map(|(name, value)| (name.as_bytes().to_vec(), OwnedValue::read(value))).collect()
}

/// Up to 255 octets of UTF-8.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let longest = Just(vec![b'n'; ShortStr::OCTETS_MAX]);
    prop_oneof![20 => "\\PC{0,24}".prop_map(String::into_bytes), 1 => longest]
}

/// Up to 255 octets of any kind.
pub(crate) fn octets() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..24)
}

fn scalar() -> impl Strategy<Value = OwnedValue> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<(u8, u32)>().prop_map(|(scale, value)| Value::Decimal { scale, value }),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
    ]
    .prop_map(OwnedValue::Scalar)
}

fn value() -> impl Strategy<Value = OwnedValue> {
    let leaf = prop_oneof![
        13 => scalar(),
        1 => octets().prop_map(OwnedValue::LongStr),
        1 => octets().prop_map(OwnedValue::Octets),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(OwnedValue::Array),
            vec((text(), inner), 0..4).prop_map(OwnedValue::Table),
        ]
    })
}

/// Fields of every type, nested, under names that the strategy gives.
pub(crate) fn table(names: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = OwnedTable> {
    vec((names, value()), 0..6)
}

/// Enough fields of every type for any one method.
#[derive(Debug, Clone)]
pub(crate) struct Material {
    pub(crate) numbers: [u64; 4],
    pub(crate) bits: [bool; 5],
    pub(crate) short_strs: [Vec<u8>; 3],
    pub(crate) long_strs: [Vec<u8>; 2],
    pub(crate) table: TableBuf,
}

/// Material whose short strings the given strategies make.
pub(crate) fn material(
    short_strs: impl Strategy<Value = Vec<u8>>,
    table: impl Strategy<Value = OwnedTable>,
) -> impl Strategy<Value = Material> {
    let numbers = prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX)];
    let long_strs = [vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..3)];
    (uniform4(numbers), uniform5(any::<bool>()), uniform3(short_strs), long_strs, table).prop_map(
        |(numbers, bits, short_strs, long_strs, table)| Material {
            numbers,
            bits,
            short_strs,
            long_strs,
            table: build_table(&table),
        },
    )
}

/// One value of the strategy, the next one of the runner.
pub(crate) fn sample<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("no value is rejected").current()
}

/// Hands out the material, each piece once.
pub(crate) struct Source<'a> {
    numbers: std::slice::Iter<'a, u64>,
    bits: std::slice::Iter<'a, bool>,
    short_strs: std::slice::Iter<'a, Vec<u8>>,
    long_strs: std::slice::Iter<'a, Vec<u8>>,
    tables: std::option::IntoIter<&'a TableBuf>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(material: &'a Material) -> Self {
        Self {
            numbers: material.numbers.iter(),
            bits: material.bits.iter(),
            short_strs: material.short_strs.iter(),
            long_strs: material.long_strs.iter(),
            tables: Some(&material.table).into_iter(),
        }
    }

    pub(crate) fn take<T: Taken<'a>>(&mut self) -> T {
        T::take(self).expect("there is material for the longest method")
    }
}

/// What a field of a method can be made of.
pub(crate) trait Taken<'a>: Sized {
    fn take(source: &mut Source<'a>) -> Option<Self>;
}

impl Taken<'_> for u64 {
    fn take(source: &mut Source<'_>) -> Option<Self> {
        source.numbers.next().copied()
    }
}

macro_rules! low_octets_taken {
    ($($type:ident),*) => {$(
        impl Taken<'_> for $type {
            fn take(source: &mut Source<'_>) -> Option<Self> {
                let number = source.numbers.next()?.to_le_bytes();
                number.first_chunk().copied().map($type::from_le_bytes)
            }
        }
    )*};
}

low_octets_taken!(u8, u16, u32);

impl Taken<'_> for bool {
    fn take(source: &mut Source<'_>) -> Option<Self> {
        source.bits.next().copied()
    }
}

impl<'a> Taken<'a> for ShortStr<'a> {
    fn take(source: &mut Source<'a>) -> Option<Self> {
        source.short_strs.next().and_then(|octets| ShortStr::new(octets))
    }
}

impl<'a> Taken<'a> for LongStr<'a> {
    fn take(source: &mut Source<'a>) -> Option<Self> {
        source.long_strs.next().map(|octets| LongStr(octets))
    }
}

impl<'a> Taken<'a> for Table<'a> {
    fn take(source: &mut Source<'a>) -> Option<Self> {
        source.tables.next().map(TableBuf::as_table)
    }
}

macro_rules! reserved_taken {
    ($($type:ident),*) => {$(
        impl Taken<'_> for $type {
            fn take(_: &mut Source<'_>) -> Option<Self> {
                Some(Self)
            }
        }
    )*};
}

reserved_taken!(ReservedBit, ReservedLongStr, ReservedShort, ReservedShortStr);

macro_rules! builders {
    ($($class:ident::$name:ident { $($field:ident),* })*) => {
        /// Builds each method from all its fields.
        pub(crate) const BUILDERS: &[for<'a> fn(&mut Source<'a>) -> Method<'a>] = &[
            $(|_source| Method::from($class::$name { $($field: _source.take()),* })),*
        ];
    };
}

builders! {
    connection::Start { version_major, version_minor, server_properties, mechanisms, locales }
    connection::StartOk { client_properties, mechanism, response, locale }
    connection::Secure { challenge }
    connection::SecureOk { response }
    connection::Tune { channel_max, frame_max, heartbeat_seconds }
    connection::TuneOk { channel_max, frame_max, heartbeat_seconds }
    connection::Open { virtual_host, reserved_1, reserved_2 }
    connection::OpenOk { reserved_1 }
    connection::Close { reply_code, reply_text, class_id, method_id }
    connection::CloseOk {}
    connection::Blocked { reason }
    connection::Unblocked {}
    connection::UpdateSecret { new_secret, reason }
    connection::UpdateSecretOk {}
    channel::Open { reserved_1 }
    channel::OpenOk { reserved_1 }
    channel::Flow { active }
    channel::FlowOk { active }
    channel::Close { reply_code, reply_text, class_id, method_id }
    channel::CloseOk {}
    access::Request { realm, exclusive, passive, active, write, read }
    access::RequestOk { ticket }
    exchange::Declare { reserved_1, exchange, kind, passive, durable, auto_delete, internal, nowait, arguments }
    exchange::DeclareOk {}
    exchange::Delete { reserved_1, exchange, if_unused, nowait }
    exchange::DeleteOk {}
    exchange::Bind { reserved_1, destination, source, routing_key, nowait, arguments }
    exchange::BindOk {}
    exchange::Unbind { reserved_1, destination, source, routing_key, nowait, arguments }
    exchange::UnbindOk {}
    queue::Declare { reserved_1, queue, passive, durable, exclusive, auto_delete, nowait, arguments }
    queue::DeclareOk { queue, message_count, consumer_count }
    queue::Bind { reserved_1, queue, exchange, routing_key, nowait, arguments }
    queue::BindOk {}
    queue::Purge { reserved_1, queue, nowait }
    queue::PurgeOk { message_count }
    queue::Delete { reserved_1, queue, if_unused, if_empty, nowait }
    queue::DeleteOk { message_count }
    queue::Unbind { reserved_1, queue, exchange, routing_key, arguments }
    queue::UnbindOk {}
    basic::Qos { prefetch_octets, prefetch_count, global }
    basic::QosOk {}
    basic::Consume { reserved_1, queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments }
    basic::ConsumeOk { consumer_tag }
    basic::Cancel { consumer_tag, nowait }
    basic::CancelOk { consumer_tag }
    basic::Publish { reserved_1, exchange, routing_key, mandatory, immediate }
    basic::Return { reply_code, reply_text, exchange, routing_key }
    basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key }
    basic::Get { reserved_1, queue, no_ack }
    basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count }
    basic::GetEmpty { reserved_1 }
    basic::Ack { delivery_tag, multiple }
    basic::Reject { delivery_tag, requeue }
    basic::RecoverAsync { requeue }
    basic::Recover { requeue }
    basic::RecoverOk {}
    basic::Nack { delivery_tag, multiple, requeue }
    tx::Select {}
    tx::SelectOk {}
    tx::Commit {}
    tx::CommitOk {}
    tx::Rollback {}
    tx::RollbackOk {}
    confirm::Select { nowait }
    confirm::SelectOk {}
}

/// One of each method, of the given material.
pub(crate) fn every_method(material: &Material) -> impl Iterator<Item = Method<'_>> {
    BUILDERS.iter().map(|build| build(&mut Source::new(material)))
}
