//! The lines between their reading and their end, in order, within bounds.
//!
//! Generic over what a sent line leaves behind to wait for. Invariant: a line is either waiting or in
//! flight, lines in flight come before waiting ones, and both are in the order of their numbers.

use std::collections::VecDeque;

use super::lines::Line;

/// How many lines, and how many octets of them, may be on their way at once. One line more than the
/// octets allow can be there, since a line comes whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) lines: usize,
    pub(crate) octets: usize,
}

/// One line with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) line: Line,
    /// It was in flight on a connection that is gone.
    pub(crate) sent_before: bool,
}

#[derive(Debug)]
pub(crate) struct Outbox<F> {
    waiting: VecDeque<Entry>,
    in_flight: VecDeque<(Entry, F)>,
    bounds: Bounds,
    octets: usize,
    /// So many lines more are sent one at a time, to find the one that the broker closes the channel at.
    singly: usize,
}

impl<F> Outbox<F> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { waiting: VecDeque::new(), in_flight: VecDeque::new(), bounds, octets: 0, singly: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something waits and nothing is in flight.
    pub(crate) fn has_only_waiting(&self) -> bool {
        self.in_flight.is_empty() && !self.waiting.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.bounds.lines && self.octets < self.bounds.octets
    }

    pub(crate) fn push(&mut self, number: u64, line: Line) {
        self.octets += line.body.len();
        self.waiting.push_back(Entry { number, line, sent_before: false });
    }

    /// The next line to send, which the caller then reports with `sent`.
    pub(crate) fn next_to_send(&mut self) -> Option<Entry> {
        if self.singly > 0 && !self.in_flight.is_empty() {
            return None;
        }
        self.waiting.pop_front()
    }

    pub(crate) fn sent(&mut self, entry: Entry, flight: F) {
        self.in_flight.push_back((entry, flight));
    }

    /// What the oldest line in flight waits for.
    pub(crate) fn head(&mut self) -> Option<&mut F> {
        self.in_flight.front_mut().map(|(_, flight)| flight)
    }

    /// The oldest line in flight has met its end.
    pub(crate) fn settle_head(&mut self) {
        if let Some((entry, _)) = self.in_flight.pop_front() {
            self.forget(&entry);
        }
    }

    /// The oldest line in flight is to be sent once more, as if it had never been.
    pub(crate) fn hold_head(&mut self) {
        if let Some((entry, _)) = self.in_flight.pop_front() {
            self.waiting.push_front(entry);
        }
    }

    /// The connection is gone: lines that `settled` knows the end of are done, the others wait again.
    /// Returns how many were in flight without an end.
    pub(crate) fn take_back(&mut self, mut settled: impl FnMut(&mut F) -> bool) -> usize {
        let mut back = Vec::new();
        for (mut entry, mut flight) in std::mem::take(&mut self.in_flight) {
            if settled(&mut flight) {
                self.forget(&entry);
            } else {
                entry.sent_before = true;
                back.push(entry);
            }
        }
        let count = back.len();
        back.into_iter().rev().for_each(|entry| self.waiting.push_front(entry));
        count
    }

    /// Ends the sending of lines one at a time.
    pub(crate) fn send_together(&mut self) {
        self.singly = 0;
    }

    /// One of the next `lines` lines is refused by the broker, which does not say which one.
    pub(crate) fn send_singly(&mut self, lines: usize) {
        self.singly = lines;
    }

    /// Takes out the line that would be sent next, which the broker is known to refuse.
    pub(crate) fn refuse_next(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.forget(&entry);
        Some(entry)
    }

    /// The numbers of the waiting lines that have been in flight before.
    pub(crate) fn to_send_again(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().filter(|entry| entry.sent_before).map(|entry| entry.number)
    }

    fn forget(&mut self, entry: &Entry) {
        self.octets -= entry.line.body.len();
        self.singly = self.singly.saturating_sub(1);
    }
}

/// Numbers in order as people write them: `1-3, 7`.
pub(crate) fn ranges(numbers: impl Iterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn outbox(lines: &[&str]) -> Outbox<bool> {
        let mut outbox = Outbox::new(Bounds { lines: 4, octets: 10 });
        for (number, text) in (1..).zip(lines) {
            outbox.push(number, Line { body: Arc::from(text.as_bytes()), terminated: true });
        }
        outbox
    }

    fn send_all(outbox: &mut Outbox<bool>, settled: bool) -> Vec<u64> {
        let mut numbers = Vec::new();
        while let Some(entry) = outbox.next_to_send() {
            numbers.push(entry.number);
            outbox.sent(entry, settled);
        }
        numbers
    }

    #[test]
    fn there_is_room_up_to_either_bound() {
        assert!(outbox(&["a", "b", "c"]).has_room());
        assert!(!outbox(&["a", "b", "c", "d"]).has_room());
        assert!(outbox(&["123456789"]).has_room());
        assert!(!outbox(&["1234567890"]).has_room());
    }

    #[test]
    fn room_comes_back_with_each_end() {
        let mut outbox = outbox(&["1234567890", "x"]);
        send_all(&mut outbox, false);
        outbox.settle_head();
        assert!(outbox.has_room());
        outbox.settle_head();
        assert!(outbox.is_empty());
        assert_eq!(outbox.octets, 0);
    }

    #[test]
    fn what_has_no_end_is_sent_again_in_order_and_before_what_is_new() {
        let mut outbox = outbox(&["a", "b", "c"]);
        for settled in [false, true, false] {
            let entry = outbox.next_to_send().expect("three");
            outbox.sent(entry, settled);
        }
        outbox.push(4, Line { body: Arc::from(&b"d"[..]), terminated: true });
        assert_eq!(outbox.take_back(|settled| *settled), 2);
        assert_eq!(outbox.to_send_again().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(send_all(&mut outbox, false), [1, 3, 4]);
    }

    #[test]
    fn singly_means_one_in_flight_until_so_many_have_met_their_end() {
        let mut outbox = outbox(&["a", "b", "c", "d"]);
        outbox.send_singly(2);
        assert_eq!(send_all(&mut outbox, false), [1]);
        outbox.settle_head();
        assert_eq!(send_all(&mut outbox, false), [2]);
        outbox.settle_head();
        assert_eq!(send_all(&mut outbox, false), [3, 4]);
    }

    #[test]
    fn a_refused_line_makes_way() {
        let mut outbox = outbox(&["a", "b"]);
        outbox.send_singly(1);
        assert_eq!(send_all(&mut outbox, false), [1]);
        assert_eq!(outbox.take_back(|_| false), 1);
        assert_eq!(outbox.refuse_next().map(|entry| entry.number), Some(1));
        assert_eq!(send_all(&mut outbox, false), [2]);
    }

    #[test]
    fn ranges_are_written_short() {
        assert_eq!(ranges([1, 2, 3, 7, 9, 10].into_iter()), "1-3, 7, 9-10");
        assert_eq!(ranges([].into_iter()), "");
    }
}
