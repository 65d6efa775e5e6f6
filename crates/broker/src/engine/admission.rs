//! How many connections and channels there are, by user and by virtual host, and whether another
//! one may come.
//!
//! Invariant: a place that was taken is given back when its holder goes, whatever the way.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{connection::Connection, vhost::Vhost};
use crate::{
    Refusal,
    access::{Limit, User},
};

/// A user, and what is open in its name.
pub(super) struct Account {
    pub(super) user: User,
    connections: Places,
    channels: Places,
}

impl Account {
    pub(super) fn new(user: User) -> Arc<Self> {
        Arc::new(Self { user, connections: Places::default(), channels: Places::default() })
    }
}

/// How many places are taken.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Arc<AtomicU64>,
}

/// One of them, for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    taken: Arc<AtomicU64>,
}

impl Places {
    /// Takes a place, or says what the limit is that stands against it.
    fn take(&self, limit: Option<Limit>) -> Result<Place, u64> {
        let bound = limit.and_then(Limit::bound);
        let next = |taken: u64| bound.is_none_or(|bound| taken < bound).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(Place { taken: Arc::clone(&self.taken) }),
            Err(_) => Err(bound.expect("only a limit refuses")),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Takes the connection's places in a virtual host and with its user.
    pub(super) fn admit(&self, vhost: &Vhost, account: &Account) -> Result<[Place; 2], Refusal> {
        let user = || account.user.name.to_string();
        let in_vhost = vhost.connections.take(vhost.definition.limits.connections_max).map_err(|limit| {
            Refusal::TooManyVhostConnections { vhost: vhost.name.to_string(), user: user(), limit }
        })?;
        let of_user = account
            .connections
            .take(account.user.limits.connections_max)
            .map_err(|limit| Refusal::TooManyUserConnections { user: user(), limit })?;
        Ok([in_vhost, of_user])
    }

    /// Takes a place for a channel that was opened, where its user has a limit.
    pub(super) fn admit_channel(&mut self, channel: u16) -> Result<(), Refusal> {
        let Some(account) = &self.account else { return Ok(()) };
        let Some(limit) = account.user.limits.channels_max else { return Ok(()) };
        let user = || account.user.name.to_string();
        let place = account
            .channels
            .take(Some(limit))
            .map_err(|limit| Refusal::TooManyUserChannels { user: user(), limit })?;
        self.channel(channel).data.place = Some(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let places = Places::default();
        let check = |limit: i64| places.take(Some(Limit(limit)));
        assert_eq!(check(0).unwrap_err(), 0);
        let first = check(1).unwrap();
        assert_eq!(check(1).unwrap_err(), 1);
        let second = check(-1).unwrap();
        assert!(places.take(None).is_ok());
        drop((first, second));
        assert!(check(1).is_ok());
    }
}
