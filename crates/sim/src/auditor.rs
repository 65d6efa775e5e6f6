//! The steady client that looks after a run: it relieves an alarm, and takes stock at the end.

use leveret_wire::method::{basic, channel, exchange, queue};

use crate::{Checked, ensure, world::World};

/// The channel that it uses.
const CHANNEL: u16 = 1;
/// Messages that it asks for at a time.
const GETS_MAX: u64 = 2_000;

impl World {
    /// The auditor, which is the first to connect and the last to go.
    pub(crate) const AUDITOR: u32 = 1;

    pub(crate) fn start_auditor(&mut self) -> Checked {
        self.connect_steady();
        self.rest()?;
        self.audit(|say| say(channel::Open::default().into()));
        self.rest()
    }

    /// The auditor says something.
    fn audit(&mut self, speak: impl FnOnce(&mut dyn FnMut(leveret_wire::Method<'_>))) {
        let Some(link) = self.link_of(Self::AUDITOR) else { return };
        speak(&mut |method| link.client.say(CHANNEL, method));
        link.post();
    }

    /// So many messages go to a queue.
    pub(crate) fn send_messages(&mut self, queue: &str, count: usize) {
        let Some(link) = self.link_of(Self::AUDITOR) else { return };
        for _ in 0..count {
            link.client.publish(CHANNEL, "", queue, false, 1);
        }
        link.post();
    }

    /// Makes room when the memory alarm stands: queues are purged, and if that does not help,
    /// a publisher that is kept waiting gives up. False when there is nobody left to do so.
    pub(crate) fn relieve(&mut self) -> Checked<bool> {
        let names: Vec<String> = self.model.shared_queue_names().map(str::to_owned).collect();
        self.audit(|say| {
            for name in &names {
                say(queue::Purge { queue: (&**name).into(), ..Default::default() }.into());
            }
        });
        self.rest()?;
        if !self.engine.is_alarmed() {
            return Ok(true);
        }
        let held = (0..self.links.len()).filter(|at| self.links[*at].key.0 != Self::AUDITOR);
        let Some(at) = self.random.pick_from(held) else { return Ok(false) };
        self.cut(at)?;
        Ok(true)
    }

    /// Compares what every queue says of itself.
    pub(crate) fn count_queues(&mut self) -> Checked {
        let names: Vec<String> = self.model.shared_queue_names().map(str::to_owned).collect();
        self.audit(|say| {
            for name in &names {
                let declare = queue::Declare { queue: (&**name).into(), passive: true, ..Default::default() };
                say(declare.into());
            }
        });
        self.rest()
    }

    /// Fetches all that is left and deletes all that there is.
    pub(crate) fn clear_up(&mut self) -> Checked {
        let names: Vec<String> = self.model.shared_queue_names().map(str::to_owned).collect();
        for name in &names {
            self.fetch_all(name)?;
        }
        let exchanges: Vec<String> = self.model.exchange_names().map(str::to_owned).collect();
        self.audit(|say| {
            for name in &names {
                say(queue::Delete { queue: (&**name).into(), ..Default::default() }.into());
            }
            for name in &exchanges {
                say(exchange::Delete { exchange: (&**name).into(), ..Default::default() }.into());
            }
        });
        self.rest()
    }

    fn fetch_all(&mut self, name: &str) -> Checked {
        while let Some((sure, possible)) = self.model.waiting(name).filter(|(_, possible)| *possible > 0) {
            let count = (possible + 1).min(GETS_MAX);
            self.audit(|say| {
                for _ in 0..count {
                    say(basic::Get { queue: name.into(), no_ack: true, ..Default::default() }.into());
                }
            });
            self.rest()?;
            let left = self.model.waiting(name).unwrap_or_default();
            if left.1 == possible {
                // What was only possible was not there.
                ensure!(sure == 0, "'{name}' gives nothing and keeps {sure} messages");
                return Ok(());
            }
        }
        Ok(())
    }
}
