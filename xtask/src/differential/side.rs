//! One of the two brokers in a script: its connections, and what it said.
//!
//! Takes steps and hears what comes of them; not what the other one says.
//! Invariant: a step's connection and channel are open before it is taken, if they can be.

use std::net::SocketAddr;

use anyhow::Result;

use super::{
    client::Client,
    comparison::Heard,
    encode::{Place, encode},
    event::Event,
    janitor,
    login::log_in,
    names::Names,
    operation::{Operation, Script, Step},
};

/// Channels up to this one are opened when a step needs them.
pub(super) const CHANNEL_OPENED_MAX: u16 = 4;

/// One of the brokers.
pub(super) struct Side<'a> {
    address: SocketAddr,
    script: &'a Script,
    names: Names,
    clients: Vec<Option<Client>>,
    /// What handshakes of their own were told.
    aside: Vec<(u16, Event)>,
}

impl<'a> Side<'a> {
    pub(super) fn new(address: SocketAddr, script: &'a Script, prefix: String) -> Self {
        let clients = script.connections.iter().map(|_| None).collect();
        Self { address, script, names: Names::new(prefix), clients, aside: Vec::new() }
    }

    /// Sees to it that the step's connection and channel are open.
    pub(super) fn prepare(&mut self, step: &Step) -> Result<()> {
        let client = &mut self.clients[step.connection];
        if client.as_ref().is_none_or(|client| !client.is_open) {
            *client = Some(Client::open(self.address, &self.script.connections[step.connection])?);
        }
        let Some(client) = client else { return Ok(()) };
        client.ensure(1, &mut self.names);
        let is_open_step = matches!(step.operation, Operation::OpenChannel);
        if (2..=CHANNEL_OPENED_MAX).contains(&step.channel) && !is_open_step {
            client.ensure(step.channel, &mut self.names);
        }
        Ok(())
    }

    /// Takes a step, and asks for a sign that it is done.
    pub(super) fn take(&mut self, step: &Step, delivery_tag: u64) -> Result<()> {
        match &step.operation {
            Operation::LogIn(login) => {
                self.aside = log_in(self.address, login, &mut self.names)?;
                return Ok(());
            }
            Operation::Vanish => {
                self.clients[step.connection] = None;
                return Ok(());
            }
            _ => {}
        }
        let Some(client) = &mut self.clients[step.connection] else { return Ok(()) };
        let place =
            Place { channel: step.channel, frame_max: client.frame_max, delivery_tag, names: &self.names };
        let mut octets = Vec::new();
        encode(&step.operation, &place, &mut octets);
        client.send(&octets);
        let channel = if client.channels.contains(&step.channel) { step.channel } else { 1 };
        match &step.operation {
            Operation::CloseConnection => client.await_answer(0),
            Operation::OpenChannel => client.await_answer(step.channel),
            // While RabbitMQ commits, it takes no other method on that channel.
            Operation::TxCommit if client.channels.contains(&step.channel) => {
                client.await_answer(step.channel);
            }
            Operation::CloseChannel if client.channels.contains(&step.channel) => {
                client.await_answer(step.channel);
            }
            Operation::Flow { .. } => {
                client.await_flow(step.channel);
                client.ask_quiet(channel);
            }
            _ => client.ask_quiet(channel),
        }
        Ok(())
    }

    /// Asks once more how many messages and consumers a queue has; the answer before does not count.
    pub(super) fn ask_counts_again(&mut self, step: &Step, queue: &str) -> Result<()> {
        let Some(client) = &mut self.clients[step.connection] else { return Ok(()) };
        let Some(at) = client.heard.iter().rposition(|(_, event)| event.name == "QueueDeclareOk") else {
            return Ok(());
        };
        client.heard.remove(at);
        let passive = Operation::DeclareQueue {
            queue: queue.to_owned(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: Vec::new(),
        };
        self.take(&Step { operation: passive, ..step.clone() }, 0)
    }

    pub(super) fn ask_all_quiet(&mut self) {
        self.clients.iter_mut().flatten().for_each(Client::ask_all_quiet);
    }

    pub(super) fn settle(&mut self) {
        for client in self.clients.iter_mut().flatten() {
            client.settle(&mut self.names);
        }
    }

    pub(super) fn heard(&self) -> Heard {
        let aside = self.aside.iter().map(|(channel, event)| ((usize::MAX, *channel), event.clone()));
        let each = self.clients.iter().enumerate();
        let clients = each.filter_map(|(number, client)| Some((number, client.as_ref()?)));
        let heard = clients.flat_map(|(number, client)| {
            client.heard.iter().map(move |(channel, event)| ((number, *channel), event.clone()))
        });
        aside.chain(heard).collect()
    }

    pub(super) fn forget(&mut self) {
        self.aside.clear();
        self.clients.iter_mut().flatten().for_each(|client| client.heard.clear());
    }

    pub(super) fn finish(mut self, script: &Script) -> Result<()> {
        for client in self.clients.drain(..).flatten() {
            client.close(&mut self.names);
        }
        janitor::clean(self.address, script, &mut self.names)
    }
}
