//! How much a user or a virtual host may have at a time.

/// A number that is not to be exceeded; a negative one is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub i64);

impl Limit {
    /// The bound, if there is one.
    #[must_use]
    pub fn bound(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

/// What a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Connections that are open.
    pub connections_max: Option<Limit>,
    /// Channels that are open on all of them.
    pub channels_max: Option<Limit>,
}

/// What a virtual host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimits {
    /// Connections that are open.
    pub connections_max: Option<Limit>,
    /// Queues, whoever declared them.
    pub queues_max: Option<Limit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_number_is_no_limit() {
        assert_eq!(Limit(-1).bound(), None);
        assert_eq!(Limit(0).bound(), Some(0));
        assert_eq!(Limit(5).bound(), Some(5));
    }
}
