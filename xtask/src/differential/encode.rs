//! The octets of a step.
//!
//! Knows frames and methods; not what a broker says to them.
//! Invariant: what is wrong with the octets is what the script wants to be wrong.

use leveret_wire::{
    ContentHeader, FRAME_END, FrameKind, Method, Properties, ShortStr, TableBuf,
    method::{LongStr, access, basic, channel, confirm, connection, exchange, queue, tx},
    write_body_frames, write_frame,
};

use super::{
    field::{Fields, table},
    names::Names,
    operation::{Message, Operation, Property},
};

/// What of a step depends on the connection and on what happened before.
pub(super) struct Place<'a> {
    pub(super) channel: u16,
    pub(super) frame_max: u32,
    /// The delivery that the step means, if it means one.
    pub(super) delivery_tag: u64,
    pub(super) names: &'a Names,
}

/// A short string of a script; longer ones lose their end.
struct Short(Vec<u8>);

impl Short {
    fn of(text: &str, names: &Names) -> Self {
        let mut octets = names.octets_of(text);
        octets.truncate(ShortStr::OCTETS_MAX);
        Self(octets)
    }

    fn borrow(&self) -> ShortStr<'_> {
        ShortStr::new(&self.0).expect("it was cut")
    }
}

/// Makes names of a step's fields ready to be borrowed by a method.
macro_rules! short {
    ($place:expr, $($name:ident),*) => {
        $(let $name = Short::of($name, $place.names);
          let $name = $name.borrow();)*
    };
}

/// Appends the step's octets; nothing where there is nothing to send.
pub(super) fn encode(operation: &Operation, place: &Place<'_>, out: &mut Vec<u8>) {
    match operation {
        Operation::Publish(message) => publish(message, place, out),
        Operation::RawMethod { payload } => raw_frame(1, place.channel, &from_hex(payload), FRAME_END, out),
        Operation::RawFrame { kind, payload, end } => {
            raw_frame(*kind, place.channel, &from_hex(payload), *end, out);
        }
        Operation::RawHeader { payload } => {
            method(basic::Publish::default().into(), place, out);
            raw_frame(2, place.channel, &from_hex(payload), FRAME_END, out);
        }
        Operation::ShortBody { announced, pieces } => short_body(*announced, pieces, place, out),
        Operation::Vanish | Operation::Wait { .. } | Operation::LogIn(_) => {}
        other => topology(other, place, out),
    }
}

fn method(method: Method<'_>, place: &Place<'_>, out: &mut Vec<u8>) {
    method.write_frame(place.channel, out);
}

fn topology(operation: &Operation, place: &Place<'_>, out: &mut Vec<u8>) {
    match operation {
        Operation::DeclareExchange {
            exchange,
            kind,
            passive,
            durable,
            auto_delete,
            internal,
            nowait,
            arguments,
        } => {
            short!(place, exchange, kind);
            let (passive, durable, auto_delete) = (*passive, *durable, *auto_delete);
            let (internal, nowait, arguments) = (*internal, *nowait, fields(arguments, place));
            let declare = exchange::Declare {
                exchange,
                kind,
                passive,
                durable,
                auto_delete,
                internal,
                nowait,
                arguments: arguments.as_table(),
                ..Default::default()
            };
            method(declare.into(), place, out);
        }
        Operation::DeleteExchange { exchange, if_unused, nowait } => {
            short!(place, exchange);
            let delete =
                exchange::Delete { exchange, if_unused: *if_unused, nowait: *nowait, ..Default::default() };
            method(delete.into(), place, out);
        }
        Operation::BindExchange { destination, source, routing_key, nowait, arguments } => {
            short!(place, destination, source, routing_key);
            let (nowait, arguments) = (*nowait, fields(arguments, place));
            let arguments = arguments.as_table();
            let bind =
                exchange::Bind { destination, source, routing_key, nowait, arguments, ..Default::default() };
            method(bind.into(), place, out);
        }
        Operation::UnbindExchange { destination, source, routing_key, nowait, arguments } => {
            short!(place, destination, source, routing_key);
            let (nowait, arguments) = (*nowait, fields(arguments, place));
            let arguments = arguments.as_table();
            let unbind = exchange::Unbind {
                destination,
                source,
                routing_key,
                nowait,
                arguments,
                ..Default::default()
            };
            method(unbind.into(), place, out);
        }
        other => queues(other, place, out),
    }
}

fn queues(operation: &Operation, place: &Place<'_>, out: &mut Vec<u8>) {
    match operation {
        Operation::DeclareQueue { queue, passive, durable, exclusive, auto_delete, nowait, arguments } => {
            short!(place, queue);
            let (passive, durable, exclusive) = (*passive, *durable, *exclusive);
            let (auto_delete, nowait, arguments) = (*auto_delete, *nowait, fields(arguments, place));
            let declare = queue::Declare {
                queue,
                passive,
                durable,
                exclusive,
                auto_delete,
                nowait,
                arguments: arguments.as_table(),
                ..Default::default()
            };
            method(declare.into(), place, out);
        }
        Operation::BindQueue { queue, exchange, routing_key, nowait, arguments } => {
            short!(place, queue, exchange, routing_key);
            let (nowait, arguments) = (*nowait, fields(arguments, place));
            let arguments = arguments.as_table();
            let bind = queue::Bind { queue, exchange, routing_key, nowait, arguments, ..Default::default() };
            method(bind.into(), place, out);
        }
        Operation::UnbindQueue { queue, exchange, routing_key, arguments } => {
            short!(place, queue, exchange, routing_key);
            let arguments = fields(arguments, place);
            let arguments = arguments.as_table();
            let unbind = queue::Unbind { queue, exchange, routing_key, arguments, ..Default::default() };
            method(unbind.into(), place, out);
        }
        Operation::PurgeQueue { queue, nowait } => {
            short!(place, queue);
            method(queue::Purge { queue, nowait: *nowait, ..Default::default() }.into(), place, out);
        }
        Operation::DeleteQueue { queue, if_unused, if_empty, nowait } => {
            short!(place, queue);
            let (if_unused, if_empty, nowait) = (*if_unused, *if_empty, *nowait);
            let delete = queue::Delete { queue, if_unused, if_empty, nowait, ..Default::default() };
            method(delete.into(), place, out);
        }
        other => consumers(other, place, out),
    }
}

fn consumers(operation: &Operation, place: &Place<'_>, out: &mut Vec<u8>) {
    let delivery_tag = place.delivery_tag;
    match operation {
        Operation::Get { queue, no_ack } => {
            short!(place, queue);
            method(basic::Get { queue, no_ack: *no_ack, ..Default::default() }.into(), place, out);
        }
        Operation::Consume { queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments } => {
            short!(place, queue, consumer_tag);
            let (no_local, no_ack, exclusive, nowait) = (*no_local, *no_ack, *exclusive, *nowait);
            let arguments = fields(arguments, place);
            let consume = basic::Consume {
                queue,
                consumer_tag,
                no_local,
                no_ack,
                exclusive,
                nowait,
                arguments: arguments.as_table(),
                ..Default::default()
            };
            method(consume.into(), place, out);
        }
        Operation::Cancel { consumer_tag, nowait } => {
            short!(place, consumer_tag);
            method(basic::Cancel { consumer_tag, nowait: *nowait }.into(), place, out);
        }
        Operation::Qos { prefetch_octets, prefetch_count, global } => {
            let (prefetch_octets, prefetch_count) = (*prefetch_octets, *prefetch_count);
            method(basic::Qos { prefetch_octets, prefetch_count, global: *global }.into(), place, out);
        }
        Operation::Ack { multiple, .. } => {
            method(basic::Ack { delivery_tag, multiple: *multiple }.into(), place, out);
        }
        Operation::Nack { multiple, requeue, .. } => {
            let (multiple, requeue) = (*multiple, *requeue);
            method(basic::Nack { delivery_tag, multiple, requeue }.into(), place, out);
        }
        Operation::Reject { requeue, .. } => {
            method(basic::Reject { delivery_tag, requeue: *requeue }.into(), place, out);
        }
        other => channels(other, place, out),
    }
}

fn channels(operation: &Operation, place: &Place<'_>, out: &mut Vec<u8>) {
    let reply_code = 200;
    let method: Method<'static> = match operation {
        Operation::Recover { requeue } => basic::Recover { requeue: *requeue }.into(),
        Operation::RecoverAsync { requeue } => basic::RecoverAsync { requeue: *requeue }.into(),
        Operation::ConfirmSelect { nowait } => confirm::Select { nowait: *nowait }.into(),
        Operation::TxSelect => tx::Select {}.into(),
        Operation::TxCommit => tx::Commit {}.into(),
        Operation::TxRollback => tx::Rollback {}.into(),
        Operation::Flow { active } => channel::Flow { active: *active }.into(),
        Operation::AccessRequest => access::Request::default().into(),
        Operation::OpenChannel => channel::Open::default().into(),
        Operation::CloseChannel => channel::Close { reply_code, ..Default::default() }.into(),
        Operation::CloseConnection => connection::Close { reply_code, ..Default::default() }.into(),
        Operation::UpdateSecret => {
            connection::UpdateSecret { new_secret: LongStr(b"guest"), reason: "renewed".into() }.into()
        }
        other => unreachable!("{} is encoded before", other.name()),
    };
    method.write_frame(place.channel, out);
}

fn fields(fields: &Fields, place: &Place<'_>) -> TableBuf {
    table(fields, place.names)
}

fn publish(message: &Message, place: &Place<'_>, out: &mut Vec<u8>) {
    let Message { exchange, routing_key, mandatory, immediate, .. } = message;
    short!(place, exchange, routing_key);
    let (mandatory, immediate) = (*mandatory, *immediate);
    let publish = basic::Publish { exchange, routing_key, mandatory, immediate, ..Default::default() };
    method(publish.into(), place, out);
    let body = body_of(message);
    let mut property_octets = Vec::new();
    properties(&message.properties, place.names, &mut property_octets);
    header(body.len() as u64, &property_octets, place.channel, out);
    write_body_frames(place.channel, &body, place.frame_max, out);
}

fn header(body_octets: u64, property_octets: &[u8], channel: u16, out: &mut Vec<u8>) {
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets, property_octets };
    write_frame(FrameKind::Header, channel, out, |out| header.encode(out));
}

fn body_of(message: &Message) -> Vec<u8> {
    message.body.bytes().cycle().take(message.body_octets).collect()
}

fn properties(all: &[Property], names: &Names, out: &mut Vec<u8>) {
    let shorts: Vec<Short> = all.iter().map(|property| Short::of(text_of(property), names)).collect();
    let headers = all.iter().find_map(|property| match property {
        Property::Headers(fields) => Some(table(fields, names)),
        _ => None,
    });
    let mut properties =
        Properties { headers: headers.as_ref().map(TableBuf::as_table), ..Properties::default() };
    for (property, short) in all.iter().zip(&shorts) {
        set(&mut properties, property, short.borrow());
    }
    properties.encode(out);
}

fn text_of(property: &Property) -> &str {
    match property {
        Property::ContentType(text)
        | Property::ContentEncoding(text)
        | Property::CorrelationId(text)
        | Property::ReplyTo(text)
        | Property::Expiration(text)
        | Property::MessageId(text)
        | Property::Kind(text)
        | Property::UserId(text)
        | Property::AppId(text)
        | Property::ClusterId(text) => text,
        Property::Headers(_) | Property::DeliveryMode(_) | Property::Priority(_) | Property::Timestamp(_) => {
            ""
        }
    }
}

fn set<'a>(properties: &mut Properties<'a>, property: &Property, text: ShortStr<'a>) {
    match property {
        Property::Headers(_) => {}
        Property::DeliveryMode(mode) => properties.delivery_mode = Some(*mode),
        Property::Priority(priority) => properties.priority = Some(*priority),
        Property::Timestamp(seconds) => properties.timestamp = Some(*seconds),
        Property::ContentType(_) => properties.content_type = Some(text),
        Property::ContentEncoding(_) => properties.content_encoding = Some(text),
        Property::CorrelationId(_) => properties.correlation_id = Some(text),
        Property::ReplyTo(_) => properties.reply_to = Some(text),
        Property::Expiration(_) => properties.expiration = Some(text),
        Property::MessageId(_) => properties.message_id = Some(text),
        Property::Kind(_) => properties.kind = Some(text),
        Property::UserId(_) => properties.user_id = Some(text),
        Property::AppId(_) => properties.app_id = Some(text),
        Property::ClusterId(_) => properties.cluster_id = Some(text),
    }
}

fn short_body(announced: u64, pieces: &[usize], place: &Place<'_>, out: &mut Vec<u8>) {
    method(basic::Publish::default().into(), place, out);
    header(announced, &[0, 0], place.channel, out);
    for octets in pieces {
        raw_frame(3, place.channel, &vec![b'b'; *octets], FRAME_END, out);
    }
}

fn raw_frame(kind: u8, channel: u16, payload: &[u8], end: u8, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).expect("scripts are small").to_be_bytes());
    out.extend_from_slice(payload);
    out.push(end);
}

/// The octets of hexadecimal digits; a digit that is none ends them.
pub(super) fn from_hex(digits: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.as_bytes().chunks(2).map_while(pair).collect()
}

pub(super) fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use leveret_wire::decode_frame;

    use super::*;

    fn encoded(operation: &Operation) -> Vec<u8> {
        let names = Names::new("p-".to_owned());
        let place = Place { channel: 3, frame_max: 4096, delivery_tag: 7, names: &names };
        let mut out = Vec::new();
        encode(operation, &place, &mut out);
        out
    }

    #[test]
    fn a_publish_is_cut_into_frames() {
        let message = Message {
            routing_key: "~q".to_owned(),
            properties: vec![Property::Priority(3), Property::MessageId("~m".to_owned())],
            body: "ab".to_owned(),
            body_octets: 5001,
            ..Message::default()
        };
        let octets = encoded(&Operation::Publish(message));
        let mut rest = &octets[..];
        let mut sizes = Vec::new();
        while let Some((frame, taken)) = decode_frame(rest, 4096).unwrap() {
            assert_eq!(frame.channel, 3);
            sizes.push((frame.kind, frame.payload.len()));
            rest = &rest[taken..];
        }
        assert_eq!(sizes[2..], [(FrameKind::Body, 4088), (FrameKind::Body, 913)]);
        assert!(octets.windows(4).any(|window| window == b"\x03p-q"[..].as_ref()));
    }

    #[test]
    fn broken_frames_are_broken_as_they_should() {
        let octets = encoded(&Operation::RawFrame { kind: 9, payload: "6162".to_owned(), end: 0 });
        assert_eq!(octets, b"\x09\0\x03\0\0\0\x02ab\0");
        assert_eq!(from_hex(&to_hex(b"\x00\xfe")), b"\x00\xfe");
    }

    #[test]
    fn a_settlement_names_the_delivery_of_its_place() {
        let tag = super::super::operation::Tag::Unacked(0);
        let octets = encoded(&Operation::Ack { tag, multiple: true });
        let (frame, _) = decode_frame(&octets, 4096).unwrap().unwrap();
        let wanted = basic::Ack { delivery_tag: 7, multiple: true };
        assert_eq!(Method::decode(frame.payload), Ok(wanted.into()));
    }
}
