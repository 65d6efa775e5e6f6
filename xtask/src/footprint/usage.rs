//! What a process and its children cost: memory and processor time, as the kernel counts them.
//!
//! Invariant: children are counted with their parent, so that a broker of several processes is not taken for
//! its smallest.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::{Process, all_processes};
use rustix::process::Pid;

/// Memory in use. What several processes share is counted for each of them in `rss_octets` and divided among
/// them in `pss_octets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss_octets: u64,
    pub(crate) pss_octets: u64,
}

/// Memory that the process and its children use now.
pub(crate) fn memory(pid: Pid) -> Result<Memory> {
    let mut memory = Memory { rss_octets: 0, pss_octets: 0 };
    for process in family(pid)? {
        let maps = process.smaps_rollup().context("cannot read smaps_rollup")?.memory_map_rollup;
        let octets = |key: &str| maps.iter().filter_map(|map| map.extension.map.get(key)).sum::<u64>();
        memory.rss_octets += octets("Rss");
        memory.pss_octets += octets("Pss");
    }
    Ok(memory)
}

/// The most that was resident at a time, summed over the process and its children.
pub(crate) fn peak_octets(pid: Pid) -> Result<u64> {
    let peak = |process: Process| Ok(process.status()?.vmhwm.unwrap_or_default() * 1024);
    family(pid)?.into_iter().map(peak).sum()
}

/// Processor time that the process and its children have used.
pub(crate) fn processor_time(pid: Pid) -> Result<Duration> {
    let ticks = |process: Process| {
        let stat = process.stat()?;
        Ok(stat.utime + stat.stime)
    };
    let ticks: u64 = family(pid)?.into_iter().map(ticks).sum::<Result<u64>>()?;
    Ok(Duration::from_secs(ticks) / u32::try_from(procfs::ticks_per_second())?)
}

/// The process and all that descend from it, but for those that have ended.
pub(crate) fn family(pid: Pid) -> Result<Vec<Process>> {
    let root = Process::new(pid.as_raw_nonzero().get()).context("the broker is gone")?;
    let others: Vec<(i32, Process)> = all_processes()?.flatten().filter_map(with_parent).collect();
    let mut family = vec![root.pid()];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(others.iter().filter(|(of, _)| *of == parent).map(|(_, process)| process.pid()));
        next += 1;
    }
    let in_family = |(_, process): &(i32, Process)| family.contains(&process.pid());
    Ok(others.into_iter().filter(in_family).map(|(_, process)| process).collect())
}

fn with_parent(process: Process) -> Option<(i32, Process)> {
    let stat = process.stat().ok()?;
    (stat.state != 'Z').then_some((stat.ppid, process))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_counted_with_its_children() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat; :"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let (mut input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        input.write_all(b"there\n").unwrap();
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "there\n", "cat runs");
        let pid = Pid::from_child(&shell);
        assert_eq!(family(pid).unwrap().len(), 2);
        let memory = memory(pid).unwrap();
        assert!(memory.rss_octets >= memory.pss_octets && memory.pss_octets > 0, "{memory:?}");
        assert!(peak_octets(pid).unwrap() >= memory.pss_octets);
        drop(input);
        shell.wait().unwrap();
    }
}
