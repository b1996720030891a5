//! What was most likely meant by a text that is no address.
//!
//! Applies the cures that the grammar names until the text parses, so that the address an error
//! proposes is always one.

use super::error::AddressProblem as Problem;
use super::parse::{Fault, Fix, Part, address, is_own};

/// A text without a colon.
pub(super) fn without_scheme(head: Part<'_>) -> Fault {
    let text = head.text;
    if nearest(text, &SCHEMES.map(|(scheme, _)| scheme)).is_some() {
        return Fault {
            at: 0,
            ..head.append(Problem::MissingScheme, ":")
        };
    }
    let is_path = text.starts_with(['.', '~', '@']) || text.contains('/');
    head.prepend(Problem::MissingScheme, if is_path { "unix:" } else { "tcp://" })
}

/// A scheme that no medium has.
pub(super) fn unknown_scheme(scheme: Part<'_>, rest: Part<'_>) -> Fault {
    let lower = scheme.text.to_ascii_lowercase();
    if is_own(&lower) {
        return scheme.replace(Problem::UnknownScheme, lower);
    }
    let is_port = !rest.text.is_empty() && rest.text.bytes().all(|byte| byte.is_ascii_digit());
    if lower == "tls" {
        return scheme.replace(Problem::UnknownScheme, "ssl");
    }
    if is_port || scheme.text.contains(['.', '[']) {
        return scheme.prepend(Problem::UnknownScheme, "tcp://");
    }
    match nearest(&lower, &SCHEMES.map(|(scheme, _)| scheme)) {
        Some(known) => scheme.replace(Problem::UnknownScheme, known),
        None => Fault {
            at: scheme.at,
            problem: Problem::UnknownScheme,
            fix: None,
        },
    }
}

/// Applies cures until the text is an address; where that does not come to an end, what is left of
/// the options, or an example of the scheme.
pub(super) fn mended(text: &str, mut fix: Option<Fix>) -> String {
    let mut attempt = text.to_owned();
    for _ in 0..ROUNDS {
        let Some((range, instead)) = fix
            .take()
            .filter(|(range, _)| attempt.get(range.clone()).is_some())
        else {
            break;
        };
        attempt.replace_range(range, &instead);
        match address(&attempt) {
            Ok(_) => return attempt,
            Err(fault) => fix = fault.fix,
        }
    }
    let head = Part { text, at: 0 }.split('#').0.split('?').0;
    if address(head.text).is_ok() {
        return head.text.to_owned();
    }
    let front = head.split(':').0;
    let scheme = front.split_last('+').1.unwrap_or(front);
    let known = SCHEMES.into_iter().find(|(known, _)| *known == scheme.text);
    known.map_or(EXAMPLE, |(_, example)| example).to_owned()
}

/// The text with `%25` for each `%` that escapes nothing.
pub(super) fn mended_escapes(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut mended = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        mended.push_str(if digits.is_some_and(|digits| digits != "00") {
            "%"
        } else {
            "%25"
        });
        mended.push_str(piece);
    }
    mended
}

/// The one of `known` that `text` was most likely meant to be, if it is near enough.
pub(super) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    if text.len() > 32 {
        return None;
    }
    let near = known.iter().map(|word| (distance(text, word), *word)).min()?;
    (near.0 <= near.1.len().div_ceil(3)).then_some(near.1)
}

/// How many letters to add, drop, change or swap with the next to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let (mut before, mut last): (Vec<usize>, Vec<usize>) = (Vec::new(), (0..=to.len()).collect());
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&last, column) + usize::from(letter != *other);
            let mut best = changed
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let beside = column.checked_sub(1);
            if let Some(beside) =
                beside.filter(|beside| to.get(*beside) == Some(&letter) && previous == Some(*other))
            {
                best = best.min(at(&before, beside) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

/// Cures applied before giving up: more than any text has that a person would recognise.
const ROUNDS: usize = 16;

/// What is proposed when nothing can be made out.
pub(super) const EXAMPLE: &str = "tcp://localhost:7000";

/// The schemes of this crate, the word that stands for one, and an address of each.
const SCHEMES: [(&str, &str); 10] = [
    ("tcp", EXAMPLE),
    ("rpyc", "rpyc://localhost:18812"),
    ("ssl", "ssl://localhost:7000"),
    ("quic", "quic://localhost:7000"),
    ("unix", "unix:/tmp/name.sock"),
    ("serial", "serial:/dev/ttyUSB0"),
    ("stdio", "stdio:"),
    ("exec", "exec:/usr/bin/program"),
    ("ssh", "ssh://localhost"),
    ("mem", "mem:name"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_an_address_of_its_scheme() {
        for (scheme, example) in SCHEMES {
            assert!(
                address(example).is_ok_and(|address| address.to_string().starts_with(scheme)),
                "{example}"
            );
        }
    }

    #[test]
    fn a_slip_of_the_fingers_is_one_step() {
        for slip in ["tpc", "cp", "tcpp", "tcq"] {
            assert_eq!(distance(slip, "tcp"), 1, "{slip}");
        }
        assert_eq!(distance("", "tcp"), 3);
        assert_eq!(distance("tcp", "tcp"), 0);
        assert_eq!(distance("serail", "serial"), 1);
    }

    #[test]
    fn what_is_far_from_everything_is_near_to_nothing() {
        assert_eq!(nearest("buffers", &["buffer", "mux"]), Some("buffer"));
        assert_eq!(nearest("colour", &["buffer", "mux"]), None);
        assert_eq!(nearest(&"b".repeat(33), &["buffer"]), None);
        assert_eq!(nearest("", &[]), None);
    }
}
