//! Names in scripts and names on the wire.
//!
//! In a script `~` stands for the prefix by which a run's names differ from those of all other
//! runs, `@2` for the second name that the server made, and a character from U+E000 on for one
//! octet that need not be text. On the way back the same marks take the names' place, so that two
//! brokers' traces can be held against each other.
//! Invariant: only names of exactly the form that the server makes are replaced.

const OCTETS_BASE: u32 = 0xE000;

/// Octets of base64url behind `amq.gen-` and `amq.ctag-`: 16 random octets.
const MADE_OCTETS: usize = 22;
const MADE_PREFIXES: [&str; 2] = ["amq.gen-", "amq.ctag-"];
/// Behind this come two words of base64 with a point between them; how long is the broker's affair.
const REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";
const TOKEN_OCTETS_MIN: usize = 22;

/// The names of one run on one broker.
#[derive(Debug, Default)]
pub(super) struct Names {
    prefix: String,
    made: Vec<String>,
}

impl Names {
    pub(super) fn new(prefix: String) -> Self {
        Self { prefix, made: Vec::new() }
    }

    /// The octets that a script's text stands for.
    pub(super) fn octets_of(&self, text: &str) -> Vec<u8> {
        let mut octets = Vec::with_capacity(text.len() + self.prefix.len());
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '~' => octets.extend_from_slice(self.prefix.as_bytes()),
                '@' if rest.peek().is_some_and(char::is_ascii_digit) => {
                    let digit = rest.next().and_then(|digit| digit.to_digit(10)).unwrap_or_default();
                    octets.extend_from_slice(self.made_name(digit as usize).as_bytes());
                }
                other => push_character(other, &mut octets),
            }
        }
        octets
    }

    /// One of the names that the server made; one that it did not make while there is none.
    fn made_name(&self, number: usize) -> &str {
        if self.made.is_empty() {
            return "amq.gen-none";
        }
        &self.made[number % self.made.len()]
    }

    /// The queues that the server named, as far as it said so.
    pub(super) fn made_queues(&self) -> Vec<Vec<u8>> {
        let queues = self.made.iter().filter(|name| name.starts_with("amq.gen-"));
        queues.map(|name| name.as_bytes().to_vec()).collect()
    }

    /// What a broker's octets are in a trace: printable, and with marks in place of names.
    pub(super) fn text_of(&mut self, octets: &[u8]) -> String {
        let text = printable(octets);
        let text = if self.prefix.is_empty() { text } else { text.replace(&self.prefix, "~") };
        if text.contains("amq.") { self.without_made_names(&text) } else { text }
    }

    fn without_made_names(&mut self, text: &str) -> String {
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("amq.") {
            let (before, from) = rest.split_at(at);
            marked += before;
            let octets = made_name_octets(from);
            if octets == 0 {
                marked += "amq.";
                rest = &from["amq.".len()..];
            } else {
                marked += &self.mark_of(&from[..octets]);
                rest = &from[octets..];
            }
        }
        marked + rest
    }

    fn mark_of(&mut self, name: &str) -> String {
        let known = self.made.iter().position(|made| made == name);
        let number = known.unwrap_or_else(|| {
            self.made.push(name.to_owned());
            self.made.len() - 1
        });
        let kind = name.split(['-', '.']).nth(1).unwrap_or_default();
        format!("@{number}({kind})")
    }
}

fn push_character(character: char, octets: &mut Vec<u8>) {
    let raw = u32::from(character).checked_sub(OCTETS_BASE).and_then(|octet| u8::try_from(octet).ok());
    match raw {
        Some(octet) => octets.push(octet),
        None => octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Text in which what is no printable ASCII stands as two hexadecimal digits.
pub(super) fn printable(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for octet in octets {
        match octet {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*octet)),
            other => text.extend(format!("\\x{other:02x}").chars()),
        }
    }
    text
}

/// How many octets at the start of `text` are a name that a server made.
fn made_name_octets(text: &str) -> usize {
    for prefix in MADE_PREFIXES {
        if let Some(rest) = text.strip_prefix(prefix) {
            let octets = octets_while(rest, |octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
            return if octets == MADE_OCTETS { prefix.len() + octets } else { 0 };
        }
    }
    let Some(rest) = text.strip_prefix(REPLY_PREFIX) else { return 0 };
    let octets = octets_while(rest, |octet| octet.is_ascii_alphanumeric() || b"-_+/=.".contains(&octet));
    if octets >= TOKEN_OCTETS_MIN { REPLY_PREFIX.len() + octets } else { 0 }
}

fn octets_while(text: &str, fits: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|octet| fits(*octet)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "amq.gen-0123456789-_abcdefABCD";
    const TAG: &str = "amq.ctag-0123456789-_abcdefABCD";

    #[test]
    fn marks_become_names_and_names_become_marks() {
        let mut names = Names::new("d7-".to_owned());
        assert_eq!(names.octets_of("~q.@0"), b"d7-q.amq.gen-none");
        assert_eq!(names.text_of(b"no queue 'd7-q' there"), "no queue '~q' there");
        assert_eq!(names.text_of(TAG.as_bytes()), "@0(ctag)");
        assert_eq!(names.text_of(format!("'{MADE}' and {TAG}").as_bytes()), "'@1(gen)' and @0(ctag)");
        assert_eq!(names.octets_of("@1"), MADE.as_bytes());
        assert_eq!(names.octets_of("@3"), MADE.as_bytes());
        assert_eq!(names.octets_of("a@b"), b"a@b");
    }

    #[test]
    fn only_the_servers_own_form_is_replaced() {
        let mut names = Names::default();
        let check = |names: &mut Names, text: &str| assert_eq!(names.text_of(text.as_bytes()), text);
        check(&mut names, "amq.direct");
        check(&mut names, &MADE[..MADE.len() - 1]);
        check(&mut names, &format!("{MADE}x"));
        check(&mut names, "amq.rabbitmq.reply-to");
        check(&mut names, "amq.rabbitmq.reply-to.short");
        assert_eq!(
            names.text_of(b"amq.rabbitmq.reply-to.g1h2AAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA=="),
            "@0(rabbitmq)"
        );
    }

    #[test]
    fn octets_that_are_no_text_go_out_and_come_back() {
        let mut names = Names::default();
        assert_eq!(names.octets_of("a\u{e0ff}é\u{e000}"), b"a\xff\xc3\xa9\0");
        assert_eq!(names.text_of(b"a\xff\0"), "a\\xff\\x00");
    }
}
