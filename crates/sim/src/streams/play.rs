//! Clients at their desks: what each knows from what it read, and what it answers.
//!
//! Invariant: a desk changes by what its client said or read, never by what the broker did.

use std::collections::{BTreeMap, BTreeSet};

use leveret_broker::Now;
use leveret_wire::{
    Method, Properties, Value,
    method::{basic, channel, confirm},
};

use super::{FRAME_OCTETS_MAX, Model, Plan};
use crate::{
    Checked,
    frames::{Content, Said, Speech},
    lab::{Client, Witness},
    random::Random,
};

/// Channels of a client.
const CHANNELS: u16 = 2;

/// A place in a stream where somebody stopped reading.
pub(super) type Bookmark = (String, u64);

/// What a client knows of a channel.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Whether it may be used.
    pub(super) is_open: bool,
    /// Readers by their tags, and what each reads next as far as it is known.
    pub(super) readers: BTreeMap<String, (String, Option<u64>)>,
    /// Deliveries that wait for their acknowledgement.
    pub(super) held: BTreeSet<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) books: BTreeMap<u16, Book>,
    /// Channels that it closed, and that it opens again when it hears that they are.
    pub(super) closing: BTreeSet<u16>,
    /// It made a mistake that ends its connection.
    pub(super) is_over: bool,
}

pub(super) struct Play {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) model: Model,
    pub(super) desks: BTreeMap<u32, Desk>,
    pub(super) bookmarks: Vec<Bookmark>,
    pub(super) last_tag: u64,
    pub(super) last_message: u64,
}

impl Play {
    pub(super) fn new(plan: Plan, random: Random) -> Self {
        let model = Model::default();
        Self {
            plan,
            random,
            model,
            desks: BTreeMap::new(),
            bookmarks: Vec::new(),
            last_tag: 0,
            last_message: 0,
        }
    }

    /// Opens a channel for publishing and reading.
    pub(super) fn open(&mut self, client: &mut Client, number: u16) {
        client.say(number, channel::Open::default());
        client.say(number, confirm::Select { nowait: false });
        let prefetch_count = *self.random.pick(&[1, 2, 5, 30, 300, 5_000]);
        client.say(number, basic::Qos { prefetch_octets: 0, prefetch_count, global: false });
        let book = Book { is_open: true, ..Book::default() };
        self.desks.entry(client.number).or_default().books.insert(number, book);
    }

    /// Whether a client waits for its connection to be closed, and acknowledges nothing any more.
    pub(super) fn has_given_up(&self, client: u32) -> bool {
        self.desks.get(&client).is_some_and(|desk| desk.is_over)
    }

    /// Readers that stop leave a mark where they were.
    fn mark(&mut self, readers: impl IntoIterator<Item = (String, Option<u64>)>) {
        let known = readers.into_iter().filter_map(|(stream, next)| Some((stream, next?)));
        self.bookmarks.extend(known);
    }

    pub(super) fn close_book(&mut self, client: u32, number: u16) {
        let desk = self.desks.entry(client).or_default();
        if let Some(book) = desk.books.remove(&number) {
            self.mark(book.readers.into_values());
        }
    }

    pub(super) fn forget_reader(&mut self, client: u32, number: u16, tag: &str) {
        let book = self.desks.get_mut(&client).and_then(|desk| desk.books.get_mut(&number));
        let reader = book.and_then(|book| book.readers.remove(tag));
        self.mark(reader);
    }

    fn heard(&mut self, client: &mut Client, number: u16, method: &Method<'_>) {
        match method {
            Method::ConnectionOpenOk(_) => (1..=CHANNELS).for_each(|number| self.open(client, number)),
            Method::ConnectionClose(_) => {
                self.desks.entry(client.number).or_default().is_over = true;
            }
            Method::ChannelClose(_) => {
                self.close_book(client.number, number);
                client.say(number, channel::CloseOk {});
                if !self.desks.entry(client.number).or_default().closing.contains(&number) {
                    self.open(client, number);
                }
            }
            Method::ChannelCloseOk(_) => {
                self.desks.entry(client.number).or_default().closing.remove(&number);
                self.open(client, number);
            }
            Method::BasicCancel(cancel) => {
                self.forget_reader(client.number, number, &cancel.consumer_tag.to_string());
            }
            _ => {}
        }
    }

    fn received(&mut self, client: u32, number: u16, deliver: &basic::Deliver<'_>, content: &Content) {
        let book = self.desks.get_mut(&client).and_then(|desk| desk.books.get_mut(&number));
        let Some(book) = book else { return };
        book.held.insert(deliver.delivery_tag);
        let properties = Properties::decode(&content.property_octets).ok();
        let headers = properties.and_then(|properties| properties.headers);
        let offset = headers.and_then(|headers| headers.find("x-stream-offset")).and_then(Value::as_integer);
        let reader = book.readers.get_mut(&deliver.consumer_tag.to_string());
        if let (Some((_, next)), Some(offset)) = (reader, offset) {
            *next = Some(offset.unsigned_abs() + 1);
        }
    }
}

impl Witness for Play {
    fn took(&mut self, client: u32, octets: &[u8], now: Now) -> Checked {
        self.model.took(client, octets, now)
    }

    fn said(&mut self, client: u32, octets: &[u8], now: Now) -> Checked {
        self.model.look_at_clock(now);
        self.model.said(client, octets)
    }

    fn read(&mut self, client: &mut Client, octets: &[u8]) -> Checked {
        let mut speech = Speech::new(octets, FRAME_OCTETS_MAX);
        while let Some(said) = speech.next()? {
            match said {
                Said::Method(number, method) => self.heard(client, number, &method),
                Said::Content(number, Method::BasicDeliver(deliver), content) => {
                    self.received(client.number, number, &deliver, &content);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn left(&mut self, client: u32) -> Checked {
        self.model.left(client);
        if let Some(desk) = self.desks.remove(&client) {
            self.mark(desk.books.into_values().flat_map(|book| book.readers.into_values()));
        }
        Ok(())
    }
}
