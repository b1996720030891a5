//! The reference service (`python/refsvc.py`) as a Rust program offers it to Python: the same names, the same results.
#![allow(non_snake_case, reason = "a class of Python's is called `Point`")]

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Index, Range};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use farref::object::{Arguments, Description, Dynamic, MethodDescription};
use farref::protocol::{self, Op};
use farref::rpyc::{Exception, Rpyc};
use farref::transport::address::Dialect;
use farref::transport::carrier::PeerEvidence;
use farref::transport::{Address, Carrier, Media};
use farref::{
    Config, Connection, Error, ErrorKind, Netref, Object, Parts, Peer, Result, Root, Value, WeakNetref,
    remote,
};
use farref_framing::Role;
use farref_framing::rpyc::frame_by_frame;

/// What a peer is offered.
#[remote(name = "Ref")]
pub trait RefService {
    #[property]
    fn version(&self) -> Result<i64>;

    /// Returns what it is given.
    fn echo(&self, value: Value) -> Result<Value>;

    /// Adds two values.
    fn add(&self, a: i64, b: Option<i64>) -> Result<i64>;

    /// Returns its arguments, those with names in the order of the names: a trait cannot say that.
    #[property]
    fn kw(&self) -> Result<Object>;

    /// The class of points: a trait cannot say that either.
    #[property]
    fn Point(&self) -> Result<Object>;

    fn none(&self) -> Result<()>;

    fn make_list(&self, n: i64) -> Result<Vec<i64>>;

    fn make_dict(&self) -> Result<Value>;

    fn make_point(&self, x: i64, y: i64) -> Result<Netref<dyn Point>>;

    fn make_bag(&self) -> Result<Object>;

    fn make_number(&self, n: i64) -> Result<Object>;

    fn make_series(&self, n: i64) -> Result<Netref<dyn Series>>;

    /// Gives the first n squares.
    fn make_gen(&self, n: i64) -> Result<Netref<dyn Squares>>;

    /// Returns a tuple of a value and a reference.
    fn pair(&self, n: i64) -> Result<(String, Vec<i64>)>;

    /// Keeps it until `drop`, and returns it.
    fn keep(&self, value: Value) -> Result<Value>;

    fn kept(&self) -> Result<Value>;

    fn drop(&self) -> Result<()>;

    /// Counts what this side holds for the peer beside the service itself.
    fn live(&self) -> Result<usize>;

    /// Counts how often it was read.
    #[property]
    fn counter(&self) -> Result<u32>;

    /// Adds what it iterates over.
    fn total(&self, items: Vec<i64>) -> Result<i64>;

    /// Calls it with up to two arguments.
    async fn call(&self, function: Object, first: Option<Value>, second: Option<Value>) -> Result<Value>;

    /// Has itself called by the peer, until n is 0.
    async fn recurse(&self, function: Object, n: i64) -> Result<Value>;

    /// Reads an attribute of the peer's object.
    async fn get(&self, holder: Object, name: String) -> Result<Value>;

    /// Sets an attribute of the peer's object.
    async fn set(&self, holder: Object, name: String, value: Value) -> Result<()>;

    /// Calls it n times without waiting for what it returns.
    fn events(&self, function: Object, n: i64) -> Result<i64>;

    /// Calls the peer's own service.
    async fn ask_root(&self) -> Result<Value>;

    /// Fails in the way that is asked for.
    fn fail(&self, how: &str) -> Result<()>;

    /// A context that is written down where it begins and ends.
    fn ctx(&self, name: String) -> Result<Netref<dyn Context>>;

    /// Returns what contexts wrote since it was last asked.
    fn ctx_log(&self) -> Result<Value>;

    async fn sleep(&self, seconds: f64) -> Result<f64>;
}

/// A point of the plane.
#[remote]
pub trait Point {
    #[property]
    fn x(&self) -> Result<i64>;

    #[property]
    fn y(&self) -> Result<i64>;

    /// Returns the square of its distance from the origin.
    fn norm2(&self) -> Result<i64>;

    /// Moves it, and returns itself.
    fn r#move(&self, dx: i64, dy: Option<i64>) -> Result<Netref<dyn Point>>;

    fn __add__(&self, by: i64) -> Result<Netref<dyn Point>>;
    fn __getitem__(&self, index: usize) -> Result<i64>;
}

/// Numbers that are looked at in place: each by its index, or one after the other.
#[remote]
pub trait Series {}

/// Squares, one after the other: what Python calls a generator.
#[remote]
pub trait Squares {
    fn __iter__(&self) -> Result<Netref<dyn Squares>>;
    fn __next__(&self) -> Result<i64>;
}

/// What is entered and left.
#[remote]
pub trait Context {
    fn enter(&self) -> Result<String>;
    fn exit(&self, exception: Option<String>) -> Result<()>;
}

/// The service of one connection.
#[derive(Default)]
pub struct Service {
    connection: OnceLock<Connection>,
    itself: OnceLock<WeakNetref<dyn RefService>>,
    kept: Mutex<Value>,
    log: Arc<Mutex<Vec<String>>>,
    counted: AtomicU32,
}

impl Service {
    /// A service, and what it is shown as.
    pub fn shown() -> (Arc<Self>, Netref<dyn RefService>) {
        let service = Arc::new(Self::default());
        let shown: Netref<dyn RefService> = Netref::share(&service);
        let _ = service.itself.set(shown.downgrade());
        (service, shown)
    }

    /// Tells it over which connection it is shown.
    pub fn join(&self, connection: Connection) {
        let _ = self.connection.set(connection);
    }

    fn connection(&self) -> Result<&Connection> {
        self.connection
            .get()
            .ok_or_else(|| Error::msg("there is no connection"))
    }
}

#[remote]
impl RefService for Service {
    fn version(&self) -> Result<i64> {
        Ok(7)
    }

    fn echo(&self, value: Value) -> Result<Value> {
        Ok(value)
    }

    fn add(&self, a: i64, b: Option<i64>) -> Result<i64> {
        Ok(a + b.unwrap_or(10))
    }

    fn kw(&self) -> Result<Object> {
        Ok(Object::dynamic(Keywords))
    }

    fn Point(&self) -> Result<Object> {
        Ok(Object::dynamic(PointClass))
    }

    fn none(&self) -> Result<()> {
        Ok(())
    }

    fn make_list(&self, n: i64) -> Result<Vec<i64>> {
        Ok((0..n).collect())
    }

    fn make_dict(&self) -> Result<Value> {
        let two: Value = vec![2, 3].into();
        Ok(Value::Map(vec![("a".into(), 1.into()), ("b".into(), two)]))
    }

    fn make_point(&self, x: i64, y: i64) -> Result<Netref<dyn Point>> {
        Ok(Place::at(x, y))
    }

    fn make_bag(&self) -> Result<Object> {
        let held = [("a".to_owned(), 1.into())];
        Ok(Object::dynamic(Bag(Mutex::new(held.into()))))
    }

    fn make_number(&self, n: i64) -> Result<Object> {
        Ok(Object::dynamic(Number(n)))
    }

    fn make_series(&self, n: i64) -> Result<Netref<dyn Series>> {
        Ok(Netref::of(Numbers((0..n).collect())))
    }

    fn make_gen(&self, n: i64) -> Result<Netref<dyn Squares>> {
        let squares = Arc::new(Rest {
            itself: OnceLock::new(),
            numbers: Mutex::new(0..n),
        });
        let shown: Netref<dyn Squares> = Netref::share(&squares);
        let _ = squares.itself.set(shown.downgrade());
        Ok(shown)
    }

    fn pair(&self, n: i64) -> Result<(String, Vec<i64>)> {
        Ok(("by-value".into(), (0..n).collect()))
    }

    fn keep(&self, value: Value) -> Result<Value> {
        self.kept.lock().unwrap().clone_from(&value);
        Ok(value)
    }

    fn kept(&self) -> Result<Value> {
        Ok(self.kept.lock().unwrap().clone())
    }

    fn drop(&self) -> Result<()> {
        // Outside the lock: what is kept may be the last of it.
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        std::mem::drop(kept);
        Ok(())
    }

    fn live(&self) -> Result<usize> {
        Ok(self.connection()?.stats().exports)
    }

    fn counter(&self) -> Result<u32> {
        Ok(self.counted.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn total(&self, items: Vec<i64>) -> Result<i64> {
        Ok(items.into_iter().sum())
    }

    async fn call(&self, function: Object, first: Option<Value>, second: Option<Value>) -> Result<Value> {
        let given = first.into_iter().chain(second);
        let arguments = given.fold(Arguments::new(), Arguments::with);
        function.invoke(arguments).await
    }

    async fn recurse(&self, function: Object, n: i64) -> Result<Value> {
        if n == 0 {
            return Ok(0.into());
        }
        let itself = self.itself.get().and_then(WeakNetref::upgrade);
        let itself = itself.ok_or_else(|| Error::msg("the service is gone"))?;
        let recurse: Netref<dyn Recurse> = Netref::of(Again(itself));
        function.invoke((recurse, &function, n - 1)).await
    }

    async fn get(&self, holder: Object, name: String) -> Result<Value> {
        holder.get(&name).await
    }

    async fn set(&self, holder: Object, name: String, value: Value) -> Result<()> {
        holder.set(&name, value).await
    }

    fn events(&self, function: Object, n: i64) -> Result<i64> {
        // They are on their way when this returns, in this order; nobody waits for what they return.
        for i in 0..n {
            tokio::spawn(function.invoke((i,)).start());
        }
        Ok(n)
    }

    async fn ask_root(&self) -> Result<Value> {
        let root = self.connection()?.object().await?;
        root.call("hello", ("from the server",)).await
    }

    fn fail(&self, how: &str) -> Result<()> {
        Err(match how {
            "value" => Exception::new("ValueError", [Value::from("bad value"), 5.into()]).into(),
            "os" => Exception::new(
                "FileNotFoundError",
                [Value::from(2), "No such file or directory".into()],
            )
            .with_attribute("errno", 2)
            .with_attribute("filename", "nowhere.txt")
            .into(),
            "key" => Exception::new("KeyError", ["missing"]).into(),
            "unicode" => Exception::new("ValueError", ["caf\u{e9} \u{1f600}"]).into(),
            "custom" => Exception::new("PointError", [Value::from("off the map"), 404.into()])
                .of_module("refsvc")
                .with_attribute("code", 404)
                .with_attribute("where", "[1, 2]")
                .into(),
            "stop" => Exception::new::<Value>("StopIteration", []).into(),
            "generator" => Exception::new("GeneratorExit", ["bye"]).into(),
            "exit" => Exception::new("SystemExit", [3]).with_attribute("code", 3).into(),
            _ => Error::msg("no such failure"),
        })
    }

    fn ctx(&self, name: String) -> Result<Netref<dyn Context>> {
        Ok(Netref::of(Entered {
            log: Arc::clone(&self.log),
            name,
        }))
    }

    fn ctx_log(&self) -> Result<Value> {
        let log = std::mem::take(&mut *self.log.lock().unwrap());
        Ok(Value::Tuple(log.into_iter().map(Value::from).collect()))
    }

    async fn sleep(&self, seconds: f64) -> Result<f64> {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(seconds)
    }
}

/// A method of the service as a function: Rust has no bound methods.
#[remote(closure)]
trait Recurse {
    async fn recurse(&self, function: Object, n: i64) -> Result<Value>;
}

struct Again(Netref<dyn RefService>);

#[remote]
impl Recurse for Again {
    async fn recurse(&self, function: Object, n: i64) -> Result<Value> {
        self.0.recurse(function, n).await
    }
}

/// A point.
struct Place {
    itself: OnceLock<WeakNetref<dyn Point>>,
    at: Mutex<[i64; 2]>,
}

impl Place {
    fn at(x: i64, y: i64) -> Netref<dyn Point> {
        let place = Arc::new(Self {
            itself: OnceLock::new(),
            at: Mutex::new([x, y]),
        });
        let shown: Netref<dyn Point> = Netref::share(&place);
        let _ = place.itself.set(shown.downgrade());
        shown
    }

    fn both(&self) -> [i64; 2] {
        *self.at.lock().unwrap()
    }

    fn len(&self) -> usize {
        2
    }
}

#[remote(str, eq, hash, len)]
impl Point for Place {
    fn x(&self) -> Result<i64> {
        Ok(self.both()[0])
    }

    fn y(&self) -> Result<i64> {
        Ok(self.both()[1])
    }

    fn norm2(&self) -> Result<i64> {
        let [x, y] = self.both();
        Ok(x * x + y * y)
    }

    fn r#move(&self, dx: i64, dy: Option<i64>) -> Result<Netref<dyn Point>> {
        let mut at = self.at.lock().unwrap();
        at[0] += dx;
        at[1] += dy.unwrap_or_default();
        gone(self.itself.get().and_then(WeakNetref::upgrade))
    }

    fn __add__(&self, by: i64) -> Result<Netref<dyn Point>> {
        let [x, y] = self.both();
        Ok(Self::at(x + by, y + by))
    }

    fn __getitem__(&self, index: usize) -> Result<i64> {
        let both = self.both();
        let found = both.get(index).copied();
        found.ok_or_else(|| Exception::new("IndexError", ["a point has two coordinates"]).into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y] = self.both();
        write!(f, "<{x}, {y}>")
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.both() == other.both()
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.both().hash(state);
    }
}

/// What takes whatever it is given.
struct Keywords;

impl Dynamic for Keywords {
    fn describe(&self) -> Description {
        Description::by_name("Keywords").with_operation("call")
    }

    fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
        let Op::Invoke = op else { return unknown(op) };
        let (positional, mut named) = arguments.into_parts();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let named = named
            .into_iter()
            .map(|(name, value)| Value::Tuple(vec![name.into(), value]))
            .collect();
        Ok(Value::Tuple(vec![Value::Tuple(positional), Value::Tuple(named)]))
    }
}

/// What makes points: a class to Python.
struct PointClass;

impl Dynamic for PointClass {
    fn describe(&self) -> Description {
        Description::by_name("Point").with_operation("class")
    }

    fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
        match (op, arguments.positional()) {
            (Op::Invoke, [x, y]) => Ok(Place::at(number(x)?, number(y)?).into()),
            _ => unknown(op),
        }
    }
}

/// An object that has whatever attributes it is given.
struct Bag(Mutex<BTreeMap<String, Value>>);

impl Dynamic for Bag {
    fn describe(&self) -> Description {
        ["get", "set", "delete"]
            .into_iter()
            .fold(Description::by_name("Bag"), Description::with_operation)
    }

    fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
        let mut held = self.0.lock().unwrap();
        let missing = |name: &str| Exception::new("AttributeError", [format!("no {name}")]).into();
        match op {
            Op::Get(name) => held.get(name).cloned().ok_or_else(|| missing(name)),
            Op::Set(name) => {
                let value = arguments.into_parts().0.into_iter().next();
                held.insert(name.clone(), value.unwrap_or_default());
                Ok(Value::Null)
            }
            Op::Delete(name) => match held.remove(name) {
                Some(_) => Ok(Value::Null),
                None => Err(missing(name)),
            },
            _ => unknown(op),
        }
    }
}

/// A number: conversions, arithmetic from both sides, order, truth, and a call.
struct Number(i64);

impl Dynamic for Number {
    fn describe(&self) -> Description {
        let described = [
            "__int__",
            "__float__",
            "__index__",
            "__bool__",
            "__neg__",
            "__sub__",
            "__rsub__",
        ]
        .into_iter()
        .map(MethodDescription::by_name)
        .fold(Description::by_name("Number"), Description::with_method);
        described.with_operation("call").with_operation("order")
    }

    fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
        let given: Result<Vec<i64>> = arguments.positional().iter().map(number).collect();
        let given = given?;
        let other = given.first().copied().unwrap_or_default();
        let new = |number| Ok(Object::dynamic(Self(number)).into());
        match op {
            Op::Invoke => Ok((self.0 + given.iter().sum::<i64>()).into()),
            Op::Repr | Op::Text => Ok(format!("Number({})", self.0).into()),
            Op::Order(protocol::Ordering::Less) => Ok((self.0 < other).into()),
            Op::Named(name) => match name.as_str() {
                "__int__" | "__index__" => Ok(self.0.into()),
                "__float__" => Ok((self.0 as f64).into()),
                "__bool__" => Ok((self.0 != 0).into()),
                "__neg__" => new(-self.0),
                "__sub__" => new(self.0 - other),
                "__rsub__" => new(other - self.0),
                _ => unknown(op),
            },
            _ => unknown(op),
        }
    }
}

fn number(value: &Value) -> Result<i64> {
    let wrong = || Exception::new("TypeError", [format!("{value} is no number")]).into();
    value.as_i64().ok_or_else(wrong)
}

fn unknown(op: &Op) -> Result<Value> {
    Err(Error::new(ErrorKind::Unimplemented, format!("it cannot {op}")))
}

/// A series.
struct Numbers(Vec<i64>);

#[remote(len, index, iter)]
impl Series for Numbers {}

impl Numbers {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Index<usize> for Numbers {
    type Output = i64;

    fn index(&self, index: usize) -> &i64 {
        &self.0[index]
    }
}

impl<'a> IntoIterator for &'a Numbers {
    type Item = &'a i64;
    type IntoIter = std::slice::Iter<'a, i64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Squares that are still to come.
struct Rest {
    itself: OnceLock<WeakNetref<dyn Squares>>,
    numbers: Mutex<Range<i64>>,
}

impl Squares for Rest {
    fn __iter__(&self) -> Result<Netref<dyn Squares>> {
        gone(self.itself.get().and_then(WeakNetref::upgrade))
    }

    fn __next__(&self) -> Result<i64> {
        let next = self.numbers.lock().unwrap().next();
        let next = next.map(|n| n * n);
        next.ok_or_else(|| Exception::new::<Value>("StopIteration", []).into())
    }
}

/// A context.
struct Entered {
    log: Arc<Mutex<Vec<String>>>,
    name: String,
}

impl Entered {
    fn write(&self, what: &str, name: &str) {
        self.log.lock().unwrap().push(format!("{what} {name}"));
    }
}

impl Context for Entered {
    fn enter(&self) -> Result<String> {
        self.write("enter", &self.name);
        Ok(self.name.to_uppercase())
    }

    fn exit(&self, exception: Option<String>) -> Result<()> {
        if let Some(exception) = exception {
            self.write("error", &exception);
        }
        self.write("exit", &self.name);
        Ok(())
    }
}

fn gone<T: ?Sized>(upgraded: Option<Netref<T>>) -> Result<Netref<T>> {
    upgraded.ok_or_else(|| Error::msg("the object is gone"))
}

/// A server that gives each connection a service of its own, which knows the connection, until this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: Address,
    accepting: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Listens at an address of the dialect.
    pub async fn at(address: &str) -> Self {
        let address: Address = address.parse().unwrap();
        let bare = address.with_dialect(Dialect::Native);
        let mut listener = Media::standard().listen(&bare).await.unwrap();
        let address = listener.local_addresses().remove(0).with_dialect(Dialect::Rpyc);
        let accepting = tokio::spawn(async move {
            while let Ok(carrier) = listener.accept().await {
                let (service, shown) = Service::shown();
                let joined = accept(carrier, Root::of(&shown)).await;
                service.join(joined);
            }
        });
        Self { address, accepting }
    }

    /// Where it listens.
    pub const fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Speaks RPyC over a carrier that was accepted.
pub async fn accept(carrier: Carrier, root: Root) -> Connection {
    let (inlet, outlet, _, guard) = farref_framing::open(frame_by_frame(carrier), Role::Listener)
        .await
        .unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("rpyc", None, PeerEvidence::None));
    parts.keep_open = true;
    parts.guard = guard;
    let config = Config::default();
    Connection::over(Rpyc::accept(root, &config), parts, true, config)
}
