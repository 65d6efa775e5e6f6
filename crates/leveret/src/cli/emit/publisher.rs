//! The run of `emit`: connect, send, connect again and send again, and the account at the end.
//!
//! Decides what a lost connection means; the lines themselves are the work's.
//! Invariant: once a connection was made the account is closed and told on every way out.

use std::{rc::Rc, sync::Arc, time::Instant};

use super::{
    outbox::ranges,
    session::{Session, Target},
    verdict::{Judge, Verdict, is_hopeless},
    work::{End, Work},
};
use crate::cli::{
    Failure,
    backoff::Backoff,
    connect::{Connector, reason, reply_code},
    exchange::Ensured,
    persist::{self, OpenError, Patience},
    status::Status,
};

pub(crate) struct Publisher {
    pub(crate) connector: Connector,
    pub(crate) target: Arc<Target>,
    pub(crate) work: Work,
    pub(crate) status: Rc<Status>,
    pub(crate) wait_for_broker: bool,
    pub(crate) judge: Judge,
    pub(crate) connected_before: bool,
    /// Asked of the receivers once: after it they come and go as they like.
    pub(crate) waited_for_receiver: bool,
}

/// What to do after a session.
enum Next {
    Reopen,
    Finish(Option<Failure>),
}

impl Publisher {
    /// Sends everything; `Ok` means that every line has arrived.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let mut opened = self.open(Patience::at_start(self.wait_for_broker)).await;
        let failure = loop {
            let next = match opened {
                Ok(Ok(session)) => self.send(session).await,
                Ok(Err(end)) => self.finish_at(&end),
                Err(failure) => Next::Finish(Some(failure)),
            };
            match next {
                Next::Reopen => opened = self.open(Patience::Endless).await,
                Next::Finish(failure) => break failure,
            }
        };
        self.stop_hosting(failure.is_none()).await;
        self.close(failure).await
    }

    /// Opens a session, and takes in what fits meanwhile unless the first try is the only one.
    async fn open(&mut self, patience: Patience) -> Result<Result<Session, End>, Failure> {
        let Self { connector, target, work, status, .. } = self;
        let opening = persist::open(status, patience, Backoff::SENDER, async || {
            match Session::open(connector, target).await {
                Err(OpenError::Amqp(error)) if is_hopeless(&error) => {
                    Err(OpenError::Failure(Failure::Refused(reason(&error))))
                }
                opened => opened,
            }
        });
        tokio::select! {
            biased;
            end = work.wait_without_session(patience != Patience::None) => Ok(Err(end)),
            opened = opening => opened.map(Ok),
        }
    }

    async fn send(&mut self, mut session: Session) -> Next {
        self.announce(&session);
        self.connected_before = true;
        self.wait_for_receiver();
        let confirmed = self.work.flights.account.confirmed;
        let end = self.work.send_on(&mut session).await;
        if self.work.flights.account.confirmed > confirmed {
            self.judge.confirmed();
        }
        match end {
            End::Lost(error) => self.lost(session, error),
            End::Done => {
                session.link.close().await;
                Next::Finish(None)
            }
            end => self.finish_at(&end),
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
        if self.connected_before {
            self.status.say(self.reconnected(session));
        }
    }

    fn reconnected(&self, session: &Session) -> String {
        let (again, url) = (&self.work.flights.outbox, &session.link.url);
        match again.to_send_again().count() {
            0 => format!(" [*] connected to {url}"),
            count => {
                let lines = ranges(again.to_send_again());
                format!(" [*] connected to {url}; sending {count} lines again: {lines}")
            }
        }
    }

    /// On a broker of our own nobody can have joined yet, and what is sent before somebody has is lost.
    fn wait_for_receiver(&mut self) {
        let hosts = self.connector.host().is_some_and(|host| host.broker().is_some());
        if hosts && !std::mem::replace(&mut self.waited_for_receiver, true) {
            self.status.say(" [*] The first line waits for a receiver");
            self.work.flights.wait_for_receiver(Instant::now());
        }
    }

    /// Receivers still have to take what our broker holds for them.
    async fn stop_hosting(&mut self, in_peace: bool) {
        let Some(host) = self.connector.host() else { return };
        if in_peace && host.is_waited_for() {
            self.status.say(
                " [*] Everything is sent; hosting until the receivers have taken it. To exit press CTRL+C",
            );
            tokio::select! {
                () = host.until_taken() => {}
                () = self.work.stop_requested() => {}
            }
        }
        host.stop().await;
    }

    fn lost(&mut self, mut session: Session, error: lapin::Error) -> Next {
        let error = session.news.cause(error);
        let back = self.work.flights.take_back();
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
            return self.work.flights.outbox.send_singly(back);
        }
        if let Some(entry) = self.work.flights.refuse_next() {
            self.status.say(format!(" [!] line {} was refused: {reason}", entry.number));
        }
    }

    fn finish_at(&self, end: &End) -> Next {
        match end {
            End::GaveUp => self.status.say(" [!] nothing was confirmed for --give-up-after; giving up"),
            End::Stopped | End::Done | End::Lost(_) => {}
        }
        Next::Finish(None)
    }

    async fn close(mut self, failure: Option<Failure>) -> Result<(), Failure> {
        let (account, too_long) = self.work.close().await;
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
