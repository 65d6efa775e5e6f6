//! What the broker says in a turn: answers to commands, and what it says on its own account.
//!
//! Invariant: everything that is said was due, to that connection and on that channel.

use leveret_wire::Method;

use super::{
    ConnectionKey, Model, Phase,
    turn::{Deferred, Turn},
};
use crate::{Checked, Violation, counts::Event, ensure, frames::Said};

impl Model {
    /// The next thing that is an answer; what is said on the broker's own account is heard.
    pub(super) fn next_answer<'t>(&mut self, turn: &mut Turn<'t>) -> Checked<Option<Said<'t>>> {
        while let Some(said) = turn.next_said()? {
            if is_answer(&said) {
                return Ok(Some(said));
            }
            self.hear(turn, said)?;
        }
        Ok(None)
    }

    pub(super) fn hear_rest(&mut self, turn: &mut Turn<'_>) -> Checked {
        while let Some(said) = self.next_answer(turn)? {
            self.deferred_answer(turn, &said)?;
        }
        Ok(())
    }

    /// Something that no command asked for.
    fn hear(&mut self, turn: &mut Turn<'_>, said: Said<'_>) -> Checked {
        let key = turn.connection;
        match said {
            Said::Content(channel, Method::BasicDeliver(deliver), content) => {
                self.hear_deliver((key, channel), &deliver, &content)
            }
            Said::Content(channel, Method::BasicReturn(back), content) => {
                self.hear_return((key, channel), &back, &content)
            }
            Said::Method(channel, Method::BasicAck(ack)) => {
                self.hear_confirm((key, channel), ack.delivery_tag, ack.multiple, true)
            }
            Said::Method(channel, Method::BasicNack(nack)) => {
                self.hear_confirm((key, channel), nack.delivery_tag, nack.multiple, false)
            }
            Said::Method(channel, Method::BasicCancel(cancel)) => {
                self.hear_cancel((key, channel), cancel.consumer_tag.as_bytes())
            }
            Said::Method(0, Method::ConnectionBlocked(_)) => self.hear_blocked(turn),
            Said::Method(0, Method::ConnectionUnblocked(_)) => self.hear_unblocked(turn),
            Said::Heartbeat => self.hear_heartbeat(key),
            other => Err(Violation::new(format!("nobody asked for {other:?}"))),
        }
    }

    fn deferred_answer(&mut self, turn: &mut Turn<'_>, said: &Said<'_>) -> Checked {
        let key = turn.connection;
        if self.hear_forced_close(turn, said) || self.hear_out_of_memory(turn, said) {
            return Ok(());
        }
        match (self.connection_mut(key).deferred.take(), said) {
            (Some(Deferred::Refusal { channel, ids, verdict }), said) => {
                self.hear_refusal(turn, channel, ids, &verdict, said)
            }
            (Some(Deferred::ChannelCloseOk(expected)), Said::Method(channel, Method::ChannelCloseOk(_)))
                if expected == *channel =>
            {
                Ok(())
            }
            (Some(Deferred::ConnectionCloseOk), Said::Method(0, Method::ConnectionCloseOk(_))) => {
                self.connection_mut(key).phase = Phase::Ended;
                Ok(())
            }
            (deferred, said) => Err(Violation::new(format!("{said:?} answers nothing; due is {deferred:?}"))),
        }
    }

    fn hear_heartbeat(&mut self, key: ConnectionKey) -> Checked {
        self.counts.note(Event::Heartbeat);
        let heartbeat_seconds = self.connection(key).heartbeat_seconds;
        ensure!(heartbeat_seconds > 0, "a heartbeat for a client that wants none");
        Ok(())
    }
}

const fn is_answer(said: &Said<'_>) -> bool {
    match said {
        Said::Heartbeat => false,
        Said::Content(_, method, _) => !matches!(method, Method::BasicDeliver(_) | Method::BasicReturn(_)),
        Said::Method(_, method) => !matches!(
            method,
            Method::BasicAck(_)
                | Method::BasicNack(_)
                | Method::BasicCancel(_)
                | Method::ConnectionBlocked(_)
                | Method::ConnectionUnblocked(_)
        ),
        Said::ProtocolHeader => true,
    }
}
