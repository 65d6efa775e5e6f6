//! Short strings: up to 255 octets, mostly UTF-8 but not by their type.

use std::fmt;

/// A short string borrowed from the wire or from a name. At most 255 octets.
///
/// Routing keys and consumer tags may hold any octets, so text is asked for where it is needed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShortStr<'a>(&'a [u8]);

impl<'a> ShortStr<'a> {
    /// The longest short string, in octets.
    pub const OCTETS_MAX: usize = 255;
    /// The empty string.
    pub const EMPTY: ShortStr<'static> = ShortStr(&[]);

    /// Wraps `octets`, or `None` when there are more than 255 of them.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Option<Self> {
        if octets.len() <= Self::OCTETS_MAX { Some(Self(octets)) } else { None }
    }

    /// Wraps the longest prefix of `text` that fits, cut on a character's boundary.
    #[must_use]
    pub fn truncated(text: &'a str) -> Self {
        Self(&text.as_bytes()[..text.floor_char_boundary(Self::OCTETS_MAX)])
    }

    /// The octets.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text, or `None` when the octets are not UTF-8.
    #[must_use]
    pub fn to_str(self) -> Option<&'a str> {
        str::from_utf8(self.0).ok()
    }

    /// How many octets there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// The longest prefix that fits is taken: for names that are known to be short.
impl<'a> From<&'a str> for ShortStr<'a> {
    fn from(text: &'a str) -> Self {
        Self::truncated(text)
    }
}

impl fmt::Debug for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.0))
    }
}

impl fmt::Display for ShortStr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_bounded_on_a_character_boundary() {
        assert!(ShortStr::new(&[b'a'; 255]).is_some());
        assert!(ShortStr::new(&[b'a'; 256]).is_none());
        let text = format!("{}é", "a".repeat(254));
        assert_eq!(ShortStr::truncated(&text).len(), 254);
    }
}
