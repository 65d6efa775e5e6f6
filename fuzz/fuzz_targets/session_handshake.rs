//! A client's side of a connection, from the protocol header on, against the session alone.
//!
//! The octets are heard in one piece and again in small ones: what the session asks for and
//! answers must be the same. What it allocates is in proportion to what it heard.

#![no_main]

use leveret_broker::Refusal;
use leveret_broker::session::{Call, Failure, MethodIds, Offer, Phase, Session};
use leveret_fuzz::{check_said, within};
use leveret_wire::method::{channel, connection, queue};
use leveret_wire::{Method, TableBuf, Value, decode_frame};
use libfuzzer_sys::fuzz_target;

/// What the clients of the corpus take.
const FRAME_OCTETS_MAX: u32 = 131_072;
/// Out of reach: the session leaves it to the engine to measure what comes in one piece.
const MESSAGE_OCTETS_MAX: u64 = 128 * 1024 * 1024;

/// A session with nothing on its channels.
const ALLOCATED_OCTETS_MAX: u64 = 16 * 1024;
/// An open channel costs some hundred octets and is had for 16.
const ALLOCATED_FOR_EACH_OCTET_MAX: u64 = 64;

fuzz_target!(|octets: &[u8]| {
    let octets_max = ALLOCATED_OCTETS_MAX + ALLOCATED_FOR_EACH_OCTET_MAX * octets.len() as u64;
    within(octets_max, || Client::new(false).talk(octets, octets.len()));

    let whole = Client::new(true).talk(octets, octets.len());
    let piece_octets = 1 + usize::from(octets.last().copied().unwrap_or_default() % 61);
    let in_pieces = Client::new(true).talk(octets, piece_octets);
    assert_eq!(whole.calls, in_pieces.calls);
    assert_eq!(whole.said, in_pieces.said);
    check_said(&whole.said);
});

/// A session, and what became of it.
struct Client {
    session: Session<(), ()>,
    /// What the session asked for, if that is to be kept.
    calls: Option<Vec<String>>,
    said: Vec<u8>,
}

impl Client {
    fn new(keeps_calls: bool) -> Self {
        let offer = Offer {
            channel_max: 2047,
            frame_max: FRAME_OCTETS_MAX,
            heartbeat_seconds: 60,
            server_properties: TableBuf::new().with("product", Value::LongStr(b"Leveret")),
        };
        let session = Session::new(offer, MESSAGE_OCTETS_MAX);
        Self { session, calls: keeps_calls.then(Vec::new), said: Vec::new() }
    }

    fn talk(mut self, octets: &[u8], piece_octets: usize) -> Self {
        let (mut start, mut heard) = (0, 0);
        while heard < octets.len() {
            heard = octets.len().min(heard + piece_octets);
            let Some(taken) = self.hear(&octets[start..heard]) else { break };
            start += taken;
        }
        self
    }

    /// Returns how many octets were taken, and nothing when the connection is over.
    fn hear(&mut self, octets: &[u8]) -> Option<usize> {
        let mut start = 0;
        while self.session.phase() != Phase::Ended {
            let rest = &octets[start..];
            match self.session.next(rest, &mut self.said) {
                Ok(None) => return Some(start),
                Ok(Some((taken, call))) => {
                    assert!(0 < taken && taken <= rest.len());
                    start += taken;
                    if let Some(call) = call {
                        self.answer(call);
                    }
                }
                Err(failure) => {
                    self.fail(failure)?;
                    start += decode_frame(rest, u32::MAX).ok()??.1;
                }
            }
        }
        None
    }

    fn fail(&mut self, failure: Failure) -> Option<()> {
        self.keep(|| format!("{failure:?}"));
        let Failure::Refused { channel, ids, refusal } = failure else { return None };
        // The engine ends the connection when something is wrong after its close.
        if self.session.phase() == Phase::Closing {
            return None;
        }
        self.refuse(channel, ids, &refusal);
        Some(())
    }

    fn refuse(&mut self, channel: u16, ids: MethodIds, refusal: &Refusal) {
        self.session.refuse(channel, ids, refusal, &mut self.said);
    }

    fn answer(&mut self, call: Call<'_>) {
        self.keep(|| match &call {
            Call::Publish(publish) => format!("{publish:?}"),
            Call::PublishAssembled(content) => format!("{:?}", content.as_publish()),
            other => format!("{other:?}"),
        });
        match call {
            Call::Login { mechanism, .. } if mechanism.as_bytes() == b"PLAIN" => {
                self.session.accept_login(&mut self.said);
            }
            Call::Login { .. } => self.session.end(),
            Call::Open { .. } => self.session.accept_open(&mut self.said),
            Call::ChannelOpened { channel } => self.say(channel, channel::OpenOk::default()),
            Call::ChannelClose { channel } => {
                assert!(self.session.remove_channel(channel).is_some());
                self.say(channel, channel::CloseOk {});
            }
            Call::ConnectionClose => self.say(0, connection::CloseOk {}),
            Call::UpdateSecret { .. } => self.say(0, connection::UpdateSecretOk {}),
            Call::Method { channel, method } => self.method(channel, method),
            Call::ConnectionClosed | Call::Publish(_) | Call::PublishAssembled(_) => {}
        }
    }

    /// No queue is there, so that a client comes by a channel that closes.
    fn method(&mut self, channel: u16, method: Method<'_>) {
        if let Method::QueueDeclare(queue::Declare { queue, passive: true, .. }) = method {
            let refusal = Refusal::NoQueue { queue: queue.to_string(), vhost: "/".to_owned() };
            self.refuse(channel, method.ids(), &refusal);
        }
    }

    fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        method.into().write_frame(channel, &mut self.said);
    }

    fn keep(&mut self, call: impl FnOnce() -> String) {
        if let Some(calls) = &mut self.calls {
            calls.push(call());
        }
    }
}
