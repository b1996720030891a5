//! What every object can be asked, besides its methods, and the answers that std's traits give.

use std::any::Any;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::hash::{DefaultHasher, Hash, Hasher};

use farref_boxing::{Error, ErrorKind, Value, from_value, to_value};
use serde::{Deserialize, Serialize};

use crate::context;
use crate::hosted::Handle;
use crate::interface::Interface;
use crate::panics;

/// Items in a batch of an iteration, at most.
pub(crate) const MOST_ITEMS: u32 = 4096;

/// A batch ends behind the element with which it takes so many bytes.
const ENOUGH: usize = 64 << 10;

/// What an object is asked, as it came.
pub(crate) enum Question {
    Text,
    Len,
    Hash,
    Copy,
    Equal(Value),
    Index(Value),
    Iterate { from: u64, most: u32 },
}

impl Question {
    /// The question to an object of this process: `address` is where it is.
    pub(crate) fn asked(&self, address: usize) -> Asked<'_> {
        match self {
            Self::Text => Asked::Text,
            Self::Len => Asked::Len,
            Self::Hash => Asked::Hash,
            Self::Copy => Asked::Copy,
            Self::Equal(other) => Asked::Equal(Other {
                value: other,
                address,
            }),
            Self::Index(key) => Asked::Index(key),
            Self::Iterate { from, most } => Asked::Iterate(Batch {
                from: *from,
                most: (*most).clamp(1, MOST_ITEMS),
            }),
        }
    }
}

/// For generated code: what an object is asked.
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub enum Asked<'a> {
    /// Itself as text.
    Text,
    /// How many elements it has.
    Len,
    /// Its hash.
    Hash,
    /// A copy of it.
    Copy,
    /// Whether it equals another object.
    Equal(Other<'a>),
    /// The element with that key.
    Index(&'a Value),
    /// Some of its elements.
    Iterate(Batch),
    /// Which of these it answers by itself.
    Operations(&'a Answered),
}

/// What an object answers by itself, of what every object can be asked: what its `impl` says in `#[remote(..)]`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Operations(u8);

impl Operations {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `str`: itself as text.
    pub const STR: Self = Self(1);
    /// `eq`: whether it equals another object.
    pub const EQ: Self = Self(1 << 1);
    /// `hash`: its hash.
    pub const HASH: Self = Self(1 << 2);
    /// `len`: how many elements it has.
    pub const LEN: Self = Self(1 << 3);
    /// `index`: the element with a key.
    pub const INDEX: Self = Self(1 << 4);
    /// `iter`: its elements.
    pub const ITER: Self = Self(1 << 5);
    /// `copy`: a copy of it, by value.
    pub const COPY: Self = Self(1 << 6);

    /// Each with its name, as `#[remote(..)]` on an `impl` has it.
    const NAMED: [(&'static str, Self); 7] = [
        ("str", Self::STR),
        ("eq", Self::EQ),
        ("hash", Self::HASH),
        ("len", Self::LEN),
        ("index", Self::INDEX),
        ("iter", Self::ITER),
        ("copy", Self::COPY),
    ];

    /// Whether all of `others` are among them.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let known = Self::NAMED.into_iter();
        known.filter_map(move |(name, one)| self.contains(one).then_some(name))
    }

    /// Those of these names; what has none is left out.
    pub(super) fn named(names: &[&str]) -> Self {
        let known = Self::NAMED.iter().filter(|(name, _)| names.contains(name));
        known.fold(Self::NONE, |all, (_, one)| all.with(*one))
    }
}

/// The names, separated by commas.
impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// For generated code: takes what an object answers by itself.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Answered(Cell<Operations>);

impl Answered {
    /// For generated code: adds some, by their names. There is no answer to give: supertraits may have others.
    pub fn add(&self, names: &[&'static str]) -> Told {
        self.0.set(self.0.get().with(Operations::named(names)));
        None
    }

    /// All that were added.
    pub(crate) fn all(&self) -> Operations {
        self.0.get()
    }
}

/// What an object is compared with.
#[doc(hidden)]
#[derive(Debug)]
pub struct Other<'a> {
    value: &'a Value,
    address: usize,
}

/// Which elements are wanted.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    from: u64,
    most: u32,
}

/// What an object says, if it has an answer of its own.
type Told = Option<Result<Value, Error>>;

impl Asked<'_> {
    /// What an object says that has no answer of its own.
    pub(crate) fn by_default(&self, interface: &Interface) -> Told {
        match self {
            Self::Text => Some(Ok(Value::Str(interface.name.to_owned()))),
            Self::Equal(other) => Some(Ok(Value::Bool(other.is_itself()))),
            _ => None,
        }
    }
}

impl Other<'_> {
    /// What it is compared with, if that is no object.
    pub(super) fn by_value(&self) -> Option<&Value> {
        Some(self.value).filter(|value| value.as_reference().is_none())
    }

    fn is_itself(&self) -> bool {
        self.object().is_some_and(|handle| match handle {
            Handle::Local(object) => object.key() == self.address,
            _ => false,
        })
    }

    fn object(&self) -> Option<&Handle> {
        self.value.as_reference().and_then(Handle::of)
    }

    /// The other object, if it is of this process and of that type.
    fn of_type<T: Any>(&self) -> Option<&T> {
        match self.object()? {
            Handle::Local(object) => object.as_any()?.downcast_ref(),
            _ => None,
        }
    }
}

/// For generated code: `str`, from [`Display`].
#[doc(hidden)]
pub fn text<T: Display + ?Sized>(of: &T) -> Told {
    Some(Ok(Value::Str(of.to_string())))
}

/// For generated code: `eq`, from [`PartialEq`].
#[doc(hidden)]
pub fn equal<T: PartialEq + Any>(this: &T, other: &Other<'_>) -> Told {
    let is_equal = other.of_type::<T>().is_some_and(|other| this == other);
    Some(Ok(Value::Bool(is_equal)))
}

/// For generated code: `hash`, from [`Hash`].
#[doc(hidden)]
pub fn hash<T: Hash>(of: &T) -> Told {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    Some(Ok(hasher.finish().into()))
}

/// For generated code: `len`, from a method of that name.
#[doc(hidden)]
pub fn len(of: usize) -> Told {
    Some(Ok(of.into()))
}

/// For generated code: `index`, by what [`Index`](std::ops::Index) does with the key, which panics if there is no
/// such element.
#[doc(hidden)]
pub fn index<'a, K: Deserialize<'a>, T: Serialize>(
    key: &'a Value,
    element: impl FnOnce(K) -> Result<T, Error>,
) -> Told {
    let key = match from_value::<K>(key) {
        Ok(key) => key,
        Err(error) => {
            let message = format!("the index: {error}");
            return Some(Err(Error::new(ErrorKind::SchemaMismatch, message)));
        }
    };
    let told = panics::guard(|| element(key).and_then(|element| value(&element)));
    Some(told.unwrap_or_else(|panic| Err(Error::new(ErrorKind::Failed, panic.message().into_owned()))))
}

/// For generated code: `iter`, from [`IntoIterator`] of a reference.
#[doc(hidden)]
pub fn iterate<T: Serialize>(elements: impl IntoIterator<Item = T>, batch: &Batch) -> Told {
    let most = usize::try_from(batch.most).unwrap_or(usize::MAX);
    let mut elements = elements.into_iter();
    let (mut items, mut weight) = (Vec::new(), 0_usize);
    let mut is_end = match skip(&mut elements, batch.from) {
        Ok(has_more) => !has_more,
        Err(error) => return Some(Err(error)),
    };
    while !is_end && items.len() < most && weight < ENOUGH {
        match elements.next().map(|element| value(&element)) {
            Some(Ok(item)) => {
                weight = weight.saturating_add(weigh(&item));
                items.push(item);
            }
            Some(Err(error)) => return Some(Err(error)),
            None => is_end = true,
        }
    }
    is_end = is_end || elements.next().is_none();
    Some(Ok(Value::Tuple(vec![Value::List(items), Value::Bool(is_end)])))
}

/// Elements that are passed over for one answer, at most: there may be no end of them.
const MOST_SKIPPED: u64 = 1 << 30;

/// So many are passed over before it is seen whether anybody still wants the answer.
const STEP: usize = 1 << 14;

/// Passes over so many elements; whether there were as many.
fn skip(elements: &mut impl Iterator, many: u64) -> Result<bool, Error> {
    let refused = || {
        let text = format!("no more than {MOST_SKIPPED} elements are passed over, and {many} were to be");
        Error::new(ErrorKind::Limit, text)
    };
    let left = Some(many).filter(|many| *many <= MOST_SKIPPED);
    let mut left = usize::try_from(left.ok_or_else(refused)?).map_err(|_| refused())?;
    while left > 0 {
        if context::is_cancelled() {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "given up while elements were passed over",
            ));
        }
        let step = left.min(STEP);
        // For many iterators it is one step, however far it is.
        if elements.nth(step.saturating_sub(1)).is_none() {
            return Ok(false);
        }
        left = left.saturating_sub(step);
    }
    Ok(true)
}

/// About as many bytes as it takes.
pub(crate) fn weigh(value: &Value) -> usize {
    let held = match value {
        Value::Str(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Some(value) => weigh(value),
        Value::List(values) | Value::Tuple(values) => values.iter().map(weigh).sum(),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| weigh(key).saturating_add(weigh(value)))
            .sum(),
        Value::Record(record) => record.values().iter().map(weigh).sum(),
        _ => 8,
    };
    held.saturating_add(1)
}

/// Bytes that a container takes by itself, where there may be many of them.
pub(crate) const CONTAINER: usize = 128;

/// For generated code: `copy`, from [`Serialize`].
#[doc(hidden)]
pub fn copy<T: Serialize>(of: &T) -> Told {
    Some(value(of))
}

fn value<T: Serialize>(of: &T) -> Result<Value, Error> {
    to_value(of).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(from: u64) -> Result<Value, Error> {
        iterate(0..100_000_u32, &Batch { from, most: 2 }).unwrap()
    }

    fn answer(elements: &[u32], is_end: bool) -> Result<Value, Error> {
        let elements = elements.iter().copied().map(Value::from).collect();
        Ok(Value::Tuple(vec![Value::List(elements), Value::Bool(is_end)]))
    }

    #[test]
    fn elements_are_passed_over_as_far_as_there_are_any() {
        let step = STEP as u32;
        assert_eq!(batch(0), answer(&[0, 1], false));
        for from in [1, step - 1, step, step + 1, 3 * step] {
            assert_eq!(batch(from.into()), answer(&[from, from + 1], false));
        }
        assert_eq!(batch(99_998), answer(&[99_998, 99_999], true));
        assert_eq!(batch(99_999), answer(&[99_999], true));
        for beyond in [100_000, 100_001, MOST_SKIPPED] {
            assert_eq!(batch(beyond), answer(&[], true));
        }
        for endless in [MOST_SKIPPED + 1, u64::MAX] {
            assert_eq!(batch(endless).unwrap_err().kind(), ErrorKind::Limit);
        }
    }
}
