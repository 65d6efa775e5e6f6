//! What can be typed after `leveret perf`: PerfTest's letters where PerfTest has one.
//!
//! Holds flags and how a value is read; what they amount to together is `plan`'s.
//! Invariant: a value that makes no sense by itself does not get past here.

use std::{num::NonZeroU32, time::Duration};

use leveret_wire::{ShortStr, TableBuf, Value};

use crate::cli::amqp_url::AmqpUrl;

/// Load a broker and measure it: publish and consume as fast as it goes, or at a rate
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct PerfArgs {
    /// Producers
    #[arg(short = 'x', long, value_name = "COUNT", default_value_t = 1)]
    pub(super) producers: u16,

    /// Consumers; 1 unless --fan-out says how many
    #[arg(short = 'y', long, value_name = "COUNT")]
    pub(super) consumers: Option<u32>,

    /// Octets of a message's body; from 16 on messages are checked and timed
    #[arg(short, long, value_name = "OCTETS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(..=128 << 20))]
    pub(super) size: u32,

    /// Messages a consumer may hold unacknowledged (prefetch); 0 is no limit
    #[arg(short, long, value_name = "COUNT", default_value_t = 0)]
    pub(super) qos: u16,

    /// Publisher confirms, at most so many messages unconfirmed
    #[arg(short, long, value_name = "COUNT")]
    pub(super) confirm: Option<NonZeroU32>,

    /// The broker takes deliveries for acknowledged when they are sent
    #[arg(short, long)]
    pub(super) autoack: bool,

    /// Acknowledge this many deliveries at once
    #[arg(short = 'A', long, value_name = "COUNT", default_value = "1", conflicts_with = "autoack")]
    pub(super) multi_ack_every: NonZeroU32,

    /// persistent messages and durable queues; mandatory messages, of which those that no queue takes are
    /// returned
    #[arg(short, long = "flag", value_name = "FLAG", value_enum)]
    pub(super) flags: Vec<Flag>,

    /// Messages a second that each producer sends; latency counts from when a message was due
    #[arg(short, long, value_name = "RATE", value_parser = parse_rate, allow_negative_numbers = true)]
    pub(super) rate: Option<f64>,

    /// How long to run: seconds, or a time such as 500ms or 2m
    #[arg(short = 'z', long, value_name = "TIME", value_parser = parse_time)]
    pub(super) time: Option<Duration>,

    /// Messages that each producer sends
    #[arg(short = 'C', long, value_name = "COUNT")]
    pub(super) pmessages: Option<u64>,

    /// Messages that each consumer takes
    #[arg(short = 'D', long, value_name = "COUNT")]
    pub(super) cmessages: Option<u64>,

    /// A queue that all share; without it each consumer has an exclusive one of its own
    #[arg(short = 'u', long, value_name = "NAME", value_parser = short_string)]
    pub(super) queue: Option<String>,

    /// So many queues, NAME-1 and on (perf-1 without --queue), dealt out to producers and consumers in turn
    #[arg(long, value_name = "COUNT")]
    pub(super) queues: Option<NonZeroU32>,

    /// Arguments of the queues, such as x-max-length=10,x-overflow=reject-publish
    #[arg(long, value_name = "NAME=VALUE,...", value_parser = parse_table)]
    pub(super) queue_args: Option<TableBuf>,

    /// Exchange to publish to; declared. Without it shared queues are published to by their names, and
    /// queues of consumers' own are bound to an exchange of this run
    #[arg(short, long, value_name = "NAME", value_parser = short_string)]
    pub(super) exchange: Option<String>,

    /// Type of the exchange; direct, or fanout with --fan-out
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = short_string)]
    pub(super) kind: Option<String>,

    /// Routing key to bind and publish with; repeatable: queues are bound with all, producers take turns
    #[arg(short = 'k', long = "routing-key", value_name = "KEY", value_parser = short_string)]
    pub(super) routing_keys: Vec<String>,

    /// Take exchange and queues as they are, and bind nothing
    #[arg(short, long)]
    pub(super) predeclared: bool,

    /// Delete the queues of --queue and --queues at the end
    #[arg(long)]
    pub(super) delete: bool,

    /// So many exclusive queues bound to a fanout exchange, with a consumer each
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["consumers", "queue", "queues", "kind", "predeclared"])]
    pub(super) fan_out: Option<NonZeroU32>,

    /// Connections that the producers share, and as many that the consumers share; one each without it
    #[arg(long, value_name = "COUNT")]
    pub(super) connections: Option<NonZeroU32>,

    /// Connections more that do nothing
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(super) idle_connections: u32,

    /// Threads that publish, and as many that consume
    #[arg(long, value_name = "COUNT", default_value = "1")]
    pub(super) threads: NonZeroU32,

    /// The broker's process on this machine, to measure its processor time and memory
    #[arg(long, value_name = "PID")]
    pub(super) broker_pid: Option<u32>,

    /// How long what was published may take to arrive after the end, for the check
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = parse_time)]
    pub(super) drain_timeout: Duration,

    /// The summary's format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,

    /// No rates on stderr while it runs
    #[arg(long)]
    pub(super) quiet: bool,

    /// Broker, amqp://USER:PASSWORD@HOST:PORT/VHOST; -h without a URL is --help
    #[arg(
        short = 'h',
        long = "uri",
        visible_alias = "url",
        value_name = "URL",
        env = "AMQP_URL",
        hide_env_values = true,
        num_args = 0..=1,
        default_missing_value = "",
        value_parser = parse_url
    )]
    pub(super) url: Option<Typed>,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Flag {
    Persistent,
    Mandatory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// What follows `-h`.
#[derive(Clone, Debug)]
pub(super) enum Typed {
    Url(AmqpUrl),
    /// Nothing: PerfTest's users mean the URL by it, everybody else the help.
    Nothing,
}

impl PerfArgs {
    /// Whether it was `-h` alone.
    pub(crate) fn asks_for_help(&self) -> bool {
        let was_typed = std::env::args_os().any(|arg| arg == "-h" || arg == "--uri" || arg == "--url");
        was_typed && matches!(self.url, Some(Typed::Nothing))
    }

    pub(super) fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }
}

fn parse_url(typed: &str) -> Result<Typed, String> {
    if typed.contains(',') {
        return Err("perf measures one broker; give it one URL".to_owned());
    }
    if typed.is_empty() { Ok(Typed::Nothing) } else { typed.parse().map(Typed::Url) }
}

fn parse_rate(typed: &str) -> Result<f64, String> {
    match typed.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a rate is a number above 0".to_owned()),
    }
}

fn parse_time(typed: &str) -> Result<Duration, String> {
    match typed.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(typed).map_err(|error| error.to_string()),
    }
}

fn short_string(typed: &str) -> Result<String, String> {
    match typed.len() {
        0..=ShortStr::OCTETS_MAX => Ok(typed.to_owned()),
        octets => Err(format!("{octets} octets, and AMQP allows {}", ShortStr::OCTETS_MAX)),
    }
}

/// Numbers and truths are sent as such, everything else as text; as PerfTest does.
fn parse_table(typed: &str) -> Result<TableBuf, String> {
    let mut table = TableBuf::new();
    for field in typed.split(',').filter(|field| !field.is_empty()) {
        let (name, value) =
            field.split_once('=').ok_or_else(|| format!("{field} is not of the form NAME=VALUE"))?;
        short_string(name)?;
        match (value.parse::<i64>(), value.parse::<bool>()) {
            (Ok(number), _) => table.push(name, Value::I64(number)),
            (_, Ok(truth)) => table.push(name, Value::Bool(truth)),
            _ => table.push(name, Value::LongStr(value.as_bytes())),
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_arguments_are_typed_by_their_look() {
        let table =
            parse_table("x-max-length=10,x-overflow=drop-head,x-single-active-consumer=true").unwrap();
        let table = table.as_table();
        assert_eq!(table.find("x-max-length"), Some(Value::I64(10)));
        assert_eq!(table.find("x-overflow"), Some(Value::LongStr(b"drop-head")));
        assert_eq!(table.find("x-single-active-consumer"), Some(Value::Bool(true)));
        assert!(parse_table("x-max-length").is_err());
    }

    #[test]
    fn times_and_rates_are_read() {
        assert_eq!(parse_time("3"), Ok(Duration::from_secs(3)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_time("soon").is_err());
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for typed in ["0", "-1", "inf", "many"] {
            assert!(parse_rate(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn several_brokers_are_refused() {
        assert!(parse_url("amqp://a,amqp://b").is_err());
        assert!(matches!(parse_url(""), Ok(Typed::Nothing)));
        assert!(matches!(parse_url("amqp://a"), Ok(Typed::Url(_))));
    }
}
