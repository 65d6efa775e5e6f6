//! The run of `emit`: connect, send, connect again and send again, and the account at the end.
//!
//! Decides what a lost connection means; the lines themselves are the work's.
//! Invariant: once a connection was made the account is closed and told on every way out.

use std::{rc::Rc, sync::Arc};

use super::{
    outbox::ranges,
    session::{OpenError, Session, Target},
    verdict::{Judge, Verdict, is_hopeless},
    work::{End, Work},
};
use crate::cli::{
    Failure,
    backoff::Backoff,
    connect::{Connector, reason, reply_code, wait_before_retry},
    exchange::Ensured,
    status::Status,
};

pub(crate) struct Publisher {
    pub(crate) connector: Connector,
    pub(crate) target: Arc<Target>,
    pub(crate) work: Work,
    pub(crate) status: Rc<Status>,
    pub(crate) wait_for_broker: bool,
    pub(crate) judge: Judge,
}

/// What to do after a session.
enum Next {
    Reopen,
    Finish(Option<Failure>),
}

/// How patiently a session is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// One round of tries.
    None,
    /// Until a broker is there; one that says no ends it.
    UntilAnswered,
    /// Lines are at stake: until it works.
    Endless,
}

impl Publisher {
    /// Sends everything; `Ok` means that every line has arrived.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let patience = if self.wait_for_broker { Patience::UntilAnswered } else { Patience::None };
        let mut opened = self.open(patience).await;
        let failure = loop {
            let next = match opened {
                Ok(Ok(session)) => self.send(session).await,
                Ok(Err(end)) => self.finish_at(end),
                Err(failure) => Next::Finish(Some(failure)),
            };
            match next {
                Next::Reopen => opened = self.open(Patience::Endless).await,
                Next::Finish(failure) => break failure,
            }
        };
        self.close(failure)
    }

    /// Opens a session, and takes in what fits meanwhile unless the first try is the only one.
    async fn open(&mut self, patience: Patience) -> Result<Result<Session, End>, Failure> {
        let Self { connector, target, work, status, .. } = self;
        let opening = open(connector, target, status, patience);
        tokio::select! {
            biased;
            end = work.wait_without_session(patience != Patience::None) => Ok(Err(end)),
            opened = opening => opened.map(Ok),
        }
    }

    async fn send(&mut self, mut session: Session) -> Next {
        self.announce(&session);
        let confirmed = self.work.account.confirmed;
        let end = self.work.send_on(&mut session).await;
        if self.work.account.confirmed > confirmed {
            self.judge.confirmed();
        }
        match end {
            End::Lost(error) => self.lost(session, error),
            End::Done => {
                session.link.close().await;
                Next::Finish(None)
            }
            end => self.finish_at(end),
        }
    }

    fn announce(&self, session: &Session) {
        let Target { exchange, exchange_type, routing_key, headers, .. } = &*self.target;
        let ignored = !routing_key.as_str().is_empty() || !headers.inner().is_empty();
        if session.exchange == Ensured::Declared && exchange_type.ignores_keys() && ignored {
            self.status.say(format!(
                " [!] exchange '{exchange}' did not exist and was declared {exchange_type}, which ignores keys and \
                 headers; --exchange-type names another type"
            ));
        }
        let again: Vec<u64> = self.work.outbox.to_send_again().collect();
        if !again.is_empty() {
            let (count, lines) = (again.len(), ranges(again.into_iter()));
            self.status
                .say(format!(" [*] connected to {}; sending {count} lines again: {lines}", session.link.url));
        }
    }

    fn lost(&mut self, mut session: Session, error: lapin::Error) -> Next {
        let error = session.news.cause(error);
        let back = self.work.take_back();
        let reason = reason(&error);
        match self.judge.judge(&error) {
            Verdict::Hopeless => return Next::Finish(Some(Failure::Refused(reason))),
            Verdict::OneLine => self.search(back, &reason),
            Verdict::Again => self.status.say(format!(
                " [!] lost {} ({reason}) with {back} lines not confirmed; connecting again",
                session.link.url
            )),
        }
        if reply_code(&error).is_none_or(|code| code == 320) {
            self.connector.pass_over();
        }
        Next::Reopen
    }

    /// The broker closed the channel at one of `back` lines. Where there is only one it is known.
    fn search(&mut self, back: usize, reason: &str) {
        if back > 1 {
            return self.work.outbox.send_singly(back);
        }
        if let Some(entry) = self.work.refuse_next() {
            self.status.say(format!(" [!] line {} was refused: {reason}", entry.number));
        }
    }

    fn finish_at(&self, end: End) -> Next {
        match end {
            End::GaveUp => self.status.say(" [!] nothing was confirmed for --give-up-after; giving up"),
            End::Stopped | End::Done | End::Lost(_) => {}
        }
        Next::Finish(None)
    }

    fn close(mut self, failure: Option<Failure>) -> Result<(), Failure> {
        let (account, too_long) = self.work.close();
        if too_long > 0 {
            self.status.say(format!(" [!] {too_long} lines were over the limit of 128 MiB and not sent"));
        }
        if account.read > 0 || failure.is_none() {
            self.status.say(format!("leveret emit: {account}"));
        }
        match (failure, self.work.input_error.take()) {
            (Some(failure), _) => Err(failure),
            (None, Some(error)) => Err(Failure::Input(error)),
            (None, None) if !account.is_clean() => Err(Failure::Incomplete),
            (None, None) => Ok(()),
        }
    }
}

async fn open(
    connector: &mut Connector,
    target: &Arc<Target>,
    status: &Status,
    patience: Patience,
) -> Result<Session, Failure> {
    let mut backoff = Backoff::new();
    let mut told = false;
    loop {
        let failure = match Session::open(connector, target).await {
            Ok(session) => return Ok(session),
            Err(OpenError::Amqp(error)) if is_hopeless(&error) => {
                return Err(Failure::Refused(reason(&error)));
            }
            Err(OpenError::Amqp(error)) => Failure::Refused(reason(&error)),
            Err(OpenError::Connect(error)) if patience == Patience::UntilAnswered && error.is_answer() => {
                return Err(error.into());
            }
            Err(OpenError::Connect(error)) => error.into(),
        };
        if patience == Patience::None {
            return Err(failure);
        }
        if !std::mem::replace(&mut told, true) {
            status.say(format!(" [!] {failure}; trying again until it works"));
        }
        wait_before_retry(&mut backoff).await;
    }
}
