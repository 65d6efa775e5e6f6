//! The housekeeper's task: what has to be done because a time has come, whoever is connected.

use std::{sync::Arc, time::Duration};

use leveret_broker::engine::{Engine, House};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{clock::Clock, connection::NotifyTask};

/// How long nothing may be looked at when nothing is due.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Keeps house for as long as the task lives.
pub(crate) async fn keep(engine: Arc<Engine>, clock: Clock) {
    let notify = Arc::new(Notify::new());
    let mut house = House::new(&engine, Box::new(NotifyTask(Arc::clone(&notify))));
    drop(engine);
    loop {
        if house.advance(clock.now()) {
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
