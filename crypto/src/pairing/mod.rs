//! How a device comes into a mesh: the existing one (sponsor, A) displays a secret, the new one (joiner, B) enters it.
//!
//! ```text
//! B  P1 N1 ->            has the secret?
//!    <- N2     A
//! B  N3 E1 ->            keys, both signatures, commitment to nonce_B
//!    <- E2     A         nonce_A
//! B  E3 ->               nonce_B: the words are fixed; B shows them, the user types them on A
//!    <- E4 ... A         the enrolment
//! B  E5 ->               B has committed it
//! ```
//!
//! Both sides are machines without input or output: bytes in, [`JoinerOutput`] or [`SponsorOutput`] out. The caller keeps time (five
//! minutes a window, 30 s a message), counts attempts (one machine per attempt, at most five per ticket), frames messages, and keeps
//! one window open at a time. Every error ends the machine; nothing it did has to be undone.
//!
//! The secret may come from a ticket or, later, from a PAKE over a short code: they differ in the pre-shared key alone. The
//! library behind the handshake does not wipe its keys; run a pairing in a short-lived task.

mod handshake;
mod joiner;
mod message;
mod sponsor;
#[cfg(test)]
mod tests;
mod ticket;
mod words;

/// The parts of the format that no message shows, for the frozen vectors.
#[cfg(test)]
pub(crate) mod frozen {
    use super::handshake::{Context, Path, Psk};
    pub(crate) use super::words::{commit, words};
    use crate::secret::Secret;

    pub(crate) fn psk(secret: &[u8; 32], session: &[u8; 16]) -> Secret<32> {
        Psk::from_ticket(&Secret::new(*secret), session).key
    }

    pub(crate) fn prologue(joiner: &[u8; 32], sponsor: &[u8; 32], before: &[u8]) -> Vec<u8> {
        let context = Context {
            joiner_transport: joiner,
            sponsor_transport: sponsor,
            before,
        };
        context.prologue(Path::Ticket)
    }
}

pub use joiner::{Joiner, JoinerOutput};
pub use message::{Enrollment, JoinRequest};
pub use sponsor::{Sponsor, SponsorOutput, WORD_TRIES, WordsWrong};
pub use ticket::{MAX_HINT, MAX_HINTS, Ticket, TicketError, Window};

use crate::registry::{GrantError, StatementError};

/// Longest message before the joiner is verified. Frame no larger ones to a sponsor.
///
/// Only E1 comes near it: every other message to a sponsor has one length, so that all of them stay far below 64 KiB in total.
pub const MAX_EARLY_MESSAGE: usize = 16 * 1024;

/// Longest message to a joiner: one Noise frame.
pub const MAX_MESSAGE: usize = handshake::MAX_FRAME;

/// Largest enrolment.
pub const MAX_ENROLLMENT: usize = 4 * 1024 * 1024;

/// Most keyslots in an enrolment.
pub const MAX_KEYSLOTS: usize = 16;

/// Why a pairing ended. After any of them the machine is dead and the other side is to be disconnected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// The other side does not have the same ticket or code, or something between has changed the messages.
    #[error("the other device does not have the same ticket or code")]
    WrongSecret,
    /// The ticket or code is of another window.
    #[error("the ticket or code is not that of the open window")]
    OtherSession,
    /// Not a message of this protocol's version.
    #[error("the other device speaks another version of pairing")]
    UnsupportedVersion,
    /// Not a well-formed message.
    #[error("the other device sent something that is no pairing message")]
    Malformed,
    /// A well-formed message at the wrong time.
    #[error("the other device sent a message out of turn")]
    Unexpected,
    /// A message or the enrolment exceeds its limit.
    #[error("a pairing message is too large")]
    TooLarge,
    /// A message in the channel was changed, repeated, left out or moved.
    #[error("a pairing message has been tampered with")]
    NotAuthentic,
    /// A key whose exchanges do not depend on our secret.
    #[error("the other device sent an unusable key")]
    LowOrderKey,
    /// The other side has our own key: a device cannot pair with itself.
    #[error("this device cannot pair with itself")]
    OwnKey,
    /// The sponsor is not the device that made the ticket.
    #[error("the device that answered is not the one that made the ticket")]
    TicketKeyMismatch,
    /// The connection's PeerId is not the one declared.
    #[error("the connection does not belong to the device it claims")]
    TransportMismatch,
    /// The joiner asks to enrol another Noise key than it used.
    #[error("the new device asked to enrol a key it did not use")]
    JoinKeyMismatch,
    /// A signature of the joiner does not match.
    #[error("the new device could not prove its keys")]
    BadSignature,
    /// The joiner revealed another nonce than it committed to.
    #[error("the new device changed its part of the check words")]
    CommitmentMismatch,
    /// A device name or platform that is empty, too long or has control characters.
    #[error("a device name is empty, too long or has control characters")]
    BadName,
    /// The enrolment has no genesis of the mesh the ticket names.
    #[error("the enrolment is for another mesh")]
    WrongMesh,
    /// A statement of the enrolment is not valid.
    #[error("the enrolment has an invalid statement")]
    Statement(#[source] StatementError),
    /// A statement of the enrolment is signed by nobody entitled.
    #[error("the enrolment has a statement nobody entitled has signed")]
    Unentitled,
    /// The new device is not in the enrolment with exactly its keys.
    #[error("the enrolment does not admit the new device")]
    NotAdmitted,
    /// A key granted to the new device does not open.
    #[error("the enrolment has an invalid grant")]
    BadGrant(#[source] GrantError),
    /// The machine has ended before.
    #[error("this pairing has ended")]
    Dead,
    /// The handshake library refused what it must accept: a bug.
    #[error("internal error in pairing")]
    Internal,
}
