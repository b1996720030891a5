//! Text to a value: what people type, and what `text` writes.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use super::record::{Fields, Names};
use super::text::{continues_name, is_plain, starts_name};
use super::{MAX_DEPTH, ParseValueError, Record, Value};

/// See the text of a value, at its `Display`. Spaces, line breaks, and a comma behind the last of many may be anywhere.
/// A name in the place of a map's key is a string: `{x: 1}` is `{"x": 1}`.
///
/// ```
/// use farref_boxing::Value;
///
/// let value: Value = "[Point {x: 1, y: -2.5}, 'c', b\"\\x00\", None]".parse()?;
/// assert_eq!(value.to_string(), "[Point {x: 1, y: -2.5}, 'c', b\"\\x00\", null]");
///
/// let error = "[1, 2\n 3]".parse::<Value>().unwrap_err();
/// assert_eq!(error.to_string(), "line 2, column 2: expected `,` or `]`, found '3'");
/// # Ok::<(), farref_boxing::ParseValueError>(())
/// ```
impl FromStr for Value {
    type Err = ParseValueError;

    fn from_str(text: &str) -> Result<Self, ParseValueError> {
        let mut parser = Parser {
            text,
            rest: text,
            depth: MAX_DEPTH,
            forms: Vec::new(),
        };
        let value = parser.value()?;
        parser.skip_space();
        if parser.rest.is_empty() {
            Ok(value)
        } else {
            Err(parser.expected("the end"))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    depth: u32,
    /// The forms of records so far, up to [`FORMS`].
    forms: Vec<Arc<Names>>,
}

/// How many forms of records are remembered, so that records of one form share their names.
const FORMS: usize = 32;

type Parsed<T> = Result<T, ParseValueError>;

impl<'a> Parser<'a> {
    fn value(&mut self) -> Parsed<Value> {
        self.skip_space();
        match self.peek() {
            Some('[') => Ok(Value::List(self.many('[', ']', "`,` or `]`", Self::value)?)),
            Some('(') => self.tuple(),
            Some('{') => Ok(Value::Map(self.many('{', '}', "`,` or `}`", Self::entry)?)),
            Some('"') => Ok(Value::Str(self.quoted('"')?)),
            Some('\'') => {
                let text = self.quoted('\'')?;
                let mut chars = text.chars();
                Ok(match (chars.next(), chars.next()) {
                    (Some(only), None) => Value::Char(only),
                    _ => Value::Str(text),
                })
            }
            Some('b') if self.rest.starts_with("b\"") || self.rest.starts_with("b'") => {
                self.bump();
                self.bytes()
            }
            Some('`') => self.record(),
            Some('0'..='9' | '-' | '+' | '.') => self.number(),
            Some(char) if starts_name(char) => self.word(),
            _ => Err(self.expected("a value")),
        }
    }

    fn tuple(&mut self) -> Parsed<Value> {
        let mut comma = false;
        let mut values = self.separated('(', ')', "`,` or `)`", &mut comma, Self::value)?;
        match values.pop() {
            Some(only) if values.is_empty() && !comma => Ok(only),
            last => {
                values.extend(last);
                Ok(Value::Tuple(values))
            }
        }
    }

    fn entry(&mut self) -> Parsed<(Value, Value)> {
        self.skip_space();
        let start = self.rest;
        let name = self.peek().is_some_and(starts_name).then(|| self.plain_name());
        self.skip_space();
        let key = match name {
            Some(name) if is_plain(name) && self.rest.starts_with(':') && !self.rest.starts_with("::") => {
                name.into()
            }
            _ => {
                self.rest = start;
                self.value()?
            }
        };
        self.skip_space();
        self.expect(':', "`:`")?;
        Ok((key, self.value()?))
    }

    /// A word that means something, or a record.
    fn word(&mut self) -> Parsed<Value> {
        let start = self.rest;
        let value = match self.plain_name() {
            "null" | "None" => Value::Null,
            "true" | "True" => Value::Bool(true),
            "false" | "False" => Value::Bool(false),
            "inf" => Value::Float(f64::INFINITY),
            "inf_f32" => Value::Single(f32::INFINITY),
            "nan" => Value::Float(match self.bits()? {
                Some(bits) => Some(f64::from_bits(bits))
                    .filter(|number| number.is_nan())
                    .ok_or_else(|| self.expected("the bits of a NaN"))?,
                None => f64::NAN,
            }),
            "nan_f32" => Value::Single(match self.bits()? {
                Some(bits) => u32::try_from(bits)
                    .ok()
                    .map(f32::from_bits)
                    .filter(|number| number.is_nan())
                    .ok_or_else(|| self.expected("the bits of a NaN"))?,
                None => f32::NAN,
            }),
            "Some" => {
                self.skip_space();
                self.expect('(', "`(`")?;
                self.enter()?;
                let value = self.value()?;
                self.leave();
                self.skip_space();
                self.expect(')', "`)`")?;
                Value::Some(Box::new(value))
            }
            _ => {
                self.rest = start;
                return self.record();
            }
        };
        Ok(value)
    }

    /// The bits of a NaN, in parentheses.
    fn bits(&mut self) -> Parsed<Option<u64>> {
        if !self.eat('(') {
            return Ok(None);
        }
        let bits = self.number()?.as_u64().ok_or_else(|| self.expected("bits"))?;
        self.expect(')', "`)`")?;
        Ok(Some(bits))
    }

    fn record(&mut self) -> Parsed<Value> {
        let type_name = self.name()?;
        let variant = if self.rest.starts_with("::") {
            self.bump();
            self.bump();
            Some(self.name()?)
        } else {
            None
        };
        let before = self.rest;
        self.skip_space();
        let (form, values) = match self.peek() {
            Some('(') => {
                let values = self.many('(', ')', "`,` or `)`", Self::value)?;
                let form = self.form(&type_name, variant.as_deref(), Fields::Tuple(values.len()));
                (form, values)
            }
            Some('{') => {
                let fields = self.many('{', '}', "`,` or `}`", Self::field)?;
                let (names, values): (Vec<Cow<'_, str>>, Vec<Value>) = fields.into_iter().unzip();
                (self.named_form(&type_name, variant.as_deref(), &names), values)
            }
            _ => {
                self.rest = before;
                let form = self.form(&type_name, variant.as_deref(), Fields::Unit);
                (form, Vec::new())
            }
        };
        Ok(Record::from_parts(form, values).into())
    }

    fn field(&mut self) -> Parsed<(Cow<'a, str>, Value)> {
        self.skip_space();
        let name = self.name()?;
        self.skip_space();
        self.expect(':', "`:`")?;
        Ok((name, self.value()?))
    }

    fn named_form(&mut self, type_name: &str, variant: Option<&str>, names: &[Cow<'_, str>]) -> Arc<Names> {
        let fits = |fields: &Fields| matches!(fields, Fields::Named(found) if **found == *names);
        self.known_form(type_name, variant, fits).unwrap_or_else(|| {
            let names = names.iter().map(|name| name.to_string().into()).collect();
            self.new_form(type_name, variant, Fields::Named(names))
        })
    }

    fn form(&mut self, type_name: &str, variant: Option<&str>, fields: Fields) -> Arc<Names> {
        self.known_form(type_name, variant, |found| *found == fields)
            .unwrap_or_else(|| self.new_form(type_name, variant, fields))
    }

    fn known_form(
        &mut self,
        type_name: &str,
        variant: Option<&str>,
        fits: impl Fn(&Fields) -> bool,
    ) -> Option<Arc<Names>> {
        let found = self.forms.iter().rev().find(|form| {
            form.type_name == type_name && form.variant.as_deref() == variant && fits(&form.fields)
        });
        found.map(Arc::clone)
    }

    fn new_form(&mut self, type_name: &str, variant: Option<&str>, fields: Fields) -> Arc<Names> {
        let form = Arc::new(Names::new(type_name, variant, fields));
        if self.forms.len() < FORMS {
            self.forms.push(Arc::clone(&form));
        }
        form
    }

    /// The name of a type, variant or field.
    fn name(&mut self) -> Parsed<Cow<'a, str>> {
        match self.peek() {
            Some('`') => Ok(self.quoted('`')?.into()),
            Some(char) if starts_name(char) => Ok(self.plain_name().into()),
            _ => Err(self.expected("a name")),
        }
    }

    fn plain_name(&mut self) -> &'a str {
        self.take_while(continues_name)
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.rest;
        let negative = self.eat('-');
        if !negative {
            self.eat('+');
        }
        if self.peek().is_some_and(starts_name) {
            return match self.plain_name() {
                "inf" if negative => Ok(Value::Float(f64::NEG_INFINITY)),
                "inf" => Ok(Value::Float(f64::INFINITY)),
                "inf_f32" if negative => Ok(Value::Single(f32::NEG_INFINITY)),
                "inf_f32" => Ok(Value::Single(f32::INFINITY)),
                _ => {
                    self.rest = start;
                    Err(self.expected("a number"))
                }
            };
        }
        if self.rest.starts_with("0x") {
            self.bump();
            self.bump();
            let digits = self
                .take_while(|char| char.is_ascii_hexdigit() || char == '_')
                .replace('_', "");
            let number = u128::from_str_radix(&digits, 16).ok();
            return number
                .and_then(|number| integer(negative, number))
                .ok_or_else(|| self.invalid(start, "hexadecimal digits of an integer of 128 bits"));
        }
        let mut float = false;
        let mut digits = self.digits();
        if self.peek() == Some('.') {
            self.bump();
            float = true;
            digits.push('.');
            digits.push_str(&self.digits());
        }
        if let Some('e' | 'E') = self.peek() {
            self.bump();
            float = true;
            digits.push('e');
            if self.eat('-') {
                digits.push('-');
            } else {
                self.eat('+');
            }
            digits.push_str(&self.digits());
        }
        let suffix = self.plain_name();
        let value = match suffix.trim_start_matches('_') {
            "" if !float => digits.parse().ok().and_then(|number| integer(negative, number)),
            "" | "f64" => digits
                .parse()
                .ok()
                .map(|number: f64| Value::Float(if negative { -number } else { number })),
            "f32" => digits
                .parse()
                .ok()
                .map(|number: f32| Value::Single(if negative { -number } else { number })),
            _ => None,
        };
        value.ok_or_else(|| self.invalid(start, "a number"))
    }

    fn digits(&mut self) -> String {
        // An underscore may begin a suffix.
        let mut digits = String::new();
        loop {
            let more = self.take_while(|char| char.is_ascii_digit());
            digits.push_str(more);
            let after = self.rest.trim_start_matches('_');
            if after.len() == self.rest.len() || !after.starts_with(|char: char| char.is_ascii_digit()) {
                return digits;
            }
            self.rest = after;
        }
    }

    fn bytes(&mut self) -> Parsed<Value> {
        let quote = if self.eat('"') {
            '"'
        } else {
            self.expect('\'', "a quote")?;
            '\''
        };
        let mut bytes = Vec::new();
        loop {
            match self.peek() {
                Some(char) if char == quote => {
                    self.bump();
                    return Ok(Value::bytes(bytes));
                }
                Some('\\') => {
                    let start = self.rest;
                    self.bump();
                    let escape = self.escape()?;
                    bytes.push(
                        u8::try_from(escape).map_err(|_| self.invalid(start, "an escape for one byte"))?,
                    );
                }
                Some(char) if char.is_ascii() => {
                    self.bump();
                    bytes.push(char as u8);
                }
                Some(_) => return Err(self.expected("an ASCII character or an escape")),
                None => return Err(self.expected("the closing quote")),
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Parsed<String> {
        self.bump();
        let mut text = String::new();
        loop {
            text.push_str(self.take_while(|char| char != quote && char != '\\'));
            match self.peek() {
                Some('\\') => {
                    self.bump();
                    text.push(self.char_escape()?);
                }
                Some(_) => {
                    self.bump();
                    return Ok(text);
                }
                None => return Err(self.expected("the closing quote")),
            }
        }
    }

    /// What is behind a backslash in a string, as a character; two halves of one in the manner of JSON are one.
    fn char_escape(&mut self) -> Parsed<char> {
        let start = self.rest;
        let mut code = self.escape()?;
        if (0xd800..0xdc00).contains(&code) && self.rest.starts_with("\\u") {
            self.bump();
            let low = self.escape()?;
            if (0xdc00..0xe000).contains(&low) {
                code = ((code & 0x3ff) << 10 | (low & 0x3ff)).saturating_add(0x1_0000);
            } else {
                code = u32::MAX;
            }
        }
        char::from_u32(code).ok_or_else(|| self.invalid(start, "an escape for a character"))
    }

    /// The number that is meant by what is behind a backslash.
    fn escape(&mut self) -> Parsed<u32> {
        let start = self.rest;
        let char = self.peek();
        self.bump();
        let code = match char {
            Some('n') => 0x0a,
            Some('r') => 0x0d,
            Some('t') => 0x09,
            Some('0') => 0x00,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some(char @ ('\\' | '"' | '\'' | '`' | '/')) => char.into(),
            Some('x') => self.hex(2, start)?,
            Some('u') if self.eat('{') => {
                let digits = self.take_while(|char| char.is_ascii_hexdigit());
                let code = u32::from_str_radix(digits, 16).map_err(|_| self.invalid(start, "an escape"))?;
                self.expect('}', "`}`")?;
                code
            }
            Some('u') => self.hex(4, start)?,
            _ => return Err(self.invalid(start, "an escape")),
        };
        Ok(code)
    }

    fn hex(&mut self, count: usize, start: &'a str) -> Parsed<u32> {
        let digits = self
            .rest
            .get(..count)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.rest = self.rest.get(count..).unwrap_or_default();
        code.ok_or_else(|| self.invalid(start, "hexadecimal digits"))
    }

    fn many<T>(
        &mut self,
        open: char,
        close: char,
        expected: &'static str,
        item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.separated(open, close, expected, &mut false, item)
    }

    /// Items between `open` and `close`; `comma` becomes whether there is a comma behind the last.
    fn separated<T>(
        &mut self,
        open: char,
        close: char,
        expected: &'static str,
        comma: &mut bool,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.enter()?;
        self.expect(open, "an opening bracket")?;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.eat(close) {
                break;
            }
            if !items.is_empty() && !*comma {
                return Err(self.expected(expected));
            }
            items.push(item(self)?);
            self.skip_space();
            *comma = self.eat(',');
        }
        self.leave();
        Ok(items)
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| self.expected("at most 128 levels of nesting"))?;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn eat(&mut self, char: char) -> bool {
        match self.rest.strip_prefix(char) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, char: char, expected: &'static str) -> Parsed<()> {
        if self.eat(char) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn take_while(&mut self, mut fits: impl FnMut(char) -> bool) -> &'a str {
        let end = self.rest.find(|char| !fits(char)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Something else is expected here.
    #[cold]
    fn expected(&self, expected: &'static str) -> ParseValueError {
        self.invalid(self.rest, expected)
    }

    /// Something else is expected where `rest` begins.
    #[cold]
    fn invalid(&self, rest: &str, expected: &'static str) -> ParseValueError {
        let at = self.text.len().saturating_sub(rest.len());
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        ParseValueError {
            line: before.matches('\n').count().saturating_add(1),
            column: line.chars().count().saturating_add(1),
            expected,
            found: rest.chars().next(),
        }
    }
}

fn integer(negative: bool, number: u128) -> Option<Value> {
    if negative {
        0_i128.checked_sub_unsigned(number).map(Value::Int)
    } else {
        Some(number.into())
    }
}
