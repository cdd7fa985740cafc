//! Why a change could not be made or applied. Public as part of [`crate::doc`].

use crate::guard::BadChange;

/// Why a change could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// Two edits of one change put the same register.
    #[error("register {key:?} is written twice in one change")]
    Twice {
        /// The register.
        key: String,
    },
    /// A register's name or value is too long.
    #[error("register {key:?} or its value is too long")]
    Value {
        /// The register.
        key: String,
    },
    /// The change would exceed the limit on changes.
    #[error("the change is too large")]
    TooLarge,
    /// The document's operation counters are used up.
    #[error("the document has used up its operation counters")]
    Exhausted,
    /// The change just made did not fit the document it was made on.
    #[error("the change does not fit the document it was made on")]
    Misplaced,
    /// automerge panicked while encoding.
    #[error("automerge panicked while encoding the change")]
    Panicked,
    /// The change just made does not pass the guard.
    #[error("the change made here is refused")]
    Check(#[from] BadChange),
    /// The change just made could not be applied.
    #[error("the change made here could not be applied")]
    Apply(#[from] ApplyError),
}

/// Why a checked change could not be applied; the document is as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The actor already has another change of this number: two devices write under one incarnation.
    #[error("the actor already wrote another change {seq}")]
    DuplicateSeq {
        /// The number.
        seq: u64,
    },
    /// The change does not follow the actor's last one in its own past.
    #[error("change {got} follows the actor's change {have}")]
    SeqGap {
        /// The actor's last change in the past of this one.
        have: u64,
        /// The number it claims.
        got: u64,
    },
    /// Its operations are not numbered on from what it builds on.
    #[error("the change is not numbered on from what it builds on")]
    Clock,
    /// It replaces something that is not in its past.
    #[error("the change replaces what its writer cannot have seen")]
    Unseen,
    /// The document would become too large.
    #[error("the document is too large")]
    TooLarge,
    /// The stored changes are damaged.
    #[error("the stored changes are damaged")]
    Body(#[source] BadChange),
    /// automerge refused it.
    #[error("automerge refuses the change")]
    Refused,
    /// automerge panicked; nothing it touched was kept.
    #[error("automerge panicked applying the change")]
    Panicked,
}
