//! The companions: `TraitCalls`, whose methods return a `Call`, and `TraitBlocking`, whose methods wait.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use super::{Arguments, allowed, at_its_place, invoke, methods_ident, remote_trait};
use crate::desugar::default_ident;
use crate::doc;
use crate::model::{Method, Model, unraw};

pub(crate) fn expand(model: &Model) -> TokenStream {
    let ident = &model.ident;
    let calls = Companion {
        ident: format_ident!("{ident}Calls"),
        doc: format!(
            "The asynchronous companion of [`{ident}`](trait@{ident}): each method returns a `Call` of its result."
        ),
        base: quote!(Caller),
        of: quote!(Calls),
    };
    let blocking = Companion {
        ident: format_ident!("{ident}Blocking"),
        doc: format!(
            "The blocking companion of [`{ident}`](trait@{ident}): each method waits for its result on this thread."
        ),
        base: quote!(Lender),
        of: quote!(Blocking),
    };
    let calls = calls.expand(model, model.methods.iter().map(|method| call(model, method)));
    let blocking = blocking.expand(model, model.methods.iter().map(|method| wait(model, method)));
    quote!(#calls #blocking)
}

/// What the two have in common.
struct Companion {
    ident: Ident,
    doc: String,
    /// What it is made from.
    base: TokenStream,
    /// What `RemoteTrait` calls it.
    of: TokenStream,
}

impl Companion {
    fn expand(&self, model: &Model, methods: impl Iterator<Item = TokenStream>) -> TokenStream {
        let Self { ident, doc, base, of } = self;
        let Model {
            ident: of_trait, vis, ..
        } = model;
        let allowed = allowed();
        let name = ident.to_string();
        // The methods of the first supertrait are reached through its own companion, made when first asked for.
        let first = model.parents.first().map(|parent| {
            let target = remote_trait(parent);
            let target = quote!(#target::#of<'a>);
            let up = at_its_place(parent, |at| quote_spanned!(at=> upcast::<dyn #parent>()));
            let field = quote!(parent: ::std::sync::OnceLock<#target>,);
            let deref = quote_spanned! {Span::mixed_site()=>
                #[automatically_derived]
                impl<'a> ::core::ops::Deref for #ident<'a> {
                    type Target = #target;

                    fn deref(&self) -> &Self::Target {
                        self.parent.get_or_init(|| {
                            ::core::convert::From::from(self.base.#up)
                        })
                    }
                }
            };
            (field, quote!(parent: ::std::sync::OnceLock::new(),), deref)
        });
        let (field, new, deref) = first.unwrap_or_default();
        quote_spanned! {Span::mixed_site()=>
            #[doc = #doc]
            #[allow(dead_code, reason = "generated code")]
            #vis struct #ident<'a> {
                base: ::farref::__private::#base<'a, dyn #of_trait>,
                #field
            }

            #[automatically_derived]
            impl<'a> ::core::convert::From<::farref::__private::#base<'a, dyn #of_trait>> for #ident<'a> {
                fn from(base: ::farref::__private::#base<'a, dyn #of_trait>) -> Self {
                    Self { base, #new }
                }
            }

            #[automatically_derived]
            impl ::core::fmt::Debug for #ident<'_> {
                fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    formatter.debug_tuple(#name).field(&self.base).finish()
                }
            }

            #deref

            #[allow(dead_code, reason = "generated code")]
            #allowed
            impl #ident<'_> {
                #(#methods)*
            }
        }
    }
}

/// A method of the asynchronous companion. Its call owns the arguments, also where the method borrows them.
fn call(model: &Model, method: &Method) -> TokenStream {
    let Model { ident, vis, .. } = model;
    let Method {
        index,
        ident: name,
        result,
        shared_attributes,
        ..
    } = method;
    let of = methods_ident(ident);
    let arguments = Arguments::new(model, method);
    let (declared, written, keep, kept) = (
        arguments.declared(),
        arguments.written(),
        arguments.keep(),
        arguments.kept(),
    );
    let doc = doc::repeat(
        &method.doc,
        &format!("Calls [`{ident}::{}`](trait@{ident}).", unraw(name)),
    );
    // The same call of an object of this process, by the name of the method or of its default body.
    let here = |name: &Ident| {
        let call = invoke(model, name, quote_spanned!(Span::mixed_site()=> &*object), &kept);
        if method.is_async {
            quote!(::farref::interface::expansion::call_here::<#of, #index>(async move { #call.await }))
        } else {
            quote!(::farref::interface::expansion::call_here_blocking::<#of, #index>(move || #call))
        }
    };
    let near = here(name);
    let or_default = method.has_default.then(|| {
        let default = here(&default_ident(name));
        quote_spanned! {Span::mixed_site()=>
            #keep
            let call = ::farref::interface::expansion::or_default::<#of, #index>(
                call,
                remote,
                move |object| #default,
            );
        }
    });
    quote_spanned! {Span::mixed_site()=>
        #doc
        #(#shared_attributes)*
        #vis fn #name(&self, #declared) -> ::farref::Call<#result> {
            match self.base.place() {
                ::farref::__private::Place::Remote(remote) => {
                    let call = ::farref::interface::expansion::call::<#of, #index>(remote, &#written);
                    #or_default
                    call
                }
                ::farref::__private::Place::Local(object) => {
                    let object = ::core::clone::Clone::clone(object);
                    #keep
                    #near
                }
                ::farref::__private::Place::Promised(promise) => {
                    #keep
                    ::farref::interface::expansion::call_promised::<#of, #index>(
                        promise,
                        move |calls| calls.#name(#kept),
                    )
                }
            }
        }
    }
}

/// A method of the blocking companion.
fn wait(model: &Model, method: &Method) -> TokenStream {
    let Model { ident, vis, .. } = model;
    let Method {
        index,
        ident: name,
        result,
        shared_attributes,
        ..
    } = method;
    let of = methods_ident(ident);
    let arguments = Arguments::new(model, method);
    let (declared, written) = (arguments.declared(), arguments.written());
    let doc = doc::repeat(
        &method.doc,
        &format!("Calls [`{ident}::{}`](trait@{ident}), and waits.", unraw(name)),
    );
    let on_object = |name: &Ident| {
        let names = method.names();
        invoke(
            model,
            name,
            quote_spanned!(Span::mixed_site()=> &**self.base.netref()),
            quote!(#(#names),*),
        )
    };
    let near = on_object(name);
    let body = if method.is_async {
        let here =
            |call: TokenStream| quote!(::farref::interface::expansion::block_here::<#of, #index>(#call));
        let near = here(near);
        let far = if method.has_default {
            let default = here(on_object(&default_ident(name)));
            quote_spanned! {Span::mixed_site()=>
                match ::farref::interface::expansion::block_or_missing::<#of, #index>(&remote, &#written) {
                    ::core::option::Option::Some(result) => result,
                    ::core::option::Option::None => #default,
                }
            }
        } else {
            quote_spanned! {Span::mixed_site()=>
                ::farref::interface::expansion::block::<#of, #index>(&remote, &#written)
            }
        };
        quote_spanned! {Span::mixed_site()=>
            match self.base.netref().as_remote() {
                ::core::option::Option::Some(remote) => #far,
                ::core::option::Option::None => #near,
            }
        }
    } else {
        near
    };
    quote_spanned! {Span::mixed_site()=>
        #doc
        #(#shared_attributes)*
        #vis fn #name(&self, #declared) -> #result {
            #body
        }
    }
}
