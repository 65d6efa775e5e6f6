//! Bugs to plant, so that the simulation can be seen to find them.
//!
//! Each stands for a mistake that is easy to make where its hook is. Without the feature
//! `planted-bugs`, which nothing but the simulation's tests turns on, `is` is false at compile
//! time and the hooks are gone. Invariant: a bug is planted for one thread, and for no other.

macro_rules! bugs {
    ($(#[doc = $text:literal] $name:ident,)*) => {
        /// A mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug { $(#[doc = $text] $name),* }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What it is called.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// What is wrong with it.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text.trim_ascii()),* }
            }
        }
    };
}

bugs! {
    /// A connection that was woken once is not woken again.
    LostWakeUp,
    /// Exclusive queues stay when their connection's socket is cut.
    ExclusiveQueueLeaked,
    /// An acknowledgement of several publishes covers one that was refused.
    ConfirmOverHole,
    /// What a cancelled consumer was not sent yet still counts in its channel's prefetch.
    CreditLostOnCancel,
    /// A part of a consumer's window does not come back.
    MarkerLost,
    /// A requeued message goes to the end of its queue.
    RequeueToTail,
    /// A requeued message does not carry the redelivered flag.
    RedeliveredNotSet,
    /// A message that came to the alternate exchange goes to its alternate no more.
    AlternateNotChained,
    /// The header `BCC` goes out with the message.
    BlindCopyShown,
    /// A route is used though a binding that it rests on is gone.
    StaleRoute,
    /// The last of several acknowledged messages stays in memory.
    ReferenceLeaked,
    /// What a consumer was not sent is given back twice if its queue is gone.
    ReferenceReleasedTwice,
    /// A method is carried out before publishes that came before it.
    LateFlush,
    /// An unroutable message is confirmed before it comes back.
    ReturnAfterConfirm,
    /// A publisher is not told that it is unblocked.
    UnblockedNotSent,
    /// A client is not told that its consumer's queue is gone.
    CancelNotSent,
    /// An auto-delete queue stays without consumers.
    AutoDeleteForgotten,
    /// A queue takes one message more than its limit.
    LimitOffByOne,
    /// A rolled back transaction keeps its publishes.
    RollbackKeepsPublishes,
    /// A publisher whose alarm came back before it looked is not woken when it clears.
    AlarmForgetsWaiting,
    /// A consumer gets all that it has credit for before the next one gets any.
    NoRoundRobin,
    /// A message is fetched whose time is over.
    ExpiredFetched,
    /// The housekeeper is not told of a deadline that is earlier than all others.
    DeadlineNotTold,
    /// A message that comes back to its queue has all its time again.
    RequeueRenewsLife,
    /// Of several messages that die in one step, the last one's dead letter is lost.
    DeadLetterLost,
    /// A dead letter is published twice.
    DeadLetterTwice,
    /// A message that dies again in the same way is not counted again.
    DeathNotCounted,
    /// Dead letters go round for ever.
    CycleForgotten,
    /// What does not fit is dropped, and no dead letter.
    DropHeadWithoutLetter,
    /// What came back goes before messages of higher priorities.
    ReturnedBeforePriority,
    /// A consumer is given messages while another one is the active one.
    PassiveConsumerServed,
    /// No consumer follows the active one.
    SuccessionForgotten,
    /// A message may come back once more often than its queue allows.
    DeliveryLimitOffByOne,
    /// A queue goes for want of use though it has consumers.
    UsedQueueExpires,
    /// Fetching from a queue is no use of it.
    ExpiryNotRenewedByGet,
    /// Consumers of a low priority take turns with those of a higher one.
    ConsumerPriorityIgnored,
    /// A consumer without acknowledgements is served though its channel's prefetch is used up.
    NoAckIgnoresSharedPrefetch,
    /// A delayed message goes on a little before its time.
    DelayedTooEarly,
    /// The housekeeper is not told of a delayed message that is due before all others.
    DelayNotTold,
    /// Of the delayed messages that are due together, the last one goes on first.
    DelayedOutOfOrder,
    /// A delayed message is lost if its exchange delays nothing any more when it is due.
    DelayedLostWithType,
    /// A message that waited says so by no header, and waits again.
    DelayBeginsAgain,
    /// A mandatory message comes back because it has to wait.
    DelayedReturned,
    /// The longest delay counts as too long.
    LongestDelayRefused,
    /// An exchange remembers one message more than it should.
    HistoryOneTooMany,
    /// A new binding gets what is remembered from the newest on.
    HistoryNewestFirst,
    /// A new binding gets what its key does not want.
    HistoryKeyIgnored,
    /// What is not to be remembered is.
    HistoryKeepsAll,
    /// A message that is hashed goes to two destinations.
    HashToTwo,
    /// A binding more, and hashed values move between those that were there.
    HashMovesAll,
    /// Every destination gets as much of what is hashed, whatever its weight.
    WeightIgnored,
    /// One of the destinations is never drawn.
    RandomSkipsOne,
    /// A key is hashed to another destination the next time.
    ModulusUnsteady,
    /// A consumer of answers that is gone is still known by its name.
    ReplyNameKept,
    /// All who are answered have one name, and answers go to the last of them.
    ReplyNameShared,
    /// Answers are numbered.
    ReplyTagsCount,
    /// A reader that asks for an offset begins behind it.
    StreamOffsetOffByOne,
    /// A reader whose window is used up misses a message.
    StreamWindowSkips,
    /// A stream that is as large as it may be drops one message more.
    StreamKeepsTooLittle,
    /// Nobody looks at a stream when its oldest message gets too old.
    StreamAgeForgotten,
    /// A reader that has credit again is not given what waits.
    StreamAckNotServed,
    /// A reader that begins at a time forgets what is not kept any more.
    StreamTimeCountsFromStart,
    /// Of several readers the last one is not woken by what comes.
    StreamReaderNotWoken,
    /// The header says the offset of the message behind.
    StreamHeaderOffByOne,
    /// What a stream drops stays in memory.
    StreamDropLeaked,
    /// A confirm goes out before the journal is synced.
    ConfirmBeforeSync,
    /// The folder is not synced when the journal begins a file.
    NamesNotSynced,
    /// After a sync that failed the journal goes on in the same file.
    SyncTriedAgain,
    /// A record is taken though its checksum does not match.
    TornRecordTaken,
    /// A snapshot is written before the journal is synced up to what it says.
    SnapshotBeforeSync,
    /// Pages are told of before they are synced.
    PagesNotSynced,
    /// Segments go before the snapshot is synced that makes them superfluous.
    SnapshotNotSynced,
    /// Places in a queue are given again after a restart.
    OrdinalsUsedAgain,
    /// An acknowledgement is not written down.
    AcknowledgementNotKept,
    /// A deleted queue is not written down as deleted.
    DeletionNotKept,
    /// A binding is not declared again after a restart.
    BindingNotRevived,
    /// A worn file of pages is given up with what still lives in it.
    LivingNotRewritten,
    /// That a message came back to a quorum queue is not written down.
    ReturnNotKept,
    /// What waits at an exchange is not waited for any more behind a restart.
    DelayNotRevived,
    /// That a delayed message has gone on is not written down.
    DelayGoneNotKept,
    /// A delayed message leaves where it waited before it is where it goes on to.
    DelayGoneFirst,
}

/// Whether the bug is planted.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub(crate) const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub(crate) use chosen::is;
#[cfg(feature = "planted-bugs")]
pub use chosen::plant;

#[cfg(feature = "planted-bugs")]
mod chosen {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug for engines that this thread drives, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
