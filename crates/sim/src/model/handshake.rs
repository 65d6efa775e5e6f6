//! The model's side of the handshake, the clock and the end of a connection.

use leveret_wire::{Frame, FrameKind, Method, ProtocolHeader, ReplyCode, Table, Value, method::connection};

use super::{
    Capabilities, ConnectionKey, Model, Phase,
    turn::{Deferred, Turn},
    verdict::Verdict,
};
use crate::{Checked, Violation, counts::Event, ensure, frames::Said};

/// The only login there is.
const LOGIN: &[u8] = b"\0guest\0guest";
/// The only virtual host there is.
const VHOST: &str = "/";

/// How long a handshake may take.
const HANDSHAKE_MILLIS_MAX: u64 = 10_000;
/// How long silence is kept before a peer that broke the handshake is dropped.
const SILENCE_MILLIS: u64 = 3_000;

impl Model {
    pub(super) fn protocol_header(&mut self, turn: &mut Turn<'_>, header: ProtocolHeader) -> Checked {
        let answer = self.next_answer(turn)?;
        match (header, answer) {
            (ProtocolHeader::Amqp091, Some(Said::Method(0, Method::ConnectionStart(_)))) => {
                self.connection_mut(turn.connection).phase = Phase::StartOk;
                Ok(())
            }
            (ProtocolHeader::Other(_), Some(Said::ProtocolHeader)) => {
                self.connection_mut(turn.connection).phase = Phase::Ended;
                self.counts.note(Event::HandshakeDrop);
                Ok(())
            }
            (header, answer) => Err(Violation::new(format!("{answer:?} in answer to {header:?}"))),
        }
    }

    pub(super) fn handshake_frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Checked {
        if frame.kind == FrameKind::Heartbeat {
            return Ok(());
        }
        let phase = self.connection(turn.connection).phase;
        let method = Method::decode(frame.payload);
        match (phase, method) {
            _ if frame.kind != FrameKind::Method || frame.channel != 0 => self.fall_silent(turn),
            (Phase::StartOk, Ok(Method::ConnectionStartOk(start_ok))) => self.start_ok(turn, &start_ok),
            (Phase::TuneOk, Ok(Method::ConnectionTuneOk(tune_ok))) => self.tune_ok(turn, tune_ok),
            (Phase::Open, Ok(Method::ConnectionOpen(open))) => self.open(turn, &open),
            _ => self.fall_silent(turn),
        }
    }

    fn fall_silent(&mut self, turn: &Turn<'_>) -> Checked {
        self.counts.note(Event::HandshakeDrop);
        let until_millis = turn.circumstances.now_millis + SILENCE_MILLIS;
        self.connection_mut(turn.connection).phase = Phase::Silent { until_millis };
        Ok(())
    }

    fn start_ok(&mut self, turn: &mut Turn<'_>, start_ok: &connection::StartOk<'_>) -> Checked {
        let capabilities = capabilities(start_ok.client_properties);
        self.connection_mut(turn.connection).capabilities = capabilities;
        let well_formed = start_ok.mechanism.as_bytes() == b"PLAIN"
            && start_ok.response.0.split(|octet| *octet == 0).count() == 3
            && start_ok.response.0.first() == Some(&0);
        let good = start_ok.response.0 == LOGIN;
        if !well_formed || !good && !capabilities.authentication_failure_close {
            return self.fall_silent(turn);
        }
        if !good {
            return self.expect_refusal(turn, 0, (0, 0), Verdict::refused(ReplyCode::AccessRefused));
        }
        let answer = self.next_answer(turn)?;
        let Some(Said::Method(0, Method::ConnectionTune(tune))) = answer else {
            return Err(Violation::new(format!("{answer:?} in answer to a good login")));
        };
        ensure!(tune.channel_max == self.limits.channel_max, "it offers {} channels", tune.channel_max);
        let connection = self.connection_mut(turn.connection);
        connection.channel_max = tune.channel_max;
        connection.frame_octets_max = tune.frame_max;
        connection.phase = Phase::TuneOk;
        Ok(())
    }

    fn tune_ok(&mut self, turn: &Turn<'_>, tune_ok: connection::TuneOk) -> Checked {
        let connection = self.connection_mut(turn.connection);
        let channels = 1..=connection.channel_max;
        let frames = leveret_wire::FRAME_MIN_OCTETS..=connection.frame_octets_max;
        if !channels.contains(&tune_ok.channel_max) || !frames.contains(&tune_ok.frame_max) {
            return self.fall_silent(turn);
        }
        connection.channel_max = tune_ok.channel_max;
        connection.frame_octets_max = tune_ok.frame_max;
        connection.heartbeat_seconds = tune_ok.heartbeat_seconds;
        connection.phase = Phase::Open;
        Ok(())
    }

    fn open(&mut self, turn: &mut Turn<'_>, open: &connection::Open<'_>) -> Checked {
        if open.virtual_host.as_bytes() != VHOST.as_bytes() {
            return self.expect_refusal(turn, 0, (10, 40), Verdict::refused(ReplyCode::NotAllowed));
        }
        let answer = self.next_answer(turn)?;
        ensure!(
            matches!(answer, Some(Said::Method(0, Method::ConnectionOpenOk(_)))),
            "{answer:?} in answer to a good open"
        );
        self.connection_mut(turn.connection).phase = Phase::Running;
        Ok(())
    }

    pub(super) fn connection_method(&mut self, turn: &mut Turn<'_>, method: Method<'_>) -> Checked {
        match method {
            Method::ConnectionClose(_) => self.close_connection(turn),
            Method::ConnectionUpdateSecret(_) => {
                let answer = self.next_answer(turn)?;
                let done = matches!(answer, Some(Said::Method(0, Method::ConnectionUpdateSecretOk(_))));
                ensure!(done, "{answer:?} in answer to an update of the secret");
                Ok(())
            }
            Method::ConnectionOpen(_)
            | Method::ConnectionStartOk(_)
            | Method::ConnectionTuneOk(_)
            | Method::ConnectionSecureOk(_) => {
                self.expect_refusal(turn, 0, method.ids(), Verdict::refused(ReplyCode::ChannelError))
            }
            _ if method.ids().0 == connection::CLASS_ID => {
                self.expect_refusal(turn, 0, method.ids(), Verdict::refused(ReplyCode::CommandInvalid))
            }
            _ => self.expect_refusal(turn, 0, method.ids(), Verdict::refused(ReplyCode::ChannelError)),
        }
    }

    fn close_connection(&mut self, turn: &mut Turn<'_>) -> Checked {
        self.counts.note(Event::ConnectionClose);
        let connection = self.connection_mut(turn.connection);
        connection.going = true;
        connection.phase = Phase::Ended;
        connection.deferred = Some(Deferred::ConnectionCloseOk);
        self.hear_rest(turn)
    }

    /// What comes after the broker closed the connection.
    pub(super) fn closing_frame(&mut self, turn: &mut Turn<'_>, frame: Frame<'_>) -> Checked {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return Ok(());
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) => {
                self.connection_mut(turn.connection).phase = Phase::Ended;
                Ok(())
            }
            Ok(Method::ConnectionClose(_)) => {
                let connection = self.connection_mut(turn.connection);
                connection.phase = Phase::Ended;
                connection.deferred = Some(Deferred::ConnectionCloseOk);
                self.hear_rest(turn)
            }
            _ => Ok(()),
        }
    }

    /// Whether the clock alone ends the connection at that time.
    #[must_use]
    pub fn dies_by_clock(&self, key: ConnectionKey, now_millis: u64, is_stopping: bool) -> bool {
        let connection = self.connection(key);
        match connection.phase {
            Phase::Closing { until_millis } | Phase::Silent { until_millis } => until_millis <= now_millis,
            _ if is_stopping => false,
            Phase::Running => self.is_unheard(key, now_millis),
            Phase::Header | Phase::StartOk | Phase::TuneOk | Phase::Open => {
                connection.since_millis + HANDSHAKE_MILLIS_MAX <= now_millis
            }
            Phase::Ended => false,
        }
    }

    /// Nothing was heard of the client for two heartbeat intervals, and not because it is not
    /// read from.
    fn is_unheard(&self, key: ConnectionKey, now_millis: u64) -> bool {
        let connection = self.connection(key);
        let interval_millis = u64::from(connection.heartbeat_seconds) * 1000;
        interval_millis > 0
            && !connection.blocked
            && connection.heard_millis + 2 * interval_millis <= now_millis
    }

    /// A client that wants heartbeats hears something at least every interval.
    pub(super) fn check_clock(&self, turn: &Turn<'_>) -> Checked {
        let connection = self.connection(turn.connection);
        let interval_millis = u64::from(connection.heartbeat_seconds) * 1000;
        let silent_millis = turn.circumstances.now_millis - connection.said_millis;
        let wants = interval_millis > 0 && connection.phase == Phase::Running && !connection.going;
        ensure!(
            !wants || !turn.circumstances.is_empty || silent_millis < interval_millis,
            "it said nothing for {silent_millis} ms, the heartbeat is {interval_millis} ms"
        );
        Ok(())
    }

    /// The clock ended the connection, and with it went what it was about to say.
    pub fn died(&mut self, key: ConnectionKey) {
        self.turns += 1;
        if self.connection(key).phase == Phase::Running {
            self.counts.note(Event::HeartbeatDeath);
            self.doubt_unheard(key);
        }
        self.disconnected(key);
    }

    /// The broker stops: what has not come as far as the limits goes without a word.
    pub fn stopped(&mut self, key: ConnectionKey) {
        let connection = self.connection_mut(key);
        if matches!(connection.phase, Phase::Header | Phase::StartOk) {
            connection.phase = Phase::Ended;
        }
    }

    /// The socket is gone.
    pub fn disconnected(&mut self, key: ConnectionKey) {
        let connection = self.connection_mut(key);
        connection.phase = Phase::Ended;
        connection.going = true;
        connection.deferred = None;
        connection.blocked = false;
        connection.returns.clear();
    }
}

fn capabilities(properties: Table<'_>) -> Capabilities {
    let Some(Value::Table(capabilities)) = properties.find("capabilities") else {
        return Capabilities::default();
    };
    let has = |name| capabilities.find(name) == Some(Value::Bool(true));
    Capabilities {
        authentication_failure_close: has("authentication_failure_close"),
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
    }
}
