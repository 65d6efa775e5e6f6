//! What has to be true once everything is at rest.

use super::Model;
use crate::{Checked, ensure, streams::StreamEvent};

impl Model {
    /// Nobody does anything, and all that was under way arrived.
    pub(in crate::streams) fn check_rest(&mut self, queues: usize) -> Checked {
        self.keep_time(self.now);
        for (client, connection) in &self.connections {
            ensure!(connection.refusal.is_none(), "connection {client} is not closed");
            for (number, channel) in &connection.channels {
                let whose = format!("on channel {number} of connection {client}");
                ensure!(channel.due.is_empty(), "{:?} is due {whose}", channel.due);
                ensure!(channel.unconfirmed.is_empty(), "{:?} is not confirmed {whose}", channel.unconfirmed);
            }
        }
        ensure!(queues == self.names.len(), "{queues} queues where {} are", self.names.len());
        self.streams.values_mut().for_each(|stream| stream.sure_floor = stream.floor);
        self.check_readers()?;
        self.note(StreamEvent::Rest);
        Ok(())
    }

    /// Nothing waits where there is credit; and what is gone by now is given to nobody any more.
    fn check_readers(&mut self) -> Checked {
        let mut without_credit = 0;
        let mut up_to_date = 0;
        for (client, connection) in &mut self.connections {
            for (tag, reader) in connection.channels.values_mut().flat_map(|channel| &mut channel.readers) {
                let stream = &self.streams[&reader.stream];
                ensure!(!stream.is_deleted, "{client} was not told that {tag} has no stream any more");
                reader.next = reader.next.max(stream.floor);
                reader.next_max = reader.next_max.max(reader.next);
                if reader.unacked >= reader.prefetch {
                    without_credit += 1;
                    continue;
                }
                let (next, end, name) = (reader.next, stream.end(), &stream.name);
                ensure!(
                    next >= end,
                    "reader {tag} of connection {client} has credit and {next} of {name} waits"
                );
                up_to_date += 1;
            }
        }
        self.counts.note(StreamEvent::RestWithoutCredit, without_credit);
        self.counts.note(StreamEvent::RestUpToDate, up_to_date);
        Ok(())
    }

    /// Everything is at rest from now on, or no more.
    pub(in crate::streams) fn set_at_rest(&mut self, is_at_rest: bool) {
        self.is_at_rest = is_at_rest;
    }

    /// Time passes.
    pub(in crate::streams) fn look_at_clock(&mut self, now: leveret_broker::Now) {
        self.keep_time(now);
    }
}
