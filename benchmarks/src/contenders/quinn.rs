//! The reference over QUIC: the bytes of farref's messages on one stream of quinn's.

use std::sync::Arc;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, crypto};

use crate::Result;
use crate::contender::{Client, Contender, Record, on_runtime};
use crate::contenders::echo;
use crate::job::{Job, Medium};
use crate::measure::measure;
use crate::meter::Figures;
use crate::server::Ready;
use crate::workload::Workload;

pub(crate) const ALL: &[&dyn Contender] = &[&Quinn];

struct Quinn;

impl Contender for Quinn {
    fn name(&self) -> &'static str {
        "quinn"
    }

    fn about(&self) -> &'static str {
        "by hand: one stream of quinn's for each caller, tokio with two workers, no messages and no calls, only farref's bytes"
    }

    fn media(&self) -> &'static [Medium] {
        &[Medium::Quic]
    }

    fn can(&self, workload: Workload) -> bool {
        matches!(
            workload,
            Workload::Null
                | Workload::InFlight(_)
                | Workload::Bytes(_)
                | Workload::Structs
                | Workload::Beside
                | Workload::Connect
                | Workload::Syscalls
        )
    }

    /// What calls beside a transfer over TCP are to be measured by.
    fn is_guest(&self, workload: Workload, medium: Medium) -> bool {
        (workload, medium) == (Workload::Beside, Medium::Tcp)
    }

    fn measure(&self, job: &Job) -> Result<Figures> {
        on_runtime(2, measure::<Caller>(*job))
    }

    fn serve(&self, job: &Job, ready: Ready) -> Result<()> {
        on_runtime(2, serve(*job, ready))
    }
}

struct Caller {
    job: Job,
    line: Arc<Line>,
    tx: SendStream,
    rx: RecvStream,
    requests: Vec<u8>,
    replies: Vec<u8>,
}

/// A connection, which is closed with the last of its callers.
struct Line {
    connection: Connection,
    endpoint: Endpoint,
}

impl Caller {
    /// One more stream.
    async fn over(line: Arc<Line>, job: Job) -> Result<Self> {
        let (tx, rx) = line.connection.open_bi().await?;
        let number = job.workload.in_flight();
        Ok(Self {
            job,
            line,
            tx,
            rx,
            requests: vec![1; job.sizes.request * number],
            replies: vec![0; job.sizes.reply * number],
        })
    }
}

impl Client for Caller {
    type Object = ();
    const IS_BATCHED: bool = true;

    /// `address` is that of the socket, and the server's certificate in hexadecimal.
    async fn connect(job: &Job, address: &str) -> Result<Self> {
        let (at, certificate) = address.split_once(' ').ok_or("no certificate")?;
        let digits = certificate.as_bytes().chunks(2);
        let certificate = digits.map(|digits| Ok(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.collect::<Result<Vec<_>>>()?))?;
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let connection = endpoint.connect_with(config, at.parse()?, "localhost")?.await?;
        let caller = Self::over(Arc::new(Line { connection, endpoint }), *job).await?;
        // Ahead of a transfer's stream, as quinn's documentation has it.
        caller.tx.set_priority(1)?;
        Ok(caller)
    }

    async fn another(&mut self) -> Result<Self> {
        Self::over(Arc::clone(&self.line), self.job).await
    }

    async fn null(&mut self) -> Result<()> {
        self.tx.write_all(&self.requests).await?;
        Ok(self.rx.read_exact(&mut self.replies).await?)
    }

    async fn echo(&mut self, _: Bytes) -> Result<()> {
        self.null().await
    }

    /// The encoded bytes alone.
    async fn structs(&mut self, _: &[Record]) -> Result<()> {
        self.null().await
    }

    async fn upload(&mut self, bytes: u64) -> Result<()> {
        echo::upload(tokio::io::join(&mut self.rx, &mut self.tx), bytes).await
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"");
    }
}

async fn serve(job: Job, ready: Ready) -> Result<()> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let endpoint = Endpoint::server(config, "127.0.0.1:0".parse()?)?;
    let hexadecimal: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
    ready.listening(format!("{} {hexadecimal}", endpoint.local_addr()?))?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            while let Ok((tx, rx)) = connection.accept_bi().await {
                tokio::spawn(answer(job, tx, rx));
            }
            Result::Ok(())
        });
    }
    Ok(())
}

async fn answer(job: Job, mut tx: SendStream, mut rx: RecvStream) -> Result<()> {
    if job.workload == Workload::Beside {
        return echo::beside(&job, tokio::io::join(rx, tx)).await;
    }
    let replies = vec![2; job.sizes.reply * ((64 << 10) / job.sizes.request + 2)];
    let (mut input, mut begun) = (vec![0; job.sizes.request.max(64 << 10)], 0);
    while let Some(read) = rx.read(&mut input).await? {
        let all = begun + read;
        begun = all % job.sizes.request;
        let whole = all / job.sizes.request;
        tx.write_all(&replies[..whole * job.sizes.reply]).await?;
    }
    Ok(())
}
