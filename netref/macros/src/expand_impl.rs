//! `#[remote]` on an `impl`: the desugaring of `async fn`, and what the object answers by traits of std.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ImplItem, ImplItemFn, ItemImpl};

use crate::answers;
use crate::desugar;
use crate::errors::Errors;
use crate::manners;

pub(crate) fn expand(arguments: TokenStream, mut item: ItemImpl) -> TokenStream {
    let mut errors = Errors::default();
    let answers = errors.keep(answers::parse(arguments)).unwrap_or_default();
    if item.trait_.is_none() {
        let of = &item.self_ty;
        errors.push(
            of,
            "`#[remote]` goes on an `impl` of a remote trait: `impl Trait for ..`",
        );
    } else {
        for item in &mut item.items {
            if let ImplItem::Fn(function) = item {
                method(function, &mut errors);
            }
        }
        item.items.extend(answers::expand(&answers));
    }
    let errors = errors.into_tokens();
    quote!(#item #errors)
}

fn method(function: &mut ImplItemFn, errors: &mut Errors) {
    function
        .attrs
        .retain(|attribute| match manners::name_of(attribute) {
            // On a function with a body `#[inline]` is the compiler's.
            Some(("inline", _)) | None => true,
            Some((name, _)) => {
                errors.push(
                    &attribute.meta,
                    format!("`#[{name}]` belongs to the method in the trait: callers must know it too"),
                );
                false
            }
        });
    let Some(asyncness) = function.sig.asyncness else {
        return;
    };
    if let Some(lifetime) = function.sig.generics.lifetimes().next() {
        errors.push(
            lifetime,
            "leave the lifetimes out: arguments are borrowed for as long as the call takes",
        );
    }
    let result = desugar::result(&function.sig);
    let patterns = desugar::name_arguments(&mut function.sig);
    desugar::signature(&mut function.sig);
    function.block = desugar::body(&function.block, asyncness, &patterns, &result);
    function.attrs.push(desugar::allowed_in_bodies());
}
