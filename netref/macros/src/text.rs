//! Types as a person would write them: for descriptions of an interface, and for the fingerprints of its types.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit_mut::{VisitMut, visit_path_mut};
use syn::{Type, parse_quote};

use crate::model::Passing;

/// `Vec<&str>`, where the tokens alone would print as `Vec < & str >`.
pub(crate) fn of(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(&mut text, tokens.to_token_stream());
    text
}

/// The type that crosses for an argument: the same for `&str` and `String`, and whatever the path to a type is.
///
/// The fingerprint of a method's arguments is that of these texts (PROTOCOL.md § 7.1), so a trait may be changed in
/// that respect on one side and not on the other.
pub(crate) fn of_crossing(passing: &Passing) -> String {
    let mut crossing = match passing {
        Passing::Value(of) => of.clone(),
        Passing::Ref(of) => owned(of),
        Passing::OptionalRef(of) => {
            let of = owned(of);
            parse_quote!(Option<#of>)
        }
    };
    Short.visit_type_mut(&mut crossing);
    of(crossing)
}

/// The types that cross for a result and for an error: the arguments of the return type, or the return type itself where
/// it has none, or only one.
pub(crate) fn of_results(result: &Type) -> (String, String) {
    let mut short = result.clone();
    Short.visit_type_mut(&mut short);
    let mut arguments = Vec::new();
    let mut name = String::new();
    if let Type::Path(path) = &short
        && let Some(last) = path.path.segments.last()
    {
        name = last.ident.to_string();
        if let syn::PathArguments::AngleBracketed(brackets) = &last.arguments {
            arguments.extend(brackets.args.iter().filter_map(|argument| match argument {
                syn::GenericArgument::Type(of) => Some(self::of(of)),
                _ => None,
            }));
        }
    }
    let mut arguments = arguments.into_iter();
    let value = arguments.next().unwrap_or_else(|| of(&short));
    (value, arguments.next().unwrap_or(name))
}

/// The owned type that is written as the borrowed one is.
fn owned(borrowed: &Type) -> Type {
    match borrowed {
        Type::Path(path) if path.path.is_ident("str") => parse_quote!(String),
        Type::Slice(slice) => {
            let element = &slice.elem;
            parse_quote!(Vec<#element>)
        }
        of => of.clone(),
    }
}

/// Cuts paths down to their last segment.
struct Short;

impl VisitMut for Short {
    fn visit_path_mut(&mut self, path: &mut syn::Path) {
        visit_path_mut(self, path);
        if let Some(last) = path.segments.pop() {
            path.leading_colon = None;
            path.segments = std::iter::once(last).collect();
        }
    }
}

fn write(text: &mut String, tokens: TokenStream) {
    // Whether the last token was a word, and whether it was a punctuation mark that the next one belongs to.
    let (mut word, mut joint) = (false, false);
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                space_if(text, word);
                text.push_str(&ident.to_string());
                (word, joint) = (true, false);
            }
            TokenTree::Literal(literal) => {
                space_if(text, word);
                text.push_str(&literal.to_string());
                (word, joint) = (true, false);
            }
            TokenTree::Punct(punct) => {
                let mark = punct.as_char();
                // `+`, `=` and `->` stand free; `,` and `;` are followed by a space; the rest stand close.
                let free = matches!(mark, '+' | '=') || (mark == '-' && punct.spacing() == Spacing::Joint);
                let ends_arrow = mark == '>' && joint && text.ends_with('-');
                space_if(text, (free || (mark == '\'' && word)) && !text.ends_with(' '));
                text.push(mark);
                if matches!(mark, ',' | ';' | '+' | '=') || ends_arrow {
                    text.push(' ');
                }
                (word, joint) = (false, punct.spacing() == Spacing::Joint);
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                let dense = word && group.delimiter() == Delimiter::None;
                space_if(text, dense);
                text.push_str(open);
                write(text, group.stream());
                text.push_str(close);
                (word, joint) = (true, false);
            }
        }
    }
    text.truncate(text.trim_end().len());
}

fn space_if(text: &mut String, condition: bool) {
    if condition {
        text.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_as_they_are_written() {
        for text in [
            "u8",
            "&str",
            "&[u8]",
            "Result<Netref<dyn Recording>, Error>",
            "HashMap<String, Vec<(u8, Option<&'static str>)>>",
            "[u8; 16]",
            "farref::Result<()>",
            "Box<dyn Fn(u8, &str) -> bool + Send>",
            "<T as Trait>::Value",
            "fn(u8) -> u8",
            "dyn A + 'static",
        ] {
            let tokens: TokenStream = text.parse().unwrap();
            assert_eq!(of(syn::parse2::<syn::Type>(tokens).unwrap()), text);
        }
    }
}
