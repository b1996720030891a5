//! What a contender is: one file in `contenders/`, with a client half and a server half.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::job::{Job, Medium};
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::{RECORDS, Workload};
use crate::{Result, contenders};

/// Who does the work.
pub(crate) trait Contender: Sync {
    fn name(&self) -> &'static str;

    /// Who that is, and how it was tuned.
    fn about(&self) -> &'static str;

    fn media(&self) -> &'static [Medium];

    /// Whether it takes part over another medium than its own, as somebody to be measured by there.
    fn is_guest(&self, _workload: Workload, _medium: Medium) -> bool {
        false
    }

    /// Whether it can do that, as its own documentation has it done.
    fn can(&self, workload: Workload) -> bool;

    /// The client half: starts a [`Server`](crate::client::Server) and measures.
    fn measure(&self, job: &Job) -> Result<Figures>;

    /// The server half: says where it listens, and serves until its process ends.
    fn serve(&self, job: &Job, ready: Ready) -> Result<()>;

    /// What it is compared with: an echo over the same medium, on the same kind of runtime.
    fn reference(&self, medium: Medium) -> &'static str {
        if medium == Medium::Quic { "quinn" } else { "echo" }
    }

    /// Why it cannot run on this machine.
    fn missing(&self) -> Option<String> {
        None
    }
}

/// A connection to a contender's server, and what is done over it, one thing at a time. What a contender cannot do it
/// leaves out, and says so in [`Contender::can`].
pub(crate) trait Client: Sized + Send + 'static {
    /// An object of the server's.
    type Object: Send + 'static;

    /// Whether calls of [`Workload::InFlight`] are one [`null`](Self::null), rather than each a caller's.
    const IS_BATCHED: bool = false;

    fn connect(job: &Job, address: &str) -> impl Future<Output = Result<Self>> + Send;

    /// One more caller, over the same connection.
    fn another(&mut self) -> impl Future<Output = Result<Self>> + Send {
        cannot()
    }

    fn null(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// There and back.
    fn echo(&mut self, _bytes: Bytes) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// There and back.
    fn structs(&mut self, _records: &[Record]) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// Has the server call back so many times, one after another.
    fn call_back(&mut self, _times: u32) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// Has an object made.
    fn make(&mut self) -> impl Future<Output = Result<Self::Object>> + Send {
        cannot()
    }

    /// Calls an object.
    fn call(&mut self, _object: &mut Self::Object) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// Has an object made, called and dropped, in one round trip.
    fn pipelined(&mut self) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// Takes so many numbers, one by one.
    fn items(&mut self, _count: u64) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// Sends so many bytes, so that other calls can be made meanwhile.
    fn upload(&mut self, _bytes: u64) -> impl Future<Output = Result<()>> + Send {
        cannot()
    }

    /// Makes a call after the carrier was cut.
    fn recover(&mut self) -> impl Future<Output = Result<()>> + Send {
        self.null()
    }
}

async fn cannot<T>() -> Result<T> {
    Err("this contender cannot do that".into())
}

/// Something small with strings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) value: f64,
}

impl Record {
    pub(crate) fn some() -> Vec<Self> {
        (0..RECORDS as u64)
            .map(|id| Self {
                id,
                name: format!("sensor number {id}"),
                place: format!("rack {}", id % 40),
                value: id as f64 / 8.0,
            })
            .collect()
    }
}

/// Whether what came back is what was sent, as far as that costs nothing.
pub(crate) fn all_of(sent: &[Record], received: &[Record]) -> Result<()> {
    if sent.len() == received.len() && sent.last() == received.last() {
        return Ok(());
    }
    Err("some structs are lost".into())
}

/// Who takes part in a workload over a medium: references first, if there are any.
pub(crate) fn those_who_can(workload: Workload, medium: Medium) -> Vec<&'static dyn Contender> {
    let mut all: Vec<_> = contenders::all()
        .into_iter()
        .filter(|contender| {
            contender.can(workload)
                && (contender.media().contains(&medium) || contender.is_guest(workload, medium))
        })
        .collect();
    all.sort_by_key(|contender| !is_reference(*contender, medium));
    all
}

/// Whether others are compared with it.
pub(crate) fn is_reference(contender: &dyn Contender, medium: Medium) -> bool {
    contender.reference(medium) == contender.name()
}

pub(crate) fn named(name: &str) -> Result<&'static dyn Contender> {
    let all = contenders::all();
    let found = all.iter().find(|contender| contender.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|contender| contender.name()).collect();
        format!("no contender is called `{name}`: {}", names.join(", ")).into()
    })
}

/// A runtime of that many threads; one: that of its caller.
pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    Ok(builder.worker_threads(threads).enable_all().build()?)
}

/// Runs that on a task of its own, as callers are in programs.
pub(crate) fn on_runtime<R: Send + 'static>(
    threads: usize,
    task: impl Future<Output = Result<R>> + Send + 'static,
) -> Result<R> {
    runtime(threads)?.block_on(async { tokio::spawn(task).await? })
}

/// The result of a future that never waits.
pub(crate) fn now<R>(future: impl Future<Output = Result<R>>) -> Result<R> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => Err("a blocking contender waits without blocking".into()),
    }
}
