//! Doc comments: as text for descriptions of an interface, and as what the companions repeat of them.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Expr, ExprLit, Lit, Meta, MetaNameValue};

/// The text of the doc comments, without the space that follows `///`.
pub(crate) fn text(attributes: &[Attribute]) -> String {
    lines(attributes).join("\n").trim().to_owned()
}

/// The doc comment of a companion's method: that of the trait's, up to the first example or heading.
///
/// Examples stay where they are, so that they are run once.
pub(crate) fn repeat(doc: &str, otherwise: &str) -> TokenStream {
    let end = |line: &str| line.starts_with('#') || line.starts_with("```") || line.starts_with("~~~");
    let kept: Vec<&str> = doc.lines().take_while(|line| !end(line.trim_start())).collect();
    let kept = kept.join("\n");
    let text = match kept.trim() {
        "" => otherwise,
        text => text,
    };
    // One attribute per line, as if it was written by hand.
    let lines = text.lines().map(|line| format!(" {line}"));
    quote!(#(#[doc = #lines])*)
}

fn lines(attributes: &[Attribute]) -> Vec<String> {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(MetaNameValue { path, value, .. }) = &attribute.meta
            && path.is_ident("doc")
            && let Expr::Lit(ExprLit {
                lit: Lit::Str(text), ..
            }) = value
        {
            let text = text.value();
            // A block comment is one attribute with many lines.
            lines.extend(
                text.lines()
                    .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned()),
            );
            if text.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn the_text_is_what_was_written() {
        let attributes: Vec<Attribute> = vec![
            parse_quote!(#[doc = " Reads a channel."]),
            parse_quote!(#[doc = ""]),
            parse_quote!(#[serial]),
            parse_quote!(#[doc = "   Indented."]),
        ];
        assert_eq!(text(&attributes), "Reads a channel.\n\n  Indented.");
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn examples_and_headings_are_not_repeated() {
        let written = "Reads.\n\nIn volts.\n\n# Errors\n\nNone.";
        assert_eq!(
            repeat(written, "f").to_string(),
            quote!(#[doc = " Reads."] #[doc = " "] #[doc = " In volts."]).to_string()
        );
        assert_eq!(
            repeat("```\nf()\n```", "f").to_string(),
            quote!(#[doc = " f"]).to_string()
        );
    }
}
