//! Who may do what: users and their passwords, permissions, limits.
//!
//! Knows names and patterns; never sessions, queues or exchanges themselves. Invariant: what is
//! allowed follows from names alone, so that an answer may be kept for as long as the permissions
//! stand.

mod limits;
mod password;
mod permission;

pub use self::{
    limits::{Limit, UserLimits, VhostLimits},
    password::{HashingAlgorithm, PasswordHash, PasswordHashError, SALT_OCTETS},
    permission::{Operation, Permission, TopicPatterns, TopicPermission, TopicVariables},
};

/// The tag of a user who may put any name into a message's user-id.
pub const IMPERSONATOR: &str = "impersonator";

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Box<str>,
    /// The password; who has none does not log in by one.
    pub password: Option<PasswordHash>,
    /// What RabbitMQ's management interface lets the user do, and [`IMPERSONATOR`].
    pub tags: Vec<Box<str>>,
    /// How much the user may have at a time.
    pub limits: UserLimits,
    /// Whether it may log in from loopback addresses only, as RabbitMQ's guest.
    pub loopback_only: bool,
}

impl User {
    /// A user without tags and limits, who may log in from anywhere.
    #[must_use]
    pub fn new(name: &str, password: PasswordHash) -> Self {
        Self {
            name: name.into(),
            password: Some(password),
            tags: Vec::new(),
            limits: UserLimits::default(),
            loopback_only: false,
        }
    }

    /// Whether that is the password, in a time that does not tell how much of it is right. A
    /// blank password never is.
    #[must_use]
    pub fn has_password(&self, password: &[u8]) -> bool {
        match &self.password {
            Some(hash) => hash.matches(password) && !password.is_empty(),
            None => false,
        }
    }

    /// Whether messages may carry another user's name.
    #[must_use]
    pub fn is_impersonator(&self) -> bool {
        self.tags.iter().any(|tag| &**tag == IMPERSONATOR)
    }
}
