//! `#[derive(Shape)]`: what a type looks like on the wire, from its fields and its `#[serde(..)]` attributes.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, GenericParam, Generics, LitInt, LitStr, Result, Type,
    Variant,
};

use crate::model::unraw;
use crate::rename::Rule;

pub(crate) fn expand(input: DeriveInput) -> TokenStream {
    shaped(&input).unwrap_or_else(Error::into_compile_error)
}

fn shaped(input: &DeriveInput) -> Result<TokenStream> {
    let container = Attributes::of(&input.attrs, Place::Container)?;
    let ident = &input.ident;
    let name = container.rename.clone().unwrap_or_else(|| unraw(ident));
    let body = match (&container.own_shape, &input.data) {
        (Some(Own::As(other)), _) => ask(other),
        (Some(Own::Opaque { version, .. }), _) => {
            let unequal = input
                .generics
                .params
                .iter()
                .find(|parameter| !matches!(parameter, GenericParam::Lifetime(_)));
            if let Some(parameter) = unequal {
                let message =
                    "an opaque type is equal to what has its name and version: it cannot be several types";
                return Err(Error::new(parameter.span(), message));
            }
            let name = container.own_shape.as_ref().and_then(Own::name).unwrap_or(&name);
            opaque(name, *version)
        }
        (None, Data::Struct(data)) if container.transparent => {
            let mut fields = kept(&data.fields)?;
            match (fields.pop(), fields.is_empty()) {
                (Some((_, only)), true) => only,
                _ => {
                    let message = "`transparent` is for a type with exactly one field that is not skipped";
                    return Err(Error::new(ident.span(), message));
                }
            }
        }
        (None, Data::Struct(data)) => {
            let fields = fields(&data.fields, container.rename_all)?;
            quote!(shapes.structure::<Self>(#name, |shapes| #fields))
        }
        (None, Data::Enum(data)) => {
            let variants = variants(&container, data.variants.iter())?;
            quote!(shapes.enumeration::<Self, _>(#name, |shapes| {
                let variants: ::std::vec::Vec<(&'static str, ::farref::__private::ShapeFields)> =
                    ::std::vec![#(#variants),*];
                variants
            }))
        }
        (None, Data::Union(data)) => {
            return Err(Error::new(data.union_token.span, "a union has no shape"));
        }
    };
    let generics = bounded(&input.generics);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, type_generics, _) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        #[allow(unused_variables, reason = "there may be no fields")]
        impl #impl_generics ::farref::__private::Shaped for #ident #type_generics #where_clause {
            fn shape(shapes: &mut ::farref::__private::Shapes) -> ::farref::__private::ShapeType {
                #body
            }
        }
    })
}

/// What a type of the user's tells, asked for at its place.
fn ask(of: &Type) -> TokenStream {
    quote_spanned!(of.span()=> <#of as ::farref::__private::Shaped>::shape(shapes))
}

/// What nobody else can read.
fn opaque(name: &str, version: u32) -> TokenStream {
    quote!(shapes.opaque(#name, #version))
}

/// Arguments have to tell their shape, too.
fn bounded(generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    for parameter in generics.type_params_mut() {
        parameter
            .bounds
            .push(syn::parse_quote!(::farref::__private::Shaped));
    }
    generics
}

fn variants<'a>(
    container: &Attributes,
    variants: impl Iterator<Item = &'a Variant>,
) -> Result<Vec<TokenStream>> {
    let mut told = Vec::new();
    let mut skipped = None;
    for variant in variants {
        let attributes = Attributes::of(&variant.attrs, Place::Variant)?;
        if attributes.skip {
            skipped = Some(variant);
            continue;
        }
        if let Some(skipped) = skipped {
            let message = "serde gives the variants behind a skipped one other numbers when it reads than when it \
                writes: put it last";
            return Err(Error::new(skipped.ident.span(), message));
        }
        let ident = unraw(&variant.ident);
        let name = attributes.rename.unwrap_or_else(|| match container.rename_all {
            Some(rule) => rule.of_variant(&ident),
            None => ident,
        });
        let fields = fields(
            &variant.fields,
            attributes.rename_all.or(container.rename_all_fields),
        )?;
        told.push(quote!((#name, #fields)));
    }
    Ok(told)
}

/// The fields of a struct or variant.
fn fields(fields: &Fields, rename_all: Option<Rule>) -> Result<TokenStream> {
    let told = kept(fields)?;
    Ok(match fields {
        Fields::Unit => quote!(::farref::__private::ShapeFields::UNIT),
        Fields::Unnamed(all) if all.unnamed.len() == 1 => match told.first() {
            Some((_, only)) => quote!(::farref::__private::ShapeFields::newtype(#only)),
            None => {
                return Err(Error::new(
                    all.span(),
                    "the only field of a newtype cannot be skipped",
                ));
            }
        },
        Fields::Unnamed(_) => {
            let types = told.iter().map(|(_, of)| of);
            quote!(::farref::__private::ShapeFields::tuple([#(#types),*]))
        }
        Fields::Named(_) => {
            let named = told.iter().map(|((ident, rename), of)| {
                let name = match (rename, rename_all) {
                    (Some(name), _) => name.clone(),
                    (None, Some(rule)) => rule.of_field(ident),
                    (None, None) => ident.clone(),
                };
                quote!((#name, #of))
            });
            quote!(::farref::__private::ShapeFields::named([#(#named),*]))
        }
    })
}

/// A field that is written: its own name and the one that it is given, and its type.
type Kept = ((String, Option<String>), TokenStream);

fn kept(fields: &Fields) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for field in fields {
        let Field { attrs, ident, ty, .. } = field;
        let attributes = Attributes::of(attrs, Place::Field)?;
        if attributes.skip {
            continue;
        }
        let ident = ident.as_ref().map(unraw).unwrap_or_default();
        let of = match &attributes.own_shape {
            None => ask(ty),
            Some(Own::As(of)) => ask(of),
            Some(Own::Opaque {
                name: Some(name),
                version,
            }) => opaque(name, *version),
            Some(Own::Opaque { name: None, .. }) => {
                let message = "an opaque field has no name of its own: say `#[shape(opaque, name = \"..\")]`";
                return Err(Error::new(field.span(), message));
            }
        };
        kept.push(((ident, attributes.rename), of));
    }
    Ok(kept)
}

/// Where attributes stand.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Container,
    Variant,
    Field,
}

/// What `#[serde(..)]` and `#[shape(..)]` say that is seen on the wire.
#[derive(Default)]
struct Attributes {
    rename: Option<String>,
    rename_all: Option<Rule>,
    rename_all_fields: Option<Rule>,
    skip: bool,
    transparent: bool,
    /// What it looks like, if that is not what its fields say.
    own_shape: Option<Own>,
}

/// What a type or field looks like by itself.
enum Own {
    /// As another type, which is written in its place.
    As(Box<Type>),
    Opaque {
        name: Option<String>,
        version: u32,
    },
}

impl Own {
    fn name(&self) -> Option<&String> {
        match self {
            Self::As(_) => None,
            Self::Opaque { name, .. } => name.as_ref(),
        }
    }

    /// What `#[shape(..)]` says.
    fn parse(attribute: &Attribute) -> Result<Self> {
        let (mut of, mut opaque) = (None, None);
        let (mut name, mut version) = (None::<LitStr>, None::<LitInt>);
        attribute.parse_nested_meta(|meta| {
            let is = |name: &str| meta.path.is_ident(name);
            let is_new = if is("as") {
                let text: LitStr = meta.value()?.parse()?;
                of.replace(text.parse()?).is_none()
            } else if is("opaque") {
                opaque.replace(meta.path.span()).is_none()
            } else if is("name") {
                name.replace(meta.value()?.parse()?).is_none()
            } else if is("version") {
                version.replace(meta.value()?.parse()?).is_none()
            } else {
                return Err(meta.error(KNOWN));
            };
            if is_new {
                Ok(())
            } else {
                Err(meta.error("this is said twice"))
            }
        })?;
        match (of, opaque) {
            (Some(_), Some(opaque)) => {
                let message = "it looks like another type, or it is opaque: not both";
                Err(Error::new(opaque, message))
            }
            (of, None) => match (
                name.map(|name| name.span())
                    .or(version.map(|version| version.span())),
                of,
            ) {
                (Some(at), _) => Err(Error::new(
                    at,
                    "only what is `opaque` has a name and a version of its own",
                )),
                (None, Some(of)) => Ok(Self::As(Box::new(of))),
                (None, None) => Err(Error::new(attribute.span(), KNOWN)),
            },
            (None, Some(_)) => {
                if let Some(name) = name.as_ref().filter(|name| name.value().is_empty()) {
                    return Err(Error::new(name.span(), "the name is empty"));
                }
                Ok(Self::Opaque {
                    name: name.map(|name| name.value()),
                    version: version.map_or(Ok(1), |version| version.base10_parse())?,
                })
            }
        }
    }
}

const KNOWN: &str = "`#[shape(as = \"Type\")]` and `#[shape(opaque, name = \"..\", version = 1)]` on a type or field are \
    all there is";

impl Attributes {
    fn of(attributes: &[Attribute], place: Place) -> Result<Self> {
        let mut found = Self::default();
        // What must be explained by `#[shape(as = "..")]`.
        let mut own_form = None;
        for attribute in attributes {
            if attribute.path().is_ident("serde") {
                attribute.parse_nested_meta(|meta| found.serde(&meta, place, &mut own_form))?;
            } else if attribute.path().is_ident("shape") {
                if place == Place::Variant {
                    return Err(Error::new(attribute.span(), KNOWN));
                }
                found.own_shape = Some(Own::parse(attribute)?);
            }
        }
        match own_form {
            Some(error) if found.own_shape.is_none() => Err(error),
            _ => Ok(found),
        }
    }

    fn serde(
        &mut self,
        meta: &syn::meta::ParseNestedMeta<'_>,
        place: Place,
        own_form: &mut Option<Error>,
    ) -> Result<()> {
        let is = |name: &str| meta.path.is_ident(name);
        if is("rename") {
            self.rename = reading(meta)?.map(|name| name.value());
        } else if is("rename_all") {
            self.rename_all = reading(meta)?.map(|name| Rule::parse(&name)).transpose()?;
        } else if is("rename_all_fields") {
            self.rename_all_fields = reading(meta)?.map(|name| Rule::parse(&name)).transpose()?;
        } else if is("skip") {
            self.skip = true;
        } else if is("transparent") {
            self.transparent = true;
        } else if is("from") || is("try_from") || is("into") {
            let text: LitStr = meta.value()?.parse()?;
            let of: Type = text.parse()?;
            self.own_shape.get_or_insert(Own::As(Box::new(of)));
        } else if is("with") || is("serialize_with") || is("deserialize_with") {
            let text: LitStr = meta.value()?.parse()?;
            let path: syn::Path = text.parse()?;
            // Bytes look like the list of bytes that the field would be otherwise.
            let is_bytes = is("with")
                && place == Place::Field
                && path.segments.last().is_some_and(|last| last.ident == "bytes");
            if !is_bytes {
                let message = "what does this look like on the wire? Say `#[shape(as = \"Type\")]`";
                own_form.get_or_insert(Error::new(text.span(), message));
            }
        } else if let Some(refused) = REFUSED.iter().find(|(name, _)| is(name)) {
            return Err(meta.error(refused.1));
        } else {
            skip_value(meta)?;
        }
        Ok(())
    }
}

/// Attributes of types that no payload can hold.
const REFUSED: [(&str, &str); 9] = [
    ("tag", NOT_SELF_DESCRIBING),
    ("content", NOT_SELF_DESCRIBING),
    ("untagged", NOT_SELF_DESCRIBING),
    ("flatten", NOT_SELF_DESCRIBING),
    ("other", NOT_SELF_DESCRIBING),
    ("skip_serializing_if", NOT_ALWAYS_WRITTEN),
    ("skip_serializing", NOT_ALWAYS_WRITTEN),
    ("skip_deserializing", NOT_ALWAYS_WRITTEN),
    ("remote", "a type of another crate cannot tell its shape"),
];

const NOT_SELF_DESCRIBING: &str =
    "this needs a format that says what it holds: payloads do not (PROTOCOL.md § 9.1)";
const NOT_ALWAYS_WRITTEN: &str =
    "every field that is read must be written, and the other way round: payloads have no names";

/// The value of `name = ".."`, or of `name(deserialize = "..")`.
fn reading(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<Option<LitStr>> {
    if meta.input.peek(syn::Token![=]) {
        return Ok(Some(meta.value()?.parse()?));
    }
    let mut found = None;
    meta.parse_nested_meta(|inner| {
        let text: LitStr = inner.value()?.parse()?;
        if inner.path.is_ident("deserialize") {
            found = Some(text);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Passes over what says nothing of the wire.
fn skip_value(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(syn::Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let content;
        syn::parenthesized!(content in meta.input);
        content.parse::<Anything>()?;
    }
    Ok(())
}

struct Anything;

impl Parse for Anything {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        input.parse::<TokenStream>()?;
        Ok(Self)
    }
}
