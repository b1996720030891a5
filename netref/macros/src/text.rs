//! Types as a person would write them: for descriptions of an interface, and for the fingerprints of its types.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;

/// `Vec<&str>`, where the tokens alone would print as `Vec < & str >`.
pub(crate) fn of(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(&mut text, tokens.to_token_stream());
    text
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
