//! Netrefs that were dropped, until the protocol hears of it.

use std::sync::atomic::Ordering;

use crate::role::Role;
use crate::sync::{AtomicBool, Mutex, lock};

/// Room that is kept between two looks.
const MANY: usize = 1024;

/// The number of an import, and the generation of its proxy.
pub(crate) type Release = (u64, u32);

/// What was dropped since somebody last looked.
///
/// # Invariant
///
/// While there is any, a call takes it along, or somebody is going to look, or a thread has parked the role: then its next
/// call takes it along, or the driver looks when it takes the role back.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    dropped: Mutex<Vec<Release>>,
    /// Set while there may be any: who commits a call need not take the lock to find none.
    may_have: AtomicBool,
    /// Set while somebody is going to look before long: who drops a netref need not ask for it.
    will_look: AtomicBool,
}

impl Releases {
    /// One was dropped. Whether somebody is to be [asked](Self::asks) is another question.
    pub(crate) fn push(&self, release: Release) {
        let mut dropped = lock(&self.dropped);
        dropped.push(release);
        self.may_have.store(true, Ordering::Release);
    }

    /// Whether the driver is to be told to look: it does not know, and would not by itself.
    pub(crate) fn asks(&self, role: &Role) -> bool {
        !self.are_asked_for() && !role.is_parked() && !self.will_look.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody was asked to look, and has not yet.
    pub(crate) fn are_asked_for(&self) -> bool {
        self.will_look.load(Ordering::Acquire)
    }

    /// Nobody is going to look, unless asked.
    pub(crate) fn forget(&self) {
        self.will_look.store(false, Ordering::Release);
    }

    /// Hands what there is to `give`, if there may be any. `spare` is where it is moved to: the lock is not held meanwhile.
    #[inline]
    pub(crate) fn take(&self, spare: &mut Vec<Release>, give: impl FnMut(Release)) {
        if self.may_have.load(Ordering::Acquire) {
            self.hand_over(spare, give);
        }
    }

    /// The time has come to look. Who drops one from here on asks again.
    pub(crate) fn look(&self, spare: &mut Vec<Release>, give: impl FnMut(Release)) {
        // In this order, and whatever `may_have` says, which is not ordered with it: who finds it set has dropped its
        // netref before the list is locked here.
        self.forget();
        self.hand_over(spare, give);
    }

    fn hand_over(&self, spare: &mut Vec<Release>, give: impl FnMut(Release)) {
        {
            let mut dropped = lock(&self.dropped);
            std::mem::swap(&mut *dropped, spare);
            self.may_have.store(false, Ordering::Release);
        }
        spare.drain(..).for_each(give);
        spare.shrink_to(MANY);
    }
}
