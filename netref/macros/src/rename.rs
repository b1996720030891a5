//! How `#[serde(rename_all = "..")]` makes the names of fields and variants.

use syn::{Error, LitStr, Result};

/// A case that names are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Rule {
    pub(crate) fn parse(text: &LitStr) -> Result<Self> {
        Ok(match text.value().as_str() {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return Err(Error::new(text.span(), "serde knows no such case")),
        })
    }

    /// The name of a field, which is in snake case.
    pub(crate) fn of_field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => pascal(name),
            Self::Camel => decapitalized(&pascal(name)),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }

    /// The name of a variant, which is in Pascal case.
    pub(crate) fn of_variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => decapitalized(name),
            Self::Snake => snake(name),
            Self::ScreamingSnake => snake(name).to_ascii_uppercase(),
            Self::Kebab => snake(name).replace('_', "-"),
            Self::ScreamingKebab => snake(name).to_ascii_uppercase().replace('_', "-"),
        }
    }
}

fn pascal(name: &str) -> String {
    let mut capitalize = true;
    let mut made = String::new();
    for letter in name.chars() {
        if letter == '_' {
            capitalize = true;
        } else if std::mem::take(&mut capitalize) {
            made.push(letter.to_ascii_uppercase());
        } else {
            made.push(letter);
        }
    }
    made
}

fn snake(name: &str) -> String {
    let mut made = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            made.push('_');
        }
        made.push(letter.to_ascii_lowercase());
    }
    made
}

fn decapitalized(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_serde_makes() {
        for (rule, field, variant) in [
            (Rule::Lower, "very_tasty", "verytasty"),
            (Rule::Upper, "VERY_TASTY", "VERYTASTY"),
            (Rule::Pascal, "VeryTasty", "VeryTasty"),
            (Rule::Camel, "veryTasty", "veryTasty"),
            (Rule::Snake, "very_tasty", "very_tasty"),
            (Rule::ScreamingSnake, "VERY_TASTY", "VERY_TASTY"),
            (Rule::Kebab, "very-tasty", "very-tasty"),
            (Rule::ScreamingKebab, "VERY-TASTY", "VERY-TASTY"),
        ] {
            assert_eq!(rule.of_field("very_tasty"), field);
            assert_eq!(rule.of_variant("VeryTasty"), variant);
        }
    }
}
