//! Whether to spin before falling asleep pays: to look again and again, for a moment, whether there is more to read.
//!
//! To sleep and to be woken costs more than many a peer takes to answer: where each side has a CPU of its own, several times
//! as much as the call. Where both share one, the peer cannot answer while this side spins: it is given the CPU before each
//! look, and gives it back by the same, so that neither has to be woken either. Where the peer takes its time, or others
//! want the CPU, spinning is in vain and keeps them from running. So it begins only after many reads in a row, ends when it was
//! in vain, and waits ever longer before it is tried again.

use std::cell::Cell;

use farref_framing::Nanos;

/// So many reads in a row, of this connection alone on its thread, before the first attempt.
const LEAST: u16 = 16;
/// The same after many attempts in vain: to spin for nothing takes as long as a few calls.
const MOST: u16 = 512;
/// After so many that were not in vain all is forgiven, and the next one in vain, which may be the system's doing, takes little.
const FORGIVEN: u16 = 64;
/// The part of the longest spin after which whatever comes might as well have been slept for.
const SOON: u64 = 2;
/// So many in a row may take longer: the peer is asleep before it has begun to spin as well.
const SLOW: u8 = 4;

/// After so many reads in a row that have brought nothing whole there is something large on its way. That is better slept for:
/// it comes in fewer pieces.
const PARTS: u8 = 8;

/// So much of the longest spin the peer may take, once, and what else there is of both on that CPU. Who has nothing to do with
/// them takes more.
const TURN: u64 = 2;
/// A look before which the CPU was given away takes less if nobody wanted it.
const BRIEF: Nanos = 2_000;
/// So many spins in a row that ended with such looks, and the CPU is not shared.
const BRIEFS: u8 = 32;
/// Whoever was crowded out keeps the CPU for so many reads: it has waited for as long as some hundred calls take.
const KEPT: u32 = 64;
/// That is doubled so often at most, each time that it is crowded out again,
const DOUBLED: u8 = 10;
/// and halved each time that it was given the CPU back so often.
const GIVEN: u8 = 64;

/// What is done between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Between {
    /// Nothing, for a few moments.
    Pausing,
    /// The CPU is given to others.
    Yielding,
}

impl Between {
    /// A look that takes longer says that others want the CPU, where a spin takes `moment` at most.
    pub(super) const fn patience(self, moment: Nanos) -> Nanos {
        match self {
            Self::Pausing => moment / SOON,
            Self::Yielding => moment.saturating_mul(TURN),
        }
    }
}

/// Whoever spins gives way that often: to wake another thread of the runtime takes as long as half a call.
const TURNS: u8 = 64;

thread_local! {
    /// Which connection was read last on this thread: a place in memory, to compare. Where several are in use, one that spins
    /// would keep the others waiting.
    static LAST: Cell<usize> = const { Cell::new(0) };
}

/// What became of the reads of one connection lately.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Reads in a row since the last spin that was in vain.
    reads: u32,
    /// The last of them that have brought nothing whole.
    parts: u8,
    /// So many before the next attempt.
    wanted: u16,
    /// The last spins, so many, took long.
    slow: u8,
    /// So many spins in a row in which nobody else has wanted the CPU.
    briefs: u8,
    /// For so many reads more the CPU is not given away.
    kept: u32,
    /// So often that is doubled the next time.
    crowded: u8,
    /// So often it was given the CPU back since that was last changed.
    given: u8,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            reads: 0,
            parts: 0,
            wanted: LEAST,
            slow: 0,
            briefs: 0,
            kept: 0,
            crowded: 0,
            given: 0,
        }
    }
}

impl Pace {
    /// Whether to spin pays.
    pub(super) const fn is_quick(&self) -> bool {
        self.reads >= self.wanted as u32
    }

    /// So much was read that there is no saying when more comes.
    pub(super) const fn has_read_much(&mut self) {
        self.reads = 0;
        if self.wanted < LEAST {
            self.wanted = LEAST;
        }
    }

    /// A part of something was read.
    pub(super) const fn has_read_part(&mut self) {
        self.parts = self.parts.saturating_add(1);
        if self.parts > PARTS {
            self.has_read_much();
        }
    }

    /// Something was read, of the connection at this place.
    pub(super) fn has_read(&mut self, connection: usize) {
        self.parts = 0;
        self.kept = self.kept.saturating_sub(1);
        match LAST.replace(connection) {
            last if last == connection => self.reads = self.reads.saturating_add(1),
            // A thread that has read none yet: the driver has moved.
            0 => self.reads = 0,
            _ => self.has_read_much(),
        }
        if self.reads >= u32::from(self.wanted + FORGIVEN) {
            self.wanted = 1;
        }
    }

    /// What whoever spins is to do between two looks.
    pub(super) const fn between(&self) -> Between {
        if self.kept == 0 && self.briefs < BRIEFS {
            Between::Yielding
        } else {
            Between::Pausing
        }
    }

    /// It was read after a spin of `took`, of `moment` at most, with looks as long as `look`.
    pub(super) fn has_spun(&mut self, between: Between, took: Nanos, look: Nanos, moment: Nanos) {
        if between == Between::Yielding {
            self.briefs = if look < BRIEF {
                self.briefs.saturating_add(1)
            } else {
                0
            };
            self.given += 1;
            if self.given >= GIVEN {
                self.given = 0;
                self.crowded = self.crowded.saturating_sub(1);
            }
        }
        let is_slow = took > moment / SOON;
        self.slow = if is_slow { self.slow + 1 } else { 0 };
        if self.slow > SLOW {
            self.was_in_vain();
        }
    }

    /// A spin has brought nothing.
    pub(super) const fn was_in_vain(&mut self) {
        self.reads = 0;
        self.wanted = if self.wanted < MOST { self.wanted * 2 } else { MOST };
        self.slow = 0;
        self.briefs = 0;
    }

    /// Others want the CPU: who gives it away does not get it back soon.
    pub(super) const fn was_crowded_out(&mut self) {
        self.was_in_vain();
        self.kept = KEPT << self.crowded;
        self.given = 0;
        if self.crowded < DOUBLED {
            self.crowded += 1;
        }
    }
}

/// Whether whoever is about to spin gives way to others on its thread first: the first time, and then now and then. Each time
/// the runtime looks through all its queues, and wakes another of its threads to look, too.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    /// Times since it was last due.
    turns: u8,
}

impl Courtesy {
    /// Whether it is due now.
    pub(super) const fn is_due(&mut self) -> bool {
        let due = self.turns == 0;
        self.turns = (self.turns + 1) % TURNS;
        due
    }

    /// There may be others by now.
    pub(super) const fn renew(&mut self) {
        self.turns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Nanos = 50_000;

    fn read(pace: &mut Pace, times: u16) {
        for _ in 0..times {
            pace.has_read(1);
        }
    }

    #[test]
    fn whoever_spins_gives_way_the_first_time_and_then_now_and_then() {
        let mut courtesy = Courtesy::default();
        let mut due = || {
            (0..u32::from(TURNS))
                .map(|_| courtesy.is_due())
                .collect::<Vec<_>>()
        };
        let first = due();
        assert_eq!(first.iter().position(|due| *due), Some(0));
        assert_eq!(first.iter().filter(|due| **due).count(), 1);
        assert_eq!(due(), first, "no turn is the last");
        assert!(courtesy.is_due() && !courtesy.is_due());
        courtesy.renew();
        assert!(courtesy.is_due(), "there may be others by now");
    }

    #[test]
    fn spinning_begins_after_many_reads_in_a_row() {
        let mut pace = Pace::default();
        read(&mut pace, LEAST);
        assert!(!pace.is_quick(), "the first one follows none of its own");
        read(&mut pace, 1);
        assert!(pace.is_quick());
        pace.has_read(2);
        assert!(!pace.is_quick(), "another connection is in use");
        read(&mut pace, 2 * FORGIVEN);
        pace.has_read(2);
        read(&mut pace, LEAST);
        assert!(!pace.is_quick(), "however long it was in use alone");
    }

    #[test]
    fn what_comes_in_many_pieces_is_slept_for() {
        let mut pace = Pace::default();
        read(&mut pace, LEAST + 1);
        for _ in 0..PARTS {
            pace.has_read_part();
        }
        assert!(pace.is_quick(), "it may be whole with the next");
        pace.has_read(1);
        for _ in 0..=PARTS {
            pace.has_read_part();
        }
        assert!(!pace.is_quick());
    }

    #[test]
    fn spins_in_vain_become_ever_rarer() {
        let mut pace = Pace::default();
        let (mut spins, reads) = (0, 1_000_000);
        for _ in 0..reads {
            pace.has_read(1);
            if pace.is_quick() {
                spins += 1;
                pace.was_in_vain();
            }
        }
        assert!((1900..2000).contains(&spins), "{spins} in {reads} reads");
    }

    #[test]
    fn one_spin_in_vain_among_many_is_forgiven() {
        let mut pace = Pace::default();
        read(&mut pace, LEAST + 1);
        for _ in 0..100 {
            pace.was_in_vain();
            read(&mut pace, 2 * LEAST + FORGIVEN);
            assert!(pace.is_quick());
        }
        pace.was_in_vain();
        assert!(!pace.is_quick());
        read(&mut pace, 2);
        assert!(pace.is_quick(), "the peer most likely spins still");
    }

    #[test]
    fn the_cpu_is_given_to_the_peer_where_that_may_be_what_it_lacks() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(pace.between(), Between::Yielding, "it has answered then");
            pace.has_spun(Between::Yielding, BRIEF, BRIEF, MOMENT);
        }
        for _ in 0..BRIEFS {
            assert_eq!(pace.between(), Between::Yielding);
            pace.has_spun(Between::Pausing, BRIEF, 1, MOMENT);
            pace.has_spun(Between::Yielding, BRIEF, 1, MOMENT);
        }
        assert_eq!(pace.between(), Between::Pausing, "it has a CPU of its own");
        pace.was_in_vain();
        assert_eq!(pace.between(), Between::Yielding, "it may have lost that");
        pace.was_crowded_out();
        assert_eq!(pace.between(), Between::Pausing, "others have taken it");
    }

    #[test]
    fn who_is_crowded_out_gives_the_cpu_away_ever_more_rarely() {
        let mut pace = Pace::default();
        let mut kept_for = || {
            pace.was_crowded_out();
            let mut reads = 0_u32;
            while pace.between() == Between::Pausing {
                pace.has_read(1);
                // Whoever only spins may be in vain as well.
                pace.was_in_vain();
                reads += 1;
            }
            reads
        };
        assert_eq!((kept_for(), kept_for()), (KEPT, 2 * KEPT));
        let most = (0..20).map(|_| kept_for()).max();
        assert_eq!(most, Some(KEPT << DOUBLED));
        for _ in 0..u32::from(DOUBLED) * u32::from(GIVEN) {
            pace.has_spun(Between::Yielding, BRIEF, BRIEF, MOMENT);
        }
        pace.was_crowded_out();
        assert_eq!(pace.kept, KEPT, "it has been given back since");
    }

    #[test]
    fn to_wait_long_is_in_vain_after_a_few_times() {
        let mut pace = Pace::default();
        let spun = |pace: &mut Pace, took| pace.has_spun(Between::Pausing, took, 1, MOMENT);
        read(&mut pace, LEAST + 1);
        for _ in 0..SLOW {
            spun(&mut pace, MOMENT);
        }
        assert!(pace.is_quick(), "the peer was asleep");
        spun(&mut pace, 1);
        for _ in 0..SLOW {
            spun(&mut pace, MOMENT);
        }
        assert!(pace.is_quick());
        spun(&mut pace, MOMENT);
        assert!(!pace.is_quick());
    }
}
