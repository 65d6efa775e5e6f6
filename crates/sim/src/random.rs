//! Chance, all of it from one seed.
//!
//! Invariant: nothing here or elsewhere in the simulation draws from another source.

use leveret_broker::engine::Entropy;

/// A stream of choices.
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// The stream of that seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A stream of its own that follows from this one.
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        self.0.u64(first..=last)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.0.u64(..100) < percent
    }

    /// True in so many of a thousand cases.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.0.u64(..1_000) < permille
    }

    /// One of them.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// One of them, or none when there are none.
    pub fn pick_from<T>(&mut self, choices: impl IntoIterator<Item = T>) -> Option<T> {
        let choices: Vec<T> = choices.into_iter().collect();
        let at = (!choices.is_empty()).then(|| self.below(choices.len()))?;
        choices.into_iter().nth(at)
    }

    /// One of them by their weights, of which one at least must not be 0.
    ///
    /// # Panics
    /// When all weights are 0.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> T {
        let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.0.u64(..total);
        for (weight, choice) in choices {
            if at < *weight {
                return *choice;
            }
            at -= weight;
        }
        unreachable!("the weights add up to more than the number drawn")
    }

    /// A size: mostly small, now and then anything up to `max`.
    pub fn size(&mut self, max: usize) -> usize {
        let bits = self.below(usize::BITS as usize - max.leading_zeros() as usize + 1);
        self.below((1_usize << bits).min(max) + 1)
    }
}

/// The engine's randomness.
#[derive(Debug)]
pub struct SeededEntropy(pub Random);

impl Entropy for SeededEntropy {
    fn fill(&mut self, octets: &mut [u8]) {
        self.0.0.fill(octets);
    }
}
