//! Routes, kept by exchange and key for as long as they hold.
//!
//! Whether the user may publish there is asked when a route is looked up, and a route that is
//! kept may be used. Invariant: a kept route is used only while every version that it rests on stands.

use std::{
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

use leveret_wire::{Properties, PublishRoute, ShortStr};
use smallvec::smallvec;

use super::{permissions::Grants, queue_cell::QueueCell, vhost::Vhost};
use crate::{
    Refusal,
    model::{
        exchange::{CarbonCopies, ExchangeKind, RoutingInput},
        topology::{Route, TRACE_EXCHANGE},
    },
    planted::{self, Bug},
};

/// Routes that a connection keeps. A power of two.
const ROUTES_KEPT_MAX: usize = 64;

pub(super) type QueueRoute = Route<Arc<QueueCell>>;

struct Kept {
    octets: Box<[u8]>,
    route: Arc<QueueRoute>,
}

/// A connection's routes of late, in a table where a new one takes the place of another.
#[derive(Default)]
pub(super) struct RouteCache {
    kept: Vec<Option<Kept>>,
    /// The place of the last one, which is mostly the next one as well.
    last: usize,
    /// The last one that is not kept, because it does not depend on the key alone.
    passing: Option<Arc<QueueRoute>>,
}

impl RouteCache {
    /// Where a message without further routing keys goes, if it may be published.
    #[inline]
    pub(super) fn route(
        &mut self,
        vhost: &Vhost,
        grants: &mut Grants,
        publish: PublishRoute<'_>,
        properties: Option<&Properties<'_>>,
        random: impl Fn() -> u64,
    ) -> Result<&Arc<QueueRoute>, Refusal> {
        if !self.is_kept(self.last, publish) {
            self.last = place(publish);
            if !self.is_kept(self.last, publish) {
                return self.find(vhost, grants, publish, properties, &random);
            }
        }
        let kept = self.kept[self.last].as_ref().expect("it is kept");
        Ok(&kept.route)
    }

    fn is_kept(&self, at: usize, publish: PublishRoute<'_>) -> bool {
        self.kept.get(at).and_then(Option::as_ref).is_some_and(|kept| {
            *kept.octets == *publish.as_bytes() && (kept.route.is_current() || planted::is(Bug::StaleRoute))
        })
    }

    /// Looks the route up, and keeps it in the last place if it may be kept.
    #[inline(never)]
    fn find(
        &mut self,
        vhost: &Vhost,
        grants: &mut Grants,
        publish: PublishRoute<'_>,
        properties: Option<&Properties<'_>>,
        random: &dyn Fn() -> u64,
    ) -> Result<&Arc<QueueRoute>, Refusal> {
        let routing_key = publish.routing_key();
        let input = RoutingInput { routing_key: routing_key.as_bytes(), copies: None, properties, random };
        let (route, by_key) = find_route(vhost, grants, publish.exchange(), input)?;
        let route = Arc::new(route);
        if !by_key {
            return Ok(self.passing.insert(route));
        }
        if self.kept.is_empty() {
            self.kept.resize_with(ROUTES_KEPT_MAX, || None);
        }
        let kept = Kept { octets: publish.as_bytes().into(), route };
        Ok(&self.kept[self.last].insert(kept).route)
    }

    /// Where a message goes that has further routing keys. What is kept is of no use to it: where
    /// one key leads nowhere, another may still keep the message from the alternate exchange.
    pub(super) fn route_copies(
        vhost: &Vhost,
        grants: &mut Grants,
        publish: PublishRoute<'_>,
        properties: &Properties<'_>,
        copies: CarbonCopies<'_>,
        random: &dyn Fn() -> u64,
    ) -> Result<Arc<QueueRoute>, Refusal> {
        let routing_key = publish.routing_key();
        let input = RoutingInput {
            routing_key: routing_key.as_bytes(),
            copies: Some(copies),
            properties: Some(properties),
            random,
        };
        find_route(vhost, grants, publish.exchange(), input).map(|(route, _)| Arc::new(route))
    }

    /// Forgets all of them, when the connection goes.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The table is small and each of its places is taken by whoever came last, so that a peer who
/// knows the function gains nothing but misses of its own.
fn place(publish: PublishRoute<'_>) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(publish.as_bytes());
    usize::try_from(hasher.finish() % ROUTES_KEPT_MAX as u64).expect("a small number")
}

/// The route, and whether it depends on the key alone.
fn find_route(
    vhost: &Vhost,
    grants: &mut Grants,
    exchange: ShortStr<'_>,
    input: RoutingInput<'_>,
) -> Result<(QueueRoute, bool), Refusal> {
    grants.check_publish(exchange)?;
    if exchange.is_empty() {
        return Ok(match input.copies {
            None => default_route(vhost, input.routing_key),
            Some(_) => (default_copies_route(vhost, input), false),
        });
    }
    let topology = vhost.topology.read();
    let found = exchange.to_str().and_then(|name| topology.exchange(name));
    let Some((id, exchange)) = found else {
        return Err(Refusal::NoExchange { exchange: exchange.to_string(), vhost: vhost.name.to_string() });
    };
    if exchange.declaration.internal {
        let exchange = exchange.name.to_string();
        return Err(Refusal::InternalExchange { exchange, vhost: vhost.name.to_string() });
    }
    if exchange.declaration.kind == ExchangeKind::Topic {
        grants.check_publish_key(&exchange.name, input.routing_key)?;
    }
    let by_key = topology.routes_by_key(id);
    Ok((topology.route(id, input), by_key))
}

/// The default exchange has every queue bound by its name, without bindings of its own. A name
/// that no queue has is looked up each time, for nothing says when it will have one.
fn default_route(vhost: &Vhost, name: &[u8]) -> (QueueRoute, bool) {
    let found = {
        let topology = vhost.topology.read();
        str::from_utf8(name).ok().and_then(|name| topology.queue(name)).map(|(_, queue)| Arc::clone(queue))
    };
    match found.or_else(|| vhost.replies.find(name)) {
        Some(queue) => {
            let versions = smallvec![(Arc::clone(&queue.liveness), 0)];
            (Route { versions, ..Route::to_queues(vec![queue]) }, true)
        }
        None => (Route::to_queues(Vec::new()), false),
    }
}

/// The queues of those names, each once, however often it is named.
fn default_copies_route(vhost: &Vhost, input: RoutingInput<'_>) -> QueueRoute {
    let mut found: Vec<_> = input.keys().flat_map(|name| default_route(vhost, name).0.queues).collect();
    found.sort_unstable_by_key(|queue| queue.serial);
    found.dedup_by_key(|queue| queue.serial);
    Route::to_queues(found)
}

/// Where a message goes that the broker itself publishes, by its key and those of its header `CC`;
/// `None` when there is no such exchange. An internal one takes it too.
pub(super) fn route_from(
    vhost: &Vhost,
    exchange: &str,
    routing_key: &[u8],
    properties: &Properties<'_>,
    random: &dyn Fn() -> u64,
) -> Option<QueueRoute> {
    let copies = CarbonCopies::of(properties);
    let input = RoutingInput { routing_key, copies, properties: Some(properties), random };
    if exchange.is_empty() {
        return Some(default_copies_route(vhost, input));
    }
    let topology = vhost.topology.read();
    let (id, _) = topology.exchange(exchange)?;
    Some(topology.route(id, input))
}

/// Where a traced message goes.
pub(super) fn route_trace(vhost: &Vhost, routing_key: ShortStr<'_>) -> Arc<QueueRoute> {
    let input =
        RoutingInput { routing_key: routing_key.as_bytes(), copies: None, properties: None, random: &|| 0 };
    let topology = vhost.topology.read();
    let (id, _) = topology.exchange(TRACE_EXCHANGE).expect("nobody may delete a predeclared exchange");
    Arc::new(topology.route(id, input))
}
