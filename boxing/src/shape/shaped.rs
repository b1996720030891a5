//! Types that tell their shape themselves: what a derive writes, and what is built in for the types of std.

use std::any::type_name;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use ::bytes::Bytes;
use serde::Deserialize;

use super::{Definition, Fields, Kind, Shape, Type, Variant};
use crate::{Error, Reference, Value};

/// A type that tells its shape, which is that of the bytes that its `Serialize` writes and its `Deserialize` reads.
///
/// Only types that cannot be asked for it need one of their own: those that hold references, take only some of the values
/// that their bytes can be, or have variants with `#[serde(alias)]`; and those that are [opaque](Shapes::opaque). For all
/// others it is what [`Shape::of`] finds.
///
/// ```
/// use farref_boxing::{Shape, ShapeFields, ShapeType, Shaped, Shapes};
///
/// struct Line {
///     from: (i32, i32),
///     next: Option<Box<Line>>,
/// }
/// impl Shaped for Line {
///     fn shape(shapes: &mut Shapes) -> ShapeType {
///         shapes.structure::<Self>("Line", |shapes| {
///             ShapeFields::named([
///                 ("from", <(i32, i32)>::shape(shapes)),
///                 ("next", <Option<Box<Line>>>::shape(shapes)),
///             ])
///         })
///     }
/// }
/// assert_eq!(
///     Shape::told_by::<Line>().to_string(),
///     "Line where Line {from: [i32; 2], next: Option<Line>}",
/// );
/// ```
pub trait Shaped {
    /// The shape, the types with names in it told to `shapes`.
    fn shape(shapes: &mut Shapes) -> ShapeType;
}

/// A type in a shape that is being told.
#[derive(Debug, Clone)]
pub struct ShapeType(Type);

/// The fields of a struct or variant in a shape that is being told.
#[derive(Debug, Clone)]
pub struct ShapeFields(Fields);

/// The types with names in a shape that is being told.
#[derive(Debug, Default)]
pub struct Shapes {
    /// `None` for one that is being told.
    types: Vec<Option<Definition>>,
    numbers: HashMap<&'static str, u32>,
    /// What references are in types that are traced.
    stand_in: Option<Reference>,
}

/// The shape that `tell` tells.
pub(super) fn tell(
    stand_in: Option<Reference>,
    tell: impl FnOnce(&mut Shapes) -> Option<ShapeType>,
) -> Option<Shape> {
    let mut shapes = Shapes {
        stand_in,
        ..Shapes::default()
    };
    let root = tell(&mut shapes)?.0;
    // All that were begun are complete.
    let types = shapes.types.into_iter().flatten().collect();
    Some(Shape { root, types }.canonical())
}

impl Shape {
    /// The shape of `T`, as it tells it.
    #[must_use]
    pub fn told_by<T: Shaped + ?Sized>() -> Self {
        let told = tell(None, |shapes| Some(T::shape(shapes)));
        told.unwrap_or(Self {
            root: Type::Tuple(Vec::new()),
            types: Vec::new(),
        })
    }
}

impl ShapeType {
    /// A reference.
    pub const REFERENCE: Self = Self(Type::Reference);

    /// Several types, one behind the other.
    #[must_use]
    pub fn tuple(types: impl IntoIterator<Item = Self>) -> Self {
        Self(Type::tuple(types.into_iter().map(|of| of.0).collect()))
    }

    /// An option of the type.
    #[must_use]
    pub fn optional(self) -> Self {
        Self(Type::Option(Box::new(self.0)))
    }
}

impl ShapeFields {
    /// None.
    pub const UNIT: Self = Self(Fields::Unit);

    /// The only one of a newtype.
    #[must_use]
    pub fn newtype(only: ShapeType) -> Self {
        Self(Fields::Newtype(only.0))
    }

    /// Some without names.
    #[must_use]
    pub fn tuple(types: impl IntoIterator<Item = ShapeType>) -> Self {
        Self(Fields::Tuple(types.into_iter().map(|of| of.0).collect()))
    }

    /// Some with names.
    #[must_use]
    pub fn named(fields: impl IntoIterator<Item = (&'static str, ShapeType)>) -> Self {
        let fields = fields.into_iter().map(|(name, of)| (name.into(), of.0));
        Self(Fields::Named(fields.collect()))
    }
}

impl Shapes {
    /// The struct `T`, whose fields are asked for if they are not known yet.
    pub fn structure<T: ?Sized>(
        &mut self,
        name: &str,
        fields: impl FnOnce(&mut Self) -> ShapeFields,
    ) -> ShapeType {
        self.named::<T>(name, |shapes| Kind::Struct(fields(shapes).0))
    }

    /// The enum `T`, whose variants are asked for if they are not known yet.
    pub fn enumeration<T: ?Sized, V: IntoIterator<Item = (&'static str, ShapeFields)>>(
        &mut self,
        name: &str,
        variants: impl FnOnce(&mut Self) -> V,
    ) -> ShapeType {
        self.named::<T>(name, |shapes| {
            let variants = variants(shapes).into_iter().map(|(name, fields)| Variant {
                name: name.into(),
                fields: fields.0,
            });
            Kind::Enum(variants.collect())
        })
    }

    /// A type whose bytes nobody else can read: it is equal to what has the same name and version, whatever that is.
    pub fn opaque(&mut self, name: &str, version: u32) -> ShapeType {
        let number = self.types.len() as u32;
        self.types.push(Some(Definition {
            name: name.into(),
            kind: Kind::Opaque(version),
        }));
        ShapeType(Type::Named(number))
    }

    /// A type that does not tell its shape, as its `Deserialize` does. `None` if that cannot, either.
    pub fn traced<'de, T: Deserialize<'de>>(&mut self) -> Option<ShapeType> {
        let mut shape = super::trace::trace::<T>(self.stand_in.as_ref())?;
        let first = self.types.len() as u32;
        let mut renumber = |number: &mut u32| *number = number.saturating_add(first);
        shape.root.each_mut(&mut renumber);
        for mut definition in shape.types {
            definition.each_mut(&mut renumber);
            self.types.push(Some(definition));
        }
        Some(ShapeType(shape.root))
    }

    fn named<T: ?Sized>(&mut self, name: &str, kind: impl FnOnce(&mut Self) -> Kind) -> ShapeType {
        let key = type_name::<T>();
        if let Some(number) = self.numbers.get(key) {
            return ShapeType(Type::Named(*number));
        }
        let number = self.types.len() as u32;
        self.numbers.insert(key, number);
        self.types.push(None);
        let kind = kind(self);
        if let Some(place) = self.types.get_mut(number as usize) {
            *place = Some(Definition {
                name: name.into(),
                kind,
            });
        }
        ShapeType(Type::Named(number))
    }
}

macro_rules! plain {
    ($($name:ident: $($type:ty),+;)*) => {$($(
        impl Shaped for $type {
            fn shape(_shapes: &mut Shapes) -> ShapeType {
                ShapeType(Type::$name)
            }
        }
    )+)*};
}

plain! {
    Bool: bool;
    U8: u8, std::num::NonZeroU8;
    U16: u16, std::num::NonZeroU16;
    U32: u32, std::num::NonZeroU32;
    U64: u64, std::num::NonZeroU64, usize, std::num::NonZeroUsize;
    U128: u128, std::num::NonZeroU128;
    I8: i8, std::num::NonZeroI8;
    I16: i16, std::num::NonZeroI16;
    I32: i32, std::num::NonZeroI32;
    I64: i64, std::num::NonZeroI64, isize, std::num::NonZeroIsize;
    I128: i128, std::num::NonZeroI128;
    F32: f32;
    F64: f64;
    Char: char;
    Str: str, String, std::path::Path, std::path::PathBuf;
    Bytes: Bytes;
    Value: Value;
}

macro_rules! as_inner {
    ($($type:ty)*) => {$(
        impl<T: Shaped + ?Sized> Shaped for $type {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                T::shape(shapes)
            }
        }
    )*};
}

as_inner! { &T Box<T> Rc<T> Arc<T> std::cell::RefCell<T> std::sync::Mutex<T> std::sync::RwLock<T> }

impl<T: Shaped> Shaped for std::cell::Cell<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        T::shape(shapes)
    }
}

impl<T: Shaped> Shaped for Reverse<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        T::shape(shapes)
    }
}

impl<T: Shaped> Shaped for std::num::Wrapping<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        T::shape(shapes)
    }
}

impl<T: Shaped + ToOwned + ?Sized> Shaped for Cow<'_, T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        T::shape(shapes)
    }
}

impl<T: Shaped> Shaped for Option<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        ShapeType(Type::Option(Box::new(T::shape(shapes).0)))
    }
}

macro_rules! sequences {
    ($($type:ty $(: $state:ident)?;)*) => {$(
        impl<T: Shaped $(, $state)?> Shaped for $type {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                ShapeType(Type::list(T::shape(shapes).0))
            }
        }
    )*};
}

sequences! {
    [T];
    Vec<T>;
    VecDeque<T>;
    LinkedList<T>;
    BinaryHeap<T>;
    BTreeSet<T>;
    HashSet<T, S>: S;
}

impl<K: Shaped, V: Shaped> Shaped for BTreeMap<K, V> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        ShapeType(Type::Map(
            Box::new(K::shape(shapes).0),
            Box::new(V::shape(shapes).0),
        ))
    }
}

impl<K: Shaped, V: Shaped, S> Shaped for HashMap<K, V, S> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        <BTreeMap<K, V>>::shape(shapes)
    }
}

impl<T: Shaped, const N: usize> Shaped for [T; N] {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        ShapeType(match N {
            0 => Type::Tuple(Vec::new()),
            1 => Type::Tuple(vec![T::shape(shapes).0]),
            count => Type::Array(Box::new(T::shape(shapes).0), count as u32),
        })
    }
}

impl Shaped for () {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        ShapeType(Type::Tuple(Vec::new()))
    }
}

impl<T: Shaped, E: Shaped> Shaped for Result<T, E> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        shapes.enumeration::<Self, _>("Result", |shapes| {
            [
                ("Ok", ShapeFields::newtype(T::shape(shapes))),
                ("Err", ShapeFields::newtype(E::shape(shapes))),
            ]
        })
    }
}

macro_rules! ranges {
    ($($type:ident)*) => {$(
        impl<T: Shaped> Shaped for std::ops::$type<T> {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                shapes.structure::<Self>(stringify!($type), |shapes| {
                    ShapeFields::named([("start", T::shape(shapes)), ("end", T::shape(shapes))])
                })
            }
        }
    )*};
}

ranges! { Range RangeInclusive }

impl<T: ?Sized> Shaped for PhantomData<T> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        shapes.structure::<Self>("PhantomData", |_| ShapeFields::UNIT)
    }
}

macro_rules! tuples {
    ($(($($type:ident)+))*) => {$(
        impl<$($type: Shaped),+> Shaped for ($($type,)+) {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                ShapeType(Type::tuple(vec![$($type::shape(shapes).0),+]))
            }
        }
    )*};
}

tuples! {
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
    (A B C D E F G H I)
    (A B C D E F G H I J)
    (A B C D E F G H I J K)
    (A B C D E F G H I J K L)
}

macro_rules! traced {
    ($($type:ty)*) => {$(
        impl Shaped for $type {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                // These can all be told.
                shapes.traced::<Self>().unwrap_or(ShapeType(Type::Tuple(Vec::new())))
            }
        }
    )*};
}

traced! {
    std::time::Duration std::time::SystemTime
    std::net::IpAddr std::net::Ipv4Addr std::net::Ipv6Addr
    std::net::SocketAddr std::net::SocketAddrV4 std::net::SocketAddrV6
    Error
}
