//! Modulus routing: the routing keys' hash chooses one of the bindings, as many times as there are
//! bindings of a destination. Binding keys mean nothing.
//!
//! Invariant: a key stays with its binding for as long as no binding is added or removed; then any
//! key may move, which is what the consistent hash is for.

use std::sync::Arc;

use indexmap::IndexSet;

use super::{RoutingInput, hash};
use crate::{
    model::{binding::Binding, found::Found},
    planted::{self, Bug},
};

/// Adds the destination of one of the bindings to `found`, if there are any.
pub(super) fn route(bindings: &IndexSet<Arc<Binding>>, input: RoutingInput<'_>, found: &mut Found) {
    if !bindings.is_empty() {
        let drawn = if planted::is(Bug::ModulusUnsteady) { (input.random)() } else { 0 };
        let chosen = hash::place(hash::hash(input.keys()) ^ drawn, bindings.len());
        found.insert(bindings[chosen].destination);
    }
}
