//! How a driver leaves: with the connection in order, or dropped in the middle.

use std::task::{Context, Poll, Waker};

use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::CloseReason;
use tokio::time::Instant;

use super::Driver;
use crate::engine::core::{Core, closed_here};
use crate::engine::state::Writer;
use crate::lock::lock;
use crate::protocol::{Event, Protocol};
use crate::remote::EngineHandles;
use crate::signal::Wishes;

/// A driver that is dropped in the middle takes the connection with it: its runtime was shut down, or it panicked.
/// Whoever waits is told, as nobody else would.
impl<P: Protocol<EngineHandles>> Drop for Driver<P> {
    fn drop(&mut self) {
        let mut kept = std::mem::take(&mut self.kept);
        let core = &self.core;
        if self.has_left || !core.role.is_held_by(self.number) {
            kept.let_go();
            return;
        }
        core.say_goodbye();
        let kind = ErrorKind::Disconnected(Certainty::Unknown);
        core.sever(Error::new(
            kind,
            "the runtime that drives the connection was shut down",
        ));
        loop {
            let event = lock(&core.state).poll_event();
            match event {
                None => break,
                Some(Event::Ready(waiter)) => waiter.wake(),
                Some(Event::Cancelled { answer, .. }) => core.give_up(answer),
                Some(Event::ShapeCame(shape)) => core.shape_came(shape),
                Some(event) => core.discard(event),
            }
        }
        // The carrier ends with it, so that the peer hears of it at once.
        drop(lock(&core.inlet).take());
        let (writer, guard) = {
            let mut state = lock(&core.state);
            state.ended = true;
            (state.baton.unblock(), state.guard.take())
        };
        drop(writer);
        drop(guard);
        core.lead.end();
        core.signal.wish(Wishes::LOOK);
        core.tell_end();
        // Dropped here and now where there is no runtime: what it holds may call, which is over by now.
        kept.let_go();
    }
}

impl<P: Protocol<EngineHandles>> Driver<P> {
    /// The connection is over: says so to whoever waits, after what was committed has been written.
    pub(super) async fn end(&self) {
        let core = &self.core;
        let deadline = Instant::now()
            .checked_add(core.config.close_timeout)
            .unwrap_or_else(Instant::now);
        let written = async {
            while let Some(mut writer) = self.take_writer().await {
                if !writer.batch.is_empty() || lock(&core.state).protocol.wants_write() {
                    core.write_here(writer);
                    // The time limit has its turn.
                    tokio::task::yield_now().await;
                    continue;
                }
                let _ = std::future::poll_fn(|context| writer.outlet.poll_close(context)).await;
                return;
            }
        };
        // Bounded: a peer that takes nothing more does not keep the carrier open.
        let _ = tokio::time::timeout_at(deadline, written).await;
        let blocked = lock(&core.state).baton.replace(None);
        drop(blocked);
        drop(lock(&core.inlet).take());
        // After both halves: a child process, a lock file.
        drop(lock(&core.state).guard.take());
        let error = lock(&core.state).over.clone();
        tracing::debug!(peer = %core.peer, reason = error.as_ref().map(tracing::field::display), "connection over");
        lock(&core.state).ended = true;
        core.lead.end();
        core.handle_last_events();
        core.tell_end();
    }

    /// The writer, once its carrier takes something and nobody else writes; `None` if it is broken.
    async fn take_writer(&self) -> Option<Box<Writer>> {
        std::future::poll_fn(|context| {
            // A caller that holds the baton gives it back at once: ask again after the others had their turn.
            let mut state = lock(&self.core.state);
            if state.write_error.is_some() || state.down.is_some() {
                return Poll::Ready(None);
            }
            let Some(mut writer) = state.baton.take_blocked() else {
                let writer = state.baton.flush();
                if writer.is_none() {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(writer);
            };
            drop(state);
            let polled = writer.outlet.poll_writable(context);
            let mut state = lock(&self.core.state);
            if polled.is_pending() {
                state.baton.give_back_blocked(writer);
                return Poll::Pending;
            }
            drop(state.baton.unblock());
            Poll::Ready(Some(writer))
        })
        .await
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Tells the peer that nobody drives this side any more, if the carrier takes that at once: else a session would
    /// wait for a process that has ended.
    fn say_goodbye(&self) {
        let writer = {
            let mut state = lock(&self.state);
            if state.goodbye.is_some() || state.over.is_some() || state.down.is_some() {
                return;
            }
            let reason = CloseReason::new(CloseReason::FAILED, "the runtime that drives it was shut down");
            state.protocol.close(reason);
            let writer = state.baton.flush();
            writer.map(|mut writer| {
                state.fill(&mut writer);
                writer
            })
        };
        if let Some(mut writer) = writer {
            // Nobody is left to be told of a failure.
            let _ = writer.outlet.write(&mut writer.batch);
            if writer.outlet.is_buffering() {
                let _ = writer.outlet.poll_flush(&mut Context::from_waker(Waker::noop()));
            }
        }
    }

    /// Closes in order: what was committed is written, then the peer is told.
    pub(crate) fn close(&self) {
        let (reason, error) = closed_here();
        {
            let mut state = lock(&self.state);
            if state.goodbye.is_some() || state.over.is_some() {
                return;
            }
            state.goodbye = Some(error.clone());
            state.protocol.close(reason);
            if state.down.is_some() {
                // There is nobody to tell.
                state.protocol.sever(&error);
                state.over = Some(error);
            }
        }
        self.signal.wish(Wishes {
            flush: true,
            look: true,
            ..Wishes::NONE
        });
    }
}
