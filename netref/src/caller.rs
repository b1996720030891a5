//! What the companions of a trait call on: an object here, one elsewhere, or one that is not there yet.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::call::Promise;
use crate::interface::RemoteTrait;
use crate::netref::Netref;
use crate::remote::Remote;

/// What the asynchronous companion calls on. `'a` is the call that lent it, if it is a pipe.
pub struct Caller<'a, T: ?Sized> {
    place: Place<T>,
    lent: PhantomData<&'a ()>,
}

/// Where the object is.
#[doc(hidden)]
#[expect(
    clippy::exhaustive_enums,
    reason = "generated code says what to do in each place"
)]
pub enum Place<T: ?Sized> {
    /// In this process.
    Local(Arc<T>),
    /// Elsewhere, or promised by a call that is on its way.
    Remote(Arc<dyn Remote>),
    /// Promised by a call to an object of this process.
    Promised(Promise<T>),
}

impl<T: ?Sized> Clone for Place<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Local(object) => Self::Local(Arc::clone(object)),
            Self::Remote(remote) => Self::Remote(Arc::clone(remote)),
            Self::Promised(promise) => Self::Promised(promise.clone()),
        }
    }
}

impl<T: ?Sized + RemoteTrait> Caller<'_, T> {
    pub(crate) fn of(netref: &Netref<T>) -> Self {
        let place = match netref.as_remote() {
            Some(remote) => Place::Remote(remote),
            None => Place::Local(Arc::clone(netref.as_arc())),
        };
        Self {
            place,
            lent: PhantomData,
        }
    }

    pub(crate) const fn at(place: Place<T>) -> Self {
        Self {
            place,
            lent: PhantomData,
        }
    }

    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub const fn place(&self) -> &Place<T> {
        &self.place
    }

    /// For generated code: the caller of a supertrait.
    #[doc(hidden)]
    #[must_use]
    pub fn upcast<'b, U: ?Sized + RemoteTrait>(&self) -> Caller<'b, U>
    where
        T: crate::interface::Extends<U>,
    {
        let place = match &self.place {
            Place::Local(object) => Place::Local(T::up(Arc::clone(object))),
            Place::Remote(remote) => Place::Remote(Arc::clone(remote)),
            Place::Promised(promise) => Place::Promised(promise.upcast()),
        };
        Caller {
            place,
            lent: PhantomData,
        }
    }
}

impl<T: ?Sized + RemoteTrait> fmt::Debug for Caller<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            Place::Local(_) => "local",
            Place::Remote(_) => "remote",
            Place::Promised(_) => "promised",
        };
        write!(f, "Caller<dyn {}>({place})", T::INTERFACE.name)
    }
}

/// What the blocking companion calls on: a netref, borrowed; or one of a supertrait, made for the purpose.
pub struct Lender<'a, T: ?Sized>(Lent<'a, T>);

enum Lent<'a, T: ?Sized> {
    Borrowed(&'a Netref<T>),
    Made(Netref<T>),
}

impl<'a, T: ?Sized + RemoteTrait> Lender<'a, T> {
    pub(crate) const fn of(netref: &'a Netref<T>) -> Self {
        Self(Lent::Borrowed(netref))
    }

    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub const fn netref(&self) -> &Netref<T> {
        match &self.0 {
            Lent::Borrowed(netref) => netref,
            Lent::Made(netref) => netref,
        }
    }

    /// For generated code: the lender of a supertrait.
    #[doc(hidden)]
    #[must_use]
    pub fn upcast<'b, U: ?Sized + RemoteTrait>(&self) -> Lender<'b, U>
    where
        T: crate::interface::Extends<U>,
    {
        Lender(Lent::Made(self.netref().upcast()))
    }
}

impl<T: ?Sized + RemoteTrait> fmt::Debug for Lender<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lender<dyn {}>", T::INTERFACE.name)
    }
}
