//! What was said to the broker and what it said, of messages: outside it, so that it outlives every kill.
//!
//! Knows queues by name; judges each delivery and what is missing when a queue was emptied after a restart.
//! Invariant: a message is expected back only when its confirm came and no acknowledgement of it was sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::body::MessageId;

/// How a message stands in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was sent, and may be there.
    Sent,
    /// Its confirm came, or it was seen after a restart: it must be there.
    Confirmed,
    /// An acknowledgement was sent: it may be there after the next restart, and not before.
    Acked,
    /// It was not there after a restart, or the broker said that it is gone: it must never come again.
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    standing: Standing,
    was_delivered: bool,
}

/// How a queue orders what comes back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// To its place: always in the order of publishing.
    Kept,
    /// Behind others: only what was never delivered is in the order of publishing.
    KeptButForRequeues,
}

/// How often each thing happened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) confirmed: u64,
    pub(super) delivered: u64,
    pub(super) acked: u64,
    /// Acknowledgements that an answer covered, which came later on their connection.
    pub(super) settled: u64,
    pub(super) commits: u64,
    /// Answers to declares, binds, unbinds, deletes and purges.
    pub(super) changes: u64,
    /// Found after a restart as it had to be.
    pub(super) survived: u64,
    /// Not found after a restart, as it may be.
    pub(super) forgotten: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    queues: BTreeMap<String, BTreeMap<MessageId, Entry>>,
    pub(super) counts: Counts,
    violations: Vec<String>,
}

/// What came out of a queue since a restart.
#[derive(Debug)]
pub(super) struct Emptying {
    queue: String,
    order: Order,
    seen: BTreeSet<MessageId>,
    /// The last of each publisher that had to be in order.
    last: BTreeMap<u32, u64>,
}

impl Emptying {
    pub(super) fn of(queue: &str, order: Order) -> Self {
        Self { queue: queue.to_owned(), order, seen: BTreeSet::new(), last: BTreeMap::new() }
    }
}

/// Where the deliveries to one consumer stand.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// The last of each publisher that came for the first time.
    last: BTreeMap<u32, u64>,
}

impl Ledger {
    /// Before it is sent: it will be in those queues, if anywhere.
    pub(super) fn sent(&mut self, id: MessageId, queues: &[&str]) {
        self.counts.sent += 1;
        for queue in queues {
            let entry = Entry { standing: Standing::Sent, was_delivered: false };
            self.queues.entry((*queue).to_owned()).or_default().insert(id, entry);
        }
    }

    /// Its confirm came, and it is persistent.
    pub(super) fn confirmed(&mut self, id: MessageId, queues: &[&str]) {
        self.counts.confirmed += 1;
        for queue in queues {
            // It may have been delivered and acknowledged before its confirm came.
            if let Some(entry) = self.entry(queue, id)
                && entry.standing == Standing::Sent
            {
                entry.standing = Standing::Confirmed;
            }
        }
    }

    /// It came to a consumer while the broker was under load.
    pub(super) fn delivered(
        &mut self,
        queue: &str,
        body: &[u8],
        redelivered: bool,
        to: &mut Listening,
    ) -> Option<MessageId> {
        let id = self.known(queue, body)?;
        let entry = *self.entry(queue, id)?;
        match entry.standing {
            Standing::Gone => self.violation(format!("{queue}: {id} came although it was gone")),
            Standing::Acked => {
                self.violation(format!("{queue}: {id} came again, acknowledged and no restart between"));
            }
            Standing::Sent | Standing::Confirmed => {}
        }
        if !redelivered && !entry.was_delivered {
            let last = to.last.insert(id.publisher, id.number);
            if last.is_some_and(|last| last >= id.number) {
                self.violation(format!("{queue}: {id} came after {}", last.unwrap_or_default()));
            }
        }
        self.note_delivery(queue, id);
        Some(id)
    }

    /// Before its acknowledgement is sent.
    pub(super) fn acked(&mut self, queue: &str, id: MessageId) {
        self.counts.acked += 1;
        if let Some(entry) = self.entry(queue, id) {
            entry.standing = Standing::Acked;
        }
    }

    /// An answer came on the connection of its acknowledgement, to something that was sent behind it.
    pub(super) fn settled(&mut self, queue: &str, id: MessageId) {
        if let Some(entry) = self.entry(queue, id)
            && entry.standing == Standing::Acked
        {
            entry.standing = Standing::Gone;
            self.counts.settled += 1;
        }
    }

    /// It came while the queue was emptied after a restart.
    pub(super) fn found(&mut self, body: &[u8], emptying: &mut Emptying) -> Option<MessageId> {
        let queue = emptying.queue.clone();
        let id = self.known(&queue, body)?;
        if !emptying.seen.insert(id) {
            self.violation(format!("{queue}: {id} is there twice"));
        }
        let entry = *self.entry(&queue, id)?;
        match entry.standing {
            Standing::Gone => self.violation(format!("{queue}: {id} rose again")),
            Standing::Confirmed => self.counts.survived += 1,
            Standing::Sent | Standing::Acked => {}
        }
        if emptying.order == Order::Kept || !entry.was_delivered {
            let last = emptying.last.insert(id.publisher, id.number);
            if let Some(last) = last.filter(|last| *last > id.number) {
                self.violation(format!("{queue}: {id} is behind {last}"));
            }
        }
        if let Some(entry) = self.entry(&queue, id) {
            entry.standing = Standing::Confirmed;
        }
        self.note_delivery(&queue, id);
        Some(id)
    }

    fn note_delivery(&mut self, queue: &str, id: MessageId) {
        self.counts.delivered += 1;
        if let Some(entry) = self.entry(queue, id) {
            entry.was_delivered = true;
        }
    }

    /// All that was in the queue after a restart has come: what stands now is known.
    pub(super) fn emptied(&mut self, emptying: &Emptying) {
        let mut lost = Vec::new();
        for (id, entry) in self.queues.entry(emptying.queue.clone()).or_default() {
            if emptying.seen.contains(id) {
                continue;
            }
            match entry.standing {
                Standing::Confirmed => lost.push(*id),
                Standing::Sent | Standing::Acked => self.counts.forgotten += 1,
                Standing::Gone => {}
            }
            entry.standing = Standing::Gone;
        }
        if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
            let (queue, count) = (&emptying.queue, lost.len());
            self.violation(format!("{queue}: {count} confirmed messages are lost, {first} to {last}"));
        }
    }

    /// Before the queue's purge is sent: each of its messages may be there or not.
    pub(super) fn leaving(&mut self, queue: &str) {
        for entry in self.queues.entry(queue.to_owned()).or_default().values_mut() {
            if entry.standing != Standing::Gone {
                entry.standing = Standing::Acked;
            }
        }
    }

    /// The queue was purged or is not there any more: none of its messages may come again.
    pub(super) fn all_gone(&mut self, queue: &str) {
        for entry in self.queues.entry(queue.to_owned()).or_default().values_mut() {
            entry.standing = Standing::Gone;
        }
    }

    /// The broker is not as it said it would be.
    pub(super) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    fn known(&mut self, queue: &str, body: &[u8]) -> Option<MessageId> {
        let Some(id) = MessageId::of(body) else {
            self.violation(format!("{queue}: a body of {} octets that nobody sent", body.len()));
            return None;
        };
        if self.entry(queue, id).is_none() {
            self.violation(format!("{queue}: {id} was never sent there"));
            return None;
        }
        Some(id)
    }

    fn entry(&mut self, queue: &str, id: MessageId) -> Option<&mut Entry> {
        self.queues.get_mut(queue)?.get_mut(&id)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of publisher {}", self.number, self.publisher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: &str = "q";

    fn id(number: u64) -> MessageId {
        MessageId { publisher: 1, number }
    }

    /// A ledger with so many messages sent, the first of them confirmed.
    fn ledger(sent: u64, confirmed: u64) -> Ledger {
        let mut ledger = Ledger::default();
        (0..sent).for_each(|number| ledger.sent(id(number), &[Q]));
        (0..confirmed).for_each(|number| ledger.confirmed(id(number), &[Q]));
        ledger
    }

    /// A restart after which those are found, in that order.
    fn restart(ledger: &mut Ledger, found: &[u64]) {
        let mut emptying = Emptying::of(Q, Order::Kept);
        for number in found {
            ledger.found(&id(*number).body(), &mut emptying);
        }
        ledger.emptied(&emptying);
    }

    fn check(ledger: &Ledger, wanted: &[&str]) {
        assert_eq!(ledger.violations(), wanted);
    }

    #[test]
    fn a_confirmed_message_must_be_there_and_another_one_may() {
        for found in [&[0, 1][..], &[0, 1, 2], &[0, 1, 3]] {
            let mut ledger = ledger(4, 2);
            restart(&mut ledger, found);
            check(&ledger, &[]);
        }
        let mut ledger = ledger(4, 2);
        restart(&mut ledger, &[1, 3]);
        check(
            &ledger,
            &["q: 1 confirmed messages are lost, message 0 of publisher 1 to message 0 of publisher 1"],
        );
    }

    #[test]
    fn what_was_seen_after_a_restart_must_be_there_after_the_next() {
        let mut ledger = ledger(2, 0);
        restart(&mut ledger, &[0]);
        restart(&mut ledger, &[]);
        assert_eq!(ledger.violations().len(), 1);
    }

    #[test]
    fn what_was_acknowledged_may_come_after_one_restart_and_not_after_its_absence() {
        let mut ledger = ledger(1, 1);
        ledger.acked(Q, id(0));
        restart(&mut ledger, &[0]);
        ledger.acked(Q, id(0));
        restart(&mut ledger, &[]);
        check(&ledger, &[]);
        restart(&mut ledger, &[0]);
        check(&ledger, &["q: message 0 of publisher 1 rose again"]);
    }

    #[test]
    fn nothing_is_invented_doubled_or_out_of_order() {
        let mut ledger = ledger(3, 3);
        let mut emptying = Emptying::of(Q, Order::Kept);
        for number in [0, 2, 1, 1, 9] {
            ledger.found(&id(number).body(), &mut emptying);
        }
        ledger.found(b"nobody's", &mut emptying);
        check(
            &ledger,
            &[
                "q: message 1 of publisher 1 is behind 2",
                "q: message 1 of publisher 1 is there twice",
                "q: message 9 of publisher 1 was never sent there",
                "q: a body of 8 octets that nobody sent",
            ],
        );
    }

    #[test]
    fn where_requeues_go_behind_only_what_is_new_is_in_order() {
        let mut ledger = ledger(3, 3);
        ledger.delivered(Q, &id(0).body(), false, &mut Listening::default());
        let mut emptying = Emptying::of(Q, Order::KeptButForRequeues);
        for number in [1, 2, 0] {
            ledger.found(&id(number).body(), &mut emptying);
        }
        check(&ledger, &[]);
    }

    #[test]
    fn what_was_deleted_does_not_rise() {
        let mut ledger = ledger(1, 1);
        ledger.all_gone(Q);
        restart(&mut ledger, &[]);
        check(&ledger, &[]);
        restart(&mut ledger, &[0]);
        check(&ledger, &["q: message 0 of publisher 1 rose again"]);
    }

    #[test]
    fn an_acknowledgement_that_an_answer_covers_lasts_and_a_later_one_may_not() {
        let mut ledger = ledger(2, 2);
        (0..2).for_each(|number| ledger.acked(Q, id(number)));
        ledger.settled(Q, id(0));
        restart(&mut ledger, &[1]);
        check(&ledger, &[]);
        restart(&mut ledger, &[0, 1]);
        check(&ledger, &["q: message 0 of publisher 1 rose again"]);
    }

    #[test]
    fn what_came_again_before_an_answer_is_not_settled_by_it() {
        let mut ledger = ledger(1, 1);
        ledger.acked(Q, id(0));
        restart(&mut ledger, &[0]);
        ledger.settled(Q, id(0));
        restart(&mut ledger, &[0]);
        check(&ledger, &[]);
    }

    #[test]
    fn a_purge_without_an_answer_may_take_messages_and_one_with_it_takes_all() {
        for found in [&[][..], &[0], &[0, 1]] {
            let mut ledger = ledger(2, 2);
            ledger.leaving(Q);
            restart(&mut ledger, found);
            check(&ledger, &[]);
        }
        let mut ledger = ledger(1, 1);
        ledger.leaving(Q);
        ledger.all_gone(Q);
        restart(&mut ledger, &[0]);
        check(&ledger, &["q: message 0 of publisher 1 rose again"]);
    }

    #[test]
    fn under_load_what_was_acknowledged_stays_away_and_first_deliveries_are_in_order() {
        let mut ledger = ledger(3, 3);
        let mut listening = Listening::default();
        for number in [1, 0] {
            ledger.delivered(Q, &id(number).body(), false, &mut listening);
        }
        ledger.acked(Q, id(1));
        ledger.delivered(Q, &id(1).body(), true, &mut listening);
        check(
            &ledger,
            &[
                "q: message 0 of publisher 1 came after 1",
                "q: message 1 of publisher 1 came again, acknowledged and no restart between",
            ],
        );
    }

    #[test]
    fn a_message_that_was_acknowledged_before_its_confirm_came_is_not_expected() {
        let mut ledger = ledger(1, 0);
        ledger.acked(Q, id(0));
        ledger.confirmed(id(0), &[Q]);
        restart(&mut ledger, &[]);
        check(&ledger, &[]);
    }
}
