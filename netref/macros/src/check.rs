//! What a remote trait cannot have, and what to write instead.

use std::collections::HashMap;

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{Visit, visit_type, visit_type_reference};
use syn::{
    FnArg, GenericParam, Ident, ItemTrait, Lifetime, Pat, PatIdent, Path, Receiver, ReceiverKind, ReturnType,
    Signature, TraitBound, TraitItemFn, Type, TypeParamBound, TypeReference, WherePredicate, parse_quote,
};

use crate::adapter::{type_arguments, value_in};
use crate::errors::Errors;
use crate::manners;
use crate::manners::Manners;
use crate::model::{Argument, Method, Passing};
use crate::text;

/// Most arguments of a method: those of serde's longest tuple.
const MOST_ARGUMENTS: usize = 16;

/// Whether the trait can have a trait object at all; notes why not, and whatever else is wrong with its head.
pub(crate) fn head(item: &ItemTrait, errors: &mut Errors) -> bool {
    let mut usable = true;
    if !item.generics.params.is_empty() {
        errors.push(
            &item.generics,
            "a remote trait cannot be generic: both sides know it by one name; write one trait for each type, or \
             use a type that can be any of them",
        );
        usable = false;
    }
    if let Some(clause) = &item.generics.where_clause {
        errors.push(
            clause,
            "a remote trait cannot have a `where` clause: write bounds on `Self` as supertraits",
        );
        usable = false;
    }
    if let Some(unsafety) = &item.unsafety {
        errors.push(
            unsafety,
            "a remote trait cannot be unsafe: a peer cannot be trusted to keep its promises",
        );
        usable = false;
    }
    usable
}

/// Whether `where Self: Sized` keeps a function out of the trait object, and so out of reach for peers.
pub(crate) fn is_local(signature: &Signature) -> bool {
    let Some(clause) = &signature.generics.where_clause else {
        return false;
    };
    clause.predicates.iter().any(|predicate| match predicate {
        WherePredicate::Type(of) => {
            matches!(&of.bounded_ty, Type::Path(path) if path.path.is_ident("Self"))
                && of.bounds.iter().any(|bound| matches!(bound, TypeParamBound::Trait(TraitBound { path, .. }) if ends_with(path, "Sized")))
        }
        _ => false,
    })
}

/// A function that stays local. What is wrong with it is put right, so that its errors stand alone.
pub(crate) fn local(function: &mut TraitItemFn, errors: &mut Errors) {
    if let Some(asyncness) = &function.sig.asyncness {
        errors.push(
            asyncness,
            "a function that is kept local by `where Self: Sized` cannot be `async` in a remote trait: return \
             `impl Future<Output = ..> + Send`",
        );
    }
    if function.default.is_none() {
        errors.push(
            &function.sig.ident,
            "a function that is kept local by `where Self: Sized` needs a body: proxies have it as well",
        );
        function.default = Some(parse_quote!({ ::core::unimplemented!() }));
        function.semi_token = None;
    }
    function
        .attrs
        .retain(|attribute| match manners::name_of(attribute) {
            Some(("inline", _)) | None => true,
            Some((name, _)) => {
                errors.push(
                    &attribute.meta,
                    format!(
                        "`#[{name}]` is for remote methods, and `where Self: Sized` keeps this one local"
                    ),
                );
                false
            }
        });
}

/// Everything about a method but its arguments and its result.
pub(crate) fn method(function: &TraitItemFn, errors: &mut Errors) {
    let signature = &function.sig;
    let name = &signature.ident;
    match signature.generics.params.first() {
        None => {}
        Some(GenericParam::Lifetime(_)) => errors.push(
            &signature.generics,
            "leave the lifetimes out: arguments are borrowed for as long as the call takes",
        ),
        Some(_) => errors.push(
            &signature.generics,
            format!(
                "the remote method `{name}` cannot be generic: a peer cannot know for which types; take a concrete \
                 type or a `Netref<dyn Trait>`, or add `where Self: Sized` to keep the method local"
            ),
        ),
    }
    if let Some(clause) = &signature.generics.where_clause {
        errors.push(
            clause,
            "a remote method cannot have a `where` clause, except `where Self: Sized`, which keeps it local",
        );
    }
    match signature.receiver() {
        None => errors.push(
            name,
            "a remote method takes `&self`; add `where Self: Sized` to keep this function local",
        ),
        Some(receiver) => {
            if let Some(problem) = receiver_problem(receiver) {
                errors.push(receiver, problem);
            }
        }
    }
    for (tokens, found) in [
        (signature.constness.map(|token| token.span), "const"),
        (signature.abi.as_ref().map(Spanned::span), "extern"),
        (signature.variadic.as_ref().map(Spanned::span), "variadic"),
    ] {
        if let Some(span) = tokens {
            errors.add(syn::Error::new(
                span,
                format!("a remote method cannot be {found}"),
            ));
        }
    }
    if !matches!(signature.safety, syn::Safety::Default) {
        errors.push(
            &signature.safety,
            "a remote method cannot be unsafe: a peer cannot be trusted to keep its promises",
        );
    }
    let count = signature
        .inputs
        .iter()
        .filter(|input| matches!(input, FnArg::Typed(_)))
        .count();
    if count > MOST_ARGUMENTS {
        errors.push(
            &signature.inputs,
            format!("a remote method takes at most {MOST_ARGUMENTS} arguments, and this one {count}: put some into a struct"),
        );
    }
    let conditional = |attribute: &&syn::Attribute| attribute.path().is_ident("cfg");
    if let Some(attribute) = function.attrs.iter().find(conditional) {
        errors.push(
            attribute,
            "a remote method cannot be conditional, as both sides need the same ones: put `#[cfg]` on the trait, or \
             the method into a trait of its own",
        );
    }
}

fn receiver_problem(receiver: &Receiver) -> Option<&'static str> {
    match &receiver.kind {
        ReceiverKind::Reference(_, None, None) => None,
        ReceiverKind::Reference(_, _, Some(_)) => Some(
            "a remote method takes `&self`: the object is shared by everybody who has a netref; keep what changes \
             in a `Mutex` or an atomic",
        ),
        ReceiverKind::Reference(_, Some(_), None) => {
            Some("leave the lifetime out: the object is borrowed for as long as the call takes")
        }
        ReceiverKind::Value => Some(
            "a remote method takes `&self`: the object is shared by everybody who has a netref, and lives while \
             anybody has",
        ),
        _ => Some("a remote method takes `&self`, written like this"),
    }
}

/// An argument: its name, its type, and how it is taken.
pub(crate) fn argument(input: &FnArg) -> syn::Result<Option<Argument>> {
    let FnArg::Typed(input) = input else {
        return Ok(None);
    };
    if let Some(attribute) = input.attrs.first() {
        return Err(syn::Error::new_spanned(
            attribute,
            "arguments of remote methods have no attributes",
        ));
    }
    let ident = match &*input.pat {
        Pat::Ident(PatIdent {
            by_ref: None,
            subpat: None,
            ident,
            ..
        }) => ident.clone(),
        pattern => {
            return Err(syn::Error::new_spanned(
                pattern,
                "give this argument a name: it is a part of the interface; take it apart in the body",
            ));
        }
    };
    Ok(Some(Argument {
        ident,
        of: (*input.ty).clone(),
        passing: passing(&input.ty)?,
    }))
}

fn passing(of: &Type) -> syn::Result<Passing> {
    let passing = match bare(of) {
        Type::Reference(reference) => Passing::Ref(borrowed(reference)?),
        Type::Path(path) => match option_of_reference(path) {
            Some(reference) => Passing::OptionalRef(borrowed(reference)?),
            None => Passing::Value(of.clone()),
        },
        _ => Passing::Value(of.clone()),
    };
    crossing(passing.inner(), Place::Argument)?;
    Ok(passing)
}

/// `T` of `&T`.
fn borrowed(reference: &TypeReference) -> syn::Result<Type> {
    if reference.mutability.is_some() {
        return Err(syn::Error::new_spanned(
            reference,
            "a remote method cannot change its caller's value: take it by value and return it, or take a \
             `Netref<dyn Trait>` that the method calls",
        ));
    }
    if let Some(lifetime) = &reference.lifetime {
        return Err(syn::Error::new_spanned(
            lifetime,
            "leave the lifetime out: arguments are borrowed for as long as the call takes",
        ));
    }
    if let Type::TraitObject(object) = bare(&reference.elem) {
        return Err(by_netref(reference, object));
    }
    Ok((*reference.elem).clone())
}

/// The reference in `Option<&T>`.
fn option_of_reference(path: &syn::TypePath) -> Option<&TypeReference> {
    let last = path.path.segments.last().filter(|last| last.ident == "Option")?;
    match type_arguments(last).as_slice() {
        [of] => match bare(of) {
            Type::Reference(reference) => Some(reference),
            _ => None,
        },
        _ => None,
    }
}

/// What a method returns: it must have room for a call that fails. Whether it has, the compiler tells.
pub(crate) fn result(signature: &Signature, manners: Manners) -> syn::Result<Type> {
    let ReturnType::Type(_, of) = &signature.output else {
        return Err(syn::Error::new_spanned(
            &signature.ident,
            "a remote method returns a `Result`, since every call can fail: add `-> farref::Result<()>`",
        ));
    };
    if let Type::ImplTrait(_) = &**of {
        return Err(syn::Error::new_spanned(
            of,
            "a remote method cannot return `impl Trait`: make it `async` and return what the future gives, or \
             return a `Netref<dyn Trait>`",
        ));
    }
    crossing(of, Place::Result)?;
    let reason = if manners.has("one_way") {
        "a `#[one_way]` method returns `Result<()>`: nobody waits for a value"
    } else if manners.has("property") && signature.inputs.len() > 1 {
        "a method that writes a `#[property]` returns `Result<()>`"
    } else {
        return Ok((**of).clone());
    };
    if !value_in(of).is_some_and(|value| matches!(value, Type::Tuple(tuple) if tuple.elems.is_empty())) {
        return Err(syn::Error::new_spanned(of, reason));
    }
    Ok((**of).clone())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Argument,
    Result,
}

/// A type that is written and read.
fn crossing(of: &Type, place: Place) -> syn::Result<()> {
    let mut crossing = Crossing { place, error: None };
    crossing.visit_type(of);
    crossing.error.map_or(Ok(()), Err)
}

/// Looks for what no type that crosses can have in it.
struct Crossing {
    place: Place,
    /// The first that was found.
    error: Option<syn::Error>,
}

impl Crossing {
    fn found(&mut self, error: syn::Error) {
        self.error.get_or_insert(error);
    }
}

impl<'ast> Visit<'ast> for Crossing {
    fn visit_type(&mut self, of: &'ast Type) {
        match of {
            Type::ImplTrait(_) => self.found(syn::Error::new_spanned(
                of,
                "a remote method cannot take `impl Trait`: take a concrete type, or a `Netref<dyn Trait>`",
            )),
            Type::TraitObject(object) if self.error.is_none() => self.found(by_netref(of, object)),
            Type::Path(path) if path.path.is_ident("Self") => self.found(syn::Error::new_spanned(
                of,
                "`Self` cannot cross, as nobody over there knows what it is: write the type, or `Netref<dyn Trait>`",
            )),
            _ => visit_type(self, of),
        }
    }

    fn visit_type_path(&mut self, of: &'ast syn::TypePath) {
        let Some(last) = of.path.segments.last() else {
            return;
        };
        let arguments = type_arguments(last);
        if let [Type::TraitObject(object), ..] = arguments.as_slice() {
            // `Netref<dyn Trait>` is what a trait object is to be in; what else holds one, the compiler judges.
            match last.ident.to_string().as_str() {
                "Box" | "Arc" | "Rc" if is_error(object) && self.place == Place::Result => {
                    self.found(syn::Error::new_spanned(
                        of,
                        "an error of any type cannot cross: return `farref::Result<..>`; `?` makes a \
                         `farref::Error` of every error",
                    ));
                }
                "Box" | "Arc" | "Rc" => self.found(by_netref(of, object)),
                _ => {}
            }
            return;
        }
        syn::visit::visit_type_path(self, of);
    }

    fn visit_type_reference(&mut self, of: &'ast TypeReference) {
        if let Type::TraitObject(object) = bare(&of.elem) {
            self.found(by_netref(of, object));
        }
        let advice = match (bare(&of.elem), self.place) {
            (Type::Path(path), _) if path.path.is_ident("str") => "own it: `String`".to_owned(),
            (Type::Slice(slice), _) => format!("own it: `Vec<{}>`", text::of(&slice.elem)),
            (elem, _) => format!("own it: `{}`", text::of(elem)),
        };
        self.found(syn::Error::new_spanned(
            of,
            match self.place {
                Place::Argument => {
                    format!("only a whole argument can be borrowed, also in an `Option`; here, {advice}")
                }
                Place::Result => format!(
                    "a remote method cannot return a reference, since the object may be far: {advice}"
                ),
            },
        ));
        visit_type_reference(self, of);
    }

    fn visit_lifetime(&mut self, of: &'ast Lifetime) {
        if of.ident != "static" {
            self.found(syn::Error::new_spanned(
                of,
                "a type with a lifetime cannot cross: own what it borrows",
            ));
        }
    }
}

fn by_netref(tokens: impl quote::ToTokens, object: &syn::TypeTraitObject) -> syn::Error {
    let object = text::of(&object.bounds);
    syn::Error::new_spanned(
        tokens,
        format!(
            "an object crosses by reference: `Netref<dyn {object}>`, where the trait is marked `#[remote]`"
        ),
    )
}

fn is_error(object: &syn::TypeTraitObject) -> bool {
    object
        .bounds
        .iter()
        .any(|bound| matches!(bound, TypeParamBound::Trait(bound) if ends_with(&bound.path, "Error")))
}

fn ends_with(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|last| last.ident == name)
}

fn bare(of: &Type) -> &Type {
    match of {
        Type::Paren(inner) => bare(&inner.elem),
        Type::Group(inner) => bare(&inner.elem),
        of => of,
    }
}

/// Methods are called by number.
pub(crate) fn numbers(methods: &[Method], errors: &mut Errors) {
    let mut known: HashMap<u32, &Ident> = HashMap::new();
    for method in methods {
        let number = method_number(&crate::model::unraw(&method.ident));
        if let Some(other) = known.insert(number, &method.ident)
            && *other != method.ident
        {
            errors.push(
                &method.ident,
                format!(
                    "`{}` and `{other}` have the same number, {number:#010x}, by chance: rename one of them",
                    method.ident
                ),
            );
        }
    }
}

/// The number of a method, as `farref_netref::interface::method_number` computes it: FNV-1a, folded to 32 bits.
fn method_number(name: &str) -> u32 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
}

/// A trait that closures implement.
pub(crate) fn closure(span: Span, methods: &[Method], parents: &[Path], errors: &mut Errors) {
    let error = |message: &str| syn::Error::new(span, message);
    let [method] = methods else {
        return errors.add(error(
            "`closure` is for a trait with one method, which the closure is",
        ));
    };
    if !parents.is_empty() {
        errors.add(error(
            "`closure` is for a trait without supertraits: a closure has their methods nowhere",
        ));
    }
    if method.has_default {
        errors.push(
            &method.ident,
            "the method of a `closure` trait has no default body: the closure is its body",
        );
    }
    if method.is_async
        && let Some(argument) = method
            .arguments
            .iter()
            .find(|argument| !matches!(argument.passing, Passing::Value(_)))
    {
        errors.push(
            &argument.of,
            "an async closure takes its arguments by value: the future that it returns cannot borrow them",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_run_time_half() {
        assert_eq!(method_number(""), 0xcbf2_9ce4 ^ 0x8422_2325);
        assert_eq!(method_number("voltage"), 0x4e3f_b14a);
    }
}
