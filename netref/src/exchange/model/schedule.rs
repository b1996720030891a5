//! One random schedule, from its seed.

use super::super::rules::Rule;
use super::oracle::{Checked, Violation};
use super::world::{Running, World};

/// What kind of schedules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) processes: usize,
    pub(super) steps: usize,
    /// Calls wait for limits most of the time.
    pub(super) tight: bool,
    /// References mostly come home.
    pub(super) homing: bool,
    /// Connections are mostly lost while somebody waits for a flush.
    pub(super) lossy: bool,
    /// Releases may overtake.
    pub(super) overtaking: bool,
    pub(super) without: Option<Rule>,
}

impl Plan {
    pub(super) const fn two() -> Self {
        Self {
            processes: 2,
            steps: 250,
            tight: false,
            homing: false,
            lossy: false,
            overtaking: false,
            without: None,
        }
    }

    pub(super) const fn homing() -> Self {
        Self {
            homing: true,
            ..Self::two()
        }
    }

    pub(super) const fn three() -> Self {
        Self {
            processes: 3,
            ..Self::two()
        }
    }
}

/// Choices: those that a fuzzer has made, and then the same numbers for the same seed (splitmix64).
pub(super) struct Random {
    /// Two bytes for each choice, from the end.
    choices: Vec<u8>,
    state: u64,
}

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            choices: Vec::new(),
            state: seed,
        }
    }

    fn chosen(choices: &[u8]) -> Self {
        Self {
            choices: choices.iter().rev().copied().collect(),
            state: 0,
        }
    }

    fn next(&mut self) -> u64 {
        if let Some(low) = self.choices.pop() {
            return u16::from_le_bytes([low, self.choices.pop().unwrap_or(0)]).into();
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub(super) fn index(&mut self, len: usize) -> Option<usize> {
        if len == 0 {
            None
        } else {
            Some(self.below(len as u64) as usize)
        }
    }
}

/// Runs one schedule: random steps, then everything is dropped and must be gone.
pub(super) fn run(plan: Plan, seed: u64) -> Checked {
    let mut world = World::new(plan, Random::new(seed));
    for _ in 0..plan.steps {
        step(&mut world)?;
    }
    wind_down(&mut world)
}

/// Runs the schedule that a fuzzer makes: a byte says of what kind, and the others choose.
pub(in super::super) fn fuzz(data: &[u8]) {
    let (kind, choices) = data.split_first().unwrap_or((&0, &[]));
    let plan = Plan {
        tight: kind & 1 != 0,
        homing: kind & 2 != 0,
        lossy: kind & 4 != 0,
        processes: if kind & 8 != 0 { 3 } else { 2 },
        ..Plan::two()
    };
    let mut world = World::new(plan, Random::chosen(choices));
    let ended = (|| {
        while !world.random.choices.is_empty() {
            step(&mut world)?;
        }
        wind_down(&mut world)
    })();
    if let Err(Violation(invariant, what)) = ended {
        panic!("{plan:?} violates {invariant}: {what}");
    }
}

fn step(world: &mut World) -> Checked {
    let end = world.random.below(world.ends.len() as u64) as usize;
    let process = world.random.below(world.processes.len() as u64) as usize;
    let times = 1 + world.random.below(3);
    match world.random.below(1000) {
        0..120 => drop((0..times).any(|_| !world.transmit(end))),
        120..240 => {
            for _ in 0..times {
                world.receive(end)?;
            }
        }
        240..270 => drop(world.receive_body(end)),
        270..390 => {
            for _ in 0..times {
                world.handle_event(end)?;
            }
        }
        390..440 => drop(world.release(end, 1)),
        440..455 => world.tick(),
        455..457 if !world.ends[end].severed => world.sever(end),
        457..540 if world.plan.lossy && world.ends[end].is_flushing() => world.sever_flushing(end)?,
        457..600 => world.call(process)?,
        600..720 => world.pipe(process)?,
        720..810 => world.await_call(process)?,
        810..840 => world.cancel(process),
        840..880 => world.drop_reference(process),
        880..900 => world.make_object(process),
        900..930 => world.nest(process)?,
        _ => world.reply(process)?,
    }
    Ok(())
}

fn wind_down(world: &mut World) -> Checked {
    for _ in 0..60 {
        settle(world)?;
        world.assert_progress()?;
        if world.is_idle() {
            break;
        }
        world.drop_everything();
    }
    settle(world)?;
    world.assert_empty()
}

/// Lets everything go on until nothing moves.
fn settle(world: &mut World) -> Checked {
    for _ in 0..20_000 {
        let mut moved = false;
        for end in 0..world.ends.len() {
            while world.transmit(end)
                || world.receive(end)?
                || world.receive_body(end)
                || world.handle_event(end)?
            {
                moved = true;
            }
            moved |= world.release(end, usize::MAX);
        }
        for process in 0..world.processes.len() {
            while world.processes[process].running.iter().any(Running::is_done) {
                moved = true;
                world.reply(process)?;
            }
        }
        if !moved {
            return Ok(());
        }
    }
    Err(Violation("I5", "it never comes to rest".into()))
}
