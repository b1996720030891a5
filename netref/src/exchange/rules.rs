//! Rules that a test can switch off, to see that something notices.

/// One rule of the protocol, whose removal the model of the tests must find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A release gives back as many copies as have come.
    CountOnRelease,
    /// A release of an older proxy gives back nothing.
    Generation,
    /// What a call lends stays until it returns.
    PinUntilReturn,
    /// A lent reference that is kept is retained.
    RetainAtOnce,
    /// References in a result that nobody wants are released.
    LateResultReleased,
    /// A cancel finds calls that wait for their target.
    CancelReachesQueues,
    /// A call that others depend on is not cancelled.
    CancelWithoutChildren,
    /// An outcome is shown only when all before it was handed on.
    OutcomeInTurn,
    /// A result that lives with the caller is flushed before it is used.
    AwaitFlush,
    /// Calls on any slot of a result count for that.
    EverySlotFlushed,
    /// Also those that wait for the peer's limits: it is written behind them.
    FlushBehindWaiting,
    /// A flush is acknowledged behind the calls that were passed on.
    AckBehindCalls,
    /// Also behind those of them that wait for the peer's limits.
    AckBehindWaiting,
    /// But not behind calls that are less deep.
    AckPastShallower,
    /// A call is finished with.
    Finish,
    /// It is not before its flush was acknowledged.
    FinishAfterFlush,
    /// A result that waits for its flush is given up when the session ends.
    SeverDropsFlushing,
    /// A call that was cut off is said not to be sent only if it was not.
    Certainty,
    /// One call of each depth is admitted, whatever is under way.
    OneOfEachDepth,
    /// A call is passed on a limited number of times.
    HopLimit,
}

/// Which rule is switched off: none but in tests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    #[cfg(any(test, fuzzing))]
    pub(super) without: Option<Rule>,
}

impl Rules {
    /// Whether the rule holds.
    #[cfg(any(test, fuzzing))]
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether the rule holds: it does.
    #[cfg(not(any(test, fuzzing)))]
    #[expect(clippy::unused_self, reason = "as in tests")]
    pub(super) const fn hold(self, _: Rule) -> bool {
        true
    }
}
