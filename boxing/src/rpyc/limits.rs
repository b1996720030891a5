//! How much of a payload's word is taken.

/// What one payload may cost whoever decodes it.
///
/// Its length is limited where frames are read; these limits bound what its bytes may unfold into. RPyC itself has
/// none, but for the digits, which Python limits (PROTOCOL.md § 15.4).
///
/// ```
/// use farref_boxing::rpyc::BrineLimits;
///
/// let limits = BrineLimits { depth: 32, ..BrineLimits::default() };
/// assert_eq!(limits.digits, 4300);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "written out with `..BrineLimits::default()`"
)]
pub struct BrineLimits {
    /// How many tuples, slices and frozensets may sit inside each other.
    ///
    /// Default 128, up to 256: more is taken as 256, which no stack of 2 MiB minds. Python 3.11 takes 200 levels and not
    /// 450; those of messages and boxes count.
    pub depth: u32,

    /// How many values there may be, all in all, tuples and their items alike.
    ///
    /// Default 2^21, which take 96 MiB in memory as a tree.
    pub items: usize,

    /// How many digits an integer may have.
    ///
    /// Default 4300, which is Python's own limit (`sys.int_info.default_max_str_digits`).
    pub digits: usize,
}

impl BrineLimits {
    /// The greatest [`depth`](Self::depth).
    pub(super) const MAX_DEPTH: u32 = 256;
}

impl Default for BrineLimits {
    fn default() -> Self {
        Self {
            depth: 128,
            items: 1 << 21,
            digits: 4300,
        }
    }
}
