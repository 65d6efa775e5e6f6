//! `leveret emit`: each argument, or each line of stdin, becomes one message.
//!
//! Holds the arguments and puts the parts together: `input` reads lines, `work` keeps them in hand,
//! `session` sends them on a connection, `publisher` decides what follows when one is lost.
//! Invariant: the exit code is 0 only if the broker has confirmed every line that was read.

mod account;
mod blockage;
mod flights;
mod input;
mod lines;
mod outbox;
mod progress;
mod publisher;
mod session;
mod verdict;
mod work;

use std::{ffi::OsString, io::IsTerminal, rc::Rc, sync::Arc, time::Duration, time::SystemTime};

use lapin::types::ShortString;

use self::{
    input::Input,
    publisher::Publisher,
    session::Target,
    verdict::Judge,
    work::{OnBlocked, Work},
};
use super::{
    Failure,
    broker_args::{BrokerArgs, ExchangeArgs},
    headers::{self, Header, short_string},
    runtime,
    stamp::Source,
    status::Status,
    stop::Stop,
};

/// Publish lines to the log bus
///
/// Each MESSAGE, or each line of stdin when there is none, is one message. Octets are kept as they are; the
/// line feed at a line's end is not part of its message.
#[derive(clap::Args)]
pub(crate) struct EmitArgs {
    /// Messages to send instead of the lines of stdin
    #[arg(value_name = "MESSAGE")]
    messages: Vec<OsString>,

    #[command(flatten)]
    broker: BrokerArgs,

    /// Host a broker in this process when there is none, and wait for a receiver before sending
    ///
    /// It is hosted until all lines are sent and every receiver has taken them, or has gone.
    #[arg(long)]
    embedded: bool,

    #[command(flatten)]
    exchange: ExchangeArgs,

    /// Routing key of the messages
    #[arg(short, long, value_name = "KEY", default_value = "", value_parser = short_string)]
    routing_key: ShortString,

    /// Header to put on the messages; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<Header>,

    /// Ask durable queues to keep the messages on disk
    #[arg(long)]
    persistent: bool,

    /// Have messages that no queue wants returned and counted
    #[arg(long)]
    mandatory: bool,

    /// What to do with lines while the broker takes none
    #[arg(long, value_enum, default_value = "wait")]
    on_blocked: OnBlocked,

    /// Give up when nothing was confirmed for so long
    #[arg(long, value_name = "TIME")]
    give_up_after: Option<humantime::Duration>,
}

const HINT: &str = "run `leveret receive` or `leveret serve` first, name a broker with --url, or let emit host \
                    one with --embedded";

/// Sends everything and tells the account.
pub(crate) fn run(args: EmitArgs) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let status = Rc::new(Status::start(args.broker.quiet, true));
        publisher(args, status)?.run().await
    })
}

fn publisher(args: EmitArgs, status: Rc<Status>) -> Result<Publisher, Failure> {
    if args.embedded && args.broker.names_a_broker() {
        return Err(Failure::Usage("--embedded hosts a broker only where no URL names one".to_owned()));
    }
    let intake = match args.messages.is_empty() {
        true => stdin(&status)?,
        false => input::arguments(args.messages),
    };
    let work = Work::new(intake, Rc::clone(&status), Stop::listen(true)?, args.on_blocked)
        .give_up_after(args.give_up_after.map(Duration::from));
    let random = getrandom::u32()
        .map_err(|error| Failure::System { what: "get randomness", source: std::io::Error::other(error) })?;
    Ok(Publisher {
        connector: args.broker.connector("leveret emit", args.embedded, &status).hint(HINT),
        target: Arc::new(Target {
            exchange: args.exchange.exchange,
            exchange_type: args.exchange.exchange_type,
            routing_key: args.routing_key,
            headers: headers::table(&args.headers),
            persistent: args.persistent,
            mandatory: args.mandatory,
            source: Source::new(SystemTime::now(), random),
        }),
        work,
        status,
        wait_for_broker: args.broker.wait_for_broker,
        judge: Judge::default(),
        connected_before: false,
        waited_for_receiver: false,
    })
}

fn stdin(status: &Status) -> Result<Input, Failure> {
    if std::io::stdin().is_terminal() {
        status.say(" [*] Each line you type is a message. To end press CTRL+D");
    }
    input::stdin().map_err(|source| Failure::System { what: "read stdin", source })
}
