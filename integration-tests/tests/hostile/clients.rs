//! Servers that misbehave, met by an honest client.

use std::future::IntoFuture;
use std::os::unix::net::UnixListener;

use bytes::Bytes;
use farref::message::{Descriptor, Message, Return, Verdict};
use farref::{Certainty, ErrorKind, Netref, connect};
use farref_framing::{CloseReason, Role};
use farref_integration_tests::bench::{Bench, Count, Counter};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::raw_peer::{Heard, RawPeer, answer, hello_with, root_of};

use super::mine;

/// A server that misbehaves, met by an honest client.
fn met(
    act: impl FnOnce(RawPeer) + Send + 'static,
    client: impl AsyncFnOnce(Netref<dyn Bench>, farref::Connection),
) {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut peer = RawPeer::new(stream, Role::Listener);
        let Heard::Message(Message::Hello(_), _) = peer.hear() else {
            panic!("no hello")
        };
        peer.say(&hello_with(root_of::<dyn Bench>()));
        act(peer);
    });
    runtime.block_on(async {
        let connection = within(connect(format!("unix:{}", path.display())).into_future())
            .await
            .unwrap();
        let bench = within(connection.root()).await.unwrap();
        client(bench, connection).await;
    });
    server.join().unwrap();
}

/// The number of the next call.
fn next_call(peer: &mut RawPeer) -> u64 {
    loop {
        match peer.hear() {
            Heard::Message(Message::Call(call), _) => return call.call,
            Heard::Message(..) | Heard::Body(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_whose_server_breaks_a_rule_ends_with_one_clear_error() {
    type Act = fn(&mut RawPeer, u64);
    let acts: [(&str, Act); 6] = [
        ("there is no call 9", |peer, _| peer.say(&answer(9, []))),
        ("there is no call", |peer, call| {
            peer.say(&answer(call, [Descriptor::Owned(mine(1, 1))]));
            peer.say(&answer(call, [Descriptor::Owned(mine(1, 1))]));
        }),
        ("lends", |peer, call| {
            peer.say(&answer(call, [Descriptor::Borrowed(mine(1, 1))]))
        }),
        ("there is no export 5", |peer, call| {
            peer.say(&answer(call, [Descriptor::Home { export: 5 }]))
        }),
        ("0x7e", |peer, _| peer.say_bytes(&[0x7e], b"")),
        ("two descriptions of export 1", |peer, call| {
            peer.say(&answer(
                call,
                [Descriptor::Owned(mine(1, 1)), Descriptor::Owned(mine(1, 3))],
            ));
        }),
    ];
    for (says, act) in acts {
        met(
            move |mut peer| {
                let call = next_call(&mut peer);
                next_call(&mut peer);
                act(&mut peer, call);
                let reason = peer.ending();
                assert_eq!(reason.code, CloseReason::BREACH, "{reason}");
                assert!(reason.text.contains(says), "{says}: {reason}");
            },
            async |bench, connection| {
                let (first, second) = (bench.call().no_counter().start(), bench.call().add(1, 1).start());
                let why = within(connection.closed()).await;
                assert_eq!(why.kind(), ErrorKind::Malformed, "{why:?}");
                assert!(why.to_string().contains(says), "{says}: {why}");
                drop(within(first).await);
                let error = within(second).await.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Disconnected(Certainty::Unknown),
                    "{error:?}"
                );
                let error = within(bench.call().add(1, 1)).await.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Disconnected(Certainty::NotSent),
                    "{error:?}"
                );
            },
        );
    }
}

#[test]
fn answers_that_make_no_sense_fail_their_own_call() {
    met(
        |mut peer| {
            // A value of another type, nothing at all, an unreadable error, an error from the future.
            for (verdict, body) in [
                (Verdict::Value, &b"\xff\xff\xff"[..]),
                (Verdict::Value, b""),
                (Verdict::Value, &[1, 2, 3]),
                (Verdict::Failed, b"\xfd\xff\xff\xff\xff\xff\xff\xff\x7f"),
                (Verdict::Fault { started: true }, b"no error"),
                (Verdict::Fault { started: false }, b""),
                (Verdict::Fault { started: true }, &[250, 2, b'h', b'i', 0, 0, 0]),
            ] {
                let call = next_call(&mut peer);
                let returned = Return {
                    call,
                    verdict,
                    shape: 0,
                    descriptors: [].into_iter().collect(),
                    streams: Bytes::new(),
                };
                peer.say_with(&Message::Return(returned), body);
            }
            // References that were not asked for are given back.
            let call = next_call(&mut peer);
            peer.say_with(
                &answer(call, [Descriptor::Owned(mine(1, 1)), Descriptor::Null]),
                &[42],
            );
            assert_eq!(peer.released(1), 1);
            peer.close();
        },
        async |bench, connection| {
            for _ in 0..6 {
                let error = within(bench.call().add(1, 1)).await.unwrap_err();
                assert!(!matches!(error.kind(), ErrorKind::Disconnected(_)), "{error:?}");
            }
            let error = within(bench.call().add(1, 1)).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.message().as_ref()),
                (ErrorKind::Remote, "hi")
            );
            assert_eq!(
                within(bench.call().add(1, 1)).await.unwrap(),
                42,
                "what the peer says"
            );
            within(connection.closed()).await;
        },
    );
}

#[test]
fn a_server_that_hangs_up_is_noticed_at_once() {
    met(
        |mut peer| {
            next_call(&mut peer);
            peer.hang_up();
        },
        async |bench, connection| {
            let count: Netref<dyn Counter> = Netref::of(Count::default());
            let call = bench.call().keep(count).start();
            let error = within(call).await.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Disconnected(Certainty::Unknown),
                "{error:?}"
            );
            let why = within(connection.closed()).await;
            assert!(why.to_string().contains("ended"), "{why:?}");
        },
    );
}
