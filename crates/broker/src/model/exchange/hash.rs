//! The hash that exchanges share messages out by.
//!
//! FNV-1a with the finish of MurmurHash3, so that short keys that differ in one octet end far apart.
//! Invariant: it is the same in every version and on every machine, so that a key stays with its
//! queue. RabbitMQ's plugins hash by Erlang's `phash2`, so that a key may go to another queue there.

/// The hash of these parts, one behind the other.
#[must_use]
pub(super) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        let length = (part.len() as u64).to_le_bytes();
        for octet in part.iter().chain(&length) {
            hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    finish(hash)
}

const fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A place below `places`, evenly spread where `number` is. There must be one.
#[must_use]
pub(super) fn place(number: u64, places: usize) -> usize {
    let product = u128::from(number) * places as u128;
    usize::try_from(product >> 64).expect("it is below the number of places")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_hash_from_version_to_version() {
        assert_eq!(hash([&b"orders.1"[..]]), 0x2c72_2e70_0a58_285d);
        assert_eq!(hash([&b""[..]]), 0x7bd3_144f_29c0_cc9e);
    }

    #[test]
    fn where_a_key_ends_counts() {
        assert_ne!(hash([&b"ab"[..], &b"c"[..]]), hash([&b"a"[..], &b"bc"[..]]));
    }

    #[test]
    fn places_are_taken_evenly() {
        let mut taken = [0; 5];
        for n in 0..5000_u32 {
            taken[place(hash([&n.to_le_bytes()[..]]), 5)] += 1;
        }
        assert!(taken.iter().all(|count| (900..1100).contains(count)), "{taken:?}");
        assert_eq!((place(0, 1), place(u64::MAX, 3)), (0, 2));
    }
}
