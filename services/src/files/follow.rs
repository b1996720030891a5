//! A file that grows, as its readers see it: `tail -f`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farref_netref::stream::Sender;
use tokio::sync::OwnedSemaphorePermit;

use super::hosted::{Work, stream_error};
use super::tree::{Links, Tree, go};
use super::{Metadata, OpenMode};

/// So often a file is looked at that does not grow.
const PAUSE: Duration = Duration::from_millis(200);
/// What is read at a time.
const PIECE: usize = 64 << 10;
/// So far back the last lines are looked for.
const BACK: u64 = 8 << 20;

/// A file, how far it was read, and where a new one would be.
pub(super) struct Tail {
    tree: Arc<Tree>,
    path: String,
    file: File,
    found: Metadata,
    at: u64,
}

impl Tail {
    /// Opens the file at `path`, where its last `lines` begin.
    pub(super) fn open(tree: Arc<Tree>, path: String, lines: u32) -> io::Result<Self> {
        let found = tree.stat(&path, Links::Follow)?;
        let mut file = tree.open(&path, OpenMode::READ, Links::Follow)?;
        let at = last_lines(&mut file, lines)?;
        go(&mut file, at)?;
        Ok(Self {
            tree,
            path,
            file,
            found,
            at,
        })
    }

    /// What was written since; nothing if that is nothing yet.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let piece = self.read_on()?;
        if !piece.is_empty() {
            return Ok(piece);
        }
        // Nothing more in this one: it may have been emptied, or another have taken its place.
        match self.tree.stat(&self.path, Links::Follow) {
            Ok(found) if found.identity != self.found.identity => {
                // What was written to it last, after it was put aside.
                let piece = self.read_on()?;
                if piece.is_empty() {
                    self.file = self.tree.open(&self.path, OpenMode::READ, Links::Follow)?;
                    (self.found, self.at) = (found, 0);
                    return self.read_on();
                }
                Ok(piece)
            }
            Ok(found) if found.len < self.at => {
                self.at = 0;
                go(&mut self.file, 0)?;
                self.read_on()
            }
            Ok(_) => Ok(piece),
            // It is being put aside.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(piece),
            Err(error) => Err(error),
        }
    }

    fn read_on(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE];
        let count = self.file.read(&mut piece)?;
        piece.truncate(count);
        self.at = self.at.saturating_add(count as u64);
        Ok(piece)
    }
}

/// Where the last `lines` of a file begin.
fn last_lines(file: &mut File, lines: u32) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    let furthest = end.saturating_sub(BACK);
    let (mut from, mut left) = (end, lines);
    while from > furthest && left > 0 {
        let start = from.saturating_sub(PIECE as u64).max(furthest);
        go(file, start)?;
        let mut block = Vec::new();
        Read::by_ref(file)
            .take(from.saturating_sub(start))
            .read_to_end(&mut block)?;
        for (offset, byte) in block.iter().enumerate().rev() {
            let behind = start.saturating_add(offset as u64).saturating_add(1);
            // The end of the last line begins none.
            if *byte == b'\n' && behind != end {
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok(behind);
                }
            }
        }
        from = start;
    }
    Ok(if lines == 0 { end } else { from })
}

/// Sends what is written, for as long as somebody reads it.
pub(super) async fn send(work: Work, mut tail: Tail, mut sender: Sender<Bytes>, hold: OwnedSemaphorePermit) {
    while !sender.is_closed() {
        let read = work.run(move || {
            let piece = tail.read();
            Ok((tail, piece))
        });
        let Ok((same, piece)) = read.await else { break };
        tail = same;
        match piece {
            Ok(piece) if piece.is_empty() => tokio::time::sleep(PAUSE).await,
            Ok(piece) => {
                if sender.send(piece.into()).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                _ = sender.fail(stream_error(error)).await;
                break;
            }
        }
    }
    drop(hold);
}
