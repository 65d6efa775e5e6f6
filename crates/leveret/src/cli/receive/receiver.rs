//! The run of `receive`: a session, another one when it is lost, and the last words.
//!
//! Decides when to try again and what the end means for the exit code; messages are the desk's.

use super::{
    desk::{Desk, Finish},
    session::{Session, Subscription},
};
use crate::cli::{
    Failure,
    backoff::Backoff,
    connect::Connector,
    exchange::Ensured,
    persist::{self, Patience},
};

pub(crate) struct Receiver {
    pub(crate) connector: Connector,
    pub(crate) subscription: Subscription,
    pub(crate) desk: Desk,
    pub(crate) wait_for_broker: bool,
    /// Whether the last messages go to a file only, which may take its time.
    pub(crate) unhurried: bool,
}

impl Receiver {
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        let mut patience = Patience::at_start(self.wait_for_broker);
        loop {
            let mut session = match self.open(patience).await? {
                Ok(session) => session,
                Err(finish) => return self.end(None, finish).await,
            };
            self.announce(&session, patience == Patience::Endless);
            patience = Patience::Endless;
            match self.desk.receive(&mut session).await {
                Ok(reason) => self.lost(&session, &reason),
                Err(finish) => return self.end(Some(session), finish).await,
            }
        }
    }

    async fn open(&mut self, patience: Patience) -> Result<Result<Session, Finish>, Failure> {
        let Self { connector, subscription, desk, .. } = self;
        let status = std::rc::Rc::clone(&desk.status);
        tokio::select! {
            biased;
            finish = desk.wait_without_session() => Ok(Err(finish)),
            session = persist::open(&status, patience, Backoff::RECEIVER, async || Session::open(connector, subscription).await) => {
                session.map(Ok)
            }
        }
    }

    fn announce(&self, session: &Session, again: bool) {
        let Subscription { exchange, exchange_type, .. } = &self.subscription;
        if session.exchange == Ensured::Declared
            && exchange_type.ignores_keys()
            && self.subscription.is_selective()
        {
            self.desk.status.say(format!(
                " [!] exchange '{exchange}' did not exist and was declared {exchange_type}, which sends everything to \
                 everybody; --exchange-type names another type"
            ));
        }
        match again {
            true => self
                .desk
                .status
                .say(format!(" [*] Connected to {} with a new queue. Waiting for logs", session.link.url)),
            false => self.desk.status.say(" [*] Waiting for logs. To exit press CTRL+C"),
        }
    }

    fn lost(&mut self, session: &Session, reason: &str) {
        self.desk.lost(&format!("lost {}: {reason}", session.link.url));
        self.connector.pass_over();
    }

    async fn end(mut self, session: Option<Session>, finish: Finish) -> Result<(), Failure> {
        let written = self.desk.finish(session.as_ref(), self.unhurried).await;
        if let Some(session) = session {
            session.close().await;
        }
        if let Some(host) = self.connector.host() {
            host.stop().await;
        }
        let unwritten = self.desk.unwritten();
        let status = std::rc::Rc::clone(&self.desk.status);
        if unwritten > 0 && !matches!(finish, Finish::Closed) {
            status.say(format!(" [!] {unwritten} messages were received and not written"));
        }
        self.desk.tally.summary().into_iter().for_each(|line| status.say(line));
        match finish {
            Finish::Failed(failure) => Err(failure),
            Finish::Idle => self.idle(),
            Finish::Count | Finish::Stopped | Finish::Closed => written,
        }
    }

    /// To be idle is an end like any other, unless a number of messages was asked for.
    fn idle(&self) -> Result<(), Failure> {
        match (self.desk.missing(), self.desk.idle_timeout()) {
            (Some(missing), Some(waited)) if missing > 0 => {
                Err(Failure::IdleBeforeCount { waited: waited.into(), missing })
            }
            _ => Ok(()),
        }
    }
}
