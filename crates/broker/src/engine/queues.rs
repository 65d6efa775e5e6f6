//! Queues: declared, bound, purged, deleted.

use std::sync::Arc;

use leveret_wire::{ShortStr, TableBuf, Value, method::queue};

use super::{
    ConnectionId, Engine,
    connection::Connection,
    declare::{
        BindingRequest, QueueTopology, RESERVED_PREFIX, check_topic, exchange_argument, find_exchange,
    },
    methods::{name, text},
    permissions::Resource,
    queue_cell::{QueueCell, QueueDeclaration, Remains},
    replies::REPLY_TO,
    vhost::Vhost,
};
use crate::{
    Refusal,
    access::{Limit, Operation},
    model::{
        any_queue::AnyQueue,
        arguments::{Owner, check_queue_equivalence, flag_difference, inequivalent},
        binding::Destination,
        policy::Policies,
        queue_arguments::{QueueArguments, QueueType, check_segment, refuse_missing_arguments},
    },
    store::journal::Position,
};

const SERVER_NAMED_PREFIX: &str = "amq.gen-";

impl Connection {
    pub(super) fn declare_queue(&mut self, channel: u16, declare: queue::Declare<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        if declare.queue.as_bytes() == REPLY_TO.as_bytes()
            || vhost.replies.find(declare.queue.as_bytes()).is_some()
        {
            if !declare.nowait {
                let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 1 };
                self.say(channel, ok);
            }
            return Ok(());
        }
        let (cell, lasts_at) = if declare.passive {
            let cell = find_queue(&vhost, &name(declare.queue)?)?;
            self.check_access(&vhost, &cell)?;
            (cell, None)
        } else {
            let arguments = arguments_of(&vhost, &declare);
            self.declare_actively(&vhost, &queue::Declare { arguments: arguments.as_table(), ..declare })?
        };
        self.channel(channel).data.last_queue = Some(cell.name.clone());
        if declare.nowait {
            return Ok(());
        }
        let (ready, consumers) = cell.count(&self.engine, &mut self.scratch).unwrap_or_default();
        self.say_when_synced(
            lasts_at,
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
    ) -> Result<(Arc<QueueCell>, Option<Position>), Refusal> {
        let name = match name(declare.queue)? {
            name if name.is_empty() => self.engine.random_name(SERVER_NAMED_PREFIX),
            name if name.starts_with(RESERVED_PREFIX) => {
                return Err(Refusal::ReservedName { kind: "queue", name });
            }
            name => name,
        };
        let owner = Owner { object: "queue", name: &name, vhost: &vhost.name };
        self.grants().check(Operation::Configure, Resource::Queue(&name))?;
        let mut topology = vhost.topology.write();
        if let Some((_, cell)) = topology.queue(&name) {
            refuse_missing_arguments(declare.arguments, owner)?;
            self.check_equivalence(cell, declare, owner)?;
            return Ok((
                Arc::clone(cell),
                self.engine.defined_until_now().filter(|_| cell.durable.is_some()),
            ));
        }
        check_queue_limit(vhost, topology.queue_count(), &name)?;
        if let Some(exchange) = exchange_argument(declare.arguments, "x-dead-letter-exchange") {
            self.grants().check(Operation::Read, Resource::Queue(&name))?;
            self.grants().check(Operation::Write, Resource::Exchange(exchange))?;
        }
        refuse_missing_arguments(declare.arguments, owner)?;
        let declaration = queue_declaration(declare, Some(self.id), &vhost.policies, owner)?;
        let exclusive = declaration.owner.is_some();
        let vhost_link = Arc::downgrade(vhost);
        let cell = QueueCell::new(
            self.engine.next_id(),
            &name,
            vhost_link,
            declaration,
            self.now,
            self.engine.paging.is_on(),
        );
        cell.place(topology.add_queue(&name, Arc::clone(&cell)));
        let lasts_at = self.engine.note_queue(vhost, &cell);
        drop(topology);
        // The housekeeper is told of one that nobody may ever use.
        cell.step(&self.engine, &mut self.scratch, |_, _, _| ());
        if exclusive {
            self.exclusive.insert(cell.serial, Arc::clone(&cell));
        }
        Ok((cell, lasts_at))
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
        let queue_type = current.parsed.queue_type;
        check_queue_equivalence(current.arguments.as_table(), received.arguments, queue_type, owner)
    }

    /// The queue that a method uses, or the channel's last one for the empty name.
    pub(super) fn named_queue(
        &mut self,
        channel: u16,
        queue: ShortStr<'_>,
    ) -> Result<Arc<QueueCell>, Refusal> {
        let vhost = self.open_vhost_handle();
        let name = match text(queue)? {
            "" => self.last_queue(channel)?.to_owned(),
            name => name.to_owned(),
        };
        self.grants().check(Operation::Read, Resource::Queue(&name))?;
        let cell = find_queue(&vhost, &name)?;
        self.check_access(&vhost, &cell)?;
        Ok(cell)
    }

    pub(super) fn last_queue(&mut self, channel: u16) -> Result<&str, Refusal> {
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
        self.grants().check_binding(&source, Resource::Queue(&queue))?;
        // With neither a queue nor a key named, the key is the queue's name.
        let by_name = bind.queue.is_empty() && bind.routing_key.is_empty();
        let routing_key = if by_name { queue.as_bytes() } else { bind.routing_key.as_bytes() };
        let mut topology = vhost.topology.write();
        check_topic(self.grants(), &topology, &source, routing_key)?;
        let source = find_exchange(&topology, &vhost, &source)?.0;
        let (destination, cell) = place_of(&topology, &vhost, &queue)?;
        let request = BindingRequest { source, destination, routing_key, arguments: bind.arguments };
        let binding = request.check(&topology)?;
        self.check_access(&vhost, &cell)?;
        let recalled = self.engine.bind(&mut topology, &binding);
        let lasts_at = self.engine.note_binding(&vhost, &topology, &binding);
        drop(topology);
        if let Some(recalled) = recalled {
            self.recall(&recalled);
        }
        if !bind.nowait {
            self.say_when_synced(lasts_at, channel, queue::BindOk {});
        }
        Ok(())
    }

    pub(super) fn unbind_queue(&mut self, channel: u16, unbind: queue::Unbind<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let source = name(unbind.exchange)?;
        let queue = self.queue_name(channel, unbind.queue)?;
        self.grants().check_binding(&source, Resource::Queue(&queue))?;
        let by_name = unbind.queue.is_empty() && unbind.routing_key.is_empty();
        let routing_key = if by_name { queue.as_bytes() } else { unbind.routing_key.as_bytes() };
        let mut topology = vhost.topology.write();
        check_topic(self.grants(), &topology, &source, routing_key)?;
        let source = topology.exchange(&source).map(|(id, _)| id);
        let mut lasts_at = None;
        // That there is nothing to unbind is no error.
        if let (Some(source), Ok((destination, cell))) = (source, place_of(&topology, &vhost, &queue)) {
            let request = BindingRequest { source, destination, routing_key, arguments: unbind.arguments };
            let binding = request.binding();
            if topology.is_bound(&binding) {
                self.check_access(&vhost, &cell)?;
                lasts_at = self.engine.unbind(&vhost, &mut topology, &binding);
            }
        }
        drop(topology);
        self.say_when_synced(lasts_at, channel, queue::UnbindOk {});
        Ok(())
    }

    pub(super) fn purge_queue(&mut self, channel: u16, purge: queue::Purge<'_>) -> Result<(), Refusal> {
        let cell = self.named_queue(channel, purge.queue)?;
        self.refuse_for_stream(&cell, "queue.purge")?;
        let drained = cell
            .step(&self.engine, &mut self.scratch, |queue, _, _| (queue.ready_positions(), queue.drain()));
        let (positions, drained) = drained.unwrap_or_default();
        let lasts_at = cell.left_all(&self.engine, &positions);
        let messages = drained.messages();
        self.frees.push_drained(drained);
        if !purge.nowait {
            let message_count = u32::try_from(messages).unwrap_or(u32::MAX);
            self.say_when_synced(lasts_at, channel, queue::PurgeOk { message_count });
        }
        Ok(())
    }

    /// Streams cannot do all that queues can.
    pub(super) fn refuse_for_stream(&self, cell: &QueueCell, what: &str) -> Result<(), Refusal> {
        if cell.queue_type() != QueueType::Stream {
            return Ok(());
        }
        let (queue, vhost) = (&cell.name, self.vhost_name());
        Err(Refusal::NotImplemented(format!(
            "{what} not supported by stream queues queue '{queue}' in vhost '{vhost}'"
        )))
    }

    pub(super) fn delete_queue(&mut self, channel: u16, delete: queue::Delete<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let name = self.queue_name(channel, delete.queue)?;
        self.grants().check(Operation::Configure, Resource::Queue(&name))?;
        let (mut messages, mut lasts_at) = (0, None);
        if let Ok(cell) = find_queue(&vhost, &name) {
            self.check_access(&vhost, &cell)?;
            let conditions = Conditions::of(&delete, &cell, &vhost)?;
            (messages, lasts_at) = self.remove_queue(&vhost, &cell, |queue| conditions.check(queue))?;
            if cell.queue_type() == QueueType::Stream {
                // As RabbitMQ says of a stream, whatever was in it.
                messages = 0;
            }
        }
        if !delete.nowait {
            let message_count = u32::try_from(messages).unwrap_or(u32::MAX);
            self.say_when_synced(lasts_at, channel, queue::DeleteOk { message_count });
        }
        Ok(())
    }

    /// Deletes a queue if the condition holds, and returns how many messages were ready in it and up
    /// to where the journal has to be synced for it to stay so.
    pub(super) fn remove_queue<E>(
        &mut self,
        vhost: &Vhost,
        cell: &QueueCell,
        condition: impl FnOnce(&AnyQueue) -> Result<(), E>,
    ) -> Result<(u64, Option<Position>), E> {
        let Some(remains) = self.engine.kill_queue(vhost, cell, condition)? else { return Ok((0, None)) };
        self.exclusive.swap_remove(&cell.serial);
        self.frees.push_drained(remains.drained);
        Ok((remains.messages, remains.lasts_at))
    }

    /// Deletes an auto-delete queue that its last consumer has left.
    pub(super) fn remove_abandoned_queue(&mut self, cell: &QueueCell) {
        let vhost = self.open_vhost_handle();
        let abandoned = |queue: &AnyQueue| if queue.is_abandoned() { Ok(()) } else { Err(()) };
        // Somebody may have begun to consume meanwhile; then it stays.
        let _ = self.remove_queue(&vhost, cell, abandoned);
    }
}

impl Engine {
    pub(super) fn kill_queue<E>(
        &self,
        vhost: &Vhost,
        cell: &QueueCell,
        condition: impl FnOnce(&AnyQueue) -> Result<(), E>,
    ) -> Result<Option<Remains>, E> {
        let mut topology = vhost.topology.write();
        let mut lasts_at = None;
        let remains = cell.kill(condition, |id| {
            topology.remove_queue(id);
            lasts_at = self.note_gone_queue(vhost, &mut topology, cell);
        })?;
        if let Some(at) = remains.as_ref().and_then(|remains| remains.deadline_millis) {
            self.deadlines.remove(at, cell.serial);
        }
        if remains.as_ref().is_some_and(|remains| remains.is_spillable) {
            self.paging.remove_spillable(cell.serial);
        }
        Ok(remains.map(|remains| Remains { lasts_at, ..remains }))
    }
}

/// How a queue is declared by a client, or by nobody.
pub(super) fn queue_declaration(
    declare: &queue::Declare<'_>,
    client: Option<ConnectionId>,
    policies: &Policies,
    owner: Owner<'_>,
) -> Result<QueueDeclaration, Refusal> {
    let parsed = QueueArguments::parse(declare.arguments, owner)?;
    let policy = policies.of_queue(owner.name, parsed.queue_type);
    let mut parsed = parsed.under(&policy, declare.arguments);
    parsed.settings.is_durable = is_durable(declare);
    if parsed.queue_type != QueueType::Classic {
        check_replicated(declare, parsed.queue_type, owner)?;
        check_segment(declare.arguments)?;
    }
    Ok(QueueDeclaration {
        durable: is_durable(declare),
        auto_delete: declare.auto_delete,
        owner: client.filter(|_| declare.exclusive),
        arguments: TableBuf::from(declare.arguments),
        parsed,
    })
}

/// The arguments, with the virtual host's type of queue where none is asked for and the queue may
/// be of it.
pub(super) fn arguments_of(vhost: &Vhost, declare: &queue::Declare<'_>) -> TableBuf {
    let arguments = TableBuf::from(declare.arguments);
    let Some(kind) = vhost.definition.default_queue_type else { return arguments };
    let lasts = declare.durable && !declare.exclusive && !declare.auto_delete;
    if declare.arguments.find("x-queue-type").is_some() || !(lasts || kind == QueueType::Classic) {
        return arguments;
    }
    arguments.with("x-queue-type", Value::LongStr(kind.name().as_bytes()))
}

fn check_queue_limit(vhost: &Vhost, queues: usize, queue: &str) -> Result<(), Refusal> {
    match vhost.definition.limits.queues_max.and_then(Limit::bound) {
        Some(limit) if queues as u64 >= limit => {
            Err(Refusal::TooManyQueues { queue: queue.to_owned(), vhost: vhost.name.to_string(), limit })
        }
        _ => Ok(()),
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
        let flag = if delete.if_unused { "if-unused" } else { "if-empty" };
        if cell.queue_type() == QueueType::Quorum && (delete.if_empty || delete.if_unused) {
            return Err(Refusal::NotImplemented(format!(
                "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete operations with {flag} flag set are \
                 not supported by quorum queues"
            )));
        }
        // A stream is never empty in that sense.
        let if_empty = delete.if_empty && cell.queue_type() != QueueType::Stream;
        Ok(Self { if_unused: delete.if_unused, if_empty, queue, vhost })
    }

    fn check(self, queue: &AnyQueue) -> Result<(), Refusal> {
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
pub(super) fn place_of(
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

/// Quorum queues and streams would have replicas, which outlive connections and restarts.
fn check_replicated(
    declare: &queue::Declare<'_>,
    queue_type: QueueType,
    owner: Owner<'_>,
) -> Result<(), Refusal> {
    let invalid = |property| {
        Err(Refusal::InvalidProperty {
            property,
            queue: owner.name.to_owned(),
            vhost: owner.vhost.to_owned(),
        })
    };
    match declare {
        _ if declare.queue.is_empty() => Err(Refusal::ServerNamed { queue_type: queue_type.module() }),
        _ if declare.auto_delete => invalid("auto-delete"),
        _ if declare.exclusive => invalid("exclusive-owner"),
        _ if !declare.durable => invalid("non-durable"),
        _ => Ok(()),
    }
}
