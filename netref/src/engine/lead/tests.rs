//! Leading, by the steps of an engine whose driver is not there.

use std::io;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use bytes::BytesMut;
use farref_framing::Role as Side;
use farref_transport::{ByteRx, CarrierInfo, Guard, StreamCarrier, memory};

use super::*;
use crate::engine::driver;
use crate::engine::testing::{Spoken, undriven};
use crate::protocol::Received;
use crate::remote::Conduit as _;

type Subject = Arc<Core<Spoken>>;

/// A carrier that brings nothing, and counts how often it comes back.
#[derive(Default)]
struct Silent {
    descriptor: Arc<Nothing>,
    joined: Arc<AtomicUsize>,
    /// Reads say this first, and then that it is over.
    breaks: Option<Option<io::ErrorKind>>,
    /// The other end, which takes what is written.
    far: Option<StreamCarrier>,
}

#[derive(Default)]
struct Nothing;

impl Descriptor for Nothing {
    fn wait_readable(&self, _: Option<&Alarm>, _: Option<Duration>) -> io::Result<bool> {
        Ok(false)
    }

    fn wait_writable(&self, _: Option<Duration>) -> io::Result<bool> {
        Ok(true)
    }
}

impl ByteRx for Silent {
    fn try_read(&mut self, _: &mut BytesMut) -> io::Result<usize> {
        match &mut self.breaks {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(first) => first.take().map_or(Ok(0), |first| Err(first.into())),
        }
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.breaks.is_some() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn descriptor(&self) -> Option<&dyn Descriptor> {
        Some(&*self.descriptor)
    }

    fn leave_reactor(&mut self) -> io::Result<Option<Arc<dyn Descriptor>>> {
        Ok(Some(Arc::clone(&self.descriptor) as Arc<dyn Descriptor>))
    }

    fn join_reactor(&mut self) -> io::Result<()> {
        self.joined.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// An open connection that nobody drives, how often its carrier has come back, and what a thread waits on.
async fn subject() -> (Subject, Arc<AtomicUsize>, Weak<Nothing>) {
    subject_on(Silent::default()).await
}

async fn subject_on(mut silent: Silent) -> (Subject, Arc<AtomicUsize>, Weak<Nothing>) {
    let (joined, descriptor) = (Arc::clone(&silent.joined), Arc::downgrade(&silent.descriptor));
    let (near, far) = memory::pair(1024);
    silent.far = Some(far);
    let carrier = StreamCarrier {
        rx: Box::new(silent),
        tx: near.tx,
        info: CarrierInfo::new("silent"),
        guard: Guard::none(),
    };
    let core = undriven(carrier, Side::Dialer).await;
    lock(&core.state).opened = Some(Received::Null);
    core.lead.streak.store(STREAK, Ordering::Relaxed);
    core.role.sleep(0);
    (core, joined, descriptor)
}

/// Whether the driver was told to take the role back; it is forgotten by that.
fn is_recalled(core: &Subject) -> bool {
    let recalled = std::pin::pin!(core.lead.recalled());
    recalled.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[tokio::test]
async fn whoever_writes_recalls_the_driver_of_a_parked_role() {
    let (core, _, _) = subject().await;
    core.lead().unwrap().park();
    assert!(core.role.is_parked());
    // The wish to look that came with leaving the reactor.
    assert!(is_recalled(&core) && !is_recalled(&core));

    core.update(|protocol| protocol.ping(clock::now()));
    assert!(is_recalled(&core), "the answer is waited for");
    assert_eq!(
        core.lead.streak.load(Ordering::Relaxed),
        0,
        "calls of one thread do not follow one another"
    );
}

#[tokio::test]
async fn a_driver_that_has_a_successor_leaves_the_carrier_to_the_thread_that_leads() {
    let (core, joined, _) = subject().await;
    assert_eq!(core.role.pass_on(0), None, "it sleeps");
    assert!(matches!(core.role.wake(0), crate::role::Woken::Drives));
    assert_eq!(core.role.pass_on(0), Some(1));
    core.role.sleep(1);
    let leader = core.lead().unwrap();
    driver::start(&core);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(joined.load(Ordering::SeqCst), 0);
    assert!(core.role.is_led() && core.lead.is_away());
    drop(leader);
}

#[tokio::test]
async fn where_a_thread_owns_the_role_others_do_not_take_it() {
    let (core, _, _) = subject().await;
    core.lead.belongs_to(std::thread::current());
    assert!(core.lead().is_none());
    assert!(core.take_role().is_some(), "it was there to be taken");
}

#[tokio::test]
async fn what_a_thread_waits_on_goes_with_the_connection() {
    for parks in [true, false] {
        let (core, _, descriptor) = subject().await;
        let leader = core.lead().unwrap();
        // The driver is dropped with its runtime.
        drop(lock(&core.inlet).take());
        lock(&core.state).ended = true;
        core.lead.end();
        if parks {
            leader.park();
        } else {
            drop(leader);
        }
        assert!(descriptor.upgrade().is_none(), "parked: {parks}");
    }
}

/// Why the connection is over that loses its carrier like that, whoever finds out.
async fn end(breaks: Option<io::ErrorKind>, is_led: bool) -> farref_boxing::Error {
    let (core, _, _) = subject_on(Silent {
        breaks: Some(breaks),
        ..Silent::default()
    })
    .await;
    let _held = core.anchor();
    if is_led {
        let leader = core.lead().unwrap();
        assert!(matches!(leader.drive(None, || None::<()>), Led::Left));
    }
    driver::start(&core);
    let over = crate::until::until(&core.changed, || {
        let state = lock(&core.state);
        state.ended.then(|| state.over.clone()).flatten()
    });
    tokio::time::timeout(Duration::from_secs(30), over).await.unwrap()
}

#[tokio::test]
async fn why_a_carrier_was_lost_is_told_whoever_has_found_out() {
    let (led, driven) = (
        end(Some(io::ErrorKind::ConnectionReset), true).await,
        end(Some(io::ErrorKind::ConnectionReset), false).await,
    );
    assert!(led.to_string().contains("reset"), "{led}");
    assert_eq!(led.to_string(), driven.to_string());
}

#[tokio::test]
async fn an_end_that_comes_too_early_is_told_whoever_has_found_out() {
    let (led, driven) = (end(None, true).await, end(None, false).await);
    assert_eq!((led.kind(), led.to_string()), (driven.kind(), driven.to_string()));
}

#[tokio::test]
async fn releases_that_the_driver_was_told_of_go_when_a_thread_has_taken_over() {
    let (core, _, _) = subject().await;
    core.anchor().release(1, 1);
    assert!(core.signal.take().releases);
    let leader = core.take_over().unwrap();
    assert!(leader.releasing.is_some());
}

#[tokio::test]
async fn the_role_of_a_connection_that_is_closed_is_given_back() {
    let (core, _, _) = subject().await;
    let leader = core.lead().unwrap();
    core.close();
    leader.park();
    assert!(!core.role.is_parked());
}

/// It stayed where no reactor saw it, and whatever was still to be written waited until the connection was given up.
#[tokio::test]
async fn the_other_half_comes_back_when_the_carrier_ends_while_the_driver_spins() {
    for breaks in [None, Some(io::ErrorKind::ConnectionReset)] {
        let (core, joined, _) = subject_on(Silent {
            breaks: Some(breaks),
            ..Silent::default()
        })
        .await;
        let mut driver = driver::Driver::new(Arc::clone(&core), 0);
        // How it ended is the loop's to handle.
        drop(driver.spin());
        assert!(lock(&core.inlet).is_none());
        assert_eq!(joined.load(Ordering::SeqCst), 1, "{breaks:?}");
    }
}
