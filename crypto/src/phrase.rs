//! The recovery phrase: 24 words of BIP-39 (English) holding 256 random bits.
//!
//! The phrase opens a keyslot of its own. It is independent of the master key and cannot be shown again from it.

use bip39::{Language, Mnemonic};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Number of words.
pub const PHRASE_WORDS: usize = 24;

/// The longest text [`Phrase::parse`] looks at, in bytes. 24 words of at most 8 letters need 215.
const MAX_TEXT: usize = 1024;

/// A recovery phrase. Its words never appear in `Debug`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Phrase(Secret<32>);

/// Why a text is no recovery phrase. Names places, never words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a recovery phrase has 24 words, not {got}")]
    WordCount {
        /// Words found.
        got: usize,
    },
    /// A word is not in the list.
    #[error("word {position} is not a word of recovery phrases")]
    UnknownWord {
        /// Counted from 1.
        position: usize,
    },
    /// All words exist, but they do not belong together.
    #[error("the words do not fit together: one is wrong, or two have changed places")]
    Checksum,
}

impl Phrase {
    /// Draws a new phrase.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Reads a phrase as a person types it: any case, any white space.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        let got = text.split_whitespace().count();
        if got != PHRASE_WORDS || text.len() > MAX_TEXT {
            return Err(PhraseError::WordCount { got });
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = Zeroizing::new(words.join(" ").to_lowercase());
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &text).map_err(|e| match e {
                bip39::Error::UnknownWord(index) => PhraseError::UnknownWord {
                    position: index + 1,
                },
                bip39::Error::BadWordCount(got) => PhraseError::WordCount { got },
                _ => PhraseError::Checksum,
            })?;
        let entropy = Zeroizing::new(mnemonic.to_entropy_array().0);
        Ok(Self(Secret::new(
            *entropy.first_chunk().expect("24 words hold 32 bytes of 33"),
        )))
    }

    /// The words, to be shown once.
    pub fn words(&self) -> [&'static str; PHRASE_WORDS] {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, self.0.expose())
            .expect("32 bytes make 24 words");
        let mut words = mnemonic.words();
        std::array::from_fn(|_| words.next().expect("32 bytes make 24 words"))
    }

    pub(crate) fn entropy(&self) -> &Secret<32> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;
    use proptest::prelude::*;

    /// From the BIP-39 reference vectors.
    const VECTOR: &str = "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel \
                          tennis maple dilemma loan word shrug inflict delay length";

    #[test]
    fn reads_the_reference_vector() {
        let phrase = Phrase::parse(&VECTOR.to_uppercase().replace(' ', "\n ")).unwrap();
        assert_eq!(
            phrase.0.expose()[..],
            crate::testing::unhex(
                "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c"
            )
        );
        assert_eq!(phrase.words().join(" "), VECTOR);
        assert_eq!(format!("{phrase:?}"), "Phrase([secret])");
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(
            Phrase::parse("one two"),
            Err(PhraseError::WordCount { got: 2 })
        );
        assert_eq!(
            Phrase::parse(&VECTOR.replace("dutch", "dutsch")),
            Err(PhraseError::UnknownWord { position: 4 })
        );
        assert_eq!(
            Phrase::parse(&VECTOR.replace("dutch", "zoo")),
            Err(PhraseError::Checksum)
        );
        assert_eq!(
            Phrase::parse(&VECTOR.replace("dutch", &"d".repeat(5000))),
            Err(PhraseError::WordCount { got: 24 })
        );
    }

    #[test]
    fn round_trip() {
        let phrase = Phrase::generate(&mut rng(3));
        assert_eq!(Phrase::parse(&phrase.words().join(" ")), Ok(phrase));
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = Phrase::parse(&text);
        }
    }
}
