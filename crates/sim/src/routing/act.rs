//! What clients do, and what is there for them to do it with.
//!
//! Queues belong to exchanges in such a way that each message comes to a queue that may or may not have
//! it at most once. Invariant: exchanges and shared queues come and go only while everything is at rest.

use std::rc::Rc;

use super::{
    command::{ANSWERS, Command, MAIN, Mistake, PROBES, REPLY_TO},
    exchange::{Binding, Declaration, Destination, HashOn, Kind},
    message::{DELAY_MILLIS_MAX, Field, HEADER, Message, NO_STORE},
    office::{Office, own_queue},
};
use crate::random::Random;

/// Exchanges that clients publish to.
pub(super) const EXCHANGES: [&str; 9] =
    ["front", "delay", "delay2", "random", "ring", "modulus", "recent", "rest", "back"];
/// Exchanges behind one way of several, which send everything on.
pub(super) const LEAVES: [&str; 3] = ["leaf.random", "leaf.ring", "leaf.modulus"];
/// Queues of everybody, which have what goes to them for certain.
pub(super) const SHARED: [&str; 3] = ["p0", "p1", "p2"];

const KEYS: [&str; 6] = ["a.b", "a.c", "b", "a", "x.a.b", ""];
const PATTERNS: [&str; 7] = ["a.*", "#", "a.#", "*.b", "b", "#.b", "a.b"];
const WEIGHTS: [&str; 4] = ["1", "1", "2", "5"];
const FILLING_OCTETS_MAX: usize = 3_000;
const HOUR_MILLIS: i64 = 3_600_000;

/// The queues that one exchange's messages are found in, and no other's.
pub(super) fn pool(exchange: &str) -> [String; 4] {
    [0, 1, 2, 3].map(|n| format!("{exchange}.{n}"))
}

/// How an exchange of that name is declared.
pub(super) fn declaration(name: &str, random: &mut Random) -> Declaration {
    let delays = name.starts_with("delay");
    let kind = match name {
        // Now and then the name is an exchange's that delays nothing.
        "delay" => *random.pick(&Kind::ALL),
        "delay2" => *random.pick(&Kind::CERTAIN),
        "random" => Kind::Random,
        "ring" => Kind::Ring,
        "modulus" => Kind::Modulus,
        "recent" => Kind::Recent,
        "back" => Kind::Topic,
        "front" | "rest" => *random.pick(&[Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers]),
        _ => Kind::Fanout,
    };
    let hash_on = match kind {
        Kind::Ring => *random.pick(&[HashOn::Key, HashOn::Header, HashOn::MessageId]),
        _ => HashOn::Key,
    };
    let length = (kind == Kind::Recent && random.percent(80)).then(|| 1 + random.size(30));
    let delays = delays && !random.percent(10);
    Declaration { kind, delays, alternate: alternate(name, random), hash_on, length }
}

fn alternate(name: &str, random: &mut Random) -> Option<String> {
    let alternate = match name {
        "rest" => *random.pick(&["delay2", "nowhere"]),
        "back" => return None,
        "delay2" => *random.pick(&["back", "nowhere"]),
        _ if LEAVES.contains(&name) => return None,
        _ => *random.pick(&["rest", "rest", "nowhere"]),
    };
    random.percent(60).then(|| alternate.to_owned())
}

/// A binding that could be made, of an exchange that is there.
pub(super) fn binding(office: &Office, number: u32, random: &mut Random) -> Option<Binding> {
    let source = (*random.pick(&EXCHANGES)).to_owned();
    let kind = office.model.exchanges.get(&source)?.declaration.kind;
    let destination = destination(&source, kind, number, random);
    if let Destination::Exchange(name) = &destination {
        office.model.exchanges.get(name)?;
    }
    let key = match kind {
        Kind::Ring => *random.pick(&WEIGHTS),
        Kind::Random | Kind::Modulus => *random.pick(&["", "1", "a"]),
        Kind::Direct => *random.pick(&KEYS),
        Kind::Recent if random.percent(50) => "",
        _ => *random.pick(&PATTERNS),
    };
    let number = (kind == Kind::Headers).then(|| i32::try_from(random.below(3)).expect("it is small"));
    Some(Binding { source, destination, key: key.to_owned(), number })
}

fn destination(source: &str, kind: Kind, number: u32, random: &mut Random) -> Destination {
    let onward: &[&str] = match source {
        "front" => &["delay", "ring", "random", "modulus", "recent", "back"],
        "delay" if kind.chooses() => &[],
        "delay" | "recent" => &["back"],
        "delay2" => &["back", "recent"],
        "random" => &["leaf.random"],
        "ring" => &["leaf.ring"],
        "modulus" => &["leaf.modulus"],
        _ => &[],
    };
    if !onward.is_empty() && random.percent(30) {
        return Destination::Exchange((*random.pick(onward)).to_owned());
    }
    Destination::Queue(match kind.chooses() {
        true => random.pick(&pool(source)).clone(),
        false if random.percent(30) => own_queue(number),
        false => (*random.pick(&SHARED)).to_owned(),
    })
}

/// What a client does of itself.
pub(super) fn act(office: &mut Office, number: u32, next_id: &mut u64, random: &mut Random) -> Vec<Command> {
    match random.below(20) {
        0..=8 => publishes(office, next_id, random),
        9 => binding(office, number, random).map(Command::Bind).into_iter().collect(),
        10 => unbind(office, number, random).into_iter().collect(),
        11..=12 => consume_answers(office, number, random),
        13..=15 => ask(office, number, next_id, random).into_iter().collect(),
        16..=18 => answer(office, next_id, random).into_iter().collect(),
        _ => probe(office, number, random).into_iter().collect(),
    }
}

/// A binding that is there goes, but for one to the queue that another client has for itself.
fn unbind(office: &Office, number: u32, random: &mut Random) -> Option<Command> {
    let sources = EXCHANGES.iter().filter_map(|name| office.model.exchanges.get(*name));
    let is_ours = |binding: &&Binding| match &binding.destination {
        Destination::Queue(queue) => !queue.starts_with("own.") || *queue == own_queue(number),
        Destination::Exchange(_) => true,
    };
    let bindings = sources.flat_map(|exchange| &exchange.bindings).filter(is_ours);
    random.pick_from(bindings.cloned()).map(Command::Unbind)
}

/// One message or a burst of them, to one exchange.
fn publishes(office: &Office, next_id: &mut u64, random: &mut Random) -> Vec<Command> {
    let there = EXCHANGES.iter().filter(|name| office.model.exchanges.contains_key(**name));
    let Some(exchange) = random.pick_from(there.copied()) else { return Vec::new() };
    let shares = !office.model.exchanges[exchange].shares().is_empty();
    let count = if shares && random.percent(5) { 100 + random.below(100) } else { 1 + random.size(6) };
    let delay = delay(random);
    let publish = |_| {
        let mut message = message(next_id, exchange, random);
        // Often several have the same delay.
        let delay = if random.percent(80) { delay.clone() } else { self::delay(random) };
        message.headers.extend(delay.map(|delay| ("x-delay", delay)));
        Command::Publish(Rc::new(message))
    };
    (0..count).map(publish).collect()
}

fn message(next_id: &mut u64, exchange: &str, random: &mut Random) -> Message {
    *next_id += 1;
    let mut headers = Vec::new();
    if random.percent(60) {
        headers.push((HEADER, Field::Int(i32::try_from(random.below(300)).expect("it is small") % 100)));
    }
    if random.percent(15) {
        let copies = (0..=random.below(2)).map(|_| (*random.pick(&KEYS)).to_owned());
        headers.push(("CC", Field::Texts(copies.collect())));
    }
    if random.percent(20) {
        headers.push((NO_STORE, Field::Bool(random.percent(80))));
    }
    let key =
        if random.percent(50) { (*random.pick(&KEYS)).to_owned() } else { format!("k{}", random.below(400)) };
    let filling_octets =
        if random.percent(5) { random.size(FILLING_OCTETS_MAX * 10) } else { random.size(40) };
    Message {
        id: *next_id,
        channel: MAIN,
        exchange: exchange.to_owned(),
        key,
        headers,
        message_id: random.percent(50).then(|| format!("m{}", random.below(400))),
        mandatory: random.percent(40),
        asks: None,
        filling_octets,
    }
}

/// A delay: mostly one, often at an edge, and of every kind that clients use.
fn delay(random: &mut Random) -> Option<Field> {
    let millis = i32::try_from(random.between(2, 3_000)).expect("it is small");
    let hours = i64::try_from(random.between(1, 49 * 24)).expect("it is small");
    match random.below(20) {
        0..=3 => None,
        4 => Some(Field::Int(0)),
        5 => Some(Field::Int(-millis)),
        6..=7 => Some(Field::Int(1)),
        8..=12 => Some(Field::Int(millis)),
        13 => Some(Field::Text(millis.to_string())),
        14 => Some(Field::Text("soon".to_owned())),
        15 => Some(Field::Float(f64::from(millis) + 0.9)),
        16 => Some(Field::Bool(true)),
        17 => Some(Field::Long(DELAY_MILLIS_MAX)),
        18 => Some(Field::Long(DELAY_MILLIS_MAX + 1)),
        _ => Some(Field::Long(hours * HOUR_MILLIS)),
    }
}

/// A consumer of answers comes or goes, alone or with its channel.
fn consume_answers(office: &mut Office, number: u32, random: &mut Random) -> Vec<Command> {
    let Some(person) = office.people.get_mut(&number) else { return Vec::new() };
    if person.busy.contains(&ANSWERS) {
        return Vec::new();
    }
    match person.answers_at.clone() {
        None => {
            let tag = person.next_consumer(number);
            person.answers_at = Some(tag.clone());
            vec![Command::ConsumeAnswers(tag)]
        }
        Some(tag) if random.percent(30) => {
            person.answers_at = None;
            vec![Command::CancelAnswers(tag)]
        }
        Some(_) if random.percent(20) => {
            person.answers_at = None;
            vec![Command::Close(ANSWERS), Command::Open(ANSWERS)]
        }
        Some(_) if random.percent(20) => {
            person.answers_at = None;
            person.busy.insert(ANSWERS);
            vec![Command::Mistake(Mistake::SecondConsumer)]
        }
        Some(_) => Vec::new(),
    }
}

/// A question to another client, or through an exchange.
fn ask(office: &Office, number: u32, next_id: &mut u64, random: &mut Random) -> Option<Command> {
    let person = office.people.get(&number)?;
    let asks = person.answers_at.clone().filter(|_| !person.busy.contains(&ANSWERS))?;
    let mut message = message(next_id, "", random);
    message.headers.clear();
    if random.percent(70) {
        message.key = own_queue(*random.pick(&office.people.keys().copied().collect::<Vec<_>>()));
    } else {
        message.exchange = random.pick_from(office.model.exchanges.keys().cloned())?;
        message.headers.extend(delay(random).map(|delay| ("x-delay", delay)));
    }
    Some(Command::Publish(Rc::new(Message { channel: ANSWERS, asks: Some(asks), ..message })))
}

/// An answer to somebody who asked, whether it is still there or not.
fn answer(office: &Office, next_id: &mut u64, random: &mut Random) -> Option<Command> {
    let tokens: Vec<&String> = office.tokens.iter().collect();
    let token = random.pick_from(tokens.iter().copied())?.clone();
    let mut message = message(next_id, "", random);
    message.key = token;
    message.headers.retain(|(name, _)| *name != "CC");
    if random.percent(15) {
        let other = (*random.pick(&tokens)).clone();
        message.headers.push(("CC", Field::Texts(vec![other])));
        message.mandatory = false;
    }
    Some(Command::Publish(Rc::new(message)))
}

/// Something that is refused, or a look whether a name for answers is there.
fn probe(office: &mut Office, number: u32, random: &mut Random) -> Option<Command> {
    let token = random.pick_from(office.tokens.iter().cloned());
    let person = office.people.get_mut(&number)?;
    if !person.busy.insert(PROBES) {
        return None;
    }
    if random.percent(50) {
        let name = token.filter(|_| random.percent(90)).unwrap_or_else(|| REPLY_TO.to_owned());
        return Some(Command::Look(name));
    }
    let mistakes = Mistake::ALL.into_iter().filter(|mistake| mistake.channel() == PROBES);
    let needs_ring = |mistake: &Mistake| matches!(mistake, Mistake::NoWeight | Mistake::WeightZero);
    let has_ring = office.model.exchanges.contains_key("ring");
    random.pick_from(mistakes.filter(|mistake| has_ring || !needs_ring(mistake))).map(Command::Mistake)
}
