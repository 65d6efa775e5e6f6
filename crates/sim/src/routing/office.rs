//! Clients with what they said and what they wait for, and the model that is told of all of it.
//!
//! Invariant: a client's commands are taken in the order in which it said them, and answered so.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use leveret_broker::Now;
use leveret_wire::{ContentHeader, FrameKind, Method, decode_frame};

use super::{
    command::{ANSWERS, Command, MAIN, PROBES, REPLY_TO},
    events::RoutingEvent as E,
    exchange::Copy,
    message::{Message, id_of},
    model::Model,
};
use crate::{
    Checked, Violation, ensure,
    frames::{Content, Said, Speech},
    lab::{Client, Witness},
};

/// Frames that are looked into are no larger.
const FRAME_OCTETS_MAX: u32 = 1024 * 1024;

/// What a client waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Text(String),
    /// A message out of that queue, or none.
    Got(String),
}

/// A client as the model knows it.
#[derive(Debug, Default)]
pub(super) struct Person {
    /// Whether it has its channels and its queue.
    pub(super) is_settled: bool,
    sent: VecDeque<Command>,
    /// Octets of a body that were not taken yet; none where no content is under way.
    body_octets: Option<u64>,
    answers: BTreeMap<u16, VecDeque<Answer>>,
    unconfirmed: BTreeMap<u64, u64>,
    published: u64,
    delivered: u64,
    to_return: BTreeMap<u64, Rc<Message>>,
    /// Its consumer of answers, as it has said.
    pub(super) answers_at: Option<String>,
    /// Its consumer of answers, as the engine has taken it.
    consumes_answers_at: Option<String>,
    /// Channels that it does not use before something was answered.
    pub(super) busy: BTreeSet<u16>,
    consumers: u64,
}

impl Person {
    /// A name for its next consumer of answers.
    pub(super) fn next_consumer(&mut self, number: u32) -> String {
        self.consumers += 1;
        format!("answers.{number}.{}", self.consumers)
    }

    fn awaits_nothing(&self) -> bool {
        let is_answered = self.answers.values().all(VecDeque::is_empty);
        is_answered && self.unconfirmed.is_empty() && self.to_return.is_empty() && self.sent.is_empty()
    }

    /// Once all is answered a channel may be used again.
    fn note_leisure(&mut self, channel: u16) {
        let is_said = |command: &Command| match command {
            Command::Look(_) => channel == PROBES,
            Command::Mistake(mistake) => channel == mistake.channel(),
            _ => false,
        };
        if self.answers[&channel].is_empty() && !self.sent.iter().any(is_said) {
            self.busy.remove(&channel);
        }
    }

    fn await_answer(&mut self, channel: u16, text: impl Into<String>) {
        self.answers.entry(channel).or_default().push_back(Answer::Text(text.into()));
    }
}

/// The queue that a client has for itself.
pub(super) fn own_queue(number: u32) -> String {
    format!("own.{number}")
}

#[derive(Debug, Default)]
pub(super) struct Office {
    pub(super) model: Model,
    pub(super) people: BTreeMap<u32, Person>,
    /// Names of answers that were read, the last ones.
    pub(super) tokens: VecDeque<String>,
    is_over: bool,
}

/// Names of answers that somebody may still answer to.
const TOKENS_MAX: usize = 12;

impl Office {
    /// A client says something.
    pub(super) fn say(&mut self, client: &mut Client, command: Command) {
        command.say(client);
        let person = self.people.entry(client.number).or_default();
        person.sent.push_back(command);
    }

    /// The broker stops: whatever is said from now on is nobody's.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    fn person(&mut self, number: u32) -> &mut Person {
        self.people.entry(number).or_default()
    }

    /// Everything is at rest: nobody waits for anything.
    pub(super) fn check_rest(&mut self) -> Checked {
        for (number, person) in &self.people {
            ensure!(person.awaits_nothing(), "client {number} waits for ever: {person:?}");
        }
        self.model.check_rest()
    }

    /// The engine took a command, whole.
    fn took_command(&mut self, number: u32, command: Command) {
        match command {
            Command::Open(channel) => self.person(number).await_answer(channel, "ChannelOpenOk"),
            Command::CloseOk(_) => {}
            Command::Close(channel) => {
                self.person(number).await_answer(channel, "ChannelCloseOk");
                self.end_answers(number, E::RepliesClosed);
            }
            Command::Confirms => self.person(number).await_answer(MAIN, "ConfirmSelectOk"),
            Command::DeclareQueue { name, .. } => {
                self.model.declare_queue(&name);
                self.person(number).await_answer(MAIN, format!("declare-ok {name} 0 0"));
            }
            Command::DeleteQueue(name) => {
                self.model.delete_queue(&name);
                self.person(number).await_answer(MAIN, "delete-ok 0");
            }
            Command::Consume(name) => self.person(number).await_answer(MAIN, format!("consume-ok {name}")),
            Command::DeclareExchange(name, declaration) => {
                self.model.declare_exchange(&name, &declaration);
                self.person(number).await_answer(MAIN, "ExchangeDeclareOk");
            }
            Command::DeleteExchange(name) => {
                self.model.delete_exchange(&name);
                self.person(number).await_answer(MAIN, "ExchangeDeleteOk");
            }
            Command::Bind(binding) => {
                self.model.bind(&binding);
                self.person(number).await_answer(MAIN, "BindOk");
            }
            Command::Unbind(binding) => {
                self.model.unbind(&binding);
                self.person(number).await_answer(MAIN, "UnbindOk");
            }
            Command::Publish(message) => {
                let comes_back = self.model.publish(&message);
                self.published(number, &message, comes_back);
            }
            Command::Get(name) => {
                self.person(number).answers.entry(MAIN).or_default().push_back(Answer::Got(name));
            }
            Command::ConsumeAnswers(tag) => {
                self.model.counts.note(E::RepliesBegun, 1);
                self.model.declare_queue(&tag);
                let person = self.person(number);
                person.await_answer(ANSWERS, format!("consume-ok {tag}"));
                person.consumes_answers_at = Some(tag);
            }
            Command::CancelAnswers(tag) => {
                self.end_answers(number, E::RepliesCancelled);
                self.person(number).await_answer(ANSWERS, format!("cancel-ok {tag}"));
            }
            Command::Look(name) => self.look(number, &name),
            Command::Mistake(mistake) => {
                self.model.counts.note(E::Mistake, 1);
                self.person(number).await_answer(mistake.channel(), mistake.answer());
                if mistake.channel() == ANSWERS {
                    self.end_answers(number, E::RepliesClosed);
                }
            }
        }
    }

    fn published(&mut self, number: u32, message: &Rc<Message>, comes_back: bool) {
        self.model.counts.note(E::Request, u64::from(message.asks.is_some()));
        let person = self.person(number);
        if message.channel == MAIN {
            person.published += 1;
            person.unconfirmed.insert(person.published, message.id);
        }
        if comes_back {
            person.to_return.insert(message.id, Rc::clone(message));
        }
    }

    /// A client asks whether a name is there.
    fn look(&mut self, number: u32, name: &str) {
        let is_there = name == REPLY_TO || self.model.is_token_alive(name);
        self.model.counts.note(if is_there { E::NameAlive } else { E::NameDead }, 1);
        let found = format!("declare-ok {name} 0 1");
        let missing = format!("close 50/10 NOT_FOUND - no queue '{name}' in vhost '/'");
        self.person(number).await_answer(PROBES, if is_there { found } else { missing });
    }

    fn end_answers(&mut self, number: u32, event: E) {
        if let Some(consumer) = self.person(number).consumes_answers_at.take() {
            self.model.counts.note(event, 1);
            self.model.end_replies(&consumer);
        }
    }

    fn heard(&mut self, client: &mut Client, channel: u16, method: &Method<'_>) -> Checked {
        match method {
            Method::BasicAck(ack) => self.confirmed(client.number, ack.delivery_tag, ack.multiple),
            Method::BasicGetEmpty(_) => {
                let queue = self.got(client.number)?;
                ensure!(!self.model.has_message(&queue), "'{queue}' says that it is empty");
                Ok(())
            }
            Method::ChannelClose(_) => {
                self.answered(client.number, channel, text_of(method))?;
                self.say(client, Command::CloseOk(channel));
                self.say(client, Command::Open(channel));
                Ok(())
            }
            _ => {
                self.answered(client.number, channel, text_of(method))?;
                self.person(client.number).note_leisure(channel);
                Ok(())
            }
        }
    }

    fn answered(&mut self, number: u32, channel: u16, said: String) -> Checked {
        let awaited = self.person(number).answers.entry(channel).or_default().pop_front();
        let said = Answer::Text(said);
        ensure!(awaited.as_ref() == Some(&said), "client {number} heard {said:?}, not {awaited:?}");
        Ok(())
    }

    fn got(&mut self, number: u32) -> Checked<String> {
        let awaited = self.person(number).answers.entry(MAIN).or_default().pop_front();
        match awaited {
            Some(Answer::Got(queue)) => Ok(queue),
            _ => Err(Violation::new(format!("client {number} got a message that it did not ask for"))),
        }
    }

    fn confirmed(&mut self, number: u32, tag: u64, multiple: bool) -> Checked {
        let person = self.people.entry(number).or_default();
        ensure!(person.unconfirmed.contains_key(&tag), "a confirm of {tag}, which is not open");
        let first = if multiple { 0 } else { tag };
        let tags: Vec<u64> = person.unconfirmed.range(first..=tag).map(|(tag, _)| *tag).collect();
        self.model.counts.note(E::Confirm, tags.len() as u64);
        for id in tags.iter().filter_map(|tag| person.unconfirmed.remove(tag)) {
            ensure!(!person.to_return.contains_key(&id), "message {id} is confirmed before it came back");
        }
        Ok(())
    }

    fn heard_content(&mut self, client: &mut Client, method: &Method<'_>, content: &Content) -> Checked {
        match method {
            Method::BasicDeliver(deliver) => {
                let queue = deliver.consumer_tag.to_string();
                let person = self.person(client.number);
                let is_answer = queue != own_queue(client.number);
                person.delivered += u64::from(!is_answer);
                let tag = if is_answer { 1 } else { person.delivered };
                ensure!(
                    deliver.delivery_tag == tag,
                    "a delivery to '{queue}' is number {}",
                    deliver.delivery_tag
                );
                ensure!(!deliver.redelivered, "'{queue}' says that it gave a message before");
                let (exchange, key) = (deliver.exchange.to_string(), deliver.routing_key.to_string());
                self.model.came_out(&queue, &exchange, &key, content)?;
                self.note_token(content);
                Ok(())
            }
            Method::BasicGetOk(got) => {
                let queue = self.got(client.number)?;
                let person = self.person(client.number);
                person.delivered += 1;
                let wanted = person.delivered;
                ensure!(got.delivery_tag == wanted, "a message of '{queue}' is number {}", got.delivery_tag);
                let (exchange, key) = (got.exchange.to_string(), got.routing_key.to_string());
                self.model.came_out(&queue, &exchange, &key, content)?;
                self.note_token(content);
                self.say(client, Command::Get(queue));
                Ok(())
            }
            Method::BasicReturn(back) => {
                let id = id_of(&content.body)?;
                ensure!(back.reply_code == 312, "message {id} came back with {}", back.reply_code);
                let message = self.person(client.number).to_return.remove(&id);
                let none = || Violation::new(format!("message {id} came back, and is not to"));
                let (exchange, key) = (back.exchange.to_string(), back.routing_key.to_string());
                let copy = Copy { message: message.ok_or_else(none)?, has_waited: false };
                self.model.check_message("what came back", &copy, &exchange, &key, content)?;
                self.model.counts.note(E::Returned, 1);
                Ok(())
            }
            _ => Err(Violation::new(format!("{method:?} with a content"))),
        }
    }

    /// Who reads a question can answer it.
    fn note_token(&mut self, content: &Content) {
        let properties = leveret_wire::Properties::decode(&content.property_octets).ok();
        let token = properties.and_then(|properties| properties.reply_to).map(|name| name.to_string());
        if let Some(token) = token.filter(|token| !self.tokens.contains(token)) {
            self.tokens.push_back(token);
            if self.tokens.len() > TOKENS_MAX {
                self.tokens.pop_front();
            }
        }
    }
}

/// An answer as the model expects it.
fn text_of(method: &Method<'_>) -> String {
    match method {
        Method::QueueDeclareOk(ok) => {
            format!("declare-ok {} {} {}", ok.queue, ok.message_count, ok.consumer_count)
        }
        Method::QueueDeleteOk(ok) => format!("delete-ok {}", ok.message_count),
        Method::BasicConsumeOk(ok) => format!("consume-ok {}", ok.consumer_tag),
        Method::BasicCancelOk(ok) => format!("cancel-ok {}", ok.consumer_tag),
        Method::ChannelClose(close) => {
            format!("close {}/{} {}", close.class_id, close.method_id, close.reply_text)
        }
        Method::QueueBindOk(_) | Method::ExchangeBindOk(_) => "BindOk".to_owned(),
        Method::QueueUnbindOk(_) | Method::ExchangeUnbindOk(_) => "UnbindOk".to_owned(),
        method => method.name().to_owned(),
    }
}

impl Witness for Office {
    fn took(&mut self, client: u32, octets: &[u8], now: Now) -> Checked {
        self.model.now_millis = now.monotonic_millis;
        let mut rest = octets.strip_prefix(b"AMQP\x00\x00\x09\x01").unwrap_or(octets);
        while let Ok(Some((frame, length))) = decode_frame(rest, FRAME_OCTETS_MAX) {
            rest = &rest[length..];
            if frame.channel == 0 {
                continue;
            }
            let person = self.person(client);
            let is_whole = match frame.kind {
                FrameKind::Method => !is_publish(frame.payload),
                FrameKind::Header => {
                    let header = ContentHeader::decode(frame.payload).expect("clients say what is right");
                    person.body_octets = Some(header.body_octets);
                    header.body_octets == 0
                }
                FrameKind::Body => {
                    let left = person.body_octets.unwrap_or(0).saturating_sub(frame.payload.len() as u64);
                    person.body_octets = Some(left);
                    left == 0
                }
                FrameKind::Heartbeat => false,
            };
            if is_whole && let Some(command) = person.sent.pop_front() {
                self.took_command(client, command);
            }
        }
        Ok(())
    }

    fn said(&mut self, _: u32, _: &[u8], _: Now) -> Checked {
        Ok(())
    }

    fn read(&mut self, client: &mut Client, octets: &[u8]) -> Checked {
        let mut speech = Speech::new(octets, FRAME_OCTETS_MAX);
        while let Some(said) = speech.next()? {
            match said {
                Said::Method(0, method) => ensure!(
                    self.is_over || !matches!(method, Method::ConnectionClose(_)),
                    "client {} is shut out: {method:?}",
                    client.number
                ),
                Said::Method(channel, method) => self.heard(client, channel, &method)?,
                Said::Content(_, method, content) => self.heard_content(client, &method, &content)?,
                Said::Heartbeat | Said::ProtocolHeader => {}
            }
        }
        Ok(())
    }

    fn kept_house(&mut self, now: Now) -> Checked {
        self.model.now_millis = now.monotonic_millis;
        self.model.kept_house();
        Ok(())
    }

    fn left(&mut self, client: u32) -> Checked {
        self.end_answers(client, E::RepliesCut);
        self.people.remove(&client);
        self.model.delete_queue(&own_queue(client));
        Ok(())
    }
}

/// A publish is taken with its content.
fn is_publish(payload: &[u8]) -> bool {
    matches!(Method::decode(payload), Ok(Method::BasicPublish(_)))
}
