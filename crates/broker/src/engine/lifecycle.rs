//! How a connection ends, or one of its channels: refused, dropped, stopped, gone.
//!
//! Invariant: whatever the end, what the connection had is given back before it is finished.

use leveret_wire::ReplyCode;

use super::{connection::Connection, publish::PublishBatch, queue_cell::Scratch, teardown::Then};
use crate::{
    Now, Refusal,
    session::{Failure, Phase, Refused},
};

/// How long silence is kept before the socket is dropped, where RabbitMQ keeps it.
const SILENCE_MILLIS: u64 = 3_000;
/// How long a peer may take to confirm our close, or to read what we said last.
const CLOSE_MILLIS_MAX: u64 = 3_000;

impl Connection {
    pub(super) fn settle_failure(&mut self) {
        if self.publishes.is_flushing() || !self.held.is_empty() && !self.disconnected {
            return;
        }
        match self.failure.take() {
            None => {}
            Some(Failure::Refused { channel, ids, refusal }) => self.refuse(channel, ids, &refusal),
            Some(Failure::SilentThenDrop(reason)) => {
                tracing::warn!(connection = %self.peer.name, reason, "connection is dropped");
                self.tear_down(Then::End);
                self.lingers = true;
                self.drop_at_millis = Some(self.now.monotonic_millis + SILENCE_MILLIS);
            }
            Some(Failure::Drop(reason)) => {
                tracing::warn!(connection = %self.peer.name, %reason, "connection is dropped");
                self.tear_down(Then::End);
            }
        }
    }

    fn refuse(&mut self, channel: u16, ids: (u16, u16), refusal: &Refusal) {
        if matches!(self.session.phase(), Phase::Closing | Phase::Ended) {
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
                self.drop_at_millis = Some(self.now.monotonic_millis + CLOSE_MILLIS_MAX);
                self.tear_down(Then::Nothing);
            }
        }
    }

    /// The broker is to end.
    pub(super) fn stop(&mut self) {
        match self.session.phase() {
            Phase::Closing => {}
            Phase::Ended => self.lingers = false,
            _ => self.force_close("broker forced connection closure with reason 'shutdown'"),
        }
    }

    /// Closes the connection with 320 and that text.
    pub(super) fn force_close(&mut self, text: &str) {
        self.flush_settles();
        let greeted =
            matches!(self.session.phase(), Phase::Running | Phase::TuneOk | Phase::Open | Phase::Opening);
        if !greeted {
            return self.tear_down(Then::End);
        }
        // What was to be refused yet is so with the rest, and does not end what the client is to confirm.
        self.failure = None;
        let text = ReplyCode::ConnectionForced.reply_text(text);
        self.session.write_connection_close(ReplyCode::ConnectionForced, &text, (0, 0), self.output.buffer());
        self.drop_at_millis = Some(self.now.monotonic_millis + CLOSE_MILLIS_MAX);
        self.tear_down(Then::Nothing);
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

    /// Nothing of the peer's is taken any more. What was said last is sent, if it is read soon.
    pub(super) fn end(&mut self) {
        self.session.end();
        self.places = None;
        let drop_at = self.now.monotonic_millis + CLOSE_MILLIS_MAX;
        self.drop_at_millis = Some(self.drop_at_millis.map_or(drop_at, |earlier| earlier.min(drop_at)));
    }

    /// Drops what a bug may have left half done: what was being published, and what a step was to
    /// lead to. Messages among that may stay in memory.
    pub fn abandon(&mut self) {
        self.publishes = PublishBatch::default();
        self.scratch = Scratch::default();
    }

    /// The socket is gone. What the connection had is given back in the turns that follow.
    pub fn disconnect(&mut self, now: Now) {
        if self.disconnected {
            return;
        }
        self.set_now(now);
        self.disconnected = true;
        if self.session.phase() == Phase::Running {
            tracing::info!(connection = %self.peer.name, vhost = self.vhost_name(), "the peer closed its socket");
        }
        self.flush_settles();
        self.failure = None;
        self.tear_down(Then::End);
        self.lingers = false;
        self.drop_at_millis = None;
        self.clear_output();
    }
}
