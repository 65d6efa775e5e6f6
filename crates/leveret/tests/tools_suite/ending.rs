//! How the tools end, and with which exit code.

use std::{io::Read, net::TcpListener};

use rustix::process::Signal;

use crate::{bus::Bus, tool::Tool};

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("amqp://{}", listener.local_addr().expect("it is bound"))
}

#[test]
fn signals_end_a_receiver_cleanly() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let bus = Bus::new();
        let mut receive = bus.tool("receive").start_waiting();
        bus.tool("emit").arg("one").run(b"").expect_code(0);
        let mut first = [0; 4];
        let mut stdout = receive.stdout();
        stdout.read_exact(&mut first).expect("a line");
        receive.signal(signal);
        receive.end().expect_code(0).said("1 messages, 0 numbered lines missed");
        assert_eq!(&first, b"one\n");
    }
}

#[test]
fn count_and_idle_timeout_end_a_receiver() {
    let bus = Bus::new();
    bus.tool("receive").args(["--idle-timeout", "100ms"]).start_waiting().end().expect_code(0);

    let receive = bus.tool("receive").args(["--idle-timeout", "4s", "--count", "2"]).start_waiting();
    bus.tool("emit").arg("only one").run(b"").expect_code(0);
    let ended = receive.end().expect_code(8);
    assert_eq!(ended.stdout, b"only one\n");
    ended.said("no message for 4s, and 1 still to come");

    let receive = bus.tool("receive").args(["-c", "2"]).start_waiting();
    bus.tool("emit").args(["a", "b", "c"]).run(b"").expect_code(0);
    assert_eq!(receive.end().expect_code(0).stdout, b"a\nb\n");
}

#[test]
fn a_closed_pipe_is_a_clean_end_even_while_nothing_comes() {
    let mut receive = Bus::new().tool("receive").start_waiting();
    drop(receive.stdout());
    receive.end().expect_code(0);
}

#[test]
fn without_a_broker_both_say_what_was_tried() {
    for subcommand in ["emit", "receive"] {
        let (first, second) = (nobody(), nobody());
        let ended = Tool::new(subcommand).args(["--url", &first, "-u", &second]).run(b"x\n").expect_code(3);
        let line = ended.said("no connection to a broker");
        assert!(line.contains(&first) && line.contains(&second), "{line}");
    }
}

#[test]
fn a_broker_that_says_no_is_told_apart() {
    let bus = Bus::new();
    let url =
        bus.url.replacen("://", "://nobody:wrong@", 1).replace("nobody:wrong@guest:guest@", "nobody:wrong@");
    let ended = Tool::new("emit").args(["-u", &url, "x"]).run(b"").expect_code(4);
    ended.said("ACCESS_REFUSED");
    let ended = bus.tool("receive").args(["-t", "x-nope"]).run(b"").expect_code(4);
    ended.said("x-nope");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_done() {
    for args in [
        &["receive", "--count", "0"][..],
        &["receive", "--buffer", "0"],
        &["receive", "--tee"],
        &["receive", "--match", "any"],
        &["receive", "-r", "x", "--header", "a=b"],
        &["receive", "-e", ""],
        &["emit", "-u", "http://localhost"],
        &["emit", "--header", "nonsense"],
        &["emit", "--embedded-address", "0.0.0.0:5672"],
    ] {
        Tool::new(args[0]).args(&args[1..]).run(b"").expect_code(2);
    }
}

#[test]
fn the_url_is_taken_from_the_environment_and_may_hold_several() {
    let bus = Bus::new();
    let urls = format!("{},{}", nobody(), bus.url);
    Tool::new("emit").env("AMQP_URL", &urls).args(["-e", &bus.exchange, "x"]).run(b"").expect_code(0);
    Tool::new("emit")
        .env("AMQP_URL", &nobody())
        .args(["--uri", &bus.url, "-e", &bus.exchange, "x"])
        .run(b"")
        .expect_code(0);
}
