//! Octets in, lines out: where one message ends and the next begins.
//!
//! A line is what lies before a line feed, octet for octet: a carriage return, a NUL or what is not UTF-8
//! belongs to it. Invariant: the lines, with a line feed after each that was `terminated`, are the input
//! again; only a line over the limit is left out, and counted.

use std::sync::Arc;

/// The longest line that is sent: the default limit of a message in RabbitMQ 3 and in leveret. It bounds
/// what an input without line feeds costs in memory.
pub(crate) const LINE_BYTES_MAX: usize = 128 << 20;

/// One message to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) body: Arc<[u8]>,
    /// Only the last line of an input can lack its line feed.
    pub(crate) terminated: bool,
}

/// What the input holds at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Line(Line),
    TooLong,
}

#[derive(Debug)]
pub(crate) struct LineSplitter {
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    line_bytes_max: usize,
    /// The line at hand is over the limit and is passed over up to its end.
    skipping: bool,
}

impl LineSplitter {
    pub(crate) fn new(line_bytes_max: usize) -> Self {
        Self { partial: Vec::new(), line_bytes_max, skipping: false }
    }

    /// Adds the lines that end in `chunk` to `items`.
    pub(crate) fn push(&mut self, chunk: &[u8], items: &mut Vec<Item>) {
        let mut rest = chunk;
        while let Some(at) = rest.iter().position(|octet| *octet == b'\n') {
            self.extend(&rest[..at]);
            items.push(self.end_line(true));
            rest = &rest[at + 1..];
        }
        self.extend(rest);
    }

    /// Adds the line that the input ended in without a line feed, if there is one.
    pub(crate) fn finish(mut self, items: &mut Vec<Item>) {
        if self.skipping || !self.partial.is_empty() {
            items.push(self.end_line(false));
        }
    }

    fn extend(&mut self, octets: &[u8]) {
        if self.partial.len() + octets.len() > self.line_bytes_max {
            self.skipping = true;
            self.partial = Vec::new();
        }
        if !self.skipping {
            self.partial.extend_from_slice(octets);
        }
    }

    fn end_line(&mut self, terminated: bool) -> Item {
        if std::mem::take(&mut self.skipping) {
            return Item::TooLong;
        }
        let body = Arc::from(self.partial.as_slice());
        self.partial.clear();
        Item::Line(Line { body, terminated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]], line_bytes_max: usize) -> Vec<Item> {
        let mut splitter = LineSplitter::new(line_bytes_max);
        let mut items = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, &mut items);
        }
        splitter.finish(&mut items);
        items
    }

    fn join(items: &[Item]) -> Vec<u8> {
        let mut joined = Vec::new();
        for item in items {
            let Item::Line(line) = item else { panic!("a line was too long") };
            joined.extend_from_slice(&line.body);
            joined.extend_from_slice(if line.terminated { b"\n" } else { b"" });
        }
        joined
    }

    #[track_caller]
    fn check(input: &[u8], lines: usize) {
        let whole = split(&[input], 100);
        assert_eq!(whole.len(), lines);
        assert_eq!(join(&whole), input);
        let octets: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(split(&octets, 100), whole, "however it is cut");
    }

    #[test]
    fn every_octet_is_kept() {
        check(b"", 0);
        check(b"\n", 1);
        check(b"\n\n\n", 3);
        check(b"one\ntwo\n", 2);
        check(b"one\ntwo", 2);
        check(b"dos\r\nlines\r\n\r\n", 3);
        check(b"nul\0 \xff\xfe \x1b[31m\n\0\n", 2);
        check(b"\r", 1);
    }

    #[test]
    fn only_the_last_line_can_be_unterminated() {
        let items = split(&[b"a\nb"], 100);
        let ends: Vec<bool> =
            items.iter().map(|item| matches!(item, Item::Line(line) if line.terminated)).collect();
        assert_eq!(ends, [true, false]);
    }

    #[test]
    fn a_line_at_the_limit_passes_and_one_over_it_is_left_out_alone() {
        let texts = |items: Vec<Item>| -> Vec<Option<Vec<u8>>> {
            items
                .into_iter()
                .map(|item| match item {
                    Item::Line(line) => Some(line.body.to_vec()),
                    Item::TooLong => None,
                })
                .collect()
        };
        let expected = vec![Some(b"abcd".to_vec()), None, Some(b"x".to_vec())];
        assert_eq!(texts(split(&[b"abcd\nabcde\nx\n"], 4)), expected);
        assert_eq!(texts(split(&[b"ab", b"cd\nab", b"cd", b"efgh\nx"], 4)), expected);
        assert_eq!(texts(split(&[b"abcde"], 4)), [None]);
    }
}
