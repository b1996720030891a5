use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;

type Test = Result<(), Box<dyn std::error::Error>>;

struct Place {
    directory: tempfile::TempDir,
    files: Netref<dyn Files>,
}

impl Place {
    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A directory with a tree in it, and a secret beside it.
fn place(show: impl FnOnce(FilesRoot) -> FilesRoot) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::write(root.join("a/b/deep"), "deep").unwrap();
    std::fs::write(root.join("top"), "top of it\n").unwrap();
    std::fs::write(directory.path().join("secret"), "secret").unwrap();
    symlink("a/b/deep", root.join("link")).unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
    let files = show(FilesRoot::at(root)).share();
    Place { directory, files }
}

fn kind<T>(result: Result<T, Failure>) -> Option<std::io::ErrorKind> {
    result.err().map(|failure| failure.kind())
}

async fn all<T: farref_netref::stream::Item>(mut stream: Stream<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(item) = stream.next().await {
        all.push(item.unwrap());
    }
    all
}

#[tokio::test]
async fn a_tree_is_listed_and_walked() -> Test {
    let place = place(|root| root);
    let names = |entries: Vec<Entry>| {
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.path).collect();
        names.sort();
        names
    };
    let listed = all(place.files.list("/").await?).await;
    let link = listed.iter().find(|entry| entry.path == "link").unwrap();
    assert_eq!(
        (link.metadata.kind, link.target.as_deref()),
        (Kind::Link, Some("a/b/deep"))
    );
    assert_eq!(names(listed), ["a", "etc", "link", "out", "top"]);
    assert_eq!(names(all(place.files.list("a/b").await?).await), ["deep"]);
    let walked = names(all(place.files.walk("", 9).await?).await);
    assert_eq!(walked, ["a", "a/b", "a/b/deep", "etc", "link", "out", "top"]);
    assert_eq!(names(all(place.files.walk("a", 1).await?).await), ["b"]);
    assert!(all(place.files.walk("a", 0).await?).await.is_empty());
    assert!(place.files.list("top").await.is_err());
    assert!(kind(place.files.list("none").await) == Some(std::io::ErrorKind::NotFound));
    Ok(())
}

/// Runs `test` where permissions are in the way, which they are not for root.
#[cfg(target_os = "linux")]
pub(super) fn as_anybody<F: Future<Output = Test>>(test: impl FnOnce() -> F + Send + 'static) {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let thread = std::thread::spawn(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective
            .remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        set_capabilities(None, sets).unwrap();
        // The threads that it starts may do what this one may.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test()).unwrap();
    });
    thread.join().unwrap();
}

/// One directory that may not be read ended the walk, and with it the listing and the copy of all others.
#[cfg(target_os = "linux")]
#[test]
fn a_walk_goes_on_behind_what_may_not_be_read() {
    as_anybody(|| async {
        let place = place(|root| root);
        let root = place.path().join("root");
        for (name, mode) in [("closed", 0o300), ("unsearchable", 0o600)] {
            std::fs::create_dir_all(root.join(name).join("below"))?;
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode))?;
        }
        let walked = all(place.files.walk("", 9).await?).await;
        let mut walked: Vec<_> = walked.into_iter().map(|entry| entry.path).collect();
        walked.sort();
        let all_others = [
            "a",
            "a/b",
            "a/b/deep",
            "closed",
            "etc",
            "link",
            "out",
            "top",
            "unsearchable",
        ];
        let denied = Some(std::io::ErrorKind::PermissionDenied);
        let alone = kind(place.files.walk("closed", 9).await);
        for name in ["closed", "unsearchable"] {
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(0o700))?;
        }
        assert_eq!((walked, alone), (all_others.map(str::to_owned).to_vec(), denied));
        Ok(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_file_is_read_written_and_sought_like_one_of_std() -> Test {
    let place = place(|root| root);
    let file = place.files.open("new", OpenMode::EDIT).await?;
    tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        let mut file = crate::file::Handle::new(file).blocking();
        file.write_all(b"hello, world")?;
        file.seek(SeekFrom::Start(7))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        assert_eq!(text, "world");
        Ok(())
    })
    .await??;
    assert_eq!(place.files.read("new", 2, 3).await?, "llo");
    let refused = kind(
        place
            .files
            .open(
                "new",
                OpenMode {
                    create_new: true,
                    ..OpenMode::EDIT
                },
            )
            .await,
    );
    assert_eq!(refused, Some(std::io::ErrorKind::AlreadyExists));
    let reading = place.files.open("new", OpenMode::READ).await?;
    let refused = kind(reading.write_at(0, "x".into()).await);
    assert_eq!(refused, Some(std::io::ErrorKind::PermissionDenied));
    Ok(())
}

#[tokio::test]
async fn whole_files_cross_with_their_hash() -> Test {
    let place = place(|root| root);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(place.path().join("root/big"), &bytes)?;
    let mut content = place.files.read_from("big", 0).await?;
    let digest = place.files.write_from("copy", 0, content.bytes).await?;
    assert_eq!(digest.len, 1_000_000);
    assert_eq!(digest.hash, blake3::hash(&bytes).to_hex().as_str());
    assert_eq!(content.digest.next().await.unwrap()?, digest);
    assert_eq!(place.files.hash("copy", 0, None).await?, digest);
    let half = place.files.hash("copy", 10, Some(500_000)).await?;
    assert_eq!(half.hash, blake3::hash(&bytes[10..500_010]).to_hex().as_str());
    // From a position on, what was behind it goes.
    let content = place.files.read_from("big", 999_990).await?;
    place.files.write_from("copy", 5, content.bytes).await?;
    assert_eq!(
        std::fs::read(place.path().join("root/copy"))?,
        [&bytes[..5], &bytes[999_990..]].concat()
    );
    Ok(())
}

#[tokio::test]
async fn files_are_made_changed_and_removed() -> Test {
    let place = place(|root| root);
    let root = place.path().join("root");
    let time = Time {
        seconds: 1_000_000_000,
        nanos: 5,
    };
    let attributes = Attributes {
        mode: Some(0o640),
        modified: Some(time),
        accessed: None,
    };
    let digest = place.files.write("a/new", "text".into(), attributes).await?;
    assert_eq!(digest.hash, blake3::hash(b"text").to_hex().as_str());
    let there = place.files.stat("a/new").await?;
    assert_eq!((there.len, there.mode, there.modified), (4, 0o640, Some(time)));
    assert_eq!(place.files.copy("a/new", "copied").await?, 4);
    assert_eq!(
        std::fs::metadata(root.join("copied"))?.permissions().mode() & 0o777,
        0o640
    );
    place.files.rename("copied", "moved").await?;
    place.files.make_dir("x/y/z", true).await?;
    place.files.make_dir("x/y/z", true).await?;
    assert_eq!(
        kind(place.files.make_dir("x", false).await),
        Some(std::io::ErrorKind::AlreadyExists)
    );
    place.files.link("../moved", "x/link").await?;
    assert_eq!(place.files.read("x/link", 0, 10).await?, "text");
    assert_eq!(place.files.canonical("x/y/../link").await?, "/moved");
    assert_eq!(place.files.read_link("x/link").await?, "../moved");
    place
        .files
        .set_attributes(
            "moved",
            Attributes {
                mode: Some(0o4711),
                ..Attributes::default()
            },
        )
        .await?;
    assert_eq!(
        std::fs::metadata(root.join("moved"))?.mode() & 0o7777,
        0o711,
        "never set-uid"
    );
    assert!(kind(place.files.remove("x", false).await).is_some());
    place.files.remove("x", true).await?;
    assert!(root.join("moved").exists() && !root.join("x").exists());
    for whole in ["", "/", ".", "a/.."] {
        assert!(place.files.remove(whole, true).await.is_err(), "{whole}");
    }
    place
        .files
        .write_from(".part", 0, ByteStream::read(&b"parts"[..]))
        .await?;
    place.files.replace(".part", "moved", attributes).await?;
    assert_eq!(std::fs::read_to_string(root.join("moved"))?, "parts");
    assert_eq!(std::fs::metadata(root.join("moved"))?.mtime(), 1_000_000_000);
    let left: Vec<_> = std::fs::read_dir(&root)?
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("farref")),
        "{left:?}"
    );
    assert!(place.files.space("/").await?.total > 0);
    Ok(())
}

#[tokio::test]
async fn what_is_shown_read_only_is_only_read() -> Test {
    let place = place(FilesRoot::read_only);
    assert!(place.files.is_read_only().await?);
    assert_eq!(place.files.read("top", 0, 3).await?, "top");
    place.files.open("top", OpenMode::READ).await?;
    let failure = place.files.open("top", OpenMode::EDIT).await.unwrap_err();
    assert_eq!(failure.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(
        failure.to_string(),
        "top: these files are shown to be read only, and `open` writes"
    );
    Ok(())
}

#[tokio::test]
async fn named_pipes_and_devices_hold_nobody_up() -> Test {
    let place = place(|root| root);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path().join("root/pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )?;
    let denied = Some(std::io::ErrorKind::PermissionDenied);
    assert_eq!(kind(place.files.open("pipe", OpenMode::READ).await), denied);
    assert_eq!(kind(place.files.open("pipe", OpenMode::CREATE).await), denied);
    assert_eq!(kind(place.files.read("pipe", 0, 1).await), denied);
    assert_eq!(kind(place.files.copy("pipe", "new").await), denied);
    assert_eq!(kind(place.files.copy("top", "pipe").await), denied);
    assert_eq!(kind(place.files.follow("pipe", 1).await), denied);
    let machine = FilesRoot::machine().share();
    assert_eq!(kind(machine.read("/dev/zero", 0, 1).await), denied);
    assert_eq!(machine.stat("/dev/zero").await?.kind, Kind::Other);
    Ok(())
}

#[tokio::test]
async fn the_whole_machine_has_absolute_links() -> Test {
    let place = place(|root| root);
    let machine = FilesRoot::machine().share();
    let base = place.path().canonicalize()?;
    let base = base.to_str().unwrap();
    symlink(format!("{base}/secret"), place.path().join("absolute"))?;
    assert_eq!(machine.read(&format!("{base}/absolute"), 0, 9).await?, "secret");
    assert_eq!(machine.read(&format!("{base}/root/out"), 0, 9).await?, "secret");
    assert_eq!(
        machine.canonical(&format!("{base}/root/out")).await?,
        format!("{base}/secret")
    );
    assert_eq!(machine.stat("/").await?.kind, Kind::Directory);
    machine.make_dir(&format!("{base}/p/q"), true).await?;
    machine.link("/nowhere", &format!("{base}/p/link")).await?;
    assert_eq!(
        machine.link_stat(&format!("{base}/p/link")).await?.kind,
        Kind::Link
    );
    machine.remove(&format!("{base}/p"), true).await?;
    Ok(())
}

#[tokio::test]
async fn a_root_has_so_many_files_open_and_no_more() -> Test {
    let place = place(|root| root.open_files(2));
    let first = place.files.open("top", OpenMode::READ).await?;
    let _second = place.files.open("top", OpenMode::READ).await?;
    assert!(place.files.hash("top", 0, None).await.is_err());
    drop(first);
    // What is over does not count.
    for _ in 0..10 {
        place.files.hash("top", 0, None).await?;
    }
    let _third = place.files.open("top", OpenMode::READ).await?;
    let failure = place.files.list("/").await.unwrap_err();
    assert_eq!(failure.kind(), std::io::ErrorKind::ResourceBusy);
    assert_eq!(
        failure.to_string(),
        "/: 2 files are open already, which is the limit"
    );
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn changes_are_told() -> Test {
    let place = place(|root| root);
    let root = place.path().join("root");
    let mut changes = place.files.watch("", true).await?;
    std::fs::write(root.join("a/b/new"), "x")?;
    assert_eq!(changes.next().await.unwrap()?, Change::Created("a/b/new".into()));
    assert_eq!(changes.next().await.unwrap()?, Change::Modified("a/b/new".into()));
    std::fs::rename(root.join("a"), root.join("z"))?;
    let moved = Change::Renamed {
        from: "a".into(),
        to: "z".into(),
    };
    assert_eq!(changes.next().await.unwrap()?, moved);
    std::fs::remove_file(root.join("z/b/new"))?;
    assert_eq!(changes.next().await.unwrap()?, Change::Removed("z/b/new".into()));
    std::fs::create_dir_all(root.join("p/q"))?;
    assert_eq!(changes.next().await.unwrap()?, Change::Created("p".into()));
    assert_eq!(changes.next().await.unwrap()?, Change::Created("p/q".into()));
    let mut one = place.files.watch("top", false).await?;
    std::fs::write(root.join("top"), "more")?;
    assert_eq!(one.next().await.unwrap()?, Change::Modified(String::new()));
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_reads_changes_too_slowly_is_told() -> Test {
    let place = place(|root| root);
    let mut changes = place.files.watch("", false).await?;
    let queued: usize = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?
        .trim()
        .parse()?;
    let path = place.path().join("root/flicker");
    // More than the kernel keeps and than is kept here, twice per turn.
    for _ in 0..queued / 2 + 8000 {
        std::fs::write(&path, "")?;
        std::fs::remove_file(&path)?;
    }
    while changes.next().await.unwrap()? != Change::Overflow {}
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_with_what_is_watched() -> Test {
    let place = place(|root| root);
    let mut changes = place.files.watch("a/b/deep", false).await?;
    std::fs::remove_file(place.path().join("root/a/b/deep"))?;
    let mut last = None;
    while let Some(change) = changes.next().await {
        last = Some(change?);
    }
    assert_eq!(last, Some(Change::Removed(String::new())));
    Ok(())
}

#[tokio::test]
async fn a_file_that_grows_is_followed_to_the_one_that_takes_its_place() -> Test {
    let place = place(|root| root);
    let log = place.path().join("root/log");
    std::fs::write(&log, "one\ntwo\nthree\n")?;
    let mut lines = tokio::io::AsyncBufReadExt::lines(place.files.follow("log", 2).await?);
    assert_eq!(lines.next_line().await?.as_deref(), Some("two"));
    assert_eq!(lines.next_line().await?.as_deref(), Some("three"));
    let mut open = std::fs::OpenOptions::new().append(true).open(&log)?;
    writeln!(open, "four")?;
    assert_eq!(lines.next_line().await?.as_deref(), Some("four"));
    std::fs::rename(&log, place.path().join("root/log.1"))?;
    std::fs::write(&log, "five\n")?;
    writeln!(open, "late")?;
    assert_eq!(lines.next_line().await?.as_deref(), Some("late"));
    assert_eq!(lines.next_line().await?.as_deref(), Some("five"));
    Ok(())
}

#[test]
fn times_before_1970_are_times() {
    for time in [
        Time { seconds: 0, nanos: 0 },
        Time {
            seconds: -1,
            nanos: 999_999_999,
        },
        Time {
            seconds: -5,
            nanos: 0,
        },
        Time {
            seconds: 1_700_000_000,
            nanos: 123_456_789,
        },
    ] {
        assert_eq!(Time::from(time.to_system().unwrap()), time);
    }
}

/// A file that was written anew lost its permissions: a secret could be read, a script not be run.
#[tokio::test]
async fn what_is_written_anew_keeps_the_permissions_that_it_had() -> Test {
    let place = place(|root| root);
    let top = place.path().join("root/top");
    for mode in [0o600, 0o755] {
        std::fs::set_permissions(&top, PermissionsExt::from_mode(mode))?;
        place
            .files
            .write("top", "new".into(), Attributes::default())
            .await?;
        assert_eq!(std::fs::metadata(&top)?.mode() & 0o7777, mode);
    }
    Ok(())
}

/// What was copied from a file that is its owner's alone could be read by others until all of it was there.
#[tokio::test]
async fn a_file_that_is_not_whole_yet_is_its_owners_alone() -> Test {
    let place = place(|root| root);
    for (name, mode) in [(".x.farref-part", 0o600), ("x", 0o644)] {
        let bytes = ByteStream::read(&b"secret"[..]);
        place.files.write_from(name, 0, bytes).await?;
        let there = std::fs::metadata(place.path().join("root").join(name))?;
        assert_eq!(there.mode() & 0o777 & !0o022, mode, "{name}");
    }
    Ok(())
}

/// Two copies to one place wrote to one file, and the first to be done put in place what the other had yet to write.
#[tokio::test]
async fn of_two_who_write_one_file_the_first_is_told() -> Test {
    let place = place(|root| root);
    let (mut sender, bytes) = ByteStream::channel(1);
    let first = tokio::spawn({
        let files = place.files.clone();
        async move { files.write_from("new", 0, bytes).await }
    });
    sender.send("first ".into()).await?;
    let new = place.path().join("root/new");
    while !std::fs::read(&new).is_ok_and(|there| there == b"first ") {
        tokio::task::yield_now().await;
    }
    let second = ByteStream::read(&b"second"[..]);
    place.files.write_from("new", 3, second).await?;
    sender.send("and last".into()).await?;
    drop(sender);
    assert_eq!(kind(first.await?), Some(std::io::ErrorKind::ResourceBusy));
    assert_eq!(std::fs::read(&new)?, b"firsecond");
    Ok(())
}

/// What was to be gone on with could be gone by then: zeros took the place of what was thought to be there.
#[tokio::test]
async fn a_file_is_not_filled_up_with_zeros() -> Test {
    let place = place(|root| root);
    use std::io::ErrorKind::{InvalidInput, NotFound};
    for (path, expected) in [("top", InvalidInput), ("new", NotFound)] {
        let bytes = ByteStream::read(&b"rest"[..]);
        let failed = place.files.write_from(path, 100, bytes).await;
        assert_eq!(kind(failed), Some(expected), "{path}");
    }
    assert_eq!(place.files.read("top", 0, 100).await?, "top of it\n");
    Ok(())
}

/// A directory that was moved out of what is shown was watched further on, wherever it was.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_moved_away_is_watched_no_more() -> Test {
    let place = place(|root| root);
    let root = place.path().join("root");
    let mut changes = place.files.watch("", true).await?;
    std::fs::rename(root.join("a"), place.path().join("away"))?;
    assert_eq!(changes.next().await.unwrap()?, Change::Removed("a".into()));
    std::fs::write(place.path().join("away/b/private"), "x")?;
    std::fs::write(root.join("last"), "x")?;
    assert_eq!(changes.next().await.unwrap()?, Change::Created("last".into()));
    // It comes back under another name.
    std::fs::rename(place.path().join("away"), root.join("back"))?;
    while changes.next().await.unwrap()? != Change::Created("back/b/private".into()) {}
    std::fs::write(root.join("back/b/public"), "x")?;
    let new = Change::Created("back/b/public".into());
    while changes.next().await.unwrap()? != new {}
    Ok(())
}

/// Each level took some of the stack of a thread: a tree that was deep enough took the process with it.
#[test]
fn a_tree_of_any_depth_is_removed() -> Test {
    let place = place(|root| root);
    let root = place.path().join("root");
    std::fs::create_dir_all(root.join("d/".repeat(1200)))?;
    std::fs::write(root.join("d/".repeat(700)).join("file"), "")?;
    let tree = super::tree::Tree::at(root.clone());
    // With little room, not so many are needed.
    let removing = std::thread::Builder::new().stack_size(256 << 10);
    removing.spawn(move || tree.remove("d", true))?.join().unwrap()?;
    assert!(!root.join("d").exists());
    Ok(())
}

/// By way of a link further down, a new one led out of what is shown, though not by its words.
#[tokio::test]
async fn no_link_is_made_that_leads_out_by_way_of_another() -> Test {
    let place = place(|root| root);
    let denied = Some(std::io::ErrorKind::PermissionDenied);
    place.files.link("..", "a/b/up").await?;
    place.files.link("a/b", "short").await?;
    assert_eq!(kind(place.files.link("a/b/up/../../secret", "one").await), denied);
    // There it is two levels up to the root, however it is called.
    place.files.link("../../top", "short/two").await?;
    assert_eq!(place.files.read("a/b/two", 0, 3).await?, "top");
    place.files.make_dir("x", false).await?;
    place.files.link("x", "y").await?;
    assert_eq!(kind(place.files.link("../../secret", "y/link").await), denied);
    place.files.link("../top", "y/link").await?;
    assert_eq!(place.files.read("x/link", 0, 3).await?, "top");
    Ok(())
}

/// Of a directory that came with more than can be told, the rest was left out and nobody told.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_is_not_told_all_that_came_is_told_that() -> Test {
    let place = place(|root| root);
    let many = place.path().join("many");
    std::fs::create_dir(&many)?;
    for at in 0..4200 {
        std::fs::write(many.join(at.to_string()), "")?;
    }
    let mut changes = place.files.watch("", true).await?;
    std::fs::rename(&many, place.path().join("root/many"))?;
    for _ in 0..=4096 {
        assert!(matches!(changes.next().await.unwrap()?, Change::Created(_)));
    }
    std::fs::write(place.path().join("root/last"), "")?;
    assert_eq!(changes.next().await.unwrap()?, Change::Overflow);
    Ok(())
}
