//! The differences from RabbitMQ that are meant.
//!
//! Each is an exact predicate with a reason; `docs/differential.md` says the same in a table.
//! Invariant: there are at most twenty, and each has a test that it fits what it should and not
//! what stands next to it.

use super::{event::Event, operation::Operation};

/// What the two brokers said in the same place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) operation: &'a Operation,
    pub(super) ours: Option<&'a Event>,
    pub(super) theirs: Option<&'a Event>,
}

/// A difference that is meant.
pub(super) struct Allowed {
    pub(super) name: &'static str,
    pub(super) reason: &'static str,
    fits: fn(&Pair<'_>) -> bool,
}

pub(super) const ALLOWED_MAX: usize = 20;

pub(super) const ALLOWED: &[Allowed] = &[Allowed {
    name: "cut-character",
    reason: "a reply text that is too long is cut in front of a character and not within it, because some \
             clients insist on UTF-8",
    fits: |pair| texts_differ(pair, cut_within_a_character),
}];

/// The name of the allowed difference that this is.
pub(super) fn name_of(pair: &Pair<'_>) -> Option<&'static str> {
    ALLOWED.iter().find(|allowed| (allowed.fits)(pair)).map(|allowed| allowed.name)
}

/// Whether both closed with the same code, class and method, and the texts are related like that.
fn texts_differ(pair: &Pair<'_>, related: fn(&str, &str) -> bool) -> bool {
    let (Some(ours), Some(theirs)) = (pair.ours, pair.theirs) else { return false };
    let is_close = matches!(ours.name, "ChannelClose" | "ConnectionClose");
    let rest_is_equal = ours.clone().without("text") == theirs.clone().without("text");
    is_close && rest_is_equal && related(ours.field("text"), theirs.field("text"))
}

/// Theirs ends in octets of a character that is not whole, and ours leaves just these out.
fn cut_within_a_character(ours: &str, theirs: &str) -> bool {
    let (Some(ours), Some(theirs)) = (ours.strip_suffix("..."), theirs.strip_suffix("...")) else {
        return false;
    };
    // In a trace an octet beyond ASCII is four characters: \xc3.
    let Some(half) = theirs.strip_prefix(ours) else { return false };
    let octets: Vec<&str> = half.split("\\x").skip(1).collect();
    let is_lead = |octet: &&str| matches!(u8::from_str_radix(octet, 16), Ok(0xc0..=0xff));
    matches!(octets.len(), 1..=3) && half.len() == octets.len() * 4 && octets.first().is_some_and(is_lead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(text: &str) -> Event {
        Event::plain("ChannelClose").with("reply-code", "404").with("text", text)
    }

    #[track_caller]
    fn check(ours: &Event, theirs: &Event, wanted: Option<&str>) {
        let pair = Pair { operation: &Operation::TxSelect, ours: Some(ours), theirs: Some(theirs) };
        assert_eq!(name_of(&pair), wanted);
    }

    #[test]
    fn there_are_few_and_each_says_why() {
        assert!(ALLOWED.len() <= ALLOWED_MAX);
        for allowed in ALLOWED {
            assert!(!allowed.name.is_empty() && allowed.reason.len() > 20, "{}", allowed.name);
        }
    }

    #[test]
    fn a_character_may_be_left_out_that_is_not_whole() {
        let name = Some("cut-character");
        check(&close("no queue 'a..."), &close("no queue 'a\\xc3..."), name);
        check(&close("no queue 'a..."), &close("no queue 'a\\xe2\\x82..."), name);
        check(&close("no queue 'a..."), &close("no queue 'ab..."), None);
        check(&close("no queue 'a..."), &close("no queue 'a\\x82..."), None);
        check(&close("no queue 'a"), &close("no queue 'a\\xc3"), None);
        check(&close("no queue 'a\\xc3..."), &close("no queue 'a..."), None);
        let other_code = close("no queue 'a\\xc3...").with("reply-code", "405");
        check(&close("no queue 'a..."), &other_code, None);
    }
}
