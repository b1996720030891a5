//! Trees of files used from afar, over every medium; and copies that are cut off in the middle.

use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farref::file::{Failure, Handle};
use farref::files::{Change, Files, FilesRoot, Kind, OpenMode, Report, Step, Transfer};
use farref::host::{Exposed, Host};
use farref::transport::Address;
use farref::{Connection, ErrorKind, Netref, Object, Server, connect};
use farref_integration_tests::media::{acquainted, is_slow, over_every_medium, pair_with, runtime, within};
use farref_integration_tests::program::agent;
use farref_integration_tests::relay::Relay;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

fn bytes(len: usize) -> Vec<u8> {
    // No two pieces of it are alike.
    let mut state = 1_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

/// An empty directory, and another.
fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (far, here) = (directory.path().join("far"), directory.path().join("here"));
    std::fs::create_dir(&far).unwrap();
    std::fs::create_dir(&here).unwrap();
    (directory, far, here)
}

#[test]
fn a_tree_is_used_from_afar_as_if_it_were_here() {
    over_every_medium(async |medium| {
        let (_directory, far, here) = places();
        let exposed = Exposed::nothing().files(FilesRoot::at(&far));
        let pair = within(pair_with(medium, Server::new(exposed))).await.unwrap();
        let host: Netref<dyn Host> = pair.root().await;
        let len = if is_slow(medium) { 150_000 } else { 1_500_000 };
        let content = bytes(len);
        within(async {
            // One round trip, as the service is not waited for.
            let top = host.call().files().pipe().stat("/").await.unwrap();
            assert_eq!(top.kind, Kind::Directory);
            let files = host.files().await.unwrap();

            let mut changes = files.watch("", false).await.unwrap();
            files.make_dir("a/b", true).await.unwrap();
            assert_eq!(
                changes.next().await.unwrap().unwrap(),
                Change::Created("a".into())
            );
            drop(changes);

            let mut file = Handle::new(files.open("a/b/file", OpenMode::EDIT).await.unwrap());
            file.write_all(&content).await.unwrap();
            file.rewind().await.unwrap();
            let mut read = Vec::new();
            file.read_to_end(&mut read).await.unwrap();
            assert!(read == content);
            drop(file);

            let digest = files.hash("a/b/file", 0, None).await.unwrap();
            assert_eq!(digest.len, len as u64);
            let mut walk = files.walk("", 9).await.unwrap();
            let mut paths = Vec::new();
            while let Some(entry) = walk.next().await {
                paths.push(entry.unwrap().path);
            }
            assert_eq!(paths, ["a", "a/b", "a/b/file"]);

            let local = FilesRoot::at(&here).share();
            let report = Transfer::new(files.clone(), local.clone())
                .tree("", "down")
                .await
                .unwrap();
            assert_eq!((report.files, report.failed), (1, 0), "{report:?}");
            assert!(std::fs::read(here.join("down/a/b/file")).unwrap() == content);
            let report = Transfer::new(local, files.clone())
                .tree("down", "up")
                .await
                .unwrap();
            assert_eq!((report.files, report.failed), (1, 0), "{report:?}");
            assert_eq!(files.hash("up/a/b/file", 0, None).await.unwrap(), digest);
            files.remove("up", true).await.unwrap();
            let failure = files.open("up/a/b/file", OpenMode::READ).await.unwrap_err();
            assert_eq!(failure.kind(), std::io::ErrorKind::NotFound);
            assert!(failure.to_string().starts_with("up/a/b/file: "), "{failure}");
        })
        .await;
        drop(host);
        pair.at_rest().await;
    });
}

#[test]
fn everything_is_there_by_name() {
    runtime().block_on(async {
        let (_directory, far, _) = places();
        std::fs::write(far.join("x"), "text").unwrap();
        let exposed = Exposed::nothing().files(FilesRoot::at(&far)).system();
        let pair = within(pair_with("mem", Server::new(exposed))).await.unwrap();
        let host = within(pair.client.object()).await.unwrap();
        let files = host.get("files").await.unwrap();
        let files = Object::try_from(files).unwrap();
        let stat = files.call("stat", ("x",)).await.unwrap();
        assert_eq!(stat.get("len").unwrap().as_u64(), Some(4));
        let system = host.call("service", ("system",)).await.unwrap();
        let facts = Object::try_from(system).unwrap().call("facts", ()).await.unwrap();
        assert_eq!(
            facts.get("pid").unwrap().as_u64(),
            Some(std::process::id().into())
        );
        let error = host.get("network").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
}

#[test]
fn many_small_files_are_copied_both_ways() {
    runtime().block_on(async {
        let (_directory, far, here) = places();
        for at in 0..300 {
            let directory = here.join(format!("many/{}", at % 7));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(at.to_string()), bytes(at * 11)).unwrap();
        }
        let exposed = Exposed::nothing().files(FilesRoot::at(&far));
        let pair = within(pair_with("tcp", Server::new(exposed))).await.unwrap();
        let files = within(pair.root::<dyn Host>().await.files()).await.unwrap();
        let local = FilesRoot::at(&here).share();
        let up = Transfer::new(local.clone(), files.clone());
        let report = within(up.tree("many", "many")).await.unwrap();
        assert_eq!(
            (report.files, report.directories, report.failed),
            (300, 7, 0),
            "{report:?}"
        );
        let down = Transfer::new(files.clone(), local);
        let report = within(down.tree("many", "again")).await.unwrap();
        assert_eq!((report.files, report.failed), (300, 0), "{report:?}");
        for at in [0, 1, 150, 299] {
            let path = format!("again/{}/{at}", at % 7);
            assert!(std::fs::read(here.join(path)).unwrap() == bytes(at * 11), "{at}");
        }
        let report = within(down.tree("many", "again")).await.unwrap();
        assert_eq!((report.files, report.skipped), (0, 300), "{report:?}");
        drop((files, up, down));
        pair.at_rest().await;
    });
}

#[test]
fn a_copy_goes_on_over_the_next_carrier_when_one_is_cut() {
    runtime().block_on(async {
        let (_directory, far, here) = places();
        let content = bytes(8 << 20);
        std::fs::write(far.join("file"), &content).unwrap();
        let (at_server, at_client) = acquainted();
        let exposed = Exposed::nothing().files(FilesRoot::at(&far));
        let server = Server::new(exposed).trust(at_server);
        let address = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let socket = address.to_string();
        let socket = socket.trim_start_matches("tcp://").split('#').next().unwrap();
        let relay = Arc::new(Relay::new(socket.parse().unwrap()).await);
        let address = format!("tcp://{}#{}", relay.address, address.peer_key().unwrap());
        let client = within(connect(address).trust(at_client).into_future())
            .await
            .unwrap();
        let files = within(client.root::<dyn Host>())
            .await
            .unwrap()
            .files()
            .await
            .unwrap();
        let local = FilesRoot::at(&here).share();
        for (from, to) in [(files.clone(), local.clone()), (local, files.clone())] {
            let before = relay.cuts();
            let (cutting, gone) = (Arc::clone(&relay), AtomicU64::new(0));
            let copy = Transfer::new(from, to).anew().progress(move |step| {
                if let Step::Bytes { count, .. } = step {
                    let gone_by = gone.fetch_add(count, Ordering::Relaxed) + count;
                    // Somewhere within the next piece, at two places.
                    if gone_by >> 21 != (gone_by - count) >> 21 && gone_by < 7 << 20 {
                        cutting.cut_after(100_000);
                    }
                }
            });
            let report = within(copy.file("file", "file")).await.unwrap();
            assert_eq!((report.files, report.resumed, report.bytes), (1, 0, 8 << 20));
            assert!(relay.cuts() > before, "nothing was cut");
        }
        assert!(std::fs::read(here.join("file")).unwrap() == content);
        assert!(std::fs::read(far.join("file")).unwrap() == content);
    });
}

/// A process of its own that shows a directory, and what it shows.
async fn process(directory: &Path) -> (Connection, Netref<dyn Files>, rustix::process::Pid) {
    let address: Address = format!("exec:{}", agent().display()).parse().unwrap();
    let address = address.with_option("arg", "files").unwrap();
    let address = address.with_option("arg", directory.to_str().unwrap()).unwrap();
    let connection = within(connect(address).into_future()).await.unwrap();
    let host: Netref<dyn Host> = within(connection.root()).await.unwrap();
    let facts = within(host.system().await.unwrap().facts()).await.unwrap();
    let pid = rustix::process::Pid::from_raw(facts.pid.cast_signed()).unwrap();
    (connection, host.files().await.unwrap(), pid)
}

#[test]
fn a_copy_goes_on_where_it_was_when_a_process_was_killed() {
    runtime().block_on(async {
        const LEN: usize = 24 << 20;
        let (_directory, far, here) = places();
        let content = bytes(LEN);
        std::fs::write(far.join("down"), &content).unwrap();
        std::fs::write(here.join("up"), &content).unwrap();
        let local = FilesRoot::at(&here).share();
        for name in ["down", "up"] {
            let sides = |files: &Netref<dyn Files>| match name {
                "down" => Transfer::new(files.clone(), local.clone()),
                _ => Transfer::new(local.clone(), files.clone()),
            };
            let (_connection, files, pid) = process(&far).await;
            let gone = AtomicU64::new(0);
            let copy = sides(&files).progress(move |step| {
                if let Step::Bytes { count, .. } = step
                    && gone.fetch_add(count, Ordering::Relaxed) > LEN as u64 / 2
                {
                    _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            });
            let failed: Failure = within(copy.file(name, name)).await.unwrap_err();
            assert_eq!(failed.kind(), std::io::ErrorKind::BrokenPipe, "{failed}");

            let (_connection, files, _) = process(&far).await;
            let report: Report = within(sides(&files).file(name, name)).await.unwrap();
            assert_eq!(report.resumed + report.bytes, LEN as u64, "{report:?}");
            assert!(report.resumed > 4 << 20, "{report:?}");
            for place in [&far, &here] {
                assert!(std::fs::read(place.join(name)).unwrap() == content, "{name}");
                let left = std::fs::read_dir(place).unwrap();
                let left = left.map(|entry| entry.unwrap().file_name());
                assert!(
                    left.into_iter()
                        .all(|name| !name.to_string_lossy().contains("part"))
                );
            }
        }
    });
}

#[test]
fn a_tree_is_given_up_with_the_other_side_and_gone_on_with_later() {
    runtime().block_on(async {
        let (_directory, far, here) = places();
        std::fs::create_dir(here.join("many")).unwrap();
        for at in 0..500 {
            std::fs::write(here.join(format!("many/{at}")), bytes(at)).unwrap();
        }
        let local = FilesRoot::at(&here).share();
        let (_connection, files, pid) = process(&far).await;
        let (finished, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let copy = Transfer::new(local.clone(), files).at_once(8).progress({
            let (finished, failed) = (Arc::clone(&finished), Arc::clone(&failed));
            move |step| match step {
                Step::Finished { .. } if finished.fetch_add(1, Ordering::Relaxed) == 50 => {
                    _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                Step::Failed { .. } => {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
        });
        let failure = within(copy.tree("many", "many")).await.unwrap_err();
        assert_eq!(failure.kind(), std::io::ErrorKind::BrokenPipe, "{failure}");
        // What was under way then, and not all that there is.
        assert!(failed.load(Ordering::Relaxed) < 100, "{failed:?}");

        let (_connection, files, _) = process(&far).await;
        let report = within(Transfer::new(local, files).tree("many", "many"))
            .await
            .unwrap();
        assert_eq!(
            (report.files + report.skipped, report.failed),
            (500, 0),
            "{report:?}"
        );
        assert!(report.skipped > 40, "{report:?}");
        // A process that is killed may leave what it was writing under a name of its own.
        let there = std::fs::read_dir(far.join("many")).unwrap();
        let names = there.map(|entry| entry.unwrap().file_name());
        let copied = names.filter(|name| !name.to_string_lossy().starts_with(".farref-"));
        assert_eq!(copied.count(), 500);
    });
}

#[test]
fn what_belongs_to_another_file_is_not_gone_on_with() {
    runtime().block_on(async {
        let (_directory, far, here) = places();
        let content = bytes(2 << 20);
        std::fs::write(far.join("file"), &content).unwrap();
        let mut other = content.clone();
        other.truncate(1 << 20);
        other[1000] ^= 1;
        std::fs::write(here.join(".file.farref-part"), other).unwrap();
        let exposed = Exposed::nothing().files(FilesRoot::at(&far));
        let pair = within(pair_with("tcp", Server::new(exposed))).await.unwrap();
        let files = within(pair.root::<dyn Host>().await.files()).await.unwrap();
        let copy = Transfer::new(files, FilesRoot::at(&here).share());
        let report = within(copy.file("file", "file")).await.unwrap();
        assert_eq!((report.resumed, report.bytes), (0, 2 << 20));
        assert!(std::fs::read(here.join("file")).unwrap() == content);
    });
}
