//! Bugs planted in the engine, one at a time: each is found, and found soon.
//!
//! This is the test of the simulation itself. A bug that it stops finding means that it has
//! stopped looking.

use std::fmt::Debug;

use leveret_broker::planted::Bug;
use leveret_sim::{
    Failure, Settings,
    cuts::run_cuts,
    lab::{Event, LabFailure, LabReport, LabSettings},
    routing::run_routing,
    run,
    streams::run_streams,
};

/// Seeds in which a bug has to show itself.
const SEEDS: u64 = 200;
/// The same for a bug of the store.
const CUT_SEEDS: u64 = 3000;

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

        /// In the order in which they are listed.
        const IN_MESSAGING: &[Bug] = &[$(Bug::$bug),*];
    };
}

/// Looks for a bug in runs of a kind that has a model of its own.
fn find_in_lab<E: Event + Debug>(
    kind: &str,
    run: impl Fn(u64, LabSettings) -> Result<LabReport<E>, Box<LabFailure>>,
    bug: Bug,
) -> (u64, String) {
    let planted = LabSettings { bug: Some(bug), ..LabSettings::default() };
    let found = (1..=SEEDS).find_map(|seed| run(seed, planted).err());
    let LabFailure { seed, text, trace, .. } = *found.expect("a seed shows the bug");
    run(seed, LabSettings::default()).expect("without the bug the seed shows no fault");
    let again = run(seed, planted).expect_err("a fault shows again");
    assert_eq!((&again.text, &again.trace), (&text, &trace), "a fault shows again as it was");
    let replay = format!("{kind} --seed {seed} --bug {}", bug.name());
    assert!(again.to_string().ends_with(&replay), "{again}");
    (seed, text)
}

macro_rules! planted_in_streams {
    ($($name:ident: $bug:ident;)*) => {
        $(#[test]
        fn $name() {
            let (seed, text) = find_in_lab("--streams", run_streams, Bug::$bug);
            println!("{} is found by seed {seed}: {text}", Bug::$bug.name());
        })*

        /// In the order in which they are listed.
        const IN_STREAMS: &[Bug] = &[$(Bug::$bug),*];
    };
}

planted_in_streams! {
    a_stream_offset_off_by_one: StreamOffsetOffByOne;
    a_message_missed_where_the_window_ends: StreamWindowSkips;
    a_stream_that_keeps_too_little: StreamKeepsTooLittle;
    an_age_forgotten: StreamAgeForgotten;
    an_acknowledgement_that_serves_nobody: StreamAckNotServed;
    a_time_that_counts_from_the_start: StreamTimeCountsFromStart;
    a_reader_not_woken: StreamReaderNotWoken;
    a_header_off_by_one: StreamHeaderOffByOne;
    a_dropped_message_leaked: StreamDropLeaked;
}

macro_rules! planted_in_routing {
    ($($name:ident: $bug:ident;)*) => {
        $(#[test]
        fn $name() {
            let (seed, text) = find_in_lab("--routing", run_routing, Bug::$bug);
            println!("{} is found by seed {seed}: {text}", Bug::$bug.name());
        })*

        /// In the order in which they are listed.
        const IN_ROUTING: &[Bug] = &[$(Bug::$bug),*];
    };
}

planted_in_routing! {
    a_delayed_message_too_early: DelayedTooEarly;
    a_delay_not_told: DelayNotTold;
    delayed_messages_out_of_order: DelayedOutOfOrder;
    a_delayed_message_lost_with_a_type: DelayedLostWithType;
    a_delay_that_begins_again: DelayBeginsAgain;
    a_delayed_message_returned: DelayedReturned;
    a_longest_delay_refused: LongestDelayRefused;
    a_history_with_one_too_many: HistoryOneTooMany;
    a_history_with_the_newest_first: HistoryNewestFirst;
    a_history_that_ignores_keys: HistoryKeyIgnored;
    a_history_that_keeps_all: HistoryKeepsAll;
    a_hash_to_two: HashToTwo;
    a_hash_that_moves_all: HashMovesAll;
    a_weight_ignored: WeightIgnored;
    a_lottery_that_skips_one: RandomSkipsOne;
    an_unsteady_modulus: ModulusUnsteady;
    a_name_of_answers_kept: ReplyNameKept;
    a_name_of_answers_shared: ReplyNameShared;
    answers_numbered: ReplyTagsCount;
}

/// Looks for a bug of the store, in runs that cut the power.
fn find_by_cuts(bug: Bug) -> (u64, String) {
    let run = |seed, bug| {
        leveret_broker::planted::plant(bug);
        let result = run_cuts(seed);
        leveret_broker::planted::plant(None);
        result
    };
    let found =
        (1..=CUT_SEEDS).find_map(|seed| run(seed, Some(bug)).err().map(|violation| (seed, violation)));
    let (seed, violation) = found.expect("a seed shows the bug");
    run(seed, None).expect("without the bug the seed shows no fault");
    (seed, violation.to_string())
}

macro_rules! planted_in_the_store {
    ($($name:ident: $bug:ident;)*) => {
        $(#[test]
        fn $name() {
            let (seed, text) = find_by_cuts(Bug::$bug);
            println!("{} is found by seed {seed}: {text}", Bug::$bug.name());
        })*

        #[test]
        fn every_bug_has_its_test() {
            let of_exchanges_and_streams = [IN_ROUTING, IN_STREAMS].concat();
            assert_eq!(Bug::ALL, [IN_MESSAGING, &of_exchanges_and_streams, &[$(Bug::$bug),*]].concat());
        }
    };
}

planted_in_the_store! {
    a_confirm_before_the_sync: ConfirmBeforeSync;
    names_not_synced: NamesNotSynced;
    a_sync_tried_again: SyncTriedAgain;
    a_torn_record_taken: TornRecordTaken;
    a_snapshot_before_the_sync: SnapshotBeforeSync;
    pages_not_synced: PagesNotSynced;
    a_snapshot_not_synced: SnapshotNotSynced;
    ordinals_used_again: OrdinalsUsedAgain;
    an_acknowledgement_not_kept: AcknowledgementNotKept;
    a_deletion_not_kept: DeletionNotKept;
    a_binding_not_revived: BindingNotRevived;
    what_lives_not_rewritten: LivingNotRewritten;
    a_return_not_kept: ReturnNotKept;
    a_delay_not_revived: DelayNotRevived;
    a_delay_gone_not_kept: DelayGoneNotKept;
    a_delay_gone_first: DelayGoneFirst;
}

planted! {
    a_lost_wake_up: LostWakeUp;
    an_exclusive_queue_leaked: ExclusiveQueueLeaked;
    a_confirm_over_a_hole: ConfirmOverHole;
    a_credit_lost_on_cancel: CreditLostOnCancel;
    a_marker_lost: MarkerLost;
    a_requeue_to_the_tail: RequeueToTail;
    a_redelivered_flag_not_set: RedeliveredNotSet;
    an_alternate_not_chained: AlternateNotChained;
    a_blind_copy_shown: BlindCopyShown;
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
    a_shared_prefetch_ignored: NoAckIgnoresSharedPrefetch;
}
