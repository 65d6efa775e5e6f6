//! Exchanges: declared, deleted, bound to one another.

use std::sync::Arc;

use leveret_wire::{ShortStr, Table, TableBuf, Value, method::exchange};

use super::{
    Engine,
    connection::Connection,
    methods::name,
    permissions::{Grants, Resource},
    queue_cell::QueueCell,
    vhost::Vhost,
};
use crate::{
    Refusal,
    access::Operation,
    model::{
        arguments::{Owner, argument_difference, flag_difference, inequivalent},
        binding::{Binding, Destination},
        exchange::{ALTERNATE, DelayedAt, Exchange, ExchangeDeclaration, ExchangeKind, ExchangeSettings},
        topology::{ExchangeId, Topology},
    },
    store::journal::Position,
};

pub(super) type QueueTopology = Topology<Arc<QueueCell>>;

/// Names that only the server gives.
pub(super) const RESERVED_PREFIX: &str = "amq.";

/// What a binding or unbinding names.
pub(super) struct BindingRequest<'a> {
    pub(super) source: ExchangeId,
    pub(super) destination: Destination,
    pub(super) routing_key: &'a [u8],
    pub(super) arguments: Table<'a>,
}

impl BindingRequest<'_> {
    pub(super) fn binding(&self) -> Binding {
        Binding {
            source: self.source,
            destination: self.destination,
            routing_key: self.routing_key.into(),
            arguments: TableBuf::sorted(self.arguments),
        }
    }

    /// The binding, if its source takes such arguments.
    pub(super) fn check(&self, topology: &QueueTopology) -> Result<Binding, Refusal> {
        let kind = topology.exchange_of(self.source).routing_kind();
        kind.check_binding(self.routing_key, self.arguments)?;
        Ok(self.binding())
    }
}

impl Connection {
    /// The virtual host, which is open as soon as channels are.
    pub(super) fn open_vhost_handle(&self) -> Arc<Vhost> {
        Arc::clone(self.vhost.as_ref().expect("channels are open in a virtual host"))
    }

    /// What the user may do there.
    pub(super) fn grants(&self) -> &Grants {
        self.grants.as_ref().expect("channels are open in a virtual host")
    }

    pub(super) fn declare_exchange(
        &mut self,
        channel: u16,
        declare: exchange::Declare<'_>,
    ) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let name = name(declare.exchange)?;
        let lasts_at = if declare.passive {
            refuse_default(&name)?;
            find_exchange(&vhost.topology.read(), &vhost, &name)?;
            None
        } else {
            let grants = self.grants();
            declare_actively(&self.engine, &vhost, &name, &declare, |operation, resource| {
                grants.check(operation, resource)
            })?
        };
        if !declare.nowait {
            self.say_when_synced(lasts_at, channel, exchange::DeclareOk {});
        }
        Ok(())
    }

    pub(super) fn delete_exchange(
        &mut self,
        channel: u16,
        delete: exchange::Delete<'_>,
    ) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let name = name(delete.exchange)?;
        refuse_default(&name)?;
        if name.starts_with(RESERVED_PREFIX) {
            return Err(Refusal::SystemExchange { exchange: name, vhost: vhost.name.to_string() });
        }
        self.grants().check(Operation::Configure, Resource::Exchange(&name))?;
        let mut topology = vhost.topology.write();
        if let Some((id, _)) = topology.exchange(&name) {
            if delete.if_unused && topology.exchange_in_use(id) {
                return Err(Refusal::InUse { object: "exchange", name, vhost: vhost.name.to_string() });
            }
            topology.remove_exchange(id);
        }
        let lasts_at = self.engine.note_gone_exchanges(&vhost, &mut topology);
        drop(topology);
        if !delete.nowait {
            self.say_when_synced(lasts_at, channel, exchange::DeleteOk {});
        }
        Ok(())
    }

    pub(super) fn bind_exchange(&mut self, channel: u16, bind: exchange::Bind<'_>) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let (source, destination) = (name(bind.source)?, name(bind.destination)?);
        self.grants().check_binding(&source, Resource::Exchange(&destination))?;
        let mut topology = vhost.topology.write();
        check_topic(self.grants(), &topology, &source, bind.routing_key.as_bytes())?;
        let request = BindingRequest {
            source: find_exchange(&topology, &vhost, &source)?.0,
            destination: Destination::Exchange(find_exchange(&topology, &vhost, &destination)?.0),
            routing_key: bind.routing_key.as_bytes(),
            arguments: bind.arguments,
        };
        let binding = request.check(&topology)?;
        let recalled = self.engine.bind(&mut topology, &binding);
        let lasts_at = self.engine.note_binding(&vhost, &topology, &binding);
        drop(topology);
        if let Some(recalled) = recalled {
            self.recall(&recalled);
        }
        if !bind.nowait {
            self.say_when_synced(lasts_at, channel, exchange::BindOk {});
        }
        Ok(())
    }

    pub(super) fn unbind_exchange(
        &mut self,
        channel: u16,
        unbind: exchange::Unbind<'_>,
    ) -> Result<(), Refusal> {
        let vhost = self.open_vhost_handle();
        let (source, destination) = (name(unbind.source)?, name(unbind.destination)?);
        self.grants().check_binding(&source, Resource::Exchange(&destination))?;
        let mut topology = vhost.topology.write();
        check_topic(self.grants(), &topology, &source, unbind.routing_key.as_bytes())?;
        let mut lasts_at = None;
        let found = (topology.exchange(&source), topology.exchange(&destination));
        // That there is nothing to unbind is no error.
        if let (Some((source, _)), Some((destination, _))) = found {
            let request = BindingRequest {
                source,
                destination: Destination::Exchange(destination),
                routing_key: unbind.routing_key.as_bytes(),
                arguments: unbind.arguments,
            };
            lasts_at = self.engine.unbind(&vhost, &mut topology, &request.binding());
        }
        drop(topology);
        if !unbind.nowait {
            self.say_when_synced(lasts_at, channel, exchange::UnbindOk {});
        }
        Ok(())
    }
}

/// Declares an exchange, after `permit` allowed it. Returns up to where the journal has to be synced
/// for it to last.
pub(super) fn declare_actively(
    engine: &Arc<Engine>,
    vhost: &Vhost,
    name: &str,
    declare: &exchange::Declare<'_>,
    permit: impl Fn(Operation, Resource<'_>) -> Result<(), Refusal>,
) -> Result<Option<Position>, Refusal> {
    let kind = exchange_kind(declare.kind)?;
    let owner = Owner { object: "exchange", name, vhost: &vhost.name };
    refuse_default(name)?;
    permit(Operation::Configure, Resource::Exchange(name))?;
    let mut topology = vhost.topology.write();
    match topology.exchange(name) {
        Some((_, exchange)) => {
            check_equivalence(exchange, kind, declare, owner)?;
            Ok(engine.defined_until_now().filter(|_| declare.durable))
        }
        None if name.starts_with(RESERVED_PREFIX) => {
            Err(Refusal::ReservedName { kind: "exchange", name: name.to_owned() })
        }
        None => {
            if let Some(alternate) = exchange_argument(declare.arguments, "alternate-exchange") {
                permit(Operation::Read, Resource::Exchange(name))?;
                permit(Operation::Write, Resource::Exchange(alternate))?;
            }
            let declaration = ExchangeDeclaration {
                number: engine.next_id(),
                kind,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                arguments: TableBuf::from(declare.arguments),
                settings: ExchangeSettings::parse(kind, declare.arguments, owner)?
                    .under(&vhost.policies.of_exchange(name)),
            };
            let id = add_exchange(engine, vhost, &mut topology, name, declaration);
            Ok(engine.note_exchange(vhost, &topology, id))
        }
    }
}

/// Adds an exchange of a name that is free, with what it needs of the engine.
pub(super) fn add_exchange(
    engine: &Arc<Engine>,
    vhost: &Vhost,
    topology: &mut QueueTopology,
    name: &str,
    declaration: ExchangeDeclaration,
) -> ExchangeId {
    let ExchangeSettings { history_messages_max, delayed_kind, .. } = declaration.settings;
    let durable = declaration.durable;
    let id = topology.add_exchange(name, declaration);
    if let Some(messages_max) = history_messages_max {
        topology.remember_in(id, engine.new_history(messages_max));
    }
    if delayed_kind.is_some() {
        let line = if durable { engine.delay_line(&vhost.name, name) } else { None };
        topology.delay_at(id, DelayedAt { vhost: vhost.name.clone(), exchange: name.into(), line });
    }
    id
}

/// The exchange that an argument names.
pub(super) fn exchange_argument<'a>(arguments: Table<'a>, argument: &str) -> Option<&'a str> {
    arguments.find(argument).and_then(Value::as_str)
}

/// Whether a topic exchange, if the source is one, may be bound by the key.
pub(super) fn check_topic(
    grants: &Grants,
    topology: &QueueTopology,
    source: &str,
    key: &[u8],
) -> Result<(), Refusal> {
    match topology.exchange(source) {
        Some((_, exchange)) if exchange.declaration.kind == ExchangeKind::Topic => {
            grants.check_binding_key(source, key)
        }
        _ => Ok(()),
    }
}

pub(super) fn exchange_kind(kind: ShortStr<'_>) -> Result<ExchangeKind, Refusal> {
    ExchangeKind::from_name(kind).ok_or_else(|| {
        let what = if kind.is_empty() { "invalid" } else { "unknown" };
        Refusal::UnknownExchangeType(format!("{what} exchange type '{kind}'"))
    })
}

fn check_equivalence(
    exchange: &Exchange,
    kind: ExchangeKind,
    received: &exchange::Declare<'_>,
    owner: Owner<'_>,
) -> Result<(), Refusal> {
    let current = &exchange.declaration;
    let difference = flag_difference(&current.kind, &kind)
        .map(|text| ("type", text))
        .or_else(|| flag_difference(&current.durable, &received.durable).map(|text| ("durable", text)))
        .or_else(|| {
            flag_difference(&current.auto_delete, &received.auto_delete).map(|text| ("auto_delete", text))
        })
        .or_else(|| flag_difference(&current.internal, &received.internal).map(|text| ("internal", text)))
        .or_else(|| {
            let current = current.arguments.as_table().find(ALTERNATE);
            argument_difference(current, received.arguments.find(ALTERNATE)).map(|text| (ALTERNATE, text))
        });
    match difference {
        Some((argument, text)) => Err(inequivalent(argument, text, owner)),
        None => Ok(()),
    }
}

pub(super) fn refuse_default(exchange: &str) -> Result<(), Refusal> {
    if exchange.is_empty() { Err(Refusal::DefaultExchange) } else { Ok(()) }
}

pub(super) fn find_exchange<'t>(
    topology: &'t QueueTopology,
    vhost: &Vhost,
    name: &str,
) -> Result<(ExchangeId, &'t Exchange), Refusal> {
    let missing = || Refusal::NoExchange { exchange: name.to_owned(), vhost: vhost.name.to_string() };
    topology.exchange(name).ok_or_else(missing)
}
