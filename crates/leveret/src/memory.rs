//! How much memory there is for messages.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The share of the memory that messages may take before publishers wait, in percent, as in
/// RabbitMQ 3 (`vm_memory_high_watermark`).
pub const WATERMARK_PERCENT: u64 = 40;

/// Octets of memory that this process may use: the machine's, or its control group's if that is
/// less. `None` when the operating system does not say.
#[must_use]
pub fn available_octets() -> Option<u64> {
    let system = System::new_with_specifics(
        RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
    );
    let system = system.ok()?;
    let group = system.cgroup_limits().map(|limits| limits.total_memory);
    [Some(system.total_memory()), group].into_iter().flatten().filter(|octets| *octets > 0).min()
}

/// The default watermark, in octets of messages.
#[must_use]
pub fn default_watermark_octets() -> u64 {
    available_octets().map_or(u64::MAX, |octets| octets / 100 * WATERMARK_PERCENT)
}
