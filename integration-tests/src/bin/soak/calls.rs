//! Numbered calls, and who counts them: each must run exactly once, and in order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::{Netref, remote};
use farref_integration_tests::rough::Random;
use tokio::time::{sleep, sleep_until};

/// What both sides have counted, outside of all that farref keeps.
#[derive(Default)]
pub(crate) struct Tally {
    made: AtomicU64,
    executed: AtomicU64,
    /// What was executed out of turn.
    faults: Mutex<Vec<String>>,
    /// Calls made when somebody last looked whether it goes on, and when that was different.
    progress: Mutex<Option<(u64, Instant)>>,
}

impl Tally {
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Everything that was made was executed, once.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (made, executed) = (self.made(), self.executed.load(Ordering::Relaxed));
        let faults = self.faults.lock().unwrap();
        if let Some(first) = faults.first() {
            return Err(format!("{} calls out of turn, first {first}", faults.len()));
        }
        if made != executed {
            return Err(format!("{made} calls were made, {executed} executed"));
        }
        println!("{made} calls were made, and each was executed once and in its turn");
        Ok(())
    }

    /// Whether no call has returned for so long, as far as this is asked again and again.
    pub(crate) fn is_stalled(&self, patience: Duration) -> bool {
        let (made, now) = (self.made(), Instant::now());
        let mut progress = self.progress.lock().unwrap();
        match *progress {
            Some((before, since)) if before == made => now - since > patience,
            _ => {
                *progress = Some((made, now));
                false
            }
        }
    }

    /// Waits until no call has returned for so long.
    pub(crate) async fn stalled(&self, patience: Duration) {
        while !self.is_stalled(patience) {
            sleep(patience / 10).await;
        }
    }
}

/// Hands out pages.
#[remote]
pub(crate) trait Pages {
    /// A page on which calls may be missing, if they may be given up.
    async fn page(&self, complete: bool) -> farref::Result<Netref<dyn Page>>;
}

/// Takes calls 1, 2, 3 and so on.
#[remote]
pub(crate) trait Page {
    async fn enter(&self, number: u64) -> farref::Result<u64>;
    fn enter_on_a_thread(&self, number: u64) -> farref::Result<u64>;
    async fn carry(&self, number: u64, bulk: Bytes) -> farref::Result<Bytes>;
    /// Calls `to` with the number `theirs` before it returns.
    async fn call_back(&self, number: u64, to: Netref<dyn Page>, theirs: u64) -> farref::Result<u64>;
}

/// The root of the server.
pub(crate) struct Book(Arc<Tally>);

impl Book {
    pub(crate) fn new(tally: &Arc<Tally>) -> Self {
        Self(Arc::clone(tally))
    }
}

#[remote]
impl Pages for Book {
    async fn page(&self, complete: bool) -> farref::Result<Netref<dyn Page>> {
        Ok(Netref::of(Sheet::new(&self.0, complete)))
    }
}

struct Sheet {
    tally: Arc<Tally>,
    complete: bool,
    last: Mutex<u64>,
}

impl Sheet {
    fn new(tally: &Arc<Tally>, complete: bool) -> Self {
        Self {
            tally: Arc::clone(tally),
            complete,
            last: Mutex::default(),
        }
    }

    fn write(&self, number: u64) {
        let mut last = self.last.lock().unwrap();
        if number <= *last || (self.complete && number > *last + 1) {
            let fault = format!("call {number} after call {last}");
            self.tally.faults.lock().unwrap().push(fault);
        }
        *last = number;
        if self.complete {
            self.tally.executed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[remote]
impl Page for Sheet {
    async fn enter(&self, number: u64) -> farref::Result<u64> {
        self.write(number);
        Ok(number)
    }

    fn enter_on_a_thread(&self, number: u64) -> farref::Result<u64> {
        self.write(number);
        Ok(number)
    }

    async fn carry(&self, number: u64, bulk: Bytes) -> farref::Result<Bytes> {
        self.write(number);
        Ok(bulk)
    }

    async fn call_back(&self, number: u64, to: Netref<dyn Page>, theirs: u64) -> farref::Result<u64> {
        self.write(number);
        to.call().enter(theirs).await?;
        Ok(number)
    }
}

/// One of those who call at once.
pub(crate) struct Caller {
    book: Netref<dyn Pages>,
    tally: Arc<Tally>,
    random: Random,
    /// From one call to the next, on average.
    pause: Duration,
    most_bulk: u64,
    /// Calls of this caller.
    made: u64,
}

/// A page, and the number of the last call on it.
struct Numbered(Netref<dyn Page>, u64);

impl Numbered {
    fn next(&mut self) -> u64 {
        self.1 += 1;
        self.1
    }
}

/// What is wrong with a call.
type Done<T = ()> = Result<T, String>;

impl Caller {
    pub(crate) fn new(
        book: Netref<dyn Pages>,
        tally: &Arc<Tally>,
        random: Random,
        rate: u64,
        most_bulk: u64,
    ) -> Self {
        Self {
            book,
            tally: Arc::clone(tally),
            random,
            pause: Duration::from_secs(60) / u32::try_from(rate.max(1)).unwrap(),
            most_bulk,
            made: 0,
        }
    }

    /// Calls until the time has come, and waits until all has returned.
    pub(crate) async fn call_until(mut self, end: Instant) -> Done {
        let begun = Instant::now();
        // What the other side calls back.
        let mine = Netref::<dyn Page>::of(Sheet::new(&self.tally, true));
        let mut mine = Numbered(mine, 0);
        while Instant::now() < end {
            let (mut page, mut torn) = (self.open(true).await?, self.open(false).await?);
            for _ in 0..200 {
                self.step(&mut page, &mut mine, &mut torn).await?;
                if Instant::now() >= end {
                    break;
                }
                // Those who were held up may catch up.
                let due = begun + self.pause * u32::try_from(self.made).unwrap();
                sleep_until(due.min(end).into()).await;
            }
            // Behind all that nobody waited for.
            for last in [&mut page, &mut torn] {
                let number = last.next();
                expect(last.0.call().enter(number).await, number)?;
            }
            self.count(1);
        }
        Ok(())
    }

    /// Opens a page, and calls on it before it is there.
    async fn open(&mut self, complete: bool) -> Done<Numbered> {
        let opening = self.book.call().page(complete).start();
        let first = opening.pipe().enter(1).start();
        let page = opening.await.map_err(|error| format!("no page: {error}"))?;
        expect(first.await, 1)?;
        self.count(if complete { 1 } else { 0 });
        Ok(Numbered(page, 1))
    }

    fn count(&mut self, calls: u64) {
        self.made += calls;
        self.tally.made.fetch_add(calls, Ordering::Relaxed);
    }

    /// Does something at random.
    async fn step(&mut self, page: &mut Numbered, mine: &mut Numbered, torn: &mut Numbered) -> Done {
        match self.random.below(40) {
            0..24 => {
                let count = 1 + self.random.below(64);
                let calls: Vec<_> = (0..count)
                    .map(|_| {
                        let number = page.next();
                        (number, page.0.call().enter(number).start())
                    })
                    .collect();
                for (number, call) in calls {
                    expect(call.await, number)?;
                }
                self.count(count);
            }
            24..28 => {
                // Nobody waits for these; the page tells whether they came.
                let count = 1 + self.random.below(16);
                (0..count).for_each(|_| page.0.call().enter(page.next()).detach());
                self.count(count);
            }
            28..32 => {
                let (number, theirs) = (page.next(), mine.next());
                let call = page.0.call().call_back(number, mine.0.clone(), theirs);
                expect(call.await, number)?;
                self.count(2);
            }
            32 | 33 => {
                let number = page.next();
                expect(page.0.call().enter_on_a_thread(number).await, number)?;
                self.count(1);
            }
            34 => {
                let (number, page) = (page.next(), page.0.clone());
                let blocked = tokio::task::spawn_blocking(move || page.enter_on_a_thread(number));
                expect(blocked.await.map_err(|error| error.to_string())?, number)?;
                self.count(1);
            }
            35 | 36 => {
                let (number, most) = (page.next(), self.most_bulk);
                let bulk = Bytes::from(vec![number as u8; self.random.below(most) as usize]);
                let brought = page.0.call().carry(number, bulk.clone()).await;
                if brought.map_err(|error| format!("call {number}: {error}"))? != bulk {
                    return Err(format!("what call {number} carried came to harm"));
                }
                self.count(1);
            }
            _ => {
                // Given up as soon as they are made.
                for _ in 0..1 + self.random.below(6) {
                    let number = torn.next();
                    drop(torn.0.call().enter(number).start());
                }
            }
        }
        Ok(())
    }
}

fn expect(outcome: farref::Result<u64>, number: u64) -> Done {
    match outcome {
        Ok(returned) if returned == number => Ok(()),
        Ok(returned) => Err(format!("call {number} returned {returned}")),
        Err(error) => Err(format!("call {number}: {error}")),
    }
}
