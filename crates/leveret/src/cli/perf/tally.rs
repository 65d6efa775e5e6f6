//! What has been done so far: counted by each worker for itself, and read by whoever shows the rates.
//!
//! A worker adds to numbers of its own and publishes them once a turn, so that counting a message costs an
//! addition. Invariant: a worker's counts have one writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

use super::stamp::Ticks;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of one worker, or their sum.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Counts {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        /// The same where another thread can read them.
        #[derive(Debug, Default)]
        pub(super) struct SharedCounts {
            $($name: AtomicU64,)*
        }

        impl SharedCounts {
            pub(super) fn store(&self, counts: &Counts) {
                $(self.$name.store(counts.$name, Relaxed);)*
            }

            pub(super) fn load(&self) -> Counts {
                Counts { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl Counts {
            pub(super) fn plus(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }

            /// What came since `earlier`.
            pub(super) fn since(self, earlier: Self) -> Self {
                Self { $($name: self.$name - earlier.$name,)* }
            }
        }
    };
}

counts! {
    /// Messages handed to a socket.
    published,
    confirmed,
    /// Messages that the broker says it did not take.
    refused,
    /// Mandatory messages that no queue wanted.
    returned,
    consumed,
    /// Reads of a socket that brought something.
    reads,
    read_octets,
    /// Consumers that the broker ended.
    cancelled,
    /// Times that the broker said `connection.blocked`.
    blocked,
}

/// How long messages took, in tenths of a microsecond.
#[derive(Debug)]
pub(super) struct Latency {
    histogram: Histogram<u64>,
    /// The last one and how often it came in a row: those of one batch that one read brought are the same.
    last: u64,
    times: u64,
}

impl Latency {
    const HOUR: u64 = 36_000_000_000;
    const DIGITS: u8 = 3;

    pub(super) fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, Self::HOUR, Self::DIGITS).expect("the bounds are constants");
        Self { histogram, last: 0, times: 0 }
    }

    #[inline]
    pub(super) fn record(&mut self, sent: Ticks, came: Ticks) {
        self.record_many(sent, came, 1);
    }

    /// Records `count` messages that were sent together and came together.
    #[inline]
    pub(super) fn record_many(&mut self, sent: Ticks, came: Ticks, count: u64) {
        let took = came.0.saturating_sub(sent.0);
        if took != self.last {
            self.settle();
            self.last = took;
        }
        self.times += count;
    }

    fn settle(&mut self) {
        if self.times > 0 {
            self.histogram.saturating_record_n(self.last.max(1), self.times);
            self.times = 0;
        }
    }

    pub(super) fn into_histogram(mut self) -> Histogram<u64> {
        self.settle();
        self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_counted_each() {
        let mut latency = Latency::new();
        for took in [5, 5, 5, 1000, 5, 0, u64::MAX - 7] {
            latency.record(Ticks(7), Ticks(took + 7));
        }
        latency.record_many(Ticks(1), Ticks(1001), 3);
        let histogram = latency.into_histogram();
        assert_eq!((histogram.len(), histogram.min(), histogram.value_at_quantile(0.5)), (10, 1, 5));
        assert_eq!(histogram.count_between(1000, 1000), 4);
    }

    #[test]
    fn counts_are_read_as_they_were_stored() {
        let counts = Counts { published: 5, consumed: 3, ..Counts::default() };
        let shared = SharedCounts::default();
        shared.store(&counts);
        assert_eq!(shared.load(), counts);
        assert_eq!(counts.plus(counts).since(counts), counts);
    }
}
