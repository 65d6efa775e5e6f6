//! What one run does: its design, its scenario and its constants.
//!
//! Invariant: the two processes of a run hold equal settings; they travel as one argument.

use std::str::FromStr;

use crate::measure::Problem;

/// Who encodes a delivery, and under whose lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Design {
    /// References go into the connection's inbox; its own task encodes.
    Inbox,
    /// The publisher's thread encodes into the connection's output buffer.
    Direct,
    /// The connection's task is woken and takes a batch from the queue.
    Pull,
}

impl Design {
    pub(super) const ALL: [Self; 3] = [Self::Inbox, Self::Direct, Self::Pull];
}

/// One run. Counts are of messages unless the name says octets.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) design: Design,
    pub(super) publishers: usize,
    /// Queues that every message goes to.
    pub(super) queues: usize,
    pub(super) consumers_per_queue: usize,
    /// Zero means that deliveries need no acknowledgement.
    pub(super) prefetch: u32,
    pub(super) body_octets: usize,
    pub(super) messages: usize,
    /// Published but not yet received by all, at most.
    pub(super) in_flight_max: usize,
    /// Messages a second and publisher; zero is as fast as it goes.
    pub(super) rate: usize,
    pub(super) window: u32,
    pub(super) read_octets: usize,
    pub(super) output_octets: usize,
    /// Reads of a publisher's connection before its task yields; zero never.
    pub(super) reads_per_turn: usize,
}

impl Settings {
    pub(super) fn deliveries(&self) -> usize {
        self.messages * self.queues
    }

    pub(super) fn consumers(&self) -> usize {
        self.queues * self.consumers_per_queue
    }

    /// The settings that the generator needs, as [`FromStr`] reads them.
    pub(super) fn to_argument(&self) -> String {
        let numbers = [
            self.publishers,
            self.queues,
            self.consumers_per_queue,
            self.prefetch as usize,
            self.body_octets,
            self.messages,
            self.in_flight_max,
            self.rate,
        ];
        numbers.map(|number| number.to_string()).join(",")
    }
}

impl FromStr for Settings {
    type Err = Problem;

    fn from_str(argument: &str) -> Result<Self, Problem> {
        let numbers: Result<Vec<usize>, _> = argument.split(',').map(str::parse).collect();
        let numbers = numbers?;
        let &[publishers, queues, consumers_per_queue, prefetch, body_octets, messages, in_flight_max, rate] =
            numbers.as_slice()
        else {
            return Err(format!("eight numbers expected, found {argument}").into());
        };
        Ok(Self {
            publishers,
            queues,
            consumers_per_queue,
            prefetch: prefetch as u32,
            body_octets,
            messages,
            in_flight_max,
            rate,
            ..Self::default()
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            design: Design::Inbox,
            publishers: 1,
            queues: 1,
            consumers_per_queue: 1,
            prefetch: 0,
            body_octets: 16,
            messages: 0,
            in_flight_max: 32_768,
            rate: 0,
            window: 2048,
            read_octets: 64 << 10,
            output_octets: 64 << 10,
            reads_per_turn: 1,
        }
    }
}
