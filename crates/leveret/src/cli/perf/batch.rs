//! Messages made ahead: the same frames many times in one buffer, in which only stamps are written anew.
//!
//! A publish is three frames and more, of which nothing but sequence number and time differ from one to the
//! next; so they are encoded once, and a thousand of them leave with one write.
//! Invariant: all messages in the buffer are of one length.

use std::ops::Range;

use leveret_wire::{
    ContentHeader, FRAME_HEADER_OCTETS, FrameKind, Method, Properties, method::basic, write_body_frames,
    write_frame,
};

use super::stamp::{STAMP_OCTETS, Stamp, Ticks};

/// Octets that one write should bring. More do not fit into the socket's buffer at a time, and leave the cache.
pub(super) const BATCH_OCTETS: usize = 128 * 1024;

/// What all messages of a producer have in common.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) body_octets: usize,
    pub(super) persistent: bool,
    pub(super) mandatory: bool,
}

#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    message_octets: usize,
    /// Where in a message its stamp is; `None` where the body has no room for one.
    stamp_at: Option<usize>,
}

impl Batch {
    /// As many messages as fit into `octets_max`, and at least one.
    pub(super) fn new(
        message: &Message,
        stamp: Stamp,
        channel: u16,
        frame_max: u32,
        octets_max: usize,
    ) -> Self {
        let mut one = Vec::new();
        let body_at = encode(message, channel, frame_max, &mut one);
        let stamp_at = (message.body_octets >= STAMP_OCTETS).then_some(body_at);
        if let Some(at) = stamp_at {
            stamp.write(&mut one[at..]);
        }
        Self { octets: one.repeat((octets_max / one.len()).max(1)), message_octets: one.len(), stamp_at }
    }

    /// How many messages there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.octets.len() / self.message_octets
    }

    /// Stamps `count` messages, numbered from `first`, with the times that `sent` gives for each in turn.
    #[inline]
    pub(super) fn stamp(&mut self, count: usize, first: u64, mut sent: impl FnMut(u64) -> Ticks) {
        let Some(at) = self.stamp_at else { return };
        for (message, number) in self.octets.chunks_exact_mut(self.message_octets).take(count).zip(first..) {
            #[allow(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
            Stamp::rewrite(&mut message[at..], number as u32, sent(number));
        }
    }

    /// Where the first `count` messages are.
    pub(super) fn range(&self, count: usize) -> Range<usize> {
        0..count * self.message_octets
    }

    pub(super) fn octets(&self, range: Range<usize>) -> &[u8] {
        &self.octets[range]
    }
}

/// Appends one message; where its body begins.
fn encode(message: &Message, channel: u16, frame_max: u32, out: &mut Vec<u8>) -> usize {
    let publish = basic::Publish {
        exchange: message.exchange.as_str().into(),
        routing_key: message.routing_key.as_str().into(),
        mandatory: message.mandatory,
        ..basic::Publish::default()
    };
    Method::from(publish).write_frame(channel, out);
    let mut properties = Vec::new();
    Properties { delivery_mode: message.persistent.then_some(2), ..Properties::default() }
        .encode(&mut properties);
    let body_octets = message.body_octets as u64;
    let header = ContentHeader { class_id: basic::CLASS_ID, body_octets, property_octets: &properties };
    write_frame(FrameKind::Header, channel, out, |out| header.encode(out));
    let body_at = out.len() + FRAME_HEADER_OCTETS;
    write_body_frames(channel, &vec![b'.'; message.body_octets], frame_max, out);
    body_at
}

#[cfg(test)]
mod tests {
    use leveret_wire::decode_frame;

    use super::*;

    fn message(body_octets: usize) -> Message {
        let (exchange, routing_key) = ("x".to_owned(), "k".to_owned());
        Message { exchange, routing_key, body_octets, persistent: true, mandatory: false }
    }

    const STAMP: Stamp = Stamp { run: 9, producer: 2, sequence: 0, sent: Ticks(0) };

    /// The bodies of the first `count` messages of a batch.
    fn bodies(batch: &Batch, count: usize) -> Vec<Vec<u8>> {
        let mut rest = batch.octets(batch.range(count));
        let mut bodies = Vec::new();
        while let Some((frame, taken)) = decode_frame(rest, 1 << 20).expect("our own frames") {
            match frame.kind {
                FrameKind::Header => bodies.push(Vec::new()),
                FrameKind::Body => bodies.last_mut().expect("a header is before").extend(frame.payload),
                _ => {}
            }
            rest = &rest[taken..];
        }
        assert!(rest.is_empty());
        bodies
    }

    #[test]
    fn each_message_has_its_number_and_time() {
        let mut batch = Batch::new(&message(20), STAMP, 3, 4096, 1000);
        assert!(batch.capacity() > 5);
        batch.stamp(5, 70, |number| Ticks(number * 2));
        let bodies = bodies(&batch, 5);
        assert_eq!(bodies.len(), 5);
        for (body, number) in bodies.iter().zip(70u32..) {
            let wanted = Stamp { sequence: number, sent: Ticks(u64::from(number) * 2), ..STAMP };
            assert_eq!((Stamp::read(body), body.len()), (Some(wanted), 20));
        }
    }

    #[test]
    fn a_large_body_is_cut_and_a_small_one_carries_no_stamp() {
        let mut large = Batch::new(&message(10_000), STAMP, 1, 4096, 1000);
        assert_eq!(large.capacity(), 1);
        large.stamp(1, 5, |_| Ticks(1));
        assert_eq!(bodies(&large, 1)[0].len(), 10_000);
        assert_eq!(Stamp::read(&bodies(&large, 1)[0]).map(|stamp| stamp.sequence), Some(5));
        let mut small = Batch::new(&message(15), STAMP, 1, 4096, 1000);
        small.stamp(2, 5, |_| Ticks(1));
        assert_eq!(bodies(&small, 2), vec![vec![b'.'; 15]; 2]);
        let mut empty = Batch::new(&message(0), STAMP, 1, 4096, 1000);
        empty.stamp(1, 5, |_| Ticks(1));
        assert_eq!(bodies(&empty, 1), [Vec::<u8>::new()]);
    }
}
