//! What every experiment measures with: processor time, resident memory, medians and table rows.
//!
//! Knows nothing of what is measured. Invariant: processor time is that of this process alone.

use std::{fs, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Any failure of an experiment; it ends the program with its message.
pub(crate) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Processor time, user and system, that this process has used.
pub(crate) fn processor_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Processor time that the calling thread has used.
pub(crate) fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> Duration {
    clock_gettime(id).try_into().expect("processor time is not negative")
}

/// The part of [`processor_time`] that was not spent in the kernel, by its sampled clock of 10 ms; good for
/// sums over several runs.
pub(crate) fn user_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux describes a process");
    let ticks = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(11)?.parse().ok());
    Duration::from_millis(10 * ticks.unwrap_or(0u64))
}

/// The middle one of the values, the lower of two middle ones.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value that `percent` of the values do not exceed.
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * percent / 100.0) as usize).copied().unwrap_or(f64::NAN)
}

/// The lowest and the highest value, as the tables show a spread.
pub(crate) fn spread(values: &[f64]) -> (f64, f64) {
    (percentile(values, 0.0), percentile(values, 100.0))
}

/// Octets of this process that are in memory.
pub(crate) fn resident_octets() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux describes a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status has VmRSS");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("VmRSS is a number") << 10
}
