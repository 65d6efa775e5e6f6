//! What happened in a run: a hash of all of it, and the last lines for a report.
//!
//! Invariant: the same seed gives the same hash, on every run of the same build.

use std::{
    collections::VecDeque,
    fmt,
    hash::{DefaultHasher, Hasher as _},
};

/// Lines that are kept for a report.
const LINES_KEPT_MAX: usize = 60;

/// The story of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    steps: u64,
}

impl Trace {
    /// A step of the run, with what it is about.
    pub fn step(&mut self, text: fmt::Arguments<'_>) {
        self.steps += 1;
        let line = format!("{:>6} {text}", self.steps);
        self.hasher.write(line.as_bytes());
        if self.lines.len() == LINES_KEPT_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Octets that the broker said.
    pub fn octets(&mut self, octets: &[u8]) {
        self.hasher.write_usize(octets.len());
        self.hasher.write(octets);
    }

    /// The hash of all steps and octets so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}
