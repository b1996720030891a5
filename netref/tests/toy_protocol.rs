//! The seam between the engine and what is spoken: a second protocol, of lines of text, carries the same objects.
//!
//! It has no frames, no lanes, no counted references and no pipelining, and shares nothing with farref's own. That
//! typed netrefs, callbacks and releases work over it shows that nothing native leaks through the seam.

#![cfg(test)]

extern crate farref_netref as farref;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Event, Factory, Imported, Incoming, IncomingTarget, Op,
    Outcome, Outgoing, Protocol, Received, Refs, Reply, TableStats, Target,
};
use farref::{
    Certainty, Config, Connection, EngineHandles, Error, ErrorKind, Netref, Parts, Peer, Result, remote,
};
use farref_framing::{Batch, CloseReason, Nanos, PeerEvidence, Role, StreamKey};

type H = EngineHandles;
type Object = Arc<dyn farref::Exported>;
type Waiter = farref::Waiter;

/// `call N TARGET INTERFACE METHOD SHAPE BODY REFS`, `value N FAILED SHAPE BODY REFS`, `error N TEXT`, `free N`,
/// `root REF`: one a line, numbers in decimal, bodies in hexadecimal, references as `mine:ID:INTERFACE` or `yours:ID`.
#[derive(Default)]
struct Toy {
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

impl Toy {
    fn new(root: Option<Object>) -> Self {
        let mut toy = Self::default();
        let root = root.map(|object| {
            let (key, interface) = (object.key(), object.interface_id());
            Outgoing::Local {
                object,
                key,
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
                    interface: interface.parse().unwrap(),
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
            ["call", number, target, interface, method, shape, body, refs] => {
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
                let op = Op::Method {
                    interface: interface.parse().unwrap(),
                    method: method.parse().unwrap(),
                    shape: shape.parse().unwrap(),
                };
                let options = CallOptions {
                    blocking: true,
                    ..CallOptions::default()
                };
                let body = Some(unhex(body));
                self.events.push_back(Event::Call(Incoming {
                    answer,
                    target,
                    op,
                    options,
                    body,
                    refs,
                }));
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
            ["error", number, ..] => {
                let text = words[2..].join(" ");
                self.finish(
                    number.parse().unwrap(),
                    Outcome::Error(Error::new(ErrorKind::Remote, text)),
                );
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

    fn poll_event(&mut self) -> Option<Event<H>> {
        self.events.pop_front()
    }

    fn call(&mut self, start: CallStart<'_, H>, _: Nanos) -> Result<u64, Error> {
        let (
            Target::Import(target),
            Op::Method {
                interface,
                method,
                shape,
            },
        ) = (start.target, start.op)
        else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the toy protocol has no pipelining",
            ));
        };
        let refs = self.write_refs(start.refs);
        let number = self.number();
        let body = hex(start.body);
        writeln!(
            self.out,
            "call {number} {target} {interface} {method} {shape} {body} {refs}"
        )
        .unwrap();
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
                writeln!(self.out, "value {answer} {failed} {shape} {} {refs}", hex(body)).unwrap();
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
    let (a, b) = farref_transport::memory::pair(16);
    let side = |carrier, role, root: Option<Object>| async move {
        let (inlet, outlet, _, guard) = farref_framing::open(carrier, role).await.unwrap();
        let mut parts = Parts::new(inlet, outlet, Peer::new("mem", None, PeerEvidence::None));
        parts.keep_open = true;
        parts.guard = guard;
        let shows_root = root.is_some();
        Connection::over(Toy::new(root), parts, shows_root, Config::default())
    };
    let root: Option<Object> = farref::Root::of(&root).into_object();
    (
        side(a.into(), Role::Listener, root).await,
        side(b.into(), Role::Dialer, None).await,
    )
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
