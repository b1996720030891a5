//! What changes in a tree, as the kernel tells it (inotify(7)).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use farref_netref::stream::Sender;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;

use super::hosted::{Work, stream_error};
use super::path::show;
use super::tree::Tree;
use super::walk::DEEPEST;
use super::{Change, Kind};

/// Directories that are watched at once, at most, by one watch.
const MOST: usize = 4096;

/// What is watched, and by which numbers.
pub(super) struct Watch {
    tree: Arc<Tree>,
    events: OwnedFd,
    /// The path that was asked for; those below it are told from there on.
    from: String,
    /// What the paths in each directory begin with.
    prefixes: HashMap<i32, String>,
    is_recursive: bool,
}

impl Watch {
    pub(super) fn new(tree: Arc<Tree>, path: &str, is_recursive: bool) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watch = Self {
            tree,
            events,
            from: path.trim_end_matches('/').to_owned(),
            prefixes: HashMap::new(),
            is_recursive,
        };
        watch.add("")?;
        Ok(watch)
    }

    /// Watches what is at `path`, from where the watch began, and with the right flag what is below it.
    fn add(&mut self, path: &str) -> io::Result<()> {
        self.add_one(path)?;
        if !self.is_recursive {
            return Ok(());
        }
        let full = self.full(path);
        let walk = match self.tree.walk(&full, u32::try_from(DEEPEST).unwrap_or(u32::MAX)) {
            Ok(walk) => walk,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in walk {
            let entry = entry?;
            if entry.metadata.kind == Kind::Directory {
                match self.add_one(&join(path, &entry.path)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn add_one(&mut self, path: &str) -> io::Result<()> {
        if self.prefixes.len() >= MOST {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("more than {MOST} directories to watch"),
            ));
        }
        let opened: File = self.tree.open_to_watch(&self.full(path))?;
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::EXCL_UNLINK;
        // The very file that was opened, wherever it is: no path is resolved a second time.
        let opened_path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let number = inotify::add_watch(&self.events, opened_path, flags)?;
        self.prefixes.insert(number, path.to_owned());
        Ok(())
    }

    fn full(&self, path: &str) -> String {
        join(&self.from, path)
    }

    #[expect(
        deprecated,
        reason = "what replaced it is unsafe, for types that change their descriptor; an `OwnedFd` never does"
    )]
    /// Sends what changes from now on, for as long as somebody reads.
    pub(super) fn send(
        self,
        work: Work,
        sender: Sender<Change>,
        hold: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        let readable = AsyncFd::new(self.events.try_clone()?)?;
        tokio::spawn(run(self, readable, work, sender, hold));
        Ok(())
    }

    /// What the kernel has to tell, and how it goes on.
    fn read(&mut self) -> io::Result<(Vec<Change>, Next)> {
        let (mut changes, mut new) = (Vec::new(), Vec::new());
        let mut moved: Option<(u32, String)> = None;
        let mut next = Next::Wait;
        let events = self.events.try_clone()?;
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut reader = Reader::new(events, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Overflow);
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.prefixes.remove(&event.wd());
                if self.prefixes.is_empty() {
                    next = Next::End;
                }
                continue;
            }
            let Some(prefix) = self.prefixes.get(&event.wd()) else {
                continue;
            };
            let name = event
                .file_name()
                .map(|name| show(OsStr::from_bytes(name.to_bytes())));
            let path = name.map_or_else(|| prefix.clone(), |name| join(prefix, &name));
            // What left, and did not arrive with the next event, left for good.
            if let Some((cookie, from)) = moved.take() {
                if flags.contains(ReadFlags::MOVED_TO) && event.cookie() == cookie {
                    if flags.contains(ReadFlags::ISDIR) {
                        self.rename(&from, &path);
                    }
                    changes.push(Change::Renamed { from, to: path });
                    continue;
                }
                self.forget(&from);
                changes.push(Change::Removed(from));
            }
            if flags.contains(ReadFlags::MOVED_FROM) {
                moved = Some((event.cookie(), path));
            } else if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                if flags.contains(ReadFlags::ISDIR) && self.is_recursive {
                    new.push(path.clone());
                }
                changes.push(Change::Created(path));
            } else if flags.contains(ReadFlags::DELETE)
                || (flags.contains(ReadFlags::DELETE_SELF) && path.is_empty())
            {
                changes.push(Change::Removed(path));
            } else if flags.intersects(ReadFlags::MODIFY | ReadFlags::ATTRIB) {
                let change = Change::Modified(path);
                if changes.last() != Some(&change) {
                    changes.push(change);
                }
            }
            if changes.len() >= MOST && reader.is_buffer_empty() {
                // So much is told first; nothing wakes for what is there already.
                next = Next::Again;
                break;
            }
        }
        if let Some((_, from)) = moved {
            self.forget(&from);
            changes.push(Change::Removed(from));
        }
        for path in new {
            match self.add(&path) {
                Ok(()) => self.tell_what_is_in(&path, &mut changes),
                Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => return Err(error),
                // It is gone again, or was never ours to look at.
                Err(_) => {}
            }
        }
        Ok((changes, next))
    }

    /// What was made in a new directory before it was watched.
    fn tell_what_is_in(&self, path: &str, changes: &mut Vec<Change>) {
        let depth = u32::try_from(DEEPEST).unwrap_or(u32::MAX);
        let Ok(walk) = self.tree.walk(&self.full(path), depth) else {
            return;
        };
        for (count, entry) in walk.flatten().enumerate() {
            if count >= MOST {
                changes.push(Change::Overflow);
                return;
            }
            let change = Change::Created(join(path, &entry.path));
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
    }

    /// What is at a path has left what is watched: what changes in it is told no more.
    fn forget(&mut self, from: &str) {
        let events = &self.events;
        self.prefixes.retain(|number, prefix| {
            let has_left = is_at_or_below(prefix, from);
            if has_left {
                // It may be gone already.
                _ = inotify::remove_watch(events, *number);
            }
            !has_left
        });
    }

    /// A directory has another path, and with it what is watched below.
    fn rename(&mut self, from: &str, to: &str) {
        for prefix in self.prefixes.values_mut() {
            if is_at_or_below(prefix, from) {
                let rest = prefix.get(from.len()..).unwrap_or_default();
                *prefix = format!("{to}{rest}");
            }
        }
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What follows what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Wait,
    Again,
    /// What was watched is gone.
    End,
}

fn join(parent: &str, path: &str) -> String {
    match (parent.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => parent.to_owned(),
        _ => format!("{parent}/{path}"),
    }
}

async fn run(
    mut watch: Watch,
    readable: AsyncFd<OwnedFd>,
    work: Work,
    mut sender: Sender<Change>,
    hold: OwnedSemaphorePermit,
) {
    let mut next = Next::Wait;
    while next != Next::End {
        if next == Next::Wait {
            let ready = tokio::select! {
                ready = readable.readable() => ready,
                () = sender.closed() => break,
            };
            match ready {
                // All of it is read below; what comes meanwhile wakes this again.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => break,
            }
        }
        let read = work.run(move || {
            let read = watch.read();
            Ok((watch, read))
        });
        let Ok((same, read)) = read.await else { break };
        watch = same;
        match read {
            Ok((changes, then)) => {
                next = then;
                for change in changes {
                    if sender.send(change).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                _ = sender.fail(stream_error(error)).await;
                return;
            }
        }
    }
    drop(hold);
}
