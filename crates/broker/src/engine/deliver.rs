//! Delivering: what lies in the inbox becomes frames in the output.
//!
//! Delivery tags are given here, by the connection that owns the channel. Nothing is encoded
//! while the output is full, so that a peer who does not read costs one output and one window.

use std::sync::{Arc, atomic::Ordering};

use leveret_wire::{
    ContentHeader, FRAME_END, FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, FrameKind, Properties, ReplyCode,
    Table, Value, method::basic, write_frame,
};

use super::{
    connection::Connection,
    inbox::{Letter, Run},
    output::{OUTPUT_OCTETS_MAX, Output},
    queue_cell::QueueCell,
    sources::Delivery,
    trace::{Tapped, trace_delivery},
};
use crate::{
    model::{
        death,
        queue::{Position, Taken},
        queue_arguments::QueueType,
    },
    planted::{self, Bug},
    session::Publish,
    store::{Chunk, LastChunk, Record},
};

/// From so many messages on, the output is given a buffer that it need not grow.
const LARGE_MAIL_LETTERS: usize = 16;
/// Messages encoded in one turn.
const TURN_MESSAGES_MAX: usize = 4096;
// Larger bodies are referred to from a vectored write and not copied, which matters most for what
// a peer who does not read may cost. At 1 KiB copying is not dearer (`docs/performance.md`); where it
// gets so is not measured yet.
const COPY_BODY_OCTETS_MAX: usize = 4096;

impl Connection {
    /// Encodes what lies in the inbox, until it is empty, the output is full or the turn ends.
    /// True in the last case: the inbox was not looked into again, so nobody would wake us.
    pub(super) fn read_mail(&mut self) -> bool {
        // While consumers are being taken down, their messages are on the way back.
        if !self.teardowns.is_empty() {
            return false;
        }
        // Copies of deliveries join the batch of publishes, which is closed until it is flushed.
        if self.publishes.is_flushing() && self.is_traced() {
            return false;
        }
        let mut budget = TURN_MESSAGES_MAX;
        while budget > 0 {
            if self.output.is_full() {
                return false;
            }
            if self.reader.next_run == self.reader.mail.runs.len() && !self.next_mail() {
                return false;
            }
            self.deliver_run(&mut budget);
        }
        true
    }

    /// Takes new mail once the old is read. False when there is none.
    fn next_mail(&mut self) -> bool {
        let reader = &mut self.reader;
        for source in std::mem::take(&mut reader.mail.cancelled) {
            self.consumer_cancelled(source);
        }
        let reader = &mut self.reader;
        reader.mail.clear();
        (reader.next_run, reader.next_letter) = (0, 0);
        self.inbox.take(&mut reader.mail);
        if reader.mail.runs.is_empty() {
            for source in std::mem::take(&mut reader.mail.cancelled) {
                self.consumer_cancelled(source);
            }
        }
        !self.reader.mail.is_empty()
    }

    fn deliver_run(&mut self, budget: &mut usize) {
        let Some(&run) = self.reader.mail.runs.get(self.reader.next_run) else { return };
        let sent = self.encode_run(run, *budget);
        *budget -= sent;
        self.reader.next_letter += sent;
        let rest = run.messages - sent;
        if rest > 0 {
            self.reader.mail.runs[self.reader.next_run].messages = rest;
            return;
        }
        self.reader.next_run += 1;
        if run.window > 0 {
            self.return_window(run);
        }
    }

    /// Returns how many messages of the run were encoded.
    fn encode_run(&mut self, run: Run, budget: usize) -> usize {
        let frame_max = self.session.tuned().frame_max;
        if run.messages == 0 {
            return 0;
        }
        let traced = self.vhost.as_ref().filter(|vhost| vhost.is_traced.load(Ordering::Relaxed));
        let source = self.sources.find(run.source).expect("messages of a source that goes are retracted");
        let channel_id = source.channel;
        let channel = self.session.channel(channel_id).expect("a channel goes with its consumers");
        let holds_credit = source.shares_credit;
        let queue_type = source.queue.queue_type();
        let letters = &self.reader.mail.letters[self.reader.next_letter..];
        if letters.len() >= LARGE_MAIL_LETTERS {
            self.output.make_room(|| self.engine.log.buffer(OUTPUT_OCTETS_MAX));
        }
        let mut last_chunk = LastChunk::default();
        let mut sent = 0;
        if !source.no_ack && self.engine.config.ack_timeout_millis.is_some() {
            channel.data.marks.note(channel.unacked.last_tag() + 1, self.now.monotonic_millis);
        }
        for &Letter { location, position } in letters.iter().take(run.messages.min(budget)) {
            if self.output.is_full() {
                break;
            }
            sent += 1;
            let delivery_tag = if source.no_ack {
                self.scratch.freed.push(location);
                if source.is_of_replies { channel.unacked.last_tag() + 1 } else { channel.unacked.next_tag() }
            } else {
                source.unacked += 1;
                channel.unacked.push(Delivery { location, position, source: run.source, holds_credit })
            };
            let chunk = last_chunk.find(&self.engine.log, location);
            let record = chunk.record(location);
            write_deliver(
                self.output.buffer(),
                channel_id,
                &source.tag,
                delivery_tag,
                location.redelivered(),
                &record,
            );
            let extra = match queue_type {
                QueueType::Quorum if position.returns() > 0 => Some(delivery_count(position)),
                QueueType::Classic | QueueType::Quorum => None,
                QueueType::Stream => Some(stream_offset(position)),
            };
            write_with(&mut self.output, channel_id, chunk, &record, extra, frame_max);
            if let Some(vhost) = traced {
                let tapped = Tapped {
                    record: &record,
                    queue: &source.queue.name,
                    redelivered: location.redelivered(),
                    channel: channel_id,
                    connection: &self.peer.name,
                    user: self.user.as_deref().unwrap_or_default(),
                };
                trace_delivery(&mut self.publishes.batch, vhost, &self.engine, self.now, tapped);
            }
        }
        // What it holds counts, and releasing looks at the count.
        drop(last_chunk);
        self.engine.release(self.scratch.freed.drain(..));
        sent
    }

    /// A part of the window is on its way out: the queue may hand out as much again.
    fn return_window(&mut self, run: Run) {
        let Some(source) = self.sources.find(run.source) else { return };
        let Some(slot) = source.slot.filter(|_| !planted::is(Bug::MarkerLost)) else { return };
        source.queue.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
            queue.refill(slot, run.window, messages, effects);
        });
    }

    /// Appends `basic.get-ok` with its content.
    pub(super) fn write_get_ok(
        &mut self,
        channel: u16,
        delivery_tag: u64,
        taken: &Taken,
        queue: &QueueCell,
        message_count: u32,
    ) {
        let location = taken.location;
        let chunk = self.engine.log.chunk(location);
        let record = chunk.record(location);
        write_frame(FrameKind::Method, channel, self.output.buffer(), |out| {
            out.extend_from_slice(&[0, 60, 0, 71]);
            out.extend_from_slice(&delivery_tag.to_be_bytes());
            out.push(location.redelivered().into());
            out.extend_from_slice(record.route);
            out.extend_from_slice(&message_count.to_be_bytes());
        });
        let frame_max = self.session.tuned().frame_max;
        let extra = (queue.queue_type() == QueueType::Quorum).then(|| delivery_count(taken.position));
        write_with(&mut self.output, channel, &chunk, &record, extra, frame_max);
        if let Some(vhost) = self.vhost.as_ref().filter(|vhost| vhost.is_traced.load(Ordering::Relaxed)) {
            let tapped = Tapped {
                record: &record,
                queue: &queue.name,
                redelivered: location.redelivered(),
                channel,
                connection: &self.peer.name,
                user: self.user.as_deref().unwrap_or_default(),
            };
            trace_delivery(&mut self.publishes.batch, vhost, &self.engine, self.now, tapped);
        }
        self.answers_wait |= self.output.is_full();
    }

    /// Appends `basic.return` with its content.
    pub(super) fn write_return(&mut self, publish: &Publish<'_>) {
        self.say(
            publish.channel,
            basic::Return {
                reply_code: ReplyCode::NoRoute.code(),
                reply_text: ReplyCode::NoRoute.name().into(),
                exchange: publish.route.exchange(),
                routing_key: publish.route.routing_key(),
            },
        );
        let frame_max = self.session.tuned().frame_max;
        let out = self.output.buffer();
        let header = ContentHeader {
            class_id: basic::CLASS_ID,
            body_octets: publish.body.len() as u64,
            property_octets: publish.property_octets,
        };
        write_frame(FrameKind::Header, publish.channel, out, |out| header.encode(out));
        leveret_wire::write_body_frames(publish.channel, publish.body, frame_max, out);
        self.answers_wait |= self.output.is_full();
    }
}

/// The method frame of `basic.deliver`. Exchange and key stand in the record as they go out.
#[inline]
fn write_deliver(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &[u8],
    delivery_tag: u64,
    redelivered: bool,
    record: &Record<'_>,
) {
    let payload_octets = 4 + 1 + consumer_tag.len() + 8 + 1 + record.route.len();
    let size = u32::try_from(payload_octets).expect("three short strings are far below 4 GiB");
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    let tag_octets = u8::try_from(consumer_tag.len()).expect("a consumer tag is a short string");
    out.reserve(
        payload_octets + FRAME_OVERHEAD_OCTETS + record.content_frames.len().min(COPY_BODY_OCTETS_MAX),
    );
    out.extend_from_slice(&[FrameKind::Method.octet(), c0, c1, s0, s1, s2, s3, 0, 60, 0, 60, tag_octets]);
    out.extend_from_slice(consumer_tag);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(redelivered.into());
    out.extend_from_slice(record.route);
    out.push(FRAME_END);
}

/// Header and body frames. They stand in the record as they go out but for the channel, unless
/// the consumer's frames are smaller than the body.
#[inline]
fn write_content(output: &mut Output, channel: u16, chunk: &Arc<Chunk>, record: &Record<'_>, frame_max: u32) {
    let payload_octets_max = frame_max as usize - FRAME_OVERHEAD_OCTETS;
    if record.body_octets > COPY_BODY_OCTETS_MAX || record.body_octets > payload_octets_max {
        return write_large_content(output, channel, chunk, record, payload_octets_max);
    }
    let out = output.buffer();
    let start = out.len();
    let channel = channel.to_be_bytes();
    out.extend_from_slice(record.content_frames);
    out[start + 1..start + 3].copy_from_slice(&channel);
    if record.body_octets > 0 {
        let body_frame = start + record.header_frame_octets;
        out[body_frame + 1..body_frame + 3].copy_from_slice(&channel);
    }
}

/// Copies the header frame and refers to the body in the chunk.
fn write_large_content(
    output: &mut Output,
    channel: u16,
    chunk: &Arc<Chunk>,
    record: &Record<'_>,
    payload_octets_max: usize,
) {
    let out = output.buffer();
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&record.content_frames[..record.header_frame_octets]);
    out[start + 1..start + 3].copy_from_slice(&[c0, c1]);
    refer_to_body(output, channel, chunk, record, payload_octets_max);
}

/// A header that the queue adds.
type ExtraHeader = (&'static str, Value<'static>);

/// How often the message came back.
fn delivery_count(position: Position) -> ExtraHeader {
    ("x-delivery-count", Value::I64(position.returns().into()))
}

/// Where in the stream it stands.
fn stream_offset(position: Position) -> ExtraHeader {
    ("x-stream-offset", Value::I64(i64::try_from(position.offset()).unwrap_or(i64::MAX)))
}

/// The content, with a header of the queue's or as it is.
fn write_with(
    output: &mut Output,
    channel: u16,
    chunk: &Arc<Chunk>,
    record: &Record<'_>,
    extra: Option<ExtraHeader>,
    frame_max: u32,
) {
    let Some((name, value)) = extra else {
        return write_content(output, channel, chunk, record, frame_max);
    };
    let properties = Properties::decode(record.property_octets()).expect("they were checked when they came");
    let headers = death::set(properties.headers.unwrap_or(Table::EMPTY), name, value);
    let mut property_octets = Vec::new();
    Properties { headers: Some(headers.as_table()), ..properties }.encode(&mut property_octets);
    write_frame(FrameKind::Header, channel, output.buffer(), |out| {
        let body_octets = record.body_octets as u64;
        ContentHeader { class_id: basic::CLASS_ID, body_octets, property_octets: &property_octets }
            .encode(out);
    });
    refer_to_body(output, channel, chunk, record, frame_max as usize - FRAME_OVERHEAD_OCTETS);
}

fn refer_to_body(
    output: &mut Output,
    channel: u16,
    chunk: &Arc<Chunk>,
    record: &Record<'_>,
    payload_octets_max: usize,
) {
    let [c0, c1] = channel.to_be_bytes();
    for piece in record.body().chunks(payload_octets_max) {
        let size = u32::try_from(piece.len()).expect("a frame is far below 4 GiB");
        let [s0, s1, s2, s3] = size.to_be_bytes();
        let header: [u8; FRAME_HEADER_OCTETS] = [FrameKind::Body.octet(), c0, c1, s0, s1, s2, s3];
        output.buffer().extend_from_slice(&header);
        let offset = chunk.offset_of(piece);
        output.push_chunk(chunk, offset, offset + piece.len());
        output.buffer().push(FRAME_END);
    }
}
