//! A panic in a method fails that one call.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use farref_boxing::{Error, ErrorKind};

/// Runs user code; a panic becomes an error.
pub(crate) fn guard<R>(run: impl FnOnce() -> R) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| error(&*panic))
}

/// The error that a panic becomes, with its message if it has one.
pub(crate) fn error(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::new(
        ErrorKind::Panicked,
        text.unwrap_or_else(|| "the method panicked without a message".to_owned()),
    )
}
