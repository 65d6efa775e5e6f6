//! Direct reply-to: answers that come without a queue being declared for them.
//!
//! A channel that consumes from `amq.rabbitmq.reply-to` gets a queue that stands in no topology,
//! known by a token that nobody can guess; the default exchange finds it by that. See RabbitMQ's
//! page on direct reply-to. Invariant: a token is known for as long as its consumer is there.

use std::{collections::HashMap, sync::Arc};

use leveret_wire::{Properties, PublishRoute, TableBuf, method::basic};

use super::{
    connection::Connection,
    queue_cell::{QueueCell, QueueDeclaration},
    routes::QueueRoute,
    sources::SourceId,
};
use crate::{
    Refusal,
    model::{arguments::ConsumerArguments, queue_arguments::QueueArguments},
    planted::{self, Bug},
    sync::Mutex,
};

/// The name by which a client asks for it.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// What tokens begin with.
const TOKEN_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// The consumers of answers in a virtual host, by their tokens. Never iterated.
#[derive(Default)]
pub(super) struct Replies {
    queues: Mutex<HashMap<Box<str>, Arc<QueueCell>>>,
}

/// A channel's consumer of answers.
#[derive(Debug)]
pub(super) struct ReplyConsumer {
    pub(super) source: SourceId,
    token: Box<str>,
}

impl Replies {
    /// The queue behind a token, if that is one.
    pub(super) fn find(&self, name: &[u8]) -> Option<Arc<QueueCell>> {
        let name = str::from_utf8(name).ok().filter(|name| name.starts_with(TOKEN_PREFIX))?;
        self.queues.lock().get(name).cloned()
    }
}

/// Whether the publisher wants the answer without a queue.
pub(super) fn is_asked_for(properties: &Properties<'_>) -> bool {
    properties.reply_to.is_some_and(|reply_to| reply_to.as_bytes() == REPLY_TO.as_bytes())
}

/// Whether a publish is such an answer. As RabbitMQ 3.10 has it, one that is mandatory comes back
/// though it was delivered.
pub(super) fn is_reply(route: PublishRoute<'_>) -> bool {
    route.exchange().is_empty() && route.routing_key().as_bytes().starts_with(TOKEN_PREFIX.as_bytes())
}

/// The consumers of answers that a message goes to, and where else it goes; `None` if it is for no
/// such consumer.
pub(super) fn answers_of(route: &QueueRoute) -> Option<(Arc<QueueRoute>, Arc<QueueRoute>)> {
    let is_of_replies = |queue: &Arc<QueueCell>| queue.name.starts_with(TOKEN_PREFIX);
    if !route.queues.iter().any(is_of_replies) {
        return None;
    }
    let (mut answers, mut others) = (route.clone(), route.clone());
    answers.queues.retain(|queue| is_of_replies(queue));
    others.queues.retain(|queue| !is_of_replies(queue));
    Some((Arc::new(answers), Arc::new(others)))
}

impl Connection {
    /// `basic.consume` from [`REPLY_TO`].
    pub(super) fn consume_replies(
        &mut self,
        channel: u16,
        tag: &[u8],
        consume: &basic::Consume<'_>,
    ) -> Result<(), Refusal> {
        if !consume.no_ack {
            return Err(Refusal::ReplyConsumer("reply consumer cannot acknowledge"));
        }
        if self.channel(channel).data.replies.is_some() {
            return Err(Refusal::ReplyConsumer("reply consumer already set"));
        }
        let vhost = self.open_vhost_handle();
        let first = self.engine.random_name(TOKEN_PREFIX);
        let token = match planted::is(Bug::ReplyNameShared) {
            true => format!("{TOKEN_PREFIX}shared"),
            false => self.engine.random_name(&format!("{first}.")),
        };
        let declaration = QueueDeclaration {
            durable: false,
            auto_delete: false,
            owner: Some(self.id),
            arguments: TableBuf::new(),
            parsed: QueueArguments::default(),
        };
        let serial = self.engine.next_id();
        let queue = QueueCell::new(
            serial,
            &token,
            Arc::downgrade(&vhost),
            declaration,
            self.now,
            self.engine.paging.is_on(),
        );
        self.start_consumer(channel, &queue, tag, ConsumerArguments::default(), consume)?;
        let source = self.channel(channel).data.consumers[tag];
        self.sources.of(source).is_of_replies = true;
        vhost.replies.queues.lock().insert(token.clone().into(), queue);
        self.channel(channel).data.replies = Some(ReplyConsumer { source, token: token.into() });
        Ok(())
    }

    /// The name that answers to this channel are sent to.
    pub(super) fn reply_token(&mut self, channel: u16) -> Result<String, Refusal> {
        let replies = self.channel(channel).data.replies.as_ref();
        let missing = Refusal::ReplyConsumer("fast reply consumer does not exist");
        replies.map(|replies| replies.token.to_string()).ok_or(missing)
    }

    /// The consumer was cancelled, or goes with its channel: nobody finds it any more.
    pub(super) fn forget_replies(&mut self, replies: Option<ReplyConsumer>) {
        let Some(ReplyConsumer { token, .. }) = replies else { return };
        let vhost = self.open_vhost_handle();
        if planted::is(Bug::ReplyNameKept) {
            return;
        }
        let queue = vhost.replies.queues.lock().remove(&token);
        let Some(queue) = queue else { return };
        let drained = queue.retire(&self.engine);
        self.frees.push_drained(drained);
    }
}
