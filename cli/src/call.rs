//! `farref call`: one call, from a script.

use clap::Args;
use farref::object::Arguments;
use farref::transport::Dialect;
use farref::{Error, ErrorKind, Object, Value};

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::python;
use crate::results::print;

/// Call a method of whatever a peer shows, and print what it returns.
///
/// The path leads from what is shown first, by properties and by methods without arguments, to the method. Arguments are
/// literals, as they are printed: 12, 1.5, true, null, "text", [1, 2], {"k": 1}, b"bytes", Point {x: 1}. A word that is
/// none of them is a string. NAME=VALUE is an argument by its name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref call tcp://rig7:7000 system.facts
  farref call tcp://rig7:7000 files.list /tmp
  farref call unix:/run/bench voltage 3 gain=2.5
  farref call unix:/run/bench samples 100 --json       an item a line
  farref call unix:/run/bench                          what is there
  farref call rpyc://labpc os.listdir /data            of Python")]
pub(crate) struct Call {
    /// Where to dial
    address: String,
    /// What to call: names with dots between [default: show what there is]
    #[arg(value_name = "PATH.METHOD")]
    path: Option<String>,
    /// The arguments
    #[arg(value_name = "ARGUMENT", allow_negative_numbers = true)]
    arguments: Vec<String>,
}

impl Call {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let (connection, root, dialect) = global.root(&self.address).await?;
        connection.call_timeout(global.limit());
        let Some(path) = &self.path else {
            let described = root.describe().await;
            let described = described.map_err(|error| Failure::of("cannot ask what is there", &error))?;
            let mut out = crate::output::Out::new(global);
            out.bytes(crate::output::harmless(&described.to_string()).as_bytes())?;
            return out.finish();
        };
        let path = path.strip_prefix("root.").unwrap_or(path);
        let (way, method) = path.rsplit_once('.').unwrap_or(("", path));
        let failed = |error: Error| {
            let is_unknown = error.kind() == ErrorKind::Unimplemented;
            let failure = Failure::of(format_args!("`{path}`"), &error);
            if let Some(traceback) = python::traceback(&error) {
                return match global.verbose {
                    0 => failure.hint("-v shows where that was raised"),
                    _ => failure.with_traceback(&traceback),
                };
            }
            match (is_unknown, way) {
                (true, "") => failure.hint(format_args!("farref call {} shows what is there", self.address)),
                (true, _) => failure.hint(format_args!(
                    "farref shell {} -c 'dir {way}' shows what is there",
                    self.address
                )),
                (false, _) => failure,
            }
        };
        if dialect == Dialect::Rpyc {
            let arguments = arguments(&self.arguments, |text| python::literal(literal(text)))?;
            let called = async { python::call(python::follow(&root, path).await?, arguments).await };
            let value = called.await.map_err(failed)?;
            print(value, global, dialect).await?;
            connection.close().await;
            return Ok(());
        }
        let mut object = root;
        for name in way.split('.').filter(|name| !name.is_empty()) {
            let value = object.call(name, ()).await.map_err(failed)?;
            object = Object::try_from(&value).map_err(|_| {
                Failure::of(
                    format_args!("`{path}`"),
                    &Error::new(
                        ErrorKind::Unimplemented,
                        format!("`{name}` is no object, but {value}"),
                    ),
                )
            })?;
        }
        let value = object
            .call(method, arguments(&self.arguments, literal)?)
            .await
            .map_err(failed)?;
        print(value, global, dialect).await?;
        connection.close().await;
        Ok(())
    }
}

/// Arguments as they were typed.
fn arguments(texts: &[String], read: impl Fn(&str) -> Value) -> Outcome<Arguments> {
    let mut arguments = Arguments::new();
    let mut last_name = None;
    for text in texts {
        match named(text) {
            Some((name, value)) => {
                arguments = arguments.named(name, read(value));
                last_name = Some(name);
            }
            None => match last_name {
                None => arguments = arguments.with(read(text)),
                Some(name) => {
                    return Err(Failure::usage(format_args!(
                        "`{text}` stands behind `{name}=..`: arguments by place come first"
                    )));
                }
            },
        }
    }
    Ok(arguments)
}

/// `name=value`.
fn named(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c == '_' || c.is_ascii_lowercase());
    (starts && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())).then_some((name, value))
}

/// A literal; a word that is none is a string.
pub(crate) fn literal(text: &str) -> Value {
    match text.parse() {
        // `Point` alone would be a struct without fields: more often it is a word.
        Ok(Value::Record(record)) if record.values().is_empty() => Value::from(text),
        Ok(value) => value,
        Err(_) => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> String {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        arguments(&texts, literal)
            .map_or_else(|failure| failure.to_string(), |arguments| arguments.to_string())
    }

    #[test]
    fn arguments_are_literals_or_words() {
        let read_all = read(&[
            "3", "1.5", "true", "/tmp", "word", "\"3\"", "[1, a]", "-1", "b\"x\"", "P {x: 1}", "",
        ]);
        assert_eq!(
            read_all,
            "(3, 1.5, true, \"/tmp\", \"word\", \"3\", [1, a], -1, b\"x\", P {x: 1}, \"\")"
        );
        assert_eq!(read(&["1", "gain=2", "to=/a=b"]), "(1, gain = 2, to = \"/a=b\")");
        assert_eq!(read(&["A=1", "/x=1"]), "(\"A=1\", \"/x=1\")");
        assert!(read(&["gain=2", "1"]).contains("arguments by place come first"));
    }
}
