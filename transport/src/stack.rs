//! Reading from a descriptor into a buffer that may have been used before.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use bytes::BytesMut;

/// Reads once what there is room for, at most `ROOM` bytes, by way of the stack: that costs a copy, and needs no
/// `unsafe`.
pub(crate) fn read<const ROOM: usize>(fd: impl AsFd, into: &mut BytesMut) -> rustix::io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let spare = into.capacity() - into.len();
    let room = match room.get_mut(..spare) {
        Some(room) => room,
        None => &mut room,
    };
    let (bytes, _) = rustix::io::read(fd, room)?;
    into.extend_from_slice(bytes);
    Ok(bytes.len())
}
