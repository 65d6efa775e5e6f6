//! What a failed connection means for the lines: once more, one of them is at fault, or no use.
//!
//! Reads reply codes only; nothing is sent or counted here.

use lapin::protocol::{AMQPHardError, AMQPSoftError};

use crate::cli::connect::reply_code;

/// Refusals of this kind in a row, with nothing confirmed between them, are not about single lines.
const REFUSALS_IN_A_ROW_MAX: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The network or the broker went away: connect and send again.
    Again,
    /// The broker closed the channel at one of the lines.
    OneLine,
    /// It would say the same to every line.
    Hopeless,
}

/// Judges errors with the memory of those before.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    refusals_in_a_row: u32,
}

impl Judge {
    /// A line was confirmed: the way to the exchange is good.
    pub(crate) fn confirmed(&mut self) {
        self.refusals_in_a_row = 0;
    }

    pub(crate) fn judge(&mut self, error: &lapin::Error) -> Verdict {
        match verdict(reply_code(error)) {
            Verdict::OneLine => self.count(Verdict::OneLine),
            Verdict::Again if reply_code(error) == Some(AMQPSoftError::NOTFOUND.get_id()) => {
                self.count(Verdict::Again)
            }
            verdict => verdict,
        }
    }

    fn count(&mut self, verdict: Verdict) -> Verdict {
        self.refusals_in_a_row += 1;
        if self.refusals_in_a_row > REFUSALS_IN_A_ROW_MAX { Verdict::Hopeless } else { verdict }
    }
}

/// Whether a broker that answered this while the session was opened will answer it again.
pub(crate) fn is_hopeless(error: &lapin::Error) -> bool {
    reply_code(error).is_some() && verdict(reply_code(error)) != Verdict::Again
}

fn verdict(code: Option<u16>) -> Verdict {
    let Some(code) = code else { return Verdict::Again };
    let is_soft = |error: AMQPSoftError| error.get_id() == code;
    let is_hard = |error: AMQPHardError| error.get_id() == code;
    if is_soft(AMQPSoftError::PRECONDITIONFAILED) || is_soft(AMQPSoftError::CONTENTTOOLARGE) {
        return Verdict::OneLine;
    }
    // An exchange that is gone is declared anew on the next connection.
    let passing = is_soft(AMQPSoftError::NOTFOUND)
        || is_hard(AMQPHardError::CONNECTIONFORCED)
        || is_hard(AMQPHardError::INTERNALERROR)
        || is_hard(AMQPHardError::RESOURCEERROR);
    if passing { Verdict::Again } else { Verdict::Hopeless }
}

#[cfg(test)]
mod tests {
    use lapin::{ErrorKind, protocol::AMQPError};

    use super::*;

    fn closed(code: u16) -> lapin::Error {
        ErrorKind::ProtocolError(AMQPError::from_id(code, "x".into()).expect("a code of the protocol")).into()
    }

    #[test]
    fn codes_are_sorted_by_what_they_mean_for_the_lines() {
        for (code, expected) in [
            (320, Verdict::Again),
            (541, Verdict::Again),
            (404, Verdict::Again),
            (406, Verdict::OneLine),
            (311, Verdict::OneLine),
            (403, Verdict::Hopeless),
            (540, Verdict::Hopeless),
            (530, Verdict::Hopeless),
        ] {
            assert_eq!(Judge::default().judge(&closed(code)), expected, "{code}");
        }
        let reset = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(Judge::default().judge(&reset), Verdict::Again);
    }

    #[test]
    fn the_same_refusal_for_ever_is_hopeless_and_a_confirm_begins_the_count_anew() {
        let mut judge = Judge::default();
        for _ in 0..REFUSALS_IN_A_ROW_MAX {
            assert_eq!(judge.judge(&closed(406)), Verdict::OneLine);
        }
        judge.confirmed();
        assert_eq!(judge.judge(&closed(404)), Verdict::Again);
        for _ in 1..REFUSALS_IN_A_ROW_MAX {
            judge.judge(&closed(404));
        }
        assert_eq!(judge.judge(&closed(404)), Verdict::Hopeless);
    }
}
