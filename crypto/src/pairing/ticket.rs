//! The ticket: what the existing device shows and the new one enters.
//!
//! `MESH1:` and base32 (RFC 4648, no padding) of
//!
//! ```text
//!   0  1  version, 0
//!   1 16  mesh id
//!  17 16  session id
//!  33 32  one-time secret
//!  65 32  sponsor's noise key
//!  97 32  sponsor's transport key
//! 129  1  number of address hints, at most 4
//! then for each: length (1..=64), text
//! ```
//!
//! Whoever reads it within the window can try to join: it is shown on a terminal, never logged, never a program's argument.

use data_encoding::BASE32_NOPAD;
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::ids::MeshId;
use crate::keys::DevicePublic;
use crate::pairing::code::Code;
use crate::secret::Secret;

/// Most address hints in a ticket.
pub const MAX_HINTS: usize = 4;

/// Longest address hint in bytes.
pub const MAX_HINT: usize = 64;

const PREFIX: &str = "MESH1:";

/// Longest ticket text looked at: the longest valid one has 629 characters, white space aside.
const MAX_TEXT: usize = 2048;

/// Why a text is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Does not begin with `MESH1:`.
    #[error("a ticket begins with MESH1:")]
    NotATicket,
    /// Letters are missing or wrong.
    #[error("the ticket is incomplete or has a typing error")]
    Damaged,
    /// From a newer version.
    #[error("the ticket has version {0}, which this program does not know")]
    UnsupportedVersion(u8),
    /// More than [`MAX_HINTS`] hints, an empty one, or one of more than [`MAX_HINT`] bytes.
    #[error("a ticket has at most 4 addresses of at most 64 bytes")]
    Hints,
}

/// A pairing window as the sponsor holds it: one session, one secret, one code, five minutes (the caller's clock).
#[derive(Clone, Debug)]
pub struct Window {
    /// The mesh that is open.
    pub mesh_id: MeshId,
    /// Random name of the session.
    pub session: [u8; 16],
    /// The one-time secret. Dropped when the window closes.
    pub secret: Secret<32>,
    /// The code, which opens the same window; `None`: only the ticket does.
    pub code: Option<Code>,
}

impl Window {
    /// Draws session, secret and code of a new window.
    pub fn new<R: CryptoRng + ?Sized>(mesh_id: MeshId, rng: &mut R) -> Self {
        let mut session = [0; 16];
        rng.fill_bytes(&mut session);
        Self {
            mesh_id,
            session,
            secret: Secret::random(rng),
            code: Some(Code::random(rng)),
        }
    }

    /// The ticket to show.
    pub fn ticket(
        &self,
        sponsor: &DevicePublic,
        hints: Vec<String>,
    ) -> Result<Ticket, TicketError> {
        check_hints(&hints)?;
        Ok(Ticket {
            mesh_id: self.mesh_id,
            session: self.session,
            secret: self.secret.clone(),
            noise: sponsor.noise,
            transport: sponsor.transport,
            hints,
        })
    }
}

/// A parsed ticket. `Debug` does not show its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ticket {
    /// The mesh to join.
    pub mesh_id: MeshId,
    /// The window's session.
    pub session: [u8; 16],
    /// The one-time secret.
    pub secret: Secret<32>,
    /// The sponsor's Noise key.
    pub noise: [u8; 32],
    /// The sponsor's transport key, that is its PeerId.
    pub transport: [u8; 32],
    /// Where the sponsor may be found.
    pub hints: Vec<String>,
}

impl Ticket {
    /// The text to show, 213 to 629 characters.
    pub fn format(&self) -> Result<Zeroizing<String>, TicketError> {
        check_hints(&self.hints)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(400));
        bytes.push(0);
        bytes.extend_from_slice(self.mesh_id.as_bytes());
        bytes.extend_from_slice(&self.session);
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(&self.noise);
        bytes.extend_from_slice(&self.transport);
        let short = |length: usize| u8::try_from(length).expect("hints were checked");
        bytes.push(short(self.hints.len()));
        for hint in &self.hints {
            bytes.push(short(hint.len()));
            bytes.extend_from_slice(hint.as_bytes());
        }
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(PREFIX);
        BASE32_NOPAD.encode_append(&bytes, &mut text);
        Ok(text)
    }

    /// Reads a ticket as a person pastes it: any case, white space and line breaks anywhere.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        if text.len() > MAX_TEXT {
            return Err(TicketError::Damaged);
        }
        let text: Zeroizing<String> = Zeroizing::new(
            text.chars()
                .filter(|c| !c.is_whitespace())
                .map(|c| c.to_ascii_uppercase())
                .collect(),
        );
        let text = text.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let bytes = Zeroizing::new(
            BASE32_NOPAD
                .decode(text.as_bytes())
                .map_err(|_| TicketError::Damaged)?,
        );
        let mut rest = bytes.as_slice();
        let [version] = take::<1>(&mut rest)?;
        if version != 0 {
            return Err(TicketError::UnsupportedVersion(version));
        }
        let mut ticket = Self {
            mesh_id: MeshId::from_bytes(take(&mut rest)?),
            session: take(&mut rest)?,
            secret: Secret::new(take(&mut rest)?),
            noise: take(&mut rest)?,
            transport: take(&mut rest)?,
            hints: Vec::new(),
        };
        let [count] = take::<1>(&mut rest)?;
        for _ in 0..count {
            let [length] = take::<1>(&mut rest)?;
            let (hint, tail) = rest
                .split_at_checked(usize::from(length))
                .ok_or(TicketError::Damaged)?;
            rest = tail;
            ticket.hints.push(
                str::from_utf8(hint)
                    .map_err(|_| TicketError::Damaged)?
                    .to_owned(),
            );
            check_hints(&ticket.hints)?;
        }
        if rest.is_empty() {
            Ok(ticket)
        } else {
            Err(TicketError::Damaged)
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TicketError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(TicketError::Damaged)?;
    *rest = tail;
    Ok(*head)
}

fn check_hints(hints: &[String]) -> Result<(), TicketError> {
    let fine = |hint: &String| {
        !hint.is_empty() && hint.len() <= MAX_HINT && !hint.chars().any(char::is_control)
    };
    if hints.len() > MAX_HINTS || !hints.iter().all(fine) {
        return Err(TicketError::Hints);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keys, rng};
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        let mut rng = rng(5);
        let window = Window::new(MeshId::from_bytes([7; 16]), &mut rng);
        window
            .ticket(
                &keys(&mut rng).public(),
                vec!["192.168.1.20:4001".into(), "[fe80::1]:4001".into()],
            )
            .unwrap()
    }

    #[test]
    fn round_trip_as_people_paste() {
        let text = ticket().format().unwrap();
        let pasted: String = text
            .to_lowercase()
            .as_bytes()
            .chunks(40)
            .map(|line| format!("  {}\r\n", str::from_utf8(line).unwrap()))
            .collect();
        assert_eq!(Ticket::parse(&pasted), Ok(ticket()));
        assert!(!format!("{:?}", ticket()).contains(&format!("{:?}", ticket().secret.expose())));
    }

    #[test]
    fn every_cut_is_noticed() {
        let text = ticket().format().unwrap();
        for end in 0..text.len() {
            assert!(Ticket::parse(&text[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(Ticket::parse("mesh:pair"), Err(TicketError::NotATicket));
        assert_eq!(
            Ticket::parse("MESH1:AE"),
            Err(TicketError::UnsupportedVersion(1))
        );
    }

    #[test]
    fn hints_are_limited() {
        let with = |hints| Ticket { hints, ..ticket() }.format().map(|_| ());
        assert_eq!(with(vec!["a".repeat(64); 4]), Ok(()));
        assert_eq!(with(vec!["a".into(); 5]), Err(TicketError::Hints));
        assert_eq!(with(vec!["a".repeat(65)]), Err(TicketError::Hints));
        assert_eq!(with(vec![String::new()]), Err(TicketError::Hints));
    }

    proptest! {
        /// Security test 18.
        #[test]
        fn never_panics(bytes: Vec<u8>, text: String) {
            let _ = Ticket::parse(&text);
            let _ = Ticket::parse(&format!("MESH1:{}", BASE32_NOPAD.encode(&bytes)));
        }
    }
}
