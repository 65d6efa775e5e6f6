//! Sizes and times as they are typed: `64MiB`, `500ms`.
//!
//! The grammar is that of the crates `bytesize` and `humantime`; the bounds are ours.

use bytesize::ByteSize;

/// A size for a queue on the broker: at least one octet, and small enough for a signed 64-bit argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueBytes(i64);

impl QueueBytes {
    pub(crate) fn get(self) -> i64 {
        self.0
    }
}

impl std::str::FromStr for QueueBytes {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let size: ByteSize = typed.parse()?;
        match i64::try_from(size.as_u64()) {
            Ok(0) => Err("must be more than nothing".to_owned()),
            Ok(octets) => Ok(Self(octets)),
            Err(_) => Err("is more than a queue can be given".to_owned()),
        }
    }
}

impl std::fmt::Display for QueueBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        ByteSize::b(self.0.unsigned_abs()).display().iec().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_families_of_units() {
        for (typed, octets) in [("64MiB", 64 << 20), ("64 MiB", 64 << 20), ("2MB", 2_000_000), ("1", 1)] {
            assert_eq!(typed.parse::<QueueBytes>().expect(typed).get(), octets, "{typed}");
        }
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        for typed in ["0", "-1", "lots", "", "9000000TiB"] {
            assert!(typed.parse::<QueueBytes>().is_err(), "{typed}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_is_typed() {
        assert_eq!("64MiB".parse::<QueueBytes>().expect("a size").to_string(), "64.0 MiB");
    }
}
