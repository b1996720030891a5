//! Stand-ins for the engine and the link: what the model, the tests and the fuzz bodies drive an exchange with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use farref_framing::{LaneId, LinkError, Misuse};

use super::{Inbound, Wire};
use crate::protocol::{BodyRef, Factory, Handles, Imported, Op, Outgoing};

pub(crate) const INTERFACE: u64 = 7;
pub(crate) const OP: Op = Op::Method {
    interface: INTERFACE,
    method: 1,
    shape: 2,
};

/// Handles that are numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers;

impl Handles for Numbers {
    type Object = Arc<Thing>;
    type Proxy = Arc<Mark>;
    type WeakProxy = Weak<Mark>;
    type Waiter = u64;

    fn downgrade(proxy: &Arc<Mark>) -> Weak<Mark> {
        Arc::downgrade(proxy)
    }

    fn upgrade(weak: &Weak<Mark>) -> Option<Arc<Mark>> {
        weak.upgrade()
    }

    fn key(object: &Arc<Thing>) -> usize {
        let far = object.far.as_ref();
        far.map_or(object.number, |mark| Arc::as_ptr(mark) as usize)
    }

    fn imported(proxy: &Arc<Mark>) -> Imported {
        proxy.imported
    }
}

/// A hosted object.
#[derive(Debug)]
pub(crate) struct Thing {
    pub(crate) number: usize,
    /// What it passes calls on to, if it is a relay.
    pub(crate) far: Option<Arc<Mark>>,
}

impl Thing {
    pub(crate) fn new(number: usize) -> Arc<Self> {
        Arc::new(Self { number, far: None })
    }

    /// The thing, handed out under an interface.
    pub(crate) fn handed(self: &Arc<Self>, interface: u64, lent: bool) -> Outgoing<Numbers> {
        Outgoing::Local {
            object: Arc::clone(self),
            interface,
            lent,
        }
    }
}

/// Proxies that died, until the exchange is told.
pub(crate) type Dropped = Arc<Mutex<Vec<(u64, u32)>>>;

/// A proxy.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) imported: Imported,
    pub(crate) side: usize,
    dropped: Dropped,
}

impl Mark {
    /// The proxy, on its way home.
    pub(crate) fn home(self: &Arc<Self>) -> Outgoing<Numbers> {
        Outgoing::Home {
            proxy: Arc::clone(self),
            id: self.imported.id,
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.push((self.imported.id, self.imported.generation));
    }
}

/// Makes proxies of one side.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    pub(crate) side: usize,
    pub(crate) dropped: Dropped,
}

impl Factory<Numbers> for Marks {
    fn proxy(&self, imported: Imported) -> Arc<Mark> {
        Arc::new(Mark {
            imported,
            side: self.side,
            dropped: Arc::clone(&self.dropped),
        })
    }
}

/// A wire that is a queue.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) queue: VecDeque<Line>,
    /// Heads and bodies longer than this together part.
    pub(crate) fragment: usize,
    /// There is no room.
    pub(crate) full: bool,
    /// There is little room.
    pub(crate) congested: bool,
    pub(crate) closed: bool,
    /// How many messages were taken, and how many of them were written.
    pub(crate) taken: u64,
    pub(crate) written: u64,
    pub(crate) reset: Vec<LaneId>,
    pub(crate) stopped: Vec<LaneId>,
    next_lane: u64,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) head: Bytes,
    /// The body, if it goes by itself.
    pub(crate) bulk: Option<(LaneId, Bytes)>,
}

impl Line {
    pub(crate) fn inbound(&self) -> Inbound {
        let bulk = self.bulk.as_ref().map(|(lane, body)| (*lane, body.len() as u64));
        Inbound {
            bytes: self.head.clone(),
            bulk,
        }
    }
}

impl Lines {
    /// A wire on which bodies go by themselves if they are longer, with their heads, than `fragment`.
    pub(crate) fn parting_at(fragment: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            fragment,
            full: false,
            congested: false,
            closed: false,
            taken: 0,
            written: 0,
            reset: Vec::new(),
            stopped: Vec::new(),
            next_lane: 1,
        }
    }
}

impl Wire for Lines {
    fn submit(&mut self, head: &[u8], body: BodyRef<'_>) -> Result<Option<LaneId>, LinkError> {
        if self.closed {
            return Err(Misuse::Closed.into());
        }
        if self.full {
            return Err(Misuse::Backlog.into());
        }
        let body = super::wire::to_bytes(body);
        self.taken = self.taken.saturating_add(1);
        if head.len().saturating_add(body.len()) > self.fragment && !body.is_empty() {
            let lane = LaneId::new(self.next_lane);
            self.next_lane = self.next_lane.saturating_add(1);
            self.queue.push_back(Line {
                head: Bytes::copy_from_slice(head),
                bulk: Some((lane, body)),
            });
            return Ok(Some(lane));
        }
        self.queue.push_back(Line {
            head: [head, &body].concat().into(),
            bulk: None,
        });
        Ok(None)
    }

    fn reset_lane(&mut self, lane: LaneId) {
        self.reset.push(lane);
    }

    fn stop_lane(&mut self, lane: LaneId) {
        self.stopped.push(lane);
    }

    fn position(&self) -> u64 {
        self.taken
    }

    fn is_transmitted(&self, position: u64) -> bool {
        position <= self.written
    }

    fn is_congested(&self) -> bool {
        self.congested
    }
}
