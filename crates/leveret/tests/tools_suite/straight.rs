//! Lines on their straight way: every octet arrives, and the account says so.

use std::process::Stdio;

use crate::{bus::Bus, lines::hard};

#[test]
fn every_octet_reaches_a_file_and_stdout() {
    let bus = Bus::new();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("all.log");
    let to_file = bus.tool("receive").arg("--file").arg(&path).start_waiting();
    let to_stdout = bus.tool("receive").args(["--count", "9"]).start_waiting();
    let input = hard(10_000_000);

    let emit = bus.tool("emit").run(&input).expect_code(0);
    assert_eq!(
        emit.said("leveret emit"),
        "leveret emit: read 9, confirmed 9, returned 0, dropped 0, not confirmed 0; sent again 0"
    );
    let ended = to_stdout.end().expect_code(0);
    assert!(ended.stdout == input, "stdout differs");
    ended.said("9 messages, 0 numbered lines missed, 0 repeated");

    // Both receivers have their copy from the same publish, so what stdout has the file gets without
    // anything more being sent; the order of a signal to end and of the last line is not known, though.
    let both = bus.tool("receive").args(["--count", "1"]).start_waiting();
    bus.tool("emit").arg("end").run(b"").expect_code(0);
    both.end().expect_code(0);
    wait_for_len(&path, input.len() as u64 + "\nend\n".len() as u64);
    to_file.interrupt().expect_code(0);
    let written = std::fs::read(&path).expect("it was written");
    assert!(written == [&input[..], b"\nend\n"].concat(), "the file differs");
}

#[test]
fn arguments_are_messages_and_keep_their_octets() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let bus = Bus::new();
    let receive = bus.tool("receive").args(["--count", "3"]).start_waiting();
    let odd = OsStr::from_bytes(b"\xff\r");
    bus.tool("emit").arg("first").arg(odd).arg("two\nlines").run(b"ignored").expect_code(0);
    assert_eq!(receive.end().expect_code(0).stdout, b"first\n\xff\r\ntwo\nlines\n");
}

#[test]
fn an_empty_input_is_no_message() {
    let emit = Bus::new().tool("emit").run(b"").expect_code(0);
    emit.said("read 0, confirmed 0");
}

#[test]
fn a_paused_reader_of_stdout_does_not_stop_the_bus() {
    let bus = Bus::new();
    let mut paused = bus.tool("receive").args(["--buffer", "20kB", "--prefetch", "10"]).start_waiting();
    let reader = bus.tool("receive").args(["--count", "5000"]).start_waiting();
    let input: Vec<u8> = (0..5000).flat_map(|number| format!("{number:0>200}\n").into_bytes()).collect();

    bus.tool("emit").run(&input).expect_code(0).said("read 5000, confirmed 5000");
    assert!(reader.end().expect_code(0).stdout == input);

    let mut stdout = paused.stdout();
    let drain = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()).expect("a pipe"));
    paused.wait_for("numbered lines missed after message");
    let ended = paused.interrupt().expect_code(0);
    let (messages, missed) = totals(ended.said("leveret receive: "));
    assert!(missed > 0 && messages < 5000, "{messages} and {missed}");
    // The last line is the one that a full queue keeps, so what came and what was missed is all there was,
    // but for what was still on its way when we ended.
    assert!(messages + missed <= 5000, "{messages} and {missed}");
    drain.join().expect("drained");
}

fn totals(line: &str) -> (u64, u64) {
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    (numbers.next().expect("messages"), numbers.next().expect("missed"))
}

#[test]
fn quiet_says_nothing() {
    let bus = Bus::new();
    let emit = bus.tool("emit").args(["--quiet", "x"]).stdin(Stdio::null()).start().end().expect_code(0);
    assert_eq!(emit.stderr, Vec::<String>::new());
}

/// Waits for the file to reach its full length: the file's own end is the event.
pub(crate) fn wait_for_len(path: &std::path::Path, len: u64) {
    let deadline = std::time::Instant::now() + crate::tool::PATIENCE;
    while std::fs::metadata(path).map_or(0, |metadata| metadata.len()) < len {
        assert!(std::time::Instant::now() < deadline, "{} stayed short of {len}", path.display());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
