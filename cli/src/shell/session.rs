//! What the shell does with a line: variables, calls, and what is shown of their results.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use farref::object::{Arguments, Description};
use farref::transport::Dialect;
use farref::{Error, ErrorKind, Object, Value};

use super::parse::{Expression, Statement, SyntaxError, parse};
use crate::output::{harmless, json, shown};
use crate::python;
use crate::results::Referred;

/// The variables, and where they came from.
pub(crate) struct Session {
    root: Object,
    variables: BTreeMap<String, Held>,
    style: Style,
    is_python: bool,
}

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) json: bool,
    pub(crate) colours: bool,
    /// So many lines at most, the rest is counted; none is all.
    pub(crate) lines: Option<usize>,
}

/// What a name stands for.
#[derive(Clone)]
pub(crate) enum Held {
    Value(Value),
    Object(Object),
    /// A method that was named and not called.
    Method(Object, String),
}

/// What to do after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Go,
    Quit,
}

/// Why a line failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    Syntax(SyntaxError),
    Call(Error),
    /// What was typed makes no sense.
    Sense(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Syntax(error) => error.fmt(f),
            Self::Call(error) => f.write_str(&harmless(&format!("{error:#}")).replace('\n', " ")),
            Self::Sense(text) => f.write_str(text),
        }
    }
}

impl Trouble {
    /// Where Python raised it, ready to be shown.
    pub(crate) fn traceback(&self) -> Option<String> {
        match self {
            Self::Call(error) => python::traceback(error).map(|text| harmless(&text)),
            Self::Syntax(_) | Self::Sense(_) => None,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<SyntaxError> for Trouble {
    fn from(error: SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

type Did<T> = Result<T, Trouble>;

/// Where text for people goes.
pub(crate) type Say<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Items of a stream that are gathered to be shown, at most.
const MANY: usize = 10_000;
/// Bytes of a stream that are gathered to be shown, at most.
const LARGE: usize = 1 << 20;
/// How long a stream is read to be shown.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) const HELP: &str = "\
\x20 files.list(\"/tmp\")      call a method of what the peer shows first (`root`)
  x = root.files          keep a result; _ is the last one
  x.title = \"a\"           write a property
  x.read_at(0, len = 10)  arguments by place, then by name
  [1, \"a\", x], {k: 1}     lists, maps; Point {x: 1}, Shape::Circle(3): structs
  dir x                   what it has            doc x, x.method?   what that is
  iter x                  everything in it, or that comes from it
  vars, del x             variables              quit, Ctrl-D       the end
  Tab completes names. Ctrl-C gives up a call that is under way.";

impl Session {
    pub(crate) fn new(root: Object, style: Style, dialect: Dialect) -> Self {
        let variables = BTreeMap::from([("root".to_owned(), Held::Object(root.clone()))]);
        Self {
            root,
            variables,
            style,
            is_python: dialect == Dialect::Rpyc,
        }
    }

    /// Whether the peer is one.
    pub(crate) const fn is_python(&self) -> bool {
        self.is_python
    }

    /// Shows so many lines of a result at most.
    pub(crate) const fn set_lines(&mut self, lines: Option<usize>) {
        self.style.lines = lines;
    }

    /// Does what a line says.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the call that is under way.
    pub(crate) async fn run(&mut self, line: &str, say: Say<'_>) -> Did<Then> {
        match parse(line)? {
            Statement::Nothing => {}
            Statement::Quit => return Ok(Then::Quit),
            Statement::Help => say(HELP),
            Statement::Vars => {
                for (name, held) in &self.variables {
                    let text = match held {
                        Held::Value(value) => cut(&value.to_string()),
                        Held::Object(object) => format!("<{}>", name_of(object).await),
                        Held::Method(_, method) => format!("method {method}"),
                    };
                    say(&format!("{name} = {}", harmless(&text)));
                }
            }
            Statement::Del(name) => {
                if self.variables.remove(&name).is_none() {
                    return Err(Trouble::Sense(format!("there is no variable `{name}`")));
                }
            }
            Statement::Assign(name, of) => {
                let held = self.value(&of).await?;
                self.variables.insert(name, held);
            }
            Statement::Set(of, name, to) => {
                let to = self.plain(&to).await?;
                let object = self.object(&of).await?;
                object.set(&name, to).await?;
            }
            Statement::Dir(of) => self.dir(of, say).await?,
            Statement::Doc(of) => self.doc(of, say).await?,
            Statement::Iter(of) => self.iter(&of, say).await?,
            Statement::Show(of) => {
                let held = self.value(&of).await?;
                let held = self.show(held, say).await?;
                self.variables.insert("_".to_owned(), held);
            }
        }
        Ok(Then::Go)
    }

    /// The names of variables.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// The object that a path of names leads to, for completion: no method is called.
    pub(crate) async fn look_up(&self, path: &[&str]) -> Option<Object> {
        let (first, rest) = match path.split_first() {
            None => return Some(self.root.clone()),
            Some(split) => split,
        };
        let mut held = match self.variables.get(*first) {
            Some(held) => held.clone(),
            None if self.is_python => hold(python::first(&self.root, first).await.ok()?),
            None => hold(self.root.get(first).await.ok()?),
        };
        for name in rest {
            held = member(held, name).await.ok()?;
        }
        match held {
            Held::Object(object) => Some(object),
            _ => None,
        }
    }

    fn value<'a>(&'a self, of: &'a Expression) -> farref::BoxFuture<'a, Did<Held>> {
        Box::pin(async move {
            Ok(match of {
                Expression::Literal(value) if self.is_python && !matches!(value, Value::Str(_)) => {
                    Held::Value(python::literal(value.clone()))
                }
                Expression::Literal(value) => Held::Value(value.clone()),
                Expression::Name(name) => match self.variables.get(name) {
                    Some(held) => held.clone(),
                    None if self.is_python => hold(python::first(&self.root, name).await?),
                    None => member(Held::Object(self.root.clone()), name).await?,
                },
                Expression::Member(of, name) => {
                    let held = self.value(of).await?;
                    member(held, name).await?
                }
                Expression::Call(of, name, given) => {
                    let (object, name) = match of {
                        Some(of) => (self.object(of).await?, Some(name.clone())),
                        None => match self.variables.get(name) {
                            // A method that was kept.
                            Some(Held::Method(object, method)) => (object.clone(), Some(method.clone())),
                            Some(Held::Object(object)) => (object.clone(), None),
                            _ if self.is_python => {
                                (as_object(hold(python::first(&self.root, name).await?))?, None)
                            }
                            _ => (self.root.clone(), Some(name.clone())),
                        },
                    };
                    let mut arguments = Arguments::new();
                    for (name, value) in given {
                        let value = self.plain(value).await?;
                        arguments = match name {
                            Some(name) => arguments.named(name.clone(), value),
                            None => arguments.with(value),
                        };
                    }
                    hold(match name {
                        Some(name) => object.call(&name, arguments).await?,
                        None => object.invoke(arguments).await?,
                    })
                }
                Expression::Index(of, key) => {
                    let key = self.plain(key).await?;
                    match self.value(of).await? {
                        Held::Object(object) => hold(object.index(key).await?),
                        Held::Value(value) => hold(element(&value, &key)?),
                        Held::Method(..) => {
                            return Err(Trouble::Sense("a method has no elements: call it".into()));
                        }
                    }
                }
                Expression::List(items) => Held::Value(Value::List(self.all(items).await?)),
                Expression::Tuple(items) => Held::Value(Value::Tuple(self.all(items).await?)),
                Expression::Map(entries) => {
                    let mut map = Vec::new();
                    for (key, value) in entries {
                        map.push((self.plain(key).await?, self.plain(value).await?));
                    }
                    Held::Value(Value::Map(map))
                }
                Expression::Struct(form, fields) => {
                    let mut values = Vec::new();
                    for (name, value) in fields {
                        values.push((name.clone(), self.plain(value).await?));
                    }
                    Held::Value(form.with(values))
                }
            })
        })
    }

    async fn all(&self, items: &[Expression]) -> Did<Vec<Value>> {
        let mut values = Vec::new();
        for item in items {
            values.push(self.plain(item).await?);
        }
        Ok(values)
    }

    /// As a value, in which objects are references.
    async fn plain(&self, of: &Expression) -> Did<Value> {
        match self.value(of).await? {
            Held::Value(value) => Ok(value),
            Held::Object(object) => Ok(object.into()),
            Held::Method(_, name) => Err(Trouble::Sense(format!("`{name}` is a method: call it"))),
        }
    }

    async fn object(&self, of: &Expression) -> Did<Object> {
        as_object(self.value(of).await?)
    }

    async fn dir(&self, of: Option<Expression>, say: Say<'_>) -> Did<()> {
        let object = match of {
            None => self.root.clone(),
            Some(of) => match self.value(&of).await? {
                Held::Object(object) => object,
                Held::Value(Value::Record(record)) => {
                    for name in record.field_names().into_iter().flatten() {
                        say(name);
                    }
                    return Ok(());
                }
                _ => return Err(Trouble::Sense("that is no object".into())),
            },
        };
        let description = object.describe().await?;
        if self.style.json {
            let names = description.names();
            self.say_value(&Value::List(names.into_iter().map(Value::from).collect()), say);
            return Ok(());
        }
        for line in summary(&description, self.is_python) {
            say(&harmless(&line));
        }
        Ok(())
    }

    async fn doc(&self, of: Option<Expression>, say: Say<'_>) -> Did<()> {
        if let (true, Some(of)) = (self.is_python, &of) {
            match self.value(of).await? {
                Held::Object(object) => say(harmless(&python::doc(&object).await?).trim_end()),
                Held::Value(value) => say(value.kind()),
                Held::Method(_, name) => say(&harmless(&name)),
            }
            return Ok(());
        }
        let (object, method) = match of {
            None => (self.root.clone(), None),
            // A property is not read to say what it is.
            Some(Expression::Member(of, name)) => (self.object(&of).await?, Some(name)),
            Some(Expression::Name(name)) if !self.variables.contains_key(&name) => {
                (self.root.clone(), Some(name))
            }
            Some(of) => match self.value(&of).await? {
                Held::Object(object) => (object, None),
                Held::Method(object, name) => (object, Some(name)),
                Held::Value(value) => {
                    say(value.kind());
                    return Ok(());
                }
            },
        };
        match method {
            None => say(harmless(&object.describe().await?.to_string()).trim_end()),
            Some(name) => say(&harmless(&about(&object, &name).await?)),
        }
        Ok(())
    }

    /// Everything in something, or that comes from it.
    async fn iter(&self, of: &Expression, say: Say<'_>) -> Did<()> {
        let object = match self.value(of).await? {
            Held::Object(object) => object,
            Held::Value(value) => {
                match &value {
                    Value::Map(entries) => {
                        for (key, value) in entries {
                            say(&harmless(&format!("{key}: {value}")));
                        }
                    }
                    Value::List(items) | Value::Tuple(items) => {
                        for item in items {
                            self.say_value(item, say);
                        }
                    }
                    other => self.say_value(other, say),
                }
                return Ok(());
            }
            Held::Method(_, name) => return Err(Trouble::Sense(format!("`{name}` is a method: call it"))),
        };
        let referred = match self.is_python {
            true => Referred::Object(String::new()),
            false => referred(&object).await?,
        };
        match referred {
            Referred::Object(_) => {
                let mut items = object.iter();
                while let Some(item) = items.next().await {
                    self.say_value(&item?, say);
                }
            }
            Referred::Items(mut items) => {
                while let Some(item) = items.next().await {
                    self.say_value(&item?, say);
                }
            }
            Referred::Bytes(mut bytes) => {
                while let Some(piece) = bytes.next().await {
                    let piece = piece?;
                    say(harmless(&String::from_utf8_lossy(&piece)).trim_end_matches('\n'));
                }
            }
        }
        Ok(())
    }

    /// Shows a result; what to keep of it. A stream that ends soon is kept as what came from it.
    async fn show(&self, held: Held, say: Say<'_>) -> Did<Held> {
        let object = match held {
            Held::Value(value) => {
                if !value.is_null() || self.style.json {
                    self.say_value(&value, say);
                }
                return Ok(Held::Value(value));
            }
            Held::Method(object, name) => {
                say(&harmless(&about(&object, &name).await?));
                return Ok(Held::Method(object, name));
            }
            Held::Object(object) => object,
        };
        if self.is_python {
            match self.style.json {
                true => self.say_value(&python::data(&object).await?, say),
                false => self.say_value_or(&Value::Null, &object.repr().await?, say),
            }
            return Ok(Held::Object(object));
        }
        let start = Instant::now();
        match referred(&object).await? {
            Referred::Object(name) => {
                self.say_value_or(&Value::from(format!("<{name}>")), &format!("<{name}>"), say);
                Ok(Held::Object(object))
            }
            Referred::Items(mut items) => {
                let mut gathered = Vec::new();
                let is_end = loop {
                    let left = PATIENCE.saturating_sub(start.elapsed());
                    match tokio::time::timeout(left, items.next()).await {
                        Ok(Some(item)) => gathered.push(item?),
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                    if gathered.len() >= MANY {
                        break false;
                    }
                };
                let list = Value::List(gathered);
                self.say_value(&list, say);
                self.say_more(is_end, say);
                Ok(Held::Value(list))
            }
            Referred::Bytes(mut bytes) => {
                let mut gathered = Vec::new();
                let is_end = loop {
                    let left = PATIENCE.saturating_sub(start.elapsed());
                    match tokio::time::timeout(left, bytes.next()).await {
                        Ok(Some(piece)) => gathered.extend_from_slice(&piece?),
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                    if gathered.len() >= LARGE {
                        break false;
                    }
                };
                let value = match String::from_utf8(gathered) {
                    Ok(text) => Value::from(text),
                    Err(error) => Value::bytes(error.into_bytes()),
                };
                match &value {
                    Value::Str(text) => self.say_value_or(&value, text.trim_end_matches('\n'), say),
                    value => self.say_value(value, say),
                }
                self.say_more(is_end, say);
                Ok(Held::Value(value))
            }
        }
    }

    /// Says that a stream has not ended, if so.
    fn say_more(&self, is_end: bool, say: Say<'_>) {
        if !is_end && !self.style.json {
            say("... more may come: `iter` and what was typed here shows everything");
        }
    }

    fn say_value(&self, value: &Value, say: Say<'_>) {
        let text = match value {
            // With its quotes: it is to be told from a number.
            Value::Str(text) if text.lines().count() < 2 => value.to_string(),
            value => shown(value, self.style.colours),
        };
        self.say_value_or(value, &text, say);
    }

    /// A value as JSON, or else `text`, of which no more is shown than fits.
    fn say_value_or(&self, value: &Value, text: &str, say: Say<'_>) {
        if self.style.json {
            let mut text = String::new();
            json(value, &mut text);
            say(&text);
            return;
        }
        let text = crate::output::tame(text);
        let width = self.style.lines.and_then(|_| crate::output::width());
        let text = match value.as_str() {
            Some(_) => text,
            None => crate::output::clip(&text, width),
        };
        let count = text.lines().count();
        match self.style.lines {
            Some(most) if count > most.max(4) => {
                let most = most.max(4).saturating_sub(1);
                let first: Vec<_> = text.lines().take(most).collect();
                say(&first.join("\n"));
                say(&format!(
                    "... and {} more lines: `iter _` shows all",
                    count.saturating_sub(most)
                ));
            }
            _ => say(&text),
        }
    }
}

fn hold(value: Value) -> Held {
    match Object::try_from(&value) {
        Ok(object) => Held::Object(object),
        Err(_) => Held::Value(value),
    }
}

async fn member(of: Held, name: &str) -> Did<Held> {
    match of {
        Held::Object(object) => match object.get(name).await {
            Ok(value) => Ok(hold(value)),
            Err(error) if error.kind() == ErrorKind::Unimplemented => {
                // It may be a method, which is named to be looked at.
                let description = object.describe().await?;
                match description.methods().any(|method| method.name == name) {
                    true => Ok(Held::Method(object, name.to_owned())),
                    false => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        },
        Held::Value(value) => match value.get(name) {
            Some(field) => Ok(hold(field.clone())),
            None => Err(Trouble::Sense(format!(
                "{} has no field `{name}`",
                kind_of(&value)
            ))),
        },
        Held::Method(_, method) => Err(Trouble::Sense(format!("`{method}` is a method: call it"))),
    }
}

fn as_object(held: Held) -> Did<Object> {
    match held {
        Held::Object(object) => Ok(object),
        Held::Value(value) => Err(Trouble::Sense(format!(
            "{} has no methods",
            cut(&value.to_string())
        ))),
        Held::Method(_, name) => Err(Trouble::Sense(format!("`{name}` is a method: call it"))),
    }
}

fn kind_of(value: &Value) -> String {
    match value.as_record() {
        Some(record) => record.type_name().to_owned(),
        None => value.kind().to_owned(),
    }
}

fn element(of: &Value, key: &Value) -> Did<Value> {
    let place = key.as_i64().and_then(|place| match place {
        // From the end, as in Python.
        ..0 => of.len().checked_sub(usize::try_from(place.unsigned_abs()).ok()?),
        _ => usize::try_from(place).ok(),
    });
    let found = match of {
        Value::Map(_) => of.get_key(key),
        _ => match key.as_str() {
            Some(name) => of.get(name),
            None => place.and_then(|place| of.at(place)),
        },
    };
    found
        .cloned()
        .ok_or_else(|| Trouble::Sense(format!("there is no element {key}; there are {}", of.len())))
}

async fn referred(object: &Object) -> Did<Referred> {
    let value = Value::from(object.clone());
    Referred::of(&value)
        .await
        .map_err(|failure| Trouble::Sense(failure.to_string()))
}

async fn name_of(object: &Object) -> String {
    match object.str().await {
        Ok(name) => harmless(&name),
        Err(error) => error.to_string(),
    }
}

/// The signature and documentation of a method.
async fn about(object: &Object, name: &str) -> Did<String> {
    let signature = object.signature(name).await?;
    let doc = object.doc(name).await?;
    Ok(if doc.is_empty() {
        signature
    } else {
        format!("{signature}\n{doc}")
    })
}

/// A line for each method and property: how it is called, and what it is about.
///
/// What arguments a method in Python takes is not told.
fn summary(description: &Description, is_python: bool) -> Vec<String> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for name in description.names() {
        let Some(method) = description.method(&name) else {
            continue;
        };
        let arguments: Vec<_> = method
            .arguments
            .iter()
            .map(|argument| argument.name.as_str())
            .collect();
        let how = match &method.property {
            Some(property) => property.clone(),
            None if is_python => format!("{name}(..)"),
            None => format!("{name}({})", arguments.join(", ")),
        };
        let doc = method.doc.lines().next().unwrap_or_default().to_owned();
        lines.push((how, doc));
    }
    let width = lines
        .iter()
        .map(|(how, _)| how.chars().count())
        .max()
        .unwrap_or(0)
        .min(32);
    lines
        .into_iter()
        .map(|(how, doc)| {
            let line = format!("{how:<width$}  {doc}");
            let line = line.trim_end();
            match line.char_indices().nth(79) {
                Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
                None => line.to_owned(),
            }
        })
        .collect()
}

/// The beginning of what may be long.
fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
