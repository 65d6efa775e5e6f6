//! What the connections of a worker share: its clock, its counts and its checks.

use super::{
    check::Check,
    handshake::Login,
    stamp::{Clock, Ticks},
    tally::{Counts, Latency},
};

pub(super) struct Scene {
    pub(super) clock: Clock,
    /// When the read that is looked at came back.
    pub(super) now: Ticks,
    pub(super) login: Login,
    /// Whether bodies have room for a stamp.
    pub(super) is_stamped: bool,
    pub(super) counts: Counts,
    pub(super) latency: Latency,
    /// From when a message was handed to the socket until the read that brought its `basic.ack`.
    pub(super) confirm_latency: Latency,
    pub(super) checks: Vec<Check>,
    /// Answers that have not come.
    pub(super) unanswered: usize,
}
