//! Queues of the model: declared, bound, purged, deleted.

use std::collections::BTreeSet;

use leveret_wire::{Method, ReplyCode, ShortStr, method::queue};

use super::{
    ChannelKey, Model, QueueKey,
    exchanges::{Binding, Destination, is_reserved, text},
    queue::{Limits, Queue},
    terms::Terms,
    turn::Turn,
    verdict::{Outcome, Verdict},
};
use crate::{Checked, Violation, counts::Event, ensure, frames::Said};

/// A queue as a method names it.
pub(super) struct Named {
    name: String,
    pub(super) queue: Option<QueueKey>,
    /// No name was given and the channel has declared none.
    nameless: bool,
    /// It is another connection's.
    pub(super) locked: bool,
    /// It is about to go with its connection, or gone.
    pub(super) doomed: bool,
}

impl Named {
    /// What speaks against using it.
    pub(super) fn reasons(&self) -> [(bool, ReplyCode); 2] {
        [(self.queue.is_none(), ReplyCode::NotFound), (self.locked, ReplyCode::ResourceLocked)]
    }
}

impl Model {
    pub(super) fn named_queue(&self, key: ChannelKey, asked: ShortStr<'_>) -> Named {
        let last = self.channel(key).last_queue.as_deref();
        let nameless = asked.is_empty() && last.is_none();
        let name = if asked.is_empty() { last.unwrap_or_default() } else { text(asked) };
        let queue = self.queue_names.get(name).copied();
        let found = queue.map(|queue| self.queue(queue));
        Named {
            name: name.to_owned(),
            queue,
            nameless,
            locked: found.is_some_and(|queue| queue.owner.is_some_and(|owner| owner != key.0)),
            doomed: found.is_some_and(|queue| queue.doomed),
        }
    }

    pub(super) fn declare_queue(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        declare: queue::Declare<'_>,
    ) -> Checked {
        let asked = text(declare.queue);
        let current = self.queue_names.get(asked).copied();
        let verdict = if declare.passive {
            let locked = current.is_some_and(|queue| self.is_locked(queue, key));
            Verdict::unless(&[(current.is_none(), ReplyCode::NotFound), (locked, ReplyCode::ResourceLocked)])
                .or(self.is_doomed(current), ReplyCode::NotFound)
        } else {
            self.judge_declare_queue(key, asked, current, &declare)
        };
        let answer = (!declare.nowait).then_some((50, 11));
        let Outcome::Done(answer) = self.outcome(turn, key.1, (50, 10), answer, verdict)? else {
            return Ok(());
        };
        let name = match &answer {
            Some(Said::Method(_, Method::QueueDeclareOk(ok))) => text(ok.queue).to_owned(),
            _ => asked.to_owned(),
        };
        ensure!(
            !name.is_empty() && (asked == name || asked.is_empty() && name.starts_with("amq.gen-")),
            "a queue named {asked:?} was declared as {name:?}"
        );
        let queue = match current.filter(|_| !asked.is_empty()) {
            Some(queue) => queue,
            None => self.create_queue(key, &name, &declare),
        };
        self.channel_mut(key).last_queue = Some(name);
        self.check_declare_ok(queue, answer)
    }

    fn is_locked(&self, queue: QueueKey, key: ChannelKey) -> bool {
        self.queue(queue).owner.is_some_and(|owner| owner != key.0)
    }

    fn is_doomed(&self, queue: Option<QueueKey>) -> bool {
        queue.is_some_and(|queue| self.queue(queue).doomed)
    }

    fn judge_declare_queue(
        &self,
        key: ChannelKey,
        asked: &str,
        current: Option<QueueKey>,
        declare: &queue::Declare<'_>,
    ) -> Verdict {
        let Some(current) = current else {
            return Verdict::unless(&[(is_reserved(asked), ReplyCode::AccessRefused)]);
        };
        let queue = self.queue(current);
        let same_owner = queue.owner == declare.exclusive.then_some(key.0);
        let same = queue.durable == declare.durable
            && queue.auto_delete == declare.auto_delete
            && queue.limits == Limits::of(declare.arguments)
            && queue.terms == Terms::of(declare.arguments);
        Verdict::unless(&[
            (!same_owner, ReplyCode::ResourceLocked),
            (same_owner && !same, ReplyCode::PreconditionFailed),
        ])
    }

    fn create_queue(&mut self, key: ChannelKey, name: &str, declare: &queue::Declare<'_>) -> QueueKey {
        let mut queue = Queue::default();
        queue.name = name.to_owned();
        queue.owner = declare.exclusive.then_some(key.0);
        queue.durable = declare.durable;
        queue.auto_delete = declare.auto_delete;
        queue.limits = Limits::of(declare.arguments);
        queue.terms = Terms::of(declare.arguments);
        queue.used_millis = Some(self.now_millis);
        self.topology_changes += 1;
        let new = QueueKey(self.next_key());
        self.queues.insert(new, queue);
        self.queue_names.insert(name.to_owned(), new);
        new
    }

    #[allow(clippy::needless_pass_by_value, reason = "an answer is looked at once")]
    fn check_declare_ok(&mut self, queue: QueueKey, answer: Option<Said<'_>>) -> Checked {
        // Without an answer nobody asks the queue, which does not count as its use.
        let Some(Said::Method(_, Method::QueueDeclareOk(ok))) = answer else { return Ok(()) };
        self.touch(queue);
        self.expire(queue);
        self.check_ready(queue, ok.message_count, "declare-ok")?;
        let consumers = self.queue(queue).consumers.len() as u64;
        let going = self.queue(queue).consumers.iter().filter(|key| self.consumers[key].going).count() as u64;
        let said = u64::from(ok.consumer_count);
        let (mut least, mut most) = (consumers - going, consumers);
        if self.queue(queue).terms.is_quorum {
            // Who waits to be the active one does not count; whoever holds messages does.
            if self.queue(queue).terms.single_active {
                (least, most) = (least.min(1), most.min(1));
            }
            most += self.holders(queue);
        }
        ensure!(least <= said && said <= most, "declare-ok counts {said} consumers of {least} to {most}");
        Ok(())
    }

    /// At most so many hold messages of the queue without being consumers: each that was fetched, and
    /// each consumer that was cancelled.
    pub(super) fn holders(&self, queue: QueueKey) -> u64 {
        let held = self.channels.values().flat_map(|channel| channel.unacked.values());
        let held = held.filter(|held| held.queue == queue);
        let (fetched, consumed): (Vec<_>, Vec<_>) = held.partition(|held| held.consumer.is_none());
        let consumers: BTreeSet<_> = consumed.iter().filter_map(|held| held.consumer).collect();
        let cancelled = consumers.difference(&self.queue(queue).consumers.iter().copied().collect()).count();
        (fetched.len() + cancelled) as u64
    }

    /// A count of ready messages as the broker says it.
    pub(super) fn check_ready(&self, queue: QueueKey, said: u32, where_said: &str) -> Checked {
        let ready = self.ready(queue);
        let name = &self.queue(queue).name;
        ensure!(
            ready.contains(said.into()),
            "{where_said} counts {said} messages in '{name}', but it has {} to {} of {}",
            ready.min,
            ready.max,
            self.queue(queue)
        );
        Ok(())
    }

    pub(super) fn bind_queue(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        bind: queue::Bind<'_>,
    ) -> Checked {
        let named = self.named_queue(key, bind.queue);
        let source = text(bind.exchange);
        let [missing, locked] = named.reasons();
        let verdict = Verdict::unless(&[
            (source.is_empty(), ReplyCode::AccessRefused),
            missing,
            locked,
            (!self.exchanges.exists(source), ReplyCode::NotFound),
            (!self.may_bind(source, bind.arguments), ReplyCode::PreconditionFailed),
        ])
        .or(named.doomed, ReplyCode::NotFound);
        let answer = (!bind.nowait).then_some((50, 21));
        if let Outcome::Refused = self.outcome(turn, key.1, (50, 20), answer, verdict)? {
            return Ok(());
        }
        if let Some(queue) = named.queue {
            let binding_key = binding_key(&named, bind.queue, bind.routing_key);
            self.add_binding(Binding::new(source, Destination::Queue(queue), binding_key, bind.arguments));
        }
        Ok(())
    }

    pub(super) fn unbind_queue(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        unbind: queue::Unbind<'_>,
    ) -> Checked {
        let named = self.named_queue(key, unbind.queue);
        let source = text(unbind.exchange);
        let binding = named.queue.map(|queue| {
            let binding_key = binding_key(&named, unbind.queue, unbind.routing_key);
            Binding::new(source, Destination::Queue(queue), binding_key, unbind.arguments)
        });
        // Whose queue it is matters only where there is something to unbind.
        let is_there = binding.as_ref().is_some_and(|binding| self.is_there(binding));
        let verdict = Verdict::unless(&[
            (source.is_empty(), ReplyCode::AccessRefused),
            (named.nameless, ReplyCode::NotFound),
            (named.locked && is_there, ReplyCode::ResourceLocked),
        ]);
        if let Outcome::Refused = self.outcome(turn, key.1, (50, 50), Some((50, 51)), verdict)? {
            return Ok(());
        }
        if let Some(binding) = binding {
            self.remove_binding(&binding);
        }
        Ok(())
    }

    pub(super) fn purge_queue(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        purge: queue::Purge<'_>,
    ) -> Checked {
        let named = self.named_queue(key, purge.queue);
        let verdict = Verdict::unless(&named.reasons()).or(named.doomed, ReplyCode::NotFound);
        let answer = (!purge.nowait).then_some((50, 31));
        let Outcome::Done(answer) = self.outcome(turn, key.1, (50, 30), answer, verdict)? else {
            return Ok(());
        };
        let Some(queue) = named.queue else { return Ok(()) };
        self.may_step_queues_of(key.0);
        if let Some(Said::Method(_, Method::QueuePurgeOk(ok))) = answer {
            self.check_ready(queue, ok.message_count, "purge-ok")?;
        }
        self.counts.note(Event::Purge);
        self.drop_ready(queue);
        Ok(())
    }

    /// All that is ready goes; what was handed out stays.
    fn drop_ready(&mut self, key: QueueKey) {
        match self.exact_hidden(key) {
            Some(hidden) => drop(self.queue_mut(key).remove(hidden, u64::MAX)),
            None => self.queue_mut(key).doubt_all(),
        }
    }

    pub(super) fn delete_queue(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChannelKey,
        delete: queue::Delete<'_>,
    ) -> Checked {
        let named = self.named_queue(key, delete.queue);
        self.may_step_queues_of(key.0);
        let is_quorum = named.queue.is_some_and(|queue| self.queue(queue).terms.is_quorum);
        let ready = named.queue.map_or_else(Default::default, |queue| self.ready(queue));
        let consumers = named.queue.map_or(0, |queue| self.queue(queue).consumers.len());
        let verdict = Verdict::unless(&[
            (named.nameless, ReplyCode::NotFound),
            (named.locked, ReplyCode::ResourceLocked),
            (is_quorum && (delete.if_empty || delete.if_unused), ReplyCode::NotImplemented),
            (!is_quorum && delete.if_empty && ready.min > 0, ReplyCode::PreconditionFailed),
            (!is_quorum && delete.if_unused && consumers > 0, ReplyCode::PreconditionFailed),
        ])
        .or(delete.if_empty && ready.max > 0, ReplyCode::PreconditionFailed)
        .or(named.doomed, ReplyCode::NotFound);
        let answer = (!delete.nowait).then_some((50, 41));
        let Outcome::Done(answer) = self.outcome(turn, key.1, (50, 40), answer, verdict)? else {
            return Ok(());
        };
        let Some(Said::Method(_, Method::QueueDeleteOk(ok))) = answer else {
            return Err(Violation::new("clients delete queues with an answer"));
        };
        let Some(queue) = named.queue.filter(|_| !named.locked) else {
            ensure!(ok.message_count == 0, "deleting nothing deleted {} messages", ok.message_count);
            return Ok(());
        };
        self.check_ready(queue, ok.message_count, "delete-ok")?;
        self.counts.note(Event::QueueDelete);
        self.remove_queue(queue);
        Ok(())
    }
}

fn binding_key(named: &Named, queue: ShortStr<'_>, routing_key: ShortStr<'_>) -> Vec<u8> {
    if queue.is_empty() && routing_key.is_empty() {
        return named.name.clone().into_bytes();
    }
    routing_key.as_bytes().to_vec()
}
