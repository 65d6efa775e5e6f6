//! What a connection does because of time, or because memory is short: signs of life, deadlines,
//! the alarm.
//!
//! Invariant: a peer that is not read from on our account is never taken for dead.

use leveret_wire::{method::connection, write_heartbeat};

use super::connection::Connection;
use crate::{
    Refusal,
    planted::{self, Bug},
    session::{Failure, Phase},
};

impl Connection {
    /// When to call [`Connection::advance`] though nothing happened, by the monotonic clock.
    #[must_use]
    pub fn next_deadline_millis(&self) -> Option<u64> {
        let heartbeat = self.heartbeat_millis().map(|interval| {
            let send = self.last_sent_millis + interval / 2;
            if self.blocked { send } else { send.min(self.last_heard_millis + 2 * interval) }
        });
        [heartbeat, self.drop_at_millis, self.next_ack_look_millis()].into_iter().flatten().min()
    }

    fn heartbeat_millis(&self) -> Option<u64> {
        let seconds = self.session.tuned().heartbeat_seconds;
        (seconds > 0 && self.session.phase() == Phase::Running).then(|| u64::from(seconds) * 1000)
    }

    /// After a publish while the alarm is raised, nothing more is read until it clears.
    pub(super) fn block_if_alarmed(&mut self) {
        if self.blocked || !self.engine.alarm.is_raised() || !self.engine.alarm.wait(self.id, &self.inbox) {
            return;
        }
        self.blocked = true;
        if self.session.capabilities().connection_blocked {
            let reason = self.engine.alarm.reason();
            self.say(0, connection::Blocked { reason: reason.into() });
        }
    }

    pub(super) fn look_at_alarm(&mut self) {
        // The turn may have been the last to read messages that others gave back meanwhile.
        self.engine.alarm.shrunk();
        if !self.blocked || self.engine.alarm.still_waits(self.id, &self.inbox) {
            return;
        }
        self.blocked = false;
        self.last_heard_millis = self.now.monotonic_millis;
        let wants_to_know = self.session.capabilities().connection_blocked;
        if wants_to_know && self.session.phase() == Phase::Running && !planted::is(Bug::UnblockedNotSent) {
            self.say(0, connection::Unblocked {});
        }
    }

    pub(super) fn look_at_clock(&mut self) {
        self.look_at_acks();
        let now = self.now.monotonic_millis;
        if self.drop_at_millis.is_some_and(|at| at <= now) {
            self.drop_at_millis = None;
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

    /// Says something that needs no answer, whether or not heartbeats were agreed on: a socket whose
    /// peer is gone fails then.
    pub fn probe(&mut self) {
        if self.output.is_empty() && self.session.phase() == Phase::Running {
            write_heartbeat(self.output.buffer());
        }
    }

    /// Tells the engine how many octets of messages wait here: contents under way, transactions.
    /// While memory is short, a connection may hold one message of the largest size in them, and
    /// all together less than what clears the alarm. One that goes beyond is closed, or it would
    /// wait for memory that it holds itself.
    pub(super) fn count_held(&mut self) {
        let held = self.session.assembling_octets() + self.transaction_octets;
        let grew = held > self.held_octets;
        if held != self.held_octets {
            self.engine.alarm.held_changed(self.held_octets, held);
            self.held_octets = held;
        }
        if self.session.assembling_octets() > 0 {
            self.block_if_alarmed();
        }
        let too_much = held > self.engine.config.message_octets_max && self.engine.alarm.is_raised()
            || grew && self.engine.alarm.is_held_up();
        if too_much && self.session.phase() == Phase::Running && self.failure.is_none() {
            let refusal = Refusal::OutOfMemory { held };
            self.failure = Some(Failure::Refused { channel: 0, ids: (0, 0), refusal });
        }
    }
}
