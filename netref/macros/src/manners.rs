//! The attributes of a method, which say how it is run.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Ident, Meta, Signature};

use crate::errors::Errors;

/// Which of the attributes a method has. The order is that of [`NAMES`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners([bool; NAMES.len()]);

const NAMES: [&str; 9] = [
    "serial",
    "concurrent",
    "one_way",
    "idempotent",
    "detached",
    "inline",
    "spawned",
    "property",
    "reads",
];

/// The name of the attribute, if it is one of those that say how a method is run.
pub(crate) fn name_of(attribute: &Attribute) -> Option<(&'static str, usize)> {
    NAMES
        .iter()
        .copied()
        .zip(0..)
        .find(|(name, _)| attribute.path().is_ident(name))
}

impl Manners {
    /// Takes the attributes off a method, and notes those that contradict each other or the method.
    pub(crate) fn take(attributes: &mut Vec<Attribute>, signature: &Signature, errors: &mut Errors) -> Self {
        let mut manners = Self::default();
        let mut taken: Vec<(&'static str, Attribute)> = Vec::new();
        attributes.retain(|attribute| {
            let Some((name, index)) = name_of(attribute) else {
                return true;
            };
            if !matches!(attribute.meta, Meta::Path(_)) {
                errors.push(
                    &attribute.meta,
                    format!("`#[{name}]` of a remote method takes no arguments"),
                );
            }
            if let Some(flag) = manners.0.get_mut(index) {
                if *flag {
                    errors.push(&attribute.meta, format!("`#[{name}]` is said twice"));
                }
                *flag = true;
            }
            taken.push((name, attribute.clone()));
            false
        });
        let is_async = signature.asyncness.is_some();
        for (name, attribute) in &taken {
            let wrong = match *name {
                "concurrent" if manners.has("serial") => {
                    "a method is `#[serial]` or `#[concurrent]`, not both"
                }
                "inline" if is_async => {
                    "`#[inline]` is for blocking methods that never wait: an async one is polled in place anyway"
                }
                "inline" if manners.has("spawned") => "a method is `#[inline]` or `#[spawned]`, not both",
                "spawned" if !is_async => {
                    "`#[spawned]` is for async methods: a blocking one never runs where calls are read, unless it is `#[inline]`"
                }
                "property" if !is_property(signature) => {
                    "a `#[property]` is read by `fn name(&self) -> Result<T>`, and written by `fn set_name(&self, value: T) -> Result<()>`"
                }
                _ => continue,
            };
            errors.push(&attribute.meta, wrong);
        }
        manners
    }

    /// Whether the method has the attribute of that name.
    pub(crate) fn has(self, name: &str) -> bool {
        NAMES
            .iter()
            .zip(self.0)
            .any(|(known, flag)| flag && *known == name)
    }

    /// The value of the run-time half's type.
    pub(crate) fn to_value(self) -> TokenStream {
        let fields = NAMES
            .iter()
            .map(|name| Ident::new(name, proc_macro2::Span::mixed_site()));
        let flags = self.0;
        quote!(::farref::__private::Manners { #(#fields: #flags),* })
    }
}

/// Whether a method looks like a getter or a setter.
fn is_property(signature: &Signature) -> bool {
    // The first one is `self`.
    match signature.inputs.len() {
        1 => true,
        2 => {
            let name = signature.ident.to_string();
            name.strip_prefix("set_").is_some_and(|name| !name.is_empty())
        }
        _ => false,
    }
}
