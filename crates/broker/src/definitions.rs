//! What a broker has from its start: users, virtual hosts, permissions, policies, exchanges,
//! queues and bindings, as RabbitMQ's definitions files list them.
//!
//! Holds them as types; how they are written is for whoever reads them. Invariant: each part is
//! right in itself, and whether the parts fit together is seen when an engine takes them.

use leveret_wire::TableBuf;
use thiserror::Error;

use crate::{
    access::{PasswordHash, Permission, TopicPermission, User, VhostLimits},
    model::{policy::Policy, queue_arguments::QueueType},
};

/// A virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VhostDefinition {
    /// The name.
    pub name: Box<str>,
    /// What it is for, in somebody's words.
    pub description: Box<str>,
    /// Words that somebody marked it with.
    pub tags: Vec<Box<str>>,
    /// The type of queues that are declared without one, where they may be of it.
    pub default_queue_type: Option<QueueType>,
    /// What it may have.
    pub limits: VhostLimits,
    /// Whether the firehose is on.
    pub tracing: bool,
}

impl VhostDefinition {
    /// A virtual host of that name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// What a user may do in a virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionDefinition {
    /// Who.
    pub user: Box<str>,
    /// Where.
    pub vhost: Box<str>,
    /// What.
    pub permission: Permission,
}

/// What a user may do on a topic exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissionDefinition {
    /// Who.
    pub user: Box<str>,
    /// Where.
    pub vhost: Box<str>,
    /// On which exchange.
    pub exchange: Box<str>,
    /// What.
    pub permission: TopicPermission,
}

/// A policy of a virtual host.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDefinition {
    /// Where.
    pub vhost: Box<str>,
    /// Whether it is an operator's.
    pub is_operators: bool,
    /// What.
    pub policy: Policy,
}

/// An exchange, as a declare of it would say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of exchange.declare")]
pub struct ExchangeDefinition {
    pub vhost: Box<str>,
    pub name: Box<str>,
    pub kind: Box<str>,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: TableBuf,
}

/// A queue, as a declare of it would say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of queue.declare")]
pub struct QueueDefinition {
    pub vhost: Box<str>,
    pub name: Box<str>,
    pub durable: bool,
    pub auto_delete: bool,
    pub arguments: TableBuf,
}

/// What a binding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DestinationKind {
    Queue,
    Exchange,
}

/// A binding, as a bind would say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of queue.bind and exchange.bind")]
pub struct BindingDefinition {
    pub vhost: Box<str>,
    pub source: Box<str>,
    pub destination: Box<str>,
    pub destination_kind: DestinationKind,
    pub routing_key: Box<[u8]>,
    pub arguments: TableBuf,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Definitions {
    /// What `connection.start` calls the cluster, if it has a name of its own.
    pub cluster_name: Option<Box<str>>,
    /// The logins.
    pub users: Vec<User>,
    /// The virtual hosts.
    pub vhosts: Vec<VhostDefinition>,
    /// What users may do.
    pub permissions: Vec<PermissionDefinition>,
    /// What users may do by routing key.
    pub topic_permissions: Vec<TopicPermissionDefinition>,
    /// Policies, those of operators among them.
    pub policies: Vec<PolicyDefinition>,
    /// Exchanges.
    pub exchanges: Vec<ExchangeDefinition>,
    /// Queues.
    pub queues: Vec<QueueDefinition>,
    /// Bindings.
    pub bindings: Vec<BindingDefinition>,
}

impl Definitions {
    /// Adds what others have; where both have one of a name, theirs takes its place.
    pub fn merge(&mut self, others: Self) {
        fn put<T>(into: &mut Vec<T>, others: Vec<T>, is_same: impl Fn(&T, &T) -> bool) {
            for other in others {
                into.retain(|known| !is_same(known, &other));
                into.push(other);
            }
        }
        self.cluster_name = others.cluster_name.or_else(|| self.cluster_name.take());
        put(&mut self.users, others.users, |one, other| one.name == other.name);
        put(&mut self.vhosts, others.vhosts, |one, other| one.name == other.name);
        put(&mut self.permissions, others.permissions, |one, other| {
            (&one.user, &one.vhost) == (&other.user, &other.vhost)
        });
        put(&mut self.topic_permissions, others.topic_permissions, |one, other| {
            (&one.user, &one.vhost, &one.exchange) == (&other.user, &other.vhost, &other.exchange)
        });
        put(&mut self.policies, others.policies, |one, other| {
            (&one.vhost, one.is_operators, &one.policy.name)
                == (&other.vhost, other.is_operators, &other.policy.name)
        });
        self.exchanges.extend(others.exchanges);
        self.queues.extend(others.queues);
        self.bindings.extend(others.bindings);
    }

    /// The same without exchanges, queues and bindings.
    #[must_use]
    pub fn access_only(self) -> Self {
        Self { exchanges: Vec::new(), queues: Vec::new(), bindings: Vec::new(), ..self }
    }

    /// One virtual host, and one user who may do everything there.
    #[must_use]
    pub fn with_user(user: User, vhost: &str) -> Self {
        let mut definitions =
            Self { vhosts: vec![VhostDefinition::new(vhost)], users: vec![user], ..Self::default() };
        definitions.permit_everything(0);
        definitions
    }

    /// Adds a user who may do everything in every virtual host that is here.
    pub fn add_user(&mut self, user: User) {
        self.users.push(user);
        self.permit_everything(self.users.len() - 1);
    }

    fn permit_everything(&mut self, user: usize) {
        let user = &self.users[user].name;
        let all = self.vhosts.iter().map(|vhost| PermissionDefinition {
            user: user.clone(),
            vhost: vhost.name.clone(),
            permission: Permission::all(),
        });
        self.permissions.extend(all);
    }

    /// RabbitMQ's: guest, who logs in from this machine only, and the virtual host `/`.
    #[must_use]
    pub fn rabbitmqs_defaults() -> Self {
        let password = PasswordHash::new("guest", *b"salt");
        let guest =
            User { tags: vec!["administrator".into()], loopback_only: true, ..User::new("guest", password) };
        Self::with_user(guest, "/")
    }
}

/// Why definitions are not taken: which of them, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{object}: {reason}")]
pub struct DefinitionError {
    /// `queue 'q' in vhost '/'`
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}
