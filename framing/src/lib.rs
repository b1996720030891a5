//! Frames, lanes and sessions: bytes to messages, and back, without IO.
//!
//! ```text
//!   submit(head, body)                         poll_event: Message, BulkDone, ...
//!         |                                          ^
//!         v                                          |
//!   lane 0: messages in order   lanes 1..: bodies and streams, by class and credit
//!         |                                          ^
//!   fragments of at most 16 KiB, lane 0 first        |   offsets: what is kept, acknowledged, resumed
//!         |                                          |
//!         v                                          |
//!   poll_transmit -> Batch                     handle_bytes <- BytesMut
//!         |                                          ^
//!         v                                          |
//!       Outlet  ============== carrier ==========  Inlet
//! ```
//!
//! A [`Link`] is a state machine: bytes, commands and the time go in; bytes to write, events and the next timeout come
//! out. [`StreamLink`] runs over one byte stream, [`NativeLink`] over a carrier with streams of its own; both share
//! lanes and session. [`open`] takes a carrier apart into an [`Inlet`] and an [`Outlet`] for whoever drives a link.
//!
//! * **Messages** come out in the order in which they went in, each once, also across the loss of a carrier if both
//!   sides keep a session.
//! * **A small message waits for at most one fragment** of a large one: bodies over a fragment leave lane 0 and only
//!   their heads keep their places there.
//! * **Everything is bounded**, by [`Limits`]: what the peer may send is declared to it, and a breach ends the link.
//!
//! Nothing here knows what a message means, opens a socket, reads a clock or draws a random number.
//!
//! Read on in [`link`], then `preface`, `frame`, `lanes` and `core`; PROTOCOL.md chapters 1 to 4 are what they
//! implement.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

#[cfg(feature = "arq")]
pub mod arq;
mod batch;
mod core;
mod error;
mod event;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod io;
mod lanes;
pub mod limits;
pub mod link;
mod native_link;
#[cfg(feature = "noise")]
pub mod noise;
mod preface;
mod pulse;
pub mod rpyc;
mod session;
mod stream_link;
pub mod varint;

pub use self::core::Core;
pub use batch::Batch;
pub use error::{Breach, LinkError, Loss, Mismatch, Misuse, SessionEnd};
pub use event::{Bulk, CloseReason, LinkEvent, LinkStats, Message, Negotiated};
pub use io::{BLOCK_MOST, Inlet, Outlet, PLACE_LEAST, Placement, READ_MOST, ReadFrom, Written, open};
pub use limits::Limits;
pub use link::{AttachConfig, Body, LaneId, Link, LinkConfig, Nanos, Role, StreamKey};
pub use native_link::NativeLink;
pub use preface::Foreign;
pub use pulse::earlier;
pub use session::{RejectCode, Rejection, ResumeRequest, SessionId, Tombstone};
pub use stream_link::StreamLink;

// Facts about a carrier, for the layers above, which do not know the carriers themselves.
pub use farref_transport::{
    Alarm, CarrierInfo, CarrierStats, Class, Descriptor, Gauge, Guard, PeerEvidence, Sparing,
};
