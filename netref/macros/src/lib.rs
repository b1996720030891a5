//! The `#[remote]` attribute of farref, and `#[derive(Shape)]`. Their documentation is on [`macro@remote`] and
//! [`macro@Shape`].
//!
//! ```text
//!   trait ──► options, model ◄── check       what the trait says, and what it cannot say
//!                  │
//!                  ├── desugar               `async fn` to a function that returns a boxed future
//!                  └── expand_trait          run-time half, proxy, companions, closures
//!
//!   impl ───► expand_impl ──► desugar, answers
//!
//!   struct, enum ──► derive_shape ──► rename
//! ```
//!
//! What is generated names everything by its path from `::farref`, brings no name into scope but those of the two
//! companions, and leaves the work to functions of the library: see `farref_netref::interface::expansion`.

mod adapter;
mod answers;
mod check;
mod derive_shape;
mod desugar;
mod doc;
mod errors;
mod expand_impl;
mod expand_trait;
mod manners;
mod model;
mod options;
mod rename;
mod text;

use proc_macro::TokenStream;
use syn::{Item, parse_macro_input};

/// Makes a trait remote; on an `impl` of such a trait, lets it have `async fn`.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::{Netref, Result, remote};
///
/// /// A bench of instruments.
/// #[remote]
/// pub trait Bench {
///     /// The voltage of a channel, in volts.
///     fn voltage(&self, channel: u8) -> Result<f64>;
///
///     /// Samples a channel for a while, and tells `listener`.
///     async fn record(&self, ms: u32, listener: Netref<dyn Listener>) -> Result<u64>;
///
///     /// What to call it. Runs on the calling side where the peer is older and has no such method.
///     fn title(&self) -> Result<String> {
///         Ok("a bench".into())
///     }
/// }
///
/// #[remote(closure)]
/// pub trait Listener {
///     fn sample(&self, at: u64, volts: f64) -> Result<()>;
/// }
///
/// struct Simulated;
///
/// #[remote]
/// impl Bench for Simulated {
///     fn voltage(&self, channel: u8) -> Result<f64> {
///         Ok(f64::from(channel) * 1.5)
///     }
///
///     async fn record(&self, ms: u32, listener: Netref<dyn Listener>) -> Result<u64> {
///         for at in 0..u64::from(ms) {
///             listener.call().sample(at, 1.5).await?;
///         }
///         Ok(ms.into())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let bench: Netref<dyn Bench> = Netref::of(Simulated);
/// assert_eq!(bench.voltage(2)?, 3.0);
/// let listener = Netref::of(|at: u64, volts: f64| Ok(assert!(at < 3 && volts > 0.0)));
/// assert_eq!(bench.record(3, listener).await?, 3);
/// assert_eq!(bench.call().title().await?, "a bench");
/// # Ok(())
/// # }
/// ```
///
/// # What a remote trait may have
///
/// | | |
/// |---|---|
/// | methods | `fn f(&self, ..) -> Result<T, E>` and `async fn`; with default bodies |
/// | results | `farref::Result<T>`, or any `Result<T, E>` where `E: From<farref::Error>` |
/// | arguments | up to 16: `T`, `&T`, `Option<&T>`; also `&str`, `&[u8]` and other slices |
/// | values | what serde can write and read, with a `Netref<dyn Trait>` anywhere in it; `&T` also needs `Clone` |
/// | bytes | `Vec<u8>`, `Bytes`, `&[u8]`, `[u8; N]`, also in `Option`, `Vec` and tuples: written and read in one go |
/// | supertraits | remote traits, and `Any`, `Send`, `Sync`, `Debug`, `Unpin` |
/// | functions for this process alone | whatever has a body and `where Self: Sized` |
///
/// It cannot be generic, and has neither constants nor associated types. `Any`, `Send` and `Sync` are added to its
/// supertraits.
///
/// An `async fn f(&self, x: &str) -> R` becomes `fn f<'call>(&'call self, x: &'call str) -> BoxFuture<'call, R>`, so
/// that `dyn Trait` is a type. `#[remote]` on an `impl` does the same to its methods; an `impl` without `async fn`
/// needs no attribute. One that has some and lacks the attribute is an error of the compiler's, which expects a
/// `Pin<Box<..>>` and finds a future.
///
/// # Arguments of the attribute
///
/// | on a trait | |
/// |---|---|
/// | `name = ".."` | the name by which both sides know the trait; that of the trait by default |
/// | `version = 2` | its major version, 1 by default: traits of other versions are other traits |
/// | `closure` | closures implement the trait, which has one method; async ones return a future and borrow nothing |
/// | `str` | it has the supertrait `Display`: that is what objects are as text, also from afar, where `Display` is a blocking call |
/// | `extends(A, ..)` | of a trait with several supertraits: supertraits that these have |
///
/// On an `impl` it takes what every object can be asked by name ([`Object`]), and this one answers by a trait of
/// std. Whoever has the trait alone asks [`Netref::dynamic`].
///
/// | on an `impl` | | taken from |
/// |---|---|---|
/// | `str` | [`Object::str`] | `Display` |
/// | `eq` | [`Object::equals`] | `PartialEq` |
/// | `hash` | [`Object::hash`] | `Hash` |
/// | `len` | [`Object::len`] | a method `len` |
/// | `index`, `index(Key)` | [`Object::index`] | `Index<usize>`, `Index<Key>` |
/// | `iter` | [`Object::iter`] | `IntoIterator` for a reference to it |
/// | `copy` | [`Object::fetch`] | serde's `Serialize` |
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::{Netref, Result, remote};
///
/// #[remote]
/// trait Samples {}
///
/// struct Recorded(Vec<f64>);
///
/// #[remote(len, iter)]
/// impl Samples for Recorded {}
///
/// impl Recorded {
///     fn len(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// impl<'a> IntoIterator for &'a Recorded {
///     type Item = &'a f64;
///     type IntoIter = std::slice::Iter<'a, f64>;
///
///     fn into_iter(self) -> Self::IntoIter {
///         self.0.iter()
///     }
/// }
///
/// let samples: Netref<dyn Samples> = Netref::of(Recorded(vec![0.5, 1.0]));
/// let object = samples.dynamic();
/// assert_eq!(object.len().wait()?, 2);
/// assert_eq!(object.fetch().wait()?.to_string(), "[0.5, 1.0]");
/// # Ok::<(), farref::Error>(())
/// ```
///
/// # Attributes of methods
///
/// | | |
/// |---|---|
/// | `#[serial]` | one call at a time on an object, in order |
/// | `#[concurrent]` | calls do not wait for each other |
/// | `#[one_way]` | the caller does not wait; returns `Result<()>` |
/// | `#[idempotent]` | may be repeated where it is not known whether it ran |
/// | `#[detached]` | goes on when the caller has gone |
/// | `#[inline]` | a blocking method that never waits: it is run by whoever reads the connection |
/// | `#[spawned]` | an async method that is never polled by whoever reads the connection, as others may be, at first and after each call of their own: for one that blocks otherwise than by farref's blocking calls |
/// | `#[property]` | `fn name(&self)` reads the property `name`, `fn set_name(&self, value: T)` writes it: by name, see [`Object::get`] |
/// | `#[reads]` | changes nothing that others could notice, as the getter of a property: a read-only guard lets it through |
///
/// # What it makes
///
/// Besides what the library needs: `TraitCalls`, behind [`Netref::call`], whose methods return a [`Call`] that owns
/// its arguments; and `TraitBlocking`, behind [`Netref::blocking`], whose methods wait. Both repeat the doc comments
/// of the methods, up to the first heading or example, and dereference to those of the first supertrait; the methods
/// of others are reached by [`Netref::upcast`]. The names are made from that of the trait, and have its visibility.
///
/// A type is known by its look where that decides how it crosses: `Bytes` is taken for `bytes::Bytes` unless it is
/// written with its path.
///
/// [`Object`]: https://docs.rs/farref/latest/farref/object/struct.Object.html
/// [`Object::str`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.str
/// [`Object::equals`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.equals
/// [`Object::hash`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.hash
/// [`Object::len`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.len
/// [`Object::index`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.index
/// [`Object::iter`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.iter
/// [`Object::fetch`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.fetch
/// [`Object::get`]: https://docs.rs/farref/latest/farref/object/struct.Object.html#method.get
/// [`Netref::dynamic`]: https://docs.rs/farref/latest/farref/struct.Netref.html#method.dynamic
/// [`Netref::call`]: https://docs.rs/farref/latest/farref/struct.Netref.html#method.call
/// [`Netref::blocking`]: https://docs.rs/farref/latest/farref/struct.Netref.html#method.blocking
/// [`Netref::upcast`]: https://docs.rs/farref/latest/farref/struct.Netref.html#method.upcast
/// [`Call`]: https://docs.rs/farref/latest/farref/struct.Call.html
#[proc_macro_attribute]
pub fn remote(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = match parse_macro_input!(item as Item) {
        Item::Trait(item) => expand_trait::expand(arguments.into(), item),
        Item::Impl(item) => expand_impl::expand(arguments.into(), item),
        other => {
            let message =
                "`#[remote]` goes on a trait, or on an `impl` of a remote trait that has `async fn`";
            let error = syn::Error::new_spanned(&other, message).to_compile_error();
            quote::quote!(#other #error)
        }
    };
    expanded.into()
}

/// Lets a type tell what it looks like on the wire, so that older and newer versions of it can be read as each other.
///
/// Most types need no such thing, as their `Deserialize` tells the same. It is for those that take only some of the values
/// that their bytes can have, for enums with `#[serde(alias)]` on a variant, and for opaque types. What holds such a type
/// needs it, too.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::Shape;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Shape)]
/// #[serde(rename_all = "camelCase")]
/// struct Settings {
///     #[serde(alias = "volts")]
///     max_volts: f64,
///     #[serde(default)]
///     labels: Vec<String>,
/// }
/// let shape = Shape::told_by::<Settings>();
/// assert_eq!(shape.to_string(), "Settings where Settings {maxVolts: f64, labels: Vec<String>}");
/// ```
///
/// It goes by the attributes that serde goes by: `rename`, `rename_all`, `rename_all_fields`, `skip`, `transparent`,
/// `from`, `try_from` and `into`; `alias` and `default` are for the reader alone. What needs a format that says what it
/// holds is refused: `flatten`, `tag`, `untagged`, `skip_serializing_if` and the like. `with = "farref::bytes"` is known;
/// for other functions, `#[shape(as = "Type")]` on the field or type names a type that looks the same.
///
/// Parameters of a generic type have to tell their shape as well.
///
/// # Opaque types
///
/// What a type looks like may be nobody's business but its own: it has a format that serde does not see, or takes only
/// some of the values that its bytes can be. `#[shape(opaque, name = "..", version = 2)]` gives it a name and a version
/// instead, those of the type and 1 by default. It is read by what has the same name and version, whatever is in it then,
/// and refused by everything else, before anything is decoded. What holds it may change all the same. A field that holds
/// one cannot be left out or renamed, as nobody could skip it.
///
/// On a field it stands for the field's type, which may be of another crate.
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::Shape;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Shape)]
/// #[shape(opaque, name = "lab.Waveform", version = 2)]
/// struct Waveform {
///     packed: Vec<u8>,
/// }
///
/// mod hex {
/// #   use serde::{Deserialize, Deserializer, Serialize, Serializer};
///     pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
///         // ..
/// #       format!("{number:x}").serialize(serializer)
///     }
/// #   pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
/// #       u64::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(serde::de::Error::custom)
/// #   }
/// }
///
/// #[derive(Serialize, Deserialize, Shape)]
/// struct Capture {
///     wave: Waveform,
///     #[serde(with = "hex")]
///     #[shape(opaque, name = "lab.Hex")]
///     serial: u64,
/// }
/// assert_eq!(
///     Shape::told_by::<Capture>().to_string(),
///     "Capture where Capture {wave: lab.Waveform, serial: lab.Hex}, lab.Waveform version 2, lab.Hex version 1",
/// );
/// ```
#[proc_macro_derive(Shape, attributes(serde, shape))]
pub fn shape(item: TokenStream) -> TokenStream {
    derive_shape::expand(parse_macro_input!(item as syn::DeriveInput)).into()
}
