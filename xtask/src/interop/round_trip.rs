//! A log through `leveret emit`, a broker and three receivers at once.
//!
//! Holds who takes part and what must come out; the lines are made in `corpus`.
//! Invariant: where a line can follow the log, receivers stop only after a last line that is sent when all
//! others were confirmed, so that a line too many is noticed as surely as one too few.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::account::Account;
use super::clients::{self, Language};
use super::compare::same_octets;
use super::corpus::{self, Corpus};
use super::lab::Scene;
use super::process::{Input, Output, Process};
use super::{Against, Case, bus};

const TRANSFER_TIME_MAX: Duration = Duration::from_secs(120);
const LAST_LINE: &str = "this is the last line";

const SHORT_LOG_LINES: u64 = 100_000;
const LONG_LOG_LINES: u64 = 500_000;

pub(super) fn cases(against: Against) -> Vec<Case> {
    let real_log =
        |lines| move |scene: &Scene| round_trip(scene, &corpus::real_log(&scene.folder.join("log"), lines)?);
    let hard_lines = |scene: &Scene| round_trip(scene, &corpus::hard_lines(&scene.folder.join("lines"))?);
    vec![
        Case::new("round-trip/other-programs", against, other_programs),
        Case::new("round-trip/hard-lines", against, hard_lines),
        Case::new("round-trip/real-log", against, real_log(SHORT_LOG_LINES)),
        Case::new("round-trip/longer-real-log", against, real_log(LONG_LOG_LINES)).only_in_the_long_set(),
    ]
}

/// Any other program can take either end: those of the publish/subscribe tutorial do.
fn other_programs(scene: &Scene) -> Result<()> {
    scene.run(scene.client(Language::Python, "reset")?)?;
    let url = scene.url()?;
    let emit = |messages: &[&str]| -> Result<Process> {
        let mut emit = scene.spawn(scene.leveret("emit")?.args(["emit", "--url", &url]).args(messages))?;
        emit.succeed(TRANSFER_TIME_MAX)?;
        Account::of(&emit)?.must_be_all_confirmed(messages.len() as u64)?;
        Ok(emit)
    };
    let first = emit(&["nobody hears this, but it makes the exchange"])?;
    ensure!(first.stderr.all().len() == 1, "emit says more than its account{}", first.last_words());

    let ours = scene.leveret("receive")?.args(["receive", "--url", &url, "--count", "4"]);
    let mut ours = bus::receiving(scene, ours)?;
    let subscriber = |language| scene.consumer(scene.client(language, "receive_logs")?);
    let mut others = [subscriber(Language::Python)?, subscriber(Language::JavaScript)?];
    emit(&["from emit", "Grüße, 世界"])?;
    for (language, message) in [(Language::Python, "from python"), (Language::JavaScript, "from javascript")]
    {
        scene.run(scene.client(language, "emit_log")?.args([message]))?;
    }

    let expected = ["from emit", "Grüße, 世界", "from python", "from javascript"];
    ours.succeed(TRANSFER_TIME_MAX)?;
    ensure!(ours.stdout.all() == expected, "receive has {:?}", ours.stdout.all());
    others.iter_mut().try_for_each(|other| clients::expect(other, &expected))
}

fn round_trip(scene: &Scene, corpus: &Corpus) -> Result<()> {
    let mut expected = fs::read(&corpus.path).context("the log that was sent is gone")?;
    // What follows a line without a line feed begins a new line, so there the log must be the last.
    let has_last_line = expected.ends_with(b"\n");
    let count = (corpus.lines + u64::from(has_last_line)).to_string();
    let mut receivers =
        [ours_to_a_file(scene, &count)?, ours_on_stdout(scene, &count)?, pika(scene, &count)?];
    emit_all(scene, corpus)?.must_be_all_confirmed(corpus.lines)?;
    if has_last_line {
        scene.run(scene.leveret("emit-last-line")?.args(["emit", "--url", &scene.url()?, LAST_LINE]))?;
        expected.extend_from_slice(format!("{LAST_LINE}\n").as_bytes());
    }
    for receiver in &mut receivers {
        receiver.process.succeed(TRANSFER_TIME_MAX)?;
        same_octets(receiver.process.name(), &receiver.file, &expected)?;
    }
    println!("       {} lines, {} octets, three receivers", corpus.lines, corpus.octets);
    Ok(())
}

fn emit_all(scene: &Scene, corpus: &Corpus) -> Result<Account> {
    let emit = scene.leveret("emit")?.args(["emit", "--url", &scene.url()?]);
    let mut emit = scene.spawn(emit.input(Input::File(corpus.path.clone())))?;
    emit.succeed(TRANSFER_TIME_MAX)?;
    Account::of(&emit)
}

/// A receiver and the file that holds what it received.
struct Receiver {
    process: Process,
    file: PathBuf,
}

fn ours_to_a_file(scene: &Scene, count: &str) -> Result<Receiver> {
    let file = scene.folder.join("received-to-file");
    let receive = scene.leveret("receive-to-file")?;
    let receive = receive.args(["receive", "--url", &scene.url()?, "--count", count, "--file"]).args([&file]);
    Ok(Receiver { process: bus::receiving(scene, receive)?, file })
}

fn ours_on_stdout(scene: &Scene, count: &str) -> Result<Receiver> {
    let file = scene.folder.join("received-on-stdout");
    let receive = scene.leveret("receive-on-stdout")?.output(Output::File(file.clone()));
    let receive = receive.args(["receive", "--url", &scene.url()?, "--count", count]);
    Ok(Receiver { process: bus::receiving(scene, receive)?, file })
}

fn pika(scene: &Scene, count: &str) -> Result<Receiver> {
    let file = scene.folder.join("received-by-pika");
    let record = scene.client(Language::Python, "record_logs")?.args([&file]).args([count]);
    Ok(Receiver { process: scene.consumer(record)?, file })
}
