//! How calls end: in exactly one way, truthfully, with the cause and the way that it came.

use std::sync::Arc;

use bytes::Bytes;
use farref::transport::memory::End;
use farref::{Certainty, Config, Error, ErrorKind, Netref, Result, remote};
use farref_integration_tests::bench::{Bench, Count, Counter, Fault, Named, Rig, Trouble};
use farref_integration_tests::media::{over_every_medium, pair, rough_pair, rough_pair_of, runtime, within};
use farref_integration_tests::rough::Rough;
use serde::{Deserialize, Serialize};

/// Fails in every way there is.
#[remote]
trait Failing {
    async fn chain(&self) -> Result<()>;
    fn chain_blocking(&self) -> Result<()>;
    async fn pass_on(&self, to: Netref<dyn Failing>) -> Result<()>;
    async fn typed(&self, with: Option<Netref<dyn Counter>>) -> std::result::Result<u8, Typed>;
    fn panic_with(&self, what: u8) -> Result<()>;
    async fn panic_late(&self) -> Result<()>;
    async fn unserialisable(&self) -> Result<Odd>;
    async fn too_long(&self, length: u64) -> Result<Bytes>;
    async fn takes(&self, odd: Odd) -> Result<()>;
    async fn ok(&self) -> Result<u8>;
}

/// The user's own error, with a reference in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Typed {
    WithObject(Netref<dyn Counter>),
    Plain { code: i32, text: String },
    Call(Error),
}

impl std::fmt::Display for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "typed: {self:?}")
    }
}

impl From<Error> for Typed {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

/// A value that cannot be written if it is odd, and cannot be read if it is 2.
#[derive(Debug, PartialEq)]
struct Odd(u8);

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0 % 2 == 1 {
            return Err(serde::ser::Error::custom("odd numbers stay here"));
        }
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Odd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            2 => Err(serde::de::Error::custom("two is one too many")),
            other => Ok(Self(other)),
        }
    }
}

struct Fails;

fn deep() -> Result<()> {
    use farref::Context as _;
    let inner = std::io::Error::new(std::io::ErrorKind::NotFound, "no such probe");
    Err(inner).context("channel 3 is dead").context("cannot measure")
}

#[remote]
impl Failing for Fails {
    async fn chain(&self) -> Result<()> {
        deep()
    }

    fn chain_blocking(&self) -> Result<()> {
        deep()
    }

    async fn pass_on(&self, to: Netref<dyn Failing>) -> Result<()> {
        to.call().chain().await
    }

    async fn typed(&self, with: Option<Netref<dyn Counter>>) -> std::result::Result<u8, Typed> {
        match with {
            Some(counter) => Err(Typed::WithObject(counter)),
            None => Err(Typed::Plain {
                code: -7,
                text: "no".into(),
            }),
        }
    }

    fn panic_with(&self, what: u8) -> Result<()> {
        match what {
            0 => panic!("text"),
            1 => panic!("number {what}"),
            _ => std::panic::panic_any(what),
        }
    }

    async fn panic_late(&self) -> Result<()> {
        tokio::task::yield_now().await;
        panic!("after a while")
    }

    async fn unserialisable(&self) -> Result<Odd> {
        Ok(Odd(1))
    }

    async fn too_long(&self, length: u64) -> Result<Bytes> {
        Ok(vec![0; usize::try_from(length)?].into())
    }

    async fn takes(&self, _odd: Odd) -> Result<()> {
        Ok(())
    }

    async fn ok(&self) -> Result<u8> {
        Ok(7)
    }
}

#[test]
fn a_failure_brings_its_causes_and_the_way_it_came() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Failing>(medium, Fails).await;
        let far: Netref<dyn Failing> = joined.root().await;
        for error in [
            within(far.call().chain()).await.unwrap_err(),
            within(far.call().chain_blocking()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Remote);
            let chain: Vec<_> = error.chain().map(|cause| cause.to_string()).collect();
            assert_eq!(chain, ["cannot measure", "channel 3 is dead", "no such probe"]);
            assert!(error.trace().contains("chain"), "{:?}", error.trace());
            assert_eq!(
                error.trace().lines().count(),
                1,
                "one connection was crossed: {:?}",
                error.trace()
            );
        }
        // There and back again.
        let near: Netref<dyn Failing> = Netref::of(Fails);
        let error = within(far.call().pass_on(near)).await.unwrap_err();
        assert_eq!(error.message(), "cannot measure");
        let lines: Vec<_> = error.trace().lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].ends_with("chain") && lines[1].ends_with("pass_on"),
            "innermost first: {lines:?}"
        );
        assert_eq!(within(far.call().ok()).await.unwrap(), 7);
    });
}

#[test]
fn a_users_own_error_crosses_as_the_value_it_is_references_included() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Failing>(medium, Fails).await;
        let far: Netref<dyn Failing> = joined.root().await;
        match within(far.call().typed(None)).await.unwrap_err() {
            Typed::Plain { code: -7, text } => assert_eq!(text, "no"),
            other => panic!("{other:?}"),
        }
        let mine: Netref<dyn Counter> = Netref::of(Count::default());
        match within(far.call().typed(Some(mine.clone()))).await.unwrap_err() {
            Typed::WithObject(back) => assert!(back.same_object(&mine) && back.is_local()),
            other => panic!("{other:?}"),
        }
        // A failure of the call itself has its place in it.
        within(joined.client.close()).await;
        match within(far.call().typed(None)).await.unwrap_err() {
            Typed::Call(error) => assert_eq!(error.certainty(), Some(Certainty::NotSent)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_panic_fails_that_call_alone() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Failing>(medium, Fails).await;
        let far: Netref<dyn Failing> = joined.root().await;
        for (what, says) in [(0, "text"), (1, "number 1"), (2, "")] {
            let error = within(far.call().panic_with(what)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Panicked);
            assert!(error.message().contains(says), "{error:?}");
            assert!(error.trace().contains("panic_with"), "{error:?}");
        }
        let error = within(far.call().panic_late()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message().as_ref()),
            (ErrorKind::Panicked, "after a while")
        );
        assert_eq!(within(far.call().ok()).await.unwrap(), 7);
        drop(far);
        joined.at_rest().await;
    });
}

#[test]
fn what_cannot_be_written_or_read_fails_that_call_alone() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Failing>(medium, Fails).await;
        let far: Netref<dyn Failing> = joined.root().await;
        let error = within(far.call().takes(Odd(1))).await.unwrap_err();
        assert!(error.to_string().contains("odd numbers stay here"), "{error:?}");
        let error = within(far.call().takes(Odd(2))).await.unwrap_err();
        assert!(error.to_string().contains("two is one too many"), "{error:?}");
        let error = within(far.call().unserialisable()).await.unwrap_err();
        assert!(error.to_string().contains("odd numbers stay here"), "{error:?}");
        assert!(error.to_string().contains("unserialisable"), "{error:?}");
        let error = within(far.call().too_long(17 << 20)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
        assert_eq!(within(far.call().ok()).await.unwrap(), 7);
        drop(far);
        joined.at_rest().await;
    });
}

/// The same interface with another method, and another one with other arguments.
mod later {
    use farref::{Result, remote};

    #[remote]
    pub(super) trait Failing {
        async fn ok(&self) -> Result<u8>;
        async fn is_new(&self, at: u8) -> Result<u8>;
        async fn takes(&self, odd: String) -> Result<()>;
        async fn has_a_default(&self) -> Result<u8> {
            Ok(9)
        }
        fn has_a_default_too(&self) -> Result<u8> {
            Ok(10)
        }
    }
}

#[test]
fn a_newer_caller_is_told_what_the_older_side_lacks() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Failing>(medium, Fails).await;
        let far: Netref<dyn later::Failing> = joined.root().await;
        assert_eq!(within(far.call().ok()).await.unwrap(), 7, "what both have works");
        let error = within(far.call().is_new(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented, "{error:?}");
        let error = within(far.call().takes("four".into())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error:?}");
        assert!(error.to_string().contains("odd: Odd"), "{error}");
        assert_eq!(within(far.call().has_a_default()).await.unwrap(), 9);
        assert_eq!(within(far.call().has_a_default_too()).await.unwrap(), 10);
        let started = far.call().has_a_default().start();
        assert_eq!(within(started).await.unwrap(), 9);
        let waited = far.clone();
        let waited = tokio::task::spawn_blocking(move || {
            let sum = waited.has_a_default_too()? + waited.blocking().has_a_default()?;
            let started = waited.call().has_a_default().start().wait()?;
            Result::<u8>::Ok(sum + started)
        });
        assert_eq!(within(waited).await.unwrap().unwrap(), 28);
        drop(far);
        joined.at_rest().await;
    });
}

#[test]
fn what_was_handed_out_as_the_parent_is_not_the_child() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let mine: Netref<dyn Counter> = Netref::of(Count::default());
        let parent: Netref<dyn Named> = mine.upcast();
        let sent = farref_integration_tests::bench::Everything {
            result: Some(Ok(parent)),
            ..Default::default()
        };
        // The other side is shown `dyn Named`, and cannot make more of it.
        let back = within(bench.call().echo(sent)).await.unwrap();
        assert!(back.result.unwrap().unwrap().same_object(&mine));
    });
}

#[test]
fn a_call_that_was_never_written_was_not_sent_and_one_that_was_may_have_run() {
    let runtime = runtime();
    runtime.block_on(async {
        let rough = Rough::new(1 << 16, None);
        let (rig, mut tells, _gate) = Rig::new();
        let joined = rough_pair::<dyn Bench>(&rough, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let line = rough.line();
        let count = Arc::new(Count::default());
        let running = bench.call().wait_for_ever(Netref::share(&count)).start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        // Answered, but the answer is held up.
        line.back.hold();
        let (written, before) = (line.there.written(), line.back.written());
        let answered = bench.call().add(1, 1).start();
        within(line.there.written_beyond(written)).await;
        within(line.back.written_beyond(before)).await;
        // From here on nothing is written any more.
        line.there.stop();
        let handed_over = bench.call().add(2, 2).start();
        within(line.there.refused()).await;
        // More than is prepared for the carrier at a time.
        let unsent: Vec<_> = (0..20)
            .map(|_| bench.call().bytes(vec![0; 10_000].into()).start())
            .collect();
        line.cutter.cut_losing();
        line.back.release();
        line.there.release();
        let ends = [
            within(running).await.map(|()| 0),
            within(answered).await,
            within(handed_over).await,
        ];
        let certainties = ends.map(|end| end.unwrap_err().certainty().unwrap());
        assert_eq!(certainties, [Certainty::Unknown; 3]);
        let mut certainties = Vec::new();
        for call in unsent {
            certainties.push(within(call).await.unwrap_err().certainty().unwrap());
        }
        assert_eq!(certainties.last(), Some(&Certainty::NotSent), "{certainties:?}");
        assert!(
            certainties.is_sorted_by_key(|certainty| *certainty != Certainty::Unknown),
            "{certainties:?}"
        );
        assert_eq!(within(tells.recv()).await, Some("cancelled"));
        let late = within(bench.call().add(4, 4)).await.unwrap_err();
        assert_eq!(late.certainty(), Some(Certainty::NotSent));
    });
}

/// Wherever the line is cut: each call has one outcome, and none that ran says it was not sent.
#[test]
fn a_line_that_is_cut_anywhere_leaves_true_outcomes_and_empty_tables() {
    let seed = 7;
    println!("seed {seed}");
    let runtime = runtime();
    runtime.block_on(async {
        for cut in 0..150 {
            let rough = Rough::new(1 << 12, Some(seed + cut));
            let (rig, _tells, gate) = Rig::new();
            gate.send_replace(true);
            let joined = rough_pair::<dyn Bench>(&rough, rig).await;
            let bench: Netref<dyn Bench> = joined.root().await;
            let counter = within(bench.call().counter()).await.unwrap();
            let host = joined.host().await;
            let (server, client) = (host.clone(), joined.client.clone());
            let from = if cut % 2 == 0 { End::First } else { End::Second };
            rough.line().cutter.cut_after_from(from, cut * 29);
            let mine = Arc::new(Count::default());
            let mut calls = Vec::new();
            for n in 0..20_u64 {
                calls.push(
                    counter
                        .call()
                        .note(n, vec![0; if n % 7 == 3 { 20_000 } else { 10 }].into())
                        .start(),
                );
                if n % 5 == 0 {
                    bench.call().call_back(Netref::share(&mine), 2).detach();
                    drop(bench.call().many(3).start());
                }
            }
            let mut outcomes = Vec::new();
            for call in calls {
                outcomes.push(within(call).await);
            }
            // The object lives on over there; what it has seen is the truth.
            for outcome in &outcomes {
                if let Err(error) = outcome {
                    assert!(
                        matches!(error.kind(), ErrorKind::Disconnected(_)),
                        "cut {cut}: {error:?}"
                    );
                }
            }
            rough.line().cutter.cut();
            within(client.closed()).await;
            within(server.closed()).await;
            for side in [&client, &server] {
                // Outcomes stay until they are taken, and some tasks have yet to run.
                let empty = async {
                    let mut stats = side.stats();
                    while (stats.exports, stats.calls, stats.answers) != (0, 0, 0) {
                        tokio::task::yield_now().await;
                        stats = side.stats();
                    }
                };
                within(empty).await;
            }
            assert_eq!(
                Arc::strong_count(&mine),
                1,
                "cut {cut}: what the peer held of ours is free"
            );
        }
    });
}

#[test]
fn no_call_that_ran_says_that_it_was_not_sent() {
    let runtime = runtime();
    runtime.block_on(async {
        for cut in 0..200_u64 {
            let rough = Rough::new(1 << 10, Some(cut));
            let count = Arc::new(Count::default());
            let joined = rough_pair::<dyn Counter>(&rough, Netref::<dyn Counter>::share(&count)).await;
            let counter: Netref<dyn Counter> = joined.root().await;
            rough.line().cutter.cut_after_from(End::First, cut * 11);
            let calls: Vec<_> = (0..30)
                .map(|n| {
                    let ballast = vec![0; if n % 11 == 5 { 17_000 } else { 0 }];
                    counter.call().note(n, ballast.into()).start()
                })
                .collect();
            let mut not_sent = Vec::new();
            for (n, call) in calls.into_iter().enumerate() {
                match within(call).await {
                    Ok(()) => {}
                    Err(error) if error.certainty() == Some(Certainty::Unknown) => {}
                    Err(error) if error.certainty() == Some(Certainty::NotSent) => not_sent.push(n as u64),
                    Err(error) => panic!("cut {cut}: {error:?}"),
                }
            }
            rough.line().cutter.cut();
            within(joined.client.closed()).await;
            within(joined.server.wait_for(|stats| stats.connections == 0)).await;
            let local: Netref<dyn Counter> = Netref::share(&count);
            let notes = within(local.call().notes()).await.unwrap();
            assert!(
                notes.iter().all(|note| !not_sent.contains(note)),
                "cut {cut}: {notes:?} ran, {not_sent:?}"
            );
            assert!(notes.is_sorted(), "cut {cut}: in order, if at all");
        }
    });
}

#[test]
fn every_call_that_was_under_way_ends_when_the_peer_breaks_off() {
    over_every_medium(async |medium| {
        let (rig, mut tells, _gate) = Rig::new();
        let joined = pair::<dyn Bench>(medium, rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let count = Arc::new(Count::default());
        let waiting = bench.call().wait_for_ever(Netref::share(&count)).start();
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        let opening = bench.call().slow_counter();
        let piped = opening.pipe().next().start();
        let blocked = bench.clone();
        let blocked = tokio::task::spawn_blocking(move || blocked.wait_blocking());
        assert_eq!(within(tells.recv()).await, Some("waiting"));
        drop(joined.server);
        let kinds = [
            within(waiting).await.unwrap_err().kind(),
            within(piped).await.unwrap_err().kind(),
            within(opening).await.unwrap_err().kind(),
            within(blocked).await.unwrap().unwrap_err().kind(),
        ];
        for kind in kinds {
            assert!(
                matches!(kind, ErrorKind::Disconnected(Certainty::Unknown)),
                "{kind:?}"
            );
        }
    });
}

#[test]
fn limits_of_the_peer_fail_the_one_call_that_would_exceed_them() {
    let runtime = runtime();
    runtime.block_on(async {
        let rough = Rough::new(1 << 16, None);
        let mut few = Config::default();
        few.max_objects = 50;
        let joined = rough_pair_of::<dyn Bench>(&rough, Rig::new().0, few.clone(), few).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let error = within(bench.call().many(100)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
        let holder = within(bench.call().many(40)).await.unwrap();
        let error = within(bench.call().many(40)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error:?}");
        drop(holder);
        let mut again = within(bench.call().many(40)).await;
        for _ in 0..1000 {
            if again.is_ok() {
                break;
            }
            within(joined.client.ping()).await.unwrap();
            again = within(bench.call().many(40)).await;
        }
        assert!(again.is_ok(), "a place that is free is free");
        drop((again, bench));
        joined.at_rest().await;
    });
}

#[test]
fn errors_of_a_kind_of_their_own_stay_what_they_are() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::new().0).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        for trouble in [Trouble::Fire, Trouble::Smoke { channel: 255 }] {
            let fault = within(bench.call().fail(trouble.clone())).await.unwrap_err();
            assert_eq!(fault, Fault::Trouble(trouble));
        }
    });
}
