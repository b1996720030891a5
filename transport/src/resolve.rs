//! From a host to its addresses, and from several addresses to the one that answers
//! first, or to all that can be listened at.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::task::Poll;
use std::time::Duration;

use tokio::net::lookup_host;

use crate::address::Host;
use crate::carrier::BoxFuture;

/// How long one address is waited for before the next is tried as well (RFC 8305 § 8).
const STAGGER: Duration = Duration::from_millis(250);

/// How often a port is looked for that is free for all addresses.
const TRIES: u32 = 16;

/// All addresses of a host; at least one.
pub(crate) async fn resolve(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = match host {
        Host::V4(v4) => vec![SocketAddr::from((*v4, port))],
        Host::V6(v6, None) => vec![SocketAddr::from((*v6, port))],
        Host::V6(v6, Some(zone)) => match zone.parse() {
            Ok(zone) => vec![SocketAddrV6::new(*v6, port, 0, zone).into()],
            Err(_) => lookup_host((format!("{v6}%{zone}"), port)).await?.collect(),
        },
        Host::Name(name) => lookup_host((name.as_str(), port)).await?.collect(),
    };
    if found.is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Ok(found)
    }
}

/// The order in which to try: as the system sorted them, but the families in turn (RFC 8305 § 4), and
/// only those of the family that is dialled from.
pub(crate) fn interleaved(addresses: Vec<SocketAddr>, bind: Option<IpAddr>) -> Vec<SocketAddr> {
    let mut left = addresses;
    left.retain(|address| bind.is_none_or(|bind| bind.is_ipv4() == address.is_ipv4()));
    let Some(first) = left.first() else { return left };
    let is_first_v4 = first.is_ipv4();
    let (same, other): (Vec<_>, Vec<_>) = left.into_iter().partition(|next| next.is_ipv4() == is_first_v4);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut order = Vec::with_capacity(same.len() + other.len());
    while same.len() + other.len() > 0 {
        order.extend(same.next());
        order.extend(other.next());
    }
    order
}

/// Dials one address after the other without waiting long for any, and keeps the first that answers
/// (RFC 8305 § 5).
pub(crate) async fn first_to_answer<'a, T>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> BoxFuture<'a, io::Result<T>>,
) -> io::Result<T> {
    let mut waiting = addresses.into_iter();
    let mut attempts: Vec<BoxFuture<'a, io::Result<T>>> = Vec::new();
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "no address of the family of `bind`");
    loop {
        match waiting.next() {
            Some(address) => attempts.push(connect(address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let answer = poll_fn(|cx| {
            for (index, attempt) in attempts.iter_mut().enumerate() {
                if let Poll::Ready(answer) = attempt.as_mut().poll(cx) {
                    drop(attempts.swap_remove(index));
                    return Poll::Ready(answer);
                }
            }
            Poll::Pending
        });
        let answer = if waiting.len() == 0 {
            Ok(answer.await)
        } else {
            // Both branches are cancel-safe: the attempts live outside, and go on.
            tokio::time::timeout(STAGGER, answer).await
        };
        match answer {
            Ok(Ok(answer)) => return Ok(answer),
            // A refusal tells more than a network that does not lead there.
            Ok(Err(_)) if failure.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
}

/// Listens at all of `addresses` that this host has; at one of them at least. Where the port is left
/// to the system, all get the same. `bind` listens at one, and tells the port.
pub(crate) fn bind_all<T>(
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<(T, u16)>,
) -> io::Result<Vec<T>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match bind_at(addresses, &bind) {
            // The port that was free for one address was taken for another.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && tries < TRIES
                    && leave_port_open(addresses) => {}
            result => return result,
        }
    }
}

fn leave_port_open(addresses: &[SocketAddr]) -> bool {
    addresses.len() > 1 && addresses.iter().all(|address| address.port() == 0)
}

fn bind_at<T>(
    addresses: &[SocketAddr],
    bind: &impl Fn(SocketAddr) -> io::Result<(T, u16)>,
) -> io::Result<Vec<T>> {
    let mut bound = Vec::new();
    let mut absent = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut port = None;
    for address in addresses {
        let mut address = *address;
        address.set_port(port.unwrap_or(address.port()));
        match bind(address) {
            Ok((one, its_port)) => {
                port = Some(its_port);
                bound.push(one);
            }
            // A name may have addresses of a family that this host does not speak.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => absent = error,
            Err(error) => return Err(error),
        }
    }
    if bound.is_empty() { Err(absent) } else { Ok(bound) }
}
