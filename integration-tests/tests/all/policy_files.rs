//! Whoever is shown a directory gets nothing out of it that is not in it, and changes nothing that may only be read.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::io::ErrorKind as Io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farref::file::{Failure, File};
use farref::files::{Attributes, Entry, Files, FilesRoot, OpenMode, Time};
use farref::host::{Exposed, Host};
use farref::keys::{Authorized, Identity, Trust};
use farref::logs::{Level, LogRing};
use farref::{ByteStream, Connection, ErrorKind, Netref, Server, Stream, connect};
use farref_integration_tests::media::within;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

/// What a peer that means no good asks for.
enum Probe {
    Open(&'static str, OpenMode),
    Read(&'static str),
    ReadFrom(&'static str),
    Hash(&'static str),
    Follow(&'static str),
    List(&'static str),
    Walk(&'static str),
    Watch(&'static str),
    Stat(&'static str),
    LinkStat(&'static str),
    ReadLink(&'static str),
    Canonical(&'static str),
    Space(&'static str),
    Write(&'static str),
    WriteFrom(&'static str),
    Replace(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Remove(&'static str),
    MakeDir(&'static str),
    Link(&'static str, &'static str),
    SetAttributes(&'static str),
}

use Probe::*;

/// Ways out of the root, and what must not be opened: refused whether it may be written or not.
const WAYS_OUT: &[Probe] = &[
    // By `..`
    Read("../secret"),
    Read("/../secret"),
    Read("inside/../../secret"),
    Read("./.././secret"),
    Read("inside/../inside/../../secret"),
    Read("../../../../../../../../etc/passwd"),
    Read("..//secret"),
    Read("none/../../secret"),
    List(".."),
    List("../outside"),
    Walk("inside/../.."),
    Watch("../outside"),
    Stat("../secret"),
    LinkStat("../secret"),
    Canonical("../secret"),
    Space(".."),
    Hash("../secret"),
    Follow("../secret"),
    ReadFrom("../outside/file"),
    Open("../secret", OpenMode::READ),
    // By absolute paths, which begin at the root
    Read("/etc/passwd"),
    Read("//etc/passwd"),
    Stat("/proc/self/environ"),
    List("/etc"),
    // By links
    Read("out"),
    Read("absolute"),
    Read("chain"),
    Read("inside/up/file"),
    Read("outdir/file"),
    Read("outdir/../secret"),
    Read("machine/etc/passwd"),
    Open("out", OpenMode::READ),
    Stat("out"),
    Hash("absolute"),
    Follow("chain"),
    ReadFrom("out"),
    List("outdir"),
    Walk("outdir"),
    Watch("outdir"),
    Canonical("out"),
    Space("outdir"),
    Read("loop"),
    // By magic links of proc
    Read("proc/cwd/secret"),
    Read("fd"),
    List("here"),
    Read("here/secret"),
    // Odd names
    Read("\\x2e\\x2e/secret"),
    Read("..\\x2fsecret"),
    Read("..\\secret"),
    Read("..\0/secret"),
    Read("../secret\nWARN a peer that is not there"),
    Read("inside/file\0"),
    Read("~/secret"),
    Read("file:///etc/passwd"),
    // Not files
    Read("pipe"),
    Open("pipe", OpenMode::READ),
    ReadFrom("pipe"),
    Follow("pipe"),
    Hash("device"),
    Read("socket"),
    Read("inside"),
    ReadLink("inside/file"),
];

/// Changes outside of the root, and of the root itself.
const CHANGES_OUTSIDE: &[Probe] = &[
    Open("../new", OpenMode::CREATE),
    Open("../secret", OpenMode::EDIT),
    Open("out", OpenMode::CREATE),
    Open("outdir/new", OpenMode::CREATE),
    Open("pipe", OpenMode::CREATE),
    Write("../secret"),
    Write("outdir/new"),
    Write("inside/up/file"),
    Write("pipe"),
    WriteFrom("../secret"),
    WriteFrom("out"),
    WriteFrom("outdir/file"),
    WriteFrom("pipe"),
    Replace("inside/file", "../secret"),
    Replace("../secret", "stolen"),
    Replace("outdir/file", "stolen"),
    Copy("../secret", "stolen"),
    Copy("out", "stolen"),
    Copy("outdir/file", "stolen"),
    Copy("inside/file", "../new"),
    Copy("inside/file", "outdir/new"),
    Copy("pipe", "stolen"),
    Rename("../secret", "stolen"),
    Rename("outdir/file", "stolen"),
    Rename("inside/file", "../new"),
    Rename("inside", "outdir/new"),
    Rename("inside", "inside/inside"),
    Rename("", "stolen"),
    Remove("../secret"),
    Remove("../outside"),
    Remove("outdir/file"),
    Remove("inside/up/file"),
    Remove(".."),
    Remove(""),
    Remove("/"),
    Remove("inside/.."),
    MakeDir("../new"),
    MakeDir("outdir/new"),
    MakeDir("inside/../../new/deep"),
    Link("../secret", "new"),
    Link("/etc/passwd", "new"),
    Link("../../secret", "inside/new"),
    Link("inside/../../secret", "new"),
    Link("top", "../new"),
    Link("top", "outdir/new"),
    Link("", "new"),
    SetAttributes("../secret"),
    SetAttributes("out"),
    SetAttributes("outdir/file"),
];

/// Changes that are fine where writing is.
const CHANGES: &[Probe] = &[
    Open("top", OpenMode::EDIT),
    Open("new", OpenMode::CREATE),
    Open(
        "top",
        OpenMode {
            append: true,
            ..OpenMode::READ
        },
    ),
    Open(
        "top",
        OpenMode {
            truncate: true,
            ..OpenMode::READ
        },
    ),
    Open(
        "new",
        OpenMode {
            create: true,
            ..OpenMode::READ
        },
    ),
    Write("new"),
    Write("top"),
    WriteFrom("top"),
    Replace("inside/file", "top"),
    Copy("top", "new"),
    Rename("top", "new"),
    Remove("top"),
    Remove("inside"),
    MakeDir("new"),
    Link("top", "new"),
    SetAttributes("top"),
];

impl Probe {
    /// What it is called with first, and what came of it: what must not come.
    async fn ask(&self, files: &Netref<dyn Files>) -> Result<String, Failure> {
        async fn drain(mut bytes: ByteStream) -> Result<String, Failure> {
            let mut read = Vec::new();
            while let Some(piece) = bytes.next().await {
                read.extend_from_slice(&piece?);
            }
            Ok(String::from_utf8_lossy(&read).into_owned())
        }
        async fn names(mut entries: Stream<Entry>) -> Result<String, Failure> {
            let mut names = String::new();
            while let Some(entry) = entries.next().await {
                names.push_str(&entry?.path);
            }
            Ok(names)
        }
        fn done<T>(_: T) -> String {
            "done".to_owned()
        }
        let attributes = Attributes {
            mode: Some(0o777),
            modified: Some(Time { seconds: 0, nanos: 0 }),
            accessed: None,
        };
        match *self {
            Open(path, mode) => files.open(path, mode).await.map(done),
            Read(path) => {
                let read = files.read(path, 0, 100).await?;
                Ok(String::from_utf8_lossy(&read).into_owned())
            }
            ReadFrom(path) => drain(files.read_from(path, 0).await?.bytes).await,
            Hash(path) => files.hash(path, 0, None).await.map(done),
            Follow(path) => files.follow(path, 1).await.map(done),
            List(path) => names(files.list(path).await?).await,
            Walk(path) => names(files.walk(path, 9).await?).await,
            Watch(path) => files.watch(path, true).await.map(done),
            Stat(path) => files.stat(path).await.map(done),
            LinkStat(path) => files.link_stat(path).await.map(done),
            ReadLink(path) => files.read_link(path).await,
            Canonical(path) => files.canonical(path).await,
            Space(path) => files.space(path).await.map(done),
            Write(path) => files.write(path, "evil".into(), attributes).await.map(done),
            WriteFrom(path) => {
                let evil = ByteStream::read(&b"evil"[..]);
                files.write_from(path, 0, evil).await.map(done)
            }
            Replace(from, to) => files.replace(from, to, attributes).await.map(done),
            Copy(from, to) => files.copy(from, to).await.map(done),
            Rename(from, to) => files.rename(from, to).await.map(done),
            Remove(path) => files.remove(path, true).await.map(done),
            MakeDir(path) => files.make_dir(path, true).await.map(done),
            Link(target, path) => files.link(target, path).await.map(done),
            SetAttributes(path) => files.set_attributes(path, attributes).await.map(done),
        }
    }

    fn name(&self) -> String {
        let (method, path) = match *self {
            Open(path, mode) => return format!("open {path:?} {mode:?}"),
            Read(path) => ("read", path),
            ReadFrom(path) => ("read_from", path),
            Hash(path) => ("hash", path),
            Follow(path) => ("follow", path),
            List(path) => ("list", path),
            Walk(path) => ("walk", path),
            Watch(path) => ("watch", path),
            Stat(path) => ("stat", path),
            LinkStat(path) => ("link_stat", path),
            ReadLink(path) => ("read_link", path),
            Canonical(path) => ("canonical", path),
            Space(path) => ("space", path),
            Write(path) => ("write", path),
            WriteFrom(path) => ("write_from", path),
            Replace(from, to) => return format!("replace {from:?} {to:?}"),
            Copy(from, to) => return format!("copy {from:?} {to:?}"),
            Rename(from, to) => return format!("rename {from:?} {to:?}"),
            Remove(path) => ("remove", path),
            MakeDir(path) => ("make_dir", path),
            Link(target, path) => return format!("link {target:?} {path:?}"),
            SetAttributes(path) => ("set_attributes", path),
        };
        format!("{method} {path:?}")
    }
}

/// A root with traps in it, and what is around it.
fn yard() -> tempfile::TempDir {
    let yard = tempfile::tempdir().unwrap();
    let base = yard.path().canonicalize().unwrap();
    let root = base.join("root");
    std::fs::create_dir_all(root.join("inside")).unwrap();
    std::fs::create_dir(base.join("outside")).unwrap();
    for (path, text) in [
        ("secret", "secret"),
        ("outside/file", "secret"),
        ("root/inside/file", "file"),
        ("root/top", "top"),
    ] {
        std::fs::write(base.join(path), text).unwrap();
    }
    let secret = base.join("secret");
    for (link, target) in [
        ("out", Path::new("../secret")),
        ("absolute", &secret),
        ("chain", Path::new("inside/chain")),
        ("inside/chain", Path::new("../out")),
        ("inside/up", Path::new("../../outside")),
        ("outdir", Path::new("../outside")),
        ("machine", Path::new("/")),
        ("loop", Path::new("loop")),
        ("proc", Path::new("/proc/self")),
        ("fd", Path::new("/proc/self/fd/0")),
        ("here", Path::new("/proc/self/cwd")),
        ("device", Path::new("/dev/zero")),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    let (here, mode) = (rustix::fs::CWD, 0o600.into());
    rustix::fs::mknodat(here, root.join("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    yard
}

/// Everything that is there, but for what `skip` is above.
fn snapshot(of: &Path, skip: Option<&Path>) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut left = vec![of.to_path_buf()];
    while let Some(path) = left.pop() {
        if skip == Some(&*path) {
            continue;
        }
        let found = std::fs::symlink_metadata(&path).unwrap();
        let text = match found.is_file() {
            true => std::fs::read_to_string(&path).unwrap(),
            false => String::new(),
        };
        let told = format!(
            "{:o} {} {} {text}",
            found.mode(),
            found.mtime(),
            found.mtime_nsec()
        );
        if found.is_dir() {
            left.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        seen.insert(path, told);
    }
    seen
}

/// A peer with this line in `authorized_peers`, and its key.
struct Guest {
    _server: Server,
    connection: Connection,
    key: String,
    _home: tempfile::TempDir,
}

async fn guest(exposed: Exposed, options: &str) -> Guest {
    let home = tempfile::tempdir().unwrap();
    let (own, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let key = own.public().to_string();
    let file = home.path().join("authorized_peers");
    std::fs::write(&file, format!("{options} {key} a guest\n")).unwrap();
    let trust = Trust::new(other).authorizing(Authorized::file(file));
    let server = Server::new(exposed).trust(trust);
    let address = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
    let connecting = connect(address).trust(Trust::new(own));
    Guest {
        connection: within(connecting.into_future()).await.unwrap(),
        _server: server,
        key,
        _home: home,
    }
}

impl Guest {
    async fn host(&self) -> Netref<dyn Host> {
        within(self.connection.root()).await.unwrap()
    }

    async fn files(&self) -> Netref<dyn Files> {
        within(self.host().await.files()).await.unwrap()
    }
}

/// Runs `test` on one thread, with what is logged on it.
fn logged(test: impl AsyncFn(&LogRing)) {
    let ring = LogRing::with_level(10_000, Level::Warn);
    let subscriber = Registry::default().with(ring.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test(&ring));
}

/// Asks for all of it; nothing may come of any. What kind of refusal each got.
async fn refused(files: &Netref<dyn Files>, probes: &[Probe]) -> Vec<(String, Io)> {
    let mut refusals = Vec::new();
    for probe in probes {
        match within(probe.ask(files)).await {
            Ok(got) => panic!("{}: {got}", probe.name()),
            Err(failure) => refusals.push((probe.name(), failure.kind())),
        }
    }
    refusals
}

/// So many warnings of one connection are logged in a minute; the others are counted.
const LOGGED: usize = 16;

/// What was refused, by rule and not by the system, is in the log with the name of the peer, as far as the log is not filled by it.
async fn check_log(ring: &LogRing, key: &str, least: usize) {
    let least = least.min(LOGGED);
    let records = ring
        .share()
        .call()
        .recent(Default::default(), 10_000)
        .await
        .unwrap();
    let refusals: Vec<_> = records
        .iter()
        .filter(|record| record.message.contains("refused"))
        .collect();
    assert!(
        refusals.len() >= least,
        "only {} of {least} refusals are logged",
        refusals.len()
    );
    for record in refusals {
        assert!(record.fields["peer"].contains(key), "{record:?}");
        let lines = record.fields.values().flat_map(|value| value.lines()).count();
        assert_eq!(lines, record.fields.len(), "{record:?}");
    }
}

#[test]
fn nothing_leads_out_of_a_directory_that_may_only_be_read() {
    logged(async |ring| {
        let yard = yard();
        let before = snapshot(yard.path(), None);
        let root = FilesRoot::at(yard.path().join("root")).read_only();
        let guest = guest(Exposed::nothing().files(root), "services=\"files\"").await;
        let files = guest.files().await;
        refused(&files, WAYS_OUT).await;
        for probes in [CHANGES_OUTSIDE, CHANGES] {
            for (probe, kind) in refused(&files, probes).await {
                assert_eq!(kind, Io::ReadOnlyFilesystem, "{probe}");
            }
        }
        assert_eq!(snapshot(yard.path(), None), before);
        check_log(ring, &guest.key, CHANGES.len() + CHANGES_OUTSIDE.len() + 20).await;
        // What is inside is there.
        assert_eq!(files.read("inside/../top", 0, 9).await.unwrap(), "top");
        assert_eq!(files.read("/inside/file", 0, 9).await.unwrap(), "file");
        assert_eq!(files.read_link("out").await.unwrap(), "../secret");
    });
}

#[test]
fn nothing_leads_out_of_a_directory_that_may_be_written() {
    logged(async |ring| {
        let yard = yard();
        let root = yard.path().join("root");
        let (before, outside) = (snapshot(yard.path(), None), snapshot(yard.path(), Some(&root)));
        let guest = guest(Exposed::nothing().files(FilesRoot::at(&root)), "").await;
        let files = guest.files().await;
        refused(&files, WAYS_OUT).await;
        refused(&files, CHANGES_OUTSIDE).await;
        let after = snapshot(yard.path(), None);
        // A file may have been made beside and removed again; nothing else has changed.
        let without_times = |path: &PathBuf| *path != root && *path != root.join("inside");
        let changed: Vec<_> = before
            .iter()
            .filter(|(path, told)| without_times(path) && after.get(*path) != Some(told))
            .collect();
        assert!(changed.is_empty(), "{changed:?}");
        assert_eq!(before.len(), after.len(), "{after:?}");
        check_log(ring, &guest.key, 30).await;
        // Removed with all that is in it, and nothing of what its links lead to.
        files.remove("inside", true).await.unwrap();
        files.remove("outdir", true).await.unwrap();
        assert_eq!(snapshot(yard.path(), Some(&root)), outside);
        // Written by a name that was a link, the link is gone and not what it led to.
        files
            .write("out", "new".into(), Attributes::default())
            .await
            .unwrap();
        assert_eq!(std::fs::read_to_string(root.join("out")).unwrap(), "new");
        assert_eq!(snapshot(yard.path(), Some(&root)), outside);
    });
}

#[test]
fn whoever_may_only_look_by_the_options_of_a_key_only_looks() {
    logged(async |ring| {
        let yard = yard();
        let before = snapshot(yard.path(), None);
        let exposed = Exposed::nothing()
            .files(FilesRoot::at(yard.path().join("root")))
            .system();
        let guest = guest(exposed, "readonly,services=\"files\"").await;
        let files = guest.files().await;
        assert!(files.is_read_only().await.unwrap());
        for (probe, kind) in refused(&files, CHANGES).await {
            assert_eq!(kind, Io::ReadOnlyFilesystem, "{probe}");
        }
        assert_eq!(snapshot(yard.path(), None), before);
        let host = guest.host().await;
        assert_eq!(host.services().await.unwrap(), ["files"]);
        for (error, why) in [
            (host.system().await.unwrap_err(), "services=\"files\""),
            (host.processes().await.unwrap_err(), "does not offer it"),
            (host.network().await.unwrap_err(), "does not offer it"),
            (host.serial().await.unwrap_err(), "does not offer it"),
            (host.logs().await.unwrap_err(), "does not offer it"),
            (host.service("system").await.unwrap_err(), "services=\"files\""),
            (host.service("../files").await.unwrap_err(), "does not offer it"),
            (host.service("").await.unwrap_err(), "does not offer it"),
        ] {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
            assert!(error.message().contains("is not exposed to this peer"), "{error}");
            assert!(error.message().contains(why), "{error}");
        }
        check_log(ring, &guest.key, CHANGES.len() + 8).await;
    });
}

#[test]
fn a_link_that_is_put_in_the_way_in_the_last_moment_is_not_followed() {
    logged(async |_| {
        let yard = yard();
        let root = yard.path().join("root");
        let outside = snapshot(yard.path(), Some(&root));
        let guest = guest(Exposed::nothing().files(FilesRoot::at(&root)), "").await;
        let files = guest.files().await;
        std::fs::create_dir(root.join("real")).unwrap();
        std::fs::write(root.join("real/file"), "mine").unwrap();
        symlink("../outside", root.join("trap")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let flip = std::thread::spawn({
            let (over, root, way) = (Arc::clone(&over), root.clone(), root.join("way"));
            move || {
                while !over.load(Ordering::Relaxed) {
                    for name in ["real", "trap"] {
                        std::fs::rename(root.join(name), &way).unwrap();
                        std::fs::rename(&way, root.join(name)).unwrap();
                    }
                }
            }
        });
        for at in 0..2000 {
            if let Ok(bytes) = files.read("way/file", 0, 9).await {
                assert_eq!(bytes, "mine");
            }
            if at % 10 == 0 {
                _ = files
                    .write("way/file", "mine".into(), Attributes::default())
                    .await;
                _ = files.make_dir("way/new", false).await;
                _ = files.remove("way/new", true).await;
            }
        }
        over.store(true, Ordering::Relaxed);
        flip.join().unwrap();
        assert_eq!(snapshot(yard.path(), Some(&root)), outside);
    });
}

#[test]
fn what_was_open_is_closed_with_the_connection() {
    logged(async |_| {
        let yard = yard();
        let root = yard.path().join("root");
        let guest = guest(Exposed::nothing().files(FilesRoot::at(&root)), "").await;
        let files = guest.files().await;
        let file: Netref<dyn File> = files.open("top", OpenMode::EDIT).await.unwrap();
        let mut changes = files.watch("", true).await.unwrap();
        file.write_at(0, "pot".into()).await.unwrap();
        guest.connection.close().await;
        let failure = file.write_at(0, "evil".into()).await.unwrap_err();
        assert_eq!(failure.kind(), Io::BrokenPipe, "{failure}");
        assert_eq!(files.stat("top").await.unwrap_err().kind(), Io::BrokenPipe);
        while let Some(Ok(_)) = within(changes.next()).await {}
        assert_eq!(std::fs::read_to_string(root.join("top")).unwrap(), "pot");
    });
}
