//! What a call returned, for people or for programs: values, streams and objects.

use std::io::IsTerminal;
use std::time::Duration;

use farref::transport::Dialect;
use farref::{ByteStream, Error, ErrorKind, Object, Stream, Value, from_value};

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::output::Out;

/// Prints a result; streams as they come.
pub(crate) async fn print(value: Value, global: &Global, dialect: Dialect) -> Outcome {
    let mut out = Out::new(global);
    match &value {
        Value::Reference(_) if dialect == Dialect::Rpyc => {
            let failed = |error| Failure::of("the result", &error);
            let object = Object::try_from(&value).map_err(Failure::usage)?;
            if global.json {
                out.json(&crate::python::data(&object).await.map_err(failed)?)?;
            } else {
                let text = object.repr().await.map_err(failed)?;
                out.line(&crate::output::harmless(&text))?;
            }
        }
        Value::Reference(_) => match Referred::of(&value).await? {
            Referred::Object(name) if global.json => out.json(&Value::from(format!("<{name}>")))?,
            Referred::Object(name) => out.line(&format!("<{name}>"))?,
            Referred::Items(items) => all(items, global, &mut out).await?,
            Referred::Bytes(mut bytes) => {
                while let Some(piece) = bytes.next().await {
                    out.bytes(&piece.map_err(|error| ended_early(&error))?)?;
                    out.flush()?;
                }
            }
        },
        Value::Null if !global.json => {}
        Value::Bytes(bytes) if !global.json && !std::io::stdout().is_terminal() => out.bytes(bytes)?,
        value if global.json => out.json(value)?,
        value => out.value(value)?,
    }
    out.finish()
}

/// What a reference leads to.
pub(crate) enum Referred {
    /// An object, and what it says it is.
    Object(String),
    Items(Items),
    Bytes(ByteStream),
}

/// A stream of items, the first of which was read to find out that it is one.
pub(crate) struct Items {
    first: Option<Result<Value, Error>>,
    rest: Stream<Value>,
}

/// The interface of streams.
const STREAM: &str = "farref.Source";

impl Referred {
    pub(crate) async fn of(value: &Value) -> Outcome<Self> {
        let failed = |error| Failure::of("the result", &error);
        let object = Object::try_from(value).map_err(Failure::usage)?;
        let name = object.str().await.map_err(failed)?;
        if name != STREAM {
            return Ok(Self::Object(crate::output::harmless(&name)));
        }
        let mut rest: Stream<Value> = from_value(value).map_err(Failure::usage)?;
        match rest.next().await {
            // One of bytes: nothing was taken from it.
            Some(Err(error)) if error.kind() == ErrorKind::SchemaMismatch => {
                from_value(value).map(Self::Bytes).map_err(Failure::usage)
            }
            first => Ok(Self::Items(Items { first, rest })),
        }
    }
}

impl Items {
    /// The next item.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<Value, Error>> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.rest.next().await,
        }
    }

    /// As many as come before a pause, and whether that was the end.
    pub(crate) async fn some(&mut self, most: usize) -> (Vec<Value>, Result<bool, Error>) {
        /// Longer than it takes to make the next item of a list; shorter than one likes to wait for those that are there.
        const PAUSE: Duration = Duration::from_millis(150);
        let mut items = Vec::new();
        while items.len() < most {
            let next = match items.is_empty() {
                true => Ok(self.next().await),
                false => tokio::time::timeout(PAUSE, self.next()).await,
            };
            match next {
                Ok(Some(Ok(item))) => items.push(item),
                Ok(Some(Err(error))) => return (items, Err(error)),
                Ok(None) => return (items, Ok(true)),
                Err(_) => break,
            }
        }
        (items, Ok(false))
    }
}

/// Prints items as they come: each on a line as JSON, or as many as come at once as a table.
async fn all(mut items: Items, global: &Global, out: &mut Out) -> Outcome {
    loop {
        let most = if global.json { 1 } else { 1000 };
        let (some, end) = items.some(most).await;
        if global.json {
            for item in &some {
                out.json(item)?;
            }
        } else if !some.is_empty() {
            let is_text = some.iter().all(|item| item.as_str().is_some());
            let is_table = crate::output::is_table(&some);
            if is_table && !is_text {
                out.value(&Value::List(some))?;
            } else {
                for item in &some {
                    out.value(item)?;
                }
            }
        }
        out.flush()?;
        if end.map_err(|error| ended_early(&error))? {
            return Ok(());
        }
    }
}

fn ended_early(error: &Error) -> Failure {
    Failure::of("the stream ended early", error)
}
