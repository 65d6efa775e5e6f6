//! Files that nothing needs any more.
//!
//! Invariant: what was found damaged and may have lost something is never removed, but set aside.

use std::collections::BTreeSet;

use crate::store::{
    disk::Disk,
    journal::segment::segment_number,
    kept::kept_number,
    snapshot::{Snapshot, snapshot_number},
};

/// Removes files that neither the snapshot nor what comes after it needs, but for those that are
/// damaged, which are set aside. One that cannot be removed is removed at the next start.
pub fn remove_superfluous(
    disk: &dyn Disk,
    names: &[String],
    number: u64,
    snapshot: &Snapshot,
    is_damaged: impl Fn(&str) -> bool,
) {
    let used: BTreeSet<u32> =
        snapshot.queues.values().flat_map(|state| &state.kept).map(|run| run.page.file).collect();
    for name in names {
        let is_old_snapshot = snapshot_number(name).is_some_and(|other| other != number);
        let is_superfluous = is_old_snapshot
            || segment_number(name).is_some_and(|segment| segment < snapshot.first_segment)
            || kept_number(name).is_some_and(|file| file < snapshot.next_kept_file && !used.contains(&file));
        if !is_superfluous {
            continue;
        }
        // A snapshot that is damaged was used nevertheless: its copy was whole.
        if is_damaged(name) && !is_old_snapshot {
            set_aside(disk, name);
        } else if let Err(error) = disk.remove(name) {
            tracing::warn!(name, %error, "a file that is not needed any more cannot be removed");
        }
    }
}

/// Gives all files of ours names that nobody removes.
pub(super) fn set_all_aside(disk: &dyn Disk, names: &[String]) {
    let is_ours = |name: &&String| {
        snapshot_number(name).is_some() || segment_number(name).is_some() || kept_number(name).is_some()
    };
    names.iter().filter(is_ours).for_each(|name| set_aside(disk, name));
}

fn set_aside(disk: &dyn Disk, name: &str) {
    let aside = format!("aside-{name}");
    match disk.rename(name, &aside) {
        Ok(()) => tracing::warn!(name, aside, "a damaged file is set aside"),
        Err(error) => tracing::warn!(name, %error, "a damaged file cannot be set aside"),
    }
}
