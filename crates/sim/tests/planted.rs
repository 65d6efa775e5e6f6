//! Bugs planted in the engine, one at a time: each is found, and found soon.
//!
//! This is the test of the simulation itself. A bug that it stops finding means that it has
//! stopped looking.

use leveret_broker::planted::Bug;
use leveret_sim::{Failure, Settings, run};

/// Seeds in which a bug has to show itself.
const SEEDS: u64 = 200;

/// Looks for the bug, and holds what it finds against the same seed without the bug.
fn find(bug: Bug) -> (u64, String) {
    let planted = Settings { bug: Some(bug), ..Settings::default() };
    let found = (1..=SEEDS).find_map(|seed| run(seed, planted).err());
    let Failure { seed, text, trace, .. } = *found.expect("a seed shows the bug");
    run(seed, Settings::default()).expect("without the bug the seed shows no fault");
    let again = run(seed, planted).expect_err("a fault shows again");
    assert_eq!((&again.text, &again.trace), (&text, &trace), "a fault shows again as it was");
    (seed, text)
}

macro_rules! planted {
    ($($name:ident: $bug:ident;)*) => {
        $(#[test]
        fn $name() {
            let (seed, text) = find(Bug::$bug);
            println!("{} is found by seed {seed}: {text}", Bug::$bug.name());
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
    no_round_robin: NoRoundRobin;
    an_expired_message_fetched: ExpiredFetched;
    a_deadline_not_told: DeadlineNotTold;
    a_requeue_that_renews_life: RequeueRenewsLife;
    a_dead_letter_lost: DeadLetterLost;
    a_dead_letter_twice: DeadLetterTwice;
    a_death_not_counted: DeathNotCounted;
    a_cycle_forgotten: CycleForgotten;
    a_drop_from_the_head_without_a_letter: DropHeadWithoutLetter;
    a_returned_message_before_a_higher_priority: ReturnedBeforePriority;
    a_passive_consumer_served: PassiveConsumerServed;
    a_succession_forgotten: SuccessionForgotten;
    a_delivery_limit_off_by_one: DeliveryLimitOffByOne;
    a_used_queue_that_expires: UsedQueueExpires;
    an_expiry_not_renewed_by_get: ExpiryNotRenewedByGet;
    a_consumer_priority_ignored: ConsumerPriorityIgnored;
}
