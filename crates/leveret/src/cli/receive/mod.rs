//! `leveret receive`: every message that the exchange sends us, to stdout, to a file, or to both.
//!
//! Holds the arguments and puts the parts together: `session` receives on a connection, `desk` hands
//! messages to the `writer` and counts them in a `tally`, `receiver` decides what follows when a
//! connection is lost. Invariant: a paused screen or a slow disk stops the writing and never the bus.

mod desk;
mod gap;
mod json;
mod message;
mod receiver;
mod render;
mod session;
mod severity;
mod sink;
mod tally;
mod tracker;
mod watch;
mod writer;

use std::{io::IsTerminal, path::PathBuf, rc::Rc, time::Duration};

use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    desk::{Desk, Limits},
    receiver::Receiver,
    render::{Format, Renderer},
    session::Subscription,
    sink::LogFile,
    tally::Tally,
    watch::StdoutWatch,
    writer::{Outputs, Writer},
};
use super::{
    Failure,
    broker_args::{BrokerArgs, ExchangeArgs},
    headers::{self, Header, short_string},
    runtime,
    sizes::QueueBytes,
    status::Status,
    stop::Stop,
};

/// Print or file everything that is sent over the log bus
///
/// Data goes to stdout, everything about it to stderr. Each receiver has a queue of its own and sees all
/// messages from the time it joins.
#[derive(clap::Args)]
pub(crate) struct ReceiveArgs {
    #[command(flatten)]
    broker: BrokerArgs,

    /// Do not host a broker in this process when there is none
    #[arg(long)]
    no_embedded: bool,

    #[command(flatten)]
    exchange: ExchangeArgs,

    /// Routing key, or topic pattern, to receive; may be repeated
    #[arg(short, long = "routing-key", value_name = "KEY", value_parser = short_string, conflicts_with = "headers")]
    routing_keys: Vec<ShortString>,

    /// Header to match on a headers exchange; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<Header>,

    /// Whether all of the headers must match, or any of them
    #[arg(long = "match", value_enum, value_name = "HOW", default_value = "all", requires = "headers")]
    header_match: Match,

    #[command(flatten)]
    output: OutputArgs,

    /// End after this many messages
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End when no message has come for so long
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<humantime::Duration>,

    /// What may wait for us on the broker; beyond it the oldest messages are dropped, and counted as missed
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    buffer: QueueBytes,

    /// Messages that may be on their way to us unacknowledged
    #[arg(long, value_name = "N", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: u16,
}

#[derive(clap::Args)]
struct OutputArgs {
    /// Append to this file instead of writing to stdout; SIGHUP opens it anew
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// Write to stdout as well as to the file
    #[arg(long, requires = "file")]
    tee: bool,

    /// What to write for each message
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value = "text")]
    format: Format,

    /// Whether to colour lines on stdout by their level
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Match {
    All,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

const HINT: &str = "run `leveret serve`, or name a broker with --url";

/// Receives until it is told to end.
pub(crate) fn run(args: ReceiveArgs) -> Result<(), Failure> {
    if args.exchange.exchange.as_str().is_empty() {
        return Err(Failure::Usage(
            "no queue can be bound to the default exchange; name another one".to_owned(),
        ));
    }
    runtime()?.block_on(async {
        let status = Rc::new(Status::start(args.broker.quiet, false));
        receiver(args, status)?.run().await
    })
}

fn receiver(args: ReceiveArgs, status: Rc<Status>) -> Result<Receiver, Failure> {
    let hangup = args.output.file.is_some().then(hangup).transpose()?;
    let stop = Stop::listen(hangup.is_none())?;
    let outputs = outputs(&args.output, &status)?;
    let watch = outputs.stdout.is_some().then(StdoutWatch::start).flatten();
    let unhurried = outputs.stdout.is_none();
    let limits = Limits { count: args.count, idle_timeout: args.idle_timeout.map(Duration::from) };
    let connector = args.broker.connector("leveret receive", !args.no_embedded, &status).hint(HINT);
    let desk =
        Desk::new(status, Tally::new(args.buffer), limits, args.prefetch, Writer::start(outputs), stop);
    Ok(Receiver {
        connector,
        subscription: Subscription {
            exchange: args.exchange.exchange,
            exchange_type: args.exchange.exchange_type,
            routing_keys: args.routing_keys,
            header_match: header_match(&args.headers, args.header_match),
            buffer: args.buffer,
            prefetch: args.prefetch,
        },
        desk: desk.reopen_on(hangup).watch(watch),
        wait_for_broker: args.broker.wait_for_broker,
        unhurried,
    })
}

fn outputs(args: &OutputArgs, status: &Status) -> Result<Outputs, Failure> {
    let mut outputs = Outputs::default();
    if let Some(path) = &args.file {
        let (file, note) = LogFile::open(path, args.format != Format::Raw)?;
        note.into_iter().for_each(|note| status.say(note));
        outputs.file = Some((file, Renderer::new(args.format, false, false)));
    }
    if args.file.is_none() || args.tee {
        let terminal = std::io::stdout().is_terminal();
        let stdout = sink::stdout().map_err(|source| Failure::System { what: "open stdout", source })?;
        outputs.stdout = Some((stdout, Renderer::new(args.format, terminal, args.color.is_on(terminal))));
    }
    Ok(outputs)
}

fn hangup() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(|source| Failure::System { what: "listen for SIGHUP", source })
}

fn header_match(headers: &[Header], how: Match) -> FieldTable {
    let mut table = headers::table(headers);
    if !headers.is_empty() {
        let how = if how == Match::All { "all" } else { "any" };
        table.insert("x-match".into(), AMQPValue::LongString(how.into()));
    }
    table
}

impl Color {
    fn is_on(self, terminal: bool) -> bool {
        let no_color = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && !no_color(),
        }
    }
}
