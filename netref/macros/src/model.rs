//! What a trait says: the form that every expansion works from.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::{
    Attribute, Ident, ItemTrait, Path, Signature, TraitItem, TraitItemFn, Type, TypeParamBound, Visibility,
    parse_quote,
};

use crate::adapter::Adapter;
use crate::check;
use crate::desugar;
use crate::doc;
use crate::errors::Errors;
use crate::manners::Manners;
use crate::options::Options;

/// A remote trait.
pub(crate) struct Model {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    /// The name by which both sides know it.
    pub(crate) name: String,
    pub(crate) version: u16,
    /// Whether closures implement it.
    pub(crate) closure: bool,
    /// Whether its `Display` is what it is as text, and where that is said.
    pub(crate) text: Option<Span>,
    /// Its remote supertraits.
    pub(crate) parents: Vec<Path>,
    /// Further ancestors, as `extends(..)` names them.
    pub(crate) ancestors: Vec<Path>,
    pub(crate) methods: Vec<Method>,
    pub(crate) doc: String,
    /// Whether it has a trait object, so that there is something to expand, errors or not.
    pub(crate) is_object: bool,
}

/// A remote method.
pub(crate) struct Method {
    /// Its place among the methods of the trait.
    pub(crate) index: usize,
    pub(crate) ident: Ident,
    /// Without `async`, with the lifetime that it stands for: as the trait and every impl of it have it.
    pub(crate) signature: Signature,
    pub(crate) is_async: bool,
    pub(crate) has_default: bool,
    pub(crate) manners: Manners,
    pub(crate) arguments: Vec<Argument>,
    /// What it returns, or what its future gives.
    pub(crate) result: Type,
    pub(crate) doc: String,
    /// Attributes that the companions' methods have as well.
    pub(crate) shared_attributes: Vec<Attribute>,
}

/// An argument of a remote method.
pub(crate) struct Argument {
    pub(crate) ident: Ident,
    /// As written.
    pub(crate) of: Type,
    pub(crate) passing: Passing,
}

/// How an argument is taken, and the type that crosses.
pub(crate) enum Passing {
    /// `T`
    Value(Type),
    /// `&T`
    Ref(Type),
    /// `Option<&T>`
    OptionalRef(Type),
}

impl Passing {
    /// The type that crosses, without `&` and `Option`.
    pub(crate) const fn inner(&self) -> &Type {
        match self {
            Self::Value(of) | Self::Ref(of) | Self::OptionalRef(of) => of,
        }
    }

    /// How that type is written and read.
    pub(crate) fn adapter(&self) -> Adapter {
        Adapter::of(self.inner())
    }
}

impl Method {
    /// The names of its arguments.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Ident> {
        self.arguments.iter().map(|argument| &argument.ident)
    }
}

impl Model {
    /// Reads the trait, and rewrites `item` to what it becomes, also where something is wrong with it.
    ///
    /// What is wrong stays out of the model: of a broken method, `item` keeps what the user's impls and calls need.
    pub(crate) fn read(mut options: Options, item: &mut ItemTrait, errors: &mut Errors) -> Self {
        let mut is_object = check::head(item, errors);
        let parents = parents(item, options.text.is_some());
        if let [path, ..] = options.extends.as_slice()
            && parents.len() < 2
        {
            errors.push(
                path,
                "`extends(..)` is for a trait with several supertraits: of one, all ancestors are known",
            );
            options.extends.clear();
        }
        let mut methods: Vec<Method> = Vec::new();
        let mut hidden = Vec::new();
        let mut is_whole = true;
        let of = item.ident.clone();
        for item in &mut item.items {
            match item {
                TraitItem::Fn(function) if check::is_local(&function.sig) => check::local(function, errors),
                TraitItem::Fn(function) => {
                    let method = method(methods.len(), function, errors);
                    hidden.extend(desugar::method(&of, function));
                    match method {
                        Some(method) => methods.push(Method {
                            signature: function.sig.clone(),
                            ..method
                        }),
                        None => {
                            is_whole = false;
                            is_object &= keep_local(function);
                        }
                    }
                }
                other => {
                    errors.push(
                        &*other,
                        "a remote trait has methods and nothing else: a peer cannot name this",
                    );
                    is_object = false;
                }
            }
        }
        check::numbers(&methods, errors);
        // What a method lacks was told, and says nothing about how many there are.
        if let Some(span) = options.closure.filter(|_| is_whole) {
            check::closure(span, &methods, &parents, errors);
        }
        item.items.extend(hidden);
        Self {
            ident: item.ident.clone(),
            vis: item.vis.clone(),
            name: options
                .name
                .map_or_else(|| unraw(&item.ident), |name| name.value()),
            version: options
                .version
                .and_then(|version| version.base10_parse().ok())
                .unwrap_or(1),
            closure: options.closure.is_some() && errors.is_empty(),
            text: options.text,
            parents,
            ancestors: options.extends,
            methods,
            doc: doc::text(&item.attrs),
            is_object,
        }
    }
}

/// Reads a method, and takes its own attributes off it. `None` if it is broken.
fn method(index: usize, function: &mut TraitItemFn, errors: &mut Errors) -> Option<Method> {
    let mut wrong = Errors::default();
    check::method(function, &mut wrong);
    let manners = Manners::take(&mut function.attrs, &function.sig, &mut wrong);
    let arguments = function
        .sig
        .inputs
        .iter()
        .filter_map(|input| wrong.keep(check::argument(input)).flatten())
        .collect();
    let result = wrong.keep(check::result(&function.sig, manners));
    let is_right = wrong.is_empty();
    errors.append(wrong);
    let shared = |attribute: &&Attribute| {
        attribute.path().is_ident("deprecated") || attribute.path().is_ident("must_use")
    };
    let method = Method {
        index,
        ident: function.sig.ident.clone(),
        signature: function.sig.clone(),
        is_async: function.sig.asyncness.is_some(),
        has_default: function.default.is_some(),
        manners,
        arguments,
        result: result?,
        doc: doc::text(&function.attrs),
        shared_attributes: function.attrs.iter().filter(shared).cloned().collect(),
    };
    is_right.then_some(method)
}

/// Keeps a broken method out of the trait object, and lets impls do without it: so that its error stands alone.
/// `false` if that cannot be done.
fn keep_local(function: &mut TraitItemFn) -> bool {
    if matches!(desugar::result(&function.sig), Type::ImplTrait(_)) {
        return false;
    }
    function
        .sig
        .generics
        .make_where_clause()
        .predicates
        .push(parse_quote!(Self: ::core::marker::Sized));
    if function.default.is_none() {
        function.default = Some(parse_quote!({ ::core::unimplemented!() }));
        function.semi_token = None;
        function
            .attrs
            .push(parse_quote!(#[allow(unused_variables, reason = "generated code")]));
    }
    true
}

/// The supertraits that are remote, as far as names tell. Adds those that every remote trait has.
fn parents(item: &mut ItemTrait, is_text: bool) -> Vec<Path> {
    let mut parents = Vec::new();
    let mut missing: Vec<(&str, TypeParamBound)> = vec![
        ("Any", parse_quote!(::core::any::Any)),
        ("Send", parse_quote!(::core::marker::Send)),
        ("Sync", parse_quote!(::core::marker::Sync)),
    ];
    for bound in &item.supertraits {
        let TypeParamBound::Trait(bound) = bound else {
            continue;
        };
        let name = bound
            .path
            .segments
            .last()
            .map(|last| last.ident.to_string())
            .unwrap_or_default();
        missing.retain(|(known, _)| *known != name);
        if !(LOCAL_SUPERTRAITS.contains(&name.as_str()) || is_text && name == "Display") {
            parents.push(bound.path.clone());
        }
    }
    item.supertraits
        .extend(missing.into_iter().map(|(_, bound)| bound));
    parents
}

/// Supertraits that a proxy has by itself.
const LOCAL_SUPERTRAITS: [&str; 5] = ["Any", "Send", "Sync", "Unpin", "Debug"];

/// An identifier without `r#`.
pub(crate) fn unraw(ident: &Ident) -> String {
    ident.unraw().to_string()
}
