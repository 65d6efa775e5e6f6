//! A client that publishes, takes, acknowledges and declares, and writes down what it is told.
//!
//! Invariant: what it writes into the ledger follows from what it said and heard, never from what
//! the broker did.

use std::collections::{BTreeMap, VecDeque};

use leveret_wire::{
    ContentHeader, FrameKind, Method, Properties, TableBuf, Value, decode_frame,
    method::{basic, channel, confirm, connection, exchange, queue},
    write_body_frames, write_frame,
};

use super::ledger::{Existence, FoundMessage, Ledger, MessageId};
use crate::{Checked, Violation, ensure, random::Random};

const CHANNEL: u16 = 1;
const FRAME_MAX: u32 = 131_072;

/// Durable queues that clients share, and how each is declared.
pub(super) const QUEUES: [&str; 6] = ["plain", "other", "priorities", COUNTING, BOUND, LATE];

/// The queue that counts how often a message came back.
pub(super) const COUNTING: &str = "quorum";

/// The queue that has dead letters, and the one that they go to, which nobody takes from.
const DEADLY: &str = "plain";
pub(super) const LETTERS: &str = "letters";

/// The queue that is bound to an exchange, and what the ledger calls that binding.
pub(super) const BOUND: &str = "bound";
pub(super) const BINDING: &str = "the binding of bound";

/// The queue to which an exchange that delays leads, and what the ledger calls that binding.
pub(super) const LATE: &str = "late";
pub(super) const LATE_BINDING: &str = "the binding of late";
const DELAYING: &str = "later";
/// The longest that a message waits there, in milliseconds.
const DELAY_MILLIS_MAX: usize = 2000;

fn arguments(queue: &str) -> TableBuf {
    match queue {
        "priorities" => TableBuf::new().with("x-max-priority", Value::I32(3)),
        DEADLY => TableBuf::new()
            .with("x-dead-letter-exchange", Value::LongStr(b""))
            .with("x-dead-letter-routing-key", Value::LongStr(LETTERS.as_bytes())),
        // None goes for having come back too often.
        COUNTING => TableBuf::new()
            .with("x-queue-type", Value::LongStr(b"quorum"))
            .with("x-delivery-limit", Value::I32(-1)),
        _ => TableBuf::new(),
    }
}

/// A request whose answer is awaited.
#[derive(Debug)]
enum Asked {
    Declare(String),
    Bind(String),
    Delete(String),
    Purge(String, Vec<MessageId>),
    Get(String),
}

/// A publish that is not confirmed.
#[derive(Debug)]
struct Unconfirmed {
    queues: Vec<String>,
    id: MessageId,
    /// What this client let go of before it.
    left_before: Vec<(String, MessageId)>,
    /// What this client put back before it into the queue that counts that, and how often it came back
    /// with that.
    back_before: Vec<(MessageId, u32)>,
}

/// A message whose content is on its way.
#[derive(Debug)]
struct Arriving {
    queue: String,
    tag: u64,
    is_redelivered: bool,
    returns: Option<u32>,
}

/// A delivery that a client holds.
#[derive(Debug)]
struct Held {
    queue: String,
    id: MessageId,
    /// How often it came back, if its queue counts that.
    returns: Option<u32>,
}

/// A client on its line.
#[derive(Debug, Default)]
pub(super) struct Client {
    number: usize,
    /// What it has said.
    pub(super) out: Vec<u8>,
    is_open: bool,
    asked: VecDeque<Asked>,
    next_tag: u64,
    unconfirmed: BTreeMap<u64, Unconfirmed>,
    /// Deliveries that it holds.
    held: BTreeMap<u64, Held>,
    /// What it let go of since its last publish.
    left: Vec<(String, MessageId)>,
    /// What it put back since then into the queue that counts that.
    back: Vec<(MessageId, u32)>,
    /// A queue that it takes all of, to look at: what it found.
    pub(super) survey: Option<Vec<FoundMessage>>,
    /// Whether the queue that it asked for is missing.
    pub(super) is_missing: bool,
}

impl Client {
    pub(super) fn new(number: usize) -> Self {
        let mut client = Self { number, next_tag: 1, ..Self::default() };
        client.out.extend_from_slice(b"AMQP\x00\x00\x09\x01");
        client
    }

    fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        method.into().write_frame(channel, &mut self.out);
    }

    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether it awaits nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.is_open && self.asked.is_empty() && self.unconfirmed.is_empty()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = MessageId> {
        self.held.values().map(|held| held.id)
    }

    /// Reads what the broker said.
    pub(super) fn hear(&mut self, down: &mut Vec<u8>, ledger: &mut Ledger) -> Checked {
        let octets = std::mem::take(down);
        let mut rest = &octets[..];
        let mut arriving: Option<Arriving> = None;
        while !rest.is_empty() {
            let frame = decode_frame(rest, FRAME_MAX).map_err(|error| Violation::new(error.to_string()))?;
            let Some((frame, length)) = frame else { return Err(Violation::new("half a frame")) };
            rest = &rest[length..];
            match frame.kind {
                FrameKind::Method => {
                    let method =
                        Method::decode(frame.payload).map_err(|error| Violation::new(error.to_string()))?;
                    if let Method::BasicGetOk(ok) = &method {
                        let Some(Asked::Get(queue)) = self.asked.pop_front() else {
                            return Err(Violation::new("a message that nobody asked for"));
                        };
                        let (tag, is_redelivered) = (ok.delivery_tag, ok.redelivered);
                        arriving = Some(Arriving { queue, tag, is_redelivered, returns: None });
                    } else {
                        self.answered(&method, ledger)?;
                    }
                }
                FrameKind::Body => {
                    let Some(message) = arriving.take() else { continue };
                    self.take_in(message, id_of(frame.payload)?, ledger)?;
                }
                FrameKind::Header => {
                    if let Some(message) = &mut arriving {
                        message.returns = returns_of(frame.payload)?;
                    }
                }
                FrameKind::Heartbeat => {}
            }
        }
        Ok(())
    }

    /// A message has arrived.
    fn take_in(&mut self, message: Arriving, id: MessageId, ledger: &mut Ledger) -> Checked {
        let Arriving { queue, tag, is_redelivered, returns } = message;
        if let Some(returns) = returns {
            ensure!(
                is_redelivered == (returns > 0),
                "message {id} came back {returns} times, and its mark says otherwise"
            );
        }
        ensure!(returns.is_some() == (queue == COUNTING), "a quorum queue counts, and no other");
        match &mut self.survey {
            Some(survey) => survey.push(FoundMessage { id, returns }),
            None => ledger.handed_out(&queue, id, returns)?,
        }
        self.held.insert(tag, Held { queue, id, returns });
        Ok(())
    }

    fn answered(&mut self, method: &Method<'_>, ledger: &mut Ledger) -> Checked {
        match method {
            Method::ConnectionStart(_) => {
                let (mechanism, response) = ("PLAIN".into(), &b"\0guest\0guest"[..]);
                self.say(
                    0,
                    connection::StartOk {
                        mechanism,
                        response: leveret_wire::method::LongStr(response),
                        ..Default::default()
                    },
                );
            }
            Method::ConnectionTune(_) => {
                self.say(
                    0,
                    connection::TuneOk { channel_max: 10, frame_max: FRAME_MAX, heartbeat_seconds: 0 },
                );
                self.say(0, connection::Open { virtual_host: "/".into(), ..Default::default() });
            }
            Method::ConnectionOpenOk(_) => self.say(CHANNEL, channel::Open::default()),
            Method::ChannelOpenOk(_) => self.say(CHANNEL, confirm::Select { nowait: false }),
            Method::ConfirmSelectOk(_) => self.is_open = true,
            Method::BasicAck(ack) => self.confirmed(ack.delivery_tag, ack.multiple, true, ledger),
            Method::BasicNack(nack) => self.confirmed(nack.delivery_tag, nack.multiple, false, ledger),
            Method::ChannelClose(close) => {
                // The queue is missing, or was deleted by another client: the channel begins anew.
                self.is_missing = close.reply_code == 404;
                ensure!(self.is_missing, "the channel was closed with {}", close.reply_text);
                self.forget_channel();
                self.say(CHANNEL, channel::CloseOk {});
                self.say(CHANNEL, channel::Open::default());
            }
            Method::BasicGetEmpty(_) => drop(self.asked.pop_front()),
            Method::QueueDeclareOk(_)
            | Method::QueueBindOk(_)
            | Method::QueueDeleteOk(_)
            | Method::QueuePurgeOk(_) => match self.asked.pop_front() {
                Some(Asked::Declare(what) | Asked::Bind(what)) => ledger.set_existence(&what, Existence::Yes),
                Some(Asked::Delete(queue)) => ledger.set_existence(&queue, Existence::No),
                Some(Asked::Purge(queue, ids)) => ids.iter().for_each(|id| ledger.gone(&queue, *id)),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn forget_channel(&mut self) {
        self.is_open = false;
        self.asked.clear();
        self.unconfirmed.clear();
        self.held.clear();
        self.left.clear();
        self.back.clear();
        self.next_tag = 1;
    }

    fn confirmed(&mut self, tag: u64, multiple: bool, is_taken: bool, ledger: &mut Ledger) {
        let tags: Vec<u64> = match multiple {
            true => self.unconfirmed.range(..=tag).map(|(tag, _)| *tag).collect(),
            false => vec![tag],
        };
        for publish in tags.iter().filter_map(|tag| self.unconfirmed.remove(tag)) {
            if is_taken {
                publish.queues.iter().for_each(|queue| ledger.confirmed(queue, publish.id));
                // What came before it on the channel is on stable storage with it.
                publish.left_before.iter().for_each(|(queue, id)| ledger.gone(queue, *id));
                publish.back_before.iter().for_each(|(id, returns)| ledger.came_back(*id, *returns));
            }
        }
    }

    /// Does something of its own.
    pub(super) fn act(&mut self, random: &mut Random, next_id: &mut MessageId, ledger: &mut Ledger) {
        if !self.is_open {
            return;
        }
        let queue = (*random.pick(&QUEUES)).to_owned();
        let there = ledger.existence(&queue) == Existence::Yes;
        match random.below(20) {
            0..=9 if there => {
                for _ in 0..=random.size(12) {
                    self.publish(&queue, random, next_id, ledger);
                }
            }
            10..=13 if there && self.asked.is_empty() => self.get(&queue),
            14..=17 => self.settle_one(random, ledger),
            18..=19 if !there && self.asked.is_empty() => self.declare(&queue, ledger),
            18 if ledger.existence(LETTERS) == Existence::No && self.asked.is_empty() => {
                self.declare(LETTERS, ledger);
            }
            _ => {}
        }
    }

    fn publish(&mut self, queue: &str, random: &mut Random, next_id: &mut MessageId, ledger: &mut Ledger) {
        *next_id += 1;
        let id = *next_id;
        let priority = if queue == "priorities" { u8::try_from(random.below(4)).unwrap_or(0) } else { 0 };
        // A quorum queue keeps whatever it is given.
        let says_persistent = random.percent(85);
        let persistent = says_persistent || queue == COUNTING;
        // What is bound to the fanout gets a copy of what goes there.
        let by_exchange = queue == BOUND && ledger.existence(BINDING) == Existence::Yes;
        let is_delayed = queue == LATE && ledger.existence(LATE_BINDING) == Existence::Yes;
        let exchange = match (by_exchange, is_delayed) {
            (true, _) => "amq.fanout",
            (_, true) => DELAYING,
            _ => "",
        };
        if is_delayed {
            ledger.delayed(queue, id, persistent);
        } else {
            ledger.published(queue, id, self.number, priority, persistent);
        }
        // Only the confirm of a message that lasts says that the journal is synced.
        let (left_before, back_before) = if persistent {
            (std::mem::take(&mut self.left), std::mem::take(&mut self.back))
        } else {
            (Vec::new(), Vec::new())
        };
        let publish = Unconfirmed { queues: vec![queue.to_owned()], id, left_before, back_before };
        self.unconfirmed.insert(self.next_tag, publish);
        self.next_tag += 1;
        self.say(
            CHANNEL,
            basic::Publish { exchange: exchange.into(), routing_key: queue.into(), ..Default::default() },
        );
        let mut property_octets = Vec::new();
        let delay = i32::try_from(random.below(DELAY_MILLIS_MAX)).unwrap_or(0);
        let headers = TableBuf::new().with("x-delay", Value::I32(delay));
        let properties = Properties {
            delivery_mode: Some(if says_persistent { 2 } else { 1 }),
            priority: Some(priority),
            headers: is_delayed.then(|| headers.as_table()),
            ..Properties::default()
        };
        properties.encode(&mut property_octets);
        let body = body_of(id, random.size(3000));
        let header =
            ContentHeader { class_id: 60, body_octets: body.len() as u64, property_octets: &property_octets };
        write_frame(FrameKind::Header, CHANNEL, &mut self.out, |out| header.encode(out));
        write_body_frames(CHANNEL, &body, FRAME_MAX, &mut self.out);
    }

    pub(super) fn get(&mut self, queue: &str) {
        self.asked.push_back(Asked::Get(queue.to_owned()));
        self.say(CHANNEL, basic::Get { queue: queue.into(), no_ack: false, ..Default::default() });
    }

    fn settle_one(&mut self, random: &mut Random, ledger: &mut Ledger) {
        let Some(tag) = random.pick_from(self.held.keys().copied()) else { return };
        let Some(Held { queue, id, returns }) = self.held.remove(&tag) else { return };
        let goes_on = queue == DEADLY && ledger.existence(LETTERS) == Existence::Yes;
        if goes_on && random.percent(30) {
            ledger.refused(&queue, LETTERS, id);
            self.say(CHANNEL, basic::Reject { delivery_tag: tag, requeue: false });
        } else if random.percent(75) {
            ledger.leaving(&queue, id);
            self.left.push((queue, id));
            self.say(CHANNEL, basic::Ack { delivery_tag: tag, multiple: false });
        } else {
            self.back.extend(returns.map(|returns| (id, returns + 1)));
            self.say(CHANNEL, basic::Reject { delivery_tag: tag, requeue: true });
        }
    }

    /// Declares a queue, and binds the one that is to be bound.
    pub(super) fn declare(&mut self, queue: &str, ledger: &mut Ledger) {
        ledger.set_existence(queue, Existence::Maybe);
        if queue == LATE {
            let arguments = TableBuf::new().with("x-delayed-type", Value::LongStr(b"fanout"));
            let declare = exchange::Declare {
                exchange: DELAYING.into(),
                kind: "x-delayed-message".into(),
                durable: true,
                arguments: arguments.as_table(),
                ..Default::default()
            };
            self.say(CHANNEL, declare);
        }
        let arguments = arguments(queue);
        let declare = queue::Declare {
            queue: queue.into(),
            durable: true,
            arguments: arguments.as_table(),
            ..Default::default()
        };
        self.asked.push_back(Asked::Declare(queue.to_owned()));
        self.say(CHANNEL, declare);
        let bound = [(BOUND, BINDING, "amq.fanout"), (LATE, LATE_BINDING, DELAYING)];
        if let Some((_, binding, exchange)) = bound.into_iter().find(|(bound, ..)| *bound == queue) {
            ledger.set_existence(binding, Existence::Maybe);
            self.asked.push_back(Asked::Bind(binding.to_owned()));
            let bind = queue::Bind { queue: queue.into(), exchange: exchange.into(), ..Default::default() };
            self.say(CHANNEL, bind);
        }
    }

    /// Purges a queue, of which these messages are in it.
    pub(super) fn purge(&mut self, queue: &str, ids: Vec<MessageId>, ledger: &mut Ledger) {
        ids.iter().for_each(|id| ledger.leaving(queue, *id));
        self.asked.push_back(Asked::Purge(queue.to_owned(), ids));
        self.say(CHANNEL, queue::Purge { queue: queue.into(), ..Default::default() });
    }

    /// Deletes a queue with all that is in it.
    pub(super) fn delete(&mut self, queue: &str, ids: &[MessageId], ledger: &mut Ledger) {
        ids.iter().for_each(|id| ledger.leaving(queue, *id));
        ledger.set_existence(queue, Existence::Maybe);
        self.asked.push_back(Asked::Delete(queue.to_owned()));
        self.say(CHANNEL, queue::Delete { queue: queue.into(), ..Default::default() });
    }
}

/// A body that tells whose it is, and of which every octet is known.
fn body_of(id: MessageId, filling: usize) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend((0..filling).map(|at| fill(id, at)));
    body
}

/// How often a message came back, if its header says so.
fn returns_of(payload: &[u8]) -> Checked<Option<u32>> {
    let broken = |error: leveret_wire::DecodeError| Violation::new(error.to_string());
    let header = ContentHeader::decode(payload).map_err(broken)?;
    let headers = Properties::decode(header.property_octets).map_err(broken)?.headers;
    let Some(count) = headers.and_then(|headers| headers.find("x-delivery-count")) else { return Ok(None) };
    match count {
        Value::I64(count) => Ok(u32::try_from(count).ok()),
        other => Err(Violation::new(format!("a count of returns is no {other:?}"))),
    }
}

fn id_of(body: &[u8]) -> Checked<MessageId> {
    let (id, filling) = body.split_first_chunk().ok_or_else(|| Violation::new("a body is cut"))?;
    let id = MessageId::from_be_bytes(*id);
    let is_whole = filling.iter().enumerate().all(|(at, octet)| *octet == fill(id, at));
    ensure!(is_whole, "the body of message {id} is not what was sent");
    Ok(id)
}

#[allow(clippy::cast_possible_truncation, reason = "any octet will do")]
const fn fill(id: MessageId, at: usize) -> u8 {
    (id as usize).wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) as u8
}

impl Client {
    /// Whether all of them await nothing.
    pub(super) fn all_settled(clients: &[Self]) -> bool {
        clients.iter().all(Self::is_settled)
    }

    /// Puts all that it holds back.
    pub(super) fn give_all_back(&mut self) {
        self.held.clear();
        self.say(CHANNEL, basic::Nack { delivery_tag: 0, multiple: true, requeue: true });
        // The answer says that it is done.
        self.asked.push_back(Asked::Purge(String::new(), Vec::new()));
        self.say(CHANNEL, queue::Declare { queue: "surveyed".into(), exclusive: true, ..Default::default() });
    }
}
