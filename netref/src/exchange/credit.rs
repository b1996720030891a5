//! What may be under way at once, in one direction (PROTOCOL.md § 8.2).

use crate::message::MAX_ERROR;

/// Calls under way and their arguments, counted.
///
/// Calls are admitted up to a number and to an amount of arguments, and beyond both if no other call of the same
/// depth is under way. So a call that is nested deeper never waits for one that waits for it: at each depth one
/// can always go on, and whatever it waits for is deeper still.
#[derive(Debug, Default)]
pub(super) struct Credit {
    calls: u64,
    bytes: u64,
    /// Calls under way of each depth.
    by_depth: Vec<u32>,
}

/// What each reference among the arguments counts for, in bytes (PROTOCOL.md § 8.1).
const REFERENCE: u64 = 32;

/// What a broken one counts for: its error may be as long.
const BROKEN: u64 = MAX_ERROR as u64;

/// What the arguments of a call count for, with the name in its operation and without the references.
#[inline]
pub(super) const fn weight(body: u64, name: &str) -> u64 {
    body.saturating_add(name.len() as u64)
}

/// What a reference among them counts for.
pub(super) const fn weight_of_reference(is_broken: bool) -> u64 {
    if is_broken { BROKEN } else { REFERENCE }
}

/// The bounds, as the receiver of the calls has declared them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub(super) calls: u64,
    pub(super) bytes: u64,
}

impl Credit {
    /// Whether a call may be made.
    #[inline]
    pub(super) fn admits(&self, depth: u16, bytes: u64, allowance: Allowance) -> bool {
        self.fits(bytes, allowance)
            || self
                .by_depth
                .get(usize::from(depth))
                .is_none_or(|calls| *calls == 0)
    }

    /// Whether a call may be made even if others of its depth are under way.
    #[inline]
    pub(super) fn fits(&self, bytes: u64, allowance: Allowance) -> bool {
        self.calls < allowance.calls && self.bytes.saturating_add(bytes) <= allowance.bytes
    }

    /// Calls under way.
    pub(super) fn calls(&self) -> usize {
        usize::try_from(self.calls).unwrap_or(usize::MAX)
    }

    /// Bytes of the arguments under way.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        while self.by_depth.pop_if(|calls| *calls == 0).is_some() {}
        self.by_depth.shrink_to_fit();
    }

    #[inline]
    pub(super) fn take(&mut self, depth: u16, bytes: u64) {
        self.calls = self.calls.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let depth = usize::from(depth);
        if self.by_depth.len() <= depth {
            self.reach(depth);
        }
        if let Some(calls) = self.by_depth.get_mut(depth) {
            *calls = calls.saturating_add(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn reach(&mut self, depth: usize) {
        self.by_depth.resize(depth.saturating_add(1), 0);
    }

    #[inline]
    pub(super) fn give(&mut self, depth: u16, bytes: u64) {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(calls) = self.by_depth.get_mut(usize::from(depth)) {
            *calls = calls.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Allowance = Allowance { calls: 1, bytes: 10 };

    #[test]
    fn one_call_of_each_depth_is_always_admitted() {
        let mut credit = Credit::default();
        for depth in 0..100 {
            assert!(credit.admits(depth, 1000, ONE), "alone at depth {depth}");
            credit.take(depth, 1000);
            assert!(!credit.admits(depth, 0, ONE), "no longer alone at depth {depth}");
        }
        credit.give(40, 1000);
        assert!(credit.admits(40, 0, ONE));
    }

    #[test]
    fn calls_and_bytes_both_count() {
        let mut credit = Credit::default();
        let allowance = Allowance { calls: 2, bytes: 10 };
        credit.take(0, 6);
        assert!(credit.admits(0, 4, allowance) && !credit.admits(0, 5, allowance));
        credit.take(0, 4);
        assert!(!credit.admits(0, 0, allowance));
    }
}
