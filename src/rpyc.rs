//! Python, both ways: its objects used from Rust, and those of Rust from Python, over RPyC.
//!
//! RPyC is the protocol of Python's remote objects. Peers need RPyC alone, unchanged, of version 4.1 to 6.0; Farref speaks both
//! dialects, 4.1 to 5.3 and 6, which do not understand each other. An address that begins with `rpyc` says that the peer is one:
//! [`connect`](crate::connect()) dials it, [`serve`](crate::serve()) listens for it. The objects are the same as ever: [`Object`],
//! [`Netref`], [`Connection`](crate::Connection). Only what is peculiar to Python is here: [`Exception`], [`classic`] (an
//! interpreter that does what it is told), [`registry`] (where the servers of a name are).
//!
//! ```no_run
//! use farref::{Netref, Object, Result, remote};
//!
//! /// What a Python service offers, as far as this program uses it.
//! #[remote]
//! trait Lab {
//!     fn measure(&self, channel: u8, gain: Option<f64>) -> Result<Vec<f64>>;
//! }
//!
//! # async fn example() -> Result<()> {
//! let connection = farref::connect("rpyc://labpc:18861").await?;
//! let root: Object = connection.object().await?; // by name,
//! println!("{}", root.call("measure", (3,)).await?);
//! let lab: Netref<dyn Lab> = connection.root().await?; // or with types
//! println!("{:?}", lab.measure(3, None)?);
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes what
//!
//! By value goes what Python sends by value, whatever is simple and immutable:
//!
//! | Python | [`Value`] | in a typed method |
//! |---|---|---|
//! | `None` | null | `()`, `Option` |
//! | `bool`, `int`, `float` | boolean, integer, float | `bool`, `i64` and the like, `f64` |
//! | `int` beyond 128 bits | `int("123..")` | |
//! | `str`, `bytes` | string, bytes | `String`, `Bytes` or `serde_bytes` |
//! | `tuple` | tuple | a tuple, or a `Vec` |
//! | `complex`, `slice`, `frozenset` | a struct of that name | such a struct |
//!
//! All else goes by reference: it is a [`Value::Reference`], of which `Object::try_from(value)` makes an [`Object`]. That holds for
//! lists, dictionaries and sets too. **What is wanted by value is fetched**: [`Object::fetch`] copies a list, a dictionary, a set, a
//! `bytearray` or whatever can be iterated, with all that is inside; the results and arguments of typed methods are fetched by
//! themselves. That takes more round trips than the call, so a Python function that returns a tuple is faster than one that returns a
//! list.
//!
//! | Rust | in Python |
//! |---|---|
//! | tuples, arrays, and the simple values above | the same by value |
//! | `Vec`, sets, maps | `list`, `dict`: a copy, held here, that Python may change without anybody here seeing it |
//! | structs and enums | an object with their fields as attributes |
//! | [`Netref`], [`Object`] | an object of this side |
//! | an object of Python's | itself: what comes home is what left |
//!
//! # What Python sees of an object
//!
//! The methods of its trait, by their names, with arguments by place or by keyword; those of the type `Option` may be left out. A
//! `#[property]` is an attribute, which may be set if there is a `set_` of it. `exposed_` before a name changes nothing. Their
//! documentation is `__doc__`, and `dir()` lists them.
//!
//! | in Python | in Rust |
//! |---|---|
//! | `x(..)` | a trait with one method: `#[remote(closure)]` |
//! | `str(x)`, `x == y`, `hash(x)` | `#[remote(str, eq, hash)]` |
//! | `len(x)`, `x[key]`, `for y in x` | `#[remote(len, index, iter)]` |
//! | `with x:` | methods `enter` and `exit`, or `close` |
//! | other special methods, as `__add__` | a method of that name |
//! | `<`, `x.any_name = 1`, `del x[key]`, classes | [`Dynamic`](crate::object::Dynamic), which answers by name |
//!
//! A closure that goes by name says which trait it implements, as the method over there has no types:
//! `object.call("sweep", (Netref::<dyn OnReading>::of(on_reading),))`.
//!
//! A generator of Rust's is a trait with `__iter__` and `__next__`, which raises `StopIteration`.
//!
//! # Exceptions and errors
//!
//! An exception of Python's is an [`Error`](crate::Error) with an [`Exception`] in it: `error.downcast_ref::<Exception>()` has the
//! class, the arguments, the attributes and the traceback. `AttributeError` and `NotImplementedError` are of the kind
//! [`Unimplemented`](crate::ErrorKind::Unimplemented), `TimeoutError` is a [`Deadline`](crate::ErrorKind::Deadline), all others
//! [`Remote`](crate::ErrorKind::Remote).
//!
//! The other way, an [`Exception`] that a method returns is raised over there as it is. An [`std::io::Error`] is raised as the
//! `OSError` of its kind with its `errno`; what is missing as `AttributeError`, arguments that do not fit as `TypeError`, what is
//! denied as `PermissionError`, and all else as `RuntimeError`. The traceback has where in Rust that was, as far as it is known.
//!
//! ```
//! use farref::rpyc::Exception;
//! use farref::{Result, remote};
//!
//! #[remote]
//! trait Rack {
//!     fn voltage(&self, slot: usize) -> Result<f64>;
//! }
//!
//! impl Rack for Vec<f64> {
//!     fn voltage(&self, slot: usize) -> Result<f64> {
//!         let found = self.get(slot).copied();
//!         Ok(found.ok_or_else(|| Exception::new("IndexError", [format!("no slot {slot}")]))?)
//!     }
//! }
//!
//! let error = vec![1.5].voltage(7).unwrap_err();
//! assert!(error.downcast_ref::<Exception>().is_some_and(|raised| raised.is("IndexError")));
//! ```
//!
//! # Order and threads
//!
//! Requests leave in the order in which calls are started. A Python server takes up one after the other, in one thread for each
//! connection, and answers one before it takes up the next: calls that are started together save round trips and run one by one.
//! While such a call waits for a callback, that thread serves what comes. Here it is as with any peer: asynchronous methods are polled
//! in order and then run side by side, blocking ones run on a pool.
//!
//! RPyC knows no cancelling. A call that is given up here goes on over there; its result is dropped.
//!
//! # Limits
//!
//! RPyC has none; Farref keeps its own: those of [`Config`](crate::Config) on calls, their bytes and objects, and those of
//! `PROTOCOL.md` § 15.4 on frames and values. A fetch takes 64 MiB and 64 levels at most. A peer that exceeds them loses the connection, or
//! gets an exception where that is enough.
//!
//! # What is refused
//!
//! Python reaches what a trait declares, and nothing else: no name that begins with an underscore but the special methods above; no
//! attribute of a struct is written; no pickles are read, and none are made, as whoever sends one runs code; no exception's class is
//! imported. RPyC authenticates nobody: use TLS with certificates of clients (`rpyc+ssl://..?ca=`), a Unix socket (`rpyc+unix:`) or
//! ssh (`rpyc+ssh://`). A *classic* server hands its whole account to whoever reaches it.
//!
//! # Known traps
//!
//! * **An idle Python client hears nothing.** It reads its connection while it waits for an answer, and not otherwise: a callback
//!   waits until then. `rpyc.BgServingThread(conn)` over there, kept in a variable, reads all the time.
//! * **30 s.** A Python peer gives up waiting for an answer after `sync_request_timeout` (30 s by default; `None` is for ever), while
//!   the call goes on here.
//! * **`cannot access 'name'`.** A Python service shows `exposed_` names alone, unless its `protocol_config` has `allow_public_attrs`.
//!   It guards arguments as well: a method over there that appends to a list of ours is fine; one of ours that calls `append` of a
//!   list of a client's is refused.
//! * **`list` is not a list.** `isinstance(x, list)` is true of a list of ours over there, but C code that wants a real one copies it
//!   first: `list(x)`.
//! * **A [`Stream`](crate::Stream) is Farref's own.** Python sees an object that it cannot iterate over. Give one that says
//!   `#[remote(iter)]`, or take a function and call it.
//! * **Every reference costs.** Each object that Python gets to know is asked about, and given back when it is dropped. Give tuples
//!   and structs of plain values where objects are not needed.
//!
//! A page with commands for a lab is `docs/python.md`.
//!
//! [`Netref`]: crate::Netref
//! [`Object`]: crate::Object
//! [`Object::fetch`]: crate::Object::fetch
//! [`Value`]: crate::Value
//! [`Value::Reference`]: crate::Value::Reference

pub use farref_netref::rpyc::*;
pub use farref_services::rpyc::*;
