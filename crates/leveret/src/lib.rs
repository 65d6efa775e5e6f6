//! The Leveret message broker as a library: a broker in this process, on a port of its own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), leveret::StartError> {
//! let broker = leveret::Broker::builder().start().await?;
//! let uri = broker.amqp_uri(); // for any AMQP 0-9-1 client
//! # assert!(uri.starts_with("amqp://guest:guest@127.0.0.1:"));
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! The broker runs on threads of its own: it works inside any runtime, or none, and several of
//! them live in one process side by side. It installs no global subscriber, allocator, signal
//! handler or crypto provider. What happens to messages is decided in `leveret-broker`; here are
//! sockets, threads and clocks.

#![forbid(unsafe_code)]

mod broker;
mod clock;
mod connection;
mod listener;
pub mod memory;
mod read_buffer;

pub use broker::{Broker, BrokerBuilder, StartError};
