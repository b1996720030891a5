//! The system's allocator, and a count of what goes through it.
//!
//! Counting is off unless it was switched on, so that what is timed pays for one load and no more. What is freed
//! while counting is on counts as well if it was allocated before: differences are exact, totals are not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static IS_ON: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// What went through the allocator while counting was on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    /// Bytes allocated and not freed, as asked for.
    pub(crate) live: i64,
    /// How often memory was asked for, or grown.
    pub(crate) allocations: u64,
}

/// Counts from now on, or no more.
pub(crate) fn switch(on: bool) {
    IS_ON.store(on, Relaxed);
}

pub(crate) fn count() -> Count {
    Count {
        live: LIVE.load(Relaxed),
        allocations: ALLOCATIONS.load(Relaxed),
    }
}

struct Counting;

impl Counting {
    fn note(bytes: i64, allocations: u64) {
        if IS_ON.load(Relaxed) {
            LIVE.fetch_add(bytes, Relaxed);
            ALLOCATIONS.fetch_add(allocations, Relaxed);
        }
    }
}

/// A size as a difference; allocations are never larger than `isize::MAX`.
fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[expect(
    unsafe_code,
    reason = "an allocator cannot be written without; it passes on what it gets"
)]
// SAFETY: every method hands its arguments to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(signed(layout.size()), 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(signed(layout.size()), 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::note(-signed(layout.size()), 0);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(signed(size) - signed(layout.size()), 1);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
