//! Lines to send: hard ones, and numbered ones whose way can be followed.

use std::collections::BTreeSet;

/// Every way in which a line can be hard to carry, without a line feed at the end.
pub(crate) fn hard(long_line_bytes: usize) -> Vec<u8> {
    let mut input = Vec::new();
    for line in
        [&b"plain"[..], b"", b"nul\0 and \x1b[31mescapes", b"\xff\xfe not UTF-8 \x80", b"dos\r", b"\r", b""]
    {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    input.extend(std::iter::repeat_n(b'x', long_line_bytes));
    input.extend_from_slice(b"\nlast, without its end");
    input
}

/// The lines `1`, `2` and so on.
pub(crate) fn numbered(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// The numbers that came, in the order they came in.
pub(crate) fn numbers(output: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(output).expect("numbers are text");
    text.lines().map(|line| line.parse().expect("a whole line with a number")).collect()
}

/// The numbers in `3-5, 8`.
pub(crate) fn ranges(text: &str) -> BTreeSet<u64> {
    let mut numbers = BTreeSet::new();
    for range in text.split(", ") {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(first.parse::<u64>().expect(range)..=last.parse::<u64>().expect(range));
    }
    numbers
}
