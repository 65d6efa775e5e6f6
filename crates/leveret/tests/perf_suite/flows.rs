//! What flows: every message that was published comes, once, wherever the flags send it.

use serde_json::Value;

use crate::perf::{Bench, float, number, perf};

/// Runs to completion and looks at how many were published and consumed; nothing may be missed.
#[track_caller]
fn check(flags: &str, published: u64, consumed: u64) -> Value {
    let summary = Bench::new().run(flags);
    let found = ["/published/count", "/consumed/count", "/check/checked"].map(|path| number(&summary, path));
    assert_eq!(found, [published, consumed, consumed], "{flags}: {summary:#}");
    for path in ["gaps", "repeats", "out_of_order", "unchecked", "of_other_runs", "missing"] {
        assert_eq!(number(&summary["check"], &format!("/{path}")), 0, "{flags}: {path}");
    }
    assert_eq!((&summary["counts"], &summary["ended"]), (&true.into(), &"complete".into()), "{flags}");
    summary
}

#[test]
fn everything_comes_once_wherever_it_goes() {
    check("-a -C 20000", 20_000, 20_000);
    check("-C 5000 -q 100", 5000, 5000);
    check("-C 5000 -q 100 -A 10", 5000, 5000);
    check("-C 3000 -y 3", 3000, 9000);
    check("-C 3000 -x 2 -y 3 -t topic -k a.b", 6000, 18_000);
    check("-C 2000 -x 4 -y 4 --queues 4 -u QUEUE --delete", 8000, 8000);
    check("-C 2000 -x 2 -y 4 -u QUEUE -q 10 --delete", 4000, 4000);
    check("-C 1000 -x 3 -y 2 -u QUEUE -e amq.direct -k k --delete", 3000, 3000);
    check("-C 1000 --queues 3 -y 3 -u QUEUE -e amq.fanout --delete", 1000, 3000);
    check("-C 500 -c 7 -s 5000 -a", 500, 500);
    check("-C 5 -s 300000 -a", 5, 5);
    check("-C 300 -f persistent -f mandatory -u QUEUE --delete -c 100", 300, 300);
}

#[test]
fn a_fan_out_reaches_every_queue_over_shared_connections_and_several_threads() {
    let summary = check("-a -C 1000 --fan-out 25 --connections 3 --threads 2", 1000, 25_000);
    assert_eq!(number(&summary, "/copies"), 25);
    assert_eq!(number(&summary, "/setup/connections/count"), 4);
    assert_eq!(number(&summary, "/setup/consumers/count"), 25);
    assert_eq!(number(&summary, "/latency_microseconds/count"), 25_000);
    assert_eq!(number(&summary, "/generator/consuming/threads"), 2);
}

#[test]
fn a_summary_has_all_its_parts() {
    let summary = check("-C 2000 -c 50 -a", 2000, 2000);
    assert_eq!(number(&summary, "/confirmed/count"), 2000);
    let quantiles = ["p50", "p95", "p99", "p99_9", "max"];
    let latencies = quantiles.map(|name| float(&summary["latency_microseconds"], &format!("/{name}")));
    assert!(latencies.is_sorted() && latencies[0] > 0.0, "{latencies:?}");
    assert_eq!(number(&summary, "/confirm_latency_microseconds/count"), 2000);
    let confirms = quantiles.map(|name| float(&summary["confirm_latency_microseconds"], &format!("/{name}")));
    assert!(confirms.is_sorted() && confirms[0] > 0.0, "{confirms:?}");
    assert!(float(&summary, "/reads/messages_per_read") > 0.0);
    assert!(float(&summary, "/generator/cpu_microseconds_per_message") > 0.0);
    let share = |name| float(&summary, &format!("/generator/producing/{name}"));
    let shares = ["busy", "waited_for_socket", "waited_for_confirms", "waited_otherwise"].map(share);
    assert!(shares.iter().all(|share| (0.0..=1.1).contains(share)), "{shares:?}");
    assert!(summary["broker_process"].is_null() && summary["rate"].is_null());
    assert!(["nobody", "broker", "generator", "machine"].map(Value::from).contains(&summary["saturated"]));
}

#[test]
fn messages_are_published_and_drained_by_two_runs() {
    let bench = Bench::new();
    let published = bench.run("-y 0 -C 5000 -u QUEUE");
    assert_eq!((number(&published, "/published/count"), &published["counts"]), (5000, &true.into()));
    assert!(published["latency_microseconds"].is_null() && published["confirmed"].is_null());
    assert!(published["confirm_latency_microseconds"].is_null());
    if let Some(broker) = bench.broker() {
        assert_eq!((broker.queue_count(), broker.connection_count()), (1, 0));
    }

    let part = bench.run("-x 0 -D 2000 -q 100 -u QUEUE");
    assert_eq!(number(&part, "/consumed/count"), 2000);
    let rest = bench.run("-x 0 -a -u QUEUE --delete");
    assert_eq!(number(&rest, "/consumed/count") + number(&part, "/consumed/count"), 5000);
    assert_eq!(number(&rest, "/check/of_other_runs"), number(&rest, "/consumed/count"));
    assert_eq!((number(&rest, "/check/gaps"), number(&rest, "/check/missing")), (0, 0));
    if let Some(broker) = bench.broker() {
        assert_eq!(broker.queue_count(), 0);
    }
}

#[test]
fn a_rate_is_never_exceeded_and_is_reached() {
    let summary = check("-x 2 -r 400 -C 100 -a", 200, 200);
    let seconds = float(&summary, "/seconds");
    assert!(seconds >= 99.0 / 400.0, "{seconds}");
    assert_eq!((float(&summary, "/rate/asked"), number(&summary, "/rate/behind")), (800.0, 0));
}

#[test]
fn a_time_ends_the_run_and_the_rest_still_comes() {
    let summary = Bench::new().run("-z 300ms -a");
    assert_eq!(summary["ended"], "time");
    assert!(float(&summary, "/seconds") >= 0.3);
    assert!(number(&summary, "/check/checked") >= number(&summary, "/consumed/count"));
    assert_eq!((number(&summary, "/check/missing"), number(&summary, "/check/gaps")), (0, 0));
}

#[test]
fn small_bodies_are_counted_and_not_checked() {
    let bench = Bench::new();
    for size in [0, 1, 15] {
        let summary = bench.run(&format!("-C 500 -a -s {size}"));
        assert_eq!(number(&summary, "/consumed/count"), 500);
        assert_eq!((number(&summary, "/check/checked"), number(&summary, "/check/unchecked")), (0, 500));
        assert!(summary["latency_microseconds"].is_null());
    }
    let text = bench.perf("-C 5 -a -s 15").start().end().expect_code(0).stdout;
    assert!(String::from_utf8_lossy(&text).contains("nothing is checked or timed"));
}

#[test]
fn what_a_full_queue_drops_is_found_missing() {
    let bench = Bench::new();
    // One delivery is out at a time, so that the queue overflows.
    let flags = "-C 3000 -q 1 -u QUEUE --queue-args x-max-length=10 --delete";
    let summary = bench.run_to(flags, 11);
    let (consumed, missing) = (number(&summary, "/consumed/count"), number(&summary, "/check/missing"));
    assert_eq!((consumed + missing, &summary["ended"]), (3000, &"silence".into()));
    assert!(missing > 0 && number(&summary, "/check/gaps") > 0, "{summary:#}");
    assert_eq!(summary["check"]["holds"], false);
}

#[test]
fn what_the_broker_refuses_or_returns_is_counted() {
    let bench = Bench::new();
    let flags = "-y 0 -C 50 -c 10 -u QUEUE --delete --queue-args x-max-length=20,x-overflow=reject-publish";
    let summary = bench.run(flags);
    assert_eq!((number(&summary, "/confirmed/count"), number(&summary, "/refused")), (20, 30));
    let nowhere = bench.run("-y 0 -C 50 -c 10 -e amq.direct -k nobody -f mandatory -s 100000");
    assert_eq!((number(&nowhere, "/confirmed/count"), number(&nowhere, "/returned")), (50, 50));
}

#[test]
fn idle_connections_and_queues_can_be_all_there_is() {
    let bench = Bench::new();
    let summary = bench.run(
        "-x 0 -y 0 --idle-connections 200 --queues 300 -u QUEUE -e amq.topic -k a -k b -z 100ms --delete",
    );
    let setup = ["connections", "queues", "bindings"]
        .map(|what| number(&summary["setup"], &format!("/{what}/count")));
    assert_eq!(setup, [200, 300, 600]);
    assert_eq!(summary["counts"], false);
}

#[test]
#[cfg(target_os = "linux")]
fn the_brokers_process_is_measured() {
    let bench = Bench::new();
    // The broker runs in this process.
    let pid = std::process::id();
    let summary = bench.run(&format!("-C 50000 -a --broker-pid {pid}"));
    let process = &summary["broker_process"];
    assert!(number(process, "/peak_octets") > 1 << 20, "{process}");
    assert!(float(process, "/cpu_microseconds_per_message") >= 0.0);
    let nobody = perf("--broker-pid 4294967295").start().end().expect_code(2);
    nobody.said("cannot read /proc/4294967295/stat");
}
