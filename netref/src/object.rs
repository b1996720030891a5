//! Objects by name: without their traits, with values that say what they are.
//!
//! Reading order: [`Object`] here, [`Arguments`], [`Description`], [`Items`]; then `asked` (what every object can be
//! asked, which `#[remote(str, ..)]` answers), `convert` (from and to netrefs and values), `data` (a value that is kept
//! here and looked at from afar), `here` (calls that never leave this process), `near` (names that may have been meant),
//! `operators` (what objects of other languages can be asked).

mod arguments;
mod asked;
mod convert;
mod data;
mod description;
mod dynamic;
mod here;
mod items;
mod near;
mod operators;

use std::fmt;
use std::sync::{Arc, OnceLock};

use farref_boxing::{DeserializeAs, Error, ErrorKind, Plain, Result, Value, from_value};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use crate::call::Call;
use crate::hosted::{Exported, Handle, Hosted, address};
use crate::interface::{Interface, RemoteTrait};
use crate::netref::{Netref, Proxy};
use crate::protocol::Op;
use crate::references;
use crate::remote::{Ask, Remote};
use crate::result::{MethodResult, decode_outcome};

pub use self::arguments::Arguments;
pub use self::asked::Operations;
#[doc(hidden)]
pub use self::asked::{Answered, Asked, Batch, Other, copy, equal, hash, index, iterate, len, text};
pub use self::description::{ArgumentDescription, Description, InterfaceDescription, MethodDescription};
pub use self::dynamic::Dynamic;
pub use self::items::Items;
pub use crate::protocol::Ordering;

pub(crate) use self::arguments::{is_optional, name_error, type_error};
pub(crate) use self::asked::{CONTAINER, Question, weigh};
pub(crate) use self::near::{cut, hint as near_hint};

/// An object by name: what can be done with any [`Netref`] without its trait.
///
/// Made by [`Netref::dynamic`], by [`Connection::object`](crate::Connection::object), and wherever a reference is among
/// [`Value`]s. Every remote object answers, by the same code that serves its typed calls: arguments and results are
/// values, in which netrefs are objects.
///
/// Each method gives a [`Call`]: await it, or [`wait`](Call::wait) for it on a thread that may.
///
/// # Examples
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::object::Arguments;
/// use farref::{Netref, Object, Result, remote};
///
/// /// A bench of instruments.
/// #[remote]
/// trait Bench {
///     /// Measures a channel, in volts.
///     fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;
///
///     /// What to call it.
///     #[property]
///     fn title(&self) -> Result<String>;
/// }
///
/// struct Simulated;
///
/// impl Bench for Simulated {
///     fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64> {
///         Ok(f64::from(channel) * gain.unwrap_or(1.0))
///     }
///
///     fn title(&self) -> Result<String> {
///         Ok("simulated".into())
///     }
/// }
///
/// let bench: Netref<dyn Bench> = Netref::of(Simulated);
/// let object: Object = bench.dynamic();
///
/// assert_eq!(object.call("voltage", (3,)).wait()?.as_f64(), Some(3.0));
/// let arguments = Arguments::from((3,)).named("gain", 2.0);
/// assert_eq!(object.call("voltage", arguments).wait()?.as_f64(), Some(6.0));
/// assert_eq!(object.get("title").wait()?.as_str(), Some("simulated"));
///
/// assert_eq!(object.dir().wait()?, ["title", "voltage"]);
/// assert_eq!(
///     object.signature("voltage").wait()?,
///     "fn voltage(channel: u8, gain: Option<f64>) -> Result<f64>"
/// );
/// let error = object.call("voltag", (3,)).wait().unwrap_err();
/// assert_eq!(error.message(), "Bench has no method `voltag`: did you mean `voltage`?");
/// let error = object.call("voltage", ("three",)).wait().unwrap_err();
/// assert!(error.message().contains("argument `channel: u8`"), "{error}");
///
/// let again: Netref<dyn Bench> = object.cast().wait()?;
/// assert!(again.same_object(&bench));
/// # Ok::<(), farref::Error>(())
/// ```
#[derive(Clone)]
pub struct Object {
    place: Place,
    /// What the host has told, which does not change: an object is handed out as one interface.
    description: Arc<OnceLock<Description>>,
}

/// Where the object is.
#[derive(Clone)]
enum Place {
    Here(Arc<dyn Exported>),
    /// The interface is that of the netref, if it had one.
    There(Arc<dyn Remote>, Option<&'static Interface>),
}

impl Object {
    fn new(place: Place) -> Self {
        Self {
            place,
            description: Arc::default(),
        }
    }

    pub(crate) fn of_handle(handle: &Handle) -> Result<Self> {
        match handle {
            Handle::Local(object) => Ok(Self::new(Place::Here(Arc::clone(object)))),
            Handle::Remote(remote, interface) => Ok(Self::new(Place::There(Arc::clone(remote), *interface))),
            Handle::Broken(error) => Err(error.clone()),
            Handle::Null => Err(Error::new(
                ErrorKind::Incompatible,
                "expected an object, got none",
            )),
        }
    }

    pub(crate) fn of_remote(remote: Arc<dyn Remote>, interface: Option<&'static Interface>) -> Self {
        Self::new(Place::There(remote, interface))
    }

    /// What it is handed out as.
    pub(crate) fn exported(&self) -> Arc<dyn Exported> {
        match &self.place {
            Place::Here(object) => Arc::clone(object),
            Place::There(remote, interface) => references::handed_on(remote, *interface),
        }
    }

    fn handle(&self) -> Handle {
        match &self.place {
            Place::Here(object) => Handle::Local(Arc::clone(object)),
            Place::There(remote, interface) => Handle::Remote(Arc::clone(remote), *interface),
        }
    }

    /// Shares a value that stays here: lists, maps and records can be read from afar piece by piece, and
    /// [fetched](Self::fetch).
    ///
    /// ```
    /// # extern crate farref_netref as farref;
    /// use farref::{Object, Value};
    ///
    /// let table: Value = "{\"a\": [1, 2], \"b\": [3]}".parse()?;
    /// let object = Object::of(table.clone());
    /// assert_eq!(object.len().wait()?, 2);
    /// assert_eq!(object.index("b").wait()?, "[3]".parse()?);
    /// assert_eq!(object.fetch().wait()?, table);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn of(value: Value) -> Self {
        data::share(value).dynamic()
    }

    /// Calls a method.
    ///
    /// The name may begin with that of the interface, where two have a method of that name: `Bench.voltage`.
    ///
    /// # Errors
    ///
    /// Besides those of any call: [`ErrorKind::Unimplemented`] if there is no such method, with the names that may
    /// have been meant; [`ErrorKind::SchemaMismatch`] if the arguments do not fit, with the one that does not and its
    /// type. An error value of the method's own type arrives as its text.
    pub fn call(&self, name: &str, arguments: impl Into<Arguments>) -> Call<Result<Value>> {
        let arguments = arguments.into();
        match arguments.check() {
            Ok(()) => self.ask::<Plain, _>(Op::Named(name.to_owned()), &arguments),
            Err(error) => Call::failed(error),
        }
    }

    /// Reads a property: what a `#[property]` method without arguments returns.
    pub fn get(&self, name: &str) -> Call<Result<Value>> {
        self.ask::<Plain, _>(Op::Get(name.to_owned()), &())
    }

    /// Writes a property, by a `#[property]` method called `set_` and its name.
    pub fn set(&self, name: &str, value: impl Serialize) -> Call<Result<()>> {
        self.ask_with::<ByValue, _>(Op::Set(name.to_owned()), value)
    }

    /// What it can do. Asked for once, and then known.
    pub fn describe(&self) -> Call<Result<Description>> {
        self.described(Clone::clone)
    }

    /// The names of its methods and properties.
    pub fn dir(&self) -> Call<Result<Vec<String>>> {
        self.described(Description::names)
    }

    /// The documentation of a method or property; of the object itself if the name is empty.
    ///
    /// # Errors
    ///
    /// Besides those of any call: [`ErrorKind::Unimplemented`] if there is none of that name.
    pub fn doc(&self, name: &str) -> Call<Result<String>> {
        let name = name.to_owned();
        self.described_or(move |description| {
            if name.is_empty() {
                let first = description.interfaces.first();
                return Ok(first.map(|interface| interface.doc.clone()).unwrap_or_default());
            }
            find(description, &name).map(|method| method.doc.clone())
        })
    }

    /// The signature of a method, as it was written: `fn voltage(channel: u8) -> Result<f64>`.
    ///
    /// # Errors
    ///
    /// Besides those of any call: [`ErrorKind::Unimplemented`] if there is none of that name.
    pub fn signature(&self, name: &str) -> Call<Result<String>> {
        let name = name.to_owned();
        self.described_or(move |description| find(description, &name).map(ToString::to_string))
    }

    /// Whether it can be used as an interface of that name.
    pub fn is(&self, interface: &str) -> Call<Result<bool>> {
        self.ask::<ByValue, _>(Op::IsInstance(interface.to_owned()), &())
    }

    /// The object as text: what `#[remote(str)]` says, or else the name of its interface.
    pub fn str(&self) -> Call<Result<String>> {
        self.ask::<ByValue, _>(Op::Text, &())
    }

    /// How many elements it has, if it says `#[remote(len)]`.
    pub fn len(&self) -> Call<Result<u64>> {
        self.ask::<ByValue, _>(Op::Len, &())
    }

    /// The element with that key, if it says `#[remote(index)]`.
    pub fn index(&self, key: impl Serialize) -> Call<Result<Value>> {
        self.ask_with::<Plain, _>(Op::Index, key)
    }

    /// Its hash, if it says `#[remote(hash)]`: equal objects of one host have equal hashes.
    pub fn hash(&self) -> Call<Result<u64>> {
        self.ask::<ByValue, _>(Op::Hash, &())
    }

    /// Whether it equals another object or value. Remote objects are equal to others of their host by what
    /// `#[remote(eq)]` says, and else to themselves alone; shared [values](Self::of) to other values too.
    pub fn equals(&self, other: impl Serialize) -> Call<Result<bool>> {
        self.ask_with::<ByValue, _>(Op::Compare, other)
    }

    /// Its elements, if it says `#[remote(iter)]`, some at a time.
    ///
    /// The host keeps no place, but skips to it: elements that come and go meanwhile shift the rest.
    pub fn iter(&self) -> Items {
        Items::new(self.clone())
    }

    /// Copies it here, as a value: if it says `#[remote(copy)]`, or else its elements as a list, if it says
    /// `#[remote(iter)]`.
    ///
    /// [`Object::of`] is the way back: it shares a value that is kept here.
    ///
    /// # Errors
    ///
    /// Besides those of any call: [`ErrorKind::Limit`] if it takes more than about 64 MiB; [`iter`](Self::iter) has no
    /// such limit.
    pub fn fetch(&self) -> Call<Result<Value>> {
        let this = self.clone();
        Call::local(async move {
            match this.ask::<Plain, Result<Value>>(Op::Copy, &()).await {
                Err(error) if error.kind() == ErrorKind::Unimplemented => {}
                copy => return copy,
            }
            let mut items = this.iter();
            let (mut all, mut weight) = (Vec::new(), 0_usize);
            while let Some(item) = items.next().await {
                let item = item?;
                weight = weight.saturating_add(asked::weigh(&item));
                if weight > LARGEST_COPY {
                    let message = format!("the object takes more than {} MiB", LARGEST_COPY >> 20);
                    return Err(Error::new(ErrorKind::Limit, message));
                }
                all.push(item);
            }
            Ok(Value::List(all))
        })
    }

    /// The object under its trait.
    ///
    /// Its host is asked if it was not handed out as just that, but maybe as a trait which extends that. Where the peer
    /// knows no interfaces, any trait will do: its methods and properties are called by their names, and what the object
    /// has not, or what does not fit, shows when it is called.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`]: it was handed out as something else.
    pub fn cast<T: ?Sized + RemoteTrait>(&self) -> Call<Result<Netref<T>>>
    where
        Result<Netref<T>>: MethodResult,
    {
        let wanted = T::INTERFACE;
        let (remote, known) = match &self.place {
            Place::Here(object) => {
                let found = object.unbox(wanted.id);
                let arc = found.and_then(|object| object.downcast::<Arc<T>>().ok());
                let cast = match arc {
                    Some(arc) => Ok(Netref::new(*arc)),
                    None => Err(not_a(
                        wanted,
                        object.interface().map_or("another one", |known| known.name),
                    )),
                };
                return Call::local(std::future::ready(cast));
            }
            Place::There(remote, known) => (Arc::clone(remote), *known),
        };
        // A peer that knows no interfaces cannot be asked: what its object lacks shows when it is called.
        let is_known = remote.conduit().is_by_name()
            || remote
                .imported()
                .is_some_and(|imported| imported.interface == wanted.id)
            || known.is_some_and(|known| known.find(wanted.id).is_some());
        if is_known {
            return Call::local(std::future::ready(Ok(Netref::from_remote(remote))));
        }
        let described = self.describe();
        Call::local(async move {
            let description = described.await?;
            if description.is(wanted.name, wanted.version) {
                return Ok(Netref::from_remote(remote));
            }
            let found = description
                .interfaces
                .first()
                .map(|interface| interface.name.as_str());
            Err(not_a(wanted, found.unwrap_or("none")))
        })
    }

    /// Whether the object lives in this process.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.place, Place::Here(_))
    }

    /// Whether both are the same object, under whatever interface. See [`Netref::same_object`].
    #[must_use]
    pub fn same_object(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Here(a), Place::Here(b)) => a.key() == b.key(),
            (Place::There(a, _), Place::There(b, _)) => {
                Arc::ptr_eq(a, b)
                    || (address(a.conduit()) == address(b.conduit())
                        && matches!((a.imported(), b.imported()), (Some(a), Some(b)) if a.object == b.object))
            }
            _ => false,
        }
    }

    /// Something that is done with the object, with what goes with it.
    fn ask<A, R>(&self, op: Op, arguments: &impl Serialize) -> Call<R>
    where
        R: MethodResult,
        A: for<'de> DeserializeAs<'de, R::Value>,
    {
        match &self.place {
            Place::Here(object) => here::call::<A, R>(object, op, arguments),
            Place::There(remote, _) => {
                let ask = Ask::Operation(Box::new(op));
                Call::ask(remote, ask, arguments, decode_outcome::<A, R>)
            }
        }
    }

    /// The same with one value.
    fn ask_with<A, R>(&self, op: Op, value: impl Serialize) -> Call<R>
    where
        R: MethodResult,
        A: for<'de> DeserializeAs<'de, R::Value>,
    {
        match to_value(&value) {
            Ok(value) => self.ask::<A, R>(op, &value),
            Err(error) => Call::failed(error),
        }
    }

    /// Something about its description.
    fn described<R>(&self, read: impl FnOnce(&Description) -> R + Send + 'static) -> Call<Result<R>>
    where
        Result<R>: MethodResult,
    {
        self.described_or(move |description| Ok(read(description)))
    }

    fn described_or<R>(
        &self,
        read: impl FnOnce(&Description) -> Result<R> + Send + 'static,
    ) -> Call<Result<R>>
    where
        Result<R>: MethodResult,
    {
        let known = Arc::clone(&self.description);
        let asked = known
            .get()
            .is_none()
            .then(|| self.ask::<ByValue, Result<Description>>(Op::Describe, &()));
        Call::local(async move {
            if let Some(asked) = asked {
                let told = asked.await?;
                drop(known.set(told));
            }
            let unknown = || Error::new(ErrorKind::Broken, "the object does not say what it can do");
            read(known.get().ok_or_else(unknown)?)
        })
    }
}

/// A value to be sent.
fn to_value(of: &impl Serialize) -> Result<Value> {
    farref_boxing::to_value(of).map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))
}

fn find<'a>(description: &'a Description, name: &str) -> Result<&'a MethodDescription> {
    description.method(name).ok_or_else(|| {
        let of = description
            .interfaces
            .first()
            .map_or("the object", |first| &first.name);
        let names = description.names();
        let near = near::hint(name, names.iter().map(String::as_str));
        let message = format!("{of} has no `{}`{near}", near::cut(name));
        Error::new(ErrorKind::Unimplemented, message)
    })
}

fn not_a(wanted: &Interface, found: &str) -> Error {
    let wanted = wanted.name;
    Error::new(
        ErrorKind::Incompatible,
        format!("expected an object with the interface {wanted}, and it was handed out as {found}"),
    )
}

/// Reads a value that says what it is, as data of a type.
enum ByValue {}

impl<'de, T: DeserializeOwned> DeserializeAs<'de, T> for ByValue {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let value = Value::deserialize(deserializer)?;
        from_value(&value).map_err(D::Error::custom)
    }
}

/// What is copied at once, at most, in bytes: the host may never come to an end.
const LARGEST_COPY: usize = 64 << 20;
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, interface) = match &self.place {
            Place::Here(object) => ("local", object.interface()),
            Place::There(_, interface) => ("remote", *interface),
        };
        let name = interface.map_or("_", |interface| interface.name);
        write!(f, "Object(dyn {name}, {place})")
    }
}

impl<T: ?Sized + RemoteTrait> Netref<T> {
    /// The same object by name.
    #[must_use]
    pub fn dynamic(&self) -> Object {
        Object::new(match self.as_remote() {
            Some(remote) => Place::There(remote, Some(T::INTERFACE)),
            None => Place::Here(Arc::new(Hosted(Arc::clone(self.as_arc())))),
        })
    }
}

/// What the far object is as text: a blocking call. If that fails, why, in angle brackets.
impl<T: ?Sized> fmt::Display for Proxy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = Object::new(Place::There(Arc::clone(self.remote()), None));
        match object.str().wait() {
            Ok(text) => f.pad(&text),
            Err(error) => write!(f, "<{error}>"),
        }
    }
}
