//! The run-time half: the description of the trait, dispatch, and the ways to and from its object.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Path, Type};

use super::{Arguments, allowed, at_its_place, invoke, methods_ident, remote_trait};
use crate::adapter::Adapter;
use crate::model::{Argument, Method, Model, Passing, unraw};
use crate::text;

pub(crate) fn expand(model: &Model) -> TokenStream {
    let run_time = run_time(model);
    let types = model.methods.iter().map(|method| types(model, method));
    let upwards = upwards(model);
    let methods = methods_ident(&model.ident);
    quote! {
        #[doc(hidden)]
        #[allow(dead_code, reason = "a type with something to say about it, and no values")]
        enum #methods {}
        #(#types)*
        #run_time
        #upwards
    }
}

/// What the methods return and take. A type of the user's that does not meet what is asked of it is reported here,
/// at the type, and nowhere else: everything else is generic.
fn types(model: &Model, method: &Method) -> TokenStream {
    let (ident, of) = (&model.ident, methods_ident(&model.ident));
    let index = method.index;
    let result = &method.result;
    let span = at(result);
    let reply = match Adapter::of_value_in(result) {
        Adapter::Plain => Adapter::Plain.to_type(),
        adapter => {
            let adapter = adapter.to_type();
            quote!(::farref::interface::expansion::Adapted<#adapter>)
        }
    };
    let reply = respanned(reply, span);
    let shapes = shapes(&of, method, span);
    let signature = quote_spanned! {span=>
        #[automatically_derived]
        impl ::farref::interface::expansion::Signature<#index> for #of {
            type Trait = dyn #ident;
            type Result = #result;
            type Reply = #reply;
            #shapes
        }
    };
    let arguments = method
        .arguments
        .iter()
        .enumerate()
        .map(|(position, Argument { passing, .. })| {
            let inner = passing.inner();
            let span = at(inner);
            let adapter = respanned(passing.adapter().to_type(), span);
            let (name, kept) = match passing {
                Passing::Value(_) => (Ident::new("ByValue", span), None),
                Passing::Ref(_) | Passing::OptionalRef(_) => {
                    let kept = kept(inner);
                    (
                        Ident::new("ByRef", span),
                        Some(quote_spanned!(span=> type Kept = #kept;)),
                    )
                }
            };
            quote_spanned! {span=>
                #[automatically_derived]
                impl ::farref::interface::expansion::#name<#index, #position> for #of {
                    type Type = #inner;
                    #kept
                    type Adapter = #adapter;
                }
            }
        });
    quote!(#signature #(#arguments)*)
}

/// How the types are asked for their shapes: those that tell are found before those that are read.
fn shapes(of: &Ident, method: &Method, span: Span) -> TokenStream {
    let index = method.index;
    let ask = |probe: &str, about: TokenStream| {
        let probe = Ident::new(probe, span);
        quote_spanned! {span=>
            (&&::farref::interface::expansion::#probe::<#about>(::core::marker::PhantomData)).shape(shapes)
        }
    };
    let arguments = method
        .arguments
        .iter()
        .enumerate()
        .map(|(position, Argument { passing, .. })| match passing {
            Passing::Value(_) => ask("ValueShape", quote!(#of, #index, #position)),
            Passing::Ref(_) => ask("RefShape", quote!(#of, #index, #position)),
            Passing::OptionalRef(_) => {
                let asked = ask("RefShape", quote!(#of, #index, #position));
                quote_spanned!(span=> #asked.map(::farref::__private::ShapeType::optional))
            }
        });
    let value = ask("ResultShape", quote!(#of, #index));
    let failure = ask("FailureShape", quote!(#of, #index));
    quote_spanned! {span=>
        fn shapes() -> &'static ::farref::__private::MethodShapes {
            #[allow(unused_imports, reason = "one of the two may do for all types")]
            use ::farref::interface::expansion::{Tells as _, Traces as _};
            static SHAPES: ::farref::__private::MethodShapes = ::farref::__private::MethodShapes::new(
                |shapes| {
                    let _ = &shapes;
                    ::std::vec![#(#arguments),*]
                },
                |shapes| #value,
                |shapes| #failure,
            );
            &SHAPES
        }
    }
}

/// The owned type of a borrowed one: itself, unless it has no size.
fn kept(borrowed: &Type) -> TokenStream {
    let unsized_name = |path: &syn::TypePath| {
        path.path
            .segments
            .last()
            .is_some_and(|last| UNSIZED.iter().any(|name| last.ident == name))
    };
    match borrowed {
        Type::Slice(_) => quote!(<#borrowed as ::std::borrow::ToOwned>::Owned),
        Type::Path(path) if unsized_name(path) => quote!(<#borrowed as ::std::borrow::ToOwned>::Owned),
        _ => quote!(#borrowed),
    }
}

/// Types without a size that serde knows, by name.
const UNSIZED: [&str; 4] = ["str", "Path", "OsStr", "CStr"];

/// The place of a type, for code that is generated.
fn at(of: &Type) -> Span {
    of.span().resolved_at(Span::mixed_site())
}

fn respanned(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            if let proc_macro2::TokenTree::Group(group) = &token {
                token = proc_macro2::Group::new(group.delimiter(), respanned(group.stream(), span)).into();
            }
            token.set_span(span);
            token
        })
        .collect()
}

fn run_time(model: &Model) -> TokenStream {
    let ident = &model.ident;
    let above: Vec<TokenStream> = model.parents.iter().map(remote_trait).collect();
    let proxy = |at| quote_spanned!(at=> ::farref::__private::Arc::new(::farref::__private::Proxy::<Self>::new(remote)));
    let proxy = match model.parents.first() {
        Some(parent) => at_its_place(parent, proxy),
        None => proxy(Span::mixed_site()),
    };
    let description = description(model, &above);
    let (calls, blocking) = (format_ident!("{ident}Calls"), format_ident!("{ident}Blocking"));
    let arms = model.methods.iter().map(|method| arm(model, method));
    let allowed = allowed();
    let text = model.text.map(|span| {
        let this = Ident::new("self", Span::mixed_site().located_at(span));
        quote_spanned! {span.resolved_at(Span::mixed_site())=>
            match asked {
                ::farref::object::Asked::Text => return ::farref::object::text(#this),
                ::farref::object::Asked::Operations(known) => {
                    known.add(&["str"]);
                }
                _ => {}
            }
        }
    });
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        #allowed
        impl ::farref::__private::RemoteTrait for dyn #ident {
            const INTERFACE: &'static ::farref::__private::Interface = #description;

            type Calls<'a> = #calls<'a>;
            type Blocking<'a> = #blocking<'a>;

            fn proxy(
                remote: ::farref::__private::Arc<dyn ::farref::__private::Remote>,
            ) -> ::farref::__private::Arc<Self> {
                #proxy
            }

            fn remote(
                &self,
            ) -> ::core::option::Option<::farref::__private::Arc<dyn ::farref::__private::Remote>> {
                <Self as #ident>::__remote(self)
            }

            fn dispatch(
                this: ::farref::__private::Arc<Self>,
                invocation: ::farref::__private::Invocation,
            ) -> ::farref::__private::Dispatched {
                match invocation.method_of(<Self as ::farref::__private::RemoteTrait>::INTERFACE) {
                    #(#arms)*
                    _ => {
                        #(if invocation.is_for(#above::INTERFACE) {
                            return #above::dispatch(this, invocation);
                        })*
                        invocation.operate(this)
                    }
                }
            }

            fn upcast(
                this: ::farref::__private::Arc<Self>,
                interface: u64,
            ) -> ::core::option::Option<::std::boxed::Box<dyn ::farref::__private::Any>> {
                if interface == <Self as ::farref::__private::RemoteTrait>::INTERFACE.id {
                    return ::core::option::Option::Some(::std::boxed::Box::new(this));
                }
                #(if #above::INTERFACE.find(interface).is_some() {
                    return #above::upcast(this, interface);
                })*
                ::core::option::Option::None
            }

            fn manner(
                &self,
                asked: &::farref::object::Asked<'_>,
            ) -> ::core::option::Option<::farref::Result<::farref::Value>> {
                if let told @ ::core::option::Option::Some(_) = <Self as #ident>::__manner(self, asked) {
                    return told;
                }
                #text
                #(if let told @ ::core::option::Option::Some(_) = #above::manner(self, asked) {
                    return told;
                })*
                ::core::option::Option::None
            }

            fn as_any(&self) -> &dyn ::farref::__private::Any {
                self
            }
        }
    }
}

/// The constant that describes the trait.
fn description(model: &Model, above: &[TokenStream]) -> TokenStream {
    let Model {
        name, version, doc, ..
    } = model;
    let of = methods_ident(&model.ident);
    let methods = model.methods.iter().map(|method| {
        let Method {
            is_async,
            has_default,
            doc,
            ..
        } = method;
        let method_name = unraw(&method.ident);
        let manners = method.manners.to_value();
        let arguments = method.arguments.iter().map(|Argument { ident, of, .. }| {
            let (name, of) = (unraw(ident), text::of(of));
            quote!(::farref::__private::Argument::new(#name, #of))
        });
        let crossing: Vec<String> = method
            .arguments
            .iter()
            .map(|argument| text::of_crossing(&argument.passing))
            .collect();
        let (crossing, result) = (crossing.join(","), text::of(&method.result));
        let (value, failure) = text::of_results(&method.result);
        let index = method.index;
        quote! {
            ::farref::__private::Method::new(
                ::farref::__private::interface_id(#name, #version),
                #method_name,
                #is_async,
                #has_default,
                #manners,
                const { &[#(#arguments),*] },
                [#crossing, #value, #failure],
                #result,
                <#of as ::farref::interface::expansion::Signature<#index>>::shapes,
                #doc,
            )
        }
    });
    quote! {
        &::farref::__private::Interface::new::<Self>(
            #name,
            #version,
            const { &[#(#methods),*] },
            const { &[#(#above::INTERFACE),*] },
            #doc,
        )
    }
}

/// How a call of the peer's reaches a method.
fn arm(model: &Model, method: &Method) -> TokenStream {
    let of = methods_ident(&model.ident);
    let arguments = Arguments::new(model, method);
    let index = method.index;
    // Names of their own: those of the user's arguments could hide `this`.
    let names: Vec<Ident> = (0..method.arguments.len())
        .map(|index| format_ident!("argument_{index}", span = Span::mixed_site()))
        .collect();
    let (mut types, mut passed) = (Vec::new(), Vec::new());
    for ((position, Argument { passing, .. }), name) in arguments.iter().zip(&names) {
        let about = arguments.about(position);
        let lend = quote!(::farref::interface::expansion::lend::#about);
        let (read, pass) = match passing {
            Passing::Value(_) => (
                quote!(::farref::interface::expansion::ReadValue #about),
                quote!(#name.0),
            ),
            Passing::Ref(of) | Passing::OptionalRef(of) if is_read_in_place(of) => {
                (quote!(&#of), quote!(#name))
            }
            Passing::Ref(_) => (
                quote!(::farref::interface::expansion::ReadRef #about),
                quote!(#lend(&#name.0)),
            ),
            Passing::OptionalRef(_) => (
                quote!(::farref::interface::expansion::ReadRef #about),
                quote!(::core::option::Option::map(
                    ::core::option::Option::as_ref(&#name),
                    |kept| #lend(&kept.0),
                )),
            ),
        };
        types.push(match passing {
            Passing::OptionalRef(_) => quote!(::core::option::Option<#read>),
            _ => read,
        });
        passed.push(pass);
    }
    let call = invoke(
        model,
        &method.ident,
        quote_spanned!(Span::mixed_site()=> &*this),
        quote!(#(#passed),*),
    );
    let (await_it, serve, open) = if method.is_async {
        (quote!(.await), quote!(serve), quote!(async move))
    } else {
        (quote!(), quote!(serve_blocking), quote!(move ||))
    };
    quote_spanned! {Span::mixed_site()=>
        ::core::option::Option::Some(#index) => {
            ::farref::interface::expansion::#serve::<#of, #index>(#open {
                let ::core::option::Option::Some((#(#names,)*)) =
                    ::farref::interface::expansion::arguments::<#of, #index, (#(#types,)*)>(&invocation)
                else {
                    return;
                };
                let result = #call #await_it;
                ::farref::interface::expansion::reply::<#of, #index>(&invocation, &result);
            })
        }
    }
}

/// Whether a borrowed argument of that type is a piece of the message, which nobody has to copy.
fn is_read_in_place(of: &Type) -> bool {
    match of {
        Type::Path(path) => path.path.is_ident("str"),
        Type::Slice(slice) => matches!(&*slice.elem, Type::Path(path) if path.path.is_ident("u8")),
        _ => false,
    }
}

/// From an object to its trait object, and from there to those of supertraits.
fn upwards(model: &Model) -> TokenStream {
    let Model {
        ident,
        parents,
        ancestors,
        ..
    } = model;
    let up = |ancestor: TokenStream| {
        quote! {
            #[automatically_derived]
            impl ::farref::__private::Extends<#ancestor> for dyn #ident {
                fn up(this: ::farref::__private::Arc<Self>) -> ::farref::__private::Arc<#ancestor> {
                    this
                }

                fn up_ref(this: &Self) -> &#ancestor {
                    this
                }
            }
        }
    };
    let itself = up(quote!(dyn #ident));
    let others = match parents.as_slice() {
        // All that the one supertrait extends, however far up. With two, the compiler could not tell their ways apart.
        [parent] => through(ident, parent),
        several => several
            .iter()
            .chain(ancestors)
            .map(|ancestor| up(quote!(dyn #ancestor)))
            .collect(),
    };
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl<Object: #ident> ::farref::__private::Wrap<Object> for dyn #ident {
            fn wrap(object: ::farref::__private::Arc<Object>) -> ::farref::__private::Arc<Self> {
                object
            }
        }
        #itself
        #others
    }
}

fn through(ident: &Ident, parent: &Path) -> TokenStream {
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl<Ancestor: ?::core::marker::Sized> ::farref::__private::Extends<Ancestor> for dyn #ident
        where
            dyn #parent: ::farref::__private::Extends<Ancestor>,
        {
            fn up(this: ::farref::__private::Arc<Self>) -> ::farref::__private::Arc<Ancestor> {
                <dyn #parent as ::farref::__private::Extends<Ancestor>>::up(this)
            }

            fn up_ref(this: &Self) -> &Ancestor {
                <dyn #parent as ::farref::__private::Extends<Ancestor>>::up_ref(this)
            }
        }
    }
}
