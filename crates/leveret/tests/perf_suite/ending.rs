//! How a run ends before its time: a signal, a broker that goes, queues that go, a broker that is blocked.

use leveret::Broker;
use rustix::process::Signal;

use crate::perf::{Bench, number, summary};

#[test]
fn a_signal_ends_the_run_with_a_summary() {
    let bench = Bench::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut run = bench.perf("-a -r 1000 -o json").start();
        run.wait_for("consumed");
        run.signal(signal);
        let summary = summary(&run.end().expect_code(0));
        assert_eq!(summary["ended"], "interrupted");
        assert!(number(&summary, "/consumed/count") > 0);
        assert_eq!((number(&summary, "/check/missing"), &summary["check"]["holds"]), (0, &true.into()));
    }
}

#[test]
fn a_broker_that_goes_ends_the_run_with_a_summary() {
    let mut bench = Bench::with(Broker::builder());
    let mut run = bench.perf("-a -r 1000 -o json").start();
    run.wait_for("consumed");
    bench.shut_down();
    let ended = run.end().expect_code(12);
    let summary = summary(&ended);
    assert_eq!((&summary["ended"], &summary["counts"]), (&"failed".into(), &false.into()));
    ended.said("leveret: ");
}

#[test]
fn consumers_whose_queue_goes_are_told() {
    let bench = Bench::new();
    let mut run = bench.perf("-a -r 1000 -u QUEUE -o json").start();
    run.wait_for("consumed");
    bench.run("-x 0 -y 0 -z 0 -u QUEUE --delete");
    let ended = run.end().expect_code(4);
    ended.said("it ended all consumers");
    let summary = summary(&ended);
    assert_eq!((&summary["ended"], number(&summary, "/cancelled")), (&"cancelled".into(), 1));
    assert_eq!(summary["counts"], false);
}

#[test]
fn a_broker_that_is_blocked_is_told() {
    let bench = Bench::with(Broker::builder().memory_watermark_octets(1 << 20));
    let run = bench.perf("-y 0 -s 10000 -u QUEUE -o json -z 3 --drain-timeout 100ms");
    let mut run = run.start();
    run.wait_for("the broker says it is blocked");
    let summary = summary(&run.end().expect_code(0));
    assert_eq!(number(&summary, "/blocked"), 1);
    assert!(number(&summary, "/published/count") > 0);
}
