//! What a child says on its standard error: to the log, line by line, and the last of it kept.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;

use super::life::Life;
use crate::carrier::ByteRx;
use crate::pipe::PipeRx;

/// Forwards what comes out of `pipe` until it ends.
pub(super) async fn forward(mut pipe: PipeRx, life: Arc<Life>) {
    let _ended = Ended(&life);
    let mut lines = Lines::default();
    let mut told = |line: String| {
        tracing::info!(child = life.name(), "{line}");
        life.stderr_line(line);
    };
    let mut into = BytesMut::new();
    loop {
        into.clear();
        into.reserve(AT_ONCE);
        let read = poll_fn(|cx| match pipe.poll_read(cx, &mut into) {
            // A process that left the group may hold the pipe open for ever.
            Poll::Pending => life.poll_gone(cx).map(|()| Ok(0)),
            read => read,
        });
        match read.await {
            Ok(count) if count > 0 => lines.take(&into, &mut told),
            // An error can only be that the runtime is gone.
            _ => break,
        }
    }
    lines.finish(&mut told);
}

/// Says that nothing more will come, however the task ends.
struct Ended<'a>(&'a Life);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.stderr_ended();
    }
}

/// Bytes to printable lines of bounded length.
#[derive(Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    /// Whether the rest of the line is left out.
    is_cut: bool,
}

impl Lines {
    /// Hands out every line that is complete; empty ones are left out.
    pub(crate) fn take(&mut self, mut bytes: &[u8], told: &mut impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(bytes.get(..end).unwrap_or_default());
            self.finish(told);
            bytes = bytes.get(end + 1..).unwrap_or_default();
        }
        self.keep(bytes);
    }

    /// Hands out what there is of a line that was not completed.
    pub(crate) fn finish(&mut self, told: &mut impl FnMut(String)) {
        let mut line = printable(&self.line);
        if self.is_cut {
            line.push_str("...");
        }
        self.line.clear();
        self.is_cut = false;
        if !line.is_empty() {
            told(line);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.is_cut |= bytes.len() > room;
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

/// Foreign bytes as text that can do a terminal or a log no harm.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).trim_end().chars() {
        match c {
            '\t' => text.push(' '),
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

/// The longest line that is kept whole, in bytes.
const LONGEST_LINE: usize = 4096;

/// How much is read at once.
const AT_ONCE: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for part in parts {
            lines.take(part, &mut |line| told.push(line));
        }
        lines.finish(&mut |line| told.push(line));
        told
    }

    #[test]
    fn lines_are_told_whole_however_they_come() {
        assert_eq!(
            lines(&[b"one\ntw", b"o\r\n\n", b"three"]),
            ["one", "two", "three"]
        );
        assert_eq!(lines(&[b""]), Vec::<String>::new());
    }

    #[test]
    fn a_line_that_does_not_end_costs_a_bounded_amount() {
        let long = vec![b'x'; 100_000];
        let told = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!(told[0].len(), LONGEST_LINE + 3);
        assert_eq!(told[1], "next");
    }

    #[test]
    fn nothing_unprintable_reaches_the_log() {
        assert_eq!(
            lines(&[b"\x1b[2Jgone\x07\xff\tx"]),
            ["\\u{1b}[2Jgone\\u{7}\u{fffd} x"]
        );
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(),
        ) {
            let (front, back) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(lines(&[front, back]), lines(&[&bytes]));
        }
    }
}
