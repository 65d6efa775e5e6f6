//! What happens in runs about routing, to be counted.

use crate::lab::events;

events! {
    /// Something that happens in a run about routing.
    RoutingEvent {
        /// A client sent a message.
        Publish = "publishes",
        /// A message came out of a queue that had to have it.
        Certain = "taken from the queues that have them",
        /// A message came out of one of the queues that might have it.
        Chosen = "taken from one queue of several",
        /// A message went to an alternate exchange.
        Alternate = "gone on to an alternate exchange",
        /// A message went from one exchange to another by a binding.
        Onward = "gone on from exchange to exchange",
        /// A message came back, for it had nowhere to go.
        Returned = "returns",
        /// A publish was confirmed.
        Confirm = "confirms",
        /// A message had a delay and waits.
        Waits = "delayed",
        /// A message came to a delayed exchange and did not wait.
        NotDelayed = "not delayed, for the header says nothing",
        /// A delay of a day or more.
        LongDelay = "delayed for a day or more",
        /// The longest delay.
        LongestDelay = "delayed for as long as may be",
        /// A message whose time came.
        Due = "due",
        /// A message became due with others at the same time.
        DueTogether = "due together with the one before",
        /// A message waited longer than it should, for the housekeeper was late.
        DueLate = "due before the housekeeper looked",
        /// A message whose exchange was gone when it was due.
        DueNowhere = "due when their exchange was gone",
        /// A message whose exchange was another one when it was due.
        DueElsewhere = "due when their exchange was another one",
        /// A mandatory message with a delay, which does not come back.
        MandatoryWaits = "mandatory and delayed",
        /// A remembered message went to a new binding.
        Recalled = "recalled for a new binding",
        /// A remembered message that a new binding's key did not want.
        NotRecalled = "not recalled, for the key is another",
        /// A message that is not to be remembered.
        NotStored = "not remembered",
        /// A value was hashed that was hashed before.
        SameValue = "hashed again and gone the same way",
        /// A destination joined or left a hash or a lottery.
        ShareChanged = "changes of who shares",
        /// The shares of an exchange were compared with what they should be.
        SharesCompared = "shares compared with their weights",
        /// A client asked to be answered.
        Request = "requests",
        /// An answer was sent to a client that waits for it.
        Answer = "answers",
        /// An answer to a client that waits no more.
        AnswerToNobody = "answers to nobody",
        /// An answer that came back though it was taken.
        AnswerReturned = "answers returned though they were taken",
        /// An answer for several at once.
        AnswerToSeveral = "answers to several",
        /// A consumer of answers was started.
        RepliesBegun = "consumers of answers",
        /// A consumer of answers was cancelled.
        RepliesCancelled = "consumers of answers cancelled",
        /// A consumer of answers went with its channel.
        RepliesClosed = "consumers of answers gone with a channel",
        /// A consumer of answers went with its connection.
        RepliesCut = "consumers of answers gone with a connection",
        /// A client did what may not be done, and was told so.
        Mistake = "mistakes refused",
        /// A client asked whether a name for answers is there.
        NameAlive = "names of answers found",
        /// The same, and it was not.
        NameDead = "names of answers not found",
        /// A socket was cut.
        Cut = "disconnects",
        /// An exchange was deleted.
        ExchangeDeleted = "exchanges deleted",
        /// An exchange was deleted while messages waited there.
        DeletedWithWaiting = "exchanges deleted while messages waited there",
        /// A binding was made.
        Bound = "bindings made",
        /// A binding was removed.
        Unbound = "bindings removed",
        /// All came to rest and everything was compared.
        Rest = "quiet moments compared",
        /// Nothing was left in memory, for nothing was to be kept.
        Emptied = "times that nothing was left",
    }
}
