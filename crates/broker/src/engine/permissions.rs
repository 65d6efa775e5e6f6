//! What the connection's user may do in the virtual host that it opened.
//!
//! Asked before anything is looked up, so that names tell nothing to who may not see them. For a
//! publish it is asked when its route is looked up; the route is kept with the answer in it.
//! Invariant: the answer to a publish costs no pattern, lock or allocation where the same one
//! was given lately, or where everything is allowed.

use std::sync::Arc;

use leveret_wire::ShortStr;

use super::vhost::Vhost;
use crate::{
    Refusal,
    access::{Operation, Permission, TopicPatterns, TopicVariables, User},
    pattern::Pattern,
};

/// Answers that are kept, as in RabbitMQ.
const ANSWERS_KEPT_MAX: usize = 12;

/// The default exchange's name where it is spoken of.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// A queue or an exchange by its name, be it there or not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resource<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

impl<'a> Resource<'a> {
    fn words(self) -> (&'static str, &'a str) {
        match self {
            Self::Queue(name) => ("queue", name),
            Self::Exchange("") => ("exchange", DEFAULT_EXCHANGE),
            Self::Exchange(name) => ("exchange", name),
        }
    }
}

/// Names that were allowed of late.
#[derive(Debug, Default)]
struct Allowed {
    names: Vec<Box<[u8]>>,
    /// The place of the next one, when all are taken.
    next: usize,
}

impl Allowed {
    fn contains(&self, name: &[u8]) -> bool {
        self.names.iter().any(|allowed| **allowed == *name)
    }

    fn keep(&mut self, name: &[u8]) {
        if self.names.len() < ANSWERS_KEPT_MAX {
            return self.names.push(name.into());
        }
        self.names[self.next] = name.into();
        self.next = (self.next + 1) % ANSWERS_KEPT_MAX;
    }
}

struct TopicGrant {
    exchange: Box<str>,
    /// None when a name in them made patterns into none: then no key may be used.
    patterns: Option<TopicPatterns>,
    publishable: Allowed,
}

/// What a user may do in a virtual host.
pub(super) struct Grants {
    user: Box<str>,
    vhost: Box<str>,
    permission: Arc<Permission>,
    topics: Vec<TopicGrant>,
    publishable: Allowed,
    pub(super) is_impersonator: bool,
}

impl Grants {
    /// For checks of what crosses threads, where anything may be done.
    #[cfg(all(test, loom, feature = "planted-bugs"))]
    pub(super) fn of_everything() -> Self {
        Self {
            user: "guest".into(),
            vhost: "/".into(),
            permission: Arc::new(Permission::all()),
            topics: Vec::new(),
            publishable: Allowed::default(),
            is_impersonator: false,
        }
    }

    /// What a user may do; none, when it may not even open the virtual host.
    pub(super) fn of(user: &User, vhost: &Vhost) -> Option<Self> {
        let permission = Arc::clone(vhost.permissions.get(&user.name)?);
        let variables = TopicVariables { username: &user.name, vhost: &vhost.name };
        let own = vhost.topic_permissions.iter().filter(|granted| granted.user == user.name);
        let topics = own.map(|granted| {
            let patterns = granted.permission.expand(variables);
            TopicGrant {
                exchange: granted.exchange.clone(),
                patterns: patterns.inspect_err(|error| log_expansion(user, error)).ok(),
                publishable: Allowed::default(),
            }
        });
        Some(Self {
            user: user.name.clone(),
            vhost: vhost.name.clone(),
            permission,
            topics: topics.collect(),
            publishable: Allowed::default(),
            is_impersonator: user.is_impersonator(),
        })
    }

    /// Whether something may be done to a queue or an exchange.
    pub(super) fn check(&self, operation: Operation, resource: Resource<'_>) -> Result<(), Refusal> {
        let (object, name) = resource.words();
        if self.permission.pattern(operation).matches(name) {
            return Ok(());
        }
        Err(Refusal::AccessRefused {
            object,
            name: name.to_owned(),
            vhost: self.vhost.to_string(),
            user: self.user.to_string(),
        })
    }

    /// Whether a binding may lead from an exchange to a destination.
    pub(super) fn check_binding(&self, source: &str, destination: Resource<'_>) -> Result<(), Refusal> {
        self.check(Operation::Write, destination)?;
        super::declare::refuse_default(source)?;
        if let Resource::Exchange(destination) = destination {
            super::declare::refuse_default(destination)?;
        }
        self.check(Operation::Read, Resource::Exchange(source))
    }

    /// Whether a topic exchange may be bound by a key.
    pub(super) fn check_binding_key(&self, exchange: &str, key: &[u8]) -> Result<(), Refusal> {
        match self.topics.iter().find(|topic| *topic.exchange == *exchange) {
            Some(topic) => self.check_key(topic, key, |patterns| &patterns.read),
            None => Ok(()),
        }
    }

    /// Whether an exchange may be published to.
    pub(super) fn check_publish(&mut self, exchange: ShortStr<'_>) -> Result<(), Refusal> {
        let octets = exchange.as_bytes();
        if self.permission.write.is_everything() || self.publishable.contains(octets) {
            return Ok(());
        }
        self.check(Operation::Write, Resource::Exchange(&String::from_utf8_lossy(octets)))?;
        self.publishable.keep(octets);
        Ok(())
    }

    /// Whether a topic exchange may be published to with a key.
    pub(super) fn check_publish_key(&mut self, exchange: &str, key: &[u8]) -> Result<(), Refusal> {
        let Some(at) = self.topics.iter().position(|topic| *topic.exchange == *exchange) else {
            return Ok(());
        };
        if self.topics[at].publishable.contains(key) {
            return Ok(());
        }
        self.check_key(&self.topics[at], key, |patterns| &patterns.write)?;
        self.topics[at].publishable.keep(key);
        Ok(())
    }

    fn check_key(
        &self,
        topic: &TopicGrant,
        key: &[u8],
        pattern: fn(&TopicPatterns) -> &Pattern,
    ) -> Result<(), Refusal> {
        let text = String::from_utf8_lossy(key);
        if topic.patterns.as_ref().is_some_and(|patterns| pattern(patterns).matches(&text)) {
            return Ok(());
        }
        Err(Refusal::TopicRefused {
            key: text.into_owned(),
            exchange: topic.exchange.to_string(),
            vhost: self.vhost.to_string(),
            user: self.user.to_string(),
        })
    }
}

fn log_expansion(user: &User, error: &crate::pattern::PatternError) {
    let user = &*user.name;
    tracing::warn!(user, %error, "with the user's name in it a topic permission is no pattern and allows nothing");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{PasswordHash, TopicPermission},
        definitions::{TopicPermissionDefinition, VhostDefinition},
    };

    fn grants(permission: [&str; 3], topics: &[(&str, &str, &str)]) -> Grants {
        let [configure, write, read] = permission;
        let permission = Arc::new(Permission::parse(configure, write, read).unwrap());
        let topic = |(exchange, write, read): &(&str, &str, &str)| TopicPermissionDefinition {
            user: "alice".into(),
            vhost: "/".into(),
            exchange: (*exchange).into(),
            permission: TopicPermission::parse(write, read).unwrap(),
        };
        let mut vhost = Vhost::new(VhostDefinition::new("/"));
        vhost.permissions.insert("alice".into(), permission);
        vhost.topic_permissions.extend(topics.iter().map(topic));
        let password = PasswordHash::new("secret", [0; 4]);
        assert!(Grants::of(&User::new("bob", password.clone()), &vhost).is_none());
        Grants::of(&User::new("alice", password), &vhost).unwrap()
    }

    fn text(result: Result<(), Refusal>) -> String {
        result.err().map_or_else(String::new, |refusal| refusal.reply_text())
    }

    #[test]
    fn refusals_name_what_was_asked_for() {
        let grants = grants(["^c", "^w", "^r"], &[]);
        assert_eq!(text(grants.check(Operation::Configure, Resource::Queue("c"))), "");
        assert_eq!(
            text(grants.check(Operation::Read, Resource::Queue("q"))),
            "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'alice'"
        );
        assert_eq!(
            text(grants.check(Operation::Write, Resource::Exchange(""))),
            "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'alice'"
        );
    }

    #[test]
    fn an_answer_that_is_kept_stays_the_same() {
        let mut grants = grants(["", "^w", ""], &[("w", "^{username}", "")]);
        for name in (0..40).map(|number| format!("w{number}")).chain(["w0".to_owned(), "w39".to_owned()]) {
            assert_eq!(text(grants.check_publish(name.as_str().into())), "");
            let key = format!("alice.{name}");
            assert_eq!(text(grants.check_publish_key("w", key.as_bytes())), "");
        }
        assert_eq!(grants.publishable.names.len(), ANSWERS_KEPT_MAX);
        for _ in 0..2 {
            assert_ne!(text(grants.check_publish("other".into())), "");
            assert_eq!(
                text(grants.check_publish_key("w", b"bob.1")),
                "ACCESS_REFUSED - access to topic 'bob.1' in exchange 'w' in vhost '/' refused for user 'alice'"
            );
        }
        assert_eq!(text(grants.check_publish_key("another", b"bob.1")), "");
        assert_ne!(text(grants.check_binding_key("w", b"alice.1")), "");
    }
}
