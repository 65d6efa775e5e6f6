//! Confirms heard: each publish once, acknowledged if every queue took it and refused if not.

use super::{
    ChannelKey, Model,
    connection::{MayHave, Mode, Unconfirmed},
    queue::Overflow,
};
use crate::{Checked, Violation, counts::Event, ensure};

impl Model {
    pub(super) fn hear_confirm(&mut self, key: ChannelKey, tag: u64, multiple: bool, taken: bool) -> Checked {
        let channel = self.channels.get_mut(&key).filter(|channel| !channel.closing);
        let Some(Mode::Confirm { open, .. }) = channel.map(|channel| &mut channel.mode) else {
            return Err(Violation::new(format!("a confirm on channel {}, which asked for none", key.1)));
        };
        ensure!(open.contains_key(&tag), "a confirm of {tag}, which is not open");
        let first = if multiple { 0 } else { tag };
        let settled: Vec<u64> = open.range(first..=tag).map(|(tag, _)| *tag).collect();
        let settled: Vec<_> = settled.into_iter().filter_map(|tag| Some((tag, open.remove(&tag)?))).collect();
        for (tag, publish) in settled {
            self.check_confirm(key, tag, &publish, taken)?;
        }
        Ok(())
    }

    fn check_confirm(&mut self, key: ChannelKey, tag: u64, publish: &Unconfirmed, taken: bool) -> Checked {
        self.counts.note(if taken { Event::Confirm } else { Event::Nack });
        let said = if taken { "acknowledged" } else { "refused" };
        ensure!(
            publish.taken.is_none_or(|wanted| wanted == taken),
            "publish {tag} on channel {} is {said}, but its queues did otherwise",
            key.1
        );
        let message = publish.message.id;
        let name = publish.message.name();
        let returns = &self.connection(key.0).returns;
        ensure!(
            returns.iter().all(|(_, back)| back.id != message),
            "publish {tag} on channel {} is {said} before it came back",
            key.1
        );
        if taken {
            self.trust_taken(publish);
        } else if let ([only], None) = (&publish.unsure[..], publish.taken) {
            self.was_refused(only.queue, name);
        }
        Ok(())
    }

    /// Queues that refuse what does not fit keep what they took, unless something came between.
    fn trust_taken(&mut self, publish: &Unconfirmed) {
        for MayHave { queue, doubts } in &publish.unsure {
            let queue = self.queues.get_mut(queue).filter(|queue| queue.doubts() == *doubts);
            let name = publish.message.name();
            if let Some(queue) = queue.filter(|queue| queue.limits.overflow != Overflow::DropHead) {
                queue.trust(name);
            }
        }
    }
}
