//! The Leveret broker as an engine: AMQP 0-9-1 in, AMQP 0-9-1 out, and everything between, without
//! I/O, clock, threads, runtime or randomness of its own.

#![forbid(unsafe_code)]

pub mod access;
pub mod definitions;
pub mod engine;
mod location;
pub mod model;
mod octets;
mod page;
pub mod pattern;
#[doc(hidden)]
pub mod planted;
mod refusal;
pub mod session;
pub mod store;
mod sync;
mod time;

pub use location::Location;
pub use octets::OctetCount;
pub use page::{AwayRun, Ordinal, PagePlace, Run};
pub use refusal::Refusal;
pub use time::Now;
