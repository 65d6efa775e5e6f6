//! The two directions of a socket: octets under way, cut anywhere.
//!
//! Knows octets, never frames. Invariant: what comes out on one side went in on the other, in
//! order, each octet once.

use std::collections::VecDeque;

use leveret_broker::engine::Output;

use crate::{Checked, Violation, random::Random};

/// The octets between a client and the broker.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Sent by the client and not yet read by the broker's side.
    up: VecDeque<u8>,
    /// Read by the broker's side and not yet taken by the engine.
    remainder: Vec<u8>,
    /// Whether the engine stopped because it had enough, not because a frame is incomplete.
    whole: bool,
    /// Put into the output by the engine, seen, and not yet written.
    unwritten: VecDeque<u8>,
    /// Written and not yet read by the client.
    down: VecDeque<u8>,
    /// Octets that fit between the broker and a client that does not read.
    window_octets: usize,
}

impl Pipe {
    /// A socket whose buffers take that much.
    #[must_use]
    pub fn new(window_octets: usize) -> Self {
        Self { window_octets, ..Self::default() }
    }

    /// The client sends.
    pub fn send(&mut self, octets: &[u8]) {
        self.up.extend(octets);
    }

    /// Octets on their way to the broker.
    #[must_use]
    pub fn up_octets(&self) -> usize {
        self.up.len()
    }

    /// Whether the engine can go on without the socket, once it takes input again.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether a frame was begun and not ended.
    #[must_use]
    pub fn is_in_mid_frame(&self) -> bool {
        !self.remainder.is_empty() && !self.whole
    }

    /// What the engine is given next: what it left and some more of what was sent.
    pub fn input(&mut self, octets_max: usize) -> Vec<u8> {
        let octets = if self.whole { 0 } else { octets_max.min(self.up.len()) };
        let mut input = std::mem::take(&mut self.remainder);
        input.extend(self.up.drain(..octets));
        input
    }

    /// The engine took so much of it, and stopped there because it had enough.
    pub fn taken(&mut self, input: &[u8], octets: usize, paused: bool) {
        self.remainder = input[octets..].to_vec();
        self.whole = paused && !self.remainder.is_empty();
    }

    /// What the engine put into its output since the last look.
    pub fn overhear(&mut self, output: &Output) -> Vec<u8> {
        if output.len() < self.unwritten.len() {
            self.unwritten.clear();
        }
        let mut skip = self.unwritten.len();
        let mut fresh = Vec::with_capacity(output.len() - skip);
        for part in output.parts() {
            let known = skip.min(part.len());
            skip -= known;
            fresh.extend_from_slice(&part[known..]);
        }
        self.unwritten.extend(&fresh);
        fresh
    }

    /// Whether octets could be written now.
    #[must_use]
    pub fn takes_octets(&self) -> bool {
        self.down.len() < self.window_octets
    }

    /// Writes some of the output, which must be what was overheard; all of it, however little
    /// room there is, when that is asked for. Returns how much.
    ///
    /// # Errors
    /// When it is something else.
    pub fn write(&mut self, output: &Output, octets_max: usize) -> Checked<usize> {
        let room = match octets_max {
            usize::MAX => usize::MAX,
            octets_max => self.window_octets.saturating_sub(self.down.len()).min(octets_max),
        };
        let octets: Vec<u8> = output.parts().flatten().copied().take(room).collect();
        if !self.unwritten.drain(..octets.len()).eq(octets.iter().copied()) {
            return Err(Violation::new("the output changed between a turn and the write"));
        }
        self.down.extend(&octets);
        Ok(octets.len())
    }

    /// Octets that the client could read.
    #[must_use]
    pub fn down_octets(&self) -> usize {
        self.down.len()
    }

    /// The client reads.
    pub fn read(&mut self, octets_max: usize) -> Vec<u8> {
        let octets = octets_max.min(self.down.len());
        self.down.drain(..octets).collect()
    }

    /// The client's side is gone, with what it had sent.
    pub fn cut(&mut self) {
        self.up.clear();
        self.down.clear();
    }

    /// Some of what was sent is lost, because the client dies while it sends.
    pub fn lose_end(&mut self, random: &mut Random) {
        let kept = random.below(self.up.len() + 1);
        self.up.truncate(kept);
    }
}
