//! What a broker said, as text that can be compared.
//!
//! Knows every field of every method that a server sends, and every property of a message; not
//! which differences matter.
//! Invariant: two events are equal only if a client sees the same, but for names that the server
//! made and the time at which a message died.

use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{SystemTime, UNIX_EPOCH};

use leveret_wire::{
    ContentHeader, Method, Properties, ShortStr, Table, Value,
    method::{channel, connection},
};

use super::names::Names;

/// Longer bodies are told by their size and a hash.
const BODY_SHOWN_OCTETS_MAX: usize = 48;
/// A time in `x-death` is now when it is no farther off than this.
const DEATH_TIME_SECONDS_MAX: u64 = 120;

/// Something that was said on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The method's name, or what happened to the socket.
    pub(super) name: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Event {
    pub(super) const fn plain(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    /// A field's text; empty when there is no such field.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(found, _)| *found == name).map_or("", |(_, text)| text)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(found, _)| *found == name)
    }

    /// The same with another text in one field.
    pub(super) fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        match self.fields.iter_mut().find(|(found, _)| *found == name) {
            Some((_, found)) => *found = text.into(),
            None => self.fields.push((name, text.into())),
        }
        self
    }

    /// The same without a field.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(found, _)| *found != name);
        self
    }

    /// What kind of outcome this is: the method's name, with a reply code if it has one.
    pub(super) fn outcome(&self) -> String {
        match self.field("reply-code") {
            "" => self.name.to_owned(),
            code => format!("{} {code}", self.name),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.fields.iter().try_for_each(|(name, text)| write!(f, " {name}={text}"))
    }
}

/// Content that came with a method.
pub(super) struct Content {
    pub(super) header: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Makes an event of a method.
pub(super) struct Teller<'a> {
    pub(super) names: &'a mut Names,
}

impl Teller<'_> {
    pub(super) fn event(&mut self, method: &Method<'_>, content: Option<&Content>) -> Event {
        let mut fields = self.fields(method);
        if let Some(content) = content {
            self.content(content, &mut fields);
        }
        Event { name: method.name(), fields }
    }

    /// The event of a close whose text is not UTF-8, and a close that stands for it.
    pub(super) fn close_of_no_text(&mut self, payload: &[u8]) -> Option<(Event, Method<'static>)> {
        let (ids, rest) = payload.split_first_chunk::<4>()?;
        let method: Method<'static> = match ids {
            [0, 10, 0, 50] => connection::Close::default().into(),
            [0, 20, 0, 40] => channel::Close::default().into(),
            _ => return None,
        };
        let (code, rest) = rest.split_first_chunk::<2>()?;
        let (octets, rest) = rest.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*octets))?;
        let (class, rest) = rest.split_first_chunk::<2>()?;
        let fields = vec![
            ("reply-code", u16::from_be_bytes(*code).to_string()),
            ("class", u16::from_be_bytes(*class).to_string()),
            ("method", u16::from_be_bytes(*rest.first_chunk::<2>()?).to_string()),
            ("text", self.names.text_of(text)),
        ];
        Some((Event { name: method.name(), fields }, method))
    }

    fn text(&mut self, text: ShortStr<'_>) -> String {
        self.names.text_of(text.as_bytes())
    }

    fn fields(&mut self, method: &Method<'_>) -> Vec<(&'static str, String)> {
        match method {
            Method::ConnectionClose(close) => vec![
                ("reply-code", close.reply_code.to_string()),
                ("class", close.class_id.to_string()),
                ("method", close.method_id.to_string()),
                ("text", self.text(close.reply_text)),
            ],
            Method::ChannelClose(close) => vec![
                ("reply-code", close.reply_code.to_string()),
                ("class", close.class_id.to_string()),
                ("method", close.method_id.to_string()),
                ("text", self.text(close.reply_text)),
            ],
            Method::QueueDeclareOk(ok) => vec![
                ("queue", self.text(ok.queue)),
                ("messages", ok.message_count.to_string()),
                ("consumers", ok.consumer_count.to_string()),
            ],
            Method::BasicReturn(back) => vec![
                ("reply-code", back.reply_code.to_string()),
                ("text", self.text(back.reply_text)),
                ("exchange", self.text(back.exchange)),
                ("key", self.text(back.routing_key)),
            ],
            Method::BasicDeliver(deliver) => vec![
                ("consumer", self.text(deliver.consumer_tag)),
                ("tag", deliver.delivery_tag.to_string()),
                ("redelivered", deliver.redelivered.to_string()),
                ("exchange", self.text(deliver.exchange)),
                ("key", self.text(deliver.routing_key)),
            ],
            Method::BasicGetOk(ok) => vec![
                ("tag", ok.delivery_tag.to_string()),
                ("redelivered", ok.redelivered.to_string()),
                ("exchange", self.text(ok.exchange)),
                ("key", self.text(ok.routing_key)),
                ("left", ok.message_count.to_string()),
            ],
            Method::BasicConsumeOk(ok) => vec![("consumer", self.text(ok.consumer_tag))],
            Method::BasicCancelOk(ok) => vec![("consumer", self.text(ok.consumer_tag))],
            Method::BasicCancel(cancel) => {
                vec![("consumer", self.text(cancel.consumer_tag)), ("nowait", cancel.nowait.to_string())]
            }
            other => self.rare_fields(other),
        }
    }

    fn rare_fields(&mut self, method: &Method<'_>) -> Vec<(&'static str, String)> {
        match method {
            Method::QueueDeleteOk(ok) => vec![("messages", ok.message_count.to_string())],
            Method::QueuePurgeOk(ok) => vec![("messages", ok.message_count.to_string())],
            Method::BasicAck(ack) => {
                vec![("tag", ack.delivery_tag.to_string()), ("multiple", ack.multiple.to_string())]
            }
            Method::BasicNack(nack) => vec![
                ("tag", nack.delivery_tag.to_string()),
                ("multiple", nack.multiple.to_string()),
                ("requeue", nack.requeue.to_string()),
            ],
            Method::ChannelFlow(flow) => vec![("active", flow.active.to_string())],
            Method::ChannelFlowOk(ok) => vec![("active", ok.active.to_string())],
            Method::AccessRequestOk(ok) => vec![("ticket", ok.ticket.to_string())],
            Method::ConnectionBlocked(blocked) => vec![("text", self.text(blocked.reason))],
            Method::ConnectionStart(start) => vec![
                ("version", format!("{}-{}", start.version_major, start.version_minor)),
                ("mechanisms", self.names.text_of(start.mechanisms.0)),
                ("locales", self.names.text_of(start.locales.0)),
                ("capabilities", self.capabilities(start.server_properties)),
            ],
            Method::ConnectionTune(tune) => vec![
                ("channel-max", tune.channel_max.to_string()),
                ("frame-max", tune.frame_max.to_string()),
                ("heartbeat", tune.heartbeat_seconds.to_string()),
            ],
            _ => Vec::new(),
        }
    }

    fn capabilities(&mut self, properties: Table<'_>) -> String {
        match properties.find("capabilities") {
            Some(Value::Table(found)) => self.table(found, ""),
            other => format!("{other:?}"),
        }
    }

    fn content(&mut self, content: &Content, fields: &mut Vec<(&'static str, String)>) {
        match ContentHeader::decode(&content.header) {
            Ok(header) => self.properties(header.property_octets, fields),
            Err(error) => fields.push(("broken-header", error.to_string())),
        }
        fields.push(("body", self.body(&content.body)));
    }

    fn body(&mut self, body: &[u8]) -> String {
        if body.len() <= BODY_SHOWN_OCTETS_MAX {
            return self.names.text_of(body);
        }
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        format!("<{} octets, {:016x}>", body.len(), hasher.finish())
    }

    fn properties(&mut self, octets: &[u8], fields: &mut Vec<(&'static str, String)>) {
        let flags = octets.first_chunk::<2>().map_or(0, |flags| u16::from_be_bytes(*flags));
        fields.push(("flags", format!("{flags:04x}")));
        let properties = match Properties::decode(octets) {
            Ok(properties) => properties,
            Err(error) => return fields.push(("broken-properties", error.to_string())),
        };
        if let Some(headers) = properties.headers {
            fields.push(("headers", self.table(headers, "")));
        }
        let numbers = [
            ("delivery-mode", properties.delivery_mode.map(u64::from)),
            ("priority", properties.priority.map(u64::from)),
            ("timestamp", properties.timestamp),
        ];
        fields.extend(numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string()))));
        let texts = [
            ("content-type", properties.content_type),
            ("content-encoding", properties.content_encoding),
            ("correlation-id", properties.correlation_id),
            ("reply-to", properties.reply_to),
            ("expiration", properties.expiration),
            ("message-id", properties.message_id),
            ("type", properties.kind),
            ("user-id", properties.user_id),
            ("app-id", properties.app_id),
            ("cluster-id", properties.cluster_id),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                fields.push((name, self.text(text)));
            }
        }
    }

    /// A table in its order, with types; `within` is the field in which it stands.
    fn table(&mut self, table: Table<'_>, within: &str) -> String {
        let mut text = "{".to_owned();
        for (name, value) in table.iter() {
            let name = self.text(name);
            let value = if within == "x-death" && name == "time" { death_time(value) } else { None }
                .unwrap_or_else(|| self.value(value, &name));
            let _ = write!(text, "{}{name}:{value}", if text.len() > 1 { ", " } else { "" });
        }
        text + "}"
    }

    fn value(&mut self, value: Value<'_>, within: &str) -> String {
        let of_type = |text: String| format!("{} {text}", value.type_name());
        match value {
            Value::LongStr(octets) | Value::Octets(octets) => {
                of_type(format!("'{}'", self.names.text_of(octets)))
            }
            Value::Table(table) => of_type(self.table(table, within)),
            Value::Array(array) => {
                let values: Vec<_> = array.iter().map(|value| self.value(value, within)).collect();
                of_type(format!("[{}]", values.join(", ")))
            }
            Value::F32(float) => of_type(format!("{float:?}")),
            Value::F64(float) => of_type(format!("{float:?}")),
            Value::Void => "void".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

/// `timestamp now`, if that is what it is.
fn death_time(value: Value<'_>) -> Option<String> {
    let Value::Timestamp(seconds) = value else { return None };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    (now.abs_diff(seconds) <= DEATH_TIME_SECONDS_MAX).then(|| "timestamp <now>".to_owned())
}

#[cfg(test)]
mod tests {
    use leveret_wire::{ArrayBuf, TableBuf, method::basic};

    use super::*;

    fn told(properties: Properties<'_>, body: &[u8]) -> Event {
        let mut property_octets = Vec::new();
        properties.encode(&mut property_octets);
        let header =
            ContentHeader { class_id: 60, body_octets: body.len() as u64, property_octets: &property_octets };
        let mut content = Content { header: Vec::new(), body: body.to_vec() };
        header.encode(&mut content.header);
        let deliver = basic::Deliver { delivery_tag: 4, ..Default::default() };
        Teller { names: &mut Names::default() }.event(&deliver.into(), Some(&content))
    }

    fn with_headers(headers: &TableBuf) -> String {
        let properties = Properties { headers: Some(headers.as_table()), ..Properties::default() };
        told(properties, b"").field("headers").to_owned()
    }

    #[test]
    fn a_close_is_told_even_if_its_text_is_none() {
        let mut names = Names::default();
        let mut teller = Teller { names: &mut names };
        let whole = channel::Close { reply_code: 404, reply_text: "ab".into(), class_id: 50, method_id: 10 };
        let mut payload = Vec::new();
        Method::from(whole).encode(&mut payload);
        let wanted = teller.event(&whole.into(), None);
        assert_eq!(teller.close_of_no_text(&payload).unwrap().0, wanted);
        payload[8] = 0xc3;
        assert!(Method::decode(&payload).is_err());
        assert_eq!(teller.close_of_no_text(&payload).unwrap().0, wanted.with("text", "a\\xc3"));
        assert!(teller.close_of_no_text(&payload[..9]).is_none());
    }

    #[test]
    fn types_and_order_of_headers_are_told() {
        let one = TableBuf::new().with("a", Value::I32(1)).with("b", Value::LongStr(b"x"));
        let turned = TableBuf::new().with("b", Value::LongStr(b"x")).with("a", Value::I32(1));
        let wider = TableBuf::new().with("a", Value::I64(1)).with("b", Value::LongStr(b"x"));
        assert_eq!(with_headers(&one), "{a:I32(1), b:longstr 'x'}");
        assert_ne!(with_headers(&one), with_headers(&turned));
        assert_ne!(with_headers(&one), with_headers(&wider));
    }

    #[test]
    fn only_the_time_of_a_death_is_left_out_and_only_if_it_is_now() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let death = |seconds| {
            let entry = TableBuf::new().with("count", Value::I64(1)).with("time", Value::Timestamp(seconds));
            let deaths = ArrayBuf::new().with(Value::Table(entry.as_table()));
            with_headers(&TableBuf::new().with("x-death", Value::Array(deaths.as_array())))
        };
        assert!(death(now).contains("time:timestamp <now>"), "{}", death(now));
        assert!(death(5).contains("time:Timestamp(5)"), "{}", death(5));
        let other = TableBuf::new().with("time", Value::Timestamp(now));
        assert_eq!(with_headers(&other), format!("{{time:Timestamp({now})}}"));
    }

    #[test]
    fn every_property_and_the_body_are_told() {
        let plain = told(Properties::default(), b"hello");
        assert_eq!(
            plain.to_string(),
            "BasicDeliver consumer= tag=4 redelivered=false exchange= key= flags=0000 body=hello"
        );
        let with = |set: fn(&mut Properties<'static>)| {
            let mut properties = Properties::default();
            set(&mut properties);
            assert_ne!(told(properties, b"hello"), plain);
        };
        with(|properties| properties.priority = Some(0));
        with(|properties| properties.user_id = Some("guest".into()));
        with(|properties| properties.timestamp = Some(0));
        with(|properties| properties.cluster_id = Some("".into()));
        assert_ne!(told(Properties::default(), &[b'a'; 100]), told(Properties::default(), &[b'b'; 100]));
    }
}
