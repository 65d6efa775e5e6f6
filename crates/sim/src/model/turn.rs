//! A turn of the engine: what it took and what it said, brought together.
//!
//! Commands are carried out in the order in which they were taken. A command that is answered
//! takes its answer from what was said; what is said on the broker's own account before that
//! (returns, confirms, deliveries) is heard on the way.

use leveret_wire::{Frame, FrameKind, Method, ReplyCode, decode_frame, decode_protocol_header};

use super::{ConnectionKey, Model, connection::Phase, verdict::Verdict};
use crate::{
    Checked, Violation, ensure,
    frames::{Said, Speech},
};

/// What the driver knows of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The monotonic clock.
    pub now_millis: u64,
    /// Whether the connection takes no input after the turn.
    pub is_paused: bool,
    /// Whether so much waits in its output that nothing more is encoded.
    pub is_full: bool,
    /// Whether nothing waits in its output.
    pub is_empty: bool,
    /// Whether the memory alarm stood before and after the turn.
    pub was_alarmed: bool,
    /// See above.
    pub is_alarmed: bool,
    /// Whether the broker is stopping.
    pub is_stopping: bool,
}

/// An answer that may come in a later turn, before anything else is taken.
#[derive(Debug)]
pub(super) enum Deferred {
    Refusal { channel: u16, ids: (u16, u16), verdict: Verdict },
    ChannelCloseOk(u16),
    ConnectionCloseOk,
}

/// What was said in a turn, as far as it was not heard yet.
pub(super) struct Turn<'a> {
    pub(super) connection: ConnectionKey,
    pub(super) circumstances: Circumstances,
    speech: Speech<'a>,
    pushed_back: Option<Said<'a>>,
    /// Messages times queues that were published.
    pub(super) appends: u64,
    pub(super) published: bool,
    /// A part of a message came.
    pub(super) began_content: bool,
    /// Something else than publishing was done, which may have freed memory.
    pub(super) may_have_freed: bool,
    pub(super) must_block: bool,
    /// The last frame was refused, and what went with that buries its dead in the next turn.
    pub(super) was_refused: bool,
    /// In a turn without input: whether there is more to do.
    pub(super) more: Option<bool>,
}

/// Steps on queues that the broker does in one turn if there are no more.
pub(super) const TURN_STEPS_SURE: usize = 128;
/// Messages times queues that it appends in one turn if there are no more.
const TURN_APPENDS_SURE: u64 = 4096;

impl<'a> Turn<'a> {
    fn new(
        connection: ConnectionKey,
        said: &'a [u8],
        frame_octets_max: u32,
        circumstances: Circumstances,
    ) -> Self {
        Self {
            connection,
            circumstances,
            speech: Speech::new(said, frame_octets_max),
            pushed_back: None,
            appends: 0,
            published: false,
            began_content: false,
            may_have_freed: false,
            must_block: false,
            was_refused: false,
            more: None,
        }
    }

    pub(super) fn next_said(&mut self) -> Checked<Option<Said<'a>>> {
        match self.pushed_back.take() {
            Some(said) => Ok(Some(said)),
            None => self.speech.next(),
        }
    }

    /// The answer was not for the command at hand.
    pub(super) fn push_back(&mut self, said: Said<'a>) {
        self.pushed_back = Some(said);
    }
}

impl Model {
    /// A client connects.
    pub fn connected(&mut self, key: ConnectionKey, now_millis: u64) {
        self.connections.insert(key, super::connection::Connection::new(now_millis));
    }

    /// The engine took octets from a connection and said something.
    ///
    /// # Errors
    /// When it may not have said that, or should have said something else.
    pub fn received(
        &mut self,
        key: ConnectionKey,
        taken: &[u8],
        said: &[u8],
        circumstances: Circumstances,
    ) -> Checked {
        self.turns += 1;
        let connection = self.connection_mut(key);
        connection.heard_millis = circumstances.now_millis;
        self.letters = std::mem::take(&mut self.connection_mut(key).letters);
        self.may_step_queues_of(key);
        let connection = self.connection_mut(key);
        let mut turn = Turn::new(key, said, connection.frame_octets_max, circumstances);
        self.take_input(&mut turn, taken)?;
        if !turn.was_refused {
            self.land_letters();
        }
        self.hear_rest(&mut turn)?;
        self.may_step_queues_of(key);
        self.connection_mut(key).letters = std::mem::take(&mut self.letters);
        self.check_blocked(&turn)?;
        self.look_at_memory(&turn);
        if turn.appends > TURN_APPENDS_SURE && circumstances.is_paused {
            self.expect_batch(key);
        }
        Ok(())
    }

    /// The engine went on with a connection on its own account and said something.
    ///
    /// # Errors
    /// When it may not have said that, or should have said something else.
    pub fn advanced(
        &mut self,
        key: ConnectionKey,
        said: &[u8],
        more: bool,
        circumstances: Circumstances,
    ) -> Checked {
        self.turns += 1;
        let mut turn = Turn::new(key, said, self.connection(key).frame_octets_max, circumstances);
        turn.more = Some(more);
        self.letters = std::mem::take(&mut self.connection_mut(key).letters);
        self.may_step_queues_of(key);
        self.go_on_taking_down(key, more);
        self.land_letters();
        self.hear_rest(&mut turn)?;
        self.may_step_queues_of(key);
        self.land_letters();
        self.check_clock(&turn)?;
        self.look_at_memory(&turn);
        if !more && !circumstances.is_full {
            self.drained(key)?;
            self.connection_mut(key).drained_millis = circumstances.now_millis;
        }
        Ok(())
    }

    /// Octets went out to a client. While it is not read from, that is a sign of its life.
    pub fn wrote(&mut self, key: ConnectionKey, now_millis: u64, is_paused: bool) {
        let connection = self.connection_mut(key);
        connection.said_millis = now_millis;
        if is_paused {
            connection.heard_millis = now_millis;
        }
    }

    fn take_input(&mut self, turn: &mut Turn<'_>, mut taken: &[u8]) -> Checked {
        let mut batched = Batched::Nothing;
        while !taken.is_empty() && self.connection(turn.connection).phase != Phase::Ended {
            ensure!(
                self.connection(turn.connection).deferred.is_none(),
                "it took input before it had answered what came before"
            );
            if self.connection(turn.connection).phase == Phase::Header {
                let header = decode_protocol_header(taken);
                let header = header.ok_or(Violation::new("it took a part of a protocol header"))?;
                taken = &taken[8..];
                self.protocol_header(turn, header)?;
                continue;
            }
            let octets_max = self.connection(turn.connection).frame_octets_max;
            match decode_frame(taken, octets_max) {
                Ok(Some((frame, octets))) => {
                    taken = &taken[octets..];
                    let before = std::mem::replace(&mut batched, Batched::of(&frame));
                    turn.was_refused = false;
                    if batched == Batched::Acknowledgement && before == Batched::Publish {
                        self.land_letters();
                    }
                    self.frame(turn, frame)?;
                    // What a batch buries comes after all of it and what stops it.
                    let is_over = batched == Batched::Nothing
                        || batched == Batched::Publish && before == Batched::Acknowledgement;
                    if is_over && !turn.was_refused {
                        self.land_letters();
                    }
                }
                Ok(None) => return Err(Violation::new("it took a part of a frame")),
                Err(_) => return self.broken_frame(turn),
            }
        }
        Ok(())
    }

    fn frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Checked {
        match self.connection(turn.connection).phase {
            Phase::Running => self.running_frame(turn, frame),
            Phase::Closing { .. } => self.closing_frame(turn, frame),
            Phase::Ended | Phase::Silent { .. } => Ok(()),
            Phase::Header | Phase::StartOk | Phase::TuneOk | Phase::Open => self.handshake_frame(turn, frame),
        }
    }

    fn broken_frame(&mut self, turn: &mut Turn<'_>) -> Checked {
        let connection = self.connection_mut(turn.connection);
        if matches!(connection.phase, Phase::Closing { .. } | Phase::Ended) {
            // The stream cannot be followed to the confirmation that is awaited.
            connection.phase = Phase::Ended;
            return Ok(());
        }
        let verdict = Verdict::refused(ReplyCode::FrameError);
        self.expect_refusal(turn, 0, (0, 0), verdict)
    }

    fn running_frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Checked {
        match (frame.kind, frame.channel) {
            (FrameKind::Heartbeat, _) => Ok(()),
            (FrameKind::Method, channel) => {
                let method = Method::decode(frame.payload)
                    .map_err(|error| Violation::new(format!("a client sent a broken method: {error}")))?;
                if channel == 0 {
                    return self.connection_method(turn, method);
                }
                self.channel_method(turn, channel, method)
            }
            (kind, channel) => self.content_frame(turn, kind, channel, frame.payload),
        }
    }

    /// The connection's inbox is empty and all its work is done.
    fn drained(&mut self, key: ConnectionKey) -> Checked {
        let turn = self.turns;
        let connection = self.connection_mut(key);
        connection.drained_turn = turn;
        ensure!(connection.deferred.is_none(), "it never answered: {:?}", connection.deferred);
        for (_, channel) in self.channels.range_mut((key, 0)..=(key, u16::MAX)) {
            channel.shared_limit.ceiling = channel.shared_limit.current;
            channel.shared_limit.look(turn);
            for consumer in channel.consumers.values() {
                self.consumers.get_mut(consumer).expect("a channel's consumers are there").heard = 0;
            }
        }
        self.batch_is_there(key);
        self.forget_lost_consumers(key);
        Ok(())
    }
}

/// Frames of which queues get several in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batched {
    Nothing,
    /// A publish or a part of one.
    Publish,
    Acknowledgement,
}

impl Batched {
    fn of(frame: &Frame<'_>) -> Self {
        match frame.kind {
            FrameKind::Method if frame.payload.starts_with(&[0, 60, 0, 40]) => Self::Publish,
            FrameKind::Method if frame.payload.starts_with(&[0, 60, 0, 80]) => Self::Acknowledgement,
            FrameKind::Header | FrameKind::Body => Self::Publish,
            FrameKind::Method | FrameKind::Heartbeat => Self::Nothing,
        }
    }
}
