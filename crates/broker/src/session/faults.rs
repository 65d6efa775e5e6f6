//! What a peer is told of frames that are broken, unknown or out of place, in RabbitMQ's words.
//!
//! Whether a frame is at fault is decided elsewhere; here are the code and the text.

use leveret_wire::{DecodeError, FRAME_HEADER_OCTETS, Frame, FrameError, Method, ShortStr};

use super::Failure;
use crate::Refusal;

/// Octets of a payload that a reply text quotes.
const QUOTED_OCTETS_MAX: usize = 16;

pub(super) fn expected_method_frame() -> Refusal {
    Refusal::UnexpectedFrame("expected method frame, got non method frame instead".to_owned())
}

pub(super) fn decode_method(frame: Frame<'_>) -> Result<Method<'_>, Failure> {
    let Some((&[c0, c1, m0, m1], fields)) = frame.payload.split_first_chunk() else {
        return Err(unknown_frame(frame));
    };
    let ids = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
    match Method::decode(frame.payload) {
        Ok(method) => Ok(method),
        Err(DecodeError::MalformedUtf8) => {
            let ids = if frame.channel == 0 { ids } else { (0, 0) };
            Err(Failure::refused(0, ids, Refusal::malformed_text()))
        }
        Err(DecodeError::UnknownMethod { .. }) => {
            Err(Failure::Drop("the peer sent a method that does not exist".into()))
        }
        Err(DecodeError::UnknownFieldType(_)) => {
            Err(Failure::Drop("the peer sent a field of a type that does not exist".into()))
        }
        Err(_) => {
            let shown = &fields[..fields.len().min(ShortStr::OCTETS_MAX)];
            let text = format!("cannot decode {}", erlang_numbers(shown));
            Err(Failure::refused(0, ids, Refusal::FrameError(text)))
        }
    }
}

/// Octets as RabbitMQ's texts show a payload: `<<0,5,97>>`, or `<<"abc">>` when all of them can
/// be printed.
fn erlang_octets(octets: &[u8]) -> String {
    let is_printed = |octet: &u8| matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\');
    if !octets.is_empty() && octets.iter().all(is_printed) {
        return format!("<<\"{}\">>", String::from_utf8_lossy(octets));
    }
    erlang_numbers(octets)
}

/// Octets as RabbitMQ's texts show the fields of a method: `<<0,5,97>>`.
fn erlang_numbers(octets: &[u8]) -> String {
    let shown: Vec<_> = octets.iter().map(u8::to_string).collect();
    format!("<<{}>>", shown.join(","))
}

fn frame_text(kind: u8, payload: &[u8]) -> String {
    match payload.get(..QUOTED_OCTETS_MAX) {
        Some(first) if payload.len() > QUOTED_OCTETS_MAX => {
            format!("type {kind}, first 16 octets = {}", erlang_octets(first))
        }
        _ => format!("type {kind}, all octets = {}", erlang_octets(payload)),
    }
}

/// A frame that is none of those there are.
pub(super) fn unknown_frame(frame: Frame<'_>) -> Failure {
    let text = format!("{}: unknown_frame", frame_text(frame.kind.octet(), frame.payload));
    Failure::refused(0, (0, 0), Refusal::FrameError(text))
}

/// A frame that may not come on its channel.
pub(super) fn unexpected_frame(frame: Frame<'_>) -> Failure {
    let text = frame_text(frame.kind.octet(), frame.payload);
    Failure::refused(0, (0, 0), Refusal::UnexpectedFrame(text))
}

/// `input` begins with the frame at fault, which may not be there as a whole.
pub(super) fn frame_failure(error: &FrameError, input: &[u8]) -> Failure {
    let payload = || match input.split_first_chunk::<FRAME_HEADER_OCTETS>() {
        Some((&[_, _, _, s0, s1, s2, s3], rest)) => {
            rest.get(..u32::from_be_bytes([s0, s1, s2, s3]) as usize).unwrap_or_default()
        }
        None => &[],
    };
    let text = match *error {
        FrameError::UnknownKind { kind } => format!("{}: unknown_frame", frame_text(kind, payload())),
        FrameError::TooLarge { kind, size, size_max } => {
            let limit = size_max.saturating_sub(8);
            format!("{}: {{frame_too_large,{size},{limit}}}", frame_text(kind, &[]))
        }
        FrameError::BadEnd { kind, end } => {
            format!("{}: {{invalid_frame_end_marker,{end}}}", frame_text(kind, payload()))
        }
    };
    Failure::refused(0, (0, 0), Refusal::FrameError(text))
}
