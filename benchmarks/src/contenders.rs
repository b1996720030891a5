//! Who takes part: one file each.

pub(crate) mod echo;
pub(crate) mod farref;
pub(crate) mod local;
pub(crate) mod made;
pub(crate) mod quinn;

use crate::contender::Contender;

/// In the order of the tables.
pub(crate) fn all() -> Vec<&'static dyn Contender> {
    [echo::ALL, quinn::ALL, farref::ALL, local::ALL].concat()
}
