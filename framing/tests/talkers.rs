//! Two talkers on a narrow pipe, each sending half a megabyte at once: both are heard.

#![cfg(test)]

mod support;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::{Context, Poll};

use bytes::Bytes;
use farref_framing::{Batch, Body, CloseReason, Inlet, Link, LinkEvent, Outlet, Role, Written, open};
use farref_transport::Carrier;
use support::{Form, Heard, Side, config, hand_over, pattern, run};

/// What one talker says: small messages and bodies in between, half a megabyte together.
fn speech(salt: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..210)
        .map(|n| {
            let body = if n % 21 == 0 {
                pattern(n, 40_000)
            } else {
                pattern(n, 500)
            };
            (format!("{salt} says {n}: ").into_bytes(), body)
        })
        .collect()
}

fn say(link: &mut dyn Link, salt: usize) {
    for (n, (head, body)) in speech(salt).iter().enumerate() {
        let lane = if n % 2 == 0 {
            link.submit(head, Body::Slice(body)).unwrap()
        } else {
            let (front, back) = body.split_at(body.len() / 3);
            link.submit(
                head,
                Body::Rope(&[Bytes::copy_from_slice(front), Bytes::copy_from_slice(back)]),
            )
            .unwrap()
        };
        assert_eq!(lane.is_some(), body.len() > 16_384);
    }
}

fn check(heard: &Heard, salt: usize) {
    let said: Vec<Vec<u8>> = speech(salt)
        .into_iter()
        .map(|(head, body)| [head, body].concat())
        .collect();
    assert_eq!(heard.whole().unwrap(), said);
}

fn talk(form: Form, buffer: usize, session: bool) {
    let (near, far, _) = form.carriers(buffer);
    let mut a = Side::new(
        form.link(config(Role::Dialer, session, 1)),
        support::End::new(near, Role::Dialer),
    );
    let mut b = Side::new(
        form.link(config(Role::Listener, session, 2)),
        support::End::new(far, Role::Listener),
    );
    say(&mut *a.link, 1);
    say(&mut *b.link, 2);
    run(&mut a, &mut b, 0).unwrap();
    check(&a.heard, 2);
    check(&b.heard, 1);
    for side in [&a, &b] {
        assert_eq!(side.link.stats().unsent, 0);
        assert_eq!(side.link.stats().lanes_in, 0);
    }
}

#[test]
fn two_talkers_on_a_sixteen_byte_stream_are_both_heard() {
    talk(Form::Stream, 16, false);
    talk(Form::Stream, 16, true);
}

#[test]
fn two_talkers_on_sixteen_byte_native_streams_are_both_heard() {
    talk(Form::Native, 16, false);
    talk(Form::Native, 16, true);
}

#[test]
fn two_talkers_with_room_are_both_heard() {
    for form in support::FORMS {
        talk(form, 64 * 1024, true);
    }
}

/// A driver as one would write it: nothing moves unless a waker was called.
struct Driver {
    link: Box<dyn Link>,
    inlet: Inlet,
    outlet: Outlet,
    batch: Batch,
    heard: Heard,
    said_goodbye: bool,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<()> {
        loop {
            let mut moved = self.link.poll_transmit(&mut self.batch, 0);
            if !self.batch.is_empty() {
                moved |= match self.outlet.write(&mut self.batch).unwrap() {
                    Written::All => true,
                    Written::Blocked => self.outlet.poll_writable(cx).map(Result::unwrap).is_ready(),
                };
            }
            if self.outlet.is_buffering() {
                let _ = self.outlet.poll_flush(cx).map(Result::unwrap);
            }
            match self.inlet.try_read() {
                Ok(Some(read)) => {
                    hand_over(&mut *self.link, &mut self.inlet, read, 0).unwrap();
                    self.heard.take(&mut *self.link);
                    moved = true;
                }
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    moved |= self.inlet.poll_readable(cx).map(Result::unwrap).is_ready();
                }
            }
            let complete = self.heard.messages.len() == wanted && self.heard.whole().is_some();
            if complete && !self.said_goodbye {
                self.said_goodbye = true;
                self.link.close(CloseReason::done());
                continue;
            }
            let closed = self
                .heard
                .others
                .iter()
                .any(|event| matches!(event, LinkEvent::PeerClosing(_)));
            if closed && self.link.is_finished() && self.batch.is_empty() {
                return self.outlet.poll_close(cx).map(Result::unwrap);
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }
}

async fn drive(carrier: Carrier, form: Form, role: Role, salt: u8) -> Heard {
    let (inlet, outlet, _, _guard) = open(carrier, role).await.unwrap();
    let mut link = form.link(config(role, true, salt));
    say(&mut *link, usize::from(salt));
    let mut driver = Driver {
        link,
        inlet,
        outlet,
        batch: Batch::new(),
        heard: Heard::default(),
        said_goodbye: false,
    };
    poll_fn(|cx| driver.poll(cx, 210)).await;
    driver.heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drivers_that_sleep_are_woken() {
    for form in support::FORMS {
        for buffer in [100, 5000] {
            let (near, far, _) = form.carriers(buffer);
            let dialer = tokio::spawn(drive(near, form, Role::Dialer, 1));
            let listener = tokio::spawn(drive(far, form, Role::Listener, 2));
            check(&dialer.await.unwrap(), 2);
            check(&listener.await.unwrap(), 1);
        }
    }
}
