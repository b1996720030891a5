//! `farref cp`: files from one machine to another.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use farref::Netref;
use farref::files::{Files, FilesRoot, Kind, Report, Step, Transfer};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::context::Global;
use crate::failure::{Code, Failure, Outcome};
use crate::far::{Far, failed, split};
use crate::output::{Out, counted, harmless, map, size, time};

/// Copy files to, from, or between other machines.
///
/// A place on another machine is ADDRESS::PATH. A copy that was cut off goes on where it was when it is run again: what is
/// there already is compared by its hash. What arrives is checked by its hash before it takes its place.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref cp notes.txt tcp://rig7:7000::/home/ann/
  farref cp tcp://rig7:7000::/var/log/syslog .
  farref cp -r site tcp://rig7:7000::/srv/     as /srv/site
  farref cp -r tcp://rig7:7000::/data tcp://rig8:7000::/backup")]
pub(crate) struct Cp {
    /// What to copy: a path of this machine, or ADDRESS::PATH
    #[arg(value_name = "FROM", required = true)]
    from: Vec<String>,
    /// Where to
    #[arg(value_name = "TO")]
    to: String,
    /// Directories with all that is in them
    #[arg(short, long)]
    recursive: bool,
    /// Copy everything, also what seems to be there already
    #[arg(long)]
    anew: bool,
}

/// One end of a copy.
struct Place {
    files: Netref<dyn Files>,
    /// As the files have it.
    path: String,
    /// As it was typed.
    shown: String,
}

/// Connections, of which each machine has one.
#[derive(Default)]
struct Machines(Vec<(String, Far, Netref<dyn Files>)>);

impl Cp {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let (from, to) = (&self.from, &self.to);
        if from.iter().chain([to]).all(|place| split(place).is_none()) {
            return Err(Failure::usage("both are on this machine")
                .hint("write ADDRESS::PATH for what is elsewhere; `cp` copies here"));
        }
        let mut machines = Machines::default();
        let to = machines.place(to, global).await?;
        let is_into = to.path.ends_with('/') || to.path.is_empty() || is_directory(&to).await;
        if from.len() > 1 && !is_into {
            return Err(Failure::usage(format_args!(
                "`{}` is no directory, to copy several files into",
                to.shown
            )));
        }
        let shown = Arc::new(Shown::new(global));
        let start = Instant::now();
        let mut all = Vec::new();
        for from in from {
            let from = machines.place(from, global).await?;
            let report = self.copy(&from, &to, is_into, &shown).await;
            match report {
                Ok(report) => all.push(report),
                Err(failure) => {
                    shown.clear();
                    return Err(failure);
                }
            }
        }
        shown.clear();
        summary(&all, start.elapsed(), global)?;
        for (_, far, _) in machines.0 {
            far.connection.close().await;
        }
        match all.iter().map(|report| report.failed).sum::<u64>() {
            0 => Ok(()),
            1 => Err(Failure::new(Code::Remote, "one file was not copied")
                .hint("run it again: it goes on with what is missing")),
            count => Err(
                Failure::new(Code::Remote, format_args!("{count} files were not copied"))
                    .hint("run it again: it goes on with what is missing"),
            ),
        }
    }

    async fn copy(&self, from: &Place, to: &Place, is_into: bool, shown: &Arc<Shown>) -> Outcome<Report> {
        let what = || format!("cannot copy `{}`", harmless(&from.shown));
        let found = from.files.call().stat(&from.path).await;
        let found = found.map_err(|error| failed(what(), error))?;
        let to_files = to.files.clone();
        let to = match is_into {
            true => format!("{}/{}", to.path.trim_end_matches('/'), name_of(&from.path)?),
            false => to.path.clone(),
        };
        let telling = Arc::clone(shown);
        let mut transfer =
            Transfer::new(from.files.clone(), to_files).progress(move |step| telling.tell(&step));
        if self.anew {
            transfer = transfer.anew();
        }
        match found.kind {
            Kind::Directory if !self.recursive => {
                Err(Failure::usage(format_args!("`{}` is a directory", from.shown)).hint("copy it with -r"))
            }
            Kind::Directory => transfer
                .tree(&from.path, &to)
                .await
                .map_err(|error| failed(what(), error)),
            _ => transfer.file(&from.path, &to).await.map_err(|error| {
                let failure = failed(what(), error);
                let is_cut = [Code::Connection as u8, Code::TimedOut as u8].contains(&failure.code);
                match is_cut {
                    true => failure.hint("run it again: what was copied stays, and it goes on from there"),
                    false => failure,
                }
            }),
        }
    }
}

impl Machines {
    /// Where `text` leads; connects if that is elsewhere.
    async fn place(&mut self, text: &str, global: &Global) -> Outcome<Place> {
        let Some((address, path)) = split(text) else {
            return Ok(Place {
                files: FilesRoot::machine().share(),
                path: local(text)?,
                shown: text.to_owned(),
            });
        };
        let known = self.0.iter().find(|(known, ..)| known == address);
        let files = match known {
            Some((_, _, files)) => files.clone(),
            None => {
                let far = Far::connect(address, global).await?;
                let files = far.files().await?;
                self.0.push((address.to_owned(), far, files.clone()));
                files
            }
        };
        Ok(Place {
            files,
            path: path.to_owned(),
            shown: text.to_owned(),
        })
    }
}

async fn is_directory(place: &Place) -> bool {
    let found = place.files.call().stat(&place.path).await;
    found.is_ok_and(|found| found.kind == Kind::Directory)
}

/// A path of this machine, as files have it: from the root, with escapes for what is no text.
fn local(text: &str) -> Outcome<String> {
    let mut path: PathBuf = std::env::current_dir().map_err(|error| Failure::io("where are we?", &error))?;
    path.push(text);
    let mut escaped = escape(&path);
    if text.ends_with('/') && !escaped.ends_with('/') {
        escaped.push('/');
    }
    Ok(escaped)
}

/// See [`farref::files`].
fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        escaped.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// The last name of a path.
fn name_of(path: &str) -> Outcome<String> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match name {
        "" | "." | ".." => Err(Failure::usage(format_args!(
            "`{path}` has no name: say where to copy it to"
        ))),
        name => Ok(name.to_owned()),
    }
}

fn summary(all: &[Report], took: Duration, global: &Global) -> Outcome {
    let mut out = Out::new(global);
    let sum = |of: fn(&Report) -> u64| all.iter().map(of).sum::<u64>();
    let (files, bytes) = (sum(|report| report.files), sum(|report| report.bytes));
    let (skipped, resumed, failed) = (sum(|r| r.skipped), sum(|r| r.resumed), sum(|r| r.failed));
    for (path, why) in all.iter().flat_map(|report| &report.failures) {
        // Standard output may be a pipe: this is for people.
        use std::io::Write;
        let told = told(path, &why.to_string());
        let _ = writeln!(std::io::stderr(), "farref: {}", harmless(&told));
    }
    if global.json {
        out.json(&map([
            ("files", files.into()),
            ("bytes", bytes.into()),
            ("skipped", skipped.into()),
            ("resumed_bytes", resumed.into()),
            ("directories", sum(|report| report.directories).into()),
            ("links", sum(|report| report.links).into()),
            ("failed", failed.into()),
            ("seconds", took.as_secs_f64().into()),
        ]))?;
        return out.finish();
    }
    let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
    let mut text = format!(
        "{}, {} in {} ({}/s)",
        counted(files, "file"),
        size(bytes),
        time(took),
        size(rate as u64)
    );
    if skipped > 0 {
        text = format!("{text}, {skipped} there already");
    }
    if resumed > 0 {
        text = format!("{text}, went on behind {}", size(resumed));
    }
    out.note(&text)?;
    out.finish()
}

/// Why what is at a path was not copied: most failures name it themselves, some the place that it should have had.
fn told(path: &str, why: &str) -> String {
    match why.strip_prefix(path) {
        Some(rest) if rest.starts_with(": ") => why.to_owned(),
        _ => format!("{path}: {why}"),
    }
}

/// Bars, where there is a terminal: one for the file, and one for all that is known of.
struct Shown(Option<Bars>);

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    current: Mutex<Current>,
}

/// The file that is shown: the last one that was begun and is long enough to be seen.
#[derive(Default)]
struct Current {
    path: String,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn new(global: &Global) -> Self {
        if !global.shows_progress() {
            return Self(None);
        }
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(0));
        total.set_style(style("total"));
        total.enable_steady_tick(Duration::from_millis(200));
        Self(Some(Bars {
            all,
            total,
            current: Mutex::default(),
        }))
    }

    fn tell(&self, step: &Step<'_>) {
        /// Shorter files are over before they can be read.
        const LONG: u64 = 4 << 20;
        let Some(Bars { all, total, current }) = &self.0 else {
            return;
        };
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            Step::Started { path, len, done, .. } => {
                total.inc_length(*len);
                total.inc(*done);
                // What was there already says nothing about the speed.
                total.reset_eta();
                if *len >= LONG {
                    let bar = all.insert_before(total, ProgressBar::new(*len));
                    bar.set_style(style("file"));
                    bar.set_message(cut(&harmless(path)));
                    bar.set_position(*done);
                    bar.reset_eta();
                    current.end();
                    *current = Current {
                        path: (*path).to_owned(),
                        bar: Some(bar),
                    };
                }
            }
            Step::Bytes { path, count, .. } => {
                total.inc(*count);
                if let Some(bar) = &current.bar
                    && current.path == *path
                {
                    bar.inc(*count);
                }
            }
            Step::Finished { path, .. } | Step::Failed { path, .. } if current.path == *path => current.end(),
            Step::Skipped { len, .. } => {
                total.inc_length(*len);
                total.inc(*len);
            }
            _ => {}
        }
    }

    fn clear(&self) {
        if let Some(Bars { total, current, .. }) = &self.0 {
            current.lock().unwrap_or_else(PoisonError::into_inner).end();
            total.finish_and_clear();
        }
    }
}

impl Current {
    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(of: &str) -> ProgressStyle {
    let line = match of {
        "file" => "{msg:24!} [{bar:14}] {percent:>3}% {binary_bytes:>11} {binary_bytes_per_sec:>13} {eta:>4}",
        _ => {
            "total                    [{bar:14}] {percent:>3}% {binary_bytes:>11} {binary_bytes_per_sec:>13} {eta:>4}"
        }
    };
    let plain = ProgressStyle::default_bar();
    ProgressStyle::with_template(line)
        .unwrap_or(plain)
        .progress_chars("=> ")
}

/// The end of a path: that tells more than its beginning.
fn cut(path: &str) -> String {
    const WIDTH: usize = 24;
    let count = path.chars().count();
    if count <= WIDTH {
        return path.to_owned();
    }
    let end: String = path.chars().skip(count - (WIDTH - 1)).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_copied_is_named_once() {
        assert_eq!(told("/a", "/a: denied"), "/a: denied");
        assert_eq!(told("/a", "/a/b: denied"), "/a: /a/b: denied");
        assert_eq!(told("/a", "denied"), "/a: denied");
    }

    #[test]
    fn names_and_paths_are_those_of_files() {
        assert_eq!(name_of("/a/b").ok().as_deref(), Some("b"));
        assert_eq!(name_of("b/").ok().as_deref(), Some("b"));
        assert!(name_of("/").is_err() && name_of("a/..").is_err());
        assert_eq!(escape(Path::new("/a\\b")), "/a\\\\b");
        assert!(local("x/").is_ok_and(|path| path.starts_with('/') && path.ends_with("/x/")));
        assert_eq!(cut(&"x".repeat(30)).chars().count(), 24);
    }
}
