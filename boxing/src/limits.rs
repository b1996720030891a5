//! How much of a message's word is taken: the limits of decoding.

/// What one body may cost whoever decodes it.
///
/// The length of the body itself is limited where it is received; these limits bound what its bytes may unfold
/// into. Each has a default that no ordinary value meets (PROTOCOL.md § 9.9).
///
/// ```
/// use farref_boxing::DecodeLimits;
///
/// let limits = DecodeLimits { depth: 32, ..DecodeLimits::default() };
/// assert_eq!(limits.zero_sized, 1 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "written out with `..DecodeLimits::default()`"
)]
pub struct DecodeLimits {
    /// How many options, sequences, maps and enum values may sit inside each other.
    ///
    /// Default 128. Structs and tuples do not count: a type that contains itself does so through one of the others.
    /// A stack overflow cannot be caught; 128 levels of a large type take less than half of a stack of 2 MiB, also
    /// without optimisation.
    pub depth: u32,

    /// How many elements of sequences and maps may take no bytes, all in all.
    ///
    /// Default 2^20. Elements that take bytes are bounded by the body.
    pub zero_sized: u64,

    /// How many bytes the elements of sequences and maps may take in memory, beyond 32 times the body's length.
    ///
    /// Default 16 MiB. It stops a small body from unfolding into many large values.
    pub memory: u64,
}

impl DecodeLimits {
    /// How many bytes in memory each byte of the body may always unfold into.
    pub(crate) const MEMORY_PER_BYTE: u64 = 32;
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            depth: 128,
            zero_sized: 1 << 20,
            memory: 16 << 20,
        }
    }
}
