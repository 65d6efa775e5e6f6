//! The memory alarm as publishers see it.

use leveret_wire::{Method, ReplyCode};

use super::{ChannelKey, Model, connection::Phase, turn::Turn};
use crate::{Checked, counts::Event, ensure, frames::Said};

impl Model {
    /// A publish was taken. While the alarm stands that blocks its connection.
    pub(super) fn published(&self, turn: &mut Turn<'_>) {
        let first = !std::mem::replace(&mut turn.published, true);
        // Later in a turn the alarm may have come or gone by what the turn itself did.
        turn.must_block |= first && !turn.may_have_freed && turn.circumstances.was_alarmed;
    }

    pub(super) fn hear_blocked(&mut self, turn: &mut Turn<'_>) -> Checked {
        self.counts.note(Event::Blocked);
        let key = turn.connection;
        let mut channels = self.channels.range((key, 0)..=(key, u16::MAX));
        let began = channels.any(|(_, channel)| channel.begun.is_some());
        let connection = self.connection_mut(key);
        ensure!(connection.capabilities.connection_blocked, "a client hears of blocking that did not ask to");
        ensure!(!connection.blocked, "a client is blocked twice");
        ensure!(turn.published || turn.began_content || began, "a client is blocked that did not publish");
        connection.blocked = true;
        Ok(())
    }

    pub(super) fn hear_unblocked(&mut self, turn: &mut Turn<'_>) -> Checked {
        self.counts.note(Event::Unblocked);
        let connection = self.connection_mut(turn.connection);
        ensure!(connection.blocked, "a client is unblocked that was not blocked");
        let alarmed = turn.circumstances.was_alarmed && turn.circumstances.is_alarmed;
        ensure!(!alarmed, "a client is unblocked while the alarm stands");
        connection.blocked = false;
        connection.heard_millis = turn.circumstances.now_millis;
        Ok(())
    }

    /// While the alarm stands, a connection is closed that held too much when it was last looked
    /// at.
    pub(super) fn hear_out_of_memory(&mut self, turn: &Turn<'_>, said: &Said<'_>) -> bool {
        let refused = match said {
            Said::Method(0, Method::ConnectionClose(close)) => {
                close.reply_code == ReplyCode::ResourceError.code() && close.class_id == 0
            }
            _ => false,
        };
        let connection = self.connection(turn.connection);
        let is_out = refused && connection.holds_too_much && connection.phase == Phase::Running;
        if is_out {
            self.counts.note(Event::OutOfMemory);
            self.connection_closes(turn);
        }
        is_out
    }

    /// Looks whether the contents and transactions under way are too much: more than the largest
    /// message, or a part of so much that the alarm could not end whatever consumers do.
    pub(super) fn look_at_memory(&mut self, turn: &Turn<'_>) {
        let key = turn.connection;
        let own = self.octets_under_way_max(|channel| channel.0 == key);
        let too_much = own > self.limits.message_octets_max
            || own > 0 && self.octets_under_way_max(|_| true) > self.alarm_clears_at_octets();
        let connection = self.connection_mut(key);
        // It may have to wait for the end of a batch until it is told.
        let waits = connection.holds_too_much && turn.circumstances.is_paused;
        connection.holds_too_much = too_much || waits;
    }

    fn octets_under_way_max(&self, which: impl Fn(&ChannelKey) -> bool) -> u64 {
        let channels = self.channels.iter().filter(|(key, _)| which(key));
        channels.map(|(_, channel)| channel.octets_under_way_max()).sum()
    }

    /// At 95 % of the watermark, so that it does not flicker.
    const fn alarm_clears_at_octets(&self) -> u64 {
        self.limits.memory_watermark_octets / 100 * 95
    }

    pub(super) fn check_blocked(&self, turn: &Turn<'_>) -> Checked {
        let connection = self.connection(turn.connection);
        if !turn.must_block || connection.phase != Phase::Running {
            return Ok(());
        }
        ensure!(turn.circumstances.is_paused, "a publisher is read from while the alarm stands");
        let told = connection.blocked || !connection.capabilities.connection_blocked;
        ensure!(told, "a publisher was blocked and not told");
        Ok(())
    }
}
