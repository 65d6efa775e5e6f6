//! The housekeeper's task: what has to be done because a time has come, whoever is connected.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use leveret_broker::engine::{Engine, House};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{clock::Clock, connection::NotifyTask};

/// How long nothing may be looked at when nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// A bug that shows itself at once again does not fill the log.
const REST_AFTER_BUG: Duration = Duration::from_secs(1);

/// Keeps house for as long as the task lives.
pub(crate) async fn keep(engine: Arc<Engine>, clock: Clock) {
    let notify = Arc::new(Notify::new());
    let mut house = House::new(&engine, Box::new(NotifyTask(Arc::clone(&notify))));
    drop(engine);
    loop {
        // A bug of ours costs what was under way, and not every other queue's time.
        let advanced = catch_unwind(AssertUnwindSafe(|| house.advance(clock.now())));
        if advanced.is_err() {
            tracing::error!("a bug in the broker kept the housekeeper from a part of its work");
            tokio::time::sleep(REST_AFTER_BUG).await;
        }
        if advanced.unwrap_or(true) {
            tokio::task::yield_now().await;
            continue;
        }
        let far = Instant::now() + LOOK_EVERY;
        let at = house.next_deadline_millis().map_or(far, |millis| clock.instant(millis).min(far));
        tokio::select! {
            () = notify.notified() => {}
            () = sleep_until(at) => {}
        }
    }
}
