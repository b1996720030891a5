//! Names that may have been meant.

/// How many are suggested.
const SHOWN: usize = 3;
/// Longest name that is compared and shown, in characters: the peer may send any.
const LONGEST: usize = 64;

/// `: did you mean `a` or `b`?`, or nothing if no known name is near.
pub(crate) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let name = cut(name);
    let mut near: Vec<(usize, &str)> = known
        .map(|known| (distance(&name, known), known))
        .filter(|(distance, known)| *distance <= known.chars().count().max(3) / 3)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(SHOWN);
    let names: Vec<String> = near.into_iter().map(|(_, name)| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(": did you mean {}?", names.join(" or ")),
    }
}

/// The beginning of a name that somebody else made up.
pub(crate) fn cut(name: &str) -> String {
    let shown = name.chars().take(LONGEST);
    shown.filter(|character| !character.is_control()).collect()
}

/// How many characters have to be added, taken out, changed, or swapped with the next, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> {
        let letters = text.chars().flat_map(char::to_lowercase);
        letters.take(LONGEST).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
    // Row i holds the distances of the first i characters of `a` to each beginning of `b`.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i.saturating_add(1)];
        for (j, to) in b.iter().enumerate() {
            let changed = at(&last, j).saturating_add(usize::from(from != to));
            let removed = at(&last, j.saturating_add(1)).saturating_add(1);
            let added = at(&row, j).saturating_add(1);
            let mut best = changed.min(removed).min(added);
            if let (Some(earlier_from), Some(earlier_to)) = (i.checked_sub(1), j.checked_sub(1))
                && a.get(earlier_from) == Some(to)
                && b.get(earlier_to) == Some(from)
            {
                best = best.min(at(&before, earlier_to).saturating_add(1));
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_others_are_not() {
        let known = ["voltage", "current", "record", "reset"];
        let hint = |name| hint(name, known.into_iter());
        assert_eq!(hint("voltaeg"), ": did you mean `voltage`?");
        assert_eq!(hint("Voltage"), ": did you mean `voltage`?");
        assert_eq!(hint("resetd"), ": did you mean `reset`?");
        assert_eq!(hint("temperature"), "");
        assert_eq!(hint(&"x".repeat(1 << 20)), "");
    }

    #[test]
    fn distances_count_what_has_to_change() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ABC", "abc"), 0);
        assert_eq!(distance("titel", "title"), 1);
    }

    #[test]
    fn what_is_shown_is_short_and_has_no_control_characters() {
        assert_eq!(cut("a\u{1b}[2Jb"), "a[2Jb");
        assert_eq!(cut(&"é".repeat(1000)).chars().count(), LONGEST);
    }
}
