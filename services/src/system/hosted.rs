//! The machine that this process runs on, as it tells of itself: by `/proc` on Linux, elsewhere as far as std goes.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use farref_boxing::Result;
use farref_netref::{Netref, remote};
use tokio::sync::Semaphore;

use super::{Disk, Facts, System, Usage, User};
use crate::files::Time;

/// Shares what this machine and this process are.
#[must_use]
pub fn share() -> Netref<dyn System> {
    Netref::of(Here(Arc::new(Semaphore::new(AT_ONCE))))
}

/// So many threads ask at once: a disk of another machine's may not answer at all.
const AT_ONCE: usize = 4;

struct Here(Arc<Semaphore>);

impl Here {
    async fn run<R: Send + 'static>(&self, ask: impl FnOnce() -> R + Send + 'static) -> Result<R> {
        let permit = Arc::clone(&self.0).acquire_owned().await?;
        let asked = tokio::task::spawn_blocking(move || {
            let told = ask();
            drop(permit);
            told
        });
        Ok(asked.await?)
    }
}

#[remote]
impl System for Here {
    async fn facts(&self) -> Result<Facts> {
        self.run(facts).await
    }

    async fn usage(&self) -> Result<Usage> {
        self.run(usage).await
    }

    async fn disks(&self) -> Result<Vec<Disk>> {
        Ok(self.run(disks).await??)
    }

    async fn users(&self) -> Result<Vec<User>> {
        Ok(self.run(users).await??)
    }

    async fn variable(&self, name: &str) -> Result<Option<String>> {
        // std takes these for no names at all, and some systems for a mistake.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Ok(None);
        }
        Ok(std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    async fn variables(&self) -> Result<BTreeMap<String, String>> {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Ok(std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect())
    }

    async fn time(&self) -> Result<Time> {
        Ok(SystemTime::now().into())
    }

    async fn working_directory(&self) -> Result<String> {
        let directory = self.run(std::env::current_dir).await??;
        Ok(directory.to_string_lossy().into_owned())
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn facts() -> Facts {
    let mut facts = Facts {
        os: std::env::consts::OS.into(),
        os_name: os_name().unwrap_or_else(|| std::env::consts::OS.into()),
        arch: std::env::consts::ARCH.into(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        program: std::env::current_exe().map_or_else(|_| String::new(), |path| path.display().to_string()),
        ..Facts::default()
    };
    #[cfg(unix)]
    {
        let name = rustix::system::uname();
        facts.host_name = name.nodename().to_string_lossy().into_owned();
        facts.kernel = format!(
            "{} {}",
            name.sysname().to_string_lossy(),
            name.release().to_string_lossy()
        );
        let uid = rustix::process::geteuid().as_raw();
        let mine = users()
            .unwrap_or_default()
            .into_iter()
            .find(|user| user.uid == uid);
        (facts.uid, facts.user) = (Some(uid), mine.map(|user| user.name));
    }
    #[cfg(not(unix))]
    {
        let variable = |name| std::env::var(name).ok();
        facts.host_name = variable("COMPUTERNAME").unwrap_or_default();
        facts.user = variable("USERNAME");
    }
    facts
}

/// os-release(5)
fn os_name() -> Option<String> {
    let release = read("/etc/os-release");
    let value = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// proc_uptime(5), proc_loadavg(5), proc_meminfo(5), proc_pid_status(5)
fn usage() -> Usage {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    let (uptime, load) = (read("/proc/uptime"), read("/proc/loadavg"));
    let (memory, own) = (read("/proc/meminfo"), read("/proc/self/status"));
    let mut loads = load.split_whitespace();
    Usage {
        uptime: number(uptime.split_whitespace().next()),
        load: [number(loads.next()), number(loads.next()), number(loads.next())],
        memory: kilobytes(&memory, "MemTotal:"),
        memory_available: kilobytes(&memory, "MemAvailable:"),
        swap: kilobytes(&memory, "SwapTotal:"),
        swap_free: kilobytes(&memory, "SwapFree:"),
        resident: kilobytes(&own, "VmRSS:"),
    }
}

/// What is behind `name`, in bytes.
fn kilobytes(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kilobytes = number.and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}

#[cfg(unix)]
fn disks() -> io::Result<Vec<Disk>> {
    let mounts = read("/proc/self/mounts");
    let mut mounts: Vec<_> = mounts.lines().filter_map(mount).collect();
    if mounts.is_empty() {
        mounts.push((String::new(), "/".into(), String::new()));
    }
    let mut disks = Vec::new();
    for (device, path, kind) in mounts {
        // What cannot be asked is not ours to see, or gone again.
        let Ok(there) = rustix::fs::statvfs(Path::new(&path)) else {
            continue;
        };
        let bytes = |blocks: u64| blocks.saturating_mul(there.f_frsize);
        if there.f_blocks > 0 {
            disks.push(Disk {
                device,
                path,
                kind,
                space: crate::files::Space {
                    total: bytes(there.f_blocks),
                    free: bytes(there.f_bfree),
                    available: bytes(there.f_bavail),
                },
            });
        }
    }
    Ok(disks)
}

#[cfg(not(unix))]
fn disks() -> io::Result<Vec<Disk>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A line of fstab(5): device, path and kind.
fn mount(line: &str) -> Option<(String, String, String)> {
    let mut fields = line.split(' ');
    let (device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
    // Blanks and the like in them are written as octal numbers.
    let plain = |text: &str| {
        let known = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        known
            .iter()
            .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
    };
    Some((plain(device), plain(path), kind.into()))
}

/// passwd(5)
fn users() -> io::Result<Vec<User>> {
    if !cfg!(unix) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let users = std::fs::read(Path::new("/etc/passwd"))?;
    Ok(String::from_utf8_lossy(&users).lines().filter_map(user).collect())
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.starts_with('#'))?;
    let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
    let mut text = || fields.next().unwrap_or_default().to_owned();
    Some(User {
        name: name.into(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        comment: text(),
        home: text(),
        shell: text(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_system_are_read() {
        let table = "MemTotal:       24684396 kB\nMemFree: 5 kB\n";
        assert_eq!(kilobytes(table, "MemTotal:"), 24_684_396 * 1024);
        assert_eq!(kilobytes(table, "SwapTotal:"), 0);
        let (device, path, kind) = mount("/dev/sda1 /mnt/my\\040disk ext4 rw 0 0").unwrap();
        assert_eq!([&*device, &*path, &*kind], ["/dev/sda1", "/mnt/my disk", "ext4"]);
        assert_eq!(mount("x"), None);
        let ada = user("ada:x:1000:100:Ada,,,:/home/ada:/bin/sh").unwrap();
        assert_eq!((ada.uid, ada.gid, &*ada.home), (1000, 100, "/home/ada"));
        assert_eq!(user("# a comment"), None);
        assert_eq!(user("+::::::"), None);
    }

    #[tokio::test]
    async fn a_machine_tells_of_itself() -> Result<()> {
        let system = share();
        let facts = system.facts().await?;
        assert_eq!(facts.pid, std::process::id());
        assert!(!facts.host_name.is_empty() && facts.cpus > 0, "{facts:?}");
        assert_eq!(system.variable("PATH").await?, std::env::var("PATH").ok());
        assert_eq!(system.variable("A=B").await?, None);
        assert!(system.variables().await?.contains_key("PATH"));
        assert!(system.time().await?.seconds > 1_700_000_000);
        assert!(!system.working_directory().await?.is_empty());
        if cfg!(target_os = "linux") {
            let usage = system.usage().await?;
            assert!(
                usage.uptime > 0.0 && usage.memory > usage.resident && usage.resident > 0,
                "{usage:?}"
            );
            assert!(system.users().await?.iter().any(|user| user.uid == 0));
            let disks = system.disks().await?;
            assert!(disks.iter().any(|disk| disk.path == "/"), "{disks:?}");
        }
        Ok(())
    }
}
