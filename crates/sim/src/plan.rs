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
}

impl Focus {
    const ALL: [Self; 7] = [
        Self::Anything,
        Self::Anything,
        Self::Consumers,
        Self::Transactions,
        Self::Confirms,
        Self::Memory,
        Self::Memory,
    ];

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
    /// Limits.
    pub arguments: TableBuf,
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
        let floods = random.percent(14);
        let focus = *random.pick(&Focus::ALL);
        let (memory_watermark_octets, body_octets_max) = memory(random, focus, floods);
        Self {
            clients: clients.unwrap_or_else(|| 2 + random.below(5)),
            floods,
            has_publishers: random.percent(50) || focus == Focus::Memory,
            likings: likings(random, focus),
            queues: (0..2 + random.below(4)).map(|_| queue_shape(random)).collect(),
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
    QueueShape { durable: random.percent(50), auto_delete: random.percent(20), arguments }
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
