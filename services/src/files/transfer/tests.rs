use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use farref_netref::Stream;

use super::*;
use crate::file::File;
use crate::files::{Change, Content, FilesRoot, OpenMode, Space};

type Test = Result<(), Box<dyn std::error::Error>>;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

fn transfer(directory: &Path) -> Transfer {
    let root = |name: &str| {
        std::fs::create_dir_all(directory.join(name)).unwrap();
        FilesRoot::at(directory.join(name)).share()
    };
    Transfer::new(root("from"), root("to"))
}

#[tokio::test]
async fn a_tree_is_copied_with_all_that_belongs_to_it() -> Test {
    let directory = tempfile::tempdir()?;
    let from = directory.path().join("from");
    std::fs::create_dir_all(from.join("a/b/empty"))?;
    for at in 0..200 {
        std::fs::write(from.join(format!("a/small-{at}")), bytes(at * 10))?;
    }
    for at in 0..5 {
        std::fs::write(from.join(format!("a/b/large-{at}")), bytes(500_000 + at))?;
    }
    std::fs::set_permissions(from.join("a/small-7"), PermissionsExt::from_mode(0o751))?;
    std::fs::set_permissions(from.join("a/b"), PermissionsExt::from_mode(0o750))?;
    symlink("b/large-1", from.join("a/link"))?;
    let copy = transfer(directory.path());
    let report = copy.tree("/", "copy/of").await?;
    assert_eq!(
        (report.files, report.directories, report.links, report.failed),
        (205, 3, 1, 0),
        "{report:?}"
    );
    let to = directory.path().join("to/copy/of");
    for at in 0..200 {
        assert_eq!(std::fs::read(to.join(format!("a/small-{at}")))?, bytes(at * 10));
    }
    for at in 0..5 {
        assert!(std::fs::read(to.join(format!("a/b/large-{at}")))? == bytes(500_000 + at));
    }
    assert_eq!(std::fs::read_link(to.join("a/link"))?, Path::new("b/large-1"));
    for name in ["a", "a/b", "a/b/empty", "a/small-7", "a/b/large-3"] {
        let (was, is) = (
            std::fs::metadata(from.join(name))?,
            std::fs::metadata(to.join(name))?,
        );
        assert_eq!(
            (was.mode(), was.mtime(), was.mtime_nsec()),
            (is.mode(), is.mtime(), is.mtime_nsec()),
            "{name}"
        );
    }
    // A second time, there is nothing to be done.
    let report = copy.tree("/", "copy/of").await?;
    assert_eq!(
        (report.files, report.skipped, report.bytes),
        (0, 205, 0),
        "{report:?}"
    );
    let report = copy.clone().anew().tree("a", "copy/of/a").await?;
    assert_eq!((report.files, report.skipped), (205, 0), "{report:?}");
    Ok(())
}

#[tokio::test]
async fn a_copy_goes_on_where_it_was_if_that_is_right() -> Test {
    let directory = tempfile::tempdir()?;
    let copy = transfer(directory.path());
    let all = bytes(1_000_000);
    std::fs::write(directory.path().join("from/file"), &all)?;
    let part = directory.path().join("to/.file.farref-part");
    std::fs::write(&part, &all[..400_000])?;
    let report = copy.file("file", "file").await?;
    assert_eq!((report.resumed, report.bytes), (400_000, 600_000));
    assert!(std::fs::read(directory.path().join("to/file"))? == all);
    assert!(!part.exists());
    // What is there is of another file, or no file at all.
    std::fs::write(&part, bytes(400_001).split_off(1))?;
    let report = copy.clone().anew().file("file", "file").await?;
    assert_eq!((report.resumed, report.bytes), (0, 1_000_000));
    symlink("elsewhere", &part)?;
    let report = copy.clone().anew().file("file", "file").await?;
    assert_eq!(report.files, 1);
    assert!(!directory.path().join("to/elsewhere").exists());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_copied_is_told_and_the_rest_copied() -> Test {
    let directory = tempfile::tempdir()?;
    let copy = transfer(directory.path());
    let from = directory.path().join("from");
    std::fs::write(from.join("good"), "good")?;
    symlink("/etc/passwd", from.join("out"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        from.join("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )?;
    // A directory where a file should be.
    std::fs::write(from.join("file"), "file")?;
    std::fs::create_dir_all(directory.path().join("to/file/x"))?;
    // A file where a directory should be.
    std::fs::create_dir_all(from.join("dir/below"))?;
    std::fs::write(directory.path().join("to/dir"), "")?;
    let report = copy.tree("", "").await?;
    let mut failed: Vec<_> = report.failures.iter().map(|(path, _)| path.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["dir", "file", "out", "pipe"], "{report:?}");
    assert_eq!((report.files, report.failed), (1, 4));
    let failure = copy.file("none", "none").await.unwrap_err();
    assert_eq!(failure.kind(), std::io::ErrorKind::NotFound);
    Ok(())
}

/// What such a directory holds was left out, and nobody told.
#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_may_not_be_read_is_told_and_the_rest_copied() {
    crate::files::tests::as_anybody(|| async {
        let directory = tempfile::tempdir()?;
        let copy = transfer(directory.path());
        let from = directory.path().join("from");
        for name in ["closed/below", "empty", "open/below"] {
            std::fs::create_dir_all(from.join(name))?;
        }
        std::fs::write(from.join("open/file"), "open")?;
        std::fs::set_permissions(from.join("closed"), PermissionsExt::from_mode(0o300))?;
        let report = copy.tree("/", "/").await;
        for name in ["from/closed", "to/closed"] {
            std::fs::set_permissions(directory.path().join(name), PermissionsExt::from_mode(0o700))?;
        }
        let report = report?;
        assert_eq!(
            (report.files, report.directories, report.failed),
            (1, 4, 1),
            "{report:?}"
        );
        let told = report
            .failures
            .first()
            .map(|(path, failure)| (path.as_str(), failure.kind()));
        assert_eq!(told, Some(("/closed", std::io::ErrorKind::PermissionDenied)));
        Ok(())
    });
}

#[test]
fn a_part_is_beside_its_file() {
    assert_eq!(part_of("/a/b"), "/a/.b.farref-part");
    assert_eq!(part_of("b"), ".b.farref-part");
    assert_eq!(part_of("/b"), "/.b.farref-part");
    assert!(part_of(&"x".repeat(255)).len() < 100);
    assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
}

/// A machine whose word is not to be trusted: it lists what it likes, and has the same bytes under every name.
struct Liar(Vec<Entry>);

fn entry(path: &str, kind: Kind, target: Option<&str>) -> Entry {
    let metadata = Metadata {
        kind,
        len: 4,
        mode: 0o644,
        modified: None,
        accessed: None,
        created: None,
        owner: None,
        identity: None,
    };
    Entry {
        path: path.into(),
        metadata,
        target: target.map(Into::into),
    }
}

fn no<T>() -> Result<T, Failure> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into())
}

#[farref_netref::remote]
impl Files for Liar {
    async fn open(&self, _: &str, _: OpenMode) -> Result<Netref<dyn File>, Failure> {
        no()
    }
    async fn list(&self, _: &str) -> Result<Stream<Entry>, Failure> {
        no()
    }
    async fn walk(&self, _: &str, _: u32) -> Result<Stream<Entry>, Failure> {
        let (mut sender, entries) = Stream::channel(64);
        for entry in &self.0 {
            sender.send(entry.clone()).await?;
        }
        Ok(entries)
    }
    async fn stat(&self, _: &str) -> Result<Metadata, Failure> {
        Ok(entry("", Kind::Directory, None).metadata)
    }
    async fn link_stat(&self, _: &str) -> Result<Metadata, Failure> {
        no()
    }
    async fn read_link(&self, _: &str) -> Result<String, Failure> {
        no()
    }
    async fn canonical(&self, _: &str) -> Result<String, Failure> {
        no()
    }
    async fn read(&self, _: &str, _: u64, _: u32) -> Result<Bytes, Failure> {
        Ok("evil".into())
    }
    async fn read_from(&self, _: &str, _: u64) -> Result<Content, Failure> {
        no()
    }
    async fn follow(&self, _: &str, _: u32) -> Result<ByteStream, Failure> {
        no()
    }
    async fn hash(&self, _: &str, _: u64, _: Option<u64>) -> Result<Digest, Failure> {
        no()
    }
    async fn space(&self, _: &str) -> Result<Space, Failure> {
        no()
    }
    async fn watch(&self, _: &str, _: bool) -> Result<Stream<Change>, Failure> {
        no()
    }
    async fn is_read_only(&self) -> Result<bool, Failure> {
        Ok(true)
    }
    async fn write(&self, _: &str, _: Bytes, _: Attributes) -> Result<Digest, Failure> {
        no()
    }
    async fn write_from(&self, _: &str, _: u64, _: ByteStream) -> Result<Digest, Failure> {
        no()
    }
    async fn replace(&self, _: &str, _: &str, _: Attributes) -> Result<(), Failure> {
        no()
    }
    async fn copy(&self, _: &str, _: &str) -> Result<u64, Failure> {
        no()
    }
    async fn rename(&self, _: &str, _: &str) -> Result<(), Failure> {
        no()
    }
    async fn remove(&self, _: &str, _: bool) -> Result<(), Failure> {
        no()
    }
    async fn make_dir(&self, _: &str, _: bool) -> Result<(), Failure> {
        no()
    }
    async fn link(&self, _: &str, _: &str) -> Result<(), Failure> {
        no()
    }
    async fn set_attributes(&self, _: &str, _: Attributes) -> Result<(), Failure> {
        no()
    }
}

/// A machine could name what it has `../.ssh/authorized_keys`, or put a link first and what is below it then: both were
/// written where they led.
#[tokio::test]
async fn nothing_is_written_beside_the_target_whatever_the_source_lists() -> Test {
    use Kind::{Directory, File, Link};
    let directory = tempfile::tempdir()?;
    let base = directory.path().canonicalize()?;
    let out = base.join("out");
    let to = base.join("to");
    std::fs::create_dir_all(&out)?;
    std::fs::create_dir_all(to.join("before"))?;
    symlink(&out, to.join("old"))?;
    let target = out.to_str();
    let absolute = format!("{}/absolute", out.display());
    let listed = vec![
        entry("../out/dots", File, None),
        entry("before/../../out/dots", File, None),
        entry(&absolute, File, None),
        entry("", File, None),
        entry(".", File, None),
        entry("before//x", File, None),
        // A link, and then below it, with and without a word of a directory.
        entry("link", Link, target),
        entry("link/below", File, None),
        entry("both", Link, target),
        entry("both", Directory, None),
        entry("both/below", File, None),
        entry("turned", Directory, None),
        entry("turned", Link, target),
        entry("turned/below", File, None),
        // One that an earlier copy has left.
        entry("old", Directory, None),
        entry("old/below", File, None),
        entry("old/dir", Directory, None),
        entry("good", File, None),
    ];
    let liar = Netref::<dyn Files>::of(Liar(listed));
    // One at a time: whatever the order, nothing gets out.
    for at_once in [1, 32] {
        let copy = Transfer::new(liar.clone(), FilesRoot::machine().share()).at_once(at_once);
        let report = copy.tree("/", to.to_str().unwrap()).await?;
        let left: Vec<_> = std::fs::read_dir(&out)?
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?} {report:?}");
        assert_eq!(std::fs::read_to_string(to.join("good"))?, "evil");
        assert!(report.failed >= 8, "{report:?}");
    }
    Ok(())
}

/// A tree with a file and what an interrupted copy had left of it: the one was copied by way of the other.
#[tokio::test]
async fn what_other_copies_left_is_no_part_of_this_one() -> Test {
    let directory = tempfile::tempdir()?;
    let copy = transfer(directory.path()).at_once(1);
    let from = directory.path().join("from");
    std::fs::write(from.join("big"), bytes(300_000))?;
    std::fs::write(from.join(".big.farref-part"), bytes(200_001).split_off(1))?;
    let report = copy.tree("/", "/").await?;
    let failed: Vec<_> = report.failures.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(failed, ["/.big.farref-part"], "{report:?}");
    assert_eq!((report.files, report.failed), (1, 1), "{report:?}");
    assert!(std::fs::read(directory.path().join("to/big"))? == bytes(300_000));
    Ok(())
}

/// A directory was copied into itself over and over, as deep as a walk goes.
#[tokio::test]
async fn a_directory_is_not_copied_into_itself() -> Test {
    let directory = tempfile::tempdir()?;
    std::fs::create_dir_all(directory.path().join("a/b/c"))?;
    std::fs::write(directory.path().join("a/file"), "file")?;
    let files = FilesRoot::at(directory.path()).share();
    let report = Transfer::new(files.clone(), files).tree("a", "a/b/c").await?;
    let failed: Vec<_> = report.failures.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(failed, ["a/b/c"], "{report:?}");
    let copy = directory.path().join("a/b/c");
    assert_eq!(std::fs::read_to_string(copy.join("file"))?, "file");
    assert!(copy.join("b").exists() && !copy.join("b/c").exists());
    Ok(())
}
