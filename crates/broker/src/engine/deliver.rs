//! Delivering: what lies in the inbox becomes frames in the output.
//!
//! Delivery tags are given here, by the connection that owns the channel. Nothing is encoded
//! while the output is full, so that a peer who does not read costs one output and one window.

use std::sync::Arc;

use leveret_wire::{
    ContentHeader, FRAME_END, FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, FrameKind, Properties, ReplyCode,
    Table, Value, method::basic, write_frame,
};

use super::{
    connection::{ChannelData, Connection, Reader},
    inbox::{Letter, Notice, Run},
    output::{OUTPUT_OCTETS_MAX, Output},
    queue_cell::QueueCell,
    sources::{Delivery, Source, SourceId},
    trace::{Tap, Tapped},
};
use crate::{
    model::{
        death,
        queue::{Position, Taken},
        queue_arguments::QueueType,
    },
    planted::{self, Bug},
    session::{Channel, Publish},
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
        self.read_notices();
        let reader = &mut self.reader;
        reader.mail.clear();
        (reader.next_run, reader.next_letter) = (0, 0);
        self.inbox.take(&mut reader.mail);
        if reader.mail.runs.is_empty() {
            self.read_notices();
        }
        !self.reader.mail.is_empty()
    }

    /// Those behind the messages that came with them.
    fn read_notices(&mut self) {
        for notice in std::mem::take(&mut self.reader.mail.notices) {
            match notice {
                Notice::Cancelled(source) => self.consumer_cancelled(source),
                Notice::QueueGone(serial) => {
                    self.exclusive.swap_remove(&serial);
                }
            }
        }
    }

    fn deliver_run(&mut self, budget: &mut usize) {
        let Some(&run) = self.reader.mail.runs.get(self.reader.next_run) else { return };
        let sent = if run.messages > 0 { self.encode_run(run, *budget) } else { 0 };
        *budget -= sent;
        if sent < run.messages {
            return;
        }
        self.reader.next_run += 1;
        if run.window > 0 {
            self.return_window(run);
        }
    }

    /// Encodes messages of the run, as far as the budget and the output go, and returns how many.
    fn encode_run(&mut self, run: Run, budget: usize) -> usize {
        if self.reader.mail.letters.len() - self.reader.next_letter >= LARGE_MAIL_LETTERS {
            self.output.make_room(|| self.engine.log.buffer(OUTPUT_OCTETS_MAX));
        }
        let tap = Tap::of(self.vhost.as_ref(), &self.peer, self.user.as_deref());
        let octets_max = self.session.tuned().frame_max;
        let source = self.sources.find(run.source).expect("messages of a source that goes are retracted");
        let channel = self.session.channel(source.channel).expect("a channel goes with its consumers");
        if !source.no_ack && self.ack_timeout_millis.is_some() {
            channel.data.marks.note(channel.unacked.last_tag() + 1, self.now.monotonic_millis);
        }
        let mut deliver = Deliver { source, channel, octets_max };
        // What a reader of a stream was sent is there still.
        let queue = &deliver.source.queue;
        let lasts = self.engine.durability.is_some()
            && queue.durable.is_some()
            && queue.queue_type() != QueueType::Stream;
        let mut last_chunk = LastChunk::default();
        let mut sent = 0;
        while sent < run.messages.min(budget) && !self.output.is_full() {
            let letter = self.reader.mail.letters[self.reader.next_letter];
            let chunk = last_chunk.find(&self.engine.log, letter.location);
            let record = chunk.record(letter.location);
            deliver.encode(&mut self.output, letter, chunk, &record);
            if let Some(tap) = &tap {
                tap.copy(&mut self.publishes.batch, &self.engine, self.now, deliver.tapped(letter, &record));
            }
            // It is encoded, so that from here on it is out of the mail and in the channel.
            self.reader.take_letter();
            sent += 1;
            if deliver.account(run.source, letter) {
                self.scratch.freed.push(letter.location);
                if lasts {
                    self.scratch.left.push(letter.position);
                }
            }
        }
        // What it holds counts, and releasing looks at the count.
        drop(last_chunk);
        self.engine.release(self.scratch.freed.drain(..));
        let queue = &deliver.source.queue;
        queue.left(&self.engine, self.scratch.left.drain(..));
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
        if let Some(tap) = Tap::of(self.vhost.as_ref(), &self.peer, self.user.as_deref()) {
            let redelivered = location.redelivered();
            let tapped = Tapped { record: &record, queue: &queue.name, redelivered, channel };
            tap.copy(&mut self.publishes.batch, &self.engine, self.now, tapped);
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

impl Reader {
    /// The next letter is read.
    #[inline]
    fn take_letter(&mut self) {
        self.mail.runs[self.next_run].messages -= 1;
        self.next_letter += 1;
    }
}

/// Whom a run goes to.
struct Deliver<'a> {
    source: &'a mut Source,
    channel: &'a mut Channel<ChannelData, Delivery>,
    octets_max: u32,
}

impl Deliver<'_> {
    /// Writes the frames of a delivery. Nothing else is changed by that.
    #[inline]
    fn encode(&self, output: &mut Output, letter: Letter, chunk: &Arc<Chunk>, record: &Record<'_>) {
        let Letter { location, position } = letter;
        let (id, tag) = (self.source.channel, &self.source.tag);
        let delivery_tag = self.channel.unacked.last_tag() + 1;
        write_deliver(output.buffer(), id, tag, delivery_tag, location.redelivered(), record);
        let extra = match self.source.queue.queue_type() {
            QueueType::Quorum if position.returns() > 0 => Some(delivery_count(position)),
            QueueType::Classic | QueueType::Quorum => None,
            QueueType::Stream => Some(stream_offset(position)),
        };
        write_with(output, id, chunk, record, extra, self.octets_max);
    }

    /// The delivery is the channel's now; true when its reference is not needed any more.
    #[inline]
    fn account(&mut self, id: SourceId, letter: Letter) -> bool {
        let unacked = &mut self.channel.unacked;
        if self.source.no_ack {
            if !self.source.is_of_replies || planted::is(Bug::ReplyTagsCount) {
                unacked.next_tag();
            }
            return true;
        }
        let Letter { location, position } = letter;
        unacked.push(Delivery { location, position, source: id, holds_credit: self.source.shares_credit });
        self.source.unacked += 1;
        false
    }

    fn tapped<'r>(&'r self, letter: Letter, record: &'r Record<'r>) -> Tapped<'r> {
        Tapped {
            record,
            queue: &self.source.queue.name,
            redelivered: letter.location.redelivered(),
            channel: self.source.channel,
        }
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
    let offset = position.offset() + u64::from(planted::is(Bug::StreamHeaderOffByOne));
    ("x-stream-offset", Value::I64(i64::try_from(offset).unwrap_or(i64::MAX)))
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
