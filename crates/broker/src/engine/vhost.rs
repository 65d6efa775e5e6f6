//! A virtual host: a name, a map of its own, and who may do what in it.

use std::sync::{Arc, atomic::AtomicBool};

use indexmap::IndexMap;

use super::{admission::Places, queue_cell::QueueCell, replies::Replies};
use crate::{
    access::Permission,
    definitions::{TopicPermissionDefinition, VhostDefinition},
    model::{policy::Policies, topology::Topology},
    sync::RwLock,
};

pub(super) struct Vhost {
    pub(super) name: Box<str>,
    pub(super) definition: VhostDefinition,
    pub(super) policies: Policies,
    /// By the names of users; who is not in it may not open the virtual host.
    pub(super) permissions: IndexMap<Box<str>, Arc<Permission>>,
    /// For topic exchanges where not every key may be used.
    pub(super) topic_permissions: Vec<TopicPermissionDefinition>,
    pub(super) connections: Places,
    pub(super) topology: RwLock<Topology<Arc<QueueCell>>>,
    pub(super) replies: Replies,
    /// Whether copies of all messages go to the trace exchange.
    pub(super) is_traced: AtomicBool,
}

impl Vhost {
    /// A virtual host that nobody may open yet.
    pub(super) fn new(definition: VhostDefinition) -> Self {
        Self {
            name: definition.name.clone(),
            is_traced: AtomicBool::new(definition.tracing),
            definition,
            policies: Policies::default(),
            permissions: IndexMap::new(),
            topic_permissions: Vec::new(),
            connections: Places::default(),
            topology: RwLock::new(Topology::new()),
            replies: Replies::default(),
        }
    }
}
