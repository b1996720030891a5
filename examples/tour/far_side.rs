//! The second process: its objects, its files, and how it serves them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::file::{self, File};
use farref::keys::{Authorized, Identity, Trust};
use farref::transport::Address;
use farref::{Context, ErrorKind, Netref, Result, Server, Stream, remote};

use crate::directory::{Directory, Disk, Entry, What, walk};
use crate::second_process::Introduction;
use crate::signals::Signals;
use crate::workshop::{Journal, Progress, Sheet, Workshop};

/// The far side from its start to its end, which is when its standard input ends: so it never outlives the process
/// that started it, however that ends.
pub(crate) fn run(near: Option<&String>, port: Option<&String>) -> Result<()> {
    std::panic::set_hook(Box::new(|panic| {
        // One line instead of the usual three, for whoever watches the tour.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            io::stderr(),
            "panic at {place}: {}",
            panic.payload_as_str().unwrap_or("no message")
        );
    }));
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(near, port))
}

/// A workshop on standard input and output, for whoever started this process.
pub(crate) fn run_on_stdio() -> Result<()> {
    let directory = tempfile::Builder::new().prefix("farref-tour-").tempdir()?;
    let library = directory.path().join("library");
    write_library(&library)?;
    let shop = Shop {
        library,
        kept: Mutex::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(farref::serve::<dyn Workshop>("stdio:", shop))?;
    Ok(directory.close()?)
}

async fn serve(near: Option<&String>, port: Option<&String>) -> Result<()> {
    // Ctrl-C at the terminal reaches both processes: the other one decides, and ends this one.
    let _caught = Signals::catch(false)?;
    let directory = tempfile::Builder::new().prefix("farref-tour-").tempdir()?;
    let library = directory.path().join("library");
    write_library(&library)?;

    let server = Server::of::<dyn Workshop>(Shop {
        library: library.clone(),
        kept: Mutex::default(),
    });
    // Whoever dials is let in by the key that the other process has handed over.
    let near = near
        .context("the far side needs the key of the near one")?
        .parse()?;
    let server = server.trust(Trust::new(Identity::generate()?).authorizing(Authorized::keys([near])));
    let mut introduction = Introduction {
        directory: directory.path().to_owned(),
        ..Introduction::default()
    };
    let socket = directory.path().join("socket");
    let unix = Address::unix(
        socket
            .to_str()
            .context("the name of the temporary directory is not UTF-8")?,
    )?;
    if let Some(port) = port {
        server.listen(format!("serial:{port}?baud=921600")).await?;
    }
    let everywhere = [
        "plain+tcp://127.0.0.1:0",
        "tcp://127.0.0.1:0",
        "quic://127.0.0.1:0",
    ];
    let everywhere = everywhere
        .into_iter()
        .map(str::parse)
        .collect::<Result<Vec<Address>, _>>()?;
    for address in [unix].into_iter().chain(everywhere) {
        match server.listen(address).await {
            Ok(address) => introduction.addresses.push(address),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                introduction.absent.push(error.to_string())
            }
            Err(error) => return Err(error),
        }
    }
    introduction.write_to(&mut io::stdout().lock())?;

    tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
    server.shutdown(Duration::from_secs(1)).await;
    Ok(directory.close()?)
}

/// The object that is shown first.
struct Shop {
    library: PathBuf,
    kept: Mutex<Option<Netref<dyn Directory>>>,
}

impl Shop {
    fn kept(&self) -> MutexGuard<'_, Option<Netref<dyn Directory>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[remote]
impl Workshop for Shop {
    fn process(&self) -> Result<u32> {
        Ok(std::process::id())
    }

    fn library(&self) -> Result<Netref<dyn Directory>> {
        Ok(Netref::of(Disk::at(&self.library)))
    }

    fn checksum(&self, directory: Netref<dyn Directory>, progress: Netref<dyn Progress>) -> Result<u64> {
        let mut files = 0;
        walk(&*directory, 0, &mut |_, entry| {
            files += u64::from(matches!(entry.what, What::File(_)));
            Ok(())
        })?;
        let mut checksum = Checksum {
            sum: FNV,
            done: 0,
            files,
        };
        checksum.add(&*directory, &*progress)?;
        Ok(checksum.sum)
    }

    async fn wait(&self, time: Duration, journal: Netref<dyn Journal>) -> Result<()> {
        let mut unfinished = Unfinished {
            since: Instant::now(),
            journal: Some(journal),
        };
        tokio::time::sleep(time).await;
        unfinished.journal = None;
        Ok(())
    }

    fn owns(&self, directory: Netref<dyn Directory>) -> Result<bool> {
        Ok(directory.is_local())
    }

    fn keep(&self, directory: Netref<dyn Directory>) -> Result<()> {
        *self.kept() = Some(directory);
        Ok(())
    }

    fn give_back(&self) -> Result<Netref<dyn Directory>> {
        self.kept().take().context("nothing is kept here")
    }

    fn fetch(&self, from: Netref<dyn Directory>, name: &str) -> Result<u64> {
        let content = from
            .read(name)
            .with_context(|| format!("cannot fetch `{name}` from the caller"))?;
        Ok(content.len() as u64)
    }

    fn open(&self, path: &str) -> Result<Netref<dyn File>> {
        let inside = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        inside
            .then_some(())
            .context("a path leads to what is in the library")?;
        Ok(file::read_only(fs::File::open(self.library.join(path))?))
    }

    async fn ticks(&self, journal: Netref<dyn Journal>) -> Result<Stream<u64>> {
        let (mut sender, ticks) = Stream::channel(1);
        tokio::spawn(async move {
            let mut made = 0;
            while sender.send(made).await.is_ok() {
                made += 1;
            }
            let told = format!("nobody reads any more: {made} numbers were made");
            let _ = journal.call().note(&told).await;
        });
        Ok(ticks)
    }

    fn sheet(&self, text: &str, journal: Netref<dyn Journal>) -> Result<Netref<dyn Sheet>> {
        Ok(Netref::of(Paper {
            text: text.to_owned(),
            journal,
        }))
    }

    fn divide(&self, dividend: u64, divisor: u64) -> Result<u64> {
        Ok(dividend / divisor)
    }

    async fn nothing(&self) -> Result<()> {
        Ok(())
    }

    async fn echo(&self, body: Bytes) -> Result<Bytes> {
        Ok(body)
    }
}

/// A checksum in the making: FNV-1a over the names and contents of files.
struct Checksum {
    sum: u64,
    done: u64,
    files: u64,
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

impl Checksum {
    fn add(&mut self, directory: &dyn Directory, progress: &dyn Progress) -> Result<()> {
        for Entry { name, what } in directory.entries()? {
            match what {
                What::Directory(inner) => self.add(&*inner, progress)?,
                What::File(_) => {
                    for byte in name.bytes().chain(directory.read(&name)?) {
                        self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                    }
                    self.done += 1;
                    progress.file(&name, self.done, self.files)?; // a call back to the caller
                }
            }
        }
        Ok(())
    }
}

/// Tells the journal when a method is dropped before its end.
struct Unfinished {
    since: Instant,
    journal: Option<Netref<dyn Journal>>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.take() {
            let after = self.since.elapsed().as_millis();
            journal
                .call()
                .note(&format!("`wait` was dropped after {after} ms"))
                .detach();
        }
    }
}

/// A sheet, which tells the journal when it is freed.
struct Paper {
    text: String,
    journal: Netref<dyn Journal>,
}

impl Sheet for Paper {
    fn text(&self) -> Result<String> {
        Ok(self.text.clone())
    }
}

impl Drop for Paper {
    fn drop(&mut self) {
        self.journal
            .call()
            .note(&format!("the sheet \"{}\" was freed", self.text))
            .detach();
    }
}

/// A small tree of files.
fn write_library(at: &Path) -> Result<()> {
    let noise = |len: usize| {
        (0..len)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as u8)
            .collect::<Vec<_>>()
    };
    let files: [(&str, Vec<u8>); 6] = [
        ("README", b"The library of the far side.\n".to_vec()),
        ("maps/coast/north.map", noise(640 << 10)),
        ("maps/coast/south.map", noise(320 << 10)),
        ("maps/island.map", noise(64 << 10)),
        (
            "poems/daffodils.txt",
            b"I wandered lonely as a cloud\nThat floats on high o'er vales and hills\n".to_vec(),
        ),
        (
            "poems/tyger.txt",
            b"Tyger Tyger, burning bright,\nIn the forests of the night\n".to_vec(),
        ),
    ];
    for (name, content) in files {
        let path = at.join(name);
        fs::create_dir_all(path.parent().unwrap_or(at))?;
        fs::write(path, content)?;
    }
    Ok(())
}
