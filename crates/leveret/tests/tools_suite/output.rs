//! What is written and where to: files, formats, terminals.

use std::{fs, io::Write};

use rustix::process::Signal;

use crate::{bus::Bus, pty::Pty, straight::wait_for_len, tool::Tool};

#[test]
fn a_file_is_appended_to_and_a_torn_line_is_ended_and_reported() {
    let bus = Bus::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    fs::write(&path, "whole\ntor").expect("writable");

    let receive = bus.tool("receive").args(["-c", "1", "--file"]).arg(&path).start_waiting();
    bus.tool("emit").arg("next").run(b"").expect_code(0);
    receive.end().expect_code(0).said("did not end with a line feed");
    assert_eq!(fs::read_to_string(&path).expect("there"), "whole\ntor\nnext\n");

    let receive = bus.tool("receive").args(["-c", "1", "--file"]).arg(&path).start_waiting();
    bus.tool("emit").arg("more").run(b"").expect_code(0);
    let ended = receive.end().expect_code(0);
    assert!(!ended.stderr.iter().any(|line| line.contains("line feed")), "nothing to report");
    assert_eq!(ended.stdout, b"", "the file is instead of stdout");
    assert_eq!(fs::read_to_string(&path).expect("there"), "whole\ntor\nnext\nmore\n");
}

#[test]
fn sighup_goes_on_in_a_new_file() {
    let bus = Bus::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (path, rotated) = (directory.path().join("log"), directory.path().join("log.1"));
    let mut receive = bus.tool("receive").arg("--file").arg(&path).start_waiting();
    bus.tool("emit").arg("before").run(b"").expect_code(0);
    wait_for_len(&path, 7);
    fs::rename(&path, &rotated).expect("rotated");
    receive.signal(Signal::HUP);
    receive.wait_for("reopened");
    bus.tool("emit").arg("after").run(b"").expect_code(0);
    wait_for_len(&path, 6);
    receive.interrupt().expect_code(0);
    assert_eq!(fs::read_to_string(&rotated).expect("there"), "before\n");
    assert_eq!(fs::read_to_string(&path).expect("there"), "after\n");
}

#[test]
fn tee_writes_both() {
    let bus = Bus::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let receive = bus.tool("receive").args(["-c", "2", "--tee", "--file"]).arg(&path).start_waiting();
    bus.tool("emit").run(b"a\nb").expect_code(0);
    assert_eq!(receive.end().expect_code(0).stdout, b"a\nb");
    assert_eq!(fs::read(&path).expect("there"), b"a\nb");
}

#[test]
fn a_full_disk_has_a_code_of_its_own() {
    let bus = Bus::new();
    let receive = bus.tool("receive").args(["--file", "/dev/full"]).start_waiting();
    bus.tool("emit").arg("x").run(b"").expect_code(0);
    let ended = receive.end().expect_code(7);
    ended.said("no room left to write to /dev/full");
    ended.said("1 messages were received and not written");

    let missing = bus.tool("receive").args(["--file", "/nowhere/at/all"]).run(b"").expect_code(6);
    missing.said("cannot write to /nowhere/at/all");
}

#[test]
fn a_line_that_finds_no_room_is_not_left_torn() {
    let bus = Bus::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let receive = Tool::with_short_files("receive", 2)
        .args(["-u", &bus.url, "-e", &bus.exchange, "--file"])
        .arg(&path)
        .start_waiting();
    let input: Vec<u8> = (0..100).flat_map(|number| format!("{number:0>99}\n").into_bytes()).collect();
    bus.tool("emit").run(&input).expect_code(0);
    let ended = receive.end().expect_code(7);
    ended.said("octets of a torn line were taken back");
    let written = fs::read(&path).expect("there");
    assert_eq!(written.len() % 100, 0, "whole lines");
    assert!(!written.is_empty() && input.starts_with(&written));
}

#[test]
fn json_holds_the_whole_message() {
    let bus = Bus::new();
    let receive = bus.tool("receive").args(["-o", "json", "-c", "2"]).start_waiting();
    bus.tool("emit")
        .args(["-r", "k", "--header", "host=web1", "--persistent"])
        .run(b"h\xc3\xa9\x1b\n\xff")
        .expect_code(0);
    let stdout = receive.end().expect_code(0).stdout;
    let objects: Vec<serde_json::Value> = stdout
        .split(|octet| *octet == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["body"], "hé\x1b");
    assert_eq!(objects[0]["exchange"], bus.exchange.as_str());
    assert_eq!(objects[0]["routing_key"], "k");
    assert_eq!(objects[0]["properties"]["delivery_mode"], 2);
    assert_eq!(objects[0]["properties"]["headers"]["host"], "web1");
    assert_eq!(objects[1]["body_base64"], "/w==");
    assert_eq!(objects[1]["properties"]["headers"]["x-leveret-no-newline"], true);
}

#[test]
fn raw_adds_nothing() {
    let bus = Bus::new();
    let receive = bus.tool("receive").args(["-o", "raw", "-c", "2"]).start_waiting();
    bus.tool("emit").args(["a", "b"]).run(b"").expect_code(0);
    assert_eq!(receive.end().expect_code(0).stdout, b"ab");
}

#[test]
fn a_terminal_is_safe_and_coloured_and_a_pipe_gets_octets() {
    let bus = Bus::new();
    let mut terminal = Pty::open();
    let on_terminal = bus.tool("receive").stdout(terminal.theirs()).start_waiting();
    let mut plain_terminal = Pty::open();
    let uncoloured = bus.tool("receive").env("NO_COLOR", "1").stdout(plain_terminal.theirs()).start_waiting();
    let piped = bus.tool("receive").args(["-c", "2"]).start_waiting();
    let always = bus.tool("receive").args(["-c", "2", "--color", "always"]).start_waiting();

    bus.tool("emit").run(b"ERROR \x1b]0;title\x07\xff\nEND\n").expect_code(0);
    let screen = terminal.read_until("END");
    assert!(screen.contains("\x1b[31m") && screen.contains("^[") && screen.contains("\\xff"), "{screen:?}");
    assert!(!screen.contains('\x07') && !screen.contains("\x1b]"), "{screen:?}");
    assert_eq!(plain_terminal.read_until("END").trim_end(), "ERROR ^[]0;title^G\\xff\r\nEND");
    assert_eq!(piped.end().expect_code(0).stdout, b"ERROR \x1b]0;title\x07\xff\nEND\n");
    assert_eq!(always.end().expect_code(0).stdout, b"\x1b[31mERROR \x1b]0;title\x07\xff\x1b[0m\nEND\n");
    on_terminal.interrupt().expect_code(0);
    uncoloured.interrupt().expect_code(0);
}

#[test]
fn emit_shows_its_progress_on_a_terminal_only() {
    let bus = Bus::new();
    let mut terminal = Pty::open();
    let mut emit = bus.tool("emit").stdin(std::process::Stdio::piped()).stderr(terminal.theirs()).start();
    let mut stdin = emit.stdin();
    stdin.write_all(b"one\ntwo\n").expect("it reads");
    terminal.read_until("2 lines confirmed");
    drop(stdin);
    terminal.read_until("read 2, confirmed 2");
    emit.end().expect_code(0);
}
