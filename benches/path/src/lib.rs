//! A client of the engine without sockets, for whatever measures the engine from outside.
//!
//! Leaves what is measured to its users. Invariant: a run is the same each time.

pub mod client;
