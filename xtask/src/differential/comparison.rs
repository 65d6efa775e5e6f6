//! Whether two brokers said the same in one step.
//!
//! Knows which orders the protocol promises: those of replies on a channel, of deliveries to a
//! consumer, of returns and confirms on a channel. Across these nothing is compared.
//! Invariant: what one broker said and the other did not is a difference, if no
//! [`Allowed`](super::allowed::Allowed) one fits it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{
    allowed::{self, Pair},
    event::Event,
};

/// Words of a text that tell one difference from another.
const SHAPE_WORDS_MAX: usize = 24;

/// A channel of one of the script's connections.
pub(super) type Channel = (usize, u16);

/// What one broker said in a step, in the order in which it came on each connection.
pub(super) type Heard = Vec<(Channel, Event)>;

/// Within one of these the order counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Replies,
    /// Returns and confirms.
    Publisher,
    Consumer(String),
}

impl Lane {
    fn of(event: &Event) -> Self {
        match event.name {
            "BasicDeliver" | "BasicCancel" => Self::Consumer(event.field("consumer").to_owned()),
            "BasicReturn" | "BasicAck" | "BasicNack" => Self::Publisher,
            _ => Self::Replies,
        }
    }
}

/// The first place where two brokers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) channel: Channel,
    pub(super) lane: Lane,
    pub(super) ours: Option<Event>,
    pub(super) theirs: Option<Event>,
}

impl Difference {
    /// What makes it the same difference as that of another script.
    pub(super) fn signature(&self, operation: &str) -> String {
        let outcome = |event: &Option<Event>| {
            let event = event.as_ref();
            event.map_or("nothing".to_owned(), |event| format!("{}{}", event.outcome(), shape(event)))
        };
        let fields = self.fields_that_differ().join(",");
        format!("{operation}: ours {} / theirs {} [{fields}]", outcome(&self.ours), outcome(&self.theirs))
    }

    /// Whether both declared a queue and differ in how many messages or consumers it has.
    pub(super) fn is_of_counts(&self) -> bool {
        let both = [&self.ours, &self.theirs].into_iter().flatten();
        let fields = self.fields_that_differ();
        both.filter(|event| event.name == "QueueDeclareOk").count() == 2
            && fields.iter().all(|field| matches!(*field, "messages" | "consumers"))
    }

    fn fields_that_differ(&self) -> Vec<&'static str> {
        let (Some(ours), Some(theirs)) = (&self.ours, &self.theirs) else { return Vec::new() };
        let mut names: Vec<&'static str> =
            ours.fields.iter().chain(&theirs.fields).map(|(name, _)| *name).collect();
        names.retain(|name| (ours.has(name), ours.field(name)) != (theirs.has(name), theirs.field(name)));
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// A close's text without what stands in quotation marks.
fn shape(event: &Event) -> String {
    if !matches!(event.name, "ChannelClose" | "ConnectionClose") {
        return String::new();
    }
    let unquoted = event.field("text").split('\'').step_by(2);
    let words: Vec<&str> = unquoted.flat_map(str::split_whitespace).take(SHAPE_WORDS_MAX).collect();
    format!(" ({})", words.join(" "))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connection, channel) = self.channel;
        writeln!(f, "connection {connection}, channel {channel}, {:?}", self.lane)?;
        let text = |event: &Option<Event>| event.as_ref().map_or("nothing".to_owned(), Event::to_string);
        writeln!(f, "  leveret:   {}", text(&self.ours))?;
        write!(f, "  reference: {}", text(&self.theirs))
    }
}

/// What agrees, when nothing differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Agreement {
    /// Which allowed differences there were.
    pub(super) allowed: Vec<&'static str>,
    /// Deliveries whose tags the brokers gave out in another order: theirs, and ours.
    pub(super) tags: Vec<(Channel, u64, u64)>,
}

/// Compares a step.
pub(super) fn compare(ours: &Heard, theirs: &Heard) -> Result<Agreement, Difference> {
    let last = both_ended(ours, theirs);
    let (ours, theirs) = (lanes(ours, &last), lanes(theirs, &last));
    let mut agreement = Agreement::default();
    let mut channels: BTreeMap<Channel, Vec<(u64, u64)>> = BTreeMap::new();
    for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
        let empty = Vec::new();
        let pairs =
            Pairs { ours: ours.get(key).unwrap_or(&empty), theirs: theirs.get(key).unwrap_or(&empty) };
        let tags = pairs.compare(&mut agreement.allowed).map_err(|(ours, theirs)| Difference {
            channel: key.0,
            lane: key.1.clone(),
            ours,
            theirs,
        })?;
        channels.entry(key.0).or_default().extend(tags);
    }
    for (channel, tags) in channels {
        agreement.tags.extend(crossed(channel, &tags, &ours, &theirs)?);
    }
    Ok(agreement)
}

type Lanes<'a> = BTreeMap<(Channel, Lane), Vec<&'a Event>>;

/// Connections that ended in this step on both brokers.
fn both_ended(ours: &Heard, theirs: &Heard) -> BTreeSet<usize> {
    let ended = |heard: &Heard| -> BTreeSet<usize> {
        let ends = heard.iter().filter(|(_, event)| is_end(event));
        ends.map(|((connection, _), _)| *connection).collect()
    };
    ended(ours).intersection(&ended(theirs)).copied().collect()
}

/// Whether nothing comes on that connection any more.
pub(super) fn is_end(event: &Event) -> bool {
    matches!(event.name, "EndOfStream" | "ConnectionCloseOk")
}

/// What one channel of an ending connection gives back, another of it may be handed or not before
/// it ends too: such deliveries are left out.
fn lanes<'a>(heard: &'a Heard, ended: &BTreeSet<usize>) -> Lanes<'a> {
    let mut lanes = Lanes::new();
    let counts = |event: &Event, connection| {
        let is_again = event.name == "BasicDeliver" && event.field("redelivered") == "true";
        !(is_again && ended.contains(connection))
    };
    for (channel, event) in heard.iter().filter(|((connection, _), event)| counts(event, connection)) {
        lanes.entry((*channel, Lane::of(event))).or_default().push(event);
    }
    lanes
}

struct Pairs<'a> {
    ours: &'a [&'a Event],
    theirs: &'a [&'a Event],
}

type Unequal = (Option<Event>, Option<Event>);

impl Pairs<'_> {
    /// The tags of deliveries, theirs and ours, if all is equal.
    fn compare(&self, allowed: &mut Vec<&'static str>) -> Result<Vec<(u64, u64)>, Unequal> {
        let mut tags = Vec::new();
        for at in 0..self.ours.len().max(self.theirs.len()) {
            let (ours, theirs) = (self.ours.get(at).copied(), self.theirs.get(at).copied());
            if !equal(ours, theirs) {
                let pair = Pair { ours, theirs };
                match allowed::name_of(&pair) {
                    Some(name) => allowed.push(name),
                    None => return Err((ours.cloned(), theirs.cloned())),
                }
            }
            tags.extend(delivery_tags(ours, theirs));
        }
        Ok(tags)
    }
}

fn equal(ours: Option<&Event>, theirs: Option<&Event>) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours.name == "BasicDeliver" => {
            ours.clone().without("tag") == theirs.clone().without("tag")
        }
        (ours, theirs) => ours == theirs,
    }
}

fn delivery_tags(ours: Option<&Event>, theirs: Option<&Event>) -> Option<(u64, u64)> {
    let tag = |event: Option<&Event>| {
        event.filter(|event| event.name == "BasicDeliver")?.field("tag").parse::<u64>().ok()
    };
    Some((tag(theirs)?, tag(ours)?))
}

/// Tags that differ: several consumers of a channel may be served in any order, but the same
/// numbers are given out.
fn crossed(
    channel: Channel,
    tags: &[(u64, u64)],
    ours: &Lanes<'_>,
    theirs: &Lanes<'_>,
) -> Result<Vec<(Channel, u64, u64)>, Difference> {
    let sorted = |side: fn(&(u64, u64)) -> u64| {
        let mut tags: Vec<u64> = tags.iter().map(side).collect();
        tags.sort_unstable();
        tags
    };
    if sorted(|pair| pair.0) != sorted(|pair| pair.1) {
        let first = |lanes: &Lanes<'_>| {
            let found =
                lanes.iter().find(|((of, lane), _)| *of == channel && matches!(lane, Lane::Consumer(_)));
            found.and_then(|(_, events)| events.first().map(|event| (*event).clone()))
        };
        let (ours, theirs) = (first(ours), first(theirs));
        return Err(Difference { channel, lane: Lane::Consumer("any".to_owned()), ours, theirs });
    }
    let differs = |(theirs, ours): &&(u64, u64)| theirs != ours;
    Ok(tags.iter().filter(differs).map(|(theirs, ours)| (channel, *theirs, *ours)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: Channel = (0, 1);

    fn deliver(consumer: &str, tag: u64, body: &str) -> (Channel, Event) {
        let event = Event::plain("BasicDeliver")
            .with("consumer", consumer)
            .with("tag", tag.to_string())
            .with("body", body);
        (CHANNEL, event)
    }

    fn plain(name: &'static str) -> (Channel, Event) {
        (CHANNEL, Event::plain(name))
    }

    fn check(ours: &Heard, theirs: &Heard) -> Result<Agreement, Difference> {
        compare(ours, theirs)
    }

    #[test]
    fn the_same_is_no_difference() {
        let heard = vec![plain("TxSelectOk"), deliver("t", 1, "a"), deliver("t", 2, "b")];
        assert_eq!(check(&heard, &heard.clone()), Ok(Agreement::default()));
    }

    #[test]
    fn a_planted_difference_is_found() {
        let heard = vec![plain("TxSelectOk"), deliver("t", 1, "a"), deliver("t", 2, "b")];
        let planted: [fn(&mut Heard); 8] = [
            |heard| drop(heard.remove(0)),
            |heard| drop(heard.pop()),
            |heard| heard.push(plain("BasicAck")),
            |heard| heard[0] = plain("TxCommitOk"),
            |heard| heard[0].0 = (1, 1),
            |heard| heard[2] = deliver("t", 2, "c"),
            |heard| heard[2] = deliver("t", 3, "b"),
            |heard| heard[1].1 = heard[1].1.clone().with("priority", "0"),
        ];
        for (number, plant) in planted.iter().enumerate() {
            let mut altered = heard.clone();
            plant(&mut altered);
            assert!(check(&heard, &altered).is_err(), "difference {number} was not seen");
            assert!(check(&altered, &heard).is_err(), "difference {number} was not seen from the other side");
        }
    }

    #[test]
    fn the_order_within_a_consumer_counts_and_that_of_two_does_not() {
        let one = vec![deliver("t", 1, "a"), deliver("t", 2, "b")];
        let turned = vec![deliver("t", 1, "b"), deliver("t", 2, "a")];
        assert!(check(&one, &turned).is_err());
        let two = vec![deliver("t", 1, "a"), deliver("u", 2, "b")];
        let turned = vec![deliver("u", 1, "b"), deliver("t", 2, "a")];
        let tags = vec![(CHANNEL, 2, 1), (CHANNEL, 1, 2)];
        assert_eq!(check(&two, &turned), Ok(Agreement { allowed: Vec::new(), tags }));
    }

    #[test]
    fn a_return_behind_its_confirm_is_a_difference() {
        let right = vec![plain("BasicReturn"), plain("BasicAck")];
        let wrong = vec![plain("BasicAck"), plain("BasicReturn")];
        assert!(check(&wrong, &right).is_err());
    }

    #[test]
    fn counts_are_those_of_one_queue() {
        let ok =
            |queue, messages| Event::plain("QueueDeclareOk").with("queue", queue).with("messages", messages);
        let check = |ours: Option<Event>, wanted: bool| {
            let theirs = Some(ok("a", "1"));
            let difference = Difference { channel: CHANNEL, lane: Lane::Replies, ours, theirs };
            assert_eq!(difference.is_of_counts(), wanted);
        };
        check(Some(ok("a", "2")), true);
        check(Some(ok("b", "1")), false);
        check(Some(Event::plain("QueueDeleteOk").with("messages", "2")), false);
        check(None, false);
    }

    #[test]
    fn an_ending_connection_may_be_handed_what_it_gave_back_itself() {
        let end = ((0, 0), Event::plain("EndOfStream"));
        let (channel, event) = deliver("t", 1, "a");
        let again = (channel, event.with("redelivered", "true"));
        assert!(check(&vec![again.clone(), end.clone()], &vec![end.clone()]).is_ok());
        assert!(check(&vec![again.clone()], &Vec::new()).is_err());
        assert!(check(&vec![again.clone(), end.clone()], &Vec::new()).is_err());
        assert!(check(&vec![deliver("t", 1, "a"), end.clone()], &vec![end.clone()]).is_err());
        let elsewhere = ((1, 1), again.1);
        assert!(check(&vec![elsewhere, end.clone()], &vec![end]).is_err());
    }
}
