//! What cannot be done is said at once, with an exit code of its own.

use std::net::TcpListener;

use leveret::Broker;

use crate::perf::{Bench, perf};

#[test]
fn flags_that_make_no_sense_are_refused() {
    for (flags, part) in [
        ("-y 0", "name a queue with --queue"),
        ("-x 0", "name a queue with --queue"),
        ("-r 0", "a rate is a number above 0"),
        ("-r -5", "a rate is a number above 0"),
        ("-z soon", "time"),
        ("-f durable", "persistent"),
        ("--queue-args x-max-length", "NAME=VALUE"),
        ("--fan-out 3 -y 2", "cannot be used with"),
        ("-a -A 3", "cannot be used with"),
        ("-u q -x 0 -c 5", "needs producers"),
        ("--delete", "--queue"),
        ("-s 200000000", "200000000"),
        ("--uri amqp://a,amqp://b", "one broker"),
        ("--uri http://a", "looks like"),
        ("--no-such-flag", "unexpected argument"),
    ] {
        perf(flags).start().end().expect_code(2).said(part);
    }
}

#[test]
fn h_takes_a_url_and_is_help_without_one() {
    let help = perf("-h").start().end().expect_code(0).stdout;
    let help = String::from_utf8(help).expect("text");
    assert!(help.contains("--fan-out") && help.contains("--help"), "{help}");
    let bench = Bench::new();
    perf("-C 5").args(["-h", bench.url()]).start().end().expect_code(0);
    perf("-C 5").env("AMQP_URL", bench.url()).start().end().expect_code(0);
}

#[test]
fn a_missing_broker_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let ended = perf(&format!("--uri amqp://{address}")).start().end().expect_code(3);
    ended.said(&format!("no connection to amqp://{address}: "));
}

#[test]
fn a_refused_login_or_virtual_host_is_told() {
    let bench = Bench::new();
    let (login, host) = bench.url().split_once('@').expect("a login");
    let other = format!("{}:wrong@{host}", login.rsplit_once(':').expect("a password").0);
    perf("").args(["--uri", &other]).start().end().expect_code(4).said("403 ACCESS_REFUSED");
    let (server, _) = bench.url().rsplit_once('/').expect("a virtual host");
    perf("")
        .args(["--uri", &format!("{server}/nowhere")])
        .start()
        .end()
        .expect_code(4)
        .said("530 NOT_ALLOWED");
}

#[test]
fn what_the_broker_says_when_it_closes_is_passed_on() {
    let bench = Bench::new();
    bench.perf("-u QUEUE -p -z 1").start().end().expect_code(4).said("the channel: 404 NOT_FOUND");
    bench.run("-x 0 -y 0 -z 0 -u QUEUE");
    let other = bench.perf("-u QUEUE --queue-args x-max-length=5 -z 1").start().end();
    other.expect_code(4).said("the channel: 406 PRECONDITION_FAILED");
    bench.run("-x 0 -y 0 -z 0 -u QUEUE --delete");
    bench.perf("-t nonsense -z 1").start().end().expect_code(4).said("the broker closed the ");
}

#[test]
fn more_channels_than_the_broker_allows_are_refused() {
    let bench = Bench::with(Broker::builder().channel_max(3));
    bench.perf("--fan-out 4 --connections 1 -z 1").start().end().expect_code(2).said("allows 3 channels");
    bench.run("--fan-out 4 --connections 2 -C 10");
}
