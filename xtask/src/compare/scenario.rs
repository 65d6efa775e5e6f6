//! The scenarios: what `leveret perf` is told, how many messages each broker gets, and what is required.
//!
//! Reference figures are microseconds of broker processor time a message, measured once on a quiet machine.
//! Invariant: what is required of leveret is a ratio to RabbitMQ in the same run.

use super::fanout::FanOut;
use super::paced::Pace;
use super::relay::Shape;

pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Before the flags that both brokers get, run and not measured.
    pub(super) before: Option<&'static str>,
    pub(super) flags: &'static str,
    pub(super) measure: Measure,
}

pub(super) enum Measure {
    /// Processor time a message and messages a second.
    Flow {
        /// Messages of each producer, for leveret and for RabbitMQ.
        messages: [u64; 2],
        /// RabbitMQ, LavinMQ, required, goal.
        micros: [f64; 4],
        /// How many times less than RabbitMQ is required.
        times_less: f64,
        relay: Option<(usize, u32)>,
        fan_out: Option<FanOut>,
    },
    /// Latency of what is published at a rate; the relay's pace is that of the flags.
    Latency(Pace),
    Idle,
    Declaring,
}

/// Throughput that is required, as a multiple of RabbitMQ's.
pub(super) const TIMES_FASTER: f64 = 6.0;
/// Of the relay's processor time, at 1 KiB.
pub(super) const RELAY_TIMES_MAX: f64 = 3.0;
pub(super) const LATENCY_P50_MICROS_MAX: f64 = 100.0;
/// Of the fastest peer's.
pub(super) const LATENCY_P99_RATIO_MAX: f64 = 1.2;
pub(super) const IDLE_OCTETS_MAX: f64 = 20.0 * 1024.0;
pub(super) const IDLE_CORES_MAX: f64 = 0.01;
pub(super) const CONNECTIONS_PER_SECOND_MIN: f64 = 5000.0;
pub(super) const DECLARING_SECONDS_MAX: f64 = 2.0;

const fn flow(messages: [u64; 2], micros: [f64; 4], times_less: f64) -> Measure {
    Measure::Flow { messages, micros, times_less, relay: None, fan_out: None }
}

const fn one_to_one(messages: [u64; 2], micros: [f64; 4], times_less: f64, body_octets: usize) -> Measure {
    Measure::Flow { messages, micros, times_less, relay: Some((body_octets, 1)), fan_out: None }
}

const fn fan_out(messages: [u64; 2], micros: [f64; 4], times_less: f64, body_octets: usize) -> Measure {
    let shape = FanOut { subscribers: 10, body_octets, messages: messages[0] };
    Measure::Flow { messages, micros, times_less, relay: Some((body_octets, 10)), fan_out: Some(shape) }
}

const FILL_SMALL: &str = "-y 0 -s 16 -u compare";
const FILL_LARGE: &str = "-y 0 -s 1024 -u compare";
const DRAIN: &str = "-x 0 -a -u compare --delete";
const EMPTY: &str = "-x 0 -y 0 -z 0 -u compare --delete";

pub(super) const SCENARIOS: [Scenario; 13] = [
    Scenario {
        name: "1 to 1, 16 B",
        before: None,
        flags: "-a -s 16",
        measure: one_to_one([4_000_000, 300_000], [13.2, 1.38, 0.70, 0.40], 19.0, 16),
    },
    Scenario {
        name: "1 to 1, 1 KiB",
        before: None,
        flags: "-a -s 1024",
        measure: one_to_one([1_000_000, 200_000], [21.9, 4.55, 2.2, 1.4], 10.0, 1024),
    },
    Scenario {
        name: "fan-out to 10, 16 B",
        before: None,
        flags: "-a -s 16 --fan-out 10",
        measure: fan_out([500_000, 30_000], [15.7, 0.79, 0.40, 0.20], 39.0, 16),
    },
    Scenario {
        name: "fan-out to 10, 1 KiB",
        before: None,
        flags: "-a -s 1024 --fan-out 10",
        measure: fan_out([150_000, 20_000], [18.0, 2.8, 1.5, 1.0], 12.0, 1024),
    },
    Scenario {
        name: "4 producers, 4 queues, 4 consumers, 64 B",
        before: None,
        flags: "-a -s 64 -x 4 -y 4 --queues 4 -u compare --delete",
        measure: flow([1_000_000, 80_000], [9.1, 1.12, 0.60, 0.35], 15.0),
    },
    Scenario {
        name: "acknowledgements and confirms, 16 B",
        before: None,
        flags: "-q 1000 -c 1000 -s 16",
        measure: flow([2_500_000, 80_000], [40.0, 2.2, 1.2, 0.8], 33.0),
    },
    Scenario {
        name: "publish only, 16 B",
        before: Some(EMPTY),
        flags: FILL_SMALL,
        measure: flow([3_000_000, 200_000], [17.0, 0.76, 0.40, 0.25], 40.0),
    },
    Scenario {
        name: "drain, 16 B",
        before: Some(FILL_SMALL),
        flags: DRAIN,
        measure: flow([3_000_000, 200_000], [17.0, 0.51, 0.30, 0.20], 55.0),
    },
    Scenario {
        name: "publish only, 1 KiB",
        before: Some(EMPTY),
        flags: FILL_LARGE,
        measure: flow([600_000, 80_000], [34.0, 3.2, 1.7, 1.0], 20.0),
    },
    Scenario {
        name: "drain, 1 KiB",
        before: Some(FILL_LARGE),
        flags: DRAIN,
        measure: flow([600_000, 80_000], [29.0, 1.64, 1.0, 0.8], 29.0),
    },
    Scenario {
        name: "latency, 5,000/s, 64 B",
        before: None,
        flags: "-a -r 5000 -s 64 -z 6",
        measure: Measure::Latency(Pace { per_second: 5000, seconds: 6, body_octets: 64 }),
    },
    Scenario {
        name: "10,000 idle connections",
        before: None,
        flags: "-x 0 -y 0 --idle-connections 10000 -z 6",
        measure: Measure::Idle,
    },
    Scenario {
        name: "declaring 10,000 queues, 20,000 bindings",
        before: None,
        flags: "-x 0 -y 0 --queues 10000 -u compare -e compare -t direct -k a -k b -z 0 --delete",
        measure: Measure::Declaring,
    },
];

impl Scenario {
    /// What the relay carries in this scenario.
    pub(super) fn relay(&self) -> Option<Shape> {
        match self.measure {
            Measure::Flow { relay: Some((body_octets, copies)), .. } => Some(Shape::new(body_octets, copies)),
            _ => None,
        }
    }

    /// Whether RabbitMQ takes so long that once must be enough.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.measure, Measure::Idle | Measure::Declaring)
    }

    /// How many messages each producer is to send, on leveret or on RabbitMQ.
    pub(super) fn messages(&self, is_leveret: bool) -> Option<u64> {
        match self.measure {
            Measure::Flow { messages: [leveret, rabbitmq], .. } => {
                Some(if is_leveret { leveret } else { rabbitmq })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_follow_from_the_reference_figures() {
        for scenario in &SCENARIOS {
            if let Measure::Flow { micros: [rabbitmq, lavinmq, required, goal], times_less, .. } =
                scenario.measure
            {
                let ratio = rabbitmq / required;
                assert!((ratio / times_less - 1.0).abs() < 0.07, "{}: {ratio}", scenario.name);
                assert!(rabbitmq > lavinmq && lavinmq > required && required > goal, "{}", scenario.name);
            }
        }
    }

    #[test]
    fn the_relay_keeps_the_pace_of_the_flags() {
        let paced = SCENARIOS.iter().filter_map(|scenario| match scenario.measure {
            Measure::Latency(pace) => Some((scenario.flags, pace)),
            _ => None,
        });
        for (flags, Pace { per_second, seconds, body_octets }) in paced {
            assert_eq!(flags, format!("-a -r {per_second} -s {body_octets} -z {seconds}"));
        }
    }

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
