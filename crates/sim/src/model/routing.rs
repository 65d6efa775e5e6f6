//! Which bindings want a message: the four types of exchanges, as plainly as they can be said.

use leveret_wire::{Table, Value};

/// The type of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
}

impl Kind {
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"direct" => Some(Self::Direct),
            b"fanout" => Some(Self::Fanout),
            b"topic" => Some(Self::Topic),
            b"headers" => Some(Self::Headers),
            _ => None,
        }
    }

    /// Whether a binding with that key and those arguments wants the message.
    pub(super) fn wants(
        self,
        binding_key: &[u8],
        arguments: Table<'_>,
        routing_key: &[u8],
        headers: Table<'_>,
    ) -> bool {
        match self {
            Self::Direct => binding_key == routing_key,
            Self::Fanout => true,
            Self::Topic => words_match(&words(binding_key), &words(routing_key)),
            Self::Headers => headers_match(arguments, headers),
        }
    }
}

fn words(key: &[u8]) -> Vec<&[u8]> {
    if key.is_empty() { Vec::new() } else { key.split(|octet| *octet == b'.').collect() }
}

fn words_match(pattern: &[&[u8]], words: &[&[u8]]) -> bool {
    match pattern {
        [] => words.is_empty(),
        [b"#", rest @ ..] => (0..=words.len()).any(|skipped| words_match(rest, &words[skipped..])),
        [b"*", rest @ ..] => !words.is_empty() && words_match(rest, &words[1..]),
        [word, rest @ ..] => words.first() == Some(word) && words_match(rest, &words[1..]),
    }
}

/// What `x-match` can be.
pub(super) const MATCHES: [&[u8]; 4] = [b"all", b"any", b"all-with-x", b"any-with-x"];

fn headers_match(arguments: Table<'_>, headers: Table<'_>) -> bool {
    let how = match arguments.find("x-match") {
        Some(Value::LongStr(how)) => how,
        _ => b"all",
    };
    let with_x = how.ends_with(b"-with-x");
    let asked: Vec<_> = arguments
        .iter()
        .filter(|(name, _)| name.as_bytes() != b"x-match")
        .filter(|(name, _)| with_x || !name.as_bytes().starts_with(b"x-"))
        .collect();
    let there = |(name, wanted): &(leveret_wire::ShortStr<'_>, Value<'_>)| {
        headers.iter().any(|(found, value)| found == *name && (*wanted == Value::Void || *wanted == value))
    };
    if how.starts_with(b"any") { asked.iter().any(there) } else { asked.iter().all(there) }
}
