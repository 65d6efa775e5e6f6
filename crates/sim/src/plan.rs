//! What a run is like, drawn from its seed: how many clients there are, what they like to do,
//! what the shared names stand for, how the network behaves.
//!
//! Runs differ in their likings on purpose: one in which nobody ever acknowledges finds other
//! things than one in which everybody does everything.

use leveret_wire::{TableBuf, Value};

use crate::random::Random;

/// Something that a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Act {
    OpenChannel,
    CloseChannel,
    DeclareQueue,
    DeclareOwnQueue,
    DeclareExchange,
    DeleteQueue,
    DeleteExchange,
    Bind,
    Unbind,
    BindExchange,
    UnbindExchange,
    Purge,
    Publish,
    Burst,
    Get,
    Consume,
    Cancel,
    Settle,
    SettleMany,
    Requeue,
    Recover,
    Qos,
    SelectConfirms,
    SelectTransaction,
    Commit,
    RollBack,
    Upkeep,
    Mistake,
    CloseConnection,
}

const LIKINGS: [(u64, Act); 29] = [
    (12, Act::OpenChannel),
    (2, Act::CloseChannel),
    (12, Act::DeclareQueue),
    (5, Act::DeclareOwnQueue),
    (8, Act::DeclareExchange),
    (2, Act::DeleteQueue),
    (2, Act::DeleteExchange),
    (14, Act::Bind),
    (4, Act::Unbind),
    (4, Act::BindExchange),
    (2, Act::UnbindExchange),
    (2, Act::Purge),
    (40, Act::Publish),
    (10, Act::Burst),
    (14, Act::Get),
    (16, Act::Consume),
    (5, Act::Cancel),
    (24, Act::Settle),
    (14, Act::SettleMany),
    (12, Act::Requeue),
    (2, Act::Recover),
    (6, Act::Qos),
    (6, Act::SelectConfirms),
    (4, Act::SelectTransaction),
    (8, Act::Commit),
    (4, Act::RollBack),
    (3, Act::Upkeep),
    (3, Act::Mistake),
    (1, Act::CloseConnection),
];

/// What a run may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Anything,
    Consumers,
    Transactions,
    Confirms,
    /// The memory alarm comes and goes.
    Memory,
    /// Messages and queues whose time runs out, and dead letters.
    Lives,
    /// Who comes first: messages, consumers, one active consumer.
    Order,
}

impl Focus {
    const ALL: [Self; 11] = [
        Self::Anything,
        Self::Anything,
        Self::Consumers,
        Self::Transactions,
        Self::Confirms,
        Self::Memory,
        Self::Memory,
        Self::Lives,
        Self::Lives,
        Self::Lives,
        Self::Order,
    ];

    /// Whether queues are declared with all that they can be asked.
    const fn is_about_queues(self) -> bool {
        matches!(self, Self::Lives | Self::Order)
    }

    /// How much more of what it has then.
    const fn factors(self) -> &'static [(u64, Act)] {
        match self {
            Self::Anything => &[],
            Self::Consumers => &[(3, Act::Consume), (6, Act::Cancel), (5, Act::Qos), (4, Act::Burst)],
            Self::Transactions => {
                &[(6, Act::SelectTransaction), (3, Act::Commit), (2, Act::RollBack), (2, Act::Settle)]
            }
            Self::Confirms => {
                &[(4, Act::Burst), (6, Act::SelectConfirms), (2, Act::Consume), (3, Act::Requeue)]
            }
            Self::Lives => &[
                (3, Act::Get),
                (4, Act::Requeue),
                (1, Act::Consume),
                (2, Act::Publish),
                (1, Act::Purge),
                (1, Act::Settle),
            ],
            Self::Order => {
                &[(3, Act::Consume), (4, Act::Cancel), (3, Act::Get), (2, Act::Requeue), (2, Act::Publish)]
            }
            Self::Memory => &[(2, Act::Burst), (4, Act::Settle), (2, Act::SettleMany), (2, Act::Consume)],
        }
    }
}

/// How a queue of a shared name is declared.
#[derive(Debug, Clone)]
pub struct QueueShape {
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Limits, lives, order.
    pub arguments: TableBuf,
    /// Whether it is a quorum queue.
    pub is_quorum: bool,
}

/// How an exchange of a shared name is declared.
#[derive(Debug, Clone)]
pub struct ExchangeShape {
    /// The type.
    pub kind: &'static str,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Takes messages from exchanges only.
    pub internal: bool,
    /// The exchange for what it has no destination for, which need not be there.
    pub alternate: Option<&'static str>,
}

/// What a run is like.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Clients that are there at a time.
    pub clients: usize,
    /// Whether some of them have hundreds of queues and consumers, or publish thousands of
    /// messages at once.
    pub floods: bool,
    /// Whether some of them only publish.
    pub has_publishers: bool,
    /// What they like to do.
    pub likings: Vec<(u64, Act)>,
    /// How many of a hundred messages have a life of their own.
    pub expiration_percent: u64,
    /// How many of a hundred deliveries that are refused do not go back to their queue.
    pub refusal_percent: u64,
    /// How many of a hundred messages and consumers have a priority.
    pub priority_percent: u64,
    /// The shared queues, named `q0` and so on.
    pub queues: Vec<QueueShape>,
    /// The shared exchanges, named `x0` and so on.
    pub exchanges: Vec<ExchangeShape>,
    /// The largest body that is usual.
    pub body_octets_max: usize,
    /// Publishers wait above this.
    pub memory_watermark_octets: u64,
    /// Octets that lie between the broker and a client that does not read.
    pub window_octets: usize,
    /// The most that a socket takes or gives at a time.
    pub piece_octets_max: usize,
    /// In so many of a thousand moments that could be, a socket is cut.
    pub cut_permille: u64,
    /// In so many of a thousand moments that could be, a client with heartbeats falls silent.
    pub loss_permille: u64,
    /// How many of a hundred clients want heartbeats.
    pub heartbeat_percent: u64,
    /// How many of a hundred clients stop reading now and then.
    pub deaf_percent: u64,
    /// Prefetches that are asked for.
    pub prefetch_max: u64,
    /// How many of a hundred of them are for whole channels.
    pub shared_prefetch_percent: u64,
    /// How many of a hundred consumers are cancelled as soon as they are started.
    pub regret_percent: u64,
    /// Steps between two moments in which everything comes to rest.
    pub steps_between_rests: usize,
    /// Whether the broker is stopped in the middle of everything.
    pub ends_abruptly: bool,
}

impl Plan {
    /// The plan of a run.
    pub fn new(random: &mut Random, clients: Option<usize>) -> Self {
        let focus = *random.pick(&Focus::ALL);
        let floods = random.percent(14) && !focus.is_about_queues();
        let (memory_watermark_octets, body_octets_max) = memory(random, focus, floods);
        Self {
            clients: clients.unwrap_or_else(|| 2 + random.below(5)),
            floods,
            has_publishers: random.percent(50) || focus == Focus::Memory,
            likings: likings(random, focus),
            expiration_percent: if focus == Focus::Lives {
                *random.pick(&[0, 20, 60])
            } else {
                *random.pick(&[0, 0, 5])
            },
            refusal_percent: if focus == Focus::Lives { *random.pick(&[20, 80]) } else { 20 },
            priority_percent: if focus == Focus::Order { 60 } else { *random.pick(&[0, 10, 30]) },
            queues: queue_shapes(random, focus, floods),
            exchanges: (0..2 + random.below(4)).map(|_| exchange_shape(random)).collect(),
            body_octets_max,
            memory_watermark_octets,
            window_octets: *random.pick(&[200, 5_000, 60_000]),
            piece_octets_max: if floods { 200_000 } else { *random.pick(&[40, 2_000, 200_000]) },
            cut_permille: *random.pick(&[0, 2, 8]),
            loss_permille: *random.pick(&[0, 2, 5]),
            heartbeat_percent: *random.pick(&[0, 50, 100]),
            deaf_percent: *random.pick(&[0, 0, 40]),
            prefetch_max: *random.pick(&[1, 3, 10]),
            shared_prefetch_percent: *random.pick(&[10, 40, 90]),
            regret_percent: *random.pick(&[0, 5, 20]),
            steps_between_rests: *random.pick(&[60, 250, 600]),
            ends_abruptly: random.percent(20),
        }
    }
}

/// The watermark and the largest usual body.
fn memory(random: &mut Random, focus: Focus, floods: bool) -> (u64, usize) {
    if focus == Focus::Memory && !floods {
        return *random.pick(&[(4_000, 1_000), (20_000, 2_000), (20_000, 6_000)]);
    }
    let watermark_octets = *random.pick(&[u64::MAX, u64::MAX, 4_000, 20_000, 100_000]);
    let body_octets_max = *random.pick(&[20, 20, 200, 6_000, 40_000]);
    if focus.is_about_queues() {
        // What one batch buries comes behind it, and it is to be one batch.
        return (*random.pick(&[u64::MAX, u64::MAX, 20_000]), body_octets_max.min(1_000));
    }
    (if floods { u64::MAX } else { watermark_octets }, body_octets_max)
}

fn likings(random: &mut Random, focus: Focus) -> Vec<(u64, Act)> {
    let liking = |(weight, act)| {
        let more = focus.factors().iter().find(|(_, other)| *other == act).map(|(factor, _)| *factor);
        let factor = more.unwrap_or_else(|| *random.pick(&[0, 1, 1, 1, 3]));
        // Whatever a run dislikes, it has to be able to begin.
        let needed = matches!(act, Act::OpenChannel | Act::DeclareQueue | Act::Publish);
        (weight * if needed { factor.max(1) } else { factor }, act)
    };
    LIKINGS.map(liking).to_vec()
}

fn queue_shape(random: &mut Random) -> QueueShape {
    let mut arguments = TableBuf::new();
    if random.percent(35) {
        if random.percent(70) {
            arguments.push("x-max-length", Value::I32(i32::try_from(random.between(1, 6)).unwrap_or(1)));
        } else {
            let octets = i64::try_from(random.between(20, 2_000)).unwrap_or(100);
            arguments.push("x-max-length-bytes", Value::I64(octets));
        }
        if random.percent(50) {
            arguments.push("x-overflow", Value::LongStr(b"reject-publish"));
        }
    }
    QueueShape { durable: random.percent(50), auto_delete: random.percent(20), arguments, is_quorum: false }
}

fn queue_shapes(random: &mut Random, focus: Focus, floods: bool) -> Vec<QueueShape> {
    let count = 2 + random.below(4);
    let shape = |_| {
        let mut shape = queue_shape(random);
        match focus {
            Focus::Lives => {
                add_lives(random, &mut shape, count);
                add_grave(random, &mut shape, count, 75);
                add_type(random, &mut shape, 30);
            }
            Focus::Order => {
                add_order(random, &mut shape);
                add_grave(random, &mut shape, count, 20);
                add_type(random, &mut shape, 15);
            }
            _ if !floods && random.percent(10) => add_order(random, &mut shape),
            _ => {}
        }
        shape
    };
    let mut shapes: Vec<QueueShape> = (0..count).map(shape).collect();
    unchain_limits(&mut shapes);
    shapes
}

/// Of the queues with dead letters one drops messages for its length. Where several do and send each
/// other what they drop, the model loses sight of which message is where.
fn unchain_limits(shapes: &mut [QueueShape]) {
    let drops = |shape: &&mut QueueShape| {
        let arguments = shape.arguments.as_table();
        let is_limited =
            ["x-max-length", "x-max-length-bytes"].iter().any(|name| arguments.find(name).is_some());
        is_limited
            && arguments.find("x-dead-letter-exchange").is_some()
            && arguments.find("x-overflow").is_none()
    };
    for shape in shapes.iter_mut().filter(drops).skip(1) {
        let mut others = TableBuf::new();
        for (name, value) in shape.arguments.as_table().iter() {
            if !name.as_bytes().starts_with(b"x-max-length") {
                others.push_field(name, value);
            }
        }
        shape.arguments = others;
    }
}

/// Times after which messages and the queue go.
fn add_lives(random: &mut Random, shape: &mut QueueShape, count: usize) {
    if random.percent(50) {
        let ttl = *random.pick(&[0, 1, 20, 120, 500, 2_000]);
        shape.arguments.push("x-message-ttl", Value::I32(ttl));
    }
    if count > 2 && random.percent(25) {
        shape.arguments.push("x-expires", Value::I32(*random.pick(&[30, 200, 1_000])));
    }
}

/// Where dead letters go: to a queue by its name, or to an exchange.
fn add_grave(random: &mut Random, shape: &mut QueueShape, count: usize, percent: u64) {
    if !random.percent(percent) {
        return;
    }
    let queue = format!("q{}", random.below(count));
    let (exchange, key) = match random.below(10) {
        0..=5 => ("", Some(&*queue)),
        6 => ("", None),
        7 => ("amq.fanout", None),
        8 => ("amq.direct", Some("a")),
        _ => (*random.pick::<&str>(&["x0", "x1", "amq.topic", "nothing"]), None),
    };
    shape.arguments.push("x-dead-letter-exchange", Value::LongStr(exchange.as_bytes()));
    if let Some(key) = key {
        shape.arguments.push("x-dead-letter-routing-key", Value::LongStr(key.as_bytes()));
    }
    let arguments = shape.arguments.as_table();
    if arguments.find("x-overflow").is_some() && random.percent(60) {
        let others = arguments.iter().filter(|(name, _)| name.as_bytes() != b"x-overflow");
        let mut changed = TableBuf::new().with("x-overflow", Value::LongStr(b"reject-publish-dlx"));
        others.for_each(|(name, value)| changed.push_field(name, value));
        shape.arguments = changed;
    }
}

/// Who comes first.
fn add_order(random: &mut Random, shape: &mut QueueShape) {
    if random.percent(50) {
        shape.arguments.push("x-max-priority", Value::I32(*random.pick(&[1, 3, 9])));
    }
    if random.percent(40) {
        shape.arguments.push("x-single-active-consumer", Value::Bool(true));
    }
}

/// Some queues are quorum queues, which have no priorities and no overflow to a grave.
fn add_type(random: &mut Random, shape: &mut QueueShape, percent: u64) {
    let arguments = shape.arguments.as_table();
    // Nobody may fetch from a quorum queue with one active consumer, so nobody could clear it up.
    let is_odd = arguments.find("x-max-priority").is_some()
        || arguments.find("x-single-active-consumer").is_some()
        || arguments.find("x-overflow") == Some(Value::LongStr(b"reject-publish-dlx"));
    if is_odd || !random.percent(percent) {
        return;
    }
    shape.arguments.push("x-queue-type", Value::LongStr(b"quorum"));
    if random.percent(70) {
        let limit = *random.pick(&[0, 1, 2, 4, -1]);
        shape.arguments.push("x-delivery-limit", Value::I32(limit));
    }
    (shape.is_quorum, shape.durable, shape.auto_delete) = (true, true, false);
}

/// Shared exchanges that may come and go, others, and what leads nowhere.
const ALTERNATES: [&str; 8] = ["x0", "x1", "x2", "x3", "amq.fanout", "amq.headers", "", "nothing"];

fn exchange_shape(random: &mut Random) -> ExchangeShape {
    ExchangeShape {
        kind: random.pick::<&'static str>(&["direct", "fanout", "topic", "headers"]),
        auto_delete: random.percent(30),
        internal: random.percent(10),
        alternate: random.percent(40).then(|| *random.pick::<&'static str>(&ALTERNATES)),
    }
}
