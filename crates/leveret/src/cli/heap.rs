//! Gives memory back to the system once a load has gone.
//!
//! glibc's allocator keeps what was freed below what is still in use: after a million messages of a thousand
//! octets hundreds of mebibytes. `malloc_trim` gives the free pages of all threads back; it is called when the
//! process is quiet after work, because while it runs nobody allocates from the part it is at. Why that and
//! no other allocator: `docs/decisions/0004-allocator.md`. Invariant: no trim without work since the last one.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Processor time since the last look under which the process is quiet.
const QUIET_MAX: Duration = Duration::from_millis(50);
/// Processor time since the last trim from which there may be something to give back.
const WORK_MIN: Duration = Duration::from_millis(100);

/// Free octets at the end of a heap that stay there while there is work. By default it is 128 KiB, and the
/// heap grows and shrinks with every other message.
const TRIM_THRESHOLD_OCTETS: libc::c_int = 256 * 1024 * 1024;
/// Allocations of more octets are mapped on their own, which costs a fault for each of their pages.
const MAP_THRESHOLD_OCTETS: libc::c_int = 4 * 1024 * 1024;

/// Has the allocator keep memory at hand. To be called before there is work.
pub(crate) fn keep_at_hand() {
    // What one thread frees, any other may take; and only the end of the first heap is ever trimmed.
    set(libc::M_ARENA_MAX, 1);
    set(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD_OCTETS);
    set(libc::M_MMAP_THRESHOLD, MAP_THRESHOLD_OCTETS);
}

#[allow(unsafe_code)]
fn set(parameter: libc::c_int, value: libc::c_int) {
    // SAFETY: mallopt takes any parameter and value, and refuses those that it does not know.
    unsafe {
        libc::mallopt(parameter, value);
    }
}

/// Runs for as long as the process; `let_go` frees what is kept for later.
pub(crate) async fn give_back_when_quiet(let_go: impl Fn()) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if watch.is_time_to_trim(processor_time()) {
            let_go();
            trim();
        }
    }
}

/// What was seen of the process's own processor time.
#[derive(Default)]
struct Watch {
    at_last_look: Duration,
    at_last_trim: Duration,
}

impl Watch {
    fn is_time_to_trim(&mut self, used: Duration) -> bool {
        let lately = used - std::mem::replace(&mut self.at_last_look, used);
        let is_time = lately <= QUIET_MAX && used - self.at_last_trim >= WORK_MIN;
        if is_time {
            self.at_last_trim = used;
        }
        is_time
    }
}

/// Processor time that all threads of the process have used.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[allow(unsafe_code)]
fn trim() {
    // SAFETY: malloc_trim takes any padding, may be called from any thread at any time, and moves nothing that
    // is in use. It is of the allocator that this program runs on, for nothing here installs another.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_once_the_process_is_quiet_after_work() {
        let mut watch = Watch::default();
        let mut check = |used_millis, wanted| {
            assert_eq!(watch.is_time_to_trim(Duration::from_millis(used_millis)), wanted, "{used_millis}");
        };
        check(30, false);
        check(900, false);
        check(1_700, false);
        check(1_710, true);
        check(1_720, false);
        check(1_760, false);
        check(1_800, false);
        check(1_810, true);
        check(1_810, false);
    }

    #[test]
    fn free_pages_below_one_in_use_are_given_back() {
        const BLOCK_OCTETS: usize = 64 * 1024;
        let mut blocks: Vec<Vec<u8>> = (0..2_000).map(|_| vec![7; BLOCK_OCTETS]).collect();
        let last = blocks.pop();
        drop(blocks);
        let before = resident_octets();
        trim();
        let after = resident_octets();
        assert!(before >= after + 1_000 * BLOCK_OCTETS, "{before} octets before, {after} after");
        drop(last);
    }

    fn resident_octets() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is in there");
        let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024
    }
}
