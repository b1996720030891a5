//! Who takes part: one file each.

pub(crate) mod echo;
pub(crate) mod farref;
pub(crate) mod local;
