//! What methods take and return looks like on the wire: asked of the types once, told to peers that ask.
//!
//! A payload names the shape of its writer's type by its fingerprint (PROTOCOL.md § 7.8). Most types tell their shape;
//! of others only the text is known, and a fingerprint of that stands for the shape.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use farref_boxing::{Encoder, Error, ErrorKind, Shape, ShapeType, Shapes};
use serde::de::DeserializeOwned;

use crate::exchange::described;
use crate::lock::lock;
use crate::nowhere;
use crate::panics;

/// How a type is asked for its shape. `None`: it cannot be told.
pub type Tell = fn(&mut Shapes) -> Option<ShapeType>;

/// How several types are asked for their shapes.
pub type TellAll = fn(&mut Shapes) -> Vec<Option<ShapeType>>;

/// For generated code: what one method takes and returns.
#[derive(Debug)]
pub struct MethodShapes {
    arguments: TellAll,
    value: Tell,
    failure: Tell,
    told: OnceLock<Told>,
}

/// What one method takes and returns, by shape where that is known.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) arguments: Known,
    /// What it returns when it succeeds.
    pub(crate) value: Known,
    /// What it returns when it fails.
    pub(crate) failure: Known,
}

/// A type of this side.
#[derive(Debug)]
pub(crate) struct Known {
    /// That of its shape, or of its text if the shape is not known.
    pub(crate) fingerprint: u32,
    shape: Option<Arc<Shape>>,
}

impl MethodShapes {
    /// For generated code.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(arguments: TellAll, value: Tell, failure: Tell) -> Self {
        Self {
            arguments,
            value,
            failure,
            told: OnceLock::new(),
        }
    }

    /// The shapes; `texts` are the fingerprints of what cannot be told.
    #[inline]
    pub(crate) fn told(&self, texts: [u32; 3]) -> &Told {
        match self.told.get() {
            Some(told) => told,
            None => self.ask(texts),
        }
    }

    /// Asks the types. Two threads that do so at once find the same; no lock is held while types answer.
    #[cold]
    fn ask(&self, [arguments, value, failure]: [u32; 3]) -> &Told {
        let told = Told {
            arguments: Known::ask_all(self.arguments, arguments),
            value: Known::ask(self.value, value),
            failure: Known::ask(self.failure, failure),
        };
        self.told.get_or_init(|| told)
    }
}

/// Those of what is never asked by number.
pub(crate) fn untold() -> &'static MethodShapes {
    static UNTOLD: MethodShapes = MethodShapes::new(|_| Vec::new(), |_| None, |_| None);
    &UNTOLD
}

impl Known {
    fn ask(tell: Tell, text: u32) -> Self {
        // Types are asked by reading made-up values of them: what they make of these is theirs.
        let told = panics::guard(|| Shape::tell(Some(nowhere::reference()), tell));
        match told.ok().flatten() {
            Some(shape) => Self::told(shape),
            None => Self {
                fingerprint: text,
                shape: None,
            },
        }
    }

    /// Several types, one behind the other. If only some of them tell, the fingerprint is one of their texts and of
    /// the shapes of those that do: what has changed is not taken for the same because of what cannot tell.
    fn ask_all(tell: TellAll, text: u32) -> Self {
        let mut untold = 0_usize;
        let told = panics::guard(|| {
            Shape::tell(Some(nowhere::reference()), |shapes| {
                let asked = tell(shapes);
                untold = asked.iter().filter(|one| one.is_none()).count();
                Some(ShapeType::tuple(asked.into_iter().flatten()))
            })
        });
        let told = told.ok().flatten();
        match told {
            Some(shape) if untold == 0 => Self::told(shape),
            Some(shape) => Self {
                fingerprint: both(text, shape.fingerprint()),
                shape: None,
            },
            None => Self {
                fingerprint: text,
                shape: None,
            },
        }
    }

    /// A shape that others may ask for from now on.
    fn told(shape: Shape) -> Self {
        let (fingerprint, shape) = (shape.fingerprint(), Arc::new(shape));
        lock(ours()).insert(fingerprint, Arc::clone(&shape));
        Self {
            fingerprint,
            shape: Some(shape),
        }
    }

    /// Whether what was written with the type `writer` can be read as this one.
    ///
    /// # Errors
    ///
    /// No value of the one is one of the other.
    pub(crate) fn reads(&self, writer: &Shape, what: &str, written: &str) -> Result<(), Error> {
        match &self.shape {
            Some(shape) => readable(writer, shape, what, written),
            // It is equal to itself alone.
            None => {
                let text = format!("{what} is `{}`, and no {written} on this side", Cut(writer));
                Err(Error::new(ErrorKind::SchemaMismatch, text))
            }
        }
    }

    /// What the peer has written cannot be read as what is `written` on this side, as nobody knows what it looks like.
    pub(crate) fn mismatch(&self, fingerprint: u32, what: &str, written: &str) -> Error {
        let own = self.shape.as_ref().map(|shape| format!(", `{}`", Cut(shape)));
        let text = format!(
            "{what} has the shape {fingerprint:#010x}, which the peer does not tell, and is {written}{} ({:#010x}) on \
             this side",
            own.unwrap_or_default(),
            self.fingerprint,
        );
        Error::new(ErrorKind::SchemaMismatch, text)
    }
}

/// Whether what `what` is, and was written as `writer`, can be read as `reader`, which is `written` on this side.
///
/// # Errors
///
/// No value of the one is one of the other. The message has both shapes, or their beginnings.
fn readable(writer: &Shape, reader: &Shape, what: &str, written: &str) -> Result<(), Error> {
    writer.readable_as(reader).map_err(|mismatch| {
        let place = match mismatch.path() {
            "" => String::new(),
            path => format!(", for they differ at `{}`", Cut(&path)),
        };
        let text = format!(
            "{what} is no {written} on this side: `{}` cannot be read as `{}`{place}",
            Cut(writer),
            Cut(reader),
        );
        Error::new(ErrorKind::SchemaMismatch, text)
    })
}

/// What the items of a stream look like. `None` if their type does not tell.
///
/// It is asked as by [`Shape::of`]: with whatever serde can read it is not known here whether a type tells its shape by
/// itself.
pub(crate) fn of_items<T: DeserializeOwned + 'static>() -> Option<ItemShape> {
    static KNOWN: OnceLock<Mutex<HashMap<TypeId, Option<ItemShape>>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    if let Some(found) = lock(known).get(&TypeId::of::<T>()) {
        return found.clone();
    }
    // No lock is held while the type answers.
    let told = panics::guard(|| {
        let stand_in = Some(nowhere::reference());
        Shape::tell(stand_in, |shapes| shapes.traced::<T>())
    });
    let told = told.ok().flatten().map(|shape| ItemShape {
        fingerprint: shape.fingerprint(),
        shape: Arc::new(shape),
    });
    lock(known).insert(TypeId::of::<T>(), told.clone());
    told
}

/// What the items of a stream look like.
#[derive(Debug, Clone)]
pub(crate) struct ItemShape {
    pub(crate) fingerprint: u32,
    pub(crate) shape: Arc<Shape>,
}

impl ItemShape {
    /// What whoever makes a stream says that its items look like, if they can be read as these.
    ///
    /// # Errors
    ///
    /// It is no shape, or no value of it is one of these.
    pub(crate) fn of_writer(&self, description: Bytes) -> Result<Self, Error> {
        let nonsense = || {
            Error::new(
                ErrorKind::Malformed,
                "a stream does not tell what its items look like",
            )
        };
        let shape = described(description).ok_or_else(nonsense)?;
        readable(&shape, &self.shape, "what comes in a stream", "item of it")?;
        Ok(Self {
            fingerprint: shape.fingerprint(),
            shape: Arc::new(shape),
        })
    }
}

/// One fingerprint of two.
fn both(text: u32, shape: u32) -> u32 {
    let hash = [text, shape]
        .iter()
        .flat_map(|one| one.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

/// Every shape that this process has told a fingerprint of.
fn ours() -> &'static Mutex<HashMap<u32, Arc<Shape>>> {
    static OURS: OnceLock<Mutex<HashMap<u32, Arc<Shape>>>> = OnceLock::new();
    OURS.get_or_init(Mutex::default)
}

/// The shape with that fingerprint as a peer gets it, if it is one of this process.
pub(crate) fn describe(fingerprint: u32) -> Option<Bytes> {
    let shape = lock(ours()).get(&fingerprint).cloned()?;
    encode(&shape)
}

/// A shape as it is on the wire.
pub(crate) fn encode(shape: &Shape) -> Option<Bytes> {
    let mut encoder = Encoder::new();
    encoder.encode(shape).ok()?;
    Some(encoder.body().to_bytes())
}

/// The beginning of what may be long: names in it are the peer's.
struct Cut<'a>(&'a dyn fmt::Display);

/// So many bytes of it.
const SHOWN: usize = 2048;

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut short = Short { text: String::new() };
        let is_whole = fmt::write(&mut short, format_args!("{}", self.0)).is_ok();
        f.write_str(&short.text)?;
        f.write_str(if is_whole { "" } else { ".." })
    }
}

/// Takes so much, and no more.
struct Short {
    text: String,
}

impl fmt::Write for Short {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = SHOWN.saturating_sub(self.text.len());
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        let end = (0..=room)
            .rev()
            .find(|end| more.is_char_boundary(*end))
            .unwrap_or(0);
        self.text.push_str(more.get(..end).unwrap_or_default());
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use farref_boxing::{ShapeFields, Shaped};

    use super::*;

    #[test]
    fn both_shapes_are_in_the_message_however_long_the_first_is() {
        struct Long;
        impl Shaped for Long {
            fn shape(shapes: &mut Shapes) -> ShapeType {
                shapes.structure::<Self>("Long", |shapes| {
                    ShapeFields::tuple((0..1000).map(|_| String::shape(shapes)))
                })
            }
        }
        let own = Known::told(Shape::told_by::<bool>());
        let error = own
            .reads(&Shape::told_by::<Long>(), "what `x` returned", "Result<bool>")
            .unwrap_err();
        let message = error.message();
        assert!(message.contains("`Long where Long(String, String"), "{message}");
        // It used to be cut off behind the first.
        assert!(message.ends_with(" cannot be read as `bool`"), "{message}");
    }
}
