//! When a run is over: its time, its messages, a signal, a fault, or silence.
//!
//! Invariant: what did not come is only called missing where it had the time to come.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::{
    course::{Course, Edge},
    crew::Kind,
    fault::Fault,
    outcome::Ending,
    worker::{Order, Report},
};

/// How long nothing may come while something should, once nothing more is sent.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether everything has come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

impl Course<'_> {
    /// Shows the rates until the run is to end.
    pub(super) async fn watch(&mut self, began: &Edge) -> Ending {
        let deadline = self.plan.time.map(|time| began.at + time);
        let mut second = ticks(Duration::from_secs(1));
        let mut look = ticks(LOOK_EVERY);
        second.tick().await;
        let (mut before, mut since) = (began.counts, began.at);
        loop {
            let awaits_rest = self.awaits_rest();
            tokio::select! {
                _ = second.tick() => {
                    let (counts, now) = (self.counts(), Instant::now());
                    (self.live)(now - since, counts.since(before));
                    (before, since) = (counts, now);
                }
                _ = look.tick(), if awaits_rest => {
                    if self.has_come() { return Ending::Complete }
                    if self.is_silent() { return Ending::Silence }
                }
                report = self.reports.recv() => match report {
                    Some(Report::Failed(fault)) => return Ending::Failed(fault),
                    Some(report) => {
                        self.hear(&report);
                        if let Some(ending) = self.ending() { return ending }
                    }
                    None if self.crew.is_empty() => wait_until(deadline).await,
                    None => return Ending::Failed(Fault::Lost("a worker has gone".to_owned())),
                },
                () = wait_until(deadline) => return Ending::Time,
                () = self.stop.requested() => return Ending::Interrupted,
            }
        }
    }

    fn crews(&self, kind: Kind) -> usize {
        self.crew.iter().filter(|member| member.kind == kind).count()
    }

    fn is_published(&self) -> bool {
        self.have_published >= self.crews(Kind::Producing)
    }

    /// Whether nothing more is published, and the run is over once the rest has come.
    fn awaits_rest(&self) -> bool {
        let plan = &self.plan;
        let knows_rest = plan.consuming.consumers > 0 && plan.consuming.limit.is_none();
        let is_drain = plan.producing.producers == 0 && plan.time.is_none();
        let all_sent = plan.producing.producers > 0 && self.is_published();
        knows_rest && (is_drain || all_sent)
    }

    /// The end, once all were published that should be and nobody consumes, or all consumers have ended.
    fn ending(&self) -> Option<Ending> {
        let crews = self.crews(Kind::Consuming);
        let all_ended = crews > 0 && self.have_consumed >= crews;
        let all_sent = crews == 0 && self.plan.producing.producers > 0 && self.is_published();
        match all_ended && self.counts().cancelled > 0 {
            true => Some(Ending::Cancelled),
            false => (all_ended || all_sent).then_some(Ending::Complete),
        }
    }

    /// Messages that should come in all.
    fn expected(&self) -> u64 {
        let counts = self.counts();
        let taken = counts.published.saturating_sub(counts.refused + counts.returned);
        self.ready + taken * self.plan.consuming.copies
    }

    fn has_come(&self) -> bool {
        self.counts().consumed >= self.expected()
    }

    fn is_silent(&mut self) -> bool {
        let consumed = self.counts().consumed;
        if consumed != self.last_consumed.0 {
            self.last_consumed = (consumed, Instant::now());
        }
        self.last_consumed.1.elapsed() >= SILENCE_MAX
    }

    /// Waits until the broker has taken what was published, but not forever.
    pub(super) async fn await_published(&mut self) {
        let limit = self.plan.drain_time_max;
        let published = async {
            while !self.is_published() {
                let Some(report) = self.reports.recv().await else { break };
                if matches!(report, Report::Failed(_)) {
                    break;
                }
                self.hear(&report);
            }
        };
        let _ = timeout(limit, published).await;
    }

    /// Lets what is on its way arrive; how many messages did not, where that can be said.
    pub(super) async fn wind_up(&mut self, ending: &Ending) -> Option<u64> {
        let plan = &self.plan;
        if plan.consuming.consumers == 0 || plan.consuming.limit.is_some() {
            return None;
        }
        match ending {
            Ending::Failed(_) => None,
            Ending::Complete | Ending::Silence | Ending::Cancelled => Some(self.outstanding()),
            Ending::Time | Ending::Interrupted if plan.producing.producers == 0 => None,
            Ending::Time | Ending::Interrupted => {
                self.order(Order::Stop);
                self.await_published().await;
                self.await_rest().await
            }
        }
    }

    fn outstanding(&self) -> u64 {
        self.expected().saturating_sub(self.counts().consumed)
    }

    async fn await_rest(&mut self) -> Option<u64> {
        let deadline = Instant::now() + self.plan.drain_time_max;
        self.last_consumed = (self.counts().consumed, Instant::now());
        let mut look = ticks(LOOK_EVERY);
        while Instant::now() < deadline {
            tokio::select! {
                _ = look.tick() => {
                    if self.has_come() || self.is_silent() { return Some(self.outstanding()) }
                }
                () = self.stop.requested() => break,
            }
        }
        None
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
