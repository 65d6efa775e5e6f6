//! What the engine said: whether it was due.

use leveret_wire::{
    Method, Properties, Table, TableBuf, Value,
    method::{basic, channel},
};

use super::{Channel, Due, Message, Model};
use crate::{
    Checked, Violation, ensure,
    frames::{Content, Said, Speech},
    streams::{FRAME_OCTETS_MAX, StreamEvent},
};

impl Model {
    /// The engine said that, in whole methods with their contents.
    pub(in crate::streams) fn said(&mut self, client: u32, octets: &[u8]) -> Checked {
        let mut speech = Speech::new(octets, FRAME_OCTETS_MAX);
        while let Some(said) = speech.next()? {
            let Some(connection) = self.connections.get_mut(&client) else {
                // It is cut, and what is said to it is heard by nobody.
                continue;
            };
            ensure!(!connection.is_closed, "connection {client} is closed and told {said:?}");
            match said {
                Said::Method(0, Method::ConnectionClose(close)) => {
                    let told = (close.reply_code, close.class_id, close.method_id);
                    let due = connection.refusal.map(|(code, (class, method))| (code.code(), class, method));
                    ensure!(due == Some(told) || told.0 == 320, "connection {client} is closed: {close:?}");
                    connection.is_closed = true;
                    self.note(StreamEvent::ConnectionRefused);
                }
                Said::Method(0, _) | Said::Heartbeat => {}
                Said::Method(number, method) => self.method(client, number, &method)?,
                Said::Content(number, Method::BasicDeliver(deliver), content) => {
                    self.deliver(client, number, &deliver, &content)?;
                }
                other => return Err(Violation::new(format!("connection {client} is told {other:?}"))),
            }
        }
        Ok(())
    }

    fn heard_channel(&mut self, client: u32, number: u16) -> Checked<&mut Channel> {
        let connection = self.connections.get_mut(&client);
        let channel = connection.and_then(|connection| connection.channels.get_mut(&number));
        let channel = channel.filter(|channel| !channel.is_closed || !channel.due.is_empty());
        channel.ok_or_else(|| Violation::new(format!("connection {client} has no channel {number}")))
    }

    fn method(&mut self, client: u32, number: u16, method: &Method<'_>) -> Checked {
        let channel = self.heard_channel(client, number)?;
        match method {
            Method::BasicAck(ack) => return self.confirm(client, number, *ack),
            Method::BasicCancel(cancel) => return self.cancelled(client, number, cancel),
            Method::ChannelClose(close) => return self.refused(client, number, close),
            _ => {}
        }
        let due = channel.due.pop_front();
        let is_due = match (&due, method) {
            (Some(Due::Consume(tag)), Method::BasicConsumeOk(ok)) => ok.consumer_tag.to_string() == *tag,
            (Some(Due::Cancel(tag)), Method::BasicCancelOk(ok)) => ok.consumer_tag.to_string() == *tag,
            (Some(Due::Declare { ready, readers }), Method::QueueDeclareOk(ok)) => {
                let (told, told_readers) = (u64::from(ok.message_count), ok.consumer_count as usize);
                told == *ready && readers.is_none_or(|readers| readers == told_readers)
            }
            // A stream does not say how many messages go with it.
            (Some(Due::Yes(..)), Method::QueueDeleteOk(ok)) => ok.message_count == 0,
            (Some(Due::Yes(class, id)), method) => method.ids() == (*class, *id),
            _ => false,
        };
        ensure!(is_due, "{method:?} on channel {number} of connection {client}, where {due:?} is due");
        if let Method::BasicCancelOk(_) = method {
            self.note(StreamEvent::Cancelled);
        }
        Ok(())
    }

    fn refused(&mut self, client: u32, number: u16, close: &channel::Close<'_>) -> Checked {
        let channel = self.heard_channel(client, number)?;
        let due = channel.due.pop_front();
        let is_due = match &due {
            Some(Due::Refusal(code, ids)) => {
                code.code() == close.reply_code && *ids == (close.class_id, close.method_id)
            }
            _ => false,
        };
        ensure!(is_due, "channel {number} of connection {client} is closed where {due:?} is due: {close:?}");
        let due = std::mem::take(&mut channel.due);
        *channel = Channel { due, is_refused: true, is_closed: true, ..Channel::default() };
        self.note(StreamEvent::ChannelRefused);
        Ok(())
    }

    fn confirm(&mut self, client: u32, number: u16, ack: basic::Ack) -> Checked {
        let channel = self.heard_channel(client, number)?;
        let first = if ack.multiple { 0 } else { ack.delivery_tag };
        let tags: Vec<u64> = channel.unconfirmed.range(first..=ack.delivery_tag).copied().collect();
        ensure!(
            tags.last() == Some(&ack.delivery_tag),
            "a confirm of {} on channel {number} of connection {client}, which is not due",
            ack.delivery_tag
        );
        for tag in &tags {
            channel.unconfirmed.remove(tag);
        }
        self.counts.note(StreamEvent::Confirmed, tags.len() as u64);
        Ok(())
    }

    /// A reader's stream is gone.
    fn cancelled(&mut self, client: u32, number: u16, cancel: &basic::Cancel<'_>) -> Checked {
        let tag = cancel.consumer_tag.to_string();
        let reader = self.heard_channel(client, number)?.readers.remove(&tag);
        let is_due = reader.is_some_and(|reader| self.streams[&reader.stream].is_deleted);
        ensure!(is_due, "reader {tag} of connection {client} is cancelled for no reason");
        self.note(StreamEvent::CancelNotified);
        Ok(())
    }

    fn deliver(
        &mut self,
        client: u32,
        number: u16,
        deliver: &basic::Deliver<'_>,
        content: &Content,
    ) -> Checked {
        let tag = deliver.consumer_tag.to_string();
        let channel = self.heard_channel(client, number)?;
        channel.last_tag += 1;
        let last_tag = channel.last_tag;
        ensure!(
            deliver.delivery_tag == last_tag,
            "delivery {} where {last_tag} is next",
            deliver.delivery_tag
        );
        ensure!(!deliver.redelivered, "a message of a stream came back");
        ensure!(
            channel.readers.contains_key(&tag),
            "a message for {tag} of connection {client}, which is none"
        );
        let offset = offset_of(content)?;
        let reader = channel.readers.get_mut(&tag).expect("it is there");
        ensure!(reader.unacked < reader.prefetch, "reader {tag} of connection {client} has no credit left");
        reader.unacked += 1;
        let (serial, next, next_max) = (reader.stream, reader.next, reader.next_max);
        (reader.next, reader.next_max) = (offset + 1, offset + 1);
        channel.unacked.insert(last_tag, tag.clone());
        let stream = &self.streams[&serial];
        ensure!(
            next <= offset && offset <= next_max.max(stream.floor),
            "reader {tag} of connection {client} is given {offset} of {}, where {next} is next and {} is kept",
            stream.name,
            stream.floor
        );
        let Some(message) = stream.message(offset) else {
            return Err(Violation::new(format!("offset {offset} of {}, which ends before it", stream.name)));
        };
        check_content(message, offset, deliver, content)?;
        self.note(if offset > next { StreamEvent::Overtaken } else { StreamEvent::Delivered });
        Ok(())
    }
}

/// What the header says.
fn offset_of(content: &Content) -> Checked<u64> {
    let properties = Properties::decode(&content.property_octets);
    let headers = properties.ok().and_then(|properties| properties.headers);
    let offset = headers.and_then(|headers| headers.find("x-stream-offset"));
    match offset {
        Some(Value::I64(offset)) if offset >= 0 => Ok(offset.unsigned_abs()),
        other => Err(Violation::new(format!("a message of a stream has the offset {other:?}"))),
    }
}

/// A message is what was published, with the header last.
fn check_content(message: &Message, offset: u64, deliver: &basic::Deliver<'_>, content: &Content) -> Checked {
    let route = (deliver.exchange.as_bytes(), deliver.routing_key.as_bytes());
    ensure!(route == (&message.exchange[..], &message.routing_key[..]), "{offset} was sent to {route:?}");
    ensure!(content.body == message.body, "the body of {offset} is another one");
    let properties = Properties::decode(&message.property_octets)
        .map_err(|error| Violation::new(format!("a client said broken properties: {error}")))?;
    let mut headers = TableBuf::new();
    for (name, value) in properties.headers.unwrap_or(Table::EMPTY).iter() {
        headers.push_field(name, value);
    }
    headers.push("x-stream-offset", Value::I64(i64::try_from(offset).unwrap_or(i64::MAX)));
    let mut wanted = Vec::new();
    Properties { headers: Some(headers.as_table()), ..properties }.encode(&mut wanted);
    ensure!(content.property_octets == wanted, "the properties of {offset} are others");
    Ok(())
}
