//! A message as the octets that are written for it.
//!
//! Takes no notice of where they go, but for what its maker told it of terminals and colours.
//! Invariant: without either, `text` is the body with a line feed, but for a line that came without one.

use anstyle::{AnsiColor, Style};

use super::{
    json,
    message::Message,
    severity::{Severity, severity},
};
use crate::cli::harmless::{Marks, push_harmless};

/// What is written for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The body and a line feed
    Text,
    /// The body and nothing else
    Raw,
    /// The whole message as one JSON object a line
    Json,
}

#[derive(Debug)]
pub(crate) struct Renderer {
    format: Format,
    harmless: bool,
    colours: bool,
    /// The last line came without a line feed, which is due before anything else is written.
    owes_newline: bool,
}

impl Renderer {
    pub(crate) fn new(format: Format, harmless: bool, colours: bool) -> Self {
        Self { format, harmless, colours, owes_newline: false }
    }

    /// Begins anew, as in another file.
    pub(crate) fn restart(&mut self) {
        self.owes_newline = false;
    }

    pub(crate) fn push(&mut self, message: &Message, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.owes_newline) {
            out.push(b'\n');
        }
        match self.format {
            Format::Raw => self.push_body(message, out),
            Format::Text => self.push_line(message, out),
            Format::Json => {
                self.push_octets(json::object(message).to_string().as_bytes(), out);
                out.push(b'\n');
            }
        }
    }

    fn push_line(&mut self, message: &Message, out: &mut Vec<u8>) {
        self.push_body(message, out);
        // On a terminal the shell's prompt would follow on the same line.
        self.owes_newline = message.lacks_newline() && !self.harmless;
        if !self.owes_newline {
            out.push(b'\n');
        }
    }

    fn push_body(&self, message: &Message, out: &mut Vec<u8>) {
        let style = if self.colours { style(message) } else { Style::new() };
        out.extend_from_slice(style.render().to_string().as_bytes());
        self.push_octets(&message.body, out);
        out.extend_from_slice(style.render_reset().to_string().as_bytes());
    }

    fn push_octets(&self, octets: &[u8], out: &mut Vec<u8>) {
        let marks = if self.colours { INVERTED } else { NONE };
        match self.harmless {
            true => push_harmless(octets, marks, out),
            false => out.extend_from_slice(octets),
        }
    }
}

const NONE: Marks = Marks { on: "", off: "" };
const INVERTED: Marks = Marks { on: "\x1b[7m", off: "\x1b[27m" };

fn style(message: &Message) -> Style {
    match severity(message.routing_key.as_str(), &message.body) {
        Severity::Error => AnsiColor::Red.on_default(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Detail => Style::new().dimmed(),
        Severity::Ordinary => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use lapin::{
        BasicProperties,
        types::{AMQPValue, FieldTable},
    };

    use super::*;
    use crate::cli::stamp::NO_NEWLINE;

    fn message(body: &[u8]) -> Message {
        let properties = BasicProperties::default();
        let (exchange, routing_key) = ("logs".into(), "".into());
        Message { exchange, routing_key, redelivered: false, properties, body: body.to_vec() }
    }

    fn unterminated(body: &[u8]) -> Message {
        let mut headers = FieldTable::default();
        headers.insert(NO_NEWLINE.into(), AMQPValue::Boolean(true));
        Message { properties: BasicProperties::default().with_headers(headers), ..message(body) }
    }

    #[track_caller]
    fn check(mut renderer: Renderer, messages: &[Message], expected: &[u8]) {
        let mut out = Vec::new();
        messages.iter().for_each(|message| renderer.push(message, &mut out));
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    fn plain(format: Format) -> Renderer {
        Renderer::new(format, false, false)
    }

    #[test]
    fn text_ends_every_line_and_keeps_every_octet() {
        check(
            plain(Format::Text),
            &[message(b"a\r"), message(b""), message(b"\xff\0\x1b")],
            b"a\r\n\n\xff\0\x1b\n",
        );
    }

    #[test]
    fn a_line_that_came_without_its_end_is_written_so_and_ended_before_the_next_one() {
        check(plain(Format::Text), &[message(b"a"), unterminated(b"b")], b"a\nb");
        check(plain(Format::Text), &[unterminated(b"b"), message(b"c")], b"b\nc\n");
        check(plain(Format::Text), &[unterminated(b"")], b"");
    }

    #[test]
    fn raw_adds_nothing() {
        check(plain(Format::Raw), &[message(b"a"), message(b"\0"), unterminated(b"b")], b"a\0b");
    }

    #[test]
    fn a_terminal_gets_whole_harmless_lines() {
        check(Renderer::new(Format::Text, true, false), &[unterminated(b"\x1b[2J")], b"^[[2J\n");
        check(Renderer::new(Format::Raw, true, false), &[message(b"\x07")], b"^G");
        let mut out = Vec::new();
        Renderer::new(Format::Json, true, false).push(&message("\u{9b}".as_bytes()), &mut out);
        assert!(out.is_ascii());
    }

    #[test]
    fn colours_follow_the_level_and_are_taken_back() {
        check(Renderer::new(Format::Text, false, true), &[message(b"ERROR x")], b"\x1b[31mERROR x\x1b[0m\n");
        check(Renderer::new(Format::Text, false, true), &[message(b"hello")], b"hello\n");
        check(Renderer::new(Format::Text, true, true), &[message(b"a\x01")], b"a\x1b[7m^A\x1b[27m\n");
    }
}
