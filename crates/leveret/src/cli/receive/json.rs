//! A message as one JSON object: what `-o json` writes.
//!
//! Invariant: nothing of a message is lost; what JSON has no form for is base64 under a name that says so.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::{Map, Value, json};

use super::message::Message;

pub(crate) fn object(message: &Message) -> Value {
    let mut object = Map::new();
    object.insert("exchange".to_owned(), message.exchange.as_str().into());
    object.insert("routing_key".to_owned(), message.routing_key.as_str().into());
    object.insert("redelivered".to_owned(), message.redelivered.into());
    object.insert("properties".to_owned(), properties(&message.properties));
    match std::str::from_utf8(&message.body) {
        Ok(text) => object.insert("body".to_owned(), text.into()),
        Err(_) => object.insert("body_base64".to_owned(), BASE64.encode(&message.body).into()),
    };
    Value::Object(object)
}

/// The properties that are set, under the protocol's names.
fn properties(properties: &BasicProperties) -> Value {
    let text = |value: &Option<ShortString>| value.as_ref().map(|value| Value::from(value.as_str()));
    let named = [
        ("content_type", text(properties.content_type())),
        ("content_encoding", text(properties.content_encoding())),
        ("headers", properties.headers().as_ref().map(table)),
        ("delivery_mode", properties.delivery_mode().map(Value::from)),
        ("priority", properties.priority().map(Value::from)),
        ("correlation_id", text(properties.correlation_id())),
        ("reply_to", text(properties.reply_to())),
        ("expiration", text(properties.expiration())),
        ("message_id", text(properties.message_id())),
        ("timestamp", properties.timestamp().map(Value::from)),
        ("type", text(properties.kind())),
        ("user_id", text(properties.user_id())),
        ("app_id", text(properties.app_id())),
        ("cluster_id", text(properties.cluster_id())),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn table(table: &FieldTable) -> Value {
    table.into_iter().map(|(name, value)| (name.to_string(), field(value))).collect()
}

fn field(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Float(value) => float(f64::from(*value)),
        AMQPValue::Double(value) => float(*value),
        AMQPValue::DecimalValue(value) => json!({ "decimal": value.value, "scale": value.scale }),
        AMQPValue::ShortString(value) => value.as_str().into(),
        AMQPValue::LongString(value) => octets(value.as_bytes()),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(field).collect(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::FieldTable(value) => table(value),
        AMQPValue::ByteArray(value) => json!({ "base64": BASE64.encode(value.as_slice()) }),
        AMQPValue::Void => Value::Null,
    }
}

/// JSON has no infinities and no NaN.
fn float(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
}

fn octets(octets: &[u8]) -> Value {
    match std::str::from_utf8(octets) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(octets) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8], properties: BasicProperties) -> Message {
        Message {
            exchange: "logs".into(),
            routing_key: "kern.info".into(),
            redelivered: false,
            properties,
            body: body.to_vec(),
        }
    }

    #[test]
    fn a_text_message_is_readable() {
        let mut headers = FieldTable::default();
        headers.insert("host".into(), AMQPValue::LongString("web1".into()));
        headers.insert("n".into(), AMQPValue::LongInt(-3));
        let properties = BasicProperties::default().with_message_id("7".into()).with_headers(headers);
        assert_eq!(
            object(&message(b"hello \x1b\r", properties)).to_string(),
            r#"{"body":"hello \u001b\r","exchange":"logs","properties":{"headers":{"host":"web1","n":-3},"message_id":"7"},"redelivered":false,"routing_key":"kern.info"}"#
        );
    }

    #[test]
    fn what_is_not_text_is_base64_and_says_so() {
        let object = object(&message(b"\xff\0", BasicProperties::default()));
        assert_eq!(object["body_base64"], "/wA=");
        assert_eq!(object.get("body"), None);
        assert_eq!(field(&AMQPValue::LongString(b"\xff".as_slice().into())), json!({ "base64": "/w==" }));
        assert_eq!(field(&AMQPValue::Double(f64::NAN)), json!("NaN"));
        assert_eq!(field(&AMQPValue::Void), Value::Null);
    }
}
