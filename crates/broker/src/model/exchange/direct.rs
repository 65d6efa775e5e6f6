//! Direct routing: the routing key equals the binding key.

use std::collections::HashMap;

use crate::model::{binding::Binding, destinations::DestinationSet, found::Found};

/// Destinations by key. The map is never iterated, so its seed decides nothing.
#[derive(Debug, Default)]
pub struct DirectTable {
    by_key: HashMap<Box<[u8]>, DestinationSet>,
}

impl DirectTable {
    /// Adds a binding.
    pub fn insert(&mut self, binding: &Binding) {
        self.by_key.entry(binding.routing_key.clone()).or_default().insert(binding.destination);
    }

    /// Removes a binding that was added.
    pub fn remove(&mut self, binding: &Binding) {
        let Some(set) = self.by_key.get_mut(&binding.routing_key) else { return };
        set.remove(binding.destination);
        if set.is_empty() {
            self.by_key.remove(&binding.routing_key);
        }
    }

    /// Adds the destinations under the key to `found`.
    pub fn route(&self, routing_key: &[u8], found: &mut Found) {
        if let Some(set) = self.by_key.get(routing_key) {
            set.collect_into(found);
        }
    }
}
