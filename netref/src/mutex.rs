//! A lock that is held from afar, and let go when its holder is gone (PROTOCOL.md § 14).

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{Result, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::OwnedMutexGuard;

use crate::netref::Netref;
use crate::parcel::{Packer, Parcel, Unpacker};
use crate::shapes;
use crate::stream::Item;

/// A value that one holds at a time, of all in all processes.
///
/// It is cloned and passed on at will: all are the same lock, which lives in the process that made it. Whoever asked
/// first is next. A guard that is held elsewhere is let go when it is dropped, and when the connection of its holder is
/// over; a session that goes on over another carrier keeps it. Who gives up waiting is out of the queue. A peer of another
/// version may have another type of value: each reads it by the shape of whoever has put it there.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::mutex::Mutex;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Stage {
///     async fn position(&self) -> Result<Mutex<f64>>;
/// }
///
/// struct Motor(Mutex<f64>);
///
/// #[remote]
/// impl Stage for Motor {
///     async fn position(&self) -> Result<Mutex<f64>> {
///         Ok(self.0.clone())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let stage: Netref<dyn Stage> = Netref::of(Motor(Mutex::new(1.5)));
/// let position = stage.call().position().await?;
/// let mut guard = position.lock().await?; // nobody else moves it now
/// let next = *guard + 0.5;
/// guard.set(next).await?;
/// guard.unlock().await?;
/// assert_eq!(*position.lock().await?, 2.0);
/// # Ok(())
/// # }
/// ```
pub struct Mutex<T: Item>(Place<T>);

enum Place<T: Item> {
    Here(Arc<tokio::sync::Mutex<T>>),
    There(Netref<dyn Lockable>, Arc<Values<T>>),
}

/// How the values of a lock elsewhere come and go.
struct Values<T> {
    packer: Packer<T>,
    unpacker: Unpacker<T>,
}

/// What a lock is on, in messages.
const LOCKED: &str = "what is locked";

/// A lock, for the other side.
#[remote(name = "farref.Mutex")]
pub(crate) trait Lockable {
    /// Waits for the lock. It is held until the reference in the result is given back, or `unlock` is called on it.
    async fn lock(&self) -> Result<(Netref<dyn Held>, Parcel)>;

    /// The same, if nobody holds it.
    async fn try_lock(&self) -> Result<Option<(Netref<dyn Held>, Parcel)>>;

    /// What the value looks like, as a shape is on the wire; nothing if that is not known.
    async fn shape(&self) -> Result<Bytes>;
}

/// A lock that is held.
#[remote(name = "farref.Guard")]
pub(crate) trait Held {
    /// Puts another value in.
    async fn set(&self, value: Parcel) -> Result<()>;

    /// Lets the lock go.
    async fn unlock(&self) -> Result<()>;
}

impl<T: Item> Mutex<T> {
    /// A lock on `value`, which lives in this process.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Place::Here(Arc::new(tokio::sync::Mutex::new(value))))
    }

    /// Waits until nobody else holds the lock, and those who asked before have had it.
    ///
    /// # Errors
    ///
    /// The lock is out of reach.
    ///
    /// # Cancel safety
    ///
    /// The lock is not held; the place in the queue is lost.
    pub async fn lock(&self) -> Result<Guard<T>> {
        match &self.0 {
            Place::Here(mutex) => Ok(Guard(Hold::Here(Arc::clone(mutex).lock_owned().await))),
            Place::There(mutex, values) => {
                let locked = mutex.call().lock().timeout(Duration::MAX).await?;
                Guard::there(mutex, values, locked).await
            }
        }
    }

    /// The lock, if nobody holds it.
    ///
    /// # Errors
    ///
    /// The lock is out of reach.
    ///
    /// # Cancel safety
    ///
    /// The lock is not held.
    pub async fn try_lock(&self) -> Result<Option<Guard<T>>> {
        match &self.0 {
            Place::Here(mutex) => {
                let guard = Arc::clone(mutex).try_lock_owned().ok();
                Ok(guard.map(|guard| Guard(Hold::Here(guard))))
            }
            Place::There(mutex, values) => match mutex.call().try_lock().await? {
                Some(locked) => Guard::there(mutex, values, locked).await.map(Some),
                None => Ok(None),
            },
        }
    }
}

/// A lock that is held until this is dropped. It dereferences to the value as it was when the lock was got, or was
/// [`set`](Self::set) since.
#[must_use = "the lock is let go when this is dropped"]
pub struct Guard<T: Item>(Hold<T>);

enum Hold<T: Item> {
    Here(OwnedMutexGuard<T>),
    There {
        held: Netref<dyn Held>,
        value: T,
        values: Arc<Values<T>>,
    },
}

impl<T: Item> Guard<T> {
    async fn there(
        mutex: &Netref<dyn Lockable>,
        values: &Arc<Values<T>>,
        (held, value): (Netref<dyn Held>, Parcel),
    ) -> Result<Self> {
        let ask = || mutex.call().shape();
        let value = values.unpacker.unpack_asking(value, ask).await?;
        let values = Arc::clone(values);
        Ok(Self(Hold::There { held, value, values }))
    }

    /// Puts another value in, for whoever holds the lock next.
    ///
    /// # Errors
    ///
    /// The lock is out of reach, and so is not held any more.
    ///
    /// # Cancel safety
    ///
    /// The value may be in or not.
    pub async fn set(&mut self, new: T) -> Result<()> {
        match &mut self.0 {
            Hold::Here(guard) => **guard = new,
            Hold::There { held, value, values } => {
                held.call().set(values.packer.pack(&new)?).await?;
                values.packer.was_read();
                *value = new;
            }
        }
        Ok(())
    }

    /// Lets the lock go, and returns when it is free. Dropping the guard does the same, and does not wait.
    ///
    /// # Errors
    ///
    /// The lock is out of reach, and so is not held any more.
    ///
    /// # Cancel safety
    ///
    /// The lock is let go all the same.
    pub async fn unlock(self) -> Result<()> {
        match self.0 {
            Hold::Here(_) => Ok(()),
            Hold::There { held, .. } => held.call().unlock().await,
        }
    }
}

impl<T: Item> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Hold::Here(guard) => guard,
            Hold::There { value, .. } => value,
        }
    }
}

/// A lock of this process, for the other side.
struct Lock<T> {
    mutex: Arc<tokio::sync::Mutex<T>>,
    unpacker: Arc<Unpacker<T>>,
}

/// What somebody elsewhere holds. Nothing once it was let go.
struct Holding<T> {
    guard: std::sync::Mutex<Option<OwnedMutexGuard<T>>>,
    unpacker: Arc<Unpacker<T>>,
}

impl<T: Item> Lock<T> {
    fn hold(&self, guard: OwnedMutexGuard<T>) -> Result<(Netref<dyn Held>, Parcel)> {
        let value = Parcel::pack(&*guard)?;
        let holding = Holding {
            guard: std::sync::Mutex::new(Some(guard)),
            unpacker: Arc::clone(&self.unpacker),
        };
        Ok((Netref::of(holding), value))
    }
}

#[remote]
impl<T: Item> Lockable for Lock<T> {
    async fn lock(&self) -> Result<(Netref<dyn Held>, Parcel)> {
        self.hold(Arc::clone(&self.mutex).lock_owned().await)
    }

    async fn try_lock(&self) -> Result<Option<(Netref<dyn Held>, Parcel)>> {
        let guard = Arc::clone(&self.mutex).try_lock_owned().ok();
        guard.map(|guard| self.hold(guard)).transpose()
    }

    async fn shape(&self) -> Result<Bytes> {
        Ok(shapes::of_items::<T>().description())
    }
}

#[remote]
impl<T: Item> Held for Holding<T> {
    async fn set(&self, value: Parcel) -> Result<()> {
        let mut value = self.unpacker.unpack(value)?;
        match &mut *crate::lock::lock(&self.guard) {
            Some(guard) => std::mem::swap(&mut **guard, &mut value),
            None => return Err(let_go()),
        }
        // The one before goes when no lock is held.
        drop(value);
        Ok(())
    }

    async fn unlock(&self) -> Result<()> {
        let guard = crate::lock::lock(&self.guard).take();
        guard.map(drop).ok_or_else(let_go)
    }
}

fn let_go() -> farref_boxing::Error {
    farref_boxing::Error::new(farref_boxing::ErrorKind::Misuse, "the lock was let go before")
}

impl<T: Item> Clone for Mutex<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Place::Here(mutex) => Place::Here(Arc::clone(mutex)),
            Place::There(mutex, values) => Place::There(mutex.clone(), Arc::clone(values)),
        })
    }
}

impl<T: Item> Serialize for Mutex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match &self.0 {
            Place::Here(mutex) => {
                let lock = Lock {
                    mutex: Arc::clone(mutex),
                    unpacker: Arc::new(Unpacker::new(LOCKED)),
                };
                Netref::<dyn Lockable>::of(lock).serialize(serializer)
            }
            Place::There(mutex, _) => mutex.serialize(serializer),
        }
    }
}

impl<'de, T: Item> Deserialize<'de> for Mutex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mutex = Netref::deserialize(deserializer)?;
        let values = Values {
            packer: Packer::new(),
            unpacker: Unpacker::new(LOCKED),
        };
        Ok(Self(Place::There(mutex, Arc::new(values))))
    }
}

impl<T: Item + Shaped> Shaped for Mutex<T> {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        shapes::tells::<T>();
        ShapeType::REFERENCE
    }
}

impl<T: Item> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Place::Here(_) => "Mutex(local)",
            Place::There(..) => "Mutex(remote)",
        })
    }
}

impl<T: Item + fmt::Debug> fmt::Debug for Guard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&**self).finish()
    }
}
