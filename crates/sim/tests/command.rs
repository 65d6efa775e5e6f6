//! The command as a user runs it: the table, a fault with its replay, flags that make no sense.

#![allow(clippy::disallowed_types, reason = "the command is run from outside, and simulates nothing here")]

use std::process::{Command, Output};

fn leveret_sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret-sim"));
    command.args(arguments).output().expect("the command can be run")
}

fn text(octets: Vec<u8>) -> String {
    String::from_utf8(octets).expect("it prints text")
}

#[test]
fn seeds_without_a_fault_print_the_table() {
    let output = leveret_sim(&["--first", "3", "--seeds", "2", "--steps", "400"]);
    assert!(output.status.success());
    let said = text(output.stdout);
    assert!(said.starts_with("seeds without a fault: 2\n"), "{said}");
    assert!(said.lines().any(|line| line.trim_start().ends_with("  publishes")), "{said}");
}

/// Finds a fault with settings of its own, and runs the command that is printed with it.
#[test]
fn a_fault_prints_the_command_that_shows_it_again() {
    let settings = ["--steps", "3000", "--clients", "5", "--bug", "RequeueToTail"];
    let found = leveret_sim(&[&["--seeds", "50"], &settings[..]].concat());
    assert_eq!(found.status.code(), Some(1));
    let told = text(found.stderr);
    let replay = told.lines().last().expect("it says something");
    let replay =
        replay.strip_prefix("replay: cargo run -p leveret-sim --features planted-bugs -- ").expect(&told);
    for setting in settings.chunks(2) {
        assert!(replay.contains(&setting.join(" ")), "{replay}");
    }
    let again = leveret_sim(&replay.split(' ').collect::<Vec<_>>());
    assert_eq!((again.status.code(), text(again.stderr)), (Some(1), told));
}

#[test]
fn going_on_after_a_fault_names_every_seed_that_shows_one() {
    let output =
        leveret_sim(&["--seeds", "6", "--steps", "1500", "--bug", "RedeliveredNotSet", "--keep-going"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(output.stderr);
    let faults = told.lines().filter(|line| line.starts_with("replay: ")).count();
    let listed = told.lines().last().and_then(|line| line.strip_prefix("seeds with a fault: ")).expect(&told);
    assert!(faults > 1 && listed.split(", ").count() == faults, "{told}");
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for arguments in [
        &["--seed", "1", "--seeds", "5"][..],
        &["--seed", "1", "--first", "5"],
        &["--seed", "x"],
        &["--seeds", "0"],
        &["--steps", "0"],
        &["--clients", "0"],
        &["--bug", "NoSuchBug"],
        &["--story"],
        &["--routing", "--streams"],
        &["--routing", "--steps", "9"],
        &["--fast"],
        &["5"],
    ] {
        let output = leveret_sim(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(output.stderr).starts_with("error: "), "{arguments:?}");
    }
}
