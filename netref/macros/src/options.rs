//! What stands in the brackets on a trait: `#[remote(name = "..", version = .., closure, str, extends(..))]`.

use proc_macro2::{Span, TokenStream};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{LitInt, LitStr, Path, Token};

use crate::answers;

/// The arguments of the attribute on a trait.
#[derive(Default)]
pub(crate) struct Options {
    /// The name by which both sides know the trait, if it is not the trait's own.
    pub(crate) name: Option<LitStr>,
    /// Major version, if it is not 1.
    pub(crate) version: Option<LitInt>,
    /// Whether closures implement the trait, and where that is said.
    pub(crate) closure: Option<Span>,
    /// Whether its `Display` is what it is as text, and where that is said.
    pub(crate) text: Option<Span>,
    /// Supertraits of supertraits, which a trait with several supertraits has to name.
    pub(crate) extends: Vec<Path>,
}

const KNOWN: &str =
    "`#[remote]` on a trait takes `name = \"..\"`, `version = 1`, `closure`, `str` and `extends(Trait, ..)`";

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let mut options = Self::default();
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                let name: LitStr = meta.value()?.parse()?;
                if name.value().is_empty() {
                    return Err(syn::Error::new(
                        name.span(),
                        "the name of an interface cannot be empty",
                    ));
                }
                options.name = Some(name);
            } else if meta.path.is_ident("version") {
                let version: LitInt = meta.value()?.parse()?;
                version.base10_parse::<u16>().map_err(|_| {
                    syn::Error::new(
                        version.span(),
                        "the version of an interface is a number from 0 to 65535",
                    )
                })?;
                options.version = Some(version);
            } else if meta.path.is_ident("closure") {
                options.closure = meta.path.get_ident().map(proc_macro2::Ident::span);
            } else if meta.path.is_ident("str") {
                options.text = meta.path.get_ident().map(proc_macro2::Ident::span);
            } else if let Some(name) = answers::NAMES.iter().find(|name| meta.path.is_ident(name)) {
                return Err(meta.error(format!(
                    "`{name}` is said where the type is known: `#[remote({name})]` on the `impl`"
                )));
            } else if meta.path.is_ident("extends") {
                let content;
                syn::parenthesized!(content in meta.input);
                let paths = Punctuated::<Path, Token![,]>::parse_terminated(&content)?;
                options.extends.extend(paths);
            } else {
                return Err(meta.error(KNOWN));
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        Ok(options)
    }
}
