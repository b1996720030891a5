//! The body of the fuzz target: any bytes into a handshake or into records, and a handshake altered on the way.

use std::io::IoSlice;

use bytes::BytesMut;
use farref_transport::{ByteRx, Identity, memory};

use super::handshake::Handshake;
use super::hello::Suite;
use super::key::OpenKey;
use super::record::RecordRx;
use super::{Config, Psk, static_public};
use crate::link::Role;

/// Takes any bytes; must not panic, hang, or take memory without bound, and no altered handshake may succeed.
pub(crate) fn noise(data: &[u8]) {
    let Some(([mode, size], data)) = data.split_first_chunk() else {
        return;
    };
    let step = usize::from(*size).max(1);
    match mode & 3 {
        0 => garbled(Role::Listener, *mode, data, step),
        1 => garbled(Role::Dialer, *mode, data, step),
        2 => records(data, step),
        _ => altered(*mode, data),
    }
}

/// A side of any pattern.
fn side(role: Role, mode: u8) -> Option<Handshake> {
    let identity = |seed| Identity::from_secret(&[seed; 32]).ok();
    let seed = if role == Role::Dialer { 1 } else { 2 };
    let psk = Psk::new([9; 32]);
    let mut config = match mode >> 2 & 3 {
        3 => Config::shared(psk),
        pattern => {
            let mut config = Config::new(identity(seed)?);
            if pattern == 2 {
                config.psk = Some(psk);
            }
            if pattern == 1 {
                config.peer_static = static_public(&identity(2)?);
            }
            config
        }
    };
    if role == Role::Listener && mode & 16 != 0 {
        config.suites.reverse();
    }
    debug_assert!(config.suites.contains(&Suite::AesGcm));
    let mut handshake = Handshake::new(role, config).ok()?;
    handshake.start().ok()?;
    Some(handshake)
}

fn garbled(role: Role, mode: u8, data: &[u8], step: usize) {
    let Some(mut handshake) = side(role, mode) else {
        return;
    };
    let mut input = BytesMut::new();
    for chunk in data.chunks(step) {
        input.extend_from_slice(chunk);
        match handshake.handle_bytes(&mut input) {
            Ok(made) => assert!(made.is_none(), "nobody knows the keys"),
            Err(_) => return,
        }
        assert!(input.len() < 4096 && handshake.take_output().len() < 4096);
    }
}

fn records(data: &[u8], step: usize) {
    let (near, mut far) = memory::pair(data.len());
    let Some(key) = OpenKey::new(Suite::ChaChaPoly, &[7; 32]) else {
        return;
    };
    let mut rx = RecordRx::new(near.rx, key, BytesMut::new());
    let mut into = BytesMut::with_capacity(step);
    for chunk in data.chunks(step) {
        let _ = far.tx.try_write(&[IoSlice::new(chunk)]);
        let _ = rx.try_read(&mut into);
        assert!(into.is_empty(), "nobody knows the key");
    }
    drop(far);
    assert!(rx.try_read(&mut into).is_err());
}

/// Each four bytes of `data` alter one byte of one flight.
fn altered(mode: u8, data: &[u8]) {
    let (Some(mut dialer), Some(mut listener)) = (side(Role::Dialer, mode), side(Role::Listener, mode))
    else {
        return;
    };
    let (mut to_listener, mut to_dialer) = (BytesMut::new(), BytesMut::new());
    let mut done = [false; 2];
    let mut is_altered = false;
    for flight in 0..6_u8 {
        let is_dialers = flight & 1 == 0;
        let (from, to, input) = if is_dialers {
            (&mut dialer, &mut listener, &mut to_listener)
        } else {
            (&mut listener, &mut dialer, &mut to_dialer)
        };
        let mut bytes = from.take_output();
        for change in data.as_chunks::<4>().0 {
            let [number, low, high, bits] = *change;
            let at = usize::from(u16::from_le_bytes([low, high]));
            if number == flight
                && let Some(byte) = bytes.get_mut(at)
            {
                *byte ^= bits;
                is_altered |= bits != 0;
            }
        }
        input.extend_from_slice(&bytes);
        let Ok(made) = to.handle_bytes(input) else {
            continue;
        };
        if let (true, Some(done)) = (made.is_some(), done.get_mut(usize::from(is_dialers))) {
            *done = true;
        }
    }
    // The dialer is done first, by what the listener said; two changes of one byte may undo each other.
    assert!(done != [true, true] || !is_altered || data.len() >= 8);
    assert!(done == [true, true] || is_altered);
}
