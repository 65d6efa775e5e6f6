//! Connections that are lost, brokers that take nothing, and the exact account of it.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Stdio},
    sync::mpsc::channel,
    thread,
};

use leveret::Broker;

use crate::{
    bus::{self, Bus},
    lines::{numbered, numbers, ranges},
    proxy::Proxy,
    tool::{Ended, PATIENCE, Running},
};

/// Feeds numbers until it is told to stop; returns how many.
pub(crate) struct Feeder {
    stop: std::sync::mpsc::Sender<()>,
    thread: thread::JoinHandle<u64>,
}

impl Feeder {
    pub(crate) fn start(emit: &mut Running) -> Self {
        let mut stdin = emit.stdin();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            for number in 1.. {
                stdin.write_all(format!("{number}\n").as_bytes()).expect("emit reads");
                if stopped.try_recv().is_ok() {
                    return number;
                }
            }
            unreachable!("numbers do not end")
        });
        Self { stop, thread }
    }

    pub(crate) fn finish(self) -> u64 {
        self.stop.send(()).expect("it feeds");
        self.thread.join().expect("it only writes")
    }
}

/// Reads the numbers a receiver prints, and tells when one above a mark has come.
pub(crate) struct Printed {
    marks: std::sync::mpsc::Receiver<u64>,
    thread: thread::JoinHandle<Vec<u8>>,
}

impl Printed {
    pub(crate) fn by(receive: &mut Running) -> Self {
        let mut stdout = BufReader::new(receive.stdout());
        let (mark, marks) = channel();
        let thread = thread::spawn(move || {
            let mut all = Vec::new();
            loop {
                let start = all.len();
                if stdout.read_until(b'\n', &mut all).expect("a pipe") == 0 {
                    return all;
                }
                let line = std::str::from_utf8(&all[start..]).expect("a number").trim_end();
                let _ = mark.send(line.parse().expect("a number"));
            }
        });
        Self { marks, thread }
    }

    pub(crate) fn wait_for(&self, at_least: u64) -> u64 {
        loop {
            let number = self.marks.recv_timeout(PATIENCE).expect("numbers go on coming");
            if number >= at_least {
                return number;
            }
        }
    }

    /// Everything, after the receiver has ended.
    pub(crate) fn all(self) -> Vec<u64> {
        numbers(&self.thread.join().expect("it only reads"))
    }
}

/// Nothing invented; repeats only of what was sent again; holes only inside the announced gaps.
pub(crate) fn check_exact(sent: u64, printed: &[u64], emit: &Ended, receive: &Ended) {
    let again: BTreeSet<u64> = emit
        .stderr
        .iter()
        .filter_map(|line| line.split_once(" lines again: "))
        .flat_map(|(_, lines)| ranges(lines))
        .collect();
    let gaps: Vec<(u64, u64)> =
        receive.stderr.iter().filter(|line| line.contains("gap closed")).map(|line| edges(line)).collect();
    assert!(printed.iter().all(|number| (1..=sent).contains(number)), "a number that was never sent");
    let mut seen = BTreeSet::new();
    for number in printed {
        assert!(seen.insert(*number) || again.contains(number), "{number} came twice and was sent once");
    }
    for number in (1..=sent).filter(|number| !seen.contains(number)) {
        assert!(
            gaps.iter().any(|(after, before)| *after < number && number < *before),
            "{number} is missing outside of {gaps:?}"
        );
    }
    assert_eq!(emit.account("read"), emit.account("confirmed") + emit.account("not confirmed"));
    assert_eq!(emit.account("read"), sent);
}

/// The stamps' numbers on both sides of a gap, which are the lines' numbers here.
fn edges(line: &str) -> (u64, u64) {
    let mut stamps = line.split("leveret/").skip(1).map(|rest| {
        let number = rest.split('/').nth(1).expect("a stamp");
        number.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    });
    (stamps.next().expect("an edge before"), stamps.next().expect("an edge after"))
}

/// An `emit` that is known to be connected, because a first line has gone through it.
fn connected(bus: &Bus, args: &[&str]) -> (Running, ChildStdin) {
    let first = bus.direct_tool("receive").args(["-c", "1"]).start_waiting();
    let mut emit = bus.tool("emit").args(args).stdin(Stdio::piped()).start();
    let mut stdin = emit.stdin();
    stdin.write_all(b"0\n").expect("it reads");
    first.end().expect_code(0);
    (emit, stdin)
}

#[test]
fn a_cut_connection_costs_a_receiver_an_announced_gap_and_nothing_else() {
    let (bus, proxy) = Bus::by_proxy();
    let mut receive = bus.tool("receive").start_waiting();
    let printed = Printed::by(&mut receive);
    let mut emit = bus.tool("emit").stdin(Stdio::piped()).start();
    let feeder = Feeder::start(&mut emit);

    let reached = printed.wait_for(2000);
    proxy.cut();
    receive.wait_for("gap opened");
    emit.wait_for("connecting again");
    proxy.mend();
    receive.wait_for("with a new queue");
    receive.wait_for("gap closed");
    printed.wait_for(reached + 10_000);

    let sent = feeder.finish();
    let emit = emit.end().expect_code(0);
    printed.wait_for(sent);
    let receive = receive.interrupt().expect_code(0);
    assert_eq!(emit.account("confirmed"), sent);
    assert!(emit.account("sent again") > 0);
    check_exact(sent, &printed.all(), &emit, &receive);
}

#[test]
fn an_exchange_that_does_not_exist_costs_no_connection() {
    let bus = Bus::new();
    let mut emit = bus.tool("emit").stdin(Stdio::piped()).start();
    emit.stdin().write_all(b"1\n2\n").expect("it reads");
    let ended = emit.end().expect_code(0);
    assert_eq!(ended.stderr.len(), 1, "a missing exchange is nothing to speak of: {:?}", ended.stderr);
}

#[test]
fn lines_wait_for_a_broker_that_is_away() {
    let (bus, proxy) = Bus::by_proxy();
    let (mut emit, mut stdin) = connected(&bus, &[]);
    proxy.cut();
    emit.wait_for("connecting again");
    stdin.write_all(&numbered(1..100)).expect("it reads");
    drop(stdin);
    proxy.mend();
    let emit = emit.end().expect_code(0);
    assert_eq!((emit.account("read"), emit.account("confirmed")), (100, 100));
}

#[test]
fn drop_counts_what_does_not_fit_and_does_not_hold_up_the_feeder() {
    let (bus, proxy) = Bus::by_proxy();
    let receive = bus.direct_tool("receive").args(["--idle-timeout", "5s"]).start_waiting();
    let (emit, mut stdin) = connected(&bus, &["--on-blocked", "drop"]);
    proxy.stop();
    // The whole feed goes in while not one octet goes out.
    stdin.write_all(&numbered(1..=200_000)).expect("it reads");
    drop(stdin);
    proxy.mend();
    let emit = emit.end().expect_code(5);
    let (confirmed, dropped) = (emit.account("confirmed"), emit.account("dropped"));
    assert_eq!(emit.account("read"), 200_001);
    assert_eq!(confirmed + dropped, 200_001);
    assert!(dropped > 0);
    let printed = numbers(&receive.end().stdout);
    assert!(printed.is_sorted(), "what is kept is kept in order");
}

#[test]
fn wait_holds_up_the_feeder_and_loses_nothing() {
    let (bus, proxy) = Bus::by_proxy();
    let (emit, mut stdin) = connected(&bus, &[]);
    proxy.stop();
    let feeder = thread::spawn(move || stdin.write_all(&numbered(1..=200_000)).expect("it reads in the end"));
    assert!(!feeder.is_finished());
    proxy.mend();
    feeder.join().expect("it only writes");
    let emit = emit.end().expect_code(0);
    assert_eq!((emit.account("confirmed"), emit.account("dropped")), (200_001, 0));
}

#[test]
fn a_line_that_the_broker_refuses_is_found_and_the_others_arrive() {
    let broker = bus::start(Broker::builder().message_octets_max(1000));
    let bus = Bus::on(&broker);
    let receive = bus.tool("receive").args(["-c", "200"]).start_waiting();
    let mut input = numbered(1..=100);
    input.extend_from_slice(&[b"x".repeat(1001), b"\n".to_vec()].concat());
    input.extend(numbered(101..=200));
    let emit = bus.tool("emit").run(&input).expect_code(5);
    emit.said("line 101 was refused: PRECONDITION_FAILED");
    emit.said("read 201, confirmed 200, returned 0, dropped 0, not confirmed 1");
    let arrived: BTreeSet<u64> = numbers(&receive.end().expect_code(0).stdout).into_iter().collect();
    // What was behind the refused line is sent again, so some of the 200 may be repeats.
    assert!(arrived.is_superset(&(1..=100).collect()), "{arrived:?}");
}

#[test]
fn a_broker_that_blocks_holds_lines_up_until_it_has_room() {
    let broker = bus::start(Broker::builder().memory_watermark_octets(2 << 20));
    let bus = Bus::on(&broker);
    // A receiver that is not read from lets its queue grow over the watermark.
    let mut receive = bus.tool("receive").start_waiting();
    let mut emit = bus.tool("emit").stdin(Stdio::piped()).start();
    let mut stdin = emit.stdin();
    let line = [b"x".repeat(9_999), b"\n".to_vec()].concat();
    let feeder = thread::spawn(move || stdin.write_all(&line.repeat(2000)).expect("it reads in the end"));
    emit.wait_for("the broker takes no messages now");
    let mut stdout = receive.stdout();
    let drain = thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()).expect("a pipe"));
    emit.wait_for("takes messages again");
    feeder.join().expect("it only writes");
    emit.end().expect_code(0).said("read 2000, confirmed 2000");
    receive.interrupt().expect_code(0);
    drain.join().expect("it only reads");
}

#[test]
fn giving_up_reports_what_was_not_confirmed() {
    let (bus, proxy) = Bus::by_proxy();
    let (emit, mut stdin) = connected(&bus, &["--give-up-after", "300ms"]);
    proxy.cut();
    stdin.write_all(b"a\nb\nc\n").expect("it reads");
    drop(stdin);
    let emit = emit.end().expect_code(5);
    emit.said("read 4, confirmed 1, returned 0, dropped 0, not confirmed 3");
}

#[test]
fn a_second_signal_ends_emit_at_once_with_its_account() {
    let (bus, proxy) = Bus::by_proxy();
    let (mut emit, mut stdin) = connected(&bus, &[]);
    proxy.cut();
    emit.wait_for("connecting again");
    stdin
        .write_all(&numbered(1..=20_000))
        .expect("a full outbox holds it up, and the pipe has room for the rest");
    emit.signal(rustix::process::Signal::INT);
    emit.wait_for("to end at once");
    emit.signal(rustix::process::Signal::TERM);
    let ended = emit.end().expect_code(5);
    assert_eq!(ended.account("read"), ended.account("confirmed") + ended.account("not confirmed"));
}

#[test]
fn both_move_to_another_node_by_themselves() {
    let (bus, first) = Bus::by_proxy();
    let second = Proxy::start(&first.target());
    let urls = format!(
        "{},{}",
        bus.url,
        bus.url.replace(&first.address().to_string(), &second.address().to_string())
    );
    let bus = Bus { url: urls, ..bus };
    let mut receive = bus.tool("receive").start_waiting();
    let printed = Printed::by(&mut receive);
    let mut emit = bus.tool("emit").stdin(Stdio::piped()).start();
    let feeder = Feeder::start(&mut emit);
    let reached = printed.wait_for(1000);
    first.cut();
    receive.wait_for("gap closed");
    printed.wait_for(reached + 5000);
    let sent = feeder.finish();
    let emit = emit.end().expect_code(0);
    printed.wait_for(sent);
    let receive = receive.interrupt().expect_code(0);
    receive.said(&second.address().to_string());
    check_exact(sent, &printed.all(), &emit, &receive);
}
