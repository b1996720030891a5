//! Floods: what a server's memory grows by under each stays under a stated figure, and another peer is answered meanwhile.
//!
//! The server is a process of its own with the limits of [`tight`](farref_integration_tests::siege::tight): 32 connections; of each
//! 20 calls with 1 MiB of arguments, 100 objects, messages of 1 MiB, 16 lanes of 64 KiB unasked, 2 MiB of large bodies, 4 MiB
//! that wait to be sent, and 4 MiB of results beyond. Each flood goes on until it has done enough, and until the other peer has had its answers.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use farref::message::{Descriptor, Message, Operation, PeerLimits, Return, Target, Verdict};
use farref::protocol::{CancelReason, Chain, Op};
use farref::{Netref, connect};
use farref_framing::READ_MOST;
use farref_framing::rpyc::{Compress, put_frame};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::raw_peer::{Heard, RawPeer, call, hello};
use farref_integration_tests::siege::{Fort, Siege, Spout, announced, frame, message, preface};

use super::mine;

/// One step of a flood.
type Step = Box<dyn FnMut()>;

/// A way to flood a server.
struct Flood {
    what: &'static str,
    /// Steps that are enough to go far beyond every limit.
    steps: usize,
    /// What the server's memory grows by at most, in MiB.
    growth: u64,
    begin: fn(&Siege) -> Step,
}

const fn flood(what: &'static str, steps: usize, growth: u64, begin: fn(&Siege) -> Step) -> Flood {
    Flood {
        what,
        steps,
        growth,
        begin,
    }
}

/// Where the figures are stated for those who run servers.
const SECURITY: &str = include_str!("../../../SECURITY.md");

/// Answers that the other peer gets while it goes on.
const ANSWERS: u64 = 40;

fn under(floods: &[Flood]) {
    let runtime = runtime();
    for Flood {
        what,
        steps,
        growth,
        begin,
    } in floods
    {
        let mut siege = Siege::begin();
        let address = format!("unix:{}", siege.socket("farref").display());
        let other: Netref<dyn Fort> = runtime.block_on(async {
            let connection = within(connect(address).into_future()).await.unwrap();
            within(connection.root()).await.unwrap()
        });
        let is_answered = |number| {
            runtime.block_on(async {
                let sum = within(other.call().add(number, 1)).await.unwrap();
                let blocking = within(other.call().blocking_add(number, 1)).await.unwrap();
                assert_eq!((sum, blocking), (number + 1, number + 1));
            });
        };
        is_answered(0);
        siege.forget_peak();
        let (before, is_enough) = (siege.memory(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut step = begin(&siege);
                let mut done = 0;
                while done < *steps || !is_enough.load(Ordering::SeqCst) {
                    step();
                    done += 1;
                }
            });
            for number in 1..=ANSWERS {
                is_answered(number);
            }
            is_enough.store(true, Ordering::SeqCst);
        });
        is_answered(0);
        let grown = siege.peak().saturating_sub(before) >> 20;
        println!("{what}: {grown} MiB, at most {growth}");
        assert!(
            SECURITY.contains(&format!("| {what} | {growth} MiB |")),
            "SECURITY.md says something else of {what}"
        );
        assert!(grown <= *growth, "{what}: the server has grown by {grown} MiB");
        siege.stands();
    }
}

/// Keeps the last so many of something.
fn held<T: 'static>(most: usize, mut next: impl FnMut() -> T + 'static) -> Step {
    let mut held = VecDeque::new();
    Box::new(move || {
        if held.len() >= most {
            held.pop_front();
        }
        held.push_back(next());
    })
}

/// Opens a carrier, and says that. The other side may hang up meanwhile.
fn opened(siege: &Siege, socket: &str, says: Vec<u8>) -> impl FnMut() -> UnixStream + use<> {
    let path = siege.socket(socket);
    move || {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(&says);
        stream
    }
}

/// A dialer that has introduced itself.
fn introduced(features: u64) -> Vec<u8> {
    let mut hello = hello();
    if let Message::Hello(hello) = &mut hello {
        hello.features = features;
        hello.limits = PeerLimits {
            objects: 1 << 40,
            ..hello.limits
        };
    }
    [preface(false), message(&hello, b"")].concat()
}

/// Pours what `more` makes.
fn poured(siege: &Siege, listens: bool, mut more: impl FnMut(u64) -> Vec<u8> + 'static) -> Step {
    let mut spout = Spout::new(&siege.socket("farref"), introduced(1), listens);
    Box::new(move || spout.pour(&mut more))
}

/// The same over many carriers at once.
fn poured_by_many(siege: &Siege, peers: usize, more: fn(u64) -> Vec<u8>) -> Step {
    let path = siege.socket("farref");
    let mut spouts: Vec<_> = (0..peers)
        .map(|_| Spout::new(&path, introduced(0), true))
        .collect();
    Box::new(move || {
        for spout in &mut spouts {
            spout.pour(&mut |made| more(made));
        }
    })
}

/// A call of the root.
fn asked(number: u64, method: &str, body: &[u8]) -> Vec<u8> {
    message(&Message::Call(call::<dyn Fort>(number, 0, method)), body)
}

/// A call of the root on whose result nothing is called.
fn asked_plainly(number: u64, method: &str, body: &[u8]) -> Vec<u8> {
    let mut asked = call::<dyn Fort>(number, 0, method);
    asked.options.no_pipeline = true;
    message(&Message::Call(asked), body)
}

/// A number as an argument.
fn number(of: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    farref_framing::varint::put(&mut bytes, of);
    bytes
}

/// Bytes with their length before them.
fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = number(count as u64);
    bytes.resize(bytes.len() + count, 7);
    bytes
}

/// A value with that head.
fn value(head: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    farref_framing::varint::put(&mut body, head.len() as u64);
    body.extend_from_slice(head);
    body.push(0);
    body
}

/// The first flight of a dialer in Noise, whose keys nobody knows (PROTOCOL.md § 10.2).
fn noise_hello() -> Vec<u8> {
    let mut flight = vec![
        0xa9, 0x46, 0x41, 0x4e, 1, 1, 0, 1, 3, 0, 1, 1, 1, // hello: XX, suite 1
        32, 0, // message 1
    ];
    flight.extend_from_slice(&[9; 32]);
    flight
}

#[test]
fn who_only_comes_costs_little() {
    under(&[
        flood("carriers that say nothing", 2000, 8, |siege| {
            held(500, opened(siege, "farref", Vec::new()))
        }),
        flood("prefaces that do not end (§ 2.1)", 2000, 8, |siege| {
            held(500, opened(siege, "farref", preface(false)[..25].to_vec()))
        }),
        flood("handshakes that do not end (§ 10.1)", 1000, 8, |siege| {
            held(500, opened(siege, "noise", noise_hello()))
        }),
        flood("handshakes that are nonsense (§ 10.2)", 1000, 8, |siege| {
            let mut flight = noise_hello();
            flight.truncate(15);
            flight.resize(47, 0); // a key of small order
            held(500, opened(siege, "noise", flight))
        }),
        flood("connections", 500, 16, |siege| {
            held(100, opened(siege, "farref", introduced(0)))
        }),
        flood("sessions without a carrier (§ 4.7)", 500, 16, |siege| {
            let says = [preface(true), message(&hello(), b"")].concat();
            let mut open = opened(siege, "farref", says);
            Box::new(move || drop(open()))
        }),
        flood("requests for sessions that are none (§ 4.5)", 500, 8, |siege| {
            let mut says = preface(true);
            says[6] |= 4; // it goes on with a session
            says.truncate(26 + usize::from(says[24]));
            says.extend(frame(
                0x0b,
                0,
                &[&[5; 16][..], &[1, 0, 0, 0, 0], &[6; 32]].concat(),
            ));
            held(100, opened(siege, "farref", says))
        }),
    ]);
}

#[test]
fn frames_and_lanes_take_what_was_granted() {
    under(&[
        flood("pings that are never heard out (§ 3.7)", 2000, 4, |siege| {
            let pings = frame(8, 0, &[3; 8]).repeat(1000);
            poured(siege, false, move |_| pings.clone())
        }),
        flood("pings", 500, 4, |siege| {
            let pings = frame(8, 0, &[3; 8]).repeat(1000);
            poured(siege, true, move |_| pings.clone())
        }),
        flood("frames of later versions (§ 1.3)", 500, 4, |siege| {
            let later = frame(0x80, 3, &[3; 65_536]);
            poured(siege, true, move |_| later.clone())
        }),
        flood("acknowledgements and credits (§ 3.4, § 4.3)", 1000, 4, |siege| {
            poured(siege, true, |made| match made {
                0 => asked_plainly(1, "echo", &bytes(60_000)),
                1 => frame(3, 0, &[0]).repeat(5000),
                _ => [frame(2, 1, &[250]), frame(3, 0, &[0])].concat().repeat(2000),
            })
        }),
        flood("messages that do not end (§ 3.2)", 500, 48, |siege| {
            poured_by_many(siege, 30, |made| match made {
                0 => frame(1, 0, &[0xfc, 0, 0, 0x20, 0]), // twice a MiB
                1..64 => frame(1, 0, &[1; 16 << 10]),
                _ => Vec::new(),
            })
        }),
        flood(
            "a message that is longer than it may be (§ 3.2)",
            500,
            4,
            |siege| poured(siege, true, |_| frame(1, 0, &[0xff; 16 << 10])),
        ),
        flood("lanes that nobody names (§ 3.3)", 500, 40, |siege| {
            poured_by_many(siege, 30, |made| frame(1, 1 + made % 20, &[1; 16 << 10]))
        }),
        flood("bodies that do not end (§ 3.5)", 1000, 100, |siege| {
            poured_by_many(siege, 30, |made| match made {
                0 => announced(1, 1_000_000, &Message::Call(call::<dyn Fort>(1, 0, "echo"))),
                1..60 => frame(1, 1, &[1; 16 << 10]),
                _ => Vec::new(),
            })
        }),
        flood("one byte at a time", 500, 8, |siege| {
            poured_by_many(siege, 30, |made| {
                let ping = frame(8, 0, &[3; 8]);
                vec![ping[made as usize % ping.len()]]
            })
        }),
    ]);
}

#[test]
fn calls_and_references_are_counted() {
    under(&[
        flood("calls that do not return (§ 8.1)", 1000, 8, |siege| {
            poured(siege, true, |made| asked(made + 1, "wait", b""))
        }),
        flood("calls whose answers nobody reads (§ 8.1)", 5000, 16, |siege| {
            poured(siege, false, |made| {
                asked_plainly(made + 1, "echo", &bytes(15_000))
            })
        }),
        flood("arguments of calls that wait (§ 8.1)", 1000, 8, |siege| {
            poured(siege, true, |made| {
                let mut waiting = call::<dyn Fort>(made + 1, 0, "echo");
                if made > 0 {
                    waiting.target = Target::Answer { call: 1, slot: 0 };
                    return message(&Message::Call(waiting), &bytes(100_000));
                }
                asked(1, "wait", b"")
            })
        }),
        flood(
            "short arguments of calls that wait, in a block each (§ 8.1)",
            50,
            16,
            |siege| {
                poured_by_many(siege, 40, |made| {
                    let mut waiting = call::<dyn Fort>(made + 1, 0, "echo");
                    match made {
                        0 => return asked(1, "wait", b""),
                        1..19 => waiting.target = Target::Answer { call: 1, slot: 0 },
                        _ => return Vec::new(),
                    }
                    [message(&Message::Call(waiting), &bytes(10)), apart()].concat()
                })
            },
        ),
        flood("results that are never finished with (§ 7.1)", 1000, 8, |siege| {
            poured(siege, true, |made| asked(made + 1, "child", b""))
        }),
        flood("references (§ 6.3)", 500, 8, |siege| {
            poured(siege, true, |made| {
                let mut take = call::<dyn Fort>(made + 1, 0, "take");
                take.options.no_pipeline = true;
                let handed = (1..=90).map(|number| Descriptor::Owned(mine(made * 90 + number, 5)));
                take.descriptors = handed.collect();
                message(&Message::Call(take), &[0])
            })
        }),
        flood(
            "objects that are handed out and given back (§ 6.3)",
            100,
            8,
            |siege| {
                let mut peer = RawPeer::dial(&siege.socket("farref"));
                let mut number = 0;
                Box::new(move || {
                    number += 1;
                    let mut child = call::<dyn Fort>(number, 0, "child");
                    child.options.no_pipeline = true;
                    peer.say(&Message::Call(child));
                    let (returned, _) = peer.return_of(number);
                    let [Descriptor::Owned(handed)] = returned.descriptors[..] else {
                        panic!("no object was handed out: {returned:?}")
                    };
                    let exports = vec![(handed.export, 1)].into();
                    peer.say(&Message::Release { exports });
                })
            },
        ),
        flood("cancels of what is over (§ 7.5)", 500, 8, |siege| {
            let cancel = Message::Cancel {
                call: 1,
                reason: CancelReason::Dropped,
            };
            let cancels = message(&cancel, b"").repeat(1000);
            poured(siege, true, move |made| match made {
                0 => asked_plainly(1, "add", &[1, 2]),
                _ => cancels.clone(),
            })
        }),
        flood("questions for shapes (§ 5.6)", 50, 4, |siege| {
            poured(siege, true, |made| {
                message(&Message::GetShape { shape: made as u32 }, b"").repeat(100)
            })
        }),
        flood("threads that block (§ 8.1)", 100, 4, |siege| {
            poured(siege, true, |made| match made {
                0..18 => asked_plainly(made + 1, "block", b""),
                _ => Vec::new(),
            })
        }),
    ]);
}

/// The preface of a dialer that takes the shortest frames, and any number of lanes that it does not confirm.
fn unconfirming() -> Vec<u8> {
    let mut says = preface(false);
    let fields: [(&[u8], &[u8]); 2] = [
        (&[1, 3, 251, 0, 64], &[1, 1, 240]),
        (&[4, 3, 251, 0, 4], &[4, 5, 252, 255, 255, 255, 255]),
    ];
    for (theirs, ours) in fields {
        let at = says
            .windows(theirs.len())
            .position(|part| part == theirs)
            .unwrap();
        says.splice(at..at + theirs.len(), ours.iter().copied());
        says[24] = says[24] + ours.len() as u8 - theirs.len() as u8;
    }
    [says, message(&hello(), b"")].concat()
}

/// Nothing, for as long as a read may be: what is that far apart is answered one after the other.
fn apart() -> Vec<u8> {
    frame(0x80, 3, &[3; READ_MOST])
}

/// A peer that was answered so many calls, and then has asked for more than may wait for it, and does not read it.
fn deaf(path: &Path, answered: u64) -> RawPeer {
    let mut peer = RawPeer::dial(path);
    for number in 1..=answered {
        peer.write(&asked(number, "add", &[1, 2]));
        peer.answer_to(number);
    }
    let fill = |more| asked_plainly(answered + more, "fill", &number(1_048_000));
    peer.write(&(1..=LONG_ANSWERS).flat_map(fill).collect::<Vec<_>>());
    peer
}

/// Of so many nearly as long as a message may be, some are in the socket, others fill up what may wait to be sent.
const LONG_ANSWERS: u64 = 6;

#[test]
fn who_does_not_read_is_not_answered_without_end() {
    under(&[
        flood("flushes of finished calls (§ 7.4)", 2000, 16, |siege| {
            let mut peer = deaf(&siege.socket("farref"), 90);
            let mut flushed = 0;
            Box::new(move || {
                let flush = |call| {
                    let flush = flushed + call;
                    message(&Message::Flush { flush, call }, b"")
                };
                peer.write(&(1..=90).flat_map(flush).chain(apart()).collect::<Vec<_>>());
                flushed += 90;
            })
        }),
        flood("references that are lent (§ 6.4)", 5, 32, |siege| {
            let path = siege.socket("farref");
            Box::new(move || {
                let mut peer = deaf(&path, 0);
                // Each may go beyond the limits, as the only one of its depth.
                for depth in 1..=10 {
                    let mut take = call::<dyn Fort>(LONG_ANSWERS + u64::from(depth), 0, "take");
                    take.options.no_pipeline = true;
                    take.options.chain = Some(Chain::new(1, depth));
                    take.descriptors = (0..80_000).map(|_| Descriptor::Borrowed(mine(1, 5))).collect();
                    peer.write(&message(&Message::Call(take), &[0]));
                }
            })
        }),
        flood(
            "results that are longer than what may wait (§ 8.3)",
            500,
            260,
            |siege| {
                poured_by_many(siege, 30, |made| match made {
                    0..20 => asked_plainly(made + 1, "fill", &number(900_000)),
                    _ => Vec::new(),
                })
            },
        ),
        flood("bodies that are given up (§ 3.5)", 3000, 8, |siege| {
            let mut peer = deaf(&siege.socket("farref"), 0);
            let mut given_up = 0;
            Box::new(move || {
                let unknown = Message::Reserved { kind: 0x80 };
                let give_up = |lane| [announced(lane, 1, &unknown), frame(5, lane, &[1])].concat();
                let lanes = given_up + 1..=given_up + 1000;
                peer.write(&lanes.flat_map(give_up).collect::<Vec<_>>());
                given_up += 1000;
            })
        }),
        flood("bodies that are not confirmed (§ 3.3)", 10_000, 8, |siege| {
            let mut spout = Spout::new(&siege.socket("farref"), unconfirming(), true);
            Box::new(move || {
                spout.pour(&mut |made| {
                    let fill = |more| asked_plainly(made * 20 + more, "fill", &number(250));
                    (1..=20).flat_map(fill).chain(apart()).collect()
                });
            })
        }),
    ]);
}

/// The interface of streams (PROTOCOL.md § 12.1).
const SOURCE: &[u8] = b"farref.Source\0\x01\0";

/// By which interfaces and methods are numbered (PROTOCOL.md § 7.8).
fn fnv(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The operation by which a stream of bytes is pulled, and its arguments: as much as there is (PROTOCOL.md § 12.1).
fn pull(number: u64) -> Vec<u8> {
    let mut pull = call::<dyn Fort>(number, 0, "add");
    pull.target = Target::Answer { call: 1, slot: 0 };
    pull.options.no_pipeline = true;
    let method = fnv(b"pull");
    pull.operation = Operation::Known(std::borrow::Cow::Owned(Op::Method {
        interface: fnv(SOURCE),
        method: (method >> 32) as u32 ^ method as u32,
        shape: 0xdb6e_69fd,
    }));
    message(
        &Message::Call(pull),
        &[1, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    )
}

#[test]
fn values_and_streams_unfold_no_further_than_they_may() {
    under(&[
        flood("values that are nested deeply (§ 9.9)", 500, 16, |siege| {
            let deep = value(&[&[6; 500_000][..], &[1]].concat());
            poured(siege, true, move |made| asked_plainly(made + 1, "value", &deep))
        }),
        flood("lists of many empty things (§ 9.9)", 200, 160, |siege| {
            let mut many = vec![0xfc, 0xa0, 0xbb, 0x0d, 0];
            many.resize(900_005, 0);
            poured(siege, true, move |made| asked_plainly(made + 1, "texts", &many))
        }),
        flood("counts without anything behind them (§ 9.9)", 500, 4, |siege| {
            let huge = [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
            poured(siege, true, move |made| asked_plainly(made + 1, "texts", &huge))
        }),
        flood("pulls of everything at once (§ 12.2)", 1000, 16, |siege| {
            let mut peer = RawPeer::dial(&siege.socket("farref"));
            peer.write(&[asked(1, "flow", b""), pull(2)].concat());
            let (verdict, body) = peer.answer_to(2);
            assert_eq!(verdict, Verdict::Value, "{}", String::from_utf8_lossy(&body));
            poured(siege, false, |made| match made {
                0 => asked(1, "flow", b""),
                _ => pull(made + 1),
            })
        }),
        flood(
            "a stream that gives more than was asked for (§ 12.2)",
            50,
            16,
            |siege| {
                let mut peer = RawPeer::dial(&siege.socket("farref"));
                let mut swallow = call::<dyn Fort>(1, 0, "swallow");
                let source = farref::message::Handed {
                    interface: fnv(SOURCE),
                    ..mine(1, 1)
                };
                swallow.descriptors = [Descriptor::Owned(source)].into_iter().collect();
                peer.say_with(&Message::Call(swallow), &[0]);
                let mut batch = vec![1, 1];
                batch.extend(bytes(900_000));
                batch.push(0);
                Box::new(move || {
                    if let Heard::Message(Message::Call(pull), _) = peer.hear() {
                        let returned = Return {
                            call: pull.call,
                            verdict: Verdict::Value,
                            shape: 0,
                            descriptors: [].into_iter().collect(),
                            streams: Bytes::new(),
                        };
                        peer.say_with(&Message::Return(returned), &batch);
                    }
                })
            },
        ),
    ]);
}

/// A frame of a Python peer's, as it is or compressed.
fn python(payload: &[u8], compress: Compress) -> Vec<u8> {
    let mut framed = BytesMut::new();
    put_frame(payload, compress, &mut framed).unwrap();
    framed.to_vec()
}

/// Pours that again and again into the socket for Python peers.
fn poured_by_python(siege: &Siege, says: Vec<u8>) -> Step {
    let mut spout = Spout::new(&siege.socket("rpyc"), Vec::new(), true);
    Box::new(move || spout.pour(&mut |_| says.clone()))
}

#[test]
fn python_peers_are_held_to_limits_that_python_has_not() {
    under(&[
        flood("compressed bombs (§ 15.4)", 500, 16, |siege| {
            poured_by_python(siege, python(&vec![0; 64 << 20], Compress::Always))
        }),
        flood(
            "compressed bombs that are just small enough (§ 15.4)",
            500,
            32,
            |siege| poured_by_python(siege, python(&vec![0; 2 << 20], Compress::Always)),
        ),
        flood("frames that do not end (§ 15.4)", 500, 100, |siege| {
            let path = siege.socket("rpyc");
            let mut spouts: Vec<_> = (0..30)
                .map(|_| Spout::new(&path, vec![0, 0x1f, 0xff, 0xff, 0], true))
                .collect();
            Box::new(move || {
                for spout in &mut spouts {
                    spout.pour(&mut |made| vec![7; if made < 120 { 16 << 10 } else { 0 }]);
                }
            })
        }),
        flood("values that are nested deeply (§ 15.3)", 500, 8, |siege| {
            // Tuples of one element inside each other.
            poured_by_python(siege, python(&vec![0x10; 60_000], Compress::Never))
        }),
    ]);
}

/// All threads of a server could be taken by one peer, were it not for that.
#[test]
fn a_peer_blocks_no_more_threads_than_it_may() {
    let siege = Siege::begin();
    let mut peer = RawPeer::dial(&siege.socket("farref"));
    let before = siege.threads();
    for number in 1..=19 {
        peer.say(&Message::Call(call::<dyn Fort>(number, 0, "block")));
    }
    peer.say_with(&Message::Call(call::<dyn Fort>(20, 0, "add")), &[20, 22]);
    assert_eq!(
        peer.answer_to(20).1,
        &[42][..],
        "by then all of them were handed on"
    );
    let begun = siege.threads() - before;
    // Four, and the one of the process's clock, which begins with the first time that a connection waits for.
    assert!(begun <= 5, "{begun} threads have begun");
}
