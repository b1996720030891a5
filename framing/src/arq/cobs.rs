//! Consistent overhead byte stuffing: frames without zeros, so that a zero ends each (Cheshire and Baker, 1999).

/// Appends `bytes`, stuffed, to `out`. One byte more in 254, and no zero.
pub(super) fn stuff(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    loop {
        let run = rest.iter().take(254).position(|byte| *byte == 0);
        let len = run.unwrap_or(rest.len().min(254));
        let (piece, behind) = rest.split_at(len);
        // A run is at most 254 long: its code fits.
        out.push(u8::try_from(len.saturating_add(1)).unwrap_or(u8::MAX));
        out.extend_from_slice(piece);
        match (run, behind) {
            (Some(_), [_, behind @ ..]) => rest = behind,
            (_, []) => return,
            (_, behind) => rest = behind,
        }
    }
}

/// The bytes that were stuffed, or `None` if these are none. A zero in them is none either.
pub(super) fn unstuff(stuffed: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(stuffed.len());
    let mut rest = stuffed;
    while let [code, behind @ ..] = rest {
        let len = usize::from(*code).checked_sub(1)?;
        let (piece, behind) = behind.split_at_checked(len)?;
        out.extend_from_slice(piece);
        rest = behind;
        if len < 254 && !rest.is_empty() {
            out.push(0);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stuffed(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        stuff(bytes, &mut out);
        out
    }

    #[test]
    fn the_bytes_are_those_of_the_paper() {
        assert_eq!(stuffed(&[]), [1]);
        assert_eq!(stuffed(&[0]), [1, 1]);
        assert_eq!(stuffed(&[0x11, 0x22, 0, 0x33]), [3, 0x11, 0x22, 2, 0x33]);
        assert_eq!(stuffed(&[0x11, 0, 0, 0]), [2, 0x11, 1, 1, 1]);
        let long: Vec<u8> = (1..=254).collect();
        assert_eq!(stuffed(&long), [&[255], &long[..]].concat());
        let longer: Vec<u8> = (1..=255).collect();
        assert_eq!(stuffed(&longer), [&[255], &longer[..254], &[2, 255]].concat());
    }

    proptest! {
        #[test]
        fn what_is_stuffed_comes_back_and_has_no_zero(bytes in prop::collection::vec(0_u8..4, 0..700)) {
            let stuffed = stuffed(&bytes);
            prop_assert!(!stuffed.contains(&0));
            prop_assert!(stuffed.len() <= bytes.len() + 1 + bytes.len() / 254);
            prop_assert_eq!(unstuff(&stuffed), Some(bytes));
        }

        #[test]
        fn no_bytes_harm(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            if let Some(out) = unstuff(&bytes) {
                prop_assert!(out.len() <= bytes.len());
            }
        }
    }
}
