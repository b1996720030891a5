//! Old and new peers: types that have changed between two versions of a program are read as each other.

use std::collections::BTreeMap;
use std::fmt::Debug;

use farref::channel::{broadcast, mpsc, oneshot, watch};
use farref::mutex::Mutex;
use farref::{ErrorKind, Netref, RemoteIter, Result, Shape, Stream, remote};
use farref_integration_tests::media::{pair, runtime, within};
use serde::{Deserialize, Serialize};

/// What the other version's sample is read as; `None` if it cannot be.
type Read<T> = Option<T>;

/// Two versions of a type `T`, each with a sample, and with what the sample of the other is read as.
macro_rules! versions {
    ($(#[$about:meta])* $name:ident: old { $($old:item)* } new { $($new:item)* }) => {
        $(#[$about])*
        mod $name {
            #[allow(unused_imports, reason = "not every type needs all")]
            mod old {
                use super::super::*;
                $($old)*
                service!();
            }
            #[allow(unused_imports, reason = "not every type needs all")]
            mod new {
                use super::super::*;
                $($new)*
                service!();
            }

            #[test]
            fn old_and_new_understand_each_other() {
                super::runtime().block_on(async {
                    for medium in ["mem", "unix", "tcp"] {
                        old::call(medium, new::Server, old::other(), new::other().is_some()).await;
                        new::call(medium, old::Server, new::other(), old::other().is_some()).await;
                        old::call(medium, old::Server, Some(old::sample()), true).await;
                        new::call(medium, new::Server, Some(new::sample()), true).await;
                    }
                });
            }
        }
    };
}

/// One version of the program.
macro_rules! service {
    () => {
        #[remote(name = "farref.tests.Versioned")]
        pub(super) trait Service {
            async fn take(&self, value: T, number: u8) -> Result<T>;
            async fn take_ref(&self, value: &T) -> Result<Vec<T>>;
            fn take_blocking(&self, value: Option<&T>) -> Result<(T, u8)>;
            async fn give(&self) -> Result<T>;
            async fn stream(&self) -> Result<Stream<T>>;
            async fn drain(&self, of: Stream<T>) -> Result<u8>;
            async fn look(&self) -> Result<Kinds>;
            async fn send(&self, many: mpsc::Sender<T>, one: oneshot::Sender<T>) -> Result<()>;
            async fn turn(
                &self,
                lock: Mutex<T>,
                last: watch::Sender<T>,
                all: broadcast::Sender<T>,
            ) -> Result<()>;
        }

        /// What values come out of.
        pub(super) type Kinds = (
            watch::Receiver<T>,
            broadcast::Receiver<T>,
            Mutex<T>,
            RemoteIter<T>,
        );

        pub(super) struct Server;

        impl Server {
            fn check(value: &T) -> Result<T> {
                assert!(
                    *value == sample() || Some(value) == other().as_ref(),
                    "{value:?}"
                );
                Ok(sample())
            }
        }

        #[remote]
        impl Service for Server {
            async fn take(&self, value: T, number: u8) -> Result<T> {
                assert_eq!(number, 7);
                Self::check(&value)
            }

            async fn take_ref(&self, value: &T) -> Result<Vec<T>> {
                Ok(vec![Self::check(value)?])
            }

            fn take_blocking(&self, value: Option<&T>) -> Result<(T, u8)> {
                Ok((value.map_or_else(|| Ok(sample()), Self::check)?, 7))
            }

            async fn give(&self) -> Result<T> {
                Ok(sample())
            }

            async fn stream(&self) -> Result<Stream<T>> {
                Ok(Stream::from_iter([sample(), sample(), sample()]))
            }

            async fn drain(&self, mut of: Stream<T>) -> Result<u8> {
                let mut count = 0;
                while let Some(item) = of.next().await {
                    Self::check(&item?)?;
                    count += 1;
                }
                Ok(count)
            }

            async fn look(&self) -> Result<Kinds> {
                let (sender, receiver) = broadcast::channel(3);
                sender.send(sample()).await?;
                let items = RemoteIter::new(std::iter::repeat_with(sample).take(3));
                Ok((
                    watch::channel(sample()).1,
                    receiver,
                    Mutex::new(sample()),
                    items,
                ))
            }

            async fn send(&self, many: mpsc::Sender<T>, one: oneshot::Sender<T>) -> Result<()> {
                for _ in 0..3 {
                    many.send(sample()).await?;
                }
                one.send(sample()).await
            }

            async fn turn(
                &self,
                lock: Mutex<T>,
                last: watch::Sender<T>,
                all: broadcast::Sender<T>,
            ) -> Result<()> {
                let mut guard = lock.lock().await?;
                Self::check(&guard)?;
                guard.set(sample()).await?;
                guard.set(sample()).await?;
                last.send(sample()).await?;
                all.send(sample()).await.map(drop)
            }
        }

        /// The same with channels, locks and iterators, made on either side.
        async fn meet(root: &Netref<dyn Service>, expected: &Read<T>, understood: bool) {
            let (mut last, mut all, lock, mut items) = within(root.call().look()).await.unwrap();
            assert_eq!(or_refused(within(last.latest()).await), *expected);
            assert_eq!(or_refused(within(last.clone().latest()).await), *expected);
            match within(all.recv()).await {
                Err(broadcast::RecvError::Lost(error)) => assert_eq!(or_refused(Err(error)), *expected),
                heard => assert_eq!(heard.ok(), *expected),
            }
            for _ in 0..if expected.is_some() { 3 } else { 1 } {
                assert_eq!(
                    or_refused(within(items.next_item()).await.unwrap()),
                    *expected
                );
            }
            assert!(within(items.next_item()).await.is_none());
            let guard = within(lock.lock()).await;
            assert_eq!(or_refused(guard.map(|guard| (*guard).clone())), *expected);

            let (many, mut sent) = mpsc::channel(3);
            let (one, sent_once) = oneshot::channel();
            let result = within(root.call().send(many, one)).await;
            assert_eq!(or_refused(result).is_some(), expected.is_some());
            if expected.is_some() {
                for _ in 0..3 {
                    assert_eq!(within(sent.recv()).await.unwrap().ok(), *expected);
                }
                assert_eq!(within(sent_once).await.ok(), *expected);
            }
            let (lock, (last, mut seen), (all, mut heard)) = (
                Mutex::new(sample()),
                watch::channel(sample()),
                broadcast::channel(1),
            );
            let result = within(root.call().turn(lock.clone(), last, all)).await;
            let is_done = understood && expected.is_some();
            assert_eq!(or_refused(result).is_some(), is_done);
            if is_done {
                let locked = (*within(lock.lock()).await.unwrap()).clone();
                assert_eq!(Some(locked), *expected);
                assert_eq!(within(seen.changed()).await.ok(), *expected);
                assert_eq!(within(heard.recv()).await.ok(), *expected);
            }
        }

        /// Calls a server of this or of the other version, which reads our sample if it is `understood`, and sends
        /// its own.
        pub(super) async fn call(medium: &str, server: impl Host, expected: Read<T>, understood: bool) {
            let pair = server.serve(medium).await;
            let root: Netref<dyn Service> = pair.root().await;
            assert_eq!(or_refused(within(root.call().give()).await), expected);
            // Items of streams are read like that, too.
            let mut stream = within(root.call().stream()).await.unwrap();
            for _ in 0..if expected.is_some() { 3 } else { 1 } {
                let item = within(stream.next()).await.unwrap();
                assert_eq!(or_refused(item), expected);
            }
            assert!(within(stream.next()).await.is_none());
            drop(stream);
            meet(&root, &expected, understood).await;
            let drained = within(root.call().drain(Stream::from_iter([sample(), sample()]))).await;
            assert_eq!(or_refused(drained), understood.then_some(2));
            let Some(expected) = expected.filter(|_| understood) else {
                let results = [
                    within(root.call().take(sample(), 7)).await.map(drop),
                    within(root.call().take_ref(&sample())).await.map(drop),
                    within(root.call().take_blocking(Some(&sample())))
                        .await
                        .map(drop),
                ];
                assert_eq!(results.map(or_refused), [None, None, None]);
                return pair.at_rest().await;
            };
            // Several at once: all of them wait for the same answer.
            let (first, second) = (
                root.call().take(sample(), 7).start(),
                root.call().take_ref(&sample()).start(),
            );
            assert_eq!(within(first).await.unwrap(), expected);
            assert_eq!(
                within(second).await.unwrap(),
                std::slice::from_ref(&expected)
            );
            assert_eq!(
                within(root.call().take_blocking(Some(&sample())))
                    .await
                    .unwrap(),
                (expected.clone(), 7)
            );
            assert_eq!(
                within(root.call().take_blocking(None)).await.unwrap(),
                (expected.clone(), 7)
            );
            let blocking = root.clone();
            let waited =
                tokio::task::spawn_blocking(move || blocking.blocking().take_blocking(Some(&sample())));
            assert_eq!(within(waited).await.unwrap().unwrap(), (expected, 7));
            pair.at_rest().await;
        }

        impl Host for Server {
            async fn serve(self, medium: &str) -> farref_integration_tests::media::Pair {
                pair::<dyn Service>(medium, self).await
            }
        }
    };
}

/// A server of whatever version.
trait Host {
    async fn serve(self, medium: &str) -> farref_integration_tests::media::Pair;
}

/// The result, unless one who read it, or what led to it, said that it could not: for the types, or for this value of
/// them.
#[track_caller]
fn or_refused<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let kinds = [ErrorKind::SchemaMismatch, ErrorKind::Malformed];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            None
        }
    }
}

versions! {
    a_field_is_added_with_a_default:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { name: String }
        pub(super) fn sample() -> T { T { name: "old".into() } }
        pub(super) fn other() -> Read<T> { Some(T { name: "new".into() }) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { #[serde(default)] size: u32, name: String, note: Option<String> }
        pub(super) fn sample() -> T { T { size: 5, name: "new".into(), note: Some("n".into()) } }
        pub(super) fn other() -> Read<T> { Some(T { size: 0, name: "old".into(), note: None }) }
    }
}

versions! {
    fields_are_in_another_order:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { a: u32, b: u32, c: Vec<u8> }
        pub(super) fn sample() -> T { T { a: 1, b: 2, c: vec![3] } }
        pub(super) fn other() -> Read<T> { Some(sample()) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { #[serde(with = "farref::bytes")] c: Vec<u8>, b: u32, a: u32 }
        pub(super) fn sample() -> T { T { a: 1, b: 2, c: vec![3] } }
        pub(super) fn other() -> Read<T> { Some(sample()) }
    }
}

versions! {
    a_field_is_renamed_and_known_by_both_names:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
        pub(super) struct T { #[serde(alias = "length")] size: u16 }
        pub(super) fn sample() -> T { T { size: 3 } }
        pub(super) fn other() -> Read<T> { Some(T { size: 4 }) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
        pub(super) struct T { #[serde(alias = "size")] length: u64 }
        pub(super) fn sample() -> T { T { length: 4 } }
        pub(super) fn other() -> Read<T> { Some(T { length: 3 }) }
    }
}

versions! {
    a_field_is_renamed_of_a_type_that_serde_alone_knows:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { note: String, #[serde(alias = "length", alias = "len")] size: u16 }
        pub(super) fn sample() -> T { T { note: "old".into(), size: 3 } }
        pub(super) fn other() -> Read<T> { Some(T { note: "new".into(), size: 4 }) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { #[serde(alias = "size")] length: u64, note: String }
        pub(super) fn sample() -> T { T { length: 4, note: "new".into() } }
        pub(super) fn other() -> Read<T> { Some(T { length: 3, note: "old".into() }) }
    }
}

/// Takes only some of what its bytes can be, and is no shape by itself.
macro_rules! waveform {
    ($version:literal) => {
        #[derive(Debug, Clone, PartialEq, Serialize, Shape)]
        #[shape(opaque, name = "lab.Waveform", version = $version)]
        pub(super) struct Waveform(pub(super) Vec<u8>);

        impl<'de> Deserialize<'de> for Waveform {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                match <Vec<u8>>::deserialize(deserializer)? {
                    packed if packed.first() == Some(&$version) => Ok(Self(packed)),
                    packed => Err(serde::de::Error::custom(format!(
                        "{packed:?} is not of version {}",
                        $version
                    ))),
                }
            }
        }
    };
}

versions! {
    what_holds_an_opaque_type_changes:
    old {
        waveform!(2);
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
        pub(super) struct T { name: String, waves: Vec<Waveform>, last: Waveform }
        pub(super) fn sample() -> T {
            T { name: "old".into(), waves: vec![Waveform(vec![2, 0])], last: Waveform(vec![2]) }
        }
        pub(super) fn other() -> Read<T> { Some(T { name: "new".into(), ..sample() }) }
    }
    new {
        waveform!(2);
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
        pub(super) struct T { waves: Vec<Waveform>, #[serde(default)] size: u32, name: String, last: Waveform }
        pub(super) fn sample() -> T {
            T { waves: vec![Waveform(vec![2, 0])], size: 0, name: "new".into(), last: Waveform(vec![2]) }
        }
        pub(super) fn other() -> Read<T> { Some(T { name: "old".into(), ..sample() }) }
    }
}

/// An opaque type has another version.
mod named {
    use super::*;

    macro_rules! version {
        ($name:ident $version:literal) => {
            mod $name {
                use super::*;

                waveform!($version);

                #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
                pub(super) struct T {
                    last: Waveform,
                }

                pub(super) fn sample() -> T {
                    T {
                        last: Waveform(vec![$version]),
                    }
                }

                fn other() -> Read<T> {
                    None
                }

                service!();
            }
        };
    }

    version!(old 1);
    version!(new 2);

    #[test]
    fn another_version_of_an_opaque_type_is_refused() {
        runtime().block_on(async {
            for medium in ["mem", "tcp"] {
                old::call(medium, new::Server, None, false).await;
                new::call(medium, old::Server, None, false).await;
                old::call(medium, old::Server, Some(old::sample()), true).await;
                new::call(medium, new::Server, Some(new::sample()), true).await;
            }
        });
    }

    #[test]
    fn both_versions_are_named() {
        runtime().block_on(async {
            let pair = old::Server.serve("mem").await;
            let root: Netref<dyn new::Service> = pair.root().await;
            let (mut last, ..) = within(root.call().look()).await.unwrap();
            let (many, _sent) = mpsc::channel(3);
            let (one, _sent_once) = oneshot::channel();
            let errors = [
                within(root.call().give()).await.map(drop),
                within(within(root.call().stream()).await.unwrap().next())
                    .await
                    .unwrap()
                    .map(drop),
                within(last.latest()).await.map(drop),
                within(root.call().send(many, one)).await,
            ];
            let whats = [
                "what `give` returned",
                "what comes in a stream",
                "what is watched",
                "what was sent to a channel",
            ];
            for (what, error) in whats.iter().zip(errors) {
                let error = error.unwrap_err();
                let message = error.message();
                assert!(message.starts_with(&format!("{what} is no ")), "{message}");
                let of = |version: u8| {
                    format!("`T where T {{last: lab.Waveform}}, lab.Waveform version {version}`")
                };
                let differ = format!("{} cannot be read as {}, for they differ at `last`", of(1), of(2));
                assert!(message.ends_with(&differ), "{message}");
            }
            drop((root, last));
            pair.at_rest().await;
        });
    }
}

versions! {
    a_variant_is_added_and_not_used:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { A, B(u8) }
        pub(super) fn sample() -> T { T::A }
        pub(super) fn other() -> Read<T> { Some(T::B(3)) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { New { of: Vec<T> }, A, B(u16) }
        pub(super) fn sample() -> T { T::B(3) }
        pub(super) fn other() -> Read<T> { Some(T::A) }
    }
}

/// A number has become wider, a value optional, deep inside.
mod nested {
    use super::*;

    versions! {
        numbers_are_wider_and_values_optional:
        old {
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Inner { at: u16, volts: f32 }
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Of<V> { value: V }
            pub(super) type T = BTreeMap<String, Vec<(u8, Of<Inner>)>>;
            pub(super) fn sample() -> T {
                BTreeMap::from([("k".into(), vec![(1, Of { value: Inner { at: 300, volts: 1.5 } })])])
            }
            pub(super) fn other() -> Read<T> { Some(sample()) }
        }
        new {
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Inner { volts: f64, at: u64, #[serde(default)] label: String }
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Of<V> { value: V }
            pub(super) type T = BTreeMap<String, Vec<(u16, Of<Inner>)>>;
            pub(super) fn sample() -> T {
                let inner = Inner { at: 300, volts: 1.5, label: String::new() };
                BTreeMap::from([("k".into(), vec![(1, Of { value: inner })])])
            }
            pub(super) fn other() -> Read<T> { Some(sample()) }
        }
    }
}

versions! {
    what_was_there_always_may_be_missing:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: u8 }
        pub(super) fn sample() -> T { T { value: 1 } }
        // An option is no value, whatever is in it.
        pub(super) fn other() -> Read<T> { None }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: Option<u8> }
        pub(super) fn sample() -> T { T { value: None } }
        pub(super) fn other() -> Read<T> { Some(T { value: Some(1) }) }
    }
}

versions! {
    a_variant_that_the_reader_lacks_is_used:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { A }
        pub(super) fn sample() -> T { T::A }
        pub(super) fn other() -> Read<T> { None }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { A, B }
        pub(super) fn sample() -> T { T::B }
        pub(super) fn other() -> Read<T> { Some(T::A) }
    }
}

versions! {
    nothing_is_left_of_the_old_type:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: String }
        pub(super) fn sample() -> T { T { value: "a".into() } }
        pub(super) fn other() -> Read<T> { None }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: Vec<u32> }
        pub(super) fn sample() -> T { T { value: vec![1] } }
        pub(super) fn other() -> Read<T> { None }
    }
}

/// Peers that say by hand what their types look like, or do not.
#[cfg(unix)]
mod by_hand {
    use std::borrow::Cow;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use bytes::Bytes;
    use farref::message::{Call, Message, Operation, Return, SHAPES, Verdict};
    use farref::protocol::{CancelReason, Op};
    use farref::{Connection, Reconnect, Server, connect};
    use farref_framing::{CloseReason, Role};
    use farref_integration_tests::raw_peer::{Heard, RawPeer, call, hello_with, root_of};

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Wide {
        a: u64,
        #[serde(default)]
        b: u8,
    }

    #[remote]
    trait Taker {
        fn take(&self, value: Wide) -> Result<()>;
        fn count(&self) -> Result<u32>;
        async fn give(&self) -> Result<Wide>;
    }

    /// What was taken, in order; `None` for a look at the count.
    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<Option<Wide>>>>);

    #[remote]
    impl Taker for Taken {
        fn take(&self, value: Wide) -> Result<()> {
            self.0.lock().unwrap().push(Some(value));
            Ok(())
        }

        fn count(&self) -> Result<u32> {
            let mut taken = self.0.lock().unwrap();
            taken.push(None);
            Ok(taken.len() as u32)
        }

        async fn give(&self) -> Result<Wide> {
            unreachable!()
        }
    }

    /// `struct <name> { a: u8 }`, and a tuple of it alone.
    fn narrow(name: u8) -> Vec<u8> {
        vec![0x16, 0, 1, 1, name, 0, 3, 1, 1, b'a', 1]
    }

    fn arguments(name: u8) -> Vec<u8> {
        [vec![0x13, 1], narrow(name)].concat()
    }

    /// FNV-1a, folded.
    fn fingerprint(description: &[u8]) -> u32 {
        let hash = description.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash ^ (hash >> 32)) as u32
    }

    /// A raw peer that tells what its types look like.
    fn dial(path: &std::path::Path) -> RawPeer {
        meet(
            std::os::unix::net::UnixStream::connect(path).unwrap(),
            Role::Dialer,
        )
    }

    fn meet(stream: std::os::unix::net::UnixStream, role: Role) -> RawPeer {
        let mut peer = RawPeer::new(stream, role);
        let Message::Hello(mut hello) = hello_with(root_of::<dyn Taker>()) else {
            unreachable!()
        };
        hello.features = SHAPES;
        peer.say(&Message::Hello(hello));
        assert!(matches!(peer.hear(), Heard::Message(Message::Hello(hello), _) if hello.features == SHAPES));
        peer
    }

    fn taking(number: u64, name: u8) -> Message<'static> {
        taking_of(number, fingerprint(&arguments(name)))
    }

    fn taking_of(number: u64, shape: u32) -> Message<'static> {
        let mut taking: Call<'static> = call::<dyn Taker>(number, 0, "take");
        if let Operation::Known(op) = &taking.operation
            && let Op::Method {
                interface, method, ..
            } = **op
        {
            taking.operation = Operation::Known(Cow::Owned(Op::Method {
                interface,
                method,
                shape,
            }));
        }
        Message::Call(taking)
    }

    fn counting(number: u64) -> Message<'static> {
        Message::Call(call::<dyn Taker>(number, 0, "count"))
    }

    fn asked(peer: &mut RawPeer) -> u32 {
        loop {
            match peer.hear() {
                Heard::Message(Message::GetShape { shape }, _) => return shape,
                Heard::Message(Message::Return(returned), _) => panic!("{returned:?}"),
                Heard::Message(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    struct House {
        server: Server,
        path: std::path::PathBuf,
        taken: Taken,
        runtime: tokio::runtime::Runtime,
        _directory: tempfile::TempDir,
    }

    impl House {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("socket");
            let (runtime, taken) = (runtime(), Taken::default());
            let server = Server::of::<dyn Taker>(taken.clone());
            runtime
                .block_on(server.listen(format!("unix:{}", path.display())))
                .unwrap();
            Self {
                server,
                path,
                taken,
                runtime,
                _directory: directory,
            }
        }

        fn taken(&self) -> Vec<Option<Wide>> {
            self.taken.0.lock().unwrap().clone()
        }
    }

    fn wide(a: u64) -> Option<Wide> {
        Some(Wide { a, b: 0 })
    }

    #[test]
    fn calls_behind_one_that_cannot_be_read_yet_wait_and_keep_their_order() {
        let house = House::new();
        let mut peer = dial(&house.path);
        peer.say_with(&taking(1, b'N'), &[5]);
        assert_eq!(asked(&mut peer), fingerprint(&arguments(b'N')));
        peer.say(&counting(2));
        peer.say_with(&taking(3, b'N'), &[6]);
        let shape = fingerprint(&arguments(b'N'));
        peer.say_with(&Message::Shape { shape }, &arguments(b'N'));
        assert_eq!(peer.answer_to(1).0, Verdict::Value);
        assert_eq!(peer.answer_to(2), (Verdict::Value, Bytes::from_static(&[2])));
        assert_eq!(peer.answer_to(3).0, Verdict::Value);
        assert_eq!(house.taken(), [wide(5), None, wide(6)]);
        // Known by now.
        peer.say_with(&taking(4, b'N'), &[7]);
        assert_eq!(peer.answer_to(4).0, Verdict::Value);
    }

    /// It was asked what type nothing is of.
    #[test]
    fn arguments_of_which_nothing_is_said_are_read_as_the_readers_own_types() {
        let house = House::new();
        let mut peer = dial(&house.path);
        peer.say_with(&taking_of(1, 0), &[5, 6]);
        peer.say_with(&taking_of(2, 0), &[5]);
        assert_eq!(peer.answer_to(1).0, Verdict::Value);
        let (verdict, error) = peer.answer_to(2);
        assert_eq!(
            (verdict, error[0]),
            (Verdict::Fault { started: false }, 19),
            "malformed"
        );
        assert_eq!(house.taken(), [Some(Wide { a: 5, b: 6 })]);
    }

    #[test]
    fn a_call_whose_shape_never_comes_is_given_up_and_what_waits_behind_it_goes_on() {
        let house = House::new();
        let mut peer = dial(&house.path);
        // Cancelled.
        peer.say_with(&taking(1, b'P'), &[5]);
        asked(&mut peer);
        peer.say(&counting(2));
        peer.say(&Message::Cancel {
            call: 1,
            reason: CancelReason::Dropped,
        });
        fails(&mut peer, 1);
        assert_eq!(peer.answer_to(2).0, Verdict::Value);
        // Its time is over.
        let Message::Call(mut taking) = taking(3, b'P') else {
            unreachable!()
        };
        taking.time_left = Some(Duration::from_millis(1).as_nanos() as u64);
        peer.say_with(&Message::Call(taking), &[5]);
        fails(&mut peer, 3);
        peer.say(&counting(4));
        assert_eq!(peer.answer_to(4).0, Verdict::Value);
        assert_eq!(house.taken(), [None, None]);
        // The answer comes late, and nobody is surprised.
        let shape = fingerprint(&arguments(b'P'));
        peer.say_with(&Message::Shape { shape }, &arguments(b'P'));
        peer.say(&counting(5));
        assert_eq!(peer.answer_to(5).0, Verdict::Value);
    }

    /// The call has ended with a fault.
    fn fails(peer: &mut RawPeer, number: u64) {
        let (verdict, _) = peer.answer_to(number);
        assert!(matches!(verdict, Verdict::Fault { .. }), "{verdict:?}");
    }

    #[test]
    fn what_is_told_has_to_be_what_was_asked_for() {
        let house = House::new();
        // Nothing, and something else.
        for (name, asked_for, told) in [
            (b'A', arguments(b'A'), vec![]),
            (b'B', arguments(b'B'), arguments(b'C')),
        ] {
            let mut peer = dial(&house.path);
            peer.say_with(&taking(1, name), &[5]);
            let shape = asked(&mut peer);
            assert_eq!(shape, fingerprint(&asked_for));
            peer.say(&counting(2));
            peer.say_with(&Message::Shape { shape }, &told);
            let (verdict, body) = peer.answer_to(1);
            assert_eq!(verdict, Verdict::Fault { started: false });
            assert_eq!(body[0], 11, "schema mismatch");
            assert_eq!(peer.answer_to(2).0, Verdict::Value);
        }
        assert_eq!(house.taken(), [None, None]);
        // Not asked for.
        let mut peer = dial(&house.path);
        peer.say_with(&Message::Shape { shape: 1 }, &arguments(b'A'));
        assert_eq!(peer.ending().code, CloseReason::BREACH);
    }

    /// Gives a value of a type of its own, and says what that looks like when it is asked.
    fn gives(mut peer: RawPeer) {
        let shape = fingerprint(&narrow(b'R'));
        let number = loop {
            match peer.hear() {
                Heard::Message(Message::Call(call), _) => break call.call,
                Heard::Message(..) => {}
                other => panic!("{other:?}"),
            }
        };
        let returned = Return {
            call: number,
            verdict: Verdict::Value,
            shape,
            descriptors: [].into_iter().collect(),
            streams: Bytes::new(),
        };
        peer.say_with(&Message::Return(returned), &[9]);
        assert_eq!(asked(&mut peer), shape);
        peer.say_with(&Message::Shape { shape }, &narrow(b'R'));
        // Until the other side has got it.
        while !matches!(peer.hear(), Heard::Closing(_) | Heard::End) {}
    }

    #[test]
    fn a_relay_asks_where_it_came_from() {
        let house = House::new();
        let path = house.path.clone();
        let host = std::thread::spawn(move || gives(dial(&path)));
        let House { server, runtime, .. } = house;
        runtime.block_on(async {
            within(server.wait_for(|stats| stats.connections > 0)).await;
            let back: Connection = server.connections().pop().unwrap();
            let far: Netref<dyn Taker> = within(back.root()).await.unwrap();
            let through = pair::<dyn Taker>("mem", far).await;
            let root: Netref<dyn Taker> = through.root().await;
            assert_eq!(within(root.call().give()).await.unwrap(), Wide { a: 9, b: 0 });
            drop(root);
            through.at_rest().await;
            within(server.shutdown(Duration::ZERO)).await;
        });
        host.join().unwrap();
    }

    #[test]
    fn so_does_one_that_comes_back_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let host = std::thread::spawn(move || gives(meet(listener.accept().unwrap().0, Role::Listener)));
        runtime().block_on(async {
            let connect = connect(format!("unix:{}", path.display()));
            let there = within(connect.reconnecting(Reconnect::default())).await.unwrap();
            let far: Netref<dyn Taker> = there.root().unwrap();
            let through = pair::<dyn Taker>("mem", far).await;
            let root: Netref<dyn Taker> = through.root().await;
            assert_eq!(within(root.call().give()).await.unwrap(), Wide { a: 9, b: 0 });
            drop(root);
            through.at_rest().await;
            within(there.close()).await;
        });
        host.join().unwrap();
    }
}
