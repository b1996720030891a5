//! Whether bytes of one shape can be read as a type of another, before any are (PROTOCOL.md § 9.14).

use std::collections::HashSet;
use std::fmt;

use super::{Fields, Kind, Shape, Type};

/// Why no value of one shape can be read as a type of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeMismatch {
    writer: Shape,
    reader: Shape,
    /// Where they differ, from the outside in.
    path: String,
}

impl ShapeMismatch {
    /// The shape of what was written.
    #[must_use]
    pub const fn writer(&self) -> &Shape {
        &self.writer
    }

    /// The shape of what was to be read.
    #[must_use]
    pub const fn reader(&self) -> &Shape {
        &self.reader
    }

    /// Where they differ, as one would write it: `points[].x`. Empty if they have nothing in common.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ShapeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { writer, reader, path } = self;
        if path.is_empty() {
            write!(f, "`{writer}` cannot be read as `{reader}`")
        } else {
            write!(
                f,
                "`{writer}` cannot be read as `{reader}`, for they differ at `{path}`"
            )
        }
    }
}

impl std::error::Error for ShapeMismatch {}

impl Shape {
    /// Whether values of this shape may be readable as a type of the shape `reader`.
    ///
    /// What is opaque is readable as what has the same name and version, and as nothing else; nor can it be skipped.
    ///
    /// What depends on the value passes, and is found when one is read: a variant that the reader lacks, or that holds
    /// something else there; a number that does not fit. So does what a shape does not tell: whether a field that the
    /// writer lacks has a default.
    ///
    /// # Errors
    ///
    /// No value of this shape is one of the other, but for empty lists, maps and options.
    ///
    /// ```
    /// use farref_boxing::Shape;
    ///
    /// let (writer, reader) = (Shape::of::<Vec<(u8, String)>>().unwrap(), Shape::of::<Vec<(u64, u8)>>().unwrap());
    /// assert_eq!(
    ///     writer.readable_as(&reader).unwrap_err().to_string(),
    ///     "`Vec<(u8, String)>` cannot be read as `Vec<(u64, u8)>`, for they differ at `[].1`",
    /// );
    /// ```
    pub fn readable_as(&self, reader: &Self) -> Result<(), ShapeMismatch> {
        let mut check = Check {
            writer: self,
            reader,
            seen: HashSet::new(),
            path: Vec::new(),
            levels: LEVELS,
            steps: STEPS,
        };
        if check.types(&self.root, &reader.root) {
            return Ok(());
        }
        let mut path = check.path.concat();
        if path.starts_with('.') {
            path.remove(0);
        }
        Err(ShapeMismatch {
            writer: self.clone(),
            reader: reader.clone(),
            path,
        })
    }
}

/// How many types inside each other are compared. What is further in is found when it is read.
const LEVELS: u32 = 128;
/// How many types are compared in all, for the same reason: what a few bytes describe may hold itself in very many ways,
/// each of which is another way for what has no name on this side.
const STEPS: u32 = 1 << 14;

struct Check<'a> {
    writer: &'a Shape,
    reader: &'a Shape,
    /// The pairs of types with names that were or are being compared.
    seen: HashSet<(u32, u32)>,
    /// The way to what is compared; after a difference, to that.
    path: Vec<String>,
    levels: u32,
    steps: u32,
}

impl<'a> Check<'a> {
    /// Whether what is behind `step` agrees.
    fn step(&mut self, step: impl FnOnce() -> String, writer: &'a Type, reader: &'a Type) -> bool {
        let (Some(levels), Some(steps)) = (self.levels.checked_sub(1), self.steps.checked_sub(1)) else {
            return true;
        };
        self.steps = steps;
        self.path.push(step());
        let before = std::mem::replace(&mut self.levels, levels);
        let agrees = self.types(writer, reader);
        self.levels = before;
        if agrees {
            self.path.pop();
        }
        agrees
    }

    fn types(&mut self, writer: &'a Type, reader: &'a Type) -> bool {
        if let (Type::Named(a), Type::Named(b)) = (writer, reader)
            && !self.seen.insert((*a, *b))
        {
            return true;
        }
        let inside = String::new;
        let writer = if self.is_newtype(reader) {
            writer
        } else {
            self.held(writer)
        };
        match (writer, reader) {
            (Type::Option(writer), Type::Option(reader)) => self.step(inside, writer, reader),
            (_, Type::Value) => !self.writer.holds_opaque(writer),
            (_, Type::Option(reader)) => self.step(inside, writer, reader),
            (_, Type::Named(number)) => self.named(writer, *number),
            (Type::Named(number), _) => match self.writer.definition(*number).map(|found| &found.kind) {
                Some(Kind::Struct(Fields::Tuple(types))) => self.sequence(Many::Each(types), reader),
                Some(Kind::Struct(Fields::Named(_))) => matches!(reader, Type::Map(..)),
                Some(Kind::Struct(Fields::Unit)) => *reader == Type::Tuple(Vec::new()),
                Some(Kind::Struct(Fields::Newtype(_)) | Kind::Enum(_) | Kind::Opaque(_) | Kind::Own)
                | None => false,
            },
            (Type::List(of), _) => self.sequence(Many::Any(of), reader),
            (Type::Bytes, Type::Bytes | Type::Str) => true,
            (Type::Bytes, _) => self.sequence(Many::Any(&Type::U8), reader),
            (Type::Tuple(types), _) => self.sequence(Many::Each(types), reader),
            (Type::Array(of, count), _) => self.sequence(Many::Some(of, *count), reader),
            (Type::Map(a, b), Type::Map(c, d)) => {
                self.step(|| "{}".into(), a, c) && self.step(|| "[]".into(), b, d)
            }
            (Type::Char | Type::Str, Type::Char | Type::Str) => true,
            (writer, reader) => {
                writer == reader || number(writer).is_some_and(|writer| number(reader) >= Some(writer))
            }
        }
    }

    fn is_newtype(&self, reader: &Type) -> bool {
        let Type::Named(number) = reader else {
            return false;
        };
        let found = self.reader.definition(*number).map(|found| &found.kind);
        matches!(found, Some(Kind::Struct(Fields::Newtype(_))))
    }

    /// The writer's type without newtypes around it, which are what they hold.
    fn held(&self, mut writer: &'a Type) -> &'a Type {
        for _ in 0..LEVELS {
            let Type::Named(number) = writer else {
                break;
            };
            match self.writer.definition(*number).map(|found| &found.kind) {
                Some(Kind::Struct(Fields::Newtype(of))) => writer = of,
                _ => break,
            }
        }
        writer
    }

    /// Whether the writer's type may be read as one with a name.
    fn named(&mut self, writer: &'a Type, reader: u32) -> bool {
        let Some(reader) = self.reader.definition(reader) else {
            return false;
        };
        let written = match writer {
            Type::Named(number) => match self.writer.definition(*number) {
                Some(found) if matches!(reader.kind, Kind::Opaque(_)) => return found == reader,
                Some(found) => Some(&found.kind),
                None => return false,
            },
            _ => None,
        };
        match (&reader.kind, written) {
            (Kind::Opaque(_) | Kind::Own, _) => false,
            // Which variant it is decides.
            (Kind::Enum(_), Some(Kind::Enum(_))) => true,
            (Kind::Enum(_), _) | (Kind::Struct(_), Some(Kind::Enum(_))) => {
                matches!(&reader.kind, Kind::Struct(Fields::Newtype(of)) if self.step(String::new, writer, of))
            }
            (Kind::Struct(Fields::Newtype(of)), Some(Kind::Struct(Fields::Newtype(written)))) => {
                self.step(String::new, written, of)
            }
            (Kind::Struct(Fields::Newtype(of)), _) => self.step(String::new, writer, of),
            (Kind::Struct(Fields::Unit), Some(Kind::Struct(Fields::Unit))) => true,
            (Kind::Struct(Fields::Unit), _) => *writer == Type::Tuple(Vec::new()),
            (Kind::Struct(Fields::Named(fields)), Some(Kind::Struct(Fields::Named(written)))) => {
                written.iter().all(|(name, written)| {
                    let found = fields.iter().find(|(found, _)| found == name);
                    match found {
                        Some((_, of)) => self.step(|| format!(".{name}"), written, of),
                        // What the reader lacks is skipped, or has another name there: both take knowing what it is.
                        None if self.writer.holds_opaque(written) => {
                            self.path.push(format!(".{name}"));
                            false
                        }
                        None => true,
                    }
                })
            }
            (Kind::Struct(Fields::Named(_)), None) if matches!(writer, Type::Map(..)) => true,
            (Kind::Struct(Fields::Named(fields)), _) => {
                // Serde takes fields in order, too.
                let types: Vec<&Type> = fields.iter().map(|(_, of)| of).collect();
                many(writer, written).is_some_and(|written| self.at_most(written, &types))
            }
            (Kind::Struct(Fields::Tuple(types)), _) => {
                let types: Vec<&Type> = types.iter().collect();
                many(writer, written).is_some_and(|written| self.at_most(written, &types))
            }
        }
    }

    /// Whether elements may be read as one of each of `types`, of which the last may have defaults.
    fn at_most(&mut self, written: Many<'a>, types: &[&'a Type]) -> bool {
        let count = match written {
            Many::Any(_) => 0,
            Many::Some(_, count) => count as usize,
            Many::Each(written) => written.len(),
        };
        count <= types.len()
            && (0..count)
                .zip(types)
                .all(|(index, of)| self.element(written, index, of))
    }

    fn element(&mut self, written: Many<'a>, index: usize, of: &'a Type) -> bool {
        let written = match written {
            Many::Any(written) | Many::Some(written, _) => Some(written),
            Many::Each(written) => written.get(index),
        };
        written.is_some_and(|written| self.step(|| format!(".{index}"), written, of))
    }

    /// Whether elements may be read as what has no name.
    fn sequence(&mut self, written: Many<'a>, reader: &'a Type) -> bool {
        match reader {
            Type::List(of) => self.all(written, of, None),
            Type::Bytes => self.all(written, &Type::U8, None),
            Type::Array(of, count) => self.all(written, of, Some(*count)),
            Type::Tuple(types) => self.each(written, types),
            _ => false,
        }
    }

    /// Whether all elements may be read as `of`, and may be so many.
    fn all(&mut self, written: Many<'a>, of: &'a Type, count: Option<u32>) -> bool {
        let fits = |found: usize| count.is_none_or(|count| u32::try_from(found) == Ok(count));
        match written {
            Many::Any(written) => self.step(|| "[]".into(), written, of),
            Many::Some(written, found) => {
                count.is_none_or(|count| count == found) && self.step(|| "[]".into(), written, of)
            }
            Many::Each(types) => {
                fits(types.len())
                    && types
                        .iter()
                        .enumerate()
                        .all(|(index, written)| self.step(|| format!(".{index}"), written, of))
            }
        }
    }

    /// Whether elements may be read as one of each of `types`.
    fn each(&mut self, written: Many<'a>, types: &'a [Type]) -> bool {
        let count = match written {
            Many::Any(_) => types.len(),
            Many::Some(_, count) => count as usize,
            Many::Each(written) => written.len(),
        };
        count == types.len()
            && types
                .iter()
                .enumerate()
                .all(|(index, of)| self.element(written, index, of))
    }
}

/// The elements of the writer's type, if it has elements without names.
fn many<'a>(writer: &'a Type, named: Option<&'a Kind>) -> Option<Many<'a>> {
    match (writer, named) {
        (_, Some(Kind::Struct(Fields::Tuple(types)))) | (Type::Tuple(types), _) => Some(Many::Each(types)),
        (Type::Array(of, count), _) => Some(Many::Some(of, *count)),
        (Type::List(of), _) => Some(Many::Any(of)),
        (Type::Bytes, _) => Some(Many::Any(&Type::U8)),
        _ => None,
    }
}

/// What is written one after the other.
#[derive(Clone, Copy)]
enum Many<'a> {
    Any(&'a Type),
    Some(&'a Type, u32),
    Each(&'a [Type]),
}

/// Integers can become integers and floats, and floats only floats.
const fn number(of: &Type) -> Option<u8> {
    match of {
        Type::F32 | Type::F64 => Some(1),
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::U128
        | Type::I8
        | Type::I16
        | Type::I32
        | Type::I64
        | Type::I128 => Some(0),
        _ => None,
    }
}
