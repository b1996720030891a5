//! Streams over every medium: order, pace, ends, and who may give them up.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farref::stream::Sink;
use farref::{ByteStream, Certainty, Error, ErrorKind, Netref, Result, Stream, remote};
use farref_integration_tests::bench::{Count, Counter};
use farref_integration_tests::media::{is_slow, over_every_medium, pair, runtime, within};
use farref_integration_tests::relay::Relay;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

#[remote]
trait Mill {
    async fn count(&self, to: u64) -> Result<Stream<u64>>;
    async fn sum(&self, of: Stream<u64>) -> Result<u64>;
    /// Counts until it is given up, and how far it got then.
    async fn count_for_ever(&self) -> Result<Stream<u64>>;
    async fn counted(&self) -> Result<u64>;
    async fn fails_after(&self, count: u64) -> Result<Stream<u64>>;
    async fn counters(&self, count: u64) -> Result<Stream<(u64, Netref<dyn Counter>)>>;
    async fn bytes(&self, len: u64) -> Result<ByteStream>;
    async fn length(&self, of: ByteStream) -> Result<u64>;
    async fn wanted(&self) -> Result<Sink<Stream<u64>>>;
    async fn got(&self) -> Result<u64>;
    async fn back(&self, stream: Stream<u64>) -> Result<Stream<u64>>;
    async fn slow(&self) -> Result<Stream<u64>>;
    async fn small(&self, value: u64) -> Result<u64>;
}

#[derive(Default)]
struct Wind {
    counted: Arc<AtomicU64>,
    stopped: Arc<Notify>,
    got: Arc<Mutex<Vec<u64>>>,
}

/// Tells when it is dropped.
struct Stopped(Arc<Notify>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[remote]
impl Mill for Wind {
    async fn count(&self, to: u64) -> Result<Stream<u64>> {
        Ok(Stream::from_iter(0..to))
    }

    async fn sum(&self, mut of: Stream<u64>) -> Result<u64> {
        let mut sum = 0;
        while let Some(item) = of.next().await {
            sum += item?;
        }
        Ok(sum)
    }

    async fn count_for_ever(&self) -> Result<Stream<u64>> {
        let (counted, stopped) = (Arc::clone(&self.counted), Stopped(Arc::clone(&self.stopped)));
        Ok(Stream::from_iter((0..).inspect(move |at| {
            let _ = &stopped;
            counted.store(*at, Ordering::SeqCst);
        })))
    }

    async fn counted(&self) -> Result<u64> {
        self.stopped.notified().await;
        Ok(self.counted.load(Ordering::SeqCst))
    }

    async fn fails_after(&self, count: u64) -> Result<Stream<u64>> {
        let (mut sender, stream) = Stream::channel(4);
        tokio::spawn(async move {
            for number in 0..count {
                sender.send(number).await?;
            }
            sender.fail(Error::new(ErrorKind::Denied, "that is enough")).await
        });
        Ok(stream)
    }

    async fn counters(&self, count: u64) -> Result<Stream<(u64, Netref<dyn Counter>)>> {
        let counter = |number| (number, Netref::of(Count::default()));
        Ok(Stream::from_iter((0..count).map(counter)))
    }

    async fn bytes(&self, len: u64) -> Result<ByteStream> {
        Ok(ByteStream::read(tokio::io::repeat(7).take(len)))
    }

    async fn length(&self, mut of: ByteStream) -> Result<u64> {
        let mut len = 0;
        while let Some(piece) = of.next().await {
            len += piece?.len() as u64;
        }
        Ok(len)
    }

    async fn wanted(&self) -> Result<Sink<Stream<u64>>> {
        let (sink, mut stream) = Sink::<Stream<u64>>::new();
        let got = Arc::clone(&self.got);
        tokio::spawn(async move {
            while let Some(Ok(item)) = stream.next().await {
                got.lock().unwrap().push(item);
            }
        });
        Ok(sink)
    }

    async fn got(&self) -> Result<u64> {
        Ok(self.got.lock().unwrap().len() as u64)
    }

    async fn back(&self, stream: Stream<u64>) -> Result<Stream<u64>> {
        Ok(stream)
    }

    async fn slow(&self) -> Result<Stream<u64>> {
        let (mut sender, stream) = Stream::channel(1);
        tokio::spawn(async move {
            for number in 0..20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender.send(number).await?;
            }
            Result::<()>::Ok(())
        });
        Ok(stream)
    }

    async fn small(&self, value: u64) -> Result<u64> {
        Ok(value)
    }
}

/// Runs `test` on each medium, and then looks whether anything is left.
fn everywhere(test: impl AsyncFn(&Netref<dyn Mill>, bool)) {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Mill>(medium, Wind::default()).await;
        let mill = pair.root().await;
        within(test(&mill, is_slow(medium))).await;
        pair.at_rest().await;
    });
}

#[test]
fn items_come_in_order_and_the_end_behind_them() {
    everywhere(async |mill, is_slow| {
        let to = if is_slow { 100 } else { 20_000 };
        let mut stream = mill.call().count(to).await.unwrap();
        for number in 0..to {
            assert_eq!(stream.next().await.unwrap().unwrap(), number);
        }
        assert!(stream.next().await.is_none());
        assert!(stream.next().await.is_none());
        let nothing = mill.call().count(0).await.unwrap().next().await;
        assert!(nothing.is_none());
    });
}

#[test]
fn streams_are_arguments_too_and_come_home_as_they_left() {
    everywhere(async |mill, is_slow| {
        let to = if is_slow { 100 } else { 5_000 };
        let sum = to * (to - 1) / 2;
        assert_eq!(mill.call().sum(Stream::from_iter(0..to)).await.unwrap(), sum);
        let theirs = mill.call().count(to).await.unwrap();
        assert_eq!(mill.call().sum(theirs).await.unwrap(), sum);
        let mut ours = mill.call().back(Stream::from_iter(0..to)).await.unwrap();
        let mut read = 0;
        for _ in 0..10 {
            read += ours.next().await.unwrap().unwrap();
        }
        // What was taken already goes along.
        assert_eq!(mill.call().sum(ours).await.unwrap() + read, sum);
    });
}

#[test]
fn whoever_makes_a_stream_goes_no_faster_than_its_reader_and_stops_with_it() {
    everywhere(async |mill, _| {
        let mut stream = mill.call().count_for_ever().await.unwrap().credit(4096);
        for number in 0..100 {
            assert_eq!(stream.next().await.unwrap().unwrap(), number);
        }
        drop(stream);
        let counted = mill.call().counted().await.unwrap();
        // Credit, and what was read: every item has at least a byte.
        assert!(counted <= 100 + 2 * 4096, "{counted} were made");
    });
}

#[test]
fn an_error_ends_a_stream_behind_its_last_item() {
    everywhere(async |mill, _| {
        let mut stream = mill.call().fails_after(10).await.unwrap();
        for number in 0..10 {
            assert_eq!(stream.next().await.unwrap().unwrap(), number);
        }
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("that is enough"), "{error}");
        assert!(stream.next().await.is_none());
    });
}

#[test]
fn items_hold_references() {
    everywhere(async |mill, is_slow| {
        let count = if is_slow { 10 } else { 1_000 };
        let mut stream = mill.call().counters(count).await.unwrap();
        let mut counters = Vec::new();
        while let Some(item) = stream.next().await {
            let (number, counter) = item.unwrap();
            assert_eq!(number, counters.len() as u64);
            assert!(!counter.is_local());
            counters.push(counter);
        }
        assert_eq!(counters.len() as u64, count);
        assert_eq!(counters.last().unwrap().call().next().await.unwrap(), 1);
    });
}

#[test]
fn bytes_are_read_as_from_any_reader() {
    everywhere(async |mill, is_slow| {
        let len = if is_slow { 3_000 } else { 3_000_000 };
        let mut bytes = Vec::new();
        let mut stream = mill.call().bytes(len).await.unwrap();
        stream.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes.len() as u64, len);
        assert!(bytes.iter().all(|byte| *byte == 7));
        let (mut sender, stream) = ByteStream::channel(4);
        let length = mill.call().length(stream).start();
        sender.write_all(&bytes).await.unwrap();
        sender.shutdown().await.unwrap();
        drop(sender);
        assert_eq!(length.await.unwrap(), len);
    });
}

#[test]
fn a_stream_that_is_wanted_is_sent_and_its_end_acknowledged() {
    everywhere(async |mill, _| {
        let sink = mill.call().wanted().await.unwrap();
        let (mut sender, stream) = Stream::channel(3);
        sink.send(stream).await.unwrap();
        for number in 0..50 {
            sender.send(number).await.unwrap();
        }
        sender.finish().await.unwrap();
        assert_eq!(
            mill.call().got().await.unwrap(),
            50,
            "the end was acknowledged before"
        );
    });
}

#[test]
fn a_sender_hears_when_its_reader_is_gone() {
    everywhere(async |mill, _| {
        let (mut sender, stream) = Stream::channel(1);
        let sum = mill.call().sum(stream).start();
        sender.send(1).await.unwrap();
        drop(sum);
        let error = loop {
            if let Err(error) = sender.send(1).await {
                break error;
            }
        };
        assert_eq!(error.certainty(), Some(Certainty::Unknown), "{error}");
        assert!(sender.is_closed());
    });
}

#[test]
fn a_stream_may_be_silent_for_longer_than_a_call_may_take() {
    everywhere(async |mill, _| {
        let mut stream = mill.call().slow().timeout(Duration::from_secs(20)).await.unwrap();
        let mut next = 0;
        while let Some(item) = stream.next().await {
            assert_eq!(item.unwrap(), next);
            next += 1;
        }
        assert_eq!(next, 20);
    });
}

#[test]
fn a_stream_of_bytes_is_not_read_as_one_of_items() {
    #[remote(name = "Mill")]
    trait Other {
        async fn bytes(&self, len: u64) -> Result<Stream<u64>>;
    }
    runtime().block_on(async {
        let pair = pair::<dyn Mill>("mem", Wind::default()).await;
        let mill: Netref<dyn Other> = pair.root().await;
        let mut stream = within(mill.call().bytes(10)).await.unwrap();
        let error = within(stream.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    });
}

/// A number that is read and written only if it is below 5.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u64")]
struct Small(#[serde(serialize_with = "below_five")] u64);

impl TryFrom<u64> for Small {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, &'static str> {
        if number < 5 {
            Ok(Self(number))
        } else {
            Err("not below 5")
        }
    }
}

fn below_five<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *number < 5 {
        serializer.serialize_u64(*number)
    } else {
        Err(serde::ser::Error::custom("not below 5"))
    }
}

#[remote(name = "Mill")]
trait SmallMill {
    async fn count(&self, to: u64) -> Result<Stream<Small>>;
    async fn sum(&self, of: Stream<Small>) -> Result<u64>;
}

/// What could not be read used to be passed over, with all that came in one batch with it, if something before it could.
#[test]
fn an_item_that_cannot_be_read_ends_the_stream_behind_those_before_it() {
    runtime().block_on(async {
        let pair = pair::<dyn Mill>("mem", Wind::default()).await;
        let mill: Netref<dyn SmallMill> = pair.root().await;
        let mut stream = within(mill.call().count(10)).await.unwrap();
        for number in 0..5 {
            assert_eq!(within(stream.next()).await.unwrap().unwrap(), Small(number));
        }
        let error = within(stream.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(within(stream.next()).await.is_none());
        drop((stream, mill));
        pair.at_rest().await;
    });
}

/// Its reader acknowledges the end, which is an error; that used to count as if all had been received.
#[test]
fn a_sender_hears_that_an_item_could_not_be_written() {
    runtime().block_on(async {
        let pair = pair::<dyn Mill>("mem", Wind::default()).await;
        let mill: Netref<dyn SmallMill> = pair.root().await;
        let (mut sender, stream) = Stream::channel(10);
        for number in [1, 2, 7, 3] {
            sender.send(Small(number)).await.unwrap();
        }
        let sum = mill.call().sum(stream).start();
        let finished = within(sender.finish()).await;
        assert!(finished.is_err());
        assert!(within(sum).await.is_err());
    });
}

/// What pulls are made of, for peers that answer as they like.
mod by_hand {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum Form {
        Items(u32),
        Bytes,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Items {
        pub(super) count: u64,
        pub(super) bytes: Vec<u8>,
        pub(super) slots: Vec<u32>,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum Body {
        Items(Items),
        Bytes(Vec<Vec<u8>>),
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum End {
        Done,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) struct Batch {
        pub(super) body: Body,
        pub(super) end: Option<End>,
    }

    #[remote(name = "farref.Source")]
    pub(super) trait Source {
        async fn pull(&self, form: Form, credit: u64) -> Result<Batch>;
    }

    #[remote(name = "Mill")]
    pub(super) trait Odd {
        async fn count(&self, to: u64) -> Result<Netref<dyn Source>>;
        async fn bytes(&self, len: u64) -> Result<Netref<dyn Source>>;
    }

    /// Answers each pull with that.
    pub(super) struct Always(pub(super) fn() -> Batch);

    #[remote]
    impl Source for Always {
        async fn pull(&self, _form: Form, _credit: u64) -> Result<Batch> {
            Ok((self.0)())
        }
    }

    #[remote]
    impl Odd for Always {
        async fn count(&self, _to: u64) -> Result<Netref<dyn Source>> {
            Ok(Netref::of(Self(self.0)))
        }

        async fn bytes(&self, _len: u64) -> Result<Netref<dyn Source>> {
            Ok(Netref::of(Self(self.0)))
        }
    }
}

/// A reader used to ask on, for ever.
#[test]
fn a_batch_with_nothing_in_it_that_is_not_the_last_is_refused() {
    use by_hand::{Always, Batch, Body, Items, Odd};
    let no_items = || Batch {
        body: Body::Items(Items {
            count: 0,
            bytes: Vec::new(),
            slots: Vec::new(),
        }),
        end: None,
    };
    let no_bytes = || Batch {
        body: Body::Bytes(Vec::new()),
        end: None,
    };
    runtime().block_on(async {
        let pair_of_items = pair::<dyn Odd>("mem", Always(no_items)).await;
        let mill: Netref<dyn Mill> = pair_of_items.root().await;
        let mut stream = within(mill.call().count(10)).await.unwrap();
        let error = within(stream.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(within(stream.next()).await.is_none());

        let pair_of_bytes = pair::<dyn Odd>("mem", Always(no_bytes)).await;
        let mill: Netref<dyn Mill> = pair_of_bytes.root().await;
        let mut stream = within(mill.call().bytes(10)).await.unwrap();
        let error = within(stream.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        // Nor are items taken for bytes.
        let mill: Netref<dyn Mill> = pair_of_items.root().await;
        let mut stream = within(mill.call().bytes(10)).await.unwrap();
        let error = within(stream.next()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");
    });
}

/// It used to wait for bytes to come.
#[test]
fn nothing_is_waited_for_where_no_bytes_are_wanted() {
    runtime().block_on(async {
        let (sender, mut stream) = ByteStream::channel(1);
        assert_eq!(within(stream.read(&mut [])).await.unwrap(), 0);
        drop(sender);
    });
}

#[test]
fn threads_read_streams_as_iterators_and_readers() {
    let runtime = runtime();
    let pair = runtime.block_on(pair::<dyn Mill>("unix", Wind::default()));
    let mill: Netref<dyn Mill> = runtime.block_on(pair.root());
    let thread = std::thread::spawn(move || {
        let numbers: Result<Vec<u64>> = mill.blocking().count(1000).unwrap().blocking().collect();
        assert!(numbers.unwrap().into_iter().eq(0..1000));
        let mut bytes = Vec::new();
        let mut reader = mill.blocking().bytes(100_000).unwrap().blocking();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        assert_eq!(bytes.len(), 100_000);
    });
    thread.join().unwrap();
    runtime.block_on(pair.at_rest());
}

#[test]
fn small_calls_are_not_held_up_by_a_stream_that_nobody_reads() {
    everywhere(async |mill, _| {
        let mut stream = mill.call().bytes(1 << 40).await.unwrap().credit(100_000);
        let first = stream.next().await.unwrap().unwrap();
        assert!(!first.is_empty());
        for value in 0..20 {
            assert_eq!(mill.call().small(value).await.unwrap(), value);
        }
        let unused: Bytes = first;
        drop((stream, unused));
    });
}

#[test]
fn streams_go_on_where_they_were_when_the_wire_is_cut() {
    runtime().block_on(async {
        let server = farref::Server::of::<dyn Mill>(Wind::default());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let to = address
            .to_string()
            .trim_start_matches("plain+tcp://")
            .parse()
            .unwrap();
        let relay = Relay::new(to).await;
        let connect = farref::connect(format!("plain+tcp://{}", relay.address));
        let client = within(connect.into_future()).await.unwrap();
        let mill: Netref<dyn Mill> = within(client.root()).await.unwrap();
        for after in [1_000, 70_000, 200_000] {
            let mut items = within(mill.call().count(100_000)).await.unwrap();
            let mut bytes = within(mill.call().bytes(1_000_000)).await.unwrap();
            relay.cut_after(after);
            for number in 0..100_000 {
                assert_eq!(within(items.next()).await.unwrap().unwrap(), number);
            }
            assert!(within(items.next()).await.is_none());
            let mut read = Vec::new();
            within(bytes.read_to_end(&mut read)).await.unwrap();
            assert!(read.len() == 1_000_000 && read.iter().all(|byte| *byte == 7));
        }
        assert_eq!(relay.cuts(), 3);
        drop((mill, client));
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}
