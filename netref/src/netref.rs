//! `Netref`: one handle type for objects here and objects elsewhere.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use farref_boxing::{ShapeType, Shaped, Shapes, lend, slot};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use crate::caller::{Caller, Lender};
use crate::hosted::{Exported, Handle, Hosted, address};
use crate::interface::{Extends, RemoteTrait, Wrap, known};
use crate::references;
use crate::remote::Remote;

/// A handle on an object, wherever it lives: in this process or at the other end of a connection.
///
/// `Netref<dyn Trait>` dereferences to `dyn Trait`, so code written for the trait works on it. It is cloned like
/// an `Arc`, and is serialised in any position of any serde value as a *reference*: the peer gets a netref, not a
/// copy. A netref that comes home is the very object that left.
///
/// An object lives as long as anybody holds it, here or over there. Dropping a netref never waits.
///
/// # Examples
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Greeter {
///     fn greet(&self, name: &str) -> Result<String>;
/// }
///
/// struct Polite;
///
/// #[remote]
/// impl Greeter for Polite {
///     fn greet(&self, name: &str) -> Result<String> {
///         Ok(format!("good day, {name}"))
///     }
/// }
///
/// let greeter: Netref<dyn Greeter> = Netref::of(Polite);
/// assert_eq!(greeter.greet("Ada")?, "good day, Ada");
/// # Ok::<(), farref::Error>(())
/// ```
pub struct Netref<T: ?Sized> {
    /// The object itself, or a proxy that knows what it calls through.
    object: Arc<T>,
}

impl<T: ?Sized + RemoteTrait> Netref<T> {
    /// Shares `object`. Works in every position, also where `Arc<S>` would not turn into `Arc<dyn Trait>` by
    /// itself.
    #[must_use]
    pub fn of<S: 'static>(object: S) -> Self
    where
        T: Wrap<S>,
    {
        // A netref is an implementor of its own trait: do not put a handle inside a handle.
        if let Some(netref) = (&object as &dyn Any).downcast_ref::<Self>() {
            return netref.clone();
        }
        Self::new(T::wrap(Arc::new(object)))
    }

    /// Shares an object that the caller keeps as well.
    #[must_use]
    pub fn share<S>(object: &Arc<S>) -> Self
    where
        T: Wrap<S>,
    {
        Self::new(T::wrap(Arc::clone(object)))
    }

    /// A handle on what `object` points to; if that is a proxy, the netref is remote.
    #[must_use]
    pub const fn new(object: Arc<T>) -> Self {
        Self { object }
    }

    /// What it is handed out as.
    pub(crate) fn exported(&self) -> Arc<dyn Exported> {
        known::note(T::INTERFACE);
        match self.as_remote() {
            Some(remote) => references::handed_on(&remote, Some(T::INTERFACE)),
            None => Arc::new(Hosted(Arc::clone(&self.object))),
        }
    }

    /// A typed proxy over a far object.
    pub(crate) fn from_remote(remote: Arc<dyn Remote>) -> Self {
        Self {
            object: T::proxy(remote),
        }
    }

    /// Whether the object lives in this process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.as_remote().is_none()
    }

    /// Whether both are handles on the same object, under whatever interface.
    ///
    /// Two netrefs that reached us over different connections are never the same: there is nobody who could tell.
    #[must_use]
    pub fn same_object<U: ?Sized + RemoteTrait>(&self, other: &Netref<U>) -> bool {
        match (&self.as_remote(), &other.as_remote()) {
            (None, None) => address(&self.object) == address(&other.object),
            (Some(a), Some(b)) => {
                Arc::ptr_eq(a, b)
                    || (address(a.conduit()) == address(b.conduit())
                        && matches!((a.imported(), b.imported()), (Some(a), Some(b)) if a.object == b.object))
            }
            _ => false,
        }
    }

    /// The same object under one of its supertraits.
    #[must_use]
    pub fn upcast<U: ?Sized + RemoteTrait>(&self) -> Netref<U>
    where
        T: Extends<U>,
    {
        match self.as_remote() {
            // A proxy of the supertrait, so that it is handed on under that interface and no other.
            Some(remote) => Netref::from_remote(remote),
            None => Netref {
                object: T::up(Arc::clone(&self.object)),
            },
        }
    }

    /// A handle that does not keep the object alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakNetref<T> {
        WeakNetref {
            object: Arc::downgrade(&self.object),
            remote: self.as_remote().as_ref().map(Arc::downgrade),
        }
    }

    /// The asynchronous companion: every method of the trait, returning a [`Call`](crate::Call).
    #[must_use]
    pub fn call(&self) -> T::Calls<'static> {
        Caller::of(self).into()
    }

    /// The blocking companion: every method of the trait, waiting for its result on this thread.
    #[must_use]
    pub fn blocking(&self) -> T::Blocking<'_> {
        Lender::of(self).into()
    }

    /// Waits until the netref is broken for good, as its connection is over, and says why. That of an object of this process
    /// never is. A session that may go on is not over.
    ///
    /// Waiting keeps neither the object nor the connection. A netref of a third process, which came by way of the peer, may
    /// be broken before: its calls tell.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub fn lost(&self) -> impl Future<Output = farref_boxing::Error> + Send + use<T> {
        let lost = self.as_remote().map(|remote| remote.conduit().lost());
        async {
            match lost {
                Some(lost) => lost.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Runs `notice` once when the netref is broken for good: see [`lost`](Self::lost). It runs on a task, and must not block.
    ///
    /// ```
    /// # extern crate farref_netref as farref;
    /// # use farref::{Netref, remote};
    /// # #[remote] trait Bench { fn voltage(&self, channel: u8) -> farref::Result<f64>; }
    /// # fn example(bench: &Netref<dyn Bench>) {
    /// bench.on_lost(|why| eprintln!("the bench is gone: {why}"));
    /// # }
    /// ```
    pub fn on_lost(&self, notice: impl FnOnce(farref_boxing::Error) + Send + 'static) {
        if !self.is_local() {
            let lost = self.lost();
            drop(crate::runtime::handle().spawn(async { notice(lost.await) }));
        }
    }

    /// The object or its proxy.
    #[must_use]
    pub const fn as_arc(&self) -> &Arc<T> {
        &self.object
    }

    /// What the netref calls through, if it is remote.
    #[doc(hidden)]
    #[must_use]
    pub fn as_remote(&self) -> Option<Arc<dyn Remote>> {
        self.object.remote()
    }
}

impl<T: ?Sized> Clone for Netref<T> {
    fn clone(&self) -> Self {
        Self {
            object: Arc::clone(&self.object),
        }
    }
}

impl<T: ?Sized> Deref for Netref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T: ?Sized + RemoteTrait> fmt::Debug for Netref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.is_local() { "local" } else { "remote" };
        write!(f, "Netref<dyn {}>({place})", T::INTERFACE.name)
    }
}

/// That of the object, where the trait has it: `#[remote(str)] trait Bench: Display`.
impl<T: ?Sized + fmt::Display> fmt::Display for Netref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

impl<S, T: ?Sized + RemoteTrait + Wrap<S>> From<Arc<S>> for Netref<T> {
    fn from(object: Arc<S>) -> Self {
        Self::new(T::wrap(object))
    }
}

impl<T: ?Sized + RemoteTrait> Serialize for Netref<T> {
    /// Puts the reference into the table of the message that is being boxed.
    ///
    /// # Errors
    ///
    /// No message is being boxed: a netref cannot be written to a file.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let handle = match self.as_remote() {
            Some(remote) => Handle::Remote(remote, Some(T::INTERFACE)),
            None => {
                known::note(T::INTERFACE);
                Handle::Local(Arc::new(Hosted(Arc::clone(&self.object))))
            }
        };
        match lend(handle.into_reference()) {
            Some(slot) => serializer.serialize_u32(slot),
            None => Err(S::Error::custom(OUTSIDE)),
        }
    }
}

pub(crate) const OUTSIDE: &str = "a netref can only be serialised as a part of a call's arguments or result";

impl<'de, T: ?Sized + RemoteTrait> Deserialize<'de> for Netref<T> {
    /// Takes the reference out of the table of the message that is being unboxed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        let reference = slot(index).map_err(D::Error::custom)?;
        let handle = Handle::of(&reference).ok_or_else(|| D::Error::custom("a reference of another kind"))?;
        unbox(handle).map_err(D::Error::custom)
    }
}

/// On the wire it is the number of a slot, whatever the trait: that goes by the descriptor.
impl<T: ?Sized> Shaped for Netref<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        ShapeType::REFERENCE
    }
}

/// The typed netref in `handle`.
fn unbox<T: ?Sized + RemoteTrait>(handle: &Handle) -> Result<Netref<T>, Mismatch> {
    let wanted = T::INTERFACE.name;
    match handle {
        Handle::Local(object) => {
            let arc = object
                .unbox(T::INTERFACE.id)
                .and_then(|object| object.downcast::<Arc<T>>().ok());
            let arc = arc.ok_or_else(|| Mismatch::Interface {
                wanted,
                found: object.interface().map_or("", |interface| interface.name),
            })?;
            Ok(Netref { object: *arc })
        }
        Handle::Remote(remote, _) => match remote.imported() {
            Some(imported) if imported.interface != T::INTERFACE.id && !remote.conduit().is_by_name() => {
                Err(Mismatch::Id { wanted })
            }
            _ => {
                known::note(T::INTERFACE);
                Ok(Netref::from_remote(Arc::clone(remote)))
            }
        },
        Handle::Broken(error) => Err(Mismatch::Broken(error.to_string())),
        Handle::Null => Err(Mismatch::Null { wanted }),
    }
}

/// The typed netref in a reference of the engine.
pub(crate) fn typed<T: ?Sized + RemoteTrait>(handle: &Handle) -> Result<Netref<T>, farref_boxing::Error> {
    use farref_boxing::{Error, ErrorKind};
    unbox(handle).map_err(|mismatch| match (mismatch, handle) {
        (_, Handle::Broken(error)) => error.clone(),
        (mismatch, _) => Error::new(ErrorKind::Incompatible, mismatch.to_string()),
    })
}

/// Why a reference is not the netref that was expected.
#[derive(Debug)]
enum Mismatch {
    Interface {
        wanted: &'static str,
        found: &'static str,
    },
    Id {
        wanted: &'static str,
    },
    Broken(String),
    Null {
        wanted: &'static str,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { wanted, found } => {
                write!(
                    f,
                    "expected an object with the interface {wanted}, got one with {found}"
                )
            }
            Self::Id { wanted } => write!(
                f,
                "expected an object with the interface {wanted}, got one with another: \
                 both sides need the same trait name and version"
            ),
            Self::Broken(why) => write!(f, "the reference is broken: {why}"),
            Self::Null { wanted } => write!(f, "expected an object with the interface {wanted}, got none"),
        }
    }
}

/// A handle that does not keep its object alive, here or over there.
pub struct WeakNetref<T: ?Sized> {
    object: Weak<T>,
    remote: Option<Weak<dyn Remote>>,
}

impl<T: ?Sized + RemoteTrait> WeakNetref<T> {
    /// The strong handle, while anybody on this side holds one (of a far object) or at all (of an object here).
    #[must_use]
    pub fn upgrade(&self) -> Option<Netref<T>> {
        match &self.remote {
            // The import may outlive the proxy that this handle was made from: any proxy of it will do.
            Some(remote) => remote.upgrade().map(Netref::from_remote),
            None => self.object.upgrade().map(|object| Netref { object }),
        }
    }
}

impl<T: ?Sized> Clone for WeakNetref<T> {
    fn clone(&self) -> Self {
        Self {
            object: Weak::clone(&self.object),
            remote: self.remote.clone(),
        }
    }
}

impl<T: ?Sized + RemoteTrait> fmt::Debug for WeakNetref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeakNetref<dyn {}>", T::INTERFACE.name)
    }
}

/// The proxy of every remote trait: [`#[remote]`](macro@crate::remote) implements `Trait` for `Proxy<T>` wherever
/// `T` is `dyn Trait` or has it among its supertraits.
pub struct Proxy<T: ?Sized> {
    remote: Arc<dyn Remote>,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Proxy<T> {
    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub fn new(remote: Arc<dyn Remote>) -> Self {
        Self {
            remote,
            of: PhantomData,
        }
    }

    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub const fn remote(&self) -> &Arc<dyn Remote> {
        &self.remote
    }
}

impl<T: ?Sized> fmt::Debug for Proxy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.remote).finish()
    }
}
