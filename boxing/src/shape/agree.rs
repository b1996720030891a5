//! What is opaque in a shape, and which of it the reader's type can read (PROTOCOL.md § 9.14).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::{Definition, Fields, Kind, Shape, ShapeMismatch, Type, Variant};

impl Shape {
    /// This shape, as a type of the shape `reader` reads it: what [`decode_by_shape`](crate::decode_by_shape) takes.
    ///
    /// It is another only if something in it is opaque: where the reader has the same at the same place, it reads that by
    /// itself. Everywhere else what is opaque is refused.
    ///
    /// # Errors
    ///
    /// Those of [`readable_as`](Self::readable_as).
    ///
    /// ```
    /// use farref_boxing::{DecodeLimits, Encoder, Shape, ShapeFields, ShapeType, Shaped, Shapes, decode_by_shape};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// struct Waveform(Vec<i16>);
    ///
    /// impl Shaped for Waveform {
    ///     fn shape(shapes: &mut Shapes) -> ShapeType {
    ///         shapes.opaque("lab.Waveform", 2)
    ///     }
    /// }
    /// let told = Shape::told_by::<(u8, Waveform)>();
    /// assert_eq!(told.to_string(), "(u8, lab.Waveform) where lab.Waveform version 2");
    ///
    /// let mut encoder = Encoder::new();
    /// encoder.encode(&(1_u8, Waveform(vec![-5])))?;
    /// let shape = told.read_by(&Shape::told_by::<(u64, Waveform)>()).unwrap();
    /// let read: (u64, Waveform) =
    ///     decode_by_shape(&encoder.body().to_bytes(), &[], &shape, &DecodeLimits::default())?;
    /// assert_eq!(read, (1, Waveform(vec![-5])));
    /// # Ok::<(), farref_boxing::CodecError>(())
    /// ```
    pub fn read_by(&self, reader: &Self) -> Result<Cow<'_, Self>, ShapeMismatch> {
        self.readable_as(reader)?;
        let has_opaque = |shape: &Self| shape.types.iter().any(|found| is_opaque(&found.kind));
        if !has_opaque(self) || !has_opaque(reader) {
            return Ok(Cow::Borrowed(self));
        }
        Ok(Cow::Owned(Pairs::new(self, reader).paired()))
    }

    /// Whether every value of the type has something opaque in it, but for empty options, lists and maps.
    pub(super) fn holds_opaque(&self, of: &Type) -> bool {
        let (mut open, mut seen) = (Vec::new(), HashSet::new());
        of.each(&mut |number| open.push(number));
        while let Some(number) = open.pop() {
            if !seen.insert(number) {
                continue;
            }
            match self.definition(number).map(|found| &found.kind) {
                Some(Kind::Opaque(_)) => return true,
                Some(Kind::Struct(fields)) => fields
                    .types()
                    .for_each(|of| of.each(&mut |number| open.push(number))),
                // Which variant it is decides.
                Some(Kind::Enum(_) | Kind::Own) | None => {}
            }
        }
        false
    }

    /// What a newtype holds.
    fn newtype(&self, of: &Type) -> Option<&Type> {
        match of {
            Type::Named(number) => match &self.definition(*number)?.kind {
                Kind::Struct(Fields::Newtype(held)) => Some(held),
                _ => None,
            },
            _ => None,
        }
    }
}

const fn is_opaque(kind: &Kind) -> bool {
    matches!(kind, Kind::Opaque(_))
}

/// Most pairs: what the writer says may make very many.
const MOST: usize = 4096;

/// Newtypes around each other that are looked through: no more are read.
const LEVELS: usize = 128;

/// The writer's types, each once for each type of the reader's that it is read as.
///
/// # Invariant
///
/// What is opaque becomes the reader's own where the reader is known to have the same, and nowhere else.
struct Pairs<'a> {
    writer: &'a Shape,
    reader: &'a Shape,
    numbers: HashMap<Pair, u32>,
    /// All of them, in the order of their numbers.
    all: Vec<Pair>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Pair {
    /// Definitions of the writer's and of the reader's; `None` if it is not known what reads it.
    Of(u32, Option<u32>),
    /// What has become an option, around what is the reader's own, which may be an option by itself.
    Around(u32),
}

impl<'a> Pairs<'a> {
    fn new(writer: &'a Shape, reader: &'a Shape) -> Self {
        Self {
            writer,
            reader,
            numbers: HashMap::new(),
            all: Vec::new(),
        }
    }

    fn paired(mut self) -> Shape {
        let (writer, reader) = (self.writer, self.reader);
        let root = self.of(&writer.root, Some(&reader.root));
        let mut types = Vec::new();
        // One after the other, and not inside each other: how deep that would go is the writer's word.
        while let Some(pair) = self.all.get(types.len()).copied() {
            types.push(self.definition(pair));
        }
        Shape { root, types }
    }

    fn number(&mut self, mut pair: Pair) -> u32 {
        if let Pair::Of(writer, Some(_)) = pair
            && self.all.len() >= MOST
            && !self.numbers.contains_key(&pair)
        {
            pair = Pair::Of(writer, None);
        }
        let (all, next) = (&mut self.all, self.numbers.len() as u32);
        *self.numbers.entry(pair).or_insert_with(|| {
            all.push(pair);
            next
        })
    }

    fn is_own(&self, pair: Pair) -> bool {
        let Pair::Of(writer, Some(reader)) = pair else {
            return false;
        };
        let found = self.writer.definition(writer);
        found.is_some_and(|found| is_opaque(&found.kind)) && found == self.reader.definition(reader)
    }

    /// The writer's type, read as that of the reader's.
    fn of(&mut self, mut writer: &'a Type, mut reader: Option<&'a Type>) -> Type {
        // A newtype is what it holds, unless there is one on both sides.
        for _ in 0..LEVELS {
            let held = reader.and_then(|reader| self.reader.newtype(reader));
            match (self.writer.newtype(writer), held) {
                (Some(held), None) if reader.is_some() => writer = held,
                (None, Some(held)) => reader = Some(held),
                _ => break,
            }
        }
        match (writer, reader) {
            (Type::Option(writer), Some(Type::Option(reader))) => {
                Type::Option(Box::new(self.of(writer, Some(reader))))
            }
            (_, Some(Type::Option(reader))) => match self.of(writer, Some(reader)) {
                Type::Named(number)
                    if self
                        .all
                        .get(number as usize)
                        .is_some_and(|pair| self.is_own(*pair)) =>
                {
                    Type::Named(self.number(Pair::Around(number)))
                }
                of => of,
            },
            (Type::Named(writer), reader) => {
                let reader = match reader {
                    Some(Type::Named(reader)) => Some(*reader),
                    _ => None,
                };
                Type::Named(self.number(Pair::Of(*writer, reader)))
            }
            (Type::Option(of), _) => Type::Option(Box::new(self.of(of, None))),
            (Type::List(of), reader) => Type::List(Box::new(self.of(of, every(reader)))),
            (Type::Array(of, count), reader) => Type::Array(Box::new(self.of(of, every(reader))), *count),
            (Type::Tuple(types), reader) => {
                let place = |index| match reader {
                    Some(Type::Tuple(types)) => types.get(index),
                    reader => every(reader),
                };
                Type::Tuple(self.each(types, place))
            }
            (Type::Map(key, value), reader) => {
                let (keys, values) = match reader {
                    Some(Type::Map(key, value)) => (Some(&**key), Some(&**value)),
                    _ => (None, None),
                };
                Type::Map(Box::new(self.of(key, keys)), Box::new(self.of(value, values)))
            }
            (plain, _) => plain.clone(),
        }
    }

    fn each(&mut self, types: &'a [Type], reader: impl Fn(usize) -> Option<&'a Type>) -> Vec<Type> {
        let types = types.iter().enumerate();
        types.map(|(index, of)| self.of(of, reader(index))).collect()
    }

    fn definition(&mut self, pair: Pair) -> Definition {
        let (number, reader) = match pair {
            Pair::Of(number, reader) => (number, reader),
            Pair::Around(number) => {
                return Definition {
                    name: "Option".into(),
                    kind: Kind::Struct(Fields::Newtype(Type::Named(number))),
                };
            }
        };
        let Some(written) = self.writer.definition(number) else {
            return Definition {
                name: "?".into(),
                kind: Kind::Enum(Vec::new()),
            };
        };
        let read = reader.and_then(|reader| self.reader.definition(reader));
        let kind = match (&written.kind, read.map(|read| &read.kind)) {
            (Kind::Struct(fields), Some(Kind::Struct(read))) => Kind::Struct(self.fields(fields, Some(read))),
            (Kind::Struct(fields), _) => Kind::Struct(self.fields(fields, None)),
            (Kind::Enum(variants), read) => {
                let read = |name: &str| match read {
                    Some(Kind::Enum(variants)) => variants.iter().find(|found| *found.name == *name),
                    _ => None,
                };
                let variants = variants.iter().map(|Variant { name, fields }| Variant {
                    name: name.clone(),
                    fields: self.fields(fields, read(name).map(|read| &read.fields)),
                });
                Kind::Enum(variants.collect())
            }
            (Kind::Opaque(_), _) if self.is_own(pair) => Kind::Own,
            (Kind::Opaque(version), _) => Kind::Opaque(*version),
            // It was the own of another reader.
            (Kind::Own, _) => Kind::Enum(Vec::new()),
        };
        Definition {
            name: written.name.clone(),
            kind,
        }
    }

    fn fields(&mut self, fields: &'a Fields, reader: Option<&'a Fields>) -> Fields {
        match (fields, reader) {
            (Fields::Unit, _) => Fields::Unit,
            (Fields::Newtype(of), Some(Fields::Newtype(reader))) => {
                Fields::Newtype(self.of(of, Some(reader)))
            }
            (Fields::Newtype(of), _) => Fields::Newtype(self.of(of, None)),
            (Fields::Tuple(types), reader) => {
                let place = |index| match reader {
                    Some(Fields::Tuple(types)) => types.get(index),
                    _ => None,
                };
                Fields::Tuple(self.each(types, place))
            }
            (Fields::Named(fields), reader) => {
                let named = |name: &str| match reader {
                    Some(Fields::Named(fields)) => fields.iter().find(|(found, _)| **found == *name),
                    _ => None,
                };
                let fields = fields.iter().map(|(name, of)| {
                    let reader = named(name).map(|(_, of)| of);
                    (name.clone(), self.of(of, reader))
                });
                Fields::Named(fields.collect())
            }
        }
    }
}

/// What all elements are read as, if that is one type.
const fn every(reader: Option<&Type>) -> Option<&Type> {
    match reader {
        Some(Type::List(of) | Type::Array(of, _)) => Some(of),
        _ => None,
    }
}
