//! How objects are known by on the wire: three parts, of which one names a class.

use bytes::BytesMut;
use farref_boxing::rpyc::{self as brine, BrineError, Reader};

/// What an object is known by. Only equality counts, and that an instance is none where the object is a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pack {
    /// Module and class.
    pub(super) name: Box<str>,
    pub(super) class: i128,
    pub(super) instance: i128,
}

/// What an object is known by, as it stands in a message or elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackRef<'a> {
    /// As it came: it is compared, and is text only where it is kept.
    pub(super) name: &'a [u8],
    pub(super) class: i128,
    pub(super) instance: i128,
}

impl<'a> PackRef<'a> {
    /// The parts as they came.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, BrineError> {
        reader.tuple_of(3)?;
        Ok(Self {
            name: reader.name_bytes()?,
            class: reader.int()?,
            instance: reader.int()?,
        })
    }

    pub(super) fn to_pack(self) -> Result<Pack, BrineError> {
        let name = str::from_utf8(self.name).map_err(|error| BrineError::InvalidUtf8 {
            valid: error.valid_up_to(),
        })?;
        Ok(Pack {
            name: name.into(),
            class: self.class,
            instance: self.instance,
        })
    }
}

impl Pack {
    pub(super) fn put(&self, out: &mut BytesMut) {
        put(&self.name, self.class, self.instance, out);
    }
}

pub(super) fn put(name: &str, class: i128, instance: i128, out: &mut BytesMut) {
    brine::put_tuple(3, out);
    brine::put_str(name, out);
    brine::put_int(class, out);
    brine::put_int(instance, out);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use farref_boxing::rpyc::BrineLimits;

    use super::*;

    #[test]
    fn a_name_that_is_no_text_can_be_compared_and_not_kept() {
        // (b"\xff", 1, 2)
        let payload = Bytes::from_static(b"\x12\x0a\xff\x51\x52");
        let pack = PackRef::read(&mut Reader::new(&payload, &BrineLimits::default())).unwrap();
        assert_eq!((pack.name, pack.class, pack.instance), (&b"\xff"[..], 1, 2));
        assert_eq!(pack.to_pack(), Err(BrineError::InvalidUtf8 { valid: 0 }));
    }
}
