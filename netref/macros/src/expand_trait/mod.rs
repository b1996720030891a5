//! `#[remote]` on a trait: the trait itself, and everything that is implemented for it.

mod companions;
mod interface;
mod proxy;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Ident, ItemTrait, Path, parse_quote};

use crate::errors::Errors;
use crate::model::{Argument, Method, Model, Passing};
use crate::options::Options;

/// The trait, what belongs to it, and what is wrong with it. Errors do not stop the expansion, so that they are not
/// drowned in those of everybody who uses the trait.
pub(crate) fn expand(arguments: TokenStream, mut item: ItemTrait) -> TokenStream {
    let mut errors = Errors::default();
    let options = errors.keep(Options::parse(arguments)).unwrap_or_default();
    let model = Model::read(options, &mut item, &mut errors);
    let errors = errors.into_tokens();
    if !model.is_object {
        return quote!(#item #errors);
    }
    item.items.push(remote_method());
    item.items.push(manner_method());
    let interface = interface::expand(&model);
    let proxy = proxy::expand(&model);
    let companions = companions::expand(&model);
    quote!(#item #errors #interface #proxy #companions)
}

/// The hidden method by which a trait object tells that it is a proxy.
fn remote_method() -> syn::TraitItem {
    parse_quote! {
        #[doc(hidden)]
        fn __remote(&self) -> ::core::option::Option<::farref::__private::Arc<dyn ::farref::__private::Remote>> {
            ::core::option::Option::None
        }
    }
}

/// The hidden method by which an object answers what every object can be asked, where its `impl` says so.
fn manner_method() -> syn::TraitItem {
    parse_quote! {
        #[doc(hidden)]
        fn __manner(
            &self,
            _asked: &::farref::object::Asked<'_>,
        ) -> ::core::option::Option<::farref::Result<::farref::Value>> {
            ::core::option::Option::None
        }
    }
}

/// What generated code is allowed to look like under the user's lints.
fn allowed() -> Attribute {
    parse_quote!(#[allow(
        deprecated,
        clippy::all,
        clippy::pedantic,
        clippy::nursery,
        clippy::shadow_reuse,
        reason = "generated code"
    )])
}

/// The type about which the library is told what the methods return and take.
fn methods_ident(of: &Ident) -> Ident {
    format_ident!("__{of}Methods")
}

/// The arguments of one method in the forms that generated code needs.
struct Arguments<'a> {
    method: &'a Method,
    of: Ident,
}

impl<'a> Arguments<'a> {
    fn new(model: &Model, method: &'a Method) -> Self {
        Self {
            method,
            of: methods_ident(&model.ident),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a Argument)> {
        self.method.arguments.iter().enumerate()
    }

    /// The parameters of a type or function about the argument with that index.
    fn about(&self, argument: usize) -> TokenStream {
        let (of, method) = (&self.of, self.method.index);
        quote!(<#of, #method, #argument>)
    }

    /// `name: Type, ..` as written.
    fn declared(&self) -> TokenStream {
        let arguments = self
            .iter()
            .map(|(_, Argument { ident, of, .. })| quote!(#ident: #of));
        quote!(#(#arguments),*)
    }

    /// A tuple that serialises as the arguments do, which it borrows by their names.
    fn written(&self) -> TokenStream {
        let arguments = self.iter().map(|(index, Argument { ident, passing, .. })| {
            let about = self.about(index);
            match passing {
                Passing::Value(_) => quote!(::farref::interface::expansion::WriteValue::#about(&#ident)),
                Passing::Ref(_) => quote!(::farref::interface::expansion::WriteRef::#about(#ident)),
                Passing::OptionalRef(_) => {
                    quote!(::core::option::Option::map(#ident, ::farref::interface::expansion::WriteRef::#about))
                }
            }
        });
        quote!((#(#arguments,)*))
    }

    /// Statements that make the borrowed arguments owned, under the same names.
    fn keep(&self) -> TokenStream {
        let kept = self.iter().filter_map(|(index, Argument { ident, passing, .. })| {
            let about = self.about(index);
            match passing {
                Passing::Value(_) => None,
                Passing::Ref(_) => Some(quote!(let #ident = ::farref::interface::expansion::keep::#about(#ident);)),
                Passing::OptionalRef(_) => Some(quote! {
                    let #ident = ::core::option::Option::map(#ident, ::farref::interface::expansion::keep::#about);
                }),
            }
        });
        quote!(#(#kept)*)
    }

    /// The arguments as the method takes them, after [`keep`](Self::keep).
    fn kept(&self) -> TokenStream {
        let arguments = self.iter().map(|(index, Argument { ident, passing, .. })| {
            let about = self.about(index);
            match passing {
                Passing::Value(_) => quote!(#ident),
                Passing::Ref(_) => quote!(::farref::interface::expansion::lend::#about(&#ident)),
                Passing::OptionalRef(_) => quote! {
                    ::core::option::Option::map(
                        ::core::option::Option::as_ref(&#ident),
                        ::farref::interface::expansion::lend::#about,
                    )
                },
            }
        });
        quote!(#(#arguments),*)
    }
}

/// The supertrait as a remote trait.
fn remote_trait(parent: &Path) -> TokenStream {
    at_its_place(
        parent,
        |at| quote_spanned!(at=> <dyn #parent as ::farref::__private::RemoteTrait>),
    )
}

/// Generated code at the place of what it is about: that is where it is reported if the compiler refuses it.
fn at_its_place(about: &impl Spanned, code: impl FnOnce(Span) -> TokenStream) -> TokenStream {
    code(about.span().resolved_at(Span::mixed_site()))
}

/// `Trait::method(object, ..)` by its path, as a supertrait may have a method of the same name.
fn invoke(model: &Model, method: &Ident, object: impl ToTokens, arguments: impl ToTokens) -> TokenStream {
    let ident = &model.ident;
    quote_spanned!(Span::mixed_site()=> <dyn #ident as #ident>::#method(#object, #arguments))
}
