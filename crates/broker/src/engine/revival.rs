//! Reviving an engine: what a recovery found is declared again, and queues have their messages.
//!
//! Messages stay on their pages until they are wanted, so a long queue is there as soon as a short
//! one. Invariant: nothing that is revived is written to the journal, which has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use leveret_wire::{ShortStr, method::queue};

use super::{
    Engine,
    declare::{self, BindingRequest, exchange_kind},
    definition_entry::{
        BindingEntry, DefinitionEntry, DelaysEntry, DestinationNumber, ExchangeEntry, QueueEntry,
    },
    durability::DurableQueue,
    kept_line::KeptLine,
    queue_cell::{QueueCell, Scratch},
    queues::queue_declaration,
    stored::Store,
};
use crate::{
    Location, Now, Ordinal, Refusal,
    model::{
        arguments::Owner,
        binding::Destination,
        exchange::{DelayedAt, ExchangeDeclaration, ExchangeSettings},
        queue_arguments::QueueType,
        topology::{ExchangeId, QueueId},
    },
    planted::{self, Bug},
    store::{
        journal::QueueNumber,
        kept::{kept_name, kept_number},
        page,
        snapshot::QueueState,
    },
};

/// Where revived things stand in their virtual hosts, by their numbers.
#[derive(Default)]
struct Places {
    exchanges: BTreeMap<u64, ExchangeId>,
    queues: BTreeMap<u64, QueueId>,
}

impl Engine {
    /// Keeps a text for the driver: its users, virtual hosts, permissions and policies.
    pub fn keep_access(&self, text: &[u8]) {
        if let Some(durability) = &self.durability {
            let entry = DefinitionEntry::Access(text);
            durability.put_if_new(entry.key(), entry.value());
        }
    }

    /// Declares what the store has.
    pub(super) fn revive(self: &Arc<Self>, store: &Store, now: Now) -> io::Result<()> {
        let mut places = Places::default();
        let files = self.open_kept_files(store)?;
        // Their exchanges ask for them.
        for entry in store.entries() {
            if let DefinitionEntry::Delays(delays) = &entry {
                self.revive_delays(delays, store);
            }
        }
        for entry in store.entries() {
            let revived = match &entry {
                DefinitionEntry::Exchange(exchange) => self.revive_exchange(exchange, &mut places),
                DefinitionEntry::Queue(queue) => {
                    let number = QueueNumber(queue.number);
                    let none = QueueState::default();
                    let state = store.recovered.snapshot.queues.get(&number).unwrap_or(&none);
                    self.revive_queue(queue, state, &mut places, now)
                }
                DefinitionEntry::Binding(_) | DefinitionEntry::Access(_) | DefinitionEntry::Delays(_) => {
                    Ok(())
                }
            };
            if let Err(refusal) = revived {
                tracing::error!(?entry, "what was kept cannot be declared any more: {refusal}");
            }
        }
        // Bindings come after what they bind, whatever their keys.
        for entry in store.entries() {
            if let DefinitionEntry::Binding(binding) = &entry {
                self.revive_binding(binding, &places);
            }
            if let DefinitionEntry::Delays(delays) = &entry {
                self.forget_idle_delays(delays, store);
            }
        }
        files.into_iter().for_each(|file| self.paging.files.close(file));
        Ok(())
    }

    fn open_kept_files(&self, store: &Store) -> io::Result<BTreeSet<u32>> {
        let damaged = store.recovered.damage.files.keys().filter_map(|name| kept_number(name));
        damaged.for_each(|number| self.paging.files.note_damage(number));
        let states = store.recovered.snapshot.queues.values();
        let files: BTreeSet<u32> = states.flat_map(|state| &state.kept).map(|run| run.page.file).collect();
        for &number in &files {
            match self.paging.files.open_kept(&*store.disk, number) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
                {
                    // Each queue says what it has lost once it wants it.
                    tracing::error!(file = kept_name(number), %error, "a file of pages cannot be read");
                }
                opened => opened?,
            }
        }
        Ok(files)
    }

    fn revive_exchange(
        self: &Arc<Self>,
        entry: &ExchangeEntry<'_>,
        places: &mut Places,
    ) -> Result<(), Refusal> {
        let Some(vhost) = self.vhost(entry.vhost) else { return Ok(()) };
        let kind = exchange_kind(ShortStr::truncated(entry.kind))?;
        let owner = Owner { object: "exchange", name: entry.name, vhost: entry.vhost };
        let declaration = ExchangeDeclaration {
            number: entry.number,
            kind,
            durable: true,
            auto_delete: entry.auto_delete,
            internal: entry.internal,
            arguments: entry.arguments.clone(),
            settings: ExchangeSettings::parse(kind, entry.arguments.as_table(), owner)?
                .under(&vhost.policies.of_exchange(entry.name)),
        };
        let mut topology = vhost.topology.write();
        let id = declare::add_exchange(self, &vhost, &mut topology, entry.name, declaration);
        places.exchanges.insert(entry.number, id);
        Ok(())
    }

    fn revive_queue(
        &self,
        entry: &QueueEntry<'_>,
        state: &QueueState,
        places: &mut Places,
        now: Now,
    ) -> Result<(), Refusal> {
        let Some(vhost) = self.vhost(entry.vhost) else { return Ok(()) };
        let owner = Owner { object: "queue", name: entry.name, vhost: entry.vhost };
        let declare = queue::Declare {
            queue: ShortStr::truncated(entry.name),
            durable: true,
            auto_delete: entry.auto_delete,
            arguments: entry.arguments.as_table(),
            ..queue::Declare::default()
        };
        let declaration = queue_declaration(&declare, None, &vhost.policies, owner)?;
        let (number, link) = (QueueNumber(entry.number), Arc::downgrade(&vhost));
        let ends = ends(state);
        let durable = Arc::new(DurableQueue::new(state.clone()));
        let cell = QueueCell::revived(number.0, entry.name, link, declaration, now, durable);
        cell.revive(&state.kept, &state.returns, &ends);
        if let (Some(durability), Some(durable)) = (&self.durability, &cell.durable) {
            durability.add_queue(number, durable);
        }
        let id = vhost.topology.write().add_queue(entry.name, Arc::clone(&cell));
        cell.place(id);
        places.queues.insert(entry.number, id);
        let mut scratch = Scratch::default();
        scratch.now = now;
        if cell.queue_type() == QueueType::Stream {
            self.read_stream(&cell, state);
        } else {
            state.kept.iter().for_each(|run| self.paging.files.hold(run.page.file, 1));
        }
        cell.step(self, &mut scratch, |_, _, _| ());
        Ok(())
    }

    /// Messages wait again, all of them in memory.
    fn revive_delays(&self, entry: &DelaysEntry<'_>, store: &Store) {
        let number = QueueNumber(entry.number);
        let state = store.recovered.snapshot.queues.get(&number).cloned().unwrap_or_default();
        let next_index = ends(&state).first().map_or(0, |end| end.0);
        let at = DelayedAt {
            vhost: entry.vhost.into(),
            exchange: entry.exchange.into(),
            line: Some(entry.number),
        };
        let at = Arc::new(at);
        let waiting = self.read_kept(number, &state, entry.exchange);
        self.add_delay_line(entry.vhost, entry.exchange, KeptLine::new(number, state, next_index));
        for (ordinal, location) in waiting {
            if planted::is(Bug::DelayNotRevived) {
                continue;
            }
            self.wait_again(&at, Ordinal(ordinal), location);
        }
    }

    /// A line is not needed any more where nothing waits and there is no such exchange.
    fn forget_idle_delays(&self, entry: &DelaysEntry<'_>, store: &Store) {
        let state = store.recovered.snapshot.queues.get(&QueueNumber(entry.number));
        let vhost = self.vhost(entry.vhost);
        let is_there = vhost.is_some_and(|vhost| vhost.topology.read().exchange(entry.exchange).is_some());
        if let Some(durability) = self.durability.as_ref().filter(|_| !is_there)
            && state.is_none_or(|state| state.kept.is_empty())
        {
            self.delays.remove_line(entry.vhost, entry.exchange);
            durability.remove(&DefinitionEntry::Delays(*entry).key());
            durability.remove_queue(QueueNumber(entry.number));
        }
    }

    /// A stream has all its messages in memory.
    fn read_stream(&self, cell: &QueueCell, state: &QueueState) {
        cell.revive_stream(&self.read_kept(cell.number(), state, &cell.name));
    }

    /// Reads all messages on those pages into memory. `name` is for people.
    fn read_kept(&self, number: QueueNumber, state: &QueueState, name: &str) -> Vec<(u64, Location)> {
        let mut entries: Vec<(u64, Location)> = Vec::new();
        for run in &state.kept {
            let page =
                self.paging.files.read(run.page).map_err(|error| error.to_string()).and_then(|octets| {
                    let entries =
                        page::entries(&octets, number.0, run).map_err(|damage| damage.to_string())?;
                    Ok((octets, entries))
                });
            match page {
                Ok((octets, found)) => {
                    let lengths: Vec<_> =
                        found.iter().map(|entry| page::record_octets(&octets, entry)).collect();
                    let first = self.log.append_page(octets, found.iter().map(|entry| entry.offset));
                    entries.extend(found.iter().enumerate().map(|(nth, entry)| {
                        (entry.ordinal.0, first.plus(nth).of_octets(lengths[nth]).expiring(entry.expires))
                    }));
                }
                Err(problem) => {
                    let messages = run.messages;
                    tracing::error!(name, messages, "messages are lost: {problem}");
                }
            }
        }
        entries
    }

    fn revive_binding(&self, entry: &BindingEntry<'_>, places: &Places) {
        if planted::is(Bug::BindingNotRevived) {
            return;
        }
        let Some(vhost) = self.vhost(entry.vhost) else { return };
        let mut topology = vhost.topology.write();
        let predeclared = |number: u64| topology.predeclared(number);
        let exchange = |number: u64| places.exchanges.get(&number).copied().or_else(|| predeclared(number));
        let destination = match entry.destination {
            DestinationNumber::Queue(number) => places.queues.get(&number).copied().map(Destination::Queue),
            DestinationNumber::Exchange(number) => exchange(number).map(Destination::Exchange),
        };
        // One whose end was deleted is left over, and goes with the next snapshot.
        let (Some(source), Some(destination)) = (exchange(entry.source), destination) else {
            if let Some(durability) = &self.durability {
                durability.remove(&DefinitionEntry::Binding(entry.clone()).key());
            }
            return;
        };
        let (routing_key, arguments) = (entry.routing_key, entry.arguments.as_table());
        let request = BindingRequest { source, destination, routing_key, arguments };
        topology.bind(request.binding());
    }
}

/// The ordinals that the next messages of a queue have, one for each band that had any.
fn ends(state: &QueueState) -> Vec<Ordinal> {
    let mut ends: BTreeMap<usize, Ordinal> = BTreeMap::new();
    let lasts = state.gone.iter().map(|range| range.last).chain(state.kept.iter().map(|run| run.last.0));
    for last in lasts {
        let next =
            Ordinal(if planted::is(Bug::OrdinalsUsedAgain) { last.saturating_sub(1) } else { last + 1 });
        let end = ends.entry(Ordinal(last).band()).or_insert(next);
        *end = next.max(*end);
    }
    ends.into_values().collect()
}
