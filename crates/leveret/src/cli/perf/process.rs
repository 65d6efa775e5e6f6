//! What the broker's process costs, as the kernel counts it under `/proc`.
//!
//! Invariant: processor time includes the children that the process has waited for.

use std::{fs, time::Duration};

use rustix::param::clock_ticks_per_second;

/// A process of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
}

/// What it has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) processor: Duration,
    pub(super) resident_octets: u64,
    pub(super) peak_octets: u64,
}

impl Process {
    pub(super) fn usage(self) -> Result<Usage, String> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.pid);
            fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        parse(&stat, &status).ok_or_else(|| format!("process {} is not described as expected", self.pid))
    }
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name, which may hold anything, ends at the last parenthesis; user time is field 14 of all.
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
    let ticks: u64 = times.collect::<Result<Vec<_>, _>>().ok().filter(|times| times.len() == 4)?.iter().sum();
    let octets = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Usage {
        processor: Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).ok()?,
        resident_octets: octets("VmRSS:")?,
        peak_octets: octets("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_that_holds_anything() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let usage = parse(stat, status).expect("it is all there");
        assert_eq!(
            usage.processor,
            Duration::from_secs(200) / u32::try_from(clock_ticks_per_second()).unwrap()
        );
        assert_eq!((usage.resident_octets, usage.peak_octets), (1 << 20, 2 << 20));
        assert_eq!(parse(stat, "Name:\ta\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_can_be_looked_at_while_it_is_there() {
        let usage = Process { pid: std::process::id() }.usage().expect("we are here");
        assert!(usage.peak_octets >= usage.resident_octets && usage.resident_octets > 0);
        let nobody = Process { pid: u32::MAX }.usage().expect_err("no such process");
        assert!(nobody.contains("/proc/4294967295"), "{nobody}");
    }
}
