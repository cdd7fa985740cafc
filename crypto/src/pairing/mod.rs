//! How a device comes into a mesh: the existing one (sponsor, A) displays a secret, the new one (joiner, B) enters it.
//!
//! ```text
//!        with a ticket               with a code
//! B  P1 N1 ->                 B  P1 C1 ->           which window?
//!                                <- C2    A         one guess, counted when this is sent
//!                             B  C3 N1 ->           has the secret?
//!    <- N2     A                 <- N2    A
//! B  N3 E1 ->            keys, both signatures, commitment to nonce_B
//!    <- E2     A         nonce_A
//! B  E3 ->               nonce_B: the words are fixed; B shows two, the user types them on A
//!    <- E4 ... A         the enrolment; with a code A shows the third word, the user types it on B
//! B  E5 ->               B has committed it
//! ```
//!
//! Both sides are machines without input or output: bytes in, [`JoinerOutput`] or [`SponsorOutput`] out. The caller keeps time (five
//! minutes a window, 30 s a message), counts attempts and guesses (one machine per attempt), frames messages, and keeps one window open at
//! a time. Every error ends the machine; nothing it did has to be undone.
//!
//! A [`Ticket`] is a secret of 256 bits and the sponsor's keys; a [`Code`] is six secret digits, from which a PAKE makes a key as good.
//! From there on both are the same handshake. The libraries behind it do not wipe all their keys; run a pairing in a short-lived task.

mod code;
mod handshake;
mod joiner;
mod message;
mod pake;
mod sponsor;
#[cfg(test)]
mod tests;
mod ticket;
mod words;

/// The parts of the format that no message shows, for the frozen vectors.
#[cfg(test)]
pub(crate) mod frozen {
    use super::handshake::{Context, Path, Psk};
    use super::message::{Door, PairHello};
    pub(crate) use super::words::{commit, words};
    use super::{Code, Nameplate, pake};
    use crate::secret::Secret;
    use crate::testing::Counting;

    /// C1, C2, C3 and the key.
    pub(crate) fn code_exchange(code: &str) -> [Vec<u8>; 4] {
        let code = Code::parse(code).unwrap();
        let ends = pake::Ends {
            joiner: [6; 32],
            sponsor: [7; 32],
            nameplate: code.nameplate(),
        };
        let mut rng = Counting(1);
        let (asked, question) = pake::ask(&code, &mut rng).unwrap();
        let (answered, answer) = pake::answer(&code, &ends, &question, &mut rng).unwrap();
        let (proof, key) = asked.finish(&code, &ends, &answer, &mut rng).unwrap();
        assert_eq!(answered.finish(&ends, &proof), Ok(key.clone()));
        [question, answer, proof, key.expose().to_vec()]
    }

    pub(crate) fn hello_of_code(nameplate: u16, transport: [u8; 32]) -> [u8; 51] {
        let door = Door::Code(Nameplate::new(nameplate).unwrap());
        PairHello { door, transport }.to_bytes()
    }

    pub(crate) fn psk_of_code(key: &[u8; 64], before: &[u8]) -> Secret<32> {
        Psk::from_pake(&Secret::new(*key), before).key
    }

    pub(crate) fn psk(secret: &[u8; 32], session: &[u8; 16]) -> Secret<32> {
        Psk::from_ticket(&Secret::new(*secret), session).key
    }

    pub(crate) fn prologue(
        path: u8,
        joiner: &[u8; 32],
        sponsor: &[u8; 32],
        before: &[u8],
    ) -> Vec<u8> {
        let path = if path == 1 { Path::Ticket } else { Path::Code };
        let context = Context {
            joiner_transport: joiner,
            sponsor_transport: sponsor,
            before,
        };
        context.prologue(path)
    }
}

pub use code::{Code, CodeError, Nameplate};
pub use joiner::{Joiner, JoinerOutput, Newcomer};
pub use message::{Enrollment, JoinRequest};
pub use sponsor::{Sponsor, SponsorOutput};
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

/// Tries at typing check words, on either side: one for a slip of the finger. Who stands between gains nothing by the second, because what the
/// user reads stays the same.
pub const WORD_TRIES: u8 = 2;

/// What was typed is not what the other device shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not what the other device shows; {left} tries left")]
pub struct WordsWrong {
    /// Tries left; at zero the pairing is dead, and a sponsor's window is to be closed.
    pub left: u8,
}

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
    /// The mesh in the enrolment does not have the device that sent it.
    #[error("the device that answered does not belong to the mesh it offers")]
    NotSponsor,
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
