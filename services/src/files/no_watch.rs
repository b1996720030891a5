//! What stands in for `watch` where the system has no inotify.

use std::io;
use std::sync::Arc;

use farref_netref::stream::Sender;
use tokio::sync::OwnedSemaphorePermit;

use super::Change;
use super::hosted::Work;
use super::tree::Tree;

/// There is none.
pub(super) enum Watch {}

impl Watch {
    pub(super) fn new(_: Arc<Tree>, _: &str, _: bool) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn send(self, _: Work, _: Sender<Change>, _: OwnedSemaphorePermit) -> io::Result<()> {
        match self {}
    }
}
