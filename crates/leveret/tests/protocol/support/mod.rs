//! A raw AMQP 0-9-1 client for these tests, and the broker that they talk to.
//!
//! The client blocks, has a time limit on every read, and knows nothing but frames: what a test
//! sends is what goes out. What the broker says is compared as one line of text for each method.

#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod client;
mod methods;
mod peer;
mod said;

pub(crate) use self::{
    client::{Client, Confirms, Login, encode},
    methods::*,
    peer::Peer,
    said::Said,
};
