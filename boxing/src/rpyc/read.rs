//! Bytes to values: a whole one, or piece by piece where it is known what must come.

use bytes::Bytes;

use super::integer::{self, Integer};
use super::{BigInt, Brine, BrineError, BrineLimits};

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
        if let [tag @ 0x20..=0xef, rest @ ..] = self.rest
            && let Some(items) = self.items.checked_sub(1)
        {
            (self.rest, self.items) = (rest, items);
            return Ok(immediate(*tag));
        }
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
        match self.peek() {
            Some(0x09 | 0x16 | 0x17 | 0x20..=0xef) => match self.int() {
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
            0x08 => self.text_inside(),
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
        match self.tag()? {
            0x08 => self.text_inside(),
            tag => utf8(self.bytes_of(tag, "a name")?),
        }
    }

    /// The byte string of a text.
    #[inline]
    fn text_inside(&mut self) -> Result<&'a str, BrineError> {
        let tag = self.tag_byte()?;
        utf8(self.bytes_of(tag, "the bytes of a text")?)
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
            0x08 => B::text(self.text_inside()?),
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

/// Values of which there is one.
pub(super) enum Constant {
    None,
    NotImplemented,
    Ellipsis,
}

/// What a value can become.
pub(super) trait Build<'a>: Sized {
    /// Several of them.
    type Many;

    fn constant(value: Constant) -> Self;
    fn bool(value: bool) -> Self;
    fn int(value: i128) -> Self;
    fn big_int(value: BigInt) -> Self;
    fn float(value: f64) -> Self;
    fn complex(real: f64, imag: f64) -> Self;
    /// `value` is a piece of `payload`.
    fn bytes(payload: &'a Bytes, value: &'a [u8]) -> Self;
    fn text(value: &'a str) -> Self;
    fn many(room: usize) -> Self::Many;
    fn push(items: &mut Self::Many, item: Self);
    fn tuple(items: Self::Many) -> Self;
    fn slice(parts: [Self; 3]) -> Self;
    fn frozenset(items: Self::Many) -> Self;
}

impl<'a> Build<'a> for Brine {
    type Many = Vec<Self>;

    fn constant(value: Constant) -> Self {
        match value {
            Constant::None => Self::None,
            Constant::NotImplemented => Self::NotImplemented,
            Constant::Ellipsis => Self::Ellipsis,
        }
    }

    fn bool(value: bool) -> Self {
        Self::Bool(value)
    }

    fn int(value: i128) -> Self {
        Self::Int(value)
    }

    fn big_int(value: BigInt) -> Self {
        Self::BigInt(value)
    }

    fn float(value: f64) -> Self {
        Self::Float(value)
    }

    fn complex(real: f64, imag: f64) -> Self {
        Self::Complex { real, imag }
    }

    fn bytes(payload: &'a Bytes, value: &'a [u8]) -> Self {
        Self::Bytes(payload.slice_ref(value))
    }

    fn text(value: &'a str) -> Self {
        Self::Str(value.to_owned())
    }

    fn many(room: usize) -> Vec<Self> {
        Vec::with_capacity(room)
    }

    fn push(items: &mut Vec<Self>, item: Self) {
        items.push(item);
    }

    fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(items)
    }

    fn slice(parts: [Self; 3]) -> Self {
        Self::Slice(Box::new(parts))
    }

    fn frozenset(items: Vec<Self>) -> Self {
        Self::FrozenSet(items)
    }
}

/// Nothing is kept.
impl<'a> Build<'a> for () {
    type Many = ();

    fn constant(_: Constant) {}
    fn bool(_: bool) {}
    fn int(_: i128) {}
    fn big_int(_: BigInt) {}
    fn float(_: f64) {}
    fn complex(_: f64, _: f64) {}
    fn bytes(_: &'a Bytes, _: &'a [u8]) {}
    fn text(_: &'a str) {}
    fn many(_: usize) {}
    fn push(_: &mut (), _: ()) {}
    fn tuple(_: ()) {}
    fn slice(_: [(); 3]) {}
    fn frozenset(_: ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Brine, BrineError> {
        limited(bytes, BrineLimits::default())
    }

    fn limited(bytes: &[u8], limits: BrineLimits) -> Result<Brine, BrineError> {
        decode(&Bytes::copy_from_slice(bytes), &limits)
    }

    #[test]
    fn longer_forms_are_read_as_well() {
        let one = Brine::Int(1);
        for bytes in [&b"\x51"[..], b"\x16\x011", b"\x17\0\0\0\x011"] {
            assert_eq!(read(bytes).as_ref(), Ok(&one));
        }
        assert_eq!(read(b"\x16\x0500012"), Ok(Brine::Int(12)));
        assert_eq!(read(b"\x16\x02-0"), Ok(Brine::Int(0)));
        assert_eq!(read(b"\x08\x0f\0\0\0\x01a"), Ok(Brine::Str("a".into())));
        assert_eq!(read(b"\x08\x0e\0"), Ok(Brine::Str(String::new())));
        assert_eq!(read(b"\x14\x01\x51"), Ok(Brine::Tuple(vec![one.clone()])));
        assert_eq!(read(b"\x15\0\0\0\x01\x51"), Ok(Brine::Tuple(vec![one.clone()])));
        assert_eq!(read(b"\x15\0\0\0\0"), Ok(Brine::Tuple(vec![])));
        assert_eq!(read(b"\x19\x14\x03\x51\0\0"), read(b"\x19\x12\x51\0\0"));
        // What RPyC 4 wrote on Python 2.
        assert_eq!(read(b"\x09\x51"), Ok(one.clone()));
        assert_eq!(read(b"\x09\x16\x03160"), Ok(Brine::Int(160)));
        // And bytes behind the value.
        assert_eq!(read(b"\x51\xff"), Ok(one));
    }

    #[test]
    fn integers_beyond_128_bits_are_text() {
        let text = |value: &str| [&[0x16, value.len() as u8], value.as_bytes()].concat();
        let max = i128::MAX.to_string();
        let min = i128::MIN.to_string();
        assert_eq!(read(&text(&max)), Ok(Brine::Int(i128::MAX)));
        assert_eq!(read(&text(&min)), Ok(Brine::Int(i128::MIN)));
        assert_eq!(read(&text(&format!("00{max}"))), Ok(Brine::Int(i128::MAX)));
        for beyond in [
            "170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105729",
            "340282366920938463463374607431768211456",
        ] {
            let big = beyond.parse().unwrap();
            assert_eq!(read(&text(beyond)), Ok(Brine::BigInt(big)));
        }
        let payload = Bytes::from(text("340282366920938463463374607431768211456"));
        let int = Reader::new(&payload, &BrineLimits::default()).int();
        assert_eq!(int, Err(BrineError::IntegerRange));
    }

    #[test]
    fn what_is_no_decimal_text_is_refused() {
        for text in [
            "",
            "-",
            "+1",
            "1.",
            " 1",
            "1_0",
            "--1",
            "0x1",
            "1-",
            "12345678901234567890 ",
            "\u{661}",
        ] {
            let bytes = [&[0x16, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(read(&bytes), Err(BrineError::InvalidInteger), "{text:?}");
        }
    }

    #[test]
    fn digits_are_limited_without_their_sign() {
        let text = |digits: usize| {
            let text = format!("-{}", "9".repeat(digits));
            [&[0x17][..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
        };
        assert!(read(&text(4300)).is_ok());
        assert_eq!(
            read(&text(4301)),
            Err(BrineError::TooManyDigits {
                digits: 4301,
                limit: 4300
            })
        );
    }

    #[test]
    fn unknown_tags_and_other_types_are_refused() {
        for tag in [0x07, 0x1c, 0x1f, 0xf0, 0xff] {
            assert_eq!(read(&[tag]), Err(BrineError::UnknownTag { found: tag }));
            assert_eq!(read(&[0x08, tag]), Err(BrineError::UnknownTag { found: tag }));
        }
        for bytes in [
            &[0x08, 0x50][..],
            &[0x09, 0x09, 0x51],
            &[0x09, 0x00],
            &[0x19, 0x50],
            &[0x1a, 0x0a],
        ] {
            assert!(
                matches!(read(bytes), Err(BrineError::Unexpected { .. })),
                "{bytes:x?}"
            );
        }
        assert_eq!(
            read(&[0x19, 0x11, 0x50, 0x50]),
            Err(BrineError::WrongCount {
                expected: 3,
                found: 2
            })
        );
    }

    #[test]
    fn text_is_utf8_without_surrogates() {
        assert_eq!(read(b"\x08\x0ba\xff"), Err(BrineError::InvalidUtf8 { valid: 1 }));
        assert_eq!(
            read(b"\x08\x0c\xed\xa0\x80"),
            Err(BrineError::InvalidUtf8 { valid: 0 })
        );
        assert_eq!(
            read(b"\x0b\xff\xff"),
            Ok(Brine::Bytes(Bytes::from_static(b"\xff\xff")))
        );
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| [&vec![0x10; levels][..], &[0x02]].concat();
        assert!(read(&nested(128)).is_ok());
        assert_eq!(read(&nested(129)), Err(BrineError::TooDeep { limit: 128 }));
        let deep = BrineLimits {
            depth: u32::MAX,
            ..BrineLimits::default()
        };
        assert!(limited(&nested(256), deep).is_ok());
        assert_eq!(
            limited(&nested(257), deep),
            Err(BrineError::TooDeep { limit: 256 })
        );
        for unit in [&[0x1a, 0x10][..], &[0x19, 0x12]] {
            assert_eq!(
                limited(&unit.repeat(100_000), deep),
                Err(BrineError::TooDeep { limit: 256 })
            );
        }
        for tag in [0x08, 0x09, 0x19, 0x1a] {
            assert!(limited(&vec![tag; 1_000_000], deep).is_err());
        }
    }

    #[test]
    fn a_count_reserves_nothing() {
        assert_eq!(
            read(&[0x15, 0, 0x10, 0, 0, 0x50]),
            Err(BrineError::Truncated {
                needed: 0x10_0000,
                left: 1
            })
        );
        assert_eq!(
            read(&[0x15, 0xff, 0xff, 0xff, 0xff, 0x50]),
            Err(BrineError::TooManyItems { limit: 1 << 21 })
        );
        assert_eq!(
            read(&[0x0f, 0xff, 0xff, 0xff, 0xff]),
            Err(BrineError::Truncated {
                needed: 0xffff_ffff,
                left: 0
            })
        );
    }

    #[test]
    fn values_are_limited_in_number() {
        let few = BrineLimits {
            items: 4,
            ..BrineLimits::default()
        };
        assert!(limited(&[0x11, 0x10, 0x50, 0x50], few).is_ok());
        let too_many = Err(BrineError::TooManyItems { limit: 4 });
        assert_eq!(limited(&[0x11, 0x11, 0x50, 0x50, 0x50], few), too_many);
        assert_eq!(limited(&[0x14, 5, 0x50, 0x50, 0x50, 0x50, 0x50], few), too_many);
    }

    #[test]
    fn a_value_cut_anywhere_is_none() {
        let whole = b"\x14\x05\x0e\x05hello\x18\0\0\0\0\0\0\0\0\x16\x03160\x1a\x10\x00\x1b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert!(read(whole).is_ok());
        for cut in 0..whole.len() {
            assert!(
                matches!(read(&whole[..cut]), Err(BrineError::Truncated { .. })),
                "{cut}"
            );
        }
    }

    #[test]
    fn the_bytes_of_a_value_are_what_came() {
        let payload = Bytes::from_static(b"\x11\x10\x16\x015\x52rest");
        let mut reader = Reader::new(&payload, &BrineLimits::default());
        reader.tuple_of(2).unwrap();
        assert_eq!(reader.raw(), Ok(&b"\x10\x16\x015"[..]));
        assert_eq!(reader.int(), Ok(2));
        assert_eq!(reader.rest(), b"rest");
    }

    #[test]
    fn an_index_is_an_integer_or_a_truth_and_all_else_is_passed_over() {
        let payload = Bytes::from_static(b"\x14\x08\x51\x03\x04\x16\x03160\x09\x52\x10\x53\x00\x54");
        let mut reader = Reader::new(&payload, &BrineLimits::default());
        reader.tuple_of(8).unwrap();
        let mut next = || reader.index().unwrap();
        assert_eq!([next(), next(), next()], [Some(1), Some(1), Some(0)]);
        assert_eq!([next(), next()], [Some(160), Some(2)]);
        assert_eq!([next(), next(), next()], [None, None, Some(4)]);
        let beyond = "340282366920938463463374607431768211456";
        let payload = Bytes::from([&[0x11, 0x16, beyond.len() as u8], beyond.as_bytes(), &[0x51]].concat());
        let mut reader = Reader::new(&payload, &BrineLimits::default());
        reader.tuple_of(2).unwrap();
        assert_eq!((reader.index(), reader.index()), (Ok(None), Ok(Some(1))));
        assert!(reader.index().is_err());
    }

    #[test]
    fn a_name_is_a_text_or_bytes_that_are_one() {
        let payload = Bytes::from_static(b"\x13\x08\x0aa\x0ab\x0a\xff\x51");
        let mut reader = Reader::new(&payload, &BrineLimits::default());
        reader.tuple_of(4).unwrap();
        assert_eq!((reader.name(), reader.name()), (Ok("a"), Ok("b")));
        assert_eq!(reader.name(), Err(BrineError::InvalidUtf8 { valid: 0 }));
        assert!(matches!(reader.name(), Err(BrineError::Unexpected { .. })));
    }

    #[test]
    fn what_follows_a_value_is_told() {
        let payload = Bytes::from_static(b"\x10\x51rest");
        let (value, rest) = decode_prefix(&payload, &BrineLimits::default()).unwrap();
        assert_eq!(value, Brine::Tuple(vec![Brine::Int(1)]));
        assert_eq!(rest, "rest");
    }

    #[test]
    fn a_reader_reads_what_it_is_told_and_nothing_else() {
        let payload = Bytes::from_static(b"\x14\x06\x00\x03\x51\x0aa\x08\x0ab\x18\x3f\xf8\0\0\0\0\0\0");
        let mut reader = Reader::new(&payload, &BrineLimits::default());
        assert_eq!(
            reader.clone().tuple_of(5),
            Err(BrineError::WrongCount {
                expected: 5,
                found: 6
            })
        );
        assert!(!reader.none());
        assert_eq!(reader.tuple(), Ok(6));
        assert!(reader.none());
        assert!(reader.clone().int().is_err());
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.int(), Ok(1));
        assert!(reader.clone().text().is_err());
        assert_eq!(reader.bytes(), Ok(&b"a"[..]));
        assert_eq!(reader.text(), Ok("b"));
        assert_eq!(reader.float(), Ok(1.5));
        assert!(!reader.none());
        assert_eq!(reader.int(), Err(BrineError::Truncated { needed: 1, left: 0 }));
    }
}
