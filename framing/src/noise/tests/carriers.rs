//! Whole carriers: handshake, records and end over real pipes and sockets.

use std::task::Poll;

use farref_transport::memory::cuttable_pair;
use farref_transport::tcp::Tcp;
use farref_transport::{Carrier, Guard, Transport};

use super::*;
use crate::noise::error::{Mismatch, Misuse};
use crate::{Batch, Link, LinkConfig, LinkError, StreamKey, StreamLink};

async fn secured(near: StreamCarrier, far: StreamCarrier) -> (Secured, Secured) {
    let (near, far) = tokio::join!(
        secure(near, Role::Dialer, config(1)),
        secure(far, Role::Listener, config(2))
    );
    (near.unwrap(), far.unwrap())
}

/// Writes `says`, closes, and reads what the other side says meanwhile.
async fn say(carrier: StreamCarrier, says: &[u8]) -> Vec<u8> {
    let StreamCarrier {
        mut rx,
        mut tx,
        guard,
        ..
    } = carrier;
    let write = async {
        write_all(&mut *tx, says).await.unwrap();
        poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
    };
    let read = async {
        let mut heard = Vec::new();
        let mut into = BytesMut::new();
        loop {
            into.clear();
            into.reserve(64 * 1024);
            if poll_fn(|cx| rx.poll_read(cx, &mut into)).await.unwrap() == 0 {
                return heard;
            }
            heard.extend_from_slice(&into);
        }
    };
    let ((), heard) = tokio::join!(write, read);
    drop(guard);
    heard
}

fn text(salt: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + salt) as u8).collect()
}

#[test]
fn both_ends_talk_at_once_over_any_pipe() {
    for (room, len) in [(1, 3000), (16, 200_000), (100, 10 << 20), (1 << 18, 10 << 20)] {
        let (near, far) = memory::pair(room);
        let (ours, theirs) = (text(1, len), text(2, len));
        let (heard, there) = block_on(async {
            let (near, far) = secured(near, far).await;
            tokio::join!(say(near.carrier, &ours), say(far.carrier, &theirs))
        });
        assert!(heard == theirs && there == ours, "pipe of {room}");
    }
}

#[test]
fn both_ends_talk_at_once_over_a_writer_that_buffers() {
    let (near, far) = tokio::io::duplex(1000);
    let buffered = |io| StreamCarrier::from_io(tokio::io::BufStream::new(io), CarrierInfo::new("duplex"));
    let (ours, theirs) = (text(1, 300_000), text(2, 300_000));
    let (heard, there) = block_on(async {
        let (near, far) = secured(buffered(near), buffered(far)).await;
        tokio::join!(say(near.carrier, &ours), say(far.carrier, &theirs))
    });
    assert!(heard == theirs && there == ours);
}

/// The two ends of a connection over the loopback interface.
async fn sockets() -> (StreamCarrier, StreamCarrier) {
    let tcp = Tcp::new();
    let mut listener = tcp
        .listen(&"plain+tcp://127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let at = listener.local_addresses().remove(0);
    let (dialled, accepted) = tokio::join!(tcp.dial(&at), listener.accept());
    let stream = |carrier| match carrier {
        Carrier::Stream(stream) => stream,
        other => panic!("{other:?}"),
    };
    (stream(dialled.unwrap()), stream(accepted.unwrap()))
}

#[test]
fn both_ends_talk_at_once_over_sockets() {
    let (ours, theirs) = (text(1, 10 << 20), text(2, 10 << 20));
    let (heard, there) = block_on(async {
        let (near, far) = sockets().await;
        let (near, far) = secured(near, far).await;
        tokio::join!(say(near.carrier, &ours), say(far.carrier, &theirs))
    });
    assert!(heard == theirs && there == ours);
}

#[test]
fn a_descriptor_is_shown_only_while_nothing_waits_here() {
    block_on(async {
        let (near, far) = sockets().await;
        let (mut near, mut far) = secured(near, far).await;
        assert!(near.carrier.tx.descriptor().is_some());
        let rx = &mut *far.carrier.rx;
        assert!(rx.descriptor().is_some());
        write_all(&mut *near.carrier.tx, b"hello").await.unwrap();
        let mut into = BytesMut::with_capacity(2);
        poll_fn(|cx| rx.poll_read(cx, &mut into)).await.unwrap();
        assert!(rx.descriptor().is_none(), "the socket does not know of the rest");
        into.reserve(100);
        poll_fn(|cx| rx.poll_read(cx, &mut into)).await.unwrap();
        assert_eq!(into, "hello");
        assert!(rx.descriptor().is_some());
    });
}

#[test]
fn a_refusal_is_heard_over_sockets() {
    block_on(async {
        let (near, far) = sockets().await;
        let (plain, encrypted) = tokio::join!(
            plain_link(near, Role::Dialer),
            secure(far, Role::Listener, config(2))
        );
        assert_eq!(plain, LinkError::Incompatible(crate::Mismatch::Encryption));
        assert!(encrypted.is_err());
    });
}

/// It used to be hidden by an impostor that kept the line open, until a timeout took its place.
#[test]
fn an_impostor_cannot_hide_the_error_by_keeping_silent() {
    block_on(async {
        let (near, mut far) = memory::pair(1 << 16);
        let pinned = Config {
            expected: Some(identity(3).public()),
            ..config(1)
        };
        let impostor = async {
            let mut listener = Side::new(Role::Listener, config(2));
            loop {
                let mut into = BytesMut::with_capacity(100);
                poll_fn(|cx| far.rx.poll_read(cx, &mut into)).await.unwrap();
                listener.hear(&into);
                let answer = listener.handshake.take_output();
                if !answer.is_empty() {
                    return write_all(&mut *far.tx, &answer).await.unwrap();
                }
            }
        };
        let (refused, ()) = tokio::join!(secure(near, Role::Dialer, pinned), impostor);
        assert!(matches!(refused, Err(Error::Untrusted { .. })), "{refused:?}");
        drop(far); // open until here
    });
}

#[test]
fn a_secured_carrier_says_so() {
    block_on(async {
        let (mut near, far) = memory::pair(1 << 16);
        near.info.confidential = false;
        let (near, far) = secured(near, far).await;
        let (near_info, far_info) = (&near.carrier.info, &far.carrier.info);
        assert!(near_info.confidential && far_info.confidential);
        assert_eq!(
            near_info.peer,
            PeerEvidence::Key(*identity(2).public().as_bytes())
        );
        assert_eq!(far_info.peer, PeerEvidence::Key(*identity(1).public().as_bytes()));
        assert!(near_info.channel_binding.is_some());
        assert_eq!(near_info.channel_binding, far_info.channel_binding);
        assert_eq!(near.peer_static, static_public(&identity(2)));
        assert_eq!(near_info.medium, "mem");
    });
}

#[test]
fn a_pre_shared_key_alone_leaves_the_mediums_evidence() {
    block_on(async {
        let (near, mut far) = memory::pair(1 << 16);
        let evidence = PeerEvidence::Unix {
            uid: 1,
            gid: 2,
            pid: None,
        };
        far.info.peer = evidence.clone();
        let shared = || Config::shared(Psk::new([9; 32]));
        let (near, far) = tokio::join!(
            secure(near, Role::Dialer, shared()),
            secure(far, Role::Listener, shared())
        );
        assert_eq!(near.unwrap().carrier.info.peer, PeerEvidence::None);
        assert_eq!(far.unwrap().carrier.info.peer, evidence);
    });
}

#[test]
fn the_guard_outlives_the_handshake_and_goes_with_the_carrier() {
    block_on(async {
        let (mut near, far) = memory::pair(1 << 16);
        let witness = std::sync::Arc::new(());
        near.guard = Guard::new(std::sync::Arc::clone(&witness));
        let (near, _far) = secured(near, far).await;
        assert_eq!(std::sync::Arc::strong_count(&witness), 2);
        drop(near);
        assert_eq!(std::sync::Arc::strong_count(&witness), 1);
    });
}

#[test]
fn a_carrier_that_may_lose_bytes_is_refused() {
    let (mut near, _far) = memory::pair(16);
    near.info.reliable = false;
    let refused = block_on(secure(near, Role::Dialer, config(1)));
    assert!(matches!(refused, Err(Error::Misuse(Misuse::Unreliable))));
}

#[test]
fn a_cut_carrier_is_cut_off_and_not_ended() {
    block_on(async {
        let (near, far, cutter) = cuttable_pair(1 << 16);
        let (mut near, mut far) = secured(near, far).await;
        write_all(&mut *near.carrier.tx, b"part").await.unwrap();
        let mut into = BytesMut::with_capacity(100);
        poll_fn(|cx| far.carrier.rx.poll_read(cx, &mut into))
            .await
            .unwrap();
        assert_eq!(into, "part");
        cutter.cut();
        let lost = poll_fn(|cx| far.carrier.rx.poll_read(cx, &mut into)).await;
        assert!(lost.is_err());
    });
}

#[test]
fn a_carrier_that_ends_during_the_handshake_is_lost() {
    for len in [0, 20, 60] {
        let (near, mut far) = memory::pair(1 << 16);
        let refused = block_on(async {
            let bytes = &flights(config(1), config(2))[0];
            write_all(&mut *far.tx, &bytes[..len.min(bytes.len() - 1)])
                .await
                .unwrap();
            drop(far);
            secure(near, Role::Listener, config(2)).await
        });
        assert!(matches!(refused, Err(Error::Carrier(_))), "{refused:?}");
    }
}

#[test]
fn a_dropped_handshake_drops_the_carrier() {
    block_on(async {
        let (near, mut far) = memory::pair(1 << 16);
        let mut handshake = Box::pin(secure(near, Role::Dialer, config(1)));
        let pending = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        drop(handshake);
        let mut into = BytesMut::new();
        into.reserve(4096);
        assert!(poll_fn(|cx| far.rx.poll_read(cx, &mut into)).await.unwrap() > 0);
        assert_eq!(poll_fn(|cx| far.rx.poll_read(cx, &mut into)).await.unwrap(), 0);
    });
}

#[test]
fn another_pre_shared_key_is_told_at_the_dialers_first_read() {
    block_on(async {
        let (near, far) = memory::pair(1 << 16);
        let (near, far) = tokio::join!(
            async {
                let mut near = secure(near, Role::Dialer, with_psk(config(1), 9)).await.unwrap();
                let mut into = BytesMut::with_capacity(100);
                poll_fn(|cx| near.carrier.rx.poll_read(cx, &mut into)).await
            },
            secure(far, Role::Listener, with_psk(config(2), 8))
        );
        assert_eq!(RecordError::of(&near.unwrap_err()), Some(RecordError::Refused));
        assert!(matches!(
            far,
            Err(Error::Unauthentic {
                message: 3,
                psk: true
            })
        ));
    });
}

/// A link that speaks plainly over `carrier`, until it fails.
async fn plain_link(carrier: StreamCarrier, role: Role) -> LinkError {
    let (mut inlet, mut outlet, _info, _guard) = crate::open(Carrier::Stream(carrier), role).await.unwrap();
    let nonce = if role == Role::Dialer { 1 } else { 2 };
    let mut link = StreamLink::new(LinkConfig::new(role, [nonce; 16], [nonce; 32]), 0);
    let mut batch = Batch::new();
    let mut failed = None;
    loop {
        while link.poll_transmit(&mut batch, 0) {
            outlet.write(&mut batch).unwrap();
        }
        if let Some(error) = failed {
            poll_fn(|cx| outlet.poll_close(cx)).await.unwrap();
            return error;
        }
        let read = poll_fn(|cx| inlet.poll_read(cx)).await.unwrap().unwrap();
        let input = inlet.buffer(StreamKey::MAIN);
        failed = link.handle_bytes(StreamKey::MAIN, input, read.end, 0).err();
    }
}

#[test]
fn a_plain_dialer_learns_that_encryption_is_demanded() {
    block_on(async {
        let (near, far) = memory::pair(1 << 16);
        let (plain, encrypted) = tokio::join!(
            plain_link(near, Role::Dialer),
            secure(far, Role::Listener, config(2))
        );
        assert_eq!(plain, LinkError::Incompatible(crate::Mismatch::Encryption));
        assert!(matches!(encrypted, Err(Error::Incompatible(Mismatch::Plain))));
    });
}

#[test]
fn a_plain_listener_tells_that_it_does_not_encrypt() {
    block_on(async {
        let (near, far) = memory::pair(1 << 16);
        let (encrypted, plain) = tokio::join!(
            secure(near, Role::Dialer, config(1)),
            plain_link(far, Role::Listener)
        );
        let foreign = crate::Mismatch::Foreign(Foreign::Encrypted);
        assert_eq!(plain, LinkError::Incompatible(foreign));
        let error = encrypted.unwrap_err();
        assert!(matches!(error, Error::Incompatible(Mismatch::Plain)), "{error}");
        assert!(error.to_string().contains("plain+"));
    });
}

#[test]
fn foreign_protocols_are_answered_in_their_words() {
    for (said, foreign) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], Foreign::Http),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Foreign::Tls),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Foreign::Ssh),
        (b"EHLO there\r\n", Foreign::Text),
        (b"\x00\x01\x02", Foreign::Binary),
    ] {
        block_on(async {
            let (mut near, far) = memory::pair(1 << 16);
            write_all(&mut *near.tx, said).await.unwrap();
            let more = foreign.reply().map_or(&b""[..], |_| b"more of it");
            let (refused, heard) = tokio::join!(secure(far, Role::Listener, config(2)), say(near, more));
            assert_eq!(heard, foreign.reply().unwrap_or_default());
            assert_eq!(
                refused.unwrap_err().to_string(),
                Error::from(Mismatch::Foreign(foreign)).to_string()
            );
        });
    }
}

#[test]
fn a_dialer_that_meets_a_foreign_listener_says_nothing_more() {
    block_on(async {
        let (near, far) = memory::pair(1 << 16);
        let (refused, heard) = tokio::join!(
            secure(near, Role::Dialer, config(1)),
            say(far, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        );
        let http = Mismatch::Foreign(Foreign::Http);
        assert_eq!(refused.unwrap_err().to_string(), Error::from(http).to_string());
        assert_eq!(heard.len(), 14 + 34, "hello and message 1");
    });
}

#[test]
fn links_open_over_a_secured_carrier() {
    block_on(async {
        let (near, far) = memory::pair(16);
        let (near, far) = secured(near, far).await;
        let end = async |secured: Secured, role| {
            let carrier = Carrier::Stream(secured.carrier);
            let (mut inlet, mut outlet, _info, _guard) = crate::open(carrier, role).await.unwrap();
            let nonce = if role == Role::Dialer { 1 } else { 2 };
            let mut link = StreamLink::new(LinkConfig::new(role, [nonce; 16], [nonce; 32]), 0);
            link.submit(b"hello", crate::Body::EMPTY).unwrap();
            let mut batch = Batch::new();
            loop {
                while link.poll_transmit(&mut batch, 0) {
                    while outlet.write(&mut batch).unwrap() != crate::Written::All {
                        poll_fn(|cx| outlet.poll_writable(cx)).await.unwrap();
                    }
                    poll_fn(|cx| outlet.poll_flush(cx)).await.unwrap();
                }
                while let Some(event) = link.poll_event() {
                    if let crate::LinkEvent::Message(message) = event {
                        assert_eq!(message.bytes, "hello");
                        return (inlet, outlet);
                    }
                }
                let read = poll_fn(|cx| inlet.poll_read(cx)).await.unwrap().unwrap();
                let input = inlet.buffer(StreamKey::MAIN);
                link.handle_bytes(StreamKey::MAIN, input, read.end, 0).unwrap();
            }
        };
        let _both = tokio::join!(end(near, Role::Dialer), end(far, Role::Listener));
    });
}
