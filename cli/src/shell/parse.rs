//! What is typed in the shell, as a tree. Knows nothing of peers: names are just names.
//!
//! ```text
//! statement  = command | NAME "=" expression | path "=" expression | expression "?" | expression
//! command    = ("dir" | "doc" | "iter" | "del" | "vars" | "help" | "quit") [ expression ]
//! expression = primary { "." NAME [ arguments ] | "[" expression "]" }
//! primary    = literal | list | tuple | map | struct | NAME [ arguments ]
//! arguments  = "(" { [ NAME "=" ] expression "," } ")"
//! ```
//!
//! Literals are those of [`Value`], in which names may stand for variables.

use std::fmt;

use farref::{Record, Value};

/// A line that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Statement {
    Nothing,
    /// An expression, to be shown.
    Show(Expression),
    /// `name = expression`
    Assign(String, Expression),
    /// `path.name = expression`
    Set(Expression, String, Expression),
    /// `dir x`; the root without.
    Dir(Option<Expression>),
    /// `doc x.method`, `x.method?`; the root without.
    Doc(Option<Expression>),
    /// `iter x`
    Iter(Expression),
    /// `del x`
    Del(String),
    Vars,
    Help,
    Quit,
}

/// Something that has a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    Literal(Value),
    /// A variable, or a property of the root.
    Name(String),
    /// A property, or a field.
    Member(Box<Expression>, String),
    /// A method, of the root if there is no object.
    Call(Option<Box<Expression>>, String, Vec<(Option<String>, Expression)>),
    Index(Box<Expression>, Box<Expression>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    /// A struct or variant: `Shape::Circle {r: 1}`.
    Struct(Form, Vec<(Option<String>, Expression)>),
}

/// What a struct is called.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form {
    pub(crate) name: String,
    pub(crate) variant: Option<String>,
}

impl Form {
    /// The struct of these fields.
    pub(crate) fn with(&self, fields: Vec<(Option<String>, Value)>) -> Value {
        let innermost = self.variant.clone().unwrap_or_else(|| self.name.clone());
        let are_named = fields.iter().any(|(name, _)| name.is_some());
        let record = if are_named {
            let fields = fields
                .into_iter()
                .map(|(name, value)| (name.unwrap_or_default(), value));
            Record::named(innermost, fields)
        } else {
            Record::tuple(innermost, fields.into_iter().map(|(_, value)| value))
        };
        match self.variant {
            Some(_) => record.variant_of(self.name.clone()).into(),
            None => record.into(),
        }
    }
}

/// Why a line was not understood, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// From 1, in characters.
    pub(crate) column: usize,
    pub(crate) what: String,
    /// Whether there may be more to come.
    pub(crate) is_unfinished: bool,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

type Parsed<T> = Result<T, SyntaxError>;

/// Reads a line.
pub(crate) fn parse(line: &str) -> Parsed<Statement> {
    let mut parser = Parser {
        line,
        at: 0,
        depth: 0,
    };
    parser.space();
    if parser.rest().is_empty() || parser.rest().starts_with('#') {
        return Ok(Statement::Nothing);
    }
    let statement = match parser.command()? {
        Some(statement) => statement,
        None => parser.sentence()?,
    };
    parser.space();
    match parser.peek() {
        None | Some('#') => Ok(statement),
        Some(_) => Err(parser.wrong("the line should end here")),
    }
}

struct Parser<'a> {
    line: &'a str,
    /// In bytes.
    at: usize,
    /// How many brackets are open.
    depth: u32,
}

/// Brackets within each other, at most: less than what values may have.
const DEEPEST: u32 = 64;

impl<'a> Parser<'a> {
    fn command(&mut self) -> Parsed<Option<Statement>> {
        let start = self.at;
        let word = self.name().unwrap_or_default();
        // A name of the far side that is called like a command is used like one: `help.me`, `dir(1)`, `dir = 1`.
        let is_alone = self.peek().is_none_or(|c| c.is_whitespace() || c == '#');
        self.space();
        let is_used = self.rest().starts_with(['.', '(', '[', '=']) && !self.rest().starts_with("==");
        if !is_alone || is_used {
            self.at = start;
            return Ok(None);
        }
        let is_end = self.peek().is_none_or(|c| c == '#');
        let what = |parser: &mut Self| -> Parsed<Option<Expression>> {
            if is_end {
                Ok(None)
            } else {
                parser.expression().map(Some)
            }
        };
        Ok(Some(match word {
            "help" => {
                self.at = self.line.len();
                Statement::Help
            }
            "quit" | "exit" if is_end => Statement::Quit,
            "vars" if is_end => Statement::Vars,
            "dir" => Statement::Dir(what(self)?),
            "doc" => Statement::Doc(what(self)?),
            "iter" | "for" => match what(self)? {
                Some(of) => Statement::Iter(of),
                None => return Err(self.unfinished("what to go through")),
            },
            "del" => match self.name() {
                Some(name) => Statement::Del(name.to_owned()),
                None => return Err(self.wrong("expected the name of a variable")),
            },
            _ => {
                self.at = start;
                return Ok(None);
            }
        }))
    }

    fn sentence(&mut self) -> Parsed<Statement> {
        let left = self.expression()?;
        self.space();
        match self.peek() {
            Some('?') => {
                self.bump();
                Ok(Statement::Doc(Some(left)))
            }
            Some('=') => {
                let at = self.at;
                self.bump();
                match left {
                    Expression::Name(name) => Ok(Statement::Assign(name, self.expression()?)),
                    Expression::Member(of, name) => Ok(Statement::Set(*of, name, self.expression()?)),
                    _ => {
                        self.at = at;
                        Err(self.wrong("only a variable or a property can be given a value"))
                    }
                }
            }
            _ => Ok(Statement::Show(left)),
        }
    }

    fn expression(&mut self) -> Parsed<Expression> {
        let mut value = self.primary()?;
        loop {
            self.space();
            match self.peek() {
                Some('.') => {
                    self.bump();
                    self.space();
                    let name = self.name().ok_or_else(|| self.unfinished("a name"))?.to_owned();
                    self.space();
                    value = match self.peek() {
                        Some('(') => Expression::Call(Some(Box::new(value)), name, self.arguments()?),
                        _ => Expression::Member(Box::new(value), name),
                    };
                }
                Some('[') => {
                    self.open()?;
                    let key = self.expression()?;
                    self.close(']')?;
                    value = Expression::Index(Box::new(value), Box::new(key));
                }
                _ => return Ok(value),
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expression> {
        self.space();
        let rest = self.rest();
        let is_bytes = rest.starts_with("b\"") || rest.starts_with("b'");
        match self.peek() {
            Some('"' | '\'') => self.quoted(0),
            Some('b') if is_bytes => self.quoted(1),
            Some('0'..='9' | '-' | '+') => self.number(),
            Some('[') => Ok(Expression::List(self.many(']', Self::expression)?.0)),
            Some('(') => {
                let (mut items, has_comma) = self.many(')', Self::expression)?;
                Ok(match items.pop() {
                    Some(only) if items.is_empty() && !has_comma => only,
                    last => {
                        items.extend(last);
                        Expression::Tuple(items)
                    }
                })
            }
            Some('{') => Ok(Expression::Map(self.many('}', Self::entry)?.0)),
            Some(_) => self.word(),
            None => Err(self.unfinished("a value")),
        }
    }

    /// A name, a call of the root, a word that is a literal, or a struct.
    fn word(&mut self) -> Parsed<Expression> {
        let name = self.name().ok_or_else(|| self.wrong("expected a value"))?;
        let is_type = name.starts_with(char::is_uppercase);
        if matches!(
            name,
            "null" | "true" | "false" | "None" | "True" | "False" | "inf" | "nan"
        ) {
            return self.literal(name);
        }
        if self.rest().starts_with("::") {
            self.bump();
            self.bump();
            let variant = self
                .name()
                .ok_or_else(|| self.unfinished("the name of a variant"))?;
            let form = Form {
                name: name.to_owned(),
                variant: Some(variant.to_owned()),
            };
            return self.structure(form);
        }
        let after = self.rest().trim_start();
        if is_type && after.starts_with(['{', '(']) {
            let name = name.to_owned();
            if name == "Some" {
                let (mut held, _) = self.spaced_many(')', Self::expression)?;
                return match (held.pop(), held.is_empty()) {
                    (Some(held), true) => Ok(held),
                    _ => Err(self.wrong("`Some` holds one value")),
                };
            }
            return self.structure(Form { name, variant: None });
        }
        if after.starts_with('(') {
            let name = name.to_owned();
            self.space();
            return Ok(Expression::Call(None, name, self.arguments()?));
        }
        Ok(Expression::Name(name.to_owned()))
    }

    fn structure(&mut self, form: Form) -> Parsed<Expression> {
        let after = self.rest().trim_start();
        let fields = if after.starts_with('{') {
            let field = |parser: &mut Self| {
                parser.space();
                let name = parser
                    .name()
                    .ok_or_else(|| parser.unfinished("the name of a field"))?
                    .to_owned();
                parser.space();
                parser.expect(':')?;
                Ok((Some(name), parser.expression()?))
            };
            self.spaced_many('}', field)?.0
        } else if after.starts_with('(') {
            let fields = self.spaced_many(')', Self::expression)?.0;
            fields.into_iter().map(|field| (None, field)).collect()
        } else {
            Vec::new()
        };
        Ok(Expression::Struct(form, fields))
    }

    fn entry(&mut self) -> Parsed<(Expression, Expression)> {
        self.space();
        let start = self.at;
        let name = self.name().map(str::to_owned);
        self.space();
        let key = match name {
            Some(name) if self.peek() == Some(':') => Expression::Literal(name.into()),
            _ => {
                self.at = start;
                self.expression()?
            }
        };
        self.space();
        self.expect(':')?;
        Ok((key, self.expression()?))
    }

    fn arguments(&mut self) -> Parsed<Vec<(Option<String>, Expression)>> {
        let mut has_named = false;
        let argument = |parser: &mut Self| {
            parser.space();
            let start = parser.at;
            let name = parser.name().map(str::to_owned);
            parser.space();
            if name.is_some() && parser.peek() == Some('=') {
                parser.bump();
                has_named = true;
                return Ok((name, parser.expression()?));
            }
            parser.at = start;
            if has_named {
                return Err(parser.wrong("arguments by place come before those by name"));
            }
            Ok((None, parser.expression()?))
        };
        Ok(self.many(')', argument)?.0)
    }

    fn spaced_many<T>(
        &mut self,
        close: char,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<(Vec<T>, bool)> {
        self.space();
        self.many(close, item)
    }

    /// Items with commas between, from the bracket that opens to the one that closes; whether the last has a comma.
    fn many<T>(
        &mut self,
        close: char,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<(Vec<T>, bool)> {
        self.open()?;
        let (mut items, mut has_comma) = (Vec::new(), false);
        loop {
            self.space();
            match self.peek() {
                Some(found) if found == close => {
                    self.close(close)?;
                    return Ok((items, has_comma));
                }
                Some(_) if !items.is_empty() && !has_comma => {
                    return Err(self.wrong(&format!("expected `,` or `{close}`")));
                }
                Some(_) => items.push(item(self)?),
                None => return Err(self.unfinished(&format!("`{close}`"))),
            }
            self.space();
            has_comma = self.peek() == Some(',');
            if has_comma {
                self.bump();
            }
        }
    }

    fn open(&mut self) -> Parsed<()> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEEPEST {
            return Err(self.wrong("too many brackets within each other"));
        }
        self.bump();
        Ok(())
    }

    fn close(&mut self, close: char) -> Parsed<()> {
        self.space();
        self.expect(close)?;
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// A string, a character or bytes, with `prefix` characters before the quote.
    fn quoted(&mut self, prefix: usize) -> Parsed<Expression> {
        let start = self.at;
        for _ in 0..prefix {
            self.bump();
        }
        let quote = self.bump();
        loop {
            match self.bump() {
                None => return Err(self.unfinished("the end of the text")),
                Some('\\') => {
                    self.bump();
                }
                found if found == quote => break,
                Some(_) => {}
            }
        }
        let text = self.line.get(start..self.at).unwrap_or_default();
        self.literal_at(text, start)
    }

    fn number(&mut self) -> Parsed<Expression> {
        let start = self.at;
        self.bump();
        while let Some(char) = self.peek() {
            let rest = self.rest();
            let next = rest.chars().nth(1);
            let before = self.line.get(..self.at).and_then(|line| line.chars().next_back());
            let is_hex = self
                .line
                .get(start..)
                .is_some_and(|text| text.trim_start_matches(['-', '+']).starts_with("0x"));
            let is_part = char.is_ascii_alphanumeric()
                || char == '_'
                // `1.max` would be a member; `1.5` is a number.
                || (char == '.' && next.is_some_and(|next| next.is_ascii_digit()))
                || (matches!(char, '-' | '+') && matches!(before, Some('e' | 'E')) && !is_hex);
            if !is_part {
                break;
            }
            self.bump();
        }
        let text = self.line.get(start..self.at).unwrap_or_default();
        self.literal_at(text, start)
    }

    fn literal(&self, text: &str) -> Parsed<Expression> {
        self.literal_at(text, self.at.saturating_sub(text.len()))
    }

    fn literal_at(&self, text: &str, start: usize) -> Parsed<Expression> {
        text.parse()
            .map(Expression::Literal)
            .map_err(|error| SyntaxError {
                column: self.column(start),
                what: format!("`{text}`: {error}"),
                is_unfinished: false,
            })
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c != '_' && !c.is_alphanumeric())
            .unwrap_or(rest.len());
        let name = rest.get(..end)?;
        let starts = name.starts_with(|c: char| c == '_' || c.is_alphabetic());
        if !starts {
            return None;
        }
        self.at += end;
        Some(name)
    }

    fn rest(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.bump();
        }
    }

    fn expect(&mut self, wanted: char) -> Parsed<()> {
        match self.peek() {
            Some(found) if found == wanted => {
                self.bump();
                Ok(())
            }
            None => Err(self.unfinished(&format!("`{wanted}`"))),
            Some(_) => Err(self.wrong(&format!("expected `{wanted}`"))),
        }
    }

    fn column(&self, at: usize) -> usize {
        self.line.get(..at).map_or(0, |before| before.chars().count()) + 1
    }

    fn wrong(&self, what: &str) -> SyntaxError {
        let found = match self.peek() {
            Some(found) => format!(", found `{found}`"),
            None => String::new(),
        };
        SyntaxError {
            column: self.column(self.at),
            what: format!("{what}{found}"),
            is_unfinished: false,
        }
    }

    fn unfinished(&self, missing: &str) -> SyntaxError {
        let is_end = self.rest().is_empty();
        let mut error = self.wrong(&format!("expected {missing}"));
        error.is_unfinished = is_end;
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Expression {
        Expression::Name(text.to_owned())
    }

    fn member(of: Expression, text: &str) -> Expression {
        Expression::Member(Box::new(of), text.to_owned())
    }

    fn literal(text: &str) -> Expression {
        Expression::Literal(text.parse().unwrap())
    }

    fn shown(line: &str) -> Expression {
        match parse(line) {
            Ok(Statement::Show(expression)) => expression,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn literals_are_those_of_values() {
        for text in [
            "1",
            "-1",
            "1.5",
            "1e3",
            "1e-3",
            "0xff",
            "1_000",
            "\"a \\\" b\"",
            "'c'",
            "b\"x\\x00\"",
            "null",
            "true",
            "1.5f32",
        ] {
            assert_eq!(shown(text), literal(text), "{text}");
        }
    }

    #[test]
    fn names_lead_through_properties_to_calls() {
        assert_eq!(shown("files"), name("files"));
        assert_eq!(shown("root.files"), member(name("root"), "files"));
        let call = Expression::Call(
            Some(Box::new(name("files"))),
            "list".to_owned(),
            vec![
                (None, literal("\"/tmp\"")),
                (Some("depth".to_owned()), literal("1")),
            ],
        );
        assert_eq!(shown("files.list(\"/tmp\", depth = 1)"), call);
        assert_eq!(shown(" files . list ( \"/tmp\" , depth=1 , ) "), call);
        let voltage = Expression::Call(None, "voltage".to_owned(), vec![(None, name("x"))]);
        assert_eq!(shown("voltage(x)"), voltage);
        let first = Expression::Index(Box::new(voltage), Box::new(literal("0")));
        assert_eq!(shown("voltage(x)[0].name"), member(first, "name"));
    }

    #[test]
    fn lists_maps_and_structs_may_hold_names() {
        assert_eq!(shown("[1, x]"), Expression::List(vec![literal("1"), name("x")]));
        assert_eq!(shown("(1)"), literal("1"));
        assert_eq!(shown("(x,)"), Expression::Tuple(vec![name("x")]));
        assert_eq!(
            shown("{a: x, 2: 3}"),
            Expression::Map(vec![(literal("\"a\""), name("x")), (literal("2"), literal("3"))])
        );
        let form = |name: &str, variant: Option<&str>| Form {
            name: name.to_owned(),
            variant: variant.map(str::to_owned),
        };
        assert_eq!(
            shown("Point {x: a}"),
            Expression::Struct(form("Point", None), vec![(Some("x".to_owned()), name("a"))])
        );
        assert_eq!(
            shown("Shape::Circle(3)"),
            Expression::Struct(form("Shape", Some("Circle")), vec![(None, literal("3"))])
        );
        assert_eq!(
            shown("Shape::None"),
            Expression::Struct(form("Shape", Some("None")), vec![])
        );
        assert_eq!(shown("Some(3)"), literal("3"));
        let made = form("Shape", Some("Circle")).with(vec![(Some("r".to_owned()), 3.into())]);
        assert_eq!(made.to_string(), "Shape::Circle {r: 3}");
    }

    #[test]
    fn commands_are_words_at_the_beginning_and_names_elsewhere() {
        assert_eq!(parse("dir").unwrap(), Statement::Dir(None));
        assert_eq!(parse("dir x").unwrap(), Statement::Dir(Some(name("x"))));
        assert_eq!(
            parse("doc x.y").unwrap(),
            Statement::Doc(Some(member(name("x"), "y")))
        );
        assert_eq!(
            parse("x.y?").unwrap(),
            Statement::Doc(Some(member(name("x"), "y")))
        );
        assert_eq!(parse("iter x").unwrap(), Statement::Iter(name("x")));
        assert_eq!(parse("del x").unwrap(), Statement::Del("x".to_owned()));
        assert_eq!(parse("quit").unwrap(), Statement::Quit);
        assert_eq!(parse("help me").unwrap(), Statement::Help);
        assert_eq!(parse("  # nothing").unwrap(), Statement::Nothing);
        assert_eq!(parse("dir.x").unwrap(), Statement::Show(member(name("dir"), "x")));
        assert_eq!(
            parse("dir = 1").unwrap(),
            Statement::Assign("dir".to_owned(), literal("1"))
        );
        assert!(matches!(
            parse("quit()"),
            Ok(Statement::Show(Expression::Call(None, ..)))
        ));
    }

    #[test]
    fn variables_and_properties_are_given_values() {
        assert_eq!(
            parse("x = 1").unwrap(),
            Statement::Assign("x".to_owned(), literal("1"))
        );
        assert_eq!(
            parse("x.title = \"a\" # why").unwrap(),
            Statement::Set(name("x"), "title".to_owned(), literal("\"a\""))
        );
    }

    #[test]
    fn errors_say_where_and_whether_more_may_come() {
        for (line, column, is_unfinished) in [
            ("f(", 3, true),
            ("f(1", 4, true),
            ("[1,", 4, true),
            ("\"abc", 5, true),
            ("x.", 3, true),
            ("iter", 5, true),
            ("f(1 2)", 5, false),
            ("f(a=1, 2)", 8, false),
            ("x y", 3, false),
            ("f() = 1", 5, false),
            (")", 1, false),
            ("0x", 1, false),
            ("1..2", 3, false),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(
                (error.column, error.is_unfinished),
                (column, is_unfinished),
                "{line}: {error}"
            );
        }
        let deep = "[".repeat(10_000);
        assert!(parse(&deep).unwrap_err().what.contains("brackets"));
    }
}
