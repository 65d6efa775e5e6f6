//! Every method of the protocol, with RabbitMQ's extensions, as a struct and a variant.
//!
//! The tables below are the specification's (`amqp0-9-1.xml`, RabbitMQ's extended one): class and
//! method numbers, fields in order. Reserved fields keep their place on the wire by a type of
//! their own and have no value here. Invariant: decoding what was encoded gives the same method.

#[macro_use]
mod table;
mod field;

use crate::{DecodeError, FrameKind, reader::Reader, writer::Writer};
use field::Field;
pub use field::{LongStr, ReservedBit, ReservedLongStr, ReservedShort, ReservedShortStr};

use crate::{ShortStr, Table};

methods! {
    /// Class 10: the connection.
    connection = 10 {
        /// The server's first word: versions, properties, mechanisms.
        10 ConnectionStart => Start<'a> { version_major: u8, version_minor: u8, server_properties: Table<'a>, mechanisms: LongStr<'a>, locales: LongStr<'a> }
        /// The client's choice of mechanism and its credentials.
        11 ConnectionStartOk => StartOk<'a> { client_properties: Table<'a>, mechanism: ShortStr<'a>, response: LongStr<'a>, locale: ShortStr<'a> }
        /// A challenge of the mechanism.
        20 ConnectionSecure => Secure<'a> { challenge: LongStr<'a> }
        /// The answer to a challenge.
        21 ConnectionSecureOk => SecureOk<'a> { response: LongStr<'a> }
        /// Limits that the server offers; 0 is none.
        30 ConnectionTune => Tune { channel_max: u16, frame_max: u32, heartbeat_seconds: u16 }
        /// Limits that the client takes.
        31 ConnectionTuneOk => TuneOk { channel_max: u16, frame_max: u32, heartbeat_seconds: u16 }
        /// Opens a virtual host.
        40 ConnectionOpen => Open<'a> { virtual_host: ShortStr<'a>, reserved_1: ReservedShortStr, reserved_2: ReservedBit }
        /// The virtual host is open.
        41 ConnectionOpenOk => OpenOk { reserved_1: ReservedShortStr }
        /// Ends the connection, with the method that was at fault or 0/0.
        50 ConnectionClose => Close<'a> { reply_code: u16, reply_text: ShortStr<'a>, class_id: u16, method_id: u16 }
        /// Confirms the end.
        51 ConnectionCloseOk => CloseOk {}
        /// RabbitMQ: publishers are not read from for a while.
        60 ConnectionBlocked => Blocked<'a> { reason: ShortStr<'a> }
        /// RabbitMQ: publishers are read from again.
        61 ConnectionUnblocked => Unblocked {}
        /// RabbitMQ: new credentials for this connection.
        70 ConnectionUpdateSecret => UpdateSecret<'a> { new_secret: LongStr<'a>, reason: ShortStr<'a> }
        /// RabbitMQ: the new credentials are taken.
        71 ConnectionUpdateSecretOk => UpdateSecretOk {}
    }
    /// Class 20: channels.
    channel = 20 {
        /// Opens a channel.
        10 ChannelOpen => Open { reserved_1: ReservedShortStr }
        /// The channel is open.
        11 ChannelOpenOk => OpenOk { reserved_1: ReservedLongStr }
        /// Asks the peer to pause or go on sending content.
        20 ChannelFlow => Flow { active: bool }
        /// Confirms a flow.
        21 ChannelFlowOk => FlowOk { active: bool }
        /// Ends the channel, with the method that was at fault or 0/0.
        40 ChannelClose => Close<'a> { reply_code: u16, reply_text: ShortStr<'a>, class_id: u16, method_id: u16 }
        /// Confirms the end.
        41 ChannelCloseOk => CloseOk {}
    }
    /// Class 30: access tickets, which nobody uses any more.
    access = 30 {
        /// Asks for a ticket.
        10 AccessRequest => Request<'a> { realm: ShortStr<'a>, exclusive: bool, passive: bool, active: bool, write: bool, read: bool }
        /// Grants one.
        11 AccessRequestOk => RequestOk { ticket: u16 }
    }
    /// Class 40: exchanges.
    exchange = 40 {
        /// Creates an exchange, or checks that it is there.
        10 ExchangeDeclare => Declare<'a> { reserved_1: ReservedShort, exchange: ShortStr<'a>, kind: ShortStr<'a>, passive: bool, durable: bool, auto_delete: bool, internal: bool, nowait: bool, arguments: Table<'a> }
        /// Confirms a declare.
        11 ExchangeDeclareOk => DeclareOk {}
        /// Deletes an exchange.
        20 ExchangeDelete => Delete<'a> { reserved_1: ReservedShort, exchange: ShortStr<'a>, if_unused: bool, nowait: bool }
        /// Confirms a delete.
        21 ExchangeDeleteOk => DeleteOk {}
        /// RabbitMQ: binds an exchange to an exchange.
        30 ExchangeBind => Bind<'a> { reserved_1: ReservedShort, destination: ShortStr<'a>, source: ShortStr<'a>, routing_key: ShortStr<'a>, nowait: bool, arguments: Table<'a> }
        /// RabbitMQ: confirms a bind.
        31 ExchangeBindOk => BindOk {}
        /// RabbitMQ: unbinds an exchange from an exchange.
        40 ExchangeUnbind => Unbind<'a> { reserved_1: ReservedShort, destination: ShortStr<'a>, source: ShortStr<'a>, routing_key: ShortStr<'a>, nowait: bool, arguments: Table<'a> }
        /// RabbitMQ: confirms an unbind.
        51 ExchangeUnbindOk => UnbindOk {}
    }
    /// Class 50: queues.
    queue = 50 {
        /// Creates a queue, or checks that it is there.
        10 QueueDeclare => Declare<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, passive: bool, durable: bool, exclusive: bool, auto_delete: bool, nowait: bool, arguments: Table<'a> }
        /// Confirms a declare: name, ready messages, consumers.
        11 QueueDeclareOk => DeclareOk<'a> { queue: ShortStr<'a>, message_count: u32, consumer_count: u32 }
        /// Binds a queue to an exchange.
        20 QueueBind => Bind<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, exchange: ShortStr<'a>, routing_key: ShortStr<'a>, nowait: bool, arguments: Table<'a> }
        /// Confirms a bind.
        21 QueueBindOk => BindOk {}
        /// Drops the ready messages of a queue.
        30 QueuePurge => Purge<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, nowait: bool }
        /// Confirms a purge.
        31 QueuePurgeOk => PurgeOk { message_count: u32 }
        /// Deletes a queue.
        40 QueueDelete => Delete<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, if_unused: bool, if_empty: bool, nowait: bool }
        /// Confirms a delete.
        41 QueueDeleteOk => DeleteOk { message_count: u32 }
        /// Unbinds a queue from an exchange.
        50 QueueUnbind => Unbind<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, exchange: ShortStr<'a>, routing_key: ShortStr<'a>, arguments: Table<'a> }
        /// Confirms an unbind.
        51 QueueUnbindOk => UnbindOk {}
    }
    /// Class 60: messages.
    basic = 60 {
        /// Limits what a consumer holds unacknowledged.
        10 BasicQos => Qos { prefetch_octets: u32, prefetch_count: u16, global: bool }
        /// Confirms a qos.
        11 BasicQosOk => QosOk {}
        /// Starts a consumer.
        20 BasicConsume => Consume<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, consumer_tag: ShortStr<'a>, no_local: bool, no_ack: bool, exclusive: bool, nowait: bool, arguments: Table<'a> }
        /// Confirms a consume.
        21 BasicConsumeOk => ConsumeOk<'a> { consumer_tag: ShortStr<'a> }
        /// Ends a consumer; sent by the server when its queue goes.
        30 BasicCancel => Cancel<'a> { consumer_tag: ShortStr<'a>, nowait: bool }
        /// Confirms a cancel.
        31 BasicCancelOk => CancelOk<'a> { consumer_tag: ShortStr<'a> }
        /// Publishes a message; content follows.
        40 BasicPublish => Publish<'a> { reserved_1: ReservedShort, exchange: ShortStr<'a>, routing_key: ShortStr<'a>, mandatory: bool, immediate: bool }
        /// Gives a message back that could not be routed; content follows.
        50 BasicReturn => Return<'a> { reply_code: u16, reply_text: ShortStr<'a>, exchange: ShortStr<'a>, routing_key: ShortStr<'a> }
        /// Hands a message to a consumer; content follows.
        60 BasicDeliver => Deliver<'a> { consumer_tag: ShortStr<'a>, delivery_tag: u64, redelivered: bool, exchange: ShortStr<'a>, routing_key: ShortStr<'a> }
        /// Asks for one message.
        70 BasicGet => Get<'a> { reserved_1: ReservedShort, queue: ShortStr<'a>, no_ack: bool }
        /// Hands over the message asked for; content follows.
        71 BasicGetOk => GetOk<'a> { delivery_tag: u64, redelivered: bool, exchange: ShortStr<'a>, routing_key: ShortStr<'a>, message_count: u32 }
        /// There is no message to get.
        72 BasicGetEmpty => GetEmpty { reserved_1: ReservedShortStr }
        /// Acknowledges deliveries; from the server, confirms publishes.
        80 BasicAck => Ack { delivery_tag: u64, multiple: bool }
        /// Refuses one delivery.
        90 BasicReject => Reject { delivery_tag: u64, requeue: bool }
        /// Asks for all unacknowledged messages again, without an answer.
        100 BasicRecoverAsync => RecoverAsync { requeue: bool }
        /// Asks for all unacknowledged messages again.
        110 BasicRecover => Recover { requeue: bool }
        /// Confirms a recover.
        111 BasicRecoverOk => RecoverOk {}
        /// RabbitMQ: refuses deliveries; from the server, says a publish was not taken.
        120 BasicNack => Nack { delivery_tag: u64, multiple: bool, requeue: bool }
    }
    /// Class 90: transactions.
    tx = 90 {
        /// Makes the channel transactional.
        10 TxSelect => Select {}
        /// Confirms a select.
        11 TxSelectOk => SelectOk {}
        /// Carries out what was held back.
        20 TxCommit => Commit {}
        /// Confirms a commit.
        21 TxCommitOk => CommitOk {}
        /// Drops what was held back.
        30 TxRollback => Rollback {}
        /// Confirms a rollback.
        31 TxRollbackOk => RollbackOk {}
    }
    /// RabbitMQ's class 85: publisher confirms.
    confirm = 85 {
        /// Makes the channel confirm what is published on it.
        10 ConfirmSelect => Select { nowait: bool }
        /// Confirms a select.
        11 ConfirmSelectOk => SelectOk {}
    }
}

/// Publish, return, deliver and get-ok.
const fn has_content(class_id: u16, method_id: u16) -> bool {
    class_id == basic::CLASS_ID && matches!(method_id, 40 | 50 | 60 | 71)
}

impl<'a> Method<'a> {
    /// Appends a whole method frame.
    pub fn write_frame(&self, channel: u16, out: &mut Vec<u8>) {
        crate::write_frame(FrameKind::Method, channel, out, |out| self.encode(out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_A_CHARACTER: ShortStr<'static> = ShortStr::new(b"\xc3").unwrap();

    fn check(method: Method<'_>, wanted: Result<(), DecodeError>) {
        let mut octets = Vec::new();
        method.encode(&mut octets);
        assert_eq!(Method::decode(&octets), wanted.map(|()| method));
    }

    #[test]
    fn names_are_text_but_what_travels_with_content_is_octets() {
        let declare = queue::Declare { queue: HALF_A_CHARACTER, ..Default::default() };
        check(declare.into(), Err(DecodeError::MalformedUtf8));
        let consume = basic::Consume { consumer_tag: HALF_A_CHARACTER, ..Default::default() };
        check(consume.into(), Err(DecodeError::MalformedUtf8));
        check(basic::Publish { routing_key: HALF_A_CHARACTER, ..Default::default() }.into(), Ok(()));
        check(basic::Deliver { routing_key: HALF_A_CHARACTER, ..Default::default() }.into(), Ok(()));
    }

    #[test]
    fn content_follows_four_methods() {
        let with_content: Vec<_> =
            Method::IDS.iter().filter(|(class, method)| has_content(*class, *method)).collect();
        assert_eq!(with_content, [&(60, 40), &(60, 50), &(60, 60), &(60, 71)]);
        assert!(Method::from(basic::Publish::default()).has_content());
    }
}
