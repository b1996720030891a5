//! Bytes to values: a whole one, or piece by piece where it is known what must come.

use bytes::Bytes;

use super::build::{Build, Constant};
use super::integer::{self, Integer};
use super::{Brine, BrineError, BrineLimits};

/// How many items of a tuple have room before the first of them was read.
const ROOM: usize = 64;

/// The value in `payload`. Bytes behind it are ignored, as by Python.
///
/// # Errors
///
/// `payload` does not begin with a value, or that breaks a limit.
pub fn decode(payload: &Bytes, limits: &BrineLimits) -> Result<Brine, BrineError> {
    Reader::new(payload, limits).brine()
}

/// The value at the beginning of `payload`, and what follows it.
///
/// # Errors
///
/// `payload` does not begin with a value, or that breaks a limit.
pub fn decode_prefix(payload: &Bytes, limits: &BrineLimits) -> Result<(Brine, Bytes), BrineError> {
    let mut reader = Reader::new(payload, limits);
    let value = reader.brine()?;
    Ok((value, payload.slice_ref(reader.rest())))
}

/// Reads values one after the other from a payload.
///
/// Each method reads the value that comes next, and fails if it is of another type. Nothing is copied that does not have
/// to be. After an error the reader is somewhere inside the value.
///
/// ```
/// use bytes::Bytes;
/// use farref_boxing::rpyc::{BrineLimits, Reader};
///
/// // (1, ("builtins.list", 2, 3))
/// let payload = Bytes::from_static(b"\x11\x51\x12\x08\x0e\x0dbuiltins.list\x52\x53");
/// let mut reader = Reader::new(&payload, &BrineLimits::default());
/// reader.tuple_of(2)?;
/// assert_eq!(reader.int()?, 1);
/// reader.tuple_of(3)?;
/// assert_eq!(reader.text()?, "builtins.list");
/// reader.skip()?;
/// assert_eq!(reader.int()?, 3);
/// assert!(reader.rest().is_empty());
/// # Ok::<(), farref_boxing::rpyc::BrineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    payload: &'a Bytes,
    rest: &'a [u8],
    limits: BrineLimits,
    /// How many levels are left.
    depth: u32,
    /// How many values are left.
    items: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `payload`.
    #[must_use]
    pub fn new(payload: &'a Bytes, limits: &BrineLimits) -> Self {
        let limits = BrineLimits {
            depth: limits.depth.min(BrineLimits::MAX_DEPTH),
            ..*limits
        };
        Self {
            payload,
            rest: payload,
            limits,
            depth: limits.depth,
            items: limits.items,
        }
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The tag of the next value, which is not read by this.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Whether `None` is next, which is read then. Anything else is left as it is.
    pub fn none(&mut self) -> bool {
        let is_none = self.peek() == Some(0x00);
        if is_none {
            _ = self.tag();
        }
        is_none
    }

    /// A boolean.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn bool(&mut self) -> Result<bool, BrineError> {
        match self.tag()? {
            0x03 => Ok(true),
            0x04 => Ok(false),
            found => Err(unexpected("a boolean", found)),
        }
    }

    /// An integer of up to 128 bits.
    ///
    /// # Errors
    ///
    /// It is none; [`BrineError::IntegerRange`] if it is larger.
    #[inline]
    pub fn int(&mut self) -> Result<i128, BrineError> {
        match self.small() {
            Some(value) => Ok(value),
            None => self.long_int(),
        }
    }

    /// An integer that is a tag and nothing else, if that is next.
    #[inline]
    fn small(&mut self) -> Option<i128> {
        let [tag @ 0x20..=0xef, rest @ ..] = self.rest else {
            return None;
        };
        self.items = self.items.checked_sub(1)?;
        self.rest = rest;
        Some(immediate(*tag))
    }

    fn long_int(&mut self) -> Result<i128, BrineError> {
        match self.integer()? {
            Integer::Small(value) => Ok(value),
            Integer::Big(_) => Err(BrineError::IntegerRange),
        }
    }

    /// An integer as Python takes one, to which a truth is 0 or 1. Nothing of any other value, which is read all the same.
    ///
    /// # Errors
    ///
    /// It is no value, or breaks a limit.
    #[inline]
    pub fn index(&mut self) -> Result<Option<i128>, BrineError> {
        match self.small() {
            Some(value) => Ok(Some(value)),
            None => self.long_index(),
        }
    }

    fn long_index(&mut self) -> Result<Option<i128>, BrineError> {
        match self.peek() {
            Some(0x09 | 0x16 | 0x17 | 0x20..=0xef) => match self.long_int() {
                Err(BrineError::IntegerRange) => Ok(None),
                int => int.map(Some),
            },
            Some(0x03 | 0x04) => self.bool().map(|truth| Some(truth.into())),
            _ => self.skip().map(|()| None),
        }
    }

    fn integer(&mut self) -> Result<Integer, BrineError> {
        match self.tag()? {
            // What Python 2 called long, once around an integer.
            0x09 => {
                let tag = self.tag_byte()?;
                self.integer_of(tag)
            }
            tag => self.integer_of(tag),
        }
    }

    #[inline]
    fn integer_of(&mut self, tag: u8) -> Result<Integer, BrineError> {
        let len = match tag {
            0x20..=0xef => return Ok(Integer::Small(immediate(tag))),
            0x16 => self.short_count()?,
            0x17 => self.long_count()?,
            found => return Err(unexpected("an integer", found)),
        };
        integer::parse(self.take(len)?, self.limits.digits)
    }

    /// A float.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn float(&mut self) -> Result<f64, BrineError> {
        match self.tag()? {
            0x18 => self.double(),
            found => Err(unexpected("a float", found)),
        }
    }

    fn double(&mut self) -> Result<f64, BrineError> {
        self.array().map(f64::from_be_bytes)
    }

    /// Text.
    ///
    /// # Errors
    ///
    /// It is none; [`BrineError::InvalidUtf8`].
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, BrineError> {
        match self.tag()? {
            0x08 => utf8(self.bytes_inside()?),
            found => Err(unexpected("text", found)),
        }
    }

    /// A text, or a byte string that is one, as names were in Python 2.
    ///
    /// # Errors
    ///
    /// It is neither; [`BrineError::InvalidUtf8`].
    #[inline]
    pub fn name(&mut self) -> Result<&'a str, BrineError> {
        utf8(self.name_bytes()?)
    }

    /// The bytes of a [`name`](Self::name), which may be no text: for who only compares them.
    ///
    /// # Errors
    ///
    /// It is neither a text nor a byte string.
    #[inline]
    pub fn name_bytes(&mut self) -> Result<&'a [u8], BrineError> {
        match self.tag()? {
            0x08 => self.bytes_inside(),
            tag => self.bytes_of(tag, "a name"),
        }
    }

    /// The byte string of a text.
    #[inline]
    fn bytes_inside(&mut self) -> Result<&'a [u8], BrineError> {
        let tag = self.tag_byte()?;
        self.bytes_of(tag, "the bytes of a text")
    }

    /// A byte string. [`Bytes::slice_ref`] of the payload shares it.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn bytes(&mut self) -> Result<&'a [u8], BrineError> {
        let tag = self.tag()?;
        self.bytes_of(tag, "a byte string")
    }

    #[inline]
    fn bytes_of(&mut self, tag: u8, expected: &'static str) -> Result<&'a [u8], BrineError> {
        let len = match tag {
            0x01 => 0,
            0x0a..=0x0d => usize::from(tag).wrapping_sub(0x09),
            0x0e => self.short_count()?,
            0x0f => self.long_count()?,
            found => return Err(unexpected(expected, found)),
        };
        self.take(len)
    }

    /// The beginning of a tuple: how many items it has. They come next.
    ///
    /// It does not count as a level: who reads what nests calls [`enter`](Self::enter) and [`leave`](Self::leave).
    ///
    /// # Errors
    ///
    /// It is none; [`BrineError::Truncated`] and [`BrineError::TooManyItems`] if the items cannot be there.
    #[inline]
    pub fn tuple(&mut self) -> Result<usize, BrineError> {
        let tag = self.tag()?;
        self.count_of(tag)?.ok_or_else(|| unexpected("a tuple", tag))
    }

    /// The beginning of a tuple of `count` items.
    ///
    /// # Errors
    ///
    /// Those of [`tuple`](Self::tuple); [`BrineError::WrongCount`].
    #[inline]
    pub fn tuple_of(&mut self, count: usize) -> Result<(), BrineError> {
        match self.tuple()? {
            found if found == count => Ok(()),
            found => Err(BrineError::WrongCount {
                expected: count,
                found,
            }),
        }
    }

    /// The beginning of a pair, and what [`index`](Self::index) makes of its first item: how boxes begin, and what is inside
    /// others. The second item comes next, one level further in: [`leave`](Self::leave) comes back from there.
    ///
    /// # Errors
    ///
    /// Those of [`tuple_of`](Self::tuple_of), [`enter`](Self::enter) and [`index`](Self::index).
    #[inline]
    pub fn pair(&mut self) -> Result<Option<i128>, BrineError> {
        if let [0x11, tag @ 0x20..=0xef, rest @ ..] = self.rest
            && let (false, Some(depth), 3..) = (rest.is_empty(), self.depth.checked_sub(1), self.items)
        {
            self.items = self.items.saturating_sub(2);
            self.depth = depth;
            self.rest = rest;
            return Ok(Some(immediate(*tag)));
        }
        self.tuple_of(2)?;
        self.enter()?;
        self.index()
    }

    /// How many items the tuple with this tag has, if it is one.
    #[inline]
    fn count_of(&mut self, tag: u8) -> Result<Option<usize>, BrineError> {
        let count = match tag {
            0x02 => 0,
            0x10..=0x13 => usize::from(tag).wrapping_sub(0x0f),
            0x14 => self.short_count()?,
            0x15 => self.long_count()?,
            _ => return Ok(None),
        };
        if count > self.items {
            return Err(self.too_many());
        }
        // Each takes a byte at least.
        if count > self.rest.len() {
            return Err(self.truncated(count));
        }
        Ok(Some(count))
    }

    /// Goes one level further in, for who reads what nests.
    ///
    /// # Errors
    ///
    /// [`BrineError::TooDeep`].
    pub fn enter(&mut self) -> Result<(), BrineError> {
        match self.depth.checked_sub(1) {
            Some(depth) => {
                self.depth = depth;
                Ok(())
            }
            None => Err(BrineError::TooDeep {
                limit: self.limits.depth,
            }),
        }
    }

    /// Comes one level back, once for every [`enter`](Self::enter).
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1).min(self.limits.depth);
    }

    /// A value of any type, as a tree.
    ///
    /// # Errors
    ///
    /// It is none, or breaks a limit.
    pub fn brine(&mut self) -> Result<Brine, BrineError> {
        self.build()
    }

    /// Any value, which is not kept.
    ///
    /// # Errors
    ///
    /// It is none, or breaks a limit.
    pub fn skip(&mut self) -> Result<(), BrineError> {
        self.build()
    }

    /// The bytes of any value, as they came: what is only compared, or goes back as it is.
    ///
    /// # Errors
    ///
    /// It is none, or breaks a limit.
    pub fn raw(&mut self) -> Result<&'a [u8], BrineError> {
        let before = self.rest;
        self.skip()?;
        let len = before.len().saturating_sub(self.rest.len());
        Ok(before.get(..len).unwrap_or_default())
    }

    /// A value of any type, as whatever can be one.
    pub(super) fn build<B: Build<'a>>(&mut self) -> Result<B, BrineError> {
        let tag = self.tag()?;
        Ok(match tag {
            0x20..=0xef => B::int(immediate(tag)),
            0x02 | 0x10..=0x15 => {
                let count = self.count_of(tag)?.unwrap_or_default();
                self.many::<B>(count).map(B::tuple)?
            }
            0x00 => B::constant(Constant::None),
            0x03 => B::bool(true),
            0x04 => B::bool(false),
            0x05 => B::constant(Constant::NotImplemented),
            0x06 => B::constant(Constant::Ellipsis),
            0x08 => B::text(utf8(self.bytes_inside()?)?),
            0x01 | 0x0a..=0x0f => B::bytes(self.payload, self.bytes_of(tag, "")?),
            0x16 | 0x17 => match self.integer_of(tag)? {
                Integer::Small(value) => B::int(value),
                Integer::Big(value) => B::big_int(value),
            },
            0x09 => {
                let tag = self.tag_byte()?;
                match self.integer_of(tag)? {
                    Integer::Small(value) => B::int(value),
                    Integer::Big(value) => B::big_int(value),
                }
            }
            0x18 => B::float(self.double()?),
            0x1b => B::complex(self.double()?, self.double()?),
            0x19 => {
                let count = self.tuple_inside("the tuple of a slice")?;
                if count != 3 {
                    return Err(BrineError::WrongCount {
                        expected: 3,
                        found: count,
                    });
                }
                self.enter()?;
                let parts = [self.build()?, self.build()?, self.build()?];
                self.leave();
                B::slice(parts)
            }
            0x1a => {
                let count = self.tuple_inside("the tuple of a frozenset")?;
                self.many::<B>(count).map(B::frozenset)?
            }
            found => return Err(BrineError::UnknownTag { found }),
        })
    }

    /// The beginning of the tuple that a value of another type is made of.
    fn tuple_inside(&mut self, expected: &'static str) -> Result<usize, BrineError> {
        let tag = self.tag_byte()?;
        self.count_of(tag)?.ok_or_else(|| unexpected(expected, tag))
    }

    fn many<B: Build<'a>>(&mut self, count: usize) -> Result<B::Many, BrineError> {
        let mut items = B::many(count.min(ROOM));
        if count > 0 {
            self.enter()?;
            for _ in 0..count {
                B::push(&mut items, self.build()?);
            }
            self.leave();
        }
        Ok(items)
    }

    /// The tag of a value, which counts as one.
    #[inline]
    fn tag(&mut self) -> Result<u8, BrineError> {
        self.items = self.items.checked_sub(1).ok_or_else(|| self.too_many())?;
        self.tag_byte()
    }

    #[inline]
    fn tag_byte(&mut self) -> Result<u8, BrineError> {
        match self.rest {
            [tag, rest @ ..] => {
                self.rest = rest;
                Ok(*tag)
            }
            [] => Err(self.truncated(1)),
        }
    }

    #[inline]
    fn short_count(&mut self) -> Result<usize, BrineError> {
        self.tag_byte().map(usize::from)
    }

    fn long_count(&mut self) -> Result<usize, BrineError> {
        let count = u32::from_be_bytes(self.array()?);
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BrineError> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.truncated(N)),
        }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], BrineError> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.truncated(len)),
        }
    }

    #[cold]
    fn truncated(&self, needed: usize) -> BrineError {
        BrineError::Truncated {
            needed,
            left: self.rest.len(),
        }
    }

    #[cold]
    fn too_many(&self) -> BrineError {
        BrineError::TooManyItems {
            limit: self.limits.items,
        }
    }
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, BrineError> {
    std::str::from_utf8(bytes).map_err(|error| BrineError::InvalidUtf8 {
        valid: error.valid_up_to(),
    })
}

/// The integer that is this tag and nothing else.
#[inline]
fn immediate(tag: u8) -> i128 {
    i128::from(tag).wrapping_sub(0x50)
}

/// A value of another type, or none at all.
#[cold]
fn unexpected(expected: &'static str, found: u8) -> BrineError {
    match found {
        0x07 | 0x1c..=0x1f | 0xf0..=0xff => BrineError::UnknownTag { found },
        _ => BrineError::Unexpected { expected, found },
    }
}

#[cfg(test)]
mod tests;
