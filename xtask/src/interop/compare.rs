//! Whether two files are the same, octet for octet, and if not, where they part.
//!
//! Knows files; not where they come from.
//! Invariant: equal means equal in every octet and in length.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// An error that shows where `found` first differs from `expected`.
pub(crate) fn same_octets(who: &str, found: &Path, expected: &[u8]) -> Result<()> {
    let found = fs::read(found).with_context(|| format!("{who} left no {}", found.display()))?;
    match difference(&found, expected) {
        None => Ok(()),
        Some(difference) => bail!("{who} has not what was sent: {difference}"),
    }
}

fn difference(found: &[u8], expected: &[u8]) -> Option<String> {
    if found == expected {
        return None;
    }
    let common = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    let line = expected[..common].iter().filter(|octet| **octet == b'\n').count() + 1;
    Some(format!(
        "{} octets, not {}; from octet {common}, in line {line}: {:?}, not {:?}",
        found.len(),
        expected.len(),
        excerpt(&found[common..]),
        excerpt(&expected[common..]),
    ))
}

fn excerpt(octets: &[u8]) -> String {
    const SHOWN_MAX: usize = 40;
    let shown = &octets[..octets.len().min(SHOWN_MAX)];
    shown.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_is_equal() {
        assert_eq!(difference(b"a\nb\n", b"a\nb\n"), None);
    }

    #[test]
    fn a_difference_is_shown_where_it_begins() {
        let shown = difference(b"one\ntwX\n", b"one\ntwo\n").unwrap();
        assert!(shown.contains("from octet 6, in line 2"), "{shown}");
        assert!(difference(b"one\n", b"one\ntwo\n").unwrap().contains("4 octets, not 8"));
        assert!(difference(b"one\none\n", b"one\n").unwrap().contains("8 octets, not 4"));
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = same_octets("the receiver", &folder.path().join("none"), b"").unwrap_err();
        assert!(error.to_string().contains("the receiver left no"));
    }
}
