//! Strangers that want to go on with the session of somebody else (PROTOCOL.md § 4.5, § 4.6).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use farref::message::Message;
use farref_framing::{AttachConfig, Batch, Body, Link, LinkConfig, LinkEvent, Role, StreamKey, StreamLink};
use farref_integration_tests::bench::Bench;
use farref_integration_tests::raw_peer::{call, hello};

use super::{House, message};

/// A dialer with a session, whose carriers the test opens.
struct Dialer {
    link: StreamLink,
    stream: UnixStream,
    input: BytesMut,
    now: u64,
}

impl Dialer {
    fn new(house: &House) -> Self {
        let mut config = LinkConfig::new(Role::Dialer, [1; 16], [2; 32]);
        config.session = true;
        Self {
            link: StreamLink::new(config, 0),
            stream: carrier(house),
            input: BytesMut::new(),
            now: 0,
        }
    }

    fn say(&mut self, message: &Message<'_>, body: &[u8]) {
        let mut head = Vec::new();
        message.encode(&mut head);
        self.link.submit(&head, Body::Slice(body)).unwrap();
        let said = self.unsaid();
        self.stream.write_all(&said).unwrap();
    }

    /// What the link has to say.
    fn unsaid(&mut self) -> Vec<u8> {
        let (mut batch, mut said) = (Batch::new(), Vec::new());
        while self.link.poll_transmit(&mut batch, self.now) {
            said.extend(batch.to_vec(StreamKey::MAIN));
            batch = Batch::new();
        }
        said
    }

    /// Waits for the answer to that call.
    fn hears(&mut self, number: u64) {
        loop {
            while let Some(event) = self.link.poll_event() {
                if let LinkEvent::PeerClosing(reason) = &event {
                    panic!("no answer to call {number}: {reason}");
                }
                if let LinkEvent::Message(mut message) = event
                    && let Ok(Message::Return(returned)) = Message::decode(&mut message.bytes, u32::MAX)
                    && returned.call == number
                {
                    return;
                }
            }
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).unwrap();
            assert!(read > 0, "the carrier ended before call {number} was answered");
            self.input.extend_from_slice(&piece[..read]);
            self.now += 1;
            let handled = self
                .link
                .handle_bytes(StreamKey::MAIN, &mut self.input, false, self.now);
            handled.unwrap();
            let said = self.unsaid();
            self.stream.write_all(&said).unwrap();
        }
    }
}

fn carrier(house: &House) -> UnixStream {
    let stream = UnixStream::connect(&house.path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The code of the REJECT that is answered to `request`.
fn refused(house: &House, request: &[u8]) -> u8 {
    let mut stream = carrier(house);
    stream.write_all(request).unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    let fields = usize::from(u16::from_le_bytes([said[24], said[25]]));
    match said[26 + fields..] {
        [0x0d, 0, _, code, ..] => code,
        _ => panic!("no refusal: {said:x?}"),
    }
}

#[test]
fn a_session_is_gone_on_with_by_its_own_dialer_and_once() {
    let house = House::new();
    let mut dialer = Dialer::new(&house);
    let add = |number| message(call::<dyn Bench>(number, 0, "add"));
    dialer.say(&hello(), b"");
    dialer.say(&add(1), &[20, 22]);
    dialer.hears(1);
    dialer.now += 1;
    dialer.link.detach(dialer.now).unwrap();
    dialer
        .link
        .attach(AttachConfig::new([3; 16]), dialer.now)
        .unwrap();
    let request = dialer.unsaid();
    let name = 26 + usize::from(u16::from_le_bytes([request[24], request[25]])) + 3;

    // The name of a session is no secret: whoever has heard it lacks the proof, and changes nothing.
    let changed = |at: usize| {
        let mut forged = request.clone();
        forged[at] ^= 1;
        forged
    };
    let last = request.len() - 1;
    assert_eq!(refused(&house, &changed(last)), 5, "a forged proof");
    assert_eq!(refused(&house, &changed(name)), 1, "the name of no session");
    assert_eq!(refused(&house, &changed(8)), 5, "the nonce of another carrier");

    // It is its own, and is answered on its new carrier.
    dialer.stream = carrier(&house);
    dialer.stream.write_all(&request).unwrap();
    dialer.say(&add(2), &[1, 2]);
    dialer.hears(2);
    // What was heard of that is stale, and takes the carrier from nobody.
    assert_eq!(refused(&house, &request), 4, "the same request again");
    dialer.say(&add(3), &[1, 2]);
    dialer.hears(3);
    dialer.link.close(farref_framing::CloseReason::done());
    let bye = dialer.unsaid();
    dialer.stream.write_all(&bye).unwrap();
    drop(dialer);
    house.stands();
}
