//! Frames as Python's RPyC puts them on a byte stream, and nothing of what is in them.
//!
//! ```text
//!   +-------------+------+---------------+------+
//!   | length n    | flag | payload       | 0x0a |     n counts the payload as sent, big-endian
//!   | 4 bytes     | 1    | n bytes       | 1    |     flag: 0 plain, else zlib (RFC 1950)
//!   +-------------+------+---------------+------+
//! ```
//!
//! All versions of RPyC from 3 to 6.0 agree on it (PROTOCOL.md § 15.2; `rpyc/core/channel.py`). The last byte is
//! written as `0x0a` and never looked at. A payload may be empty; Python ignores such frames. There is no limit in
//! RPyC itself, and no fragmentation: [`FrameLimits`] are ours.
//!
//! [`take_frame`] reads. [`begin_frame`] and [`finish_frame`] write a frame around a payload that is written in
//! place; [`put_frame`] one around a payload that is there already. [`frame_by_frame`] keeps them apart where that counts.

mod apart;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use flate2::{Compression, Decompress, FlushCompress, FlushDecompress, Status};

pub use self::apart::frame_by_frame;

/// Length of what comes before the payload: its length and the flag.
const HEADER: usize = 5;
/// What comes behind the payload.
const END: u8 = b'\n';
/// Payloads longer than this are compressed (`Channel.COMPRESSION_THRESHOLD`).
const COMPRESS_ABOVE: usize = 3000;
/// How hard (`Channel.COMPRESSION_LEVEL`).
const LEVEL: u32 = 1;

/// What one frame of the peer may cost.
///
/// ```
/// use farref_framing::rpyc::FrameLimits;
///
/// let limits = FrameLimits { payload: 1 << 20, ..FrameLimits::default() };
/// assert_eq!(limits.inflated, 64 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "written out with `..FrameLimits::default()`"
)]
pub struct FrameLimits {
    /// Longest payload as sent, in bytes.
    ///
    /// Default 64 MiB; any number, of which a frame can reach 4 GiB less one byte.
    pub payload: usize,
    /// Longest payload after it was inflated, in bytes. It does not bind payloads that are sent plain.
    ///
    /// Default 64 MiB; any number.
    pub inflated: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            payload: 64 << 20,
            inflated: 64 << 20,
        }
    }
}

/// Which payloads are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compress {
    /// None.
    Never,
    /// Those of more than 3000 bytes, unless that makes them longer, or a sample of them says that it would.
    #[default]
    Auto,
    /// Those of more than 3000 bytes, also where that makes them longer: what Python's RPyC does.
    Always,
}

/// Why a frame could not be read or written.
///
/// All but the last two are the peer's doing, and its bytes cannot be trusted after them;
/// [`is_misuse`](Self::is_misuse) tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame announces more than [`FrameLimits::payload`].
    TooLong {
        /// The length announced, in bytes.
        len: u32,
        /// The limit.
        limit: usize,
    },
    /// The payload inflates to more than [`FrameLimits::inflated`].
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The payload is said to be compressed and is no whole zlib stream.
    Zlib {
        /// How many bytes could be inflated.
        inflated: usize,
    },

    /// The payload to be sent is longer than a frame can say: 4 GiB less one byte.
    PayloadTooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// The frame to be finished is no longer in the buffer.
    NotBegun,
}

impl FrameError {
    /// Whether this program did something that it must not do, rather than the peer.
    #[must_use]
    pub const fn is_misuse(&self) -> bool {
        matches!(self, Self::PayloadTooLong { .. } | Self::NotBegun)
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, limit } => write!(f, "a frame of {len} bytes where {limit} are accepted"),
            Self::TooLarge { limit } => write!(f, "a frame inflates to more than {limit} bytes"),
            Self::Zlib { inflated } => {
                write!(f, "a compressed frame is no zlib stream after {inflated} bytes")
            }
            Self::PayloadTooLong { len } => write!(f, "a payload of {len} bytes does not fit into a frame"),
            Self::NotBegun => f.write_str("the frame to be finished was not begun in this buffer"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Takes the frame at the front of `input`, and gives its payload, inflated if need be; `None`, and nothing is taken,
/// while it is not there as a whole.
///
/// A plain payload is a piece of `input` and not copied. What a frame announces reserves no memory, and what it
/// inflates to is at most one byte more than the limit.
///
/// # Errors
///
/// [`FrameError::TooLong`] as soon as the header is there; [`FrameError::TooLarge`] and [`FrameError::Zlib`] when the
/// frame is. Where the next frame begins is known in the last two cases alone; Python ends the connection.
pub fn take_frame(input: &mut BytesMut, limits: &FrameLimits) -> Result<Option<Bytes>, FrameError> {
    let Some(&[a, b, c, d, flag]) = input.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let announced = u32::from_be_bytes([a, b, c, d]);
    let len = usize::try_from(announced).unwrap_or(usize::MAX);
    if len > limits.payload {
        return Err(FrameError::TooLong {
            len: announced,
            limit: limits.payload,
        });
    }
    let behind_header = input.len().saturating_sub(HEADER);
    if behind_header <= len {
        return Ok(None);
    }
    let mut payload = input
        .split_to(len.saturating_add(HEADER).saturating_add(1))
        .freeze();
    payload.advance(HEADER);
    payload.truncate(len);
    if flag == 0 {
        Ok(Some(payload))
    } else {
        inflate(&payload, limits.inflated).map(Some)
    }
}

/// What `compressed` inflates to. Bytes behind the zlib stream are ignored, as by Python.
fn inflate(compressed: &[u8], limit: usize) -> Result<Bytes, FrameError> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::new();
    let mut rest = compressed;
    // What came bounds the first guess; one byte more than the limit tells that it is exceeded.
    let mut room = compressed.len().saturating_mul(4);
    loop {
        let inflated = out.len();
        if inflated == out.capacity() {
            let allowed = limit.saturating_add(1).saturating_sub(inflated);
            out.reserve_exact(room.min(allowed).max(1));
            room = out.capacity();
        }
        let before = inflater.total_in();
        let broken = FrameError::Zlib { inflated };
        let status = inflater
            .decompress_vec(rest, &mut out, FlushDecompress::None)
            .map_err(|_| broken)?;
        if out.len() > limit {
            return Err(FrameError::TooLarge { limit });
        }
        let read = inflater.total_in().saturating_sub(before);
        rest = usize::try_from(read)
            .ok()
            .and_then(|read| rest.get(read..))
            .unwrap_or_default();
        if status == Status::StreamEnd {
            return Ok(out.into());
        }
        if read == 0 && out.len() == inflated {
            // There was room, and nothing more came: the stream is cut off.
            return Err(broken);
        }
    }
}

/// Where a frame begins, between [`begin_frame`] and [`finish_frame`].
#[derive(Debug)]
#[must_use = "a frame that is not finished is in the buffer and cannot be sent"]
pub struct FrameStart(usize);

/// Begins a frame at the end of `out`. Its payload is whatever is appended to `out` until [`finish_frame`].
///
/// ```
/// use bytes::BytesMut;
/// use farref_framing::rpyc::{Compress, FrameLimits, begin_frame, finish_frame, take_frame};
///
/// let mut stream = BytesMut::new();
/// let frame = begin_frame(&mut stream);
/// stream.extend_from_slice(b"payload");
/// finish_frame(frame, Compress::Auto, &mut stream)?;
/// assert_eq!(&stream[..], b"\0\0\0\x07\0payload\n");
///
/// let payload = take_frame(&mut stream, &FrameLimits::default())?;
/// assert_eq!(payload.as_deref(), Some(&b"payload"[..]));
/// # Ok::<(), farref_framing::rpyc::FrameError>(())
/// ```
#[inline]
pub fn begin_frame(out: &mut BytesMut) -> FrameStart {
    let start = FrameStart(out.len());
    out.extend_from_slice(&[0; HEADER]);
    start
}

/// Makes what was appended to `out` since `start` a whole frame.
///
/// # Errors
///
/// [`FrameError::PayloadTooLong`]; [`FrameError::NotBegun`] if `out` is shorter than it was at the beginning. Nothing
/// of the frame is left in `out` then.
#[inline]
pub fn finish_frame(start: FrameStart, compress: Compress, out: &mut BytesMut) -> Result<(), FrameError> {
    let FrameStart(start) = start;
    let payload_at = start.saturating_add(HEADER);
    let Some(len) = out.len().checked_sub(payload_at) else {
        out.truncate(start);
        return Err(FrameError::NotBegun);
    };
    if len > COMPRESS_ABOVE && compress != Compress::Never {
        return finish_long(start, compress, out);
    }
    close(start, 0, out)
}

/// Appends a frame with this payload to `out`.
///
/// # Errors
///
/// [`FrameError::PayloadTooLong`]. Nothing is appended then.
pub fn put_frame(payload: &[u8], compress: Compress, out: &mut BytesMut) -> Result<(), FrameError> {
    let start = begin_frame(out);
    out.extend_from_slice(payload);
    finish_frame(start, compress, out)
}

/// Finishes a frame whose payload is to be compressed if it is worth it.
#[cold]
fn finish_long(start: usize, compress: Compress, out: &mut BytesMut) -> Result<(), FrameError> {
    let payload_at = start.saturating_add(HEADER);
    let payload_end = out.len();
    let len = payload_end.saturating_sub(payload_at);
    // What may be longer than a frame is left to `close`, which says so.
    let longest = match compress {
        Compress::Never => 0,
        Compress::Auto if looks_random(out.get(payload_at..).unwrap_or_default()) => 0,
        Compress::Auto => len.saturating_sub(1),
        // Deflate makes what it cannot compress longer by 5 bytes in 16 KiB or so, zlib by 6.
        Compress::Always => len.saturating_add(len / 1000).saturating_add(64),
    };
    if longest == 0 {
        return close(start, 0, out);
    }
    // The compressed bytes are written behind the plain ones and then take their place.
    out.resize(payload_end.saturating_add(longest), 0);
    let (plain, room) = out.split_at_mut(payload_end);
    let compressed = deflate(plain.get(payload_at..).unwrap_or_default(), room);
    let flag = match compressed {
        Some(len) => {
            let end = payload_end.saturating_add(len);
            out.copy_within(payload_end..end, payload_at);
            out.truncate(payload_at.saturating_add(len));
            1
        }
        None => {
            out.truncate(payload_end);
            0
        }
    };
    close(start, flag, out)
}

/// Writes the header and the last byte.
#[inline]
fn close(start: usize, flag: u8, out: &mut BytesMut) -> Result<(), FrameError> {
    let len = out.len().saturating_sub(start).saturating_sub(HEADER);
    let header = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<HEADER>);
    let (Some(header), Ok(announced)) = (header, u32::try_from(len)) else {
        out.truncate(start);
        return Err(FrameError::PayloadTooLong { len });
    };
    let [a, b, c, d] = announced.to_be_bytes();
    *header = [a, b, c, d, flag];
    out.extend_from_slice(&[END]);
    Ok(())
}

/// Compresses `plain` into `room`: how long it became, or `None` if there is not enough room.
fn deflate(plain: &[u8], room: &mut [u8]) -> Option<usize> {
    let mut deflater = flate2::Compress::new(Compression::new(LEVEL), true);
    let status = deflater.compress(plain, room, FlushCompress::Finish).ok()?;
    if status != Status::StreamEnd {
        return None;
    }
    usize::try_from(deflater.total_out()).ok()
}

/// Whether a sample of `payload` looks as if every byte were as likely as any other: compressed or encrypted data.
///
/// Two random bytes of such data are equal once in 256 times; of text, once in 20 or so.
fn looks_random(payload: &[u8]) -> bool {
    const PIECES: usize = 4;
    const PIECE: usize = 256;
    let mut counts = [0_u32; 256];
    let mut sampled = 0_u32;
    for piece in payload.chunks(payload.len().div_ceil(PIECES).max(1)) {
        for &byte in piece.iter().take(PIECE) {
            if let Some(count) = counts.get_mut(usize::from(byte)) {
                *count = count.saturating_add(1);
                sampled = sampled.saturating_add(1);
            }
        }
    }
    let pairs = |count: u32| count.saturating_mul(count.saturating_sub(1));
    let equal = counts
        .iter()
        .map(|&count| pairs(count))
        .fold(0, u32::saturating_add);
    equal < pairs(sampled) / 200
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(payload: &[u8], compress: Compress) -> BytesMut {
        let mut out = BytesMut::new();
        put_frame(payload, compress, &mut out).unwrap();
        out
    }

    fn unframed(stream: &[u8]) -> Result<Option<Bytes>, FrameError> {
        take_frame(&mut BytesMut::from(stream), &FrameLimits::default())
    }

    /// Bytes without any order.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let step = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            (*state >> 32) as u8
        };
        (0..len).map(|_| step(&mut state)).collect()
    }

    /// GETROOT, as Python 6.0.2 sends it.
    const GETROOT: &[u8] = &[
        0, 0, 0, 8, // length
        0, // plain
        1, 0x11, 0x50, 0x11, 0x53, 0x11, 0x51, 0x02, // payload
        0x0a,
    ];

    #[test]
    fn a_frame_is_header_payload_and_newline() {
        assert_eq!(framed(&GETROOT[5..13], Compress::Auto), GETROOT);
        assert_eq!(unframed(GETROOT).unwrap().unwrap(), &GETROOT[5..13]);
        assert_eq!(framed(b"", Compress::Auto), &[0, 0, 0, 0, 0, b'\n'][..]);
        assert_eq!(unframed(&[0, 0, 0, 0, 0, b'\n']).unwrap().unwrap(), "");
    }

    #[test]
    fn a_frame_cut_anywhere_is_one_frame() {
        for cut in 0..GETROOT.len() {
            let mut input = BytesMut::from(&GETROOT[..cut]);
            let limits = FrameLimits::default();
            assert_eq!(take_frame(&mut input, &limits), Ok(None));
            assert_eq!(input.len(), cut);
            input.extend_from_slice(&GETROOT[cut..]);
            input.extend_from_slice(&GETROOT[..cut]);
            assert!(take_frame(&mut input, &limits).unwrap().is_some());
            assert_eq!(input.len(), cut);
        }
    }

    /// Python 6.0.2 drops the last byte unread and obeys any flag that is not 0.
    #[test]
    fn the_last_byte_is_not_looked_at_and_any_flag_means_zlib() {
        assert_eq!(unframed(b"\0\0\0\x01\0a?").unwrap().unwrap(), "a");
        let mut stream = framed(&[b'a'; 4000], Compress::Always);
        stream[4] = 2;
        assert_eq!(unframed(&stream).unwrap().unwrap(), vec![b'a'; 4000]);
        // Bytes behind the zlib stream are in the frame and ignored.
        let len = stream.len() - 6 + 3;
        stream[3] = len as u8;
        stream.extend_from_slice(b"xx\n");
        assert_eq!(unframed(&stream).unwrap().unwrap(), vec![b'a'; 4000]);
    }

    #[test]
    fn more_than_3000_bytes_are_compressed() {
        for (len, flag) in [(3000, 0), (3001, 1)] {
            let payload = vec![b'a'; len];
            for compress in [Compress::Auto, Compress::Always] {
                let stream = framed(&payload, compress);
                assert_eq!(stream[4], flag);
                assert_eq!(unframed(&stream).unwrap().unwrap(), payload);
            }
            assert_eq!(framed(&payload, Compress::Never)[4], 0);
        }
        assert_eq!(framed(&[b'a'; 3001], Compress::Auto)[5..7], [0x78, 0x01]);
    }

    #[test]
    fn what_cannot_be_compressed_is_sent_plain_unless_as_python_does() {
        let payload = noise(100_000);
        let plain = framed(&payload, Compress::Auto);
        assert_eq!(plain[4], 0);
        assert_eq!(plain.len(), payload.len() + 6);
        let compressed = framed(&payload, Compress::Always);
        assert_eq!(compressed[4], 1);
        assert!(compressed.len() > plain.len());
        assert_eq!(unframed(&compressed).unwrap().unwrap(), payload);
        // A sample that promises too much.
        let mut payload = noise(5000);
        payload[..64].fill(0);
        payload[1250..1250 + 64].fill(0);
        let stream = framed(&payload, Compress::Auto);
        assert_eq!(unframed(&stream).unwrap().unwrap(), payload);
        assert!(stream.len() <= payload.len() + 6);
    }

    #[test]
    fn frames_are_written_behind_what_is_there() {
        let mut out = BytesMut::from(GETROOT);
        put_frame(&[7; 5000], Compress::Auto, &mut out).unwrap();
        put_frame(b"x", Compress::Auto, &mut out).unwrap();
        let mut next = || take_frame(&mut out, &FrameLimits::default()).unwrap().unwrap();
        assert_eq!(next(), &GETROOT[5..13]);
        assert_eq!(next(), vec![7; 5000]);
        assert_eq!(next(), "x");
        assert!(out.is_empty());
    }

    #[test]
    fn a_frame_that_is_no_longer_there_cannot_be_finished() {
        let mut out = BytesMut::from(&b"before"[..]);
        let start = begin_frame(&mut out);
        out.truncate(8);
        let error = finish_frame(start, Compress::Auto, &mut out).unwrap_err();
        assert!(error.is_misuse());
        assert_eq!(out, "before");
    }

    #[test]
    fn an_announced_length_is_refused_before_anything_is_reserved() {
        let limits = FrameLimits {
            payload: 10,
            ..FrameLimits::default()
        };
        let mut input = BytesMut::from(&[0, 0, 0, 11, 0][..]);
        let error = FrameError::TooLong { len: 11, limit: 10 };
        assert_eq!(take_frame(&mut input, &limits), Err(error));
        assert!(!error.is_misuse());
        let mut input = BytesMut::from(&[0, 0, 0, 10, 0][..]);
        let capacity = input.capacity();
        assert_eq!(take_frame(&mut input, &limits), Ok(None));
        assert_eq!(input.capacity(), capacity);
        let mut input = BytesMut::from(&[0xff; 5][..]);
        assert!(take_frame(&mut input, &FrameLimits::default()).is_err());
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = framed(&vec![0; 10_000_000], Compress::Auto);
        assert!(bomb.len() < 100_000);
        let taken = |inflated| {
            let limits = FrameLimits {
                inflated,
                ..FrameLimits::default()
            };
            take_frame(&mut bomb.clone(), &limits)
        };
        assert_eq!(taken(10_000_000).unwrap().unwrap().len(), 10_000_000);
        assert_eq!(taken(9_999_999), Err(FrameError::TooLarge { limit: 9_999_999 }));
        assert_eq!(taken(0), Err(FrameError::TooLarge { limit: 0 }));
    }

    #[test]
    fn what_is_no_zlib_stream_is_refused() {
        let whole = framed(&noise(20).repeat(1000), Compress::Always);
        let zlib = &whole[5..whole.len() - 1];
        let with = |zlib: &[u8]| {
            let mut stream = framed(zlib, Compress::Never);
            stream[4] = 1;
            unframed(&stream)
        };
        assert!(with(zlib).is_ok());
        assert!(matches!(with(b""), Err(FrameError::Zlib { inflated: 0 })));
        assert!(matches!(with(b"nonsense"), Err(FrameError::Zlib { .. })));
        for cut in 0..zlib.len() {
            assert!(
                matches!(with(&zlib[..cut]), Err(FrameError::Zlib { .. })),
                "{cut}"
            );
        }
        // The checksum counts.
        let mut wrong = zlib.to_vec();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(matches!(with(&wrong), Err(FrameError::Zlib { .. })));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            payload in proptest::collection::vec(any::<u8>(), 0..400),
            repeat in 1..40_usize,
        ) {
            let payload = payload.repeat(repeat);
            for compress in [Compress::Never, Compress::Auto, Compress::Always] {
                let stream = framed(&payload, compress);
                prop_assert_eq!(unframed(&stream).unwrap().unwrap(), &payload);
            }
            prop_assert!(framed(&payload, Compress::Auto).len() <= payload.len() + 6);
        }
    }
}
