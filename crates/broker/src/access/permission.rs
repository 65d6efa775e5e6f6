//! What a user may do in a virtual host, by the names of queues and exchanges, and on topic
//! exchanges by the routing key.

use crate::pattern::{Pattern, PatternError};

/// What is done to a queue or an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Declare or delete it.
    Configure,
    /// Put messages into it.
    Write,
    /// Take messages from it.
    Read,
}

/// Three patterns, one for each [`Operation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Names that may be declared and deleted.
    pub configure: Pattern,
    /// Names that may be published and bound to.
    pub write: Pattern,
    /// Names that may be consumed and bound from.
    pub read: Pattern,
}

impl Permission {
    /// A permission as it is written.
    ///
    /// # Errors
    /// [`PatternError`] for the first pattern that is none.
    pub fn parse(configure: &str, write: &str, read: &str) -> Result<Self, PatternError> {
        Ok(Self {
            configure: Pattern::parse_permission(configure)?,
            write: Pattern::parse_permission(write)?,
            read: Pattern::parse_permission(read)?,
        })
    }

    /// Everything is allowed.
    #[must_use]
    pub fn all() -> Self {
        let [configure, write, read] = [(); 3].map(|()| Pattern::everything());
        Self { configure, write, read }
    }

    /// The pattern for an operation.
    #[must_use]
    pub const fn pattern(&self, operation: Operation) -> &Pattern {
        match operation {
            Operation::Configure => &self.configure,
            Operation::Write => &self.write,
            Operation::Read => &self.read,
        }
    }
}

/// What patterns of topic permissions may name.
#[derive(Debug, Clone, Copy)]
pub struct TopicVariables<'a> {
    /// For `{username}`.
    pub username: &'a str,
    /// For `{vhost}`.
    pub vhost: &'a str,
}

/// Patterns for routing keys on one topic exchange, with `{username}` and `{vhost}` in them.
/// `{client_id}` is MQTT's, and stays as it is for AMQP, as in RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermission {
    write: Box<str>,
    read: Box<str>,
}

/// The same with the names of a user and a virtual host in their places.
#[derive(Debug, Clone)]
pub struct TopicPatterns {
    /// Keys that may be published with.
    pub write: Pattern,
    /// Keys that may be bound by.
    pub read: Pattern,
}

impl TopicPermission {
    /// A permission as it is written.
    ///
    /// # Errors
    /// [`PatternError`] for the first pattern that is none.
    pub fn parse(write: &str, read: &str) -> Result<Self, PatternError> {
        Pattern::parse_permission(write)?;
        Pattern::parse_permission(read)?;
        Ok(Self { write: write.into(), read: read.into() })
    }

    /// The pattern for publishing, as it is written.
    #[must_use]
    pub fn write(&self) -> &str {
        &self.write
    }

    /// The pattern for binding, as it is written.
    #[must_use]
    pub fn read(&self) -> &str {
        &self.read
    }

    /// The patterns for one user.
    ///
    /// # Errors
    /// [`PatternError`] when a name makes a pattern into none.
    pub fn expand(&self, variables: TopicVariables<'_>) -> Result<TopicPatterns, PatternError> {
        let pattern = |text: &str| {
            let named = text.replace("{username}", variables.username).replace("{vhost}", variables.vhost);
            Pattern::parse_permission(&named)
        };
        Ok(TopicPatterns { write: pattern(&self.write)?, read: pattern(&self.read)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_pattern() {
        let permission = Permission::parse("^c", "^w", "").unwrap();
        let check = |operation, name: &str| permission.pattern(operation).matches(name);
        assert!(check(Operation::Configure, "c1") && !check(Operation::Configure, "w1"));
        assert!(check(Operation::Write, "w1") && !check(Operation::Write, "c1"));
        assert!(check(Operation::Read, "") && !check(Operation::Read, "w1"));
    }

    #[test]
    fn names_take_the_places_of_variables() {
        let permission = TopicPermission::parse(r"^{username}\.{vhost}\.", "^{client_id}$").unwrap();
        let patterns = permission.expand(TopicVariables { username: "alice", vhost: "shop" }).unwrap();
        assert!(patterns.write.matches("alice.shop.1") && !patterns.write.matches("bob.shop.1"));
        assert!(patterns.read.matches("{client_id}") && !patterns.read.matches("alice"));
        assert!(permission.expand(TopicVariables { username: "a(", vhost: "/" }).is_err());
    }
}
