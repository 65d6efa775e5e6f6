//! The broker's engine driven from one seed: clients, network and time are simulated, and what
//! the broker says is held against a reference model of the messaging rules.
//!
//! One seed decides everything: which connection goes next, how many octets arrive, what a
//! client does, when it stops reading, when its socket is cut and what the clock shows. The same
//! seed gives the same run. There is no I/O, no clock and no thread here. The model is written
//! from the protocol's rules and shares nothing with the engine but the codec and the number of
//! messages in a window.

#![forbid(unsafe_code)]

pub mod client;
pub mod counts;
pub mod cuts;
pub mod disk;
pub mod frames;
pub mod lab;
pub mod model;
pub mod network;
pub mod plan;
pub mod random;
pub mod routing;
pub mod run;
pub mod streams;
pub mod trace;

mod auditor;
mod house;
mod line;
mod link;
mod rest;
mod world;

use std::{borrow::Cow, fmt};

pub use counts::{Counts, Event};
pub use run::{Failure, Report, Settings, run};

/// Something that the broker did and may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(Cow<'static, str>);

impl Violation {
    /// What it was.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a check comes to.
pub type Checked<T = ()> = Result<T, Violation>;

/// A check: the text says what the broker did when it does not hold.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::Violation::new(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;
