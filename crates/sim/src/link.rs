//! A line with the client at its other end.

use std::sync::Arc;

use leveret_broker::{Now, engine::Engine};

use crate::{
    client::{Client, State},
    line::{Line, Step},
    model::ConnectionKey,
    random::Random,
};

pub(crate) struct Link {
    pub(crate) key: ConnectionKey,
    pub(crate) line: Line,
    pub(crate) client: Client,
}

impl Link {
    pub(crate) fn new(engine: &Arc<Engine>, client: Client, window_octets: usize, now: Now) -> Self {
        let line = Line::new(engine, format!("client {}", client.number), window_octets, now);
        Self { key: ConnectionKey(client.number), line, client }
    }

    /// What can happen now.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let client = &self.client;
        let acts = client.state == State::Running && !client.is_lost;
        self.line.steps(!client.is_deaf && !client.is_lost).chain(acts.then_some(Step::Act))
    }

    /// What the client has said goes on its way; when it will say nothing more, it closes.
    pub(crate) fn post(&mut self) {
        let said = std::mem::take(&mut self.client.out);
        self.line.pipe.send(&said);
        self.line.is_closed |= self.client.state == State::Over;
    }

    /// The client's machine is gone, and some of what it sent; its socket stays open.
    pub(crate) fn lose(&mut self, random: &mut Random) {
        self.client.is_lost = true;
        self.line.pipe.lose_end(random);
    }

    /// The client dies while it sends.
    pub(crate) fn die_sending(&mut self, random: &mut Random) {
        self.client.die();
        self.line.pipe.lose_end(random);
        self.line.is_closed = true;
    }
}
