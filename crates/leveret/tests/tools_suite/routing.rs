//! Exchanges of each type: what is bound for, what is taken as it is, what comes back.

use crate::{bus::Bus, tool::Running};

fn received(receive: Running) -> String {
    String::from_utf8(receive.end().expect_code(0).stdout).expect("text")
}

#[test]
fn direct_and_topic_exchanges_route_by_key() {
    for (kind, pattern) in [("direct", "kern.error"), ("topic", "*.error")] {
        let bus = Bus::new();
        let receive = bus
            .tool("receive")
            .args(["-t", kind, "-r", pattern, "-r", "end", "--count", "2"])
            .start_waiting();
        for (key, text) in [("kern.info", "no"), ("kern.error", "yes"), ("end", "end")] {
            bus.tool("emit").args(["-r", key, text]).run(b"").expect_code(0);
        }
        assert_eq!(received(receive), "yes\nend\n", "{kind}");
    }
}

#[test]
fn a_topic_exchange_sends_everything_to_whoever_names_no_key() {
    let bus = Bus::new();
    let receive = bus.tool("receive").args(["-t", "topic", "-c", "2"]).start_waiting();
    bus.tool("emit").args(["-r", "a.b.c", "keyed"]).run(b"").expect_code(0);
    bus.tool("emit").args(["plain"]).run(b"").expect_code(0);
    assert_eq!(received(receive), "keyed\nplain\n");
}

#[test]
fn a_headers_exchange_matches_all_or_any() {
    for (how, expected) in [("all", "both\n"), ("any", "one\nboth\n")] {
        let bus = Bus::new();
        let wanted = ["-t", "headers", "--header", "os=linux", "--header", "level=error", "--match", how];
        let receive = bus
            .tool("receive")
            .args(wanted)
            .args(["-c", &expected.lines().count().to_string()])
            .start_waiting();
        bus.tool("emit").args(["--header", "os=linux", "one"]).run(b"").expect_code(0);
        bus.tool("emit")
            .args(["--header", "os=linux", "--header", "level=error", "both"])
            .run(b"")
            .expect_code(0);
        assert_eq!(received(receive), expected, "{how}");
    }
}

#[test]
fn an_exchange_that_exists_is_taken_as_it_is() {
    let bus = Bus::new();
    let receive = bus.tool("receive").args(["-t", "direct", "-r", "k", "-c", "1"]).start_waiting();
    bus.tool("emit").args(["-t", "fanout", "-r", "other", "no"]).run(b"").expect_code(0);
    bus.tool("emit").args(["-t", "topic", "-r", "k", "yes"]).run(b"").expect_code(0);
    assert_eq!(received(receive), "yes\n");
}

#[test]
fn a_key_on_an_exchange_that_had_to_be_declared_fanout_is_not_passed_over_in_silence() {
    let bus = Bus::new();
    let ended = bus.tool("receive").args(["-r", "k", "--idle-timeout", "1ms"]).run(b"").expect_code(0);
    ended.said("was declared fanout");
    let ended = bus.tool("receive").args(["-r", "k", "--idle-timeout", "1ms"]).run(b"").expect_code(0);
    assert!(!ended.stderr.iter().any(|line| line.contains("was declared")), "now it exists");
}

#[test]
fn the_predeclared_exchanges_can_be_used() {
    let mut bus = Bus::new();
    let key = std::mem::replace(&mut bus.exchange, "amq.topic".to_owned());
    let receive = bus.tool("receive").args(["-r", &key, "-c", "1"]).start_waiting();
    bus.tool("emit").args(["-r", &key, "x"]).run(b"").expect_code(0);
    assert_eq!(received(receive), "x\n");
}

#[test]
fn mandatory_lines_that_nobody_wants_are_counted_as_returned() {
    let bus = Bus::new();
    let ended = bus.tool("emit").arg("--mandatory").run(b"a\nb\nc\n").expect_code(5);
    ended.said("read 3, confirmed 0, returned 3, dropped 0, not confirmed 0; sent again 0");
    bus.tool("emit").run(b"a\nb\nc\n").expect_code(0).said("read 3, confirmed 3, returned 0");

    let receive = bus.tool("receive").args(["-c", "1"]).start_waiting();
    bus.tool("emit").args(["--mandatory", "--persistent", "wanted"]).run(b"").expect_code(0);
    assert_eq!(received(receive), "wanted\n");
}
