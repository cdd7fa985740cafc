//! From the six digits both sides know to a key nobody else can compute: OPAQUE (RFC 9807), used once.
//!
//! The sponsor knows the digits, so it registers them with itself for each attempt and then plays the server; nothing is kept. Both
//! PeerIds are the protocol's identities and the nameplate its context, so an exchange means nothing between other ends or at another
//! window. Who listens learns nothing to try digits against. Who takes part and guesses wrong learns that one guess was wrong: the
//! joiner from the answer (C2), so the sponsor counts the guess when it sends that; the sponsor from the proof (C3).
//!
//! The digits are not stretched: guesses are limited by counting, not by cost.

use opaque_ke::ksf::Identity;
use opaque_ke::rand as old_rand;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest,
    CredentialResponse, Identifiers, Ristretto255, ServerLogin, ServerLoginParameters,
    ServerRegistration, ServerSetup, TripleDh,
};
use rand::CryptoRng;
use zeroize::Zeroize;

use crate::labels::Label;
use crate::pairing::PairError;
use crate::pairing::code::{Code, Nameplate};
use crate::secret::Secret;

/// Bytes of C1, the joiner's question.
pub(super) const C1_LEN: usize = 96;
/// Bytes of C2, the sponsor's answer.
pub(super) const C2_LEN: usize = 320;
/// Bytes of C3, the joiner's proof.
pub(super) const C3_LEN: usize = 64;

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_010::Sha512>;
    type Ksf = Identity;
}

/// Between whom the exchange is, and at which window.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) joiner: [u8; 32],
    pub(super) sponsor: [u8; 32],
    pub(super) nameplate: Nameplate,
}

impl Ends {
    fn identifiers(&self) -> Identifiers<'_> {
        Identifiers {
            client: Some(&self.joiner),
            server: Some(&self.sponsor),
        }
    }

    fn context(&self) -> Vec<u8> {
        let nameplate = self.nameplate.number().to_le_bytes();
        [Label::PAIR_CODE.as_bytes(), &nameplate].concat()
    }
}

/// The joiner, waiting for the answer.
pub(super) struct Asked(ClientLogin<Suite>);

/// Begins at the joiner. Returns its state and C1.
pub(super) fn ask<R: CryptoRng + ?Sized>(
    code: &Code,
    rng: &mut R,
) -> Result<(Asked, Vec<u8>), PairError> {
    let started =
        ClientLogin::start(&mut Old(rng), code.secret()).map_err(|_| PairError::Internal)?;
    Ok((Asked(started.state), started.message.serialize().to_vec()))
}

impl Asked {
    /// Takes C2. Returns C3 and the shared key; [`PairError::WrongSecret`] if the other side has other digits.
    pub(super) fn finish<R: CryptoRng + ?Sized>(
        self,
        code: &Code,
        ends: &Ends,
        answer: &[u8],
        rng: &mut R,
    ) -> Result<(Vec<u8>, Secret<64>), PairError> {
        if answer.len() != C2_LEN {
            return Err(PairError::Malformed);
        }
        let answer = CredentialResponse::deserialize(answer).map_err(|_| PairError::Malformed)?;
        let context = ends.context();
        let parameters = ClientLoginFinishParameters::new(Some(&context), ends.identifiers(), None);
        let finished = self
            .0
            .finish(&mut Old(rng), code.secret(), answer, parameters)
            .map_err(|_| PairError::WrongSecret)?;
        let proof = finished.message.serialize().to_vec();
        Ok((proof, key(finished.session_key)))
    }
}

/// The sponsor, waiting for the proof.
pub(super) struct Answered(ServerLogin<Suite>);

/// Answers C1 at the sponsor. Returns its state and C2, which lets the joiner test one guess.
pub(super) fn answer<R: CryptoRng + ?Sized>(
    code: &Code,
    ends: &Ends,
    question: &[u8],
    rng: &mut R,
) -> Result<(Answered, Vec<u8>), PairError> {
    if question.len() != C1_LEN {
        return Err(PairError::Malformed);
    }
    let question = CredentialRequest::deserialize(question).map_err(|_| PairError::Malformed)?;
    let rng = &mut Old(rng);
    let setup = ServerSetup::<Suite>::new(rng);
    let record = register(&setup, code, ends, rng)?;
    let context = ends.context();
    let parameters = ServerLoginParameters {
        context: Some(&context),
        identifiers: ends.identifiers(),
    };
    let started = ServerLogin::start(
        rng,
        &setup,
        Some(record),
        question,
        &ends.joiner,
        parameters,
    )
    .map_err(|_| PairError::Malformed)?;
    Ok((
        Answered(started.state),
        started.message.serialize().to_vec(),
    ))
}

/// Both halves of a registration, at the one place that knows the digits.
fn register<R: CryptoRng + ?Sized>(
    setup: &ServerSetup<Suite>,
    code: &Code,
    ends: &Ends,
    rng: &mut Old<'_, R>,
) -> Result<ServerRegistration<Suite>, PairError> {
    let internal = |_| PairError::Internal;
    let client = ClientRegistration::<Suite>::start(rng, code.secret()).map_err(internal)?;
    let server =
        ServerRegistration::start(setup, client.message, &ends.joiner).map_err(internal)?;
    let parameters = ClientRegistrationFinishParameters::new(ends.identifiers(), None);
    let upload = client
        .state
        .finish(rng, code.secret(), server.message, parameters)
        .map_err(internal)?;
    Ok(ServerRegistration::finish(upload.message))
}

impl Answered {
    /// Takes C3. Returns the shared key; [`PairError::WrongSecret`] if the other side has other digits.
    pub(super) fn finish(self, ends: &Ends, proof: &[u8]) -> Result<Secret<64>, PairError> {
        if proof.len() != C3_LEN {
            return Err(PairError::Malformed);
        }
        let proof = CredentialFinalization::deserialize(proof).map_err(|_| PairError::Malformed)?;
        let context = ends.context();
        let parameters = ServerLoginParameters {
            context: Some(&context),
            identifiers: ends.identifiers(),
        };
        let finished = self
            .0
            .finish(proof, parameters)
            .map_err(|_| PairError::WrongSecret)?;
        Ok(key(finished.session_key))
    }
}

fn key(mut from: impl AsMut<[u8]>) -> Secret<64> {
    let mut key = Secret::zero();
    key.expose_mut().copy_from_slice(from.as_mut());
    from.as_mut().zeroize();
    key
}

/// Our randomness, under the traits the library knows.
struct Old<'a, R: ?Sized>(&'a mut R);

impl<R: CryptoRng + ?Sized> old_rand::RngCore for Old<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), old_rand::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl<R: CryptoRng + ?Sized> old_rand::CryptoRng for Old<'_, R> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    fn ends() -> Ends {
        Ends {
            joiner: [1; 32],
            sponsor: [2; 32],
            nameplate: Nameplate::new(12).unwrap(),
        }
    }

    fn code(text: &str) -> Code {
        Code::parse(text).unwrap()
    }

    /// Joiner's and sponsor's result for these codes and ends.
    fn exchange(
        (joiner, at_joiner): (&Code, Ends),
        (sponsor, at_sponsor): (&Code, Ends),
    ) -> (Result<Secret<64>, PairError>, Option<Secret<64>>) {
        let mut rng = rng(1);
        let (asked, c1) = ask(joiner, &mut rng).unwrap();
        let (answered, c2) = answer(sponsor, &at_sponsor, &c1, &mut rng).unwrap();
        match asked.finish(joiner, &at_joiner, &c2, &mut rng) {
            Ok((c3, key)) => (Ok(key), answered.finish(&at_sponsor, &c3).ok()),
            Err(error) => (Err(error), None),
        }
    }

    #[test]
    fn equal_codes_give_equal_keys_and_others_none() {
        let right = code("012-345-678");
        let (joiner, sponsor) = exchange((&right, ends()), (&right, ends()));
        assert_eq!(joiner.as_ref().ok(), sponsor.as_ref());
        assert!(sponsor.is_some());
        let wrong = code("012-345-679");
        let (joiner, _) = exchange((&wrong, ends()), (&right, ends()));
        assert_eq!(joiner, Err(PairError::WrongSecret));
    }

    /// Somebody between the two has other PeerIds on each side; a window has one nameplate.
    #[test]
    fn the_ends_are_part_of_it() {
        let right = code("012-345-678");
        let other = |change: fn(&mut Ends)| {
            let mut ends = ends();
            change(&mut ends);
            ends
        };
        for at_joiner in [
            other(|ends| ends.joiner = [3; 32]),
            other(|ends| ends.sponsor = [3; 32]),
            other(|ends| ends.nameplate = Nameplate::new(13).unwrap()),
            other(|ends| std::mem::swap(&mut ends.joiner, &mut ends.sponsor)),
        ] {
            let (joiner, sponsor) = exchange((&right, at_joiner), (&right, ends()));
            assert_eq!((joiner, sponsor), (Err(PairError::WrongSecret), None));
        }
    }

    #[test]
    fn messages_have_one_length_and_no_changed_bit() {
        let right = code("012-345-678");
        let mut rng = rng(2);
        let (_, c1) = ask(&right, &mut rng).unwrap();
        assert_eq!(c1.len(), C1_LEN);
        let answered = |c1: &[u8]| answer(&right, &ends(), c1, &mut crate::testing::rng(3));
        let (_, c2) = answered(&c1).unwrap();
        assert_eq!(c2.len(), C2_LEN);
        for bit in 0..8 * C2_LEN {
            let (asked, _) = ask(&right, &mut crate::testing::rng(2)).unwrap();
            let mut changed = c2.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                asked.finish(&right, &ends(), &changed, &mut rng).is_err(),
                "C2, bit {bit}"
            );
        }
        let (asked, _) = ask(&right, &mut crate::testing::rng(2)).unwrap();
        let (c3, _) = asked.finish(&right, &ends(), &c2, &mut rng).unwrap();
        assert_eq!(c3.len(), C3_LEN);
        for bit in 0..8 * C3_LEN {
            let mut changed = c3.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (state, _) = answered(&c1).unwrap();
            assert!(state.finish(&ends(), &changed).is_err(), "C3, bit {bit}");
        }
        // A changed question is answered, if it is one at all; the proof for it then fails.
        for bit in 0..8 * C1_LEN {
            let mut changed = c1.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok((_, c2)) = answered(&changed) {
                let (asked, _) = ask(&right, &mut crate::testing::rng(2)).unwrap();
                assert!(
                    asked.finish(&right, &ends(), &c2, &mut rng).is_err(),
                    "C1, bit {bit}"
                );
            }
        }
    }

    /// Points that would make the answer say nothing about the digits.
    #[test]
    fn the_neutral_element_is_no_question() {
        let right = code("012-345-678");
        let (_, mut c1) = ask(&right, &mut rng(4)).unwrap();
        c1[..32].fill(0);
        assert!(answer(&right, &ends(), &c1, &mut rng(5)).is_err());
        let (_, mut c1) = ask(&right, &mut rng(4)).unwrap();
        c1[64..].fill(0);
        assert!(answer(&right, &ends(), &c1, &mut rng(5)).is_err());
    }
}
