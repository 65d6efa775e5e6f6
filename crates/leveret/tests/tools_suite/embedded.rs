//! The broker inside a receiver: who hosts it, who finds it, and what happens when its host goes.

use std::{net::TcpListener, process::Stdio};

use rustix::process::Signal;

use crate::{
    lines::numbered,
    outages::{Feeder, Printed, check_exact},
    tool::{Running, Tool},
};

const HOSTS: &str = "hosts one there";

/// An embedded address of this test's own.
struct Machine(String);

impl Machine {
    fn without_a_broker() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self(listener.local_addr().expect("it is bound").to_string())
    }

    fn tool(&self, subcommand: &str) -> Tool {
        Tool::new(subcommand).env("LEVERET_EMBEDDED_ADDRESS", &self.0)
    }

    /// A receiver that hosts.
    fn host(&self) -> Running {
        let mut host = self.tool("receive").start();
        let line = host.wait_for(HOSTS);
        assert!(line.contains(&self.0), "it says where: {line}");
        host.wait_for("Waiting for logs");
        host
    }
}

#[test]
fn the_first_receiver_hosts_and_the_others_connect() {
    let machine = Machine::without_a_broker();
    let mut host = machine.host();
    let first = Printed::by(&mut host);
    let second = machine.tool("receive").args(["-c", "3"]).start_waiting();
    machine.tool("emit").run(&numbered(1..=3)).expect_code(0);
    let second = second.end().expect_code(0);
    assert_eq!(second.stdout, b"1\n2\n3\n");
    assert!(!second.stderr.iter().any(|line| line.contains(HOSTS)));
    first.wait_for(3);
    host.interrupt().expect_code(0);
    assert_eq!(first.all(), [1, 2, 3]);
}

#[test]
fn without_a_broker_emit_says_what_to_run_and_receive_can_be_kept_from_hosting() {
    let machine = Machine::without_a_broker();
    let emit = machine.tool("emit").arg("x").run(b"").expect_code(3);
    emit.said(&machine.0);
    emit.said("run `leveret receive` or `leveret serve` first");
    let receive = machine.tool("receive").arg("--no-embedded").run(b"").expect_code(3);
    receive.said("run `leveret serve`");
    machine.tool("emit").args(["--embedded", "--url", "amqp://localhost"]).run(b"").expect_code(2);
}

#[test]
fn emit_can_host_and_then_waits_for_a_receiver_and_for_its_taking() {
    let machine = Machine::without_a_broker();
    let mut emit = machine.tool("emit").arg("--embedded").stdin(Stdio::piped()).start();
    let mut stdin = emit.stdin();
    emit.wait_for(HOSTS);
    emit.wait_for("The first line waits for a receiver");
    let lines = numbered(1..=20_000);
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &lines).expect("it reads"));
    let mut receive = machine.tool("receive").start_waiting();
    let printed = Printed::by(&mut receive);
    feeder.join().expect("it only writes");
    emit.end().expect_code(0).said("read 20000, confirmed 20000");
    // What was in our broker was taken before it went, and now the receiver hosts.
    receive.wait_for(HOSTS);
    receive.interrupt().expect_code(0);
    assert_eq!(printed.all(), (1..=20_000).collect::<Vec<_>>());
}

#[test]
fn when_the_host_is_killed_another_receiver_hosts_and_the_account_is_exact() {
    let machine = Machine::without_a_broker();
    let mut host = machine.host();
    let mut left = [machine.tool("receive").start_waiting(), machine.tool("receive").start_waiting()];
    // A host that is not read from would stop receiving, not hosting; it is read from all the same.
    let _host_prints = Printed::by(&mut host);
    let printed = left.each_mut().map(Printed::by);
    let mut emit = machine.tool("emit").stdin(Stdio::piped()).start();
    let feeder = Feeder::start(&mut emit);
    let reached = printed[0].wait_for(2000);

    host.signal(Signal::KILL);
    for receive in &mut left {
        receive.wait_for("with a new queue");
    }
    for printed in &printed {
        printed.wait_for(reached + 10_000);
    }
    let sent = feeder.finish();
    let emit = emit.end().expect_code(0);
    for printed in &printed {
        printed.wait_for(sent);
    }
    let mut pairs: Vec<_> = left.into_iter().zip(printed).collect();
    // Whoever hosts ends last, for the other one would race to host again.
    pairs.sort_by_key(|(receive, _)| receive.has_said(HOSTS));
    let hosts = pairs.iter().filter(|(receive, _)| receive.has_said(HOSTS)).count();
    assert_eq!(hosts, 1, "one of them hosts, and only one");
    for (receive, printed) in pairs {
        let receive = receive.interrupt().expect_code(0);
        receive.said("gap closed");
        check_exact(sent, &printed.all(), &emit, &receive);
    }
}
