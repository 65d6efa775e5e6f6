//! Bugs planted in the engine, one at a time: each is found, and found soon.
//!
//! This is the test of the simulation itself. A bug that it stops finding means that it has
//! stopped looking.

use std::panic;

use leveret_broker::planted::{Bug, plant};
use leveret_sim::{Settings, run};

/// Seeds in which a bug has to show itself.
const SEEDS: u64 = 200;

/// Plants the bug and looks for it; returns the seed that shows it and what it looks like.
fn find(bug: Bug) -> Option<(u64, String)> {
    plant(Some(bug));
    let found = (1..=SEEDS).find_map(|seed| Some((seed, run(seed, Settings::default()).err()?.text)));
    plant(None);
    found
}

macro_rules! planted {
    ($($name:ident: $bug:ident;)*) => {
        $(#[test]
        fn $name() {
            // An engine with a bug may panic, which is one way to find it.
            panic::set_hook(Box::new(|_| {}));
            let found = find(Bug::$bug);
            let _ = panic::take_hook();
            let (seed, text) = found.expect("no seed shows the bug");
            println!("seed {seed}: {text}");
        })*

        #[test]
        fn every_bug_has_its_test() {
            assert_eq!(Bug::ALL, [$(Bug::$bug),*]);
        }
    };
}

planted! {
    a_lost_wake_up: LostWakeUp;
    an_exclusive_queue_leaked: ExclusiveQueueLeaked;
    a_confirm_over_a_hole: ConfirmOverHole;
    a_credit_lost_on_cancel: CreditLostOnCancel;
    a_marker_lost: MarkerLost;
    a_requeue_to_the_tail: RequeueToTail;
    a_redelivered_flag_not_set: RedeliveredNotSet;
    a_stale_route: StaleRoute;
    a_reference_leaked: ReferenceLeaked;
    a_reference_released_twice: ReferenceReleasedTwice;
    a_late_flush: LateFlush;
    a_return_after_its_confirm: ReturnAfterConfirm;
    an_unblocked_not_sent: UnblockedNotSent;
    a_cancel_not_sent: CancelNotSent;
    an_auto_delete_forgotten: AutoDeleteForgotten;
    a_limit_off_by_one: LimitOffByOne;
    a_rollback_that_keeps_publishes: RollbackKeepsPublishes;
    an_alarm_that_forgets_who_waits: AlarmForgetsWaiting;
}
