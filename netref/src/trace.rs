//! Traces: one number for everything that a request sets off, in whichever process.
//!
//! A [`TraceContext`] is that of the W3C recommendation *Trace Context*. It travels with every call that is made inside
//! [`TraceContext::scope`] or [`TraceContext::within`], and with every call that a method makes which was called with one:
//! so it gets to wherever a request leads. Each call that is served with one runs in a span of the crate `tracing`,
//! `call{method, peer, trace_id, span_id, parent_id}`, on the level *info*; where a subscriber wants the level *debug* of the
//! target `farref::call`, every other call that is served has a span as well.
//!
//! ```
//! # extern crate farref_netref as farref;
//! use farref::trace::TraceContext;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let context: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?;
//! let seen = context.within(async { TraceContext::current() }).await;
//! assert_eq!(seen, Some(context));
//! assert_eq!(TraceContext::current(), None);
//! # Ok(())
//! # }
//! ```

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::str::FromStr;
use std::task::Poll;

use farref_boxing::{Error, ErrorKind};
use tracing::{Level, Span};

use crate::chain;
use crate::interface::Method;
use crate::peer::Peer;

/// The place of one call in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// The version of the form in which it is written down.
const VERSION: &str = "00";

impl TraceContext {
    /// Begins a trace that is to be recorded, with numbers by chance.
    #[must_use]
    pub fn new() -> Self {
        Self {
            trace_id: chain::fresh().id().max(1),
            span_id: span_id(),
            flags: 1,
        }
    }

    /// That of the method that runs here, or of the scope.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Cell::get).ok().flatten()
    }

    /// The same trace, as something that this one sets off sees it.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span_id: span_id(),
            ..self
        }
    }

    /// The number of the whole trace; not 0.
    #[must_use]
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The number of this part of it; not 0.
    #[must_use]
    pub const fn span_id(self) -> u64 {
        self.span_id
    }

    /// Whether whoever began it records it.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 != 0
    }

    /// Runs `run` as a part of it: the calls that it makes on this thread belong to the trace.
    pub fn scope<R>(self, run: impl FnOnce() -> R) -> R {
        let _entered = enter(Some(self));
        run()
    }

    /// The same for a future, wherever it is polled. Tasks that it spawns are not in it.
    pub async fn within<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| -> Poll<F::Output> {
            let _entered = enter(Some(self));
            future.as_mut().poll(context)
        })
        .await
    }

    /// As it is on the wire: the trace, the part, the flags.
    pub(crate) fn to_wire(self) -> [u8; 25] {
        let mut bytes = [0; 25];
        let parts = self
            .trace_id
            .to_be_bytes()
            .into_iter()
            .chain(self.span_id.to_be_bytes());
        for (into, byte) in bytes.iter_mut().zip(parts.chain([self.flags])) {
            *into = byte;
        }
        bytes
    }

    /// What came over the wire; nothing if that is none.
    pub(crate) fn of_wire(bytes: &[u8; 25]) -> Option<Self> {
        let (trace, rest) = bytes.split_first_chunk()?;
        let (span, flags) = rest.split_first_chunk()?;
        let (trace_id, span_id) = (u128::from_be_bytes(*trace), u64::from_be_bytes(*span));
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            flags: flags.first().copied()?,
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half of what is random is random")]
fn span_id() -> u64 {
    (chain::fresh().id() as u64).max(1)
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// As the header `traceparent` has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{VERSION}-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

impl FromStr for TraceContext {
    type Err = Error;

    /// Reads a header `traceparent`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let mut parts = text.split('-');
            let mut part = |digits: usize| {
                let part = parts.next()?;
                let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                (part.len() == digits && is_hex).then_some(part)
            };
            let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
            let context = Self {
                trace_id: u128::from_str_radix(trace, 16).ok()?,
                span_id: u64::from_str_radix(span, 16).ok()?,
                flags: u8::from_str_radix(flags, 16).ok()?,
            };
            // A later version may have more to it; `ff` is none.
            let is_whole = parts.next().is_none() || version != VERSION;
            (is_whole && version != "ff" && context.trace_id != 0 && context.span_id != 0).then_some(context)
        };
        parse().ok_or_else(|| {
            let text = "that is no trace context: one is `00-TRACE-SPAN-FLAGS`, with 32, 16 and 2 hexadecimal digits";
            Error::new(ErrorKind::Misuse, text)
        })
    }
}

/// The current one, as it is on the wire.
#[inline]
pub(crate) fn on_wire() -> Option<Box<[u8; 25]>> {
    TraceContext::current().map(|context| Box::new(context.to_wire()))
}

/// Makes `context` the current one for as long as what comes back is kept.
pub(crate) fn enter(context: Option<TraceContext>) -> Entered {
    Entered(
        CURRENT
            .try_with(|current| current.replace(context))
            .ok()
            .flatten(),
    )
}

pub(crate) struct Entered(Option<TraceContext>);

impl Drop for Entered {
    fn drop(&mut self) {
        let _ = CURRENT.try_with(|current| current.set(self.0));
    }
}

/// A call that is served as a part of a trace, or that somebody wants to see.
#[derive(Clone)]
pub(crate) struct Traced {
    /// What the calls see that it makes.
    pub(crate) context: Option<TraceContext>,
    parent: Option<u64>,
    pub(crate) span: Span,
}

impl Traced {
    /// A call with what came with it, if it is to be told of.
    pub(crate) fn of(wire: Option<&[u8; 25]>) -> Option<Box<Self>> {
        let parent = wire.and_then(TraceContext::of_wire);
        if parent.is_none() && !tracing::enabled!(target: "farref::call", Level::DEBUG) {
            return None;
        }
        Some(Box::new(Self {
            context: parent.map(TraceContext::child),
            parent: parent.map(TraceContext::span_id),
            span: Span::none(),
        }))
    }

    /// The method is known.
    pub(crate) fn begin(&mut self, method: &Method, peer: &Peer) {
        let name = method.name;
        self.span = match (self.context, self.parent) {
            (Some(context), Some(parent)) => tracing::info_span!(
                target: "farref::call",
                "call",
                method = name,
                %peer,
                trace_id = %format_args!("{:032x}", context.trace_id),
                span_id = %format_args!("{:016x}", context.span_id),
                parent_id = %format_args!("{parent:016x}"),
            ),
            _ => tracing::debug_span!(target: "farref::call", "call", method = name, %peer),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for context in [TraceContext::new(), TraceContext::new().child()] {
            assert_eq!(context.to_string().parse::<TraceContext>().unwrap(), context);
            assert_eq!(TraceContext::of_wire(&context.to_wire()), Some(context));
        }
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!(context.to_string(), text);
        assert!(context.is_sampled() && context.to_wire().starts_with(&[0x0a, 0xf7, 0x65]));
        assert_eq!(
            (context.child().trace_id(), context.child() == context),
            (context.trace_id(), false)
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert!(text.parse::<TraceContext>().is_err(), "{text}");
        }
        assert_eq!(TraceContext::of_wire(&[0; 25]), None);
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(later.parse::<TraceContext>().is_ok(), "a later version");
    }

    #[test]
    fn a_scope_ends_where_it_does() {
        let (outer, inner) = (TraceContext::new(), TraceContext::new());
        outer.scope(|| {
            assert_eq!(inner.scope(TraceContext::current), Some(inner));
            assert_eq!(TraceContext::current(), Some(outer));
        });
        assert_eq!(TraceContext::current(), None);
    }
}
