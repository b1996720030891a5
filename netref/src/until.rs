//! One way to wait for a change that somebody tells of.

use tokio::sync::Notify;

/// Waits until `look` finds something, looking again whenever `changed` is notified.
///
/// # Cancel safety
///
/// Safe: it only looks.
pub(crate) async fn until<R>(changed: &Notify, mut look: impl FnMut() -> Option<R>) -> R {
    loop {
        let mut notified = std::pin::pin!(changed.notified());
        // Registered before looking: a change after the look is not missed.
        notified.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}
