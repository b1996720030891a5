//! The trait for proxies and for netrefs; and for closures, if the trait is one of those.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Path, Signature};

use super::{Arguments, allowed, invoke, methods_ident};
use crate::desugar::default_ident;
use crate::model::{Method, Model};

pub(crate) fn expand(model: &Model) -> TokenStream {
    let (proxy, netref) = (proxy(model), netref(model));
    let closure = if model.closure {
        model.methods.first().map(|method| closure(model, method))
    } else {
        None
    };
    quote!(#proxy #netref #closure)
}

/// One proxy for all traits: it has `Trait` wherever the object that it stands for has.
fn proxy(model: &Model) -> TokenStream {
    let ident = &model.ident;
    let parents = on_all(&model.parents, quote!(::farref::__private::Proxy<Of>));
    let methods = model.methods.iter().map(|method| far(model, method));
    let allowed = allowed();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        #allowed
        impl<Of> #ident for ::farref::__private::Proxy<Of>
        where
            Of: ?::core::marker::Sized + ::farref::__private::Extends<dyn #ident> + 'static,
            #parents
        {
            #(#methods)*

            fn __remote(&self) -> ::core::option::Option<::farref::__private::Arc<dyn ::farref::__private::Remote>> {
                ::core::option::Option::Some(::core::clone::Clone::clone(self.remote()))
            }
        }
    }
}

/// A method of the proxy.
fn far(model: &Model, method: &Method) -> TokenStream {
    let Model { ident, .. } = model;
    let Method { index, signature, .. } = method;
    let of = methods_ident(ident);
    let this = this(signature);
    let written = Arguments::new(model, method).written();
    let names = method.names();
    let default = default_ident(&method.ident);
    let default = quote!(<Self as #ident>::#default(#this #(, #names)*));
    let remote = quote!(::farref::__private::Proxy::remote(#this));
    let body = match (method.is_async, method.has_default) {
        (true, false) => quote! {
            ::farref::interface::expansion::call_boxed::<#of, #index>(#remote, &#written)
        },
        (true, true) => quote_spanned! {Span::mixed_site()=>
            let call = ::farref::interface::expansion::call::<#of, #index>(#remote, &#written);
            ::std::boxed::Box::pin(async move {
                match ::farref::interface::expansion::or_missing::<#of, #index>(call).await {
                    ::core::option::Option::Some(result) => result,
                    ::core::option::Option::None => #default.await,
                }
            })
        },
        (false, false) => quote!(::farref::interface::expansion::block::<#of, #index>(#remote, &#written)),
        (false, true) => quote_spanned! {Span::mixed_site()=>
            match ::farref::interface::expansion::block_or_missing::<#of, #index>(#remote, &#written) {
                ::core::option::Option::Some(result) => result,
                ::core::option::Option::None => #default,
            }
        },
    };
    quote!(#signature { #body })
}

/// A netref is an implementor of its trait, so that `&netref` is one of `&dyn Trait` and `&impl Trait`.
fn netref(model: &Model) -> TokenStream {
    let ident = &model.ident;
    let parents = on_all(&model.parents, quote!(::farref::Netref<Of>));
    let text = model
        .text
        .map(|_| quote!(::farref::Netref<Of>: ::core::fmt::Display,));
    let methods = model.methods.iter().map(|method| {
        let (signature, this, names) = (&method.signature, this(&method.signature), method.names());
        let object = quote!(<Of as ::farref::__private::Extends<dyn #ident>>::up_ref(#this));
        let call = invoke(model, &method.ident, object, quote!(#(#names),*));
        quote!(#signature { #call })
    });
    let allowed = allowed();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        #allowed
        impl<Of> #ident for ::farref::Netref<Of>
        where
            Of: ?::core::marker::Sized + ::farref::__private::RemoteTrait + ::farref::__private::Extends<dyn #ident>,
            #parents
            #text
        {
            #(#methods)*

            fn __remote(&self) -> ::core::option::Option<::farref::__private::Arc<dyn ::farref::__private::Remote>> {
                self.as_remote()
            }
        }
    }
}

/// A closure is an object with one method.
fn closure(model: &Model, method: &Method) -> TokenStream {
    let ident = &model.ident;
    let (signature, result) = (&method.signature, &method.result);
    let (this, names) = (this(signature), method.names());
    let types = method.arguments.iter().map(|argument| &argument.of);
    let allowed = allowed();
    if method.is_async {
        return quote_spanned! {Span::mixed_site()=>
            #[automatically_derived]
            #allowed
            impl<Closure, Returned> #ident for Closure
            where
                Closure: ::core::ops::Fn(#(#types),*) -> Returned
                    + ::core::any::Any + ::core::marker::Send + ::core::marker::Sync,
                Returned: ::core::future::Future<Output = #result> + ::core::marker::Send + 'static,
            {
                #signature {
                    ::std::boxed::Box::pin(#this(#(#names),*))
                }
            }
        };
    }
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        #allowed
        impl<Closure> #ident for Closure
        where
            Closure: ::core::ops::Fn(#(#types),*) -> #result
                + ::core::any::Any + ::core::marker::Send + ::core::marker::Sync,
        {
            #signature {
                #this(#(#names),*)
            }
        }
    }
}

/// `handle: Parent` for each supertrait: it has that one by the impl that the supertrait's own attribute made.
fn on_all(parents: &[Path], handle: TokenStream) -> TokenStream {
    quote!(#(#handle: #parents,)*)
}

/// `self`, as the signature means it.
fn this(signature: &Signature) -> TokenStream {
    let this = signature.receiver().map(|receiver| receiver.self_token);
    quote!(#this)
}
