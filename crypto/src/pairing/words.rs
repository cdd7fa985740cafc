//! Check words by commit and reveal.
//!
//! Words made from the handshake hash alone can be forged within a minute by who knows the ticket: the last handshake message
//! carries a key the sender may choose freely. So the joiner commits to a nonce before it sees the sponsor's, and reveals it after:
//! each side's share is fixed before it can know the other's, and one attempt succeeds once in 4 million.

use bip39::Language;
use subtle::ConstantTimeEq;

use crate::hash::{derive, hash};
use crate::labels::Label;

/// `SHA-256(label ‖ handshake hash ‖ nonce)`.
pub(crate) fn commit(hash_of_handshake: &[u8; 32], nonce: &[u8; 32]) -> [u8; 32] {
    hash(Label::PAIR_COMMIT, &[hash_of_handshake, nonce])
}

pub(super) fn commit_matches(
    commitment: &[u8; 32],
    hash_of_handshake: &[u8; 32],
    nonce: &[u8; 32],
) -> bool {
    commit(hash_of_handshake, nonce).ct_eq(commitment).into()
}

/// Three words of 11 bits each from `HKDF-SHA256(salt = handshake hash, nonce_A ‖ nonce_B, label)`.
///
/// The first two are shown on the joiner and typed on the sponsor. With a ticket the joiner knows the sponsor's key; with a code it does not,
/// so the third goes the other way.
pub(crate) fn words(
    hash_of_handshake: &[u8; 32],
    nonce_sponsor: &[u8; 32],
    nonce_joiner: &[u8; 32],
) -> [&'static str; 3] {
    let ikm = [&nonce_sponsor[..], nonce_joiner].concat();
    let bits = derive(hash_of_handshake, &ikm, Label::PAIR_WORDS, &[]);
    let list = Language::English.word_list();
    std::array::from_fn(|i| {
        let pair = [bits.expose()[2 * i], bits.expose()[2 * i + 1]];
        list[usize::from(u16::from_be_bytes(pair) >> 5)]
    })
}

/// Whether `typed` is these words, whatever its case and white space.
pub(super) fn typed_right(typed: &str, words: &[&'static str]) -> bool {
    typed
        .split_whitespace()
        .map(str::to_lowercase)
        .eq(words.iter().copied())
}
