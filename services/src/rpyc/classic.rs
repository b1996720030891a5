//! A Python interpreter that does what it is told: RPyC's classic mode.
//!
//! ```text
//!   Classic ── getmodule("os.path") ──► SlaveService ── import ──► modules
//!    │ eval, execute ─────────────────►      │
//!    │ namespace ──────────────────────►     └─ namespace, a dict
//!    ├─ transfer: builtins.open, os        files and directories, both ways
//!    └─ output: sys.stdout, sys.stderr     what is printed there, shown here
//! ```
//!
//! The peer is started by `rpyc_classic.py` (`rpyc_classic` from version 5 on), or serves RPyC's `SlaveService` (`rpyc/core/service.py`,
//! 4.1 to 6.0). **Such a server lets whoever reaches it do all that its user may do.** Have it listen on loopback and go there by
//! ssh, on a Unix socket, or behind TLS with certificates of clients.

mod output;
mod transfer;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use farref_boxing::{Error, ErrorKind, Result, Value};
use farref_netref::object::Arguments;
use farref_netref::rpyc::Exception;
use farref_netref::{Call, Connection, Object};
use serde::Serialize;

pub use self::output::{Output, Redirected};

/// A classic server: an interpreter that imports, evaluates and executes.
///
/// Clones are the same one. Each method gives a [`Call`] or a future: await it, or [`wait`](Call::wait) for the call on a thread
/// that may.
///
/// ```no_run
/// # extern crate farref_netref as farref;
/// use farref::{Object, Result};
/// use farref_services::rpyc::classic::Classic;
///
/// # async fn example() -> Result<()> {
/// let connection = farref_services::connect("rpyc://127.0.0.1").await?;
/// let python = Classic::of(&connection).await?;
///
/// let path = python.module("os.path").await?;
/// assert_eq!(path.call("basename", ("/tmp/data.csv",)).await?.as_str(), Some("data.csv"));
///
/// python.execute("import math\ndef area(radius): return math.pi * radius ** 2").await?;
/// let area = Object::try_from(python.namespace().get("area").await?)?;
/// println!("{}", area.invoke((2.0,)).await?);
///
/// // Lists and other containers stay there, until they are obtained.
/// let squares = python.eval("[n * n for n in range(4)]").await?;
/// assert_eq!(python.obtain(squares).await?, "[0, 1, 4, 9]".parse()?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of any call. What Python raised is an [`Exception`] within the error. [`ErrorKind::Incompatible`] if the peer is no
/// classic server.
#[derive(Clone)]
pub struct Classic(Arc<Far>);

struct Far {
    root: Object,
    /// Modules by their names, each of which the peer was asked for once.
    modules: Mutex<HashMap<String, Object>>,
}

impl Classic {
    /// The classic server at the other end.
    ///
    /// # Errors
    ///
    /// As for [`Connection::object`]. Whether the peer is a classic server shows when it is used.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn of(connection: &Connection) -> Result<Self> {
        Ok(Self::new(connection.object().await?))
    }

    /// The classic server with this root.
    #[must_use]
    pub fn new(root: Object) -> Self {
        Self(Arc::new(Far {
            root,
            modules: Mutex::default(),
        }))
    }

    /// What the server showed first: RPyC's `SlaveService`.
    #[must_use]
    pub fn root(&self) -> &Object {
        &self.0.root
    }

    /// A module, which is imported over there if it is not yet. It is asked for once, and then known.
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: Python's `ModuleNotFoundError` or `ImportError`, and whatever the module raises when it
    /// is run.
    pub fn module(&self, name: &str) -> Call<Result<Object>> {
        let (this, name) = (self.clone(), name.to_owned());
        Call::local(async move {
            if let Some(module) = this.known().get(&name) {
                return Ok(module.clone());
            }
            let module = object(this.of_root("getmodule", (name.as_str(),)).await?)?;
            this.known().insert(name, module.clone());
            Ok(module)
        })
    }

    /// Several modules: the requests go out together.
    ///
    /// ```no_run
    /// # async fn example(python: farref_services::rpyc::classic::Classic) -> farref_netref::Result<()> {
    /// let [os, sys] = python.modules(["os", "sys"]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`module`](Self::module): the first that there is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped; modules may have been imported.
    pub async fn modules<const N: usize>(&self, names: [&str; N]) -> Result<[Object; N]> {
        let calls = names.map(|name| self.module(name).start());
        let mut found = Vec::with_capacity(N);
        for call in calls {
            found.push(call.await?);
        }
        found
            .try_into()
            .map_err(|_| Error::new(ErrorKind::Broken, "there are fewer modules than names"))
    }

    /// A module made of this source text, which needs no file over there: from now on Python can import it by its name, and
    /// shows its lines in tracebacks. It takes the place of one with that name.
    ///
    /// ```no_run
    /// # async fn example(python: farref_services::rpyc::classic::Classic) -> farref_netref::Result<()> {
    /// let lab = python.define("lab", "def double(x):\n    return 2 * x\n").await?;
    /// assert_eq!(lab.call("double", (21,)).await?.as_i64(), Some(42));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: Python's `SyntaxError`, and whatever the text raises when it is run; then there is no
    /// module of that name.
    pub fn define(&self, name: &str, source: &str) -> Call<Result<Object>> {
        let (this, name, source) = (self.clone(), name.to_owned(), source.to_owned());
        Call::local(async move {
            this.known().remove(&name);
            let [builtins, types, sys, linecache] =
                this.modules(["builtins", "types", "sys", "linecache"]).await?;
            let file = format!("<{name} from afar>");
            let code = builtins.call("compile", (&source, &file, "exec")).await?;
            // Where tracebacks look for it: its length, no time at which it might have changed, its lines.
            let lines: Vec<Value> = source.split_inclusive('\n').map(Value::from).collect();
            let lines = builtins.call("list", (Value::Tuple(lines),)).await?;
            let entry = (source.len(), (), lines, &file);
            let cache = object(linecache.get("cache").await?)?;
            cache.set_index(&file, entry).await?;
            let module = object(types.call("ModuleType", (&name,)).await?)?;
            module.set("__file__", &file).await?;
            let modules = object(sys.get("modules").await?)?;
            modules.set_index(&name, &module).await?;
            let space = object(module.get("__dict__").await?)?;
            if let Err(error) = builtins.call("exec", (code, space)).await {
                modules.call("pop", (&name, ())).await?;
                return Err(error);
            }
            this.known().insert(name, module.clone());
            Ok(module)
        })
    }

    /// The module `builtins`: `len`, `open`, `int` and their like.
    ///
    /// # Errors
    ///
    /// Those of [`Classic`].
    pub fn builtins(&self) -> Call<Result<Object>> {
        self.module(BUILTINS)
    }

    /// What an expression comes to, in the server's [namespace](Self::namespace): plain and immutable values by value, all
    /// else as an object.
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: what the expression raises.
    pub fn eval(&self, expression: &str) -> Call<Result<Value>> {
        self.of_root("eval", (expression,))
    }

    /// Runs statements in the server's [namespace](Self::namespace).
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: what the statements raise.
    pub fn execute(&self, statements: &str) -> Call<Result<()>> {
        let executed = self.of_root("execute", (statements,));
        Call::local(async move { executed.await.map(drop) })
    }

    /// The names that [`eval`](Self::eval) and [`execute`](Self::execute) see. They are those of this connection: RPyC makes a
    /// namespace for each.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace(self.clone())
    }

    /// Whether an object is of that class, as Python's `isinstance` says. `object` may be any value.
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: Python's `TypeError` if `class` is none.
    pub fn isinstance(&self, object: impl Serialize, class: &Object) -> Call<Result<bool>> {
        let arguments = Arguments::new().with(object).with(class);
        let builtins = self.builtins();
        Call::local(async move {
            let told = builtins.await?.call("isinstance", arguments).await?;
            told.as_bool()
                .ok_or_else(|| Error::new(ErrorKind::Broken, "isinstance gave no boolean"))
        })
    }

    /// A copy of a value: what it refers to is [fetched](Object::fetch), other values are what they are.
    ///
    /// # Errors
    ///
    /// As for [`Object::fetch`].
    pub fn obtain(&self, value: impl Into<Value>) -> Call<Result<Value>> {
        match value.into() {
            value @ Value::Reference(_) => match object(value) {
                Ok(object) => object.fetch(),
                Err(error) => Call::local(std::future::ready(Err(error))),
            },
            value => Call::local(std::future::ready(Ok(value))),
        }
    }

    /// Copies a file, or a directory with all that is in it, from here to there; so many bytes were copied.
    ///
    /// Directories that are not there are made, files that are there are written over. Links are followed to files. In a
    /// directory, links to directories are left out, and so is what is neither a file nor a directory. 64,000 bytes are under
    /// way at a time (as `rpyc.classic.upload` does), and as many read ahead. What is there when it fails stays there.
    /// Names that are no UTF-8 fail it.
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: those of reading here, as [`std::io::Error`]; Python's `OSError` and its like;
    /// [`ErrorKind::Limit`] where directories are more than 64 deep.
    pub fn upload(&self, from: impl AsRef<Path>, to: impl Into<String>) -> Call<Result<u64>> {
        let (from, to): (PathBuf, String) = (from.as_ref().into(), to.into());
        Call::local(transfer::upload(self.clone(), from, to))
    }

    /// Copies a file, or a directory with all that is in it, from there to here; so many bytes were copied.
    ///
    /// As [`upload`](Self::upload). The names are the peer's: one that would lead out of `to` fails the copy.
    ///
    /// # Errors
    ///
    /// As for [`upload`](Self::upload); [`ErrorKind::Malformed`] for such a name; [`ErrorKind::Limit`] where directories have
    /// more in them than 256 MiB of paths.
    pub fn download(&self, from: impl Into<String>, to: impl AsRef<Path>) -> Call<Result<u64>> {
        let (from, to): (String, PathBuf) = (from.into(), to.as_ref().into());
        Call::local(transfer::download(self.clone(), from, to))
    }

    /// Shows here what is printed there, until that is [restored](Redirected::restore) or the guard is dropped.
    ///
    /// It is the interpreter's `sys.stdout` and `sys.stderr` that are set: what other clients of the same server print comes
    /// here as well. Each `print` over there waits until its text has been taken here.
    ///
    /// ```no_run
    /// use farref_services::rpyc::classic::{Classic, Output};
    ///
    /// # async fn example(python: Classic) -> farref_netref::Result<()> {
    /// let output = Output::lines(|line| println!("python: {line}"));
    /// let printing = python.redirect_output(output, Output::unchanged()).await?;
    /// python.execute("print('hello')").await?;
    /// printing.restore().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Classic`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what was set is restored.
    pub async fn redirect_output(&self, stdout: Output, stderr: Output) -> Result<Redirected> {
        output::redirect(self, stdout, stderr).await
    }

    /// Calls a method that every classic server has.
    fn of_root(&self, name: &'static str, arguments: impl Into<Arguments>) -> Call<Result<Value>> {
        let called = self.0.root.call(name, arguments);
        Call::local(async move {
            called.await.map_err(|error| {
                let is_none = error.kind() == ErrorKind::Unimplemented
                    && match error.downcast_ref::<Exception>() {
                        // Raised by the name itself, not by what was run.
                        Some(exception) => {
                            let text = exception.arguments().first().and_then(Value::as_str);
                            text.is_some_and(|text| text.contains(&format!("'{name}'")))
                        }
                        None => true,
                    };
                if is_none {
                    return error.context(NO_SERVER).with_kind(ErrorKind::Incompatible);
                }
                error
            })
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Object>> {
        self.0.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Classic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Classic")
    }
}

/// The names that are known where a [`Classic`] evaluates and executes.
#[derive(Debug, Clone)]
pub struct Namespace(Classic);

impl Namespace {
    /// The dictionary itself.
    ///
    /// # Errors
    ///
    /// Those of [`Classic`].
    pub fn object(&self) -> Call<Result<Object>> {
        let got = self.0.0.root.get("namespace");
        Call::local(async move { object(got.await?) })
    }

    /// What a name stands for.
    ///
    /// # Errors
    ///
    /// Besides those of [`Classic`]: Python's `KeyError` if there is no such name.
    pub fn get(&self, name: &str) -> Call<Result<Value>> {
        let (object, name) = (self.object(), name.to_owned());
        Call::local(async move { object.await?.index(name).await })
    }

    /// Has a name stand for a value: an object of this side, too.
    ///
    /// # Errors
    ///
    /// Those of [`Classic`].
    pub fn set(&self, name: &str, value: impl Serialize) -> Call<Result<()>> {
        let (object, name) = (self.object(), name.to_owned());
        let value = farref_boxing::to_value(&value);
        Call::local(async move {
            let value = value.map_err(|error| Error::wrap(ErrorKind::Misuse, error))?;
            object.await?.set_index(name, value).await
        })
    }

    /// Forgets a name.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub fn delete(&self, name: &str) -> Call<Result<()>> {
        let (object, name) = (self.object(), name.to_owned());
        Call::local(async move { object.await?.delete_index(name).await })
    }

    /// The names, in the order in which they came.
    ///
    /// # Errors
    ///
    /// Those of [`Classic`].
    pub fn names(&self) -> Call<Result<Vec<String>>> {
        let object = self.object();
        Call::local(async move {
            let mut items = object.await?.iter();
            let mut names = Vec::new();
            while let Some(name) = items.next().await {
                names.extend(name?.as_str().map(ToOwned::to_owned));
            }
            Ok(names)
        })
    }
}

/// What is no object is not what was asked for.
fn object(value: Value) -> Result<Object> {
    Object::try_from(value).map_err(|error| Error::wrap(ErrorKind::Malformed, error))
}

const BUILTINS: &str = "builtins";

const NO_SERVER: &str = "the peer is no classic server: it does not show RPyC's SlaveService";
