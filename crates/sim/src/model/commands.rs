//! Methods and contents of a channel: which room of the model they go to.

use leveret_wire::{ContentHeader, FrameKind, Method, ReplyCode, method::access};

use super::{
    ChannelKey, Model,
    connection::{Begun, Channel, Mode},
    settle,
    turn::Turn,
    verdict::{Outcome, Verdict},
};
use crate::{Checked, Violation, counts::Event, ensure};

impl Model {
    pub(super) fn channel_method(&mut self, turn: &mut Turn<'_>, number: u16, method: Method<'_>) -> Checked {
        let key = (turn.connection, number);
        turn.may_have_freed |= !matches!(method, Method::BasicPublish(_));
        match self.channels.get(&key) {
            None => self.absent_channel(turn, key, method),
            Some(channel) if channel.closing => self.closing_channel(turn, key, method),
            Some(channel) if channel.begun.is_some() => {
                let verdict = Verdict::refused(ReplyCode::UnexpectedFrame);
                self.expect_refusal(turn, number, (60, 40), verdict)
            }
            Some(_) => self.open_channel(turn, key, method),
        }
    }

    fn absent_channel(&mut self, turn: &mut Turn<'_>, key: ChannelKey, method: Method<'_>) -> Checked {
        if !matches!(method, Method::ChannelOpen(_)) {
            let verdict = Verdict::refused(ReplyCode::ChannelError);
            return self.expect_refusal(turn, key.1, method.ids(), verdict);
        }
        let open = self.channels.range((key.0, 0)..=(key.0, u16::MAX)).count();
        if open >= usize::from(self.connection(key.0).channel_max) {
            return self.expect_refusal(turn, 0, (0, 0), Verdict::refused(ReplyCode::NotAllowed));
        }
        self.outcome(turn, key.1, method.ids(), Some((20, 11)), Verdict::unless(&[]))?;
        self.channels.insert(key, Channel::default());
        Ok(())
    }

    fn closing_channel(&mut self, turn: &mut Turn<'_>, key: ChannelKey, method: Method<'_>) -> Checked {
        match method {
            Method::ChannelCloseOk(_) => drop(self.channels.remove(&key)),
            Method::ChannelClose(_) => {
                self.outcome(turn, key.1, method.ids(), Some((20, 41)), Verdict::unless(&[]))?;
            }
            Method::ChannelOpen(_) => {
                let verdict = Verdict::refused(ReplyCode::ChannelError);
                return self.expect_refusal(turn, key.1, method.ids(), verdict);
            }
            _ => {}
        }
        Ok(())
    }

    fn open_channel(&mut self, turn: &mut Turn<'_>, key: ChannelKey, method: Method<'_>) -> Checked {
        match method {
            Method::BasicPublish(publish) => {
                let begun = Begun {
                    exchange: publish.exchange.as_bytes().to_vec(),
                    routing_key: publish.routing_key.as_bytes().to_vec(),
                    mandatory: publish.mandatory,
                    immediate: publish.immediate,
                    property_octets: None,
                    body_octets: 0,
                    body: Vec::new(),
                };
                self.channel_mut(key).begun = Some(begun);
                Ok(())
            }
            Method::BasicAck(ack) => {
                let tags = (ack.delivery_tag, ack.multiple);
                self.settle(turn, key, &method, tags, settle::Outcome::Acknowledged)
            }
            Method::BasicNack(nack) => {
                let outcome = settle::Outcome::refused(nack.requeue);
                self.settle(turn, key, &method, (nack.delivery_tag, nack.multiple), outcome)
            }
            Method::BasicReject(reject) => {
                let outcome = settle::Outcome::refused(reject.requeue);
                self.settle(turn, key, &method, (reject.delivery_tag, false), outcome)
            }
            Method::BasicRecover(recover) => self.recover(turn, key, &method, recover.requeue, true),
            Method::BasicRecoverAsync(recover) => self.recover(turn, key, &method, recover.requeue, false),
            Method::BasicGet(get) => self.get(turn, key, get),
            Method::BasicConsume(consume) => self.consume(turn, key, consume),
            Method::BasicCancel(cancel) => self.cancel(turn, key, cancel),
            Method::BasicQos(qos) => self.qos(turn, key, qos),
            Method::QueueDeclare(declare) => self.declare_queue(turn, key, declare),
            Method::QueueBind(bind) => self.bind_queue(turn, key, bind),
            Method::QueueUnbind(unbind) => self.unbind_queue(turn, key, unbind),
            Method::QueuePurge(purge) => self.purge_queue(turn, key, purge),
            Method::QueueDelete(delete) => self.delete_queue(turn, key, delete),
            Method::ExchangeDeclare(declare) => self.declare_exchange(turn, key, declare),
            Method::ExchangeDelete(delete) => self.delete_exchange(turn, key, delete),
            Method::ExchangeBind(bind) => self.bind_exchange(turn, key, bind),
            Method::ExchangeUnbind(unbind) => self.unbind_exchange(turn, key, unbind),
            Method::TxCommit(_) => self.commit(turn, key),
            Method::TxRollback(_) => self.roll_back(turn, key),
            _ => self.channel_upkeep(turn, key, method),
        }
    }

    fn channel_upkeep(&mut self, turn: &mut Turn<'_>, key: ChannelKey, method: Method<'_>) -> Checked {
        match method {
            Method::ChannelClose(_) => self.close_channel(turn, key),
            Method::ConfirmSelect(select) => self.select_confirms(turn, key, select.nowait),
            Method::TxSelect(_) => self.select_transaction(turn, key),
            Method::ChannelFlow(flow) => {
                let verdict = Verdict::unless(&[(!flow.active, ReplyCode::NotImplemented)]);
                self.outcome(turn, key.1, method.ids(), Some((20, 21)), verdict).map(drop)
            }
            Method::AccessRequest(_) => {
                let ids = Some((access::CLASS_ID, access::RequestOk::METHOD_ID));
                self.outcome(turn, key.1, method.ids(), ids, Verdict::unless(&[])).map(drop)
            }
            Method::ChannelOpen(_) => {
                self.expect_refusal(turn, key.1, method.ids(), Verdict::refused(ReplyCode::ChannelError))
            }
            _ => self.expect_refusal(turn, key.1, method.ids(), Verdict::refused(ReplyCode::CommandInvalid)),
        }
    }

    fn select_confirms(&mut self, turn: &mut Turn<'_>, key: ChannelKey, nowait: bool) -> Checked {
        let transacts = matches!(self.channel(key).mode, Mode::Transaction { .. });
        let verdict = Verdict::unless(&[(transacts, ReplyCode::PreconditionFailed)]);
        let answer = (!nowait).then_some((85, 11));
        if let Outcome::Refused = self.outcome(turn, key.1, (85, 10), answer, verdict)? {
            return Ok(());
        }
        let mode = &mut self.channel_mut(key).mode;
        if matches!(mode, Mode::Plain) {
            *mode = Mode::Confirm { last: 0, open: Default::default() };
        }
        Ok(())
    }

    fn select_transaction(&mut self, turn: &mut Turn<'_>, key: ChannelKey) -> Checked {
        let confirms = matches!(self.channel(key).mode, Mode::Confirm { .. });
        let verdict = Verdict::unless(&[(confirms, ReplyCode::PreconditionFailed)]);
        if let Outcome::Refused = self.outcome(turn, key.1, (90, 10), Some((90, 11)), verdict)? {
            return Ok(());
        }
        let mode = &mut self.channel_mut(key).mode;
        if matches!(mode, Mode::Plain) {
            *mode = Mode::Transaction { publishes: Vec::new(), settles: Vec::new() };
        }
        Ok(())
    }

    pub(super) fn content_frame(
        &mut self,
        turn: &mut Turn<'_>,
        kind: FrameKind,
        number: u16,
        payload: &[u8],
    ) -> Checked {
        let key = (turn.connection, number);
        turn.began_content = true;
        let Some(channel) = self.channels.get_mut(&key) else {
            return self.expect_refusal(turn, 0, (0, 0), Verdict::refused(ReplyCode::UnexpectedFrame));
        };
        if channel.closing {
            return Ok(());
        }
        let Some(begun) = &mut channel.begun else {
            let verdict = Verdict::refused(ReplyCode::UnexpectedFrame);
            return self.expect_refusal(turn, number, (0, 0), verdict);
        };
        if (kind == FrameKind::Header) != begun.property_octets.is_none() {
            let verdict = Verdict::refused(ReplyCode::UnexpectedFrame);
            return self.expect_refusal(turn, number, (60, 40), verdict);
        }
        if kind == FrameKind::Header {
            let header = ContentHeader::decode(payload)
                .map_err(|error| Violation::new(format!("a client sent a broken header: {error}")))?;
            begun.property_octets = Some(header.property_octets.to_vec());
            begun.body_octets = header.body_octets;
        } else {
            begun.body.extend_from_slice(payload);
        }
        ensure!(begun.body.len() as u64 <= begun.body_octets, "a client sent too much of a body");
        if (begun.body.len() as u64) < begun.body_octets {
            return Ok(());
        }
        let begun = channel.begun.take().expect("it was just looked at");
        self.counts.note(Event::Publish);
        self.publish(turn, key, begun)
    }
}
