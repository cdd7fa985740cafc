//! The short code: nine digits, `NNN-SSS-SSS`.
//!
//! The first three, the nameplate, are public: the sponsor's advert shows them, so that the new device finds the right window. They are
//! drawn apart from the other six and say nothing about them. The six are the secret: 20 bits, far too few for a key, so they go into a
//! PAKE and nowhere else, and three guesses are all that a window allows.

use rand::{CryptoRng, RngExt};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Nameplates there are.
const NAMEPLATES: u16 = 1_000;
/// Secrets there are.
const SECRETS: u32 = 1_000_000;
/// Digits of a code.
const DIGITS: usize = 9;

/// Why a text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// It has something else than digits, blanks, hyphens and dots.
    #[error("a code has digits only")]
    NotACode,
    /// It has another number of digits.
    #[error("a code has nine digits, and this has {0}")]
    Length(usize),
}

/// The public part of a code: which window it is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Nameplate(u16);

impl Nameplate {
    /// The nameplate of this number; there are a thousand.
    pub fn new(number: u16) -> Option<Self> {
        (number < NAMEPLATES).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl std::fmt::Display for Nameplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl std::str::FromStr for Nameplate {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CodeError::NotACode);
        }
        if text.len() != 3 {
            return Err(CodeError::Length(text.len()));
        }
        text.parse().map(Self).map_err(|_| CodeError::NotACode)
    }
}

/// A code. `Debug` shows its nameplate alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Code {
    nameplate: Nameplate,
    secret: Secret<6>,
}

impl Code {
    /// Draws both parts.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let nameplate = Nameplate(rng.random_range(0..NAMEPLATES));
        let mut number = rng.random_range(0..SECRETS);
        let mut secret = Secret::zero();
        for digit in secret.expose_mut().iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).expect("a digit");
            number /= 10;
        }
        Self { nameplate, secret }
    }

    /// Reads a code as a person types it: blanks, hyphens and dots anywhere.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let mut digits = Zeroizing::new([0; DIGITS]);
        let mut count = 0;
        for c in text
            .chars()
            .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '.' | '\u{2010}'..='\u{2015}'))
        {
            if !c.is_ascii_digit() {
                return Err(CodeError::NotACode);
            }
            if let Some(digit) = digits.get_mut(count) {
                *digit = c as u8;
            }
            count += 1;
        }
        if count != DIGITS {
            return Err(CodeError::Length(count));
        }
        let value = |digit: u8| u16::from(digit - b'0');
        let nameplate = value(digits[0]) * 100 + value(digits[1]) * 10 + value(digits[2]);
        let mut secret = Secret::zero();
        secret.expose_mut().copy_from_slice(&digits[3..]);
        Ok(Self {
            nameplate: Nameplate(nameplate),
            secret,
        })
    }

    /// The text to show: `NNN-SSS-SSS`.
    pub fn format(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(DIGITS + 2));
        text.push_str(&self.nameplate.to_string());
        for (index, digit) in self.secret.expose().iter().enumerate() {
            if index % 3 == 0 {
                text.push('-');
            }
            text.push(char::from(*digit));
        }
        text
    }

    /// Its public part.
    pub fn nameplate(&self) -> Nameplate {
        self.nameplate
    }

    /// The six digits, for the PAKE.
    pub(super) fn secret(&self) -> &[u8; 6] {
        self.secret.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn as_people_type_it() {
        for text in [
            "012-345-678",
            "012345678",
            " 012 345 678\n",
            "0 1-2 3 4 5-6 7 8",
            "012\u{2013}345\u{2013}678",
            "012.345.678",
        ] {
            let code = Code::parse(text).unwrap();
            assert_eq!(*code.format(), "012-345-678", "{text:?}");
            assert_eq!(code.nameplate(), Nameplate(12));
            assert_eq!(code.secret(), b"345678");
        }
        assert_eq!(Code::parse("012-345-67"), Err(CodeError::Length(8)));
        assert_eq!(Code::parse("012-345-6789"), Err(CodeError::Length(10)));
        assert_eq!(Code::parse(""), Err(CodeError::Length(0)));
        for text in ["MESH1:AA", "012-345-67x", "012,345,678", "०१२३४५६७८"] {
            assert_eq!(Code::parse(text), Err(CodeError::NotACode), "{text:?}");
        }
    }

    #[test]
    fn nothing_prints_the_secret() {
        let code = Code::parse("012-345-678").unwrap();
        let shown = format!("{code:?} {}", code.nameplate());
        assert!(!shown.contains("345") && shown.contains("12"), "{shown}");
    }

    #[test]
    fn nameplates_are_three_digits() {
        assert_eq!("007".parse(), Ok(Nameplate(7)));
        assert_eq!(Nameplate::new(7).unwrap().to_string(), "007");
        assert_eq!(Nameplate::new(1_000), None);
        for text in ["7", "0007", "+07", "x07", ""] {
            assert!(text.parse::<Nameplate>().is_err(), "{text}");
        }
    }

    /// Every digit of both parts takes every value: nothing of the range is left out.
    #[test]
    fn the_whole_range_is_drawn() {
        let mut rng = rng(3);
        let mut seen = BTreeSet::new();
        for _ in 0..2_000 {
            let text = Code::random(&mut rng).format();
            seen.extend(text.bytes().enumerate());
        }
        assert_eq!(seen.len(), DIGITS * 10 + 2);
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed(seed: u64) {
            let code = Code::random(&mut rng(seed));
            prop_assert_eq!(Code::parse(&code.format()), Ok(code));
        }

        /// Security test 18.
        #[test]
        fn never_panics(text: String) {
            let _ = Code::parse(&text);
            let _ = text.parse::<Nameplate>();
        }
    }
}
