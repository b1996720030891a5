//! Guards: objects handed out with less than they can do, whatever their traits.
//!
//! ```text
//!   peer ── call ──▶ guarded object ── Guard::admit ──▶ the object          here, or at the end of another connection
//!                        │  refused: Denied, Revoked, Limit, ..
//!   peer ◀── netrefs ────┴── guarded as well, as far as Guard::covers ◀── result
//! ```
//!
//! This is the mechanism: what a call is for, and where it is let through or not. What is let through is decided by
//! services, by implementing [`Guard`]; those that come with farref are in `farref::policy`.
//!
//! A guarded netref is one like any other. It can be called here as well, and is guarded there too; so it counts as far:
//! [`Netref::is_local`] says no.
//!
//! ```
//! # extern crate farref_netref as farref;
//! use farref::guard::{Access, Guard};
//! use farref::{Error, ErrorKind, Netref, Result, remote};
//!
//! #[remote]
//! trait Oven {
//!     #[property]
//!     fn temperature(&self) -> Result<f64>;
//!     fn heat(&self, to: f64) -> Result<()>;
//! }
//!
//! struct Kiln;
//!
//! impl Oven for Kiln {
//!     fn temperature(&self) -> Result<f64> {
//!         Ok(20.0)
//!     }
//!     fn heat(&self, _to: f64) -> Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! struct LookOnly;
//!
//! impl Guard for LookOnly {
//!     fn admit(&self, access: &Access) -> Result<()> {
//!         if access.only_reads() {
//!             return Ok(());
//!         }
//!         Err(Error::new(ErrorKind::Denied, format!("`{}` is not for visitors", access.name())))
//!     }
//! }
//!
//! let oven: Netref<dyn Oven> = Netref::of(Kiln);
//! let shown = oven.guarded(LookOnly);
//! assert_eq!(shown.temperature()?, 20.0);
//! assert_eq!(shown.heat(900.0).unwrap_err().message(), "`heat` is not for visitors");
//! # Ok::<(), Error>(())
//! ```

mod local;
mod membrane;
mod passing;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farref_boxing::{Error, Result};

use crate::connection::Root;
use crate::interface::{Interface, Method, RemoteTrait, interface_id, method_number};
use crate::netref::Netref;
use crate::object::{Object, cut};
use crate::peer::Peer;
use crate::protocol::Op;

use self::membrane::Membrane;

/// Decides which calls reach an object.
///
/// It is asked by whoever reads the connection, in the order in which calls come: it must not wait.
pub trait Guard: Send + Sync + 'static {
    /// Whether a call is let through.
    ///
    /// # Errors
    ///
    /// It is not, and this is what the caller is told; nothing of the method has run.
    fn admit(&self, access: &Access) -> Result<()>;

    /// A call that was let through is over: it succeeded, or failed with this error, the method's own ones included.
    /// [`Cancelled`](farref_boxing::ErrorKind::Cancelled) if nobody waits for it any more. The caller has not been told yet.
    fn ended(&self, access: &Access, outcome: Result<(), &Error>, took: Duration) {
        let _ = (access, outcome, took);
    }

    /// Whether an object in the result of that call is guarded as well; `interface` is what it is handed out as, where this
    /// process has the trait. Default: each is.
    fn covers(&self, access: &Access, interface: Option<&'static Interface>) -> bool {
        let _ = (access, interface);
        true
    }
}

/// A call of a guarded object: who asks for what.
#[derive(Clone)]
pub struct Access {
    peer: Arc<Peer>,
    /// What the object is handed out as that was guarded first.
    root: Option<&'static Interface>,
    handed_out: Option<&'static Interface>,
    found: Option<(&'static Interface, &'static Method)>,
    op: Op,
}

impl Access {
    fn new(
        peer: Arc<Peer>,
        root: Option<&'static Interface>,
        handed_out: Option<&'static Interface>,
        op: &Op,
    ) -> Self {
        let found = handed_out.and_then(|interface| interface.find_for(op));
        Self {
            peer,
            root,
            handed_out,
            found,
            op: op.clone(),
        }
    }

    /// Who calls.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// What the object is handed out as, where this process has the trait.
    #[must_use]
    pub const fn interface(&self) -> Option<&'static Interface> {
        self.handed_out
    }

    /// Whether `interface` is that of the object which was guarded first, or one of the two extends the other: it may be the
    /// same object. What this process does not know may be.
    #[must_use]
    pub fn is_akin(&self, interface: Option<&'static Interface>) -> bool {
        match (self.root, interface) {
            (Some(root), Some(other)) => root.find(other.id).is_some() || other.find(root.id).is_some(),
            _ => true,
        }
    }

    /// The method that is called, where this process has the trait and that has the method.
    #[must_use]
    pub fn method(&self) -> Option<&'static Method> {
        self.found.map(|(_, method)| method)
    }

    /// What is asked for: the name of a method without that of its interface, whether it is called by number, by name, or
    /// as a property; or what every object can be asked: `str`, `repr`, `len`, `eq`, `cmp`, `hash`, `index`, `set_index`,
    /// `delete_index`, `iter`, `copy`, `invoke`, `enter`, `exit`, `describe`, `is`. A method that this process does not know has its number for a name.
    ///
    /// It may be whatever the peer has sent: what is shown is [`shown_name`](Self::shown_name).
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        if let Some((_, method)) = self.found {
            return method.name.into();
        }
        match &self.op {
            Op::Method { method, .. } => format!("method {method:#010x}").into(),
            Op::Named(name) | Op::Get(name) => bare(name).into(),
            Op::Set(name) => format!("set_{}", bare(name)).into(),
            Op::Delete(name) => format!("delete_{}", bare(name)).into(),
            Op::Index => "index".into(),
            Op::Len => "len".into(),
            Op::Compare => "eq".into(),
            Op::Hash => "hash".into(),
            Op::Text => "str".into(),
            Op::Iterate => "iter".into(),
            Op::Enter => "enter".into(),
            Op::Exit => "exit".into(),
            Op::IsInstance(_) => "is".into(),
            Op::Describe => "describe".into(),
            Op::Copy => "copy".into(),
            Op::Invoke => "invoke".into(),
            Op::SetIndex => "set_index".into(),
            Op::DeleteIndex => "delete_index".into(),
            Op::Repr => "repr".into(),
            Op::Order(_) => "cmp".into(),
        }
    }

    /// The same for logs and messages: the beginning of a name that the peer made up, without control characters.
    #[must_use]
    pub fn shown_name(&self) -> String {
        cut(&self.name())
    }

    /// Whether this process has the trait, and that has no such method: what was called is a name or number that the peer
    /// made up, or one of another version of the trait.
    #[must_use]
    pub const fn is_unknown_method(&self) -> bool {
        let is_method = matches!(
            self.op,
            Op::Method { .. } | Op::Named(_) | Op::Get(_) | Op::Set(_) | Op::Delete(_)
        );
        is_method && self.handed_out.is_some() && self.found.is_none()
    }

    /// Whether it only looks: a `#[reads]` method, the getter of a property, or one of those things that every object can
    /// be asked. What this process does not know is not believed to.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        if let Some((_, method)) = self.found {
            return method.only_reads();
        }
        match &self.op {
            Op::Get(_)
            | Op::Index
            | Op::Len
            | Op::Compare
            | Op::Hash
            | Op::Text
            | Op::Iterate
            | Op::IsInstance(_)
            | Op::Describe
            | Op::Copy
            | Op::Repr
            | Op::Order(_) => true,
            Op::Method { .. }
            | Op::Named(_)
            | Op::Set(_)
            | Op::Delete(_)
            | Op::Enter
            | Op::Exit
            | Op::Invoke
            | Op::SetIndex
            | Op::DeleteIndex => false,
        }
    }

    /// Whether it asks no more than what the object is: `describe` and `is`.
    #[must_use]
    pub const fn asks_what_it_is(&self) -> bool {
        matches!(self.op, Op::Describe | Op::IsInstance(_))
    }

    /// Whether it is certainly what `name` names: for lists of what is allowed. The name may begin with that of the
    /// interface that declares the method, as in `Bench.voltage`, and may be `*` for all of them.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        let (interface, name) = split(name);
        let is_declared_there = interface.is_none_or(|wanted| match self.found {
            Some((declared, _)) => declared.name == wanted,
            None => self
                .handed_out
                .is_some_and(|handed_out| handed_out.name == wanted),
        });
        is_declared_there && (name == "*" || self.name() == name)
    }

    /// Whether it is what `name` names, or may be, as far as this process can tell: for lists of what is denied. The name may
    /// begin with that of any interface that has the method, itself or from one that it extends.
    #[must_use]
    pub fn may_be(&self, name: &str) -> bool {
        if self.is(name) {
            return true;
        }
        let (wanted, name) = split(name);
        if let Some((declared, method)) = self.found {
            // Whoever denies `Vault.name` means it even if `Vault` has it from another interface.
            let lineage = self.handed_out.map(Interface::lineage).unwrap_or_default();
            let has_it = |wanted: &str| {
                let mut of_that_name = lineage.iter().filter(|known| known.name == wanted);
                of_that_name.any(|known| known.find(declared.id).is_some())
            };
            return (name == "*" || name == method.name) && wanted.is_some_and(has_it);
        }
        match &self.op {
            // The object may be far, and have methods that this process does not.
            Op::Method {
                interface, method, ..
            } => {
                // Versions begin at 1; which one it is nobody here knows.
                let may_be_there = wanted.is_none_or(|wanted| {
                    (1..=MOST_VERSIONS).any(|of| interface_id(wanted, of) == *interface)
                });
                may_be_there && (name == "*" || method_number(name) == *method)
            }
            _ => self.handed_out.is_none() && (name == "*" || self.name() == name),
        }
    }
}

/// So many versions of an interface are thought of, where one that this process does not have is denied by name.
const MOST_VERSIONS: u16 = 64;

/// The name without that of the interface, which it may begin with.
fn bare(name: &str) -> &str {
    split(name).1
}

/// The name of the interface, if there is one, and the rest.
fn split(name: &str) -> (Option<&str>, &str) {
    match name.rsplit_once('.') {
        Some((interface, name)) => (Some(interface), name),
        None => (None, name),
    }
}

/// `Bench.voltage`, as far as that is known, with the [shown name](Access::shown_name): it can be written into a log.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.found.map(|(interface, _)| interface).or(self.handed_out);
        if let Some(interface) = interface {
            write!(f, "{}.", interface.name)?;
        }
        f.write_str(&self.shown_name())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({self} by {})", self.peer)
    }
}

impl<T: ?Sized + RemoteTrait> Netref<T> {
    /// The same object behind `guard`: see [`crate::guard`].
    #[must_use]
    pub fn guarded(&self, guard: impl Guard) -> Self {
        Self::from_remote(Membrane::around(self.exported(), Arc::new(guard)))
    }
}

impl Object {
    /// The same object behind `guard`: see [`crate::guard`].
    #[must_use]
    pub fn guarded(&self, guard: impl Guard) -> Self {
        let inner = self.exported();
        let interface = inner.interface();
        Self::of_remote(Membrane::around(inner, Arc::new(guard)), interface)
    }
}

impl Root {
    /// The same root behind `guard`: see [`crate::guard`].
    #[must_use]
    pub fn guarded(self, guard: impl Guard) -> Self {
        self.map(|object| Membrane::exported(object, Arc::new(guard)))
    }
}
