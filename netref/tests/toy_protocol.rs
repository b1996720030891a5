//! The seam between the engine and what is spoken: a second protocol, of lines of text, carries the same objects.
//!
//! It has no frames, no lanes and no counted references, and shares nothing with farref's own. That typed netrefs,
//! callbacks and releases work over it shows that nothing native leaks through the seam.
//!
//! It is spoken in two ways: with methods by number, or by name alone, as with a peer that knows no interfaces.

#![cfg(test)]

extern crate farref_netref as farref;

mod native;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Event, Factory, Imported, Incoming, IncomingTarget, Op,
    Outcome, Outgoing, Protocol, Received, Refs, Reply, Request, TableStats, Target,
};
use farref::{
    Certainty, Config, Connection, EngineHandles, Error, ErrorKind, Netref, Parts, Peer, Remote, RemoteTrait,
    Result, Value, remote,
};
use farref_framing::{Batch, CloseReason, Nanos, PeerEvidence, Role, StreamKey};
use farref_transport::StreamCarrier;

type H = EngineHandles;
type Object = Arc<dyn farref::Exported>;
type Waiter = farref::Waiter;

/// `call N TARGET OP FETCH BODY REFS`, `value N FAILED SHAPE BODY REFS`, `error N TEXT`,
/// `lacks N TEXT`, `free N`,
/// `root REF`: one a line, numbers in decimal, bodies in hexadecimal, references as `mine:ID:INTERFACE` or `yours:ID`.
#[derive(Default)]
struct Toy {
    /// There are no interfaces and no methods by number.
    by_name: bool,
    /// Arguments are told of behind their calls.
    late: bool,
    /// What was called, and how many levels were to be fetched; what was answered by an error value.
    called: Arc<Mutex<Vec<String>>>,
    /// Calls on what others will return.
    piped: Vec<Piped>,
    out: String,
    events: VecDeque<Event<H>>,
    exports: BTreeMap<u64, Object>,
    imports: BTreeMap<u64, std::sync::Weak<farref::Import>>,
    calls: BTreeMap<u64, (Option<Outcome<H>>, Option<Waiter>)>,
    answers: BTreeMap<u64, ()>,
    next: u64,
    generation: u32,
    over: bool,
}

/// A call on what another one will return.
struct Piped {
    on: u64,
    slot: usize,
    number: u64,
    rest: String,
}

/// An operation as one word.
fn write_op(op: &Op) -> Option<String> {
    Some(match op {
        Op::Method {
            interface,
            method,
            shape,
        } => format!("method:{interface}:{method}:{shape}"),
        Op::Named(name) => format!("named:{name}"),
        Op::Get(name) => format!("get:{name}"),
        Op::Set(name) => format!("set:{name}"),
        Op::Text => "text:".into(),
        Op::Describe => "describe:".into(),
        _ => return None,
    })
}

fn read_op(word: &str) -> Op {
    let (op, rest) = word.split_once(':').unwrap();
    match op {
        "method" => {
            let numbers: Vec<u64> = rest.split(':').map(|number| number.parse().unwrap()).collect();
            Op::Method {
                interface: numbers[0],
                method: numbers[1] as u32,
                shape: numbers[2] as u32,
            }
        }
        "named" => Op::Named(rest.into()),
        "get" => Op::Get(rest.into()),
        "set" => Op::Set(rest.into()),
        "text" => Op::Text,
        _ => Op::Describe,
    }
}

impl Toy {
    /// One that knows no interfaces.
    fn by_name(root: Option<Object>, called: &Arc<Mutex<Vec<String>>>) -> Self {
        let mut toy = Self::new(root);
        toy.by_name = true;
        toy.called = Arc::clone(called);
        toy
    }

    fn new(root: Option<Object>) -> Self {
        let mut toy = Self::default();
        let root = root.map(|object| {
            let interface = object.interface_id();
            Outgoing::Local {
                object,
                interface,
                lent: false,
            }
        });
        let reference = toy.write_ref(root.unwrap_or(Outgoing::Null));
        writeln!(toy.out, "root {reference}").unwrap();
        toy
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn write_ref(&mut self, reference: Outgoing<H>) -> String {
        match reference {
            Outgoing::Null | Outgoing::Broken(_) => "null".into(),
            Outgoing::Home { id, .. } => format!("yours:{id}"),
            Outgoing::Local {
                object, interface, ..
            } => {
                let id = self.number();
                self.exports.insert(id, object);
                format!("mine:{id}:{interface}")
            }
        }
    }

    fn write_refs(&mut self, refs: Refs<Outgoing<H>>) -> String {
        let refs: Vec<_> = refs
            .into_iter()
            .map(|reference| self.write_ref(reference))
            .collect();
        format!("[{}]", refs.join(","))
    }

    fn read_ref(&mut self, text: &str, factory: &dyn Factory<H>) -> Received<H> {
        match text.split(':').collect::<Vec<_>>()[..] {
            ["mine", id, interface] => {
                let id: u64 = id.parse().unwrap();
                self.generation += 1;
                let imported = Imported {
                    id,
                    generation: self.generation,
                    object: id,
                    interface: if self.by_name {
                        0
                    } else {
                        interface.parse().unwrap()
                    },
                };
                let proxy = factory.proxy(imported);
                self.imports.insert(id, Arc::downgrade(&proxy));
                Received::Import(proxy)
            }
            ["yours", id] => Received::Home(Arc::clone(
                self.exports
                    .get(&id.parse().unwrap())
                    .expect("an export comes home"),
            )),
            _ => Received::Null,
        }
    }

    fn read_refs(&mut self, text: &str, factory: &dyn Factory<H>) -> Refs<Received<H>> {
        let text = text.trim_matches(['[', ']']);
        text.split(',')
            .filter(|text| !text.is_empty())
            .map(|text| self.read_ref(text, factory))
            .collect()
    }

    fn line(&mut self, line: &str, factory: &dyn Factory<H>) -> Result<(), Error> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["root", reference] => {
                let root = self.read_ref(reference, factory);
                self.events.push_back(Event::Opened(root));
            }
            ["call", number, target, op, fetch, body, refs] => {
                let refs = self.read_refs(refs, factory);
                let answer = number.parse().unwrap();
                let export = target.parse().unwrap();
                self.answers.insert(answer, ());
                let target = match self.exports.get(&export) {
                    Some(object) => {
                        let interface = object.interface_id();
                        IncomingTarget::Object {
                            object: Arc::clone(object),
                            export,
                            interface,
                        }
                    }
                    None => IncomingTarget::Broken(Error::new(ErrorKind::Broken, "no such object")),
                };
                self.called.lock().unwrap().push(format!("{op} {fetch}"));
                let op = read_op(op);
                let options = CallOptions {
                    blocking: true,
                    ..CallOptions::default()
                };
                let (now, late) = if self.late {
                    ((None, Refs::new()), Some((unhex(body), refs)))
                } else {
                    ((Some(unhex(body)), refs), None)
                };
                self.events.push_back(Event::Call(Incoming {
                    answer,
                    target,
                    request: Box::new(Request {
                        op,
                        options,
                        body: now.0,
                        plain: None,
                        refs: now.1,
                    }),
                }));
                let body = late.map(|(body, refs)| Event::Body { answer, body, refs });
                self.events.extend(body);
            }
            ["value", number, failed, shape, body, refs] => {
                let refs = self.read_refs(refs, factory);
                let (failed, shape) = (failed.parse().unwrap(), shape.parse().unwrap());
                self.finish(
                    number.parse().unwrap(),
                    Outcome::Value {
                        failed,
                        shape,
                        body: unhex(body),
                        refs,
                        writer: None,
                    },
                );
            }
            [verdict @ ("error" | "lacks"), number, ..] => {
                let kind = match verdict {
                    "lacks" => ErrorKind::Unimplemented,
                    _ => ErrorKind::Remote,
                };
                let text = words[2..].join(" ");
                self.finish(number.parse().unwrap(), Outcome::Error(Error::new(kind, text)));
            }
            ["free", export] => {
                if let Some(object) = self.exports.remove(&export.parse().unwrap()) {
                    self.events.push_back(Event::Unexported(object));
                }
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    format!("the peer wrote {line:?}"),
                ));
            }
        }
        Ok(())
    }

    fn finish(&mut self, number: u64, outcome: Outcome<H>) {
        let on_it: Vec<Piped> = self.piped.extract_if(.., |piped| piped.on == number).collect();
        for Piped {
            slot, number, rest, ..
        } in on_it
        {
            match &outcome {
                Outcome::Value { refs, .. } if let Some(Received::Import(target)) = refs.get(slot) => {
                    let target = target.imported().unwrap().id;
                    writeln!(self.out, "call {number} {target} {rest}").unwrap();
                }
                _ => self.finish(number, Outcome::Error(ErrorKind::Broken.into())),
            }
        }
        if let Some((slot, waiter)) = self.calls.get_mut(&number) {
            *slot = Some(outcome);
            self.events.extend(waiter.take().map(Event::Ready));
        }
    }
}

impl Protocol<H> for Toy {
    fn handle_bytes(
        &mut self,
        _: StreamKey,
        input: &mut BytesMut,
        _: bool,
        factory: &dyn Factory<H>,
        _: Nanos,
    ) -> Result<(), Error> {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let line = input.split_to(end + 1);
            self.line(std::str::from_utf8(&line[..end]).unwrap(), factory)?;
        }
        Ok(())
    }

    fn handle_timeout(&mut self, _: Nanos) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Nanos> {
        None
    }

    fn poll_transmit(&mut self, batch: &mut Batch, _: Nanos) -> bool {
        if self.out.is_empty() {
            return false;
        }
        batch.put_bytes(Bytes::from(std::mem::take(&mut self.out)));
        true
    }

    fn wants_write(&self) -> bool {
        !self.out.is_empty()
    }

    fn is_by_name(&self) -> bool {
        self.by_name
    }

    fn poll_event(&mut self) -> Option<Event<H>> {
        self.events.pop_front()
    }

    fn call(&mut self, start: CallStart<'_, H>, _: Nanos) -> Result<u64, Error> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "the toy protocol has no such operation");
        let op = write_op(start.op).ok_or_else(unsupported)?;
        assert!(
            !self.by_name || !op.starts_with("method"),
            "a call by number came through"
        );
        let refs = self.write_refs(start.refs);
        let number = self.number();
        let rest = format!("{op} {} {} {refs}", start.options.fetch, hex(start.body));
        match start.target {
            Target::Import(target) => writeln!(self.out, "call {number} {target} {rest}").unwrap(),
            Target::Answer { call, slot } => self.piped.push(Piped {
                on: call,
                slot: slot as usize,
                number,
                rest,
            }),
        }
        self.calls.insert(number, (None, None));
        Ok(number)
    }

    fn poll_outcome(
        &mut self,
        call: u64,
        waiter: &mut dyn FnMut(Option<Waiter>) -> Waiter,
    ) -> Poll<Outcome<H>> {
        match self.calls.get_mut(&call) {
            Some((Some(_), _)) => {
                let outcome = self.calls.remove(&call).and_then(|(outcome, _)| outcome);
                Poll::Ready(outcome.unwrap())
            }
            Some((None, slot)) => {
                let before = slot.take();
                *slot = Some(waiter(before));
                Poll::Pending
            }
            None => Poll::Ready(Outcome::Error(ErrorKind::Disconnected(Certainty::Unknown).into())),
        }
    }

    fn is_ready(&self, call: u64) -> bool {
        self.calls.get(&call).is_none_or(|(outcome, _)| outcome.is_some())
    }

    fn drop_call(&mut self, call: u64, _: CancelReason) -> Option<Waiter> {
        self.calls.remove(&call)?.1
    }

    fn answer(&mut self, answer: u64, reply: Reply<'_, H>) {
        if self.answers.remove(&answer).is_none() {
            return;
        }
        match reply {
            Reply::Value {
                failure,
                shape,
                body,
                refs,
            } => {
                let (refs, failed) = (self.write_refs(refs), failure.is_some());
                if let Some(failure) = failure {
                    let is_io = failure.downcast_ref::<std::io::Error>().is_some();
                    self.called
                        .lock()
                        .unwrap()
                        .push(format!("failed: {failure}, io: {is_io}"));
                }
                writeln!(self.out, "value {answer} {failed} {shape} {} {refs}", hex(body)).unwrap();
            }
            Reply::Error { error, .. } if error.kind() == ErrorKind::Unimplemented => {
                writeln!(self.out, "lacks {answer} {error}").unwrap();
            }
            Reply::Error { error, .. } => writeln!(self.out, "error {answer} {error}").unwrap(),
        }
    }

    fn release(&mut self, import: u64, _: u32) {
        self.imports.remove(&import);
        writeln!(self.out, "free {import}").unwrap();
    }

    fn ping(&mut self, _: Nanos) {
        self.events.push_back(Event::Pong(1));
    }

    fn drain(&mut self) {}

    fn close(&mut self, _: CloseReason) {}

    fn sever(&mut self, error: &Error) {
        self.over = true;
        let waiting: Vec<u64> = self.calls.keys().copied().collect();
        for call in waiting {
            self.finish(call, Outcome::Error(error.clone()));
        }
        let exports = std::mem::take(&mut self.exports);
        self.events.extend(exports.into_values().map(Event::Unexported));
    }

    fn stats(&self) -> TableStats {
        let mut stats = TableStats::default();
        stats.exports = self.exports.len();
        stats.imports = self.imports.len();
        stats.calls = self.calls.len();
        stats.answers = self.answers.len();
        stats.running = self.answers.len();
        stats
    }
}

fn hex(body: BodyRef<'_>) -> String {
    let bytes = match body {
        BodyRef::Slice(slice) => slice.to_vec(),
        BodyRef::Rope(pieces) => pieces.concat(),
    };
    bytes.iter().fold(String::from("x"), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text[1..]
        .bytes()
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect::<Vec<u8>>()
        .into()
}

// ---- the same objects as over farref's own protocol

#[remote]
trait Counter {
    fn add(&self, n: u32) -> Result<u32>;
    async fn each(&self, to: Netref<dyn Seen>) -> Result<u32>;
    fn child(&self) -> Result<Netref<dyn Counter>>;
}

#[remote]
trait Seen {
    fn seen(&self, n: u32) -> Result<()>;
}

struct Count(AtomicUsize, tokio::sync::mpsc::UnboundedSender<&'static str>);

#[remote]
impl Counter for Count {
    fn add(&self, n: u32) -> Result<u32> {
        if n == 13 {
            return Err(Error::msg("unlucky"));
        }
        Ok(self.0.fetch_add(n as usize, Ordering::SeqCst) as u32 + n)
    }

    async fn each(&self, to: Netref<dyn Seen>) -> Result<u32> {
        for n in 0..3 {
            to.call().seen(n).await?;
        }
        Ok(3)
    }

    fn child(&self) -> Result<Netref<dyn Counter>> {
        Ok(Netref::of(Count(AtomicUsize::new(100), self.1.clone())))
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let _ = self.1.send("dropped");
    }
}

struct Sum(AtomicUsize);

impl Seen for Sum {
    fn seen(&self, n: u32) -> Result<()> {
        self.0.fetch_add(n as usize + 1, Ordering::SeqCst);
        Ok(())
    }
}

async fn toys(root: Netref<dyn Counter>) -> (Connection, Connection) {
    joined(Toy::new, &root).await
}

/// A side that shows `root`, and one that does not.
async fn joined<T: ?Sized + RemoteTrait>(
    toy: impl Fn(Option<Object>) -> Toy,
    root: &Netref<T>,
) -> (Connection, Connection) {
    let (a, b) = farref_transport::memory::pair(16);
    let root: Option<Object> = farref::Root::of(root).into_object();
    (
        side(a, Role::Listener, |parts| {
            Connection::over(toy(root), parts, true, Config::default())
        })
        .await,
        side(b, Role::Dialer, |parts| {
            Connection::over(toy(None), parts, false, Config::default())
        })
        .await,
    )
}

/// A connection over one end of a carrier.
async fn side(carrier: StreamCarrier, role: Role, speak: impl FnOnce(Parts) -> Connection) -> Connection {
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), role).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.keep_open = true;
    parts.guard = guard;
    speak(parts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_netrefs_work_over_a_protocol_of_text() {
    let (dropped, mut drops) = tokio::sync::mpsc::unbounded_channel();
    let (_server, client) = toys(Netref::of(Count(AtomicUsize::new(0), dropped))).await;
    let counter: Netref<dyn Counter> = client.root().await.unwrap();

    assert_eq!(counter.call().add(2).await.unwrap(), 2);
    assert_eq!(
        tokio::task::block_in_place(|| counter.add(3)).unwrap(),
        5,
        "a blocking call"
    );
    assert_eq!(counter.call().add(13).await.unwrap_err().message(), "unlucky");

    let sum = Arc::new(Sum(AtomicUsize::new(0)));
    assert_eq!(counter.each(Netref::share(&sum)).await.unwrap(), 3);
    assert_eq!(
        sum.0.load(Ordering::SeqCst),
        6,
        "three callbacks came back over the same connection"
    );

    let child = counter.call().child().await.unwrap();
    assert_eq!(child.call().add(1).await.unwrap(), 101);
    drop(child);
    let freed = tokio::time::timeout(Duration::from_secs(30), drops.recv()).await;
    assert_eq!(
        freed.unwrap(),
        Some("dropped"),
        "the last drop here frees the object there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_no_message_ends_the_connection_with_a_clear_error() {
    let (a, b) = farref_transport::memory::pair(1024);
    let (inlet, outlet, _, guard) = farref_framing::open(a.into(), Role::Listener).await.unwrap();
    let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
    parts.keep_open = true;
    parts.guard = guard;
    let connection = Connection::over(Toy::new(None), parts, false, Config::default());
    let mut peer = b;
    peer.tx.try_write(&[std::io::IoSlice::new(b"hello\n")]).unwrap();
    let error = tokio::time::timeout(Duration::from_secs(30), connection.closed())
        .await
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("hello"), "{error}");
}

// ---- objects of a peer that knows no interfaces

/// What the peer's object has. The peer does not tell, and its trait is another one than ours.
#[remote(name = "there.Bench")]
trait TheirBench {
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;
    #[property]
    fn title(&self) -> Result<String>;
    #[property]
    fn set_title(&self, title: String) -> Result<()>;
    fn rows(&self) -> Result<Vec<Vec<u32>>>;
    fn odd(&self) -> Result<String>;
    fn any(&self) -> Result<Value>;
    fn probe(&self) -> Result<Netref<dyn TheirBench>>;
    async fn each(&self, to: Netref<dyn Seen>) -> Result<u32>;
    fn is_of_here(&self, object: farref::Object) -> Result<bool>;
}

#[derive(Default)]
struct Simulated(Mutex<String>);

#[remote]
impl TheirBench for Simulated {
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64> {
        if channel == 13 {
            return Err(Error::new(ErrorKind::Denied, "unlucky"));
        }
        if channel == 14 {
            return Err(std::io::Error::other("no current").into());
        }
        Ok(f64::from(channel) * gain.unwrap_or(1.0))
    }

    fn title(&self) -> Result<String> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn set_title(&self, title: String) -> Result<()> {
        *self.0.lock().unwrap() = title;
        Ok(())
    }

    fn rows(&self) -> Result<Vec<Vec<u32>>> {
        Ok(vec![vec![1, 2], vec![3]])
    }

    fn odd(&self) -> Result<String> {
        Ok("odd".into())
    }

    fn any(&self) -> Result<Value> {
        Ok("any".into())
    }

    fn probe(&self) -> Result<Netref<dyn TheirBench>> {
        Ok(Netref::of(Self(Mutex::new("probe".into()))))
    }

    async fn each(&self, to: Netref<dyn Seen>) -> Result<u32> {
        for n in 0..3 {
            to.call().seen(n).await?;
        }
        Ok(3)
    }

    fn is_of_here(&self, object: farref::Object) -> Result<bool> {
        Ok(object.is_local())
    }
}

/// What we make of it.
#[remote(name = "here.Bench")]
trait Bench: Titled {
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;
    fn rows(&self) -> Result<Vec<Vec<u32>>>;
    fn odd(&self) -> Result<u32>;
    fn any(&self) -> Result<Value>;
    fn probe(&self) -> Result<Netref<dyn Bench>>;
    async fn each(&self, to: Netref<dyn Heard>) -> Result<u32>;
    fn is_of_here(&self, object: Netref<dyn Bench>) -> Result<bool>;
    fn missing(&self) -> Result<u32>;
    /// With a default body.
    fn lacking(&self) -> Result<u32> {
        Ok(7)
    }
}

#[remote(name = "here.Titled")]
trait Titled {
    #[property]
    fn title(&self) -> Result<String>;
    #[property]
    fn set_title(&self, title: String) -> Result<()>;
}

/// Has what the peer calls by another trait.
#[remote(name = "here.Heard")]
trait Heard {
    fn seen(&self, n: u32) -> Result<()>;
}

impl Heard for Sum {
    fn seen(&self, n: u32) -> Result<()> {
        Seen::seen(self, n)
    }
}

/// The peer's root under our trait, with what keeps it, and what was called by way of it.
async fn bench() -> (
    Netref<dyn Bench>,
    (Connection, Connection),
    Arc<Mutex<Vec<String>>>,
) {
    let called = Arc::default();
    let root: Netref<dyn TheirBench> = Netref::of(Simulated::default());
    let (server, client) = joined(|root| Toy::by_name(root, &called), &root).await;
    let bench = client.root::<dyn Bench>().await.unwrap();
    (bench, (server, client), called)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trait_is_put_over_an_object_of_a_peer_that_knows_no_interfaces() {
    let (bench, _connections, called) = bench().await;
    assert_eq!(bench.call().voltage(3, None).await.unwrap(), 3.0);
    tokio::task::block_in_place(|| {
        assert_eq!(bench.voltage(3, Some(2.0)).unwrap(), 6.0, "a blocking call");
        bench.set_title("upstairs".into()).unwrap();
        assert_eq!(
            bench.title().unwrap(),
            "upstairs",
            "properties of the trait it extends"
        );
        assert_eq!(bench.rows().unwrap(), [vec![1, 2], vec![3]]);
        assert_eq!(bench.any().unwrap(), "any".into());
        assert_eq!(bench.lacking().unwrap(), 7, "the default body");
        assert_eq!(bench.missing().unwrap_err().kind(), ErrorKind::Unimplemented);
        assert!(bench.is_of_here(bench.clone()).unwrap(), "it goes home as itself");
    });
    let expected = [
        "named:voltage 0",
        "named:voltage 0",
        "set:title 0",
        "get:title 0",
        "named:rows 2",
        "named:any 0",
        "named:lacking 0",
        "named:missing 0",
        "named:is_of_here 0",
    ];
    assert_eq!(
        *called.lock().unwrap(),
        expected,
        "by name, with the levels that are fetched"
    );

    let denied = bench.call().voltage(13, None).await.unwrap_err();
    assert_eq!(
        (denied.kind(), &*denied.message()),
        (ErrorKind::Denied, "unlucky")
    );
    assert!(denied.trace().contains("voltage"), "{}", denied.trace());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_trait_is_a_mismatch_that_names_the_method_and_both_types() {
    let (bench, _connections, _) = bench().await;
    let error = bench.call().odd().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    let message = error.message();
    for part in ["`odd`", "Result<u32>", "odd"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn netrefs_cross_by_name_both_ways_and_calls_are_piped() {
    let (bench, (_server, client), _) = bench().await;
    let sum = Arc::new(Sum(AtomicUsize::new(0)));
    assert_eq!(bench.each(Netref::share(&sum)).await.unwrap(), 3);
    assert_eq!(sum.0.load(Ordering::SeqCst), 6, "called back under another trait");

    let probe = bench.call().probe();
    let title = probe.pipe().title();
    assert_eq!(title.await.unwrap(), "probe");
    assert_eq!(probe.await.unwrap().call().title().await.unwrap(), "probe");

    let object = client.object().await.unwrap();
    assert_eq!(object.call("voltage", (2,)).await.unwrap().as_f64(), Some(2.0));
    let other: Netref<dyn Titled> = object.cast().await.unwrap();
    assert_eq!(other.call().title().await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_peer_calls_by_number_what_is_called_by_name_behind_us() {
    let (bench, _connections, called) = bench().await;
    let (_to_third, third) = native(farref::Root::of(&bench)).await;
    let far: Netref<dyn Bench> = third.root().await.unwrap();
    assert_eq!(far.call().voltage(3, Some(0.5)).await.unwrap(), 1.5);
    far.call().set_title("far".into()).await.unwrap();
    assert_eq!(far.call().title().await.unwrap(), "far");
    assert_eq!(far.call().lacking().await.unwrap(), 7);
    let denied = far.call().voltage(13, None).await.unwrap_err();
    assert_eq!(
        (denied.kind(), &*denied.message()),
        (ErrorKind::Denied, "unlucky")
    );

    let sum = Arc::new(Sum(AtomicUsize::new(0)));
    assert_eq!(far.each(Netref::share(&sum)).await.unwrap(), 3);
    assert_eq!(
        sum.0.load(Ordering::SeqCst),
        6,
        "called back through both connections"
    );

    let probe = far.call().probe().await.unwrap();
    assert_eq!(probe.call().title().await.unwrap(), "probe");
    assert!(
        far.call().is_of_here(far.clone()).await.unwrap(),
        "home through both connections"
    );

    called.lock().unwrap().clear();
    let object = third.object().await.unwrap();
    assert_eq!(object.call("voltage", (2,)).await.unwrap().as_f64(), Some(2.0));
    let hidden = object.call("is_there", ()).await.unwrap_err();
    assert_eq!(hidden.kind(), ErrorKind::Unimplemented);
    assert_eq!(
        *called.lock().unwrap(),
        ["named:voltage 0"],
        "what the trait has not goes no further"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_trait_a_third_peer_calls_by_name_alone() {
    let (_bench, (_server, client), _) = bench().await;
    let shelf: Netref<dyn Shelf> = Netref::of(Held(client.object().await.unwrap()));
    let (_to_third, third) = native(farref::Root::of(&shelf)).await;
    let shelf: Netref<dyn Shelf> = third.root().await.unwrap();
    let far = shelf.call().object().await.unwrap();
    assert_eq!(far.call("voltage", (2,)).await.unwrap().as_f64(), Some(2.0));
    // Its host tells what it is there, and there it could be called by number.
    let typed: Netref<dyn TheirBench> = far.cast().await.unwrap();
    let error = typed.call().voltage(2, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("by number"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_come_with_arguments_that_are_late() {
    let called = Arc::default();
    let root: Netref<dyn TheirBench> = Netref::of(Simulated::default());
    let late = |root| Toy {
        late: true,
        ..Toy::by_name(root, &called)
    };
    let (_server, client) = joined(late, &root).await;
    let bench: Netref<dyn Bench> = client.root().await.unwrap();
    let sum = Arc::new(Sum(AtomicUsize::new(0)));
    assert_eq!(bench.each(Netref::share(&sum)).await.unwrap(), 3);
    assert_eq!(sum.0.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protocol_sees_the_error_that_a_method_failed_with() {
    let (bench, _connections, called) = bench().await;
    let error = bench.call().voltage(14, None).await.unwrap_err();
    assert_eq!(error.message(), "no current");
    assert_eq!(called.lock().unwrap()[1], "failed: no current, io: true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_a_native_peer_is_handed_on_to_one_without_interfaces() {
    let root: Netref<dyn TheirBench> = Netref::of(Simulated::default());
    let (_host, middle) = native(farref::Root::of(&root)).await;
    let far: Netref<dyn TheirBench> = middle.root().await.unwrap();
    let called = Arc::default();
    let (_server, client) = joined(|root| Toy::by_name(root, &called), &far).await;
    let bench: Netref<dyn Bench> = client.root().await.unwrap();
    assert_eq!(bench.call().voltage(3, None).await.unwrap(), 3.0);
    let denied = bench.call().voltage(13, None).await.unwrap_err();
    assert_eq!(
        (denied.kind(), &*denied.message()),
        (ErrorKind::Denied, "unlucky")
    );
    let told = "failed: unlucky, io: false";
    assert_eq!(
        called.lock().unwrap().last().unwrap(),
        told,
        "not that it failed alone"
    );
}

struct LookOnly;

impl farref::guard::Guard for LookOnly {
    fn admit(&self, access: &farref::guard::Access) -> Result<()> {
        if access.only_reads() {
            return Ok(());
        }
        Err(ErrorKind::Denied.into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_such_a_peer_is_guarded_as_any_other() {
    let (bench, _connections, _) = bench().await;
    let shown = bench.guarded(LookOnly);
    assert_eq!(shown.call().title().await.unwrap(), "");
    let refused = shown.call().voltage(3, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
    let (_to_third, third) = native(farref::Root::of(&shown)).await;
    let far: Netref<dyn Bench> = third.root().await.unwrap();
    assert_eq!(far.call().title().await.unwrap(), "");
    let refused = far.call().set_title("mine".into()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied);
}

/// Hands out an object without its trait.
#[remote]
trait Shelf {
    fn object(&self) -> Result<farref::Object>;
}

struct Held(farref::Object);

impl Shelf for Held {
    fn object(&self) -> Result<farref::Object> {
        Ok(self.0.clone())
    }
}

/// A native connection: the side that shows `root`, and the other.
async fn native(root: farref::Root) -> (Connection, Connection) {
    let (a, b) = farref_transport::memory::pair(1 << 16);
    let config = Config::default;
    (
        native::side(a, Role::Listener, root, config()).await,
        native::side(b, Role::Dialer, farref::Root::NONE, config()).await,
    )
}
