//! Files, readers and writers used from afar, over every medium.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};

use farref::file::{self, File, Handle};
use farref::{Netref, Result, remote};
use farref_integration_tests::media::{is_slow, on_plain_thread, over_every_medium, pair, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

#[remote]
trait Disk {
    /// A new file with that many bytes, each its position modulo 251.
    async fn create(&self, len: u64) -> Result<Netref<dyn File>>;
    async fn open_for_reading(&self) -> Result<Netref<dyn File>>;
    async fn text(&self, lines: u64) -> Result<Netref<dyn File>>;
    /// What was written comes back, after a greeting.
    async fn echo(&self) -> Result<Netref<dyn File>>;
    /// Bytes between failures.
    async fn flaky(&self) -> Result<Netref<dyn File>>;
    async fn log(&self) -> Result<Netref<dyn File>>;
    async fn logged(&self) -> Result<String>;
    async fn memory(&self, text: String) -> Result<Netref<dyn File>>;
    /// What its user finds in a file of the caller's.
    async fn word_count(&self, of: Netref<dyn File>) -> Result<u64>;
}

#[derive(Default)]
struct Drive {
    log: Arc<Mutex<Vec<u8>>>,
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().push(b'|');
        Ok(())
    }
}

/// Every second read times out; the others are of one byte each, of ten.
struct Flaky(u8);

impl Read for Flaky {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0 += 1;
        match self.0 {
            20.. => Ok(0),
            at if at % 2 == 0 => Err(io::ErrorKind::TimedOut.into()),
            at => {
                into[0] = at;
                Ok(1)
            }
        }
    }
}

fn pattern(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(|at| (at % 251) as u8).collect()
}

#[remote]
impl Disk for Drive {
    async fn create(&self, len: u64) -> Result<Netref<dyn File>> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&pattern(0..len))?;
        Ok(file::share(file))
    }

    async fn open_for_reading(&self) -> Result<Netref<dyn File>> {
        let file = tempfile::NamedTempFile::new()?;
        Ok(file::share(std::fs::File::open(file.path())?))
    }

    async fn text(&self, lines: u64) -> Result<Netref<dyn File>> {
        let text = String::from_iter((0..lines).map(|line| format!("line {line}\n")));
        Ok(file::reader(Cursor::new(text)))
    }

    async fn echo(&self) -> Result<Netref<dyn File>> {
        let (here, there) = tokio::io::duplex(64);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(here);
            write.write_all(b"hello\n").await?;
            tokio::io::copy(&mut read, &mut write).await
        });
        Ok(file::async_duplex(there))
    }

    async fn flaky(&self) -> Result<Netref<dyn File>> {
        Ok(file::reader(Flaky(0)))
    }

    async fn log(&self) -> Result<Netref<dyn File>> {
        Ok(file::writer(Log(Arc::clone(&self.log))))
    }

    async fn logged(&self) -> Result<String> {
        Ok(String::from_utf8(self.log.lock().unwrap().clone())?)
    }

    async fn memory(&self, text: String) -> Result<Netref<dyn File>> {
        Ok(file::async_seekable(Cursor::new(text.into_bytes())))
    }

    async fn word_count(&self, of: Netref<dyn File>) -> Result<u64> {
        let mut text = String::new();
        Handle::new(of).read_to_string(&mut text).await?;
        Ok(text.split_whitespace().count() as u64)
    }
}

/// Runs `test` on each medium, and then looks whether anything is left.
fn everywhere(test: impl AsyncFn(&Netref<dyn Disk>, bool)) {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Disk>(medium, Drive::default()).await;
        let disk = pair.root().await;
        within(test(&disk, is_slow(medium))).await;
        drop(disk);
        pair.at_rest().await;
    });
}

#[test]
fn a_file_is_read_to_its_end_and_from_the_middle() {
    everywhere(async |disk, slow| {
        let len = if slow { 100_000 } else { 3_000_001 };
        let mut file = Handle::new(disk.call().create(len).await.unwrap());
        let mut all = Vec::new();
        file.read_to_end(&mut all).await.unwrap();
        assert!(all == pattern(0..len), "{} bytes", all.len());
        assert_eq!(file.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(file.seek(SeekFrom::End(-5)).await.unwrap(), len - 5);
        all.clear();
        file.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, pattern(len - 5..len));
        assert_eq!(file.seek(SeekFrom::Start(40_000)).await.unwrap(), 40_000);
        assert_eq!(file.read_u8().await.unwrap(), (40_000 % 251) as u8);
        // Within what was read ahead, and behind it.
        assert_eq!(file.seek(SeekFrom::Current(10)).await.unwrap(), 40_011);
        assert_eq!(file.read_u8().await.unwrap(), (40_011 % 251) as u8);
        assert_eq!(file.seek(SeekFrom::Current(-12)).await.unwrap(), 40_000);
        assert_eq!(file.read_u8().await.unwrap(), (40_000 % 251) as u8);
        file.seek(SeekFrom::Current(-50_000)).await.unwrap_err();
        assert_eq!(file.read_u8().await.unwrap(), (40_001 % 251) as u8);
        assert_eq!(file.len().await.unwrap(), len);
    });
}

#[test]
fn a_file_is_written_read_again_and_cut() {
    everywhere(async |disk, slow| {
        let len: u64 = if slow { 50_000 } else { 2_000_000 };
        let far = disk.call().create(0).await.unwrap();
        let mut file = Handle::new(far.clone());
        for at in (0..len).step_by(1000) {
            file.write_all(&pattern(at..at + 1000)).await.unwrap();
        }
        // Behind what is still on its way.
        file.seek(SeekFrom::Start(10)).await.unwrap();
        file.write_all(b"here").await.unwrap();
        let mut next = [0; 4];
        file.read_exact(&mut next).await.unwrap();
        assert_eq!(next[..], pattern(14..18));
        file.write_all(b"and here").await.unwrap();
        file.flush().await.unwrap();
        file.sync().await.unwrap();
        let mut all = Vec::new();
        Handle::new(far.clone()).read_to_end(&mut all).await.unwrap();
        let mut expected = pattern(0..len);
        expected[10..14].copy_from_slice(b"here");
        expected[18..26].copy_from_slice(b"and here");
        assert!(all == expected);
        file.set_len(12).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 12);
        file.rewind().await.unwrap();
        all.clear();
        file.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, &expected[..12]);
        // What is not flushed is written all the same.
        file.write_all(b"!").await.unwrap();
        drop(file);
        assert_eq!(far.call().len().await.unwrap(), 13);
    });
}

#[test]
fn an_error_keeps_its_kind() {
    everywhere(async |disk, _| {
        let mut file = Handle::new(disk.call().open_for_reading().await.unwrap());
        file.write_all(b"no").await.unwrap();
        let error = file.flush().await.unwrap_err();
        assert!(!error.to_string().is_empty());
        let text = disk.call().text(1).await.unwrap();
        let error = text.call().seek(SeekFrom::Start(0).into()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let error = text.call().write(b"no".to_vec().into()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        let mut text = Handle::sequential(text);
        assert_eq!(
            text.rewind().await.unwrap_err().kind(),
            io::ErrorKind::NotSeekable
        );
    });
}

#[test]
fn what_has_no_positions_is_read_and_written_one_after_the_other() {
    everywhere(async |disk, _| {
        let mut lines = Handle::sequential(disk.call().text(1000).await.unwrap()).lines();
        let mut count = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            assert_eq!(line, format!("line {count}"));
            count += 1;
        }
        assert_eq!(count, 1000);
        drop(lines);

        let mut echo = Handle::sequential(disk.call().echo().await.unwrap());
        let mut line = String::new();
        echo.read_line(&mut line).await.unwrap();
        assert_eq!(line, "hello\n");
        for number in 0..10 {
            line.clear();
            echo.write_all(format!("{number}\n").as_bytes()).await.unwrap();
            echo.read_line(&mut line).await.unwrap();
            assert_eq!(line, format!("{number}\n"));
        }
        drop(echo);

        let mut log = Handle::sequential(disk.call().log().await.unwrap());
        for number in 0..5 {
            log.write_all(format!("{number} ").as_bytes()).await.unwrap();
        }
        log.flush().await.unwrap();
        assert_eq!(disk.call().logged().await.unwrap(), "0 1 2 3 4 |");
    });
}

/// What was read ahead behind a failure used to be lost.
#[test]
fn what_comes_behind_a_failure_is_read_too() {
    everywhere(async |disk, _| {
        let mut flaky = Handle::sequential(disk.call().flaky().await.unwrap());
        let mut read = Vec::new();
        loop {
            let mut byte = [0];
            match flaky.read(&mut byte).await {
                Ok(0) => break,
                Ok(_) => read.extend(byte),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            }
        }
        assert_eq!(read, Vec::from_iter((1..20).step_by(2)));
    });
}

/// It used to wait for bytes to come.
#[test]
fn nothing_is_waited_for_where_no_bytes_are_wanted() {
    everywhere(async |disk, _| {
        let mut echo = Handle::sequential(disk.call().echo().await.unwrap());
        let mut greeting = [0; 6];
        echo.read_exact(&mut greeting).await.unwrap();
        assert_eq!(echo.read(&mut []).await.unwrap(), 0);
        let mut echo = echo.blocking();
        assert_eq!(Read::read(&mut echo, &mut []).unwrap(), 0);
    });
}

#[test]
fn what_tokio_seeks_is_a_file_too_and_so_is_one_of_the_callers() {
    everywhere(async |disk, _| {
        let mut memory = Handle::new(disk.call().memory("one two three".to_owned()).await.unwrap());
        memory.seek(SeekFrom::End(-5)).await.unwrap();
        memory.write_all(b"THREE").await.unwrap();
        memory.rewind().await.unwrap();
        let mut text = String::new();
        memory.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "one two THREE");
        let mine = file::seekable(Cursor::new(b"four words of mine".to_vec()));
        assert_eq!(disk.call().word_count(mine).await.unwrap(), 4);
    });
}

#[test]
fn code_for_std_io_runs_over_a_far_file() {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Disk>(medium, Drive::default()).await;
        let disk: Netref<dyn Disk> = pair.root().await;
        let run = tokio::task::spawn_blocking(move || {
            on_plain_thread(move || {
                let mut file = Handle::new(disk.blocking().create(0).unwrap()).blocking();
                for number in 0..5000 {
                    writeln!(file, "row {number}").unwrap();
                }
                file.flush().unwrap();
                assert_eq!(file.stream_position().unwrap(), 43_890);
                file.rewind().unwrap();
                let mut rows = 0;
                for line in Read::by_ref(&mut file).lines() {
                    assert_eq!(line.unwrap(), format!("row {rows}"));
                    rows += 1;
                }
                assert_eq!(rows, 5000);
                file.seek(SeekFrom::Start(4)).unwrap();
                let mut two = [0; 2];
                file.read_exact(&mut two).unwrap();
                assert_eq!(&two, b"0\n");
            });
        });
        within(run).await.unwrap();
        pair.at_rest().await;
    });
}

#[test]
fn a_file_of_this_process_needs_no_runtime() {
    let mut file = Handle::new(file::seekable(Cursor::new(Vec::new()))).blocking();
    for _ in 0..100_000 {
        file.write_all(b"0123456789").unwrap();
    }
    file.flush().unwrap();
    file.rewind().unwrap();
    assert_eq!(file.bytes().count(), 1_000_000);
}
