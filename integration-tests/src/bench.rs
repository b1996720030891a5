//! The objects that the tests talk to.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farref::{Error, Netref, Result, remote};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

/// A test bench.
#[remote]
pub trait Bench {
    fn echo(&self, value: Everything) -> Result<Everything>;
    async fn bytes(&self, bytes: Bytes) -> Result<Bytes>;
    async fn add(&self, a: u64, b: u64) -> Result<u64>;
    fn blocking_add(&self, a: u64, b: u64) -> Result<u64>;
    async fn fail(&self, how: Trouble) -> Result<(), Fault>;
    async fn plain_failure(&self) -> Result<()>;
    fn panic(&self) -> Result<()>;
    async fn panic_async(&self) -> Result<()>;
    async fn counter(&self) -> Result<Netref<dyn Counter>>;
    async fn slow_counter(&self) -> Result<Netref<dyn Counter>>;
    async fn no_counter(&self) -> Result<Netref<dyn Counter>>;
    async fn many(&self, count: u32) -> Result<Holder>;
    async fn keep(&self, counter: Netref<dyn Counter>) -> Result<()>;
    async fn kept(&self) -> Result<Option<Netref<dyn Counter>>>;
    async fn forget(&self) -> Result<()>;
    async fn is_local(&self, counter: Netref<dyn Counter>) -> Result<bool>;
    async fn call_back(&self, to: Netref<dyn Counter>, times: u32) -> Result<u64>;
    fn call_back_blocking(&self, to: Netref<dyn Counter>, times: u32) -> Result<u64>;
    /// Blocks within an async method that is polled where calls are read.
    async fn call_back_inside(&self, to: Netref<dyn Counter>) -> Result<u64>;
    fn ping_pong(&self, other: Netref<dyn Bench>, me: Netref<dyn Bench>, depth: u32) -> Result<u32>;
    async fn wait_for_ever(&self, tell: Netref<dyn Counter>) -> Result<()>;
    /// Waits for another bench to do that.
    async fn wait_through(&self, other: Netref<dyn Bench>) -> Result<()>;
    fn wait_blocking(&self) -> Result<bool>;
    async fn time_left(&self) -> Result<Option<u64>>;
    /// A method with a default body.
    async fn about(&self) -> Result<String> {
        Ok("a bench".into())
    }
}

/// Something that counts.
#[remote]
pub trait Counter: Named {
    async fn next(&self) -> Result<u64>;
    fn bump(&self) -> Result<u64>;
    async fn note(&self, number: u64, ballast: Bytes) -> Result<()>;
    async fn notes(&self) -> Result<Vec<u64>>;
}

/// Something with a name.
#[remote]
pub trait Named {
    fn name(&self) -> Result<String>;
}

/// Every shape that serde knows, with references among them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Everything {
    pub unit: (),
    pub numbers: (u8, i16, u32, i64, u128, f32, f64, bool, char),
    pub text: String,
    pub list: Vec<Option<String>>,
    pub map: HashMap<String, Vec<u32>>,
    pub choice: Choice,
    #[serde(with = "farref::bytes")]
    pub blob: Vec<u8>,
    pub reference: Option<Netref<dyn Counter>>,
    pub references: HashMap<String, Netref<dyn Counter>>,
    pub result: Option<std::result::Result<Netref<dyn Named>, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Choice {
    #[default]
    Nothing,
    One(u8),
    Two {
        left: String,
        right: Box<Choice>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Holder {
    pub counters: Vec<Netref<dyn Counter>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Trouble {
    Smoke { channel: u8 },
    Fire,
}

/// The bench's own error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    Trouble(Trouble),
    Call(Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trouble(trouble) => write!(f, "the bench is in trouble: {trouble:?}"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// The bench, and what it tells the test.
pub struct Rig {
    kept: Mutex<Option<Netref<dyn Counter>>>,
    told: mpsc::UnboundedSender<&'static str>,
    gate: watch::Receiver<bool>,
}

impl Rig {
    /// A rig, what it tells, and the gate at which its slow methods wait.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<&'static str>, watch::Sender<bool>) {
        let (told, tells) = mpsc::unbounded_channel();
        let (open, gate) = watch::channel(false);
        (
            Self {
                kept: Mutex::default(),
                told,
                gate,
            },
            tells,
            open,
        )
    }

    fn count(&self) -> Netref<dyn Counter> {
        Netref::of(Count::telling("counter", self.told.clone()))
    }
}

#[remote]
impl Bench for Rig {
    fn echo(&self, value: Everything) -> Result<Everything> {
        Ok(value)
    }

    async fn bytes(&self, bytes: Bytes) -> Result<Bytes> {
        Ok(bytes)
    }

    async fn add(&self, a: u64, b: u64) -> Result<u64> {
        Ok(a + b)
    }

    fn blocking_add(&self, a: u64, b: u64) -> Result<u64> {
        Ok(a + b)
    }

    async fn fail(&self, how: Trouble) -> Result<(), Fault> {
        Err(Fault::Trouble(how))
    }

    async fn plain_failure(&self) -> Result<()> {
        let _: u8 = "many".parse()?;
        Ok(())
    }

    fn panic(&self) -> Result<()> {
        panic!("a blocking method panics")
    }

    async fn panic_async(&self) -> Result<()> {
        panic!("an async method panics")
    }

    async fn counter(&self) -> Result<Netref<dyn Counter>> {
        Ok(self.count())
    }

    async fn slow_counter(&self) -> Result<Netref<dyn Counter>> {
        self.gate.clone().wait_for(|open| *open).await?;
        Ok(self.count())
    }

    async fn no_counter(&self) -> Result<Netref<dyn Counter>> {
        Err(Error::msg("no counters today"))
    }

    async fn many(&self, count: u32) -> Result<Holder> {
        Ok(Holder {
            counters: (0..count).map(|_| Netref::of(Count::default())).collect(),
        })
    }

    async fn keep(&self, counter: Netref<dyn Counter>) -> Result<()> {
        *self.kept.lock().unwrap() = Some(counter);
        Ok(())
    }

    async fn kept(&self) -> Result<Option<Netref<dyn Counter>>> {
        Ok(self.kept.lock().unwrap().clone())
    }

    async fn forget(&self) -> Result<()> {
        let kept = self.kept.lock().unwrap().take();
        drop(kept);
        Ok(())
    }

    async fn is_local(&self, counter: Netref<dyn Counter>) -> Result<bool> {
        Ok(counter.is_local())
    }

    async fn call_back(&self, to: Netref<dyn Counter>, times: u32) -> Result<u64> {
        let mut last = 0;
        for _ in 0..times {
            last = to.next().await?;
        }
        Ok(last)
    }

    fn call_back_blocking(&self, to: Netref<dyn Counter>, times: u32) -> Result<u64> {
        (0..times).try_fold(0, |_, _| to.bump())
    }

    async fn call_back_inside(&self, to: Netref<dyn Counter>) -> Result<u64> {
        to.bump()
    }

    fn ping_pong(&self, other: Netref<dyn Bench>, me: Netref<dyn Bench>, depth: u32) -> Result<u32> {
        if depth == 0 {
            Ok(0)
        } else {
            Ok(1 + other.ping_pong(me, other.clone(), depth - 1)?)
        }
    }

    async fn wait_for_ever(&self, tell: Netref<dyn Counter>) -> Result<()> {
        struct Told<'a>(&'a Rig);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                let _ = self.0.told.send("cancelled");
            }
        }
        let _told = Told(self);
        let _ = self.told.send("waiting");
        tell.next().await?;
        std::future::pending::<()>().await;
        Ok(())
    }

    async fn wait_through(&self, other: Netref<dyn Bench>) -> Result<()> {
        other.call().wait_for_ever(Netref::of(Count::default())).await
    }

    fn wait_blocking(&self) -> Result<bool> {
        let caller = farref::caller().unwrap();
        let _ = self.told.send("waiting");
        while !caller.is_cancelled() {
            std::thread::yield_now();
        }
        let _ = self.told.send("cancelled");
        Ok(true)
    }

    async fn time_left(&self) -> Result<Option<u64>> {
        let caller = farref::caller().unwrap();
        Ok(caller.time_left().map(|left| left.as_millis() as u64))
    }
}

/// A counter that tells when it is dropped.
#[derive(Default)]
pub struct Count {
    name: &'static str,
    at: AtomicU64,
    notes: Mutex<Vec<u64>>,
    told: Option<mpsc::UnboundedSender<&'static str>>,
}

impl Count {
    pub fn telling(name: &'static str, told: mpsc::UnboundedSender<&'static str>) -> Self {
        Self {
            name,
            at: AtomicU64::new(0),
            notes: Mutex::default(),
            told: Some(told),
        }
    }

    pub fn seen(&self) -> u64 {
        self.at.load(Ordering::SeqCst)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        if let Some(told) = &self.told {
            let _ = told.send("dropped");
        }
    }
}

impl Named for Count {
    fn name(&self) -> Result<String> {
        Ok(self.name.to_owned())
    }
}

#[remote]
impl Counter for Count {
    async fn next(&self) -> Result<u64> {
        Ok(self.at.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn bump(&self) -> Result<u64> {
        Ok(self.at.fetch_add(1, Ordering::SeqCst) + 1)
    }

    async fn note(&self, number: u64, _ballast: Bytes) -> Result<()> {
        self.notes.lock().unwrap().push(number);
        Ok(())
    }

    async fn notes(&self) -> Result<Vec<u64>> {
        Ok(self.notes.lock().unwrap().clone())
    }
}
