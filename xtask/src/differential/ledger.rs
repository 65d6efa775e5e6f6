//! What the channels of a script hold unacknowledged, and how delivery tags of the script become
//! those of each broker.
//!
//! Follows what the reference says; knows nothing of sockets.
//! Invariant: a tag is in it from its delivery until it is settled or its channel is gone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    comparison::{Channel, Heard},
    event::Event,
    operation::{Operation, Step, Tag},
    side::CHANNEL_OPENED_MAX,
};

/// Deliveries and their tags.
#[derive(Default)]
pub(super) struct Ledger {
    /// Tags, as the reference counts them, that a channel holds unacknowledged.
    unacked: BTreeMap<Channel, BTreeSet<u64>>,
    /// Consumers that need not acknowledge.
    no_ack: BTreeSet<(Channel, String)>,
    /// What channels that asked for confirms published.
    confirms: BTreeMap<Channel, Published>,
    /// Where our tag is another than the reference's.
    tags: BTreeMap<(Channel, u64), u64>,
}

/// The publishes of a channel since it asked for confirms.
#[derive(Default)]
struct Published {
    count: u64,
    open: BTreeSet<u64>,
}

impl Published {
    fn publish(&mut self) {
        self.count += 1;
        self.open.insert(self.count);
    }

    fn confirm(&mut self, event: &Event) {
        let Ok(tag) = event.field("tag").parse::<u64>() else { return };
        let multiple = event.field("multiple") == "true";
        self.open.retain(|open| if multiple { *open > tag } else { *open != tag });
    }
}

impl Ledger {
    /// Whether a step's publish, or one before it, awaits its confirm, as far as `heard` goes. One on
    /// a channel or connection that was closed awaits none.
    pub(super) fn awaits_confirm(&self, step: &Step, heard: &Heard) -> bool {
        let at = (step.connection, step.channel);
        let Some(published) = self.confirms.get(&at) else { return false };
        let ends = |event: &Event| matches!(event.name, "ChannelClose" | "EndOfStream" | "ConnectionClose");
        if heard.iter().any(|(channel, event)| channel.0 == at.0 && ends(event)) {
            return false;
        }
        let mut published = Published { count: published.count, open: published.open.clone() };
        if matches!(step.operation, Operation::Publish(_)) {
            published.publish();
        }
        heard.iter().filter(|(channel, _)| *channel == at).for_each(|(_, event)| published.confirm(event));
        !published.open.is_empty()
    }

    /// Whether it is a consumer that need not acknowledge.
    pub(super) fn is_no_ack(&self, channel: Channel, consumer: &str) -> bool {
        self.no_ack.contains(&(channel, consumer.to_owned()))
    }

    /// The reference's tags, and where ours are others.
    pub(super) fn cross(&mut self, tags: Vec<(Channel, u64, u64)>) {
        self.tags.extend(tags.into_iter().map(|(channel, theirs, ours)| ((channel, theirs), ours)));
    }

    /// Our tag for one of the reference's.
    pub(super) fn our_tag(&self, channel: Channel, theirs: u64) -> u64 {
        self.tags.get(&(channel, theirs)).copied().unwrap_or(theirs)
    }

    /// The channels that hold something.
    pub(super) fn holders(&self) -> impl Iterator<Item = &Channel> {
        self.unacked.iter().filter(|(_, tags)| !tags.is_empty()).map(|(channel, _)| channel)
    }

    /// The step where it has something to settle, if it is to settle what is unacknowledged.
    pub(super) fn placed(&self, step: &Step) -> Option<Step> {
        let (Operation::Ack { tag: Tag::Unacked(_), .. }
        | Operation::Nack { tag: Tag::Unacked(_), .. }
        | Operation::Reject { tag: Tag::Unacked(_), .. }) = step.operation
        else {
            return Some(step.clone());
        };
        let at = (step.connection, step.channel);
        let holds = |channel: &Channel| self.unacked.get(channel).is_some_and(|tags| !tags.is_empty());
        let (connection, channel) =
            if holds(&at) { at } else { *self.unacked.keys().find(|channel| holds(channel))? };
        Some(Step { connection, channel, ..step.clone() })
    }

    /// The delivery tag that an operation means, as the reference counts.
    pub(super) fn tag(&self, at: Channel, operation: &Operation) -> u64 {
        match operation {
            Operation::Ack { tag, .. } | Operation::Nack { tag, .. } | Operation::Reject { tag, .. } => {
                match tag {
                    Tag::Number(number) => *number,
                    Tag::Unacked(number) => self.nth_unacked(at, *number),
                }
            }
            _ => 0,
        }
    }

    /// One of the unacknowledged deliveries; an unknown one if there are none.
    fn nth_unacked(&self, at: Channel, number: usize) -> u64 {
        let Some(unacked) = self.unacked.get(&at).filter(|unacked| !unacked.is_empty()) else { return 99 };
        unacked.iter().nth(number % unacked.len()).copied().unwrap_or(99)
    }

    /// Whether the operation would settle other deliveries on one broker than on the other.
    pub(super) fn is_open_order(&self, at: Channel, operation: &Operation, tag: u64) -> bool {
        let (Operation::Ack { multiple: true, .. } | Operation::Nack { multiple: true, .. }) = operation
        else {
            return false;
        };
        let Some(unacked) = self.unacked.get(&at).filter(|_| tag > 0) else { return false };
        let ours = |theirs: u64| self.tags.get(&(at, theirs)).copied().unwrap_or(theirs);
        unacked.iter().any(|other| (*other <= tag) != (ours(*other) <= ours(tag)))
    }

    /// Keeps account of what is unacknowledged.
    pub(super) fn follow(&mut self, at: Channel, operation: &Operation, tag: u64, heard: &Heard) {
        if let (Operation::Publish(_), Some(published)) = (operation, self.confirms.get_mut(&at)) {
            published.publish();
        }
        for (channel, event) in heard {
            self.follow_event(*channel, operation, event);
        }
        match operation {
            Operation::ConfirmSelect { nowait: true } if !self.confirms.contains_key(&at) => {
                self.confirms.insert(at, Published::default());
            }
            Operation::Ack { multiple, .. } | Operation::Nack { multiple, .. } => {
                self.settled(at, tag, *multiple);
            }
            Operation::Reject { .. } => self.settled(at, tag, false),
            Operation::Recover { .. } | Operation::RecoverAsync { .. } => {
                // What was given out again is unacknowledged under new tags.
                let again: BTreeSet<u64> = heard
                    .iter()
                    .filter_map(|(channel, event)| {
                        (*channel == at && event.name == "BasicDeliver")
                            .then(|| event.field("tag").parse().ok())?
                    })
                    .collect();
                self.unacked.entry(at).or_default().retain(|tag| again.contains(tag));
            }
            Operation::Vanish => self.forget_connection(at.0),
            Operation::Consume { consumer_tag, no_ack, nowait: true, .. } => {
                self.consumes(at, consumer_tag, *no_ack);
            }
            _ => {}
        }
    }

    fn consumes(&mut self, channel: Channel, consumer_tag: &str, no_ack: bool) {
        let consumer = (channel, consumer_tag.to_owned());
        if no_ack {
            self.no_ack.insert(consumer)
        } else {
            self.no_ack.remove(&consumer)
        };
    }

    fn settled(&mut self, at: Channel, tag: u64, multiple: bool) {
        let unacked = self.unacked.entry(at).or_default();
        unacked.retain(|other| if multiple { tag != 0 && *other > tag } else { *other != tag });
    }

    fn follow_event(&mut self, channel: Channel, operation: &Operation, event: &Event) {
        match event.name {
            "ChannelClose" | "ChannelCloseOk" => self.forget_channel(channel),
            "EndOfStream" | "ConnectionCloseOk" => self.forget_connection(channel.0),
            "ConfirmSelectOk" => drop(self.confirms.entry(channel).or_default()),
            "BasicAck" | "BasicNack" => {
                if let Some(published) = self.confirms.get_mut(&channel) {
                    published.confirm(event);
                }
            }
            "BasicConsumeOk" => {
                let no_ack = matches!(operation, Operation::Consume { no_ack: true, .. });
                self.consumes(channel, event.field("consumer"), no_ack);
            }
            "BasicDeliver" if !self.no_ack.contains(&(channel, event.field("consumer").to_owned())) => {
                self.delivered(channel, event);
            }
            "BasicGetOk" if matches!(operation, Operation::Get { no_ack: false, .. }) => {
                self.delivered(channel, event);
            }
            _ => {}
        }
    }

    fn delivered(&mut self, channel: Channel, event: &Event) {
        if let Ok(tag) = event.field("tag").parse() {
            self.unacked.entry(channel).or_default().insert(tag);
        }
    }

    fn forget_channel(&mut self, channel: Channel) {
        self.unacked.remove(&channel);
        self.confirms.remove(&channel);
        self.no_ack.retain(|(of, _)| *of != channel);
        self.tags.retain(|(of, _), _| *of != channel);
    }

    fn forget_connection(&mut self, connection: usize) {
        for channel in 0..=CHANNEL_OPENED_MAX {
            self.forget_channel((connection, channel));
        }
    }
}
