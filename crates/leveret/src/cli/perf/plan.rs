//! What a run is to do: which exchange and queues, who publishes where, who consumes from what.
//!
//! Made from the arguments before anything is connected, so that what cannot work is said at once.
//! Invariant: each producer has a number below `producers`, and each consumer a queue.

use std::time::Duration;

use leveret_wire::TableBuf;

use super::{
    args::{Flag, PerfArgs, Typed},
    batch::Message,
    handshake::Login,
    stamp::STAMP_OCTETS,
};
use crate::cli::{Failure, amqp_url::AmqpUrl};

const DEFAULT_URL: &str = "amqp://127.0.0.1:5672";
const DEFAULT_PREFIX: &str = "perf";
/// Key of a run's own exchange.
const DEFAULT_KEY: &str = "perf";

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) url: AmqpUrl,
    pub(super) login: Login,
    /// Tells this run's messages from those of others.
    pub(super) run: u32,
    pub(super) exchange: Option<Exchange>,
    /// The queues that are shared; none where each consumer has one of its own.
    pub(super) queues: Queues,
    pub(super) producing: Producing,
    pub(super) consuming: Consuming,
    pub(super) connections: Option<usize>,
    pub(super) idle_connections: usize,
    pub(super) threads: usize,
    pub(super) time: Option<Duration>,
    pub(super) drain_time_max: Duration,
    pub(super) deletes_queues: bool,
    pub(super) broker_pid: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) is_predeclared: bool,
    pub(super) auto_delete: bool,
}

/// Queues and how they are bound.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    pub(super) names: Vec<String>,
    pub(super) is_predeclared: bool,
    pub(super) durable: bool,
    pub(super) arguments: TableBuf,
    /// The exchange that they are bound to, if to any.
    pub(super) exchange: Option<String>,
    /// The keys that all are bound with; where there are none, each is bound with its name.
    pub(super) keys: Vec<String>,
}

impl Queues {
    /// Queue, exchange and key of every binding.
    pub(super) fn bindings(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let exchange = self.exchange.as_deref().filter(|_| !self.is_predeclared);
        exchange.into_iter().flat_map(move |exchange| {
            self.names
                .iter()
                .flat_map(move |name| self.keys_of(name).map(move |key| (name.as_str(), exchange, key)))
        })
    }

    fn keys_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let by_name = self.keys.is_empty().then_some(name);
        self.keys.iter().map(String::as_str).chain(by_name)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Producing {
    pub(super) producers: u16,
    /// Where producers publish, taken in turn.
    pub(super) messages: Vec<Message>,
    pub(super) unconfirmed_max: Option<u64>,
    pub(super) rate: Option<f64>,
    /// Messages of each.
    pub(super) limit: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Consuming {
    pub(super) consumers: usize,
    pub(super) prefetch: u16,
    pub(super) auto_ack: bool,
    pub(super) ack_every: u64,
    /// Messages of each.
    pub(super) limit: Option<u64>,
    /// Deliveries that a message makes when all goes well.
    pub(super) copies: u64,
}

impl Plan {
    pub(super) fn new(args: &PerfArgs, run: u32) -> Result<Self, Failure> {
        let url = url_of(args)?;
        let shared = shared_queues(args);
        let consumers = args.fan_out.map_or(args.consumers.unwrap_or(1), std::num::NonZeroU32::get) as usize;
        refuse_nonsense(args, consumers, shared.is_empty())?;
        let exchange = exchange_of(args, run, shared.is_empty());
        let queues = Queues {
            is_predeclared: args.predeclared,
            durable: args.has(Flag::Persistent),
            arguments: args.queue_args.clone().unwrap_or_default(),
            exchange: exchange.as_ref().map(|exchange| exchange.name.clone()),
            keys: keys_of(args, shared.is_empty()),
            names: shared,
        };
        let copies = copies(args, &queues, exchange.as_ref(), consumers);
        Ok(Self {
            login: login_of(&url),
            url,
            run,
            producing: producing(args, &queues),
            consuming: Consuming {
                consumers,
                prefetch: args.qos,
                auto_ack: args.autoack,
                ack_every: args.multi_ack_every.get().into(),
                limit: args.cmessages,
                copies,
            },
            exchange,
            queues,
            connections: args.connections.map(|count| count.get() as usize),
            idle_connections: args.idle_connections as usize,
            threads: args.threads.get() as usize,
            time: args.time,
            drain_time_max: args.drain_timeout,
            deletes_queues: args.delete,
            broker_pid: args.broker_pid,
        })
    }

    /// Whether messages have room for a stamp, and so can be checked and timed.
    pub(super) fn is_stamped(&self) -> bool {
        self.producing.messages.first().is_some_and(|message| message.body_octets >= STAMP_OCTETS)
    }

    /// Whether each consumer has an exclusive queue of its own.
    pub(super) fn has_own_queues(&self) -> bool {
        self.queues.names.is_empty()
    }

    /// The queue of a consumer among those that are shared.
    pub(super) fn queue_of(&self, consumer: usize) -> Option<usize> {
        (!self.has_own_queues()).then(|| consumer % self.queues.names.len())
    }

    /// Whether a queue's messages all come to one consumer, and so in order.
    pub(super) fn is_ordered(&self, queue: usize) -> bool {
        self.has_own_queues() || queue + self.queues.names.len() >= self.consuming.consumers
    }
}

fn url_of(args: &PerfArgs) -> Result<AmqpUrl, Failure> {
    match &args.url {
        Some(Typed::Url(url)) => Ok(url.clone()),
        _ => DEFAULT_URL.parse().map_err(Failure::Usage),
    }
}

fn login_of(url: &AmqpUrl) -> Login {
    let uri = url.uri();
    Login {
        user: uri.authority.userinfo.username.clone(),
        password: uri.authority.userinfo.password.clone(),
        virtual_host: uri.vhost.clone(),
        heartbeat_seconds: uri.query.heartbeat,
    }
}

fn shared_queues(args: &PerfArgs) -> Vec<String> {
    match (&args.queue, args.queues) {
        (Some(name), None) => vec![name.clone()],
        (None, None) => Vec::new(),
        (prefix, Some(count)) => {
            let prefix = prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
            (1..=count.get()).map(|number| format!("{prefix}-{number}")).collect()
        }
    }
}

fn refuse_nonsense(args: &PerfArgs, consumers: usize, own_queues: bool) -> Result<(), Failure> {
    let refuse = |text: &str| Err(Failure::Usage(text.to_owned()));
    if args.producers > 0 && consumers == 0 && own_queues && args.exchange.is_none() {
        return refuse("without consumers nothing would keep the messages: name a queue with --queue");
    }
    if args.producers == 0 && consumers > 0 && own_queues && args.exchange.is_none() {
        return refuse("without producers there is nothing to consume: name a queue with --queue");
    }
    if args.queue.as_deref() == Some("") && args.queues.is_none() {
        return refuse("a queue that is shared needs a name");
    }
    if args.delete && own_queues {
        return refuse(
            "--delete is for the queues of --queue and --queues; those of consumers go by themselves",
        );
    }
    if args.cmessages.is_some() && consumers == 0 {
        return refuse("--cmessages needs consumers");
    }
    for (count, flag) in [(args.pmessages, "--pmessages"), (args.confirm.map(|_| 0), "--confirm")] {
        if count.is_some() && args.producers == 0 {
            return Err(Failure::Usage(format!("{flag} needs producers")));
        }
    }
    if args.rate.is_some() && args.producers == 0 {
        return refuse("--rate needs producers");
    }
    Ok(())
}

fn exchange_of(args: &PerfArgs, run: u32, own_queues: bool) -> Option<Exchange> {
    // The exchanges that every broker has are named by their type.
    let named = args.exchange.as_deref().and_then(|name| name.strip_prefix("amq."));
    let default_kind = named.unwrap_or(if args.fan_out.is_some() { "fanout" } else { "direct" });
    let kind = args.kind.clone().unwrap_or_else(|| default_kind.to_owned());
    match &args.exchange {
        Some(name) if name.is_empty() && !own_queues => None,
        Some(name) => {
            let is_predeclared = args.predeclared || name.starts_with("amq.");
            Some(Exchange { name: name.clone(), kind, is_predeclared, auto_delete: false })
        }
        None if own_queues || args.kind.is_some() => {
            let name = format!("leveret-perf-{run:08x}");
            Some(Exchange { name, kind, is_predeclared: false, auto_delete: true })
        }
        None => None,
    }
}

fn keys_of(args: &PerfArgs, own_queues: bool) -> Vec<String> {
    match args.routing_keys.is_empty() && own_queues {
        true => vec![DEFAULT_KEY.to_owned()],
        false => args.routing_keys.clone(),
    }
}

/// How many queues a message comes to, where all producers publish with a key that all queues are bound with.
fn copies(args: &PerfArgs, queues: &Queues, exchange: Option<&Exchange>, consumers: usize) -> u64 {
    let everybody = if queues.names.is_empty() { consumers } else { queues.names.len() };
    let by_name = queues.keys.is_empty() && exchange.is_none_or(|exchange| exchange.kind != "fanout");
    let one = exchange.is_none() || by_name || args.predeclared;
    if one { 1 } else { everybody as u64 }
}

fn producing(args: &PerfArgs, queues: &Queues) -> Producing {
    let message = |key: &String| Message {
        exchange: queues.exchange.clone().unwrap_or_default(),
        routing_key: key.clone(),
        body_octets: args.size as usize,
        persistent: args.has(Flag::Persistent),
        mandatory: args.has(Flag::Mandatory),
    };
    // The default exchange knows queues by their names only.
    let by_name = queues.keys.is_empty() || queues.exchange.is_none();
    let keys = if by_name && !queues.names.is_empty() { &queues.names } else { &queues.keys };
    Producing {
        producers: args.producers,
        messages: keys.iter().map(message).collect(),
        unconfirmed_max: args.confirm.map(|count| count.get().into()),
        rate: args.rate,
        limit: args.pmessages,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: PerfArgs,
    }

    fn plan(flags: &str) -> Result<Plan, Failure> {
        let typed = std::iter::once("perf").chain(flags.split_whitespace());
        Plan::new(&Command::try_parse_from(typed).expect(flags).args, 0xabc)
    }

    /// Exchange and key that producers use, what is bound, and the deliveries of a message.
    fn check(flags: &str, publish: &[(&str, &str)], bound: &[(&str, &str, &str)], copies: u64) {
        let plan = plan(flags).expect(flags);
        let messages = plan.producing.messages.iter();
        let found: Vec<_> = messages.map(|to| (to.exchange.as_str(), to.routing_key.as_str())).collect();
        assert_eq!(found, publish, "{flags}");
        assert_eq!(plan.queues.bindings().collect::<Vec<_>>(), bound, "{flags}");
        assert_eq!(plan.consuming.copies, copies, "{flags}");
    }

    #[test]
    fn messages_go_where_the_flags_say() {
        check("", &[("leveret-perf-00000abc", "perf")], &[], 1);
        check("-y 3", &[("leveret-perf-00000abc", "perf")], &[], 3);
        check("-u q", &[("", "q")], &[], 1);
        check("--queues 2 -u q", &[("", "q-1"), ("", "q-2")], &[], 1);
        check("--queues 2", &[("", "perf-1"), ("", "perf-2")], &[], 1);
        check("-u q -e x", &[("x", "q")], &[("q", "x", "q")], 1);
        check("-u q -e x -k a -k b", &[("x", "a"), ("x", "b")], &[("q", "x", "a"), ("q", "x", "b")], 1);
        check("-u q -e x -p -k a", &[("x", "a")], &[], 1);
        let two = [("q-1", "x", "q-1"), ("q-2", "x", "q-2")];
        check("-u q --queues 2 -e x", &[("x", "q-1"), ("x", "q-2")], &two, 1);
        check("-u q --queues 2 -e x -t fanout", &[("x", "q-1"), ("x", "q-2")], &two, 2);
        let two = [("q-1", "amq.fanout", "q-1"), ("q-2", "amq.fanout", "q-2")];
        check("-u q --queues 2 -e amq.fanout", &[("amq.fanout", "q-1"), ("amq.fanout", "q-2")], &two, 2);
        check("--fan-out 10", &[("leveret-perf-00000abc", "perf")], &[], 10);
        check("--fan-out 10 -e x -k a", &[("x", "a")], &[], 10);
    }

    #[test]
    fn a_fan_out_has_a_consumer_for_each_queue_and_is_fanout() {
        let plan = plan("--fan-out 10").expect("a plan");
        assert_eq!((plan.consuming.consumers, plan.has_own_queues()), (10, true));
        assert_eq!(plan.exchange.map(|exchange| exchange.kind), Some("fanout".to_owned()));
    }

    #[test]
    fn a_queue_with_one_consumer_is_ordered() {
        let plan = plan("--queues 3 -y 4").expect("a plan");
        assert_eq!([0, 1, 2].map(|queue| plan.is_ordered(queue)), [false, true, true]);
        assert_eq!(
            [0, 1, 2, 3].map(|consumer| plan.queue_of(consumer)),
            [Some(0), Some(1), Some(2), Some(0)]
        );
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for flags in ["-y 0", "-x 0", "--delete", "-x 0 -u q -C 1", "-x 0 -u q -r 5", "-y 0 -u q -D 1"] {
            assert!(matches!(plan(flags), Err(Failure::Usage(_))), "{flags}");
        }
    }
}
