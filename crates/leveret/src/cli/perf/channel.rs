//! A channel and who uses it: methods and the content that follows them, for a producer or a consumer.
//!
//! Bodies are looked at where they lie in the read buffer; only one that comes in pieces has its front kept.
//! Invariant: content belongs to the last method with content on its channel.

use leveret_wire::{ContentHeader, Frame, FrameKind, Method, method::channel};

use super::{
    consumer::{Consumer, Delivery},
    fault::Fault,
    producer::Producer,
    scene::Scene,
    stamp::STAMP_OCTETS,
};

pub(super) enum Role {
    Producer(Box<Producer>),
    Consumer(Consumer),
}

pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) role: Role,
    content: Content,
}

/// Which part of a message comes next.
enum Content {
    Method,
    /// The header; of a delivery, or of a message that came back.
    Header(Option<Delivery>),
    /// So many octets more of a body.
    Body {
        delivery: Option<Delivery>,
        left: u64,
        front: Front,
    },
}

/// The front of a body that comes in pieces.
#[derive(Clone, Copy, Default)]
struct Front {
    octets: [u8; STAMP_OCTETS],
    len: usize,
}

impl Front {
    fn take(&mut self, piece: &[u8]) {
        let room = &mut self.octets[self.len..];
        let taken = room.len().min(piece.len());
        room[..taken].copy_from_slice(&piece[..taken]);
        self.len += taken;
    }
}

impl Channel {
    pub(super) fn new(number: u16, role: Role) -> Self {
        Self { number, role, content: Content::Method }
    }

    /// Takes a frame of this channel; what is to be answered goes into `out`.
    #[inline]
    pub(super) fn receive(
        &mut self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
        scene: &mut Scene,
    ) -> Result<(), Fault> {
        match (frame.kind, &mut self.content) {
            (FrameKind::Body, Content::Body { delivery, left, front }) => {
                let octets = frame.payload.len() as u64;
                if octets == *left && front.len == 0 {
                    let delivery = *delivery;
                    self.complete(delivery, frame.payload, out, scene);
                    return Ok(());
                }
                *left = left
                    .checked_sub(octets)
                    .ok_or_else(|| unexpected("a body longer than its header says"))?;
                front.take(frame.payload);
                if *left == 0 {
                    let (delivery, front) = (*delivery, *front);
                    self.complete(delivery, &front.octets[..front.len], out, scene);
                }
            }
            (FrameKind::Header, Content::Header(delivery)) => {
                let (delivery, left) = (*delivery, ContentHeader::decode(frame.payload)?.body_octets);
                self.content = Content::Body { delivery, left, front: Front::default() };
                if left == 0 {
                    self.complete(delivery, &[], out, scene);
                }
            }
            (FrameKind::Method, Content::Method) => {
                let method = Method::decode(frame.payload)?;
                return self.receive_method(&method, out, scene);
            }
            _ => return Err(unexpected("a frame out of order")),
        }
        Ok(())
    }

    #[inline]
    fn complete(&mut self, delivery: Option<Delivery>, front: &[u8], out: &mut Vec<u8>, scene: &mut Scene) {
        self.content = Content::Method;
        match (delivery, &mut self.role) {
            (Some(delivery), Role::Consumer(consumer)) => {
                consumer.take(delivery, front, self.number, out, scene);
            }
            _ => scene.counts.returned += 1,
        }
    }

    #[inline]
    fn receive_method(
        &mut self,
        method: &Method<'_>,
        out: &mut Vec<u8>,
        scene: &mut Scene,
    ) -> Result<(), Fault> {
        match (method, &mut self.role) {
            (Method::BasicDeliver(deliver), Role::Consumer(_)) => {
                let (delivery_tag, redelivered) = (deliver.delivery_tag, deliver.redelivered);
                self.content = Content::Header(Some(Delivery { delivery_tag, redelivered }));
            }
            (Method::BasicAck(ack), Role::Producer(producer)) => {
                let (now, latency) = (scene.now, &mut scene.confirm_latency);
                let each = |handed, count| latency.record_many(handed, now, count);
                scene.counts.confirmed += producer.settle(ack.delivery_tag, ack.multiple, each);
            }
            (Method::BasicNack(nack), Role::Producer(producer)) => {
                scene.counts.refused += producer.settle(nack.delivery_tag, nack.multiple, |_, _| {});
            }
            (Method::BasicReturn(_), Role::Producer(_)) => self.content = Content::Header(None),
            (Method::BasicCancel(_), Role::Consumer(consumer)) => {
                scene.counts.cancelled += 1;
                consumer.cancel();
            }
            (Method::ChannelClose(close), _) => return Err(Fault::closed_channel(close)),
            (Method::ChannelFlow(flow), _) => {
                Method::from(channel::FlowOk { active: flow.active }).write_frame(self.number, out);
            }
            (Method::BasicQosOk(_), Role::Producer(producer)) => producer.answer_end(),
            (answer, _) if is_answer(answer) => {
                scene.unanswered =
                    scene.unanswered.checked_sub(1).ok_or_else(|| unexpected("an answer to nothing"))?;
            }
            (other, _) => return Err(unexpected(other.name())),
        }
        Ok(())
    }
}

fn is_answer(method: &Method<'_>) -> bool {
    matches!(
        method,
        Method::ChannelOpenOk(_)
            | Method::ConfirmSelectOk(_)
            | Method::BasicQosOk(_)
            | Method::QueueDeclareOk(_)
            | Method::QueueBindOk(_)
            | Method::BasicConsumeOk(_)
    )
}

fn unexpected(what: &str) -> Fault {
    Fault::Nonsense(what.to_owned())
}
