//! Queues: declared, bound, purged, deleted.

use std::sync::Arc;

use leveret_wire::{ShortStr, TableBuf, method::queue};

use super::{
    Engine,
    connection::Connection,
    declare::{BindingRequest, QueueTopology, RESERVED_PREFIX, find_exchange, refuse_default},
    methods::{name, text},
    queue_cell::{QueueCell, QueueDeclaration, Remains},
    vhost::Vhost,
};
use crate::{
    Refusal,
    model::{
        arguments::{
            Owner, QueueArguments, QueueType, check_queue_equivalence, flag_difference, inequivalent,
            refuse_missing_arguments,
        },
        binding::Destination,
        queue::Queue,
    },
};

const SERVER_NAMED_PREFIX: &str = "amq.gen-";

impl Connection {
    pub(super) fn declare_queue(&mut self, channel: u16, declare: queue::Declare<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let cell = if declare.passive {
            let cell = find_queue(&vhost, &name(declare.queue)?)?;
            self.check_access(&vhost, &cell)?;
            cell
        } else {
            self.declare_actively(&vhost, &declare)?
        };
        self.channel(channel).data.last_queue = Some(cell.name.clone());
        if declare.nowait {
            return Ok(());
        }
        let counts = cell.step(&self.engine, &mut self.scratch, |queue, messages, effects| {
            queue.touch(messages.now_millis());
            queue.expire(messages, effects);
            (queue.ready(), queue.consumer_count())
        });
        let (ready, consumers) = counts.unwrap_or_default();
        self.say(
            channel,
            queue::DeclareOk {
                queue: (&*cell.name).into(),
                message_count: u32::try_from(ready).unwrap_or(u32::MAX),
                consumer_count: u32::try_from(consumers).unwrap_or(u32::MAX),
            },
        );
        Ok(())
    }

    fn declare_actively(
        &mut self,
        vhost: &Arc<Vhost>,
        declare: &queue::Declare<'_>,
    ) -> Result<Arc<QueueCell>, Refusal> {
        let name = match name(declare.queue)? {
            name if name.is_empty() => self.engine.random_name(SERVER_NAMED_PREFIX),
            name if name.starts_with(RESERVED_PREFIX) => {
                return Err(Refusal::ReservedName { kind: "queue", name });
            }
            name => name,
        };
        let owner = Owner { object: "queue", name: &name, vhost: &vhost.name };
        refuse_missing_arguments(declare.arguments, owner)?;
        let mut topology = vhost.topology.write();
        if let Some((_, cell)) = topology.queue(&name) {
            self.check_equivalence(cell, declare, owner)?;
            return Ok(Arc::clone(cell));
        }
        let declaration = self.declaration(declare, owner)?;
        let exclusive = declaration.owner.is_some();
        let vhost_link = Arc::downgrade(vhost);
        let cell = QueueCell::new(self.engine.next_id(), &name, vhost_link, declaration, self.now);
        cell.place(topology.add_queue(&name, Arc::clone(&cell)));
        drop(topology);
        // The housekeeper is told of one that nobody may ever use.
        cell.step(&self.engine, &mut self.scratch, |_, _, _| ());
        if exclusive {
            self.exclusive.insert(cell.serial, Arc::clone(&cell));
        }
        Ok(cell)
    }

    fn declaration(
        &self,
        declare: &queue::Declare<'_>,
        owner: Owner<'_>,
    ) -> Result<QueueDeclaration, Refusal> {
        let parsed = QueueArguments::parse(declare.arguments, owner)?;
        if parsed.queue_type == QueueType::Quorum {
            check_quorum(declare, owner)?;
        }
        Ok(QueueDeclaration {
            durable: is_durable(declare),
            auto_delete: declare.auto_delete,
            owner: declare.exclusive.then_some(self.id),
            arguments: TableBuf::from(declare.arguments),
            parsed,
        })
    }

    fn check_equivalence(
        &self,
        cell: &QueueCell,
        received: &queue::Declare<'_>,
        owner: Owner<'_>,
    ) -> Result<(), Refusal> {
        let current = &cell.declaration;
        if current.owner != received.exclusive.then_some(self.id) {
            return Err(Refusal::LockedQueue { queue: owner.name.to_owned(), vhost: owner.vhost.to_owned() });
        }
        let durable = flag_difference(&current.durable, &is_durable(received)).map(|text| ("durable", text));
        let difference = durable.or_else(|| {
            flag_difference(&current.auto_delete, &received.auto_delete).map(|text| ("auto_delete", text))
        });
        if let Some((argument, text)) = difference {
            return Err(inequivalent(argument, text, owner));
        }
        check_queue_equivalence(current.arguments.as_table(), received.arguments, owner)
    }

    /// The queue that a method uses, or the channel's last one for the empty name.
    pub(super) fn named_queue(
        &mut self,
        channel: u16,
        queue: ShortStr<'_>,
    ) -> Result<Arc<QueueCell>, Refusal> {
        let vhost = self.open_vhost_handle();
        let cell = match text(queue)? {
            "" => find_queue(&vhost, self.last_queue(channel)?)?,
            name => find_queue(&vhost, name)?,
        };
        self.check_access(&vhost, &cell)?;
        Ok(cell)
    }

    fn last_queue(&mut self, channel: u16) -> Result<&str, Refusal> {
        self.channel(channel).data.last_queue.as_deref().ok_or(Refusal::NoPreviousQueue)
    }

    /// The name of a queue that is bound or deleted.
    fn queue_name(&mut self, channel: u16, queue: ShortStr<'_>) -> Result<String, Refusal> {
        match &*name(queue)? {
            "" => self.last_queue(channel).map(str::to_owned),
            name => Ok(name.to_owned()),
        }
    }

    fn check_access(&self, vhost: &Vhost, cell: &QueueCell) -> Result<(), Refusal> {
        match cell.declaration.owner {
            Some(owner) if owner != self.id => Err(locked(vhost, &cell.name)),
            _ => Ok(()),
        }
    }

    pub(super) fn bind_queue(&mut self, channel: u16, bind: queue::Bind<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let source = name(bind.exchange)?;
        let queue = self.queue_name(channel, bind.queue)?;
        refuse_default(&source)?;
        // With neither a queue nor a key named, the key is the queue's name.
        let by_name = bind.queue.is_empty() && bind.routing_key.is_empty();
        let routing_key = if by_name { queue.as_bytes() } else { bind.routing_key.as_bytes() };
        let mut topology = vhost.topology.write();
        let source = find_exchange(&topology, &vhost, &source)?.0;
        let (destination, cell) = place_of(&topology, &vhost, &queue)?;
        let request = BindingRequest { source, destination, routing_key, arguments: bind.arguments };
        let binding = request.check(&topology)?;
        self.check_access(&vhost, &cell)?;
        topology.bind(binding);
        drop(topology);
        if !bind.nowait {
            self.say(channel, queue::BindOk {});
        }
        Ok(())
    }

    pub(super) fn unbind_queue(&mut self, channel: u16, unbind: queue::Unbind<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let source = name(unbind.exchange)?;
        let queue = self.queue_name(channel, unbind.queue)?;
        refuse_default(&source)?;
        let by_name = unbind.queue.is_empty() && unbind.routing_key.is_empty();
        let routing_key = if by_name { queue.as_bytes() } else { unbind.routing_key.as_bytes() };
        let mut topology = vhost.topology.write();
        let source = topology.exchange(&source).map(|(id, _)| id);
        // That there is nothing to unbind is no error.
        if let (Some(source), Ok((destination, cell))) = (source, place_of(&topology, &vhost, &queue)) {
            let request = BindingRequest { source, destination, routing_key, arguments: unbind.arguments };
            let binding = request.binding();
            if topology.is_bound(&binding) {
                self.check_access(&vhost, &cell)?;
                topology.unbind(&binding);
            }
        }
        drop(topology);
        self.say(channel, queue::UnbindOk {});
        Ok(())
    }

    pub(super) fn purge_queue(&mut self, channel: u16, purge: queue::Purge<'_>) -> Result<(), Refusal> {
        let cell = self.named_queue(channel, purge.queue)?;
        let drained = cell.step(&self.engine, &mut self.scratch, |queue, _, _| queue.drain());
        let drained = drained.unwrap_or_default();
        let messages = drained.iter().map(std::collections::VecDeque::len).sum::<usize>();
        drained.into_iter().for_each(|locations| self.frees.push(locations));
        if !purge.nowait {
            self.say(channel, queue::PurgeOk { message_count: u32::try_from(messages).unwrap_or(u32::MAX) });
        }
        Ok(())
    }

    pub(super) fn delete_queue(&mut self, channel: u16, delete: queue::Delete<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let name = self.queue_name(channel, delete.queue)?;
        let mut messages = 0;
        if let Ok(cell) = find_queue(&vhost, &name) {
            self.check_access(&vhost, &cell)?;
            let conditions = Conditions::of(&delete, &cell, &vhost)?;
            messages = self.remove_queue(&vhost, &cell, |queue| conditions.check(queue))?;
        }
        if !delete.nowait {
            self.say(channel, queue::DeleteOk { message_count: u32::try_from(messages).unwrap_or(u32::MAX) });
        }
        Ok(())
    }

    /// Deletes a queue if the condition holds, and returns how many messages were ready in it.
    pub(super) fn remove_queue<E>(
        &mut self,
        vhost: &Vhost,
        cell: &QueueCell,
        condition: impl FnOnce(&Queue) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Some(remains) = self.engine.kill_queue(vhost, cell, condition)? else { return Ok(0) };
        self.exclusive.swap_remove(&cell.serial);
        for locations in remains.locations {
            self.frees.push(locations);
        }
        Ok(remains.messages)
    }

    /// Deletes an auto-delete queue that its last consumer has left.
    pub(super) fn remove_abandoned_queue(&mut self, cell: &QueueCell) {
        let vhost = self.open_vhost_handle();
        let abandoned = |queue: &Queue| if queue.is_abandoned() { Ok(()) } else { Err(()) };
        // Somebody may have begun to consume meanwhile; then it stays.
        let _ = self.remove_queue(&vhost, cell, abandoned);
    }
}

impl Engine {
    pub(super) fn kill_queue<E>(
        &self,
        vhost: &Vhost,
        cell: &QueueCell,
        condition: impl FnOnce(&Queue) -> Result<(), E>,
    ) -> Result<Option<Remains>, E> {
        let mut topology = vhost.topology.write();
        cell.kill(condition, |id| topology.remove_queue(id))
    }
}

/// What `queue.delete` insists on.
struct Conditions {
    if_unused: bool,
    if_empty: bool,
    queue: String,
    vhost: String,
}

impl Conditions {
    fn of(delete: &queue::Delete<'_>, cell: &QueueCell, vhost: &Vhost) -> Result<Self, Refusal> {
        let (queue, vhost) = (cell.name.to_string(), vhost.name.to_string());
        let flag = if delete.if_empty { "if-empty" } else { "if-unused" };
        if cell.declaration.parsed.queue_type == QueueType::Quorum && (delete.if_empty || delete.if_unused) {
            return Err(Refusal::NotImplemented(format!(
                "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {flag} flag set are \
                 not supported by quorum queues"
            )));
        }
        Ok(Self { if_unused: delete.if_unused, if_empty: delete.if_empty, queue, vhost })
    }

    fn check(self, queue: &Queue) -> Result<(), Refusal> {
        if self.if_empty && queue.ready() > 0 {
            return Err(Refusal::NotEmpty { queue: self.queue, vhost: self.vhost });
        }
        if self.if_unused && queue.consumer_count() > 0 {
            return Err(Refusal::InUse { object: "queue", name: self.queue, vhost: self.vhost });
        }
        Ok(())
    }
}

fn find_queue(vhost: &Vhost, name: &str) -> Result<Arc<QueueCell>, Refusal> {
    let topology = vhost.topology.read();
    let missing = || Refusal::NoQueue { queue: name.to_owned(), vhost: vhost.name.to_string() };
    topology.queue(name).map(|(_, cell)| Arc::clone(cell)).ok_or_else(missing)
}

/// A queue as the destination of a binding.
fn place_of(
    topology: &QueueTopology,
    vhost: &Vhost,
    name: &str,
) -> Result<(Destination, Arc<QueueCell>), Refusal> {
    let found = topology.queue(name).map(|(id, cell)| (Destination::Queue(id), Arc::clone(cell)));
    found.ok_or_else(|| Refusal::NoQueue { queue: name.to_owned(), vhost: vhost.name.to_string() })
}

fn locked(vhost: &Vhost, queue: &str) -> Refusal {
    Refusal::LockedQueue { queue: queue.to_owned(), vhost: vhost.name.to_string() }
}

/// An exclusive queue goes with its connection, and so is not durable whatever was asked.
const fn is_durable(declare: &queue::Declare<'_>) -> bool {
    declare.durable && !declare.exclusive
}

fn check_quorum(declare: &queue::Declare<'_>, owner: Owner<'_>) -> Result<(), Refusal> {
    let invalid = |property| {
        Err(Refusal::InvalidProperty {
            property,
            queue: owner.name.to_owned(),
            vhost: owner.vhost.to_owned(),
        })
    };
    match declare {
        _ if declare.queue.is_empty() => Err(Refusal::ServerNamedQuorum),
        _ if !declare.durable => invalid("non-durable"),
        _ if declare.auto_delete => invalid("auto-delete"),
        _ if declare.exclusive => invalid("exclusive-owner"),
        _ => Ok(()),
    }
}
