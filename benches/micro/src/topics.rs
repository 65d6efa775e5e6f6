//! Bindings and keys of a topic exchange, as many as one likes.
//!
//! Ten bindings share a tenant, so that there are more tenants and not more matches when there
//! are more bindings. Most keys are exact, a quarter have `*`, some have `#` in the middle, at the
//! end or in front. Invariant: binding `n` is the same whatever the number of bindings.

use std::fmt::Write as _;

const BINDINGS_A_TENANT: u64 = 10;
const SERVICES: u64 = 50;
const EVENTS: u64 = 20;
const LEVELS: u64 = 5;
const HOSTS: u64 = 100;

/// Numbers that look like chance and are the same in every run (SplitMix64).
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Another sequence for each seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// Words that binding `n` is made of, and that a key made for it has.
struct Words {
    tenant: u64,
    service: u64,
    event: u64,
    level: u64,
    host: u64,
}

impl Words {
    const fn of(binding: u64) -> Self {
        let mut numbers = Numbers::new(binding);
        Self {
            tenant: binding / BINDINGS_A_TENANT,
            service: numbers.below(SERVICES),
            event: numbers.below(EVENTS),
            level: numbers.below(LEVELS),
            host: numbers.below(HOSTS),
        }
    }
}

/// The key of binding `n`: three to five words.
#[must_use]
pub fn binding_key(n: u64) -> String {
    let Words { tenant, service, event, level, host } = Words::of(n);
    match n % 20 {
        0..5 => format!("tenant{tenant}.service{service}.event{event}"),
        5..10 => format!("tenant{tenant}.service{service}.event{event}.level{level}"),
        10..13 => format!("tenant{tenant}.service{service}.event{event}.level{level}.host{host}"),
        13 => format!("tenant{tenant}.*.event{event}"),
        14 => format!("tenant{tenant}.service{service}.*.level{level}"),
        15 => format!("tenant{tenant}.*.event{event}.*.host{host}"),
        16 => format!("*.service{service}.tenant{tenant}.event{event}"),
        17 => format!("tenant{tenant}.service{service}.#"),
        18 => format!("tenant{tenant}.#.host{host}"),
        _ => format!("#.tenant{tenant}.host{host}"),
    }
}

/// A key of that many words for an exchange with so many bindings: the words of one of them, the
/// event another one half the time, and beyond five words one that no key had before.
pub fn fresh_key(bindings: u64, words: usize, numbers: &mut Numbers) -> String {
    let Words { tenant, service, event, level, host } = Words::of(numbers.below(bindings));
    let event = if numbers.below(2) == 0 { event } else { numbers.below(EVENTS) };
    let mut key = format!("tenant{tenant}.service{service}.event{event}.level{level}.host{host}");
    while key.split('.').count() < words {
        let _ = write!(key, ".part{}", numbers.below(u64::MAX));
    }
    let end = key.match_indices('.').nth(words - 1).map_or(key.len(), |(at, _)| at);
    key.truncate(end);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_words_that_were_asked_for() {
        let mut numbers = Numbers::new(1);
        for words in [2, 3, 5, 8] {
            assert_eq!(fresh_key(1000, words, &mut numbers).split('.').count(), words);
        }
        for n in 0..40 {
            assert!((3..=5).contains(&binding_key(n).split('.').count()), "{}", binding_key(n));
        }
    }

    #[test]
    fn there_are_all_kinds_of_bindings() {
        let with = |part: &str| (0..1000).filter(|n| binding_key(*n).contains(part)).count();
        assert_eq!((with("*"), with("#")), (200, 150));
    }
}
