//! RPyC with a Rust program at either end, in every form of the wire; and with a peer that keeps to nothing.
//!
//! That real Python peers understand it is shown by the integration tests. Here is what no Python peer would do.

#![cfg(test)]

extern crate farref_netref as farref;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use farref::object::{Arguments, Description, Dynamic, MethodDescription};
use farref::protocol::{self, Op};
use farref::rpyc::{Exception, Generation, OtherGeneration, Rpyc};
use farref::{
    Config, Connection, Error, ErrorKind, Netref, Object, Parts, Peer, Result, Root, Value, remote,
};
use farref_boxing::rpyc::{self as brine, Brine, BrineLimits};
use farref_framing::rpyc::{Compress, FrameLimits, put_frame, take_frame};
use farref_framing::{PeerEvidence, Role};
use farref_transport::{CarrierInfo, StreamCarrier};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What a test waits for comes soon, or the test fails.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it comes within 20 s")
}

/// Waits until `met` holds of the connection's numbers.
async fn until(connection: &Connection, met: impl Fn(&farref::Stats) -> bool) {
    let waited = async {
        while !met(&connection.stats()) {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(10), waited)
        .await
        .is_err()
    {
        panic!("the tables end as {:?}", connection.stats());
    }
}

async fn side(io: DuplexStream, role: Role, rpyc: Rpyc, shows_root: bool, config: Config) -> Connection {
    let carrier = StreamCarrier::from_io(io, CarrierInfo::new("duplex"));
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("python", None, PeerEvidence::None));
    parts.keep_open = role == Role::Listener;
    parts.guard = guard;
    Connection::over(rpyc, parts, shows_root, config)
}

/// How the two sides speak.
#[derive(Debug, Clone, Copy)]
struct Form(Generation, bool);

const FORMS: [Form; 4] = [
    Form(Generation::Six, false),
    Form(Generation::Five, false),
    Form(Generation::Six, true),
    Form(Generation::Five, true),
];

/// A server that shows `root`, and a client that shows `own`.
async fn joined(form: Form, root: Root, own: Root) -> (Connection, Connection) {
    let (near, far) = tokio::io::duplex(1 << 12);
    let config = Config::default();
    let server = side(
        far,
        Role::Listener,
        Rpyc::accept(root, &config),
        true,
        config.clone(),
    )
    .await;
    let mut dialled = Rpyc::dial(own, form.0, &config);
    if form.1 {
        dialled = dialled.binding_threads();
    }
    let client = side(near, Role::Dialer, dialled, true, config).await;
    within(client.established()).await.unwrap();
    (server, client)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    at: u64,
    volts: f64,
    tags: Vec<String>,
    range: Option<(i32, i32)>,
}

/// A bench of instruments.
#[remote]
trait Bench {
    /// Measures a channel, in volts.
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;
    #[property]
    fn title(&self) -> Result<String>;
    #[property]
    fn set_title(&self, title: String) -> Result<()>;
    fn samples(&self, many: u64) -> Result<Vec<Sample>>;
    fn total(&self, of: Vec<Sample>) -> Result<f64>;
    fn table(&self) -> Result<BTreeMap<String, Vec<u32>>>;
    fn echo(&self, value: Value) -> Result<Value>;
    fn child(&self, name: String) -> Result<Netref<dyn Bench>>;
    fn is_mine(&self, other: Netref<dyn Bench>) -> Result<bool>;
    async fn each(&self, many: u32, to: Netref<dyn Each>) -> Result<u32>;
    /// Keeps the value until it is seen.
    async fn keep(&self, value: Value, to: Netref<dyn Each>) -> Result<u32>;
    /// Calls back as deep as it is told, blocking at each level.
    fn down(&self, depth: u32, to: Netref<dyn Deeper>) -> Result<u32>;
    fn fails(&self, how: String) -> Result<()>;
}

#[remote(closure)]
trait Each {
    async fn seen(&self, n: u32) -> Result<u32>;
}

#[remote]
trait Deeper {
    fn down(&self, depth: u32) -> Result<u32>;
}

struct Rig {
    title: Mutex<String>,
    dropped: Option<Arc<AtomicUsize>>,
}

impl Rig {
    fn new() -> Self {
        Self {
            title: Mutex::new("rig".into()),
            dropped: None,
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn sample(at: u64) -> Sample {
    Sample {
        at,
        volts: at as f64 / 4.0,
        tags: vec![format!("t{at}"), "x".into()],
        range: at.is_multiple_of(2).then_some((-1, at as i32)),
    }
}

#[remote(str)]
impl Bench for Rig {
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64> {
        if channel > 9 {
            return Err(Exception::new("IndexError", [format!("no channel {channel}")]).into());
        }
        Ok(f64::from(channel) * gain.unwrap_or(1.0))
    }

    fn title(&self) -> Result<String> {
        Ok(self.title.lock().unwrap().clone())
    }

    fn set_title(&self, title: String) -> Result<()> {
        *self.title.lock().unwrap() = title;
        Ok(())
    }

    fn samples(&self, many: u64) -> Result<Vec<Sample>> {
        Ok((0..many).map(sample).collect())
    }

    fn total(&self, of: Vec<Sample>) -> Result<f64> {
        Ok(of.iter().map(|sample| sample.volts).sum())
    }

    fn table(&self) -> Result<BTreeMap<String, Vec<u32>>> {
        let names = (0..200_u32).map(|n| (format!("k{n}"), (0..n % 3).collect()));
        Ok(names.collect())
    }

    fn echo(&self, value: Value) -> Result<Value> {
        Ok(value)
    }

    fn child(&self, name: String) -> Result<Netref<dyn Bench>> {
        Ok(Netref::of(Self {
            title: Mutex::new(name),
            dropped: self.dropped.clone(),
        }))
    }

    fn is_mine(&self, other: Netref<dyn Bench>) -> Result<bool> {
        Ok(other.is_local())
    }

    async fn keep(&self, value: Value, to: Netref<dyn Each>) -> Result<u32> {
        let seen = to.call().seen(0).await;
        drop(value);
        seen
    }

    async fn each(&self, many: u32, to: Netref<dyn Each>) -> Result<u32> {
        let mut sum = 0;
        for n in 0..many {
            sum += to.call().seen(n).await?;
        }
        Ok(sum)
    }

    fn down(&self, depth: u32, to: Netref<dyn Deeper>) -> Result<u32> {
        if depth == 0 {
            Ok(0)
        } else {
            Ok(to.down(depth - 1)? + 1)
        }
    }

    fn fails(&self, how: String) -> Result<()> {
        Err(match how.as_str() {
            "io" => std::io::Error::from(std::io::ErrorKind::NotFound).into(),
            "panic" => panic!("as the test wants"),
            "parse" => "x".parse::<u8>().unwrap_err().into(),
            _ => Error::msg(how),
        })
    }
}

impl std::fmt::Display for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the rig {}", self.title.lock().unwrap())
    }
}

/// Calls the bench again, which calls it again.
struct Ladder(Netref<dyn Bench>, Mutex<Option<Netref<dyn Deeper>>>);

impl Deeper for Ladder {
    fn down(&self, depth: u32) -> Result<u32> {
        let itself = self.1.lock().unwrap().clone().unwrap();
        Ok(self.0.down(depth, itself)? + 1)
    }
}

fn bench() -> Root {
    Root::of(&Netref::<dyn Bench>::of(Rig::new()))
}

// ---- what is a promise in every form

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_calls_go_by_name_and_their_containers_are_fetched() {
    for form in FORMS {
        let (_server, client) = joined(form, bench(), Root::NONE).await;
        let object = within(client.object()).await.unwrap();
        let bench: Netref<dyn Bench> = object.cast().await.unwrap();
        within(async {
            assert_eq!(bench.call().voltage(3, Some(1.5)).await.unwrap(), 4.5, "{form:?}");
            assert_eq!(bench.call().voltage(3, None).await.unwrap(), 3.0);
            assert_eq!(bench.call().title().await.unwrap(), "rig");
            bench.call().set_title("new".into()).await.unwrap();
            assert_eq!(bench.call().title().await.unwrap(), "new");
            // More than come in one batch, with containers inside.
            let samples = bench.call().samples(1_300).await.unwrap();
            assert_eq!(samples, (0..1_300).map(sample).collect::<Vec<_>>());
            let total: f64 = samples.iter().map(|sample| sample.volts).sum();
            assert_eq!(bench.call().total(samples).await.unwrap(), total);
            assert_eq!(bench.call().table().await.unwrap(), Rig::new().table().unwrap());
        })
        .await;
        drop((bench, object));
        until(&client, |stats| stats.imports <= 1 && stats.exports <= 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_used_by_name() {
    for form in FORMS {
        let (_server, client) = joined(form, bench(), Root::NONE).await;
        let object = within(client.object()).await.unwrap();
        within(async {
            let arguments = Arguments::from((2,)).named("gain", 4.0);
            assert_eq!(
                object.call("voltage", arguments).await.unwrap().as_f64(),
                Some(8.0)
            );
            assert_eq!(object.get("title").await.unwrap().as_str(), Some("rig"));
            object.set("title", "other").await.unwrap();
            assert_eq!(object.str().await.unwrap(), "the rig other");
            assert_eq!(object.doc("").await.unwrap(), "A bench of instruments.");
            let names = object.dir().await.unwrap();
            assert!(
                names.contains(&"voltage".to_owned()) && names.contains(&"title".to_owned()),
                "{names:?}"
            );
            assert!(object.equals(&object).await.unwrap());
            assert_eq!(object.hash().await.unwrap(), object.hash().await.unwrap());

            let table = Object::try_from(object.call("table", ()).await.unwrap()).unwrap();
            assert_eq!(table.len().await.unwrap(), 200);
            let row = Object::try_from(table.index("k5").await.unwrap()).unwrap();
            assert_eq!(row.fetch().await.unwrap(), "[0, 1]".parse().unwrap());
            let mut keys = table.iter();
            let mut many = 0;
            while let Some(key) = keys.next().await {
                assert!(key.unwrap().as_str().unwrap().starts_with('k'));
                many += 1;
            }
            assert_eq!(many, 200);
            table.set_index("new", 7).await.unwrap();
            assert_eq!(table.index("new").await.unwrap().as_u64(), Some(7));
            table.delete_index("new").await.unwrap();
            let gone = table.index("new").await.unwrap_err();
            assert!(gone.downcast_ref::<Exception>().unwrap().is("KeyError"), "{gone}");
            let row: Value = table.index("k5").await.unwrap();
            assert!(
                Object::try_from(row)
                    .unwrap()
                    .same_object(&Object::try_from(table.index("k5").await.unwrap()).unwrap())
            );
        })
        .await;
        drop(object);
        until(&client, |stats| stats.imports <= 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_values_come_back_as_they_went() {
    let (_server, client) = joined(FORMS[0], bench(), Root::NONE).await;
    let object = within(client.object()).await.unwrap();
    let texts = [
        "null",
        "true",
        "-1",
        "0",
        "159",
        "160",
        "-170141183460469231731687303715884105728",
        "1.5",
        "\"\"",
        "\"é😀\"",
        "(1, (2, \"x\"), null)",
        "()",
    ];
    for text in texts {
        let value: Value = text.parse().unwrap();
        let back = within(object.call("echo", (value.clone(),))).await.unwrap();
        assert_eq!(back, value, "{text}");
    }
    let large = Value::bytes(vec![7; 1 << 20]);
    assert_eq!(
        within(object.call("echo", (large.clone(),))).await.unwrap(),
        large
    );
    let complex = farref_boxing::to_value(&brine::Complex {
        real: 1.0,
        imag: -2.5,
    })
    .unwrap();
    assert_eq!(
        within(object.call("echo", (complex.clone(),))).await.unwrap(),
        complex
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_come_home_are_themselves_and_each_is_dropped_when_nobody_holds_it() {
    for form in FORMS {
        let dropped = Arc::new(AtomicUsize::new(0));
        let mut rig = Rig::new();
        rig.dropped = Some(Arc::clone(&dropped));
        let (server, client) = joined(form, Root::of(&Netref::<dyn Bench>::of(rig)), Root::NONE).await;
        let object = within(client.object()).await.unwrap();
        let bench: Netref<dyn Bench> = object.cast().await.unwrap();
        let first = within(bench.call().child("first".into())).await.unwrap();
        assert!(
            within(bench.call().is_mine(first.clone())).await.unwrap(),
            "{form:?}"
        );
        assert!(
            !within(bench.call().is_mine(Netref::of(Rig::new())))
                .await
                .unwrap()
        );
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        drop(first);
        until(&server, |stats| stats.exports <= 1).await;
        within(async {
            while dropped.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        until(&client, |stats| stats.exports <= 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_reach_closures_and_nest_as_deep_as_they_like() {
    for form in FORMS {
        let (server, client) = joined(form, bench(), Root::NONE).await;
        let object = within(client.object()).await.unwrap();
        let bench: Netref<dyn Bench> = object.cast().await.unwrap();
        let each: Netref<dyn Each> = Netref::of(|n: u32| async move { Ok(n * 10) });
        assert_eq!(within(bench.call().each(4, each)).await.unwrap(), 60, "{form:?}");
        let ladder = Arc::new(Ladder(bench.clone(), Mutex::new(None)));
        let netref: Netref<dyn Deeper> = Netref::share(&ladder);
        *ladder.1.lock().unwrap() = Some(netref.clone());
        assert_eq!(
            within(bench.call().down(20, netref)).await.unwrap(),
            40,
            "{form:?}"
        );
        *ladder.1.lock().unwrap() = None;
        drop(ladder);
        until(&server, |stats| stats.imports <= 1 && stats.answers == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceptions_arrive_by_their_classes() {
    let (_server, client) = joined(FORMS[0], bench(), Root::NONE).await;
    let object = within(client.object()).await.unwrap();
    let raised = async |method: &str, arguments: Arguments| {
        let error = within(object.call(method, arguments)).await.unwrap_err();
        assert!(error.is_remote(), "{error:?}");
        error.downcast_ref::<Exception>().unwrap().clone()
    };
    let index = raised("voltage", (99,).into()).await;
    assert!(
        index.is("IndexError") && index.arguments() == [Value::from("no channel 99")],
        "{index:?}"
    );
    assert!(raised("fails", ("io",).into()).await.is("FileNotFoundError"));
    assert!(raised("fails", ("panic",).into()).await.is("RuntimeError"));
    assert!(raised("fails", ("other",).into()).await.is("RuntimeError"));
    assert!(raised("voltage", ("three",).into()).await.is("TypeError"));
    assert!(raised("voltage", ().into()).await.is("TypeError"));
    let missing = raised("voltag", (1,).into()).await;
    assert!(
        missing.is("AttributeError") && missing.to_string().contains("did you mean `voltage`"),
        "{missing}"
    );
    let error = within(object.call("voltag", (1,))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_piped_to_what_is_not_there_yet() {
    let (server, client) = joined(FORMS[0], bench(), Root::NONE).await;
    let object = within(client.object()).await.unwrap();
    let bench: Netref<dyn Bench> = object.cast().await.unwrap();
    let child = bench.call().child("piped".into()).start();
    let title = child.pipe().title().start();
    assert_eq!(within(title).await.unwrap(), "piped");
    drop(within(child).await.unwrap());
    let dropped = bench.call().child("dropped".into());
    let title = dropped.pipe().title().start();
    drop(dropped.start());
    drop(title);
    until(&server, |stats| stats.exports <= 1 && stats.answers == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_calls_the_root_of_the_other() {
    for form in FORMS {
        let (server, client) = joined(form, bench(), bench()).await;
        // The client is asked as soon as it is known how it speaks.
        let far = within(server.object()).await.unwrap();
        let title = within(far.get("title")).await.unwrap();
        assert_eq!(title.as_str(), Some("rig"), "{form:?}");
        let near = within(client.object()).await.unwrap();
        assert_eq!(within(near.get("title")).await.unwrap().as_str(), Some("rig"));
        let round_trip = within(server.ping()).await.unwrap();
        assert!(round_trip > Duration::ZERO);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_ends_both_sides_and_what_was_under_way() {
    let (server, client) = joined(FORMS[0], bench(), Root::NONE).await;
    let object = within(client.object()).await.unwrap();
    let (hold, held) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let waits: Netref<dyn Each> = {
        let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
        Netref::of(move |n: u32| {
            let (hold, held) = (Arc::clone(&hold), Arc::clone(&held));
            async move {
                held.store(true, Ordering::SeqCst);
                while hold.load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                }
                Ok(n)
            }
        })
    };
    let bench: Netref<dyn Bench> = object.cast().await.unwrap();
    let call = bench.call().each(1, waits).start();
    within(async {
        while !held.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(server.close()).await;
    let error = within(call).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
    within(client.closed()).await;
    hold.store(false, Ordering::SeqCst);
    let error = within(object.call("voltage", (1,))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_has_its_deadline_and_a_late_reply_is_given_back() {
    let (server, client) = joined(FORMS[0], bench(), Root::NONE).await;
    let object = within(client.object()).await.unwrap();
    let bench: Netref<dyn Bench> = object.cast().await.unwrap();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let waits: Netref<dyn Each> = {
        let go = Arc::clone(&go);
        Netref::of(move |n: u32| {
            let go = Arc::clone(&go);
            async move {
                let _permit = go.acquire().await;
                Ok(n)
            }
        })
    };
    let call = bench.call().each(1, waits).timeout(Duration::from_millis(5));
    assert_eq!(within(call).await.unwrap_err().kind(), ErrorKind::Deadline);
    go.add_permits(1);
    until(&server, |stats| stats.answers == 0 && stats.imports <= 1).await;
    assert_eq!(within(bench.call().title()).await.unwrap(), "rig");
}

// ---- objects without traits

struct Bag(Mutex<BTreeMap<String, Value>>);

impl Dynamic for Bag {
    fn describe(&self) -> Description {
        let mut description = Description::by_name("Bag").with_method(MethodDescription::by_name("size"));
        for operation in [
            "get",
            "set",
            "delete",
            "call",
            "order",
            "set_index",
            "index",
            "iter",
            "len",
        ] {
            description = description.with_operation(operation);
        }
        description
    }

    fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
        let mut bag = self.0.lock().unwrap();
        let (positional, named) = arguments.into_parts();
        let first = || positional.first().cloned().unwrap_or_default();
        Ok(match op {
            Op::Named(name) if name == "size" => bag.len().into(),
            Op::Get(name) => {
                let missing = || Exception::new("AttributeError", [name.as_str()]);
                bag.get(name).cloned().ok_or_else(missing)?
            }
            Op::Set(name) => {
                bag.insert(name.clone(), first());
                Value::Null
            }
            Op::Delete(name) => bag.remove(name).unwrap_or_default(),
            Op::Invoke => Value::Tuple(vec![positional.len().into(), named.len().into()]),
            Op::Order(protocol::Ordering::Less) => (first().as_u64() > Some(bag.len() as u64)).into(),
            Op::Len => bag.len().into(),
            Op::Index => bag.get(first().as_str().unwrap()).cloned().unwrap_or_default(),
            Op::SetIndex => {
                bag.insert(first().as_str().unwrap().into(), positional[1].clone());
                Value::Null
            }
            Op::Iterate => {
                let from = first().as_u64().unwrap() as usize;
                let keys = bag.keys().skip(from).map(|key| key.as_str().into()).collect();
                Value::Tuple(vec![Value::List(keys), true.into()])
            }
            op => return Err(Error::new(ErrorKind::Unimplemented, format!("a bag cannot {op}"))),
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_a_trait_answers_by_name() {
    let bag = Object::dynamic(Bag(Mutex::default()));
    let (_server, client) = joined(FORMS[0], Root::of_object(&bag), Root::NONE).await;
    let object = within(client.object()).await.unwrap();
    within(async {
        object.set("a", 1).await.unwrap();
        object.set_index("b", (1, "x")).await.unwrap();
        assert_eq!(object.get("a").await.unwrap().as_u64(), Some(1));
        assert_eq!(object.call("size", ()).await.unwrap().as_u64(), Some(2));
        assert_eq!(object.len().await.unwrap(), 2);
        assert_eq!(object.index("b").await.unwrap().to_string(), "(1, \"x\")");
        assert_eq!(object.fetch().await.unwrap().to_string(), "[\"a\", \"b\"]");
        let called = object
            .invoke(Arguments::from((1, 2)).named("c", 3))
            .await
            .unwrap();
        assert_eq!(called.to_string(), "(2, 1)");
        assert!(object.compare(protocol::Ordering::Less, 5).await.unwrap());
        object.delete("a").await.unwrap();
        assert_eq!(
            object.get("a").await.unwrap_err().kind(),
            ErrorKind::Unimplemented
        );
        let refused = object.get("__dict__").await.unwrap_err();
        assert!(
            refused.to_string().contains("cannot access '__dict__'"),
            "{refused}"
        );
    })
    .await;
}

// ---- a peer that keeps to nothing

/// The other end, byte by byte.
struct Raw {
    io: DuplexStream,
    input: BytesMut,
    form: Form,
    server: Connection,
}

impl Raw {
    async fn new(form: Form, root: Root, config: Config) -> Self {
        let (io, far) = tokio::io::duplex(1 << 16);
        let rpyc = Rpyc::accept(root, &config);
        Self {
            io,
            input: BytesMut::new(),
            form,
            server: side(far, Role::Listener, rpyc, true, config).await,
        }
    }

    async fn send(&mut self, payload: &[u8]) {
        let mut out = BytesMut::new();
        put_frame(payload, Compress::Never, &mut out).unwrap();
        // The other side may have left.
        let _ = self.io.write_all(&out).await;
    }

    /// Sends a message of that kind.
    async fn say(&mut self, kind: u8, number: i128, content: &Brine) {
        let mut payload = BytesMut::new();
        match self.form.0 {
            Generation::Six => {
                payload.put_u8(kind);
                brine::put_tuple(2, &mut payload);
            }
            Generation::Five => {
                brine::put_tuple(3, &mut payload);
                brine::put_int(kind, &mut payload);
            }
        }
        brine::put_int(number, &mut payload);
        brine::encode(content, &mut payload);
        self.send(&payload).await;
    }

    async fn ask(&mut self, number: i128, handler: i128, boxed: Brine) -> (u8, Brine) {
        self.say(1, number, &tuple([Brine::Int(handler), boxed])).await;
        self.reply(number).await
    }

    /// The next message with that number.
    async fn reply(&mut self, number: i128) -> (u8, Brine) {
        loop {
            let (kind, of, content) = within(self.next()).await.expect("a reply");
            if kind != 1 && of == Brine::Int(number) {
                return (kind, content);
            }
        }
    }

    async fn next(&mut self) -> Option<(u8, Brine, Brine)> {
        loop {
            if let Some(payload) = take_frame(&mut self.input, &FrameLimits::default()).unwrap() {
                let (kind, rest) = match self.form.0 {
                    Generation::Six => (payload[0], payload.slice(1..)),
                    Generation::Five => (payload[1] - 0x50, payload.clone()),
                };
                let Brine::Tuple(mut parts) = brine::decode(&rest, &BrineLimits::default()).unwrap() else {
                    panic!("a message is a tuple");
                };
                let content = parts.pop().unwrap();
                return Some((kind, parts.pop().unwrap(), content));
            }
            match self.io.read_buf(&mut self.input).await {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    async fn root(&mut self) -> Brine {
        let (kind, boxed) = self.ask(0, 3, value(tuple([]))).await;
        assert_eq!(kind, 2);
        let Brine::Tuple(parts) = boxed else {
            panic!("a box is a tuple")
        };
        parts[1].clone()
    }

    /// What the peer was told in the end: the connection is over, or it goes on.
    async fn goes_on(&mut self) -> bool {
        self.say(1, 77, &tuple([Brine::Int(1), value(tuple([Brine::Int(5)]))]))
            .await;
        loop {
            match within(self.next()).await {
                None => return false,
                Some((2, Brine::Int(77), content)) => {
                    assert_eq!(content, value(Brine::Int(5)));
                    return true;
                }
                Some(_) => {}
            }
        }
    }
}

fn tuple(items: impl IntoIterator<Item = Brine>) -> Brine {
    Brine::Tuple(items.into_iter().collect())
}

fn value(held: Brine) -> Brine {
    tuple([Brine::Int(1), held])
}

fn boxes(items: impl IntoIterator<Item = Brine>) -> Brine {
    tuple([Brine::Int(2), tuple(items)])
}

fn yours(pack: &Brine) -> Brine {
    tuple([Brine::Int(3), pack.clone()])
}

fn mine(name: &str, class: i128, instance: i128) -> Brine {
    let pack = [Brine::Str(name.into()), Brine::Int(class), Brine::Int(instance)];
    tuple([Brine::Int(4), tuple(pack)])
}

fn text(text: &str) -> Brine {
    value(Brine::Str(text.into()))
}

/// The class of an exception.
fn class(content: &Brine) -> String {
    match content {
        Brine::Tuple(parts) => match &parts[0] {
            Brine::Tuple(class) => match &class[1] {
                Brine::Str(class) => class.clone(),
                other => format!("{other:?}"),
            },
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_wrongly_is_answered_with_an_exception_and_the_connection_goes_on() {
    for form in [FORMS[0], FORMS[1]] {
        let mut raw = Raw::new(form, bench(), Config::default()).await;
        let root = raw.root().await;
        let unknown = tuple([
            Brine::Str("builtins.list".into()),
            Brine::Int(7),
            Brine::Int(12345),
        ]);
        let Brine::Tuple(parts) = &root else {
            panic!("{root:?}")
        };
        let misnamed = tuple([Brine::Str("x.Y".into()), parts[1].clone(), parts[2].clone()]);
        let misclassed = tuple([parts[0].clone(), Brine::Int(1), parts[2].clone()]);
        let cases = [
            (4, boxes([yours(&misnamed), text("title")]), "KeyError"),
            (4, boxes([yours(&misclassed), text("title")]), "KeyError"),
            (99, value(tuple([])), "KeyError"),
            (-1, value(tuple([])), "KeyError"),
            (4, value(tuple([])), "TypeError"),
            (4, boxes([yours(&root)]), "TypeError"),
            (4, boxes([yours(&unknown), text("x")]), "KeyError"),
            (4, boxes([text("no object"), text("x")]), "TypeError"),
            (4, boxes([yours(&root), value(Brine::Int(3))]), "TypeError"),
            (4, value(Brine::Int(3)), "TypeError"),
            (4, tuple([Brine::Int(9), tuple([])]), "ValueError"),
            (7, boxes([yours(&root), value(tuple([]))]), "TypeError"),
            (8, boxes([yours(&root), text("voltage")]), "TypeError"),
            (
                8,
                boxes([
                    yours(&root),
                    text("voltage"),
                    value(tuple([])),
                    value(tuple([Brine::Int(1)])),
                ]),
                "TypeError",
            ),
            (
                11,
                boxes([yours(&root), value(Brine::Int(1)), text("__init__")]),
                "AttributeError",
            ),
            (
                11,
                boxes([yours(&root), value(Brine::Int(1)), text("__class__")]),
                "AttributeError",
            ),
            (14, boxes([yours(&root), value(Brine::Int(4))]), "ValueError"),
            (15, boxes([yours(&unknown), value(Brine::Int(1))]), "KeyError"),
            (15, value(tuple([])), "TypeError"),
            (16, value(tuple([unknown.clone()])), "KeyError"),
            (16, value(tuple([Brine::None])), "TypeError"),
            (17, boxes([yours(&root), value(Brine::Int(3))]), "TypeError"),
        ];
        for (index, (handler, boxed, expected)) in cases.into_iter().enumerate() {
            let (kind, content) = raw.ask(100 + index as i128, handler, boxed.clone()).await;
            assert_eq!(
                (kind, class(&content).as_str()),
                (3, expected),
                "{handler} {boxed:?}"
            );
        }
        assert!(raw.goes_on().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_private_or_dangerous_can_be_reached() {
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let root = raw.root().await;
    let names = [
        "__class__",
        "__dict__",
        "__globals__",
        "__init__",
        "__mro__",
        "__subclasses__",
        "__getattribute__",
        "__setattr__",
        "__reduce__",
        "__reduce_ex__",
        "__module__",
        "__code__",
        "__closure__",
        "__builtins__",
        "_private",
        "__array__",
        "_rpyc_getattr",
        "____conn__",
        "____id_pack__",
        "exposed___class__",
        "exposed__private",
        "mro",
        "",
    ];
    let mut number = 100;
    for name in names {
        number += 10;
        let get = raw.ask(number, 4, boxes([yours(&root), text(name)])).await;
        assert_eq!(
            (get.0, class(&get.1).as_str()),
            (3, "AttributeError"),
            "get {name}"
        );
        let set = raw
            .ask(
                number + 1,
                6,
                boxes([yours(&root), text(name), value(Brine::Int(1))]),
            )
            .await;
        assert_eq!(
            (set.0, class(&set.1).as_str()),
            (3, "AttributeError"),
            "set {name}"
        );
        let delete = raw.ask(number + 2, 5, boxes([yours(&root), text(name)])).await;
        assert_eq!(
            (delete.0, class(&delete.1).as_str()),
            (3, "AttributeError"),
            "delete {name}"
        );
        let call = boxes([yours(&root), text(name), value(tuple([])), value(tuple([]))]);
        let call = raw.ask(number + 3, 8, call).await;
        assert_eq!(
            (call.0, class(&call.1).as_str()),
            (3, "AttributeError"),
            "call {name}"
        );
    }
    assert!(raw.goes_on().await);
}

/// A comparison fetched whatever attribute it named, and so everything of a service could be read and rewritten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2019_16328_a_comparison_looks_no_name_up() {
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let root = raw.root().await;
    let names = [
        "__class__",
        "__init__",
        "__setattr__",
        "__getattribute__",
        "__dict__",
        "__cmp__",
        "voltage",
        "title",
        "exposed_voltage",
        "",
    ];
    for (number, name) in (100..).zip(names) {
        let compared = boxes([yours(&root), value(Brine::Int(1)), text(name)]);
        let (kind, content) = raw.ask(number, 11, compared).await;
        assert_eq!((kind, class(&content).as_str()), (3, "AttributeError"), "{name}");
    }
    assert!(raw.goes_on().await);
}

/// What asked an object of the peer's for `__array__` unpickled what it got; and whoever pickles, hands out its inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cve_2024_27758_nothing_is_pickled_or_unpickled() {
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let root = raw.root().await;
    let pickle = raw
        .ask(100, 14, boxes([yours(&root), value(Brine::Int(4))]))
        .await;
    assert_eq!((pickle.0, class(&pickle.1).as_str()), (3, "ValueError"));
    let array = boxes([
        yours(&root),
        text("__array__"),
        value(tuple([])),
        value(tuple([])),
    ]);
    let array = raw.ask(101, 8, array).await;
    assert_eq!((array.0, class(&array.1).as_str()), (3, "AttributeError"));
    // Bytes that would be a pickle are bytes.
    let bytes = Brine::Bytes(Bytes::from_static(b"\x80\x04."));
    let echo = boxes([
        yours(&root),
        text("echo"),
        value(tuple([bytes.clone()])),
        value(tuple([])),
    ]);
    assert_eq!(raw.ask(102, 8, echo).await, (2, value(bytes)));
    assert!(raw.goes_on().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_rpyc_ends_the_connection_with_a_reason() {
    let boxes = [
        &[0x01, 0x11, 0x50, 0x11, 0x57][..],
        &b"\x11\x52\x10".repeat(100_000),
    ]
    .concat();
    let cases: [(&str, &[u8]); 8] = [
        ("boxes in boxes, deeper than a stack is", &boxes),
        ("kind 0", &[0, 0x11, 0x50, 0x50]),
        ("no message", &[0x01]),
        ("unknown tag", &[0x01, 0x11, 0x50, 0x1f]),
        ("a request that is none", &[0x01, 0x11, 0x50, 0x50]),
        ("a cut tuple", &[0x01, 0x11, 0x50]),
        ("a reply that is no box", &[0x02, 0x11, 0x50, 0x50]),
        ("text that is none", &[0x01, 0x11, 0x50, 0x08, 0x0a, 0xff]),
    ];
    for (what, payload) in cases {
        let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
        raw.send(payload).await;
        let error = within(raw.server.closed()).await;
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Malformed | ErrorKind::Incompatible | ErrorKind::Limit
            ),
            "{what}: {error:?}"
        );
    }
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let _ = raw.io.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let error = within(raw.server.closed()).await;
    assert!(
        matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Limit),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_but_harmless_messages_are_passed_over() {
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let root = raw.root().await;
    raw.send(&[]).await;
    raw.say(2, 4711, &value(Brine::None)).await;
    raw.say(3, 4711, &Brine::Int(1)).await;
    raw.say(3, 4712, &tuple([])).await;
    raw.say(3, 4713, &Brine::Str("as Python 2 did".into())).await;
    // The same with a number that is none, and what is given back too often.
    let del = boxes([yours(&root), value(Brine::Int(1 << 40))]);
    assert_eq!(raw.ask(100, 15, del).await.0, 2);
    let again = raw.ask(101, 4, boxes([yours(&root), text("title")])).await;
    assert_eq!(again, (2, text("rig")), "the root stays");
    assert!(raw.goes_on().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_cannot_make_this_side_keep_more_than_it_allows() {
    let mut config = Config::default();
    config.max_objects = 8;
    config.max_calls = 4;
    // Of ours: it is told that no more are handed out.
    let mut raw = Raw::new(FORMS[0], bench(), config.clone()).await;
    let root = raw.root().await;
    let (mut refused, mut given) = (0, 0);
    for number in 0..20 {
        let call = boxes([yours(&root), text("table"), value(tuple([])), value(tuple([]))]);
        match raw.ask(100 + number, 8, call).await {
            (2, _) => given += 1,
            (_, content) => {
                assert_eq!(class(&content), "MemoryError");
                refused += 1;
            }
        }
    }
    assert_eq!((given, refused), (7, 13));
    assert!(raw.goes_on().await);

    // Of its own.
    let mut raw = Raw::new(FORMS[0], bench(), config.clone()).await;
    for number in 0..20 {
        let data = boxes([mine("x.Y", 1, 1000 + number)]);
        assert_eq!(
            raw.ask(100 + number, 1, data).await.0,
            2,
            "what is not kept does not count"
        );
    }
    for number in 0..20 {
        let data = boxes((0..20).map(|each| mine("x.Y", 1, 2000 + 20 * number + each)));
        raw.say(1, 200 + number, &tuple([Brine::Int(1), data])).await;
    }
    assert_eq!(within(raw.server.closed()).await.kind(), ErrorKind::Limit);

    // Calls that wait for the peer, which does not answer.
    let mut raw = Raw::new(FORMS[0], bench(), config).await;
    let root = raw.root().await;
    for number in 0..6 {
        let arguments = boxes([value(Brine::Int(1)), mine("builtins.function", 1, 2)]);
        let call = boxes([yours(&root), text("each"), arguments, value(tuple([]))]);
        raw.say(1, 100 + number, &tuple([Brine::Int(8), call])).await;
    }
    let (kind, content) = raw.reply(104).await;
    assert_eq!((kind, class(&content).as_str()), (3, "BlockingIOError"));
    assert!(raw.goes_on().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_had_handed_out_before_it_failed_is_taken_back() {
    let mut config = Config::default();
    config.max_objects = 8;
    let mut raw = Raw::new(FORMS[0], bench(), config).await;
    let root = raw.root().await;
    let arguments = value(tuple([Brine::Int(20)]));
    let call = boxes([yours(&root), text("samples"), arguments, value(tuple([]))]);
    let (kind, list) = raw.ask(100, 8, call).await;
    let Brine::Tuple(parts) = list else {
        panic!("{list:?}")
    };
    assert_eq!(kind, 2);
    let some = |many| boxes([yours(&parts[1]), value(Brine::Int(many))]);
    for number in 0..3 {
        let (kind, content) = raw.ask(200 + number, 17, some(20)).await;
        assert_eq!((kind, class(&content).as_str()), (3, "MemoryError"));
    }
    until(&raw.server, |stats| stats.exports == 1).await;
    assert_eq!(raw.ask(300, 17, some(6)).await.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_bytes_of_arguments_are_under_way_at_once_and_one_call_always() {
    let mut config = Config::default();
    config.max_call_bytes = 2000;
    let mut raw = Raw::new(FORMS[0], bench(), config).await;
    let root = raw.root().await;
    let call = |name, arguments| boxes([yours(&root), text(name), arguments, value(tuple([]))]);
    for number in 0..3 {
        let long = boxes([text(&"x".repeat(5000))]);
        assert_eq!(raw.ask(100 + number, 8, call("echo", long)).await.0, 2);
    }
    // They wait for the peer, which does not answer.
    for number in 0..3 {
        let held = boxes([text(&"x".repeat(800)), mine("builtins.function", 1, 2)]);
        let kept = tuple([Brine::Int(8), call("keep", held)]);
        raw.say(1, 200 + number, &kept).await;
    }
    let (kind, content) = raw.reply(202).await;
    assert_eq!((kind, class(&content).as_str()), (3, "BlockingIOError"));
    assert!(raw.goes_on().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tuple_may_have_more_items_that_are_tuples_than_one_may_be_inside_the_other() {
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let root = raw.root().await;
    let wide = boxes((0..1000).map(|number| boxes([value(Brine::Int(number))])));
    let call = boxes([yours(&root), text("echo"), boxes([wide]), value(tuple([]))]);
    let (kind, content) = raw.ask(100, 8, call).await;
    let items = (0..1000).map(|number| tuple([Brine::Int(number)]));
    assert_eq!((kind, content), (2, value(tuple(items))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_the_peers_that_has_no_end_or_is_in_itself_is_given_up() {
    let mut raw = Raw::new(FORMS[0], bench(), Config::default()).await;
    let root = raw.root().await;
    // It is asked for its elements, and says that it is one of them.
    let arguments = boxes([mine("builtins.list", 1, 2)]);
    let call = boxes([yours(&root), text("total"), arguments, value(tuple([]))]);
    raw.say(1, 100, &tuple([Brine::Int(8), call])).await;
    let content = loop {
        match within(raw.next()).await.unwrap() {
            (1, number, _) => {
                let Brine::Int(number) = number else { panic!() };
                raw.say(2, number, &boxes([mine("builtins.list", 1, 2)])).await;
            }
            (3, Brine::Int(100), content) => break content,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(class(&content), "MemoryError");
    assert!(raw.goes_on().await);

    // It goes on for ever.
    let arguments = boxes([mine("builtins.list", 1, 3)]);
    let call = boxes([yours(&root), text("total"), arguments, value(tuple([]))]);
    raw.say(1, 200, &tuple([Brine::Int(8), call])).await;
    let much = Brine::Bytes(Bytes::from(vec![0; 4096]));
    let content = loop {
        match within(raw.next()).await.unwrap() {
            (1, Brine::Int(number), Brine::Tuple(request)) => match &request[0] {
                Brine::Int(17) => {
                    let Brine::Tuple(boxed) = &request[1] else {
                        panic!()
                    };
                    let Brine::Tuple(arguments) = &boxed[1] else {
                        panic!()
                    };
                    let Brine::Tuple(count) = &arguments[1] else {
                        panic!()
                    };
                    let Brine::Int(count) = count[1] else { panic!() };
                    let items = (0..count).map(|_| much.clone());
                    raw.say(2, number, &value(tuple(items))).await;
                }
                Brine::Int(8) => raw.say(2, number, &mine("builtins.list_iterator", 1, 4)).await,
                _ => raw.say(2, number, &value(Brine::None)).await,
            },
            (3, Brine::Int(200), content) => break content,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(class(&content), "MemoryError");
    assert!(raw.goes_on().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_dials_is_told_which_generation_the_peer_speaks() {
    for (spoken, speaks) in [
        (Generation::Six, Generation::Five),
        (Generation::Five, Generation::Six),
    ] {
        let (near, mut far) = tokio::io::duplex(1 << 12);
        let config = Config::default();
        let rpyc = Rpyc::dial(Root::NONE, spoken, &config);
        let client = side(near, Role::Dialer, rpyc, false, config).await;
        // As either does with a message of the other: it closes, in its own words.
        let close: &[u8] = match speaks {
            Generation::Five => &[0x12, 0x51, 0x50, 0x11, 0x52, 0x11, 0x51, 0x02],
            Generation::Six => &[0x01, 0x11, 0x50, 0x11, 0x52, 0x11, 0x51, 0x02],
        };
        let mut out = BytesMut::new();
        put_frame(close, Compress::Never, &mut out).unwrap();
        far.write_all(&out).await.unwrap();
        let error = within(client.established()).await.unwrap_err();
        assert_eq!(
            error.downcast_ref::<OtherGeneration>().unwrap().speaks,
            speaks,
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_is_left() {
    let (_server, client) = {
        let (near, far) = tokio::io::duplex(1 << 20);
        let config = Config::default();
        let rpyc = Rpyc::accept(bench(), &config);
        (side(far, Role::Listener, rpyc, true, config).await, near)
    };
    let mut raw = client;
    let mut out = BytesMut::new();
    // Asks for an echo of 2 MiB again and again, and reads none.
    let mut payload = BytesMut::new();
    payload.put_u8(1);
    brine::put_tuple(2, &mut payload);
    brine::put_int(0, &mut payload);
    // What cannot be compressed.
    let mut random = 1_u32;
    let noise = (0..2 << 20).map(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    let data = Brine::Bytes(noise.collect());
    brine::encode(&tuple([Brine::Int(1), value(tuple([data]))]), &mut payload);
    put_frame(&payload, Compress::Never, &mut out).unwrap();
    let flood = async {
        loop {
            if raw.write_all(&out).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = flood => {}
        error = _server.closed() => assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}"),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("it is never left"),
    }
}

// ---- what a peer could do to containers

#[remote]
trait Shelf {
    /// A list of nothing.
    fn list(&self) -> Result<Vec<u32>>;
    fn take(&self, value: Value) -> Result<u32>;
    fn fail(&self) -> Result<()>;
    /// Some books, which nobody else holds.
    fn books(&self) -> Result<Vec<Netref<dyn Bench>>>;
}

struct Library {
    on_drop: Arc<dyn Fn() + Send + Sync>,
}

impl Shelf for Library {
    fn list(&self) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    fn take(&self, value: Value) -> Result<u32> {
        drop(value);
        Ok(1)
    }

    fn fail(&self) -> Result<()> {
        Err(Nosy(Arc::clone(&self.on_drop)).into())
    }

    fn books(&self) -> Result<Vec<Netref<dyn Bench>>> {
        let book = Book {
            on_drop: Arc::clone(&self.on_drop),
        };
        Ok(vec![Netref::of(book)])
    }
}

/// An error that looks at what it was told to when it is asked what it says.
struct Nosy(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Nosy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Nosy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.0)();
        f.write_str("nosy")
    }
}

impl std::error::Error for Nosy {}

/// Looks at what it was told to when it is dropped.
struct Book {
    on_drop: Arc<dyn Fn() + Send + Sync>,
}

impl Drop for Book {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

#[remote]
impl Bench for Book {
    fn voltage(&self, _: u8, _: Option<f64>) -> Result<f64> {
        Ok(0.0)
    }

    fn title(&self) -> Result<String> {
        Ok("book".into())
    }

    fn set_title(&self, _: String) -> Result<()> {
        Ok(())
    }

    fn samples(&self, _: u64) -> Result<Vec<Sample>> {
        Ok(Vec::new())
    }

    fn total(&self, _: Vec<Sample>) -> Result<f64> {
        Ok(0.0)
    }

    fn table(&self) -> Result<BTreeMap<String, Vec<u32>>> {
        Ok(BTreeMap::new())
    }

    fn echo(&self, value: Value) -> Result<Value> {
        Ok(value)
    }

    fn child(&self, _: String) -> Result<Netref<dyn Bench>> {
        Err(Error::msg("none"))
    }

    fn is_mine(&self, _: Netref<dyn Bench>) -> Result<bool> {
        Ok(false)
    }

    async fn keep(&self, _: Value, _: Netref<dyn Each>) -> Result<u32> {
        Ok(0)
    }

    async fn each(&self, _: u32, _: Netref<dyn Each>) -> Result<u32> {
        Ok(0)
    }

    fn down(&self, _: u32, _: Netref<dyn Deeper>) -> Result<u32> {
        Ok(0)
    }

    fn fails(&self, _: String) -> Result<()> {
        Ok(())
    }
}

fn shelf() -> Root {
    shelf_with(|| {})
}

fn shelf_with(on_drop: impl Fn() + Send + Sync + 'static) -> Root {
    let netref: Netref<dyn Shelf> = Netref::of(Library {
        on_drop: Arc::new(on_drop),
    });
    Root::of(&netref)
}

impl Raw {
    /// Calls a method of an object by its name, with boxes.
    async fn call(
        &mut self,
        of: &Brine,
        name: &str,
        arguments: impl IntoIterator<Item = Brine>,
    ) -> (u8, Brine) {
        let call = boxes([yours(of), text(name), boxes(arguments), value(tuple([]))]);
        self.ask(1000, 8, call).await
    }

    /// A list of this side's.
    async fn list(&mut self, root: &Brine) -> Brine {
        named(self.call(root, "list", []).await)
    }

    async fn give_back(&mut self, of: &Brine) {
        let del = boxes([yours(of), value(Brine::Int(1))]);
        assert_eq!(self.ask(1001, 15, del).await.0, 2);
    }
}

/// The name of the object that came.
fn named((kind, boxed): (u8, Brine)) -> Brine {
    let Brine::Tuple(mut parts) = boxed else {
        panic!("a box is a tuple")
    };
    assert_eq!((kind, &parts[0]), (2, &Brine::Int(4)), "{parts:?}");
    parts.remove(1)
}

/// Its carrier stayed open for as long as somebody held the connection, or a reference of it.
#[tokio::test]
async fn a_connection_that_is_over_hangs_up_on_a_peer_that_does_not_read() {
    let mut config = Config::default();
    config.close_timeout = Duration::from_millis(10);
    config.limits.backlog = 100_000;
    let mut raw = Raw::new(FORMS[0], shelf(), config).await;
    // It is not made shorter by being compressed.
    let mut random = 1_u32;
    let noise = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    let noise: Bytes = noise.take(60_000).collect();
    for number in 0..5 {
        let echo = value(tuple([Brine::Bytes(noise.clone())]));
        raw.say(1, number, &tuple([Brine::Int(1), echo])).await;
    }
    within(raw.server.closed()).await;
    let written = within(raw.io.write_all(&[0; 1 << 17])).await;
    assert!(written.is_err(), "nobody reads it any more");
}

/// A peer that handed out one object after the other, and read nothing, was to be given back any number of them.
#[tokio::test]
async fn what_is_given_back_to_a_peer_that_reads_nothing_counts() {
    let mut config = Config::default();
    config.limits.backlog = 1 << 20;
    let mut raw = Raw::new(FORMS[0], shelf(), config).await;
    for group in 0..50 {
        for number in 0..1000 {
            // A reply to what was not asked: it is given back at once.
            let object = mine("builtins.object", 1, group * 1000 + number);
            raw.say(2, 77, &object).await;
        }
        let sent = 1000 * (group as u64 + 1);
        let is_given_back =
            |stats: farref::Stats| stats.traffic.messages_received == sent && stats.imports <= 1;
        within(async {
            while !raw.server.is_closed() && !is_given_back(raw.server.stats()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let error = within(raw.server.closed()).await;
    assert!(error.to_string().contains("takes nothing"), "{error}");
}

/// Sorting by an order that is none panicked, and what is no number is neither less nor more than any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_with_what_is_no_number_is_sorted() {
    let mut raw = Raw::new(FORMS[0], shelf(), Config::default()).await;
    let root = raw.root().await;
    let list = raw.list(&root).await;
    let mut random = 1_u32;
    let numbers = (0..5000).map(|_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match random >> 24 {
            0..100 => Brine::Float(f64::NAN),
            number => Brine::Float(f64::from(number)),
        }
    });
    let numbers = value(tuple(numbers));
    assert_eq!(raw.call(&list, "extend", [numbers]).await.0, 2);
    let sorted = raw.call(&list, "sort", []).await;
    assert_eq!(sorted, (2, value(Brine::None)));
    assert!(raw.goes_on().await);
}

/// What was in several places was put together once for each: lists of two in each other, forty deep, never ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_the_peers_that_are_in_many_places_are_not_too_much() {
    let mut raw = Raw::new(FORMS[0], Root::NONE, Config::default()).await;
    assert!(raw.goes_on().await);
    let object = within(raw.server.object()).await.unwrap();
    let copied = tokio::spawn(async move { object.fetch().await });
    while !copied.is_finished() {
        let Some((1, Brine::Int(number), Brine::Tuple(request))) = within(raw.next()).await else {
            panic!("a request")
        };
        match request[0] {
            Brine::Int(3) => raw.say(2, number, &mine("builtins.list", 1, 1)).await,
            Brine::Int(17) => {
                let at = instance(&request[1]);
                let inside = (at < 40).then(|| mine("builtins.list", 1, at + 1));
                let twice = boxes([inside.clone(), inside].into_iter().flatten());
                raw.say(2, number, &twice).await;
                if at == 40 {
                    break;
                }
            }
            _ => raw.say(2, number, &value(Brine::None)).await,
        }
    }
    let error = within(copied).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
}

/// The number of the object that a request is about.
fn instance(boxed: &Brine) -> i128 {
    let part = |of: &Brine, at: usize| match of {
        Brine::Tuple(parts) => parts[at].clone(),
        other => panic!("{other:?}"),
    };
    match part(&part(&part(&part(boxed, 1), 0), 1), 2) {
        Brine::Int(instance) => instance,
        other => panic!("{other:?}"),
    }
}

/// Each list was dropped within the one that it was in: a chain of them was deeper than the stack, and the process ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_this_side_inside_each_other_are_dropped_however_deep() {
    const DEEP: i128 = 4_000;
    let mut raw = Raw::new(FORMS[0], shelf(), Config::default()).await;
    let root = raw.root().await;
    let list = |number| {
        let pack = [
            Brine::Str("builtins.list".into()),
            Brine::Int(1),
            Brine::Int(number),
        ];
        tuple(pack)
    };
    let first = raw.list(&root).await;
    assert_eq!(first, list(2));
    let call = |of: &Brine, name: &str, arguments: Brine| {
        let call = boxes([yours(of), text(name), arguments, value(tuple([]))]);
        tuple([Brine::Int(8), call])
    };
    for number in 2..DEEP {
        let (inner, outer) = (list(number), list(number + 1));
        raw.say(1, 1, &call(&inner, "copy", value(tuple([])))).await;
        raw.say(1, 2, &call(&outer, "clear", value(tuple([])))).await;
        raw.say(1, 3, &call(&outer, "append", boxes([yours(&inner)])))
            .await;
        let del = boxes([yours(&inner), value(Brine::Int(1))]);
        raw.say(1, 4, &tuple([Brine::Int(15), del])).await;
        for expected in 1..5 {
            let (kind, of, content) = within(raw.next()).await.unwrap();
            assert_eq!((kind, of), (2, Brine::Int(expected)), "{content:?}");
        }
    }
    raw.give_back(&list(DEEP)).await;
    assert!(raw.goes_on().await);
    until(&raw.server, |stats| stats.exports == 0).await;
}

/// Lists of two in each other were made values of by way of every place: four thousand million of them, or more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_this_side_that_are_in_many_places_are_not_too_much() {
    let mut raw = Raw::new(FORMS[0], shelf(), Config::default()).await;
    let root = raw.root().await;
    let mut inner = raw.list(&root).await;
    for _ in 0..30 {
        let outer = raw.list(&root).await;
        for _ in 0..2 {
            assert_eq!(raw.call(&outer, "append", [yours(&inner)]).await.0, 2);
        }
        inner = outer;
    }
    let (kind, content) = raw.call(&root, "take", [yours(&inner)]).await;
    assert_eq!((kind, class(&content).as_str()), (3, "MemoryError"));
    let other = raw.list(&root).await;
    let compare = boxes([yours(&other), yours(&inner), text("__eq__")]);
    let (kind, content) = raw.ask(1000, 11, compare).await;
    assert_eq!((kind, class(&content).as_str()), (3, "MemoryError"));
    let written = raw.ask(1000, 9, boxes([yours(&inner)])).await;
    assert_eq!(written.0, 2);

    // One that is in itself.
    assert_eq!(raw.call(&other, "append", [yours(&other)]).await.0, 2);
    assert_eq!(raw.call(&other, "append", [yours(&other)]).await.0, 2);
    let (kind, content) = raw.call(&root, "take", [yours(&other)]).await;
    assert_eq!((kind, class(&content).as_str()), (3, "MemoryError"));
    assert!(raw.goes_on().await);
}

/// An object that only a list held was dropped under the connection's lock: a destructor that used the connection never
/// came back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_destructor_of_an_object_in_a_list_may_use_the_connection() {
    let used = Arc::new(std::sync::OnceLock::<Connection>::new());
    let dropped = Arc::new(AtomicUsize::new(0));
    let root = shelf_with({
        let (used, dropped) = (Arc::clone(&used), Arc::clone(&dropped));
        move || {
            let _ = used.get().unwrap().stats();
            dropped.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut raw = Raw::new(FORMS[0], root, Config::default()).await;
    used.set(raw.server.clone()).unwrap();
    let root = raw.root().await;
    // An error was asked for its words there, too.
    let (kind, content) = raw.call(&root, "fail", []).await;
    assert_eq!((kind, class(&content).as_str()), (3, "RuntimeError"));
    for (name, arguments) in [
        ("clear", Vec::new()),
        ("__delitem__", vec![value(Brine::Int(0))]),
        ("__setitem__", vec![value(Brine::Int(0)), value(Brine::None)]),
    ] {
        let before = dropped.load(Ordering::SeqCst);
        let list = named(raw.call(&root, "books", []).await);
        assert_eq!(raw.call(&list, name, arguments).await.0, 2);
        assert!(raw.goes_on().await);
        within(async {
            while dropped.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// Every copy of a list was kept as long as the peer liked, and cost it nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_cannot_have_containers_copied_without_end() {
    let mut raw = Raw::new(FORMS[0], shelf(), Config::default()).await;
    let root = raw.root().await;
    let list = raw.list(&root).await;
    let large = text(&"x".repeat(4 << 20));
    assert_eq!(raw.call(&list, "append", [large.clone()]).await.0, 2);
    let mut copies = Vec::new();
    let (kind, content) = loop {
        match raw.call(&list, "copy", []).await {
            (2, boxed) => copies.push(named((2, boxed))),
            refused => break refused,
        }
        assert!(copies.len() < 100);
    };
    assert_eq!((kind, class(&content).as_str()), (3, "MemoryError"));
    assert_eq!(raw.call(&list, "append", [large.clone()]).await.0, 3);
    for copy in copies {
        raw.give_back(&copy).await;
    }
    assert!(raw.goes_on().await);
    // What is put in and taken out again does not add up.
    for _ in 0..20 {
        assert_eq!(raw.call(&list, "append", [large.clone()]).await.0, 2);
        let cleared = raw.call(&list, "clear", []).await;
        assert_eq!(cleared.0, 2);
    }
    for _ in 0..20 {
        assert_eq!(raw.call(&list, "append", [large.clone()]).await.0, 2);
        let popped = raw.call(&list, "pop", []).await;
        assert_eq!(popped.0, 2);
    }
    let other = raw.list(&root).await;
    for _ in 0..10 {
        assert_eq!(raw.call(&other, "append", [large.clone()]).await.0, 2);
    }
}

/// A list that was in itself was never dropped, with all that was in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_containers_hold_that_hold_each_other_is_dropped_with_the_connection() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let root = shelf_with({
        let dropped = Arc::clone(&dropped);
        move || _ = dropped.fetch_add(1, Ordering::SeqCst)
    });
    let mut raw = Raw::new(FORMS[0], root, Config::default()).await;
    let root = raw.root().await;
    let itself = named(raw.call(&root, "books", []).await);
    assert_eq!(raw.call(&itself, "append", [yours(&itself)]).await.0, 2);
    let iterated = named(raw.call(&root, "books", []).await);
    let iteration = named(raw.call(&iterated, "__iter__", []).await);
    assert_eq!(raw.call(&iterated, "append", [yours(&iteration)]).await.0, 2);
    for held in [itself, iterated, iteration] {
        raw.give_back(&held).await;
    }
    let Raw { io, server, .. } = raw;
    drop(io);
    within(server.closed()).await;
    within(async {
        while dropped.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A name with a dot in it was passed on, and what is behind the dot is a name elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_private_is_behind_a_dot() {
    let bag = Object::dynamic(Bag(Mutex::default()));
    let mut raw = Raw::new(FORMS[0], Root::of_object(&bag), Config::default()).await;
    let root = raw.root().await;
    for name in ["Bag.__class__", "x.y", "_x", "."] {
        let none = value(tuple([]));
        for (handler, boxed) in [
            (4, boxes([yours(&root), text(name)])),
            (5, boxes([yours(&root), text(name)])),
            (6, boxes([yours(&root), text(name), value(Brine::None)])),
            (8, boxes([yours(&root), text(name), none.clone(), none])),
        ] {
            let (kind, content) = raw.ask(100, handler, boxed).await;
            assert_eq!(
                (kind, class(&content).as_str()),
                (3, "AttributeError"),
                "{handler} {name}"
            );
        }
    }
}

/// Numbers, some hundred of them.
#[remote]
trait Counter {
    fn numbers(&self) -> Result<u32>;
}

struct Hundreds;

#[remote(iter)]
impl Counter for Hundreds {
    fn numbers(&self) -> Result<u32> {
        Ok(300)
    }
}

impl IntoIterator for &Hundreds {
    type Item = u32;
    type IntoIter = std::ops::Range<u32>;

    fn into_iter(self) -> Self::IntoIter {
        0..300
    }
}

/// What was asked for twice at once came twice, and what was behind it was left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elements_that_are_asked_for_all_at_once_come_once_each() {
    let root = Root::of(&Netref::<dyn Counter>::of(Hundreds));
    let mut raw = Raw::new(FORMS[0], root, Config::default()).await;
    let root = raw.root().await;
    let iteration = named(raw.call(&root, "__iter__", []).await);
    let none = || value(tuple([]));
    for number in 0..301 {
        let next = boxes([yours(&iteration), text("__next__"), none(), none()]);
        raw.say(1, number, &tuple([Brine::Int(8), next])).await;
    }
    let mut came = Vec::new();
    let mut ends = 0;
    for _ in 0..301 {
        match within(raw.next()).await.unwrap() {
            (2, _, Brine::Tuple(boxed)) => came.push(boxed[1].clone()),
            (3, _, Brine::Int(1)) => ends += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends, 1);
    came.sort_by_key(|number| match number {
        Brine::Int(number) => *number,
        other => panic!("{other:?}"),
    });
    assert_eq!(came, (0..300).map(Brine::Int).collect::<Vec<_>>());
}

/// Each call failed within the one before it: a chain of some thousands overflowed the stack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_on_each_others_results_fail_however_many_they_are() {
    let mut raw = Raw::new(FORMS[0], Root::NONE, Config::default()).await;
    assert!(raw.goes_on().await);
    let object = within(raw.server.object()).await.unwrap();
    let bench: Netref<dyn Bench> = within(object.cast()).await.unwrap();
    let first = bench.call().child("first".into()).start();
    let mut calls = vec![first.pipe().child("second".into()).start()];
    for _ in 0..10_000 {
        let next = calls.last().unwrap().pipe().child("next".into()).start();
        calls.push(next);
    }
    loop {
        let Some((1, Brine::Int(number), Brine::Tuple(request))) = within(raw.next()).await else {
            panic!("a request")
        };
        if request[0] == Brine::Int(3) {
            raw.say(2, number, &mine("x.Bench", 1, 1)).await;
        } else {
            raw.say(3, number, &Brine::Int(1)).await;
            break;
        }
    }
    for call in calls.into_iter().rev() {
        assert_eq!(
            within(call).await.map(drop).unwrap_err().kind(),
            ErrorKind::Broken
        );
    }
}

/// Two classes of one name were one to Python.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_of_one_name_are_told_apart() {
    struct Class(&'static str);

    impl Dynamic for Class {
        fn describe(&self) -> Description {
            Description::by_name("Class").with_operation("class")
        }

        fn perform(&self, _: &Op, _: Arguments) -> Result<Value> {
            Ok(self.0.into())
        }
    }

    struct Module;

    impl Dynamic for Module {
        fn describe(&self) -> Description {
            Description::by_name("Module").with_operation("get")
        }

        fn perform(&self, op: &Op, _: Arguments) -> Result<Value> {
            let class = match op {
                Op::Get(name) if name == "a" => "a",
                _ => "b",
            };
            Ok(Object::dynamic(Class(class)).into())
        }
    }

    let module = Object::dynamic(Module);
    let mut raw = Raw::new(FORMS[0], Root::of_object(&module), Config::default()).await;
    let root = raw.root().await;
    let a = named(raw.ask(1, 4, boxes([yours(&root), text("a")])).await);
    let b = named(raw.ask(1, 4, boxes([yours(&root), text("b")])).await);
    for (class, says) in [(&a, "a"), (&b, "b"), (&a, "a")] {
        let none = value(tuple([]));
        let called = raw.ask(1, 7, boxes([yours(class), none.clone(), none])).await;
        assert_eq!(called, (2, text(says)));
    }
    raw.give_back(&a).await;
    raw.give_back(&b).await;
    assert!(raw.goes_on().await);
}
