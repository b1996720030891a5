//! Rules that a test can switch off, to see that something notices.

/// One rule of the protocol, whose removal the model of the tests must find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "rules are switched off by tests alone"))]
pub(crate) enum Rule {
    /// A release gives back as many copies as have come.
    CountOnRelease,
    /// A release of an older proxy gives back nothing.
    Generation,
    /// What a call lends stays until it returns.
    PinUntilReturn,
    /// References in a result that nobody wants are released.
    LateResultReleased,
    /// A cancel finds calls that wait for their target.
    CancelReachesQueues,
    /// A result that lives with the caller is flushed before it is used.
    AwaitFlush,
    /// An acknowledgement is written behind the calls that were passed on.
    AckBehindCalls,
    /// A call is finished with.
    Finish,
    /// A call that others depend on is not cancelled.
    CancelWithoutChildren,
    /// A lent reference is kept before the call returns.
    RetainAtOnce,
    /// An outcome is shown only when all before it was handed on.
    OutcomeInTurn,
    /// Releases go before the next message, not behind it.
    OneReturn,
    /// The lost calls are told whether they were sent.
    Certainty,
    /// A call is passed on a limited number of times.
    HopLimit,
}

/// Which rule is switched off: none but in tests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    pub(super) without: Option<Rule>,
}

impl Rules {
    /// Whether the rule holds.
    #[cfg(test)]
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether the rule holds: it does.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "as in tests")]
    pub(super) const fn hold(self, _: Rule) -> bool {
        true
    }
}
