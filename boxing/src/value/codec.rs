//! The bytes of a value (PROTOCOL.md § 9.10 to 9.12): one tag each, nothing read that could be written shorter.

use std::cell::RefCell;
use std::collections::HashMap;
use std::iter::repeat_with;
use std::mem::{ManuallyDrop, replace};
use std::sync::Arc;

use ::bytes::Bytes;

use super::record::{Fields, Name, Names};
use super::{MAX_DEPTH, Record, Value, model};
use crate::{CodecError, lend, reference, slot};

const NULL: u8 = 0x00;
const FALSE: u8 = 0x01;
const TRUE: u8 = 0x02;
const SINGLE: u8 = 0x03;
const FLOAT: u8 = 0x04;
const CHAR: u8 = 0x05;
const SOME: u8 = 0x06;
const REFERENCE: u8 = 0x07;
/// The first of five: 1, 2, 4, 8, 16 bytes.
const POSITIVE: u8 = 0x08;
/// The first of five, for `-1 - n`.
const NEGATIVE: u8 = 0x0d;
const STR: u8 = 0x12;
const BYTES: u8 = 0x13;
const LONG_BYTES: u8 = 0x14;
const LIST: u8 = 0x15;
const TUPLE: u8 = 0x16;
const MAP: u8 = 0x17;
const NEW_FORM: u8 = 0x18;
const KNOWN_FORM: u8 = 0x19;
const SHORT_LIST: u8 = 0x20;
const SHORT_MAP: u8 = 0x30;
const SHORT_TUPLE: u8 = 0x38;
const SHORT_STR: u8 = 0x40;
const SHORT_KNOWN_FORM: u8 = 0x60;
/// From here on, integers from [`SMALLEST`] to [`LARGEST`].
const SMALL: u8 = 0x80;
const SMALLEST: i8 = -16;
const LARGEST: u8 = 111;
/// How many negative integers are small.
const SMALL_NEGATIVES: u8 = SMALLEST.unsigned_abs();

/// From this length on, bytes are long. On the wire for ever; that it is what [`SHARE_FROM`](crate::SHARE_FROM) is spares
/// a copy.
const LONG: usize = 4096;
/// How much memory is kept for the next value, in bytes.
const KEEP: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `then` with the bytes of `value`, and with the long bytes in it, which are not among them.
///
/// # Errors
///
/// The value is nested too deeply; or it holds a reference, and no message is being encoded.
pub(super) fn with_encoded<R>(
    value: &Value,
    then: impl FnOnce(&[u8], &[Bytes]) -> R,
) -> Result<R, CodecError> {
    let mut head = SCRATCH.try_with(RefCell::take).unwrap_or_default();
    head.clear();
    let mut writer = Writer {
        head: &mut head,
        long: Vec::new(),
        forms: Forms::default(),
        depth: MAX_DEPTH,
    };
    writer.value(value)?;
    let long = writer.long;
    let result = then(&head, &long);
    if head.capacity() <= KEEP {
        _ = SCRATCH.try_with(|scratch| scratch.replace(head));
    }
    Ok(result)
}

/// The value whose bytes are `head` and `long`.
///
/// # Errors
///
/// They are not those of a value.
pub(super) fn decode(head: &[u8], long: impl Iterator<Item = Bytes>) -> Result<Value, CodecError> {
    let depth_limit = reference::depth().unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
    let mut reader = Reader {
        rest: head,
        long,
        forms: Vec::new(),
        depth: depth_limit,
        depth_limit,
        owed: 1,
    };
    let mut value = Value::Null;
    reader.value(&mut value)?;
    let bytes = reader.rest.len() as u64;
    let bytes = reader
        .long
        .map(|bytes| bytes.len() as u64)
        .fold(bytes, u64::saturating_add);
    match bytes {
        0 => Ok(value),
        bytes => Err(CodecError::Trailing { bytes }),
    }
}

struct Writer<'a> {
    head: &'a mut Vec<u8>,
    long: Vec<Bytes>,
    forms: Forms<'a>,
    depth: u32,
}

impl<'a> Writer<'a> {
    /// What is met most is written in line, where the processor learns what comes where.
    #[inline(always)]
    fn value(&mut self, value: &'a Value) -> Result<(), CodecError> {
        match value {
            Value::Null => self.head.push(NULL),
            Value::Bool(false) => self.head.push(FALSE),
            Value::Bool(true) => self.head.push(TRUE),
            Value::Int(number) if *number < 0 => self.negative((!*number).cast_unsigned()),
            Value::Int(number) => self.positive(number.cast_unsigned()),
            Value::Float(number) => {
                self.head.push(FLOAT);
                self.head.extend_from_slice(&number.to_le_bytes());
            }
            Value::Str(text) => {
                self.count(text.len(), SHORT_STR, SHORT_KNOWN_FORM, STR);
                self.head.extend_from_slice(text.as_bytes());
            }
            other => return self.other(other),
        }
        Ok(())
    }

    #[inline(never)]
    fn other(&mut self, value: &'a Value) -> Result<(), CodecError> {
        match value {
            // Never here.
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Str(_) => {}
            Value::UInt(number) => self.positive(*number),
            Value::Single(number) => {
                self.head.push(SINGLE);
                self.head.extend_from_slice(&number.to_le_bytes());
            }
            Value::Char(char) => {
                self.head.push(CHAR);
                self.head
                    .extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Value::Bytes(bytes) if bytes.len() >= LONG => {
                self.head.push(LONG_BYTES);
                self.long.push((**bytes).clone());
            }
            Value::Bytes(bytes) => {
                self.head.push(BYTES);
                self.varint(bytes.len());
                self.head.extend_from_slice(bytes);
            }
            Value::Some(value) => {
                self.head.push(SOME);
                self.enter()?;
                self.value(value)?;
                self.leave();
            }
            Value::List(values) => {
                self.count(values.len(), SHORT_LIST, SHORT_MAP, LIST);
                self.values(values)?;
            }
            Value::Tuple(values) => {
                self.count(values.len(), SHORT_TUPLE, SHORT_STR, TUPLE);
                self.values(values)?;
            }
            Value::Map(entries) => {
                self.count(entries.len(), SHORT_MAP, SHORT_TUPLE, MAP);
                self.enter()?;
                for (key, value) in entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                self.leave();
            }
            Value::Record(record) => {
                self.form(record.names());
                self.values(record.values())?;
            }
            Value::Reference(reference) => {
                let slot = lend(Arc::clone(reference)).ok_or(CodecError::Refused(model::OUTSIDE.into()))?;
                self.head.push(REFERENCE);
                self.varint(slot as usize);
            }
        }
        Ok(())
    }

    fn values(&mut self, values: &'a [Value]) -> Result<(), CodecError> {
        self.enter()?;
        for value in values {
            self.value(value)?;
        }
        self.leave();
        Ok(())
    }

    fn enter(&mut self) -> Result<(), CodecError> {
        let too_deep = || CodecError::Refused("more than 128 levels of nesting".into());
        self.depth = self.depth.checked_sub(1).ok_or_else(too_deep)?;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    #[inline]
    fn positive(&mut self, number: u128) {
        match u8::try_from(number) {
            Ok(small) if small <= LARGEST => {
                self.head
                    .push(SMALL.wrapping_add(SMALL_NEGATIVES).wrapping_add(small));
            }
            _ => self.integer(POSITIVE, number),
        }
    }

    /// The integer `-1 - rest`.
    #[inline]
    fn negative(&mut self, rest: u128) {
        match u8::try_from(rest) {
            Ok(small) if small < SMALL_NEGATIVES => {
                self.head
                    .push(SMALL.wrapping_add(!small & (SMALL_NEGATIVES.wrapping_sub(1))));
            }
            _ => self.integer(NEGATIVE, rest),
        }
    }

    #[inline(never)]
    fn integer(&mut self, tag: u8, number: u128) {
        let size = Size::of(number);
        self.head.push(tag.wrapping_add(size as u8));
        let bytes = number.to_le_bytes();
        let (used, _) = bytes.split_at(size.bytes());
        self.head.extend_from_slice(used);
    }

    /// A count or length: within the tags from `short` to `end`, or else behind the tag `long`.
    #[inline]
    fn count(&mut self, count: usize, short: u8, end: u8, long: u8) {
        match u8::try_from(count) {
            Ok(small) if small < end.wrapping_sub(short) => self.head.push(short.wrapping_add(small)),
            _ => {
                self.head.push(long);
                self.varint(count);
            }
        }
    }

    fn varint(&mut self, number: usize) {
        let (tag, size) = match number {
            0..=250 => (number as u8, 0),
            251..=0xffff => (251, 2),
            0x1_0000..=0xffff_ffff => (252, 4),
            _ => (253, 8),
        };
        self.head.push(tag);
        let bytes = (number as u64).to_le_bytes();
        let (used, _) = bytes.split_at(size);
        self.head.extend_from_slice(used);
    }

    fn form(&mut self, names: &'a Arc<Names>) {
        match self.forms.index(names) {
            Ok(index) => {
                self.count(index as usize, SHORT_KNOWN_FORM, SMALL, KNOWN_FORM);
            }
            Err(()) => {
                self.head.push(NEW_FORM);
                let fields = match names.fields {
                    Fields::Unit => 0,
                    Fields::Tuple(_) => 1,
                    Fields::Named(_) => 2,
                };
                self.head
                    .push(if names.variant.is_some() { 3 } else { 0_u8 }.wrapping_add(fields));
                self.name(&names.type_name);
                if let Some(variant) = &names.variant {
                    self.name(variant);
                }
                match &names.fields {
                    Fields::Unit => {}
                    Fields::Tuple(count) => self.varint(*count),
                    Fields::Named(names) => {
                        self.varint(names.len());
                        for name in names {
                            self.name(name);
                        }
                    }
                }
            }
        }
    }

    fn name(&mut self, name: &str) {
        self.varint(name.len());
        self.head.extend_from_slice(name.as_bytes());
    }
}

/// How many bytes an integer takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    One,
    Two,
    Four,
    Eight,
    Sixteen,
}

impl Size {
    #[inline]
    const fn of(number: u128) -> Self {
        match number {
            0..=0xff => Self::One,
            0x100..=0xffff => Self::Two,
            0x1_0000..=0xffff_ffff => Self::Four,
            0x1_0000_0000..=0xffff_ffff_ffff_ffff => Self::Eight,
            _ => Self::Sixteen,
        }
    }

    const fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }
}

/// The forms that were written, each under its number.
///
/// Records mostly share their names, so most forms are found by where they are.
#[derive(Default)]
struct Forms<'a> {
    recent: [Option<(&'a Arc<Names>, u32)>; 16],
    by_names: HashMap<&'a Names, u32>,
}

impl<'a> Forms<'a> {
    /// The number of the form, or it gets the next one.
    #[inline]
    fn index(&mut self, names: &'a Arc<Names>) -> Result<u32, ()> {
        let place = Arc::as_ptr(names).addr() >> 6 & 15;
        if let Some(Some((found, index))) = self.recent.get(place)
            && Arc::ptr_eq(found, names)
        {
            return Ok(*index);
        }
        let next = self.by_names.len() as u32;
        let index = *self.by_names.entry(names).or_insert(next);
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = Some((names, index));
        }
        if index == next { Err(()) } else { Ok(index) }
    }
}

/// # Invariant
///
/// `owed` is how many values are announced and not begun. Each takes a byte at least, and no more are announced than
/// bytes are left; so room is made only for what can still come, all counts taken together.
struct Reader<'a, L> {
    rest: &'a [u8],
    long: L,
    forms: Vec<Arc<Names>>,
    depth: u32,
    depth_limit: u32,
    owed: usize,
}

impl<L: Iterator<Item = Bytes>> Reader<'_, L> {
    /// Reads a value into `place`, which is null. Values are never moved: that would cost as much as reading them.
    fn value(&mut self, place: &mut Value) -> Result<(), CodecError> {
        let [tag] = self.array()?;
        self.owed = self.owed.saturating_sub(1);
        match tag {
            NULL => {}
            FALSE => set(place, Value::Bool(false)),
            TRUE => set(place, Value::Bool(true)),
            SINGLE => set(place, Value::Single(f32::from_le_bytes(self.array()?))),
            FLOAT => set(place, Value::Float(f64::from_le_bytes(self.array()?))),
            CHAR => set(place, Value::Char(self.char()?)),
            SOME => {
                self.owe(1)?;
                self.enter()?;
                let mut value = Box::default();
                self.value(&mut value)?;
                self.leave();
                set(place, Value::Some(value));
            }
            REFERENCE => {
                let index = u32::try_from(self.varint()?).map_err(|_| CodecError::InvalidInteger)?;
                let reference = slot(index).map_err(|error| CodecError::Invalid(error.to_string().into()))?;
                set(place, Value::Reference(reference));
            }
            POSITIVE..NEGATIVE => match self.integer(tag.wrapping_sub(POSITIVE), LARGEST)? {
                number if number > i128::MAX.cast_unsigned() => set(place, Value::UInt(number)),
                number => set(place, Value::Int(number.cast_signed())),
            },
            NEGATIVE..STR => {
                match self.integer(tag.wrapping_sub(NEGATIVE), SMALL_NEGATIVES.wrapping_sub(1))? {
                    rest if rest > i128::MAX.cast_unsigned() => return Err(CodecError::InvalidInteger),
                    rest => set(place, Value::Int(!rest.cast_signed())),
                }
            }
            STR => {
                let len = self.long_count(SHORT_KNOWN_FORM.wrapping_sub(SHORT_STR))?;
                self.text(len, place)?;
            }
            SHORT_STR..SHORT_KNOWN_FORM => self.text(tag.wrapping_sub(SHORT_STR).into(), place)?,
            BYTES => {
                let len = self.varint()?;
                if len >= LONG {
                    return Err(CodecError::NotShortest);
                }
                set(place, Value::bytes(Bytes::copy_from_slice(self.take(len)?)));
            }
            LONG_BYTES => match self.long.next() {
                Some(bytes) if bytes.len() >= LONG => set(place, Value::bytes(bytes)),
                Some(_) => return Err(CodecError::NotShortest),
                None => return Err(CodecError::Truncated { needed: 1, left: 0 }),
            },
            LIST => {
                let count = self.long_count(SHORT_MAP.wrapping_sub(SHORT_LIST))?;
                set(place, Value::List(self.values(count)?));
            }
            SHORT_LIST..SHORT_MAP => {
                set(
                    place,
                    Value::List(self.values(tag.wrapping_sub(SHORT_LIST).into())?),
                );
            }
            TUPLE => {
                let count = self.long_count(SHORT_STR.wrapping_sub(SHORT_TUPLE))?;
                set(place, Value::Tuple(self.values(count)?));
            }
            SHORT_TUPLE..SHORT_STR => {
                set(
                    place,
                    Value::Tuple(self.values(tag.wrapping_sub(SHORT_TUPLE).into())?),
                );
            }
            MAP => {
                let count = self.long_count(SHORT_TUPLE.wrapping_sub(SHORT_MAP))?;
                self.map(count, place)?;
            }
            SHORT_MAP..SHORT_TUPLE => self.map(tag.wrapping_sub(SHORT_MAP).into(), place)?,
            NEW_FORM => {
                let form = Arc::new(self.form()?);
                self.forms.push(Arc::clone(&form));
                self.record(form, place)?;
            }
            KNOWN_FORM => {
                let index = self.long_count(SMALL.wrapping_sub(SHORT_KNOWN_FORM))?;
                self.known(index, place)?;
            }
            SHORT_KNOWN_FORM..SMALL => self.known(tag.wrapping_sub(SHORT_KNOWN_FORM).into(), place)?,
            SMALL.. => {
                let small = tag.wrapping_sub(SMALL);
                set(place, Value::Int(i128::from(small).wrapping_add(SMALLEST.into())));
            }
            found => return Err(CodecError::UnknownTag { found }),
        }
        Ok(())
    }

    fn values(&mut self, count: usize) -> Result<Vec<Value>, CodecError> {
        self.owe(count)?;
        self.enter()?;
        let mut values: Vec<Value> = repeat_with(Value::default).take(count).collect();
        for place in &mut values {
            self.value(place)?;
        }
        self.leave();
        Ok(values)
    }

    fn map(&mut self, count: usize, place: &mut Value) -> Result<(), CodecError> {
        self.owe(count.saturating_mul(2))?;
        self.enter()?;
        let mut entries: Vec<(Value, Value)> = repeat_with(Default::default).take(count).collect();
        for (key, value) in &mut entries {
            self.value(key)?;
            self.value(value)?;
        }
        self.leave();
        set(place, Value::Map(entries));
        Ok(())
    }

    fn known(&mut self, index: usize, place: &mut Value) -> Result<(), CodecError> {
        let form = self.forms.get(index).cloned();
        self.record(
            form.ok_or(CodecError::UnknownForm { index: index as u64 })?,
            place,
        )
    }

    fn record(&mut self, form: Arc<Names>, place: &mut Value) -> Result<(), CodecError> {
        let values = self.values(form.len())?;
        set(place, Value::Record(Record::from_parts(form, values)));
        Ok(())
    }

    fn form(&mut self) -> Result<Names, CodecError> {
        let [kind] = self.array()?;
        let type_name = self.name()?;
        let variant = (3..6).contains(&kind).then(|| self.name()).transpose()?;
        let fields = match kind {
            0 | 3 => Fields::Unit,
            1 | 4 => Fields::Tuple(self.varint()?),
            2 | 5 => {
                let count = self.varint()?;
                // Each takes a byte for its name, and then one for its value.
                if count > self.spare() / 2 {
                    return Err(CodecError::TooManyItems {
                        announced: count as u64,
                    });
                }
                Fields::Named((0..count).map(|_| self.name()).collect::<Result<_, _>>()?)
            }
            found => return Err(CodecError::UnknownTag { found }),
        };
        Ok(Names {
            type_name,
            variant,
            fields,
        })
    }

    fn name(&mut self) -> Result<Name, CodecError> {
        let len = self.varint()?;
        Ok(utf8(self.take(len)?)?.to_owned().into())
    }

    #[inline]
    fn text(&mut self, len: usize, place: &mut Value) -> Result<(), CodecError> {
        set(place, Value::Str(utf8(self.take(len)?)?.to_owned()));
        Ok(())
    }

    fn char(&mut self) -> Result<char, CodecError> {
        let len = match self.rest.first() {
            None | Some(0..0x80) => 1,
            Some(0x80..0xe0) => 2,
            Some(0xe0..0xf0) => 3,
            Some(0xf0..) => 4,
        };
        let mut text = str::from_utf8(self.take(len)?)
            .map_err(|_| CodecError::InvalidChar)?
            .chars();
        text.next().ok_or(CodecError::InvalidChar)
    }

    /// An integer of a size, greater than what is written without one.
    fn integer(&mut self, size: u8, small: u8) -> Result<u128, CodecError> {
        let (number, size) = match size {
            0 => (u8::from_le_bytes(self.array()?).into(), Size::One),
            1 => (u16::from_le_bytes(self.array()?).into(), Size::Two),
            2 => (u32::from_le_bytes(self.array()?).into(), Size::Four),
            3 => (u64::from_le_bytes(self.array()?).into(), Size::Eight),
            _ => (u128::from_le_bytes(self.array()?), Size::Sixteen),
        };
        if number <= u128::from(small) || size != Size::of(number) {
            return Err(CodecError::NotShortest);
        }
        Ok(number)
    }

    /// A count, length or number that is `least` at least.
    fn long_count(&mut self, least: u8) -> Result<usize, CodecError> {
        match self.varint()? {
            count if count < least.into() => Err(CodecError::NotShortest),
            count => Ok(count),
        }
    }

    fn varint(&mut self) -> Result<usize, CodecError> {
        let [first] = self.array()?;
        let (number, least): (u64, u64) = match first {
            0..=250 => return Ok(first.into()),
            251 => (u16::from_le_bytes(self.array()?).into(), 251),
            252 => (u32::from_le_bytes(self.array()?).into(), 1 << 16),
            253 => (u64::from_le_bytes(self.array()?), 1 << 32),
            254.. => return Err(CodecError::InvalidInteger),
        };
        if number < least {
            return Err(CodecError::NotShortest);
        }
        // What does not fit is more than can follow.
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }

    fn owe(&mut self, count: usize) -> Result<(), CodecError> {
        if count > self.spare() {
            return Err(CodecError::TooManyItems {
                announced: count as u64,
            });
        }
        self.owed = self.owed.saturating_add(count);
        Ok(())
    }

    /// How many bytes are left beyond those owed.
    const fn spare(&self) -> usize {
        self.rest.len().saturating_sub(self.owed)
    }

    fn enter(&mut self) -> Result<(), CodecError> {
        self.depth = self.depth.checked_sub(1).ok_or(CodecError::TooDeep {
            limit: self.depth_limit,
        })?;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&[u8], CodecError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| truncated(count, self.rest))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| truncated(N, self.rest))?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Puts `value` where null is, which there is no need to drop.
#[inline]
fn set(place: &mut Value, value: Value) {
    _ = ManuallyDrop::new(replace(place, value));
}

#[cold]
fn truncated(needed: usize, rest: &[u8]) -> CodecError {
    CodecError::Truncated {
        needed: needed as u64,
        left: rest.len() as u64,
    }
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, CodecError> {
    str::from_utf8(bytes).map_err(|error| CodecError::InvalidUtf8 {
        valid: error.valid_up_to() as u64,
    })
}
