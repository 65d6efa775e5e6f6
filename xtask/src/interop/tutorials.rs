//! The six tutorials of AMQP, each with every pair of languages for its two ends.
//!
//! Holds what each tutorial must come to; the programs themselves are in `tests/interop`.
//! Invariant: a subscriber is compared on all it received, and the last message of a scene reaches each of
//! them, so that what should not have come is noticed.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::clients::{ARRIVAL_TIME_MAX, Language, expect, received};
use super::lab::Scene;
use super::process::Process;
use super::{Against, Case};

/// A tutorial, and the names of its two programs.
struct Tutorial {
    name: &'static str,
    sender: &'static str,
    receiver: &'static str,
    run: fn(&Stage) -> Result<()>,
}

const TUTORIALS: [Tutorial; 6] = [
    Tutorial { name: "1-hello-world", sender: "send", receiver: "receive", run: hello_world },
    Tutorial { name: "2-work-queues", sender: "new_task", receiver: "worker", run: work_queues },
    Tutorial {
        name: "3-publish-subscribe",
        sender: "emit_log",
        receiver: "receive_logs",
        run: publish_subscribe,
    },
    Tutorial { name: "4-routing", sender: "emit_log_direct", receiver: "receive_logs_direct", run: routing },
    Tutorial { name: "5-topics", sender: "emit_log_topic", receiver: "receive_logs_topic", run: topics },
    Tutorial { name: "6-rpc", sender: "rpc_client", receiver: "rpc_server", run: rpc },
];

const PAIRS: [(Language, Language, &str); 4] = [
    (Language::Python, Language::Python, "python"),
    (Language::JavaScript, Language::JavaScript, "javascript"),
    (Language::Python, Language::JavaScript, "python-to-javascript"),
    (Language::JavaScript, Language::Python, "javascript-to-python"),
];

pub(super) fn cases(against: Against) -> impl Iterator<Item = Case> {
    TUTORIALS.iter().flat_map(move |tutorial| {
        PAIRS.iter().map(move |&(from, to, pair)| {
            let name = format!("tutorials/{}/{pair}", tutorial.name);
            Case::new(name, against, move |scene| {
                scene.run(scene.client(Language::Python, "reset")?)?;
                (tutorial.run)(&Stage { scene, tutorial, from, to })
            })
        })
    })
}

/// One tutorial with the languages of its two ends.
struct Stage<'a> {
    scene: &'a Scene<'a>,
    tutorial: &'static Tutorial,
    from: Language,
    to: Language,
}

impl Stage<'_> {
    /// Runs the sending program with `args` to its end, and gives what it printed.
    fn send(&self, args: &[&str]) -> Result<Vec<String>> {
        self.scene.run(self.scene.client(self.from, self.tutorial.sender)?.args(args))
    }

    /// A running receiver in the receiving language.
    fn receiver(&self, args: &[&str]) -> Result<Process> {
        self.receiver_in(self.to, args)
    }

    fn receiver_in(&self, language: Language, args: &[&str]) -> Result<Process> {
        self.scene.consumer(self.scene.client(language, self.tutorial.receiver)?.args(args))
    }

    /// A worker for which a dot in a task takes this long.
    fn worker(&self, seconds_per_dot: &str) -> Result<Process> {
        let worker = self.scene.client(self.to, self.tutorial.receiver)?;
        self.scene.consumer(worker.env("SECONDS_PER_DOT", seconds_per_dot))
    }

    /// What a look at `queue` gives: `MESSAGES CONSUMERS`, or the broker's refusal.
    fn look_at(&self, queue: &str) -> Result<String> {
        let mut look = self.scene.spawn(self.scene.client(Language::Python, "queue_depth")?.args([queue]))?;
        look.wait(ARRIVAL_TIME_MAX)?;
        Ok(look.stdout.all().pop().unwrap_or_else(|| look.last_words()))
    }

    /// Looks at `queue` until `wanted`, because an ack or a death takes its time to reach the broker.
    fn await_queue(&self, queue: &str, what: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + ARRIVAL_TIME_MAX;
        loop {
            let found = self.look_at(queue)?;
            if wanted(&found) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "queue {queue} is not {what}: {found}");
        }
    }
}

/// The queue that a subscriber named in its ready line.
fn queue_of(subscriber: &Process) -> Result<String> {
    let lines = subscriber.stdout.all();
    match lines.iter().find_map(|line| line.strip_prefix("ready ")) {
        Some(queue) if queue.starts_with("amq.gen-") => Ok(queue.to_owned()),
        other => bail!("{} has the queue {other:?}, not one that the server named", subscriber.name()),
    }
}

fn hello_world(stage: &Stage) -> Result<()> {
    stage.send(&["before anybody receives", ""])?;
    let mut first = stage.receiver(&[])?;
    expect(&mut first, &["before anybody receives", ""])?;
    stage.send(&["Hello World!", "Grüße, 世界"])?;
    expect(&mut first, &["before anybody receives", "", "Hello World!", "Grüße, 世界"])?;
    take_turns(stage, &mut first)
}

/// Two receivers on one queue: each message goes to one of them, in turn.
fn take_turns(stage: &Stage, first: &mut Process) -> Result<()> {
    let had = received(first).len();
    let mut second = stage.receiver_in(stage.from, &[])?;
    stage.send(&["1", "2", "3", "4", "5", "6"])?;
    let is_last = |line: &str| matches!(line, "received 5" | "received 6");
    second.line("its last message", ARRIVAL_TIME_MAX, is_last)?;
    first.line("its last message", ARRIVAL_TIME_MAX, is_last)?;
    let turns = [received(first).split_off(had), received(&second)];
    let odd_and_even = [["1", "3", "5"], ["2", "4", "6"]];
    let fair = turns == odd_and_even || [&turns[1], &turns[0]] == [&odd_and_even[0], &odd_and_even[1]];
    ensure!(fair, "two receivers did not take turns: {turns:?}");
    Ok(())
}

fn work_queues(stage: &Stage) -> Result<()> {
    let mut stuck = stage.worker("3600")?;
    stage.send(&["left by the killed worker."])?;
    let task_came = |line: &str| line == "received left by the killed worker.";
    stuck.line("its task", ARRIVAL_TIME_MAX, task_came)?;

    let mut quick = stage.worker("0")?;
    stage.send(&["a.", "b..", "c"])?;
    quick.line("the end of the last task", ARRIVAL_TIME_MAX, |line| line == "done c")?;
    ensure!(received(&quick) == ["a.", "b..", "c"], "the quick worker received {:?}", received(&quick));
    ensure!(received(&stuck).len() == 1, "a busy worker was given more: {:?}", received(&stuck));

    stuck.kill()?;
    let moved = |line: &str| line == "redelivered left by the killed worker.";
    quick.line("the killed worker's task", ARRIVAL_TIME_MAX, moved)?;
    let done = |line: &str| line == "done left by the killed worker.";
    quick.line("the end of the killed worker's task", ARRIVAL_TIME_MAX, done)?;
    stage.await_queue("task_queue", "empty with one worker", |found| found == "0 1")?;
    ensure!(quick.stdout.all().len() == 9, "a task was done twice: {:?}", quick.stdout.all());
    Ok(())
}

fn publish_subscribe(stage: &Stage) -> Result<()> {
    stage.send(&["to nobody"])?;
    let mut early = [stage.receiver_in(stage.from, &[])?, stage.receiver(&[])?];
    stage.send(&["one", "two", "three"])?;
    let mut late = stage.receiver(&[])?;
    stage.send(&["end"])?;
    for subscriber in &mut early {
        expect(subscriber, &["one", "two", "three", "end"])?;
    }
    expect(&mut late, &["end"])?;
    leaves_no_queue(stage, &mut late)
}

/// A subscriber's queue is its own while it lives, and gone once it was killed.
fn leaves_no_queue(stage: &Stage, subscriber: &mut Process) -> Result<()> {
    let queue = queue_of(subscriber)?;
    let others_may_not = stage.look_at(&queue)?;
    ensure!(others_may_not.contains("405"), "another connection looks at {queue}: {others_may_not}");
    subscriber.kill()?;
    stage.await_queue(&queue, "gone", |found| found.contains("404"))
}

fn routing(stage: &Stage) -> Result<()> {
    let mut errors = stage.receiver(&["error"])?;
    let mut most = stage.receiver_in(stage.from, &["info", "warning", "error"])?;
    stage.send(&["info=1", "error=2", "debug=3", "warning=4", "errors=5", "=6", "error=end"])?;
    expect(&mut errors, &["error=2", "error=end"])?;
    expect(&mut most, &["info=1", "error=2", "warning=4", "error=end"])
}

fn topics(stage: &Stage) -> Result<()> {
    const SENT: [&str; 9] = [
        "kern.critical=1",
        "kern.info=2",
        "cron.critical=3",
        "cron.info=4",
        "kern=5",
        "kern.disk.critical=6",
        "critical=7",
        "=8",
        "kern.critical=end",
    ];
    let mut critical = stage.receiver(&["*.critical"])?;
    let mut kernel = stage.receiver_in(stage.from, &["kern.*"])?;
    let mut both = stage.receiver(&["kern.*", "*.critical"])?;
    let mut everything = stage.receiver_in(stage.from, &["#"])?;
    stage.send(&SENT)?;
    expect(&mut critical, &["kern.critical=1", "cron.critical=3", "kern.critical=end"])?;
    expect(&mut kernel, &["kern.critical=1", "kern.info=2", "kern.critical=end"])?;
    expect(&mut both, &["kern.critical=1", "kern.info=2", "cron.critical=3", "kern.critical=end"])?;
    expect(&mut everything, &SENT)
}

fn rpc(stage: &Stage) -> Result<()> {
    let server = stage.receiver(&[])?;
    let client = |numbers: &[&str]| stage.scene.client(stage.from, "rpc_client").map(|it| it.args(numbers));
    let mut other = stage.scene.spawn(client(&["20", "40", "60"])?)?;
    let answers = stage.send(&["0", "1", "2", "30", "70"])?;
    other.succeed(ARRIVAL_TIME_MAX)?;
    let expected =
        ["answer 0=0", "answer 1=1", "answer 2=1", "answer 30=832040", "answer 70=190392490709135"];
    ensure!(answers == expected, "the answers are {answers:?}");
    let expected = ["answer 20=6765", "answer 40=102334155", "answer 60=1548008755920"];
    ensure!(other.stdout.all() == expected, "the other client's answers are {:?}", other.stdout.all());
    let requests = server.stdout.all().iter().filter(|line| line.starts_with("request ")).count();
    ensure!(requests == 8, "the server was asked {requests} times");
    Ok(())
}
