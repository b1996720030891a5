//! Which adapter writes and reads a type: chosen by its look, as `farref_boxing::adapt` says.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// How a type is written and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Adapter {
    /// As serde does it.
    Plain,
    /// Bytes, in one go.
    Blob,
    /// An `Option`.
    Maybe(Box<Self>),
    /// A `Result`.
    Outcome(Box<Self>, Box<Self>),
    /// A `Vec`.
    Each(Box<Self>),
    /// A tuple.
    Tuple(Vec<Self>),
}

impl Adapter {
    /// The adapter for a type of that look.
    ///
    /// Only what can be told from the look: a type of the user's own that is called `Bytes` is taken for
    /// `bytes::Bytes`, unless it is written with its path (`self::Bytes`).
    pub(crate) fn of(of: &Type) -> Self {
        match of {
            Type::Paren(inner) => Self::of(&inner.elem),
            Type::Group(inner) => Self::of(&inner.elem),
            Type::Slice(slice) if is_byte(&slice.elem) => Self::Blob,
            Type::Slice(slice) => Self::each(&slice.elem),
            Type::Array(array) if is_byte(&array.elem) => Self::Blob,
            Type::Tuple(tuple) => {
                let parts: Vec<Self> = tuple.elems.iter().map(Self::of).collect();
                if parts.iter().all(|part| *part == Self::Plain) {
                    Self::Plain
                } else {
                    Self::Tuple(parts)
                }
            }
            Type::Path(path) if path.qself.is_none() => Self::of_path(&path.path),
            _ => Self::Plain,
        }
    }

    /// The adapter for the value in a method's result.
    pub(crate) fn of_value_in(result: &Type) -> Self {
        value_in(result).map_or(Self::Plain, Self::of)
    }

    fn of_path(path: &syn::Path) -> Self {
        let Some(last) = path.segments.last() else {
            return Self::Plain;
        };
        let generics = type_arguments(last);
        match (last.ident.to_string().as_str(), generics.as_slice()) {
            ("Bytes", []) if is_from(path, &["bytes"]) => Self::Blob,
            ("Vec", [element]) if is_byte(element) => Self::Blob,
            ("Vec", [element]) => Self::each(element),
            ("Box" | "Arc", [Type::Slice(slice)]) if is_byte(&slice.elem) => Self::Blob,
            ("Option", [value]) => match Self::of(value) {
                Self::Plain => Self::Plain,
                adapter => Self::Maybe(Box::new(adapter)),
            },
            ("Result", [value, failure]) => match (Self::of(value), Self::of(failure)) {
                (Self::Plain, Self::Plain) => Self::Plain,
                (value, failure) => Self::Outcome(Box::new(value), Box::new(failure)),
            },
            _ => Self::Plain,
        }
    }

    fn each(element: &Type) -> Self {
        match Self::of(element) {
            Self::Plain => Self::Plain,
            adapter => Self::Each(Box::new(adapter)),
        }
    }

    /// The adapter's type.
    pub(crate) fn to_type(&self) -> TokenStream {
        match self {
            Self::Plain => quote!(::farref::__private::Plain),
            Self::Blob => quote!(::farref::__private::Blob),
            Self::Maybe(value) => {
                let value = value.to_type();
                quote!(::farref::__private::Maybe<#value>)
            }
            Self::Outcome(value, failure) => {
                let (value, failure) = (value.to_type(), failure.to_type());
                quote!(::farref::__private::Outcome<#value, #failure>)
            }
            Self::Each(element) => {
                let element = element.to_type();
                quote!(::farref::__private::Each<#element>)
            }
            Self::Tuple(parts) => {
                let parts = parts.iter().map(Self::to_type);
                quote!((#(#parts,)*))
            }
        }
    }
}

/// `T` of a `Result<T, ..>`, whatever its path: an alias with the error filled in looks the same.
pub(crate) fn value_in(result: &Type) -> Option<&Type> {
    let Type::Path(path) = result else { return None };
    let last = path.path.segments.last()?;
    if last.ident == "Result" {
        type_arguments(last).first().copied()
    } else {
        None
    }
}

/// The type arguments of a segment of a path.
pub(crate) fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    arguments
        .args
        .iter()
        .filter_map(|argument| match argument {
            GenericArgument::Type(of) => Some(of),
            _ => None,
        })
        .collect()
}

fn is_byte(of: &Type) -> bool {
    matches!(of, Type::Path(path) if path.path.is_ident("u8"))
}

/// Whether a path is bare, or the module before its last segment is one of `modules` in the root.
fn is_from(path: &syn::Path, modules: &[&str]) -> bool {
    let mut segments = path.segments.iter();
    match (segments.next(), segments.next(), segments.next()) {
        (Some(_), None, None) => path.leading_colon.is_none(),
        (Some(module), Some(_), None) => modules.iter().any(|known| module.ident == known),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn bytes_are_found_wherever_they_are_written_out() {
        let blob = || Box::new(Adapter::Blob);
        for (of, adapter) in [
            (parse_quote!(Vec<u8>), Adapter::Blob),
            (parse_quote!(std::vec::Vec<u8>), Adapter::Blob),
            (parse_quote!([u8]), Adapter::Blob),
            (parse_quote!([u8; 1024]), Adapter::Blob),
            (parse_quote!(Bytes), Adapter::Blob),
            (parse_quote!(::bytes::Bytes), Adapter::Blob),
            (parse_quote!(Option<Vec<u8>>), Adapter::Maybe(blob())),
            (parse_quote!([Vec<u8>]), Adapter::Each(blob())),
            (parse_quote!(Vec<Box<[u8]>>), Adapter::Each(blob())),
            (
                parse_quote!((u8, Vec<u8>)),
                Adapter::Tuple(vec![Adapter::Plain, Adapter::Blob]),
            ),
            (
                parse_quote!(Result<Vec<u8>, String>),
                Adapter::Outcome(blob(), Box::new(Adapter::Plain)),
            ),
        ] {
            assert_eq!(Adapter::of(&of), adapter, "{}", crate::text::of(&of));
        }
    }

    #[test]
    fn everything_else_is_plain() {
        for of in [
            parse_quote!(u8),
            parse_quote!(String),
            parse_quote!(Vec<u16>),
            parse_quote!(Option<String>),
            parse_quote!((u8, u8)),
            parse_quote!(Result<u8, String>),
            parse_quote!(self::Bytes),
            parse_quote!(crate::wire::Bytes),
            parse_quote!(HashMap<String, Vec<u8>>),
            parse_quote!(Netref<dyn Trait>),
            parse_quote!(<T as Trait>::Vec<u8>),
        ] {
            assert_eq!(Adapter::of(&of), Adapter::Plain, "{}", crate::text::of(&of));
        }
    }

    #[test]
    fn the_value_of_a_result_is_its_first_argument() {
        assert_eq!(
            Adapter::of_value_in(&parse_quote!(farref::Result<Vec<u8>>)),
            Adapter::Blob
        );
        assert_eq!(
            Adapter::of_value_in(&parse_quote!(Result<Vec<u8>, MyError>)),
            Adapter::Blob
        );
        assert_eq!(Adapter::of_value_in(&parse_quote!(Answer)), Adapter::Plain);
    }
}
