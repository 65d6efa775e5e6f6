//! The Leveret message broker as a library: a broker in this process, on a port of its own.
//!
//! A broker for each test, in milliseconds and without a container: start one, give its URI to the
//! program under test, shut it down. Any AMQP 0-9-1 client will do; here it is lapin.
//!
//! ```
//! use lapin::{Connection, ConnectionProperties, options::*, types::FieldTable};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = leveret::Broker::builder().start().await?;
//!
//! let connection = Connection::connect(&broker.amqp_uri(), ConnectionProperties::default()).await?;
//! let channel = connection.create_channel().await?;
//! let declare = QueueDeclareOptions::default();
//! channel.queue_declare("tasks".into(), declare, FieldTable::default()).await?;
//! let publish = BasicPublishOptions::default();
//! channel.basic_publish("".into(), "tasks".into(), publish, b"a task", Default::default()).await?;
//!
//! let task = channel.basic_get("tasks".into(), BasicGetOptions::default()).await?.ok_or("no task")?;
//! assert_eq!(task.delivery.data, b"a task");
//! assert_eq!(broker.queue_count(), 1);
//!
//! broker.shutdown().await; // or drop it
//! # Ok(())
//! # }
//! ```
//!
//! Several brokers live in one process side by side, each on a free port unless it is told which.
//! They run on threads of their own, so that they work inside any runtime, a current-thread
//! `#[tokio::test]` among them, or none. Nothing is installed for the whole process: no subscriber
//! of `tracing`, allocator, signal handler or crypto provider.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), leveret::StartError> {
//! let broker = leveret::Broker::builder()
//!     .listen("127.0.0.1:0".parse().expect("an address"))
//!     .default_user("worker", "secret")
//!     .virtual_host("jobs")
//!     .memory_watermark_octets(64 << 20)
//!     .start()
//!     .await?;
//! assert!(broker.amqp_uri().starts_with("amqp://worker:secret@127.0.0.1:"));
//! assert!(broker.amqp_uri().ends_with("/jobs"));
//! # Ok(())
//! # }
//! ```
//!
//! Take it with `default-features = false`: the default feature is the command, with its
//! dependencies. Messages and definitions are in memory and go with the broker, unless it is given a
//! folder by [`BrokerBuilder::data`].
//!
//! What happens to messages is decided in `leveret-broker`; here are sockets, threads and clocks.

#![forbid(unsafe_code)]

mod broker;
mod clock;
mod connection;
pub mod data_folder;
mod definitions;
mod disk;
mod frozen;
mod house;
mod keeper;
mod listener;
pub mod memory;
mod pager;
mod read_buffer;
mod recovery;

pub use broker::{Broker, BrokerBuilder, StartError};
pub use definitions::{DefinitionError, Definitions, DefinitionsError};
pub use disk::DataFolderError;

/// Compiles the README's Rust with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
