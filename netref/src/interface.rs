//! What a remote trait is at run time: its name, its methods, and how a call reaches them.
//!
//! Everything here is implemented by [`#[remote]`](macro@crate::remote) for `dyn Trait`, never by hand.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use farref_boxing::{Error, Value};

use crate::by_name;
use crate::caller::{Caller, Lender};
use crate::hosted::Exported;
use crate::invocation::{Dispatched, Invocation};
use crate::object::Asked;
use crate::protocol::Op;
use crate::remote::Remote;
use crate::shapes::{MethodShapes, Told};

#[doc(hidden)]
pub mod expansion;
pub(crate) mod known;

/// A remote trait: name, version and methods.
#[derive(Debug)]
#[non_exhaustive]
pub struct Interface {
    /// The name by which both sides know the trait.
    pub name: &'static str,
    /// Major version: interfaces of the same name and different versions are different interfaces.
    pub version: u16,
    /// Fingerprint of name and version (PROTOCOL.md § 7.8).
    pub id: u64,
    /// The methods, in the order of their declaration, without those of supertraits.
    pub methods: &'static [Method],
    /// The remote traits that this one extends.
    pub parents: &'static [&'static Interface],
    /// The trait's doc comment.
    pub doc: &'static str,
    /// Hands on, under this trait, a far object of a peer that knows no interfaces.
    pub(crate) translated: fn(Arc<dyn Remote>) -> Arc<dyn Exported>,
}

impl Interface {
    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub const fn new<T: ?Sized + RemoteTrait>(
        name: &'static str,
        version: u16,
        methods: &'static [Method],
        parents: &'static [&'static Interface],
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            version,
            id: interface_id(name, version),
            methods,
            parents,
            doc,
            translated: by_name::translated::<T>,
        }
    }

    /// The interface with that id: this one, or one that it extends, directly or not.
    #[must_use]
    pub fn find(&'static self, id: u64) -> Option<&'static Self> {
        if self.id == id {
            Some(self)
        } else {
            self.parents.iter().find_map(|parent| parent.find(id))
        }
    }

    /// The method of that name and the interface that declares it: this one, or one that it extends. The name may
    /// begin with that of the interface: `Bench.voltage`.
    #[must_use]
    pub fn find_named(&'static self, name: &str) -> Option<(&'static Self, &'static Method)> {
        self.find_by(&|interface| interface.position_named(name))
    }

    /// The method that a call is for, and the interface that declares it: this one, or one that it extends.
    pub(crate) fn find_for(&'static self, op: &Op) -> Option<(&'static Self, &'static Method)> {
        match op {
            // Only the interface that is named: a method of the same number elsewhere is another one.
            Op::Method { interface, .. } => {
                let interface = self.find(*interface)?;
                let method = interface.methods.get(interface.position_for(op)?)?;
                Some((interface, method))
            }
            Op::Invoke => self.only(),
            op => self.find_by(&|interface| interface.position_for(op)),
        }
    }

    /// The method that is called when the object itself is: the only one that there is.
    fn only(&'static self) -> Option<(&'static Self, &'static Method)> {
        let lineage = self.lineage();
        let mut all = lineage
            .into_iter()
            .flat_map(|interface| interface.methods.iter().map(move |method| (interface, method)));
        all.next().filter(|_| all.next().is_none())
    }

    fn find_by(
        &'static self,
        position: &dyn Fn(&Self) -> Option<usize>,
    ) -> Option<(&'static Self, &'static Method)> {
        let own = position(self).and_then(|index| self.methods.get(index));
        own.map(|method| (self, method))
            .or_else(|| self.parents.iter().find_map(|parent| parent.find_by(position)))
    }

    /// Which of its own methods a call is for.
    pub(crate) fn position_for(&self, op: &Op) -> Option<usize> {
        match op {
            Op::Method {
                interface, method, ..
            } => {
                if *interface != self.id {
                    return None;
                }
                self.methods.iter().position(|known| known.number == *method)
            }
            Op::Named(name) => self.position_named(name),
            Op::Get(name) => {
                let name = self.unqualified(name)?;
                let is_getter = |method: &Method| method.getter() == Some(name);
                self.methods.iter().position(is_getter)
            }
            Op::Set(name) => {
                let name = self.unqualified(name)?;
                let is_setter = |method: &Method| method.setter() == Some(name);
                self.methods.iter().position(is_setter)
            }
            _ => None,
        }
    }

    fn position_named(&self, name: &str) -> Option<usize> {
        let position = |name: &str| self.methods.iter().position(|method| method.name == name);
        // No method has a dot in its name.
        position(name).or_else(|| position(self.unqualified(name)?))
    }

    /// The name without that of the interface, which it may begin with; `None` if it begins with that of another one.
    fn unqualified<'a>(&self, name: &'a str) -> Option<&'a str> {
        match name.rsplit_once('.') {
            None => Some(name),
            Some((of, name)) => (of == self.name).then_some(name),
        }
    }

    /// This interface and all that it extends, each once, nearest first.
    pub(crate) fn lineage(&'static self) -> Vec<&'static Self> {
        let mut lineage = vec![self];
        let mut next = 0;
        while let Some(interface) = lineage.get(next).copied() {
            for parent in interface.parents {
                if lineage.iter().all(|known| known.id != parent.id) {
                    lineage.push(parent);
                }
            }
            next = next.saturating_add(1);
        }
        lineage
    }
}

/// A method of a remote trait.
#[derive(Debug)]
#[non_exhaustive]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its number in the interface: a fingerprint of the name (PROTOCOL.md § 7.8).
    pub number: u32,
    /// Interface that declares it.
    pub interface: u64,
    /// Fingerprints of the texts of the arguments' types, of the result's and of the error's: they stand for those of
    /// the shapes where these are not known.
    texts: [u32; 3],
    /// Finds the shapes.
    shapes: fn() -> &'static MethodShapes,
    /// Whether it is an `async fn`.
    pub is_async: bool,
    /// Whether it has a default body, which runs on the calling side where the peer lacks the method.
    pub has_default: bool,
    /// What its attributes say about how it is run.
    pub manners: Manners,
    /// Names and types of the arguments, as written.
    pub arguments: &'static [Argument],
    /// The return type, as written.
    pub result: &'static str,
    /// The doc comment.
    pub doc: &'static str,
}

impl Method {
    /// For generated code: everything follows from the declaration.
    #[doc(hidden)]
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "called by generated code only")]
    pub const fn new(
        interface: u64,
        name: &'static str,
        is_async: bool,
        has_default: bool,
        manners: Manners,
        arguments: &'static [Argument],
        texts: [&'static str; 3],
        result: &'static str,
        shapes: fn() -> &'static MethodShapes,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            number: method_number(name),
            interface,
            texts: {
                let [arguments, value, failure] = texts;
                [
                    shape_of_text(arguments),
                    shape_of_text(value),
                    shape_of_text(failure),
                ]
            },
            shapes,
            is_async,
            has_default,
            manners,
            arguments,
            result,
            doc,
        }
    }

    /// How deep containers are nested in the argument at that place, as far as that is known: so many levels of what comes
    /// by reference are wanted by value.
    pub(crate) fn levels_of(&self, place: usize) -> u8 {
        let told = self.told().arguments.item_levels(place);
        told.unwrap_or_else(|| {
            let of = self.arguments.get(place).map_or("", |argument| argument.of);
            let takes_references = ["Netref", "Object", "Value"].iter().any(|name| of.contains(name));
            if takes_references { 0 } else { u8::MAX }
        })
    }

    /// What it takes, as a person would write it: `(channel: u8, gain: Option<f64>)`.
    pub(crate) fn takes(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
        format!("({})", arguments.join(", "))
    }

    /// The property that it reads.
    pub(crate) fn getter(&self) -> Option<&'static str> {
        (self.manners.property && self.arguments.is_empty()).then_some(self.name)
    }

    /// Whether it only looks: it says `#[reads]`, or is the getter of a property.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.manners.reads || self.getter().is_some()
    }

    /// The property that it writes.
    pub(crate) fn setter(&self) -> Option<&'static str> {
        if self.manners.property && self.arguments.len() == 1 {
            self.name.strip_prefix("set_")
        } else {
            None
        }
    }
}

impl Method {
    /// What it takes and returns. The types are asked when this is called first.
    #[inline]
    pub(crate) fn told(&self) -> &'static Told {
        (self.shapes)().told(self.texts)
    }

    /// Fingerprint of the types of its arguments on this side (PROTOCOL.md § 7.8).
    #[must_use]
    pub fn arguments_shape(&self) -> u32 {
        self.told().arguments.fingerprint
    }

    /// Fingerprint of what it returns on this side when it succeeds (PROTOCOL.md § 7.8).
    #[must_use]
    pub fn result_shape(&self) -> u32 {
        self.told().value.fingerprint
    }
}

/// One argument of a method.
#[derive(Debug)]
#[non_exhaustive]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its type, as written.
    pub of: &'static str,
}

impl Argument {
    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(name: &'static str, of: &'static str) -> Self {
        Self { name, of }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.of)
    }
}

/// How a method is run, as its attributes say. The default is what [`Dispatched`] describes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute of its own")]
#[expect(clippy::exhaustive_structs, reason = "written out by generated code")]
pub struct Manners {
    /// `#[serial]`: one call at a time on this object, in order.
    pub serial: bool,
    /// `#[concurrent]`: calls do not wait for each other.
    pub concurrent: bool,
    /// `#[one_way]`: the caller does not wait for a result.
    pub one_way: bool,
    /// `#[idempotent]`: may be repeated where it is not known whether it ran.
    pub idempotent: bool,
    /// `#[detached]`: goes on when the caller has gone.
    pub detached: bool,
    /// `#[inline]`: a blocking method that is run by whoever reads the connection; it must not wait.
    pub inline: bool,
    /// `#[spawned]`: an async method that is never polled by whoever reads the connection.
    pub spawned: bool,
    /// `#[property]`: reads or writes a property, which is so named.
    pub property: bool,
    /// `#[reads]`: changes nothing that others could notice.
    pub reads: bool,
}

impl Manners {
    /// No attributes.
    pub(crate) const NONE: Self = Self {
        serial: false,
        concurrent: false,
        one_way: false,
        idempotent: false,
        detached: false,
        inline: false,
        spawned: false,
        property: false,
        reads: false,
    };
}

/// A `dyn Trait` whose trait is marked [`#[remote]`](macro@crate::remote).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a remote trait object",
    label = "expected `dyn Trait` of a trait marked `#[remote]`",
    note = "say which trait: `Netref::<dyn Trait>::of(object)`, or give the variable its type"
)]
pub trait RemoteTrait: Send + Sync + 'static {
    /// What the trait is called and has.
    const INTERFACE: &'static Interface;

    /// The asynchronous companion: the trait's methods, each returning a [`Call`](crate::Call).
    type Calls<'a>: From<Caller<'a, Self>>;
    /// The blocking companion: the trait's methods, each waiting for its result.
    type Blocking<'a>: From<Lender<'a, Self>>;

    /// A proxy that makes the trait's calls through `remote`.
    fn proxy(remote: Arc<dyn Remote>) -> Arc<Self>;

    /// What the object calls through, if it is a proxy.
    fn remote(&self) -> Option<Arc<dyn Remote>>;

    /// Runs the method that `invocation` names, if the trait or a supertrait has it.
    fn dispatch(this: Arc<Self>, invocation: Invocation) -> Dispatched;

    /// The object as an `Arc` of the trait with that id, boxed: the trait itself or a supertrait.
    fn upcast(this: Arc<Self>, interface: u64) -> Option<Box<dyn Any>>;

    /// What the object answers to something that every object can be asked, if it has an answer of its own.
    fn manner(&self, asked: &Asked<'_>) -> Option<Result<Value, Error>>;

    /// The object as its own type, for whoever knows that.
    fn as_any(&self) -> &dyn Any;
}

/// `Arc<S>` to `Arc<dyn Trait>`, on stable Rust.
#[diagnostic::on_unimplemented(
    message = "`{S}` cannot be shared as `Netref<{Self}>`",
    label = "this does not implement the remote trait"
)]
pub trait Wrap<S> {
    /// Unsizes.
    fn wrap(object: Arc<S>) -> Arc<Self>;
}

/// A `dyn Self` that has the trait of `dyn U` among its supertraits, or is it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no supertrait `{U}`",
    note = "a trait with several supertraits has to name those that they have: `#[remote(extends(Ancestor))]`"
)]
pub trait Extends<U: ?Sized> {
    /// The object as its supertrait.
    fn up(this: Arc<Self>) -> Arc<U>;
    /// The object as its supertrait, borrowed.
    fn up_ref(this: &Self) -> &U;
}

/// FNV-1a, 64 bit.
const fn fnv64(mut hash: u64, text: &[u8]) -> u64 {
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        hash = (hash ^ *first as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    hash
}

const FNV64: u64 = 0xcbf2_9ce4_8422_2325;

/// The id of an interface: FNV-1a of its name, a zero byte, and its major version, little endian.
#[must_use]
pub const fn interface_id(name: &str, version: u16) -> u64 {
    fnv64(fnv64(fnv64(FNV64, name.as_bytes()), &[0]), &version.to_le_bytes())
}

/// The number of a method: FNV-1a of its name, folded to 32 bits.
#[must_use]
pub const fn method_number(name: &str) -> u32 {
    fold(fnv64(FNV64, name.as_bytes()))
}

/// The fingerprint of a type that is known by its text alone. White space does not count.
#[must_use]
pub const fn shape_of_text(text: &str) -> u32 {
    let mut hash = FNV64;
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if !first.is_ascii_whitespace() {
            hash = fnv64(hash, &[*first]);
        }
        rest = tail;
    }
    fold(hash)
}

#[expect(clippy::cast_possible_truncation, reason = "folding keeps what is cut off")]
const fn fold(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_change() {
        assert_eq!(interface_id("Bench", 1), 0x23d4_373a_4c29_e50a);
        assert_ne!(interface_id("Bench", 1), interface_id("Bench", 2));
        assert_eq!(method_number(""), 0xcbf2_9ce4 ^ 0x8422_2325);
    }

    #[test]
    fn white_space_is_no_part_of_a_type() {
        assert_eq!(shape_of_text("Vec < u8 >"), shape_of_text("Vec<u8>"));
        assert_ne!(shape_of_text("Vec<u8>"), shape_of_text("Vec<i8>"));
    }
}
