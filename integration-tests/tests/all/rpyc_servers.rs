//! Python objects, and Rust that uses them: by name, and by a trait.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farref::object::Arguments;
use farref::protocol;
use farref::rpyc::Exception;
use farref::transport::Address;
use farref::{Connection, Error, ErrorKind, Netref, Object, Result, Value, connect, remote, to_value};
use farref_boxing::rpyc::{BigInt, Complex, Ellipsis, FrozenSet, NotImplemented, Slice};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::python::{Medium, Offer, Python, Served, Version};
use farref_integration_tests::rpyc_service::RefService;

/// A Python server, and a connection to it.
struct Far {
    connection: Connection,
    root: Object,
    _served: Served,
}

impl Far {
    async fn new(python: &Python, offer: Offer) -> Self {
        let served = python.serve(offer, Medium::Unix);
        let mut address = served.address().clone();
        if offer == Offer::Bound {
            address = address.with_option("bind-threads", "1").unwrap();
        }
        let connection = joined(&address).await;
        let root = within(connection.object()).await.unwrap();
        Self {
            connection,
            root,
            _served: served,
        }
    }

    async fn call(&self, name: &str, arguments: impl Into<Arguments>) -> Value {
        within(self.root.call(name, arguments)).await.unwrap()
    }

    /// What a method returns, which is an object.
    async fn make(&self, name: &str, arguments: impl Into<Arguments>) -> Object {
        object(self.call(name, arguments).await)
    }

    /// What a method raises.
    async fn raise(&self, name: &str, arguments: impl Into<Arguments>) -> Exception {
        raised(within(self.root.call(name, arguments)).await)
    }
}

/// Dials, and shows what this side has.
async fn joined(address: &Address) -> Connection {
    within(connect(address).serving::<dyn Greeter>(Host).into_future())
        .await
        .unwrap()
}

fn object(value: Value) -> Object {
    value.try_into().unwrap()
}

fn raised<T: std::fmt::Debug>(result: Result<T>) -> Exception {
    let error = result.unwrap_err();
    let exception = error.downcast_ref::<Exception>();
    exception
        .unwrap_or_else(|| panic!("{error:?} is no exception"))
        .clone()
}

fn value(value: impl serde::Serialize) -> Value {
    to_value(&value).unwrap()
}

fn tuple<const N: usize>(items: [Value; N]) -> Value {
    Value::Tuple(items.into())
}

#[remote(closure)]
trait Two {
    fn call(&self, a: i64, b: i64) -> Result<i64>;
}

#[remote(closure)]
trait One {
    fn call(&self, a: i64) -> Result<i64>;
}

#[remote(closure)]
trait Nothing {
    async fn call(&self) -> Result<i64>;
}

/// Runs a test with each version.
fn with_all<F: Future<Output = ()>>(test: impl Fn(Python) -> F) {
    for python in Python::all() {
        println!("RPyC {}", python.version().number());
        runtime().block_on(test(python));
    }
}

#[test]
fn values_go_there_and_back() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        assert_eq!(far.call("add", (3, 4)).await, 7.into());
        assert_eq!(far.call("exposed_add", (3, 4)).await, 7.into());
        let arguments = Arguments::from((3,)).named("b", 5);
        assert_eq!(far.call("add", arguments).await, 8.into());
        let arguments = Arguments::from((1, "two"))
            .named("z", 3)
            .named("y", Value::bytes(b"4".to_vec()));
        let told = tuple([
            tuple([1.into(), "two".into()]),
            tuple([
                tuple(["y".into(), Value::bytes(b"4".to_vec())]),
                tuple(["z".into(), 3.into()]),
            ]),
        ]);
        assert_eq!(far.call("kw", arguments).await, told);
        let big: BigInt = format!("-1{}", "0".repeat(60)).parse().unwrap();
        for one in [
            Value::Null,
            true.into(),
            5.into(),
            (-49).into(),
            value(u64::MAX),
            value(i128::MIN),
            value(big),
            1.5.into(),
            (-0.0).into(),
            f64::INFINITY.into(),
            "".into(),
            "h\u{e9}llo \u{1f600}".into(),
            "x".repeat(100_000).into(),
            Value::bytes(b"".to_vec()),
            Value::bytes(vec![0; 100_000]),
            tuple([]),
            tuple([1.into(), tuple(["n".into(), tuple([Value::Null])])]),
            Value::Tuple((0..300).map(Value::from).collect()),
            value(Complex {
                real: 2.0,
                imag: -3.5,
            }),
            value(Slice {
                start: Some(1),
                stop: None,
                step: Some(2),
            }),
            value(FrozenSet(vec![7])),
            value(Ellipsis),
            value(NotImplemented),
        ] {
            let back = far.call("echo", (&one,)).await;
            assert_eq!(back.to_string(), one.to_string());
        }
        within(far.connection.ping()).await.unwrap();
    });
}

#[test]
fn containers_are_objects_until_they_are_fetched() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        assert_eq!(far.call("total", (vec![10, 20, 30],)).await, 60.into());

        let list = far.make("make_list", (3,)).await;
        assert_eq!(within(list.len()).await.unwrap(), 3);
        assert_eq!(within(list.index(1)).await.unwrap(), 1.into());
        within(list.set_index(0, 9)).await.unwrap();
        within(list.delete_index(2)).await.unwrap();
        assert_eq!(within(list.str()).await.unwrap(), "[9, 1]");
        assert_eq!(within(list.fetch()).await.unwrap(), vec![9, 1].into());
        assert!(raised(within(list.index(99)).await).is("IndexError"));
        let part = within(list.index(Slice {
            start: Some(1),
            stop: None,
            step: None,
        }))
        .await;
        assert_eq!(within(object(part.unwrap()).str()).await.unwrap(), "[1]");
        assert!(!within(list.equals(5)).await.unwrap());
        assert!(within(list.equals(&list)).await.unwrap());
        let error = within(list.compare(protocol::Ordering::Less, 5))
            .await
            .unwrap_err();
        assert!(error.to_string().contains('<'), "{error}");

        let map = far.make("make_dict", ()).await;
        assert_eq!(within(map.len()).await.unwrap(), 2);
        assert_eq!(within(map.index("a")).await.unwrap(), 1.into());
        let missing = raised(within(map.index("zz")).await);
        assert!(missing.is("KeyError"));
        assert_eq!(missing.arguments(), ["zz".into()]);
        let two: Value = vec![2, 3].into();
        let all = Value::Map(vec![("a".into(), 1.into()), ("b".into(), two)]);
        assert_eq!(within(map.fetch()).await.unwrap(), all);

        let pair = far.call("pair", (2,)).await;
        assert_eq!(pair.at(0), Some(&"by-value".into()));
        let list = object(pair.at(1).unwrap().clone());
        assert_eq!(within(list.len()).await.unwrap(), 2);
        let back = far.call("echo", ((1, &list, "x"),)).await;
        assert!(object(back.at(1).unwrap().clone()).same_object(&list));
    });
}

#[test]
fn objects_are_the_same_wherever_they_went() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let own: Netref<dyn One> = Netref::of(|a| Ok(a + 1));
        let home = far.make("keep", (&own,)).await;
        assert!(home.is_local() && home.same_object(&own.dynamic()));

        let before = far.call("live", ()).await.as_u64().unwrap();
        let list = far.make("make_list", (1,)).await;
        let copies = [
            far.make("keep", (&list,)).await,
            far.make("kept", ()).await,
            far.make("kept", ()).await,
        ];
        assert!(copies.iter().all(|copy| copy.same_object(&list)));
        assert_eq!(far.call("live", ()).await, (before + 1).into());
        assert_eq!(far.call("drop", ()).await, Value::Null);
        assert_eq!(within(list.index(0)).await.unwrap(), 0.into());
        drop((list, copies));
        // What is given back is given back when nothing waits for an answer.
        within(async {
            while far.call("live", ()).await.as_u64().unwrap() > before {
                far.connection.ping().await.unwrap();
            }
        })
        .await;
    });
}

#[test]
fn python_calls_back() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let product: Netref<dyn Two> = Netref::of(|a, b| Ok(a * b));
        assert_eq!(far.call("call", (product, 6, 7)).await, 42.into());

        let failing: Netref<dyn One> = Netref::of(|a: i64| {
            Err(Exception::new("ZeroDivisionError", [Value::from("from the client"), a.into()]).into())
        });
        let error = far.raise("call", (failing, 1)).await;
        assert!(error.is("ZeroDivisionError"));
        assert_eq!(error.arguments(), ["from the client".into(), 1.into()]);

        let bounce: Netref<dyn Bounce> = Netref::of(Bouncing);
        assert_eq!(far.call("recurse", (bounce, 10)).await, 10.into());
        assert_eq!(far.call("ask_root", ()).await, "hello from the server".into());

        let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let hear: Netref<dyn One> = Netref::of(move |a| Ok(told.send(a).map_or(0, |()| a)));
        assert_eq!(far.call("events", (hear, 3)).await, 3.into());
        for n in 0..3 {
            assert_eq!(within(hears.recv()).await, Some(n));
        }
    });
}

/// What this side shows.
#[remote]
trait Greeter {
    fn hello(&self, text: &str) -> Result<String>;
}

struct Host;

impl Greeter for Host {
    fn hello(&self, text: &str) -> Result<String> {
        Ok(format!("hello {text}"))
    }
}

/// Calls what it is given.
#[remote(closure)]
trait Bounce {
    async fn bounce(&self, recurse: Object, function: Object, n: i64) -> Result<i64>;
}

struct Bouncing;

#[remote]
impl Bounce for Bouncing {
    async fn bounce(&self, recurse: Object, function: Object, n: i64) -> Result<i64> {
        let below = recurse.invoke((function, n)).await?;
        Ok(below.as_i64().unwrap() + 1)
    }
}

#[test]
fn exceptions_are_errors_with_what_they_were_raised_with() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let error = far.raise("fail", ("value",)).await;
        assert!(error.is("ValueError"));
        assert_eq!(error.arguments(), ["bad value".into(), 5.into()]);
        assert!(
            error.traceback().contains("exposed_fail"),
            "{}",
            error.traceback()
        );
        let error = far.raise("fail", ("os",)).await;
        assert!(error.is("FileNotFoundError"));
        assert_eq!(error.attribute("errno"), Some(&2.into()));
        assert_eq!(error.attribute("filename"), Some(&"nowhere.txt".into()));
        let error = far.raise("fail", ("custom",)).await;
        assert_eq!((error.module(), error.class()), ("refsvc", "PointError"));
        assert_eq!(error.attribute("where"), Some(&"[1, 2]".into()));
        for (how, class) in [
            ("key", "KeyError"),
            ("unicode", "ValueError"),
            ("stop", "StopIteration"),
            ("generator", "GeneratorExit"),
            ("exit", "SystemExit"),
        ] {
            assert!(far.raise("fail", (how,)).await.is(class), "{how}");
        }
        assert!(far.raise("add", (1, "x")).await.is("TypeError"));
        let point = far.make("make_point", (3, 4)).await;
        for name in ["_secret", "hidden", "nothing"] {
            let error = within(point.get(name)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error}");
        }
        assert!(within(point.set("x", 1)).await.is_err());
        assert!(within(point.delete("x")).await.is_err());
        let denied = within(far.root.call("nothing", ())).await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Unimplemented, "{denied}");
    });
}

#[test]
fn objects_are_used_by_name() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        assert_eq!(within(far.root.get("version")).await.unwrap(), 7.into());
        assert_eq!(within(far.root.get("exposed_version")).await.unwrap(), 7.into());
        let names = within(far.root.dir()).await.unwrap();
        let is_there = |wanted: &str| {
            names
                .iter()
                .any(|name| name.trim_start_matches("exposed_") == wanted)
        };
        assert!(is_there("add") && is_there("echo"), "{names:?}");
        assert_eq!(within(far.root.doc("add")).await.unwrap(), "Adds two values.");

        let point = far.make("make_point", (3, 4)).await;
        let same = far.make("make_point", (3, 4)).await;
        let further = far.make("make_point", (5, 6)).await;
        assert_eq!(within(point.get("x")).await.unwrap(), 3.into());
        assert_eq!(within(point.call("norm2", ())).await.unwrap(), 25.into());
        assert_eq!(within(point.str()).await.unwrap(), "<3, 4>");
        assert_eq!(within(point.repr()).await.unwrap(), "Point(3, 4)");
        assert_eq!(
            within(point.hash()).await.unwrap(),
            within(same.hash()).await.unwrap()
        );
        assert!(within(point.equals(&same)).await.unwrap());
        assert!(!within(point.equals(&further)).await.unwrap());
        assert!(
            within(point.compare(protocol::Ordering::Less, &further))
                .await
                .unwrap()
        );
        assert_eq!(within(point.len()).await.unwrap(), 2);
        assert_eq!(within(point.index(1)).await.unwrap(), 4.into());
        let moved = object(within(point.call("__add__", (1,))).await.unwrap());
        assert_eq!(within(moved.get("x")).await.unwrap(), 4.into());
        let moved = object(within(point.call("move", (1,))).await.unwrap());
        assert!(moved.same_object(&point));

        let class = object(within(far.root.get("Point")).await.unwrap());
        let made = object(within(class.invoke((1, 2))).await.unwrap());
        assert_eq!(within(made.get("x")).await.unwrap(), 1.into());
        assert!(within(made.is("refsvc.Point")).await.unwrap());
        assert!(!within(made.is("refsvc.Number")).await.unwrap());

        let number = far.make("make_number", (6,)).await;
        assert_eq!(within(number.invoke((1, 2))).await.unwrap(), 9.into());
        assert_eq!(within(number.call("__int__", ())).await.unwrap(), 6.into());

        let bag = far.make("make_bag", ()).await;
        within(bag.set("c", 3)).await.unwrap();
        assert_eq!(within(bag.get("c")).await.unwrap(), 3.into());
        within(bag.delete("c")).await.unwrap();
        assert!(within(bag.get("c")).await.is_err());
    });
}

#[test]
fn attributes_are_set_where_that_is_allowed() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Public).await;
        let point = far.make("make_point", (3, 4)).await;
        within(point.set("x", 10)).await.unwrap();
        assert_eq!(within(point.get("x")).await.unwrap(), 10.into());
        within(point.set("note", "new")).await.unwrap();
        assert_eq!(within(point.get("note")).await.unwrap(), "new".into());
        within(point.delete("note")).await.unwrap();
        assert!(within(point.get("note")).await.is_err());
    });
}

#[test]
fn iterations_and_contexts_are_those_of_python() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let squares: Vec<Value> = (0..25).map(|n| Value::from(n * n)).collect();
        let mut items = far.make("make_gen", (25,)).await.iter();
        let mut got = Vec::new();
        while let Some(item) = within(items.next()).await {
            got.push(item.unwrap());
        }
        assert_eq!(got, squares);
        let list = far.make("make_list", (1000,)).await;
        let fetched = within(list.fetch()).await.unwrap();
        assert_eq!(fetched.len(), 1000);

        let context = far.make("ctx", ("a",)).await;
        let ran = within(context.within(async |name| Ok(name))).await.unwrap();
        assert_eq!(ran, Some("A".into()));
        assert_eq!(
            far.call("ctx_log", ()).await,
            tuple(["enter a".into(), "exit a".into()])
        );
        let context = far.make("ctx", ("b",)).await;
        let failing = context.within(async |_| Err::<(), _>(Error::msg("in the body")));
        assert_eq!(within(failing).await.unwrap_err().message(), "in the body");
        let log = far.call("ctx_log", ()).await;
        assert_eq!(log.at(0), Some(&"enter b".into()));
        assert_eq!(log.at(2), Some(&"exit b".into()));
    });
}

#[test]
fn calls_are_in_flight_together_and_given_up() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let calls: Vec<_> = (0..100).map(|n| far.root.call("echo", (n,)).start()).collect();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(within(call).await.unwrap(), n.into());
        }
        // It calls back, and is answered when this side has given it up.
        let (given_up, wait) = tokio::sync::watch::channel(false);
        let late: Netref<dyn Nothing> = Netref::of(move || {
            let mut wait = wait.clone();
            async move {
                let waited = wait.wait_for(|given_up| *given_up).await;
                Ok(waited.map_or(0, |_| 1))
            }
        });
        let call = far.root.call("call", (late,)).timeout(Duration::from_millis(10));
        assert_eq!(within(call).await.unwrap_err().kind(), ErrorKind::Deadline);
        given_up.send_replace(true);
        assert_eq!(far.call("echo", ("after",)).await, "after".into());
    });
}

#[test]
fn a_trait_is_spoken_over_a_python_object() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let service: Netref<dyn RefService> = within(far.root.cast()).await.unwrap();
        let calls = service.call();
        assert_eq!(within(calls.add(3, Some(4))).await.unwrap(), 7);
        assert_eq!(within(calls.version()).await.unwrap(), 7);
        assert_eq!(within(calls.make_list(3)).await.unwrap(), [0, 1, 2]);
        assert_eq!(
            within(calls.pair(2)).await.unwrap(),
            ("by-value".into(), vec![0, 1])
        );
        assert_eq!(within(calls.total(vec![1, 2, 3])).await.unwrap(), 6);
        let point = within(calls.make_point(3, 4)).await.unwrap();
        assert_eq!(within(point.call().x()).await.unwrap(), 3);
        assert_eq!(within(point.call().norm2()).await.unwrap(), 25);
        let moved = within(point.call().r#move(1, Some(1))).await.unwrap();
        assert!(moved.same_object(&point));
        assert_eq!(within(moved.call().y()).await.unwrap(), 5);
        let error = within(calls.fail("key")).await.unwrap_err();
        assert!(error.downcast_ref::<Exception>().unwrap().is("KeyError"));
        let blocking = {
            let service = service.clone();
            tokio::task::spawn_blocking(move || service.blocking().add(20, Some(10)))
        };
        assert_eq!(within(blocking).await.unwrap().unwrap(), 30);
    });
}

#[test]
fn an_interpreter_is_used() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Classic).await;
        far.call("execute", ("x = 5",)).await;
        assert_eq!(far.call("eval", ("x + 2",)).await, 7.into());
        let namespace = object(within(far.root.get("namespace")).await.unwrap());
        within(namespace.set_index("y", 6)).await.unwrap();
        assert_eq!(far.call("eval", ("y",)).await, 6.into());
        let path = far.make("getmodule", ("os.path",)).await;
        assert_eq!(within(path.call("join", ("a", "b"))).await.unwrap(), "a/b".into());
        assert!(far.raise("eval", ("1/0",)).await.is("ZeroDivisionError"));
    });
}

#[test]
fn threads_are_bound_where_python_binds_them() {
    for version in [Version::Five, Version::Six] {
        let Some(python) = Python::of(version) else { return };
        runtime().block_on(async {
            let far = Far::new(&python, Offer::Bound).await;
            let one_more: Netref<dyn One> = Netref::of(|a| Ok(a + 1));
            assert_eq!(far.call("call", (one_more, 1)).await, 2.into());
        });
    }
}

#[test]
fn sixteen_tasks_share_a_connection() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        let echo = object(within(far.root.get("echo")).await.unwrap());
        let answered = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..16)
            .map(|first| {
                let (echo, answered) = (echo.clone(), Arc::clone(&answered));
                tokio::spawn(async move {
                    for n in (first..10_000_u64).step_by(16) {
                        assert_eq!(echo.invoke((n,)).await.unwrap(), n.into());
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap();
        }
        assert_eq!(answered.load(Ordering::Relaxed), 10_000);
    });
}

#[test]
fn a_server_on_the_streams_of_a_child_is_used() {
    with_all(async |python| {
        // To find it out takes a child that complains.
        let generation = if python.version() == Version::Six {
            "6"
        } else {
            "5"
        };
        let address = python.stdio(Offer::Ref).with_option("generation", generation);
        let connection = joined(&address.unwrap()).await;
        let root = within(connection.object()).await.unwrap();
        assert_eq!(within(root.call("add", (3, 4))).await.unwrap(), 7.into());
        within(connection.close()).await;
    });
}

#[test]
fn a_connection_is_closed_by_either_side() {
    with_all(async |python| {
        let far = Far::new(&python, Offer::Ref).await;
        assert_eq!(far.call("echo", (1,)).await, 1.into());
        within(far.connection.close()).await;
        let error = within(far.root.call("echo", (1,))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");

        let Far {
            connection,
            root,
            _served,
            ..
        } = Far::new(&python, Offer::Ref).await;
        drop(_served);
        within(connection.closed()).await;
        assert!(within(root.call("echo", (1,))).await.is_err());
    });
}
