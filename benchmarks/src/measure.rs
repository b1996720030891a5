//! How each workload is measured: what a [`Client`] is asked to do, and when.
//!
//! Latencies come from closed loops: a caller makes its next call when it has the answer to the last one, and what is
//! timed is each call. Only [`beside`], where a call may wait for hundreds of others that it keeps from being made, has a
//! timetable, and calls are timed from when they were due.

mod beside;
mod connections;
mod held;
mod memory;
mod rates;
mod syscalls;
mod wire;

use std::sync::Arc;

use bytes::Bytes;

use crate::Result;
use crate::client::Server;
use crate::contender::{Client, Record};
use crate::job::Job;
use crate::meter::Figures;
use crate::workload::{CALLBACKS, ITEMS, Workload};

pub(crate) use self::wire::sizes;

/// Starts the server and measures.
pub(crate) async fn measure<C: Client>(job: Job) -> Result<Figures> {
    let mut server = Server::start(&job)?;
    let server = &mut server;
    match job.workload {
        Workload::Connect => connections::connect::<C>(&job, server).await,
        Workload::Resume => connections::resume::<C>(&job, server).await,
        Workload::Idle => memory::idle::<C>(&job, server).await,
        Workload::Held => held::held::<C>(&job, server).await,
        _ => {
            let client = C::connect(&job, &server.address).await?;
            match job.workload {
                Workload::InFlight(number) if !C::IS_BATCHED => {
                    rates::at_once(server, job.duration, number, Work::new(&job, client)).await
                }
                Workload::Live => memory::live(client, server).await,
                Workload::Soak => memory::soak(client, server).await,
                Workload::Beside => beside::beside(client, job.duration, server).await,
                Workload::Syscalls => syscalls::syscalls(client, server).await,
                _ => rates::alone(server, job.duration, Work::new(&job, client)).await,
            }
        }
    }
}

/// One caller's share of a workload, which it does over and over.
struct Work<C> {
    client: C,
    workload: Workload,
    bytes: Bytes,
    records: Arc<[Record]>,
}

impl<C: Client> Work<C> {
    fn new(job: &Job, client: C) -> Self {
        Self {
            client,
            workload: job.workload,
            bytes: match job.workload {
                Workload::Bytes(bytes) => vec![1; bytes].into(),
                _ => Bytes::new(),
            },
            records: match job.workload {
                Workload::Structs => Record::some().into(),
                _ => Arc::default(),
            },
        }
    }

    async fn another(&mut self) -> Result<Self> {
        Ok(Self {
            client: self.client.another().await?,
            workload: self.workload,
            bytes: self.bytes.clone(),
            records: Arc::clone(&self.records),
        })
    }

    async fn run(&mut self) -> Result<()> {
        let client = &mut self.client;
        match self.workload {
            Workload::Bytes(_) => client.echo(self.bytes.clone()).await,
            Workload::Structs => client.structs(&self.records).await,
            Workload::Callbacks => client.call_back(CALLBACKS).await,
            Workload::Objects => {
                let mut object = client.make().await?;
                client.call(&mut object).await
            }
            Workload::Pipelined => client.pipelined().await,
            Workload::Items => client.items(ITEMS).await,
            _ => client.null().await,
        }
    }

    /// As how many operations one run counts.
    fn weight(&self) -> u64 {
        match self.workload {
            Workload::InFlight(number) if C::IS_BATCHED => number as u64,
            workload => workload.weight(),
        }
    }

    /// How many of them are done one after another, rather than at once.
    fn steps(&self) -> u64 {
        match self.workload {
            Workload::InFlight(_) => 1,
            workload => workload.weight(),
        }
    }
}
