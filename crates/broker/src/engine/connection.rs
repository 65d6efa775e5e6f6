//! A connection: the session, and what the engine keeps with it.
//!
//! The driver owns it and nobody else locks it: it hands in what the socket brought
//! ([`Connection::receive`]), lets it go on ([`Connection::advance`]), and sends what it has to
//! say ([`Connection::output`]). A turn is bounded; what is left is taken up by the next one.
//! Invariant: a group of publishes or acknowledgements is flushed before any other method of the
//! connection is carried out, and before an error takes effect.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use indexmap::IndexMap;
use leveret_wire::{FRAME_HEADER_OCTETS, FRAME_OVERHEAD_OCTETS, method::connection};

use super::{
    ConnectionId, Engine,
    ack_timeout::DeliveryMarks,
    admission::{Account, Place},
    consume::Getting,
    dead_letters::Undertaker,
    held::HeldAnswers,
    inbox::{Inbox, Mail, Wake},
    output::Output,
    permissions::Grants,
    publish::PublishBatch,
    queue_cell::{QueueCell, Scratch},
    replies::ReplyConsumer,
    routes::RouteCache,
    settle::SettleBatch,
    sources::{Delivery, SourceId, Sources},
    teardown::{Frees, Teardown},
    transaction::Transaction,
    vhost::Vhost,
};
use crate::{
    Now,
    model::consumer::ChannelCredit,
    planted::{self, Bug},
    session::{Call, Failure, Offer, Phase, Session},
    store::journal::Position,
};

/// Steps on queues after which a turn ends, where a method takes one for each of many consumers.
const TURN_STEPS_MAX: usize = 16 * 1024;
/// Dead letters put into queues in one turn.
const TURN_DEAD_LETTERS_MAX: usize = 16 * 1024;
/// How long a handshake may take.
const HANDSHAKE_MILLIS_MAX: u64 = 10_000;

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
    /// The channel's place among its user's, where those are limited.
    pub(super) place: Option<Place>,
    /// Sources of `basic.get`, one for each queue.
    pub(super) getters: IndexMap<u64, SourceId>,
    pub(super) transaction: Transaction,
    pub(super) replies: Option<ReplyConsumer>,
    pub(super) marks: DeliveryMarks,
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
    /// Whose connection it is, once it is logged in.
    pub(super) account: Option<Arc<Account>>,
    /// What the user may do, once the virtual host is open.
    pub(super) grants: Option<Box<Grants>>,
    /// The connection's places in its virtual host and with its user.
    pub(super) places: Option<[Place; 2]>,
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
    pub(super) undertaker: Undertaker,
    /// Octets of input behind the one being handled: what a batch may still hold.
    pub(super) input_left: usize,
    /// Steps on queues that methods of the turn may still cause beyond one each.
    pub(super) steps_left: usize,
    pub(super) now: Now,
    pub(super) read_from_millis: u64,
    pub(super) failure: Option<Failure>,
    pub(super) blocked: bool,
    pub(super) last_heard_millis: u64,
    pub(super) last_sent_millis: u64,
    /// The least time that consumers may keep a delivery, if any may not keep it for ever.
    pub(super) ack_timeout_millis: Option<u64>,
    /// When to look for deliveries that are kept too long.
    pub(super) ack_look_millis: u64,
    /// When the socket is closed, whatever the peer does.
    pub(super) drop_at_millis: Option<u64>,
    /// Nothing more is said, and the socket stays open until then.
    pub(super) lingers: bool,
    /// An answer that carries a message waits: while the output is full, or for its page.
    pub(super) answers_wait: bool,
    /// Answers that wait for the journal.
    pub(super) held: HeldAnswers,
    /// Up to where the journal has to be synced before more is taken.
    pub(super) paused_until: Option<Position>,
    /// When the journal will have woken the connection.
    pub(super) awaited: Option<Position>,
    /// Up to where the journal has to be synced for all that the connection did to messages.
    pub(super) lasts_at: Option<Position>,
    /// A message that was asked for is on a page.
    pub(super) getting: Option<Getting>,
    /// Octets of publishes that transactions hold back.
    pub(super) transaction_octets: u64,
    /// Octets of messages that came and are in no queue yet, as the engine counts them.
    pub(super) held_octets: u64,
    /// The socket is gone.
    pub(super) disconnected: bool,
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
            server_properties: super::login::server_properties(engine.cluster_name()),
        };
        Self {
            engine: Arc::clone(engine),
            id,
            peer,
            inbox,
            session: Session::new(offer, config.message_octets_max),
            vhost: None,
            user: None,
            account: None,
            grants: None,
            places: None,
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
            undertaker: Undertaker::default(),
            input_left: 0,
            steps_left: TURN_STEPS_MAX,
            now,
            read_from_millis: 0,
            failure: None,
            blocked: false,
            last_heard_millis: now.monotonic_millis,
            last_sent_millis: now.monotonic_millis,
            ack_timeout_millis: engine.config.ack_timeout_millis,
            ack_look_millis: now.monotonic_millis,
            drop_at_millis: Some(now.monotonic_millis + HANDSHAKE_MILLIS_MAX),
            lingers: false,
            answers_wait: false,
            held: HeldAnswers::default(),
            paused_until: None,
            awaited: None,
            lasts_at: None,
            getting: None,
            transaction_octets: 0,
            held_octets: 0,
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
        if let Some(buffer) = self.output.spare_buffer() {
            self.engine.log.keep_buffer(buffer);
        }
        // Messages that only this output held are freed with it.
        self.engine.alarm.shrunk();
        self.last_sent_millis = now.monotonic_millis;
        if !self.takes_input() {
            // It reads, so it lives, though we do not listen to it.
            self.last_heard_millis = now.monotonic_millis;
        }
    }

    /// Whether the socket should be read, now that [`Connection::advance`] was called.
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

    /// Whether the socket was given up; what the connection had may not all be given back yet.
    #[must_use]
    pub const fn is_disconnected(&self) -> bool {
        self.disconnected
    }

    /// Whether nothing is left to do or to say: the socket may be closed and this dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.session.phase() == Phase::Ended
            && !self.lingers
            && self.teardowns.is_empty()
            && self.frees.is_empty()
            && !self.publishes.is_flushing()
            && !self.has_dead_letters()
            && self.held.is_empty()
            && self.output.is_empty()
    }

    /// Drops what waits to be sent, when the socket is gone.
    pub(super) fn clear_output(&mut self) {
        self.output.clear();
        self.held.clear();
        self.engine.alarm.shrunk();
    }

    fn takes_input(&self) -> bool {
        // A peer that is to say no more than its close-ok is listened to in any case.
        let may_ask =
            !self.blocked && !self.output.is_flooded() && !self.answers_wait && !self.held.stops_input();
        (may_ask || self.session.phase() != Phase::Running)
            && self.paused_until.is_none()
            && self.failure.is_none()
            && !self.disconnected
            && self.teardowns.is_empty()
            && !self.publishes.is_flushing()
            && !self.has_dead_letters()
            && self.steps_left > 0
    }

    /// Whether copies of all messages go to the trace exchange.
    pub(super) fn is_traced(&self) -> bool {
        self.vhost.as_ref().is_some_and(|vhost| vhost.is_traced.load(Ordering::Relaxed))
    }

    /// Whether messages that its steps buried are still to be published anew.
    fn has_dead_letters(&self) -> bool {
        self.undertaker.is_busy() || !self.scratch.dead_letters.is_empty()
    }

    /// Publishes what steps buried, as far as the turn goes.
    fn bury(&mut self) {
        if self.has_dead_letters() {
            self.undertaker.work(&self.engine, &mut self.scratch, self.now, TURN_DEAD_LETTERS_MAX);
        }
    }

    pub(super) const fn set_now(&mut self, now: Now) {
        self.now = now;
        self.scratch.now = now;
    }

    /// Takes what the socket brought, as far as the turn goes, and returns how many octets that
    /// was. The rest is handed in again, with what came behind it.
    pub fn receive(&mut self, input: &[u8], now: Now) -> usize {
        self.set_now(now);
        self.last_heard_millis = now.monotonic_millis;
        let mut taken = 0;
        loop {
            let wants_more = self.take_frames(input, &mut taken);
            self.flush();
            self.bury();
            self.settle_failure();
            // What stopped us may be settled by now, and nobody would call again for what is left.
            if wants_more || !self.takes_input() {
                break;
            }
        }
        self.count_held();
        taken
    }

    /// Takes frames until the input ends, which is told by true, or something has to be settled.
    fn take_frames(&mut self, input: &[u8], taken: &mut usize) -> bool {
        while self.takes_input() {
            let rest = &input[*taken..];
            if !self.flush_before(rest) {
                return false;
            }
            match self.session.next(rest, self.output.buffer()) {
                Ok(None) => return true,
                Ok(Some((octets, call))) => {
                    *taken += octets;
                    self.input_left = input.len() - *taken;
                    let Some(call) = call else { continue };
                    if let Err(failure) = self.handle(call) {
                        self.failure = Some(failure);
                    }
                }
                Err(failure) => {
                    *taken += frame_octets(rest).unwrap_or(rest.len());
                    self.failure = Some(failure);
                }
            }
        }
        false
    }

    /// Flushes what may not wait for the frame that comes next. False when that is not done yet, or
    /// when the frame itself has to wait.
    fn flush_before(&mut self, rest: &[u8]) -> bool {
        let next = NextFrame::of(rest);
        if !self.held.is_empty() && !rest.is_empty() && !self.passes_held(next == NextFrame::Definition) {
            return false;
        }
        if next != NextFrame::Settle {
            self.flush_settles();
        }
        if next != NextFrame::Publish && !planted::is(Bug::LateFlush) || self.publishes.is_due() {
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
                self.admit_channel(channel).map_err(|refusal| Failure::Refused {
                    channel: 0,
                    ids: (0, 0),
                    refusal,
                })?;
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
                self.end();
                Ok(())
            }
        }
    }

    /// Goes on with what does not depend on the socket's input: unfinished work, the inbox,
    /// timers. True when there is more to do at once.
    pub fn advance(&mut self, now: Now) -> bool {
        self.set_now(now);
        self.steps_left = TURN_STEPS_MAX;
        if self.engine.is_stopping() {
            self.stop();
        }
        self.flush_publishes();
        self.confirm_synced();
        self.say_held();
        self.go_on_when_synced();
        self.settle_failure();
        self.run_teardowns();
        self.run_frees();
        self.bury();
        self.answers_wait &= self.output.is_full();
        self.get_again();
        let more_mail = self.read_mail();
        // Copies of what was delivered, where that is wanted.
        self.flush_publishes();
        // Before it may be blocked, which would excuse the silence until now.
        self.look_at_clock();
        self.count_held();
        self.look_at_alarm();
        if self.disconnected {
            self.clear_output();
        }
        // Reading the mail may bury more.
        let more_dead = self.has_dead_letters();
        let fails = self.failure.is_some() && self.held.is_empty();
        let more_to_settle = self.publishes.is_flushing() || more_dead || fails;
        more_to_settle || !self.teardowns.is_empty() || !self.frees.is_empty() || more_mail
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.engine.connections.lock().swap_remove(&self.id);
        self.engine.alarm.forget(self.id);
        self.engine.alarm.held_changed(self.held_octets, 0);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer.name)
            .field("exclusive_queues", &self.exclusive.len())
            .finish_non_exhaustive()
    }
}

/// What kind of frame comes next, as far as it matters for groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextFrame {
    /// A publish or a part of one.
    Publish,
    /// An acknowledgement or a refusal of deliveries.
    Settle,
    /// A method of the classes exchange and queue.
    Definition,
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
                Some([0, 40 | 50, ..]) => Self::Definition,
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
