//! A simulated client: speaks AMQP, does what it likes, and knows only what it has read.
//!
//! What it says is appended to [`Client::out`] as octets. It never looks into the broker or the
//! model: its view of queues and deliveries is as late as its network.

mod act;
mod crowd;
mod mistakes;
mod react;
mod settle;
mod topology;

use std::collections::{BTreeMap, BTreeSet};

use leveret_wire::Method;

use crate::{plan::Plan, random::Random};

/// What kind of a client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Does everything now and then.
    Ordinary,
    /// The same, but takes no messages.
    Publisher,
    /// Has hundreds of queues and consumers.
    Hoarder,
    /// Publishes thousands of messages at once.
    Flooder,
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It shakes hands.
    Greeting,
    /// It may do what it likes.
    Running,
    /// It asked for the end and awaits the confirmation.
    Closing,
    /// It says nothing any more.
    Over,
}

/// How a client shakes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// As it should.
    Good,
    /// It asks for another protocol.
    WrongProtocol,
    /// Its password is wrong.
    WrongPassword,
    /// Its login is not a login.
    Malformed,
    /// It asks for limits beyond those offered.
    WrongLimits,
    /// It asks for a virtual host that does not exist.
    WrongVhost,
    /// It closes before it is done.
    ClosesEarly,
    /// It never says anything.
    Mute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Plain,
    Confirm,
    Transaction,
}

/// What a client knows of a channel of its own.
#[derive(Debug, Default)]
struct Channel {
    mode: Mode,
    /// Deliveries that it read and did not settle.
    unacked: BTreeSet<u64>,
    /// Tags of its consumers, and whether they need no acknowledgements.
    consumers: BTreeMap<Vec<u8>, bool>,
    /// What it asked to be fetched, in order: whether that needs no acknowledgement.
    gets: Vec<bool>,
    /// Whether it declared a queue, so that no name means the last one.
    has_last_queue: bool,
    /// Whether it asked for a limit for the whole channel.
    has_shared_limit: bool,
    closing: bool,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Its number, which is that of its connection.
    pub number: u32,
    /// What it has said since the network last took it.
    pub out: Vec<u8>,
    /// Where it stands.
    pub state: State,
    /// What kind it is.
    pub role: Role,
    /// Whether it stopped reading for a while.
    pub is_deaf: bool,
    /// Whether it takes to stopping at all.
    pub goes_deaf: bool,
    /// Whether its machine is gone without a word: it neither reads nor says anything any more.
    pub is_lost: bool,
    /// Whether it heard that it is blocked.
    pub is_blocked: bool,
    /// Seconds between signs of life that it asks for.
    pub heartbeat_seconds: u16,
    random: Random,
    manners: Manners,
    told_of_cancels: bool,
    told_of_blocks: bool,
    told_of_logins: bool,
    frame_octets_max: u32,
    channels: BTreeMap<u16, Channel>,
    /// Shared queues and exchanges that it declared, by their numbers.
    known_queues: BTreeSet<usize>,
    known_exchanges: BTreeSet<usize>,
    unread: Vec<u8>,
    messages: u32,
    tags: u32,
    acts: u32,
}

impl Client {
    /// A client that has just connected.
    pub fn new(number: u32, role: Role, plan: &Plan, mut random: Random) -> Self {
        let manners = if role == Role::Ordinary && random.percent(6) {
            *random.pick(&[
                Manners::WrongProtocol,
                Manners::WrongPassword,
                Manners::Malformed,
                Manners::WrongLimits,
                Manners::WrongVhost,
                Manners::ClosesEarly,
                Manners::Mute,
            ])
        } else {
            Manners::Good
        };
        let told_of_blocks = random.percent(70);
        let wants_heartbeats = told_of_blocks && random.percent(plan.heartbeat_percent);
        let mut client = Self {
            number,
            out: Vec::new(),
            state: State::Greeting,
            role,
            is_deaf: false,
            goes_deaf: random.percent(plan.deaf_percent),
            is_lost: false,
            is_blocked: false,
            heartbeat_seconds: if wants_heartbeats { 1 + u16::from(random.percent(50)) } else { 0 },
            manners,
            told_of_cancels: random.percent(70),
            told_of_blocks,
            told_of_logins: random.percent(70),
            frame_octets_max: *random.pick(&[4096, 8192, 131_072, 131_072]),
            channels: BTreeMap::new(),
            known_queues: BTreeSet::new(),
            known_exchanges: BTreeSet::new(),
            unread: Vec::new(),
            messages: 0,
            tags: 0,
            acts: 0,
            random,
        };
        client.greet();
        client
    }

    /// A client that does what it is told, and is never cut.
    #[must_use]
    pub fn steady(number: u32, random: Random) -> Self {
        let mut client = Self {
            number,
            out: Vec::new(),
            state: State::Greeting,
            role: Role::Ordinary,
            is_deaf: false,
            goes_deaf: false,
            is_lost: false,
            is_blocked: false,
            heartbeat_seconds: 0,
            manners: Manners::Good,
            told_of_cancels: true,
            told_of_blocks: true,
            told_of_logins: true,
            frame_octets_max: 131_072,
            channels: BTreeMap::new(),
            known_queues: BTreeSet::new(),
            known_exchanges: BTreeSet::new(),
            unread: Vec::new(),
            messages: 0,
            tags: 0,
            acts: 0,
            random,
        };
        client.greet();
        client
    }

    /// Says a method on one of its channels.
    pub fn say<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        method.into().write_frame(channel, &mut self.out);
    }

    /// Gives a sign of life.
    pub fn beat(&mut self) {
        leveret_wire::write_heartbeat(&mut self.out);
    }

    /// Whether it gives signs of life as time passes.
    #[must_use]
    pub const fn beats(&self) -> bool {
        let is_there = !self.is_deaf && !self.is_lost && !matches!(self.state, State::Over);
        self.heartbeat_seconds > 0 && is_there
    }

    /// Asks for the end.
    pub fn close(&mut self) {
        if self.state != State::Running || self.is_lost {
            return;
        }
        self.state = State::Closing;
        self.say(0, leveret_wire::method::connection::Close { reply_code: 200, ..Default::default() });
    }

    /// It dies.
    pub fn die(&mut self) {
        self.state = State::Over;
        self.out.clear();
        self.unread.clear();
    }

    fn open_channel(&mut self) -> Option<u16> {
        let open = self.channels.iter().filter(|(_, channel)| !channel.closing).map(|(number, _)| *number);
        self.random.pick_from(open)
    }

    fn channel_mut(&mut self, number: u16) -> &mut Channel {
        self.channels.get_mut(&number).expect("it only uses channels that it opened")
    }
}
