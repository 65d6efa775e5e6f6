//! A virtual host: a name and a map of its own.

use std::sync::{Arc, atomic::AtomicBool};

use super::{queue_cell::QueueCell, replies::Replies};
use crate::{model::topology::Topology, sync::RwLock};

pub(super) struct Vhost {
    pub(super) name: Box<str>,
    pub(super) topology: RwLock<Topology<Arc<QueueCell>>>,
    pub(super) replies: Replies,
    /// Whether copies of all messages go to the trace exchange.
    pub(super) is_traced: AtomicBool,
}

impl Vhost {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            topology: RwLock::new(Topology::new()),
            replies: Replies::default(),
            is_traced: AtomicBool::new(false),
        }
    }
}
