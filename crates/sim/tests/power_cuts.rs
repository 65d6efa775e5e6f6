//! What was confirmed survives power cuts, whatever the disk does with what was not synced.

use leveret_sim::{
    cuts::{CutReport, run_cuts},
    disk::Operation,
};

const SEEDS: u64 = 300;

#[test]
fn nothing_that_was_promised_is_lost() {
    let mut report = CutReport::default();
    for seed in 1..=SEEDS {
        report.add(&run_cuts(seed).unwrap_or_else(|violation| panic!("{violation}")));
    }
    println!("{report}");
    assert!(report.found > 10_000 && report.ends.iter().all(|count| *count > 100), "{report}");
    for kind in ["journal", "pages", "snapshot"] {
        for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Remove] {
            assert!(report.disk.crash_points(operation, kind) > 0, "{operation:?} of {kind}: {report}");
        }
    }
    assert!(report.disk.crash_points(Operation::SyncNames, "") > 0, "{report}");
    assert!(report.refused_starts > 0, "the power went while a broker recovered: {report}");
    let faults = [Operation::Write, Operation::Sync, Operation::SyncNames, Operation::Create];
    for operation in faults {
        let count: u64 = operation.faults().iter().map(|fault| report.disk.faults(operation, *fault)).sum();
        assert!(count > 0, "{operation:?} did not fail: {report}");
    }
}
