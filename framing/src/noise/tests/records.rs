//! The two halves over a pipe: what a record is, what is on the way, and how it ends.

use std::io::IoSliceMut;
use std::task::{Context, Poll};

use proptest::prelude::*;

use super::*;
use crate::noise::key::{OpenKey, SealKey};
use crate::noise::record::{PIECE_LEAST, RecordRx, RecordTx};

const SECRET: [u8; 32] = [7; 32];

fn seal_key() -> SealKey {
    SealKey::new(Suite::AesGcm, &SECRET).unwrap()
}

/// A writer of records, and the pipe that they come out of.
fn writer(room: usize) -> (RecordTx, Box<dyn ByteRx>) {
    let (near, far) = memory::pair(room);
    (RecordTx::new(near.tx, seal_key(), 16 * 1024), far.rx)
}

/// A reader of records, and the pipe that they go into.
fn reader(room: usize) -> (RecordRx, Box<dyn ByteTx>) {
    let (near, far) = memory::pair(room);
    let key = OpenKey::new(Suite::AesGcm, &SECRET).unwrap();
    (RecordRx::new(near.rx, key, BytesMut::new()), far.tx)
}

/// Records with these texts, one after the other.
fn records(texts: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut key = seal_key();
    let seal = |text: &&[u8]| {
        let header = u16::try_from(text.len() + 16).unwrap().to_le_bytes();
        let mut sealed = text.to_vec();
        let tag = key.seal(&header, &mut sealed).unwrap();
        [&header[..], &sealed, &tag].concat()
    };
    texts.iter().map(seal).collect()
}

/// A reader of `bytes`, after which nothing comes.
fn reader_of(bytes: &[u8]) -> RecordRx {
    let (rx, mut tx) = reader(1 << 20);
    if !bytes.is_empty() {
        assert_eq!(tx.try_write(&[IoSlice::new(bytes)]).unwrap(), bytes.len());
    }
    rx
}

/// What comes of a reader into several buffers at once.
fn heard_in_pieces(rx: &mut RecordRx) -> (Vec<u8>, Option<RecordError>) {
    let mut heard = Vec::new();
    loop {
        let (mut first, mut last) = ([0; 3], [0; 70]);
        let bufs = &mut [&mut first[..], &mut [], &mut last].map(IoSliceMut::new);
        match rx.try_read_vectored(bufs) {
            Ok(0) => return (heard, None),
            Ok(count) => heard.extend_from_slice(&[&first[..], &last].concat()[..count]),
            Err(error) => return (heard, Some(RecordError::of(&error).unwrap())),
        }
    }
}

/// What a reader makes of `bytes`, after which nothing comes.
fn heard(bytes: &[u8]) -> (Vec<u8>, Option<RecordError>) {
    let mut rx = reader_of(bytes);
    let mut heard = Vec::new();
    let error = loop {
        let mut into = BytesMut::with_capacity(100);
        match rx.try_read(&mut into) {
            Ok(0) => break None,
            Ok(_) => heard.extend_from_slice(&into),
            Err(error) => break Some(RecordError::of(&error).unwrap()),
        }
    };
    for _ in 0..2 {
        let again = rx.try_read(&mut BytesMut::with_capacity(100));
        match error {
            None => assert_eq!(again.unwrap(), 0),
            Some(error) => assert_eq!(RecordError::of(&again.unwrap_err()), Some(error)),
        }
    }
    let in_pieces = heard_in_pieces(&mut reader_of(bytes));
    assert_eq!(in_pieces, (heard.clone(), error), "into several buffers");
    (heard, error)
}

fn drain(rx: &mut dyn ByteRx) -> Vec<u8> {
    let mut into = BytesMut::with_capacity(1 << 20);
    let _ = rx.try_read(&mut into);
    into.to_vec()
}

fn would_block<T: fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn one_write_is_one_record() {
    let (mut tx, mut rx) = writer(1 << 20);
    let bufs = [
        IoSlice::new(b"hello, "),
        IoSlice::new(b""),
        IoSlice::new(b"world"),
    ];
    assert_eq!(tx.try_write(&bufs).unwrap(), 12);
    assert!(!tx.is_buffering());
    assert_eq!(tx.try_write(&[IoSlice::new(b"")]).unwrap(), 0);
    let expected = records(&[b"hello, world"]);
    assert_eq!(drain(&mut *rx), expected[0]);
}

#[test]
fn a_long_write_is_records_of_a_fragment_and_a_little() {
    let (mut tx, mut rx) = writer(1 << 20);
    let text = vec![5; 100_000];
    assert_eq!(tx.try_write(&[IoSlice::new(&text)]).unwrap(), 2 * 17 * 1024);
    let expected = records(&[&text[..17 * 1024]; 2]).concat();
    assert!(drain(&mut *rx) == expected);
}

#[test]
fn a_long_piece_is_a_record_by_itself_and_is_not_cut() {
    let (mut tx, mut rx) = writer(1 << 20);
    let long: Vec<u8> = (0..16 * 1024).map(|at| at as u8).collect();
    let pieces: [&[u8]; 9] = [
        b"some ", b"short", &long, b"", b"header", &long, b"header", &long, b"header",
    ];
    let bufs = pieces.map(IoSlice::new);
    assert_eq!(tx.try_write(&bufs).unwrap(), 10 + long.len() + 6 + long.len() + 6);
    let expected = records(&[b"some short", &long, b"header", &long, b"header"]).concat();
    assert!(drain(&mut *rx) == expected);
}

#[test]
fn what_fits_where_it_is_wanted_is_heard_at_once_and_what_does_not_as_well() {
    let long = vec![5; 10_000];
    let wire = records(&[&long, b"header", &long, b"longer", &long, b""]).concat();
    let key = OpenKey::new(Suite::AesGcm, &SECRET).unwrap();
    let mut rx = RecordRx::new(memory::pair(1).0.rx, key, BytesMut::from(&wire[..]));
    let mut room = vec![0; 40_000];
    let (one, others) = room.split_at_mut(10_000);
    let (header, others) = others.split_at_mut(6);
    let (other, others) = others.split_at_mut(10_000);
    let (short, rest) = others.split_at_mut(3);
    let bufs = &mut [one, header, other, short, rest].map(IoSliceMut::new);
    assert_eq!(rx.try_read_vectored(bufs).unwrap(), 30_012);
    assert!(room[..30_012] == [&long[..], b"header", &long, b"longer", &long].concat());
    assert_eq!(
        rx.try_read_vectored(&mut [IoSliceMut::new(&mut room)]).unwrap(),
        0
    );
}

#[test]
fn a_slow_medium_has_short_records() {
    let (near, far) = memory::pair(1 << 20);
    let mut tx = RecordTx::new(near.tx, seal_key(), 240);
    let mut rx = far.rx;
    let text = vec![5; 100_000];
    assert_eq!(tx.try_write(&[IoSlice::new(&text)]).unwrap(), 2 * 1264);
    assert!(drain(&mut *rx) == records(&[&text[..1264]; 2]).concat());
}

#[test]
fn what_was_taken_goes_before_anything_else_is_taken() {
    block_on(async {
        let (mut tx, mut rx) = writer(10);
        assert_eq!(tx.try_write(&[IoSlice::new(b"hello")]).unwrap(), 5);
        assert!(tx.is_buffering());
        assert!(would_block(tx.try_write(&[IoSlice::new(b"more")])));
        let mut wire = Vec::new();
        while tx.is_buffering() {
            let pending = poll_fn(|cx| Poll::Ready(tx.poll_writable(cx).is_pending())).await;
            assert_eq!(pending, tx.is_buffering());
            wire.extend_from_slice(&drain(&mut *rx));
        }
        wire.extend_from_slice(&drain(&mut *rx));
        assert_eq!(wire, records(&[b"hello"]).concat());
        assert_eq!(tx.try_write(&[IoSlice::new(b"more")]).unwrap(), 4);
    });
}

#[test]
fn while_the_carrier_is_slow_little_is_taken_that_cannot_be_overtaken() {
    block_on(async {
        let (mut tx, mut rx) = writer(30_000);
        let text = vec![5; 100_000];
        let long = [IoSlice::new(&text)];
        assert_eq!(tx.try_write(&long).unwrap(), 2 * 17 * 1024);
        for taken in [17 * 1024, 2 * 17 * 1024] {
            drain(&mut *rx);
            poll_fn(|cx| tx.poll_writable(cx)).await.unwrap();
            drain(&mut *rx);
            assert_eq!(tx.try_write(&long).unwrap(), taken);
        }
    });
}

#[test]
fn an_end_is_a_record_and_what_follows_is_nothing() {
    block_on(async {
        let (mut tx, mut rx) = writer(1 << 20);
        assert_eq!(tx.try_write(&[IoSlice::new(b"bye")]).unwrap(), 3);
        poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
        poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
        let late = tx.try_write(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::BrokenPipe);
        drop(tx);
        let wire = drain(&mut *rx);
        assert_eq!(wire, records(&[b"bye", b""]).concat());
        assert_eq!(heard(&wire), (b"bye".to_vec(), None));
        let longer = [&wire[..], b"anything"].concat();
        assert_eq!(heard(&longer), (b"bye".to_vec(), None));
    });
}

#[test]
fn dropping_the_writer_ends_it_as_well() {
    let (mut tx, mut rx) = writer(1 << 20);
    assert_eq!(tx.try_write(&[IoSlice::new(b"bye")]).unwrap(), 3);
    drop(tx);
    assert_eq!(drain(&mut *rx), records(&[b"bye", b""]).concat());
}

#[test]
fn a_close_waits_until_all_is_passed_on() {
    block_on(async {
        let (mut tx, mut rx) = writer(1);
        assert_eq!(tx.try_write(&[IoSlice::new(b"bye")]).unwrap(), 3);
        let mut wire = Vec::new();
        loop {
            let closed = poll_fn(|cx| Poll::Ready(tx.poll_close(cx))).await;
            wire.extend_from_slice(&drain(&mut *rx));
            if closed.is_ready() {
                break;
            }
        }
        assert_eq!(wire, records(&[b"bye", b""]).concat());
    });
}

#[test]
fn bytes_that_end_without_an_end_were_cut_off() {
    let wire = records(&[b"one", b"two", b""]);
    for cut in 0..wire.concat().len() {
        let whole = wire[..2].iter().scan(0, |at, record| {
            *at += record.len();
            Some(*at)
        });
        let texts = whole.filter(|end| *end <= cut).count();
        let (text, error) = heard(&wire.concat()[..cut]);
        assert_eq!(text, b"onetwo"[..3 * texts], "cut at {cut}");
        assert_eq!(error, Some(RecordError::Cut), "cut at {cut}");
    }
}

#[test]
fn records_altered_repeated_left_out_or_exchanged_end_it_for_good() {
    let wire = records(&[b"one", b"two", b"three", b""]);
    let refused = |order: &[usize], text: &[u8], record| {
        let bytes: Vec<u8> = order.iter().flat_map(|at| wire[*at].clone()).collect();
        let error = Some(RecordError::Unauthentic { record });
        assert_eq!(heard(&bytes), (text.to_vec(), error), "{order:?}");
    };
    refused(&[1, 0, 2, 3], b"", 0);
    refused(&[0, 0, 1, 2], b"one", 1);
    refused(&[0, 2, 3], b"one", 1);
    refused(&[0, 1, 3], b"onetwo", 2);
    refused(&[0, 1, 2, 2, 3], b"onetwothree", 3);
    for at in 2..wire[1].len() {
        let mut altered = wire.clone();
        altered[1][at] ^= 1;
        let error = Some(RecordError::Unauthentic { record: 1 });
        assert_eq!(heard(&altered.concat()), (b"one".to_vec(), error), "byte {at}");
    }
    for len in [17_u16, 18, 20, 21] {
        let mut altered = wire.clone();
        altered[1][..2].copy_from_slice(&len.to_le_bytes());
        assert_eq!(
            heard(&altered.concat()).1,
            Some(RecordError::Unauthentic { record: 1 }),
            "length {len}"
        );
    }
}

#[test]
fn a_record_without_room_for_its_tag_is_none() {
    for len in 1..16_u16 {
        let bytes = [&len.to_le_bytes()[..], &[0; 40]].concat();
        let error = Some(RecordError::Unauthentic { record: 0 });
        assert_eq!(heard(&bytes), (vec![], error));
    }
}

#[test]
fn a_refusal_is_told_only_in_place_of_the_first_record() {
    assert_eq!(heard(&ALERT), (vec![], Some(RecordError::Refused)));
    let late = [&records(&[b"one"])[0][..], &ALERT].concat();
    let error = Some(RecordError::Unauthentic { record: 1 });
    assert_eq!(heard(&late), (b"one".to_vec(), error));
}

#[test]
fn many_records_are_one_read_and_what_does_not_fit_is_kept() {
    let (mut rx, mut tx) = reader(1 << 20);
    let wire = records(&[b"one", b"two", b"three"]).concat();
    tx.try_write(&[IoSlice::new(&wire)]).unwrap();
    let mut into = BytesMut::with_capacity(5);
    assert_eq!(rx.try_read(&mut into).unwrap(), 5);
    let cx = &mut Context::from_waker(std::task::Waker::noop());
    assert!(
        rx.poll_readable(cx).is_ready(),
        "there is more, and the pipe does not know"
    );
    into.reserve(100);
    assert_eq!(rx.try_read(&mut into).unwrap(), 6);
    assert_eq!(into, "onetwothree");
    assert!(would_block(rx.try_read(&mut into)));
    assert!(rx.poll_readable(cx).is_pending());
}

#[test]
fn a_record_in_pieces_is_waited_for() {
    block_on(async {
        let (mut rx, mut tx) = reader(1);
        let wire = records(&[b"piecemeal", b""]).concat();
        let write = write_all(&mut *tx, &wire);
        let read = async {
            let mut heard = BytesMut::new();
            loop {
                heard.reserve(4);
                if poll_fn(|cx| rx.poll_read(cx, &mut heard)).await.unwrap() == 0 {
                    return heard;
                }
            }
        };
        let (written, heard) = tokio::join!(write, read);
        written.unwrap();
        assert_eq!(heard, "piecemeal");
    });
}

#[test]
fn the_longest_record_is_heard() {
    let text = vec![3; 65_535 - 16];
    let wire = records(&[&text, b""]).concat();
    let (heard, error) = heard(&wire);
    assert!(heard == text && error.is_none());
}

#[test]
fn no_memory_is_taken_by_an_announcement() {
    let (mut rx, mut tx) = reader(100);
    tx.try_write(&[IoSlice::new(&[0xff, 0xff, 1])]).unwrap();
    assert!(would_block(rx.try_read(&mut BytesMut::with_capacity(8))));
    assert!(rx.held() <= 8 * 1024, "{}", rx.held());
}

#[test]
fn memory_goes_back_when_a_torrent_is_over() {
    let (near, far) = memory::pair(1 << 20);
    let mut tx = RecordTx::new(near.tx, seal_key(), 16 * 1024);
    let key = OpenKey::new(Suite::AesGcm, &SECRET).unwrap();
    let mut rx = RecordRx::new(far.rx, key, BytesMut::new());
    let mut into = BytesMut::new();
    let mut pass = |text: &[u8], tx: &mut RecordTx, rx: &mut RecordRx| {
        for piece in text.chunks(30_000) {
            tx.try_write(&[IoSlice::new(piece)]).unwrap();
        }
        into.clear();
        into.reserve(1 << 17);
        while rx.try_read(&mut into).is_ok() {}
    };
    for _ in 0..8 {
        pass(&[5; 60_000], &mut tx, &mut rx);
    }
    assert!(rx.held() >= 32 * 1024 && tx.held() >= 30_000);
    for _ in 0..8 {
        pass(b"small", &mut tx, &mut rx);
    }
    assert!(tx.held() <= 16 * 1024, "{}", tx.held());
    assert!(rx.held() <= 16 * 1024, "{}", rx.held());
}

/// Of a short piece or of a long one.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![0_usize..40, 7_000_usize..20_000, Just(8192), Just(16_384)]
}

#[test]
fn a_reader_at_rest_keeps_no_more_than_has_come_of_a_record() {
    let (near, far) = memory::pair(1 << 20);
    let key = OpenKey::new(Suite::AesGcm, &SECRET).unwrap();
    let (mut rx, mut tx) = (RecordRx::new(near.rx, key, BytesMut::new()), far.tx);
    let text = vec![5; 10_000];
    let wire = records(&[&text[..]; 30]).concat();
    let (now, later) = wire.split_at(wire.len() - 12);
    tx.try_write(&[IoSlice::new(now)]).unwrap();
    let mut into = BytesMut::with_capacity(300_000);
    while rx.try_read(&mut into).is_ok() {}
    assert!(rx.held() >= 64 * 1024, "{}", rx.held());
    rx.rest();
    assert!(rx.held() <= 10_018, "{}", rx.held());
    tx.try_write(&[IoSlice::new(later)]).unwrap();
    while rx.try_read(&mut into).is_ok() {}
    assert_eq!(into.len(), 300_000);
    rx.rest();
    assert_eq!(rx.held(), 0);
}

#[test]
fn records_of_a_burst_have_room_at_once() {
    let long = vec![5; PIECE_LEAST];
    let bufs = [
        b"header",
        &long[..],
        b"header",
        &long,
        b"header",
        &long,
        b"header",
        &long,
        b"header",
    ];
    let (mut tx, _rx) = writer(0);
    assert_eq!(
        tx.try_write(&bufs.map(IoSlice::new)).unwrap(),
        30 + 4 * PIECE_LEAST
    );
    let records = 9 * 18 + 30 + 4 * PIECE_LEAST;
    assert!((records..records + 4096).contains(&tx.held()), "{}", tx.held());
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        room in 1_usize..5000,
        writes in prop::collection::vec(prop::collection::vec(0_usize..3000, 0..4), 0..12),
        read in 1_usize..4000,
    ) {
        let (near, far) = memory::pair(room);
        let mut tx = RecordTx::new(near.tx, seal_key(), 240);
        let key = OpenKey::new(Suite::AesGcm, &SECRET).unwrap();
        let mut rx = RecordRx::new(far.rx, key, BytesMut::new());
        let mut said = Vec::new();
        let heard = block_on(async {
            let write = async {
                for lens in &writes {
                    let pieces: Vec<Vec<u8>> = lens
                        .iter()
                        .map(|len| (0..*len).map(|at| (at * 7 + said.len()) as u8).collect())
                        .collect();
                    let mut bytes = pieces.concat();
                    said.extend_from_slice(&bytes);
                    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                    if let Ok(count) = tx.try_write(&slices) {
                        bytes.drain(..count);
                    }
                    write_all(&mut tx, &bytes).await.unwrap();
                }
                poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            };
            let read = async {
                let mut heard = Vec::new();
                loop {
                    let mut into = BytesMut::with_capacity(read);
                    if poll_fn(|cx| rx.poll_read(cx, &mut into)).await.unwrap() == 0 {
                        return heard;
                    }
                    heard.extend_from_slice(&into);
                }
            };
            tokio::join!(write, read).1
        });
        prop_assert!(heard == said);
    }

    #[test]
    fn what_is_written_in_pieces_is_what_is_read_into_pieces(
        room in 1_usize..100_000,
        writes in prop::collection::vec(prop::collection::vec(len(), 1..6), 1..5),
        reads in prop::collection::vec(len(), 1..5),
    ) {
        let (near, far) = memory::pair(room);
        let mut tx = RecordTx::new(near.tx, seal_key(), 16 * 1024);
        let key = OpenKey::new(Suite::AesGcm, &SECRET).unwrap();
        let mut rx = RecordRx::new(far.rx, key, BytesMut::new());
        let lens = writes.iter().flatten().copied();
        let said: Vec<u8> = (0..lens.sum()).map(|at: usize| (at * 7 + at / 251) as u8).collect();
        let heard = block_on(async {
            let write = async {
                let mut rest = &said[..];
                for lens in &writes {
                    let mut left: usize = lens.iter().sum();
                    while left != 0 {
                        // What was not taken is offered again, with the pieces as they were.
                        let mut bytes = &rest[..left];
                        let mut skipped = lens.iter().sum::<usize>() - left;
                        let bufs: Vec<_> = lens.iter().map(|len| {
                            let here = len - skipped.min(*len);
                            skipped -= skipped.min(*len);
                            let (piece, others) = bytes.split_at(here);
                            bytes = others;
                            IoSlice::new(piece)
                        }).collect();
                        poll_fn(|cx| tx.poll_writable(cx)).await.unwrap();
                        let Ok(count) = tx.try_write(&bufs) else { continue };
                        (left, rest) = (left - count, &rest[count..]);
                    }
                }
                poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            };
            let read = async {
                let mut heard = Vec::new();
                loop {
                    let mut into: Vec<_> = reads.iter().map(|len| vec![0; len + 1]).collect();
                    let mut bufs: Vec<_> = into.iter_mut().map(|room| IoSliceMut::new(room)).collect();
                    let count = poll_fn(|cx| rx.poll_read_vectored(cx, &mut bufs)).await.unwrap();
                    if count == 0 {
                        return heard;
                    }
                    heard.extend_from_slice(&into.concat()[..count]);
                }
            };
            tokio::join!(write, read).1
        });
        prop_assert!(heard == said);
    }

    #[test]
    fn garbage_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (text, error) = heard(&bytes);
        prop_assert!(text.is_empty() && error.is_some());
    }
}
