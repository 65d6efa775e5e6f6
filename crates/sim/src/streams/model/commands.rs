//! What the engine took, and what is due for it.

use leveret_wire::{
    Method, ReplyCode, Value,
    method::{basic, queue},
};

use super::{Channel, Due, Message, Model, Offset, Reader, Retention, Serial, Stream};
use crate::{
    Checked, Violation,
    frames::{Content, Said, Speech},
    streams::{FRAME_OCTETS_MAX, StreamEvent},
};

/// Why a command is refused.
enum Refused {
    Channel(ReplyCode),
    Connection(ReplyCode),
}

use Refused::{Channel as OfChannel, Connection as OfConnection};

const NO_STREAM: Refused = OfChannel(ReplyCode::NotFound);
const WRONG: Refused = OfChannel(ReplyCode::PreconditionFailed);
const NOT_OF_STREAMS: Refused = OfConnection(ReplyCode::NotImplemented);

impl Model {
    /// Whole methods with their contents.
    pub(super) fn commands(&mut self, client: u32, octets: &[u8]) -> Checked {
        let mut speech = Speech::new(octets, FRAME_OCTETS_MAX);
        while let Some(command) = speech.next()? {
            let connection = self.connections.entry(client).or_default();
            if connection.refusal.is_some() {
                continue;
            }
            match command {
                Said::Method(number, method) if number > 0 => {
                    let channel = connection.channels.entry(number).or_default();
                    if channel.is_refused && !matches!(method, Method::ChannelOpen(_)) {
                        // A client that closes what was closed before it heard so is answered.
                        let closes = matches!(method, Method::ChannelClose(_));
                        channel.due.extend(closes.then_some(Due::Yes(20, 41)));
                    } else {
                        let result = self.command(client, number, &method)?;
                        self.answer(client, number, method.ids(), result);
                    }
                }
                Said::Content(number, Method::BasicPublish(publish), content) => {
                    self.publish(client, number, &publish, &content);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, client: u32, number: u16, ids: (u16, u16), result: Result<Option<Due>, Refused>) {
        let connection = self.connections.get_mut(&client).expect("it said something");
        if let Err(OfConnection(code)) = result {
            connection.refusal = Some((code, ids));
            return;
        }
        let channel = connection.channels.entry(number).or_default();
        match result {
            Ok(due) => channel.due.extend(due),
            Err(OfChannel(code) | OfConnection(code)) => {
                channel.is_refused = true;
                channel.due.push_back(Due::Refusal(code, ids));
            }
        }
    }

    fn channel(&mut self, client: u32, number: u16) -> &mut Channel {
        let connection = self.connections.get_mut(&client).expect("it said something");
        connection.channels.entry(number).or_default()
    }

    fn command(
        &mut self,
        client: u32,
        number: u16,
        method: &Method<'_>,
    ) -> Checked<Result<Option<Due>, Refused>> {
        Ok(match method {
            Method::ChannelOpen(_) => {
                let channel = self.channel(client, number);
                *channel = Channel { due: std::mem::take(&mut channel.due), ..Channel::default() };
                Ok(Some(Due::Yes(20, 11)))
            }
            Method::ChannelClose(_) => {
                // Readers and deliveries go with it; what was published before may still be confirmed.
                let channel = self.channel(client, number);
                channel.readers.clear();
                channel.unacked.clear();
                self.note(StreamEvent::ChannelClosed);
                Ok(Some(Due::Yes(20, 41)))
            }
            Method::ConfirmSelect(_) => Ok(Some(Due::Yes(85, 11))),
            Method::BasicQos(qos) => {
                self.channel(client, number).prefetch = qos.prefetch_count;
                Ok(Some(Due::Yes(60, 11)))
            }
            Method::QueueDeclare(declare) => self.declare(declare),
            Method::QueueBind(bind) => self.stream(bind.queue.as_bytes()).ok_or(NO_STREAM).map(|serial| {
                self.bound.insert(serial);
                Some(Due::Yes(50, 21))
            }),
            Method::QueueDelete(delete) => {
                self.delete(delete.queue.as_bytes());
                Ok(Some(Due::Yes(50, 41)))
            }
            Method::QueuePurge(purge) => self.refused_of_streams(purge.queue.as_bytes()),
            Method::BasicGet(get) => self.refused_of_streams(get.queue.as_bytes()),
            Method::BasicConsume(consume) => self.consume(client, number, consume),
            Method::BasicCancel(cancel) => {
                let tag = cancel.consumer_tag.to_string();
                self.channel(client, number).readers.remove(&tag);
                Ok(Some(Due::Cancel(tag)))
            }
            Method::BasicAck(ack) => self.acknowledge(client, number, *ack),
            Method::BasicNack(_) | Method::BasicReject(_) => Err(NOT_OF_STREAMS),
            other => return Err(Violation::new(format!("no client here says {other:?}"))),
        })
    }

    fn refused_of_streams(&self, name: &[u8]) -> Result<Option<Due>, Refused> {
        Err(if self.stream(name).is_some() { NOT_OF_STREAMS } else { NO_STREAM })
    }

    fn declare(&mut self, declare: &queue::Declare<'_>) -> Result<Option<Due>, Refused> {
        let name = declare.queue.to_string();
        let known = self.names.get(&name).copied();
        if declare.passive {
            return known.map(|serial| self.declared(serial)).ok_or(NO_STREAM);
        }
        // One that is there and is for everybody is locked to who wants it alone.
        if known.is_some() && declare.exclusive {
            return Err(OfChannel(ReplyCode::ResourceLocked));
        }
        if !declare.durable || declare.exclusive || declare.auto_delete {
            return Err(WRONG);
        }
        let number = |argument| declare.arguments.find(argument).and_then(Value::as_integer);
        let age = match declare.arguments.find("x-max-age") {
            Some(Value::LongStr(text)) => str::from_utf8(text).ok().and_then(|text| text.strip_suffix('s')),
            _ => None,
        };
        let retention = Retention {
            octets_max: number("x-max-length-bytes").and_then(|octets| u32::try_from(octets).ok()),
            age_seconds_max: age.and_then(|seconds| seconds.parse().ok()),
        };
        match known {
            Some(serial) if self.streams[&serial].retention != retention => Err(WRONG),
            Some(serial) => Ok(self.declared(serial)),
            None => {
                self.last_serial += 1;
                let serial = self.last_serial;
                self.streams.insert(serial, Stream::new(name.clone(), retention));
                self.names.insert(name, serial);
                self.note(StreamEvent::Declared);
                Ok(Some(Due::Declare { ready: 0, readers: Some(0) }))
            }
        }
    }

    fn declared(&self, serial: Serial) -> Option<Due> {
        let stream = &self.streams[&serial];
        let readers = self.is_at_rest.then(|| self.reader_count(serial));
        Some(Due::Declare { ready: stream.end() - stream.floor, readers })
    }

    fn delete(&mut self, name: &[u8]) {
        let Some(serial) = self.stream(name) else { return };
        let stream = self.streams.get_mut(&serial).expect("it is kept for ever");
        stream.is_deleted = true;
        self.names.remove(&stream.name);
        self.bound.remove(&serial);
        self.note(StreamEvent::Deleted);
    }

    fn consume(
        &mut self,
        client: u32,
        number: u16,
        consume: &basic::Consume<'_>,
    ) -> Result<Option<Due>, Refused> {
        let serial = self.stream(consume.queue.as_bytes()).ok_or(NO_STREAM)?;
        let offset = Offset::of(consume.arguments).ok_or(WRONG)?;
        let prefetch = self.channel(client, number).prefetch;
        if prefetch == 0 {
            return Err(WRONG);
        }
        if consume.no_ack {
            return Err(NOT_OF_STREAMS);
        }
        if consume.exclusive && self.reader_count(serial) > 0 {
            return Err(OfChannel(ReplyCode::AccessRefused));
        }
        let (next, next_max) = self.streams[&serial].start(offset, self.now);
        self.note(match offset {
            Offset::First => StreamEvent::FromFirst,
            Offset::Last => StreamEvent::FromLast,
            Offset::Next => StreamEvent::FromNext,
            Offset::Number(number) if number >= self.streams[&serial].end() => StreamEvent::FromFuture,
            Offset::Number(_) => StreamEvent::FromNumber,
            Offset::LastCount(_) => StreamEvent::FromLastCount,
            Offset::Ago(_) => StreamEvent::FromInterval,
            Offset::Since(_) => StreamEvent::FromTimestamp,
        });
        let tag = consume.consumer_tag.to_string();
        let reader = Reader { stream: serial, prefetch, unacked: 0, next, next_max };
        self.channel(client, number).readers.insert(tag.clone(), reader);
        Ok(Some(Due::Consume(tag)))
    }

    fn acknowledge(&mut self, client: u32, number: u16, ack: basic::Ack) -> Result<Option<Due>, Refused> {
        let channel = self.channel(client, number);
        let first = if ack.multiple { 0 } else { ack.delivery_tag };
        let tags: Vec<u64> = channel.unacked.range(first..=ack.delivery_tag).map(|(tag, _)| *tag).collect();
        if tags.is_empty() {
            return Err(WRONG);
        }
        for tag in &tags {
            let reader = channel.unacked.remove(tag).and_then(|reader| channel.readers.get_mut(&reader));
            if let Some(reader) = reader {
                reader.unacked -= 1;
            }
        }
        self.counts.note(StreamEvent::Acknowledged, tags.len() as u64);
        Ok(None)
    }

    fn publish(&mut self, client: u32, number: u16, publish: &basic::Publish<'_>, content: &Content) {
        let channel = self.channel(client, number);
        if channel.is_refused {
            return;
        }
        channel.published += 1;
        channel.unconfirmed.insert(channel.published);
        self.note(StreamEvent::Published);
        let targets: Vec<Serial> = if publish.exchange.is_empty() {
            self.stream(publish.routing_key.as_bytes()).into_iter().collect()
        } else {
            self.bound.iter().copied().collect()
        };
        for serial in targets {
            let message = Message {
                exchange: publish.exchange.as_bytes().to_vec(),
                routing_key: publish.routing_key.as_bytes().to_vec(),
                property_octets: content.property_octets.clone(),
                body: content.body.clone(),
                arrived_wall_millis: self.now.wall_millis,
            };
            self.append(serial, message);
        }
        self.keep_time(self.now);
    }
}
