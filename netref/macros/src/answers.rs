//! What stands in the brackets on an `impl`: `#[remote(str, eq, hash, len, index(Key), iter, copy)]`.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::parse::Parser;
use syn::{Ident, ImplItem, Type, parse_quote, parse_quote_spanned};

/// Something that every object can be asked, and this one answers by a trait of std.
pub(crate) struct Answer {
    name: Ident,
    /// What an element is looked up by, if that is said.
    key: Option<Type>,
}

const KNOWN: &str = "`#[remote]` on an `impl` takes `str`, `eq`, `hash`, `len`, `index`, `index(Key)`, `iter` and `copy`; the rest is the trait's";

pub(crate) const NAMES: [&str; 7] = ["str", "eq", "hash", "len", "index", "iter", "copy"];

pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Vec<Answer>> {
    let mut answers: Vec<Answer> = Vec::new();
    let parser = syn::meta::parser(|meta| {
        let Some(name) = meta.path.get_ident().cloned() else {
            return Err(meta.error(KNOWN));
        };
        if NAMES.iter().all(|known| name != known) {
            return Err(meta.error(KNOWN));
        }
        if answers.iter().any(|answer| answer.name == name) {
            return Err(meta.error(format!("`{name}` is said twice")));
        }
        let mut key = None;
        if name == "index" && meta.input.peek(syn::token::Paren) {
            let content;
            syn::parenthesized!(content in meta.input);
            key = Some(content.parse()?);
        }
        answers.push(Answer { name, key });
        Ok(())
    });
    parser.parse2(tokens)?;
    Ok(answers)
}

/// The method by which the object answers, if it answers anything by itself.
pub(crate) fn expand(answers: &[Answer]) -> Option<ImplItem> {
    if answers.is_empty() {
        return None;
    }
    let arms = answers.iter().map(arm);
    let names = answers.iter().map(|answer| answer.name.to_string());
    Some(parse_quote! {
        #[doc(hidden)]
        #[allow(clippy::all, clippy::pedantic, clippy::nursery, reason = "generated code")]
        fn __manner(
            &self,
            asked: &::farref::object::Asked<'_>,
        ) -> ::core::option::Option<::farref::Result<::farref::Value>> {
            match asked {
                #(#arms)*
                ::farref::object::Asked::Operations(known) => known.add(&[#(#names),*]),
                _ => ::core::option::Option::None,
            }
        }
    })
}

/// What the type lacks for an answer is reported at the name of that.
fn arm(answer: &Answer) -> TokenStream {
    let Answer { name, key } = answer;
    let at = name.span().resolved_at(Span::mixed_site());
    let this = Ident::new("self", Span::call_site().located_at(at));
    match name.to_string().as_str() {
        "str" => quote_spanned!(at=> ::farref::object::Asked::Text => ::farref::object::text(#this),),
        "eq" => {
            quote_spanned!(at=> ::farref::object::Asked::Equal(other) => ::farref::object::equal(#this, other),)
        }
        "hash" => quote_spanned!(at=> ::farref::object::Asked::Hash => ::farref::object::hash(#this),),
        "len" => quote_spanned!(at=> ::farref::object::Asked::Len => ::farref::object::len(#this.len()),),
        "index" => {
            let key = key
                .clone()
                .unwrap_or_else(|| parse_quote_spanned!(at=> ::core::primitive::usize));
            quote_spanned! {at=>
                ::farref::object::Asked::Index(key) => {
                    ::farref::object::index::<#key, _>(key, |key| ::core::result::Result::Ok(&#this[key]))
                }
            }
        }
        "iter" => {
            quote_spanned!(at=> ::farref::object::Asked::Iterate(batch) => ::farref::object::iterate(#this, batch),)
        }
        _ => quote_spanned!(at=> ::farref::object::Asked::Copy => ::farref::object::copy(#this),),
    }
}
