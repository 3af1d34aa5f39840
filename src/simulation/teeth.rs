//! Known-bad variants of the stages and of the store: whoever trusts the simulation wants to see it bite.

/// One mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bad {
    ClaimAfterSending,
    UnknownIsAbsent,
    CheckBeforeTheTurn,
    TurnFreedAtTheHead,
    FingerprintWithoutBody,
    AnsweredBeforeDurable,
    ForwardedNotStored,
    /// An instance sends though the others take it for dead.
    SendsThoughLapsed,
    /// An instance sends what it claimed in a life that the others have settled.
    SendsInAnotherLife,
    /// What a dead instance had forwarded is free.
    LapseFreesForwarded,
    /// A resource does not rest after an instance died with a write out.
    NoRestFromLapse,
    /// Turns hold on each instance alone.
    TurnsOfOneInstance,
}

thread_local! { static MADE: std::cell::Cell<Option<Bad>> = const { std::cell::Cell::new(None) }; }

/// From now on, on this thread, this mistake is made, or none.
pub(super) fn make(bad: Option<Bad>) {
    MADE.set(bad);
}

/// Whether this mistake is made.
pub(crate) fn is(bad: Bad) -> bool {
    MADE.get() == Some(bad)
}
