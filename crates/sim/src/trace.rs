//! What happened in a run: a hash of all of it, and the last lines for a report.
//!
//! Invariant: the same seed gives the same hash, on every run of the same build.

use std::{
    collections::VecDeque,
    fmt,
    hash::{DefaultHasher, Hasher as _},
};

use leveret_wire::{ContentHeader, Frame, FrameKind, Method, Properties, decode_frame};

/// Lines that are kept for a report.
const LINES_KEPT_MAX: usize = 40;
/// The largest frame that is looked into.
const FRAME_OCTETS_MAX: u32 = 1024 * 1024;

/// The story of a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    steps: u64,
    /// Whether all of it is told on standard error.
    is_told: bool,
}

impl Trace {
    /// A story that begins, told as it goes if that is asked for.
    #[must_use]
    pub fn new(is_told: bool) -> Self {
        Self { is_told, ..Self::default() }
    }

    /// A step of the run, with what it is about.
    pub fn step(&mut self, text: fmt::Arguments<'_>) {
        self.steps += 1;
        let line = format!("{:>6} {text}", self.steps);
        self.hasher.write(line.as_bytes());
        if self.is_told {
            eprintln!("{line}");
        }
        if self.lines.len() == LINES_KEPT_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Octets that the engine took from a client or said to it.
    pub fn frames(&mut self, client: u32, what: &str, octets: &[u8]) {
        self.hasher.write_usize(octets.len());
        self.hasher.write(octets);
        if self.is_told {
            tell_frames(client, what, octets);
        }
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

fn tell_frames(client: u32, what: &str, mut octets: &[u8]) {
    while let Ok(Some((frame, taken))) = decode_frame(octets, FRAME_OCTETS_MAX) {
        eprintln!("       {client:>3} {what} {}", frame_text(&frame));
        octets = &octets[taken..];
    }
    if !octets.is_empty() {
        eprintln!("       {client:>3} {what} {} octets that are no frame", octets.len());
    }
}

fn frame_text(frame: &Frame<'_>) -> String {
    let channel = frame.channel;
    match frame.kind {
        FrameKind::Method => match Method::decode(frame.payload) {
            Ok(method) => format!("on {channel}: {method:?}"),
            Err(error) => format!("on {channel}: a broken method: {error}"),
        },
        FrameKind::Header => format!("on {channel}: the header of {}", message_text(frame.payload)),
        kind => format!("on {channel}: {kind:?} of {} octets", frame.payload.len()),
    }
}

fn message_text(payload: &[u8]) -> String {
    let header = ContentHeader::decode(payload).ok();
    let properties = header.and_then(|header| Properties::decode(header.property_octets).ok());
    let Some(properties) = properties else { return "a broken message".to_owned() };
    let mut text = format!("message {}", properties.timestamp.unwrap_or(0));
    if let Some(millis) = properties.expiration {
        text += &format!(", for {millis} ms");
    }
    if let Some(priority) = properties.priority {
        text += &format!(", priority {priority}");
    }
    if let Some(headers) = properties.headers.filter(|headers| headers.find("x-death").is_some()) {
        text += &format!(", dead before: {headers:?}");
    }
    text
}
