use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::files::FilesRoot;

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

#[test]
fn a_part_is_beside_its_file() {
    assert_eq!(part_of("/a/b"), "/a/.b.farref-part");
    assert_eq!(part_of("b"), ".b.farref-part");
    assert_eq!(part_of("/b"), "/.b.farref-part");
    assert!(part_of(&"x".repeat(255)).len() < 100);
    assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
}
