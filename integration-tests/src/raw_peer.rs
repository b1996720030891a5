//! A peer that says what it likes: links and messages as farref writes them, or any bytes, and no promise kept.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref::message::{
    Call, Descriptor, Handed, Hello, Message, Operation, PeerLimits, Return, Target, Verdict,
};
use farref::protocol::{CallOptions, Op};
use farref_framing::{
    Batch, Body, CloseReason, LaneId, Link, LinkConfig, LinkEvent, Role, StreamKey, StreamLink,
};

/// What it may wait for comes within that.
const PATIENCE: Duration = Duration::from_secs(60);

/// A peer over a Unix socket, on the thread of the test.
pub struct RawPeer {
    stream: UnixStream,
    link: StreamLink,
    input: BytesMut,
    now: u64,
    /// How many copies of its exports it was given back.
    released: HashMap<u64, u64>,
}

impl RawPeer {
    /// Over an open carrier. Nothing is said yet.
    pub fn new(stream: UnixStream, role: Role) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            link: StreamLink::new(
                LinkConfig::new(role, [role as u8 + 7; 16], [role as u8 + 9; 32]),
                0,
            ),
            input: BytesMut::new(),
            now: 0,
            released: HashMap::new(),
        }
    }

    /// Dials `path` and introduces itself; the peer has introduced itself as well.
    pub fn dial(path: &std::path::Path) -> Self {
        let mut peer = Self::new(UnixStream::connect(path).unwrap(), Role::Dialer);
        peer.say(&hello());
        match peer.hear() {
            Heard::Message(Message::Hello(_), _) => peer,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a message.
    pub fn say(&mut self, message: &Message<'_>) {
        self.say_with(message, b"");
    }

    /// Sends a message with a body. A long one goes on a lane of its own, which is returned.
    pub fn say_with(&mut self, message: &Message<'_>, body: &[u8]) -> Option<LaneId> {
        let mut head = Vec::new();
        message.encode(&mut head);
        self.submit(&head, body)
    }

    /// Sends any bytes as a message.
    pub fn say_bytes(&mut self, head: &[u8], body: &[u8]) {
        self.submit(head, body);
    }

    fn submit(&mut self, head: &[u8], body: &[u8]) -> Option<LaneId> {
        let lane = self.link.submit(head, Body::Slice(body)).unwrap();
        self.flush();
        lane
    }

    /// Sends a message if the other side takes it, or has hung up, within a second. Afterwards nothing can be said.
    pub fn say_unless_full(&mut self, message: &Message<'_>, body: &[u8]) -> bool {
        let mut head = Vec::new();
        message.encode(&mut head);
        self.link.submit(&head, Body::Slice(body)).unwrap();
        let mut batch = Batch::new();
        self.link.poll_transmit(&mut batch, self.now);
        self.stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        self.stream.write_all(&batch.to_vec(StreamKey::MAIN)).is_ok()
    }

    /// Gives up a body.
    pub fn reset(&mut self, lane: LaneId) {
        self.link.reset_lane(lane, 1);
        self.flush();
    }

    /// Sends any bytes as they are. What the link has to say goes first. The other side may hang up meanwhile.
    pub fn write(&mut self, bytes: &[u8]) {
        self.flush();
        let _ = self.stream.write_all(bytes);
    }

    /// Says nothing more, without a goodbye.
    pub fn hang_up(&mut self) {
        self.flush();
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Closes in order.
    pub fn close(&mut self) {
        self.link.close(CloseReason::done());
        self.flush();
    }

    fn flush(&mut self) {
        let mut batch = Batch::new();
        while self.link.poll_transmit(&mut batch, self.now) {
            // The other side may hang up in the middle: the test hears that.
            let _ = self.stream.write_all(&batch.to_vec(StreamKey::MAIN));
            batch = Batch::new();
        }
    }

    /// How many copies of an export of its own it was given back: at least one.
    pub fn released(&mut self, export: u64) -> u64 {
        loop {
            if let Some(copies) = self.released.get(&export) {
                return *copies;
            }
            if let Heard::Closing(_) | Heard::End = self.hear() {
                panic!("export {export} was not given back");
            }
        }
    }

    /// The next thing that the other side says.
    pub fn hear(&mut self) -> Heard {
        let heard = self.hear_any();

        if let Heard::Message(Message::Release { exports }, _) = &heard {
            for (export, copies) in exports.iter() {
                *self.released.entry(*export).or_default() += copies;
            }
        }
        heard
    }

    fn next_heard(&mut self) -> Option<Heard> {
        std::iter::from_fn(|| self.link.poll_event()).find_map(Heard::of)
    }

    fn hear_any(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.next_heard() {
                return heard;
            }
            self.flush();
            self.now += 1;
            let mut piece = [0; 65536];
            let end = match self.stream.read(&mut piece) {
                Ok(0) => true,
                Ok(read) => {
                    self.input.extend_from_slice(&piece[..read]);
                    false
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                Err(error) => panic!("nothing was heard for {PATIENCE:?}: {error}"),
            };
            let handled = self
                .link
                .handle_bytes(StreamKey::MAIN, &mut self.input, end, self.now);
            if let Some(heard) = self.next_heard() {
                return heard;
            }
            if end || handled.is_err() {
                return Heard::End;
            }
        }
    }

    /// What the other side answers to the call; other messages are passed over.
    pub fn answer_to(&mut self, number: u64) -> (Verdict, Bytes) {
        let (returned, body) = self.return_of(number);
        (returned.verdict, body)
    }

    /// The same, with all that it says.
    pub fn return_of(&mut self, number: u64) -> (Return, Bytes) {
        loop {
            match self.hear() {
                Heard::Message(Message::Return(returned), body) if returned.call == number => {
                    return (returned, body);
                }
                Heard::Message(..) | Heard::Body(_) => {}
                other => panic!("no answer to call {number}, but {other:?}"),
            }
        }
    }

    /// How the other side ends the connection; what it says before is passed over.
    pub fn ending(&mut self) -> CloseReason {
        loop {
            match self.hear() {
                Heard::Closing(reason) => return reason,
                Heard::End => panic!("the other side hung up without a word"),
                Heard::Message(..) | Heard::Body(_) => {}
            }
        }
    }
}

/// What the other side says.
#[derive(Debug)]
pub enum Heard {
    /// A message, and its body if that came with it.
    Message(Message<'static>, Bytes),
    /// A long body.
    Body(Bytes),
    /// It closes.
    Closing(CloseReason),
    /// It is gone.
    End,
}

impl Heard {
    fn of(event: LinkEvent) -> Option<Self> {
        match event {
            LinkEvent::Message(message) => {
                let mut bytes = message.bytes;
                let message = Message::decode(&mut bytes, u32::MAX).unwrap();
                Some(Self::Message(message, bytes))
            }
            LinkEvent::BulkDone { body, .. } => Some(Self::Body(body)),
            LinkEvent::PeerClosing(reason) => Some(Self::Closing(reason)),
            _ => None,
        }
    }
}

/// An introduction with limits that nothing here meets, and without a root.
pub fn hello() -> Message<'static> {
    hello_with(Descriptor::Null)
}

/// An introduction that shows a root.
pub fn hello_with(root: Descriptor) -> Message<'static> {
    Message::Hello(Hello {
        version: 1,
        limits: PeerLimits {
            calls: 1 << 20,
            call_bytes: 1 << 40,
            objects: 1 << 20,
            depth: 1 << 10,
            references: 1 << 20,
            streams: 0,
        },
        features: 0,
        root,
        name: "raw".into(),
    })
}

/// A root of this interface.
pub fn root_of<T: ?Sized + farref::RemoteTrait>() -> Descriptor {
    Descriptor::Owned(Handed {
        export: 0,
        object: 0,
        interface: T::INTERFACE.id,
    })
}

/// A call of the method of that name, without arguments, on an export of the other side's.
pub fn call<T: ?Sized + farref::RemoteTrait>(number: u64, export: u64, method: &str) -> Call<'static> {
    let (interface, method) = T::INTERFACE.find_named(method).unwrap();
    Call {
        call: number,
        target: Target::Export(export),
        operation: Operation::Known(Cow::Owned(Op::Method {
            interface: interface.id,
            method: method.number,
            shape: method.arguments_shape(),
        })),
        options: CallOptions::default(),
        time_left: None,
        priority: None,
        descriptors: [].into_iter().collect(),
        streams: Bytes::new(),
    }
}

/// An answer without a value.
pub fn answer(number: u64, descriptors: impl IntoIterator<Item = Descriptor>) -> Message<'static> {
    Message::Return(Return {
        call: number,
        verdict: Verdict::Value,
        shape: 0,
        descriptors: descriptors.into_iter().collect(),
        streams: Bytes::new(),
    })
}
