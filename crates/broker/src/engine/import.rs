//! Definitions come in: each is checked as a client's declare or bind is.
//!
//! As RabbitMQ does it, names that begin with `amq.` are left out of exchanges and queues, what
//! is there already stays, and no limit counts. Invariant: an engine has all of the definitions,
//! or there is no engine.

use std::sync::Arc;

use indexmap::IndexMap;
use leveret_wire::{
    ShortStr,
    method::{exchange, queue},
};

use super::{
    Engine,
    admission::Account,
    declare::{self, BindingRequest, RESERVED_PREFIX, find_exchange, refuse_default},
    queue_cell::{QueueCell, Scratch},
    queues::{self, place_of, queue_declaration},
    vhost::Vhost,
};
use crate::{
    Now, Refusal,
    access::User,
    definitions::{
        BindingDefinition, DefinitionError, Definitions, DestinationKind, ExchangeDefinition,
        QueueDefinition, TopicPermissionDefinition,
    },
    model::{
        arguments::Owner,
        binding::Destination,
        policy::{Policies, Policy},
        queue_arguments::refuse_missing_arguments,
        topology::PREDECLARED,
    },
};

pub(super) type Accounts = IndexMap<Box<str>, Arc<Account>>;
pub(super) type Vhosts = IndexMap<Box<str>, Arc<Vhost>>;

/// The users.
///
/// # Errors
/// [`DefinitionError`] when two have one name.
pub(super) fn accounts(definitions: &Definitions) -> Result<Accounts, DefinitionError> {
    let mut accounts = Accounts::new();
    for user in &definitions.users {
        let before = accounts.insert(user.name.clone(), Account::new(User::clone(user)));
        if before.is_some() {
            return Err(error(format!("user '{}'", user.name), "is there twice"));
        }
    }
    Ok(accounts)
}

/// The virtual hosts with their permissions and policies.
///
/// # Errors
/// [`DefinitionError`] for a permission or a policy of what is not there.
pub(super) fn vhosts(definitions: &Definitions) -> Result<Vhosts, DefinitionError> {
    let mut vhosts = IndexMap::new();
    for vhost in &definitions.vhosts {
        if vhosts.insert(vhost.name.clone(), Vhost::new(vhost.clone())).is_some() {
            return Err(error(format!("vhost '{}'", vhost.name), "is there twice"));
        }
    }
    permit(definitions, &mut vhosts)?;
    permit_topics(definitions, &mut vhosts)?;
    for vhost in vhosts.values_mut() {
        vhost.policies = policies(definitions, &vhost.name);
        for (name, _) in PREDECLARED.iter().filter(|(name, _)| !name.is_empty()) {
            if let Some(alternate) = vhost.policies.of_exchange(name).alternate_exchange {
                vhost.topology.write().set_alternate(name, &alternate);
            }
        }
    }
    for policy in &definitions.policies {
        if !vhosts.contains_key(&policy.vhost) {
            let object = format!("policy '{}'", policy.policy.name);
            return Err(error(object, &no_vhost(&policy.vhost)));
        }
    }
    Ok(vhosts.into_iter().map(|(name, vhost)| (name, Arc::new(vhost))).collect())
}

fn permit(definitions: &Definitions, vhosts: &mut IndexMap<Box<str>, Vhost>) -> Result<(), DefinitionError> {
    for granted in &definitions.permissions {
        let object = || format!("permission of user '{}' in vhost '{}'", granted.user, granted.vhost);
        check_user(definitions, &granted.user).map_err(|reason| error(object(), &reason))?;
        let vhost =
            vhosts.get_mut(&granted.vhost).ok_or_else(|| error(object(), &no_vhost(&granted.vhost)))?;
        vhost.permissions.insert(granted.user.clone(), Arc::new(granted.permission.clone()));
    }
    Ok(())
}

fn permit_topics(
    definitions: &Definitions,
    vhosts: &mut IndexMap<Box<str>, Vhost>,
) -> Result<(), DefinitionError> {
    for granted in &definitions.topic_permissions {
        let object = || format!("topic permission of user '{}' in vhost '{}'", granted.user, granted.vhost);
        check_user(definitions, &granted.user).map_err(|reason| error(object(), &reason))?;
        let vhost =
            vhosts.get_mut(&granted.vhost).ok_or_else(|| error(object(), &no_vhost(&granted.vhost)))?;
        let same = |other: &TopicPermissionDefinition| {
            (&other.user, &other.exchange) == (&granted.user, &granted.exchange)
        };
        vhost.topic_permissions.retain(|other| !same(other));
        vhost.topic_permissions.push(granted.clone());
    }
    Ok(())
}

fn policies(definitions: &Definitions, vhost: &str) -> Policies {
    let of_kind = |is_operators: bool| -> Vec<Policy> {
        let here = definitions.policies.iter().filter(|policy| *policy.vhost == *vhost);
        here.filter(|policy| policy.is_operators == is_operators)
            .map(|policy| policy.policy.clone())
            .collect()
    };
    Policies::new(of_kind(false), of_kind(true))
}

fn check_user(definitions: &Definitions, name: &str) -> Result<(), String> {
    let found = definitions.users.iter().any(|user| *user.name == *name);
    if found { Ok(()) } else { Err(format!("there is no user '{name}'")) }
}

fn no_vhost(name: &str) -> String {
    format!("there is no vhost '{name}'")
}

fn error(object: String, reason: &str) -> DefinitionError {
    DefinitionError { object, reason: reason.to_owned() }
}

impl Engine {
    /// Exchanges, queues and bindings.
    pub(super) fn import(
        self: &Arc<Self>,
        definitions: &Definitions,
        now: Now,
    ) -> Result<(), DefinitionError> {
        for exchange in &definitions.exchanges {
            let object = || format!("exchange '{}' in vhost '{}'", exchange.name, exchange.vhost);
            self.import_exchange(exchange).map_err(|reason| error(object(), &reason))?;
        }
        for queue in &definitions.queues {
            let object = || format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
            self.import_queue(queue, now).map_err(|reason| error(object(), &reason))?;
        }
        for binding in &definitions.bindings {
            let BindingDefinition { source, destination, vhost, .. } = binding;
            let object = || format!("binding from '{source}' to '{destination}' in vhost '{vhost}'");
            self.import_binding(binding).map_err(|reason| error(object(), &reason))?;
        }
        Ok(())
    }

    fn import_exchange(self: &Arc<Self>, exchange: &ExchangeDefinition) -> Result<(), String> {
        let vhost = self.vhost(&exchange.vhost).ok_or_else(|| no_vhost(&exchange.vhost))?;
        if exchange.name.is_empty() || is_reserved(&exchange.name) {
            let name = &*exchange.name;
            tracing::warn!(name, "an exchange of the server's own is left out of the definitions");
            return Ok(());
        }
        let declare = exchange::Declare {
            exchange: short(&exchange.name)?,
            kind: short(&exchange.kind)?,
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.as_table(),
            ..exchange::Declare::default()
        };
        if vhost.topology.read().exchange(&exchange.name).is_some() {
            return Ok(());
        }
        let declared = declare::declare_actively(self, &vhost, &exchange.name, &declare, |_, _| Ok(()));
        declared.map(|_lasts_at| ()).map_err(reason)
    }

    fn import_queue(&self, queue: &QueueDefinition, now: Now) -> Result<(), String> {
        let vhost = self.vhost(&queue.vhost).ok_or_else(|| no_vhost(&queue.vhost))?;
        if is_reserved(&queue.name) {
            let name = &*queue.name;
            tracing::warn!(name, "a queue that the server named is left out of the definitions");
            return Ok(());
        }
        if queue.name.is_empty() {
            return Err("it has no name".to_owned());
        }
        let declare = queue::Declare {
            queue: short(&queue.name)?,
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            arguments: queue.arguments.as_table(),
            ..queue::Declare::default()
        };
        let arguments = queues::arguments_of(&vhost, &declare);
        let declare = queue::Declare { arguments: arguments.as_table(), ..declare };
        self.add_queue(&vhost, &queue.name, &declare, now).map_err(reason)
    }

    fn add_queue(
        &self,
        vhost: &Arc<Vhost>,
        name: &str,
        declare: &queue::Declare<'_>,
        now: Now,
    ) -> Result<(), Refusal> {
        let owner = Owner { object: "queue", name, vhost: &vhost.name };
        refuse_missing_arguments(declare.arguments, owner)?;
        let declaration = queue_declaration(declare, None, &vhost.policies, owner)?;
        let mut topology = vhost.topology.write();
        if topology.queue(name).is_none() {
            let cell = QueueCell::new(
                self.next_id(),
                name,
                Arc::downgrade(vhost),
                declaration,
                now,
                self.paging.is_on(),
            );
            cell.place(topology.add_queue(name, Arc::clone(&cell)));
            self.note_queue(vhost, &cell);
            drop(topology);
            // A step sees to the queue's own deadline, as the one does that answers a declare.
            let mut scratch = Scratch::default();
            scratch.now = now;
            cell.step(self, &mut scratch, |_, _, _| ());
        }
        Ok(())
    }

    fn import_binding(&self, binding: &BindingDefinition) -> Result<(), String> {
        let vhost = self.vhost(&binding.vhost).ok_or_else(|| no_vhost(&binding.vhost))?;
        ShortStr::new(&binding.routing_key).ok_or_else(|| "its key is longer than 255 octets".to_owned())?;
        self.add_binding(&vhost, binding).map_err(reason)
    }

    fn add_binding(&self, vhost: &Vhost, binding: &BindingDefinition) -> Result<(), Refusal> {
        refuse_default(&binding.source)?;
        let mut topology = vhost.topology.write();
        let source = find_exchange(&topology, vhost, &binding.source)?.0;
        let destination = match binding.destination_kind {
            DestinationKind::Queue => place_of(&topology, vhost, &binding.destination)?.0,
            DestinationKind::Exchange => {
                refuse_default(&binding.destination)?;
                Destination::Exchange(find_exchange(&topology, vhost, &binding.destination)?.0)
            }
        };
        let (routing_key, arguments) = (&*binding.routing_key, binding.arguments.as_table());
        let request = BindingRequest { source, destination, routing_key, arguments };
        let binding = request.check(&topology)?;
        if topology.bind(binding.clone()) {
            self.note_binding(vhost, &topology, &binding);
        }
        Ok(())
    }
}

fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX)
}

fn short(text: &str) -> Result<ShortStr<'_>, String> {
    ShortStr::new(text.as_bytes()).ok_or_else(|| format!("'{text}' is longer than 255 octets"))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what an error is mapped with")]
fn reason(refusal: Refusal) -> String {
    refusal.to_string()
}
