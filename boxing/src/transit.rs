//! An error on its way to the peer, and what arrives of it (PROTOCOL.md § 9.8).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::Error;
use crate::kind::ErrorKind;

/// Longest message and longest cause, in bytes.
const TEXT: usize = 16 << 10;
/// Most causes.
const CAUSES: usize = 32;
/// Longest trace, in bytes.
const TRACE: usize = 64 << 10;
/// Most extras.
const EXTRAS: usize = 32;

/// The error value, field by field.
#[derive(Serialize, Deserialize)]
struct Transit<'a> {
    kind: u32,
    message: Cow<'a, str>,
    causes: Vec<Cow<'a, str>>,
    trace: Cow<'a, str>,
    /// What later versions add. Nothing yet: unknown keys are skipped.
    extras: BTreeMap<u32, Vec<u8>>,
}

/// Cuts what is too long, at the end of a character.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let causes = self.chain().skip(1).take(CAUSES);
        Transit {
            kind: self.kind().number(),
            message: cut(self.message(), TEXT),
            causes: causes.map(|cause| cut(cause.to_string().into(), TEXT)).collect(),
            trace: cut(self.trace().into(), TRACE),
            extras: BTreeMap::new(),
        }
        .serialize(serializer)
    }
}

/// An error in a value happened to whoever wrote the value. So [`ErrorKind::Failed`] and
/// [`ErrorKind::Disconnected`] become [`ErrorKind::Remote`]: they say nothing about the reader's own call, and the
/// connection to the writer was not the one that was lost. See [`Fault`].
impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let error = Fault::deserialize(deserializer)?.0;
        Ok(match error.kind() {
            ErrorKind::Disconnected(_) => error.with_kind(ErrorKind::Remote),
            _ => error,
        })
    }
}

/// An error about the very call that it is the outcome of, as the exchange reports it.
///
/// On the wire it is the same as the [`Error`] in it; but [`ErrorKind::Disconnected`] survives the reading, as it
/// was the call at hand that got lost, further on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a way to write and read an error, and nothing else"
)]
pub struct Fault(pub Error);

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let transit = Transit::deserialize(deserializer)?;
        within::<D::Error>("message of an error", transit.message.len(), TEXT)?;
        within::<D::Error>("causes of an error", transit.causes.len(), CAUSES)?;
        within::<D::Error>("trace of an error", transit.trace.len(), TRACE)?;
        within::<D::Error>("extras of an error", transit.extras.len(), EXTRAS)?;
        for cause in &transit.causes {
            within::<D::Error>("cause of an error", cause.len(), TEXT)?;
        }
        let kind = match ErrorKind::from_number(transit.kind) {
            ErrorKind::Failed => ErrorKind::Remote,
            kind => kind,
        };
        let causes = transit.causes.into_iter().map(Cow::into_owned);
        Ok(Self(Error::arrived(
            kind,
            transit.message.into_owned(),
            causes,
            transit.trace.into_owned(),
        )))
    }
}

fn cut(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text;
    }
    let end = text.floor_char_boundary(limit);
    match text {
        Cow::Borrowed(text) => text.get(..end).unwrap_or_default().into(),
        Cow::Owned(mut text) => {
            text.truncate(end);
            text.into()
        }
    }
}

fn within<E: serde::de::Error>(what: &str, found: usize, limit: usize) -> Result<(), E> {
    if found <= limit {
        Ok(())
    } else {
        Err(E::custom(format_args!("the {what}: {found}, more than {limit}")))
    }
}
