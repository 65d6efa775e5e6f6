//! The messaging model: exchanges and what they are bound to, queues and their consumers.
//!
//! Every type is a plain state machine: it is told what happens and says what follows. Knows
//! locations of messages, never their octets; nothing here knows a frame, a file, a lock of the
//! engine or a clock.

pub mod any_queue;
pub mod arguments;
pub mod binding;
pub mod consumer;
pub mod death;
pub mod destinations;
pub mod exchange;
pub mod found;
pub mod policy;
pub mod queue;
pub mod queue_arguments;
pub mod stream;
pub mod topology;
