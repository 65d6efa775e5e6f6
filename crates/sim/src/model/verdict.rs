//! Whether a command may be done or refused, and its answer held against that.

use leveret_wire::{Method, ReplyCode, Scope};

use super::{
    Model,
    connection::Phase,
    turn::{Deferred, Turn},
};
use crate::{Checked, Violation, counts::Event, ensure, frames::Said};

/// How long a client may take to confirm that its connection is closed.
const CLOSE_OK_MILLIS_MAX: u64 = 3_000;

/// What may become of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether it may be done.
    done: bool,
    /// Why it may be refused.
    codes: Vec<ReplyCode>,
}

impl Verdict {
    /// It has to be refused.
    pub(super) fn refused(code: ReplyCode) -> Self {
        Self { done: false, codes: vec![code] }
    }

    /// It has to be done if there is no reason against it, and else be refused for one of them.
    pub(super) fn unless(reasons: &[(bool, ReplyCode)]) -> Self {
        let codes: Vec<_> = reasons.iter().filter(|(holds, _)| *holds).map(|(_, code)| *code).collect();
        Self { done: codes.is_empty(), codes }
    }

    /// It may be refused for that as well.
    pub(super) fn or(mut self, possible: bool, code: ReplyCode) -> Self {
        if possible {
            self.codes.push(code);
        }
        self
    }
}

/// What became of a command.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    Done(Option<Said<'a>>),
    Refused,
}

impl Model {
    /// Finds out what became of a command; `answer` are the ids of what confirms it, if
    /// something does.
    pub(super) fn outcome<'t>(
        &mut self,
        turn: &mut Turn<'t>,
        channel: u16,
        ids: (u16, u16),
        answer: Option<(u16, u16)>,
        verdict: Verdict,
    ) -> Checked<Outcome<'t>> {
        if answer.is_none() && verdict.codes.is_empty() {
            return Ok(Outcome::Done(None));
        }
        if !verdict.done {
            self.expect_refusal(turn, channel, ids, verdict)?;
            return Ok(Outcome::Refused);
        }
        let said = self.next_answer(turn)?;
        let refused = said.as_ref().is_some_and(|said| closes_for(said, channel, ids));
        match (said, answer) {
            (Some(said), _) if refused => {
                self.hear_refusal(turn, channel, ids, &verdict, &said)?;
                Ok(Outcome::Refused)
            }
            (Some(said), Some(answer)) => {
                ensure!(answers(&said, channel, answer), "{said:?} is no answer to {ids:?} on {channel}");
                Ok(Outcome::Done(Some(said)))
            }
            (Some(said), None) => {
                turn.push_back(said);
                Ok(Outcome::Done(None))
            }
            (None, Some(_)) => Err(Violation::new(format!("no answer to {ids:?} on channel {channel}"))),
            (None, None) => Ok(Outcome::Done(None)),
        }
    }

    /// The command has to be refused, now or, if there is work before that, in a later turn.
    pub(super) fn expect_refusal(
        &mut self,
        turn: &mut Turn<'_>,
        channel: u16,
        ids: (u16, u16),
        verdict: Verdict,
    ) -> Checked {
        match self.next_answer(turn)? {
            Some(said) => self.hear_refusal(turn, channel, ids, &verdict, &said),
            None => {
                let deferred = Deferred::Refusal { channel, ids, verdict };
                self.connection_mut(turn.connection).deferred = Some(deferred);
                Ok(())
            }
        }
    }

    /// A close, which must be one that the verdict allows.
    pub(super) fn hear_refusal(
        &mut self,
        turn: &mut Turn<'_>,
        channel: u16,
        ids: (u16, u16),
        verdict: &Verdict,
        said: &Said<'_>,
    ) -> Checked {
        let key = turn.connection;
        turn.may_have_freed = true;
        self.land_letters();
        turn.was_refused = turn.more.is_none();
        let (code, said_ids, scope) = match said {
            Said::Method(on, Method::ChannelClose(close)) if *on == channel => {
                (close.reply_code, (close.class_id, close.method_id), Scope::Channel)
            }
            Said::Method(0, Method::ConnectionClose(close)) => {
                (close.reply_code, (close.class_id, close.method_id), Scope::Connection)
            }
            other => return Err(Violation::new(format!("{other:?} where {ids:?} is refused: {verdict:?}"))),
        };
        let allowed = verdict.codes.iter().find(|allowed| allowed.code() == code);
        let Some(allowed) = allowed else {
            return Err(Violation::new(format!(
                "{ids:?} on {channel} is refused with {code}, not {verdict:?}"
            )));
        };
        ensure!(said_ids == ids, "the refusal of {ids:?} names {said_ids:?}");
        let expected = if channel == 0 { Scope::Connection } else { allowed.scope() };
        ensure!(expected == scope, "{code} closes the wrong thing");
        match scope {
            Scope::Channel => {
                self.counts.note(Event::ChannelError);
                self.take_down_channel((key, channel));
                self.channels.entry((key, channel)).or_default().closing = true;
                if turn.more.is_some() {
                    self.land_letters();
                }
            }
            Scope::Connection => {
                self.counts.note(Event::ConnectionError);
                self.connection_closes(turn);
            }
        }
        Ok(())
    }

    /// The broker closes the connection. What it had goes in the turns without input.
    pub(super) fn connection_closes(&mut self, turn: &Turn<'_>) {
        let until_millis = turn.circumstances.now_millis + CLOSE_OK_MILLIS_MAX;
        let connection = self.connection_mut(turn.connection);
        connection.phase = Phase::Closing { until_millis };
        connection.going = true;
        connection.deferred = None;
        if let Some(more) = turn.more {
            self.go_on_taking_down(turn.connection, more);
        }
    }

    /// While the broker stops it closes every connection that got as far as the limits.
    pub(super) fn hear_forced_close(&mut self, turn: &Turn<'_>, said: &Said<'_>) -> bool {
        let key = turn.connection;
        let phase = self.connection(key).phase;
        let greeted =
            turn.circumstances.is_stopping && matches!(phase, Phase::TuneOk | Phase::Open | Phase::Running);
        let forced = match said {
            Said::Method(0, Method::ConnectionClose(close)) => {
                close.reply_code == ReplyCode::ConnectionForced.code() && close.class_id == 0
            }
            _ => false,
        };
        if greeted && forced {
            self.counts.note(Event::ConnectionForced);
            self.connection_closes(turn);
        }
        greeted && forced
    }
}

fn closes_for(said: &Said<'_>, channel: u16, ids: (u16, u16)) -> bool {
    match said {
        Said::Method(on, Method::ChannelClose(close)) => {
            *on == channel && (close.class_id, close.method_id) == ids
        }
        Said::Method(0, Method::ConnectionClose(close)) => (close.class_id, close.method_id) == ids,
        _ => false,
    }
}

fn answers(said: &Said<'_>, channel: u16, ids: (u16, u16)) -> bool {
    match said {
        Said::Method(on, method) | Said::Content(on, method, _) => *on == channel && method.ids() == ids,
        Said::Heartbeat | Said::ProtocolHeader => false,
    }
}
