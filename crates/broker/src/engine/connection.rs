//! A connection: the session, and what the engine keeps with it.
//!
//! The driver owns it and nobody else locks it: it hands in what the socket brought
//! ([`Connection::receive`]), lets it go on ([`Connection::advance`]), and sends what it has to
//! say ([`Connection::output`]). A turn is bounded; what is left is taken up by the next one.
//! Invariant: a group of publishes or acknowledgements is flushed before any other method of the
//! connection is carried out, and before an error takes effect.

use std::{collections::VecDeque, sync::Arc};

use indexmap::IndexMap;
use leveret_wire::{
    FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, Method, ReplyCode, method::connection, write_heartbeat,
};

use super::{
    ConnectionId, Engine,
    inbox::{Inbox, Mail, Wake},
    output::Output,
    publish::PublishBatch,
    queue_cell::{QueueCell, Scratch},
    routes::RouteCache,
    settle::SettleBatch,
    sources::{Delivery, SourceId, Sources},
    teardown::{Frees, Teardown},
    transaction::Transaction,
    vhost::Vhost,
};
use crate::{
    Now, Refusal,
    model::consumer::ChannelCredit,
    session::{Call, Failure, Offer, Phase, Refused, Session},
};

/// How long a handshake may take.
const HANDSHAKE_MILLIS_MAX: u64 = 10_000;
/// How long silence is kept before the socket is dropped, where RabbitMQ keeps it.
const SILENCE_MILLIS: u64 = 3_000;
/// How long a peer may take to confirm our close.
const CLOSE_OK_MILLIS_MAX: u64 = 3_000;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// `127.0.0.1:50000 -> 127.0.0.1:5672`, as RabbitMQ names connections.
    pub name: String,
    /// Whether it is on this machine.
    pub is_loopback: bool,
}

/// Whether the socket should be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As soon as it has something.
    Now,
    /// Not before that time, by the monotonic clock.
    From {
        /// By the monotonic clock.
        monotonic_millis: u64,
    },
    /// Not until the connection is woken.
    Paused,
}

/// What the engine keeps with a channel.
#[derive(Debug, Default)]
pub(super) struct ChannelData {
    pub(super) last_queue: Option<Box<str>>,
    /// `basic.qos` for consumers to come; 0 is no limit.
    pub(super) prefetch: u16,
    /// `basic.qos` for the channel, once it was asked for.
    pub(super) credit: Option<Arc<ChannelCredit>>,
    pub(super) consumers: IndexMap<Box<[u8]>, SourceId>,
    /// Sources of `basic.get`, one for each queue.
    pub(super) getters: IndexMap<u64, SourceId>,
    pub(super) transaction: Transaction,
}

/// What lies in the mail beyond what was delivered.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) mail: Mail,
    pub(super) next_run: usize,
    pub(super) next_letter: usize,
}

/// A connection.
pub struct Connection {
    pub(super) engine: Arc<Engine>,
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
    pub(super) inbox: Arc<Inbox>,
    pub(super) session: Session<ChannelData, Delivery>,
    pub(super) vhost: Option<Arc<Vhost>>,
    pub(super) user: Option<String>,
    pub(super) output: Output,
    pub(super) sources: Sources,
    pub(super) reader: Reader,
    pub(super) routes: RouteCache,
    pub(super) publishes: PublishBatch,
    pub(super) settles: SettleBatch,
    pub(super) teardowns: VecDeque<Teardown>,
    pub(super) frees: Frees,
    /// The queues that only this connection may use.
    pub(super) exclusive: IndexMap<u64, Arc<QueueCell>>,
    pub(super) scratch: Scratch,
    /// Octets of input behind the one being handled: what a batch may still hold.
    pub(super) input_left: usize,
    pub(super) now: Now,
    pub(super) read_from_millis: u64,
    failure: Option<Failure>,
    blocked: bool,
    last_heard_millis: u64,
    last_sent_millis: u64,
    /// When the socket is closed, whatever the peer does.
    drop_at_millis: Option<u64>,
    /// The socket is gone.
    disconnected: bool,
}

impl Connection {
    /// A connection that was just accepted.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, peer: Peer, waker: Box<dyn Wake>, now: Now) -> Self {
        let id = ConnectionId(engine.next_id());
        let inbox = Inbox::new(waker);
        engine.connections.lock().insert(id, Arc::clone(&inbox));
        let config = &engine.config;
        let offer = Offer {
            channel_max: config.channel_max,
            frame_max: config.frame_max,
            heartbeat_seconds: config.heartbeat_seconds,
            server_properties: super::login::server_properties(),
        };
        Self {
            engine: Arc::clone(engine),
            id,
            peer,
            inbox,
            session: Session::new(offer, config.message_octets_max),
            vhost: None,
            user: None,
            output: Output::default(),
            sources: Sources::default(),
            reader: Reader::default(),
            routes: RouteCache::default(),
            publishes: PublishBatch::default(),
            settles: SettleBatch::default(),
            teardowns: VecDeque::new(),
            frees: Frees::default(),
            exclusive: IndexMap::new(),
            scratch: Scratch::default(),
            input_left: 0,
            now,
            read_from_millis: 0,
            failure: None,
            blocked: false,
            last_heard_millis: now.monotonic_millis,
            last_sent_millis: now.monotonic_millis,
            drop_at_millis: Some(now.monotonic_millis + HANDSHAKE_MILLIS_MAX),
            disconnected: false,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What is to be sent.
    #[must_use]
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// The socket took that many octets of the output.
    pub fn sent(&mut self, octets: usize, now: Now) {
        self.output.consume(octets);
        self.last_sent_millis = now.monotonic_millis;
    }

    /// Whether the socket should be read.
    #[must_use]
    pub fn reading(&self) -> Reading {
        if !self.takes_input() {
            return Reading::Paused;
        }
        if self.read_from_millis > self.now.monotonic_millis {
            return Reading::From { monotonic_millis: self.read_from_millis };
        }
        Reading::Now
    }

    /// Whether nothing is left to do or to say: the socket may be closed and this dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.session.phase() == Phase::Ended
            && self.drop_at_millis.is_none()
            && self.teardowns.is_empty()
            && self.frees.is_empty()
            && !self.publishes.is_flushing()
            && self.output.is_empty()
    }

    /// When to call [`Connection::advance`] though nothing happened, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_millis(&self) -> Option<u64> {
        let heartbeat = self.heartbeat_millis().map(|interval| {
            let send = self.last_sent_millis + interval / 2;
            if self.blocked { send } else { send.min(self.last_heard_millis + 2 * interval) }
        });
        [heartbeat, self.drop_at_millis].into_iter().flatten().min()
    }

    fn heartbeat_millis(&self) -> Option<u64> {
        let seconds = self.session.tuned().heartbeat_seconds;
        (seconds > 0 && self.session.phase() == Phase::Running).then(|| u64::from(seconds) * 1000)
    }

    fn takes_input(&self) -> bool {
        self.failure.is_none()
            && !self.blocked
            && !self.disconnected
            && self.teardowns.is_empty()
            && !self.publishes.is_flushing()
            && !self.output.is_full()
    }

    /// Takes what the socket brought, as far as the turn goes, and returns how many octets that
    /// was. The rest is handed in again, with what came behind it.
    pub fn receive(&mut self, input: &[u8], now: Now) -> usize {
        self.now = now;
        self.last_heard_millis = now.monotonic_millis;
        let mut taken = 0;
        while self.takes_input() {
            let rest = &input[taken..];
            if !self.flush_before(rest) {
                break;
            }
            match self.session.next(rest, self.output.buffer()) {
                Ok(None) => break,
                Ok(Some((octets, call))) => {
                    taken += octets;
                    self.input_left = input.len() - taken;
                    let Some(call) = call else { continue };
                    if let Err(failure) = self.handle(call) {
                        self.failure = Some(failure);
                    }
                }
                Err(failure) => {
                    taken += frame_octets(rest).unwrap_or(rest.len());
                    self.failure = Some(failure);
                }
            }
        }
        self.flush();
        self.settle_failure();
        taken
    }

    /// Flushes what may not wait for the frame that comes next. False when that is not done yet.
    fn flush_before(&mut self, rest: &[u8]) -> bool {
        let next = NextFrame::of(rest);
        if next != NextFrame::Settle {
            self.flush_settles();
        }
        if next != NextFrame::Publish || self.publishes.is_due() {
            self.flush_publishes();
        }
        !self.publishes.is_flushing()
    }

    fn flush(&mut self) {
        self.flush_settles();
        self.flush_publishes();
    }

    fn handle(&mut self, call: Call<'_>) -> Result<(), Failure> {
        match call {
            Call::Publish(publish) => self.publish(publish),
            Call::PublishAssembled(content) => self.publish(content.as_publish()),
            Call::Method { channel, method } => self
                .method(channel, method)
                .map_err(|refusal| Failure::Refused { channel, ids: method.ids(), refusal }),
            Call::ChannelOpened { channel } => {
                let open_ok = leveret_wire::method::channel::OpenOk::default();
                self.say(channel, open_ok);
                Ok(())
            }
            Call::ChannelClose { channel } => {
                self.close_channel(channel);
                Ok(())
            }
            Call::Login { mechanism, response } => self.login(mechanism, response),
            Call::Open { virtual_host } => self.open_vhost(virtual_host),
            Call::UpdateSecret { .. } => {
                self.say(0, connection::UpdateSecretOk {});
                Ok(())
            }
            Call::ConnectionClose => {
                self.tear_down(super::teardown::Then::ConnectionCloseOk);
                Ok(())
            }
            Call::ConnectionClosed => {
                self.drop_at_millis = None;
                Ok(())
            }
        }
    }

    /// Appends a method frame to the output.
    pub(super) fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        method.into().write_frame(channel, self.output.buffer());
    }

    /// Goes on with what does not depend on the socket's input: unfinished work, the inbox,
    /// timers. True when there is more to do at once.
    pub fn advance(&mut self, now: Now) -> bool {
        self.now = now;
        if self.engine.is_stopping() && !matches!(self.session.phase(), Phase::Closing | Phase::Ended) {
            self.force_close("broker forced connection closure with reason 'shutdown'");
        }
        self.flush_publishes();
        self.settle_failure();
        self.run_teardowns();
        self.run_frees();
        let more_mail = self.read_mail();
        self.look_at_alarm();
        self.look_at_clock();
        if self.disconnected {
            self.output.clear();
        }
        self.publishes.is_flushing() || !self.teardowns.is_empty() || !self.frees.is_empty() || more_mail
    }

    fn settle_failure(&mut self) {
        if self.publishes.is_flushing() {
            return;
        }
        match self.failure.take() {
            None => {}
            Some(Failure::Refused { channel, ids, refusal }) => self.refuse(channel, ids, &refusal),
            Some(Failure::SilentThenDrop(reason)) => {
                tracing::warn!(connection = %self.peer.name, reason, "connection is dropped");
                self.tear_down(super::teardown::Then::End);
                self.drop_at_millis = Some(self.now.monotonic_millis + SILENCE_MILLIS);
            }
            Some(Failure::Drop(reason)) => {
                tracing::warn!(connection = %self.peer.name, %reason, "connection is dropped");
                self.tear_down(super::teardown::Then::End);
                self.drop_at_millis = None;
            }
        }
    }

    fn refuse(&mut self, channel: u16, ids: (u16, u16), refusal: &Refusal) {
        if self.session.phase() == Phase::Closing {
            return self.end();
        }
        tracing::warn!(
            connection = %self.peer.name,
            vhost = self.vhost_name(),
            channel,
            class_id = ids.0,
            method_id = ids.1,
            "{}",
            refusal.reply_text()
        );
        match self.session.refuse(channel, ids, refusal, self.output.buffer()) {
            Refused::Channel(closed) => self.tear_down_channel(closed.map(|channel| *channel), None),
            Refused::Connection => {
                self.drop_at_millis = Some(self.now.monotonic_millis + CLOSE_OK_MILLIS_MAX);
                self.tear_down(super::teardown::Then::Nothing);
            }
        }
    }

    /// Closes the connection with 320 and that text.
    pub(super) fn force_close(&mut self, text: &str) {
        self.flush_settles();
        let greeted =
            matches!(self.session.phase(), Phase::Running | Phase::TuneOk | Phase::Open | Phase::Opening);
        if !greeted {
            self.drop_at_millis = None;
            return self.tear_down(super::teardown::Then::End);
        }
        let text = ReplyCode::ConnectionForced.reply_text(text);
        self.session.write_connection_close(ReplyCode::ConnectionForced, &text, (0, 0), self.output.buffer());
        self.drop_at_millis = Some(self.now.monotonic_millis + CLOSE_OK_MILLIS_MAX);
        self.tear_down(super::teardown::Then::Nothing);
    }

    /// The handshake is done.
    pub(super) fn opened(&mut self) {
        self.drop_at_millis = None;
        tracing::info!(
            connection = %self.peer.name,
            vhost = self.vhost_name(),
            user = self.user.as_deref().unwrap_or_default(),
            "connection opened"
        );
    }

    pub(super) fn vhost_name(&self) -> &str {
        self.vhost.as_ref().map_or("", |vhost| &vhost.name)
    }

    /// Nothing of the peer's is taken any more, and nothing is awaited.
    pub(super) fn end(&mut self) {
        self.session.end();
        self.drop_at_millis = None;
    }

    /// The socket is gone. What the connection had is given back in the turns that follow.
    pub fn disconnect(&mut self, now: Now) {
        if self.disconnected {
            return;
        }
        self.now = now;
        self.disconnected = true;
        if self.session.phase() == Phase::Running {
            tracing::info!(connection = %self.peer.name, vhost = self.vhost_name(), "the peer closed its socket");
        }
        self.flush_settles();
        self.tear_down(super::teardown::Then::End);
        self.drop_at_millis = None;
        self.output.clear();
    }

    /// After a publish while the alarm is raised, nothing more is read until it clears.
    pub(super) fn block_if_alarmed(&mut self) {
        if self.blocked || !self.engine.alarm.is_raised() || !self.engine.alarm.wait(&self.inbox) {
            return;
        }
        self.blocked = true;
        if self.session.capabilities().connection_blocked {
            self.say(0, connection::Blocked { reason: "low on memory".into() });
        }
    }

    fn look_at_alarm(&mut self) {
        if !self.blocked || self.engine.alarm.is_raised() {
            return;
        }
        self.blocked = false;
        self.last_heard_millis = self.now.monotonic_millis;
        if self.session.capabilities().connection_blocked && self.session.phase() == Phase::Running {
            self.say(0, connection::Unblocked {});
        }
    }

    fn look_at_clock(&mut self) {
        let now = self.now.monotonic_millis;
        if self.drop_at_millis.is_some_and(|at| at <= now) {
            if self.session.phase() != Phase::Ended {
                tracing::warn!(connection = %self.peer.name, "the peer took too long; the socket is closed");
            }
            self.disconnect(self.now);
        }
        let Some(interval) = self.heartbeat_millis() else { return };
        if !self.blocked && now >= self.last_heard_millis + 2 * interval {
            tracing::warn!(
                connection = %self.peer.name,
                vhost = self.vhost_name(),
                "no sign of life for two heartbeat intervals; the connection is closed"
            );
            self.disconnect(self.now);
        } else if now >= self.last_sent_millis + interval / 2 {
            self.last_sent_millis = now;
            if self.output.is_empty() {
                write_heartbeat(self.output.buffer());
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.engine.connections.lock().swap_remove(&self.id);
        self.engine.alarm.forget(&self.inbox);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer.name).finish_non_exhaustive()
    }
}

/// What kind of frame comes next, as far as it matters for groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextFrame {
    /// A publish or a part of one.
    Publish,
    /// An acknowledgement or a refusal of deliveries.
    Settle,
    Other,
}

impl NextFrame {
    #[inline]
    fn of(input: &[u8]) -> Self {
        match input.first() {
            Some(2 | 3) => Self::Publish,
            Some(1) => match input.get(FRAME_HEADER_OCTETS..FRAME_HEADER_OCTETS + 4) {
                Some([0, 60, 0, 40]) => Self::Publish,
                Some([0, 60, 0, 80 | 90 | 120]) => Self::Settle,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// Octets of the first frame, if it is whole.
fn frame_octets(input: &[u8]) -> Option<usize> {
    let size = input.get(3..FRAME_HEADER_OCTETS)?.first_chunk().map(|size| u32::from_be_bytes(*size))?;
    let octets = size as usize + FRAME_OVERHEAD_OCTETS;
    (octets <= input.len()).then_some(octets)
}
