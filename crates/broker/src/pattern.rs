//! Regular expressions of permissions and policies: compiled once, bounded in size and in time.
//!
//! Patterns come from whoever runs the broker and names from clients. Invariant: whatever both
//! are, a match ends after a bounded number of steps; one that would take more is no match, as
//! with RabbitMQ's engine.

use fancy_regex::{Regex, RegexBuilder};
use thiserror::Error;

/// Octets of a pattern as it is written.
pub const PATTERN_OCTETS_MAX: usize = 8 * 1024;
/// Octets that a pattern may take when it is compiled.
const COMPILED_OCTETS_MAX: usize = 1024 * 1024;
/// Steps back that one match may take, where a pattern looks around or refers back.
const STEPS_BACK_MAX: usize = 50_000;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is longer than patterns may be.
    #[error("a pattern of {octets} octets is longer than {PATTERN_OCTETS_MAX}")]
    TooLong {
        /// How long it is.
        octets: usize,
    },
    /// It is no regular expression, or would take too much memory.
    #[error("'{pattern}' is not a regular expression: {reason}")]
    Invalid {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A regular expression that is looked for anywhere in a name.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// `.*`, which most users have: nothing is compiled and nothing looked at.
    Everything,
    Compiled(Box<Regex>),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] when it is too long, too large, or no regular expression.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Self::compile(text, text)
    }

    /// Compiles a permission's pattern, where the empty one stands for the empty name alone.
    ///
    /// # Errors
    /// [`PatternError`] when it is too long, too large, or no regular expression.
    pub fn parse_permission(text: &str) -> Result<Self, PatternError> {
        Self::compile(text, if text.is_empty() { "^$" } else { text })
    }

    fn compile(text: &str, meaning: &str) -> Result<Self, PatternError> {
        if text.len() > PATTERN_OCTETS_MAX {
            return Err(PatternError::TooLong { octets: text.len() });
        }
        let matcher = match meaning {
            "" | ".*" | "^.*" => Matcher::Everything,
            pattern => Matcher::Compiled(Box::new(compiled(pattern)?)),
        };
        Ok(Self { text: text.into(), matcher })
    }

    /// The pattern that matches every name.
    #[must_use]
    pub fn everything() -> Self {
        Self { text: ".*".into(), matcher: Matcher::Everything }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether every name matches, so that none need be looked at.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        matches!(self.matcher, Matcher::Everything)
    }

    /// Whether the pattern is found in the name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Compiled(regex) => regex.is_match(name).unwrap_or_else(|error| {
                tracing::warn!(pattern = &*self.text, %error, "a match took too long and counts as none");
                false
            }),
        }
    }
}

fn compiled(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern)
        .backtrack_limit(STEPS_BACK_MAX)
        .delegate_size_limit(COMPILED_OCTETS_MAX)
        .build()
        .map_err(|error| PatternError::Invalid { pattern: pattern.to_owned(), reason: error.to_string() })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let pattern = Pattern::parse_permission(pattern).unwrap();
        for name in matching {
            assert!(pattern.matches(name), "{pattern:?} does not match {name:?}");
        }
        for name in other {
            assert!(!pattern.matches(name), "{pattern:?} matches {name:?}");
        }
    }

    #[test]
    fn a_pattern_is_looked_for_anywhere() {
        check("log", &["log", "catalog", "logs"], &["", "lo"]);
        check("^log$", &["log"], &["logs", "catalog"]);
        check(".*", &["", "any", "two\nlines"], &[]);
    }

    #[test]
    fn an_empty_permission_is_for_the_empty_name_alone() {
        check("", &[""], &["a"]);
        assert!(Pattern::parse("").unwrap().matches("a"), "a policy's empty pattern matches all");
    }

    #[test]
    fn what_people_write_for_rabbitmq_works() {
        check(r"^(?!amq\.).*", &["q", "my.amq.q"], &["amq.gen-1"]);
        check(r"^(orders|amq\.default)$", &["orders", "amq.default"], &["order", "amqxdefault"]);
        check(r"^(\w+)\.\1$", &["a.a"], &["a.b"]);
        check(r"^{username}\.", &["{username}.a"], &["guest.a"]);
        check("(?i)^ORDERS", &["orders.1"], &["reorders"]);
        check("^a++b", &["aab"], &["b"]);
        check("[[:digit:]]$", &["q1"], &["q"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in ["(", "[a", "*", "(?<n", r"\"] {
            assert!(matches!(Pattern::parse(pattern), Err(PatternError::Invalid { .. })), "{pattern}");
        }
        let long = "a".repeat(PATTERN_OCTETS_MAX + 1);
        assert_eq!(Pattern::parse(&long), Err(PatternError::TooLong { octets: long.len() }));
        assert!(Pattern::parse(&long[1..]).is_ok());
        assert!(matches!(Pattern::parse("((a{1000}){1000}){1000}"), Err(PatternError::Invalid { .. })));
    }

    #[test]
    fn a_hostile_pattern_ends_and_matches_nothing() {
        let name = "a".repeat(255);
        check(r"^(a|a|aa)+(?=b)\1$", &[], &[&name]);
        check(r"^(a+)+$(?<!a)", &[], &[&name]);
    }
}
