//! How bad a line says that it is, to give it a colour.
//!
//! A guess by words, which decides nothing but a colour.

/// How far into a line its level is looked for.
const LOOKED_AT_BYTES: usize = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
    Detail,
    Ordinary,
}

/// The level named by the routing key's words, or else by the first level word at the line's beginning.
pub(crate) fn severity(routing_key: &str, line: &[u8]) -> Severity {
    let beginning = &line[..line.len().min(LOOKED_AT_BYTES)];
    let named = |text: &[u8]| words(text).find_map(level);
    named(routing_key.as_bytes()).or_else(|| named(beginning)).unwrap_or(Severity::Ordinary)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|octet| !octet.is_ascii_alphabetic()).filter(|word| !word.is_empty())
}

fn level(word: &[u8]) -> Option<Severity> {
    let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
    if is(&["error", "err", "fatal", "critical", "crit", "alert", "emerg", "emergency", "panic"]) {
        Some(Severity::Error)
    } else if is(&["warning", "warn"]) {
        Some(Severity::Warning)
    } else if is(&["debug", "trace"]) {
        Some(Severity::Detail)
    } else if is(&["info", "notice"]) {
        Some(Severity::Ordinary)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(routing_key: &str, line: &str, expected: Severity) {
        assert_eq!(severity(routing_key, line.as_bytes()), expected, "{routing_key:?} {line:?}");
    }

    #[test]
    fn the_routing_key_speaks_first() {
        check("kern.critical", "all is well, info", Severity::Error);
        check("warning", "error", Severity::Warning);
        check("kern.disk", "debug: spun up", Severity::Detail);
    }

    #[test]
    fn the_first_level_word_of_the_line_counts() {
        check("", "2026-01-01T00:00:00Z ERROR disk: no info", Severity::Error);
        check("", "[warn] slow", Severity::Warning);
        check("", "INFO: no error today", Severity::Ordinary);
        check("", "terror and debugging", Severity::Ordinary);
    }

    #[test]
    fn a_word_far_inside_does_not_count() {
        check("", &format!("{} error", "x ".repeat(60)), Severity::Ordinary);
    }
}
