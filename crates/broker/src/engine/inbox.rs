//! A connection's inbox: what other threads have for it.
//!
//! A leaf lock: whoever holds it asks for no other. Invariant: what lies in an inbox is either
//! seen by its owner's next look, or its owner was woken after it was put there.

use std::sync::Arc;

use super::sources::SourceId;
use crate::{
    Location,
    model::queue::Position,
    planted::{self, Bug},
    sync::Mutex,
};

/// Makes the driver look at a connection again.
pub trait Wake: Send + Sync {
    /// May be called from any thread, and more than once; must not block.
    fn wake(&self);
}

/// Messages for one consumer, the next ones of the mail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) source: SourceId,
    pub(super) messages: usize,
    /// How much of the consumer's window comes back behind the run.
    pub(super) window: u32,
}

/// A message for a consumer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letter {
    pub(super) location: Location,
    pub(super) position: Position,
}

/// What came since the last look.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) runs: Vec<Run>,
    pub(super) letters: Vec<Letter>,
    /// What is gone.
    pub(super) notices: Vec<Notice>,
}

/// What an owner is told beside its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The queue of that consumer is gone.
    Cancelled(SourceId),
    /// A queue that only this connection could use is gone, by its serial.
    QueueGone(u64),
}

impl Mail {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.notices.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.letters.clear();
        self.notices.clear();
    }
}

#[derive(Default)]
struct State {
    mail: Mail,
    woken: bool,
}

pub(super) struct Inbox {
    state: Mutex<State>,
    waker: Box<dyn Wake>,
}

impl Inbox {
    pub(super) fn new(waker: Box<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), waker })
    }

    /// Wakes the owner unless that was done since its last look.
    pub(super) fn wake(&self) {
        let was_woken = std::mem::replace(&mut self.state.lock().woken, true);
        if !was_woken {
            self.waker.wake();
        }
    }

    /// Makes the owner look again, whatever it was told before: for what is not in the inbox.
    pub(super) fn call(&self) {
        self.waker.wake();
    }

    /// Puts a run of messages in. The caller wakes the owner afterwards, outside its own locks.
    pub(super) fn put(&self, source: SourceId, window: u32, letters: impl Iterator<Item = Letter>) {
        let mut state = self.state.lock();
        let before = state.mail.letters.len();
        state.mail.letters.extend(letters);
        let messages = state.mail.letters.len() - before;
        match state.mail.runs.last_mut() {
            Some(run) if run.source == source => {
                run.messages += messages;
                run.window += window;
            }
            _ => state.mail.runs.push(Run { source, messages, window }),
        }
    }

    /// Says that something of the owner's is gone.
    pub(super) fn put_notice(&self, notice: Notice) {
        self.state.lock().mail.notices.push(notice);
        self.wake();
    }

    /// Swaps what is there for `mail`, which must be empty.
    pub(super) fn take(&self, mail: &mut Mail) {
        let mut state = self.state.lock();
        state.woken = planted::is(Bug::LostWakeUp) && state.woken;
        std::mem::swap(&mut state.mail, mail);
    }

    /// Takes out the messages of those sources that the owner has not seen yet.
    pub(super) fn retract(&self, of: impl Fn(SourceId) -> bool, retracted: &mut Vec<(SourceId, Letter)>) {
        retract(&mut self.state.lock().mail, 0, 0, of, retracted);
    }
}

/// Takes the messages of those sources out of the mail, from that run and letter on.
pub(super) fn retract(
    mail: &mut Mail,
    first_run: usize,
    first_letter: usize,
    of: impl Fn(SourceId) -> bool,
    retracted: &mut Vec<(SourceId, Letter)>,
) {
    if !mail.runs.iter().skip(first_run).any(|run| of(run.source)) {
        return;
    }
    let mut letters = mail.letters.split_off(first_letter).into_iter();
    for run in mail.runs.split_off(first_run) {
        let own = letters.by_ref().take(run.messages);
        if of(run.source) {
            retracted.extend(own.map(|letter| (run.source, letter)));
        } else {
            mail.letters.extend(own);
            mail.runs.push(run);
        }
    }
}
