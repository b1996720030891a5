//! Netrefs and the exchange: the life of remote objects on both sides.
//!
//! # The life of a call
//!
//! ```text
//!  bench.call().voltage(3)         encode: arguments to bytes, netrefs to handles        encoders, boxing
//!        │ .await                  commit: handles to descriptors, one number, one lock  engine::core, exchange
//!        ▼                         write: by the caller itself if it is alone            baton, framing
//!  ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─     the wire
//!                                  read: every whole message before the first reply      engine::driver
//!  Bench::voltage(&rig, 3)         dispatch: polled in order, or run on the pool         engine::dispatch
//!        │                         answer: encode, commit, flush once per read
//!        ▼
//!  ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─
//!  Ok(4.98)                        complete: the caller is woken, decodes, goes on       call
//! ```
//!
//! Read [`Netref`] and [`Call`] first, and [`Object`] for what is done without a trait; then [`interface`] (what
//! [`#[remote]`](macro@remote) makes of a trait), then [`protocol`] (the seam to what is spoken), then `exchange`, the
//! state machine of farref's own protocol.
//!
//! Nothing here knows a socket: a connection is made over the halves that `farref-framing` gives.

mod body;
mod by_name;
mod call;
mod caller;
mod encoders;
mod hosted;
pub mod interface;
mod invocation;
// The macro names the crate by the name that its users give it.
extern crate self as farref;

mod netref;
pub mod object;
mod references;
mod relay;
mod remote;
mod result;

pub mod exchange;
pub mod guard;
pub mod message;
mod native;
mod origin;
pub mod protocol;

mod chain;
pub mod channel;
mod clock;
mod config;
mod connection;
mod context;
mod engine;
mod holdings;
mod iter;
mod lock;
pub mod mutex;
mod nowhere;
mod panics;
mod parcel;
mod peer;
pub mod place;
mod pool;
mod reconnecting;
pub mod rpyc;
pub mod runtime;
mod served;
mod shapes;
pub mod stream;
pub mod trace;

mod baton;
mod releases;
mod role;
mod signal;
mod sparse;
mod sync;
mod timer;
mod until;
mod waiter;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use farref_boxing::{Certainty, Context, Error, ErrorKind, Result, bytes};
pub use farref_boxing::{ParseValueError, Record, Value, ValueError, from_value, to_value};
pub use farref_boxing::{Shape, ShapeMismatch, Shaped};
pub use farref_macros::{Shape, remote};

pub use crate::call::{BoxFuture, Call};
pub use crate::caller::{Caller, Lender};
pub use crate::clock::now;
pub use crate::config::Config;
pub use crate::connection::{Connection, NextCarrier, Parts, Redial, Root, Stats, Status, Watch};
pub use crate::context::{CallerInfo, caller};
pub use crate::holdings::{Cycle, Holding, Holdings, Origin, Pending};
pub use crate::hosted::Exported;
pub use crate::interface::{Extends, RemoteTrait, Wrap};
pub use crate::invocation::{Dispatched, Invocation};
pub use crate::iter::RemoteIter;
pub use crate::native::Native;
pub use crate::netref::{Netref, Proxy, WeakNetref};
pub use crate::object::Object;
pub use crate::peer::Peer;
pub use crate::reconnecting::{Reconnecting, Restore};
pub use crate::remote::{Blocked, Conduit, EngineHandles, Import, Remote, TellShape};
pub use crate::result::MethodResult;
pub use crate::stream::{ByteStream, Stream};
pub use crate::waiter::{Callback, ThreadWaiter, Waiter};
