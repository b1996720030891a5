//! What methods take and return looks like on the wire: asked of the types once, told to peers that ask.
//!
//! A payload names the shape of its writer's type by its fingerprint (PROTOCOL.md § 7.8). Most types tell their shape;
//! of others only the text is known, and a fingerprint of that stands for the shape.

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use farref_boxing::{Encoder, Error, ErrorKind, Shape, ShapeType, Shaped, Shapes};
use serde::de::DeserializeOwned;

use crate::exchange::{LONGEST, described};
use crate::interface::shape_of_text;
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
    /// How deep containers are nested in it; 255 if that is not known.
    pub(crate) levels: u8,
    /// The same of each of its items, if it is a tuple and they are known.
    items: Box<[u8]>,
    shape: Option<Arc<Shape>>,
    read: Mutex<Vec<Read>>,
}

/// What somebody writes, and how it is read as a type of this side.
#[derive(Debug)]
struct Read {
    writer: Arc<Shape>,
    by: Arc<Shape>,
}

/// So many writers' types are remembered for each of this side.
const REMEMBERED: usize = 16;

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
            None => Self::untold(text),
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
            Some(shape) => Self::untold(both(text, shape.fingerprint())),
            None => Self::untold(text),
        }
    }

    /// How deep containers are nested in the item at that place.
    pub(crate) fn item_levels(&self, place: usize) -> Option<u8> {
        self.items.get(place).copied()
    }

    /// A shape that others may ask for from now on.
    fn told(shape: Shape) -> Self {
        let (fingerprint, shape) = (shape.fingerprint(), Arc::new(shape));
        lock(ours()).insert(fingerprint, Arc::clone(&shape));
        Self {
            levels: shape.levels(),
            items: shape.item_levels().into(),
            shape: Some(shape),
            ..Self::untold(fingerprint)
        }
    }

    fn untold(fingerprint: u32) -> Self {
        Self {
            fingerprint,
            levels: u8::MAX,
            items: Box::new([]),
            shape: None,
            read: Mutex::new(Vec::new()),
        }
    }

    /// The shape by which what was written with the type `writer` is read as this one.
    ///
    /// # Errors
    ///
    /// No value of the one is one of the other. The message has both shapes, or their beginnings.
    pub(crate) fn reads(&self, writer: &Arc<Shape>, what: &str, written: &str) -> Result<Arc<Shape>, Error> {
        let Some(shape) = &self.shape else {
            // It is equal to itself alone.
            let text = format!("{what} is `{}`, and no {written} on this side", Cut(writer));
            return Err(Error::new(ErrorKind::SchemaMismatch, text));
        };
        // A fingerprint would not do: whoever wants to finds others with the same.
        let is_it = |known: &&Read| Arc::ptr_eq(&known.writer, writer) || known.writer == *writer;
        if let Some(known) = lock(&self.read).iter().find(is_it) {
            return Ok(Arc::clone(&known.by));
        }
        let by = match writer.read_by(shape) {
            Ok(Cow::Borrowed(_)) => Arc::clone(writer),
            Ok(Cow::Owned(by)) => Arc::new(by),
            Err(mismatch) => {
                let place = match mismatch.path() {
                    "" => String::new(),
                    path => format!(", for they differ at `{}`", Cut(&path)),
                };
                let text = format!(
                    "{what} is no {written} on this side: `{}` cannot be read as `{}`{place}",
                    Cut(writer),
                    Cut(shape),
                );
                return Err(Error::new(ErrorKind::SchemaMismatch, text));
            }
        };
        let mut read = lock(&self.read);
        if read.len() >= REMEMBERED {
            read.clear();
        }
        read.push(Read {
            writer: Arc::clone(writer),
            by: Arc::clone(&by),
        });
        Ok(by)
    }

    /// As a peer gets it that asks; nothing if it is not known, or longer than anybody takes.
    pub(crate) fn description(&self) -> Bytes {
        let told = self.shape.as_ref().and_then(|shape| encode(shape));
        told.filter(|told| told.len() <= LONGEST).unwrap_or_default()
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

/// A type that only serde is known to read.
#[derive(Default)]
struct Item {
    /// How it is asked, if it tells its shape by itself.
    tell: Option<Tell>,
    known: Option<Arc<Known>>,
}

fn items() -> &'static Mutex<HashMap<TypeId, Item>> {
    static ITEMS: OnceLock<Mutex<HashMap<TypeId, Item>>> = OnceLock::new();
    ITEMS.get_or_init(Mutex::default)
}

/// Notes that `T` tells its shape by itself.
///
/// Streams, channels and locks take whatever serde can read, and cannot see that. So they say it where a type with one
/// of them in it is asked: before the first call of the method that it crosses with.
pub(crate) fn tells<T: Shaped + 'static>() {
    tells_by::<T>(|shapes| Some(T::shape(shapes)));
}

/// Notes that `T` is to be asked like that.
pub(crate) fn tells_by<T: 'static>(tell: Tell) {
    let mut items = lock(items());
    let item = items.entry(TypeId::of::<T>()).or_default();
    if item.tell.is_none() {
        (item.tell, item.known) = (Some(tell), None);
    }
}

/// The shape of `T`, as it tells it by itself or else as it is read.
pub(crate) fn tell<T: DeserializeOwned + 'static>(shapes: &mut Shapes) -> Option<ShapeType> {
    let tell = lock(items()).get(&TypeId::of::<T>()).and_then(|item| item.tell);
    match tell {
        Some(tell) => tell(shapes),
        None => shapes.traced::<T>(),
    }
}

/// What the items of a stream, or the values of a channel or lock look like.
pub(crate) fn of_items<T: DeserializeOwned + 'static>() -> Arc<Known> {
    let key = TypeId::of::<T>();
    if let Some(known) = lock(items()).get(&key).and_then(|item| item.known.as_ref()) {
        return Arc::clone(known);
    }
    loop {
        let tells = lock(items()).get(&key).is_some_and(|item| item.tell.is_some());
        // No lock is held while the type answers.
        let known = Known::ask(tell::<T>, shape_of_text(&name_of::<T>()));
        let mut items = lock(items());
        let item = items.entry(key).or_default();
        // Somebody may have said meanwhile that it tells.
        if tells == item.tell.is_some() {
            return Arc::clone(item.known.get_or_insert_with(|| Arc::new(known)));
        }
    }
}

/// The name of a type with its arguments, each path cut to its last segment, as in PROTOCOL.md § 7.8.
pub(crate) fn name_of<T>() -> String {
    let mut name = String::new();
    let mut word = 0;
    for part in
        std::any::type_name::<T>().split_inclusive(|next: char| !next.is_alphanumeric() && next != '_')
    {
        if part == ":" {
            // The second of two: what is before the first is a module.
            name.truncate(word);
            continue;
        }
        word = name.len();
        name.push_str(part.strip_suffix(':').unwrap_or(part));
    }
    name
}

/// What somebody has told a type to look like.
pub(crate) fn of_writer(description: Bytes) -> Result<Arc<Shape>, Error> {
    let nonsense = || {
        Error::new(
            ErrorKind::Malformed,
            "what a type looks like is told by something else",
        )
    };
    described(description).map(Arc::new).ok_or_else(nonsense)
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
    use farref_boxing::ShapeFields;

    use super::*;

    #[test]
    fn a_type_is_named_without_its_modules() {
        assert_eq!(name_of::<u8>(), "u8");
        assert_eq!(
            name_of::<(Option<Vec<String>>, [Known; 2], Box<dyn std::fmt::Debug>)>(),
            "(Option<Vec<String>>, [Known; 2], Box<dyn Debug>)"
        );
    }

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
            .reads(
                &Arc::new(Shape::told_by::<Long>()),
                "what `x` returned",
                "Result<bool>",
            )
            .unwrap_err();
        let message = error.message();
        assert!(message.contains("`Long where Long(String, String"), "{message}");
        // It used to be cut off behind the first.
        assert!(message.ends_with(" cannot be read as `bool`"), "{message}");
    }
}
