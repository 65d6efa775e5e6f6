//! Makes a line harmless to a terminal: what would move its cursor, change its colours or answer for the
//! user is shown instead of done.
//!
//! Invariant: what is written holds no control character but tab and line feed, and is UTF-8.

/// How shown-instead-of-done characters are set apart, where colours are on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) on: &'static str,
    pub(crate) off: &'static str,
}

/// Appends `octets` to `line` in a harmless form.
pub(crate) fn push_harmless(octets: &[u8], marks: Marks, line: &mut Vec<u8>) {
    // A carriage return at the very end is the better half of a DOS line end, not an attack.
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    for chunk in octets.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push_char(character, marks, line));
        for octet in chunk.invalid() {
            push_marked(&format!("\\x{octet:02x}"), marks, line);
        }
    }
}

/// A text of one line in a harmless form.
pub(crate) fn text(text: &str) -> String {
    let mut line = Vec::new();
    push_harmless(text.as_bytes(), Marks { on: "", off: "" }, &mut line);
    String::from_utf8_lossy(&line).replace(['\t', '\n'], " ")
}

fn push_char(character: char, marks: Marks, line: &mut Vec<u8>) {
    match character {
        '\t' | '\n' => line.push(character as u8),
        '\0'..='\x1f' => push_marked(&format!("^{}", char::from(character as u8 ^ 0x40)), marks, line),
        '\x7f' => push_marked("^?", marks, line),
        '\u{80}'..='\u{9f}' => push_marked(&format!("\\u{{{:x}}}", u32::from(character)), marks, line),
        _ if reorders(character) => push_marked(&format!("\\u{{{:x}}}", u32::from(character)), marks, line),
        _ => line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Characters without a shape that make a terminal show others in another order, or break its lines.
fn reorders(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_marked(shown: &str, marks: Marks, line: &mut Vec<u8>) {
    for part in [marks.on, shown, marks.off] {
        line.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(octets: &[u8], shown: &str) {
        let mut line = Vec::new();
        push_harmless(octets, Marks { on: "", off: "" }, &mut line);
        assert_eq!(String::from_utf8(line).expect("always UTF-8"), shown);
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        check("plain, tab\t, ünïcödé, 漢字, 🐇".as_bytes(), "plain, tab\t, ünïcödé, 漢字, 🐇");
        check(b"", "");
        check(b"two\nlines", "two\nlines");
    }

    #[test]
    fn controls_are_shown() {
        check(b"\x1b[31mred\x1b[0m", "^[[31mred^[[0m");
        check(b"nul\0 bell\x07 del\x7f", "nul^@ bell^G del^?");
        check("\u{9b}31m".as_bytes(), "\\u{9b}31m");
        check("abc\u{202e}cba".as_bytes(), "abc\\u{202e}cba");
    }

    #[test]
    fn what_is_not_utf8_is_shown_octet_by_octet() {
        check(b"a\xff\xfeb", "a\\xff\\xfeb");
        check(b"\xe2\x82", "\\xe2\\x82");
    }

    #[test]
    fn a_carriage_return_counts_only_inside_the_line() {
        check(b"dos\r", "dos");
        check(b"over\rwritten", "over^Mwritten");
        check(b"\r\r", "^M");
    }

    #[test]
    fn marks_stand_round_what_is_shown() {
        let mut line = Vec::new();
        push_harmless(b"a\x01b", Marks { on: "<", off: ">" }, &mut line);
        assert_eq!(line, b"a<^A>b");
    }
}
