//! How policies and arguments make one setting, key by key and by the type of the queue.
//!
//! As RabbitMQ 3.10.8 does it: of numbers the lesser one holds, of other settings the argument
//! (dead letters and alternates, where they are read), but for a quorum queue's expiry and overflow and all of a stream's, where the policy goes
//! first.

use super::PolicyKeys;
use crate::model::{queue::Overflow, queue_arguments::QueueType};

impl PolicyKeys {
    /// An operator's keys over these: all of them, and where both have one the lesser.
    #[must_use]
    pub(super) fn under_operator(mut self, operator: &Self) -> Self {
        for (own, operators) in [
            (&mut self.message_ttl_millis, operator.message_ttl_millis),
            (&mut self.expires_millis, operator.expires_millis),
            (&mut self.messages_max, operator.messages_max),
            (&mut self.octets_max, operator.octets_max),
            (&mut self.delivery_limit, operator.delivery_limit),
            (&mut self.consumer_timeout_millis, operator.consumer_timeout_millis),
        ] {
            *own = lesser(*own, operators);
        }
        self
    }

    /// `x-message-ttl` and `message-ttl`.
    #[must_use]
    pub fn message_ttl_millis_with(&self, argument: Option<u64>) -> Option<u64> {
        lesser(self.message_ttl_millis, argument)
    }

    /// `x-expires` and `expires`.
    #[must_use]
    pub fn expires_millis_with(&self, kind: QueueType, argument: Option<u64>) -> Option<u64> {
        match kind {
            QueueType::Classic => lesser(self.expires_millis, argument),
            QueueType::Quorum | QueueType::Stream => self.expires_millis.or(argument),
        }
    }

    /// `x-max-length` and `max-length`.
    #[must_use]
    pub fn messages_max_with(&self, argument: Option<u64>) -> Option<u64> {
        lesser(self.messages_max, argument)
    }

    /// `x-max-length-bytes` and `max-length-bytes`.
    #[must_use]
    pub fn octets_max_with(&self, kind: QueueType, argument: Option<u64>) -> Option<u64> {
        match kind {
            QueueType::Classic | QueueType::Quorum => lesser(self.octets_max, argument),
            QueueType::Stream => self.octets_max.or(argument),
        }
    }

    /// `x-overflow` and `overflow`.
    #[must_use]
    pub fn overflow_with(&self, kind: QueueType, argument: Option<Overflow>) -> Option<Overflow> {
        match kind {
            QueueType::Classic => argument.or(self.overflow),
            QueueType::Quorum | QueueType::Stream => self.overflow.or(argument),
        }
    }

    /// `x-delivery-limit` and `delivery-limit`.
    #[must_use]
    pub fn delivery_limit_with(&self, argument: Option<u64>) -> Option<u64> {
        lesser(self.delivery_limit, argument)
    }

    /// `x-max-age` and `max-age`.
    #[must_use]
    pub fn max_age_millis_with(&self, argument: Option<u64>) -> Option<u64> {
        self.max_age_millis.or(argument)
    }

    /// `x-consumer-timeout` and `consumer-timeout`.
    #[must_use]
    pub fn consumer_timeout_millis_with(&self, argument: Option<u64>) -> Option<u64> {
        lesser(self.consumer_timeout_millis, argument)
    }
}

fn lesser(policy: Option<u64>, argument: Option<u64>) -> Option<u64> {
    match (policy, argument) {
        (Some(policy), Some(argument)) => Some(policy.min(argument)),
        (policy, argument) => policy.or(argument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_numbers_the_lesser_holds() {
        let keys = PolicyKeys { messages_max: Some(5), ..PolicyKeys::default() };
        assert_eq!(keys.messages_max_with(None), Some(5));
        assert_eq!(keys.messages_max_with(Some(3)), Some(3));
        assert_eq!(keys.messages_max_with(Some(9)), Some(5));
        assert_eq!(keys.message_ttl_millis_with(Some(9)), Some(9));
    }

    #[test]
    fn the_type_of_a_queue_decides_some() {
        let keys = PolicyKeys {
            expires_millis: Some(9),
            octets_max: Some(9),
            overflow: Some(Overflow::RejectPublish),
            ..PolicyKeys::default()
        };
        let check = |kind, expires, octets, overflow| {
            assert_eq!(keys.expires_millis_with(kind, Some(5)), Some(expires));
            assert_eq!(keys.octets_max_with(kind, Some(5)), Some(octets));
            assert_eq!(keys.overflow_with(kind, Some(Overflow::DropHead)), Some(overflow));
        };
        check(QueueType::Classic, 5, 5, Overflow::DropHead);
        check(QueueType::Quorum, 9, 5, Overflow::RejectPublish);
        check(QueueType::Stream, 9, 9, Overflow::RejectPublish);
    }
}
