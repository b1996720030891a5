//! What the bytes of a type look like: enough to read them without the type, or into a newer or older one.
//!
//! A payload does not say what its bytes mean (PROTOCOL.md § 9). A [`Shape`] does (§ 9.13): it has the names of fields and
//! variants, and the order in which they are written. `trace` finds the shape of a type by asking its `Deserialize`;
//! `read` reads bytes of one shape as a value of another type.

mod agree;
mod check;
mod dynamic;
mod read;
mod shaped;
mod trace;

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

use crate::{Encoder, Reference};

pub use check::ShapeMismatch;
pub use read::decode_by_shape;
pub(crate) use read::decode_some_by_shape;
pub use shaped::{ShapeFields, ShapeType, Shaped, Shapes};

/// What the bytes of a type look like.
///
/// ```
/// use farref_boxing::Shape;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Line {
///     from: (i32, i32),
///     to: Option<Box<Line>>,
/// }
/// let shape = Shape::of::<Line>().unwrap();
/// assert_eq!(shape.to_string(), "Line where Line {from: [i32; 2], to: Option<Line>}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    root: Type,
    /// The types with names, in the order in which they are referred to: first by the root, then by each of them.
    types: Vec<Definition>,
}

/// A type, or what it refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Type {
    Bool,
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    Char,
    Str,
    /// Also a list of `u8`, whose bytes are the same.
    Bytes,
    Option(Box<Type>),
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// Also unit.
    Tuple(Vec<Type>),
    /// A tuple of so many equal types.
    Array(Box<Type>, u32),
    /// Data that says what it is.
    Value,
    /// A type with a name: which one.
    Named(u32),
    /// A reference, as the number of its slot.
    Reference,
}

/// A type with a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Definition {
    name: Box<str>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    Struct(Fields),
    Enum(Vec<Variant>),
    /// What its bytes are is its own affair: it is equal to what has the same name and this version.
    Opaque(u32),
    /// Opaque, and the reader's type is the same; never written.
    #[serde(skip)]
    Own,
}

/// A variant of an enum. Its number is its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Variant {
    name: Box<str>,
    fields: Fields,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Fields {
    Unit,
    Newtype(Type),
    Tuple(Vec<Type>),
    Named(Vec<(Box<str>, Type)>),
}

impl Shape {
    /// The shape of `T`, as far as its `Deserialize` tells.
    ///
    /// `None` for what cannot be told: types that take only some of the values that their bytes can have, such as
    /// those with a netref; types that need a self-describing format; enums whose variants have several names, as
    /// nobody says by which of them they are written.
    #[must_use]
    pub fn of<'de, T: Deserialize<'de>>() -> Option<Self> {
        trace::trace::<T>(None)
    }

    /// What `tell` tells: of several types together, some of which may not be known. `stand_in` takes the place of
    /// references in types that are traced.
    pub fn tell(
        stand_in: Option<Reference>,
        tell: impl FnOnce(&mut Shapes) -> Option<ShapeType>,
    ) -> Option<Self> {
        shaped::tell(stand_in, tell)
    }

    /// A number that equal shapes have in common, and hardly any others: FNV-1a of the shape's bytes, folded to 32
    /// bits.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut encoder = Encoder::new();
        // A shape has nothing in it that could refuse.
        _ = encoder.encode(self);
        let bytes = encoder.body().to_bytes();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        ((hash >> 32) ^ hash) as u32
    }

    /// Whether every type that is referred to is there, and none holds itself without end.
    ///
    /// A shape that came from a peer is not to be trusted before.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let known = |number: u32| usize::try_from(number).is_ok_and(|number| number < self.types.len());
        let mut sound = true;
        self.root.each(&mut |number| sound &= known(number));
        for definition in &self.types {
            definition.each(&mut |number| sound &= known(number));
        }
        sound && self.ends()
    }

    /// Whether no type holds itself but by way of an option, a list, a map or an enum.
    fn ends(&self) -> bool {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            Open,
            Done,
        }
        let held = |number: u32| {
            let mut held = Vec::new();
            if let Some(Kind::Struct(fields)) = self.definition(number).map(|found| &found.kind) {
                fields.types().for_each(|of| of.inline(&mut held));
            }
            held
        };
        let mut marks = vec![Mark::New; self.types.len()];
        for start in 0..self.types.len() as u32 {
            let mut path = vec![(start, vec![start])];
            while let Some((at, next)) = path.last_mut() {
                let Some(number) = next.pop() else {
                    if let Some(mark) = marks.get_mut(*at as usize) {
                        *mark = Mark::Done;
                    }
                    path.pop();
                    continue;
                };
                match marks.get_mut(number as usize) {
                    Some(mark @ Mark::New) => {
                        *mark = Mark::Open;
                        path.push((number, held(number)));
                    }
                    Some(Mark::Done) => {}
                    Some(Mark::Open) | None => return false,
                }
            }
        }
        true
    }

    /// How deep containers are nested in it: lists, maps, tuples, and structs with fields each count for one, enums for what
    /// their variants are written as in formats that tell names. 0 for numbers, texts, references, and data that says what
    /// it is; 255 for what has no end, and for types that are their own affair.
    #[must_use]
    pub fn levels(&self) -> u8 {
        let mut known = vec![None; self.types.len()];
        self.levels_of(&self.root, &mut known)
    }

    /// The [`levels`](Self::levels) of each item, if it is a tuple.
    #[must_use]
    pub fn item_levels(&self) -> Vec<u8> {
        let mut known = vec![None; self.types.len()];
        match &self.root {
            Type::Tuple(items) => items.iter().map(|of| self.levels_of(of, &mut known)).collect(),
            _ => Vec::new(),
        }
    }

    /// That of one type. What is known of types with names is kept; one that is met inside itself has no end.
    fn levels_of(&self, of: &Type, known: &mut Vec<Option<u8>>) -> u8 {
        let deepest = |types: &mut dyn Iterator<Item = &Type>, known: &mut Vec<Option<u8>>| {
            types
                .map(|of| self.levels_of(of, known).saturating_add(1))
                .max()
                .unwrap_or(0)
        };
        match of {
            Type::Option(of) => self.levels_of(of, known),
            // Bytes may come as a list of numbers.
            Type::Bytes => 1,
            Type::List(of) | Type::Array(of, _) => deepest(&mut [&**of].into_iter(), known),
            Type::Map(key, value) => deepest(&mut [&**key, &**value].into_iter(), known),
            Type::Tuple(types) => deepest(&mut types.iter(), known),
            Type::Named(number) => {
                let index = *number as usize;
                if let Some(Some(levels)) = known.get(index) {
                    return *levels;
                }
                if let Some(open) = known.get_mut(index) {
                    *open = Some(u8::MAX);
                }
                let fields = |fields: &Fields, known: &mut Vec<Option<u8>>| match fields {
                    Fields::Newtype(only) => self.levels_of(only, known),
                    fields => deepest(&mut fields.types(), known),
                };
                let levels = match self.definition(*number).map(|found| &found.kind) {
                    Some(Kind::Struct(of)) => fields(of, known),
                    Some(Kind::Enum(variants)) => {
                        let held = variants.iter().filter(|variant| variant.fields != Fields::Unit);
                        let held = held.map(|variant| fields(&variant.fields, known).saturating_add(1));
                        held.max().unwrap_or(0)
                    }
                    Some(Kind::Opaque(_) | Kind::Own) | None => u8::MAX,
                };
                if let Some(open) = known.get_mut(index) {
                    *open = Some(levels);
                }
                levels
            }
            _ => 0,
        }
    }

    /// The same, as it is for every way in which it may have been found: each type once, and in order.
    fn canonical(mut self) -> Self {
        // Types are of one class unless something tells them apart, at first or by the classes of what they hold.
        let mut classes = vec![0_u32; self.types.len()];
        let mut count = 1;
        loop {
            let mut found: HashMap<Definition, u32> = HashMap::new();
            let mut refine = |definition: &Definition| {
                let mut definition = definition.clone();
                definition.each_mut(&mut |number| {
                    *number = classes.get(*number as usize).copied().unwrap_or(u32::MAX);
                });
                let next = found.len() as u32;
                *found.entry(definition).or_insert(next)
            };
            let refined: Vec<u32> = self.types.iter().map(&mut refine).collect();
            let before = std::mem::replace(&mut count, found.len());
            classes = refined;
            if count <= before {
                break;
            }
        }
        let first = |class: u32| classes.iter().position(|found| *found == class);
        let mut merge = |number: &mut u32| {
            let class = classes.get(*number as usize).copied();
            *number = class.and_then(first).map_or(*number, |first| first as u32);
        };
        self.root.each_mut(&mut merge);
        for definition in &mut self.types {
            definition.each_mut(&mut merge);
        }
        self.in_order()
    }

    /// The same with its types in order, without those that nothing refers to.
    fn in_order(mut self) -> Self {
        let mut numbers = vec![None; self.types.len()];
        let mut order = Vec::new();
        let mut meet = |number: u32, order: &mut Vec<u32>| {
            if let Some(new @ None) = numbers.get_mut(number as usize) {
                *new = Some(order.len() as u32);
                order.push(number);
            }
        };
        self.root.each(&mut |number| meet(number, &mut order));
        let mut next = 0;
        while let Some(definition) = order.get(next).and_then(|number| self.definition(*number)) {
            definition.each(&mut |number| meet(number, &mut order));
            next = next.saturating_add(1);
        }
        let mut renumber = |number: &mut u32| {
            *number = numbers
                .get(*number as usize)
                .copied()
                .flatten()
                .unwrap_or(*number);
        };
        self.root.each_mut(&mut renumber);
        let mut types: Vec<_> = self.types.into_iter().map(Some).collect();
        let mut take = |number: u32| types.get_mut(number as usize)?.take();
        let mut types: Vec<_> = order.into_iter().filter_map(&mut take).collect();
        for definition in &mut types {
            definition.each_mut(&mut renumber);
        }
        Self {
            root: self.root,
            types,
        }
    }

    fn definition(&self, number: u32) -> Option<&Definition> {
        self.types.get(usize::try_from(number).ok()?)
    }
}

impl Definition {
    fn each(&self, visit: &mut impl FnMut(u32)) {
        match &self.kind {
            Kind::Struct(fields) => fields.types().for_each(|of| of.each(visit)),
            Kind::Enum(variants) => {
                for variant in variants {
                    variant.fields.types().for_each(|of| of.each(visit));
                }
            }
            Kind::Opaque(_) | Kind::Own => {}
        }
    }
}

impl Definition {
    fn each_mut(&mut self, visit: &mut impl FnMut(&mut u32)) {
        match &mut self.kind {
            Kind::Struct(fields) => fields.each_mut(visit),
            Kind::Enum(variants) => {
                for variant in variants {
                    variant.fields.each_mut(visit);
                }
            }
            Kind::Opaque(_) | Kind::Own => {}
        }
    }
}

impl Fields {
    fn each_mut(&mut self, visit: &mut impl FnMut(&mut u32)) {
        match self {
            Self::Unit => {}
            Self::Newtype(only) => only.each_mut(visit),
            Self::Tuple(types) => types.iter_mut().for_each(|of| of.each_mut(visit)),
            Self::Named(fields) => fields.iter_mut().for_each(|(_, of)| of.each_mut(visit)),
        }
    }

    fn types(&self) -> Box<dyn Iterator<Item = &Type> + '_> {
        match self {
            Self::Unit => Box::new(std::iter::empty()),
            Self::Newtype(only) => Box::new(std::iter::once(only)),
            Self::Tuple(types) => Box::new(types.iter()),
            Self::Named(fields) => Box::new(fields.iter().map(|(_, of)| of)),
        }
    }
}

impl Type {
    /// Calls `visit` with each type with a name that is referred to.
    fn each(&self, visit: &mut impl FnMut(u32)) {
        match self {
            Self::Option(of) | Self::List(of) | Self::Array(of, _) => of.each(visit),
            Self::Map(key, value) => {
                key.each(visit);
                value.each(visit);
            }
            Self::Tuple(types) => types.iter().for_each(|of| of.each(visit)),
            Self::Named(number) => visit(*number),
            _ => {}
        }
    }

    fn each_mut(&mut self, visit: &mut impl FnMut(&mut u32)) {
        match self {
            Self::Option(of) | Self::List(of) | Self::Array(of, _) => of.each_mut(visit),
            Self::Map(key, value) => {
                key.each_mut(visit);
                value.each_mut(visit);
            }
            Self::Tuple(types) => types.iter_mut().for_each(|of| of.each_mut(visit)),
            Self::Named(number) => visit(number),
            _ => {}
        }
    }

    /// Adds each type with a name that is held always, and not only sometimes.
    fn inline(&self, held: &mut Vec<u32>) {
        match self {
            Self::Array(of, _) => of.inline(held),
            Self::Tuple(types) => types.iter().for_each(|of| of.inline(held)),
            Self::Named(number) => held.push(*number),
            _ => {}
        }
    }

    /// A tuple, as an array if it is one.
    fn tuple(types: Vec<Self>) -> Self {
        match types.split_first() {
            Some((first, rest)) if !rest.is_empty() && rest.iter().all(|of| of == first) => {
                Self::Array(Box::new(first.clone()), types.len() as u32)
            }
            _ => Self::Tuple(types),
        }
    }

    /// A list, as bytes if it is that.
    fn list(of: Self) -> Self {
        match of {
            Self::U8 => Self::Bytes,
            of => Self::List(Box::new(of)),
        }
    }
}

/// The type as one would write it, and the types with names in it.
impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(&self.root, f)?;
        for (index, definition) in self.types.iter().enumerate() {
            f.write_str(if index == 0 { " where " } else { ", " })?;
            match &definition.kind {
                Kind::Struct(fields) => {
                    f.write_str(&definition.name)?;
                    self.write_fields(fields, f)?;
                }
                Kind::Enum(variants) => {
                    write!(f, "{} = ", definition.name)?;
                    for (index, variant) in variants.iter().enumerate() {
                        if index > 0 {
                            f.write_str(" | ")?;
                        }
                        f.write_str(&variant.name)?;
                        self.write_fields(&variant.fields, f)?;
                    }
                }
                Kind::Opaque(version) => write!(f, "{} version {version}", definition.name)?,
                Kind::Own => f.write_str(&definition.name)?,
            }
        }
        Ok(())
    }
}

impl Shape {
    fn write(&self, of: &Type, f: &mut Formatter<'_>) -> fmt::Result {
        match of {
            Type::Bool => f.write_str("bool"),
            Type::U8 => f.write_str("u8"),
            Type::U16 => f.write_str("u16"),
            Type::U32 => f.write_str("u32"),
            Type::U64 => f.write_str("u64"),
            Type::U128 => f.write_str("u128"),
            Type::I8 => f.write_str("i8"),
            Type::I16 => f.write_str("i16"),
            Type::I32 => f.write_str("i32"),
            Type::I64 => f.write_str("i64"),
            Type::I128 => f.write_str("i128"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::Str => f.write_str("String"),
            Type::Bytes => f.write_str("Bytes"),
            Type::Value => f.write_str("Value"),
            Type::Reference => f.write_str("Netref"),
            Type::Option(of) => {
                f.write_str("Option<")?;
                self.write(of, f)?;
                f.write_str(">")
            }
            Type::List(of) => {
                f.write_str("Vec<")?;
                self.write(of, f)?;
                f.write_str(">")
            }
            Type::Map(key, value) => {
                f.write_str("Map<")?;
                self.write(key, f)?;
                f.write_str(", ")?;
                self.write(value, f)?;
                f.write_str(">")
            }
            Type::Tuple(types) => self.write_tuple(types, f),
            Type::Array(of, count) => {
                f.write_str("[")?;
                self.write(of, f)?;
                write!(f, "; {count}]")
            }
            Type::Named(number) => f.write_str(self.definition(*number).map_or("?", |found| &found.name)),
        }
    }

    fn write_tuple(&self, types: &[Type], f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for (index, of) in types.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            self.write(of, f)?;
        }
        f.write_str(")")
    }

    fn write_fields(&self, fields: &Fields, f: &mut Formatter<'_>) -> fmt::Result {
        match fields {
            Fields::Unit => Ok(()),
            Fields::Newtype(only) => self.write_tuple(std::slice::from_ref(only), f),
            Fields::Tuple(types) => self.write_tuple(types, f),
            Fields::Named(fields) => {
                f.write_str(" {")?;
                for (index, (name, of)) in fields.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{name}: ")?;
                    self.write(of, f)?;
                }
                f.write_str("}")
            }
        }
    }
}
