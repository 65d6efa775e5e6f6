//! Random routing: each message goes by one binding, drawn at random. Keys mean nothing, and a
//! destination with two bindings gets twice as much, as in RabbitMQ's plugin.

use std::sync::Arc;

use indexmap::IndexSet;

use super::{RoutingInput, hash};
use crate::{
    model::{binding::Binding, found::Found},
    planted::{self, Bug},
};

/// Adds the destination of one of the bindings to `found`, if there are any.
pub(super) fn route(bindings: &IndexSet<Arc<Binding>>, input: RoutingInput<'_>, found: &mut Found) {
    // Where there is no choice, nothing is drawn.
    let drawn = match bindings.len() {
        0 => return,
        1 => 0,
        places if planted::is(Bug::RandomSkipsOne) => hash::place((input.random)(), places - 1),
        places => hash::place((input.random)(), places),
    };
    found.insert(bindings[drawn].destination);
}
