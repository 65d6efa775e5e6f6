//! What a message says of itself: who published it, as which of its messages, and octets that follow from
//! that, so that one which was changed, cut or made up is told from a true one.
//!
//! Knows neither queues nor brokers. Invariant: a body that is read is octet for octet the one that is written
//! for its number.

use leveret_sim::random::Random;

/// Octets before the padding: publisher and number.
const HEAD_OCTETS: usize = 12;
const PADDING_OCTETS_MAX: usize = 40_000;
/// Messages with this number and above are large more often than not.
pub(super) const FIRST_HEAVY: u64 = 1 << 32;

/// A message's name: its publisher, and which of that publisher's messages it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MessageId {
    pub(super) publisher: u32,
    pub(super) number: u64,
}

impl MessageId {
    pub(super) fn body(self) -> Vec<u8> {
        let mut random = Random::new(u64::from(self.publisher) << 40 ^ self.number);
        // One in twenty is large at least, so that batches, pages and frames are all crossed.
        let large_percent = if self.number >= FIRST_HEAVY { 60 } else { 5 };
        let padding_max = if random.percent(large_percent) { PADDING_OCTETS_MAX } else { 200 };
        let octets = HEAD_OCTETS + random.below(padding_max + 1);
        let mut body = Vec::with_capacity(octets + 8);
        body.extend_from_slice(&self.publisher.to_be_bytes());
        body.extend_from_slice(&self.number.to_be_bytes());
        while body.len() < octets {
            body.extend_from_slice(&random.between(0, u64::MAX).to_be_bytes());
        }
        body.truncate(octets);
        body
    }

    /// Whose body that is; none if it is nobody's.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let (publisher, rest) = body.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let id = Self { publisher: u32::from_be_bytes(*publisher), number: u64::from_be_bytes(*number) };
        (id.body() == body).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_again_and_no_other_one() {
        for number in (0..200).chain(FIRST_HEAVY..FIRST_HEAVY + 200) {
            let id = MessageId { publisher: 7, number };
            let mut body = id.body();
            assert_eq!(MessageId::of(&body), Some(id));
            let at = body.len() - 1;
            body[at] ^= 1;
            assert_eq!(MessageId::of(&body), None);
            body[at] ^= 1;
            body.push(0);
            assert_eq!(MessageId::of(&body), None);
        }
        assert_eq!(MessageId::of(b""), None);
        assert_eq!(MessageId::of(b"leveret"), None);
    }
}
