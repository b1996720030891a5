//! capnp-rpc: Cap'n Proto's capabilities, on one thread, as it can do nothing else.
//!
//! As its documentation has it: calls are made on the promise of a capability, `-> stream` for streams and for a large transfer,
//! `TCP_NODELAY`, buffered halves; the traversal limit is lifted, as both sides trust each other. It is no more than `!Send`: a
//! wrapper says that nothing leaves the thread.

use std::cell::Cell;
use std::rc::Rc;

use ::capnp::message::ReaderOptions;
use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, new_client, twoparty};
use futures::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use send_wrapper::SendWrapper;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use self::bench_capnp::{bench, item, record, sink, taker};
use crate::Result;
use crate::contender::{Client, Contender, Record, all_of, on_runtime};
use crate::contenders::made::Made;
use crate::job::{Job, Medium};
use crate::measure::measure;
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    unreachable_pub,
    dead_code,
    unused_qualifications,
    reason = "made by schemas/generate.rs"
)]
mod bench_capnp;

pub(crate) const ALL: &[&dyn Contender] = &[&Capnp];

struct Capnp;

impl Contender for Capnp {
    fn name(&self) -> &'static str {
        "capnp"
    }

    fn about(&self) -> &'static str {
        "capnp-rpc 0.27, which has one thread on each side: promise pipelining, `-> stream`, no traversal limit"
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Tcp, Medium::Unix]
    }

    fn reference(&self, _: Medium) -> &'static str {
        "echo-ct"
    }

    fn can(&self, workload: Workload) -> bool {
        !matches!(
            workload,
            Workload::Resume | Workload::Soak | Workload::Held | Workload::Local
        )
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        on_runtime(1, measure::<Caller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        on_runtime(1, serve(*job, ready))
    }
}

struct Served;

impl bench::Server for Served {
    async fn null(self: Rc<Self>, _: bench::NullParams, _: bench::NullResults) -> ::capnp::Result<()> {
        Ok(())
    }

    async fn echo(
        self: Rc<Self>,
        params: bench::EchoParams,
        mut results: bench::EchoResults,
    ) -> ::capnp::Result<()> {
        results.get().set_bytes(params.get()?.get_bytes()?);
        Ok(())
    }

    async fn structs(
        self: Rc<Self>,
        params: bench::StructsParams,
        mut results: bench::StructsResults,
    ) -> ::capnp::Result<()> {
        // As a method has them that wants to keep them.
        let records = read(params.get()?.get_records()?)?;
        write(&records, results.get().init_records(records.len() as u32));
        Ok(())
    }

    async fn call_back(
        self: Rc<Self>,
        params: bench::CallBackParams,
        _: bench::CallBackResults,
    ) -> ::capnp::Result<()> {
        let params = params.get()?;
        let item = params.get_item()?;
        for _ in 0..params.get_times() {
            item.null_request().send().promise.await?;
        }
        Ok(())
    }

    async fn make(
        self: Rc<Self>,
        _: bench::MakeParams,
        mut results: bench::MakeResults,
    ) -> ::capnp::Result<()> {
        results.get().set_item(new_client(Made::new()));
        Ok(())
    }

    async fn items(
        self: Rc<Self>,
        params: bench::ItemsParams,
        _: bench::ItemsResults,
    ) -> ::capnp::Result<()> {
        let params = params.get()?;
        let to = params.get_to()?;
        for item in 0..params.get_count() {
            let mut request = to.take_request();
            request.get().set_item(item);
            request.send().await?;
        }
        Ok(())
    }

    async fn upload(
        self: Rc<Self>,
        _: bench::UploadParams,
        mut results: bench::UploadResults,
    ) -> ::capnp::Result<()> {
        results.get().set_sink(new_client(Received(Cell::new(0))));
        Ok(())
    }
}

impl item::Server for Made {
    async fn null(self: Rc<Self>, _: item::NullParams, _: item::NullResults) -> ::capnp::Result<()> {
        Ok(())
    }
}

/// An object of the client's.
struct Own;

impl item::Server for Own {
    async fn null(self: Rc<Self>, _: item::NullParams, _: item::NullResults) -> ::capnp::Result<()> {
        Ok(())
    }
}

/// Bytes of a transfer so far.
struct Received(Cell<u64>);

impl sink::Server for Received {
    async fn write(self: Rc<Self>, params: sink::WriteParams) -> ::capnp::Result<()> {
        let bytes = params.get()?.get_bytes()?.len() as u64;
        self.0.set(self.0.get() + bytes);
        Ok(())
    }

    async fn done(
        self: Rc<Self>,
        _: sink::DoneParams,
        mut results: sink::DoneResults,
    ) -> ::capnp::Result<()> {
        results.get().set_count(self.0.get());
        Ok(())
    }
}

/// The item that is expected next.
struct Taken(Rc<Cell<u64>>);

impl taker::Server for Taken {
    async fn take(self: Rc<Self>, params: taker::TakeParams) -> ::capnp::Result<()> {
        if params.get()?.get_item() != self.0.get() {
            return Err(::capnp::Error::failed("an item is lost".into()));
        }
        self.0.set(self.0.get() + 1);
        Ok(())
    }
}

fn read(records: ::capnp::struct_list::Reader<'_, record::Owned>) -> ::capnp::Result<Vec<Record>> {
    records
        .iter()
        .map(|record| {
            Ok(Record {
                id: record.get_id(),
                name: record.get_name()?.to_string()?,
                place: record.get_place()?.to_string()?,
                value: record.get_value(),
            })
        })
        .collect()
}

fn write(records: &[Record], mut list: ::capnp::struct_list::Builder<'_, record::Owned>) {
    for (at, from) in (0..).zip(records) {
        let mut to = list.reborrow().get(at);
        to.set_id(from.id);
        to.set_name(&from.name);
        to.set_place(&from.place);
        to.set_value(from.value);
    }
}

/// Bytes of one piece of a large transfer.
const PIECE: usize = 64 << 10;

#[derive(Clone)]
struct Caller {
    bench: SendWrapper<bench::Client>,
    own: SendWrapper<item::Client>,
}

impl Client for Caller {
    type Object = SendWrapper<item::Client>;

    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let bench = if job.medium == Medium::Tcp {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            let (rx, tx) = socket.into_split();
            run(rx.compat(), tx.compat_write(), Side::Client)
        } else {
            let (rx, tx) = UnixStream::connect(address).await?.into_split();
            run(rx.compat(), tx.compat_write(), Side::Client)
        };
        Ok(Self {
            bench,
            own: SendWrapper::new(new_client(Own)),
        })
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(self.clone())
    }

    async fn null(&mut self) -> Result<()> {
        SendWrapper::new(async {
            self.bench.null_request().send().promise.await?;
            Ok(())
        })
        .await
    }

    async fn echo(&mut self, bytes: Bytes) -> Result<()> {
        SendWrapper::new(async {
            let mut request = self.bench.echo_request();
            request.get().set_bytes(&bytes);
            let response = request.send().promise.await?;
            // What farref and others hand out.
            let _own = Bytes::copy_from_slice(response.get()?.get_bytes()?);
            Ok(())
        })
        .await
    }

    async fn structs(&mut self, records: &[Record]) -> Result<()> {
        SendWrapper::new(async {
            let mut request = self.bench.structs_request();
            write(records, request.get().init_records(records.len() as u32));
            let response = request.send().promise.await?;
            all_of(records, &read(response.get()?.get_records()?)?)
        })
        .await
    }

    async fn call_back(&mut self, times: u32) -> Result<()> {
        SendWrapper::new(async {
            let mut request = self.bench.call_back_request();
            request.get().set_item((*self.own).clone());
            request.get().set_times(times);
            request.send().promise.await?;
            Ok(())
        })
        .await
    }

    async fn make(&mut self) -> Result<Self::Object> {
        SendWrapper::new(async {
            let response = self.bench.make_request().send().promise.await?;
            Ok(SendWrapper::new(response.get()?.get_item()?))
        })
        .await
    }

    async fn call(&mut self, object: &mut Self::Object) -> Result<()> {
        SendWrapper::new(async {
            object.null_request().send().promise.await?;
            Ok(())
        })
        .await
    }

    async fn pipelined(&mut self) -> Result<()> {
        SendWrapper::new(async {
            let made = self.bench.make_request().send();
            made.pipeline.get_item().null_request().send().promise.await?;
            Ok(())
        })
        .await
    }

    async fn items(&mut self, count: u64) -> Result<()> {
        SendWrapper::new(async {
            let taken = Rc::new(Cell::new(0));
            let mut request = self.bench.items_request();
            request.get().set_to(new_client(Taken(Rc::clone(&taken))));
            request.get().set_count(count);
            request.send().promise.await?;
            if taken.get() == count {
                return Ok(());
            }
            Err("the stream ended early".into())
        })
        .await
    }

    async fn upload(&mut self, bytes: u64) -> Result<()> {
        SendWrapper::new(async {
            let sink = self.bench.upload_request().send().pipeline.get_sink();
            for _ in 0..bytes / PIECE as u64 {
                let mut request = sink.write_request();
                request.get().init_bytes(PIECE as u32).fill(7);
                request.send().await?;
            }
            let response = sink.done_request().send().promise.await?;
            if response.get()?.get_count() == bytes {
                return Ok(());
            }
            Err("some bytes are lost".into())
        })
        .await
    }
}

async fn serve(job: Job, ready: Ready) -> Result<()> {
    if job.medium == Medium::Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ready.listening(listener.local_addr()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let (rx, tx) = socket.into_split();
            run(rx.compat(), tx.compat_write(), Side::Server);
        }
    }
    let listener = UnixListener::bind(&ready.socket)?;
    ready.listening(&ready.socket)?;
    loop {
        let (rx, tx) = listener.accept().await?.0.into_split();
        run(rx.compat(), tx.compat_write(), Side::Server);
    }
}

/// Runs one side of a connection on this thread, and tells what the server shows.
fn run(
    rx: impl AsyncRead + Unpin + 'static,
    tx: impl AsyncWrite + Unpin + 'static,
    side: Side,
) -> SendWrapper<bench::Client> {
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    let (rx, tx) = (BufReader::new(rx), BufWriter::new(tx));
    let network = Box::new(twoparty::VatNetwork::new(rx, tx, side, options));
    let (system, shown) = if side == Side::Server {
        let served: bench::Client = new_client(Served);
        (RpcSystem::new(network, Some(served.clone().client)), served)
    } else {
        let mut system = RpcSystem::new(network, None);
        let shown = system.bootstrap(Side::Server);
        (system, shown)
    };
    tokio::spawn(SendWrapper::new(system));
    SendWrapper::new(shown)
}
