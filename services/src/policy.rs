//! Less than everything: netrefs that can only be read, only be called so often, or be taken back.
//!
//! ```
//! # extern crate farref_netref as farref;
//! use std::time::Duration;
//!
//! use farref::{Netref, Result, remote};
//! use farref_services::policy::Policy;
//!
//! #[remote]
//! trait Bench {
//!     #[reads]
//!     fn voltage(&self, channel: u8) -> Result<f64>;
//!     fn calibrate(&self) -> Result<()>;
//! }
//! # struct Rig;
//! # impl Bench for Rig {
//! #     fn voltage(&self, _channel: u8) -> Result<f64> { Ok(0.5) }
//! #     fn calibrate(&self) -> Result<()> { Ok(()) }
//! # }
//!
//! # fn main() -> Result<()> {
//! let bench: Netref<dyn Bench> = Netref::of(Rig);
//! let (policy, revoker) = Policy::new()
//!     .read_only()
//!     .at_most(100, Duration::from_secs(1))
//!     .expires_in(Duration::from_secs(3600))
//!     .revocable();
//! let lent = bench.guarded(policy); // to be handed out in place of `bench`
//!
//! assert_eq!(lent.voltage(1)?, 0.5);
//! assert!(lent.calibrate().is_err());
//! revoker.revoke("the visit is over");
//! assert!(lent.voltage(1).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! A policy goes for the object, and for every object that comes out of it in the results of calls, and out of that; lists
//! of names mind those that they name. What the peer passes in stays as it is, and what the object hands to that is not
//! guarded: a method that calls back with a netref, or sends one through a channel of the peer's, hands out all of it.
//!
//! Each call that is refused is told the peer as [`Denied`](ErrorKind::Denied), [`Revoked`](ErrorKind::Revoked) or
//! [`Overloaded`](ErrorKind::Overloaded), and logged with the name of the peer.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::Peer;
use farref_netref::guard::{Access, Guard};
use farref_netref::interface::Interface;

/// What is let through: everything, but for what its methods take away.
///
/// Clones share their rate, their record and their revocation.
#[derive(Clone, Default)]
pub struct Policy {
    read_only: bool,
    allowed: Option<Vec<String>>,
    denied: Vec<String>,
    expires: Option<SystemTime>,
    revoked: Vec<Arc<Revocation>>,
    rates: Vec<Arc<Rate>>,
    audits: Vec<Audit>,
}

type Audit = Arc<dyn Fn(&Record) + Send + Sync>;

impl Policy {
    /// Lets everything through.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets only through what changes nothing: methods that say `#[reads]`, getters of properties, and what every object
    /// can be asked, such as `str` and `len`.
    #[must_use]
    pub const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Lets only these methods through, by name; again, to allow more. `Bench.voltage` is that of the interface `Bench`
    /// alone, and `Bench.*` are all of that.
    ///
    /// Names without an interface are those of the guarded object's own. An object that comes out of it, and of whose
    /// interface no name is listed, may be used: whoever allows a method allows what that returns. But what leads back to
    /// objects like the guarded one leads to the list again. What an object is may
    /// be asked in any case; `str`, `len`, `eq`, `hash`, `index`, `iter` and `copy` are names like those of methods.
    #[must_use]
    pub fn allow<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let allowed = self.allowed.get_or_insert_default();
        allowed.extend(names.into_iter().map(Into::into));
        self
    }

    /// Lets these methods not through, by name as in [`allow`](Self::allow), whatever else is allowed. `Bench.name` and
    /// `Bench.*` are here also what `Bench` has from interfaces that it extends.
    #[must_use]
    pub fn deny<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.denied.extend(names.into_iter().map(Into::into));
        self
    }

    /// Lets nothing through any more from that moment on. The earliest of several counts.
    #[must_use]
    pub fn expires_at(mut self, end: SystemTime) -> Self {
        self.expires = Some(self.expires.map_or(end, |before| before.min(end)));
        self
    }

    /// Lets nothing through any more when that time is over.
    #[must_use]
    pub fn expires_in(self, time: Duration) -> Self {
        match SystemTime::now().checked_add(time) {
            Some(end) => self.expires_at(end),
            None => self,
        }
    }

    /// Lets so many calls through in that time, evenly; as many at once after a pause as long. At least 1.
    #[must_use]
    pub fn at_most(mut self, calls: u32, per: Duration) -> Self {
        self.rates.push(Arc::new(Rate::new(calls.max(1), per)));
        self
    }

    /// Can be taken back, by what comes with it.
    #[must_use]
    pub fn revocable(mut self) -> (Self, Revoker) {
        let revocation = Arc::<Revocation>::default();
        self.revoked.push(Arc::clone(&revocation));
        (self, Revoker(revocation))
    }

    /// Tells `audit` of each call when it is over or was refused. It must not wait.
    #[must_use]
    pub fn audited(mut self, audit: impl Fn(&Record) + Send + Sync + 'static) -> Self {
        self.audits.push(Arc::new(audit));
        self
    }

    /// Whether a call may go through, but for how often.
    fn check(&self, access: &Access) -> Result<()> {
        if let Some(reason) = self.revoked.iter().find_map(|revocation| revocation.reason()) {
            return Err(Error::new(
                ErrorKind::Revoked,
                format!("it was taken back: {reason}"),
            ));
        }
        if self.expires.is_some_and(|end| SystemTime::now() >= end) {
            let text = "it was handed out for a time, which is over: ask for it again";
            return Err(Error::new(ErrorKind::Revoked, text));
        }
        if self.read_only && !access.only_reads() {
            return Err(denied(access, "it was handed out to be read only"));
        }
        if self
            .denied
            .iter()
            .any(|name| concerns(name, access) && access.may_be(name))
        {
            return Err(denied(access, "it was handed out without that"));
        }
        if let Some(allowed) = &self.allowed
            && !access.asks_what_it_is()
        {
            let mut concerned = allowed.iter().filter(|name| concerns(name, access)).peekable();
            let is_listed = access.is_akin(access.interface()) || concerned.peek().is_some();
            if is_listed && !concerned.any(|name| access.is(name)) {
                return Err(denied(access, "it was handed out for other methods alone"));
            }
        }
        Ok(())
    }

    fn record(&self, access: &Access, outcome: Result<()>, took: Duration) {
        if self.audits.is_empty() {
            return;
        }
        let record = Record {
            at: SystemTime::now(),
            peer: Arc::clone(access.peer()),
            call: access.to_string(),
            outcome,
            took,
        };
        for audit in &self.audits {
            audit(&record);
        }
    }
}

/// Whether a name in a list is about the object that is called.
fn concerns(name: &str, access: &Access) -> bool {
    match name.rsplit_once('.') {
        None => access.is_akin(access.interface()),
        // What this process does not know may be of any interface.
        Some((interface, _)) => access
            .interface()
            .is_none_or(|handed_out| is_a(handed_out, interface)),
    }
}

fn is_a(interface: &'static Interface, name: &str) -> bool {
    interface.name == name || interface.parents.iter().any(|parent| is_a(parent, name))
}

fn denied(access: &Access, why: &str) -> Error {
    let name = access.shown_name();
    let of = access
        .interface()
        .map_or("this object", |interface| interface.name);
    Error::new(
        ErrorKind::Denied,
        format!("`{name}` of {of} is not for this peer: {why}"),
    )
}

impl Guard for Policy {
    fn admit(&self, access: &Access) -> Result<()> {
        let admitted = self.check(access).and_then(|()| {
            // Last: what is refused anyway costs nothing of the rate.
            take_all(&self.rates, Instant::now())
        });
        if let Err(error) = &admitted {
            self.record(access, Err(error.clone()), Duration::ZERO);
        }
        admitted
    }

    fn ended(&self, access: &Access, outcome: Result<(), &Error>, took: Duration) {
        self.record(access, outcome.map_err(Clone::clone), took);
    }

    fn covers(&self, _access: &Access, _interface: Option<&'static Interface>) -> bool {
        // What no list names is covered as well: it may lead to what one does.
        let is_listed = self.allowed.is_some() || !self.denied.is_empty();
        let is_timed = self.expires.is_some() || !(self.revoked.is_empty() && self.rates.is_empty());
        self.read_only || is_listed || is_timed || !self.audits.is_empty()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("read_only", &self.read_only)
            .field("allowed", &self.allowed)
            .field("denied", &self.denied)
            .field("expires", &self.expires)
            .field("revocable", &!self.revoked.is_empty())
            .field("rates", &self.rates)
            .field("audited", &!self.audits.is_empty())
            .finish()
    }
}

/// A call of an audited object.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Record {
    /// When it was over.
    pub at: SystemTime,
    /// Who called.
    pub peer: Arc<Peer>,
    /// What was called: `Bench.voltage`.
    pub call: String,
    /// How it went: the error of the method, or why it was refused; [`Cancelled`](ErrorKind::Cancelled) if nobody waited
    /// for it any more.
    pub outcome: Result<()>,
    /// How long it took; nothing if it was refused.
    pub took: Duration,
}

/// One line: who, what, how it went, how long it took. Control characters in the text of an error are escaped: it may be
/// made of what the peer has sent.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.peer, self.call)?;
        match &self.outcome {
            Ok(()) => write!(f, "done in {:.1?}", self.took),
            Err(error) => error.to_string().chars().try_for_each(|character| {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())
                } else {
                    f.write_char(character)
                }
            }),
        }
    }
}

/// Takes back what was handed out. Dropping it does not.
#[derive(Clone)]
pub struct Revoker(Arc<Revocation>);

#[derive(Default)]
struct Revocation {
    is_revoked: AtomicBool,
    reason: OnceLock<String>,
}

impl Revocation {
    fn reason(&self) -> Option<&str> {
        self.is_revoked
            .load(Ordering::Acquire)
            .then(|| self.reason.get().map_or("", String::as_str))
    }
}

impl Revoker {
    /// From here on, every call fails as [`Revoked`](ErrorKind::Revoked), for this reason. What is under way is let end.
    /// A second time changes nothing.
    pub fn revoke(&self, reason: impl Into<String>) {
        // The first reason stays.
        let _ = self.0.reason.set(reason.into());
        self.0.is_revoked.store(true, Ordering::Release);
    }

    /// Whether it was taken back.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.0.is_revoked.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoker")
            .field("is_revoked", &self.is_revoked())
            .finish()
    }
}

/// How often calls are let through: a bucket that fills evenly.
#[derive(Debug)]
struct Rate {
    /// What one call takes, and the time that a full bucket has stored.
    each: Duration,
    full: Duration,
    /// When the bucket would have been empty.
    empty: Mutex<Option<Instant>>,
}

impl Rate {
    fn new(calls: u32, per: Duration) -> Self {
        Self {
            each: per / calls,
            full: per,
            empty: Mutex::default(),
        }
    }

    fn take(&self, now: Instant) -> Result<()> {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(self.full).unwrap_or(now);
        let since = empty.map_or(earliest, |empty| empty.max(earliest));
        let after = since.checked_add(self.each);
        let Some(after) = after.filter(|after| *after <= now) else {
            let wait = after.map_or(self.each, |after| after.saturating_duration_since(now));
            let text = format!("calls come too often: try again in {wait:.1?}");
            return Err(Error::new(ErrorKind::Overloaded, text));
        };
        *empty = Some(after);
        drop(empty);
        Ok(())
    }

    /// A call that was counted is not made.
    fn give_back(&self) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        *empty = empty.and_then(|empty| empty.checked_sub(self.each));
    }
}

/// Takes a call from each rate, or from none.
fn take_all(rates: &[Arc<Rate>], now: Instant) -> Result<()> {
    for (index, rate) in rates.iter().enumerate() {
        rate.take(now)
            .inspect_err(|_| rates.iter().take(index).for_each(|taken| taken.give_back()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use farref_framing::PeerEvidence;

    use super::*;

    /// The text of an error could add lines of its own to a log.
    #[test]
    fn a_record_is_one_line() {
        let record = Record {
            at: SystemTime::UNIX_EPOCH,
            peer: Arc::new(Peer::new("mem", None, PeerEvidence::None)),
            call: "Bench.find".into(),
            outcome: Err(Error::msg("no `x\nroot: Bench.calibrate: done\u{1b}[2J`")),
            took: Duration::ZERO,
        };
        let line = record.to_string();
        assert!(!line.contains(char::is_control), "{line}");
        assert!(
            line.ends_with("no `x\\nroot: Bench.calibrate: done\\u{1b}[2J`"),
            "{line}"
        );
    }

    /// What the second of two rates refused was counted by the first.
    #[test]
    fn what_one_rate_refuses_costs_nothing_of_another() {
        let now = Instant::now() + Duration::from_secs(100);
        let rates = [2, 1].map(|calls| Arc::new(Rate::new(calls, Duration::from_secs(1))));
        take_all(&rates, now).unwrap();
        take_all(&rates, now).unwrap_err();
        rates[0].take(now).expect("one of two was taken");
        assert!(rates[0].take(now).is_err());
    }

    #[test]
    fn a_bucket_lets_its_fill_through_at_once_and_then_one_after_the_other() {
        let start = Instant::now() + Duration::from_secs(100);
        let rate = Rate::new(4, Duration::from_secs(1));
        let taken = |ms: u64| rate.take(start + Duration::from_millis(ms)).is_ok();
        assert!((0..4).all(|_| taken(0)), "as many at once as in the whole time");
        assert!(!taken(0) && !taken(249));
        assert!(taken(250) && !taken(250));
        assert!(taken(5_000) && taken(5_000) && taken(5_000) && taken(5_000));
        assert!(!taken(5_000), "a longer pause stores no more");
        let text = rate.take(start + Duration::from_millis(5_100)).unwrap_err();
        assert!(text.message().contains("150.0ms"), "{text}");
    }
}
