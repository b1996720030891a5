//! Errors: made by `?`, told further, sent, and read.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::error::Error as StdError;
use std::io;

use bytes::Bytes;
use farref_boxing::{
    Certainty, CodecError, Context, DecodeLimits, Encoder, Error, ErrorKind, Fault, Result, decode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut encoder = Encoder::new();
    encoder.encode(value).unwrap();
    encoder.body().to_bytes()
}

fn decoded<T: DeserializeOwned>(body: &Bytes) -> Result<T, CodecError> {
    decode(body, &[], &DecodeLimits::default())
}

/// The error as the peer sees it.
fn sent(error: &Error) -> Error {
    decoded(&encoded(error)).unwrap()
}

fn texts(error: &Error) -> Vec<String> {
    error.chain().map(ToString::to_string).collect()
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is full")]
struct Full(#[source] io::Error);

fn full() -> Full {
    Full(io::Error::other("no space left"))
}

#[test]
fn the_question_mark_takes_any_error_of_the_standard_kind() {
    fn fails() -> Result<()> {
        Err(full())?
    }
    let error = fails().unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Failed, "the disk is full")
    );
    assert_eq!(texts(&error), ["the disk is full", "no space left"]);
    assert!(error.downcast_ref::<Full>().is_some() && error.downcast_ref::<io::Error>().is_none());
    assert!(!error.is_remote());
}

#[test]
fn an_error_is_one_pointer_wide_and_goes_anywhere() {
    fn goes_anywhere<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe + 'static>() {}
    goes_anywhere::<Error>();
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    assert!(size_of::<CodecError>() <= 24);
}

#[test]
fn context_goes_in_front_and_keeps_the_value_in_reach() {
    let result: Result<()> = Err(full())
        .context("cannot save")
        .with_context(|| format!("cannot close {}", "a.txt"));
    let error = result.unwrap_err();
    assert_eq!(
        texts(&error),
        [
            "cannot close a.txt",
            "cannot save",
            "the disk is full",
            "no space left"
        ]
    );
    assert_eq!(error.message(), "cannot close a.txt");
    assert!(error.downcast_ref::<Full>().is_some());
    assert_eq!(
        None::<u8>.context("nothing there").unwrap_err(),
        Error::msg("nothing there")
    );
    assert_eq!(
        Some(1)
            .with_context(|| -> &str { unreachable!("not needed") })
            .unwrap(),
        1
    );
    let denied = Error::from(ErrorKind::Denied).context("not for you");
    assert_eq!(
        (denied.kind(), denied.message().as_ref()),
        (ErrorKind::Denied, "not for you")
    );
}

#[test]
fn a_clone_is_changed_alone() {
    let error = Error::msg("one");
    let further = error
        .clone()
        .context("two")
        .with_hop("there")
        .with_kind(ErrorKind::Limit);
    assert_eq!(
        (texts(&error), error.trace(), error.kind()),
        (vec!["one".to_owned()], "", ErrorKind::Failed)
    );
    assert_eq!(
        (texts(&further), further.trace()),
        (vec!["two".to_owned(), "one".to_owned()], "there")
    );
}

#[test]
fn display_is_one_clause_and_debug_is_for_a_person() {
    let error = Error::from(full())
        .context("cannot save")
        .with_hop("disk: Disk.write")
        .with_hop("store: Store.save");
    assert_eq!(format!("{error}"), "cannot save");
    assert_eq!(
        format!("{error:#}"),
        "cannot save: the disk is full: no space left"
    );
    assert_eq!(
        format!("{error:?}"),
        "cannot save\n\n\
         caused by:\n    the disk is full\n    no space left\n\n\
         remote trace:\n    disk: Disk.write\n    store: Store.save"
    );
    assert_eq!(format!("{:?}", Error::msg("alone")), "alone");
}

#[test]
fn an_error_can_be_the_source_of_another() {
    #[derive(Debug, thiserror::Error)]
    enum StoreError {
        #[error("the store did not answer")]
        Call(#[from] Error),
    }
    fn fails() -> Result<(), StoreError> {
        Err(Error::from(full()))?
    }
    let error = Error::from(fails().unwrap_err());
    assert_eq!(
        texts(&error),
        ["the store did not answer", "the disk is full", "no space left"]
    );
}

#[test]
fn an_error_fits_into_a_box_and_comes_out_unchanged() {
    fn boxed() -> Result<(), Box<dyn StdError + Send + Sync>> {
        Err(Error::from(ErrorKind::Denied).with_hop("there"))?
    }
    let boxed = boxed().unwrap_err();
    assert_eq!(boxed.to_string(), "not allowed");
    let error = Error::from_boxed(boxed);
    assert_eq!((error.kind(), error.trace()), (ErrorKind::Denied, "there"));
    let other = Error::from_boxed(Box::new(full()));
    assert!(other.downcast_ref::<Full>().is_some());
    let unsent: Box<dyn StdError> = Error::from(full()).into();
    assert_eq!(unsent.source().unwrap().to_string(), "no space left");
}

#[test]
fn an_error_becomes_one_of_io_with_the_nearest_kind() {
    let kind = |kind: ErrorKind| io::Error::from(Error::from(kind)).kind();
    assert_eq!(kind(ErrorKind::Deadline), io::ErrorKind::TimedOut);
    assert_eq!(
        kind(ErrorKind::Disconnected(Certainty::Unknown)),
        io::ErrorKind::BrokenPipe
    );
    assert_eq!(kind(ErrorKind::Failed), io::ErrorKind::Other);
    let missing = Error::from(io::Error::from(io::ErrorKind::NotFound)).context("no such file");
    let again = io::Error::from(missing);
    assert_eq!(
        (again.kind(), again.to_string().as_str()),
        (io::ErrorKind::NotFound, "no such file")
    );
}

#[test]
fn an_error_of_the_codec_says_whose_turn_it_is() {
    assert_eq!(
        Error::from(CodecError::Trailing { bytes: 3 }).kind(),
        ErrorKind::Malformed
    );
    let error = Error::from(CodecError::UnknownLength);
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(
        error.downcast_ref::<CodecError>(),
        Some(&CodecError::UnknownLength)
    );
}

#[test]
fn the_error_value_byte_by_byte() {
    let error = Error::new(ErrorKind::Denied, "no")
        .context("not you")
        .with_hop("a: B.c");
    let body = encoded(&error);
    let mut bytes = vec![6];
    bytes.extend(b"\x07not you");
    bytes.extend(b"\x01\x02no");
    bytes.extend(b"\x06a: B.c");
    bytes.push(0);
    assert_eq!(&body[..], bytes);
    let again: Error = decoded(&body).unwrap();
    assert_eq!(again, error);
    assert_eq!(
        (texts(&again), again.trace()),
        (vec!["not you".to_owned(), "no".to_owned()], "a: B.c")
    );
    assert!(again.is_remote());
    assert_eq!(encoded(&again), body, "a relay changes nothing");
}

#[test]
fn every_kind_has_its_number() {
    use ErrorKind as K;
    let kinds = [
        (1, K::Failed),
        (2, K::Remote),
        (3, K::Panicked),
        (4, K::Cancelled),
        (5, K::Deadline),
        (6, K::Denied),
        (7, K::Revoked),
        (8, K::Limit),
        (9, K::Overloaded),
        (10, K::Unimplemented),
        (11, K::SchemaMismatch),
        (12, K::Loop),
        (13, K::Reentrant),
        (14, K::Broken),
        (15, K::Disconnected(Certainty::NotSent)),
        (16, K::Disconnected(Certainty::NotExecuted)),
        (17, K::Disconnected(Certainty::Unknown)),
        (18, K::WouldBlock),
        (19, K::Malformed),
        (20, K::Incompatible),
        (21, K::Carrier),
        (22, K::Address),
        (23, K::Unsupported),
        (24, K::Misuse),
    ];
    for (number, kind) in kinds {
        let body = encoded(&Error::from(kind));
        assert_eq!(body[0], number);
        let Fault(fault) = decoded(&body).unwrap();
        assert_eq!(fault.kind(), if kind == K::Failed { K::Remote } else { kind });
        assert_eq!(fault.message(), kind.to_string());
    }
    let unknown: Error = decoded(&Bytes::from_static(&[251, 44, 1, 1, b'x', 0, 0, 0])).unwrap();
    assert_eq!(unknown.kind(), K::Remote, "a kind of a later version");
}

#[test]
fn an_error_in_a_value_says_nothing_about_the_readers_own_call() {
    let lost = Error::from(ErrorKind::Disconnected(Certainty::NotSent));
    assert_eq!(lost.certainty(), Some(Certainty::NotSent));
    assert_eq!(
        (sent(&lost).kind(), sent(&lost).certainty()),
        (ErrorKind::Remote, None)
    );
    let Fault(fault) = decoded(&encoded(&Fault(lost.clone()))).unwrap();
    assert_eq!(fault.certainty(), Some(Certainty::NotSent));
    assert_eq!(encoded(&Fault(lost.clone())), encoded(&lost));
}

#[test]
fn what_crosses_is_text() {
    let error = Error::from(full()).context("cannot save");
    let there = sent(&error);
    assert_eq!(texts(&there), texts(&error));
    assert_eq!(there.kind(), ErrorKind::Remote);
    assert!(there.downcast_ref::<Full>().is_none());
}

#[test]
fn what_is_too_long_is_cut_at_the_end_of_a_character() {
    let mut error = Error::msg("é".repeat(10_000) + "x");
    error = error.with_hop("x".to_owned() + &"é".repeat(40_000));
    let there = sent(&error);
    assert_eq!(there.message(), "é".repeat(8192));
    assert_eq!(there.trace().len(), (64 << 10) - 1);
    let long = (0..100).fold(Error::msg("0"), |error, level| error.context(level));
    assert_eq!(sent(&long).chain().count(), 33);
}

#[test]
fn what_is_longer_than_it_may_be_is_refused() {
    let refused =
        |kind: u32, message: String, causes: Vec<String>, trace: String, extras: Vec<(u32, Vec<u8>)>| {
            let body = encoded(&(kind, message, causes, trace, extras));
            assert_eq!(decoded::<Error>(&body).unwrap_err().kind(), ErrorKind::Malformed);
        };
    let text = |len: usize| "x".repeat(len);
    let none = String::new;
    refused(1, text((16 << 10) + 1), vec![], none(), vec![]);
    refused(1, none(), vec![none(); 33], none(), vec![]);
    refused(1, none(), vec![text((16 << 10) + 1)], none(), vec![]);
    refused(1, none(), vec![], text((64 << 10) + 1), vec![]);
    refused(
        1,
        none(),
        vec![],
        none(),
        (0..33).map(|key| (key, vec![])).collect(),
    );
    let body = encoded(&(
        1_u32,
        text(16 << 10),
        vec![text(16 << 10); 32],
        text(64 << 10),
        vec![(1_u32, "new")],
    ));
    decoded::<Error>(&body).unwrap();
}

#[test]
fn a_traces_lines_grow_outwards() {
    let far = sent(&Error::msg("failed")).with_hop("c: Disk.read");
    let near = sent(&far).with_hop("b: Store.load");
    assert_eq!(
        near.trace().lines().collect::<Vec<_>>(),
        ["c: Disk.read", "b: Store.load"]
    );
}

#[test]
fn an_error_that_a_peer_told_of_in_its_own_form_is_remote_and_keeps_that_form() {
    let error = Error::remote(ErrorKind::Failed, io::Error::from_raw_os_error(2)).context("reading");
    assert!(error.is_remote());
    let told: Option<&io::Error> = error.downcast_ref();
    assert_eq!(told.unwrap().raw_os_error(), Some(2));
    assert!(!Error::wrap(ErrorKind::Failed, io::Error::from_raw_os_error(2)).is_remote());
}
