//! Plausible bugs, kept as a list: each can be switched on in a test, and a test must notice.
//!
//! Only with the feature `mutations`, which nothing that is shipped turns on; without it [`mutated!`]
//! is the constant `false`. The danger guarded against is a test that would pass whatever the code
//! did: `tests/tests/mutations.rs` runs the simulator with each of these.

use std::sync::atomic::{AtomicU8, Ordering};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum M {
    /// A change is applied fast although it does not replace what stands.
    FastWithoutPred = 1,
    /// A change is applied fast on a document with conflicts.
    FastWithoutConflict,
    /// The id of a known item is given to a new one.
    DerivedIdReused,
    /// An edit supersedes what the document holds, not what the disk showed.
    SupersedeCurrent,
    /// A tombstone takes away whatever stands, not what it names.
    DeleteNamesNothing,
    /// A file that appears where the mesh has other bytes is taken for those.
    AdoptDiffering,
    /// Own content is announced without being flushed.
    AnnounceUnflushed,
    /// An own batch is announced before it is durable.
    AnnounceBeforeDurable,
    /// What is acknowledged is not durable.
    AckBeforeDurable,
    /// Staged files are swapped in without being flushed.
    SwapUnflushed,
    /// Steps are taken before their `placing` rows are durable.
    PlacingNotDurable,
    /// Base rows are written although the step was refused.
    BaseBeforeSwap,
    /// What comes out of a swap is not compared with base.
    IgnoreOutOfSwap,
    /// Changes that were not sealed are forgotten at the next start.
    LoseOutbox,
    /// Nothing is cleared up after a crash.
    NoRecovery,
    /// What a step put in place before a crash is left to the scan.
    PlacedForgotten,
    /// What a step had set aside before a crash is left to the scan.
    AsideForgotten,
    /// A deleted directory goes although something lives in it.
    DirectoryDiesWithChildren,
    /// A file whose times cannot vouch for it is not read again.
    RacyIgnored,
    /// A file is removed without a look at it.
    RemoveUnseen,
    /// An edit leaves standing what another operation put of the bytes it replaces.
    EqualBytesUnseen,
    /// A conflict copy gets the suffixed name of somebody's file.
    CopyNameTaken,
    /// A conflict copy that base does not know is taken for a new file.
    CopyIsNew,
    /// What is deleted after the brake's question was answered belongs to the answered act.
    ActOutlivesAnswer,
    /// What was deleted elsewhere comes back with a device that joins again.
    JoinerRevives,
    /// A process goes on with its log although others were told more of it.
    LogRunsTwice,
    /// What a device once acknowledged counts although it says that it has less now.
    AcksNeverLess,
    /// Only who is connected hears that a space was left.
    LeaveSaidOnce,
    /// A scan that came to no end is not repeated.
    ScanOnce,
    /// Whoever was asked for state is waited for, whatever comes.
    GiverForEver,
    /// What a turn of the planner did not get to waits for something to happen.
    RestForgotten,
    /// A folder of which not all is watched is scanned no more often than another.
    UnwatchedForgotten,
    /// What is ignored is written and removed as if it were not.
    RulesForgotten,
    /// A folder is merged before the rules of its space are known.
    RulesAfterMerge,
    /// What went while it was ignored is taken for deleted.
    GoneWhileIgnored,
}

/// All of them.
pub const ALL: &[M] = &[
    M::FastWithoutPred,
    M::FastWithoutConflict,
    M::DerivedIdReused,
    M::SupersedeCurrent,
    M::DeleteNamesNothing,
    M::AdoptDiffering,
    M::AnnounceUnflushed,
    M::AnnounceBeforeDurable,
    M::AckBeforeDurable,
    M::SwapUnflushed,
    M::PlacingNotDurable,
    M::BaseBeforeSwap,
    M::IgnoreOutOfSwap,
    M::LoseOutbox,
    M::NoRecovery,
    M::PlacedForgotten,
    M::AsideForgotten,
    M::DirectoryDiesWithChildren,
    M::RacyIgnored,
    M::RemoveUnseen,
    M::EqualBytesUnseen,
    M::CopyNameTaken,
    M::CopyIsNew,
    M::ActOutlivesAnswer,
    M::JoinerRevives,
    M::LogRunsTwice,
    M::AcksNeverLess,
    M::LeaveSaidOnce,
    M::ScanOnce,
    M::GiverForEver,
    M::RestForgotten,
    M::UnwatchedForgotten,
    M::RulesForgotten,
    M::RulesAfterMerge,
    M::GoneWhileIgnored,
];

static ACTIVE: AtomicU8 = AtomicU8::new(0);

/// Switches one on, or all off.
pub fn set(mutation: Option<M>) {
    ACTIVE.store(mutation.map_or(0, |m| m as u8), Ordering::SeqCst);
}

/// Whether this one is on.
pub fn active(mutation: M) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutation as u8
}
