//! Publishing in the model.

use std::rc::Rc;

use leveret_wire::{Properties, ReplyCode, Table, TableBuf, Value, method::basic};

use super::{
    ChannelKey, ConnectionKey, Destinations, Message, Model, QueueKey, Shared,
    connection::{Begun, HeldPublish, Landing, MayHave, Mode},
    death::{Heard, History},
    limits::Taken,
    turn::Turn,
    verdict::{Outcome, Verdict},
};
use crate::{Checked, Violation, counts::Event, ensure, frames::Content};

impl Model {
    pub(super) fn publish(&mut self, turn: &mut Turn<'_>, key: ChannelKey, begun: Begun) -> Checked {
        let verdict = self.judge_publish(&begun);
        if let Outcome::Refused = self.outcome(turn, key.1, (60, 40), None, verdict)? {
            return Ok(());
        }
        self.published(turn);
        let property_octets = begun.property_octets.expect("the content is whole");
        let (keys, shown) = copies(&begun.routing_key, &property_octets);
        let message = Rc::new(Message {
            id: message_id(&property_octets)?,
            exchange: begun.exchange,
            routing_key: begun.routing_key,
            keys,
            hidden_octets: property_octets.len() - shown.len(),
            property_octets: shown,
            body: begun.body,
            history: History::default(),
        });
        let mandatory = begun.mandatory;
        let destinations = self.destinations(&message);
        if let Mode::Transaction { publishes, .. } = &mut self.channel_mut(key).mode {
            // It goes where it would have gone now, whatever changes before the commit.
            publishes.push(HeldPublish { message, mandatory, destinations });
            return Ok(());
        }
        let landing = self.land(turn, key, &message, mandatory, destinations);
        if let Mode::Confirm { last, open } = &mut self.channel_mut(key).mode {
            *last += 1;
            open.insert(*last, landing.unconfirmed(&message));
        }
        Ok(())
    }

    fn judge_publish(&self, begun: &Begun) -> Verdict {
        let exchange = std::str::from_utf8(&begun.exchange).unwrap_or_default();
        let octets = begun.property_octets.as_deref().unwrap_or_default();
        let properties = Properties::decode(octets).unwrap_or_default();
        let wrong_user = properties.user_id.is_some_and(|user| user.as_bytes() != b"guest");
        let unknown_mode = properties.delivery_mode.is_some_and(|mode| !matches!(mode, 1 | 2));
        Verdict::unless(&[
            (begun.immediate, ReplyCode::NotImplemented),
            (begun.body_octets > self.limits.message_octets_max, ReplyCode::PreconditionFailed),
            (!self.exchanges.exists(exchange), ReplyCode::NotFound),
            (self.exchanges.is_internal(exchange), ReplyCode::AccessRefused),
            (wrong_user || unknown_mode || has_wrong_copies(&properties), ReplyCode::PreconditionFailed),
        ])
    }

    /// Takes a message to its queues; what has to come back of it is noted.
    pub(super) fn land(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        message: &Shared,
        mandatory: bool,
        destinations: Destinations,
    ) -> Landing {
        let is_there = |queue: &QueueKey| self.queues.get(queue).is_some_and(|queue| !queue.dead);
        let there = destinations.into_iter().filter(is_there);
        let mut landing = Landing { queues: there.collect(), ..Landing::default() };
        // Also when all queues that it was to go to are gone at a commit.
        if landing.queues.is_empty() {
            self.counts.note(Event::Unrouted);
            if mandatory {
                let back = (key.1, Rc::clone(message));
                self.connection_mut(key.0).returns.push_back(back);
            }
        }
        // Every step on a queue costs as much as a few messages.
        turn.appends += landing.queues.len() as u64 * 9;
        for queue in &landing.queues {
            match self.offer(*queue, message) {
                Taken::Yes => {}
                Taken::No => landing.refused = true,
                Taken::Unsure => {
                    let doubts = self.queue(*queue).doubts();
                    landing.unsure.push(MayHave { queue: *queue, doubts });
                }
            }
        }
        landing
    }

    pub(super) fn destinations(&self, message: &Message) -> Destinations {
        let properties = Properties::decode(&message.property_octets).unwrap_or_default();
        let headers = properties.headers.unwrap_or(Table::EMPTY);
        let exchange = std::str::from_utf8(&message.exchange).unwrap_or_default();
        if exchange.is_empty() {
            let names = message.keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
            return names.filter_map(|name| self.queue_names.get(name).copied()).collect();
        }
        self.exchanges.route(exchange, &message.keys, headers)
    }

    /// A message comes back.
    pub(super) fn hear_return(
        &mut self,
        key: ChannelKey,
        back: &basic::Return<'_>,
        content: &Content,
    ) -> Checked {
        self.counts.note(Event::Return);
        ensure!(
            back.reply_code == ReplyCode::NoRoute.code(),
            "a message comes back with {}",
            back.reply_code
        );
        let returns = &mut self.connection_mut(key.0).returns;
        let at = returns.iter().position(|(channel, _)| *channel == key.1);
        let Some((_, message)) = at.and_then(|at| returns.remove(at)) else {
            return Err(Violation::new(format!("a message came back on channel {} for no reason", key.1)));
        };
        let heard = Heard::of(&content.property_octets)?;
        check_content(&message, back.exchange.as_bytes(), back.routing_key.as_bytes(), content)?;
        message.check_properties(&content.property_octets, &heard, 0)
    }

    /// A batch was so large that it may reach its queues in the turns to come: any queue may
    /// still expect some of it, and where it stands among other publishers' messages is open.
    pub(super) fn expect_batch(&mut self, key: ConnectionKey) {
        let turn = self.turns;
        for queue in self.queues.values_mut() {
            if queue.doubt_order(turn) {
                queue.expecting.insert(key);
            }
        }
    }

    pub(super) fn batch_is_there(&mut self, key: ConnectionKey) {
        for queue in self.queues.values_mut() {
            queue.expecting.remove(&key);
        }
    }
}

fn has_wrong_copies(properties: &Properties<'_>) -> bool {
    let headers = properties.headers.unwrap_or(Table::EMPTY);
    ["CC", "BCC"].iter().any(|name| !matches!(headers.find(name), None | Some(Value::Array(_))))
}

/// All routing keys of a message, and its properties without `BCC`.
pub(super) fn copies(routing_key: &[u8], property_octets: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut keys = vec![routing_key.to_vec()];
    let properties = Properties::decode(property_octets).unwrap_or_default();
    let headers = properties.headers.unwrap_or(Table::EMPTY);
    for name in ["CC", "BCC"] {
        let Some(Value::Array(values)) = headers.find(name) else { continue };
        keys.extend(values.iter().filter_map(|value| match value {
            Value::LongStr(key) => Some(key.to_vec()),
            _ => None,
        }));
    }
    if headers.find("BCC").is_none() {
        return (keys, property_octets.to_vec());
    }
    let shown = without(headers, "BCC");
    let mut octets = Vec::new();
    Properties { headers: Some(shown.as_table()), ..properties }.encode(&mut octets);
    (keys, octets)
}

/// The headers but for that one.
pub(super) fn without(headers: Table<'_>, left_out: &str) -> TableBuf {
    let mut others = TableBuf::new();
    for (name, value) in headers.iter().filter(|(name, _)| name.as_bytes() != left_out.as_bytes()) {
        others.push_field(name, value);
    }
    others
}

/// Clients number their messages in the property that is meant for a time.
pub(super) fn message_id(property_octets: &[u8]) -> Checked<u64> {
    let properties = Properties::decode(property_octets)
        .map_err(|error| Violation::new(format!("a message has broken properties: {error}")))?;
    properties.timestamp.ok_or(Violation::new("a message without its number"))
}

/// What goes out is what came in.
pub(super) fn check_content(
    message: &Message,
    exchange: &[u8],
    routing_key: &[u8],
    content: &Content,
) -> Checked {
    let id = message.id;
    ensure!(exchange == message.exchange, "message {id} came by another exchange");
    ensure!(routing_key == message.routing_key, "message {id} came with another routing key");
    ensure!(content.body == message.body, "message {id} came with another body");
    Ok(())
}
