//! What clients read, held against the model: the message that stood first, octet for octet.
//!
//! Invariant: a name for answers is learned from the first question that is read, and is one consumer's.

use std::collections::VecDeque;

use leveret_wire::Properties;

use super::{
    events::RoutingEvent as E,
    exchange::Copy,
    message::{Message, id_of},
    model::{Model, TOKEN_PREFIX},
};
use crate::{Checked, Violation, ensure, frames::Content};

impl Model {
    /// A message that came out of a queue stood first there.
    pub(super) fn came_out(&mut self, queue: &str, exchange: &str, key: &str, content: &Content) -> Checked {
        let id = id_of(&content.body)?;
        let none = || Violation::new(format!("'{queue}' gave message {id}, and it is not to be there"));
        let entry = loop {
            let entries = self.queues.get_mut(queue).map(|queue| &mut queue.entries);
            let entry = entries.and_then(VecDeque::pop_front).ok_or_else(none)?;
            let is_it = entry.copy.message.id == id;
            ensure!(
                is_it || entry.choice.is_some(),
                "'{queue}' gave message {id} before {}",
                entry.copy.message.id
            );
            if is_it {
                break entry;
            }
        };
        match entry.choice {
            Some(place) => {
                self.counts.note(E::Chosen, 1);
                self.choices.found(place, queue);
            }
            None => self.counts.note(E::Certain, 1),
        }
        self.check_message(queue, &entry.copy, exchange, key, content)
    }

    /// A message is octet for octet what it has to be.
    pub(super) fn check_message(
        &mut self,
        place: &str,
        copy: &Copy,
        exchange: &str,
        key: &str,
        content: &Content,
    ) -> Checked {
        let message = &copy.message;
        ensure!(
            exchange == message.exchange && key == message.key,
            "message {} came with '{exchange}' and '{key}'",
            message.id
        );
        ensure!(
            content.body.len() == message.filling_octets + 8,
            "the body of message {} is cut",
            message.id
        );
        self.check_properties(place, copy, content)
    }

    fn check_properties(&mut self, queue: &str, copy: &Copy, content: &Content) -> Checked {
        let id = copy.message.id;
        let token = self.token_of(&copy.message, content)?;
        let wanted = copy.message.property_octets(copy.has_waited, token.as_deref());
        if wanted == content.property_octets {
            return Ok(());
        }
        let found = Properties::decode(&content.property_octets);
        let wanted = Properties::decode(&wanted);
        ensure!(false, "message {id} in '{queue}' has {found:?}, not {wanted:?}");
        Ok(())
    }

    /// The name that a question is to be answered to, which is one consumer's and nobody else's.
    fn token_of(&mut self, message: &Message, content: &Content) -> Checked<Option<String>> {
        let Some(asker) = &message.asks else { return Ok(None) };
        let properties = Properties::decode(&content.property_octets).ok();
        let token = properties.and_then(|properties| properties.reply_to).map(|name| name.to_string());
        let token = token.filter(|token| token.starts_with(TOKEN_PREFIX));
        let token = token.ok_or_else(|| Violation::new("a question says not where the answer goes"))?;
        let known = self.tokens.iter().find(|(_, whose)| *whose == asker).map(|(token, _)| token);
        ensure!(known.is_none_or(|known| *known == token), "{asker} has two names for answers");
        let whose = self.tokens.entry(token.clone()).or_insert_with(|| asker.clone());
        ensure!(whose == asker, "{asker} and {whose} have one name for answers");
        Ok(Some(token))
    }
}
