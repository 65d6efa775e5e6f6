//! An independent codec, amq-protocol, writes the same octets and reads the same fields.
//!
//! Its own reading of each type octet, of the order of the fields and of the packing of the bits
//! is what these tests compare with, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol as theirs;
use amq_protocol::protocol::{AMQPClass, BasicProperties};
use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, ShortString};
use leveret_wire::method::{LongStr, access, basic, channel, confirm, connection, exchange, queue, tx};
use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, ShortStr, Table, Value, decode_frame, write_frame,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::material::{Material, OwnedTable, OwnedValue, Source, material, sample, table, text};
use crate::properties::{PROPERTIES, choose};

/// access.request-ok, whose ticket amq-protocol takes for reserved and does not show.
const TICKET_GRANTED: (u16, u16) = (30, 11);

/// A field in the other codec's type.
trait Theirs {
    type Field;
    fn theirs(&self) -> Self::Field;
}

macro_rules! same_type {
    ($($type:ty),*) => {$(
        impl Theirs for $type {
            type Field = Self;
            fn theirs(&self) -> Self {
                *self
            }
        }
    )*};
}

same_type!(bool, u8, u16, u32, u64);

impl Theirs for ShortStr<'_> {
    type Field = ShortString;
    fn theirs(&self) -> ShortString {
        self.to_str().expect("the material is text").into()
    }
}

impl Theirs for LongStr<'_> {
    type Field = LongString;
    fn theirs(&self) -> LongString {
        LongString::from(self.0.to_vec())
    }
}

impl Theirs for Table<'_> {
    type Field = FieldTable;
    fn theirs(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in self.iter() {
            table.insert(name.theirs(), value.theirs());
        }
        table
    }
}

impl Theirs for Value<'_> {
    type Field = AMQPValue;
    fn theirs(&self) -> AMQPValue {
        match *self {
            Value::Bool(value) => AMQPValue::Boolean(value),
            Value::I8(n) => AMQPValue::ShortShortInt(n),
            Value::U8(n) => AMQPValue::ShortShortUInt(n),
            Value::I16(n) => AMQPValue::ShortInt(n),
            Value::U16(n) => AMQPValue::ShortUInt(n),
            Value::I32(n) => AMQPValue::LongInt(n),
            Value::U32(n) => AMQPValue::LongUInt(n),
            Value::I64(n) => AMQPValue::LongLongInt(n),
            Value::F32(n) => AMQPValue::Float(n),
            Value::F64(n) => AMQPValue::Double(n),
            Value::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale, value }),
            Value::LongStr(octets) => AMQPValue::LongString(octets.to_vec().into()),
            Value::Octets(octets) => AMQPValue::ByteArray(octets.into()),
            Value::Array(array) => AMQPValue::FieldArray(FieldArray::from(
                array.iter().map(|value| value.theirs()).collect::<Vec<_>>(),
            )),
            Value::Timestamp(seconds) => AMQPValue::Timestamp(seconds),
            Value::Table(table) => AMQPValue::FieldTable(table.theirs()),
            Value::Void => AMQPValue::Void,
        }
    }
}

macro_rules! pairs {
    ($($variant:ident $class:ident::$name:ident { $($field:ident),* })*) => {
        /// The same method in both codecs' types. Each field of theirs is listed, or this does not
        /// compile; what ours has beside them is reserved.
        fn pairs(material: &Material) -> Vec<(Method<'_>, AMQPClass)> {
            vec![$({
                let mut _source = Source::new(material);
                #[allow(clippy::needless_update)]
                let method = $class::$name { $($field: _source.take(),)* ..Default::default() };
                let theirs = theirs::$class::$name { $($field: method.$field.theirs()),* };
                (Method::from(method), AMQPClass::$variant(theirs::$class::AMQPMethod::$name(theirs)))
            }),*]
        }
    };
}

pairs! {
    Connection connection::Start { version_major, version_minor, server_properties, mechanisms, locales }
    Connection connection::StartOk { client_properties, mechanism, response, locale }
    Connection connection::Secure { challenge }
    Connection connection::SecureOk { response }
    Connection connection::Open { virtual_host }
    Connection connection::OpenOk {}
    Connection connection::Close { reply_code, reply_text, class_id, method_id }
    Connection connection::CloseOk {}
    Connection connection::Blocked { reason }
    Connection connection::Unblocked {}
    Connection connection::UpdateSecret { new_secret, reason }
    Connection connection::UpdateSecretOk {}
    Channel channel::Open {}
    Channel channel::OpenOk {}
    Channel channel::Flow { active }
    Channel channel::FlowOk { active }
    Channel channel::Close { reply_code, reply_text, class_id, method_id }
    Channel channel::CloseOk {}
    Access access::Request { realm, exclusive, passive, active, write, read }
    Exchange exchange::Declare { exchange, kind, passive, durable, auto_delete, internal, nowait, arguments }
    Exchange exchange::DeclareOk {}
    Exchange exchange::Delete { exchange, if_unused, nowait }
    Exchange exchange::DeleteOk {}
    Exchange exchange::Bind { destination, source, routing_key, nowait, arguments }
    Exchange exchange::BindOk {}
    Exchange exchange::Unbind { destination, source, routing_key, nowait, arguments }
    Exchange exchange::UnbindOk {}
    Queue queue::Declare { queue, passive, durable, exclusive, auto_delete, nowait, arguments }
    Queue queue::DeclareOk { queue, message_count, consumer_count }
    Queue queue::Bind { queue, exchange, routing_key, nowait, arguments }
    Queue queue::BindOk {}
    Queue queue::Purge { queue, nowait }
    Queue queue::PurgeOk { message_count }
    Queue queue::Delete { queue, if_unused, if_empty, nowait }
    Queue queue::DeleteOk { message_count }
    Queue queue::Unbind { queue, exchange, routing_key, arguments }
    Queue queue::UnbindOk {}
    Basic basic::Qos { prefetch_count, global }
    Basic basic::QosOk {}
    Basic basic::Consume { queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments }
    Basic basic::ConsumeOk { consumer_tag }
    Basic basic::Cancel { consumer_tag, nowait }
    Basic basic::CancelOk { consumer_tag }
    Basic basic::Publish { exchange, routing_key, mandatory, immediate }
    Basic basic::Return { reply_code, reply_text, exchange, routing_key }
    Basic basic::Deliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key }
    Basic basic::Get { queue, no_ack }
    Basic basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count }
    Basic basic::GetEmpty {}
    Basic basic::Ack { delivery_tag, multiple }
    Basic basic::Reject { delivery_tag, requeue }
    Basic basic::RecoverAsync { requeue }
    Basic basic::Recover { requeue }
    Basic basic::RecoverOk {}
    Basic basic::Nack { delivery_tag, multiple, requeue }
    Tx tx::Select {}
    Tx tx::SelectOk {}
    Tx tx::Commit {}
    Tx tx::CommitOk {}
    Tx tx::Rollback {}
    Tx tx::RollbackOk {}
    Confirm confirm::Select { nowait }
    Confirm confirm::SelectOk {}
}

/// Tune and tune-ok, whose last field has our unit in its name.
fn tune_pairs(material: &Material) -> Vec<(Method<'_>, AMQPClass)> {
    let mut source = Source::new(material);
    let (channel_max, frame_max, heartbeat) = (source.take(), source.take(), source.take());
    let tune = connection::Tune { channel_max, frame_max, heartbeat_seconds: heartbeat };
    let tune_ok = connection::TuneOk { channel_max, frame_max, heartbeat_seconds: heartbeat };
    let their_tune = theirs::connection::Tune { channel_max, frame_max, heartbeat };
    let their_tune_ok = theirs::connection::TuneOk { channel_max, frame_max, heartbeat };
    vec![
        (tune.into(), AMQPClass::Connection(theirs::connection::AMQPMethod::Tune(their_tune))),
        (tune_ok.into(), AMQPClass::Connection(theirs::connection::AMQPMethod::TuneOk(their_tune_ok))),
    ]
}

fn all_pairs(material: &Material) -> Vec<(Method<'_>, AMQPClass)> {
    let mut all = pairs(material);
    all.extend(tune_pairs(material));
    all
}

/// Material with tables as amq-protocol can hold them: a name once, in order, and text.
fn their_material() -> impl Strategy<Value = Material> {
    material(text(), table(text()).prop_map(with_each_name_once))
}

fn with_each_name_once(fields: OwnedTable) -> OwnedTable {
    let fields: BTreeMap<_, _> = fields.into_iter().collect();
    fields.into_iter().map(|(name, value)| (name, each_name_once_inside(value))).collect()
}

fn each_name_once_inside(value: OwnedValue) -> OwnedValue {
    match value {
        OwnedValue::Array(values) => {
            OwnedValue::Array(values.into_iter().map(each_name_once_inside).collect())
        }
        OwnedValue::Table(fields) => OwnedValue::Table(with_each_name_once(fields)),
        other => other,
    }
}

fn their_octets(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).expect("a vector takes all").into_inner().0
}

#[test]
fn every_method_but_one_is_compared() {
    let material = sample(&their_material(), &mut TestRunner::deterministic());
    let mut compared: BTreeSet<_> = all_pairs(&material).iter().map(|(method, _)| method.ids()).collect();
    assert!(compared.insert(TICKET_GRANTED));
    assert_eq!(compared, BTreeSet::from_iter(Method::IDS.iter().copied()));
}

proptest! {
    #[test]
    fn methods_have_the_same_octets_and_fields(material in their_material(), channel: u16) {
        for (method, class) in all_pairs(&material) {
            let mut ours = Vec::new();
            method.write_frame(channel, &mut ours);
            let theirs = AMQPFrame::Method(channel, class);
            prop_assert_eq!(&ours, &their_octets(&theirs), "{:?}", method);
            prop_assert_eq!(parse_frame(&ours[..]), Ok((&[][..], theirs)));
            let (frame, _) = decode_frame(&ours, u32::MAX).unwrap().unwrap();
            prop_assert_eq!(Method::decode(frame.payload), Ok(method));
        }
    }

    #[test]
    fn content_headers_have_the_same_octets_and_fields(
        material in their_material(),
        channel: u16,
        body_size: u64,
        subset in 0..1_u32 << PROPERTIES,
    ) {
        let properties = choose(&material, subset);
        let (mut octets, mut ours) = (Vec::new(), Vec::new());
        properties.encode(&mut octets);
        let header = ContentHeader { class_id: 60, body_octets: body_size, property_octets: &octets };
        write_frame(FrameKind::Header, channel, &mut ours, |out| header.encode(out));

        let their_header = AMQPContentHeader { class_id: 60, body_size, properties: their_properties(&properties) };
        let theirs = AMQPFrame::Header(channel, their_header);
        prop_assert_eq!(&ours, &their_octets(&theirs));
        prop_assert_eq!(parse_frame(&ours[..]), Ok((&[][..], theirs)));
    }

    #[test]
    fn bodies_have_the_same_octets(body in prop::collection::vec(any::<u8>(), 0..300), channel: u16) {
        let mut ours = Vec::new();
        write_frame(FrameKind::Body, channel, &mut ours, |out| out.extend_from_slice(&body));
        prop_assert_eq!(ours, their_octets(&AMQPFrame::Body(channel, body)));
    }
}

fn their_properties(ours: &Properties<'_>) -> BasicProperties {
    let mut theirs = BasicProperties::default();
    macro_rules! copy {
        ($($field:ident $with:ident),* $(,)?) => {
            $(if let Some(value) = ours.$field {
                theirs = theirs.$with(value.theirs());
            })*
        };
    }
    copy!(
        content_type with_content_type, content_encoding with_content_encoding, headers with_headers,
        delivery_mode with_delivery_mode, priority with_priority, correlation_id with_correlation_id,
        reply_to with_reply_to, expiration with_expiration, message_id with_message_id,
        timestamp with_timestamp, kind with_type, user_id with_user_id, app_id with_app_id,
        cluster_id with_cluster_id,
    );
    theirs
}
