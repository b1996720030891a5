//! `farref ls`: what is in a directory of another machine.

use clap::Args;
use farref::files::{Entry, Kind, Metadata, Time};
use farref::to_value;

use crate::context::Global;
use crate::failure::{Failure, Outcome};
use crate::far::{Far, broken, failed, split};
use crate::output::{CYAN, Out, harmless, paint, size};

/// List a directory of another machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref ls tcp://rig7:7000::/
  farref ls -la tcp://rig7:7000::/var/log
  farref ls -R tcp://rig7:7000::notes
  farref ls --json unix:/run/farref::/ | jq -r .path")]
pub(crate) struct Ls {
    /// The directory: ADDRESS::PATH
    #[arg(value_name = "ADDRESS::PATH")]
    place: String,
    /// Permissions, sizes and times
    #[arg(short)]
    long: bool,
    /// Also names that begin with a dot
    #[arg(short)]
    all: bool,
    /// Also what is in the directories
    #[arg(short = 'R')]
    recursive: bool,
}

/// How deep directories are listed.
const DEEPEST: u32 = 64;
/// Entries that are sorted, at most; more are shown as they come.
const MANY: usize = 100_000;

impl Ls {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let (address, path) = split(&self.place).unwrap_or((self.place.as_str(), ""));
        let far = Far::connect(address, global).await?;
        far.connection.call_timeout(global.limit());
        let files = far.files().await?;
        let mut out = Out::new(global);
        // What a failure is about it says itself; what ends a stream does not.
        let found = files.call().stat(path).await;
        let found = found.map_err(|error| failed("cannot list", error))?;
        if found.kind != Kind::Directory {
            let entry = Entry {
                path: path.to_owned(),
                metadata: found,
                target: None,
            };
            self.show(&mut out, vec![entry], global)?;
            return out.finish();
        }
        let depth = if self.recursive { DEEPEST } else { 1 };
        let listed = files.call().walk(path, depth).await;
        let mut listed = listed.map_err(|error| failed("cannot list", error))?;
        let mut entries = Vec::new();
        while let Some(entry) = listed.next().await {
            let entry =
                entry.map_err(|error| broken(format_args!("cannot list `{}`", harmless(path)), &error))?;
            let is_hidden = entry.path.split('/').any(|name| name.starts_with('.'));
            if !is_hidden || self.all {
                entries.push(entry);
            }
            if entries.len() >= MANY {
                self.show(&mut out, std::mem::take(&mut entries), global)?;
            }
        }
        self.show(&mut out, entries, global)?;
        out.finish()?;
        far.connection.close().await;
        Ok(())
    }

    fn show(&self, out: &mut Out, mut entries: Vec<Entry>, global: &Global) -> Outcome {
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        if global.json {
            for entry in &entries {
                let value = to_value(entry).map_err(Failure::usage)?;
                out.json(&value)?;
            }
            return Ok(());
        }
        let colours = global.colours();
        if !self.long {
            for entry in &entries {
                out.line(&name(entry, colours))?;
            }
            return Ok(());
        }
        let rows: Vec<_> = entries.iter().map(|entry| row(&entry.metadata)).collect();
        let mut widths = [0; 4];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        let [modes, owners, sizes, times] = widths;
        for (entry, [mode, owner, size, time]) in entries.iter().zip(&rows) {
            let name = name(entry, colours);
            out.line(&format!(
                "{mode:modes$}  {owner:owners$}  {size:>sizes$}  {time:times$}  {name}"
            ))?;
        }
        Ok(())
    }
}

/// The name, with what it is.
fn name(entry: &Entry, colours: bool) -> String {
    let path = harmless(&entry.path).replace(['\n', '\t'], "?");
    match (entry.metadata.kind, &entry.target) {
        (Kind::Directory, _) => paint(colours, "34;1", &format!("{path}/")),
        (Kind::Link, Some(target)) => format!("{} -> {}", paint(colours, CYAN, &path), harmless(target)),
        _ if entry.metadata.mode & 0o111 != 0 => paint(colours, "32;1", &path),
        _ => path,
    }
}

fn row(metadata: &Metadata) -> [String; 4] {
    let owner = metadata
        .owner
        .map_or(String::new(), |(user, group)| format!("{user}:{group}"));
    let size = match metadata.kind {
        Kind::File => size(metadata.len),
        _ => String::new(),
    };
    let time = metadata.modified.map_or(String::new(), date);
    [mode(metadata), owner, size, time]
}

/// `drwxr-xr-x`
fn mode(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::File => '-',
        Kind::Other => '?',
    };
    let bits = (0..9).map(|bit| {
        let is_set = metadata.mode & (0o400 >> bit) != 0;
        let letter = ['r', 'w', 'x'].get(bit % 3).copied().unwrap_or('?');
        if is_set { letter } else { '-' }
    });
    std::iter::once(kind).chain(bits).collect()
}

/// `2026-11-26 08:30`, in UTC.
pub(crate) fn date(time: Time) -> String {
    const DAY: i64 = 24 * 60 * 60;
    let (days, seconds) = (time.seconds.div_euclid(DAY), time.seconds.rem_euclid(DAY));
    // A calendar whose years begin in March, in which the odd day comes last (Howard Hinnant's).
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (
        era.saturating_mul(400).saturating_add(year),
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = if month <= 2 { year.saturating_add(1) } else { year };
    let (hour, minute) = (seconds / 3600, seconds % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        let at = |seconds| date(Time { seconds, nanos: 0 });
        assert_eq!(at(0), "1970-01-01 00:00");
        assert_eq!(at(951_827_696), "2000-02-29 12:34");
        assert_eq!(at(-1), "1969-12-31 23:59");
        assert!(at(i64::MAX).len() > 16);
    }
}
