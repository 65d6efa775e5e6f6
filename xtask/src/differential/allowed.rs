//! The differences from RabbitMQ that are meant.
//!
//! Each is an exact predicate with a reason; `docs/differential.md` says the same in a table.
//! Invariant: there are at most twenty, and each has a test that it fits what it should and not
//! what stands next to it.

use super::event::Event;

/// What the two brokers said in the same place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) ours: Option<&'a Event>,
    pub(super) theirs: Option<&'a Event>,
}

/// A difference that is meant.
pub(super) struct Allowed {
    name: &'static str,
    reason: &'static str,
    fits: fn(&Pair<'_>) -> bool,
}

pub(super) const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "cut-character",
        reason: "a reply text that is too long is cut in front of a character and not within it, because \
                 some clients insist on UTF-8",
        fits: |pair| texts_differ(pair, cut_within_a_character),
    },
    Allowed {
        name: "order-of-mechanisms",
        reason: "RabbitMQ names its mechanisms in an order that differs from one start to the next",
        fits: mechanisms_differ_in_order,
    },
];

/// The name of the allowed difference that this is.
pub(super) fn name_of(pair: &Pair<'_>) -> Option<&'static str> {
    ALLOWED.iter().find(|allowed| (allowed.fits)(pair)).map(|allowed| allowed.name)
}

/// Why a difference is meant.
pub(super) fn reason_of(name: &str) -> &'static str {
    ALLOWED.iter().find(|allowed| allowed.name == name).map_or("", |allowed| allowed.reason)
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

/// Whether both are greetings that differ in the order of mechanisms alone.
fn mechanisms_differ_in_order(pair: &Pair<'_>) -> bool {
    let (Some(ours), Some(theirs)) = (pair.ours, pair.theirs) else { return false };
    let rest = |event: &Event| event.clone().without("mechanisms");
    ours.name == "ConnectionStart" && rest(ours) == rest(theirs) && same_words(ours, theirs, "mechanisms")
}

fn same_words(ours: &Event, theirs: &Event, field: &str) -> bool {
    let sorted = |event: &Event| {
        let mut words: Vec<String> = event.field(field).split(' ').map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    sorted(ours) == sorted(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED_MAX: usize = 20;

    fn close(text: &str) -> Event {
        Event::plain("ChannelClose").with("reply-code", "404").with("text", text)
    }

    #[track_caller]
    fn check(ours: &Event, theirs: &Event, wanted: Option<&str>) {
        let pair = Pair { ours: Some(ours), theirs: Some(theirs) };
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

    fn start(mechanisms: &str, capabilities: &str) -> Event {
        Event::plain("ConnectionStart")
            .with("version", "0-9")
            .with("mechanisms", mechanisms)
            .with("capabilities", capabilities)
    }

    #[test]
    fn mechanisms_come_in_any_order_and_none_is_missing() {
        let ours = start("PLAIN AMQPLAIN", "{a:Bool(true)}");
        let check = |theirs: Event, wanted| check(&ours, &theirs, wanted);
        check(start("AMQPLAIN PLAIN", "{a:Bool(true)}"), Some("order-of-mechanisms"));
        check(start("AMQPLAIN", "{a:Bool(true)}"), None);
        check(start("AMQPLAIN PLAIN", "{a:Bool(false)}"), None);
        check(start("AMQPLAIN PLAIN", "{a:Bool(true)}").with("version", "0-8"), None);
    }
}
