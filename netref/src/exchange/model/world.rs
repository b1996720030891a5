//! Processes and the connections between them: what engine, link and application are around an exchange.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use farref_framing::LaneId;

use super::super::stand_in::{INTERFACE, Line, Lines, Mark, Marks, Numbers, Thing};
use super::super::{Exchange, ExchangeConfig};
use super::oracle::{Checked, Oracle, Violation, need};
use super::schedule::{Plan, Random};
use crate::protocol::{Chain, Outgoing, Received};

/// A reference, as an application holds it.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Near(Arc<Thing>),
    Far(Arc<Mark>),
}

/// A call of an application's that is not over.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) end: usize,
    pub(super) number: u64,
    pub(super) call: usize,
    pub(super) has_pipes: bool,
    /// The method that made the call and waits for it.
    pub(super) caller: Option<(usize, u64)>,
    pub(super) chain: Option<Chain>,
}

/// A method that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) end: usize,
    pub(super) answer: u64,
    pub(super) call: usize,
    /// Its arguments are here.
    pub(super) complete: bool,
    /// The chain of calls that it is a part of.
    pub(super) chain: Option<Chain>,
    /// It waits for a call of its own.
    pub(super) waits: bool,
}

impl Running {
    /// Whether the method can come to its end.
    pub(super) fn is_done(&self) -> bool {
        self.complete && !self.waits
    }
}

/// A call that was passed on.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) end: usize,
    pub(super) number: u64,
    /// Where it came from.
    pub(super) back: (usize, u64),
    pub(super) call: usize,
    /// Keeps the relay's reference.
    pub(super) _hold: Arc<Mark>,
}

/// One process.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) ends: Vec<usize>,
    pub(super) pool: Vec<(Held, usize)>,
    pub(super) calls: Vec<Pending>,
    pub(super) running: Vec<Running>,
}

/// One end of a connection.
pub(super) struct End {
    pub(super) process: usize,
    pub(super) peer: usize,
    pub(super) exchange: Exchange<Numbers>,
    pub(super) wire: Lines,
    pub(super) marks: Marks,
    /// On the way to the peer.
    pub(super) flying: VecDeque<Line>,
    /// Bodies on the way to the peer, behind their heads; `None` is one that was given up.
    pub(super) bodies: Vec<(LaneId, Option<Bytes>)>,
    /// Bodies that this end does not send any more, and that the peer does not want any more.
    pub(super) given_up: HashSet<LaneId>,
    pub(super) unwanted: HashSet<LaneId>,
    /// How many messages of the peer came.
    pub(super) received: u64,
    pub(super) severed: bool,
    /// Calls of the peer's, by its number for them.
    pub(super) arrived: HashMap<u64, usize>,
}

impl End {
    /// Whether a result waits for its flush.
    pub(super) fn is_flushing(&self) -> bool {
        !self.severed && !self.exchange.flushes.is_empty()
    }
}

/// All of it.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: Random,
    pub(super) processes: Vec<Process>,
    pub(super) ends: Vec<End>,
    pub(super) forwarded: Vec<Forwarded>,
    pub(super) oracle: Oracle,
    pub(super) things: usize,
    pub(super) now: u64,
}

impl World {
    pub(super) fn new(plan: Plan, mut random: Random) -> Self {
        let mut links = vec![(0, 1)];
        if plan.processes == 3 {
            links.push((1, 2));
            if random.one_in(2) {
                links.push((0, 2));
            }
        }
        let mut world = Self {
            plan,
            random,
            processes: (0..plan.processes).map(|_| Process::default()).collect(),
            ends: Vec::new(),
            forwarded: Vec::new(),
            oracle: Oracle::new(plan.tight),
            things: 0,
            now: 1,
        };
        for (left, right) in links {
            let first = world.ends.len();
            world.add_end(left, first + 1);
            world.add_end(right, first);
        }
        world
    }

    fn add_end(&mut self, process: usize, peer: usize) {
        let side = self.ends.len();
        let mut config = ExchangeConfig::default();
        if self.plan.tight {
            config.max_calls = 1 + self.random.below(3);
            config.max_call_bytes = 100;
        }
        let root = self.thing();
        // What a relay should do with a call whose arguments are not complete is the engine's business.
        let mut wire = Lines::parting_at(if self.plan.processes == 2 { 64 } else { usize::MAX });
        let mut exchange = Exchange::new(config, root.handed(INTERFACE, false), &mut wire);
        exchange.set_max_message(1 << 20);
        exchange.rules.without = self.plan.without;
        self.processes[process].ends.push(side);
        self.ends.push(End {
            process,
            peer,
            exchange,
            wire,
            marks: Marks {
                side,
                ..Marks::default()
            },
            flying: VecDeque::new(),
            bodies: Vec::new(),
            given_up: HashSet::new(),
            unwanted: HashSet::new(),
            received: 0,
            severed: false,
            arrived: HashMap::new(),
        });
        // Both roots are known to the oracle by their numbers: that of a side is one more than the side's.
        debug_assert_eq!(root.number, side + 1);
    }

    pub(super) fn thing(&mut self) -> Arc<Thing> {
        self.things += 1;
        Thing::new(self.things)
    }

    /// No method may still wait for a call.
    pub(super) fn assert_progress(&self) -> Checked {
        for (process, of) in self.processes.iter().enumerate() {
            need(of.running.is_empty(), "I8", || {
                format!("{} methods of {process} wait for ever", of.running.len())
            })?;
        }
        Ok(())
    }

    pub(super) fn drop_everything(&mut self) {
        for process in 0..self.processes.len() {
            self.processes[process].pool.clear();
            for Pending { end, number, .. } in std::mem::take(&mut self.processes[process].calls) {
                self.drop_call(end, number);
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.processes
            .iter()
            .all(|of| of.calls.is_empty() && of.pool.is_empty() && of.running.is_empty())
    }

    pub(super) fn assert_empty(&self) -> Checked {
        need(self.forwarded.is_empty(), "I2", || {
            format!("{} calls are still passed on", self.forwarded.len())
        })?;
        for (side, end) in self.ends.iter().enumerate() {
            let stats = end.exchange.stats();
            let exports = usize::from(!end.severed);
            let left = (stats.exports, stats.imports, stats.calls, stats.answers);
            need(left == (exports, 0, 0, 0), "I2", || {
                format!("end {side} is left with {stats:?}")
            })?;
        }
        Ok(())
    }
}

/// The arguments of a call; some are long.
pub(super) fn body(call: usize, long: bool) -> Vec<u8> {
    let mut body = (call as u64).to_le_bytes().to_vec();
    if long {
        body.resize(70, 7);
    }
    body
}

/// The result of a call; some are long.
pub(super) fn result(call: usize) -> Vec<u8> {
    body(call ^ 1 << 40, call.is_multiple_of(7))
}

/// A reference on its way over a connection.
pub(super) fn outgoing(end: usize, held: &Held, lent: bool) -> Outgoing<Numbers> {
    match held {
        Held::Near(thing) => thing.handed(INTERFACE, lent),
        Held::Far(mark) if mark.side == end => mark.home(),
        // A relay: the same one for the same reference.
        Held::Far(mark) => {
            let relay = Arc::new(Thing {
                number: usize::MAX,
                far: Some(Arc::clone(mark)),
            });
            Outgoing::Local {
                object: relay,
                interface: INTERFACE,
                lent,
            }
        }
    }
}

/// A reference that came. A relay that comes home is what it relays.
pub(super) fn held(received: Received<Numbers>) -> Checked<Option<Held>> {
    match received {
        Received::Null => Ok(None),
        Received::Broken(error) => Err(Violation("I1", format!("a reference is broken: {error}"))),
        Received::Import(mark) => Ok(Some(Held::Far(mark))),
        Received::Home(thing) => Ok(Some(match &thing.far {
            Some(mark) => Held::Far(Arc::clone(mark)),
            None => Held::Near(thing),
        })),
    }
}
