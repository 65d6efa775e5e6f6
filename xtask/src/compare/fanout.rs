//! The shape of a fan-out, which brokers without AMQP and the relay carry too.

/// Messages of one size that each go to several subscribers.
#[derive(Clone, Copy, Debug)]
pub(super) struct FanOut {
    pub(super) subscribers: u32,
    pub(super) body_octets: usize,
    /// Messages published to a broker that is fast.
    pub(super) messages: u64,
}
