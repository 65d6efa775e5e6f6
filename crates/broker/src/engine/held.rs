//! Answers that tell of something that is to last: held until it does.
//!
//! While some are held, further methods that declare, bind or delete are carried out and their answers
//! held behind them, so that all of them share a sync; any other frame waits. Invariant: answers go
//! out in the order in which they were given.

use leveret_wire::Method;

use super::connection::Connection;
use crate::store::journal::Position;

/// Octets of answers that are held before no more is taken.
const HELD_OCTETS_MAX: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct HeldAnswers {
    frames: Vec<u8>,
    /// When they may go out.
    until: Position,
    /// A frame came that waits for them.
    stops_input: bool,
}

impl HeldAnswers {
    pub(super) const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether nothing more is taken until they are out.
    pub(super) const fn stops_input(&self) -> bool {
        self.stops_input
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Connection {
    /// Up to there the journal is synced, or there is none.
    pub(super) fn is_synced(&self, position: Position) -> bool {
        self.engine.durability.as_ref().is_none_or(|durability| durability.is_synced(position))
    }

    /// Sees to it that the connection is woken when the journal is synced up to there.
    pub(super) fn await_sync(&mut self, position: Position) {
        if self.awaited.is_some_and(|awaited| !self.is_synced(awaited)) {
            // It will be, and looks at what it waits for then.
            return;
        }
        if let Some(durability) = &self.engine.durability {
            self.awaited = Some(position);
            durability.wait(position, &self.inbox);
        }
    }

    /// Takes no more until the journal is synced up to there, if too much waits to be synced.
    pub(super) fn pause_if_unsynced(&mut self, position: Position) {
        if self.engine.durability.as_ref().is_some_and(|durability| durability.is_behind()) {
            self.paused_until = Some(position);
            self.await_sync(position);
        }
    }

    pub(super) fn go_on_when_synced(&mut self) {
        let Some(position) = self.paused_until else { return };
        if self.is_synced(position) {
            self.paused_until = None;
        } else {
            self.await_sync(position);
        }
    }

    /// Appends an answer to the output, or behind those that are held.
    pub(super) fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let out = if self.held.is_empty() { self.output.buffer() } else { &mut self.held.frames };
        method.into().write_frame(channel, out);
    }

    /// Appends an answer that goes out once the journal is synced up to there.
    pub(super) fn say_when_synced<'m>(
        &mut self,
        lasts_at: Option<Position>,
        channel: u16,
        method: impl Into<Method<'m>>,
    ) {
        if let Some(position) = lasts_at.filter(|position| !self.is_synced(*position)) {
            self.held.until = self.held.until.max(position);
            method.into().write_frame(channel, &mut self.held.frames);
            self.await_sync(position);
        } else {
            self.say(channel, method);
        }
    }

    /// Whether the next frame may be taken though answers are held. One that may not stops the input.
    pub(super) fn passes_held(&mut self, is_definition: bool) -> bool {
        let passes = self.held.is_empty() || is_definition && self.held.frames.len() < HELD_OCTETS_MAX;
        self.held.stops_input |= !passes;
        passes
    }

    /// Lets go of what is held, if the time has come.
    pub(super) fn say_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        if self.is_synced(self.held.until) {
            self.output.buffer().extend_from_slice(&self.held.frames);
            self.held.clear();
        } else {
            self.await_sync(self.held.until);
        }
    }
}
