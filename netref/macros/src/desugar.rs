//! From `async fn` to a function that returns a boxed future: in the trait, in its impls, and in default bodies.
//!
//! `async fn f(&self, x: &str) -> R` becomes `fn f<'call>(&'call self, x: &'call str) -> BoxFuture<'call, R>`. One
//! lifetime is enough for everything, as every reference is covariant; so the signature stays readable, and can be
//! written by hand.

use proc_macro2::Span;
use quote::{format_ident, quote, quote_spanned};
use syn::visit_mut::{VisitMut, visit_type_mut};
use syn::{
    Attribute, Block, FnArg, GenericParam, Ident, Lifetime, Pat, PatIdent, PatType, ReceiverKind, ReturnType,
    Signature, Token, TraitItem, TraitItemFn, Type, TypeReference, parse_quote, parse_quote_spanned,
};

/// What a function returns, as declared.
pub(crate) fn result(signature: &Signature) -> Type {
    match &signature.output {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(_, of) => (**of).clone(),
    }
}

/// Makes a signature one without `async`. Does nothing if it is one already.
pub(crate) fn signature(signature: &mut Signature) {
    let Some(asyncness) = signature.asyncness.take() else {
        return;
    };
    let result = result(signature);
    // Lifetimes that the user wrote were reported; the rest goes on as if they were not there.
    signature.generics.params = std::mem::take(&mut signature.generics.params)
        .into_iter()
        .filter(|param| !matches!(param, GenericParam::Lifetime(_)))
        .collect();
    let life = Lifetime::new("'call", Span::mixed_site());
    for argument in &mut signature.inputs {
        match argument {
            FnArg::Receiver(receiver) => {
                if let ReceiverKind::Reference(_, lifetime, _) = &mut receiver.kind {
                    *lifetime = Some(life.clone());
                }
            }
            FnArg::Typed(argument) => Elided(&life).visit_type_mut(&mut argument.ty),
        }
    }
    signature.generics.params.insert(0, parse_quote!(#life));
    signature.output =
        parse_quote_spanned!(asyncness.span=> -> ::farref::__private::BoxFuture<#life, #result>);
}

/// The body of a function that was async, as that of one that returns a boxed future.
///
/// `arguments` are moved into the future, as those of an `async fn` are, and take their patterns there.
pub(crate) fn body(
    body: &Block,
    asyncness: Token![async],
    arguments: &[(Ident, Pat)],
    result: &Type,
) -> Block {
    let (names, patterns): (Vec<_>, Vec<_>) = arguments.iter().map(|(name, pattern)| (name, pattern)).unzip();
    let bind = quote_spanned!(Span::mixed_site()=> #(let #patterns = #names;)*);
    // A future that cannot be sent is reported at `async`. The first statement tells what `return` and `?` return;
    // the second what the last expression is.
    let future = quote_spanned! {Span::mixed_site()=>
        if let ::core::option::Option::Some(result) = ::core::option::Option::None::<#result> {
            return result;
        }
        #bind
        let result: #result = #body;
        result
    };
    let boxed = quote_spanned!(asyncness.span=> ::std::boxed::Box::pin(async move { #future }));
    parse_quote!({ #boxed })
}

/// What a body that is not the user's own line by line is allowed to look like.
pub(crate) fn allowed_in_bodies() -> Attribute {
    parse_quote! {
        #[allow(
            unreachable_code,
            clippy::async_yields_async,
            clippy::diverging_sub_expression,
            clippy::let_and_return,
            clippy::let_unit_value,
            clippy::no_effect_underscore_binding,
            clippy::shadow_reuse,
            clippy::shadow_same,
            clippy::type_complexity,
            clippy::used_underscore_binding,
            reason = "generated code"
        )]
    }
}

/// Gives every argument a plain name, and returns the names with the patterns that were there.
pub(crate) fn name_arguments(signature: &mut Signature) -> Vec<(Ident, Pat)> {
    let mut named = Vec::new();
    for (index, argument) in signature.inputs.iter_mut().enumerate() {
        let FnArg::Typed(PatType { pat, .. }) = argument else {
            continue;
        };
        let name = match &**pat {
            Pat::Ident(PatIdent {
                by_ref: None,
                subpat: None,
                ident,
                ..
            }) => ident.clone(),
            _ => format_ident!("argument_{index}", span = Span::mixed_site()),
        };
        let pattern = std::mem::replace(&mut **pat, parse_quote!(#name));
        named.push((name, pattern));
    }
    named
}

/// Rewrites a method of the trait. If it has a default body, that goes into a hidden method, which is returned: a
/// proxy has the method itself, and runs the body where the peer lacks the method.
pub(crate) fn method(of: &Ident, function: &mut TraitItemFn) -> Option<TraitItem> {
    let asyncness = function.sig.asyncness;
    let result = result(&function.sig);
    let patterns = name_arguments(&mut function.sig);
    signature(&mut function.sig);
    if asyncness.is_some() {
        // What the user wrote is boxed here, and counts as more complex than it is.
        let allowed = parse_quote!(#[allow(clippy::type_complexity, reason = "generated code")]);
        function.attrs.push(allowed);
    }
    let block = function.default.take()?;
    let ident = default_ident(&function.sig.ident);
    let this = function.sig.receiver()?.self_token;
    let names = patterns.iter().map(|(name, _)| name);
    function.default = Some(parse_quote!({ <Self as #of>::#ident(#this #(, #names)*) }));
    function.semi_token = None;
    let mut signature = function.sig.clone();
    signature.ident = ident;
    let block = match asyncness {
        Some(asyncness) => body(&block, asyncness, &patterns, &result),
        None => rebind(block, &patterns),
    };
    // Lint levels go with the body; what they say of the signature, both have.
    let mut attributes: Vec<Attribute> = Vec::new();
    for attribute in &mut function.attrs {
        if ["allow", "expect", "warn", "deny", "forbid"]
            .iter()
            .any(|level| attribute.path().is_ident(level))
        {
            attributes.push(attribute.clone());
            if attribute.path().is_ident("expect") {
                *attribute = as_allow(attribute);
            }
        }
    }
    let allowed = allowed_in_bodies();
    Some(parse_quote! {
        #[doc(hidden)]
        #allowed
        #(#attributes)*
        #signature #block
    })
}

/// The name of the hidden method that holds a default body.
pub(crate) fn default_ident(of: &Ident) -> Ident {
    format_ident!("__default_{}", of)
}

/// Gives the arguments of a blocking method their patterns back.
fn rebind(block: Block, arguments: &[(Ident, Pat)]) -> Block {
    let bind = arguments.iter().filter(|(_, pattern)| !is_plain(pattern));
    let bind = bind.map(|(name, pattern)| quote!(let #pattern = #name;));
    let statements = block.stmts;
    parse_quote!({ #(#bind)* #(#statements)* })
}

fn is_plain(pattern: &Pat) -> bool {
    matches!(
        pattern,
        Pat::Ident(PatIdent {
            by_ref: None,
            mutability: None,
            subpat: None,
            ..
        })
    )
}

/// `#[expect(..)]` as `#[allow(..)]`: where it does not matter whether there is something to expect.
fn as_allow(expect: &Attribute) -> Attribute {
    match expect.meta.require_list() {
        Ok(list) => {
            let lints = &list.tokens;
            parse_quote!(#[allow(#lints)])
        }
        Err(_) => expect.clone(),
    }
}

/// Names the lifetimes that are left out.
struct Elided<'a>(&'a Lifetime);

impl VisitMut for Elided<'_> {
    fn visit_type_mut(&mut self, of: &mut Type) {
        // In the arguments of a function's type a missing lifetime means another thing.
        if !matches!(of, Type::FnPtr(_)) {
            visit_type_mut(self, of);
        }
    }

    fn visit_type_reference_mut(&mut self, of: &mut TypeReference) {
        if of
            .lifetime
            .as_ref()
            .is_none_or(|lifetime| lifetime.ident != "static")
        {
            of.lifetime = Some(self.0.clone());
        }
        self.visit_type_mut(&mut of.elem);
    }

    fn visit_lifetime_mut(&mut self, of: &mut Lifetime) {
        if of.ident == "_" {
            *of = self.0.clone();
        }
    }

    fn visit_parenthesized_generic_arguments_mut(&mut self, _: &mut syn::ParenthesizedGenericArguments) {}
}
