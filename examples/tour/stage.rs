//! One connection to the far side, with what the chapters need around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farref::keys::Trust;
use farref::transport::Address;
use farref::{Connection, Error, Netref, Result, connect, remote};
use tokio::sync::{Mutex, mpsc};

use crate::screen::Screen;
use crate::workshop::{Journal, Workshop};

/// How long the chapters wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the far side writes to its standard error, line by line.
pub(crate) type Said = Arc<Mutex<mpsc::UnboundedReceiver<String>>>;

/// One connection to the far side.
pub(crate) struct Stage {
    pub(crate) screen: Screen,
    pub(crate) connection: Connection,
    /// What the far side shows first.
    pub(crate) workshop: Netref<dyn Workshop>,
    /// Where the far side's directory is on the disk, which both processes can see.
    pub(crate) library: PathBuf,
    /// The far side by TCP, for lines that are made slow.
    pub(crate) tcp: Option<Address>,
    /// The far side by QUIC.
    pub(crate) quic: Option<Address>,
    pub(crate) trust: Trust,
    /// An object of ours that the far side tells what happens there.
    pub(crate) journal: Netref<dyn Journal>,
    medium: String,
    notes: Mutex<mpsc::UnboundedReceiver<String>>,
    said: Said,
}

impl Stage {
    /// Joins the far side at `address`, one of `all`.
    pub(crate) async fn enter(
        (address, all, directory): (&Address, &[Address], &Path),
        screen: Screen,
        said: Said,
        trust: Trust,
    ) -> Result<Self> {
        let connection = connect(address)
            .trust(trust.clone())
            .call_timeout(PATIENCE)
            .await?;
        let workshop = connection.root().await?;
        let (write, notes) = mpsc::unbounded_channel();
        let find = |scheme: &str| {
            let mut all = all.iter();
            all.find(|address| address.to_string().starts_with(scheme))
                .cloned()
        };
        Ok(Self {
            screen,
            connection,
            workshop,
            library: directory.join("library"),
            tcp: find("plain+tcp:"),
            quic: find("quic:"),
            trust,
            medium: match (address.scheme(), address.security()) {
                ("tcp", Some(_)) => "plain+tcp".to_owned(),
                (scheme, _) => scheme.to_owned(),
            },
            journal: Netref::of(Notes(write)),
            notes: Mutex::new(notes),
            said,
        })
    }

    /// The next thing that the far side tells.
    pub(crate) async fn note(&self) -> Result<String> {
        let mut notes = self.notes.lock().await;
        within("a note of the far side", notes.recv())
            .await?
            .ok_or_else(|| Error::msg("the journal is closed"))
    }

    /// The next line that the far side writes to its standard error.
    pub(crate) async fn said(&self) -> Result<String> {
        let mut said = self.said.lock().await;
        within("a line of the far side's", said.recv())
            .await?
            .ok_or_else(|| Error::msg("the far side has ended"))
    }

    /// The name of the medium.
    pub(crate) fn medium(&self) -> &str {
        &self.medium
    }
}

/// The journal: keeps what it is told until a chapter asks for it.
struct Notes(mpsc::UnboundedSender<String>);

#[remote]
impl Journal for Notes {
    fn note(&self, what: &str) -> Result<()> {
        Ok(self.0.send(what.to_owned())?)
    }
}

/// Waits for something that must come.
pub(crate) async fn within<T>(what: &str, coming: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, coming)
        .await
        .map_err(|_| Error::msg(format!("{what} did not come")))
}

/// Fails the tour unless what it shows is so.
pub(crate) fn check(holds: bool, what: &'static str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::msg(what).context("the tour showed something that is not so"))
    }
}
