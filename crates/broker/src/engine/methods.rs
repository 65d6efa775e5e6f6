//! Which room a method on an open channel goes to.

use leveret_wire::{
    Method, ShortStr,
    method::{access, channel, confirm, tx},
};

use super::transaction::Outcome;
use super::{
    connection::{ChannelData, Connection},
    sources::Delivery,
};
use crate::{
    Refusal,
    session::{Channel, ChannelMode, Confirms},
};

impl Connection {
    pub(super) fn method(&mut self, channel: u16, method: Method<'_>) -> Result<(), Refusal> {
        match method {
            Method::BasicAck(ack) => {
                self.settle(channel, ack.delivery_tag, ack.multiple, Outcome::Acknowledged)
            }
            Method::BasicNack(nack) => {
                self.settle(channel, nack.delivery_tag, nack.multiple, Outcome::refused(nack.requeue))
            }
            Method::BasicReject(reject) => {
                self.settle(channel, reject.delivery_tag, false, Outcome::refused(reject.requeue))
            }
            Method::BasicGet(get) => self.get(channel, get),
            Method::BasicConsume(consume) => self.consume(channel, consume),
            Method::BasicCancel(cancel) => self.cancel(channel, cancel),
            Method::BasicQos(qos) => self.qos(channel, qos),
            Method::BasicRecover(recover) => self.recover(channel, recover.requeue, true),
            Method::BasicRecoverAsync(recover) => self.recover(channel, recover.requeue, false),
            Method::QueueDeclare(declare) => self.declare_queue(channel, declare),
            Method::QueueBind(bind) => self.bind_queue(channel, bind),
            Method::QueueUnbind(unbind) => self.unbind_queue(channel, unbind),
            Method::QueuePurge(purge) => self.purge_queue(channel, purge),
            Method::QueueDelete(delete) => self.delete_queue(channel, delete),
            Method::ExchangeDeclare(declare) => self.declare_exchange(channel, declare),
            Method::ExchangeDelete(delete) => self.delete_exchange(channel, delete),
            Method::ExchangeBind(bind) => self.bind_exchange(channel, bind),
            Method::ExchangeUnbind(unbind) => self.unbind_exchange(channel, unbind),
            Method::ConfirmSelect(select) => self.select_confirms(channel, select),
            Method::TxSelect(_) => self.select_transaction(channel),
            Method::TxCommit(_) => self.commit(channel),
            Method::TxRollback(_) => self.roll_back(channel),
            Method::ChannelFlow(flow) => self.flow(channel, flow),
            Method::AccessRequest(_) => {
                self.say(channel, access::RequestOk { ticket: 1 });
                Ok(())
            }
            _ => Err(Refusal::UnimplementedMethod),
        }
    }

    /// The channel that a method came on, which the session found open.
    pub(super) fn channel(&mut self, id: u16) -> &mut Channel<ChannelData, Delivery> {
        self.session.channel(id).expect("the session found it open")
    }

    fn select_confirms(&mut self, id: u16, select: confirm::Select) -> Result<(), Refusal> {
        let mode = &mut self.channel(id).mode;
        match mode {
            ChannelMode::Transaction => return Err(Refusal::ConfirmOnTransaction),
            ChannelMode::Plain => *mode = ChannelMode::Confirm(Confirms::default()),
            ChannelMode::Confirm(_) => {}
        }
        if !select.nowait {
            self.say(id, confirm::SelectOk {});
        }
        Ok(())
    }

    fn select_transaction(&mut self, id: u16) -> Result<(), Refusal> {
        let mode = &mut self.channel(id).mode;
        match mode {
            ChannelMode::Confirm(_) => return Err(Refusal::TransactionOnConfirm),
            ChannelMode::Plain => *mode = ChannelMode::Transaction,
            ChannelMode::Transaction => {}
        }
        self.say(id, tx::SelectOk {});
        Ok(())
    }

    fn flow(&mut self, id: u16, flow: channel::Flow) -> Result<(), Refusal> {
        if !flow.active {
            return Err(Refusal::NotImplemented("active=false".to_owned()));
        }
        self.say(id, channel::FlowOk { active: true });
        Ok(())
    }
}

/// The name of a queue or an exchange that is made, bound or deleted. RabbitMQ strips line ends
/// there, and so do we.
///
/// # Errors
/// [`Refusal::FrameError`] when it is not UTF-8.
pub(super) fn name(name: ShortStr<'_>) -> Result<String, Refusal> {
    Ok(text(name)?.replace(['\r', '\n'], ""))
}

/// The name of a queue that is used.
///
/// # Errors
/// [`Refusal::FrameError`] when it is not UTF-8.
pub(super) fn text(name: ShortStr<'_>) -> Result<&str, Refusal> {
    name.to_str().ok_or_else(Refusal::malformed_text)
}
